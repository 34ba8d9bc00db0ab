"""A new workspace: settings, landing folders, key roots, database. Refuses a folder that is not empty."""

import os
import shutil
from pathlib import Path

from callward import database
from callward.errors import UsageProblem
from callward.keys import create_local
from callward.settings import CAPABILITIES, FILE_NAME, Settings, load
from callward.template import render


def init(folder: Path, settings: Settings, keys_of: Settings | None = None) -> Settings:
    """Make a workspace in `folder` from settings; `keys_of` copies the roots of another workspace (for comparing two)."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageProblem(f"{folder} is not an empty folder; 'callward init' makes a new workspace and changes no old one")
    old = os.umask(0o077)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE_NAME).write_text(render(settings), encoding="utf-8")
        made = load(folder / FILE_NAME)
        _make_keys(made, keys_of)
        make_folders(made)
        database.upgrade(made)
    finally:
        os.umask(old)
    return made


def make_folders(settings: Settings) -> None:
    """Landing folders of the sources, and the lake's root."""
    settings.lake_path.mkdir(parents=True, exist_ok=True, mode=0o750)
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


def root_file(settings: Settings, capability: str) -> Path | None:
    """The file of a capability's root, None when it is not a local file."""
    uri = settings.root_uri(capability)
    return Path(uri.removeprefix("local:").removeprefix("//")) if uri.startswith("local:///") else None
