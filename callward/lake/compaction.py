"""Compaction: which small data files are put together, and how their rows then lie. Pure; nothing here reads or writes.

Files go into one only where nobody could tell from outside that they did: of one (view, tenant, part) and one shard,
come in on one day, under the same keys, with the same columns. So windows, holds, keys and Deduplicate find
the same.

A file is written anew only together with half as much as it is itself: a large file does not move for a few small ones,
and each row is moved a number of times that grows with the logarithm of the day.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from callward.columns import few, flat, is_absent, nulls, taken, words
from callward.keys import tokens
from callward.lake import row_index
from callward.lake.ledger import DataFile
from schemas.cdr import FEW
from schemas.views import ID_COLUMN, IN_FLIGHT, INDEX, STORED, VIEW_OF

MOST_ROWS: Final = 1_000_000  # of a merged file: they are in memory together, and a column once more
MOST_FILES: Final = 1_000  # that one merged file takes the place of, in one transaction


@dataclass(frozen=True)
class Limits:
    """When files are merged: at least `files` smaller than `bytes` each, into ones of at most `bytes`."""

    bytes: int
    files: int


@dataclass(frozen=True)
class Merge:
    """Data files whose rows one file is to hold."""

    files: tuple[DataFile, ...]

    @property
    def first(self) -> DataFile:
        return self.files[0]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def rows(self) -> int:
        """An archived block counts as one row."""
        return sum(file.rows or 1 for file in self.files)

    def summary(self) -> "MergedFiles":
        """Return what the merge comes to."""
        file = self.first
        return MergedFiles(file.view, file.tenant, file.part, len(self.files), self.rows, self.bytes)


@dataclass(frozen=True)
class MergedFiles:
    """Files of one partition that became one, or would: how many, and their rows and bytes together."""

    view: str
    tenant: str
    part: str
    files: int
    rows: int
    bytes: int


def merges(files: Iterable[DataFile], limits: Limits, leave: Collection[str] = ()) -> Iterator[Merge]:
    """Yield what to put together of data files that count; those whose ids are in `leave` stay as they are."""
    alike: dict[tuple[Any, ...], list[DataFile]] = defaultdict(list)
    for file in files:
        if file.bytes < limits.bytes and file.file_id not in leave:
            alike[_kind(file)].append(file)
    for _, group in sorted(alike.items(), key=lambda found: str(found[0])):
        small = _small(sorted(group, key=lambda file: (file.bytes, file.file_id)), limits.files)
        yield from (Merge(tuple(part)) for part in _filled(small, limits.bytes) if len(part) > 1)


def _kind(file: DataFile) -> tuple[Any, ...]:
    """Return what files must have in common. Shards of another size are left apart: one would be read for all others.

    A sealed log has rows of many days in any case, and says the newest that any came in on.
    """
    received = None if file.view == "suspense" else file.received_on
    shard = file.shard_bits, file.shard
    has = file.key_ids, file.numbers, file.closed, file.parts, file.format_version
    return file.view, file.tenant, file.part, shard, received, *has


def _small(files: Sequence[DataFile], least: int) -> Sequence[DataFile]:
    """Return the smallest of files in order of size, up to one that is more than twice all those before it.

    Nothing when they are fewer than `least`.
    """
    before = 0
    for count, file in enumerate(files):
        if count + 1 >= least and file.bytes > 2 * before:
            return files[:count] if count >= least else []
        before += file.bytes
    return files if len(files) >= least else []


def _filled(files: Sequence[DataFile], most_bytes: int) -> Iterator[list[DataFile]]:
    """Yield parts of files in turn that are not larger than a merged file may be."""
    part: list[DataFile] = []
    size = rows = 0
    for file in files:
        if part and (size + file.bytes > most_bytes or rows + file.rows > MOST_ROWS or len(part) >= MOST_FILES):
            yield part
            part, size, rows = [], 0, 0
        part.append(file)
        size, rows = size + file.bytes, rows + file.rows
    if part:
        yield part


def together(view: str, tables: Iterable[pa.Table]) -> pa.Table:
    """Return the rows of data files of a view in one table: of billing by (start, id), of the index by record, of the
    assurance parts by id.

    Ids are as good as drawn: what had come in side by side does not lie side by side, so nobody can lay two views, or
    two parts, next to each other and count. Rows are held once, and a column more: each leaves as it is put in order.
    """
    rows = pa.concat_tables(
        [_in_flight(view, table) for table in tables], promote_options="default"
    ).unify_dictionaries()
    order = pa.array(_order(view, rows))
    columns = {name: rows[name] for name in STORED[view].names if name in rows.column_names}
    schema = pa.schema([rows.schema.field(name) for name in columns])
    del rows
    in_order = {name: taken(columns.pop(name), order) for name in schema.names}
    return pa.table(in_order, schema=schema)


def _in_flight(view: str, rows: pa.Table) -> pa.Table:
    """Return rows of a data file with each text as FEW, and in no memory what none of them has."""
    schema = pa.schema([IN_FLIGHT[view].field(name) for name in rows.column_names])
    columns = [
        nulls(rows.num_rows, field.type)
        if is_absent(rows[field.name])
        else few(rows[field.name])
        if field.type == FEW
        else rows[field.name]
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _order(view: str, rows: pa.Table) -> np.ndarray:
    if view == INDEX:
        return row_index.index_order(rows["record_id"], rows["state"])
    ids = tokens.as_u64(flat(rows[ID_COLUMN[view]]))
    by = (words(rows["start"]).view(np.int64),) if VIEW_OF.get(view) == "billing" else ()
    return np.lexsort((ids[:, 1], ids[:, 0], *by))
