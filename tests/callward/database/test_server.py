"""What a connection to PostgreSQL keeps: TLS or nothing, no server's or role's settings in the answers."""

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from callward import audit, database
from callward.database import server as connections
from callward.errors import Problem, UsageProblem
from callward.settings import Database, Settings
from tests.postgresql import PostgresqlServer, own_server

_PASSWORD = "S3cret@tail:/?#"
Fake = Callable[[socket.socket], None]


@pytest.fixture(scope="module")
def own() -> Iterator[PostgresqlServer]:
    """A server whose certificate is of localhost, with a user who has a password."""
    with own_server() as server:
        words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=server"
        subprocess.run(
            ["openssl", *words.split(), "-addext", "subjectAltName=DNS:localhost", "-keyout", "key", "-out", "crt"],
            cwd=server.folder, check=True, capture_output=True,
        )  # fmt: skip
        for name in ("key", "crt"):
            server.put(f"server.{name}", (server.folder / name).read_text())
        _run(server, "CREATE ROLE clerk LOGIN PASSWORD 'S3cret@tail:/?#'")
        rules = ("hostssl all clerk 127.0.0.1/32 scram-sha-256", "host all callward 127.0.0.1/32 trust")
        server.put("pg_hba.conf", "\n".join((*rules, "local all all trust\n")))
        server.stop()
        server.start("ssl=on")
        yield server


def _run(server: PostgresqlServer, *statements: str) -> None:
    with create_engine(server.url, isolation_level="AUTOCOMMIT").connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def _settings(folder: Path, url: str, **more: Any) -> Settings:
    return Settings(path=folder / "callward.toml", database=Database(url=url, **more))


def _clerk(server: PostgresqlServer, folder: Path, **more: Any) -> Settings:
    url = f"postgresql://clerk@localhost:{server.port}/postgres"
    return _settings(folder, url, **{"ca_file": str(server.folder / "crt"), "password": "env:CLERK", **more})


def _asked(settings: Settings, question: str) -> Any:
    with database.reading(settings) as connection:
        return connection.execute(text(question)).scalar()


def _sentence(settings: Settings) -> str:
    """Return what a connection is refused with, sentence and hint."""
    with pytest.raises(Problem) as refused:
        connections.connect(settings)
    return f"{refused.value}; {refused.value.hint}"


def test_a_server_is_spoken_to_over_tls_with_a_password_that_stands_elsewhere(
    own: PostgresqlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLERK", _PASSWORD)
    assert _asked(_clerk(own, tmp_path), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") is True
    held = tmp_path / "password"
    held.write_text(f"{_PASSWORD}\n")
    held.chmod(0o600)
    assert _asked(_clerk(own, tmp_path, password=f"file:{held}"), "SELECT 1") == 1


def test_a_server_that_does_not_prove_its_name_gets_nothing(
    own: PostgresqlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLERK", _PASSWORD)
    assert "does not prove its name (self-signed certificate)" in _sentence(_clerk(own, tmp_path, ca_file=None))
    by_address = _clerk(own, tmp_path).database.url.replace("localhost", "127.0.0.1")
    there = _settings(tmp_path, by_address, ca_file=str(own.folder / "crt"))
    assert "does not prove its name (IP address mismatch" in _sentence(there)
    with pytest.raises(UsageProblem, match=r"database.ca_file: .*: No such file"):
        connections.connect(_clerk(own, tmp_path, ca_file="gone.pem"))


def test_a_wrong_or_missing_password_is_one_sentence_that_holds_none(
    own: PostgresqlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageProblem, match="the environment variable CLERK is empty or not there"):
        connections.connect(_clerk(own, tmp_path))
    monkeypatch.setenv("CLERK", "wrong@tail")
    for settings in (_clerk(own, tmp_path), _clerk(own, tmp_path, password=None)):
        said = _sentence(settings)
        assert "the server refuses the user or the password" in said
        assert not {"wrong", "tail", "clerk"} & set(said.replace("@", " ").split())
    absent = _settings(tmp_path, f"postgresql://callward@localhost:{own.port}/absent", tls="off")
    assert "the server has no database of that name" in _sentence(absent)


def test_there_is_no_way_back_to_clear_text(own: PostgresqlServer, tmp_path: Path) -> None:
    """A real server with its TLS off, and one that answers no and listens on: nothing more is sent."""
    own.stop()
    own.start("ssl=off")
    said = _sentence(_clerk(own, tmp_path, password=None))
    own.stop()
    own.start("ssl=on")
    assert "does not speak TLS, and nothing was sent to it" in said and 'tls = "off"' in said
    heard: list[bytes] = []

    def refuse(link: socket.socket) -> None:
        heard.append(link.recv(99))
        link.sendall(b"N")
        link.settimeout(5)
        heard.append(link.recv(99))

    with _fake(refuse) as port:
        said = _sentence(_settings(tmp_path, f"postgresql://clerk@localhost:{port}/name"))
    assert "does not speak TLS" in said
    assert heard == [b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b""]


@pytest.mark.parametrize("answer", [b"", b"E", b"HTTP/1.1 400", b"S", b"Sgarbage that is no TLS"])
def test_what_is_no_server_is_one_sentence(answer: bytes, tmp_path: Path) -> None:
    def speak(link: socket.socket) -> None:
        link.recv(99)
        link.sendall(answer)

    with _fake(speak) as port:
        said = _sentence(_settings(tmp_path, f"postgresql://clerk@localhost:{port}/name"))
        assert "speaks no PostgreSQL" in said or "does not go through with it" in said
        clear = _sentence(_settings(tmp_path, f"postgresql://clerk@localhost:{port}/name", tls="off"))
        assert "speaks no PostgreSQL" in clear or "connection to the server was lost" in clear


@contextmanager
def _fake(speak: Fake) -> Iterator[int]:
    """Yield the port of a server that does so to each who comes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    link, _ = listening.accept()
                except OSError:
                    return
                with link:
                    speak(link)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def test_a_server_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    said = _sentence(_settings(tmp_path, f"postgresql://clerk@localhost:{port}/name"))
    assert "the server cannot be reached (Connection refused)" in said and "init" not in said
    socket_of = _settings(tmp_path, f"postgresql://clerk@/name?host={tmp_path}")
    assert "the server cannot be reached (No such file or directory)" in _sentence(socket_of)


def test_a_socket_of_this_machine_needs_no_tls(own: PostgresqlServer, tmp_path: Path) -> None:
    settings = _settings(tmp_path, f"postgresql://callward@:{own.port}/postgres?host={own.folder}")
    assert _asked(settings, "SELECT inet_client_addr() IS NULL") is True


def test_no_setting_of_a_role_changes_an_answer(own: PostgresqlServer, tmp_path: Path) -> None:
    wrong = {
        "datestyle": "German",
        "timezone": "Asia/Kolkata",
        "search_path": "elsewhere",
        "default_transaction_isolation": "serializable",
        "default_transaction_read_only": "on",
        "statement_timeout": "1h",
        "lock_timeout": "1h",
        "synchronous_commit": "off",
        "client_encoding": "LATIN1",
        "bytea_output": "escape",
    }
    _run(own, *(f"ALTER ROLE callward SET {name} = '{value}'" for name, value in wrong.items()))
    try:
        settings = _settings(tmp_path, own.url, tls="off", patience_seconds=7)
        with database.appending(settings) as connection:
            seen = {name: connection.execute(text(f"SHOW {name}")).scalar() for name in wrong}
            moment = connection.execute(text("SELECT '2026-03-04 05:06:07'::timestamp")).scalar()
        assert seen == {
            "datestyle": "ISO, YMD",
            "timezone": "UTC",
            "search_path": "public, pg_temp",
            "default_transaction_isolation": "read committed",
            "default_transaction_read_only": "off",
            "statement_timeout": "0",
            "lock_timeout": "7s",
            "synchronous_commit": "on",
            "client_encoding": "UTF8",
            "bytea_output": "hex",
        }
        assert str(moment) == "2026-03-04 05:06:07"
        with database.reading(settings) as connection:
            assert connection.execute(text("SHOW transaction_isolation")).scalar() == "repeatable read"
    finally:
        _run(own, "SET default_transaction_read_only = off", "ALTER ROLE callward RESET ALL")


def test_a_sum_is_a_whole_number_and_money_is_not(own: PostgresqlServer, tmp_path: Path) -> None:
    settings = _settings(tmp_path, own.url, tls="off")
    for question, answer in (
        ("SELECT sum(n) FROM generate_series(1::bigint, 3) AS n", "6"),
        ("SELECT -7::numeric", "-7"),
        ("SELECT 12.500000::numeric(18, 6)", "Decimal('12.500000')"),
        ("SELECT 'NaN'::numeric", "Decimal('NaN')"),
    ):
        assert repr(_asked(settings, question)) == answer


def test_a_restart_of_the_server_is_not_seen_by_who_comes_next(
    own: PostgresqlServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = _settings(tmp_path, own.url, tls="off")
    assert _asked(settings, "SELECT 1") == 1
    with (
        pytest.raises(database.DatabaseAway, match=r"stopping or|was lost"),
        database.reading(settings) as held,
    ):
        own.stop()
        held.execute(text("SELECT 1"))
    assert "cannot be reached" in _sentence(settings)
    own.start("ssl=on")
    assert _asked(settings, "SELECT 2") == 2
    assert caplog.text == ""


def test_what_a_server_refuses_is_said_by_its_code_alone(own: PostgresqlServer, tmp_path: Path) -> None:
    settings = _settings(tmp_path, own.url, tls="off")
    with database.appending(settings) as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS held (number varchar(12) PRIMARY KEY)"))
        connection.execute(text("INSERT INTO held VALUES ('7195550178') ON CONFLICT DO NOTHING"))
    for statement, sentence in (
        ("INSERT INTO held VALUES ('7195550178')", "a row contradicts another one"),
        ("INSERT INTO held VALUES ('+17195550178#x')", "a text is longer than its column takes"),
        ("SELECT '7195550178x'::bigint", "the server does not take a value"),
        ("SELECT * FROM gone7195550178", "a table is missing"),
        ("SELECT FROM 7195550178 7195550178", "the server does not take a statement"),
    ):
        with pytest.raises(database.DatabaseAway) as refused, database.appending(settings) as connection:
            connection.execute(text(statement))
        said = f"{refused.value} {refused.value.hint}"
        assert sentence in said and "555" not in said and "held" not in said


def test_a_standby_is_refused(own: PostgresqlServer, tmp_path: Path) -> None:
    settings = _settings(tmp_path, own.url, tls="off")
    own.stop()
    own.put("standby.signal", "")
    own.start("ssl=on")
    try:
        said = _sentence(settings)
    finally:
        own.stop()
        (own.data / "standby.signal").unlink()
        own.start("ssl=on")
    assert "the server is a standby" in said and "name the primary server in database.url" in said


def test_the_entry_of_a_reader_does_not_wait_for_a_commit(workspace: Any, fresh_url: str) -> None:
    from callward import initiate
    from callward.keys.register import KeyName, Keyring
    from tests.postgresql import on_loopback

    site = workspace("generic", database=on_loopback(fresh_url).model_copy(update={"patience_seconds": 0.2}))
    initiate.upgrade(site.settings)
    name = KeyName("billing", "default", "2031-01", "meta")
    key = Keyring(site.settings, "billing-run", "before").key(name)
    with database.writing(site.settings):
        audit.record(site.settings, [audit.Entry("billing", "sql", "sha256", "reading")])
        assert Keyring(site.settings, "billing", "reading").key(name) == key
        with pytest.raises(database.DatabaseAway, match="writing for longer"), database.writing(site.settings):
            pass
    assert audit.checked(site.settings)[0] > 2


def test_text_is_ordered_by_its_characters_whatever_language_the_database_speaks(
    own: PostgresqlServer, tmp_path: Path
) -> None:
    _run(own, "CREATE DATABASE english TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C'")
    settings = _settings(tmp_path, own.url.replace("/postgres", "/english"), tls="off")
    database.upgrade(settings)
    database.upgrade(settings)
    with database.appending(settings) as connection:
        for name in ("b", "_c", "A", "a", "B"):
            connection.execute(text("INSERT INTO partitions VALUES (:name, 'x', 1)"), {"name": name})
    with database.reading(settings) as connection:
        names = connection.execute(text("SELECT tenant FROM partitions ORDER BY tenant")).scalars().all()
    assert names == ["A", "B", "_c", "a", "b"]
