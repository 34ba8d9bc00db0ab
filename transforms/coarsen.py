"""Coarsen: attempts of calls that were answered → the part `answered`, in whatever order the records of a call come.

Billing has the moment of such a call: an attempt of it, told to the minute, would give it away. Whether a call was
answered is asked of all that is known of its records: in the group, and in the index, also of versions that were set
aside or repeated there. What was once answered stays so. A record that is known as its own call has no other attempt.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward import database
from callward.columns import flat, has_value
from callward.keys import tokens
from callward.lake import ledger, row_index
from callward.lake.data_files import DataFiles, inputs_of
from callward.lake.ledger import DataFile
from schemas.views import INDEX, ROW_INDEX
from transforms.elements import Group, ViewRows
from transforms.split import by_the_hour

_DAY: Final = timedelta(days=1)
_NONE: Final = np.zeros(0, np.uint64)
_FROM_INDEX: Final = tuple(name for name in ROW_INDEX.names if not name.endswith("_token"))


class Changing(Protocol):
    """What a commit takes out of data files, and what it changes in them (transforms.deduplicate.Deduplicated)."""

    gone: Any  # dict[DataFile, Gone]

    @property
    def amended(self) -> Mapping[DataFile, tuple[np.ndarray, pa.Table]]:
        """Return positions and new form of the rows that change in a data file."""


@dataclass
class Coarsened:
    """Calls that others than the rows themselves say were answered (uint64 [n], half of their ids), attempts committed
    before that go over to the part `answered`, and what was looked at: versions of partitions, ids of data files."""

    answered: np.ndarray = field(default_factory=lambda: _NONE)
    moved: list[ViewRows] = field(default_factory=list)
    read: dict[tuple[str, str], int] = field(default_factory=dict)
    compared: set[str] = field(default_factory=set)


def coarsen(
    rows: pa.Table, versions: Sequence[pa.Table], changing: Changing, group: Group, files: DataFiles
) -> Coarsened:
    """Take attempts of calls that are answered now out of the part `failed`.

    `rows`: what is new of the group; `versions`: what came of records and has no row (schema CDR).
    """
    if files.workspace.settings.tenants[group.tenant].billing.rows == "attempts":
        return Coarsened()  # no attempt is told by the minute
    legs = [_of_calls(table) for table in (rows, *versions)]
    calls = np.concatenate([tokens.as_u64(flat(few["call_id"])) for few in legs])
    if not len(calls):
        return Coarsened()
    known = [_answered_calls(few) for few in legs]
    answered, moved = np.concatenate(known), list[ViewRows]()
    committed, read = _index_files(legs, group, files)
    for file, position in row_index.of_calls(files, committed, calls):
        position = _stays(position, file, changing)
        there = files.columns(file, ("call_id", "kind", "state", "parts")).take(pa.array(position))
        call = tokens.as_u64(flat(there["call_id"]))[:, 0]
        known.append(call[_mask(has_value(there["kind"], "call", "leg"))])
        moves = _mask(pc.and_(has_value(there["kind"], "failed"), row_index.of_view(there, "assurance")))
        moves &= np.isin(call, answered)
        if moves.any():
            moved += _moved(file, position[moves], changing, group, files)
    return Coarsened(np.concatenate(known[1:]), moved, read, {file.file_id for file in committed})


def _of_calls(records: pa.Table) -> pa.Table:
    """Return the records that are known as another call than themselves: it may have several."""
    call, record = (tokens.as_u64(flat(records[name])) for name in ("call_id", "record_id"))
    return records.select(["call_id", "call_date", "disposition"]).filter(pa.array((call != record).any(axis=1)))


def _answered_calls(legs: pa.Table) -> np.ndarray:
    return tokens.as_u64(flat(legs["call_id"]))[_mask(has_value(legs["disposition"], "answered")), 0]


def _index_files(
    legs: Sequence[pa.Table], group: Group, files: DataFiles
) -> tuple[list[DataFile], dict[tuple[str, str], int]]:
    """Return files of the index that may have other attempts, of a day before to a day after; and the versions read."""
    days = {day for few in legs for day in few["call_date"].unique().to_pylist()}
    parts = sorted({(day + by * _DAY).isoformat() for day in days for by in (-1, 0, 1)})
    with database.reading(files.workspace.settings) as connection:
        read = ledger.versions(connection, group.tenant, parts)
        committed = ledger.files(connection, view=INDEX, tenant=group.tenant, parts=parts)
    return [file for file in committed if file.overlaps(group.bits, group.shard)], read


def _stays(position: np.ndarray, file: DataFile, changing: Changing) -> np.ndarray:
    gone = changing.gone.get(file)
    return position if gone is None else position[~np.isin(position, gone.rows)]


def _moved(
    home: DataFile, position: np.ndarray, changing: Changing, group: Group, files: DataFiles
) -> Iterator[ViewRows]:
    """Take attempts (rows of an index file) out of the part `failed`; yield what they become in `answered`."""
    if home.part in group.without_assurance:
        return
    attempts = _as_changed(home, position, changing, files)
    key = row_index.id_key("answered", home.tenant, home.part[:7])
    for located in row_index.in_part(files, "failed", home.tenant, home.part, attempts["record_id"]):
        few = attempts.take(pa.array(located.asked))
        changing.gone[located.file].add(located.position, few["file_no"])
        rows, inputs = by_the_hour(few, files.workspace.keyring.key(key).secret), Counter(inputs_of(few["file_no"]))
        file = located.file
        place = home.tenant, home.part, file.shard_bits, file.shard
        yield ViewRows("answered", *place, rows, inputs, received_on=file.received_on)


def _as_changed(file: DataFile, position: np.ndarray, changing: Changing, files: DataFiles) -> pa.Table:
    """Return rows of an index file as they are after what the commit changes of them."""
    rows = files.columns(file, _FROM_INDEX).take(pa.array(position))
    changed, new = changing.amended.get(file, (np.zeros(0, np.int64), rows.slice(0, 0)))
    if not len(changed):
        return rows
    order = np.argsort(changed)
    at = order[np.minimum(np.searchsorted(changed[order], position), len(changed) - 1)]
    both = pa.concat_tables([rows, new.select(_FROM_INDEX).cast(rows.schema)])
    return both.take(pa.array(np.where(changed[at] == position, len(position) + at, np.arange(len(position)))))


def _mask(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    return np.asarray(flat(column).to_numpy(zero_copy_only=False), bool)
