"""Threshold tables: cells of few subscribers or accounts are not shown by themselves. This is suppression, and it is
never called anonymous: who knows all but one of a cell's people, or sees the table twice, learns about the last one.

One partition of the cells is published for a period, in it every figure and no other sum:

- a cell stands by itself where it has at least k subscribers and k accounts, and no subscriber and no account makes
  more than the dominance share of a magnitude (events, seconds);
- the other cells of a parent go together into its `other`, whose figures are computed anew from its rows: neither
  distinct counts nor shares add up. Where `other` fails, the parent's smallest cells join it until it passes; where
  none is left, the parent shows nothing.

So a suppressed cell is never a difference of two published sums (complementary suppression), as every sum that can be
made is one of whole groups. A cell that is not shown is 0, or within `other`, or withheld with its parent.

Rows come in parts by account: subscribers nest in accounts, so distinct counts over parts add up, exactly. A number
that two accounts had in the period counts once for each.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from callward.release.bounding import starts

Words = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

INTERNAL_K: Final = 11  # CMS cell size suppression policy: no cell of 1 to 10, nor one derivable
EXTERNAL_K: Final = 15
USUAL_K: Final = {"internal": INTERNAL_K, "external": EXTERNAL_K}  # by audience
DOMINANCE: Final = 0.5
NOWHERE: Final = -1  # the group of a cell that is not published


class Rows(NamedTuple):
    """What subscribers add to cells; all rows of an account are in one part. uint64 [n] thrice, int64 [n, m]."""

    account: Words
    subscriber: Words
    cell: Words
    counts: Counts

    def take(self, at: Counts) -> "Rows":
        """Return the rows at the positions `at`, in that order."""
        return Rows(self.account[at], self.subscriber[at], self.cell[at], self.counts[at])


@dataclass(frozen=True)
class Rule:
    """What a group must keep to be shown. `magnitudes`: columns of the counts in which nobody may dominate."""

    k: int = INTERNAL_K
    dominance: float = DOMINANCE
    magnitudes: Sequence[int] = (0,)

    def passes(self, stats: "Stats") -> Mask:
        """Return which groups may be shown; bool [groups]."""
        passed = (stats.subscribers >= self.k) & (stats.accounts >= self.k)
        columns = list(self.magnitudes)
        most = stats.counts[:, columns] * self.dominance
        for top in (stats.top_subscriber, stats.top_account):
            passed &= np.all(top[:, columns] <= most, axis=1)
        return np.asarray(passed, np.bool_)


@dataclass(frozen=True)
class Stats:
    """Exact figures of groups; of parts with disjoint accounts they merge. int64 [groups] or [groups, m]."""

    counts: Counts
    subscribers: Counts
    accounts: Counts
    top_subscriber: Counts
    top_account: Counts

    def merged(self, other: "Stats") -> "Stats":
        """Return figures of both parts together."""
        return Stats(
            self.counts + other.counts,
            self.subscribers + other.subscribers,
            self.accounts + other.accounts,
            np.maximum(self.top_subscriber, other.top_subscriber),
            np.maximum(self.top_account, other.top_account),
        )

    def at(self, groups: Counts) -> "Stats":
        """Return figures of those groups alone, in that order."""
        return Stats(*(column[groups] for column in vars(self).values()))


@dataclass(frozen=True)
class Partition:
    """A published table: which group each cell is in (NOWHERE: none), and of each group its parent and figures.

    `cell` is the group's cell, or NOWHERE for an `other`.
    """

    group: Counts
    parent: Counts
    cell: Counts
    stats: Stats = field(repr=False)

    @property
    def is_other(self) -> Mask:
        """Return which groups are an `other`; bool [groups]."""
        return np.asarray(self.cell == NOWHERE, np.bool_)


def combine(rows: Rows) -> Rows:
    """Return one row per account, subscriber and cell, with the sums: what a part needs to carry."""
    account, _ = pd.factorize(rows.account)
    subscriber, subscribers = pd.factorize(rows.subscriber)
    cell, cells = pd.factorize(rows.cell)
    person = _numbers(account * np.int64(max(len(subscribers), 1)) + subscriber)
    order, first = _runs(person * np.int64(max(len(cells), 1)) + cell)
    at = order[first]
    return Rows(
        rows.account[at], rows.subscriber[at], rows.cell[at], _reduced(np.add, rows.counts.take(order, axis=0), first)
    )


def measure(rows: Rows, groups: Counts, size: int) -> Stats:
    """Return exact figures of one part. `groups` [cells] says which of `size` groups each cell is in."""
    group = groups[rows.cell.astype(np.int64)]
    inside = np.flatnonzero(group != NOWHERE)
    group, counts = group[inside], rows.counts.take(inside, axis=0)
    account = _numbers(rows.account[inside])
    subscriber = _numbers(rows.subscriber[inside])
    person = _numbers(account * np.int64(subscriber.max(initial=0) + 1) + subscriber)
    total, subscribers, top_subscriber = _of_members(group, person, counts, size)
    _, accounts, top_account = _of_members(group, account, counts, size)
    return Stats(total, subscribers, accounts, top_subscriber, top_account)


def table(parts: Iterable[Rows], parents: Counts, rule: Rule, within: Partition | None = None) -> Partition:
    """Return the partition that is published under `rule`.

    `parents` [cells] numbers the parent of each cell from 0. `parts` is gone through several times, one part in memory
    at a time; no account is in two of them, and one part at least is there, if with no rows. `within` is what another
    audience already has of the same period: the new table is coarser than it (a union of its groups), so that the two
    have no difference that neither shows.
    """
    draft = _Draft.of(parts, parents, within)
    passed = rule.passes(draft.stats)
    shown = passed & draft.may_stand
    other = draft.present & ~shown
    other = _absorbed(parts, draft, rule, shown, other)
    return _published(parts, draft, draft.present & ~other, other, rule)


# -- how a partition is found ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Draft:
    """Candidates for groups: cells, or the groups of a finer partition. `group` [cells] → candidate."""

    group: Counts
    parent: Counts
    cell: Counts
    stats: Stats

    @classmethod
    def of(cls, parts: Iterable[Rows], parents: Counts, within: Partition | None) -> "_Draft":
        """Return the candidates of a table: its cells, or the groups of the partition that it coarsens."""
        if within is not None:
            size = len(within.parent)
            return cls(within.group, within.parent, within.cell, _measured(parts, within.group, size))
        cells = np.arange(len(parents))
        return cls(cells, np.asarray(parents, np.int64), cells, _measured(parts, cells, len(cells)))

    @property
    def present(self) -> Mask:
        """Return which candidates have rows; bool [candidates]."""
        return np.asarray(self.stats.subscribers > 0, np.bool_)

    @property
    def may_stand(self) -> Mask:
        """Return which candidates may stand alone: an `other` of a finer partition stays within the coarser one's."""
        return np.asarray(self.present & (self.cell != NOWHERE), np.bool_)

    @property
    def parents(self) -> int:
        """Return how many parents there are."""
        return int(self.parent.max(initial=-1)) + 1

    def others(self, mask: Mask) -> Counts:
        """Return cell → its parent, for the cells of candidates in `mask`; NOWHERE for all else."""
        of_candidate = np.r_[np.where(mask, self.parent, NOWHERE), NOWHERE]  # group NOWHERE takes the last
        others: Counts = of_candidate[self.group]
        return others


def _measured(parts: Iterable[Rows], groups: Counts, size: int) -> Stats:
    total: Stats | None = None
    for rows in parts:
        stats = measure(rows, groups, size)
        total = stats if total is None else total.merged(stats)
    if total is None:
        raise ValueError("a table has at least one part, though it may have no rows")
    return total


def _absorbed(parts: Iterable[Rows], draft: _Draft, rule: Rule, shown: Mask, other: Mask) -> Mask:
    """Return the candidates that go into `other`: those that fail, and as many of the smallest beside them as it takes.

    Each round takes twice as many as the one before: the rows are read a few times, however many siblings there are.
    """
    taken = 1
    shown, other = shown.copy(), other.copy()
    while True:
        failing = _failing(parts, draft, rule, other)
        joining = _smallest(draft, shown & failing[draft.parent], taken)
        if not len(joining):
            return other
        shown[joining], other[joining] = False, True
        taken *= 2


def _failing(parts: Iterable[Rows], draft: _Draft, rule: Rule, other: Mask) -> Mask:
    """Return parents whose `other` has rows and may not be shown; bool [parents]."""
    stats = _measured(parts, draft.others(other), draft.parents)
    return np.asarray((stats.subscribers > 0) & ~rule.passes(stats), np.bool_)


def _smallest(draft: _Draft, mask: Mask, each: int) -> Counts:
    """Return the smallest candidates in `mask` of every parent, by their first count, then by their number."""
    at = np.flatnonzero(mask)
    order = at[np.lexsort((at, draft.stats.counts[at, 0], draft.parent[at]))]
    first = starts(draft.parent[order])
    rank = np.arange(len(order)) - np.repeat(first, np.diff(np.r_[first, len(order)]))
    return order[rank < each]


def _published(parts: Iterable[Rows], draft: _Draft, shown: Mask, other: Mask, rule: Rule) -> Partition:
    """Number the groups: cells that stand, then the `other` of each parent that passes."""
    combined = _measured(parts, draft.others(other), draft.parents)
    standing, passing = np.flatnonzero(shown), np.flatnonzero((combined.subscribers > 0) & rule.passes(combined))
    of_parent = np.full(draft.parents, NOWHERE)
    of_parent[passing] = len(standing) + np.arange(len(passing))
    of_candidate = np.full(len(draft.parent) + 1, NOWHERE)
    of_candidate[standing] = np.arange(len(standing))
    of_candidate[np.flatnonzero(other)] = of_parent[draft.parent[other]]
    alone, together = draft.stats.at(standing), combined.at(passing)
    return Partition(
        of_candidate[draft.group],
        np.r_[draft.parent[standing], passing],
        np.r_[draft.cell[standing], np.full(len(passing), NOWHERE)],
        Stats(*(np.concatenate(pair) for pair in zip(vars(alone).values(), vars(together).values(), strict=True))),
    )


# -- kernels -----------------------------------------------------------------------------------------------------------


def _numbers(values: npt.NDArray[np.generic]) -> Counts:
    """Return distinct values numbered from 0, as they come."""
    return np.asarray(pd.factorize(values)[0], np.int64)


def _runs(values: Counts) -> tuple[Counts, Counts]:
    """Return an order in which equal values stand together, and where each run of them begins."""
    order = np.argsort(values)
    return order, starts(values[order])


def _reduced(function: np.ufunc, counts: Counts, first: Counts) -> Counts:
    if not len(first):
        return np.zeros((0, *counts.shape[1:]), np.int64)
    return np.asarray(function.reduceat(counts, first, axis=0), np.int64)


def _of_members(group: Counts, member: Counts, counts: Counts, size: int) -> tuple[Counts, Counts, Counts]:
    """Return by group: the sums, how many members there are, and the most that one of them adds."""
    members = np.int64(member.max(initial=0) + 1)
    order, first = _runs(group * members + member)
    of_member, group = _reduced(np.add, counts.take(order, axis=0), first), group[order[first]]
    first_of_group = starts(group)
    total, most = (np.zeros((size, counts.shape[1]), np.int64) for _ in range(2))
    total[group[first_of_group]] = _reduced(np.add, of_member, first_of_group)
    most[group[first_of_group]] = _reduced(np.maximum, of_member, first_of_group)
    return total, np.bincount(group, minlength=size), most
