"""Root epochs: which root of a key domain is the active one, and the file in which it is found.

A key domain's root is followed by another one when keys are destroyed or the root is rotated; each is an epoch of its
own in `roots`. The new root waits beside the old as `<file>.next` until the register calls it active, so a reader
that finds the old file still there looks at both.
"""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from callward import database
from callward.errors import Problem
from callward.keys.keys import KeyDenied, KeyProblem, KeySource, local_path, open_source
from callward.settings import Settings, local_uri
from schemas.retention import roots

ACTIVE, RETIRED, DESTROYED = "active", "retired", "destroyed"


def registered(connection: Connection, domain: str) -> Row[Any] | None:
    """Return the row of the key domain's active epoch (also a signer's); None where no root was registered."""
    return connection.execute(
        select(roots).where(roots.c.domain == domain, roots.c.state == ACTIVE).order_by(roots.c.epoch.desc()).limit(1)
    ).first()


def active(connection: Connection, settings: Settings, domain: str) -> Row[Any]:
    """Return the row of the active epoch, within a transaction. Raises Problem where no root was registered."""
    row = registered(connection, domain)
    if row is None:
        raise Problem(
            f"the register knows no root for {domain}; 'callward init --upgrade {settings.folder}' registers it"
        )
    return row


def add(connection: Connection, domain: str, root_id: str) -> int:
    """Register a root as the key domain's next, active epoch; returns its number."""
    last = connection.execute(select(func.max(roots.c.epoch)).where(roots.c.domain == domain)).scalar()
    epoch = int(last or 0) + 1
    connection.execute(
        insert(roots).values(domain=domain, epoch=epoch, root_id=root_id, state=ACTIVE, created_at=database.now())
    )
    return epoch


def root_file(settings: Settings, domain: str) -> Path | None:
    """Return the file of a key domain's root, None when it is not a local file."""
    return local_path(settings.root_uri(domain))


def next_file(path: Path) -> Path:
    """Return where the root of the epoch to come lies until it takes the place of the one before."""
    return path.with_name(path.name + ".next")


def open_root(settings: Settings, domain: str, root_id: str | None = None) -> KeySource:
    """Open the key domain's root; with `root_id` exactly that one, also while an epoch is being switched.

    Raises KeyProblem (KeyGone, KeyDenied) when the root cannot be opened, or is another than `root_id`.
    """
    uri = settings.root_uri(domain)
    path = root_file(settings, domain)
    if root_id is None or path is None:
        return _expected(open_source(uri), root_id)
    # The file, the one that follows it, and the file again: the second may take its place while we look.
    for candidate in (path, next_file(path.resolve()), path):
        try:
            return _expected(open_source(local_uri(candidate)), root_id)
        except KeyProblem:
            continue
    return _expected(open_source(uri), root_id)  # says in its own words what is wrong with it


def _expected(source: KeySource, root_id: str | None) -> KeySource:
    if root_id is not None and source.root_id != root_id:
        source.close()
        where = f"the root key file {source.path}" if hasattr(source, "path") else "the root"
        raise KeyDenied(
            f"{where} does not open this wrapped key: it is another root's ({source.root_id}, and not {root_id}); "
            "put the right root back"
        )
    return source
