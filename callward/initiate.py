"""A new workspace: settings, landing folders, key roots, database. Refuses a folder that is not empty."""

import os
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sqlalchemy import insert, select

from callward import database
from callward.errors import UsageProblem
from callward.keys import create_local
from callward.settings import CAPABILITIES, FILE_NAME, Settings, load
from callward.template import render
from schemas.tables import keys


def init(folder: Path, settings: Settings, keys_of: Settings | None = None, *, dry_run: bool = False) -> Settings:
    """Make a workspace in `folder` from settings; `keys_of` copies the keys of another workspace (for comparing two).

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
        (folder / FILE_NAME).write_text(render(settings), encoding="utf-8")
        made = load(folder / FILE_NAME)
        _make_keys(made, keys_of)
        make_folders(made)
        database.upgrade(made)
        if keys_of is not None:
            _copy_register(keys_of, made)
    finally:
        os.umask(old)
    return made


def upgrade(settings: Settings) -> None:
    """Bring an existing workspace's database to this version, and make the folders that it lacks."""
    old = os.umask(0o077)
    try:
        make_folders(settings)
        database.upgrade(settings)
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
    settings.lake_path.mkdir(parents=True, exist_ok=True, mode=0o750)
    settings.landing_path.mkdir(parents=True, exist_ok=True, mode=0o750)
    for source in settings.sources:
        (settings.landing_path / source.name).mkdir(parents=True, exist_ok=True, mode=0o750)


def _make_keys(settings: Settings, keys_of: Settings | None) -> None:
    for capability in CAPABILITIES:
        path = root_file(settings, capability)
        if path is None or path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if keys_of is None:
            create_local(path)
        else:
            source = root_file(keys_of, capability)
            if source is None:
                raise UsageProblem(f"the other workspace's {capability} root is not a local file")
            shutil.copyfile(source, path)
            path.chmod(0o600)


def _copy_register(theirs: Settings, ours: Settings) -> None:
    """The month keys that the other workspace has minted: with the same roots they give the same ids and tokens."""
    with database.reading(theirs) as connection:
        rows = [dict(row._mapping) for row in connection.execute(select(keys))]
    if rows:
        with database.writing(ours) as connection:
            connection.execute(insert(keys), rows)


def root_file(settings: Settings, capability: str) -> Path | None:
    """The file of a capability's root, None when it is not a local file."""
    uri = settings.root_uri(capability)
    return Path(unquote(urlsplit(uri).path)) if uri.startswith("local:///") else None
