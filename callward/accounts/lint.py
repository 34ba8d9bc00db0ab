"""What looks wrong in a directory: ties, overlaps, gaps, and what leads nowhere. No finding names a number."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from callward.accounts.entries import FOREVER, NAMED, NOBODY, UNASSIGNED, Entries, Holdings, as_date
from callward.errors import UsageProblem

TIE: Final = "tie"  # of two accounts that began on one day: neither pays
OVERLAP: Final = "overlap"  # of two accounts, one of which began later: it pays
CROSSING: Final = "crossing"  # of ranges of two accounts neither of which lies in the other: the shorter pays
GAP: Final = "gap"  # it was somebody's before and is again after, and nobody's between
REPEATED: Final = "repeated"  # of one account twice at a time: nothing is wrong but the directory
NO_NUMBERS: Final = "no numbers"  # accounts share a trunk or context, and one has no number to be told by
UNLISTED: Final = "unlisted"  # a trunk that the settings do not name
NOTHING: Final = "nothing"  # an account that no entry leads to
WRONG: Final = (TIE, OVERLAP, CROSSING, NO_NUMBERS)  # who pays is not what was meant, perhaps
_PAIRS: Final = 5_000_000  # of ranges that are compared with each other


@dataclass(frozen=True)
class Finding:
    """So many entries of a kind of which the same is to be said, of one account or of two; the first line of each, in
    a file. `since`: the first day that it matters on (ISO), None for always."""

    finding: str
    kind: str
    account: str
    other: str
    entries: int
    since: str | None
    lines: Sequence[int] = ()


class _Seen(NamedTuple):
    """Pairs of entries of which one thing is to be said: the later one's place, the owners, the first day."""

    finding: str
    at: np.ndarray
    other: np.ndarray
    since: np.ndarray


def refuse_shared_codes(holdings: Holdings) -> None:
    """Raise UsageProblem where a code is two accounts' on one day."""
    for first, second, since in _shared(holdings, "code"):
        day = as_date(since)
        accounts = sorted((holdings.ids[first].as_py(), holdings.ids[second].as_py()))
        raise UsageProblem(
            f"accounts {accounts[0]!r} and {accounts[1]!r} have a code in common{f' on {day}' if day else ''}: one "
            "account pays for it"
        )


def _shared(holdings: Holdings, kind: str) -> Iterator[tuple[int, int, int]]:
    """Yield pairs of owners that have a name of a kind on one day, and the first such day."""
    entries = holdings.of_kind(kind)
    order = np.lexsort((entries.since, entries.first))
    reach: tuple[int, int, int] = (-1, NOBODY, -1)  # of the name: who has it longest so far, and until when
    columns = (entries.first, entries.owner, entries.since, entries.until)
    for name, owner, since, until in zip(*(column[order].tolist() for column in columns), strict=True):
        if name == reach[0] and owner != reach[1] and since <= reach[2]:
            yield reach[1], owner, since
        if name != reach[0] or until > reach[2]:
            reach = name, owner, until


def lint(holdings: Holdings, trunks: Iterable[str], lines: dict[str, np.ndarray] | None = None) -> list[Finding]:
    """Return what looks wrong in a directory; `trunks` are those that the settings name.

    `lines`: where the entries of each part stand in a file; without it no line is named. Raises UsageProblem where too
    many ranges lie over each other.
    """
    lines = lines or {}
    found = [
        *_grouped(holdings, "number", holdings.numbers, _of_keys(holdings.numbers), lines.get("numbers")),
        *_grouped(holdings, "range", holdings.ranges, _of_ranges(holdings.ranges), lines.get("ranges")),
        *(finding for kind in NAMED for finding in _of_names(holdings, kind)),
        *_unlisted(holdings, trunks),
        *_leading_nowhere(holdings),
    ]
    return sorted(found, key=lambda of: (of.finding, of.kind, of.account, of.other))


def _of_keys(entries: Entries) -> Iterator[_Seen]:
    """Yield what is to be said of entries with equal keys."""
    order = np.lexsort((entries.until, entries.since, entries.second, entries.first))
    first, second = entries.first[order], entries.second[order]
    same = (first[1:] == first[:-1]) & (second[1:] == second[:-1])
    rows = np.flatnonzero(np.r_[same, False] | np.r_[False, same])
    order, group = order[rows], np.cumsum(np.r_[True, ~same])[rows] if len(rows) else rows
    since, until = (column[order].astype(np.int64) for column in (entries.since, entries.until))
    # The entry before, of the same key, that goes on longest: the greatest so far, as groups only rise.
    reach = np.maximum.accumulate((group * (FOREVER + 1) + until) * (len(rows) + 1) + np.arange(len(rows)))
    at = np.arange(1, len(rows))[group[1:] == group[:-1]]
    longest = reach[at - 1] % (len(rows) + 1)
    yield from _compared(entries, order[at], order[longest], since[at], since[longest], until[longest])


def _compared(
    entries: Entries, at: np.ndarray, other: np.ndarray, since: np.ndarray, before: np.ndarray, until: np.ndarray
) -> Iterator[_Seen]:
    overlaps, alike = since <= until, entries.owner[at] == entries.owner[other]
    for finding, where in (
        (TIE, overlaps & ~alike & (since == before)),
        (OVERLAP, overlaps & ~alike & (since > before)),
        (REPEATED, overlaps & alike),
        (GAP, since > until + 1),
    ):
        yield _Seen(finding, at[where], other[where], np.where(finding == GAP, until + 1, since)[where])


def _of_ranges(entries: Entries) -> Iterator[_Seen]:
    """Yield what is to be said of ranges: equal ones as of keys, and others that overlap and are two accounts'."""
    yield from _of_keys(entries)
    order = np.lexsort((entries.second, entries.first))
    low, high = entries.first[order], entries.second[order]
    reached = np.searchsorted(low, high, side="right") - np.arange(len(order)) - 1
    if reached.sum() > _PAIRS:
        raise UsageProblem("the ranges of numbers lie over each other too many times: leave out what others cover")
    one = np.repeat(np.arange(len(order)), reached)
    other = np.arange(len(one)) - np.repeat(np.cumsum(reached) - reached, reached) + one + 1
    crosses = (low[other] > low[one]) & (high[other] > high[one])
    one, other = order[one[crosses]], order[other[crosses]]
    since = np.maximum(entries.since[one], entries.since[other]).astype(np.int64)
    both = since <= np.minimum(entries.until[one], entries.until[other])
    rows = np.flatnonzero(both & (entries.owner[one] != entries.owner[other]))
    yield _Seen(CROSSING, other[rows], one[rows], since[rows])


def _grouped(
    holdings: Holdings, kind: str, entries: Entries, seen: Iterable[_Seen], lines: np.ndarray | None
) -> Iterator[Finding]:
    for finding, at, other, since in seen:
        if not len(at):
            continue
        pairs = np.sort(np.column_stack([entries.owner[at], entries.owner[other]]), axis=1)
        several, of, count = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
        order = np.lexsort((at if lines is None else lines[at], since, of.ravel()))
        first = order[np.cumsum(count) - count]
        for pair, row, entries_of in zip(several.tolist(), first.tolist(), count.tolist(), strict=True):
            named = sorted({_id(holdings, owner) for owner in pair})
            where = () if lines is None else (int(lines[other[row]]), int(lines[at[row]]))
            yield Finding(
                *(finding, kind, named[0], named[-1] if len(named) > 1 else "", entries_of),
                *(_shown(int(since[row])), where),
            )


def _shown(day: int) -> str | None:
    known = as_date(day)
    return known.isoformat() if known else None


def _id(holdings: Holdings, owner: int) -> str:
    return UNASSIGNED if owner == NOBODY else str(holdings.ids[owner])


def _of_names(holdings: Holdings, kind: str) -> Iterator[Finding]:
    """Yield accounts that share a name of a kind and cannot be told apart, for one of them has no number."""
    if kind == "code":
        return
    numbered = np.zeros(len(holdings.ids) + 1, bool)
    for entries in (holdings.numbers, holdings.ranges):
        numbered[entries.owner] = True
    counts, first = Counter[tuple[int, int]](), dict[tuple[int, int], int]()
    for one, other, since in _shared(holdings, kind):
        if not (numbered[one] and numbered[other]):
            pair = min(one, other), max(one, other)
            counts[pair] += 1
            first[pair] = min(since, first.get(pair, FOREVER))
    for pair, count in counts.items():
        named = sorted(_id(holdings, owner) for owner in pair)
        yield Finding(NO_NUMBERS, kind, named[0], named[1], count, _shown(first[pair]))


def _unlisted(holdings: Holdings, trunks: Iterable[str]) -> Iterator[Finding]:
    """Yield trunks that the settings do not name: views would say `other` of them."""
    known, of = set(trunks), defaultdict[str, set[int]](set)
    names, entries = dict(holdings.named("trunk")), holdings.of_kind("trunk")
    for at, owner in zip(entries.first.tolist(), entries.owner.tolist(), strict=True):
        if names[at] not in known:
            of[_id(holdings, owner)].add(at)
    yield from (Finding(UNLISTED, "trunk", account, "", len(several), None) for account, several in of.items())


def _leading_nowhere(holdings: Holdings) -> Iterator[Finding]:
    used = np.zeros(len(holdings.ids) + 1, bool)
    for entries in (holdings.numbers, holdings.ranges, holdings.names):
        used[entries.owner] = True
    lost = np.flatnonzero(~used[:-1])
    if len(lost):
        shown = str(holdings.ids[int(lost[0])])
        yield Finding(NOTHING, "account", shown, "", len(lost), None)
