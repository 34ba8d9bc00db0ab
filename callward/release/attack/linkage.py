"""What content links: rows of billing looked for in the tables of another role, by what both say of a call.

No key, id or token joins them; times, places and counts could. The attacker has both sides whole and knows how each
table is cut. *Linked* is a row of billing that one row of the table fits, which is its own. *Matched* are the right
pairs when all rows are paired off at once, equal ones by lot: that is the best that can be done, as nothing else tells
equal rows apart. *Chance* is the part of it that a lot among several rows that fit gives.

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
    """Rows of billing: who pays for each, and the number that names its call in every table, shape [n]."""

    number: Ints
    account: Column

    def __len__(self) -> int:
        return len(self.number)


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
    """

    name: str
    role: str
    billing: Sequence[Column]
    rows: Sequence[Column]
    number: Ints
    taught: Sequence[Column] = ()


class Linked(NamedTuple):
    """What an attacker gets from one table.

    Attributes:
        compared: in words.
        linked: share of billing rows with exactly one row that fits, and that is theirs.
        mistaken: share with exactly one that fits, which is another's.
        candidates: rows that fit a billing row, on average.
        accounts: share of accounts that have most of their rows linked.
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


class Verdict(NamedTuple):
    """What billing and another role together link.

    Attributes:
        role: the other one.
        rows: share of billing rows that any table links.
        accounts: share of accounts that have most of their rows linked by any table.
        holds: whether both are within their bounds.
    """

    role: str
    rows: float
    accounts: float
    holds: bool


class Measure(NamedTuple):
    """What each table links by itself and jointly, and the verdict on each role."""

    alone: list[Linked]
    jointly: list[Linked]
    verdicts: list[Verdict]


def measure(billing: Billing, tables: Sequence[Table]) -> Measure:
    """Return what tables link, and the verdict on each role."""
    alone = [fitted(billing, table) for table in tables]
    jointly = [
        fitted(billing, table, jointly=True) if table.taught else fit for table, fit in zip(tables, alone, strict=True)
    ]
    by_role: dict[str, list[Fit]] = {}
    for table, fit in zip(tables, jointly, strict=True):
        by_role.setdefault(table.role, []).append(fit)
    return Measure(
        [_linked(billing, table, fit) for table, fit in zip(tables, alone, strict=True)],
        [_linked(billing, table, fit) for table, fit in zip(tables, jointly, strict=True)],
        [_verdict(role, billing, fits) for role, fits in sorted(by_role.items())],
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
        _accounts(billing, fit.linked),
        _mean(fit.matched),
        _mean(fit.chance),
    )


def _verdict(role: str, billing: Billing, fits: Sequence["Fit"]) -> Verdict:
    rows = np.logical_or.reduce([fit.linked for fit in fits])
    share, accounts = _mean(rows), _accounts(billing, rows)
    return Verdict(role, share, accounts, share <= ROWS_BOUND and accounts <= ACCOUNTS_BOUND)


def _accounts(billing: Billing, rows: Mask) -> float:
    """Return the share of accounts that have most of their rows among these."""
    account = np.unique(billing.account, return_inverse=True)[1]
    return _mean(np.bincount(account, rows) >= _MOST_OF_AN_ACCOUNT * np.bincount(account))


def _mean(values: Column) -> float:
    return float(values.mean()) if len(values) else 0.0


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
    code = codes(*_columns(table, own, jointly))
    left, right = code[: len(own)], code[len(own) :]
    alike, candidates = (np.bincount(side, minlength=int(code.max(initial=-1)) + 1)[left] for side in (left, right))
    theirs = own >= 0
    theirs[theirs] = right[own[theirs]] == left[theirs]
    single = candidates == 1
    return Fit(
        candidates,
        single & theirs,
        single & ~theirs,
        np.where(theirs, 1 / np.maximum(alike, candidates), 0.0),
        np.where(theirs & ~single, 1 / np.maximum(candidates, 1), 0.0),
    )


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
