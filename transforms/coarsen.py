"""Coarsen: attempts of calls that were answered → the part `answered`, in whatever order the records of a call come.

The row index says of them that they are routes of such a call.

Billing has the moment of such a call: an attempt of it, told to the minute, would give it away. Whether a call was
answered is asked of all that is known of its records: in the group, and in the index, also of versions that were set
aside. What was once answered stays so. A record that is known as its own call has no other attempt.
"""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import flat, has_value, set_column
from callward.keys import tokens
from callward.lake import row_index
from callward.lake.data_files import DataFiles
from callward.lake.ledger import DataFile
from schemas.codes import Bucket
from schemas.views import UNANSWERED
from transforms.calls_found import CallsFound, several
from transforms.deduplicated import Deduplicated
from transforms.elements import Group
from transforms.split import by_the_hour

_NONE: Final = np.zeros(0, np.uint64)


def coarsen(deduplicated: Deduplicated, group: Group, files: DataFiles, found: CallsFound) -> np.ndarray:
    """Have attempts of calls that are answered now go over to the part `answered`; the index has them as routes.

    Return the calls that others than the rows themselves say were answered (uint64 [n], half of their ids).
    """
    versions = deduplicated.held, deduplicated.conflicts, *deduplicated.duplicates  # they have no row, and say it too
    known = [_NONE, *map(_answered_calls, versions)]
    answered = np.concatenate([_answered_calls(deduplicated.rows), *known]) if found.places else _NONE
    for file, position, call in found.places:
        stays = np.isin(position, deduplicated.staying(file, position))
        position, call = position[stays], call[stays]
        there = files.columns(file, ("kind", "state", "parts")).take(pa.array(position))
        known.append(call[_mask(pc.invert(has_value(there["kind"], "piece", *UNANSWERED)))])
        failed = pc.and_(has_value(there["kind"], "failed"), has_value(there["state"], Bucket.ACCEPTED))
        moves = np.sort(position[_mask(failed) & np.isin(call, answered)])
        if len(moves):
            attempts = _as_routes(file, moves, deduplicated, files)
            _move(file, attempts, deduplicated, group, files)
    return np.concatenate(known)


def _answered_calls(records: pa.Table) -> np.ndarray:
    """Return the calls that some of these records say were answered; of those that may have several records."""
    answered = several(records) & _mask(has_value(records["disposition"], "answered"))
    return tokens.as_u64(records["call_id"])[answered, 0]


def _as_routes(home: DataFile, position: np.ndarray, deduplicated: Deduplicated, files: DataFiles) -> pa.Table:
    """Have an index file say of failed attempts (positions in order) that their call was answered; return its rows."""
    attempts = deduplicated.now(home, position, files)
    kind = pa.repeat("route", attempts.num_rows).cast(attempts.schema.field("kind").type)
    routes = set_column(attempts, "kind", kind)
    deduplicated.change(home, position, routes, files)
    return routes


def _move(home: DataFile, attempts: pa.Table, deduplicated: Deduplicated, group: Group, files: DataFiles) -> None:
    """Have attempts (rows of an index file) go over from the part `failed` to `answered`."""
    attempts = attempts.filter(row_index.of_view(attempts, "assurance"))
    if home.part in group.without_assurance or not attempts.num_rows:
        return
    key = row_index.id_key("answered", home.tenant, home.part[:7])
    secret = files.workspace.keyring.key(key).secret
    for located in row_index.in_part(files, "failed", home.tenant, home.part, attempts["record_id"]):
        few = attempts.take(pa.array(located.asked))
        deduplicated.leave(located.file, located.position, few["file_no"], files)
        rows = by_the_hour(few, secret, files.workspace.sites)
        deduplicated.move(located.file, rows, few["file_no"], "answered")


def _mask(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    return np.asarray(flat(column).to_numpy(zero_copy_only=False), bool)
