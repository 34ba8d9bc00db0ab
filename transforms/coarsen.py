"""Coarsen: attempts of calls that were answered → the part `answered`, in whatever order the records of a call come.

Billing has the moment of such a call: an attempt of it, told to the minute, would give it away. Whether a call was
answered is asked of all that is known of its records: in the group, and in the index, also of versions that were set
aside. What was once answered stays so. A record that is known as its own call has no other attempt.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import flat, has_value
from callward.keys import tokens
from callward.lake import row_index
from callward.lake.data_files import DataFiles, inputs_of
from callward.lake.ledger import DataFile
from transforms.deduplicated import Deduplicated
from transforms.elements import Group, ViewRows
from transforms.legs import index_files
from transforms.split import by_the_hour

_NONE: Final = np.zeros(0, np.uint64)


@dataclass
class Coarsened:
    """Calls that others than the rows themselves say were answered (uint64 [n], half of their ids), attempts committed
    before that go over to the part `answered`, and what was looked at: versions of partitions, ids of data files."""

    answered: np.ndarray = field(default_factory=lambda: _NONE)
    moved: list[ViewRows] = field(default_factory=list)
    read: dict[tuple[str, str], int] = field(default_factory=dict)
    compared: set[str] = field(default_factory=set)


def coarsen(deduplicated: Deduplicated, group: Group, files: DataFiles) -> Coarsened:
    """Take attempts of calls that are answered now out of the part `failed`."""
    if files.workspace.settings.tenants[group.tenant].billing.rows == "attempts":
        return Coarsened()  # no attempt is told by the minute
    versions = deduplicated.held, deduplicated.conflicts, *deduplicated.duplicates  # they have no row, and say it too
    legs = [_of_calls(table) for table in (deduplicated.rows, *versions)]
    calls = np.concatenate([tokens.as_u64(flat(few["call_id"])) for few in legs])
    if not len(calls):
        return Coarsened()
    known = [_answered_calls(few) for few in legs]
    answered, moved = np.concatenate(known), list[ViewRows]()
    committed, read = index_files(legs, group, files)
    for file, position in row_index.of_calls(files, committed, calls):
        position = deduplicated.staying(file, position)
        there = files.columns(file, ("call_id", "kind", "state", "parts")).take(pa.array(position))
        call = tokens.as_u64(flat(there["call_id"]))[:, 0]
        known.append(call[_mask(has_value(there["kind"], "call", "leg", "second"))])
        moves = _mask(pc.and_(has_value(there["kind"], "failed"), row_index.of_view(there, "assurance")))
        moves &= np.isin(call, answered)
        if moves.any():
            moved += _moved(file, position[moves], deduplicated, group, files)
    return Coarsened(np.concatenate(known[1:]), moved, read, {file.file_id for file in committed})


def _of_calls(records: pa.Table) -> pa.Table:
    """Return the records that are known as another call than themselves: it may have several."""
    call, record = (tokens.as_u64(flat(records[name])) for name in ("call_id", "record_id"))
    return records.select(["call_id", "call_date", "disposition"]).filter(pa.array((call != record).any(axis=1)))


def _answered_calls(legs: pa.Table) -> np.ndarray:
    return tokens.as_u64(flat(legs["call_id"]))[_mask(has_value(legs["disposition"], "answered")), 0]


def _moved(
    home: DataFile, position: np.ndarray, deduplicated: Deduplicated, group: Group, files: DataFiles
) -> Iterator[ViewRows]:
    """Take attempts (rows of an index file) out of the part `failed`; yield what they become in `answered`."""
    if home.part in group.without_assurance:
        return
    attempts = deduplicated.now(home, np.sort(position), files)
    key = row_index.id_key("answered", home.tenant, home.part[:7])
    for located in row_index.in_part(files, "failed", home.tenant, home.part, attempts["record_id"]):
        few = attempts.take(pa.array(located.asked))
        deduplicated.leave(located.file, located.position, few["file_no"], files)
        rows, inputs = by_the_hour(few, files.workspace.keyring.key(key).secret), Counter(inputs_of(few["file_no"]))
        file = located.file
        place = home.tenant, home.part, file.shard_bits, file.shard
        yield ViewRows("answered", *place, rows, inputs, received_on=file.received_on)


def _mask(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    return np.asarray(flat(column).to_numpy(zero_copy_only=False), bool)
