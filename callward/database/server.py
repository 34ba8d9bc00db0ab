"""Connections to a PostgreSQL server: over TLS that is verified, with every setting that decides what comes back.

TLS is ours and not the driver's: it begins before a word is said, there is no way back to clear text, and the wait for
a server that does not answer has an end while the wait for a long statement has none.
"""

import os
import socket
import ssl
import struct
from typing import Any, Final

from callward.credentials import secret
from callward.database import driver_errors
from callward.database.driver_errors import DatabaseAway
from callward.errors import UsageProblem
from callward.settings import Settings
from callward.settings.database import Server

_CONNECT_S: Final = 10.0
_TLS_PLEASE: Final = struct.pack("!ii", 8, 80877103)  # SSLRequest of the protocol
_NUMERIC: Final = 1700  # the type of money, and of a sum of whole numbers
_SILENT_S: Final = 120  # a connection whose other end is gone is given up after so long
# Whatever the server, the database or the user was set to (ALTER ROLE ... SET): a role's settings change no answer.
_SESSION: Final = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "search_path": "public, pg_temp",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "synchronous_commit": "on",  # what was committed survives a crash
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "tcp_keepalives_idle": "60",  # the locks of a machine that vanished are free again soon
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "6",
}


def connect(settings: Settings) -> Any:
    """Return a new connection of the driver.

    Raises DatabaseAway for a server that cannot be reached, does not prove its name, refuses, or is a standby, and
    UsageProblem for a password or a file of certificates that is not there.
    """
    server = settings.database.server
    assert server is not None, "a file of SQLite has no server"
    place = settings.database.password
    password = secret(settings, "database.password", place) if place else ""
    link = _secured(_reached(server), settings, server)
    try:
        connection = _greeted(link, server, password)
        _prepare(connection, settings, server)
    except BaseException:
        link.close()
        raise
    link.settimeout(None)
    return connection


def _greeted(link: socket.socket, server: Server, password: str) -> Any:
    """Return a connection of the driver over a socket, for a user whom the server let in."""
    from pg8000.exceptions import Error
    from pg8000.legacy import Connection

    try:
        return Connection(
            server.user,
            database=server.name,
            password=password,
            sock=link,
            ssl_context=False,
            application_name="callward",
        )
    except (Error, OSError) as error:
        raise driver_errors.problem(error, str(server)) from None
    except Exception:  # whatever the driver makes of bytes that it does not expect
        raise DatabaseAway(f"database {server}: what answers there speaks no PostgreSQL") from None


def _reached(server: Server) -> socket.socket:
    """Return a socket to the server, with an end to every wait."""
    try:
        if server.folder:
            link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            link.settimeout(_CONNECT_S)
            link.connect(f"{server.folder.rstrip('/')}/.s.PGSQL.{server.port}")
            return link
        link = socket.create_connection((server.host, server.port), _CONNECT_S)
    except OSError as error:
        raise DatabaseAway(
            f"database {server}: the server cannot be reached ({_reason(error)})",
            hint="start it, or fix database.url",
        ) from None
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _SILENT_S // 2)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_S * 1000)
    return link


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, socket.gaierror):
        return "nobody knows a machine of that name"
    return os.strerror(error.errno) if error.errno else "it does not answer"


def _secured(link: socket.socket, settings: Settings, server: Server) -> socket.socket:
    """Return the socket under TLS, where the settings do not switch it off; closes it when that fails."""
    if server.folder or settings.database.tls == "off":
        return link
    try:
        context = _context(settings)
        link.sendall(_TLS_PLEASE)
        answer = link.recv(1)
        if answer == b"S":
            return context.wrap_socket(link, server_hostname=server.host)
    except ssl.SSLCertVerificationError as error:
        link.close()
        raise DatabaseAway(
            f"database {server}: the server does not prove its name ({error.verify_message.rstrip('.')})",
            hint="name the certificates that its own rests on in database.ca_file, and the server as they call it",
        ) from None
    except OSError:
        link.close()
        raise DatabaseAway(f"database {server}: the server begins TLS and does not go through with it") from None
    except BaseException:
        link.close()
        raise
    link.close()
    if answer != b"N":
        raise DatabaseAway(f"database {server}: what answers there speaks no PostgreSQL", hint="fix database.url")
    here = ', or write tls = "off" under [database], as it is on this machine' if server.is_here else ""
    raise DatabaseAway(
        f"database {server}: the server does not speak TLS, and nothing was sent to it",
        hint=f"switch TLS on there (ssl = on){here}",
    )


def _context(settings: Settings) -> ssl.SSLContext:
    ca_file = settings.database.ca_file
    path = settings.below(ca_file) if ca_file else None
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as error:  # ssl.SSLError is one, too
        reason = "holds no certificates" if isinstance(error, ssl.SSLError) else os.strerror(error.errno or 0)
        raise UsageProblem(f"{settings.path.name}: database.ca_file: {path}: {reason}") from None


def _prepare(connection: Any, settings: Settings, server: Server) -> None:
    """Set what decides on answers, and raise DatabaseAway for a standby: it takes no audit entry."""
    from pg8000.exceptions import Error

    connection.register_in_adapter(_NUMERIC, _number)
    values = _SESSION | {"lock_timeout": f"{round(settings.database.patience_seconds * 1000)}ms"}
    calls = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in values.items())
    connection.autocommit = True
    try:
        standby = connection.cursor().execute(f"SELECT pg_is_in_recovery(), {calls}").fetchone()[0]
    except (Error, OSError) as error:
        raise driver_errors.problem(error, str(server)) from None
    connection.autocommit = False
    if standby:
        raise DatabaseAway(
            f"database {server}: the server is a standby: it takes no changes, and no entry of who reads",
            hint="name the primary server in database.url",
        )


def _number(text: str) -> Any:
    """Return a NUMERIC: a sum of whole numbers has no places and is an int, as from SQLite; money is a Decimal."""
    from decimal import Decimal

    return Decimal(text) if "." in text or not text.lstrip("-").isdigit() else int(text)
