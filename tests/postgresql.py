"""A real PostgreSQL server on loopback, in a folder of its own, for the tests that start one."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select, text
from sqlalchemy.exc import DBAPIError

from callward import database, initiate, runs
from callward.settings import Database
from schemas.tables import keys

_OWNER = "callward"


def _binary(name: str) -> str | None:
    """A server program: on PATH, or where Debian keeps it."""
    found = [shutil.which(name), *map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True))]
    return next((path for path in found if path), None)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _other_user() -> str | None:
    """PostgreSQL refuses to run as root: the user it runs as then, None when this user will do."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    found = next((name for name in ("postgres", "nobody") if name in names), None)
    if found is None:
        pytest.skip("PostgreSQL does not run as root, and there is no user 'postgres' or 'nobody'")
    return found


class PostgresqlServer:
    """A server with a folder of its own: stop and start keep what is in it."""

    def __init__(self, folder: Path, user: str | None) -> None:
        self.folder, self.data, self.port = folder, folder / "data", _free_port()
        self._run: dict[str, Any] = {
            "user": user,
            "cwd": folder,
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
        }
        initdb = [_binary("initdb"), "-D", self.data, "-U", _OWNER, "--auth=trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(initdb, check=True, **self._run)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql+pg8000://{_OWNER}@127.0.0.1:{self.port}/postgres"

    def start(self, *settings: str) -> None:
        """Start it with settings such as "ssl=on", and wait until it answers."""
        options = [
            word for setting in ("listen_addresses=127.0.0.1", "fsync=off", *settings) for word in ("-c", setting)
        ]
        command = [_binary("postgres"), "-D", self.data, "-p", str(self.port), "-k", self.folder, *options]
        self._process = subprocess.Popen(command, **self._run)
        _await_port(self.port, self._process)
        _await_answer(self.url)

    def stop(self) -> None:
        """End it at once: connections are cut."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)  # a fast shutdown: SIGTERM would wait for our pooled connections
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def put(self, name: str, content: str) -> None:
        """Write a file into the data folder, as the server's own."""
        path = self.data / name
        path.write_text(content, encoding="utf-8")
        path.chmod(0o600)
        if self._run["user"]:
            shutil.chown(path, self._run["user"])


@contextmanager
def own_server(*settings: str) -> Iterator[PostgresqlServer]:
    """Yield a server that started with these settings; skips where PostgreSQL is not installed."""
    if not _binary("initdb") or not _binary("postgres"):
        pytest.skip("PostgreSQL's server programs (initdb, postgres) are not installed")
    pytest.importorskip("pg8000", reason="the PostgreSQL driver pg8000 is not installed")
    user = _other_user()
    folder = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    if user:
        shutil.chown(folder, user)
    server = PostgresqlServer(folder, user)
    try:
        server.start(*settings)
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgresql_server() -> Iterator[str]:
    """Yield the URL of an empty database on a server of its own; skips where PostgreSQL is not installed."""
    with own_server() as server:
        yield server.url


def _await_port(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if server.poll() is not None:
            pytest.fail("the PostgreSQL server did not start")
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("the PostgreSQL server does not answer")


def _await_answer(url: str) -> None:
    """The port is open before the server has started up."""
    for _ in range(300):
        with suppress(DBAPIError), create_engine(url).connect():
            return
        time.sleep(0.1)
    pytest.fail("the PostgreSQL server does not start up")


def on_loopback(url: str) -> Database:
    """Return the settings of a database on a server of these tests, which speak to it without TLS."""
    return Database(url=url, tls="off")


def new_database(server_url: str) -> str:
    """Return the URL of a new database on a server."""
    name = f"retention_{runs.new_id()}"
    with create_engine(server_url, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    return server_url.rpartition("/")[0] + f"/{name}"


def take_keys(site: Any, other: Any) -> None:
    """Make the tables in a site's own database, with the keys of another workspace: their ids are equal then."""
    initiate.upgrade(site.settings)
    with database.reading(other.settings) as connection:
        rows = [dict(row._mapping) for row in connection.execute(select(keys))]
    with database.writing(site.settings) as connection:
        connection.execute(keys.insert(), rows)
