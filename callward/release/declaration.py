"""A release's declaration: what is counted, by what, for whom, and what it may cost. One TOML file each.

The declaration knows its whole grid before a row is read, and the digest of everything that decides a figure: one
table and period is published under one declaration only.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from callward.columns import Column
from callward.errors import UsageProblem
from callward.redaction import mask, number_at
from callward.release import domains
from callward.release.bounding import sensitivity
from callward.release.domains import Domain
from callward.release.mechanisms import sigma_of
from callward.release.suppression import DOMINANCE, INTERNAL_K, USUAL_K
from schemas import toml
from schemas.release import (
    DERIVED_COLUMNS,
    DIMENSION_COLUMNS,
    DIMENSIONS,
    DISTINCT,
    MEASURES,
    NANO,
    POOL,
    VIEW_UNITS,
    Measure,
    analytics_cells,
)

FORMAT_VERSION: Final = 1
OUTSIDE: Final = np.uint64(2**64 - 1)  # the index of a row that is in no cell
LARGEST: Final = 1_000_000  # figures of a release: dense, so all are noised, and stored in one transaction
_NAME: Final = r"^[a-z][a-z0-9_]{0,39}$"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Dimension(_Section):
    """One axis of the table: a column by a public domain."""

    name: str = Field(pattern=_NAME)
    column: str
    domain: str
    version: str | None = None  # of the domain; another one in its file is refused


class Counted(_Section):
    """A measure with its bound: `cap` per unit and cell (l0), or `clip`, the norm of a unit's whole row (l2)."""

    name: str
    cap: int | None = Field(default=None, ge=1, le=10**9)
    clip: float | None = Field(default=None, gt=0, le=10**9)
    share: int = Field(default=1, ge=1, le=1000)  # of the budget, among the measures' shares


class Bounding(_Section):
    """How much one unit may weigh. l0: in at most `cells` cells (chosen by a keyed hash); l2: scaled to a norm."""

    method: Literal["l0", "l2"] = "l0"
    cells: int = Field(default=16, ge=1, le=10_000)


class Budget(_Section):
    """The price of one period in zCDP; `delta` is what epsilon is told for."""

    rho: Decimal = Field(gt=0, le=10)
    delta: float = Field(default=1e-9, gt=0, le=1e-5)

    @field_validator("rho")
    @classmethod
    def _whole(cls, rho: Decimal) -> Decimal:
        if rho * NANO != (rho * NANO).to_integral_value():
            raise ValueError("rho is written in at most nine decimals")
        return rho

    @property
    def nano(self) -> int:
        """Return rho in billionths, as it is stored and summed."""
        return int(self.rho * NANO)


class Suppression(_Section):
    """Thresholds of a threshold table. `within`: dimensions whose cells each get an `other` of their own."""

    k: int = Field(default=INTERNAL_K, ge=1, le=10_000)
    dominance: float = Field(default=DOMINANCE, gt=0, le=1)
    within: tuple[str, ...] = ()
    coarsens: str | None = None  # the internal table whose published cells this one may only join


class Expected(_Section):
    """Round figures that the operator knows anyway, for the lint's made-up traffic: never counted for it."""

    calls_per_day: int = Field(ge=1, le=10**10)
    units: int = Field(ge=1, le=10**9)


class Release(_Section):
    """A declaration as it was read; `folder` is where it and its own domain files lie."""

    format_version: Literal[1]
    name: str = Field(pattern=_NAME)
    title: str = Field(min_length=1, max_length=200)
    kind: Literal["dp", "threshold"]
    audience: Literal["internal", "external"]
    view: Literal["billing", "assurance"]
    tenants: tuple[str, ...] = Field(default=("default",), min_length=1)
    unit: Literal["subscriber", "account"]
    grain: Literal["day", "month"]
    lateness_days: int = Field(ge=0, le=366)
    dimensions: tuple[Dimension, ...] = Field(min_length=1, max_length=DIMENSIONS)
    measures: tuple[Counted, ...] = Field(min_length=1, max_length=12)
    bounding: Bounding = Bounding()
    budget: Budget | None = None
    suppression: Suppression = Suppression()
    suppress_below: int | None = Field(default=None, ge=0, le=10_000)  # of a noisy count; None is the audience's k
    expected: Expected | None = None
    folder: Path = Field(default=Path(), exclude=True)

    @model_validator(mode="after")
    def _consistent(self) -> "Release":
        if self.name == analytics_cells.name:
            raise ValueError(f"{self.name} is the table that all releases are in")
        _check_names("dimension", [d.name for d in self.dimensions])
        _check_names("measure", [m.name for m in self.measures])
        _check_names("tenant", list(self.tenants))
        _check_measures(self)
        if (self.kind == "dp") != (self.budget is not None):
            raise ValueError("[budget] belongs to kind = 'dp', which has a price, and to no other")
        wrong = [name for name in self.suppression.within if name not in {d.name for d in self.dimensions}]
        if wrong:
            raise ValueError(f"suppression.within: no dimension is called {wrong[0]!r}")
        return self

    @property
    def tenant(self) -> str:
        """Return what stands for the tenant wherever the release is named: several are not told apart."""
        return self.tenants[0] if len(self.tenants) == 1 else POOL

    @property
    def rho(self) -> int:
        """Return nano-rho of one period; 0 for a threshold table, which no budget covers."""
        return self.budget.nano if self.budget else 0

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that dimensions and measures need; calling_prefix and called_prefix may be derived."""
        needed = [d.column for d in self.dimensions]
        needed += [name for m in self.measures for name in self.measure(m.name).columns]
        return tuple(dict.fromkeys(needed))

    @property
    def stored_columns(self) -> tuple[str, ...]:
        """Return the view's columns to read for them: numbers in place of the prefixes that are derived from them."""
        derived = DERIVED_COLUMNS[self.view]
        return tuple(dict.fromkeys(derived.get(name, name) for name in self.columns))

    @property
    def suppressed_below(self) -> int:
        """Return the count of units (or of the first measure) that a noisy cell must pass, before 3 sigma is added.

        As the threshold tables do: 11 inside the company (the CMS cell size policy), 15 outside.
        """
        return USUAL_K[self.audience] if self.suppress_below is None else self.suppress_below

    def measure(self, name: str) -> Measure:
        """Return what a measure of this view means."""
        return MEASURES[self.view][name]

    def caps(self) -> np.ndarray:
        """Return what one unit may add to one cell, per measure; int64 [m]."""
        return np.array([_cap(m, self.measure(m.name)) for m in self.measures], np.int64)

    def clips(self) -> list[float]:
        """Return norms that a unit's figures are scaled to under l2, per measure; the cap where none is declared."""
        return [m.clip if m.clip is not None else float(cap) for m, cap in zip(self.measures, self.caps(), strict=True)]

    def sensitivities(self) -> list[float]:
        """Return the most by which one unit moves a measure's vector of cells (L2 norm), per measure."""
        if self.bounding.method == "l2":
            return self.clips()
        return [sensitivity(self.bounding.cells, float(cap)) for cap in self.caps()]

    def sigmas(self) -> list[float]:
        """Return standard deviation of each measure's noise; empty for a threshold table, which has none."""
        if not self.rho:
            return []
        return [
            sigma_of(sensitivity, rho / NANO)
            for sensitivity, rho in zip(self.sensitivities(), self.rhos(), strict=True)
        ]

    def rhos(self) -> list[int]:
        """Return nano-rho of each measure, by their shares; together not more than the release's."""
        whole = sum(m.share for m in self.measures)
        return [self.rho * m.share // whole for m in self.measures]

    @cached_property
    def domains(self) -> tuple[Domain, ...]:
        """Return the dimensions' domains; raises UsageProblem where a file is missing, wrong, or of another version."""
        return tuple(_domain(self, dimension) for dimension in self.dimensions)

    def grid(self) -> "Grid":
        """Return the table's cells."""
        return Grid(
            tuple(Axis(d.name, d.column, domain) for d, domain in zip(self.dimensions, self.domains, strict=True))
        )

    @property
    def spec_digest(self) -> str:
        """Return SHA-256 of everything declared that decides a figure; the title and what is expected do not."""
        declared = self.model_dump(mode="json", exclude={"title", "format_version", "expected"})
        return hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()

    @property
    def domains_digest(self) -> str:
        """Return SHA-256 of the domains as their files are now."""
        return hashlib.sha256(" ".join(domain.digest for domain in self.domains).encode()).hexdigest()


def _check_names(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two {what}s are called {name!r}")


def _check_measures(release: Release) -> None:
    known = MEASURES[release.view]
    for measure in release.measures:
        if measure.name not in known:
            raise ValueError(f"view {release.view} has no measure {measure.name!r} (there are: {', '.join(known)})")
        if known[measure.name].distinct and measure.cap not in (None, 1):
            raise ValueError(f"measure {measure.name} counts each once per cell: its cap is 1")


def _cap(counted: Counted, measure: Measure) -> int:
    return counted.cap if counted.cap is not None else measure.cap


def _domain(release: Release, dimension: Dimension) -> Domain:
    domain = domains.load(dimension.domain, release.folder)
    if dimension.version is not None and domain.version != dimension.version:
        raise UsageProblem(
            f"release {release.name}: dimension {dimension.name} is declared for version {dimension.version} of domain "
            f"{domain.name}, whose file is version {domain.version}"
        )
    public = DIMENSION_COLUMNS[release.view]
    if dimension.column not in public:
        raise UsageProblem(
            f"release {release.name}: dimension {dimension.name}: column {dimension.column} of view {release.view} is "
            f"free text or names somebody; public ones are {', '.join(public)}"
        )
    if dimension.column not in domain.columns:
        raise UsageProblem(
            f"release {release.name}: dimension {dimension.name}: domain {domain.name} says nothing about column "
            f"{dimension.column} of view {release.view} (it does about: {', '.join(domain.columns)})"
        )
    return domain


# -- the grid ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """A dimension with its labels."""

    name: str
    column: str
    domain: Domain


@dataclass(frozen=True)
class Grid:
    """All cells of a table: dense, and numbered by mixed radix over the dimensions, the last one fastest."""

    axes: tuple[Axis, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Return how many labels each dimension has."""
        return tuple(len(axis.domain.labels) for axis in self.axes)

    @property
    def size(self) -> int:
        """Return how many cells there are."""
        return int(np.prod([len(axis.domain.labels) for axis in self.axes], dtype=object))

    def index(self, columns: Mapping[str, Column]) -> np.ndarray:
        """Return the cell of each row, u64 [n]; OUTSIDE where a dimension has no label for it.

        `columns`: by the names in `Release.columns` (a mapping or a table), n rows each.
        """
        positions = [axis.domain.positions(columns[axis.column]) for axis in self.axes]
        inside = np.min(positions, axis=0) >= 0
        cells = np.zeros(len(inside), np.uint64)
        for position, size in zip(positions, self.shape, strict=True):
            cells = cells * np.uint64(size) + position.astype(np.uint64)
        return np.where(inside, cells, OUTSIDE)

    def positions(self, cells: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return per dimension the position of each cell's label; int64 [n] each."""
        return tuple(np.unravel_index(cells.astype(np.int64), self.shape))

    def labels(self, cells: np.ndarray) -> list[pa.DictionaryArray]:
        """Return per dimension the label of each cell, n each."""
        by_axis = zip(self.positions(cells), self.axes, strict=True)
        return [pa.DictionaryArray.from_arrays(pa.array(at, pa.int32()), axis.domain.labels) for at, axis in by_axis]

    def parents(self, cells: np.ndarray, within: Iterable[str]) -> np.ndarray:
        """Return a number for each cell that cells with the same labels in the dimensions `within` share; u64 [n]."""
        names, numbers = set(within), np.zeros(len(cells), np.uint64)
        for axis, at, size in zip(self.axes, self.positions(cells), self.shape, strict=True):
            if axis.name in names:
                numbers = numbers * np.uint64(size) + at.astype(np.uint64)
        return numbers


# -- periods -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Period:
    """Whole UTC dates of calls, first to last, within one calendar month: the unit's tokens live one month."""

    start: date
    end: date

    @classmethod
    def parse(cls, grain: str, text: str) -> "Period":
        """Read "2026-11-21" (day) or "2026-11" (month); raises UsageProblem."""
        form = r"\d{4}-\d{2}-\d{2}" if grain == "day" else r"\d{4}-\d{2}"
        try:
            if not re.fullmatch(form, text):
                raise ValueError
            return cls.holding(grain, date.fromisoformat(text if grain == "day" else f"{text}-01"))
        except ValueError:
            shown = "2026-11-21" if grain == "day" else "2026-11"
            raise UsageProblem(f"a period of grain {grain} is written like {shown}") from None

    @classmethod
    def holding(cls, grain: str, day: date) -> "Period":
        """Return the period of that grain in which the day lies."""
        if grain == "day":
            return cls(day, day)
        first = day.replace(day=1)
        return cls(first, (first + timedelta(days=31)).replace(day=1) - timedelta(days=1))

    @property
    def month(self) -> str:
        """Return the calendar month it lies in, YYYY-MM."""
        return f"{self.start:%Y-%m}"

    @property
    def parts(self) -> list[str]:
        """Return the partitions (call dates) that it covers."""
        days = (self.end - self.start).days + 1
        return [(self.start + timedelta(days=n)).isoformat() for n in range(days)]

    def due(self, lateness_days: int) -> date:
        """Return the first day on which it may be published: whoever was late by then is in."""
        return self.end + timedelta(days=1 + lateness_days)

    def overlaps(self, other: "Period") -> bool:
        """Return whether they share a date."""
        return self.start <= other.end and other.start <= self.end

    def __str__(self) -> str:
        return self.start.isoformat() if self.start == self.end else self.month


# -- reading -----------------------------------------------------------------------------------------------------------


def load(path: Path) -> Release:
    """Read a declaration and its domains; raises UsageProblem in one sentence that names the file and the key."""
    try:
        text = toml.read(path).decode()
    except OSError as error:
        raise UsageProblem(f"{mask(str(path))}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageProblem(f"{mask(str(path))}: not UTF-8") from None
    except toml.NotToml as error:
        raise UsageProblem(f"{mask(str(path))}: {error}") from None
    return parse(text, path.parent, mask(path.name))


def parse(text: str, folder: Path = Path(), where: str = "declaration") -> Release:
    """Read a declaration from its text; `folder` is where its own domain files lie.

    Raises UsageProblem, naming `where` and the key, for one that is wrong or too large.
    """
    try:
        release = Release(**_given(toml.parse(text), where), folder=folder)
    except toml.NotToml as error:
        raise UsageProblem(f"{where}: {error}") from None
    except ValidationError as error:
        raise UsageProblem(
            "\n".join(f"{where}: {_sentence(problem)}" for problem in error.errors()[: toml.FAULTS])
        ) from None
    if release.unit not in VIEW_UNITS[release.view]:
        raise UsageProblem(
            f"{where}: view {release.view} does not know its rows' {release.unit}: the unit is the account"
        )
    for name in (measure.name for measure in release.measures):
        if release.kind == "dp" and release.measure(name).distinct and name != DISTINCT[release.unit]:
            raise UsageProblem(
                f"{where}: with unit {release.unit} only distinct {DISTINCT[release.unit]} can be counted"
            )
    size = release.grid().size
    if size * len(release.measures) > LARGEST:
        raise UsageProblem(f"{where}: {size:,} cells of {len(release.measures)} measures; {LARGEST:,} figures at most")
    return release


def _given(data: dict[str, Any], where: str) -> dict[str, Any]:
    if (place := number_at(data)) is not None:
        raise UsageProblem(f"{where}: {place}: this looks like a telephone number, and a declaration is published")
    if "folder" in data:
        raise UsageProblem(f"{where}: folder: is not known")
    return data


def _sentence(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    message = "is not known" if error["type"] == "extra_forbidden" else str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
