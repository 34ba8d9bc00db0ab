"""corrections: a wrong delivery backed out, and files read again under the settings of today.

Each commit of a correction is whole: killed anywhere, run again it ends as one clean run.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from sqlalchemy import Connection, func, select

from callward import audit, database, in_force, runs, sources, workspace_id
from callward.access import second_person
from callward.access.second_person import Consent
from callward.errors import Problem, UsageProblem
from callward.failpoints import point
from callward.lake import ledger
from callward.lake.conflicts import retry_on_conflict
from callward.lake.data_files import DataFiles, open_files
from callward.retention.requests import restrictions
from callward.settings import Settings
from callward.streaming import blocks as streaming
from callward.workspace import Workspace
from pipelines import intake, terminal
from pipelines.archived import Archived
from pipelines.corrections.correction import ROLE, Corrected, Correcting
from pipelines.named_files import DONE, WITHDRAWN, named_file
from pipelines.network_elements import match_all
from pipelines.results import to_document
from pipelines.vacuum import remove_orphans
from schemas.tables import input_files, ledger_entries

Progress = Callable[[str], None]
_LEASE: Final = "correction"


@dataclass
class Correction:
    """What a correction changed, or would change; `already`: numbers of files that had been backed out before."""

    run_id: str
    dry_run: bool
    corrected: Corrected = field(default_factory=Corrected)
    already: list[int] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the document of `callward backout --json` and `callward reprocess --json`."""
        return {"run_id": self.run_id, "dry_run": self.dry_run, "already": self.already, **to_document(self.corrected)}


# -- back out ----------------------------------------------------------------------------------------------------------


def back_out(
    settings: Settings, named: Sequence[str], *, dry_run: bool = False, consent: Consent | None = None
) -> Correction:
    """Take deliveries out again, all in one commit; what other files hold of the same records takes their place.

    `named`: files by number, id, or name below the landing folder. One that was backed out before stays so. Raises
    Problem where there is no such file, where records are under hold, and where the archive no longer has what would
    take their place.
    """
    workspace_id.check(settings)
    files = open_files(settings, ROLE, "backout")
    rows = _named(files, named)
    wanted = [row for row in rows if row.status != WITHDRAWN]
    already = sorted(row.file_no for row in rows if row.status == WITHDRAWN)
    if not wanted:
        return Correction("", dry_run, already=already)
    if not dry_run:
        _require_second_person(settings, "backout", wanted, consent)
    with runs.running(settings, "backout", _leases(settings, wanted)) as run_id:
        correction = Correction(run_id, dry_run, already=already)
        work = _Work(settings, "backout", correction, anew=False)
        work.commit(wanted, 0)
        work.end()
    return correction


# -- read again --------------------------------------------------------------------------------------------------------


def reprocess(
    settings: Settings,
    source: str | None = None,
    start: date | None = None,
    end: date | None = None,
    named: Sequence[str] = (),
    *,
    dry_run: bool = False,
    consent: Consent | None = None,
    progress: Progress = lambda line: None,
) -> Correction:
    """Read files again under today's declaration, zone and accounts, and replace what the earlier reading wrote.

    Of a source those that came in from `start` to `end` (days, UTC), or files by number, id or name. What decides
    identity or date of a source changes with all of its files. Raises UsageProblem where neither or both are named,
    Problem as `back_out` does, and where the archive does not have all of them.
    """
    if bool(source) == bool(named) or (named and (start or end)):
        raise UsageProblem("say which: --source, with --from and --to of the days on which files came in; or --file")
    workspace_id.check(settings)
    files = open_files(settings, ROLE, "reprocess")
    rows = _of_source(settings, source, start, end) if source else _named(files, named)
    for row in rows:
        if row.status == WITHDRAWN:
            raise Problem(f"file {row.file_no} was backed out: deliver it again instead")
    if not rows:
        return Correction("", dry_run)
    Archived.of(files, [row.file_no for row in rows], any_generation=True).require("the archive no longer has it all")
    if not dry_run:
        _require_second_person(settings, "reprocess", rows, consent)
    with runs.running(settings, "reprocess", _leases(settings, rows)) as run_id:
        correction = Correction(run_id, dry_run)
        work = _Work(settings, "reprocess", correction, anew=True)
        work.begin_generations({row.source for row in rows}, whole=bool(source and not start and not end))
        waves = list(_packed(settings, rows))
        for number, wave in enumerate(waves):
            progress(f"{terminal.count(len(wave), 'file')} read again (commit {number + 1} of {len(waves)})")
            work.commit(wave, number)
        work.end()
    return correction


def _of_source(settings: Settings, name: str, start: date | None, end: date | None) -> list[Any]:
    """Return the files of a source that came in from one day to another. Raises Problem for one that is not whole."""
    settings.source(name)
    f = input_files.c
    query = select(input_files).where(f.source == name, f.status.in_(DONE), f.path_form != streaming.TOPIC)
    if start is not None:
        query = query.where(f.seen_at >= datetime.combine(start, time.min))
    if end is not None:
        query = query.where(f.seen_at < datetime.combine(end + timedelta(1), time.min))
    with database.reading(settings) as connection:
        known = sources.find(connection, name)
        if known is not None and sources.has_begun(connection, known):
            raise Problem(f"source {name}: files are not read to their end: run 'callward nightly' first")
        return list(connection.execute(query.order_by(f.file_no)))


def _packed(settings: Settings, rows: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield files by the limits of a wave: those of each are read again in one commit."""
    sizes, limit = _records(settings, rows), settings.waves.records
    wave: list[Any] = []
    for row in rows:
        if wave and sum(sizes.get(of.file_no, 0) for of in wave) + sizes.get(row.file_no, 0) > limit:
            yield wave
            wave = []
        wave.append(row)
    yield wave


def _records(settings: Settings, rows: Sequence[Any]) -> dict[int, int]:
    """Return how many records came in by each file that has any."""
    e, sizes = ledger_entries.c, dict[int, int]()
    with database.reading(settings) as connection:
        for batch in database.batches([row.file_no for row in rows]):
            query = select(e.file_no, func.sum(e.rows).label("rows")).where(e.bucket == ledger.IN, e.file_no.in_(batch))
            sizes |= {row.file_no: int(row.rows) for row in connection.execute(query.group_by(e.file_no))}
    return sizes


def _require_second_person(settings: Settings, what: str, rows: Sequence[Any], consent: Consent | None) -> None:
    sizes = _records(settings, rows)
    second_person.require(settings, sum(sizes.values()), consent, what=what, files=[row.file_no for row in rows])


class _Work:
    """A correction in a run of its own."""

    def __init__(self, settings: Settings, kind: str, correction: Correction, *, anew: bool) -> None:
        self._settings, self._correction, run_id = settings, correction, correction.run_id
        self._files = open_files(settings, ROLE, kind, run_id)
        if correction.dry_run:  # what it assumes is nobody else's
            self._files = DataFiles(Workspace(self._files.workspace.reference, settings), run_id)
        now_ms = int(database.now().replace(tzinfo=UTC).timestamp() * 1000)
        self.correcting = Correcting(self._files.workspace, run_id, now_ms, anew, correction.dry_run, kind)
        remove_orphans(settings)
        if not correction.dry_run:
            in_force.record(self._files.workspace, run_id)

    def begin_generations(self, names: Collection[str], *, whole: bool) -> None:
        """Have sources read as the settings say by now, where that decides identity and date otherwise than before.

        Raises Problem where not all of a source's files are read again: some would stay as they were.
        """
        workspace = self._files.workspace
        for name in sorted(names):
            declared = workspace.generations(self._settings.source(name))
            with database.reading(self._settings) as connection:
                known = sources.require(connection, name)
            what = sources.change(known.generations[-1].generation, declared)
            if what and not whole:
                raise Problem(
                    f"source {name}: {what} changed: read all of it again ('callward reprocess --source {name}'), "
                    f"or accept that for new files first ('callward sources accept {name} --from-now')"
                )
            if what and self._correction.dry_run:
                workspace.assumed[name] = declared[0]
            elif what:
                with database.writing(self._settings) as connection:
                    number = sources.accept(connection, name, declared)
                    entry = audit.Entry(ROLE, "source generation", f"{name} {number}", "reprocess")
                    audit.append(connection, [entry])
                point("correction-begun")

    def commit(self, rows: Sequence[Any], wave: int) -> None:
        """Correct some files in one commit, and again where another run came first."""
        done = retry_on_conflict(
            lambda _: self.correcting.commit(rows, wave),
            also=(FileNotFoundError,),
            on_conflict=lambda: remove_orphans(self._settings, over={self._correction.run_id}),
        )
        self._correction.corrected.add(done)

    def end(self) -> None:
        """Look again for second elements' records of what changed, and close the run."""
        run_id = self._correction.run_id
        if not self._correction.dry_run:
            match_all(self._settings, self._files.workspace, run_id)
        runs.finish(self._settings, run_id, "done", {"files": len(self._correction.corrected.files)})
        if not self._correction.dry_run:
            restrictions.mark(self._settings)


def _leases(settings: Settings, rows: Sequence[Any]) -> list[str]:
    """Return what a correction of files holds, so that nothing of their sources is taken in meanwhile."""
    names = {row.source for row in rows}
    topics = [topic.name for topic in settings.kafka.topics if set(topic.all_sources) & names]
    return [_LEASE, *(f"source/{name}" for name in sorted(names)), *(f"kafka/{name}" for name in topics)]


# -- which files -------------------------------------------------------------------------------------------------------


def _named(files: DataFiles, named: Sequence[str]) -> list[Any]:
    """Return rows of input_files by number, id or name, each once. Raises Problem for what is none, or no whole one."""
    with database.reading(files.workspace.settings) as connection:
        rows = {row.file_no: row for name in named for row in [named_file(connection, files, name)]}
        _require_whole(connection, list(rows.values()))
    return [rows[number] for number in sorted(rows)]


def _require_whole(connection: Connection, rows: Sequence[Any]) -> None:
    """Raise Problem for files that are not read to their end, or are none."""
    for row in rows:
        if row.path_form == streaming.TOPIC:
            raise Problem(f"file {row.file_no} is what came through a topic: only files can be corrected")
        if row.status not in (*DONE, WITHDRAWN):
            raise Problem(f"file {row.file_no} is {row.status}: a night is not through with it, or could not read it")
    open_ones = {row.file_no for row in rows} - set(_complete(connection, [row.file_no for row in rows]))
    if open_ones:
        raise Problem(f"file {min(open_ones)} is not read to its end: run 'callward nightly' first")


def _complete(connection: Connection, file_nos: Collection[int]) -> list[int]:
    return intake.complete(connection, sorted(file_nos))
