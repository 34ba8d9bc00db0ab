"""What the commands of `callward release` show: declarations, findings, budgets, previews, and what is out."""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from sqlalchemy import Row, select

from callward import database
from callward.errors import UsageProblem
from callward.release import budget, declaration, lint, mechanisms, preview, publication
from callward.release.declaration import Period, Release
from callward.release.preview import Volumes
from callward.settings import Settings, nearest
from pipelines import terminal
from pipelines.release import declared, findings, named
from schemas import release as schema
from schemas.release import NANO, analytics_cells

_DELTA = 1e-9  # what epsilon is told for where no declaration says


# -- declarations ------------------------------------------------------------------------------------------------------


def linted(settings: Settings, name: str | None, calls: int | None, units: int | None) -> list[dict[str, Any]]:
    """Findings of one declaration or of all; one without any says so."""
    everyone = declared(settings)
    found = []
    for release in everyone if name is None else [named(settings, name)]:
        told = findings(settings, release, everyone, volumes_of(release, calls, units))
        told = told or [lint.Finding("fine", "nothing unsafe was found", refuses=False)]
        found += [{"name": release.name, **vars(one)} for one in told]
    return found


def volumes_of(release: Release, calls: int | None, units: int | None) -> Volumes | None:
    """Made-up traffic of the size given, else of what the declaration expects; None where neither says."""
    if (calls is None) != (units is None):
        raise UsageProblem("--calls and --units go together")
    if calls is not None and units is not None:
        return Volumes(calls, units)
    return preview.expected_volumes(release)


def listed(settings: Settings) -> list[dict[str, Any]]:
    """Each declared table, with the period that was published last; and what is out of tables no longer declared."""
    with database.reading(settings) as connection:
        out = budget.published(connection)
    last = {(row.name, row.tenant): row for row in out}
    rows = [
        {
            "name": release.name,
            "kind": release.kind,
            "audience": release.audience,
            "view": release.view,
            "tenant": release.tenant,
            "unit": release.unit,
            "grain": release.grain,
            "cells": release.grid().size,
            "rho": release.rho / NANO,
            "periods_out": _periods(out, release.name, release.tenant),
            "last_out": _last(last.pop((release.name, release.tenant), None)),
        }
        for release in declared(settings)
    ]
    rows += [_undeclared(row, out) for row in last.values()]
    return rows


def _undeclared(row: Row[Any], out: Sequence[Row[Any]]) -> dict[str, Any]:
    told = {name: getattr(row, name) for name in ("name", "kind", "audience", "view", "tenant", "unit")}
    periods = _periods(out, row.name, row.tenant)
    return {**told, "grain": None, "cells": None, "rho": row.rho / NANO, "periods_out": periods, "last_out": _last(row)}


def _periods(out: Sequence[Row[Any]], name: str, tenant: str) -> int:
    return len({row.period_start for row in out if (row.name, row.tenant) == (name, tenant)})


def _last(row: Row[Any] | None) -> str | None:
    return None if row is None else str(Period(row.period_start, row.period_end))


def examples() -> list[dict[str, Any]]:
    """The declarations that come with callward."""
    found = [declaration.parse(example(name)) for name in schema.examples()]
    return [{"name": one.name, "kind": one.kind, "audience": one.audience, "title": one.title} for one in found]


def example(name: str) -> str:
    """A declaration to begin with, as it is written; raises UsageProblem."""
    try:
        return schema.example(name)
    except KeyError:
        raise UsageProblem(f"no example is called {name!r}{nearest(name, schema.examples())}") from None


# -- budgets -----------------------------------------------------------------------------------------------------------


def budgets(settings: Settings) -> list[dict[str, Any]]:
    """Scopes that were ever charged, in rho, and the epsilon that what was spent amounts to."""
    with database.reading(settings) as connection:
        found = budget.balances(settings, connection)
    return [
        {
            **{name: row[name] for name in ("tenant", "unit", "window")},
            **{name: row[name] / NANO for name in ("cap", "spent", "lost", "left")},
            "epsilon": round(mechanisms.epsilon_of(row["spent"] / NANO, _DELTA), 3) if row["spent"] else 0.0,
            "delta": _DELTA,
        }
        for row in found
    ]


# -- previews ----------------------------------------------------------------------------------------------------------


def previewed(settings: Settings, name: str, calls: int | None, units: int | None, like: str | None) -> dict[str, Any]:
    """What a table would be worth; never counted on the true data."""
    release = named(settings, name)
    if like is not None:
        return preview.preview_published(release, _values(settings, release, like), f"{name} of {like}, which is out")
    volumes = volumes_of(release, calls, units)
    if volumes is None:
        raise UsageProblem(
            f"say how much traffic to make up: --calls A_DAY --units N, or 'expected' in the declaration of {name}"
        )
    return preview.preview(release, volumes)


def _values(settings: Settings, release: Release, period: str) -> np.ndarray:
    """The figures that are out of a period; int64 [size, m], 0 where suppressed. They are public: looking is free."""
    row = _row(settings, release.name, period, None)
    if row.spec_digest != release.spec_digest:
        raise UsageProblem(f"{release.name} of {period} was released under another declaration")
    c = analytics_cells.c
    names = [one.name for one in release.measures]
    found = np.zeros((release.grid().size, len(names)), np.int64)
    with database.reading(settings) as connection:
        for cell, measure, value in connection.execute(
            select(c.cell, c.measure, c.value).where(c.release_id == row.release_id, c.value.is_not(None))
        ):
            found[cell, names.index(measure)] = value
    return found


def preview_shown(found: Mapping[str, Any]) -> Iterator[Any]:
    """A preview for a person: a table for each measure."""
    yield f"{found['name']}, on {found['on']}: nothing of the true data was read, and no budget was spent"
    for one in found["measures"]:
        kept = f"; bounding keeps {one['kept_share']:.0%}" if "kept_share" in one else ""
        useful = f"{one['useful_share']:.0%} of it in cells above ten sigma"
        title = f"{one['name']}: noise ±{one['error_95']:,} (95 of 100); {useful}{kept}"
        rows = [(_sizes(size), size["cells"], f"{size['median']:.0%}", f"{size['p95']:.0%}") for size in one["sizes"]]
        yield terminal.table(title, ("true size", "cells", "median error", "95 of 100 below"), rows)


def _sizes(size: Mapping[str, Any]) -> str:
    return f"{size['from']:,} to {size['to']:,}" if size["to"] else f"{size['from']:,} and more"


# -- what is out -------------------------------------------------------------------------------------------------------


def _row(settings: Settings, name: str, period: str, correction: int | None) -> Row[Any]:
    with database.reading(settings) as connection:
        rows = budget.published(connection, name)
    if not rows:
        raise UsageProblem(f"nothing of {name!r} is released")
    found = [row for row in rows if str(Period(row.period_start, row.period_end)) == period]
    found = [row for row in found if correction is None or row.correction_no == correction]
    if not found:
        known = sorted({str(Period(row.period_start, row.period_end)) for row in rows})
        raise UsageProblem(f"{name} of {period!r} is not released{nearest(period, known)}")
    return found[-1]


def out(settings: Settings, name: str, period: str, correction: int | None) -> dict[str, bytes]:
    """The files of a table that is out, by name, as they were published."""
    made = budget.Published(_row(settings, name, period, correction))
    return publication.read(settings.released_path / made.row.path, made.files)


def cells_shown(files: Mapping[str, bytes]) -> terminal.Table:
    """The cells of a release as a table."""
    table = pq.read_table(io.BytesIO(files["cells.parquet"]))
    return terminal.table(
        "", table.column_names, list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    )


def ran(done: Mapping[str, Any]) -> Iterator[str]:
    """A release, or what one would cost, for a person."""
    if done.get("dry_run"):
        yield f"{done['name']} of {done['period']}: {done['status']}; due from {done['due']}; {done['cells']:,} cells"
        yield f"it takes {budget.told(done['rho'])} rho; left before it:"
        yield from (f"  {scope}: {budget.told(left)}" for scope, left in done["left_before"].items())
        yield "nothing was changed"
        return
    correction = f" (correction {done['correction_no']})" if done["correction_no"] else ""
    word = "differentially private" if done["kind"] == "dp" else "suppressed by thresholds, not anonymous"
    cells = done["cells"]
    yield f"{done['name']} of {done['period']}{correction}: {word}, for {done['audience']} use"
    yield f"{cells['number']:,} cells, {cells['suppressed']:,} of them suppressed; {budget.told(done['rho'])} rho"
    yield f"in {done['folder']}: {', '.join(sorted(done['files']))}"
