"""What people read: a night's summary, what has arrived, what a declaration maps and drops."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from callward import database
from callward.errors import UsageProblem
from callward.ingest.landing import Arrival, LeftAlone, arrivals, shown_file
from callward.lake import ledger
from callward.lake.data_files import DataFiles, open_files
from callward.redaction import mask
from callward.settings import Settings, Source
from callward.workspace import WorkspaceRef, open_workspace
from pipelines import intake, terminal
from pipelines.monitoring.waiting import SOON_DAYS, Waiting, suspended
from pipelines.nightly import ROLE, SET_ASIDE_FIX, Night, NightFile
from pipelines.readiness.checks import require
from pipelines.results import Part, Result, Rows, to_document
from schemas.codes import Bucket
from schemas.declaration import available, explain
from schemas.tables import assurance_trunk_hourly as trunks
from schemas.tables import lake_files
from schemas.views import INDEX
from transforms.summarize import UNKNOWN_TRUNK

_HOUR_MS = 3_600_000
_ALWAYS = (Bucket.ACCEPTED, Bucket.SUSPENDED)
_MOST_TRUNKS = 15  # of each side, in the summary for a person


@dataclass(frozen=True)
class NightReport(Result):
    """A night, by source and reason; `files` asks for every file."""

    settings: Settings
    night: Night
    files: bool = False

    @property
    def exit_code(self) -> int:
        """Return 3 when a person must look, else 0."""
        return 3 if self.night.must_look else 0

    def to_dict(self) -> dict[str, Any]:
        return self.night.to_dict()

    def render(self) -> Iterator[Part]:
        if self.night.files:
            yield _of_files(self.night) if self.files else _balance(self.night)
        if self.night.left_alone:
            yield _left_alone(self.night.left_alone, self.files)
            if any(item.wrong for item in self.night.left_alone):
                yield "callward try FILE says how a file could be read"
        if self.night.filtered:
            rows = [list(row.values()) for row in self.night.filtered]
            yield terminal.table("Filtered", ["source", "why", "records"], rows)
        suspense = suspended(self.night.waiting)
        with database.reading(self.settings) as connection:
            kpis = _kpis(self.settings, connection, self.night.run_id)
        if suspense:
            yield _suspense(suspense)
        if kpis:
            yield from _trunks(kpis)
        yield from _set_aside([file for file in self.night.files if file.set_aside], self.files)
        for source in self.night.unread:
            yield f"{source}: none of its records could be read: see 'callward suspense list', correct the declaration"
        yield from self.night.alarms
        yield from self.night.warnings
        for source, count in self.night.held.items():
            yield (
                f"{source}: {terminal.count(count, 'version')} of records held from billing, as they would be charged "
                "differently: see 'callward suspense list --code HELD', then 'callward suspense choose FILE_NO'"
            )
        for source, count in self.night.second.items():
            yield (
                f"{source}: {terminal.count(count, 'record')} of calls that a source of a higher billing rank has too: "
                "see 'callward sources second'"
            )
        if self.night.releases:
            rows = [[row.name, row.period, row.status, row.reason] for row in self.night.releases]
            yield terminal.table("Released", ["table", "period", "status", "why"], rows)
        yield _conclusion(self.night)
        if self.night.files:
            yield self.night.shares


def _conclusion(night: Night) -> str:
    if not night.files:
        return f"nothing new had arrived ({night.seconds:.1f} s)"
    rate = round(night.rows / night.seconds) if night.seconds else 0
    came = f"{terminal.count(night.rows, 'record')} of {terminal.count(len(night.files), 'file')}"
    return f"{came} in {night.seconds:.1f} s ({rate:,} a second), {terminal.count(night.waves, 'wave')}; balanced"


def _left_alone(items: Sequence[LeftAlone], files: bool) -> terminal.Table:
    """Return the files that were left alone: by source and reason with an example, or each."""
    if files:
        return terminal.table("Left alone", ["file", "why"], [[item.shown, item.reason] for item in items])
    return terminal.table("Left alone", ["source", "why", "files", "such as"], _grouped(items))


def _grouped(items: Sequence[LeftAlone]) -> list[list[Any]]:
    """Return [source, reason, number of files, one of them]; the source is the folder that a file lies in."""
    groups: dict[tuple[str, str], list[str]] = {}
    for item in items:
        folder, _, rest = item.name.partition("/")
        groups.setdefault((folder if rest else "", item.reason), []).append(item.shown)
    return [[source, reason, len(names), names[0]] for (source, reason), names in groups.items()]


def _set_aside(files: Sequence[NightFile], each: bool) -> Iterator[str]:
    """Yield a sentence per source (or `each` file) with files that were set aside whole, and what to do."""
    fix = SET_ASIDE_FIX
    if each:
        yield from (f"{file.shown}: set aside whole, over its error threshold; {fix}" for file in files)
        return
    by_source: dict[str, list[NightFile]] = {}
    for file in files:
        by_source.setdefault(file.source, []).append(file)
    for source, group in by_source.items():
        others = f" (of {len(group):,} files, first {group[0].shown})" if len(group) > 1 else f" {group[0].shown}"
        yield f"{source}: {terminal.count(len(group), 'file')} set aside whole{others}, over the error threshold; {fix}"


def _of_files(night: Night) -> terminal.Table:
    """Return rows by file and bucket; a bucket that stayed empty everywhere is left out, to fit a terminal."""
    counted = _counted([Counter(file.buckets) for file in night.files])
    rows = [
        [file.shown, file.rows, *(file.buckets[name] for name in counted), round(_talk_ms(file) / _HOUR_MS)]
        for file in night.files
    ]
    return terminal.table("What came in", ["file", "rows", *counted, "talk h"], rows)


def _balance(night: Night) -> terminal.Table:
    """Return rows by source and bucket."""
    sums: dict[str, Counter[str]] = {}
    for file in night.files:
        of_source = sums.setdefault(file.source, Counter())
        of_source.update({"files": 1, "rows": file.rows, "talk_ms": _talk_ms(file), **file.buckets})
    counted = ["files", "rows", *_counted(sums.values())]
    rows = [[source, *(s[name] for name in counted), round(s["talk_ms"] / _HOUR_MS)] for source, s in sums.items()]
    return terminal.table("What came in", ["source", *counted, "talk h"], rows)


def _counted(sums: Iterable[Counter[str]]) -> list[str]:
    """Return the buckets that are not empty everywhere, and those that are always shown."""
    return [name for name in map(str, Bucket) if name in _ALWAYS or any(counts[name] for counts in sums)]


def _talk_ms(file: NightFile) -> int:
    return file.talk_ms[ledger.IN] + file.talk_ms_paired


def _suspense(waiting: Sequence[Waiting]) -> terminal.Table:
    """Return what is in suspense by source: since when, by code, and what of it a purge takes soon."""
    sources: dict[str, list[Waiting]] = {}
    for item in waiting:
        sources.setdefault(item.source, []).append(item)
    rows = [
        [
            source,
            sum(item.records for item in items),
            ", ".join(f"{item.what} {item.records:,}" for item in items),
            min(item.oldest for item in items),
            sum(item.expiring for item in items),
        ]
        for source, items in sources.items()
    ]
    title = "In suspense, over all nights (callward suspense list)"
    return terminal.table(title, ["source", "records", "by code", "since", f"gone in {SOON_DAYS} days"], rows)


def _trunks(kpis: Sequence[Sequence[Any]]) -> Iterator[Any]:
    title = "By trunk, over the days this night touched (* few attempts, - not known)"
    largest: list[Sequence[Any]] = []
    for side in ("ingress", "egress"):
        largest += [row for row in kpis if row[0] == side][:_MOST_TRUNKS]
    rows = [[side, "-" if trunk == UNKNOWN_TRUNK else trunk, *rest] for side, trunk, *rest in largest]
    yield terminal.table(title, ["side", "trunk", "attempts", "ASR %", "NER %", "ACD s", "PDD ms"], rows)
    if len(largest) < len(kpis):
        more = terminal.count(len(kpis) - len(largest), "smaller trunk")
        yield f"and {more}: callward sql --role assurance 'SELECT * FROM trunk_kpi'"


def _kpis(settings: Settings, connection: Any, run_id: str) -> list[list[Any]]:
    """Ratios by side and trunk: null above the share of unknown dispositions, starred under few attempts."""
    parts = connection.execute(
        select(lake_files.c.part).where(lake_files.c.run_id == run_id, lake_files.c.view == INDEX).distinct()
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


@dataclass(frozen=True)
class ArrivedFile:
    """A file in the landing folder, and what a night would do with it."""

    source: str
    file: str
    file_id: str
    bytes: int | None
    would: str

    @property
    def shown(self) -> str:
        return shown_file(self.file, self.file_id)


@dataclass(frozen=True)
class Arrived(Result):
    """What a night would take in and what it would leave alone (--dry-run); `files` asks for every file."""

    arrivals: Sequence[ArrivedFile]
    files: bool = False

    def to_dict(self) -> list[Any]:
        return [to_document(file) for file in self.arrivals]

    def render(self) -> Iterator[Part]:
        if self.files or not self.arrivals:
            yield from Rows(self.arrivals).render()
            return
        groups: dict[tuple[str, str], list[ArrivedFile]] = {}
        for file in self.arrivals:
            groups.setdefault((file.source, file.would), []).append(file)
        rows = [
            [source, would, len(group), sum(file.bytes or 0 for file in group), group[0].shown]
            for (source, would), group in groups.items()
        ]
        yield terminal.table("", ["source", "would", "files", "bytes", "such as"], rows)


def arrived(settings: Settings, only: Sequence[str]) -> list[ArrivedFile]:
    """Return every file of the sources' landing folders. Raises Problem where a night would not begin."""
    sources = _sources(settings, only)
    require(settings, sources)
    files = open_files(settings, ROLE, "nightly, as a dry run")
    id_of = intake.known_ids(files)
    return [
        ArrivedFile(source.name, item.name, item.file_id, None, item.reason)
        if isinstance(item, LeftAlone)
        else ArrivedFile(source.name, mask(item.name), id_of(item.name), item.size, _would(item, source, files))
        for source in sources
        for item in arrivals(settings, source, id_of)
    ]


def _would(arrival: Arrival, source: Source, files: DataFiles) -> str:
    reason = intake.unreadable(arrival, source, files)
    return f"be left alone: {reason}" if reason else "be taken in"


def explained(settings: Settings, only: Sequence[str]) -> Rows:
    """Return what each source's declaration maps and drops; without sources, the formats that there are."""
    if not only and not settings.sources:
        return Rows([{"format": name, "note": "a declaration that a source can name"} for name in available()])
    workspace = open_workspace(WorkspaceRef.of(settings, "ops", "explain"))
    return Rows(
        [
            {
                "source": source.name,
                "field": line.field or "(dropped)",
                "comes from": line.comes_from,
                "unit": line.unit,
            }
            for source in _sources(settings, only)
            for line in explain(workspace.declaration(source))
        ]
    )


def _sources(settings: Settings, only: Sequence[str]) -> list[Source]:
    sources = [settings.source(name) for name in only] or list(settings.sources)
    if not sources:
        raise UsageProblem(f"{settings.path.name}: there is no [[sources]] yet")
    return sources
