"""Destroying keys so that backups die as well, by root epochs.

To null a row is not enough: a copy of the database still holds the wrapped key, and the root still opens it. So the
keys that stay are wrapped by a new root, and the old root is destroyed. Five steps, each safe to be killed in:

1. the new root lies beside the old one, as `<file>.next`;
2. one transaction: blobs of destroyed keys become null, survivors are rewrapped, the new epoch is the active one;
3. a signed export of the register is written, so that a lost database never means lost keys;
4. the old root is overwritten, and the new one takes its name; the register calls the old one destroyed;
5. what the database keeps of the old blobs (SQLite's log, PostgreSQL's dead rows) is cleared.

Steps 1, 2 and 4 happen under the database's write lock, which is also what minting holds: so no process can mint under
a root that is being replaced, and a `.next` that the register does not know belongs to nobody.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from callward import audit, database, identity
from callward.errors import Problem, UsageProblem
from callward.failpoints import point
from callward.keys import exports, roots
from callward.keys import register as key_register
from callward.keys.keys import KeyDenied, KeyGone, KeyProblem, KeySource, create_local, open_source
from callward.keys.register import KeyName, binding, name_of, unwrapped
from callward.keys.roots import DESTROYED, RETIRED, next_file, open_root
from callward.redaction import recorded
from callward.settings import KEY_DOMAINS, Settings, local_uri
from callward.storage.durable import overwrite, promote
from schemas.retention import root_copies
from schemas.retention import roots as epochs
from schemas.tables import keys

_READERS_S: Final = 10.0  # how long clearing SQLite's log waits for readers to end


@dataclass(frozen=True)
class Tombstone:
    """What stays of a destroyed key: enough to say which it was and which root wrapped it, nothing that opens."""

    key_id: str
    name: KeyName
    fingerprint: str
    root_id: str
    domain: str
    destroyed_at: datetime


@dataclass(frozen=True)
class Copy:
    """A copy of a root that somebody recorded, and whether somebody confirmed that it was destroyed."""

    root_id: str
    place: str
    destroyed: bool
    domain: str
    copy_no: int


# -- destroying --------------------------------------------------------------------------------------------------------


def destroy(settings: Settings, key_ids: Sequence[str], *, role: str, reason: str) -> list[Tombstone]:
    """Destroy month keys everywhere at once; killed at any point and called again, it ends the same.

    Not to be called within a transaction. Raises KeyGone for an id that the register never had, and Problem when a
    root, a survivor, the export or the database's log is not as it must be: then nothing is gone that should stay, and
    the same call goes on from there.
    """
    doomed = _domains(settings, key_ids)
    exports.check(settings)
    recover(settings)
    for domain in sorted(set(doomed.values())):
        _switch(settings, domain, {k for k, owner in doomed.items() if owner == domain}, role, reason)
    recover(settings, reason)
    key_register.forget(key_ids)
    _scrub(settings)
    point("epoch-scrubbed")
    return _tombstones(settings, key_ids)


def rotate(settings: Settings, domain: str, *, role: str, reason: str) -> str:
    """Begin a new epoch with every key of a key domain; returns the new root's id. No data file is touched."""
    exports.check(settings)
    recover(settings)
    _switch(settings, domain, set(), role, reason)
    recover(settings, reason)
    _scrub(settings)
    with database.reading(settings) as connection:
        return str(roots.active(connection, settings, domain).root_id)


def _domains(settings: Settings, key_ids: Sequence[str]) -> dict[str, str]:
    """Return the key domain by key id, for keys and tombstones; raises KeyGone for an id that is neither."""
    domains = {row.key_id: row.domain for row in _rows(settings, key_ids)}
    for key_id in key_ids:
        if key_id not in domains:
            raise KeyGone(f"key {key_id} is not in the register")
    return domains


def _rows(settings: Settings, key_ids: Sequence[str]) -> Iterator[Row[Any]]:
    with database.reading(settings) as connection:
        for batch in database.batches(key_ids):
            yield from connection.execute(select(keys).where(keys.c.key_id.in_(batch)))


def _switch(settings: Settings, domain: str, doomed: set[str], role: str, reason: str) -> None:
    """Do steps 1 and 2 for one key domain; nothing when all of `doomed` is destroyed already."""
    path = _file(settings, domain)
    with database.writing(settings) as connection:
        rows = connection.execute(
            select(keys).where(keys.c.domain == domain, keys.c.state != DESTROYED).order_by(keys.c.key_id)
        ).all()
        gone = [row for row in rows if row.key_id in doomed]
        if doomed and not gone:
            return
        before = roots.active(connection, settings, domain)
        with closing(open_root(settings, domain, before.root_id)) as old, closing(_make_next(path)) as new:
            point("epoch-root-written")
            _rewrap(connection, [row for row in rows if row.key_id not in doomed], old, new)
            _bury(connection, gone)
            epoch = _begin_epoch(connection, domain, before, new.root_id)
        entries = [audit.Entry(role, "destroy", f"{row.key_id} {name_of(row)}", reason) for row in gone]
        entries.append(audit.Entry(role, "root", f"{domain} {epoch} {new.root_id}", reason))
        audit.append(connection, entries)
        point("epoch-rewrapped")
    point("epoch-switched")


def _file(settings: Settings, domain: str) -> Path:
    path = roots.root_file(settings, domain)
    if path is None:
        raise Problem(f"the root of {domain} is not a local file; only those are replaced so far")
    return path.resolve()


def _make_next(path: Path) -> KeySource:
    """Make a new root beside the old one, and return it as it is read back from the disk.

    One that is there already wraps nothing: see above.
    """
    following = next_file(path)
    following.unlink(missing_ok=True)
    return open_source(create_local(following))


def _rewrap(connection: Connection, rows: Sequence[Row[Any]], old: KeySource, new: KeySource) -> None:
    """Wrap every surviving key by the new root; each is opened, so none is carried over that does not open."""
    changes = [{"of": row.key_id, "blob": _rewrapped(row, old, new), "root_id": new.root_id} for row in rows]
    if changes:
        connection.execute(update(keys).where(keys.c.key_id == bindparam("of")), changes)


def _rewrapped(row: Row[Any], old: KeySource, new: KeySource) -> bytes:
    try:
        secret = unwrapped(row, old).secret
    except KeyProblem as problem:
        raise KeyProblem(
            f"key {row.key_id} ({name_of(row)}) would be lost with its root: {problem}; restore it from the newest "
            "register export first"
        ) from None
    return new.wrap(secret, binding(row.key_id, name_of(row)))


def _bury(connection: Connection, rows: Sequence[Row[Any]]) -> None:
    for batch in database.batches(row.key_id for row in rows):
        connection.execute(
            update(keys).where(keys.c.key_id.in_(batch)).values(state=DESTROYED, blob=None, destroyed_at=database.now())
        )


def _begin_epoch(connection: Connection, domain: str, before: Row[Any], root_id: str) -> int:
    connection.execute(
        update(epochs).where(epochs.c.domain == domain, epochs.c.epoch == before.epoch).values(state=RETIRED)
    )
    return roots.add(connection, domain, root_id)


def _tombstones(settings: Settings, key_ids: Sequence[str]) -> list[Tombstone]:
    found = {row.key_id: row for row in _rows(settings, key_ids)}
    rows = [found[key_id] for key_id in dict.fromkeys(key_ids)]
    return [
        Tombstone(row.key_id, name_of(row), row.fingerprint, row.root_id, row.domain, row.destroyed_at) for row in rows
    ]


# -- the new root in place of the old one ------------------------------------------------------------------------------


def recover(settings: Settings, reason: str = "a switch of epochs that was interrupted") -> None:
    """Finish what a killed switch of epochs left: steps 3 and 4, or a root that never wrapped anything is removed.

    Cheap when there is nothing to do. Not to be called within a transaction.
    """
    with database.reading(settings) as connection:
        retired = _retired(connection)
    if retired:
        exports.write(settings, reason)
        point("epoch-exported")
    for domain in KEY_DOMAINS:
        path = roots.root_file(settings, domain)
        if path is not None and (domain in retired or next_file(path.resolve()).exists()):
            _promote(settings, domain, path.resolve())


def pending(settings: Settings) -> list[str]:
    """Return key domains whose switch to a new epoch was begun and not ended."""
    with database.reading(settings) as connection:
        retired = _retired(connection)
    files = ((name, roots.root_file(settings, name)) for name in KEY_DOMAINS)
    return [name for name, path in files if name in retired or (path and next_file(path.resolve()).exists())]


def _retired(connection: Connection) -> set[str]:
    """Return key domains with a registered root that wraps nothing any more and is not known to be destroyed."""
    return set(connection.execute(select(epochs.c.domain).where(epochs.c.state == RETIRED)).scalars())


def _promote(settings: Settings, domain: str, path: Path) -> None:
    """Do step 4 for one key domain."""
    with database.writing(settings) as connection:
        wanted = roots.active(connection, settings, domain).root_id
        following = next_file(path)
        if following.exists():
            _check_known(settings, connection, domain, following)
            _replace(path, following, wanted)
        point("epoch-promoted")
        _check_in_place(path, wanted)
        _mark_destroyed(connection, domain)
    point("epoch-destroyed")


def _replace(path: Path, following: Path, wanted: str) -> None:
    """Put the new root in the old one's place, the old bytes first overwritten where they lie.

    A journal, a snapshot or the cells of an SSD may keep them all the same: docs/keys.md says what that means.
    """
    if _id_of(following) != wanted:
        following.unlink()
        return
    if path.exists():
        overwrite(path)
        point("epoch-overwritten")
    promote(following, path)


def _check_known(settings: Settings, connection: Connection, domain: str, following: Path) -> None:
    """Raise Problem for a new root that the database does not know and an export says that keys are under."""
    here, root_id = roots.active(connection, settings, domain).root_id, _id_of(following)
    if root_id != here and root_id is not None and root_id in exports.active_roots(settings):
        raise Problem(
            f"{following} is the active root of the newest register export, and this database is older: put the "
            "register in place first, with 'callward keys restore'"
        )


def _id_of(path: Path) -> str | None:
    """Return the id of the root in a file; None for a damaged one or none.

    Raises KeyDenied for one that may not be read.
    """
    try:
        with closing(open_source(local_uri(path))) as source:
            return source.root_id
    except KeyDenied:
        raise
    except KeyProblem:
        return None


def _check_in_place(path: Path, wanted: str) -> None:
    if _id_of(path) != wanted:
        raise KeyProblem(
            f"the root key file {path} is not the one that the register calls active ({wanted}); put that one back "
            "from its safe copy"
        )


def _mark_destroyed(connection: Connection, domain: str) -> None:
    rows = connection.execute(select(epochs).where(epochs.c.domain == domain, epochs.c.state == RETIRED)).all()
    connection.execute(
        update(epochs)
        .where(epochs.c.domain == domain, epochs.c.state == RETIRED)
        .values(state=DESTROYED, destroyed_at=database.now())
    )
    entries = [
        audit.Entry("custodian", "root-destroyed", f"{domain} {row.epoch} {row.root_id}", "it wrapped nothing more")
        for row in rows
    ]
    audit.append(connection, entries)


# -- what the database keeps -------------------------------------------------------------------------------------------


def _scrub(settings: Settings) -> None:
    """Do step 5: take old blobs out of the files of the database, as far as it can be done from here."""
    try:
        with database.cleared(settings) as raw:
            (_empty_log if settings.database_file else _vacuum)(raw)
    except database.DatabaseAway as problem:
        raise Problem(
            f"the keys are destroyed and their root is gone, but the database was not cleared of old pages "
            f"({problem}); run this again"
        ) from None


def _vacuum(raw: Any) -> None:
    """Remove PostgreSQL's dead rows; its log and base backups still hold them, which the epoch has made useless."""
    raw.driver_connection.autocommit = True
    try:
        raw.cursor().execute("VACUUM keys")
    finally:
        raw.driver_connection.autocommit = False


def _empty_log(raw: Any) -> None:
    """Cut SQLite's log, which keeps old pages until then; a reader puts that off.

    secure_delete overwrites what leaves the main file; where a build has none, VACUUM writes it anew.
    """
    cursor = raw.cursor()
    (patience,) = cursor.execute("PRAGMA busy_timeout").fetchone()
    cursor.execute(f"PRAGMA busy_timeout={round(_READERS_S * 1000)}")
    try:
        if not cursor.execute("PRAGMA secure_delete").fetchone()[0]:
            cursor.execute("VACUUM")
        busy, _, _ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        cursor.execute(f"PRAGMA busy_timeout={patience}")
    if busy:
        raise Problem(
            "the keys are destroyed and their root is gone, but somebody reads the database, so its log still holds "
            "old pages; end that query and run this again"
        )


# -- what is known -----------------------------------------------------------------------------------------------------


def dead(settings: Settings, key_id: str) -> bool:
    """Return whether a key is destroyed for good: blob null, root destroyed and in no place that settings name.

    Copies of the root elsewhere are `copies`. Raises KeyGone for a key that the register never had.
    """
    rows = list(_rows(settings, [key_id]))
    if not rows:
        raise KeyGone(f"key {key_id} is not in the register")
    (row,) = rows
    if row.state != DESTROYED or row.blob is not None:
        return False
    with database.reading(settings) as connection:
        state = connection.execute(
            select(epochs.c.state).where(epochs.c.domain == row.domain, epochs.c.root_id == row.root_id)
        ).scalar()
    path = _file(settings, row.domain)
    return state == DESTROYED and row.root_id not in (_id_of(path), _id_of(next_file(path)))


def copies(connection: Connection, root_ids: Sequence[str]) -> list[Copy]:
    """Return the recorded copies of these roots, in the order in which they were recorded."""
    rows = connection.execute(
        select(root_copies).where(root_copies.c.root_id.in_(root_ids)).order_by(root_copies.c.copy_no)
    )
    return [Copy(row.root_id, row.place, row.destroyed_at is not None, row.domain, row.copy_no) for row in rows]


def add_copy(settings: Settings, domain: str, place: str) -> Copy:
    """Record that a copy of a key domain's active root lies in some place, such as a safe.

    Raises UsageProblem for a place that is not one line without a telephone number.
    """
    if not recorded("--place", place):
        raise UsageProblem("--place says in one line where the copy lies")
    with database.writing(settings) as connection:
        root_id = str(roots.active(connection, settings, domain).root_id)
        inserted = connection.execute(
            insert(root_copies).values(
                root_id=root_id,
                domain=domain,
                place=place,
                recorded_at=database.now(),
                recorded_by=identity.who(),
            )
        )
        (number,) = inserted.inserted_primary_key or (0,)
        audit.append(connection, [audit.Entry("custodian", "root-copy", f"{number} {domain} {root_id}", "recorded")])
    return Copy(root_id, place, False, domain, int(number))


def confirm_copy(settings: Settings, copy_no: int) -> Copy:
    """Record that a copy of a root was destroyed; raises Problem for one that nobody recorded."""
    with database.writing(settings) as connection:
        row = connection.execute(select(root_copies).where(root_copies.c.copy_no == copy_no)).first()
        if row is None:
            raise Problem(f"no copy has the number {copy_no}; 'callward keys list' shows them")
        if row.destroyed_at is None:
            connection.execute(
                update(root_copies)
                .where(root_copies.c.copy_no == copy_no)
                .values(destroyed_at=database.now(), confirmed_by=identity.who())
            )
            subject = f"{copy_no} {row.domain} {row.root_id}"
            audit.append(connection, [audit.Entry("custodian", "root-copy", subject, "confirmed destroyed")])
    return Copy(row.root_id, row.place, True, row.domain, copy_no)
