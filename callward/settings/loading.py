"""Find, read and check the settings file; each fault is one sentence that names the key."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from callward.errors import UsageProblem
from callward.redaction import mask
from callward.settings import environment
from callward.settings.sentences import sentence
from callward.settings.settings import Settings
from schemas import toml

FILE_NAME = "callward.toml"


@dataclass(frozen=True)
class Fault:
    """What is wrong with the settings, in a sentence: the file or the variable it is in, and where in the file."""

    within: str
    location: tuple[str | int, ...]
    sentence: str


class SettingsWrong(UsageProblem):
    """The settings are wrong: a line for each fault."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(f"{fault.within}: {fault.sentence}" for fault in faults))
        self.faults = faults


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


def load(config: str | os.PathLike[str] | None = None, variables: Mapping[str, str] | None = None) -> Settings:
    """Read and check the settings: the file's, and over them those of the environment (or of `variables`).

    Raises UsageProblem naming the file or the variable, the key and the nearest right one.
    """
    path = find(config)
    given = environment.variables(os.environ if variables is None else variables)
    try:
        text = toml.read(path)
    except OSError as error:
        raise UsageProblem(f"{mask(str(path))}: {error.strerror}") from None
    except toml.NotToml as error:
        raise UsageProblem(f"{mask(str(path))}: {error}") from None
    return _checked(path, text, tuple(given.items()))


@lru_cache(maxsize=8)  # every role that a process opens the workspace for reads them, and they are frozen
def _checked(path: Path, text: bytes, variables: tuple[tuple[str, str], ...]) -> Settings:
    given = dict(variables)
    try:
        data = toml.decode(text)
    except toml.NotToml as error:
        raise UsageProblem(f"{mask(str(path))}: {error}") from None
    for name in ("path", "digest", "variables"):
        if name in data:
            raise UsageProblem(f"{mask(str(path))}: unknown key {name}")
    if given:
        from callward.settings.variable import tables  # its library takes long to load

        data = environment.overlaid(data, tables(Settings, given))
    try:
        return Settings(**data, path=path, digest=_digest(text, given), variables=given)
    except ValidationError as error:
        raise SettingsWrong(list(_faults(path, error, given))) from None


def _digest(text: bytes, given: Mapping[str, str]) -> str:
    """Return a hash (SHA-256, hex) that changes with the file, and with what stands over it."""
    return hashlib.sha256(text + (json.dumps(given, sort_keys=True).encode() if given else b"")).hexdigest()


def _faults(path: Path, error: ValidationError, given: Mapping[str, str]) -> Iterator["Fault"]:
    """Yield each fault, with the variable or the file which it is in."""
    for fault in error.errors()[: toml.FAULTS]:
        variable = environment.variable_of(fault["loc"], given)
        place = () if variable else fault["loc"]
        for line in sentence(Settings, fault).splitlines():
            yield Fault(mask(variable or path.name), place, line)
