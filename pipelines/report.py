"""What people read: a night's summary, what has arrived, what a declaration maps and drops."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from callward import database, ledger
from callward.errors import UsageProblem
from callward.landing import LeftAlone, arrivals, mask
from callward.settings import Settings, Source
from callward.workspace import Reference, open_workspace
from pipelines import console
from pipelines.nightly import Night
from schemas.codes import Bucket
from schemas.declaration import explain
from schemas.tables import assurance_trunk_hourly as trunks
from schemas.tables import lake_files


def of_night(settings: Settings, night: Night) -> Iterator[Any]:
    """The plain summary at the end of a night."""
    yield _balance(night)
    if night.left_alone:
        yield console.table("Left alone", ["file", "why"], [[item.name, item.reason] for item in night.left_alone])
    with database.reading(settings) as connection:
        suspense = [[row.source, row.code, row.rows] for row in ledger.suspended(connection)]
        kpis = _kpis(settings, connection, night.run_id)
    if suspense:
        yield console.table("In suspense (callward suspense list)", ["source", "code", "records"], suspense)
    if kpis:
        yield console.table("By trunk, over the days this night touched", ["side", "trunk", "attempts", "ASR %", "NER %", "ACD s", "PDD ms"], kpis)
    for item in night.files:
        if item["set_aside"]:
            yield f"{item['file']}: set aside whole, over its error threshold; mend the declaration, then 'callward recycle --code FILE'"
    rate = round(night.rows / night.seconds) if night.seconds else 0
    yield f"{night.rows:,} records of {len(night.files)} files in {night.seconds:.1f} s ({rate:,} a second), {night.waves} waves; balanced"


def _balance(night: Night) -> Any:
    sums: dict[str, dict[str, int]] = {}
    columns = ["rows", *map(str, Bucket)]
    for item in night.files:
        of_source = sums.setdefault(item["source"], dict.fromkeys(["files", *columns, "talk_h"], 0))
        of_source["files"] += 1
        of_source["talk_h"] += item["talk_ms"][ledger.IN] + item["talk_ms_paired"]
        for column in columns:
            of_source[column] += item[column]
    for of_source in sums.values():
        of_source["talk_h"] = round(of_source["talk_h"] / 3_600_000)
    rows = [[source, *amounts.values()] for source, amounts in sums.items()]
    return console.table("What came in", ["source", "files", *columns, "talk h"], rows)


def _kpis(settings: Settings, connection: Any, run_id: str) -> list[list[Any]]:
    """Ratios by side and trunk: null above the share of unknown dispositions, starred under few attempts."""
    parts = connection.execute(select(lake_files.c.part).where(lake_files.c.run_id == run_id, lake_files.c.view == "assurance").distinct())
    days = [date.fromisoformat(part) for part in parts.scalars()]
    if not days:
        return []
    first = datetime.combine(min(days), datetime.min.time())
    last = datetime.combine(max(days) + timedelta(days=1), datetime.min.time())
    names = ("attempts", "unknown", "seizures", "answered", "ner_success", "talk_s", "pdd_ms", "pdd_count")
    query = (
        select(trunks.c.side, trunks.c.trunk, *(func.sum(trunks.c[name]).label(name) for name in names))
        .where(trunks.c.hour >= first, trunks.c.hour < last)
        .group_by(trunks.c.side, trunks.c.trunk)
        .order_by(trunks.c.side.desc(), func.sum(trunks.c.attempts).desc())
    )
    return [_kpi_row(settings, row) for row in connection.execute(query)]


def _kpi_row(settings: Settings, row: Any) -> list[Any]:
    thresholds = settings.thresholds
    known = row.unknown * 100 <= thresholds.unknown_share_pct * row.attempts
    few = "*" if row.attempts < thresholds.few_attempts else ""

    def ratio(top: int, bottom: int, factor: float, wanted: bool = True) -> str:
        return f"{factor * float(top) / float(bottom):.1f}{few}" if bottom and wanted else "-"

    return [
        row.side,
        row.trunk,
        int(row.attempts),
        ratio(row.answered, row.seizures, 100, known),
        ratio(row.ner_success, row.seizures, 100, known),
        ratio(row.talk_s, row.answered, 1),
        ratio(row.pdd_ms, row.pdd_count, 1),
    ]


def arrived(settings: Settings, only: Sequence[str]) -> list[dict[str, Any]]:
    """What a night would take in, and what it would leave alone (--dry-run)."""
    rows = []
    for source in _sources(settings, only):
        for found in arrivals(settings, source):
            left = isinstance(found, LeftAlone)
            name = found.name if left else mask(found.name)
            rows.append({"source": source.name, "file": name, "bytes": None if left else found.size, "would": found.reason if left else "be taken in"})
    return rows


def explained(settings: Settings, only: Sequence[str]) -> list[dict[str, Any]]:
    """What each source's declaration maps, and what it drops."""
    workspace = open_workspace(Reference(str(settings.path), "ops", "explain"))
    rows = []
    for source in _sources(settings, only):
        for line in explain(workspace.declaration(source)):
            rows.append({"source": source.name, "field": line.field or "(dropped)", "comes from": line.comes_from, "unit": line.unit})
    return rows


def _sources(settings: Settings, only: Sequence[str]) -> list[Source]:
    found = [settings.source(name) for name in only] or list(settings.sources)
    if not found:
        raise UsageProblem(f"{settings.path.name}: there is no [[sources]] yet")
    return found
