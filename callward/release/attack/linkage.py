"""What content links: rows of billing looked for in the tables of another role, by what both say of a call.

No key, id or token joins them; times, durations, prefixes and counts could. The attacker has both sides whole and knows
how each table is cut. *Linked* is a row of billing that one row of the table fits, which is its own. *Matched* are the
right pairs when all rows are paired off at once, equal ones by lot; *chance* is the part that a lot among the rows that
fit gives anyway.

*Jointly* the attacker has also learned what the other tables could teach: the columns that tables share and billing
lacks (trunks). Tables meet in nothing else, so no chain of them, and no sum solved over counters, gives more.

Nothing here knows how a lake stores its tables: columns come as arrays, and row numbers for the count alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from callward.release.attack.attacks import Floats, Ints, Mask

ROWS_BOUND: Final = 0.02  # share of billing rows, and of accounts, that what two persons open may link
ACCOUNTS_BOUND: Final = 0.02
_MOST_OF_AN_ACCOUNT: Final = 0.5  # of its rows: an account whose rows are linked to this share is linked itself

Column = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Billing:
    """Rows of billing, or one row per account: who pays for each, and the number that names it in every table, [n]."""

    number: Ints
    account: Column

    def __len__(self) -> int:
        return len(self.number)


class Near(NamedTuple):
    """A measure that a table rounds: billing's [n], the table's [m]; those of one call differ by less than `reach`."""

    billing: Ints
    table: Ints
    reach: int


@dataclass(frozen=True, eq=False)
class Table:
    """A part, or a counter as one row for each call that its cells count.

    Attributes:
        name: in words; `role` is who opens it.
        billing: what billing says of its rows at the grain of this table: columns of shape [n], integers or text.
        rows: the same columns of the table's rows, [m]: equal ones fit.
        number: names the call of each row, for the count alone, [m].
        taught: columns of the rows that billing lacks and other tables have too, [m]. Leave out what is all that a cell
            says: to know the trunk of a call that a trunk counts is to know nothing more.
        near: a measure that must be near as well.
        names_account: whether a row carries a token of its account, so that one linked row names the account.
    """

    name: str
    role: str
    billing: Sequence[Column]
    rows: Sequence[Column]
    number: Ints
    taught: Sequence[Column] = ()
    near: Near | None = None
    names_account: bool = False


class Linked(NamedTuple):
    """What an attacker gets from one table.

    Attributes:
        compared: in words.
        linked: share of billing rows with exactly one row that fits, and that is theirs.
        mistaken: share with exactly one that fits, which is another's.
        candidates: rows that fit a billing row, on average.
        accounts: share of accounts that linked rows name.
        matched: share of billing rows that are paired rightly when all are paired off at once.
        chance: share that a lot among several rows that fit gives.
    """

    compared: str
    linked: float
    mistaken: float
    candidates: float
    accounts: float
    matched: float
    chance: float

    @property
    def beyond(self) -> float:
        """Return the share that pairing gets right and luck does not explain."""
        return max(self.matched - self.chance, 0.0)


class Verdict(NamedTuple):
    """What billing and another role together link.

    Attributes:
        role: the other one.
        rows: share of billing rows that any table links, or that pairing with one gets right beyond luck: the larger.
        accounts: share of accounts that any table links.
        holds: whether both are within their bounds.
    """

    role: str
    rows: float
    accounts: float
    holds: bool


class Measure(NamedTuple):
    """What each table links by itself and jointly, tables before profiles, and the verdict on each role."""

    alone: list[Linked]
    jointly: list[Linked]
    verdicts: list[Verdict]


def measure(billing: Billing, tables: Sequence[Table], profiles: Sequence[tuple[Billing, Table]] = ()) -> Measure:
    """Return what tables link, and the verdict on each role.

    Args:
        profiles: of accounts (profiles.profiles); they count for the accounts that a role links.
    """
    tried = [(billing, table) for table in tables] + list(profiles)
    alone = [fitted(rows, table) for rows, table in tried]
    jointly = [
        fitted(rows, table, jointly=True) if table.taught else fit
        for (rows, table), fit in zip(tried, alone, strict=True)
    ]
    tables_fit, profiles_fit = jointly[: len(tables)], jointly[len(tables) :]
    return Measure(
        [_linked(rows, table, fit) for (rows, table), fit in zip(tried, alone, strict=True)],
        [_linked(rows, table, fit) for (rows, table), fit in zip(tried, jointly, strict=True)],
        [
            _verdict(
                role,
                billing,
                [(table, fit) for table, fit in zip(tables, tables_fit, strict=True) if table.role == role],
                [(rows, fit) for (rows, table), fit in zip(profiles, profiles_fit, strict=True) if table.role == role],
            )
            for role in sorted({table.role for _, table in tried})
        ],
    )


def linked(billing: Billing, table: Table, *, jointly: bool = False) -> Linked:
    """Return what one table links."""
    return _linked(billing, table, fitted(billing, table, jointly=jointly))


def _linked(billing: Billing, table: Table, fit: "Fit") -> Linked:
    return Linked(
        table.name,
        _mean(fit.linked),
        _mean(fit.mistaken),
        _mean(fit.candidates),
        _mean(_accounts(billing, fit.linked, table.names_account)[1]),
        _mean(fit.matched),
        _mean(fit.chance),
    )


def _mean(values: Column) -> float:
    return float(values.mean()) if len(values) else 0.0


# -- accounts and verdicts ---------------------------------------------------------------------------------------------


def _accounts(billing: Billing, rows: Mask, one_is_enough: bool) -> tuple[Column, Mask]:
    """Return every account, and whether its rows are linked: one of them, or most; shape [accounts] each."""
    accounts, account = np.unique(billing.account, return_inverse=True)
    share = np.bincount(account, rows, len(accounts)) / np.maximum(np.bincount(account, minlength=len(accounts)), 1)
    return accounts, np.asarray(share > 0 if one_is_enough else share >= _MOST_OF_AN_ACCOUNT)


def _verdict(
    role: str,
    billing: Billing,
    fits: Sequence[tuple[Table, "Fit"]],
    named: Sequence[tuple[Billing, "Fit"]],
) -> Verdict:
    rows = np.zeros(len(billing), bool)
    accounts, taken = _accounts(billing, rows, False)
    for table, fit in fits:
        rows |= fit.linked
        if table.names_account:
            taken = taken | _accounts(billing, fit.linked, True)[1]
    taken = taken | _accounts(billing, rows, False)[1]
    for owners, fit in named:
        taken = taken | np.isin(accounts, owners.account[fit.linked])
    beyond = [_mean(fit.matched) - _mean(fit.chance) for _, fit in fits]
    share, share_of_accounts = max([_mean(rows), *beyond]), _mean(taken)
    return Verdict(role, share, share_of_accounts, share <= ROWS_BOUND and share_of_accounts <= ACCOUNTS_BOUND)


# -- one table ---------------------------------------------------------------------------------------------------------


class Fit(NamedTuple):
    """By billing row, shape [n] each: rows that fit, whether one does and is its own or another's, expected pairs."""

    candidates: Ints
    linked: Mask
    mistaken: Mask
    matched: Floats
    chance: Floats


def fitted(billing: Billing, table: Table, *, jointly: bool = False) -> Fit:
    """Return how a table's rows fit those of billing."""
    own = positions(table.number, billing.number)
    has_own = own >= 0
    places = _places(*_columns(table, own, jointly), table.near)
    first, past = places.range()
    rank = np.empty(len(places.right), np.int64)
    rank[places.right_order] = np.arange(len(rank))
    theirs = np.zeros(len(own), bool)
    theirs[has_own] = (first[has_own] <= rank[own[has_own]]) & (rank[own[has_own]] < past[has_own])
    candidates = past - first
    single = candidates == 1
    chance = np.where(theirs & ~single, 1 / np.maximum(candidates, 1), 0.0)
    return Fit(candidates, single & theirs, single & ~theirs, places.paired(own), chance)


def positions(of: Ints, sought: Ints) -> Ints:
    """Return where each number stands in `of`, whose numbers differ; -1 where it does not."""
    if not len(of):
        return np.full(len(sought), -1)
    order = np.argsort(of, kind="stable")
    place = np.minimum(np.searchsorted(of[order], sought), len(of) - 1)
    return np.where(of[order][place] == sought, order[place], -1)


def _columns(table: Table, own: Ints, jointly: bool) -> tuple[list[Column], list[Column]]:
    """Return the columns to compare on both sides; a row that has no row in the table fits none once it is taught."""
    left, right = [np.zeros(len(own), np.int64), *table.billing], [np.zeros(len(table.number), np.int64), *table.rows]
    if jointly and table.taught and len(table.number):
        left += [(own < 0).astype(np.int64), *(column[own] for column in table.taught)]
        right += [np.zeros(len(table.number), np.int64), *table.taught]
    return left, right


class _Places(NamedTuple):
    """Rows of both sides on one line: those of a block side by side, by their measure within it.

    Attributes:
        left, right: places on the line, [n] and [m].
        left_block, right_block: rows with equal columns have one block.
        left_order, right_order: rows along the line.
        reach: places that are less than this apart fit; blocks lie further apart than that.
    """

    left: Ints
    right: Ints
    left_block: Ints
    right_block: Ints
    left_order: Ints
    right_order: Ints
    reach: int

    def range(self) -> tuple[Ints, Ints]:
        """Return for each left row the first and past-the-last right row along the line that fits."""
        left, right = self.left[self.left_order], self.right[self.right_order]
        first, past = np.empty(len(left), np.int64), np.empty(len(left), np.int64)
        first[self.left_order] = np.searchsorted(right, left - self.reach, side="right")
        past[self.left_order] = np.searchsorted(right, left + self.reach, side="left")
        return first, past

    def paired(self, own: Ints) -> Floats:
        """Return the chance that each left row is paired with its own when each block is paired off in order.

        In order is the best way where both sides of a block have as many rows: a rounded measure is the less likely
        the further it lies from the exact one. Rows at one place, of either side, are drawn by lot.

        Args:
            own: the right row that truly belongs to each left one, or -1; shape [n].
        """
        mine, given, share = self._in_order()
        spot, alike = _spots(self.right, self.right_order)
        group, together = _spots(self.left, self.left_order)
        pairs, many = np.unique(group[mine] * len(alike) + spot[given], return_counts=True)
        chances = np.zeros(len(own))
        rows = np.flatnonzero((own >= 0) & (share > 0))
        if len(rows):
            wanted = group[rows] * len(alike) + spot[own[rows]]
            at = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
            drawn = np.where(pairs[at] == wanted, many[at], 0) / together[group[rows]]
            chances[rows] = share[rows] * drawn / alike[spot[own[rows]]]
        return chances

    def _in_order(self) -> tuple[Ints, Ints, Floats]:
        """Pair off each block in order: left rows that get one, the right rows they get, and by left row how surely.

        Where a block has fewer rows on the right than on the left, only so many of the left can have one.
        """
        blocks = int(max(self.left_block.max(initial=-1), self.right_block.max(initial=-1))) + 1
        lefts, rights = (np.bincount(block, minlength=blocks) for block in (self.left_block, self.right_block))
        block = self.left_block[self.left_order]
        within = np.arange(len(block)) - (np.cumsum(lefts) - lefts)[block]
        step = (2 * within + 1) * rights[block] // (2 * lefts[block])
        has = rights[block] > 0
        given = self.right_order[((np.cumsum(rights) - rights)[block] + step)[has]]
        share = np.minimum(1.0, rights / np.maximum(lefts, 1))[self.left_block]
        return self.left_order[has], given, share


def _spots(places: Ints, order: Ints) -> tuple[Ints, Ints]:
    """Return the number of each row's place along the line, [n], and how many rows are at each place."""
    ordered = places[order]
    new = np.ones(len(ordered), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    spot = np.empty(len(ordered), np.int64)
    spot[order] = np.cumsum(new) - 1
    return spot, np.diff(np.append(np.flatnonzero(new), len(ordered)))


def _places(left: Sequence[Column], right: Sequence[Column], near: Near | None) -> _Places:
    size = len(left[0])
    block = codes(left, right)
    near = near or Near(np.zeros(size, np.int64), np.zeros(len(block) - size, np.int64), 1)
    measures = np.concatenate([near.billing, near.table])
    low, high = int(measures.min(initial=0)), int(measures.max(initial=0))
    places = block * (high - low + 2 * near.reach) + measures - low
    return _Places(
        places[:size],
        places[size:],
        block[:size],
        block[size:],
        np.argsort(places[:size], kind="stable"),
        np.argsort(places[size:], kind="stable"),
        near.reach,
    )


def codes(left: Sequence[Column], right: Sequence[Column]) -> Ints:
    """Return one integer per row of left, then of right, from 0: equal where all columns are."""
    code = np.zeros(len(left[0]) + len(right[0]), np.int64)
    for left_column, right_column in zip(left, right, strict=True):
        place, size = _numbered(np.concatenate([left_column, right_column]))
        code, _ = _numbered(code * size + place)
    return code


def _numbered(column: Column) -> tuple[Ints, int]:
    """Return values as numbers from 0, and how many there are: by hashes, as sorting takes far longer."""
    encoded = pa.array(column).dictionary_encode()
    return np.asarray(encoded.indices, np.int64), len(encoded.dictionary)
