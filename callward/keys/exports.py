"""Signed exports of the key register, and how a lost database gets its keys back.

An old copy of the database opens nothing by itself once a root was replaced. An export holds what it lacks: the epochs
of the roots, every key as it is wrapped now, the tombstones of those that were destroyed, the legal holds as they lie
sealed (an old copy would let go what was held since), what was released and what it cost (an old copy would draw it
again, for a budget that is spent), and the audit log's head.
Restore = old database + newest export + the roots that are there. An export opens nothing without these.
"""

import base64
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update

from callward import audit, database
from callward.errors import Problem
from callward.failpoints import point
from callward.keys import register as key_register
from callward.keys import signing
from callward.keys.keys import KeyGone, KeyProblem, KeySource
from callward.keys.register import name_of, unwrapped
from callward.keys.roots import ACTIVE, DESTROYED, open_root
from callward.settings import KEY_DOMAINS, Settings
from callward.storage.durable import replacing
from callward.storage.store import TRANSIT, Store
from schemas.release import LOST, PUBLISHED, release_charges, releases
from schemas.retention import certificates, holds, root_copies
from schemas.retention import roots as epochs
from schemas.tables import audit_log, keys, lake_files, workspace
from schemas.views import with_sidecar

FORMAT_VERSION: Final = 1
SIGNER: Final = "retention"
_TAG: Final = b"callward/export/1|"
_KEPT: Final = 3  # exports that are still good: one that was damaged is not the end
_TABLES: Final = (("roots", epochs), ("keys", keys), ("root_copies", root_copies))
_BESIDE: Final = (("holds", holds), ("releases", releases), ("release_charges", release_charges))
_TIMES: Final = (
    *("created_at", "destroyed_at", "recorded_at", "placed_at", "released_at"),
    *("reserved_at", "published_at"),
)
_DATES: Final = ("period_start", "period_end")
_BLOBS: Final = ("blob", "body", "partition")


# -- writing -----------------------------------------------------------------------------------------------------------


def check(settings: Settings) -> None:
    """Raise Problem where `write` could not: before keys are destroyed, and not after."""
    signing.sign(settings, SIGNER, _TAG)
    _check_second_place(settings)


def _check_second_place(settings: Settings) -> None:
    second = settings.export_path
    if second is not None and not second.is_dir():
        raise Problem(f"{second} (keys.export_to) is not a folder; is that disk mounted?")


def write(settings: Settings, reason: str) -> Path:
    """Write a signed export of the register as it stands, to the second place as well; returns the file.

    The file is `register/export-<audit sequence number>.json`, whole or not there. Older ones go when a root that they
    rest on was replaced since: they open nothing any more. Not to be called within a transaction.
    """
    with database.writing(settings) as connection:
        database.lock_audit(connection)  # the next number stays ours until it is used
        seq = audit.head(connection)[0] + 1
        audit.append(connection, [audit.Entry("custodian", "register-export", f"export-{seq}", reason)])
        body = _body(connection, reason)
    text = _canonical({"body": body, "signer": SIGNER, "signature": _signature(settings, body)})
    with database.writing(settings):  # one writer of files at a time: a part that lies there was left by a dead one
        for folder in _places(settings):
            _write_whole(folder, f"export-{seq}.json", text)
            _prune(folder, _active(body))
    return settings.register_path / f"export-{seq}.json"


def _places(settings: Settings) -> list[Path]:
    """Return the folder beside the lake, which is made where there is none, and the second one, which must be there."""
    settings.register_path.mkdir(mode=0o700, exist_ok=True)
    _check_second_place(settings)
    return [settings.register_path, *([settings.export_path] if settings.export_path else [])]


def _body(connection: Connection, reason: str) -> dict[str, Any]:
    last = connection.execute(select(certificates).order_by(certificates.c.seq.desc()).limit(1)).first()
    seq, head = audit.head(connection)
    return {
        "format_version": FORMAT_VERSION,
        "workspace_id": connection.execute(select(workspace.c.workspace_id)).scalar(),
        "created_at": database.now().isoformat(),
        "reason": reason,
        "audit": {"seq": seq, "hash": head},
        "certificates": {"seq": last.seq, "hash": last.hash} if last else None,
        **{
            name: [_written(row._mapping) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for name, table in (*_TABLES, *_BESIDE)
        },
    }


def _written(row: Any) -> dict[str, Any]:
    """Return a row as JSON has it: blobs in base64, times and dates in ISO 8601."""
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if isinstance(value, date) else value


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _signature(settings: Settings, body: dict[str, Any]) -> str:
    return signing.sign(settings, SIGNER, _TAG + _canonical(body)).hex()


def _write_whole(folder: Path, name: str, text: bytes) -> None:
    for draft in folder.glob(".export-*.tmp"):
        draft.unlink()
    with replacing(folder / name, 0o600) as file:
        file.write(text)
        file.flush()
        point("epoch-export-written")


def _prune(folder: Path, active: set[str]) -> None:
    """Remove exports that rest on a root which is no longer active, and all but the newest few of the others."""
    for place, path in enumerate(list_exports(folder)):
        if place and (place >= _KEPT or not _rests_on(path, active)):
            path.unlink()


def _rests_on(path: Path, active: set[str]) -> bool:
    try:
        return _active(_parsed(path)["body"]) <= active
    except Problem:
        return True  # unreadable: not for us to take away


def _active(body: dict[str, Any]) -> set[str]:
    return {row["root_id"] for row in body["roots"] if row["state"] == ACTIVE}


def list_exports(folder: Path) -> list[Path]:
    """Return exports in a folder, the newest first."""
    numbered = [(int(path.stem.removeprefix("export-")), path) for path in folder.glob("export-[0-9]*.json")]
    return [path for _, path in sorted(numbered, reverse=True)]


def newest(settings: Settings) -> dict[str, Any] | None:
    """Return the body of the newest export, without asking whose signature it bears; None when there is none."""
    for path in list_exports(settings.register_path):
        body: dict[str, Any] = _parsed(path)["body"]
        return body
    return None


def newest_workspace_id(settings: Settings) -> str | None:
    """Return the workspace's id in the newest export of both places; None where there is none."""
    folders = [settings.register_path, *([settings.export_path] if settings.export_path else [])]
    for path in (path for folder in folders for path in list_exports(folder)):
        found: str | None = _parsed(path)["body"].get("workspace_id")
        return found
    return None


def has_release(settings: Settings, release_id: str) -> bool:
    """Return whether the newest export knows that a release is out."""
    rows = (newest(settings) or {}).get("releases", [])
    return any(row["release_id"] == release_id and row["status"] == PUBLISHED for row in rows)


def active_roots(settings: Settings) -> set[str]:
    """Return ids of the roots that the newest export rests on."""
    body = newest(settings)
    return _active(body) if body else set()


# -- reading -----------------------------------------------------------------------------------------------------------


def _parsed(path: Path) -> dict[str, Any]:
    """Return an export as it lies; raises Problem for what is none."""
    try:
        document = json.loads(path.read_bytes())
        version = document["body"]["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Problem(f"{path} is not a register export, or is damaged") from None
    if version != FORMAT_VERSION:
        raise Problem(f"{path} is a register export of format {version}, which this release does not know")
    return dict(document)


def read(settings: Settings, path: Path) -> dict[str, Any]:
    """Return the body of an export whose signature holds. Raises Problem for any other."""
    document = _parsed(path)
    try:
        signature = bytes.fromhex(document["signature"])
    except (KeyError, ValueError, TypeError):
        signature = b""
    if not signing.verify(signing.public_key(settings, SIGNER), signature, _TAG + _canonical(document["body"])):
        raise Problem(f"{path} was altered, or was not signed by this workspace's {SIGNER} key")
    return dict(document["body"])


# -- putting it back ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class KeyCounts:
    """Month keys of an export, beside those of the database that it was put into."""

    added: int
    changed: int
    destroyed: int
    only_here: int
    open: int
    closed: int


@dataclass(frozen=True, kw_only=True)
class Restored:
    """A register that was put back, or would be, and what is still missing then. Paths are the lake's."""

    export: str
    created_at: str  # ISO 8601
    dry_run: bool
    keys: KeyCounts
    roots_missing: Sequence[str]  # key domains
    releases_put_back: int
    audit_entries_lost: int
    certificates_lost: int
    files_without_key: Sequence[str]
    files_gone: Sequence[str]
    files_unknown: int


def restore(settings: Settings, export: Path, *, dry_run: bool = False) -> Restored:
    """Put the register of an export into a database that is older.

    Raises Problem, and changes nothing, when the export was altered, is older than the database or than the roots (it
    would bring destroyed keys back), or is another workspace's. Not to be called within a transaction.
    """
    database.check_version(settings)
    body = read(settings, export)
    with database.writing(settings) as connection:
        _check_fits(connection, body)
        with _Roots(settings, body) as at_hand:
            counts = KeyCounts(**_compared(connection, body), **at_hand.opened(body["keys"]))
        lacks = {**_log_lacks(connection, body), **_lake_lacks(settings, connection, body)}
        forgotten = _forgotten(connection, body)
        if not dry_run:
            _put(connection, body)
    key_register.forget(row["key_id"] for row in body["keys"] if row["state"] == DESTROYED)
    return Restored(
        export=str(export),
        created_at=body["created_at"],
        dry_run=dry_run,
        keys=counts,
        roots_missing=at_hand.missing,
        releases_put_back=len(forgotten),
        **lacks,
    )


class _Roots:
    """The roots that an export rests on, as far as they are there; open within a `with`."""

    def __init__(self, settings: Settings, body: dict[str, Any]) -> None:
        self._settings = settings
        self._wanted = {r["domain"]: r["root_id"] for r in body["roots"] if r["state"] == ACTIVE}
        self._open: dict[str, KeySource] = {}
        self.missing: list[str] = []

    def __enter__(self) -> "_Roots":
        for domain in KEY_DOMAINS:
            if domain in self._wanted:
                self._take(domain)
        return self

    def _take(self, domain: str) -> None:
        try:
            self._open[domain] = open_root(self._settings, domain, self._wanted[domain])
        except KeyGone:
            self.missing.append(domain)
        except KeyProblem as problem:
            raise Problem(
                f"this export does not fit the root of {domain}, which is newer or another: {problem}"
            ) from None

    def opened(self, rows: Iterable[dict[str, Any]]) -> dict[str, int]:
        """Return how many keys open; raises KeyProblem for one that does not, though its root is there."""
        wrapped = [SimpleNamespace(**_read_back(row)) for row in rows if row["blob"] is not None]
        with_root = [row for row in wrapped if row.domain in self._open]
        for row in with_root:
            unwrapped(row, self._open[row.domain])
        return {"open": len(with_root), "closed": len(wrapped) - len(with_root)}

    def __exit__(self, *_: object) -> None:
        for source in self._open.values():
            source.close()


def _read_back(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as the database has it, from what `_written` made of it."""
    times = {name: datetime.fromisoformat(row[name]) for name in _TIMES if row.get(name)}
    dates = {name: date.fromisoformat(row[name]) for name in _DATES if row.get(name)}
    blobs = {name: base64.b64decode(row[name]) for name in _BLOBS if row.get(name)}
    return {**row, **times, **dates, **blobs}


def _check_fits(connection: Connection, body: dict[str, Any]) -> None:
    """Raise Problem for an export that is older than the database, or is not of its history."""
    ours, theirs = connection.execute(select(workspace.c.workspace_id)).scalar(), body["workspace_id"]
    if ours != theirs:
        raise Problem(f"this export is of the workspace {theirs}, and the database of {ours}")
    here = {row.key_id: row for row in connection.execute(select(keys))}
    there = {row["key_id"]: row for row in body["keys"]}
    for key_id, row in here.items():
        known = there.get(key_id)
        if known is not None and known["fingerprint"] != row.fingerprint:
            raise Problem("this export is another workspace's: a key of the same id is another key")
        if row.state == DESTROYED and (known is None or known["state"] != DESTROYED):
            raise Problem(
                "this export is older than the database, which knows keys as destroyed that it still has; take the "
                "newest export"
            )
    _check_names(here.values(), there.values())
    _check_epochs(connection, body, {row.domain for row in here.values()})
    seq, head = body["audit"]["seq"], body["audit"]["hash"]
    entry = connection.execute(select(audit_log.c.hash).where(audit_log.c.seq == seq)).scalar()
    if here and entry is not None and entry != head:
        raise Problem("this export is not of this database's history: their audit logs differ")


def _check_names(here: Iterable[Any], there: Iterable[dict[str, Any]]) -> None:
    """Raise Problem where a name has another key: a database that minted its own cannot take the export's as well."""
    minted = {str(name_of(row)): row.key_id for row in here}
    for row in there:
        name = str(name_of(SimpleNamespace(**row)))
        if minted.get(name, row["key_id"]) != row["key_id"]:
            raise Problem(f"this database has minted a key of its own for {name}, and the export has another one")


def _check_epochs(connection: Connection, body: dict[str, Any], used: Collection[str]) -> None:
    """Raise Problem where epochs of key domains that have keys differ: a database made anew counts its own from one."""
    there = {(row["domain"], row["epoch"]): row["root_id"] for row in body["roots"]}
    for row in connection.execute(select(epochs)):
        if row.domain in used and there.get((row.domain, row.epoch)) != row.root_id:
            raise Problem(
                f"this export does not know epoch {row.epoch} of the root of {row.domain}, which the database "
                "has; take the newest export"
            )


def _compared(connection: Connection, body: dict[str, Any]) -> dict[str, int]:
    """Return what the export changes.

    That is: keys that are added, that are wrapped otherwise or destroyed, and others that stay.
    """
    here = {row.key_id: row for row in connection.execute(select(keys))}
    there = {row["key_id"]: _read_back(row) for row in body["keys"]}
    both = [(here[key_id], row) for key_id, row in there.items() if key_id in here]
    changed = [row for old, row in both if (old.blob, old.state) != (row["blob"], row["state"])]
    destroyed = [row for row in changed if row["state"] == DESTROYED]
    return {
        "added": len(there) - len(both),
        "changed": len(changed) - len(destroyed),
        "destroyed": len(destroyed),
        "only_here": len(here) - len(both),
    }


def _put(connection: Connection, body: dict[str, Any]) -> None:
    """Put rows of the export in place of those with the same key; keys that only the database has stay."""
    already = connection.execute(select(epochs).where(epochs.c.state == DESTROYED)).all()
    for name, table in _TABLES:
        rows = [_read_back(row) for row in body[name]]
        column = next(iter(table.primary_key))
        for batch in database.batches(row[column.name] for row in rows):
            connection.execute(delete(table).where(column.in_(batch)))
        if rows:
            connection.execute(insert(table), rows)
    for row in already:  # the export may be from the moment before its root was destroyed
        ended = {"state": DESTROYED, "destroyed_at": row.destroyed_at}
        connection.execute(update(epochs).where(epochs.c.root_id == row.root_id).values(ended))
    at = body["audit"]
    entry = audit.Entry("custodian", "register-restore", f"export-{at['seq']} {at['hash']}", "restore")
    put_back = [*_put_holds(connection, body.get("holds", [])), *_put_releases(connection, body)]
    audit.append(connection, [entry, *put_back])


def _put_holds(connection: Connection, rows: Iterable[dict[str, Any]]) -> list[audit.Entry]:
    """Put in holds that the database lacks or has in an older version; return the audit entries they rest on."""
    here = {row.hold_id: row.version for row in connection.execute(select(holds.c.hold_id, holds.c.version))}
    entries = []
    for row in rows:
        known, subject = here.get(row["hold_id"], 0), f"{row['hold_id']} {row['digest']}"
        if known >= row["version"]:
            continue
        connection.execute(delete(holds).where(holds.c.hold_id == row["hold_id"]))
        connection.execute(insert(holds).values(**_read_back(row)))
        events = [] if known else ["hold-place"]
        events += ["hold-release"] if row["state"] == "released" else ["hold-renew"] if known else []
        entries += [audit.Entry("retention-run", event, subject, "restored from an export") for event in events]
    return entries


def _forgotten(connection: Connection, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return rows of releases that the database does not know, or does not know to be out.

    What was only reserved when the export was written may have been published since: nothing says that it is out, and
    nothing that its files may be removed. Its charge alone is put back.
    """
    here = dict(connection.execute(select(releases.c.release_id, releases.c.status)).tuples().all())
    return [
        row
        for row in body.get("releases", [])
        if (row["status"] == PUBLISHED and here.get(row["release_id"]) != PUBLISHED)
        or (row["status"] == LOST and row["release_id"] not in here)
    ]


def _put_releases(connection: Connection, body: dict[str, Any]) -> list[audit.Entry]:
    """Put in releases and charges that the database lacks, and return the audit entry of that.

    The database keeps all that it has.
    """
    lacking = _forgotten(connection, body)
    for row in lacking:
        connection.execute(delete(releases).where(releases.c.release_id == row["release_id"]))
        values = _read_back(row)
        connection.execute(insert(releases).values(**{**values, "attempt": _free_attempt(connection, values)}))
    _put_charges(connection, body.get("release_charges", []))
    summary = f"{len(lacking)} of {len(body.get('releases', []))} releases"
    return [audit.Entry("release-run", "release-restore", summary, "restored from an export")] if lacking else []


def _free_attempt(connection: Connection, row: dict[str, Any]) -> int:
    """Return a free number of an attempt at a release: a database that has released the same since counts on."""
    r = releases.c
    same = [getattr(r, name) == row[name] for name in ("tenant", "name", "period_start", "correction_no")]
    taken = set(connection.execute(select(r.attempt).where(*same)).scalars())
    return max(taken) + 1 if row["attempt"] in taken else int(row["attempt"])


def _put_charges(connection: Connection, rows: Iterable[dict[str, Any]]) -> None:
    key = [column.name for column in release_charges.primary_key]
    here = {tuple(row) for row in connection.execute(select(*release_charges.primary_key))}
    lacking = [row for row in rows if tuple(row[name] for name in key) not in here]
    if lacking:
        connection.execute(insert(release_charges), lacking)


def _log_lacks(connection: Connection, body: dict[str, Any]) -> dict[str, int]:
    """Return entries that the logs had when the export was written, and this database has not."""
    here = connection.execute(select(func.max(certificates.c.seq))).scalar() or 0
    there = (body["certificates"] or {"seq": 0})["seq"]
    return {
        "audit_entries_lost": max(0, body["audit"]["seq"] - audit.head(connection)[0]),
        "certificates_lost": max(0, there - here),
    }


def _lake_lacks(settings: Settings, connection: Connection, body: dict[str, Any]) -> dict[str, Any]:
    """Return data files that no key opens any more, that are gone, and that lie in the lake unknown to the manifest."""
    usable = {row["key_id"] for row in body["keys"] if row["blob"] is not None}
    usable |= set(connection.execute(select(keys.c.key_id).where(keys.c.state != DESTROYED)).scalars())
    usable -= {row["key_id"] for row in body["keys"] if row["state"] == DESTROYED}
    files = connection.execute(select(lake_files).where(lake_files.c.removed_at.is_(None))).all()
    there = {file.path for file in Store.of(settings).list() if not file.path.startswith(f"{TRANSIT}/")}
    known = {name for row in files for name in with_sidecar(row.path)}
    current = [row for row in files if row.superseded_at is None]
    return {
        "files_without_key": sorted(row.path for row in current if not usable.issuperset(row.key_ids.split())),
        "files_gone": sorted(row.path for row in current if row.path not in there),
        "files_unknown": len(there - known),
    }
