"""What the row index says of the rows of a view's data file: of which record each is, and which of them a hold keeps.

A date has several data files, of several views: what was read of the index stays until another shard or date is asked
for. A row that the index does not know, or an index that cannot be read, stops whoever asks: nothing goes by guess.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa

from callward.columns import flat, has_value
from callward.errors import Problem
from callward.keys import tokens
from callward.lake import row_index
from callward.lake.data_files import DataFiles
from callward.lake.ledger import DataFile
from callward.lake.row_index import Mask, Positions
from callward.retention import holds
from callward.retention.holds import Hold, MonthSecrets
from schemas.codes import Bucket
from schemas.views import INDEX


@dataclass(frozen=True)
class Indexed:
    """Rows of the index, and for each row of a view's data file which of them is its (`place`, shape [rows])."""

    file: DataFile
    tables: Sequence[pa.Table]
    place: Positions

    def matched(self, hold: Hold, secrets: MonthSecrets) -> Mask:
        """Return the rows of the view's data file that a hold keeps (bool, shape [rows]).

        Where the index has the columns no more that a hold is matched by, all are kept.
        """
        day = date.fromisoformat(self.file.part)
        masks = [holds.matching(INDEX, rows, self.file.tenant, day, [hold], secrets) for rows in self.tables]
        kept = np.concatenate([mask.to_numpy(zero_copy_only=False) for mask in masks])
        return np.asarray(kept[self.place], np.bool_)

    def is_blind(self, hold: Hold) -> bool:
        """Return whether a column that a hold is matched by has left the index, so that it keeps all of its dates."""
        names, ends = holds.columns(INDEX, [hold]), np.cumsum([rows.num_rows for rows in self.tables])
        asked = (self.tables[number] for number in np.unique(np.searchsorted(ends, self.place, side="right")))
        return not all(set(names) <= set(rows.column_names) for rows in asked)

    def file_no(self) -> pa.Array:
        """Return the input file that each row of the view's data file came in (int64, shape [rows])."""
        return flat(_joined(self.tables, "file_no", pa.int64())).take(pa.array(self.place))


class IndexRows:
    """Reads what the index knows of view files, one after the other."""

    def __init__(self, files: DataFiles) -> None:
        self._files = files
        self._tables: dict[tuple[str, ...], pa.Table] = {}

    def of(self, file: DataFile, covering: Sequence[Hold]) -> Indexed:
        """Return what the index knows of a view's data file, with the columns that these holds are matched by.

        Raises Problem for an index file that is missing or altered, and for rows that the index does not know.
        """
        names = holds.columns(INDEX, covering)
        committed = self._files.committed(INDEX, file.tenant, [file.part])
        wanted = [index for index in committed if index.parts and index.overlaps(file.shard_bits, file.shard)]
        before, self._tables = self._tables, {}
        for index in wanted:
            key = (index.file_id, *names)
            self._tables[key] = before[key] if key in before else self._read(index, names)
        tables = list(self._tables.values())
        place = row_index.places(self._files, file, _joined(tables, "record_id", tokens.ID_TYPE))
        if (place < 0).any():
            raise Problem(
                f"data file {file.file_id} has rows that the row index of {file.part} does not know; nothing was "
                "purged: put the index files of that date back from a backup and run this again"
            )
        return Indexed(file, tables, place)

    def _read(self, index: DataFile, names: Sequence[str]) -> pa.Table:
        """Return rows of the index that have a row in a view, with those of the columns that it still has."""
        has = [name for name in names if row_index.has(index, name)]
        with row_index.reading(index):
            rows = self._files.columns(index, ["state", "record_id", "file_no", *has])
        return rows.filter(has_value(rows["state"], Bucket.ACCEPTED))


def _joined(tables: Sequence[pa.Table], name: str, kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([chunk for rows in tables for chunk in rows[name].chunks], kind)
