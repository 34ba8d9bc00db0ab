"""Public domains: the values a dimension may have, from a versioned file and never from the data.

A key that came from the data would itself say who called: a cell that exists only when somebody called there. So the
grid of a release is known before a row is read, and cells of nobody are noised like the others.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import Column, few
from callward.errors import UsageProblem
from callward.redaction import mask, number_at
from schemas import toml
from schemas.release import DIMENSION_COLUMNS

FORMAT_VERSION: Final = 1
READS: Final = ("text", "hour", "weekday")
_SHIPPED: Final = Path(__file__).parents[2] / "schemas" / "domains"
_KEYS: Final = {"format_version", "name", "version", "source", "columns", "read", "other", "coarser", "cells"}
_LONGEST: Final = 64  # characters of a label: analytics_cells holds no more


@dataclass(frozen=True)
class Domain:
    """A closed list of labels, each with the codes that mean it in a column.

    `read`: how codes come out of the column: as they are, or the hour or weekday (1 Monday) of a UTC time.
    `other` is the label of every other value, and of none; without it such rows are left out, and the sheet says so.
    """

    name: str
    version: str
    source: str
    columns: tuple[str, ...]
    read: str
    other: str | None
    coarser: str | None
    cells: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Return all labels, `other` last."""
        return tuple(label for label, _ in self.cells) + ((self.other,) if self.other is not None else ())

    @property
    def digest(self) -> str:
        """Return SHA-256 of what decides cells: a domain of other labels or codes is another one, whatever its name."""
        text = json.dumps([self.name, self.version, self.read, self.other, self.cells], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def positions(self, column: Column) -> np.ndarray:
        """Return each row's position among `labels` (int64 [n]); -1 where it has none."""
        place = {code: at for at, (_, codes) in enumerate(self.cells) for code in codes}
        elsewhere = len(self.cells) if self.other is not None else -1
        read = few(_read(column, self.read))
        positions = [place.get(code, elsewhere) for code in read.dictionary.to_pylist()]
        rows = read.indices.fill_null(len(positions)).to_numpy(zero_copy_only=False)
        return np.asarray(np.array([*positions, elsewhere], np.int64)[rows])


def _read(column: Column, read: str) -> Column:
    """Return a column as the text that a domain's codes are written in."""
    if read == "text":
        kind = column.type
        text = pa.types.is_dictionary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
        return column if text else column.cast(pa.string())
    parts = pc.hour(column) if read == "hour" else pc.day_of_week(column, count_from_zero=False)
    codes = pa.array([f"{n:02}" for n in range(24)] if read == "hour" else [str(n) for n in range(10)])
    at = parts.cast(pa.int32())
    at = at.combine_chunks() if isinstance(at, pa.ChunkedArray) else at
    return pa.DictionaryArray.from_arrays(at, codes)


def shipped() -> list[str]:
    """Return names of the domains that come with callward."""
    return sorted(path.stem for path in _SHIPPED.glob("*.toml"))


def load(name: str, folder: Path | None = None) -> Domain:
    """Return a domain that comes with callward, or one of your own (a path ending in .toml, relative to `folder`).

    Raises UsageProblem in one sentence.
    """
    if name.endswith(".toml"):
        return _own((folder or Path()) / name)
    if name not in shipped():
        raise UsageProblem(f"no public domain is called {mask(name)!r} (there are: {', '.join(shipped())})")
    return _shipped(name)


@cache
def _shipped(name: str) -> Domain:
    return _parsed((_SHIPPED / f"{name}.toml").read_text(encoding="utf-8"), f"domain {name}")


def _own(path: Path) -> Domain:
    try:
        text = toml.read(path).decode()
    except OSError as error:
        raise UsageProblem(f"domain file {mask(path.name)}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageProblem(f"domain file {mask(path.name)}: not UTF-8") from None
    except toml.NotToml as error:
        raise UsageProblem(f"domain file {mask(path.name)}: {error}") from None
    return _parsed(text, f"domain file {mask(path.name)}")


def _parsed(text: str, where: str) -> Domain:
    try:
        data = toml.parse(text)
    except toml.NotToml as error:
        raise UsageProblem(f"{where}: {error}") from None
    wrong = _wrong(data)
    if wrong:
        raise UsageProblem(f"{where}: {wrong}")
    return Domain(
        data["name"],
        data["version"],
        data["source"],
        tuple(data["columns"]),
        data.get("read", "text"),
        data.get("other"),
        data.get("coarser"),
        tuple((label, tuple(codes)) for label, codes in data["cells"].items()),
    )


def _wrong(data: dict[str, Any]) -> str | None:
    """Return what is wrong with a domain's file, None where nothing is."""
    if (place := number_at(data)) is not None:
        return f"{place}: this looks like a telephone number, and a domain holds none"
    unknown = sorted(data.keys() - _KEYS)
    if unknown:
        return f"unknown key {unknown[0]} (known: {', '.join(sorted(_KEYS))})"
    if data.get("format_version") != FORMAT_VERSION:
        return f"format_version must be {FORMAT_VERSION}"
    for key in ("name", "version", "source"):
        if not isinstance(data.get(key), str) or not data[key].strip():
            return f"{key} is missing: a public domain says its name, its version and where it is published"
    if data.get("read", "text") not in READS:
        return f"read is one of {', '.join(READS)}"
    return _wrong_columns(data.get("columns")) or _wrong_cells(data.get("cells"), data.get("other"))


def _wrong_columns(columns: Any) -> str | None:
    known = {name for names in DIMENSION_COLUMNS.values() for name in names}
    if not isinstance(columns, list) or not columns or not set(columns) <= known:
        return f"columns are some of {', '.join(sorted(known))}: no other column is of a public domain"
    return None


def _wrong_cells(cells: Any, other: Any) -> str | None:
    if not isinstance(cells, dict) or not cells:
        return "cells is a table of labels, each with a list of codes"
    lists = all(isinstance(codes, list) and all(isinstance(code, str) for code in codes) for codes in cells.values())
    if not lists:
        return "every cell is a list of codes, written as text"
    labels = [*cells, *([other] if other is not None else [])]
    codes = [code for listed in cells.values() for code in listed]
    if not all(isinstance(label, str) and 0 < len(label) <= _LONGEST for label in labels):
        return f"labels are text of 1 to {_LONGEST} characters"
    if len(set(labels)) < len(labels) or len(set(codes)) < len(codes):
        return "a label or a code is there twice: each row must fall in one cell"
    return None
