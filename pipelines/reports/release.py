"""What the commands of `callward release` say: declarations, findings, budgets, previews, and what is out."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from sqlalchemy import Row, select

from callward import database
from callward.errors import UsageProblem
from callward.release import budget, declaration, lint, mechanisms, preview, publication
from callward.release.budget import Balance
from callward.release.declaration import Period, Release
from callward.release.preview import MeasurePreview, Preview, SizeClass, Volumes
from callward.settings import Settings, nearest
from pipelines import terminal
from pipelines.release import DueRelease, Released, ReleasePlan, declared, findings, named
from pipelines.results import Part, Result, Rows, Verbatim
from schemas import release as schema
from schemas.release import NANO, analytics_cells

_DELTA = 1e-9  # what epsilon is told for where no declaration says
_FORMS = ("table", "csv", "sheet")


# -- declarations ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReleaseFinding:
    """One thing about a declaration. `refuses`: it may not run so."""

    name: str
    code: str
    sentence: str
    refuses: bool


@dataclass(frozen=True)
class Linted(Rows):
    """Findings about declarations; exit code 3 where one may not run so."""

    rows: Sequence[ReleaseFinding]
    title: str = "Declarations"

    @property
    def exit_code(self) -> int:
        return 3 if any(finding.refuses for finding in self.rows) else 0


def lint_declarations(settings: Settings, name: str | None, calls: int | None, units: int | None) -> Linted:
    """Return findings of one declaration or of all; one without any says so."""
    everyone = declared(settings)
    rows = []
    for release in everyone if name is None else [named(settings, name)]:
        known = findings(settings, release, everyone, volumes_of(release, calls, units))
        known = known or [lint.Finding("fine", "nothing unsafe was found", refuses=False)]
        rows += [ReleaseFinding(release.name, **vars(finding)) for finding in known]
    return Linted(rows)


def volumes_of(release: Release, calls: int | None, units: int | None) -> Volumes | None:
    """Made-up traffic of the size given, else of what the declaration expects; None where neither says."""
    if (calls is None) != (units is None):
        raise UsageProblem("--calls and --units go together")
    if calls is not None and units is not None:
        return Volumes(calls, units)
    return preview.expected_volumes(release)


@dataclass(frozen=True, kw_only=True)
class ReleaseListed:
    """A declared table, or one that is out and no longer declared; `last_out` is the period published last."""

    name: str
    kind: str
    audience: str
    view: str
    tenant: str
    unit: str
    grain: str | None = None
    cells: int | None = None
    rho: float
    periods_out: int
    last_out: str | None


def list_releases(settings: Settings) -> Rows:
    """Return each declared table, and what is out of tables no longer declared."""
    with database.reading(settings) as connection:
        out = budget.published(connection)
    last = {(row.name, row.tenant): row for row in out}
    rows = [_declared(release, out, last.pop((release.name, release.tenant), None)) for release in declared(settings)]
    return Rows([*rows, *(_undeclared(row, out) for row in last.values())], "Releases")


def _declared(release: Release, out: Sequence[Row[Any]], last: Row[Any] | None) -> ReleaseListed:
    return ReleaseListed(
        name=release.name,
        kind=release.kind,
        audience=release.audience,
        view=release.view,
        tenant=release.tenant,
        unit=release.unit,
        grain=release.grain,
        cells=release.grid().size,
        rho=release.rho / NANO,
        periods_out=_periods(out, release.name, release.tenant),
        last_out=str(Period(last.period_start, last.period_end)) if last is not None else None,
    )


def _undeclared(row: Row[Any], out: Sequence[Row[Any]]) -> ReleaseListed:
    return ReleaseListed(
        **{name: getattr(row, name) for name in ("name", "kind", "audience", "view", "tenant", "unit")},
        rho=row.rho / NANO,
        periods_out=_periods(out, row.name, row.tenant),
        last_out=str(Period(row.period_start, row.period_end)),
    )


def _periods(out: Sequence[Row[Any]], name: str, tenant: str) -> int:
    return len({row.period_start for row in out if (row.name, row.tenant) == (name, tenant)})


@dataclass(frozen=True)
class ExampleListed:
    """A declaration that comes with callward."""

    name: str
    kind: str
    audience: str
    title: str


@dataclass(frozen=True)
class ExampleShown(Result):
    """A declaration that comes with callward, as it is written."""

    name: str
    declaration: str  # TOML

    def render(self) -> Iterator[Part]:
        yield self.declaration.removesuffix("\n")


def list_examples() -> Rows:
    """Return the declarations that come with callward."""
    releases = [declaration.parse(schema.example(name)) for name in schema.examples()]
    return Rows([ExampleListed(one.name, one.kind, one.audience, one.title) for one in releases], "Examples")


def show_example(name: str) -> ExampleShown:
    """Return a declaration to begin with. Raises UsageProblem naming the nearest one."""
    if name not in schema.examples():
        raise UsageProblem(f"no example is called {name!r}{nearest(name, schema.examples())}")
    return ExampleShown(name, schema.example(name))


# -- budgets -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class BudgetListed:
    """A scope that was charged, in rho, and the epsilon that what was spent amounts to at `delta`."""

    tenant: str
    unit: str
    window: str
    cap: float
    spent: float
    lost: float
    left: float
    epsilon: float
    delta: float


def list_budgets(settings: Settings) -> Rows:
    """Return the scopes that were ever charged."""
    with database.reading(settings) as connection:
        balances = budget.balances(settings, connection)
    return Rows([_budget(balance) for balance in balances], "Privacy budgets")


def _budget(balance: Balance) -> BudgetListed:
    return BudgetListed(
        tenant=balance.tenant,
        unit=balance.unit,
        window=balance.window,
        cap=balance.cap / NANO,
        spent=balance.spent / NANO,
        lost=balance.lost / NANO,
        left=balance.left / NANO,
        epsilon=round(mechanisms.epsilon_of(balance.spent / NANO, _DELTA), 3) if balance.spent else 0.0,
        delta=_DELTA,
    )


# -- previews ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Previewed(Preview, Result):
    """A preview for a person: a table for each measure."""

    def render(self) -> Iterator[Part]:
        yield f"{self.name}, on {self.on}: nothing of the true data was read, and no budget was spent"
        yield from map(_measure_table, self.measures)


def _measure_table(measure: MeasurePreview) -> terminal.Table:
    kept = f"; bounding keeps {measure.kept_share:.0%}" if measure.kept_share is not None else ""
    useful = f"{measure.useful_share:.0%} of it in cells above ten sigma"
    title = f"{measure.name}: noise ±{measure.error_95:,} (95 of 100); {useful}{kept}"
    rows = [(_sizes(size), size.cells, f"{size.median:.0%}", f"{size.p95:.0%}") for size in measure.sizes]
    return terminal.table(title, ("true size", "cells", "median error", "95 of 100 below"), rows)


def _sizes(size: SizeClass) -> str:
    return f"{size.from_:,} to {size.to:,}" if size.to else f"{size.from_:,} and more"


def preview_release(settings: Settings, name: str, calls: int | None, units: int | None, like: str | None) -> Previewed:
    """Return what a table would be worth; never counted on the true data."""
    release = named(settings, name)
    if like is not None:
        values = _values(settings, release, like)
        return Previewed(**vars(preview.preview_published(release, values, f"{name} of {like}, which is out")))
    volumes = volumes_of(release, calls, units)
    if volumes is None:
        raise UsageProblem(
            f"say how much traffic to make up: --calls A_DAY --units N, or 'expected' in the declaration of {name}"
        )
    return Previewed(**vars(preview.preview(release, volumes)))


def _values(settings: Settings, release: Release, period: str) -> np.ndarray:
    """Return a period's published figures: int64 [size, m], 0 where suppressed. They are public: looking is free."""
    row = _row(settings, release.name, period, None)
    if row.spec_digest != release.spec_digest:
        raise UsageProblem(f"{release.name} of {period} was released under another declaration")
    c = analytics_cells.c
    names = [measure.name for measure in release.measures]
    values = np.zeros((release.grid().size, len(names)), np.int64)
    with database.reading(settings) as connection:
        for cell, measure, value in connection.execute(
            select(c.cell, c.measure, c.value).where(c.release_id == row.release_id, c.value.is_not(None))
        ):
            values[cell, names.index(measure)] = value
    return values


# -- what is out -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CellsShown(Result):
    """The cells of a release as a table; the document is its data sheet, just as it was published."""

    files: Mapping[str, bytes]

    def print_document(self) -> None:
        _file(self.files, "sheet.json").print_document()

    def render(self) -> Iterator[Part]:
        cells = pq.read_table(io.BytesIO(self.files["cells.parquet"]))
        columns = [column.to_pylist() for column in cells.columns]
        yield terminal.table("", cells.column_names, list(zip(*columns, strict=True)))


@dataclass(frozen=True)
class CsvShown(CellsShown):
    """The cells of a release as CSV, just as they were published."""

    def render(self) -> Iterator[Part]:
        return _file(self.files, "cells.csv").render()


def _file(files: Mapping[str, bytes], name: str) -> Verbatim:
    return Verbatim(files[name].decode())


def show(settings: Settings, name: str, period: str, correction: int | None, form: str) -> Result:
    """Return a table that is out, in a form. Raises UsageProblem for what is not out, or is no form."""
    published = budget.Published(_row(settings, name, period, correction))
    files = publication.read(settings.released_path / published.row.path, published.files)
    if form not in _FORMS:
        raise UsageProblem(f"--format is table, csv or sheet, not {form!r}")
    if form == "sheet":
        return _file(files, "sheet.json")
    return CsvShown(files) if form == "csv" else CellsShown(files)


def _row(settings: Settings, name: str, period: str, correction: int | None) -> Row[Any]:
    with database.reading(settings) as connection:
        rows = budget.published(connection, name)
    if not rows:
        raise UsageProblem(f"nothing of {name!r} is released")
    of_period = [row for row in rows if str(Period(row.period_start, row.period_end)) == period]
    wanted = [row for row in of_period if correction is None or row.correction_no == correction]
    if not wanted:
        known = sorted({str(Period(row.period_start, row.period_end)) for row in rows})
        raise UsageProblem(f"{name} of {period!r} is not released{nearest(period, known)}")
    return wanted[-1]


# -- a release ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ReleaseMade(Released, Result):
    """A table that is out."""

    def render(self) -> Iterator[Part]:
        correction = f" (correction {self.correction_no})" if self.correction_no else ""
        word = "differentially private" if self.kind == "dp" else "suppressed by thresholds, not anonymous"
        yield f"{self.name} of {self.period}{correction}: {word}, for {self.audience} use"
        suppressed = f"{self.cells['number']:,} cells, {self.cells['suppressed']:,} of them suppressed"
        yield f"{suppressed}; {budget.rho_text(self.rho)} rho"
        yield f"in {self.folder}: {', '.join(sorted(self.files))}"


@dataclass(frozen=True, kw_only=True)
class ReleasePlanned(ReleasePlan, Result):
    """What a release would cost."""

    def render(self) -> Iterator[Part]:
        yield f"{self.name} of {self.period}: {self.status}; due from {self.due}; {self.cells:,} cells"
        yield f"it takes {budget.rho_text(self.rho)} rho; left before it:"
        yield from (f"  {scope}: {budget.rho_text(left)}" for scope, left in self.left_before.items())
        yield "nothing was changed"


@dataclass(frozen=True)
class DueReleases(Rows):
    """Releases that were due; exit code 3 where one could not be published."""

    rows: Sequence[DueRelease]
    title: str = "Releases due"

    @property
    def exit_code(self) -> int:
        return 3 if any(release.status != "published" for release in self.rows) else 0
