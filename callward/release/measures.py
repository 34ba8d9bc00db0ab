"""Measures: what each row adds. Whole numbers, never negative; what a row lacks is counted, not guessed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import Column, has_value
from schemas.release import MEASURES, NER_SUCCESS

Rows = Mapping[str, Column]


class Values(NamedTuple):
    """What rows add: `counts` int64 [n, m]; `wrong` int64 [m]: rows per measure that were negative, and add nothing.

    A row without a value adds 0 and is not wrong: what it lacks has its own measure (pdd_count, mos_count).
    """

    counts: np.ndarray
    wrong: np.ndarray


def values(view: str, names: Sequence[str], rows: Rows, length: int) -> Values:
    """Return what each of `length` rows of a view adds to the named measures; `rows` has the columns they need."""
    counts, wrong = np.zeros((length, len(names)), np.int64), np.zeros(len(names), np.int64)
    for at, name in enumerate(names):
        figures = _figures(view, name, rows, length)
        negative = figures < 0
        wrong[at] = np.count_nonzero(negative)
        counts[:, at] = np.where(negative, 0, figures)
    return Values(counts, wrong)


def _figures(view: str, name: str, rows: Rows, length: int) -> np.ndarray:
    if MEASURES[view][name].distinct or name == "attempts" or (view, name) == ("billing", "calls"):
        return np.ones(length, np.int64)
    return _SHARED[name](rows) if name in _SHARED else _OF_VIEW[view][name](rows)


def _whole(column: Column) -> np.ndarray:
    """Return whole numbers, 0 for null."""
    return np.asarray(pc.fill_null(column.cast(pa.int64()), 0), np.int64)


def _flags(condition: Column) -> np.ndarray:
    return np.array(pc.fill_null(condition, False), np.int64)


def _milli(rows: Rows) -> np.ndarray:
    """Return scores in thousandths. NaN counts as missing."""
    scores = np.asarray(pc.fill_null(rows["mos"].cast(pa.float64()), 0.0), np.float64)
    return np.array(np.rint(np.where(np.isfinite(scores), scores, 0.0) * 1000), np.int64)


def _talk_seconds(rows: Rows) -> np.ndarray:
    return np.asarray(_whole(rows["talk_ms"]) // 1000, np.int64)


def _disposed(*words: str) -> Callable[[Rows], np.ndarray]:
    return lambda rows: _flags(has_value(rows["disposition"], *words))


_SHARED: Final[dict[str, Callable[[Rows], np.ndarray]]] = {
    "billable_s": lambda rows: _whole(rows["billable_s"]),
    "unknown": _disposed("unknown"),
    "seizures": lambda rows: 1 - _disposed("unknown")(rows),
    "ner_success": _disposed(*NER_SUCCESS),
    "pdd_ms": lambda rows: _whole(rows["pdd_ms"]),
    "pdd_count": lambda rows: _flags(pc.is_valid(rows["pdd_ms"])),
    "mos_milli": _milli,
    "mos_count": lambda rows: _flags(pc.is_finite(rows["mos"])),
}
_OF_VIEW: Final[dict[str, dict[str, Callable[[Rows], np.ndarray]]]] = {
    "billing": {"answered": lambda rows: _flags(pc.is_valid(rows["answer"])), "talk_s": _talk_seconds},
    "assurance": {
        "calls": lambda rows: _flags(pc.equal(rows["leg"], 0)),
        "answered": _disposed("answered"),
        "talk_s": _talk_seconds,
    },
}
