"""Entries of an account directory: whose a number, a range of numbers or a name is, from one day to another.

Single numbers are here as keyed tokens alone. Days are counted since 1970-01-01, in the tenant's billing zone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import flat
from callward.settings import Account

NAMED: Final = ("code", "trunk", "context")
KINDS: Final = ("number", "range", *NAMED)
UNASSIGNED: Final = "unassigned"  # the account of what no account has
NOBODY: Final = -1
ALWAYS: Final = 0  # the first day of what has none
FOREVER: Final = 65535  # the last day of what has none (2149)
_EPOCH: Final = date(1970, 1, 1)
_BEHIND: Final = "\x1f"  # between the kind and the name in a label

Words: TypeAlias = npt.NDArray[np.uint64]
Owners: TypeAlias = npt.NDArray[np.int32]
Days: TypeAlias = npt.NDArray[np.int64]
ShortDays: TypeAlias = npt.NDArray[np.uint16]
Mask: TypeAlias = npt.NDArray[np.bool_]
Positions: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Entries:
    """Who has what on which days, an entry a row (shape [n]).

    `first`, `second`: of numbers the words of a token, of ranges the first and the last number, of names their place
    among the labels, and 0. `owner`: a place among the accounts, or NOBODY. The days are inclusive.
    """

    first: Words
    second: Words
    owner: Owners
    since: ShortDays
    until: ShortDays

    @classmethod
    def of(cls, *columns: npt.ArrayLike) -> "Entries":
        """Return entries of columns of any integer type, or of none."""
        given = columns or ((),) * len(fields(cls))
        kinds = (np.uint64, np.uint64, np.int32, np.uint16, np.uint16)
        return cls(*(np.asarray(column, kind) for column, kind in zip(given, kinds, strict=True)))

    @classmethod
    def joined(cls, *several: "Entries") -> "Entries":
        """Return the entries of several in one."""
        return cls(*map(np.concatenate, zip(*(one.columns for one in several), strict=True)))

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """Return the columns in their order."""
        return self.first, self.second, self.owner, self.since, self.until

    def __len__(self) -> int:
        return len(self.owner)

    def take(self, rows: Positions | Mask) -> "Entries":
        """Return some entries, by their positions or a mask."""
        return Entries(*(column[rows] for column in self.columns))

    def ordered(self) -> "Entries":
        """Return the entries by key; of one key the last to begin first, then by owner and last day; each once."""
        order = np.argsort(self.first, kind="stable")
        again = self.first[order[1:]] == self.first[order[:-1]]
        if again.any():  # few: only these are compared by all columns
            rows = np.flatnonzero(np.r_[again, False] | np.r_[False, again])
            few = self.take(order[rows])
            keys = (few.until, few.owner, np.iinfo(np.uint16).max - few.since, few.second, few.first)
            order[rows] = order[rows][np.lexsort(keys)]
        entries = self.take(order)
        same = np.logical_and.reduce([column[1:] == column[:-1] for column in entries.columns])
        return entries.take(np.r_[True, ~same]) if same.any() else entries


@dataclass(frozen=True, eq=False)
class Holdings:
    """All of a tenant's directory. `zones`: the billing zone of each account (IANA), null for the tenant's own.

    `labels` name codes, trunks and contexts, each with its kind.
    """

    ids: pa.StringArray
    zones: pa.StringArray
    labels: pa.StringArray
    numbers: Entries
    ranges: Entries
    names: Entries

    @classmethod
    def empty(cls) -> "Holdings":
        nothing = pa.array([], pa.string())
        return cls(nothing, nothing, nothing, Entries.of(), Entries.of(), Entries.of())

    @classmethod
    def of_settings(cls, accounts: Sequence[Account]) -> "Holdings":
        """Return what the settings say of accounts; their numbers are all ranges, for they stand there in the clear."""
        ranges = [(*r.bounds, at, *shortened(*r.days)) for at, account in enumerate(accounts) for r in account.numbers]
        names = [
            (label(kind, name), at)
            for at, account in enumerate(accounts)
            for kind, words in (("code", account.codes), ("trunk", account.trunks), ("context", account.contexts))
            for name in words
        ]
        labels = pa.array([name for name, _ in names], pa.string()).dictionary_encode()
        n = len(names)
        named = Entries.of(
            *(labels.indices.to_numpy(), np.zeros(n), [at for _, at in names]),
            *(np.full(n, ALWAYS), np.full(n, FOREVER)),
        )
        ids, zones = ([getattr(account, name) for account in accounts] for name in ("id", "zone"))
        return cls(
            *(pa.array(ids, pa.string()), pa.array(zones, pa.string()), labels.dictionary, Entries.of()),
            *(Entries.of(*zip(*ranges, strict=True)), named),
        )

    def without_numbers(self) -> "Holdings":
        """Return all but the single numbers, which are looked up where they were opened."""
        return replace(self, numbers=Entries.of())

    def of_kind(self, kind: str) -> Entries:
        """Return the entries of one of KINDS."""
        if kind in NAMED:
            return self.names.take(self._is(kind)[self.names.first.astype(np.int64)])
        return self.numbers if kind == "number" else self.ranges

    def named(self, kind: str) -> Iterable[tuple[int, str]]:
        """Return the places of a kind's labels, and their names."""
        at = np.flatnonzero(self._is(kind))
        names = pc.utf8_slice_codeunits(self.labels.take(pa.array(at)), len(label(kind, "")))
        return zip(at.tolist(), names.to_pylist(), strict=True)

    def _is(self, kind: str) -> Mask:
        return np.asarray(pc.starts_with(self.labels, label(kind, "")).to_numpy(zero_copy_only=False), bool)

    def beside(self, other: "Holdings") -> tuple["Holdings", "Holdings"]:
        """Return these and others with accounts and labels at the same places; the zones are those of each."""
        ids, labels = _union(self.ids, other.ids), _union(self.labels, other.labels)
        zones = pa.concat_arrays([self.zones, pa.nulls(len(ids) - len(self.ids), pa.string())])
        return replace(self, ids=ids, zones=zones, labels=labels), other._moved(ids, labels)

    def _moved(self, ids: pa.StringArray, labels: pa.StringArray) -> "Holdings":
        """Return these with other accounts and labels, among which their own are."""
        to, at = (_places(*pair) for pair in ((self.ids, ids), (self.labels, labels)))
        names = replace(self.names, first=at[self.names.first.astype(np.int64)].astype(np.uint64))
        moved = (_with_owners(entries, to) for entries in (self.numbers, self.ranges, names))
        return Holdings(ids, self.zones.take(pc.index_in(ids, value_set=self.ids)), labels, *moved)


def _with_owners(entries: Entries, to: Positions) -> Entries:
    """Return entries whose owners have moved, from each place to another."""
    owner = np.append(to, NOBODY)[entries.owner]  # NOBODY is the last
    return replace(entries, owner=owner.astype(np.int32))


def joined(one: Holdings, other: Holdings) -> Holdings:
    """Return the entries of both in one directory; the first's zone counts where both give an account one."""
    if not len(other.ids):
        return one
    one, other = one.beside(other)
    zones = pc.coalesce(one.zones, other.zones)
    entries = (Entries.joined(getattr(one, kind), getattr(other, kind)) for kind in ("numbers", "ranges", "names"))
    return Holdings(one.ids, zones, one.labels, *entries)


def _union(one: pa.StringArray, other: pa.StringArray) -> pa.StringArray:
    fresh = other.filter(pc.is_null(pc.index_in(other, value_set=one)))
    return pa.concat_arrays([one, fresh])


def _places(values: pa.StringArray, among: pa.StringArray) -> Positions:
    return np.asarray(flat(pc.index_in(values, value_set=among)).to_numpy(), np.int64)


def label(kind: str, name: str) -> str:
    """Return what names a code, trunk or context among all of a directory."""
    return f"{kind}{_BEHIND}{name}"


def shortened(*days: date) -> tuple[int, ...]:
    """Return days as they are counted here; before 1970 is ALWAYS, from 2149 on FOREVER."""
    return tuple(min(max((day - _EPOCH).days, ALWAYS), FOREVER) for day in days)


def as_date(day: int) -> date | None:
    """Return the date of a day; None for ALWAYS and FOREVER."""
    return None if day in (ALWAYS, FOREVER) else _EPOCH + timedelta(days=int(day))
