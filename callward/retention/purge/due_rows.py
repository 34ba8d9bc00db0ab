"""Which rows of a data file are due, and which of these a hold keeps: for the files that dates alone do not judge.

Planning counts with it and the run writes by it, so that a dry run and a run agree. Holds are matched in the row
index, and what they match is found by its ids in every view alike; no row is looked at in a loop.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import cached_property, reduce
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import select

from callward import database
from callward.columns import flat
from callward.keys import tokens
from callward.lake.data_files import DataFiles, clock_days, seen_days
from callward.lake.ledger import DataFile
from callward.retention import holds
from callward.retention.holds import Hold
from callward.retention.policy.rules import NUMBERS, call_clock
from callward.retention.purge.due_files import KEEP, REWRITE, Governance, PlanItem
from callward.retention.purge.index_rows import Indexed, IndexRows
from schemas.tables import lake_files, runs
from schemas.views import HELD, ID_COLUMN, INDEX, NUMBER_COLUMNS, VIEW_PARTS

Mask = npt.NDArray[np.bool_]
_SECOND: Final = timedelta(seconds=1)  # when a hold was placed is known to the second


@dataclass
class Judged:
    """Rows of one data file, in its order: which are due, and per hold which it keeps of those.

    `blind`: ids of holds that could not be matched there, and so keep all of their dates.
    """

    due: Mask
    by_hold: list[tuple[Hold, Mask]] = field(default_factory=list)
    blind: frozenset[str] = frozenset()

    @property
    def held(self) -> Mask:
        """Return the rows that a hold keeps (bool, shape [rows])."""
        kept = np.zeros(len(self.due), np.bool_)
        for _, mask in self.by_hold:
            kept |= mask
        return kept

    @property
    def going(self) -> Mask:
        """Return the rows that are due and that no hold keeps (bool, shape [rows])."""
        return self.due & ~self.held

    def names(self, rows: Mask) -> tuple[pa.Array, pa.Array]:
        """Return HELD_FIELDS of those rows: ids of the holds that match each, and of all that were asked."""
        asked = " ".join(hold.hold_id for hold, _ in self.by_hold)
        masks = np.array([mask[rows] for _, mask in self.by_hold])
        patterns, which = np.unique(np.packbits(masks, axis=0), axis=1, return_inverse=True)
        bits = np.unpackbits(patterns, axis=0, count=len(masks)).astype(bool)
        ids = np.array([hold.hold_id for hold, _ in self.by_hold], object)
        hold_ids = pa.array([" ".join(ids[column]) for column in bits.T], pa.string())
        return hold_ids.take(pa.array(which.ravel())), pa.repeat(asked, masks.shape[1])


@dataclass(frozen=True)
class Judge:
    """What rows are judged by. `found` are the holds that block on `today`."""

    files: DataFiles
    law: Governance
    found: Sequence[Hold]
    as_of: date
    today: date

    @cached_property
    def _index(self) -> IndexRows:
        return IndexRows(self.files)

    def judged(self, item: PlanItem) -> Judged:
        """Return the rows of an item's data file; opens the file only where a date does not decide.

        Raises Problem where the row index cannot be read, or does not know the rows of a view that holds cover.
        """
        view = item.file.view
        if view in ("suspense", "pending", "late"):
            return self.of_log(item.file, self.files.read_log(item.file))
        if view == f"{HELD}late":
            return self.of_held(item.file, self.files.read_log(item.file))
        if view.startswith(HELD):
            return self.of_held(item.file, self.files.held_for(item.file))
        return Judged(self._of_accounts(item)) if view == INDEX else self._of_view(item)

    def file_no(self, file: DataFile) -> pa.Array:
        """Return the input file that each row of a view's data file came in, as the index has it."""
        return self._index.of(file, self._covering(file)).file_no()

    # -- the views ------------------------------------------------------------------------------------------------

    def _of_view(self, item: PlanItem) -> Judged:
        file = item.file
        covering = self._covering(file)
        due = self._of_accounts(item) if item.accounts else np.ones(file.rows, np.bool_)
        if not covering:
            return Judged(due)
        wanted, indexed = due & ~self._already_held(file), self._index.of(file, covering)
        kept = [(hold, mask & wanted) for hold, mask in self._matched(file, covering, indexed)]
        return Judged(due, kept, frozenset(hold.hold_id for hold in covering if indexed.is_blind(hold)))

    def _covering(self, file: DataFile) -> list[Hold]:
        day = date.fromisoformat(file.part)
        return holds.covering(self.found, file.tenant, day, day)

    def _matched(self, file: DataFile, covering: Sequence[Hold], indexed: Indexed) -> Iterator[tuple[Hold, Mask]]:
        """Yield per hold the rows that it keeps. What the index has no more to be matched by matches everything."""
        removed_at, secrets = self._numbers_removed_at(file), self._secrets(file)
        for hold in covering:
            asked: Hold | None = hold
            if hold.numbers and removed_at and hold.placed_at and hold.placed_at + _SECOND <= removed_at:
                asked = _without_numbers(hold)
            yield hold, indexed.matched(asked, secrets) if asked else np.zeros(file.rows, np.bool_)

    def _numbers_removed_at(self, file: DataFile) -> datetime | None:
        """Return when a purge took the numbers out of a file; None for any other file.

        That purge made held copies of all rows that the holds of its time match by number, so these need no more of
        it. A hold that came later, or a file that never had numbers, cannot be matched by number: all is kept.
        """
        if not NUMBER_COLUMNS[file.view] or file.numbers:
            return None
        f = lake_files.c
        query = select(f.committed_at).join(runs, runs.c.run_id == f.run_id)
        query = query.where(f.file_id == file.file_id, runs.c.kind == "purge")
        with database.reading(self.files.workspace.settings) as connection:
            return connection.execute(query).scalar()

    def _of_accounts(self, item: PlanItem) -> Mask:
        """Return the rows of the accounts whose own window is past, that still have a number."""
        numbers = NUMBER_COLUMNS[item.file.view]
        rows = self.files.columns(item.file, ["account", *numbers])
        of_accounts = pc.is_in(rows["account"], pa.array(item.accounts, pa.string()))
        with_number = reduce(pc.or_, (rows[name].is_valid() for name in numbers))
        return _mask(pc.and_(of_accounts, with_number))

    def _already_held(self, file: DataFile) -> Mask:
        """Return the rows that an earlier purge made held copies of: as numbers went, or before they came again."""
        copies = self.files.committed(HELD + file.view, file.tenant, [file.part])
        if not copies:
            return np.zeros(file.rows, np.bool_)
        column = ID_COLUMN[file.view]
        held = np.concatenate([tokens.as_u64(self.files.rows(copy, [column])[column]) for copy in copies])
        return _mask(pc.is_in(tokens.from_u64(self.files.ids(file)), tokens.from_u64(held)))

    # -- held copies ------------------------------------------------------------------------------------------------

    def of_held(self, file: DataFile, kept_for: pa.Table | None) -> Judged:
        """Judge held rows (with HELD_FIELDS): each stays for the holds it was kept for, and for any that came later.

        None: the file was held whole, as its purge came to an end half way.
        """
        due, covering = np.ones(file.rows, np.bool_), self._covering(file)
        if kept_for is None:
            return Judged(due, [(hold, due) for hold in covering], _blind(file.view, covering))
        asked = set(" ".join(pc.unique(kept_for["asked"]).to_pylist()).split())
        later = [hold for hold in covering if hold.hold_id not in asked]
        kept = [(hold, _names(kept_for["holds"], hold.hold_id)) for hold in covering if hold.hold_id in asked]
        matched = list(self._held_matched(file, kept_for, later)) if later else []
        return Judged(due, kept + matched, _blind(file.view, later))

    def _held_matched(self, file: DataFile, kept_for: pa.Table, later: Sequence[Hold]) -> Iterator[tuple[Hold, Mask]]:
        """Yield per hold the rows of a held copy that it matches, by the columns of the copy itself."""
        rows, day, secrets = kept_for, None, holds.MonthSecrets()
        if file.view != f"{HELD}late":
            gone = () if file.numbers else NUMBER_COLUMNS[file.view.removeprefix(HELD)]
            columns = [name for name in holds.columns(file.view, later) if name not in gone]
            rows = self.files.rows(file, columns) if columns else _nothing(file.rows)
            day, secrets = date.fromisoformat(file.part), self._secrets(file)
        for hold in later:
            yield hold, _mask(holds.matching(file.view, rows, file.tenant, day, [hold], secrets))

    def _secrets(self, file: DataFile) -> holds.MonthSecrets:
        return holds.secrets(self.files.workspace, file.tenant, file.part[:7])

    # -- sealed logs ------------------------------------------------------------------------------------------------

    def of_log(self, file: DataFile, rows: pa.Table) -> Judged:
        """Return the rows of suspense, pending or late: each by its own day."""
        days = flat(clock_days(file.view, rows))
        if file.view == "late":
            matching, none = holds.matching, holds.MonthSecrets()
            covering = holds.covering(self.found, file.tenant, *_span(days))
            kept = [(hold, _mask(matching("late", rows, file.tenant, None, [hold], none))) for hold in covering]
            return Judged(np.ones(rows.num_rows, np.bool_), kept, _blind("late", covering))
        due = self._due_suspense(file, days) if file.view == "suspense" else self._due_pending(file, rows, days)
        concerned = [hold for hold in self.found if hold.concerns(file.tenant)]
        kept = [(hold, due & _days_kept(file.view, hold, days)) for hold in concerned]
        return Judged(due, kept, _blind(file.view, concerned))

    def _due_suspense(self, file: DataFile, days: pa.Array) -> Mask:
        def due(day: date) -> bool:
            return self.law.due(file.tenant, "suspense", day, day, self.as_of)

        return _by_day(days, due)

    def _due_pending(self, file: DataFile, rows: pa.Table, days: pa.Array) -> Mask:
        """Pieces of calls are call detail; each came in on a day of its own."""
        seen = flat(seen_days(rows))
        due = np.zeros(len(days), np.bool_)
        for received in pc.unique(seen).to_pylist():

            def judge(day: date, received: date = received) -> bool:
                return self.law.due(file.tenant, NUMBERS, call_clock(day), received, self.as_of)

            due |= _mask(pc.equal(seen, received)) & _by_day(days, judge)
        return due


def looked(item: PlanItem, judge: Judge) -> PlanItem | None:
    """Return an item with its rows counted and what is done with its file; None where nothing is due after all."""
    judged = judge.judged(item)
    due, held = int(judged.due.sum()), int(judged.held.sum())
    if not due:
        return None
    if item.file.view == INDEX:
        return replace(item, look=False)
    counted = replace(item, rows=due, held=held, look=False, why=_why(item, judged, judge.today))
    if item.file.view in (*VIEW_PARTS, "late"):  # held rows are copied, then the file goes on as any
        return counted
    going = int(judged.going.sum())
    if not going:
        return replace(counted, action=KEEP)
    return counted if going == len(judged.due) else replace(counted, action=REWRITE)


def _why(item: PlanItem, judged: Judged, today: date) -> dict[str, int]:
    """Count held rows by the ids of holds that match them and that everyone may know of; "" for all others."""
    may_be_named = holds.visible((hold for hold, _ in judged.by_hold), holds.COMPLIANCE, today)
    by_hold = [(hold, mask) for hold, mask in judged.by_hold if hold.hold_id not in judged.blind]
    named = [(hold, mask) for hold, mask in by_hold if hold in may_be_named]
    left, kept = judged.held.copy(), {}
    for hold, mask in named:
        kept[hold.hold_id] = int((left & mask).sum())
        left &= ~mask
    kept[""] = int(left.sum())
    return {hold_id: rows for hold_id, rows in kept.items() if rows}


def _blind(view: str, asked: Sequence[Hold]) -> frozenset[str]:
    """Return ids of the holds that keep all of their dates there, as one of their selectors is not to be seen."""
    return frozenset(hold.hold_id for hold in holds.unmatched(view, asked))


def _without_numbers(hold: Hold) -> Hold | None:
    """Return the hold with its other selectors alone; None when it has no other."""
    return replace(hold, numbers=()) if hold.accounts or hold.trunks else None


def _days_kept(view: str, hold: Hold, days: pa.Array) -> Mask:
    """Return the unmatchable rows that may be the hold's: by their call date, or by the day that they came in."""
    if view == "suspense":
        return _by_day(days, lambda day: hold.first is None or day >= hold.first)
    return _by_day(days, lambda day: hold.covers(day, day))


def _by_day(days: pa.Array, judge: Callable[[date], bool]) -> Mask:
    """Return what `judge` says of each row's day (bool, shape [rows]); it is asked once per day."""
    encoded = days.dictionary_encode()
    judged = np.array([judge(day) for day in encoded.dictionary.to_pylist()], np.bool_)
    return np.asarray(judged[encoded.indices.to_numpy()], np.bool_)


def _span(days: pa.Array) -> tuple[date, date]:
    span = pc.min_max(days)
    return span["min"].as_py(), span["max"].as_py()


def _names(column: pa.ChunkedArray, hold_id: str) -> Mask:
    """Return the rows that name a hold. Ids have one length and no spaces, so a part of the text is a whole id."""
    return _mask(pc.match_substring(column, hold_id))


def _nothing(rows: int) -> pa.Table:
    """Return a table of that many rows without a column that anything is matched by."""
    return pa.table({"": pa.nulls(rows)})


def _mask(column: pa.Array | pa.ChunkedArray) -> Mask:
    return np.asarray(flat(column).fill_null(False).to_numpy(zero_copy_only=False), np.bool_)
