"""named_files: which input file a person means: by its number, by the id beside its masked name, or by its name."""

from typing import Any, Final

from sqlalchemy import Connection, func, select

from callward.errors import Problem
from callward.ingest.landing import FILE_ID
from callward.lake.data_files import DataFiles
from callward.redaction import mask
from pipelines import intake
from schemas.tables import input_files

DONE: Final = ("committed", "removed")  # of input_files.status: a night is through with it
WITHDRAWN: Final = "withdrawn"  # it was backed out


def named_file(connection: Connection, files: DataFiles, name: str) -> Any:
    """Return the row of input_files of a number, an id, or a name below the landing folder.

    Of several with one name the one that was taken in, else the last that was backed out. Raises Problem for none,
    and for several.
    """
    rows = _rows(connection, files, name)
    taken = [row for row in rows if row.status in DONE]
    rows = taken or [row for row in rows if row.status == WITHDRAWN][-1:] or rows
    if not rows:
        raise Problem(
            f"no file {mask(name)} came in; 'callward suspense list --files' and each night's report say the numbers"
        )
    if len(rows) > 1:
        numbers = ", ".join(str(row.file_no) for row in rows)
        raise Problem(f"{mask(name)} came in several times, as files {numbers}: name one of them by its number")
    return rows[0]


def _rows(connection: Connection, files: DataFiles, name: str) -> list[Any]:
    f = input_files.c
    if name.isdecimal():
        where = f.file_no == int(name) if len(name) < 12 else f.file_no < 0
    elif len(name) == FILE_ID and name.isalpha():
        where = func.substr(f.name_id, 1, FILE_ID) == name
    else:
        where = f.name_id == intake.name_id(files, name)
    return list(connection.execute(select(input_files).where(where).order_by(f.file_no)).all())
