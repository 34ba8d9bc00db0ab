"""What the counters of assurance tell of single billed calls: each as one row for every call that its cells count.

What a cell says of a call is taken from the functions that make the tables. The attacker knows of each billed call what
billing says of it, with its carriers in place of trunks.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import flat, has_value, words
from callward.release.attack.attacks import Ints, Mask
from callward.release.attack.linkage import Billing, Column, Table, positions
from transforms.close import POOLED, Told, hours_of, talked, told_durations, told_hours, told_prefixes
from transforms.summarize import FIVE_MINUTES_MS, HOUR_MS, is_failed, seized

COLUMNS = (
    *("kind", "role", "leg", "end_time", "talk_ms", "trunk_in", "trunk_out", "called_prefix", "disposition"),
    *("cause_sip", "source"),
)
_MINUTE_MS, _TALK_STEP_MS = 60_000, 6_000  # of the one view that there was before its parts
_ROLE = "assurance"
_UNKNOWN, _NOBODY = -1, -1
_SIDES = {"in": ("ingress", "trunk_in"), "out": ("egress", "trunk_out")}


@dataclass(frozen=True, eq=False)
class Counted:
    """Rows of the index that the tables count, shape [m].

    Attributes:
        rows: accepted ones of assurance, with COLUMNS, parts and start_time.
        number: names the call of each, as `billing` does.
        own: where each row of billing (shape [n]) stands among them, or -1.
        carriers: whose each trunk is; and each site of customers' trunks, in their place.
    """

    rows: pa.Table
    number: Ints
    own: Ints
    carriers: Mapping[str, str]

    @classmethod
    def of(cls, rows: pa.Table, number: Ints, billing: Billing, carriers: Mapping[str, str]) -> "Counted":
        return cls(rows, number, positions(number, billing.number), carriers)

    def table(self, name: str, by: Sequence[Column], rows: Ints, taught: Sequence[Column] = ()) -> Table:
        """Return a table that counts some of the rows by columns of all of them (shape [m] each)."""
        left = [np.where(self.own >= 0, column[self.own], _NOBODY) for column in by]
        trunks = [column[rows] for column in taught]
        return Table(name, _ROLE, left, [column[rows] for column in by], self.number[rows], trunks)

    def start(self, step_ms: int) -> Ints:
        return words(self.rows["start_time"]).view(np.int64) // step_ms

    def carrier(self, trunk: pa.Array | pa.ChunkedArray) -> Ints:
        return _codes(trunk, lambda name: self.carriers.get(name, "") if name != POOLED else POOLED)


def undivided(counted: Counted) -> Table:
    """Return assurance as one view, as it was before it had parts: a row for every attempt, and what it told of it."""
    talk = flat(counted.rows["talk_ms"]).cast(pa.int64()).fill_null(_UNKNOWN).to_numpy()
    told = [
        counted.start(_MINUTE_MS),
        np.asarray(-(-talk // _TALK_STEP_MS), np.int64),
        *(counted.carrier(counted.rows[trunk]) for _, trunk in _SIDES.values()),
        *(_codes(counted.rows[name]) for name in ("source", "called_prefix")),
    ]
    return counted.table("minute, talk to 6 s, source, carriers, prefix", told, np.arange(len(talk)))


def live(counted: Counted) -> Iterator[Table]:
    """Yield the tables that follow every commit."""
    answered = _mask(has_value(counted.rows["disposition"], "answered"))
    failed = _mask(is_failed(counted.rows))
    prefix = _codes(counted.rows["called_prefix"])
    for side, (name, trunk) in _SIDES.items():
        carrier = counted.carrier(counted.rows[trunk])
        here = _mask(seized(counted.rows, name))
        hour = counted.start(HOUR_MS)
        yield counted.table(f"counters: trunk {side} × hour", [hour, carrier], np.flatnonzero(here & answered))
        of_failed = np.flatnonzero(here & failed)
        five = counted.start(FIVE_MINUTES_MS)
        yield counted.table(f"counters: failed, trunk {side} × 5 minutes", [five, carrier], of_failed)
        where = [hour, carrier, prefix]
        yield counted.table(f"counters: failed, trunk {side} × destination × hour", where, of_failed)


def closed(counted: Counted) -> Iterator[Table]:
    """Yield the tables that a date gets when it closes, each level of their cells by itself."""
    calls = counted.rows.rename_columns([_AS_CALLS.get(name, name) for name in counted.rows.column_names])
    row = pa.array(np.arange(len(calls)))
    calls = calls.append_column("row", row)
    of_talk = talked(calls)
    yield from _levels(counted, "lengths", told_durations(of_talk), _row(of_talk))
    yield from _levels(counted, "destinations", told_prefixes(calls), _row(calls))
    pieces = pa.concat_tables([hours_of(calls, side) for side, _ in _SIDES.values()])
    told, of = told_hours(pieces), _row(pieces)
    for side, (name, _) in _SIDES.items():
        here = _mask(pc.equal(pieces["side"], name))
        for which, first in (("first", True), ("second", False)):
            nth = here & (_rank(of, here) == (0 if first else 1))
            yield from _levels(counted, f"erlangs {side}, {which} hour of a call", told, of, named=nth, among=here)


_AS_CALLS = {"trunk_in": "ingress_trunk", "trunk_out": "egress_trunk"}


def _levels(
    counted: Counted, what: str, told: Told, row: Ints, named: Mask | None = None, among: Mask | None = None
) -> Iterator[Table]:
    """Yield a table for each level that any row is told at.

    Args:
        row: which of the counted rows each of the told ones is of.
        named: which of them stand for their row, where it has several; the others are but counted.
        among: which of them there are.
    """
    named = np.ones(len(row), bool) if named is None else named
    among = np.ones(len(row), bool) if among is None else among
    for number, level in enumerate(told.levels):
        here = np.flatnonzero(among & (told.level == number))
        if len(here):
            columns = [counted.carrier(c) if k.startswith("trunk") else _values(c) for k, c in level.items()]
            known = [_of_rows(column[named], row[named], len(counted.number)) for column in columns]
            left = [np.where(counted.own >= 0, column[counted.own], _NOBODY) for column in known]
            numbers = np.where(named[here], counted.number[row[here]], _NOBODY)
            taught = [_codes(c)[here] for k, c in level.items() if k in _AS_CALLS]
            name = f"counters: {what}, level {number + 1}"
            yield Table(name, _ROLE, left, [column[here] for column in columns], numbers, taught)


def _of_rows(values: Ints, row: Ints, count: int) -> Ints:
    of_rows = np.full(count, -2)
    of_rows[row] = values
    return of_rows


def _rank(row: Ints, here: Mask) -> Ints:
    """Return which of its row's, in order, each of some is; -1 for the others. Equal ones stand together."""
    rank, at = np.full(len(row), -1), np.flatnonzero(here)
    if len(at):
        first = np.r_[True, row[at][1:] != row[at][:-1]]
        starts = np.flatnonzero(first)
        rank[at] = np.arange(len(at)) - starts[np.cumsum(first) - 1]
    return rank


def _row(table: pa.Table) -> Ints:
    return np.asarray(flat(table["row"]).to_numpy(), np.int64)


def _mask(column: pa.Array | pa.ChunkedArray) -> Mask:
    return np.asarray(flat(column).to_numpy(zero_copy_only=False), bool)


def _values(column: pa.Array | pa.ChunkedArray) -> Ints:
    if pa.types.is_timestamp(column.type) or pa.types.is_integer(column.type):
        return np.asarray(flat(column).cast(pa.int64()).fill_null(_UNKNOWN).to_numpy(), np.int64)
    return _codes(column)


def _codes(column: pa.Array | pa.ChunkedArray, key_of: Callable[[str], str] = str) -> Ints:
    """Return a hash of each value's key; of "" for null: equal over all tables."""
    encoded = flat(column.cast(pa.string())).dictionary_encode()
    hashes = np.array([hash(key_of(word)) for word in [*encoded.dictionary.to_pylist(), ""]], np.int64)
    return np.asarray(hashes[np.asarray(encoded.indices.fill_null(len(hashes) - 1))], np.int64)
