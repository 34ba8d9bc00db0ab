"""CallsFound: where the lake has records of a group's calls. They are looked for once, for whoever needs them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import numpy as np
import pyarrow as pa

from callward import database
from callward.keys import tokens
from callward.lake import ledger, row_index
from callward.lake.data_files import DataFiles
from callward.lake.ledger import DataFile
from callward.lake.row_index import CallsAt
from schemas.views import INDEX
from transforms.elements import Group

_DAY: Final = timedelta(days=1)


@dataclass
class CallsFound:
    """Records of calls in data files of the index, and what was looked at: versions of partitions, ids of files."""

    places: list[CallsAt] = field(default_factory=list)
    read: dict[tuple[str, str], int] = field(default_factory=dict)
    compared: set[str] = field(default_factory=set)

    def of(self, records: Sequence[pa.Table]) -> Iterator[tuple[DataFile, np.ndarray]]:
        """Yield the data files, and the positions in them, of records of the same calls as some (schema CDR)."""
        if not self.places:
            return
        calls = np.concatenate([tokens.as_u64(table["call_id"])[:, 0] for table in records])
        for file, position, call in self.places:
            found = position[np.isin(call, calls)]
            if len(found):
                yield file, found


def several(records: pa.Table) -> np.ndarray:
    """Return which records (schema CDR) are known as another call than themselves: it may have several (shape [n])."""
    call, record = (tokens.as_u64(records[name]) for name in ("call_id", "record_id"))
    return np.asarray((call != record).any(axis=1))


def find_calls(records: Sequence[pa.Table], group: Group, files: DataFiles) -> CallsFound:
    """Look for records of the same calls as a group's: on the day before, the day itself, and the day after."""
    records = [table for table in records if table.num_rows]
    masks = [several(table) for table in records]
    if not any(mask.any() for mask in masks):
        return CallsFound()
    days = {day for table in records for day in table["call_date"].unique().to_pylist()}
    parts = sorted({(day + by * _DAY).isoformat() for day in days for by in (-1, 0, 1)})
    with database.reading(files.workspace.settings) as connection:
        found = CallsFound(read=ledger.versions(connection, group.tenant, parts))
        committed = files.counting(connection, view=INDEX, tenant=group.tenant, parts=parts)
    committed = [file for file in committed if file.overlaps(group.bits, group.shard)]
    if committed:
        ids = zip(records, masks, strict=True)
        calls = np.concatenate([tokens.as_u64(table["call_id"])[mask] for table, mask in ids])
        found.places = list(row_index.of_calls(files, committed, calls))
        found.compared = {file.file_id for file in committed}
    return found
