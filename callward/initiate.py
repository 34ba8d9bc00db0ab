"""A new workspace: settings, landing folders, key roots, database. Refuses a folder that is not empty."""

import os
from pathlib import Path

from sqlalchemy import Connection, select

from callward import audit, database, runs, workspace_id
from callward.access import grants
from callward.errors import UsageProblem
from callward.keys import roots, signing
from callward.keys.keys import KeyProblem, create_local, open_source
from callward.keys.roots import root_file as root_file
from callward.keys.signing import SigningKey
from callward.settings import FILE_NAME, KEY_DOMAINS, SIGNERS, Settings, load
from callward.storage.durable import create
from callward.storage.store import Store
from callward.template import brief, render
from schemas.tables import keys


def init(folder: Path, settings: Settings, *, minimal: bool = False, dry_run: bool = False) -> Settings:
    """Make a workspace in `folder` from settings, and return them as they were written.

    `minimal`: only the keys that differ from the defaults are written; otherwise all, each explained.

    Raises UsageProblem when the folder is not empty, also for a dry run, which makes nothing.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageProblem(
            f"{folder} is not an empty folder; 'callward init' makes a new workspace and changes no old one"
        )
    if dry_run:
        return settings
    old = os.umask(0o077)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        named = settings.model_copy(update={"workspace_id": settings.workspace_id or runs.new_id()})
        create(folder / FILE_NAME, (brief if minimal else render)(named).encode())
        written = load(folder / FILE_NAME)
        _make(written)
    finally:
        os.umask(old)
    return written


def upgrade(settings: Settings, *, lost: bool = False) -> None:
    """Bring an existing workspace's database to this version, and make the folders, roots and signing keys it lacks.

    Raises WorkspaceProblem where the database is empty beside a lake or exports, unless it is `lost` for good, and
    where it is another workspace's.
    """
    old = os.umask(0o077)
    try:
        _make(settings, lost=lost)
    finally:
        os.umask(old)


def _make(settings: Settings, *, lost: bool = False) -> None:
    make_folders(settings)
    if not lost:
        workspace_id.check_before_upgrade(settings)
    database.upgrade(settings)
    workspace_id.claim(settings, lost=lost)
    grants.prepare(settings)
    _make_keys(settings)


def next_steps(settings: Settings) -> list[str]:
    """Return what a person does with a new workspace, in order."""
    steps = []
    if settings.missing_windows():
        steps.append(f"in {settings.path}, give every tenant its retention windows")
    if not settings.sources:
        steps.append(
            "there, too: a [[sources]] table for each switch ('callward try FILE' writes one), trunks and accounts"
        )
    config = f" --config {settings.path}"
    return [
        *steps,
        f"callward doctor{config}",
        f"put switch files into {settings.landing_path}/<source>/",
        f"callward nightly{config}",
    ]


def make_folders(settings: Settings) -> None:
    """Make the landing folders of the sources, and the lake's root."""
    Store.of(settings).prepare()
    settings.landing_path.mkdir(parents=True, exist_ok=True, mode=0o750)
    for source in settings.sources:
        (settings.landing_path / source.name).mkdir(parents=True, exist_ok=True, mode=0o750)


# -- roots and signing keys --------------------------------------------------------------------------------------------


def _make_keys(settings: Settings) -> None:
    """Register a root for each key domain and a key for each signer; those that never were are made.

    One that the register knows is not made again when its file is lost: another would open nothing.
    """
    entries = []
    with database.writing(settings) as connection:
        for name in (*KEY_DOMAINS, *SIGNERS):
            if roots.registered(connection, name) is None:
                root_id = (_signer if name in SIGNERS else _root)(settings, connection, name)
                if root_id is not None:
                    roots.add(connection, name, root_id)
                    entries.append(audit.Entry("custodian", "root", f"{name} 1 {root_id}", "the first epoch"))
        audit.append(connection, entries)


def _root(settings: Settings, connection: Connection, domain: str) -> str | None:
    """Return the id of the key domain's root.

    None where it is not the one that wrapped its keys, which doctor then says.
    """
    wrapped_by = set(connection.execute(select(keys.c.root_id).where(keys.c.domain == domain)).scalars())
    path = root_file(settings, domain)
    if path is not None and not path.exists() and not wrapped_by:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        create_local(path)
    try:
        source = open_source(settings.root_uri(domain))
    except KeyProblem:
        return None
    source.close()
    return source.root_id if wrapped_by <= {source.root_id} else None


def _signer(settings: Settings, _connection: Connection, signer: str) -> str:
    """Return the id of the signer's key, made where there is none yet."""
    path = signing.signer_file(settings, signer)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        signing.create(path)
    return signing.key_id(SigningKey(path).public)
