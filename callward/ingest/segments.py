"""Segments: records that were pushed to us, sealed before they touch a disk, in the landing folder of their source.

A segment is a landing file like any other, `push-<id>.seal`, whose plaintext is in memory alone: zstd, sealed under the
month's key of the archive whose records they become, and bound to its source and name. Its name appears when all of it
is on disk.
"""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

import zstandard

from callward import database
from callward.failpoints import point
from callward.keys.register import KeyName, Keyring
from callward.keys.seal import SealBroken, key_id_of
from callward.runs import new_id
from callward.settings import Settings, Source
from callward.storage.beneath import open_beneath
from callward.storage.durable import write_sealed

PURPOSE: Final = "push"
_PREFIX: Final = "push-"
_SUFFIX: Final = ".seal"
_LEVEL: Final = 1  # of zstd
_STALE_S: Final = 3600.0
_AHEAD: Final = timedelta(hours=1)
_HEAD_BYTES: Final = 64  # enough to read whose key it is


def is_segment(name: str) -> bool:
    """Return whether a file of that name is whole from its first moment, as segments are."""
    return name.startswith(_PREFIX) and name.endswith(_SUFFIX)


def sealing_key(source: Source) -> KeyName:
    """Return the key that a segment is sealed under now: an hour before a month is over that of the next one.

    So a purge that begins with a month finds every segment under the last one's key, and leaves that key alone.
    """
    month = (database.now() + _AHEAD).strftime("%Y-%m")
    return KeyName("archive", source.archive_tenant, month, PURPOSE)


def write(settings: Settings, source: Source, keyring: Keyring, data: bytes) -> Path:
    """Seal `data` as one segment, on disk to last when this returns. Raises OSError, and then nothing is left."""
    name = f"{_PREFIX}{new_id()}{_SUFFIX}"
    packed = zstandard.ZstdCompressor(level=_LEVEL).compress(data)
    blob = keyring.sealer(sealing_key(source)).seal(packed, _binding(source.name, name))
    path = settings.landing_path / source.name / name
    point("segment-sealed")
    write_sealed(path, blob)
    point("segment-written")
    return path


def unseal(blob: bytes, name: str, source: str, keyring: Keyring) -> bytes:
    """Return what a segment holds, whose file has that name and these bytes.

    Raises SealBroken for one that was changed or moved, KeyProblem without its key.
    """
    packed = keyring.sealer_by_id(key_id_of(blob)).open(blob, _binding(source, name))
    try:
        return zstandard.ZstdDecompressor().decompress(packed)
    except zstandard.ZstdError:
        raise SealBroken("what was sealed is no segment") from None


def _binding(source: str, name: str) -> bytes:
    return f"{PURPOSE}|{source}/{name}".encode()


def keys_in_use(settings: Settings) -> set[str]:
    """Return ids of the keys that sealed landing files are under: what is not taken in yet must still open."""
    key_ids = set()
    for name in _sealed_files(settings):
        try:
            with open_beneath(settings.landing_path, name) as file:
                key_ids.add(key_id_of(file.read(_HEAD_BYTES)))
        except (OSError, SealBroken):
            continue  # taken in meanwhile, or no segment at all
    return key_ids


def _sealed_files(settings: Settings) -> Iterator[str]:
    """Yield names below the landing folder."""
    for source in settings.sources:
        for folder, _, names in os.walk(settings.landing_path / source.name):
            below = Path(folder).relative_to(settings.landing_path)
            yield from (str(below / name) for name in names if name.endswith(_SUFFIX))


def remove_drafts(settings: Settings, source: Source) -> int:
    """Remove what receivers that were killed had begun to write, and had not acknowledged; returns how many."""
    removed = 0
    for draft in (settings.landing_path / source.name).glob(f".{_PREFIX}*{_SUFFIX}.*.tmp"):
        with suppress(FileNotFoundError):
            if time.time() - draft.lstat().st_mtime > _STALE_S:
                draft.unlink()
                removed += 1
    return removed
