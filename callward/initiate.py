"""A new workspace: settings, landing folders, key roots, database. Refuses a folder that is not empty."""

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Connection, insert, select

from callward import audit, database
from callward.errors import UsageProblem
from callward.keys import roots, rotation, signing
from callward.keys.keys import KeyProblem, create_local, open_source
from callward.keys.register import EVERY_MONTH, KeyName, Keyring, name_of
from callward.keys.roots import root_file as root_file
from callward.keys.signing import SigningKey
from callward.redaction import mask
from callward.settings import FILE_NAME, KEY_DOMAINS, SIGNERS, Settings, load
from callward.storage.durable import create
from callward.storage.store import Store
from callward.template import render
from schemas import retention
from schemas.tables import keys

_LONGEST_REASON = 255


def init(
    folder: Path,
    settings: Settings,
    keys_of: Settings | None = None,
    *,
    months: Iterable[str] = (),
    dry_run: bool = False,
) -> Settings:
    """Make a workspace in `folder` from settings; `keys_of` copies the keys of another workspace (for comparing two).

    `months` (YYYY-MM) are those that both are to have the same ids for, besides those that the other has had already.
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
        create(folder / FILE_NAME, render(settings).encode())
        made = load(folder / FILE_NAME)
        if keys_of is not None:
            _mint_shared(keys_of, months)
            _note_copy(keys_of, folder)
            _copy_roots(keys_of, made)
        make_folders(made)
        database.upgrade(made)
        if keys_of is not None:
            _copy_register(keys_of, made)
        _make_keys(made)
    finally:
        os.umask(old)
    return made


def upgrade(settings: Settings) -> None:
    """Bring an existing workspace's database to this version, and make the folders, roots and signing keys it lacks."""
    old = os.umask(0o077)
    try:
        make_folders(settings)
        database.upgrade(settings)
        _make_keys(settings)
    finally:
        os.umask(old)


def next_steps(settings: Settings) -> list[str]:
    """What a person does with a new workspace, in order."""
    steps = []
    if settings.missing_windows():
        steps.append(f"in {settings.path}, give every tenant its retention windows")
    if not settings.sources:
        steps.append("there, too: a [[sources]] table for each switch, the trunks and the accounts")
    config = f" --config {settings.path}"
    return [
        *steps,
        f"callward doctor{config}",
        f"put switch files into {settings.landing_path}/<source>/",
        f"callward nightly{config}",
    ]


def make_folders(settings: Settings) -> None:
    """Landing folders of the sources, and the lake's root."""
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
    """Id of the key domain's root; None where it is not the one that wrapped its keys, which doctor then says."""
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
    """Id of the signer's key, made where there is none yet."""
    path = signing.signer_file(settings, signer)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        signing.create(path)
    return signing.key_id(SigningKey(path).public)


# -- keys of another workspace -----------------------------------------------------------------------------------------


def like(folder: Path, other: Settings) -> Settings:
    """Settings of a new workspace with the tenants, sources, trunks and accounts of another one."""
    sources = [
        source.model_copy(update={"format": str(other.below(source.format))})
        if source.format.endswith(".toml")
        else source
        for source in other.sources
    ]
    same = {name: getattr(other, name) for name in ("tenants", "trunks", "accounts", "thresholds")}
    return Settings(path=folder / FILE_NAME, sources=sources, **same)


def shared_keys(tenant: str, months: Iterable[str]) -> list[KeyName]:
    """Keys that two workspaces need in common for a tenant's records of some months to become equal rows in both."""
    names = [KeyName("ids", tenant, EVERY_MONTH, "record")]
    for month in months:
        names += [KeyName(view, tenant, month, use) for view in ("billing", "assurance") for use in ("id", "content")]
        names += [KeyName("billing-numbers", tenant, month, "token"), KeyName("assurance", tenant, month, "account")]
    return names


def checked_months(months: Sequence[str], other: Settings | None) -> list[str]:
    """The months given (YYYY-MM), else last month, this one and the next: what a pilot that begins today is about.

    Raises UsageProblem for a month that is none, or where there is no other workspace to have it in common with.
    """
    if months and other is None:
        raise UsageProblem("--month goes with --keys-of")
    for month in months:
        if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
            raise UsageProblem(f"--month {mask(month)!r} is no month; write YYYY-MM")
    first = database.now().date().replace(day=1)
    near = [first - timedelta(1), first, first + timedelta(31)]
    return list(months) or [day.strftime("%Y-%m") for day in near]


def _mint_shared(theirs: Settings, months: Iterable[str]) -> None:
    """Keys are minted when they are first used: what is minted after the copy would differ in the two workspaces."""
    wanted = {name for tenant in theirs.tenants for name in shared_keys(tenant, months)}
    with database.reading(theirs) as connection:
        known = {name_of(row) for row in connection.execute(select(keys))}
    Keyring(theirs, "custodian", "a workspace with the same keys").keys(sorted(wanted - known))


def _note_copy(theirs: Settings, folder: Path) -> None:
    """Recorded before it is made: what the other workspace destroys from now on opens in this one, until it goes too.

    Certificates name such copies until the custodian confirms that they are destroyed.
    """
    rotation.recover(theirs)
    place = mask(f"workspace {folder.absolute()}")[:_LONGEST_REASON]
    for domain in KEY_DOMAINS:
        rotation.add_copy(theirs, domain, place)


def _copy_roots(theirs: Settings, ours: Settings) -> None:
    """The root files of another workspace, those that are kept in files."""
    for domain in KEY_DOMAINS:
        source, path = root_file(theirs, domain), root_file(ours, domain)
        if source is None or path is None:
            raise UsageProblem(f"the other workspace's {domain} root is not a local file")
        if source.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.copyfile(source, path)
            path.chmod(0o600)


def _copy_register(theirs: Settings, ours: Settings) -> None:
    """Month keys and root epochs of the other workspace: with the same roots they give the same ids and tokens."""
    with database.reading(theirs) as connection:
        minted = [dict(row._mapping) for row in connection.execute(select(keys))]
        epochs = select(retention.roots).where(retention.roots.c.domain.in_(KEY_DOMAINS))
        registered = [dict(row._mapping) for row in connection.execute(epochs)]
    with database.writing(ours) as connection:
        for table, rows in ((keys, minted), (retention.roots, registered)):
            if rows:
                connection.execute(insert(table), rows)
        reason = f"copied from workspace {mask(str(theirs.folder))}"[:_LONGEST_REASON]
        audit.append(connection, [audit.Entry("custodian", "keys-of", f"{len(minted)} keys", reason)])
