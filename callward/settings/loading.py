"""Find, read and check the settings file; each fault is one sentence that names the key."""

import hashlib
import os
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from callward.errors import UsageProblem
from callward.redaction import mask
from callward.settings.settings import Settings
from callward.settings.values import nearest
from schemas import toml

FILE_NAME = "callward.toml"


def _section_at(location: tuple[Any, ...]) -> type[BaseModel] | None:
    """Return the model that holds the key at `location`, following lists and tables of tables."""
    model: type[BaseModel] | None = Settings
    for step in location[:-1]:
        if isinstance(step, int) or model is None:
            continue
        field = model.model_fields.get(str(step))
        if field is None:
            continue  # a name chosen by the user, such as a tenant's
        kinds = [field.annotation, *get_args(field.annotation)]
        model = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
    return model


def _sentence(error: Any) -> str:
    location = tuple(error["loc"])
    where = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden":
        section = _section_at(location)
        known = [n for n in section.model_fields if n not in ("path", "digest")] if section else []
        return f"unknown key {where}{nearest(str(location[-1]), known)}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


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
        raise UsageProblem(
            "\n".join(mask(f"{path.name}: {_sentence(e)}") for e in error.errors()[: toml.FAULTS])
        ) from None
