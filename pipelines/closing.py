"""closing: dates whose parts of assurance are made anew, so that no file tells any more which rows came together.

A date closes some hours after its end (lake.close_after_hours), and again when records of it came later. All is made
from the row index, in one transaction for each date; killed anywhere, it is done the next time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, delete, insert, select

from callward import database, runs
from callward.columns import flat, set_column
from callward.failpoints import point
from callward.keys import tokens
from callward.lake import ledger, row_index
from callward.lake.additive import sum_derived
from callward.lake.compaction import MOST_ROWS
from callward.lake.data_files import DataFiles
from callward.lake.ledger import Changes, CommitConflict, DataFile
from callward.settings import Settings
from schemas.tables import CLOSED, lake_files
from schemas.views import ID_COLUMN, INDEX, NUMBER_COLUMNS, PARTS, ROW_INDEX
from transforms.close import as_calls, close, tables
from transforms.identify import cut_by_bucket

_PARTS: Final = PARTS["assurance"]
_RECEIVED: Final = "received_on"
_COLUMNS: Final = [name for name in ROW_INDEX.names if name not in NUMBER_COLUMNS[INDEX]]


@dataclass(frozen=True)
class ClosedDate:
    """A tenant's date that closed, or would: how many data files its parts had, with how many rows."""

    tenant: str
    part: str
    files: int
    rows: int


def due(connection: Connection, settings: Settings, now: datetime) -> list[tuple[str, str]]:
    """Return dates (tenant, ISO) that are over for long enough and have a data file that no closing made."""
    f = lake_files.c
    before = (now - timedelta(hours=settings.lake.close_after_hours)).date()
    query = select(f.tenant, f.part).where(
        f.view.in_(_PARTS), f.superseded_at.is_(None), f.closed.is_(False), f.part < before.isoformat()
    )
    return [(row.tenant, row.part) for row in connection.execute(query.distinct().order_by(f.tenant, f.part))]


def parts_of(connection: Connection, tenant: str, part: str) -> list[DataFile]:
    """Return the data files that the parts of a date have now."""
    return [file for view in _PARTS for file in ledger.files(connection, view=view, tenant=tenant, parts=[part])]


def close_date(files: DataFiles, tenant: str, part: str, before: list[DataFile]) -> ClosedDate:
    """Make the parts of a date anew, and its closed tables, in the place of those that it had (`before`).

    Raises CommitConflict where another changed the date meanwhile, FileNotFoundError for a file that was replaced, and
    Problem where the index cannot be read, or does not know all rows of the views.
    """
    index = row_index.complete(files, tenant, part)
    made, summed = Changes(superseded={file.file_id: (tenant, part) for file in before}), dict[str, list[pa.Table]]()
    for bits, shard, calls in calls_of(files, index, before, tenant):
        made.files += _written(files, tenant, part, calls, bits, shard)
        for name, table in tables(calls, tenant, part, files.workspace.sites).items():
            summed.setdefault(name, []).append(table)
    with database.writing(files.workspace.settings) as connection:
        point("close-begun")
        _check_same(connection, tenant, part, [*index, *before])
        runs.renew(connection, files.run_id)
        ledger.swap_files(connection, files.run_id, made)
        _replace_tables(connection, tenant, part, summed)
        point("close-ready")
    point("close-committed")
    return ClosedDate(tenant, part, len(before), sum(file.rows for file in before))


def _check_same(connection: Connection, tenant: str, part: str, read: list[DataFile]) -> None:
    there = [*ledger.files(connection, view=INDEX, tenant=tenant, parts=[part]), *parts_of(connection, tenant, part)]
    if {file.file_id for file in there} != {file.file_id for file in read}:
        raise CommitConflict


def calls_of(
    files: DataFiles, index: Sequence[DataFile], parts: Sequence[DataFile], tenant: str
) -> Iterator[tuple[int, int, pa.Table]]:
    """Yield a date's calls (transforms.close.as_calls) and when each came in, by shard: so many as fit in memory.

    Each data file is read once. One with rows of several shards is cut, and waits sealed, as a batch in flight does.
    What the date's parts have is read as half an id of eight bytes for each record.

    `index`, `parts`: the data files of one tenant's date. Legs of a call are in one shard; bits are chosen by how
    many records there are, however many the files have.
    """
    telling = [file for file in index if row_index.has(file, "disposition")]
    bits = max(0, (sum(file.rows for file in telling) - 1) // MOST_ROWS).bit_length()
    told = [_records(files, file) for file in parts if file.view == "answered"]
    by_the_hour = np.sort(np.concatenate([np.zeros(0, np.uint64), *told]))
    spilled: dict[int, list[str]] = {shard: [] for shard in range(1 << bits)}
    try:
        for file in telling:
            for shard, cut in cut_by_bucket(_rows(files, file), bits, 1 << bits, 0) if file.shard_bits < bits else ():
                spilled[shard].append(files.spill(cut))
        for shard, names in spilled.items():
            whole = [file for file in telling if file.shard_bits >= bits and file.overlaps(bits, shard)]
            read = [*(_rows(files, file) for file in whole), *map(files.fetch, names)]
            rows = pa.concat_tables(read) if read else None
            if rows is not None and rows.num_rows:
                yield bits, shard, as_calls(rows, tenant, files.workspace, by_the_hour)
    finally:
        files.discard([name for names in spilled.values() for name in names])


def _records(files: DataFiles, file: DataFile) -> np.ndarray:
    """Return the first halves of the ids of the records that a part's data file has rows of (uint64 [n])."""
    secret = row_index.id_secret(files.workspace, file.view, file.tenant, file.part[:7])
    ids = flat(files.columns(file, [ID_COLUMN[file.view]])[ID_COLUMN[file.view]])
    return tokens.as_u64(tokens.unpermute(ids, secret))[:, 0] if secret else np.zeros(0, np.uint64)


def _rows(files: DataFiles, file: DataFile) -> pa.Table:
    with row_index.reading(file):
        rows = files.rows(file, _COLUMNS)
    rows = rows.filter(row_index.of_view(rows, "assurance"))
    rows = set_column(rows, "call_id", flat(pc.coalesce(rows["call_id"], rows["record_id"])))
    return rows.append_column(_RECEIVED, pa.repeat(pa.scalar(file.received_on, pa.date32()), rows.num_rows))


def _written(
    files: DataFiles, tenant: str, call_date: str, calls: pa.Table, bits: int, shard: int
) -> Iterator[DataFile]:
    """Yield the data files of a shard's calls: by the day they came in, as their windows may go by it."""
    for day in pc.unique(calls[_RECEIVED]).to_pylist():
        of_day = calls.filter(pc.equal(calls[_RECEIVED], day))
        for part in close(of_day, tenant, call_date[:7], files.workspace):
            place = part.view, tenant, call_date, part.rows, part.inputs, bits, shard, day
            yield files.write_view(*place, closed=True)


def _replace_tables(connection: Connection, tenant: str, part: str, summed: dict[str, list[pa.Table]]) -> None:
    for table in CLOSED:
        mine = (table.c.tenant == tenant) & (table.c.call_date == date.fromisoformat(part))
        connection.execute(delete(table).where(mine))
        rows: list[dict[str, Any]] = []
        if summed.get(table.name):
            rows = sum_derived(table, summed[table.name]).to_pylist()
        if rows:
            connection.execute(insert(table), rows)
