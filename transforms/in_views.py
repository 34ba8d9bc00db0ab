"""InViews: what the views of a date say of each record, by its id: whether they have a row of it, and what it says."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import flat
from callward.keys import tokens
from callward.lake import row_index
from callward.lake.data_files import DataFiles
from callward.lake.ledger import DataFile
from schemas.cdr import ID
from schemas.views import FOUND_BY, ID_COLUMN, PARTS, SERVICE, UNCHARGED, VIEW_BITS, VIEW_OF, VIEW_PARTS

Mask = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]

_COARSE: Final = ("pdd_ms",)  # of the part `answered`
_OF_CELLS: Final = ("source", "leg")  # where the date is closed: they may be left out of a row
_POOLED: Final = ("trunk_in", "trunk_out")  # a customer's trunk is told by its site
_OF_CHARGE: Final = ("account", "direction", "jurisdiction")
_TOLD: Final = (*SERVICE, "leg", *_OF_CHARGE)
_RECORD: Final = "record_id"
NUMBERED: Final = "numbered"
HELD: Final = "held"


@dataclass(frozen=True)
class InViews:
    """Rows of the data files of a date's views, in no order: `record_id`, and what the index has as well.

    Of billing, with both of its parts, who pays for what, when and how long, the numbers, `numbered` (whether its data
    file still has these) and `held` (whether it is in the part of what is not charged); of each part of assurance what
    it says as finely as the index does.
    """

    rows: dict[str, pa.Table]

    @classmethod
    def of(cls, files: DataFiles, committed: list[DataFile]) -> "InViews":
        """Read them from data files of one tenant's date. A row under a destroyed key is no row."""
        parts = {}
        for part in ("billing", *PARTS["assurance"]):
            of_part = [file for file in committed if file.view in PARTS.get(part, (part,))]
            names = _names(part, closed=any(file.closed for file in of_part))
            nothing = pa.schema([(_RECORD, ID)]).empty_table()
            tables = [nothing, *(_read(files, file, names) for file in of_part)]
            parts[part] = pa.concat_tables(tables, promote_options="default").combine_chunks()
        return cls(parts)

    def place(self, part: str, record_ids: pa.Array) -> pa.Array:
        """Return for each record which row of a part is of it; null where none is."""
        return pc.index_in(record_ids, flat(self.rows[part][_RECORD]))

    def bits(self, record_ids: pa.Array) -> npt.NDArray[np.int16]:
        """Return the sum of VIEW_BITS of the views that have a row of each record."""
        bits = np.zeros(len(record_ids), np.int16)
        for part in self.rows:
            view = VIEW_OF[part]
            bits |= np.where(pc.is_valid(self.place(part, record_ids)), np.int16(VIEW_BITS[view]), np.int16(0))
        return bits

    def held(self, record_ids: pa.Array) -> pa.Array:
        """Return which records have a row of billing that is not charged; null where they have none in billing."""
        billing = self.rows["billing"]
        at = self.place("billing", record_ids)
        return flat(billing[HELD]).take(at) if billing.num_rows else pa.nulls(len(record_ids), pa.bool_())

    def unknown(self, record_ids: pa.Array) -> int:
        """Return how many rows are of none of some records."""
        return sum(
            table.num_rows - (pc.sum(pc.is_in(flat(table[_RECORD]), record_ids)).as_py() or 0)
            for table in self.rows.values()
        )

    def told(self) -> Iterator[tuple[str, pa.Table, list[str]]]:
        """Yield of each part that has rows its name, these, and which columns of the index they say in full."""
        for part, table in self.rows.items():
            if table.num_rows:
                yield part, table, [name for name in table.column_names if name in _TOLD]


def _read(files: DataFiles, file: DataFile, names: list[str]) -> pa.Table:
    secret = row_index.id_secret(files.workspace, file.view, file.tenant, file.part[:7])
    if secret is None:
        return pa.table({_RECORD: pa.array([], ID)})
    names = [name for name in names if file.numbers or name not in FOUND_BY]
    rows = files.columns(file, [ID_COLUMN[file.view], *names])
    record_ids = tokens.unpermute(flat(rows[ID_COLUMN[file.view]]), secret)
    numbered = pa.repeat(file.numbers, rows.num_rows)
    held = pa.repeat(file.view == UNCHARGED, rows.num_rows)
    more = {_RECORD: record_ids, NUMBERED: numbered, HELD: held}
    return pa.table({**{name: rows[name] for name in names}, **more})


def _names(part: str, *, closed: bool) -> list[str]:
    """Return the columns of a part that the index has as finely, and those of billing that tell what is charged."""
    if part == "billing":
        return [*_OF_CHARGE, "answer", "end", "talk_ms", *FOUND_BY]
    without = _POOLED if part == "failed" else (*_POOLED, *_COARSE, *(_OF_CELLS if closed else ()))
    return [name for name in VIEW_PARTS[part].names if name in _TOLD and name not in without]
