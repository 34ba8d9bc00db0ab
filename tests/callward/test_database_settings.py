"""[database] of callward.toml: read strictly, and what is refused is not repeated, as it may be a password."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from callward.database import describe
from callward.errors import UsageProblem
from callward.settings import Database, Settings, load
from tests.examples import tries


def _settings(**database: object) -> Settings:
    return Settings(path=Path("/srv/callward/callward.toml"), database=Database(**database))


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ('url = "mysql://root@db/hush"', "that is no database callward knows: write sqlite:///FILE, or postgresql://"),
        ('url = "postgres://u@db/hush"', "that is no database callward knows"),
        ('url = "postgresql+psycopg://u@db/hush"', "that is no database callward knows"),
        ('url = "callward.db"', "that is no database callward knows"),
        ('url = "sqlite:///"', "a file of SQLite is written sqlite:///FILE"),
        ('url = "sqlite:///:memory:"', "a file of SQLite is written sqlite:///FILE"),
        ('url = "sqlite:///x.db?timeout=1"', "a file of SQLite is written sqlite:///FILE, without options"),
        ('url = "postgresql://u:hush@db/name"', "a password does not belong in the url"),
        ('url = "postgresql://u:hush@hush@db/name"', "a password does not belong in the url"),
        ('url = "postgresql://u@hush@db/name"', "a password does not belong in the url"),
        ('url = "postgresql://u@db/name?sslmode=require"', "options do not belong in the url: TLS is on and verified"),
        ('url = "postgresql://u@db/name?password=hush"', "options do not belong in the url"),
        ('url = "postgresql://u@/name?host=/run&sslmode=disable"', "that is no URL of a database"),
        ('url = "postgresql://db/name"', "that is no URL of a database"),
        ('url = "postgresql://u@db"', "that is no URL of a database"),
        ('url = "postgresql://u@db:99999/name"', "a port is a number from 1 to 65535"),
        ('url = "postgresql://u@db/name?host=/run"', "write one place"),
        ('url = "postgresql://u@/name"', "write one place"),
        ('url = "postgresql://u@db/name"\ntls = "off"', 'tls = "off" is for a server on this machine'),
        ('url = "postgresql://u@localhost/name"\ntls = "off"\nca_file = "x"', "ca_file means nothing with tls"),
        ('url = "postgresql://u@/name?host=/run"\nca_file = "x"', "ca_file means nothing for a socket"),
        ('url = "postgresql://u@db/name"\ntls = "prefer"', "database.tls"),
        ('url = "postgresql://u@db/name"\npassword = "hush"', "a secret is never written here"),
        ('password = "env:HUSH"', "password means nothing for a file of SQLite"),
        ('tls = "off"', "tls means nothing for a file of SQLite"),
        ("patience_seconds = 0", "database.patience_seconds"),
    ],
)
def test_what_is_wrong_is_said_and_not_repeated(tmp_path: Path, lines: str, told: str) -> None:
    path = tmp_path / "callward.toml"
    path.write_text(f"[database]\n{lines}", encoding="utf-8")
    with pytest.raises(UsageProblem) as wrong:
        load(path)
    assert told in str(wrong.value)
    assert "hush" not in str(wrong.value).lower()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///callward.db", "/srv/callward/callward.db"),
        ("sqlite:////var/lib/x%20y.db", "/var/lib/x%20y.db"),
        ("postgresql://clerk@db.example/cdr", "cdr on db.example:5432"),
        ("postgresql+pg8000://cl%40erk@[2001:db8::1]:5433/cdr", "cdr on [2001:db8::1]:5433"),
        ("postgresql://clerk@/cdr?host=/run/postgresql", "cdr on the server in /run/postgresql"),
    ],
)
def test_a_database_is_shown_without_who_asks(url: str, shown: str) -> None:
    assert describe(_settings(url=url)) == shown


@tries(200)
@given(st.text(st.sampled_from("hush:@/?#[]%&=+. 0é"), max_size=30))
def test_a_url_is_read_or_refused_whole_and_never_repeated(rest: str) -> None:
    try:
        server = Database(url=f"postgresql://u:hush{rest}").server
    except ValidationError as refused:
        assert all("hush" not in error["msg"] for error in refused.errors())
    else:
        raise AssertionError(f"a password was taken for {server}")
