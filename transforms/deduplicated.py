"""What Deduplicate found: rows to write, and what becomes of rows that were committed before."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from callward.lake import ledger
from callward.lake.data_files import DataFiles, inputs_of
from callward.lake.ledger import DataFile
from schemas.cdr import CDR
from schemas.codes import Bucket
from schemas.views import INDEX
from transforms.elements import ViewRows
from transforms.onward import own


@dataclass
class Gone:
    """Rows of a data file that go: their positions, and how many came from each input file."""

    positions: list[np.ndarray] = field(default_factory=list)
    inputs: Counter[int] = field(default_factory=Counter)

    def add(self, positions: np.ndarray, file_no: pa.ChunkedArray) -> None:
        self.positions.append(positions)
        self.inputs.update(inputs_of(file_no))

    @property
    def rows(self) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.int64), *self.positions])


@dataclass
class Deduplicated:
    """Rows to write (schema CDR), repeated ones, versions that lost, rows that became pieces, committed rows that go
    or change, and entries."""

    rows: pa.Table
    duplicates: list[pa.Table] = field(default_factory=list)
    conflicts: pa.Table = field(default_factory=lambda: CDR.empty_table())
    held: pa.Table = field(default_factory=lambda: CDR.empty_table())
    withdrawn: list[pa.Table] = field(default_factory=list)
    gone: dict[DataFile, Gone] = field(default_factory=lambda: defaultdict(Gone))
    # Committed rows of billing and index that go or change: they leave the derived tables.
    left: dict[str, list[pa.Table]] = field(default_factory=lambda: defaultdict(list))
    # Positions and new form of the rows that change in a data file.
    amended: dict[DataFile, tuple[np.ndarray, pa.Table]] = field(default_factory=dict)
    # Committed rows that go over to another part of their view.
    moved: list[ViewRows] = field(default_factory=list)
    entries: list[pa.Table] = field(default_factory=list)
    shares: Counter[tuple[str, str]] = field(default_factory=Counter)  # (source, what a person must look at): calls

    def staying(self, file: DataFile, positions: np.ndarray) -> np.ndarray:
        """Return those of some positions in a data file whose rows do not go."""
        gone = self.gone.get(file)
        return positions if gone is None else positions[~np.isin(positions, gone.rows)]

    def now(
        self, file: DataFile, positions: np.ndarray, files: DataFiles, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Return committed rows, or some columns of them, as they are after what is changed of them already."""
        read = files.rows(file) if columns is None else files.columns(file, columns)
        rows = read.take(pa.array(positions))
        changed, new = self.amended.get(file, (positions[:0], rows))
        if not len(changed):
            return rows
        new = new.select(rows.column_names)
        place = np.minimum(np.searchsorted(changed, positions), len(changed) - 1)
        hit = changed[place] == positions
        both = pa.concat_tables([rows, new.cast(rows.schema)])
        return both.take(pa.array(np.where(hit, rows.num_rows + place, np.arange(rows.num_rows))))

    def change(self, file: DataFile, positions: np.ndarray, rows: pa.Table, files: DataFiles) -> None:
        """Have committed rows changed into others (`positions` in order)."""
        before, earlier_rows = self.amended.get(file, (np.zeros(0, np.int64), rows.slice(0, 0)))
        first = ~np.isin(positions, before)
        if first.any():
            self._leave_tables(file, positions[first], files)
        stays = ~np.isin(before, positions)
        position = np.concatenate([before[stays], positions])
        joined = pa.concat_tables([earlier_rows.filter(pa.array(stays)), rows.cast(earlier_rows.schema)])
        order = np.argsort(position)
        self.amended[file] = (position[order], joined.take(pa.array(order)))

    def leave(self, file: DataFile, positions: np.ndarray, file_no: pa.ChunkedArray, files: DataFiles) -> None:
        """Have committed rows go; `file_no` says of which input file each came."""
        self.gone[file].add(positions, file_no)
        if file in self.amended:
            before, rows = self.amended[file]
            self._leave_tables(file, positions[~np.isin(positions, before)], files)
            stays = ~np.isin(before, positions)
            self.amended[file] = (before[stays], rows.filter(pa.array(stays)))
        else:
            self._leave_tables(file, positions, files)

    def move(self, file: DataFile, rows: pa.Table, file_no: pa.ChunkedArray, part: str) -> None:
        """Have committed rows that leave a file go over, as `rows`, to another part of their view."""
        place = part, file.tenant, file.part, file.shard_bits, file.shard
        inputs = Counter(inputs_of(file_no))
        self.moved.append(ViewRows(*place, rows, inputs, received_on=file.received_on))

    def _leave_tables(self, file: DataFile, positions: np.ndarray, files: DataFiles) -> None:
        """Take committed rows, as they are in the lake, out of the derived tables."""
        if file.view in ("billing", INDEX) and len(positions):
            self.left[file.view].append(files.rows(file).take(pa.array(positions)))

    def repeat(self, records: pa.Table) -> None:
        """Count records that are there already."""
        records = own(records)
        if records.num_rows:
            self.entries += ledger.entries(records, Bucket.DUPLICATE)
            self.duplicates.append(records)
