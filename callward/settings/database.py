"""Where registers and derived tables are kept: a file of SQLite, or a database on a PostgreSQL server."""

import re
from dataclasses import dataclass
from typing import Final, Literal, Self
from urllib.parse import unquote

from pydantic import Field, field_validator, model_validator

from callward.settings.values import Section, is_loopback, secret_place

_SQLITE: Final = "sqlite:///"
_POSTGRESQL: Final = re.compile(r"postgresql(?:\+pg8000)?://")
# User and name may be quoted with %; a host is a name, an IPv4 address, or an IPv6 address in brackets.
_SERVER: Final = re.compile(
    r"(?P<user>[\w.%+~-]+)@(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])?(?::(?P<port>\d{1,5}))?"
    r"/(?P<name>[\w.%+~-]+)(?:\?host=(?P<folder>/[\w./+~-]*))?",
    re.ASCII,
)
_FORMS: Final = "write sqlite:///FILE, or postgresql://USER@HOST:PORT/NAME"


@dataclass(frozen=True)
class Server:
    """Where a PostgreSQL server is asked, and for which database. It has a host, or a folder with its socket."""

    user: str
    host: str
    port: int
    name: str
    folder: str = ""

    @property
    def is_here(self) -> bool:
        """Return whether nothing that goes to it leaves this machine."""
        return bool(self.folder) or is_loopback(self.host)

    def __str__(self) -> str:
        if self.folder:
            return f"{self.name} on the server in {self.folder}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.name} on {host}:{self.port}"


class Database(Section):
    url: str = Field(
        default="sqlite:///callward.db",
        description="sqlite:///FILE for one machine, or postgresql://USER@HOST:PORT/NAME when several people query; "
        "postgresql://USER@/NAME?host=FOLDER for a server's socket in a folder of this machine.",
    )
    password: str | None = Field(
        default=None,
        description="Password of the server's USER, as env:NAME or file:PATH; never written here.",
        examples=["file:/run/secrets/callward-database"],
    )
    tls: Literal["verify", "off"] = Field(
        default="verify",
        description="verify: only a server that proves its name by a certificate is spoken to. off: for a server on "
        "this machine alone (localhost); a socket needs neither.",
    )
    ca_file: str | None = Field(
        default=None,
        description="Certificates (PEM) that the server's own must rest on, if not the system's.",
        examples=["/etc/callward/database-ca.pem"],
    )
    patience_seconds: float = Field(
        default=60.0, gt=0, le=3600, description="How long a commit waits for another one that is under way."
    )

    _check_secret = field_validator("password")(secret_place)

    @field_validator("url")
    @classmethod
    def _known(cls, url: str) -> str:
        if url.startswith(_SQLITE):
            if "?" in url or url.endswith("/") or url.endswith(":memory:"):
                raise ValueError("a file of SQLite is written sqlite:///FILE, without options")
        elif _POSTGRESQL.match(url):
            _parsed(url)
        else:
            raise ValueError(f"that is no database callward knows: {_FORMS}")
        return url

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        given = {"password": self.password, "ca_file": self.ca_file, "tls": "off" if self.tls == "off" else None}
        server = self.server
        for name in (name for name, value in given.items() if value):
            if server is None:
                raise ValueError(f"{name} means nothing for a file of SQLite")
            if server.folder and name != "password":
                raise ValueError(f"{name} means nothing for a socket: nothing leaves this machine")
        if server is not None and self.tls == "off" and not server.is_here:
            raise ValueError('tls = "off" is for a server on this machine (localhost); beyond it take that line out')
        if self.tls == "off" and self.ca_file:
            raise ValueError('ca_file means nothing with tls = "off"')
        return self

    @property
    def file(self) -> str | None:
        """Return the file of SQLite as it is written; None for a server's database."""
        return self.url.removeprefix(_SQLITE) if self.url.startswith(_SQLITE) else None

    @property
    def server(self) -> Server | None:
        """Return where the server is asked; None for a file of SQLite."""
        return _parsed(self.url) if self.file is None else None


def _parsed(url: str) -> Server:
    """Return the parts of a server's URL; raises ValueError, which repeats none of them: one may be a password."""
    rest = _POSTGRESQL.sub("", url, count=1)
    user, _, place = rest.rpartition("@")
    if ":" in user or "@" in user:
        raise ValueError(
            "a password does not belong in the url: take it out, and name where it is found by "
            'password = "env:NAME" or "file:PATH"'
        )
    if "?" in place and "?host=/" not in place:
        raise ValueError("options do not belong in the url: TLS is on and verified unless told by tls and ca_file")
    match = _SERVER.fullmatch(rest)
    if match is None:
        raise ValueError(f"that is no URL of a database: {_FORMS}")
    if bool(match["host"]) == bool(match["folder"]):
        raise ValueError("write one place: a HOST, or ?host=FOLDER with the server's socket")
    port = int(match["port"] or 5432)
    if not 0 < port < 65536:
        raise ValueError("a port is a number from 1 to 65535")
    host = (match["host"] or "").strip("[]")
    return Server(unquote(match["user"]), host, port, unquote(match["name"]), match["folder"] or "")
