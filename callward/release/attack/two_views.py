"""What today's two views link: rows and accounts of billing looked for in assurance, and in its derived tables.

Both describe the same calls: assurance has the minute of the start, talk in steps of 6 s, ringing in seconds, the delay
before it; billing has milliseconds. Who could read both would join them so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.release.attack.attacks import Ints
from callward.release.attack.linkage import Billing, Column, Linked, Measure, Near, Table, linked, measure, positions
from callward.release.attack.profiles import Amounts, profiles

BILLING_COLUMNS: Final = ("source", "account", "carrier_in", "carrier_out", "start", "answer", "talk_ms")
ASSURANCE_COLUMNS: Final = (
    *("source", "account_token", "trunk_in", "trunk_out", "start", "ring_s", "talk_s", "pdd_ms", "disposition"),
)
_TALK_STEP_S: Final = 6
_UNKNOWN: Final = -1
_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS
_DAY_MS: Final = 24 * _HOUR_MS
_ROLE: Final = "assurance"


@dataclass(frozen=True, eq=False)
class Views:
    """Answered calls of both views as columns to compare.

    Attributes:
        billing, assurance: columns by name, shape [n] and [m] each.
        rows: of billing.
        call: of assurance's rows, by the numbers of `rows`.
        commit: of both sides, what came with one commit; all 0 where files tell nothing (they were made anew).
    """

    billing: Mapping[str, Column]
    assurance: Mapping[str, Column]
    rows: Billing
    call: Ints
    commit: tuple[Ints, Ints]

    @classmethod
    def of(
        cls,
        billing: pa.Table,
        assurance: pa.Table,
        carriers: Mapping[str, str],
        call: tuple[Ints, Ints],
        commit: tuple[Ints, Ints] | None = None,
    ) -> "Views":
        """Take tables with BILLING_COLUMNS and ASSURANCE_COLUMNS.

        Args:
            carriers: whose each trunk is.
            call, commit: of the rows of both, numbers that name the call (for the count alone) and the commit.
        """
        billed = np.asarray(pc.is_valid(billing["answer"]))
        answered = np.asarray(pc.equal(assurance["disposition"], "answered").fill_null(False))
        billing, assurance = billing.filter(pa.array(billed)), assurance.filter(pa.array(answered))
        return cls(
            _of_billing(billing),
            _of_assurance(assurance, carriers),
            Billing(call[0][billed], _words(billing["account"])),
            call[1][answered],
            _telling(commit[0][billed], commit[1][answered]) if commit else _silent(len(billing), len(assurance)),
        )


def _of_billing(billing: pa.Table) -> dict[str, Column]:
    start, answer = _whole(billing["start"]), _whole(billing["answer"])
    step = 1000 * _TALK_STEP_S
    return {
        "start_ms": start,
        "talk_s": -(-_whole(billing["talk_ms"]) // step) * _TALK_STEP_S,
        "wait_ms": answer - start,
        **{name: _words(billing[name]) for name in ("source", "carrier_in", "carrier_out")},
    }


def _of_assurance(assurance: pa.Table, carriers: Mapping[str, str]) -> dict[str, Column]:
    return {
        "start_ms": _whole(assurance["start"]),
        **{name: _whole(assurance[name]) for name in ("talk_s", "ring_s", "pdd_ms")},
        **{name: _words(assurance[name]) for name in ("source", "account_token", "trunk_in", "trunk_out")},
        "carrier_in": _carriers(assurance["trunk_in"], carriers),
        "carrier_out": _carriers(assurance["trunk_out"], carriers),
    }


def _telling(billing: Ints, assurance: Ints) -> tuple[Ints, Ints]:
    """Return commits where both sides know the same ones: files that were made anew have commits of their own."""
    same = np.array_equal(np.unique(billing), np.unique(assurance))
    return (billing, assurance) if same else _silent(len(billing), len(assurance))


def _silent(billing: int, assurance: int) -> tuple[Ints, Ints]:
    return np.zeros(billing, np.int64), np.zeros(assurance, np.int64)


# -- what is compared --------------------------------------------------------------------------------------------------


def linkages(views: Views) -> list[Linked]:
    """Step by step what more knowledge links; then the same with everything in coarser steps than assurance has."""
    minute = _by("start_ms", _MINUTE_MS)
    talk, places = _by("talk_s", 1), [_by(name) for name in _PLACES]
    tables = [
        _table(views, "the minute of the start", [minute]),
        _table(views, "… and talk in steps of 6 s", [minute, talk]),
        _table(views, "… and source and carriers", [minute, talk, *places]),
        _table(views, "… and ringing and delay", [minute, talk, *places], waits=True),
        _table(views, "if assurance had talk in minutes, and no ringing", [minute, _by("talk_s", 60), *places]),
        _table(views, "if it had the quarter of an hour, too", [_by("start_ms", 900_000), _by("talk_s", 60), *places]),
        _table(views, "if it had the hour, and no talk", [_by("start_ms", _HOUR_MS), *places]),
    ]
    return [linked(views.rows, table, jointly=True) for table in tables]


def measured(views: Views) -> Measure:
    """Return what rows, files of one commit, counters and profiles of accounts link, and the verdict."""
    finest = [_by("start_ms", _MINUTE_MS), _by("talk_s", 1), *(_by(name) for name in _PLACES)]
    tables = [_table(views, "rows: minute, talk, ringing, source, carriers", finest, waits=True, trunks=True)]
    if any(commit.any() for commit in views.commit):
        tables.append(_table(views, "… and files of one commit", finest, waits=True, trunks=True, commits=True))
    tables += [
        _table(
            views, f"counters: trunk {side} × hour", [_by("start_ms", _HOUR_MS), _by(f"carrier_{side}")], token=False
        )
        for side in ("in", "out")
    ]
    names = {"an hour": _HOUR_MS, "a day": _DAY_MS}
    return measure(views.rows, tables, [_profiles(views, f"accounts: answered in {n}", ms) for n, ms in names.items()])


_PLACES: Final = ("source", "carrier_in", "carrier_out")
_Compared = Callable[[Mapping[str, Column]], Column]


def _by(name: str, step: int = 0) -> _Compared:
    """Return a column of either view, in whole steps."""
    return lambda columns: columns[name] // step if step else columns[name]


def _table(
    views: Views,
    name: str,
    by: Sequence[_Compared],
    *,
    waits: bool = False,
    trunks: bool = False,
    commits: bool = False,
    token: bool = True,
) -> Table:
    left, right = ([column(side) for column in by] for side in (views.billing, views.assurance))
    known, near = _waits(views)
    return Table(
        name,
        _ROLE,
        left + ([views.commit[0]] if commits else []),
        right + ([views.commit[1]] if commits else []),
        views.call,
        [*([known] if waits else []), *(views.assurance[f"trunk_{side}"] for side in ("in", "out") if trunks)],
        near if waits else None,
        names_account=token,
    )


def _waits(views: Views) -> tuple[Ints, Near]:
    """Return where assurance knows how long it was from start to answer, and that wait beside billing's.

    Assurance has the delay, and the ringing in whole seconds that have passed: in half milliseconds, what billing has
    beyond them is 0 to 1998, which is less than 1000 from 999. Which switch tells them is known.
    """
    ring, delay = views.assurance["ring_s"], views.assurance["pdd_ms"]
    known = (ring >= 0) & (delay >= 0)
    twice = np.where(known, 2 * (delay + 1000 * ring) + 999, 0)
    at = positions(views.call, views.rows.number)
    comes = np.where(at >= 0, known[at], False) if len(known) else np.zeros(len(at), bool)
    return known.astype(np.int64), Near(np.where(comes, 2 * views.billing["wait_ms"], 0), twice, 1000)


def _profiles(views: Views, name: str, step_ms: int) -> tuple[Billing, Table]:
    at = positions(views.rows.number, views.call)
    own = at >= 0
    left = Amounts(
        views.rows.account,
        [views.billing["start_ms"] // step_ms],
        np.ones(len(views.rows), np.int64),
        views.rows.account,
    )
    right = Amounts(
        views.assurance["account_token"][own],
        [views.assurance["start_ms"][own] // step_ms],
        np.ones(int(own.sum()), np.int64),
        views.rows.account[at[own]],
    )
    return profiles(name, _ROLE, left, right)


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
