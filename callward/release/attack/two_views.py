"""What the two views link: rows of billing looked for in assurance, and in its derived tables.

Both describe the same calls: of those that billing has, assurance tells the hour of the start and the trunks; billing
has milliseconds and carriers. Who could read both would join them so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.release.attack.attacks import Ints
from callward.release.attack.linkage import Billing, Column, Linked, Measure, Table, linked, measure, positions

BILLING_COLUMNS: Final = ("source", "account", "carrier_in", "carrier_out", "start", "answer")
ASSURANCE_COLUMNS: Final = (
    "source",
    "trunk_in",
    "trunk_out",
    "start",
    "span_h",
    "disposition",
)  # of the part `answered`
_UNKNOWN: Final = -1
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_ROLE: Final = "assurance"


@dataclass(frozen=True, eq=False)
class Views:
    """Answered calls of both views as columns to compare.

    Attributes:
        billing, assurance: columns by name, shape [n] and [m] each.
        rows: of billing.
        call: of assurance's rows, by the numbers of `rows`.
        files: of both sides, groups of data files that hold the same calls; all 0 where there is one group.
    """

    billing: Mapping[str, Column]
    assurance: Mapping[str, Column]
    rows: Billing
    call: Ints
    files: tuple[Ints, Ints]

    @classmethod
    def of(
        cls,
        billing: pa.Table,
        assurance: pa.Table,
        carriers: Mapping[str, str],
        call: tuple[Ints, Ints],
        files: tuple[Ints, Ints] | None = None,
    ) -> "Views":
        """Take tables with BILLING_COLUMNS and ASSURANCE_COLUMNS.

        Args:
            carriers: whose each trunk is.
            call: numbers that name the call of the rows of both, for the count alone.
            files: numbers that name the data file of the rows of both; one file each where it is not given.
        """
        billed = np.asarray(pc.is_valid(billing["answer"]))
        answered = np.asarray(pc.equal(assurance["disposition"], "answered").fill_null(False))
        files = files or (np.zeros(len(billing), np.int64), np.zeros(len(assurance), np.int64))
        billing, assurance = billing.filter(pa.array(billed)), assurance.filter(pa.array(answered))
        call = call[0][billed], call[1][answered]
        return cls(
            _of_billing(billing),
            _of_assurance(assurance, carriers),
            Billing(call[0], _words(billing["account"])),
            call[1],
            _grouped((files[0][billed], files[1][answered]), call),
        )


def _of_billing(billing: pa.Table) -> dict[str, Column]:
    return {
        "start_ms": _whole(billing["start"]),
        **{name: _words(billing[name]) for name in ("source", "carrier_in", "carrier_out")},
    }


def _of_assurance(assurance: pa.Table, carriers: Mapping[str, str]) -> dict[str, Column]:
    return {
        "start_ms": _whole(assurance["start"]),
        "span_h": _whole(assurance["span_h"]),
        "is_placed": np.asarray(pc.is_valid(assurance["source"])).astype(np.int64),
        **{name: _words(assurance[name]) for name in ("source", "trunk_in", "trunk_out")},
        "carrier_in": _carriers(assurance["trunk_in"], carriers),
        "carrier_out": _carriers(assurance["trunk_out"], carriers),
    }


def _grouped(files: tuple[Ints, Ints], call: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """Return groups of data files of both sides that hold the same calls, by row; shape [n] and [m].

    A commit writes its calls to a file of each side, and a file that is rewritten keeps them: whoever sees times and
    sizes of files may line them up, so the attacker is told. Files that are merged, or made anew, are of one group.
    Two files have calls in common where those are half of either: a few rows that a later commit moved join no files.
    """
    (left, left_rows), (right, right_rows) = (_files(side) for side in files)
    at = positions(call[1], call[0])
    pairs, shared = np.unique(left[at >= 0] * len(right_rows) + right[at[at >= 0]], return_counts=True)
    mine, theirs = pairs // max(len(right_rows), 1), pairs % max(len(right_rows), 1)
    alike = 2 * shared >= np.minimum(left_rows[mine], right_rows[theirs])
    mine, theirs = mine[alike], theirs[alike]
    group, before = np.arange(len(left_rows)), None
    of_right = np.full(len(right_rows), len(left_rows))
    while before is None or not np.array_equal(group, before):
        before = group.copy()
        np.minimum.at(of_right, theirs, group[mine])
        np.minimum.at(group, mine, of_right[theirs])
    return group[left], of_right[right]


def _files(rows: Ints) -> tuple[Ints, Ints]:
    """Return the number of each row's file, from 0, and how many rows each file has."""
    _, number, many = np.unique(rows, return_inverse=True, return_counts=True)
    return number.ravel(), many


# -- what is compared --------------------------------------------------------------------------------------------------


def linkages(views: Views) -> list[Linked]:
    """Step by step what more knowledge links; of a date that is closed, what each kind of its rows does."""
    hour, places = _by("start_ms", _HOUR_MS), [_by(name) for name in _PLACES]
    tables = [
        _table(views, "the hour of the start", [hour]),
        _table(views, "… and source and carriers", [hour, *places]),
        _table(views, "if it had the day alone", [_by("start_ms", _DAY_MS), *places]),
    ]
    is_closed = (views.assurance["span_h"] > 1).any()
    return [linked(views.rows, table, jointly=True) for table in (_rows(views) if is_closed else tables)]


def measured(views: Views, counters: Sequence[Table] | None = None) -> Measure:
    """Return what rows, files of one commit and counters link, and the verdict. None of them names an account.

    `counters`: as one row for each call that they count; None: those by trunk and hour, as the rows tell them.
    """
    tables = _rows(views)
    if any(groups.any() for groups in views.files):
        tables += _rows(views, files=True)
    tables += (
        counters
        if counters is not None
        else [
            _table(views, f"counters: trunk {side} × hour", [_by("start_ms", _HOUR_MS), _by(f"carrier_{side}")])
            for side in ("in", "out")
        ]
    )
    return measure(views.rows, tables)


def _rows(views: Views, *, files: bool = False) -> list[Table]:
    """Return rows by how much they tell: the hour, four hours or the day with their places, or the day alone."""
    tables = []
    for (span, placed), name in _TOLD.items():
        rows = (views.assurance["span_h"] == span) & (views.assurance["is_placed"] == placed)
        if rows.any():
            by = [_by("start_ms", span * _HOUR_MS), *(_by(place) for place in _PLACES if placed)]
            name += ", and files of one commit" if files else ""
            tables.append(_table(views, name, by, rows, trunks=bool(placed), files=files))
    return tables


# What rows of `answered` tell: hours that the start spans, and whether source and trunks are told.
_TOLD: Final = {
    (1, 1): "rows: hour, source, carriers",
    (4, 1): "rows: four hours, source, carriers",
    (24, 1): "rows: day, source, carriers",
    (24, 0): "rows: day alone",
}
_PLACES: Final = ("source", "carrier_in", "carrier_out")
_Compared = Callable[[Mapping[str, Column]], Column]


def _by(name: str, step: int = 0) -> _Compared:
    """Return a column of either view, in whole steps."""
    return lambda columns: columns[name] // step if step else columns[name]


def _table(
    views: Views,
    name: str,
    by: Sequence[_Compared],
    rows: np.ndarray | slice = slice(None),
    *,
    trunks: bool = False,
    files: bool = False,
) -> Table:
    """Return a table of assurance's rows (those of `rows`), compared `by` columns of both views."""
    left, right = ([column(side) for column in by] for side in (views.billing, views.assurance))
    right += [views.files[1]] if files else []
    return Table(
        name,
        _ROLE,
        left + ([views.files[0]] if files else []),
        [column[rows] for column in right],
        views.call[rows],
        [views.assurance[f"trunk_{side}"][rows] for side in ("in", "out") if trunks],
    )


# -- columns ----------------------------------------------------------------------------------------------------------


def _whole(column: pa.ChunkedArray) -> Ints:
    """Whole numbers or ms since 1970; unknown is -1."""
    numbers = column if pa.types.is_integer(column.type) else column.cast(pa.int64())
    return np.asarray(numbers.fill_null(_UNKNOWN), np.int64)


def _words(column: pa.ChunkedArray) -> Ints:
    """Text or tokens as numbers that are equal in both views: hashes, as positions in a dictionary would not be."""
    return _hashed(column, lambda word: word)


def _carriers(trunks: pa.ChunkedArray, carriers: Mapping[str, str]) -> Ints:
    return _hashed(trunks, lambda name: carriers.get(name, ""))


def _hashed(column: pa.ChunkedArray, key_of: Callable[[Any], Any]) -> Ints:
    """Return a hash of each value's key; of "" where there is none."""
    encoded = column.combine_chunks().dictionary_encode()
    hashes = np.array([hash(key_of(word)) for word in [*encoded.dictionary.to_pylist(), ""]], np.int64)
    return np.asarray(hashes[np.asarray(encoded.indices.fill_null(len(hashes) - 1))], np.int64)
