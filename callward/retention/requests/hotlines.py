"""Hotlines that no answer to a person shows a call to (47 CFR 64.6408): versioned lists, each with its source.

callward comes with a list of national hotlines, so that an answer is never without one. The binding list is the
central database that the rule speaks of: its current download belongs into the workspace's folder `hotlines/`, in the
same form. All lists together count; calls to a hotline stay in the lake, as the rule requires.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from callward.errors import UsageProblem
from callward.settings import Settings
from schemas import toml

FOLDER: Final = "hotlines"
_SHIPPED: Final = Path(__file__).resolve().parents[3] / "schemas" / FOLDER
_E164: Final = re.compile(r"\+[1-9]\d{6,14}")
_KEYS: Final = {"format_version", "version", "source", "numbers"}


@dataclass(frozen=True, repr=False)
class Hotlines:
    """One list: where it is from, its version, and the numbers (E.164) of its hotlines."""

    version: str
    source: str
    numbers: frozenset[str]

    def __repr__(self) -> str:
        return f"Hotlines({self.version})"


def read(path: Path) -> Hotlines:
    """Return a list from its file (TOML); raises UsageProblem naming the file, never a number in it."""
    try:
        data = toml.decode(toml.read(path))
    except (OSError, toml.NotToml):
        raise UsageProblem(f"{path.name}: not a list of hotlines that can be read (TOML)") from None
    wrong = _wrong(data)
    if wrong:
        raise UsageProblem(f"{path.name}: {wrong}")
    return Hotlines(data["version"], data["source"], frozenset(item["number"] for item in data["numbers"]))


def _wrong(data: dict[str, Any]) -> str:
    """Return what is wrong with a list; "" when nothing is."""
    if set(data) != _KEYS or data["format_version"] != 1:
        return f"a list of hotlines has the keys {', '.join(sorted(_KEYS))}, and is of format_version 1"
    if not all(isinstance(data[name], str) and data[name].strip() for name in ("version", "source")):
        return "version and source are text"
    if not isinstance(data["numbers"], list):
        return "numbers are [[numbers]] tables"
    for position, item in enumerate(data["numbers"], 1):
        number = item.get("number") if isinstance(item, dict) else None
        if not isinstance(number, str) or not _E164.fullmatch(number):
            return f"number {position} is not written in E.164, with + and its country code"
    return ""


def lists(settings: Settings) -> list[Hotlines]:
    """Return the lists in force, those that come with callward first."""
    return [read(path) for folder in (_SHIPPED, settings.folder / FOLDER) for path in sorted(folder.glob("*.toml"))]


def numbers(chosen: Iterable[Hotlines]) -> list[str]:
    """Return every hotline of some lists, in order."""
    return sorted(frozenset().union(*(hotlines.numbers for hotlines in chosen)))
