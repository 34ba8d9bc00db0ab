"""The row index: where each record of a (tenant, call_date, shard) is, and what it was. Services alone open it.

Whoever must look at a row again (deduplicate, holds, erasure, restriction, requests, purge) finds it here, and then by
its ids in the data files of the views: no view is read to find a row. Ids are compared exactly: a data file of the
index has its record ids in order, the row of a record before what else came in under the same id.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from callward import database
from callward.columns import flat, has_value
from callward.errors import Problem
from callward.keys import tokens
from callward.keys.register import KeyName
from callward.keys.seal import SealBroken
from callward.lake import ledger
from callward.lake.data_files import DataFiles
from callward.lake.ledger import DataFile
from callward.workspace import Workspace
from schemas.codes import Bucket
from schemas.views import ID_COLUMN, INDEX, INDEX_COLUMNS_OF, NUMBER_COLUMNS, PARTS, ROW_INDEX, VIEW_BITS, VIEW_OF

AGAIN: Final = "'callward rebuild --index' makes it again"
_NEXT: Final = f"put it back from a backup, or {AGAIN}"
NUMBERS: Final = NUMBER_COLUMNS[INDEX]
_NO_PARTS: Final = np.zeros(0, np.int16)
_LEAVES_WITH: Final = {name: view for view, names in INDEX_COLUMNS_OF.items() for name in names}

Mask: TypeAlias = npt.NDArray[np.bool_]
Positions: TypeAlias = npt.NDArray[np.int64]
Words: TypeAlias = npt.NDArray[np.uint64]


class Located(NamedTuple):
    """Rows of a data file: where they are in it, and which of the records asked for each is of."""

    file: DataFile
    position: Positions
    asked: Positions


class CallsAt(NamedTuple):
    """Records of calls that were asked for: a data file, where they are in it, and half of the id of each's call."""

    file: DataFile
    position: Positions
    call: Words


@contextmanager
def reading(file: DataFile) -> Iterator[None]:
    """Turn what a data file of the index cannot be read for into one sentence that names it. Raises Problem."""
    try:
        yield
    except FileNotFoundError:
        raise Problem(f"row index file {file.file_id} of {file.part} is not in the lake; {_NEXT}") from None
    except SealBroken:
        raise Problem(f"row index file {file.file_id} of {file.part} was altered or cut short; {_NEXT}") from None


@contextmanager
def reading_beside_others(files: DataFiles, file: DataFile) -> Iterator[None]:
    """As `reading`, while others may replace the file: FileNotFoundError when it does not count any more."""
    try:
        with reading(file):
            yield
    except Problem as problem:
        if isinstance(problem.__context__, FileNotFoundError) and not files.counts(file):
            raise problem.__context__ from None
        raise


def fault(files: DataFiles, file: DataFile) -> str | None:
    """Return why a data file of the index cannot be read; None where all of it can, and is what was committed.

    Raises FileNotFoundError for one that was replaced meanwhile.
    """
    try:
        with reading_beside_others(files, file):
            files.rows(file)
    except Problem as problem:
        return str(problem)
    return None


def has(file: DataFile, name: str) -> bool:
    """Return whether a data file of the index still has a column that leaves before its rows do."""
    if name in NUMBERS:
        return file.numbers
    view = _LEAVES_WITH.get(name)
    return view is None or bool(file.parts & VIEW_BITS[view])


# -- records → rows of the index -------------------------------------------------------------------------------------


def locate(
    files: DataFiles, committed: Iterable[DataFile], record_ids: pa.Array | pa.ChunkedArray, days: pa.Array
) -> Iterator[Located]:
    """Yield where the rows of records lie in data files of the index; `days` (date32) are their call dates.

    Raises Problem for a file that is missing or altered, and FileNotFoundError for one that was replaced meanwhile.
    """
    for hits in _hits(files, committed, record_ids, days):
        accepted = hits.accepted()
        if len(accepted.position):
            yield accepted


def find(
    files: DataFiles, committed: Iterable[DataFile], record_ids: pa.Array | pa.ChunkedArray, days: pa.Array
) -> Iterator[tuple[Located, Located]]:
    """Yield where the rows of records lie, and where versions of them that were set aside stand, file by file.

    Arguments and errors as for `locate`. Either may have none.
    """
    for hits in _hits(files, committed, record_ids, days):
        yield hits.accepted(), hits.set_aside()


class _Hits(NamedTuple):
    """A data file of the index that knows some of the ids asked for.

    `stored`: its ids. `ids`: those asked for on its date, in order, and `asked`: which each is. `position`: where each
    first stands in the file, or -1. `state`: of its rows.
    """

    file: DataFile
    stored: Words
    ids: Words
    asked: Positions
    position: Positions
    state: pa.Table

    def accepted(self) -> Located:
        """Return the rows of the records: each stands before what else has its id."""
        known = np.flatnonzero(self.position >= 0)
        known = known[_is_accepted(self.state)[self.position[known]]]
        return Located(self.file, self.position[known], self.asked[known])

    def set_aside(self) -> Located:
        """Return the entries of versions of the records that were set aside."""
        rows = np.flatnonzero(has_value(self.state["state"], Bucket.SUSPENDED).to_numpy(zero_copy_only=False))
        of = _first(self.ids, self.stored[rows])
        return Located(self.file, rows[of >= 0], self.asked[of[of >= 0]])


def _hits(
    files: DataFiles, committed: Iterable[DataFile], record_ids: pa.Array | pa.ChunkedArray, days: pa.Array
) -> Iterator[_Hits]:
    ids = tokens.as_u64(flat(record_ids))
    order = np.argsort(ids[:, 0])  # looked for in order, ids are found several times as fast
    ids, dates = ids[order], flat(days).cast(pa.int32()).to_numpy()[order]
    for file in committed:
        asked = np.flatnonzero(dates == (date.fromisoformat(file.part) - date(1970, 1, 1)).days)
        if not len(asked):
            continue
        with reading_beside_others(files, file):
            stored = files.ids(file)
            position = _first(stored, ids[asked])
        if (position >= 0).any():
            with reading_beside_others(files, file):
                state = files.columns(file, ["state"])
            yield _Hits(file, stored, ids[asked], order[asked], position, state)


def _first(stored: Words, ids: Words) -> Positions:
    """Return where each id first stands among the stored ones, which are in order (both shape [n, 2]), or -1."""
    at, position = np.searchsorted(stored[:, 0], ids[:, 0]), np.full(len(ids), -1)
    left = np.arange(len(ids))
    while len(left):  # once, save for ids that are equal in their first half
        left = left[at[left] < len(stored)]
        left = left[stored[at[left], 0] == ids[left, 0]]
        hit = stored[at[left], 1] == ids[left, 1]
        position[left[hit]] = at[left[hit]]
        left = left[~hit]
        at[left] += 1
    return position


def _is_one_of(words: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    at = np.minimum(np.searchsorted(ascending, words), len(ascending) - 1)
    return np.asarray(ascending[at] == words)


def of_calls(files: DataFiles, committed: Iterable[DataFile], call_ids: Words) -> Iterator[CallsAt]:
    """Yield where records of calls (ids, shape [n, 2]) stand in data files of the index: accepted ones, and versions
    of records that were set aside. Errors as for `locate`.

    Half of an id decides: calls that were one caller's have it in common. A call that is one record, and is named by
    its id alone, is not looked for.
    """
    if not len(call_ids):
        return
    asked = call_ids[np.lexsort((call_ids[:, 1], call_ids[:, 0]))]
    bits = np.uint64(64 - min(26, max(16, len(asked).bit_length() + 4)))
    perhaps = np.zeros(1 << (64 - int(bits)), bool)  # by leading bits: a look at these spares nearly every search
    perhaps[asked[:, 0] >> bits] = True
    for file in committed:
        with reading_beside_others(files, file):
            stored = tokens.as_u64(files.columns(file, ["call_id"])["call_id"])
            position = np.flatnonzero(perhaps[stored[:, 0] >> bits])
            position = position[_is_one_of(stored[position, 0], asked[:, 0])]
            state = files.columns(file, ["state"])["state"] if len(position) else None
        if state is not None:
            counts = has_value(state.take(pa.array(position)), Bucket.ACCEPTED, Bucket.SUSPENDED)
            position = position[flat(counts).to_numpy(zero_copy_only=False)]
            if len(position):
                yield CallsAt(file, position, stored[position, 0])


def index_order(record_ids: pa.Array | pa.ChunkedArray, states: pa.Array | pa.ChunkedArray) -> Positions:
    """Return the order of rows in a data file of the index: by id, the accepted record first."""
    ids = tokens.as_u64(flat(record_ids))
    order = np.argsort(ids[:, 0])
    alike = np.flatnonzero(ids[order[1:], 0] == ids[order[:-1], 0])
    if len(alike):  # repeated records: the few rows that share their first half with another are ordered by all
        rows = np.unique(np.concatenate([alike, alike + 1]))
        behind = ~_is_accepted(pa.table({"state": flat(states).take(pa.array(order[rows]))}))
        few = ids[order[rows]]
        order[rows] = order[rows][np.lexsort((behind, few[:, 1], few[:, 0]))]
    return order


def _is_accepted(table: pa.Table) -> Mask:
    return np.asarray(has_value(table["state"], Bucket.ACCEPTED).to_numpy(zero_copy_only=False), np.bool_)


def of_view(rows: pa.Table, view: str) -> pa.ChunkedArray:
    """Return which rows of the index (with `state` and `parts`) are of records that a view has a row of."""
    bit = pa.scalar(VIEW_BITS[view], pa.int16())
    accepted = has_value(rows["state"], Bucket.ACCEPTED)
    return pc.and_(accepted, pc.greater(pc.bit_wise_and(rows["parts"], bit), 0))


def rows(files: DataFiles, tenant: str, call_date: str, columns: Sequence[str]) -> pa.Table:
    """Return columns of the index, of each record of a tenant's date (ISO) that has a row in a view.

    A column that a data file does not have any more (numbers past their window) is null.
    """
    tables = [_rows_of(files, file, columns) for file in files.committed(INDEX, tenant, [call_date])]
    nothing = pa.schema([ROW_INDEX.field(name) for name in columns]).empty_table()
    return pa.concat_tables([nothing, *tables], promote_options="default")


def _rows_of(files: DataFiles, file: DataFile, columns: Sequence[str]) -> pa.Table:
    wanted = [name for name in dict.fromkeys(("state", *columns)) if file.numbers or name not in NUMBERS]
    with reading(file):
        table = files.columns(file, wanted)
    table = table.filter(has_value(table["state"], Bucket.ACCEPTED))
    for name in columns:
        if name not in wanted:
            table = table.append_column(name, pa.nulls(table.num_rows, tokens.ID_TYPE))
    return table.select(list(columns))


# -- records → rows of the views -------------------------------------------------------------------------------------


def id_key(part: str, tenant: str, month: str) -> KeyName:
    """Return the name of the key that the ids of a part of a view are made with in a month (YYYY-MM).

    It is the index's: whoever opens a view has no key that leads from its ids to records, and so to another view.
    """
    return KeyName(INDEX, tenant, month, ID_COLUMN.get(part, f"{part}_id").replace("_", "-"))


def id_secret(workspace: Workspace, part: str, tenant: str, month: str) -> bytes | None:
    """Return what a part's ids of a month (YYYY-MM) are made with; None for a key that is no more. None is minted."""
    name = id_key(part, tenant, month)
    existing = workspace.keyring.existing([name])
    return existing[name].secret if name in existing else None


def places(files: DataFiles, file: DataFile, record_ids: pa.Array | pa.ChunkedArray) -> Positions:
    """Return for each row of a view's data file which of the records it is of, or -1 (shape [rows])."""
    secret = id_secret(files.workspace, file.view, file.tenant, file.part[:7])
    if secret is None or not len(record_ids):
        return np.full(file.rows, -1)
    return match(files.ids(file), tokens.as_u64(tokens.permute(flat(record_ids), secret)))


def match(stored: Words, asked: Words) -> Positions:
    """Return for each stored id which of those asked for it is, or -1 (shape [stored])."""
    if not len(asked):
        return np.full(len(stored), -1)
    ordered = np.lexsort((asked[:, 1], asked[:, 0]))
    found = _first(asked[ordered], stored)
    return np.where(found >= 0, ordered[found], -1)


def complete(files: DataFiles, tenant: str, call_date: str) -> list[DataFile]:
    """Return the data files of the index of a tenant's date (ISO).

    Raises Problem where views have more rows than these know: some cannot be found.
    """
    with database.reading(files.workspace.settings) as connection:  # all as of one moment
        committed = ledger.files(connection, tenant=tenant, parts=[call_date])
    index = [file for file in committed if file.view == INDEX]
    parts = np.concatenate([_NO_PARTS, *(_rows_of(files, file, ["parts"])["parts"].to_numpy() for file in index)])
    for view, bit in VIEW_BITS.items():
        if sum(file.rows for file in committed if VIEW_OF.get(file.view) == view) > np.count_nonzero(parts & bit):
            raise Problem(
                f"view {view} has rows that the row index of {call_date} does not know; put the index files of that "
                "date back from a backup and run this again"
            )
    return index


def in_view(
    files: DataFiles, view: str, tenant: str, call_date: str, record_ids: pa.Array | pa.ChunkedArray
) -> Iterator[Located]:
    """Yield where rows of records of a tenant's date (ISO) lie in the data files of a view, in all its parts."""
    for part in PARTS[view]:
        yield from in_part(files, part, tenant, call_date, record_ids)


def in_part(
    files: DataFiles, part: str, tenant: str, call_date: str, record_ids: pa.Array | pa.ChunkedArray
) -> Iterator[Located]:
    """Yield where rows of records of a tenant's date (ISO) lie in the data files of one part of a view."""
    for file in files.committed(part, tenant, [call_date]) if len(record_ids) else ():
        of_row = places(files, file, record_ids)
        position = np.flatnonzero(of_row >= 0)
        if len(position):
            yield Located(file, position, of_row[position])
