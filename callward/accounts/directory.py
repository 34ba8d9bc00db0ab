"""The account directory of one tenant: who pays, by account code, trunk, context, or number and day.

Accounts are places in `ids` (int32), NOBODY where none matches; whole columns are looked up at once. Within one kind
the narrowest wins: a number before a range, a short range before a long one. Of equal ones that hold on a day the last
to begin wins, so that a number which was ported and not closed is its new holder's; of two that began on one day
neither does, for a wrong bill is worse than a late one. A name that several accounts have is nobody's own.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from callward.accounts.entries import (
    ALWAYS,
    FOREVER,
    NOBODY,
    Days,
    Entries,
    Holdings,
    Mask,
    Owners,
    Positions,
    joined,
)
from callward.columns import Column, few, flat, is_absent
from callward.errors import UsageProblem
from callward.keys import tokens
from callward.numbering.arrays import runs_of
from callward.settings import Account, Trunk

Payers: TypeAlias = Owners
_PASS_ROWS: Final = 1 << 15  # what a pass looks up stays in the processor's cache
_MOST_PIECES: Final = 50_000_000  # of ranges that lie over each other
_NEVER: Final = (NOBODY, FOREVER, ALWAYS)  # the owner and days of an entry that holds on none


# -- numbers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SingleNumbers:
    """Numbers by their tokens, in order. Those whose first word begins alike lie between two of `bounds`."""

    entries: Entries
    bounds: npt.NDArray[np.uint32]
    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, entries: Entries, counts: npt.NDArray[np.uint16], secret: bytes) -> "SingleNumbers":
        """Return numbers to look up; `entries` are in order, `counts` as `count_leading` has them."""
        bounds = np.zeros(len(counts) + 1, np.uint32)
        np.cumsum(counts, dtype=np.uint32, out=bounds[1:])
        again = (entries.first[1:] == entries.first[:-1]) & (entries.second[1:] == entries.second[:-1])
        return cls(_settled(entries, again & (entries.since[1:] == entries.since[:-1])), bounds, secret)

    def look_up(self, number: Days, days: Days, found: Payers) -> Mask:
        """Set in `found` who has each number on each day; return which numbers have an entry of their own then."""
        known = np.zeros(len(number), bool)
        for start in range(0, len(number), _PASS_ROWS):
            rows = slice(start, start + _PASS_ROWS)
            self._pass(tokens.integer_token(number[rows], self.secret), days[rows], found[rows], known[rows])
        return known

    def _pass(self, asked: tokens.Words, days: Days, found: Payers, known: Mask) -> None:
        entries = self.entries
        bucket = (asked[:, 0] >> np.uint64(65 - len(self.bounds).bit_length())).astype(np.int64)
        begin, end = self.bounds.take(bucket), self.bounds.take(bucket + 1)
        left = np.flatnonzero(begin < end)
        at, end, first = begin[left].astype(np.int64), end[left], asked[left, 0]
        while len(left):
            hit = entries.first.take(at) == first
            near = np.flatnonzero(hit)
            hit[near] = (entries.second[at[near]] == asked[left[near], 1]) & _holds(entries, at[near], days[left[near]])
            rows = np.flatnonzero(hit)
            found[left[rows]], known[left[rows]] = entries.owner[at[rows]], True
            at += 1
            go_on = np.flatnonzero(~hit & (at < end))
            left, at, end, first = left[go_on], at[go_on], end[go_on], first[go_on]


def count_leading(entries: Entries) -> npt.NDArray[np.uint16]:
    """Return how many tokens begin with each value of as many bits as make some one token each."""
    bits = max(1, len(entries).bit_length())
    leading = (entries.first >> np.uint64(64 - bits)).astype(np.int64)
    return np.bincount(leading, minlength=1 << bits).astype(np.uint16)


@dataclass(frozen=True, eq=False)
class Ranges:
    """Numbers between two `starts` are of the same ranges: their entries lie between two `bounds`, narrowest first."""

    starts: npt.NDArray[np.int64]
    bounds: Positions
    entries: Entries

    @classmethod
    def of(cls, ranges: Entries) -> "Ranges":
        """Return ranges to look up. Raises UsageProblem where too many lie over each other."""
        low, high = ranges.first.astype(np.int64), ranges.second.astype(np.int64)
        starts = np.unique(np.r_[0, low, high + 1])
        first, last = np.searchsorted(starts, low), np.searchsorted(starts, high + 1)
        if (pieces := int((last - first).sum())) > _MOST_PIECES:
            raise UsageProblem("the ranges of numbers lie over each other too many times: leave out what others cover")
        of = np.repeat(np.arange(len(ranges)), last - first)
        segment = np.arange(pieces) - np.repeat(np.cumsum(last - first) - last, last - first)
        width = (high - low)[of]
        keys = (ranges.owner[of], np.iinfo(np.uint16).max - ranges.since[of], width, segment)
        order = np.lexsort(keys)
        segment, width, entries = segment[order], width[order], ranges.take(of[order])
        again = (segment[1:] == segment[:-1]) & (width[1:] == width[:-1]) & (entries.since[1:] == entries.since[:-1])
        bounds = np.searchsorted(segment, np.arange(len(starts) + 1))
        return cls(starts, bounds, _settled(entries, again))

    def look_up(self, number: Days, days: Days, found: Payers) -> None:
        """Set in `found` who has each number on each day, where a range has it."""
        segment = np.searchsorted(self.starts, number, side="right") - 1
        _first_that_holds(self.entries, self.bounds[segment], self.bounds[segment + 1], days, found)


def _settled(entries: Entries, again: Mask) -> Entries:
    """Return entries in order of which no two of several accounts hold on one day with equal right.

    `again` [n - 1]: which follow one of the same key and first day.
    """
    owner = entries.owner
    if not (again & (owner[1:] != owner[:-1])).any():
        return entries
    starts = np.flatnonzero(np.r_[True, ~again])
    ends = np.r_[starts[1:], len(entries)]
    disputed = np.minimum.reduceat(owner, starts) != np.maximum.reduceat(owner, starts)
    owner, since, until = owner.copy(), entries.since.copy(), entries.until.copy()
    for start, end in zip(starts[disputed], ends[disputed], strict=True):
        rows = slice(start, end)
        undisputed = list(_undisputed(owner[rows].tolist(), since[start], until[rows].tolist()))
        undisputed += [_NEVER] * (end - start - len(undisputed))
        owner[rows], since[rows], until[rows] = zip(*undisputed, strict=True)
    return Entries(entries.first, entries.second, owner, since, until)


def _undisputed(owner: Sequence[int], since: int, until: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield (owner, first day, last day) of what began on one day: nobody's while it is several accounts'."""
    for last in sorted(set(until)):
        of = {who for who, end in zip(owner, until, strict=True) if end >= last}
        yield of.pop() if len(of) == 1 else NOBODY, since, last
        since = last + 1


def _holds(entries: Entries, at: Positions, days: Days) -> Mask:
    return (entries.since.take(at) <= days) & (days <= entries.until.take(at))


def _first_that_holds(entries: Entries, at: Positions, end: Positions, days: Days, found: Payers) -> None:
    """Set in `found` the owner of the first entry, from `at` to before `end`, that holds on each day."""
    left = np.flatnonzero(at < end)
    at, end = at[left], end[left]
    while len(left):
        hit = _holds(entries, at, days[left])
        found[left[hit]] = entries.owner[at[hit]]
        at = at + 1
        go_on = ~hit & (at < end)
        left, at, end = left[go_on], at[go_on], end[go_on]


@dataclass(frozen=True, eq=False)
class Numbers:
    """Whose number is whose on which day."""

    singles: SingleNumbers | None
    ranges: Ranges | None

    def __bool__(self) -> bool:
        return self.singles is not None or self.ranges is not None

    def owners(self, numbers: pa.Array | pa.ChunkedArray, days: Days) -> Payers:
        """Return who has each number (E.164; others are nobody's) on each day."""
        found = np.full(len(numbers), NOBODY, np.int32)
        if not self or is_absent(numbers):
            return found
        number = _integers(numbers)
        known = None if self.singles is None else self.singles.look_up(number, days, found)
        if self.ranges is not None:
            rows = np.flatnonzero(number > 0 if known is None else (number > 0) & ~known)
            of_ranges = np.full(len(rows), NOBODY, np.int32)
            self.ranges.look_up(number[rows], days[rows], of_ranges)
            found[rows] = of_ranges
        return found


def _integers(numbers: pa.Array | pa.ChunkedArray) -> Days:
    """Return numbers in E.164 as integers; 0 for what is none."""
    runs = runs_of(flat(numbers))
    return np.where(runs.plus & (runs.length >= 7) & (runs.length <= 15), runs.value, 0)


# -- names -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Names:
    """Who has each name of a kind on which day: alone, and of several that share it.

    `place` of a name: its entries lie between two `bounds`, and no two of them hold on one day. `shares` are those of
    names that several accounts have, in order of their keys: place and owner in one.
    """

    place: Mapping[str, int]
    bounds: Positions
    entries: Entries
    shares: Entries

    @classmethod
    def of(cls, holdings: Holdings, kind: str, led: Mapping[str, int] | None = None) -> "Names":
        """Return names of a kind to look up; of those in `led` the account given there is the usual one."""
        led = led or {}
        entries, names = holdings.of_kind(kind), dict(holdings.named(kind))
        of: defaultdict[str, list[tuple[int, int, int]]] = defaultdict(list)
        columns = (entries.first, entries.owner, entries.since, entries.until)
        for at, *held in zip(*(column.tolist() for column in columns), strict=True):
            of[names[at]].append((held[0], held[1], held[2]))
        for name, owner in led.items():
            of[name].append((owner, ALWAYS, FOREVER))
        usual = [[(led[name], ALWAYS, FOREVER)] if name in led else _alone(held) for name, held in of.items()]
        shared = [(at, held) for at, several in enumerate(of.values()) if _is_shared(several) for held in several]
        return cls(
            {name: at for at, name in enumerate(of)},
            np.cumsum([0, *map(len, usual)]),
            _entries([(0, *held) for several in usual for held in several]),
            _entries([(at << 32 | held[0], *held) for at, held in shared]).ordered(),
        )

    def places(self, column: Column) -> Positions:
        """Return the place of each value of a text column (shape [n]), -1 for one that is not here."""
        column = few(column)
        at = [self.place.get(name, -1) for name in column.dictionary.to_pylist()]
        rows = column.indices.fill_null(len(at)).to_numpy(zero_copy_only=False)
        return np.asarray(np.array([*at, -1], np.int64)[rows])

    def owners(self, column: Column, days: Days) -> Payers:
        """Return who has each name on each day alone, or as the usual one of several."""
        found = np.full(len(column), NOBODY, np.int32)
        if self.place and not is_absent(column):
            at = self.places(column)
            begin = np.where(at < 0, 0, self.bounds[at])
            end = np.where(at < 0, 0, self.bounds[at + 1])
            _first_that_holds(self.entries, begin, end, days, found)
        return found

    def shared_with(self, column: Column, days: Days, owner: Payers) -> Mask:
        """Return which names several accounts have, and the given one among them on that day."""
        share = np.zeros(len(column), bool)
        if not len(self.shares) or is_absent(column):
            return share
        at = self.places(column)
        asked = np.flatnonzero((at >= 0) & (owner != NOBODY))
        keys = (at[asked] << 32 | owner[asked]).astype(np.uint64)
        found = np.full(len(asked), NOBODY, np.int32)
        begin, end = (np.searchsorted(self.shares.first, keys, side=side) for side in ("left", "right"))
        _first_that_holds(self.shares, begin, end, days[asked], found)
        share[asked] = found != NOBODY
        return share


def _entries(rows: Sequence[tuple[int, int, int, int]]) -> Entries:
    first, *held = zip(*rows, strict=True) if rows else ((),) * 4
    return Entries.of(first, np.zeros(len(rows)), *held)


def _is_shared(held: Sequence[tuple[int, int, int]]) -> bool:
    return len({owner for owner, *_ in held}) > 1


def _alone(held: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return (owner, first day, last day) of the days on which a name is one account's, one after the other."""
    if len(held) == 1:
        return list(held)
    turns = sorted({day for _, since, until in held for day in (since, until + 1)})
    alone = []
    for since, after in pairwise(turns):
        of = {owner for owner, begin, end in held if begin <= since <= end}
        if len(of) == 1:
            alone.append((of.pop(), since, after - 1))
    return alone


# -- all of it ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Directory:
    """Accounts of one tenant, and what each is found by. `zones`: their own billing zones, null for the tenant's."""

    ids: pa.StringArray
    zones: pa.StringArray
    codes: Names
    trunks: Names
    contexts: Names
    numbers: Numbers = field(repr=False)

    @classmethod
    def of(
        cls,
        tenant: str,
        accounts: Sequence[Account],
        trunks: Sequence[Trunk],
        stored: Holdings | None = None,
        singles: SingleNumbers | None = None,
    ) -> "Directory":
        """Return the directory of a tenant: what the settings say, and what is stored of it."""
        holdings = Holdings.of_settings([account for account in accounts if account.tenant == tenant])
        if stored is not None:
            holdings = joined(stored, holdings)
        places = {trunk.account: -1 for trunk in trunks if trunk.account}
        places |= {account: at for at, account in _found(holdings.ids, places)}
        led = {trunk.name: places[trunk.account] for trunk in trunks if trunk.account and places[trunk.account] >= 0}
        ranges = Ranges.of(holdings.ranges) if len(holdings.ranges) else None
        return cls(
            *(holdings.ids, holdings.zones, Names.of(holdings, "code"), Names.of(holdings, "trunk", led)),
            *(Names.of(holdings, "context"), Numbers(singles, ranges)),
        )

    @cached_property
    def own_zones(self) -> dict[str, str]:
        """Account → billing zone, of those that have their own."""
        own = self.zones.is_valid()
        return dict(zip(self.ids.filter(own).to_pylist(), self.zones.filter(own).to_pylist(), strict=True))


def _found(ids: pa.StringArray, wanted: Mapping[str, int]) -> Iterator[tuple[int, str]]:
    """Yield the places of accounts that are there, and their ids."""
    for account in wanted:
        at = ids.index(account).as_py()
        if at >= 0:
            yield at, account
