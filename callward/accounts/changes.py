"""What an import makes of a directory: whole, added to, or from a day on; and how it differs from the one before."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.accounts.entries import KINDS, NAMED, NOBODY, UNASSIGNED, Entries, Holdings, Mask, label
from callward.accounts.reading import Rows
from callward.keys import tokens

_PARTS: Final = ("numbers", "ranges", "names")


def holdings_of(rows: Rows, secret: bytes) -> Holdings:
    """Return the entries of one tenant's rows, in their order; single numbers as tokens under the secret."""
    account = rows.table["account"].combine_chunks()
    encoded = pc.if_else(pc.equal(account, UNASSIGNED), None, account).dictionary_encode()
    owner = encoded.indices.fill_null(NOBODY).to_numpy(zero_copy_only=False)
    columns = (owner, rows.since, rows.until)
    one, more = (rows.low > 0) & (rows.low == rows.high), rows.low < rows.high
    words = tokens.integer_token(rows.low[one], secret)
    labels, names = _names(rows, columns)
    return Holdings(
        *(encoded.dictionary, _zones(encoded, rows), labels),
        Entries.of(*words.T, *(column[one] for column in columns)),
        Entries.of(rows.low[more], rows.high[more], *(column[more] for column in columns)),
        names,
    )


def _names(rows: Rows, columns: tuple[np.ndarray, ...]) -> tuple[pa.StringArray, Entries]:
    texts, given = [], []
    for kind in NAMED:
        name = rows.table[kind].combine_chunks()
        has = name.is_valid()
        texts.append(pc.binary_join_element_wise(label(kind, ""), name.filter(has), ""))
        given.append(has.to_numpy(zero_copy_only=False))
    encoded = pa.concat_arrays(texts).dictionary_encode()
    at = encoded.indices.to_numpy()
    held = (np.concatenate([column[has] for has in given]) for column in columns)
    return encoded.dictionary, Entries.of(at, np.zeros(len(at)), *held)


def lines_of(rows: Rows) -> dict[str, np.ndarray]:
    """Return where the single numbers and the ranges of `holdings_of` stand in their file."""
    one = (rows.low > 0) & (rows.low == rows.high)
    return {"numbers": rows.line[one], "ranges": rows.line[rows.low < rows.high]}


def _zones(account: pa.DictionaryArray, rows: Rows) -> pa.StringArray:
    """Return the zone that each account was given, or null."""
    zone = rows.table["zone"].combine_chunks()
    given = pc.and_(zone.is_valid(), account.is_valid())
    at, zone = account.indices.filter(given), zone.filter(given)
    return zone.take(pc.index_in(pa.array(range(len(account.dictionary)), pa.int32()), value_set=at))


# -- what becomes of a directory ---------------------------------------------------------------------------------------


def changed(
    old: Holdings, new: Holdings, *, add: bool = False, start: int | None = None, zones: bool = True
) -> Holdings:
    """Return a directory after an import, its entries in order.

    The new entries are the whole directory, or with `add` stand beside the old ones, in the place of those that the
    same account has from the same day on. With `start` they say who has what from that day on: the days before stay as
    they were, and what is not among them any more ends; with `add` only what they name does. `zones`: they say billing
    zones, where the whole directory is theirs.
    """
    beside, after = old.beside(new)
    if not add and start is None:
        told = new.zones if zones else pc.coalesce(new.zones, old.zones.take(pc.index_in(new.ids, value_set=old.ids)))
        return replace(new, zones=told, **{part: getattr(new, part).ordered() for part in _PARTS})
    parts = {part: _changed(getattr(beside, part), getattr(after, part), add, start).ordered() for part in _PARTS}
    return replace(beside, zones=pc.coalesce(after.zones, beside.zones), **parts)


def _changed(old: Entries, new: Entries, add: bool, start: int | None) -> Entries:
    if start is None:
        return Entries.joined(old.take(~_among(old, new, *_SAME)), new) if add else new
    named = _among(old, new, "first", "second") if add else np.ones(len(old), bool)
    begun = old.take(named & (old.since < start))
    cut = replace(begun, until=np.minimum(begun.until, start - 1).astype(np.uint16))
    fresh = new.take(new.until >= start)
    fresh = replace(fresh, since=np.maximum(fresh.since, start).astype(np.uint16))
    goes_on = _continued(cut, fresh, start)
    return Entries.joined(old.take(~named), *goes_on)


_SAME: Final = ("first", "second", "owner", "since")


def _continued(before: Entries, after: Entries, start: int) -> tuple[Entries, Entries]:
    """Return entries up to a day and from it on, in which what goes on is one entry."""
    ends = before.until == start - 1
    begins = after.since == start
    whole = _positions(before.take(ends), after.take(begins), "first", "second", "owner")
    kept, until = np.ones(len(after), bool), before.until.copy()
    has = np.flatnonzero(whole >= 0)
    of_before, of_after = np.flatnonzero(ends)[has], np.flatnonzero(begins)[whole[has]]
    until[of_before] = after.until[of_after]
    kept[of_after] = False
    return replace(before, until=until), after.take(kept)


def _among(entries: Entries, others: Entries, *names: str) -> Mask:
    return _positions(entries, others, *names) >= 0


def _positions(entries: Entries, others: Entries, *names: str) -> np.ndarray:
    """Return where among others an entry of equal columns stands, or -1."""
    keys = [np.concatenate([getattr(entries, name), getattr(others, name)]) for name in names]
    order = np.lexsort(keys[::-1])
    same = np.logical_and.reduce([key[order][1:] == key[order][:-1] for key in keys])
    group = np.empty(len(order), np.int64)
    group[order] = np.cumsum(np.r_[True, ~same]) if len(order) else 0
    place = np.full(len(order) + 1, -1)
    place[group[len(entries) :]] = np.arange(len(others))
    return place[group[: len(entries)]]


# -- differences -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """How many entries of a kind are new, gone, and the same but for their last day."""

    kind: str
    before: int
    after: int
    added: int
    removed: int
    changed: int


@dataclass(frozen=True)
class AccountDifference:
    """How many entries of all kinds an account gets and loses."""

    account: str
    gets: int
    loses: int


def same_accounts(old: Holdings, new: Holdings) -> bool:
    """Return whether two directories have the same accounts with the same zones."""
    at = pc.index_in(new.ids, value_set=old.ids)
    return len(old.ids) == len(new.ids) and at.null_count == 0 and bool(old.zones.take(at).equals(new.zones))


def differences(old: Holdings, new: Holdings) -> tuple[list[Difference], list[AccountDifference]]:
    """Return what differs, by kind and by account (most first)."""
    old, new = old.beside(new)
    kinds, gets, loses = [], np.zeros(len(old.ids) + 1, np.int64), np.zeros(len(old.ids) + 1, np.int64)
    for kind in KINDS:
        before, after = old.of_kind(kind), new.of_kind(kind)
        gone, fresh = before.take(~_among(before, after, *_ALL)), after.take(~_among(after, before, *_ALL))
        moved = int(_among(gone, fresh, *_SAME).sum())
        kinds.append(Difference(kind, len(before), len(after), len(fresh) - moved, len(gone) - moved, moved))
        np.add.at(gets, fresh.owner, 1)
        np.add.at(loses, gone.owner, 1)
    return kinds, list(_by_account(new, gets[:-1], loses[:-1]))


_ALL: Final = (*_SAME, "until")


def _by_account(new: Holdings, gets: np.ndarray, loses: np.ndarray) -> Iterator[AccountDifference]:
    for at in np.argsort(-(gets + loses), kind="stable"):
        if gets[at] + loses[at] == 0:
            return
        yield AccountDifference(new.ids[int(at)].as_py(), int(gets[at]), int(loses[at]))
