"""repeated: repetitions, in other files, of records that leave and that no index has.

Suspense knows a record that could not be read once, by a keyed hash of its bytes; and a piece of a call without a date
is in no partition. Only the archive says of which other files they are.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import func, select

from callward import database
from callward.columns import flat, has_value
from callward.keys import tokens
from callward.lake import ledger
from callward.lake.data_files import DataFiles
from callward.lake.ledger import DataFile
from pipelines.archived import Archived
from schemas.cdr import CDR
from schemas.codes import Bucket
from schemas.retention import lake_file_inputs
from schemas.tables import input_files, lake_files, ledger_entries
from schemas.views import INDEX
from transforms.among import AGAIN, PLACE, places_of
from transforms.identify import identify
from transforms.read import read
from transforms.read_records import read_records
from transforms.suspend import number_occurrences, suspense_secret
from transforms.validate import separate


@dataclass(frozen=True)
class Repeated:
    """Looks for repetitions of what leaves in the files of some sources, but those that leave themselves."""

    files: DataFiles
    names: Collection[str]
    but: Collection[int]

    def of(self, tenant: str, suspended: pa.Table, pieces: pa.Table) -> pa.Table:
        """Return repetitions of a tenant's records that were suspended as they came (schema SUSPENSE), and of pieces of
        calls that have no date (schema PENDING), as schema AGAIN.

        Raises Problem where the archive does not have a file any more that has some.
        """
        archived = self._archived if suspended.num_rows or pieces.num_rows else None
        if archived is None:
            return AGAIN.empty_table()
        found = [self._suspended(archived, tenant, suspended), self._pieces(archived, tenant, pieces)]
        again = pa.concat_tables(found)
        return again.filter(pc.invert(pc.is_in(places_of(again), _in_index(self.files, again))))

    @cached_property
    def _archived(self) -> Archived:
        archived = Archived.of(self.files, self._with_others(), any_generation=True)
        archived.require("what may repeat records that go cannot be read again")
        return archived

    def _with_others(self) -> list[int]:
        """Return numbers of input files with more repetitions than the index knows of them."""
        e, f = ledger_entries.c, input_files.c
        query = select(e.file_no, func.sum(e.rows).label("rows")).join(input_files, f.file_no == e.file_no)
        query = query.where(e.bucket == str(Bucket.DUPLICATE), f.source.in_(self.names)).group_by(e.file_no)
        with database.reading(self.files.workspace.settings) as connection:
            counted = {row.file_no: int(row.rows) for row in connection.execute(query) if row.file_no not in self.but}
        known = Counter[int]()
        for file in _index_of(self.files, [number for number, rows in counted.items() if rows]):
            rows = self.files.columns(file, ["state", "file_no"])
            rows = rows.filter(has_value(rows["state"], Bucket.DUPLICATE))
            known.update(rows["file_no"].to_pylist())
        return sorted(number for number, rows in counted.items() if rows > known[number])

    def _suspended(self, archived: Archived, tenant: str, suspended: pa.Table) -> pa.Table:
        found = (
            [_alike(chunk, self.files, tenant, suspended) for chunk in archived.chunks()] if suspended.num_rows else []
        )
        if not sum(table.num_rows for table in found):
            return AGAIN.empty_table()
        alike = pa.concat_tables(found)
        rows = number_occurrences(alike)
        counted = tokens.as_u64(alike["suspense_id"])[:, 1] ^ tokens.as_u64(rows["suspense_id"])[:, 1]
        rows = rows.append_column("occurrence", pa.array((counted >> np.uint64(32)).astype(np.int64)))
        at = pc.index_in(flat(rows["suspense_id"]), flat(suspended["suspense_id"]))
        return _again(rows.filter(at.is_valid()), suspended.take(at.drop_null())["carried_ms"])

    def _pieces(self, archived: Archived, tenant: str, pieces: pa.Table) -> pa.Table:
        found = [_identified(chunk, self.files, tenant) for chunk in archived.chunks()] if pieces.num_rows else []
        rows = pa.concat_tables([CDR.empty_table(), *found])
        rows = rows.filter(pc.is_in(flat(rows["record_id"]), flat(pieces["record_id"])))
        return _again(rows, rows["carried_ms"])


def _again(rows: pa.Table, was_ms: pa.ChunkedArray) -> pa.Table:
    """Return records that the ledger counts as repetitions (schema AGAIN)."""
    n = rows.num_rows
    was = pa.repeat(str(Bucket.DUPLICATE), n)
    occurrence = rows["occurrence"] if "occurrence" in rows.column_names else pa.nulls(n, pa.int64())
    columns = [*(rows[name].cast(pa.int64()) for name in PLACE), was, was_ms.fill_null(0), occurrence]
    return pa.table(columns, schema=AGAIN)


def _identified(chunk: pa.Table, files: DataFiles, tenant: str) -> pa.Table:
    """Return the sound records of a tenant in a work (schema CDR)."""
    workspace, now_ms = files.workspace, int(database.now().replace(tzinfo=UTC).timestamp() * 1000)
    records, _ = read(chunk, files, archive=False)
    if records is None or not records.num_rows:
        return CDR.empty_table()
    sound = separate(read_records(records, workspace, now_ms), workspace).sound
    mine = sound.filter(has_value(sound["tenant"], tenant)).replace_schema_metadata(sound.schema.metadata)
    return identify(mine, workspace.settings.source(chunk["source"][0].as_py()), tenant, workspace)


def _alike(chunk: pa.Table, files: DataFiles, tenant: str, suspended: pa.Table) -> pa.Table:
    """Return records of a work that may be repetitions, with the ids that suspense would know them by."""
    workspace = files.workspace
    records, _ = read(chunk, files, archive=False)
    if records is None:
        return AGAIN.empty_table()
    secret = suspense_secret(workspace, tenant, chunk["source"][0].as_py())
    ids = tokens.mac([records["raw"]], secret)
    first, asked = (pa.array(tokens.as_u64(flat(of))[:, 0]) for of in (ids, suspended["suspense_id"]))
    rows = records.select(list(PLACE)).replace_schema_metadata(None).append_column("suspense_id", ids)
    rows = rows.append_column("by_occurrence", pa.repeat(True, rows.num_rows))
    return rows.filter(pc.is_in(first, asked))


def _in_index(files: DataFiles, again: pa.Table) -> pa.Array:
    """Return the places of records of some input files that the index knows: they could be read, and have a date."""
    nothing = AGAIN.empty_table().select(list(PLACE))
    index = _index_of(files, again["file_no"].unique().to_pylist())
    places = [nothing, *(files.columns(file, list(PLACE)).cast(nothing.schema) for file in index)]
    return places_of(pa.concat_tables(places))


def _index_of(files: DataFiles, file_nos: Collection[int]) -> list[DataFile]:
    """Return the data files of the index that have rows of some input files."""
    i, f, found = lake_file_inputs.c, lake_files.c, dict[str, DataFile]()
    with database.reading(files.workspace.settings) as connection:
        for batch in database.batches(sorted(file_nos)):
            of_files = f.file_id.in_(select(i.file_id).where(i.file_no.in_(batch)))
            found |= {file.file_id: file for file in ledger.files(connection, view=INDEX, where=of_files)}
    return list(found.values())
