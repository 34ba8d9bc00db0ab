"""The settings that runs read records under: each is kept once, so that a later change can say what it would alter.

What stands in callward.toml is kept by its path, with each source's declaration as it is read: one that changed with a
release of callward is a change, too. What could be a number or a secret is kept as a keyed hash.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pyarrow as pa
from sqlalchemy import insert, select, update

from callward import database
from callward.keys import tokens
from callward.keys.register import Keyring
from callward.redaction import in_letters
from callward.runs import CODE_VERSION
from callward.settings import Source
from callward.settings.effects import DECLARATION, Path, values
from callward.workspace import NAMES, Workspace
from schemas.tables import runs, settings_in_force

Content = Mapping[Path, Any]  # where a setting stands → its value, or a keyed hash of it
HASHED: Final = "#"  # what a keyed hash begins with
_HASH_LETTERS: Final = 20


def content(workspace: Workspace, keyring: Keyring) -> dict[Path, Any]:
    """Return the settings of a workspace as they are kept. Raises UsageProblem for a declaration that is wrong."""
    every = list(values(workspace.settings))
    for source in workspace.settings.sources:
        every += ((path, value, False) for path, value in _declared(workspace, source))
    hidden = [path for path, value, shown in every if not shown and value]
    texts = [json.dumps(value, sort_keys=True) for _, value, shown in every if not shown and value]
    hashes = dict(zip(hidden, _hashes(keyring, texts), strict=True))
    return {path: hashes.get(path, value) for path, value, _ in every}


def record(workspace: Workspace, run_id: str) -> None:
    """Note the settings that a run reads records under."""
    now = content(workspace, workspace.keyring)
    text = json.dumps(sorted([list(path), value] for path, value in now.items()))
    settings_id = in_letters(hashlib.sha256(text.encode()).digest()[:16])
    row = {"settings_id": settings_id, "first_at": database.now(), "code_version": CODE_VERSION, "content": text}
    known = select(settings_in_force.c.settings_id).where(settings_in_force.c.settings_id == settings_id)
    with database.writing(workspace.settings) as connection:
        if connection.execute(known).first() is None:
            connection.execute(insert(settings_in_force).values(**row))
        connection.execute(update(runs).where(runs.c.run_id == run_id).values(settings_id=settings_id))


def parsed(text: str) -> dict[Path, Any]:
    """Return settings as `record` kept them."""
    return {tuple(path): value for path, value in json.loads(text)}


def _declared(workspace: Workspace, source: Source) -> Iterator[tuple[Path, Any]]:
    """Yield the tables of a source's declaration; those of its fields one by one."""
    place: Path = ("sources", source.name, DECLARATION)
    for name, value in workspace.declaration(source).model_dump(mode="json").items():
        if name == "fields":
            yield from (((*place, name, field), inner) for field, inner in value.items())
        else:
            yield (*place, name), value


def _hashes(keyring: Keyring, texts: list[str]) -> list[str]:
    secret = tokens.derive(keyring.key(NAMES).secret, "settings")
    ids = tokens.mac([pa.array(texts, pa.string())], secret).to_pylist()
    return [HASHED + in_letters(one)[:_HASH_LETTERS] for one in ids]
