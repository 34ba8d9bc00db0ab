"""The manifest against the registers beside it: rows of a data file that it does not name are hidden in silence."""

from typing import NamedTuple

from sqlalchemy import Connection, func, select

from schemas.retention import lake_file_inputs
from schemas.tables import lake_files


class Unnamed(NamedTuple):
    """A data file that rows are counted in and that the manifest does not name."""

    file_id: str
    rows: int

    def __str__(self) -> str:
        return f"the manifest does not name data file {self.file_id}, in which {self.rows:,} records are counted"


def unnamed(connection: Connection) -> list[Unnamed]:
    """Return the data files whose row of the manifest is gone. No command removes one, also where the file goes."""
    i, f = lake_file_inputs.c, lake_files.c
    counted = select(i.file_id, func.sum(i.rows)).join(lake_files, f.file_id == i.file_id, isouter=True)
    gone = connection.execute(counted.where(f.file_id.is_(None)).group_by(i.file_id).order_by(i.file_id))
    return [Unnamed(file_id, int(rows)) for file_id, rows in gone]
