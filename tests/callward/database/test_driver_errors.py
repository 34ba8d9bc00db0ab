"""What SQLite refuses is one sentence by its code, which quotes neither a statement nor a row."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from callward import database

NUMBER = "7195550178"


@pytest.fixture
def site(workspace: Callable[..., Any]) -> Any:
    """A workspace whose database nobody has open."""
    made = workspace("generic")
    database.engine(made.settings).dispose()
    return made


def _refused(site: Any, statement: str = "SELECT count(*) FROM runs") -> str:
    with pytest.raises(database.DatabaseAway) as refused, database.writing(site.settings) as connection:
        connection.execute(text(statement))
    said = f"{refused.value}; {refused.value.hint}"
    assert NUMBER not in said and "SELECT" not in said
    return said


def test_a_statement_that_is_refused_is_not_quoted(site: Any) -> None:
    with database.writing(site.settings) as connection:
        connection.execute(text("CREATE TABLE held (number TEXT PRIMARY KEY)"))
        connection.execute(text(f"INSERT INTO held VALUES ('{NUMBER}')"))
    assert "a row contradicts another one" in _refused(site, f"INSERT INTO held VALUES ('{NUMBER}')")
    assert "a table is missing; callward init --upgrade" in _refused(site, f"SELECT * FROM gone{NUMBER}")
    assert "a column is missing" in _refused(site, f"SELECT gone{NUMBER} FROM held")
    assert "the error SQLITE_ERROR" in _refused(site, f"SELECT '{NUMBER}' FRM runs WHERE")


def test_a_file_that_is_no_database_is_named(site: Any) -> None:
    for file in site.folder.glob("callward.db*"):
        file.unlink()
    site.settings.database_file.write_bytes(NUMBER.encode() * 999)
    said = _refused(site)
    assert str(site.settings.database_file) in said and "the file is no database; restore it" in said


def test_a_damaged_file_is_to_be_restored(site: Any) -> None:
    file = site.settings.database_file
    with open(file, "r+b") as pages:
        pages.seek(4096)
        pages.write(os.urandom(os.path.getsize(file) - 4096))
    assert "the file is damaged; restore the database" in _refused(site, "SELECT * FROM audit_log ORDER BY hash")
