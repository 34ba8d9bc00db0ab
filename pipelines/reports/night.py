"""What people read: a night's summary, what has arrived, what a declaration maps and drops."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from callward import database
from callward.errors import UsageProblem
from callward.ingest.landing import LeftAlone, arrivals
from callward.lake import ledger
from callward.redaction import mask
from callward.settings import Settings, Source
from callward.workspace import WorkspaceRef, open_workspace
from pipelines import terminal
from pipelines.nightly import Night
from schemas.codes import Bucket
from schemas.declaration import available, explain
from schemas.tables import assurance_trunk_hourly as trunks
from schemas.tables import lake_files

_HOUR_MS = 3_600_000
_MOST_TRUNKS = 15  # of each side, in the summary for a person


def of_night(settings: Settings, night: Night) -> Iterator[Any]:
    """The plain summary at the end of a night."""
    if night.files:
        yield _balance(night)
    if night.left_alone:
        yield terminal.table("Left alone", ["file", "why"], [[item.name, item.reason] for item in night.left_alone])
    with database.reading(settings) as connection:
        suspense = ledger.suspended(connection)
        kpis = _kpis(settings, connection, night.run_id)
    if suspense:
        yield _suspense(suspense)
    if kpis:
        yield from _trunks(kpis)
    for item in night.files:
        if item["set_aside"]:
            mend = "mend the declaration, then 'callward recycle --code FILE'"
            yield f"{item['file']}: set aside whole, over its error threshold; {mend}"
    if night.releases:
        rows = [[one["name"], one["period"], one["status"], one["reason"]] for one in night.releases]
        yield terminal.table("Released", ["table", "period", "status", "why"], rows)
    yield _conclusion(night)


def _conclusion(night: Night) -> str:
    if not night.files:
        return f"nothing new had arrived ({night.seconds:.1f} s)"
    rate = round(night.rows / night.seconds) if night.seconds else 0
    came = f"{terminal.count(night.rows, 'record')} of {terminal.count(len(night.files), 'file')}"
    return f"{came} in {night.seconds:.1f} s ({rate:,} a second), {terminal.count(night.waves, 'wave')}; balanced"


def _balance(night: Night) -> terminal.Table:
    """Rows by source and bucket; a bucket that stayed empty everywhere is left out, to fit a terminal."""
    sums: dict[str, Counter[str]] = {}
    for item in night.files:
        of_source = sums.setdefault(item["source"], Counter())
        of_source["files"] += 1
        of_source["talk_ms"] += item["talk_ms"][ledger.IN] + item["talk_ms_paired"]
        of_source.update({name: item[name] for name in ("rows", *map(str, Bucket))})
    always = ("files", "rows", str(Bucket.ACCEPTED), str(Bucket.SUSPENDED))
    counted = [n for n in ("files", "rows", *map(str, Bucket)) if n in always or any(s[n] for s in sums.values())]
    rows = [[source, *(s[n] for n in counted), round(s["talk_ms"] / _HOUR_MS)] for source, s in sums.items()]
    return terminal.table("What came in", ["source", *counted, "talk h"], rows)


def _suspense(found: Sequence[ledger.Suspended]) -> terminal.Table:
    codes: dict[str, dict[str, int]] = {}
    for item in found:
        codes.setdefault(item.source, {})[item.code] = item.rows
    rows = [
        [source, sum(by.values()), ", ".join(f"{code} {n:,}" for code, n in by.items())] for source, by in codes.items()
    ]
    return terminal.table(
        "In suspense, over all nights (callward suspense list)", ["source", "records", "by code"], rows
    )


def _trunks(kpis: Sequence[Sequence[Any]]) -> Iterator[Any]:
    title = "By trunk, over the days this night touched (* few attempts, - not known)"
    shown: list[Sequence[Any]] = []
    for side in ("ingress", "egress"):
        shown += [row for row in kpis if row[0] == side][:_MOST_TRUNKS]
    yield terminal.table(title, ["side", "trunk", "attempts", "ASR %", "NER %", "ACD s", "PDD ms"], shown)
    if len(shown) < len(kpis):
        more = terminal.count(len(kpis) - len(shown), "smaller trunk")
        yield f"and {more}: callward sql --role assurance 'SELECT * FROM trunk_kpi'"


def _kpis(settings: Settings, connection: Any, run_id: str) -> list[list[Any]]:
    """Ratios by side and trunk: null above the share of unknown dispositions, starred under few attempts."""
    parts = connection.execute(
        select(lake_files.c.part).where(lake_files.c.run_id == run_id, lake_files.c.view == "assurance").distinct()
    )
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
            if isinstance(found, LeftAlone):
                row: dict[str, Any] = {"file": found.name, "bytes": None, "would": found.reason}
            else:
                row = {"file": mask(found.name), "bytes": found.size, "would": "be taken in"}
            rows.append({"source": source.name, **row})
    return rows


def explained(settings: Settings, only: Sequence[str]) -> list[dict[str, Any]]:
    """What each source's declaration maps, and what it drops; without sources, the formats that there are."""
    if not only and not settings.sources:
        return [{"format": name, "note": "a declaration that a source can name"} for name in available()]
    workspace = open_workspace(WorkspaceRef(str(settings.path), "ops", "explain"))
    rows = []
    for source in _sources(settings, only):
        for line in explain(workspace.declaration(source)):
            rows.append(
                {
                    "source": source.name,
                    "field": line.field or "(dropped)",
                    "comes from": line.comes_from,
                    "unit": line.unit,
                }
            )
    return rows


def _sources(settings: Settings, only: Sequence[str]) -> list[Source]:
    found = [settings.source(name) for name in only] or list(settings.sources)
    if not found:
        raise UsageProblem(f"{settings.path.name}: there is no [[sources]] yet")
    return found
