"""Find, read and check the settings file; each fault is one sentence that names the key."""

import hashlib
import os
from pathlib import Path

from pydantic import ValidationError

from callward.errors import UsageProblem
from callward.redaction import mask
from callward.settings.sentences import sentence
from callward.settings.settings import Settings
from schemas import toml

FILE_NAME = "callward.toml"


def find(config: str | os.PathLike[str] | None = None) -> Path:
    """Return the settings file: --config, then CALLWARD_CONFIG, then callward.toml here; raises UsageProblem."""
    path = Path(config or os.environ.get("CALLWARD_CONFIG") or FILE_NAME).absolute()
    if path.is_dir():
        path /= FILE_NAME
    if not path.is_file():
        raise UsageProblem(
            f"no settings file {mask(str(path))}; make a workspace with 'callward init DIR', or name one with --config"
        )
    return path


def load(config: str | os.PathLike[str] | None = None) -> Settings:
    """Read and check the settings; raises UsageProblem naming the file, the key and the nearest right one."""
    path = find(config)
    try:
        text = toml.read(path)
        data = toml.decode(text)
    except OSError as error:
        raise UsageProblem(f"{mask(str(path))}: {error.strerror}") from None
    except toml.NotToml as error:
        raise UsageProblem(f"{mask(str(path))}: {error}") from None
    for name in ("path", "digest"):
        if name in data:
            raise UsageProblem(f"{path}: unknown key {name}")
    try:
        return Settings(**data, path=path, digest=hashlib.sha256(text).hexdigest())
    except ValidationError as error:
        faults = error.errors()[: toml.FAULTS]
        raise UsageProblem("\n".join(f"{mask(path.name)}: {sentence(Settings, fault)}" for fault in faults)) from None
