"""Expire: data files of a purge's plan written anew without what is due, and copies of the rows that a hold keeps.

Nothing counts yet: the purge names what was written in one transaction of its own. What only goes is not seen here.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from types import NoneType
from typing import Any, Final

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import PCollection
from sqlalchemy import insert, select

from callward import database
from callward.columns import flat, has_value, nulls, set_column
from callward.lake import ledger, row_index
from callward.lake.data_files import HELD_BESIDE, HELD_FIELDS, HELD_LATE, DataFiles, counted_rows, inputs_of
from callward.lake.ledger import DataFile
from callward.retention import holds
from callward.retention.policy import register as policy_register
from callward.retention.purge.due_files import REWRITE, Governance, PlanItem, still_open
from callward.retention.purge.due_rows import Judge, Judged
from callward.settings import Settings
from callward.workspace import WorkspaceRef, open_workspace
from schemas.codes import Bucket, Filter
from schemas.tables import waves
from schemas.views import (
    BILLING,
    BILLING_NUMBERS,
    HELD,
    INDEX,
    INDEX_COLUMNS_OF,
    NUMBER_COLUMNS,
    ROW_INDEX,
    VIEW_BITS,
    VIEW_PARTS,
)
from transforms.assemble import fold
from transforms.safe_errors import SafeDoFn

PREPARED: Final = "prepared"
PURGED: Final = "purged"


@dataclass
class Outcome:
    """What an item of a plan came to: data files that take its file's place or hold rows, and what the ledger notes."""

    file_id: str
    files: list[DataFile] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)  # rows of ledger.ENTRIES
    ends: list[dict[str, Any]] = field(default_factory=list)  # rows of ledger.ENDS


def expire(item: PlanItem, judge: Judge, purge_id: str) -> Outcome:
    """Write what takes the place of an item's data file, by the same judgement that its plan counted with."""
    view = item.file.view
    if view in VIEW_PARTS:
        return _of_view(item, judge, purge_id)
    if view == INDEX:
        return _of_index(item, judge)
    if view == "late":
        return _of_late(item, judge, purge_id)
    if view.startswith(HELD):
        return _of_held(item, judge, purge_id)
    return _of_log(item, judge)


# -- the views ---------------------------------------------------------------------------------------------------------


def _of_view(item: PlanItem, judge: Judge, purge_id: str) -> Outcome:
    outcome, file, files = Outcome(item.file.file_id), item.file, judge.files
    if not (item.held or item.accounts):
        outcome.files.append(without_numbers(file, files))
        return outcome
    rows, judged = files.rows(file), judge.judged(item)
    if item.held:
        outcome.files.append(_copied(file, rows, judged, judge, purge_id))
    if item.accounts:
        outcome.files.append(files.restate_view(file, _without_some_numbers(rows, judged.due, BILLING_NUMBERS)))
        went = pa.chunked_array([judge.file_no(file).filter(pa.array(judged.due))])
        outcome.ends += ledger.ends(went, file.view, "numbers").to_pylist()
    elif item.action == REWRITE:
        outcome.files.append(files.restate_view(file, rows.drop_columns(BILLING_NUMBERS)))
    return outcome


def without_numbers(file: DataFile, files: DataFiles) -> DataFile:
    """Return a billing data file without its number columns, which are not even read."""
    return files.restate_view(file, files.rows(file, [name for name in BILLING.names if name not in BILLING_NUMBERS]))


def _without_some_numbers(rows: pa.Table, due: np.ndarray, names: Sequence[str]) -> pa.Table:
    """Return the same rows, with null for the numbers of those that are due."""
    for name in names:
        kind = rows.schema.field(name)
        column = pc.if_else(pa.array(due), pa.scalar(None, kind.type), flat(rows[name]))
        rows = rows.set_column(rows.schema.get_field_index(name), kind, column)
    return rows


def _copied(file: DataFile, rows: pa.Table, judged: Judged, judge: Judge, purge_id: str) -> DataFile:
    """Return the rows that a hold keeps, with all that the file still has of them, under keys of the hold."""
    held = pa.array(judged.held)
    file_no = pa.table({"file_no": judge.file_no(file)}).filter(held)
    return _kept_apart(file.view, file, rows.filter(held), _named(file_no, judged, judged.held), judge, purge_id)


def _kept_apart(view: str, file: DataFile, rows: pa.Table, kept_for: pa.Table, judge: Judge, purge_id: str) -> DataFile:
    kept_for = kept_for.select(HELD_BESIDE.names).cast(HELD_BESIDE)
    return judge.files.write_held(view, file.tenant, file.part, rows, kept_for, purge_id, file.received_on)


def _named(table: pa.Table, judged: Judged, rows: np.ndarray) -> pa.Table:
    """Return a table with HELD_FIELDS: for which holds its rows are kept, and which were asked."""
    plain = table.select([name for name in table.column_names if name not in {f.name for f in HELD_FIELDS}])
    for added, column in zip(HELD_FIELDS, judged.names(rows), strict=True):
        plain = plain.append_column(added, column)
    return plain


# -- the row index -----------------------------------------------------------------------------------------------------


def _of_index(item: PlanItem, judge: Judge) -> Outcome:
    """Return what the index still has to say once views and numbers are closed; no file where that is nothing.

    Records that have a row in no view any more leave it. Those that never had one stay while any view is open.
    """
    outcome, file, files = Outcome(item.file.file_id), item.file, judge.files
    opened = judge.law.open_for(file.tenant, date.fromisoformat(file.part), file.received_on or date.min, judge.as_of)
    numbers = NUMBER_COLUMNS[INDEX] if file.numbers and opened.numbers else ()
    with row_index.reading(file):
        rows = files.rows(file, [*(name for name in ROW_INDEX.names if name not in NUMBER_COLUMNS[INDEX]), *numbers])
    rows = _of_open_views(rows, [view for view in VIEW_BITS if still_open(opened, view)])
    if item.accounts:
        due = pc.is_in(rows["account"], pa.array(item.accounts, pa.string())).to_numpy()
        rows = _without_some_numbers(rows, due, numbers)
    if rows.num_rows:
        place = INDEX, file.tenant, file.part
        inputs = inputs_of(rows["file_no"])
        outcome.files.append(files.write_view(*place, rows, inputs, file.shard_bits, file.shard, file.received_on))
    return outcome


def _of_open_views(rows: pa.Table, views: Sequence[str]) -> pa.Table:
    """Return rows of the index without what they say of other views than these."""
    open_bits = sum(VIEW_BITS[view] for view in views)
    parts = pc.bit_wise_and(rows["parts"], pa.scalar(open_bits, pa.int16()))
    rows = set_column(rows, "parts", parts)
    for view, names in INDEX_COLUMNS_OF.items():
        for name in names if view not in views else ():
            rows = set_column(rows, name, nulls(rows.num_rows, rows.schema.field(name).type))
    return rows.filter(pc.or_(pc.invert(has_value(rows["state"], Bucket.ACCEPTED)), pc.greater(parts, 0)))


# -- held copies, and what came too late -------------------------------------------------------------------------------


def _of_held(item: PlanItem, judge: Judge, purge_id: str) -> Outcome:
    """Return a held copy of which some rows are needed no longer, under keys of this purge."""
    outcome = Outcome(item.file.file_id)
    if item.action != REWRITE:
        return outcome
    file, files = item.file, judge.files
    judged = judge.judged(item)
    stays, view = pa.array(judged.held), file.view.removeprefix(HELD)
    if view == "late":
        rows = _named(files.read_log(file).filter(stays), judged, judged.held)
        outcome.files.append(files.write_held_late(file.tenant, file.part, rows, purge_id, file.received_on))
        return outcome
    kept_for = files.held_for(file)
    assert kept_for is not None, "a copy that was held whole goes whole"
    rows, kept_for = files.rows(file).filter(stays), _named(kept_for.filter(stays), judged, judged.held)
    outcome.files.append(_kept_apart(view, file, rows, kept_for, judge, purge_id))
    return outcome


def _of_late(item: PlanItem, judge: Judge, purge_id: str) -> Outcome:
    """Return records that came past their window: those that a hold matches are kept by call date, others are not."""
    outcome, file = Outcome(item.file.file_id), item.file
    rows = judge.files.read_log(file)
    judged = judge.of_log(file, rows)
    held = _named(rows.filter(pa.array(judged.held)), judged, judged.held).cast(HELD_LATE)
    for day in pc.unique(held["call_date"]).to_pylist():
        of_day = held.filter(pc.equal(held["call_date"], day))
        outcome.files.append(
            judge.files.write_held_late(file.tenant, day.isoformat(), of_day, purge_id, file.received_on)
        )
    return outcome


# -- suspense and pending ----------------------------------------------------------------------------------------------


def _of_log(item: PlanItem, judge: Judge) -> Outcome:
    """Return a sealed log without what is due; the ledger says of what the log still counted that it expired."""
    outcome, file = Outcome(item.file.file_id), item.file
    rows = judge.files.read_log(file)
    judged = judge.of_log(file, rows)
    counted = _counted(file, rows.append_column("going", pa.array(judged.going)), judge.files)
    outcome.entries = ledger.sum_entries(ledger.entries(counted, Bucket.FILTERED, str(Filter.EXPIRED))).to_pylist()
    outcome.ends = ledger.ends(counted["file_no"], file.view, PURGED).to_pylist()
    stays = rows.filter(pa.array(~judged.going))
    if stays.num_rows:
        outcome.files.append(judge.files.write_log(file.view, file.tenant, stays))
    return outcome


def _counted(file: DataFile, rows: pa.Table, files: DataFiles) -> pa.Table:
    """Return rows that go and that the ledger counts in this log: of a piece in several logs the furthest counts."""
    if file.view == "pending":
        logs = [log for log in files.committed("pending", file.tenant, [file.part]) if log.file_id != file.file_id]
        others = [files.read_log(log).append_column("going", pa.nulls(log.rows, pa.bool_())) for log in logs]
        rows = fold(pa.concat_tables([rows, *others]))
    return rows.filter(pc.and_(rows["going"].fill_null(False), counted_rows(file.view, rows)))


# -- what was written, for the purge -----------------------------------------------------------------------------------


def prepared(settings: Settings, run_id: str) -> dict[str, Outcome]:
    """Return what a run's batch has written, by the item's file id; empty when it has not ended."""
    of_run = (waves.c.run_id == run_id) & (waves.c.status == PREPARED)
    with database.reading(settings) as connection:
        detail = connection.execute(select(waves.c.detail).where(of_run).order_by(waves.c.attempt.desc())).scalar()
    return {outcome["file_id"]: _outcome(outcome) for outcome in json.loads(detail)} if detail else {}


def _outcome(written: dict[str, Any]) -> Outcome:
    return Outcome(written["file_id"], [_file(file) for file in written["files"]], written["entries"], written["ends"])


def _file(written: dict[str, Any]) -> DataFile:
    moments = {name: written[name] and datetime.fromisoformat(written[name]) for name in ("first_start", "last_start")}
    received = written["received_on"] and date.fromisoformat(written["received_on"])
    inputs = {int(file_no): rows for file_no, rows in written["inputs"].items()}
    return DataFile(**{**written, **moments, "received_on": received, "inputs": inputs})


def _note(settings: Settings, run_id: str, attempt: int, outcomes: Iterable[Outcome]) -> None:
    detail = json.dumps([asdict(outcome) for outcome in outcomes], default=lambda value: value.isoformat())
    row = {"run_id": run_id, "wave": 0, "attempt": attempt, "status": PREPARED, "detail": detail}
    with database.writing(settings) as connection:
        connection.execute(insert(waves).values(**row, at=database.now()))


@dataclass(eq=False)
class Expire(beam.PTransform[PCollection[PlanItem], PCollection[None]]):
    """PCollection[PlanItem] → what was written of them, noted in the database: a runner hands nothing back.

    Holds and policies are opened on the worker; none is ever part of an element.
    """

    reference: WorkspaceRef
    run_id: str
    purge_id: str
    attempt: int
    as_of: date
    today: date

    def expand(self, items: PCollection[PlanItem]) -> PCollection[None]:
        work = _ExpireFn(self.reference, self.run_id, self.purge_id, self.as_of, self.today)
        return (
            items
            | "WriteAnew" >> beam.ParDo(work).with_output_types(Outcome)
            | "OnePurge" >> beam.WithKeys(0)
            | "Gather" >> beam.GroupByKey()
            | "Note" >> beam.ParDo(_NoteFn(self.reference, self.run_id, self.attempt)).with_output_types(NoneType)
        )


class _ExpireFn(SafeDoFn):
    def __init__(self, reference: WorkspaceRef, run_id: str, purge_id: str, as_of: date, today: date) -> None:
        self._reference, self._run_id, self._purge_id = reference, run_id, purge_id
        self._as_of, self._today = as_of, today

    def setup(self) -> None:
        super().setup()
        workspace = open_workspace(self._reference)
        settings = workspace.settings
        with database.reading(settings) as connection:
            law = Governance(policy_register.in_force(settings, connection))
            held = holds.any_open(connection)
        found = holds.opened(settings, today=self._today) if held else []
        # One for all items: a date has several files, and what was read of its index stays.
        self._judge = Judge(DataFiles(workspace, self._run_id), law, found, self._as_of, self._today)

    def process(self, item: PlanItem) -> Iterator[Outcome]:
        yield expire(item, self._judge, self._purge_id)


class _NoteFn(SafeDoFn):
    def __init__(self, reference: WorkspaceRef, run_id: str, attempt: int) -> None:
        self._reference, self._run_id, self._attempt = reference, run_id, attempt

    def process(self, element: tuple[int, Iterable[Outcome]]) -> None:
        _note(open_workspace(self._reference).settings, self._run_id, self._attempt, element[1])
