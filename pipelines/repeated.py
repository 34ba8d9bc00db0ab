"""repeated: of records that could not be read and leave suspense, the repetitions in other files.

Suspense knows a record once, by a keyed hash of its bytes, and no index has it: only the archive says of which other
files it is.
"""

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import func, select

from callward import database
from callward.columns import flat
from callward.keys import tokens
from callward.lake import ledger
from callward.lake.data_files import DataFiles
from pipelines.archived import Archived
from schemas.codes import Bucket
from schemas.retention import lake_file_inputs
from schemas.tables import input_files, lake_files, ledger_entries
from schemas.views import INDEX
from transforms.among import AGAIN, PLACE, places_of
from transforms.read import read
from transforms.suspend import number_occurrences, suspense_secret


def repeated(
    files: DataFiles, tenant: str, suspended: pa.Table, names: Collection[str], but: Collection[int]
) -> pa.Table:
    """Return records of other files than `but` that repeat some (schema SUSPENSE) of a tenant's sources (schema AGAIN).

    Raises Problem where the archive does not have such a file any more.
    """
    candidates = _with_duplicates(files, names, but) if suspended.num_rows else []
    archived = Archived.of(files, candidates, any_generation=True)
    archived.require("what may repeat suspended records cannot be read again")
    found = [_alike(chunk, files, tenant, suspended) for chunk in archived.chunks()]
    if not sum(table.num_rows for table in found):
        return AGAIN.empty_table()
    rows = number_occurrences(pa.concat_tables(found))
    at = pc.index_in(flat(rows["suspense_id"]), flat(suspended["suspense_id"]))
    same, of = rows.filter(at.is_valid()), suspended.take(at.drop_null())
    was = pa.repeat(str(Bucket.DUPLICATE), same.num_rows)
    again = pa.table(
        [*(same[name].cast(pa.int64()) for name in PLACE), was, of["carried_ms"].fill_null(0)], schema=AGAIN
    )
    return again.filter(pc.invert(pc.is_in(places_of(again), _in_index(files, again))))


def _with_duplicates(files: DataFiles, names: Collection[str], but: Collection[int]) -> list[int]:
    """Return numbers of input files of sources that have repetitions."""
    e, f = ledger_entries.c, input_files.c
    query = select(e.file_no).join(input_files, f.file_no == e.file_no)
    query = query.where(e.bucket == str(Bucket.DUPLICATE), f.source.in_(names)).group_by(e.file_no)
    with database.reading(files.workspace.settings) as connection:
        found = connection.execute(query.having(func.sum(e.rows) > 0)).scalars()
        return sorted(set(found) - set(but))


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
    """Return the places of records of some input files that the index knows: they could be read."""
    i, f = lake_file_inputs.c, lake_files.c
    with database.reading(files.workspace.settings) as connection:
        of_files = select(i.file_id).where(i.file_no.in_(again["file_no"].unique().to_pylist()))
        index = ledger.files(connection, view=INDEX, where=f.file_id.in_(of_files))
    nothing = AGAIN.empty_table().select(list(PLACE))
    places = [nothing, *(files.columns(file, list(PLACE)).cast(nothing.schema) for file in index)]
    return places_of(pa.concat_tables(places))
