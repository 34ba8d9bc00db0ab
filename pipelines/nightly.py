"""nightly: every complete file in the landing folder, taken in by waves, each committed by itself."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import func, select

from callward import database, in_force, runs
from callward.errors import Problem
from callward.failpoints import point
from callward.ingest.contents import FileUnreadable
from callward.ingest.landing import (
    FILE_ID,
    Arrival,
    FileChanged,
    LeftAlone,
    arrivals,
    remove,
    shown_file,
    strangers,
)
from callward.lake import ledger, shares
from callward.lake.conflicts import retry_on_conflict
from callward.lake.data_files import open_files
from callward.lake.ledger import CommitConflict
from callward.redaction import mask
from callward.retention.requests import restrictions
from callward.settings import Settings, Source
from callward.standing import Alarm
from callward.streaming import register
from pipelines import intake as intakes
from pipelines import release as releases
from pipelines import terminal
from pipelines.compact import compact_after
from pipelines.intake import Intake
from pipelines.monitoring import alerts, feeds
from pipelines.monitoring.alarms import Came, alarms, line
from pipelines.monitoring.waiting import Waiting, expiring, filtered, suspended, waiting
from pipelines.network_elements import match_all
from pipelines.pending import expire_pending
from pipelines.readiness.checks import landing_of, require
from pipelines.release import DueRelease
from pipelines.settings_diff import since_last
from pipelines.vacuum import remove_orphans
from pipelines.wave import Wave, run_wave
from schemas.codes import Bucket, Suspense
from schemas.tables import input_files, ledger_entries
from transforms.commit import CHANGED, COMMITTED, REFUSED, SET_ASIDE, CommitAttempt, CommitResult
from transforms.elements import Sharding
from transforms.error_limit import error_limit

ROLE = "billing-run"
SET_ASIDE_FIX: Final = "fix the declaration, then 'callward recycle --code FILE'"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class NightFile:
    """What became of a file: its records and their talk time by bucket, and what assembly computed beside them."""

    file: str
    file_no: int
    file_id: str
    source: str
    rows: int
    buckets: dict[str, int]
    talk_ms: dict[str, int]
    talk_ms_paired: int
    set_aside: bool

    @property
    def shown(self) -> str:
        return shown_file(self.file, self.file_id)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, the buckets side by side with them."""
        first = {"file": self.file, "file_no": self.file_no, "file_id": self.file_id, "source": self.source}
        first |= {"rows": self.rows}
        last = {"talk_ms": self.talk_ms, "talk_ms_paired": self.talk_ms_paired, "set_aside": self.set_aside}
        return {**first, **self.buckets, **last}


@dataclass
class Night:
    """What a night did."""

    run_id: str
    status: str = "done"
    seconds: float = 0.0
    rows: int = 0
    files: list[NightFile] = field(default_factory=list)
    left_alone: list[LeftAlone] = field(default_factory=list)
    waves: int = 0
    refused: int = 0
    held: dict[str, int] = field(default_factory=dict)  # by source: versions of records of which one must be chosen
    second: dict[str, int] = field(default_factory=dict)  # by source: records of calls that another element has too
    releases: list[DueRelease] = field(default_factory=list)
    found: list[Alarm] = field(default_factory=list)  # of its sources, beside what its files show
    unsent: list[str] = field(default_factory=list)  # alerts, and why
    waiting: list[Waiting] = field(default_factory=list)  # in suspense and pending, over all nights
    filtered: list[Mapping[str, Any]] = field(default_factory=list)  # by source and reason
    shares: str = ""

    @property
    def alarms(self) -> list[str]:
        """Return a sentence for each thing that a person must look at though each file was in order."""
        return [alarm.sentence for alarm in self.found if alarm.must_look]

    @property
    def warnings(self) -> list[str]:
        """Return a sentence for each thing that is strange, and for which the settings ask no exit code 3."""
        return [*(alarm.sentence for alarm in self.found if not alarm.must_look), *self.unsent]

    @property
    def must_look(self) -> bool:
        """Return whether a person must look: a file is set aside, unreadable or not allowed, nothing of a source could
        be read, too much of one lacks something, versions are held from billing, or a release failed."""
        return (
            any(item.wrong for item in self.left_alone)
            or any(file.set_aside for file in self.files)
            or bool(self.unread or self.held)
            or bool(self.alarms)
            or (any(release.status != "published" for release in self.releases))
        )

    @property
    def came(self) -> dict[str, Came]:
        """Return how many records came in by source, and how many of them were suspended."""
        rows, suspended = Counter[str](), Counter[str]()
        for file in self.files:
            rows[file.source] += file.rows
            suspended[file.source] += file.buckets[Bucket.SUSPENDED]
        return {source: Came(count, suspended[source]) for source, count in rows.items()}

    @property
    def unread(self) -> list[str]:
        """Return the sources of which records came and every one of them is suspended, however few."""
        return [source for source, came in self.came.items() if came.rows and came.suspended == came.rows]

    def to_dict(self) -> dict[str, Any]:
        """Return the document of `callward nightly --json`."""
        rate = round(self.rows / self.seconds) if self.seconds else 0
        return {
            "run_id": self.run_id,
            "status": self.status,
            "seconds": round(self.seconds, 3),
            "rows": self.rows,
            "rows_per_second": rate,
            "waves": self.waves,
            "files": [file.to_dict() for file in self.files],
            "left_alone": [
                {"file": item.name, "file_id": item.file_id, "reason": item.reason} for item in self.left_alone
            ],
            "unread": self.unread,
            "alarms": self.alarms,
            "warnings": self.warnings,
            "shares": self.shares,
            "suspense": [item.to_dict() for item in suspended(self.waiting)],
            "filtered": self.filtered,
            "held": self.held,
            "second": self.second,
            "releases": [vars(release) for release in self.releases],
        }


def nightly(
    settings: Settings, only: Sequence[str] = (), *, now_ms: int | None = None, progress: Progress = lambda line: None
) -> Night:
    """Take in all that has arrived (from the sources named, or all). A killed night is just run again.

    Raises Problem before anything begins where something is not ready (pipelines/readiness), and later where a wave
    can be committed in no way.
    """
    named = [settings.source(name) for name in only]
    now_ms = now_ms or int(time.time() * 1000)
    try:
        return _night(settings, named, now_ms, progress)
    except Problem as problem:
        for unsent in alerts.failed(settings, problem, _moment(now_ms)):
            progress(unsent)
        raise


def _night(settings: Settings, named: Sequence[Source], now_ms: int, progress: Progress) -> Night:
    require(settings, named or settings.sources)
    sources = named or _not_streamed(settings, progress)
    started = time.monotonic()
    with runs.running(settings, "nightly", [f"source/{source.name}" for source in sources]) as run_id:
        work = _Nightly(settings, sources, run_id, now_ms, progress)
        night = work.run()
        night.seconds = time.monotonic() - started
        runs.finish(settings, run_id, "done", night.to_dict())
    restrictions.mark(settings)
    compact_after(settings, now_ms, progress)
    night.releases = releases.due(settings, progress)
    looked_at = ["", *(source.name for source in sources)]
    night.unsent = alerts.stand(settings, looked_at, standing_of(settings, night), _moment(now_ms))
    return night


def standing_of(settings: Settings, night: Night) -> Iterator[Alarm]:
    """Yield all that a night leaves for a person, in an alarm per source and kind: it stands until the next night."""
    yield from night.found
    left: dict[str, list[LeftAlone]] = {}
    for item in night.left_alone:
        if item.wrong:
            left.setdefault(item.name.partition("/")[0], []).append(item)
    names = {source.name for source in settings.sources}
    for folder, items in left.items():
        count = terminal.count(len(items), "file was", "files were")
        sentence = f"{folder}: {count} left alone, such as one for: {items[0].reason}"
        yield Alarm(folder if folder in names else "", "left alone", sentence)
    for source, whole in Counter(file.source for file in night.files if file.set_aside).items():
        count = terminal.count(whole, "file was", "files were")
        yield Alarm(source, "set aside", f"{source}: {count} set aside whole; {SET_ASIDE_FIX}")
    for source in night.unread:
        yield Alarm(source, "unread", f"{source}: none of its records could be read; see 'callward suspense list'")
    for source, versions in night.held.items():
        held = f"{terminal.count(versions, 'version')} of records held from billing"
        yield Alarm(source, "held", f"{source}: {held}; see 'callward suspense list --code HELD'")
    failed = [release.name for release in night.releases if release.status != "published"]
    if failed:
        yield Alarm("", "release", f"not released: {', '.join(failed)}; see 'callward release list'")


def _worse(files: Sequence[NightFile]) -> str:
    """Return the sentence about files that proved worse than their sample."""
    named = " ".join(f"--file {file.file_no}" for file in files)
    have = terminal.count(len(files), "file larger than a wave has", "files larger than a wave have")
    return (
        f"{have} too many errors where it was not looked at before, and what could be read of it counts: correct the "
        f"declaration, then 'callward reprocess {named}', or take it out with 'callward backout {named}'"
    )


def _moment(now_ms: int) -> datetime:
    return datetime.fromtimestamp(now_ms / 1000, UTC).replace(tzinfo=None)


def _not_streamed(settings: Settings, progress: Progress) -> list[Source]:
    """Return all sources but those whose folders a stream watches: it takes them in."""
    with database.reading(settings) as connection:
        streamed = register.held(connection)
    taken = [source.name for source in settings.sources if f"source/{source.name}" in streamed]
    if taken:
        progress(f"a stream takes in {', '.join(taken)}")
    return [source for source in settings.sources if source.name not in taken]


class _Nightly:
    """One night at work."""

    def __init__(
        self, settings: Settings, sources: Sequence[Source], run_id: str, now_ms: int, progress: Progress
    ) -> None:
        self._settings, self._sources, self._now_ms, self._progress = settings, sources, now_ms, progress
        month = time.strftime("%Y-%m", time.gmtime(now_ms / 1000))
        self._files = open_files(settings, ROLE, "nightly", run_id, month)
        self._workspace = self._files.workspace
        self._reference = self._workspace.reference
        self._night = Night(run_id)
        self._begun: dict[int, Intake] = {}
        self._attempts = 0
        self._planned_contents: dict[str, str] = {}
        self._wasted = False  # data files were written that no commit will name

    def run(self) -> Night:
        remove_orphans(self._settings)
        self._workspace.enter(self._sources)
        in_force.record(self._workspace, self._night.run_id)
        intakes.note_gone(self._files, [source.name for source in self._sources])
        if len(self._sources) == len(self._settings.sources):
            self._night.left_alone += strangers(self._settings, self._file_id)
        for wave in self._packed():
            self._wave(wave)
        self._conclude()
        return self._night

    # -- what goes into which wave ----------------------------------------------------------------------------------

    def _planned(self) -> Iterator[Intake]:
        for source in self._sources:
            if landing_of(self._settings, source).bad:  # said at the end, with the other feeds
                continue
            for arrival in arrivals(self._settings, source, self._file_id):
                if isinstance(arrival, LeftAlone):
                    if arrival.wrong or arrival.reason != "a marker":
                        self._night.left_alone.append(arrival)
                    continue
                planned = self._plan(arrival, source)
                if planned is not None:
                    yield planned

    def _plan(self, arrival: Arrival, source: Source) -> Intake | None:
        status = intakes.known_status(self._files, arrival)
        if status in ("committed", "removed"):
            if remove(arrival, source.complete):
                intakes.note_removed(arrival, self._files)
            return None
        try:
            planned = intakes.plan(arrival, source, self._files, self._planned_contents)
            if not planned.streamed:
                return planned
            reason = "a stream has begun it: 'callward stream start' goes on with it"
            self._leave(arrival, reason)
        except FileUnreadable as problem:
            intakes.register_unreadable(arrival, str(problem), self._files, self._night.run_id)
            self._leave(arrival, str(problem))
            self._wasted = True
        except FileChanged:
            self._leave(arrival, "it changed while it was read")
            self._wasted = True
        except OSError as error:
            if error.errno in (28, 122):  # no space, quota: the night cannot go on
                raise Problem(
                    "no space left on the device; nothing of this wave was committed, "
                    "and running again goes on from there"
                ) from None
            self._leave(arrival, error.strerror or "unreadable")
        return None

    def _leave(self, arrival: Arrival, reason: str) -> None:
        self._night.left_alone.append(LeftAlone(mask(arrival.name), reason, True, self._file_id(arrival.name)))

    def _file_id(self, name: str) -> str:
        return intakes.file_id(self._files, name)

    def _packed(self) -> Iterator[list[Intake]]:
        """Yield waves: whole files up to the limits; a larger file has waves of its own, unless ids go by content."""
        limits = self._settings.waves
        wave: list[Intake] = []
        for planned in self._planned():
            full = sum(i.records for i in wave) + planned.records > limits.records or (
                sum(i.bytes for i in wave) + planned.bytes > limits.mebibytes << 20
            )
            if wave and full:
                yield wave
                wave = []
            if not self._oversize(planned) or planned.by_content:
                wave.append(planned)
                continue
            if wave:
                yield wave
                wave = []
            yield from self._pieces(planned)
        if wave:
            yield wave

    def _oversize(self, planned: Intake) -> bool:
        limits = self._settings.waves
        return planned.records > limits.records or planned.bytes > limits.mebibytes << 20

    def _pieces(self, planned: Intake) -> Iterator[list[Intake]]:
        """Yield waves of a file larger than one: it is checked as a whole, then taken in wave by wave."""
        self._register([planned])
        if not planned.begun:
            self._check(planned)
        planned.checked = True
        limits, blocks = self._settings.waves, planned.blocks
        per_block = planned.records / max(1, len(blocks))
        size = max(
            1, min(int(limits.records / per_block), int((limits.mebibytes << 20) / (planned.bytes / len(blocks))))
        )
        for first in range(0, len(blocks), size):
            if planned.file_no not in self._begun:  # it changed meanwhile
                break
            planned.blocks = blocks[first : first + size]
            yield [planned]
        planned.blocks = blocks

    def _check(self, planned: Intake) -> None:
        """Judge a file by a sample of its blocks before any of it counts; over its limit there, by all of them."""
        shown = shown_file(mask(planned.arrival.name), self._file_id(planned.arrival.name))
        blocks = planned.blocks
        for part, what in ((intakes.sample(blocks), "part of it"), (blocks, "all of it")):
            self._progress(f"{shown}: larger than a wave, {what} is read before for its error rate")
            planned.blocks = part
            result = self._attempt([planned], -1, check=True)
            if result.status != SET_ASIDE:
                break
        planned.blocks = blocks
        if result.status != COMMITTED:
            self._without([planned], result)

    # -- waves ------------------------------------------------------------------------------------------------------

    def _register(self, wave: list[Intake]) -> None:
        fresh = [planned for planned in wave if planned.file_no not in self._begun]
        point("before-register")
        intakes.register(fresh, self._files, self._night.run_id)
        self._begun.update({planned.file_no: planned for planned in fresh})
        point("registered")

    def _wave(self, wave: list[Intake]) -> None:
        """Try a wave until it is committed, leaving out or setting aside the files that a result names."""
        self._register(wave)
        committed = retry_on_conflict(lambda _: self._commit(wave), on_conflict=self._note_refused)
        if not committed:
            return
        self._night.waves += 1
        point("committed")
        self._close_files([planned.file_no for planned in committed])

    def _note_refused(self) -> None:
        self._night.refused += 1

    def _commit(self, wave: list[Intake]) -> list[Intake]:
        """Try a wave, and again without what each result names; return the files that were committed.

        Raises CommitConflict, and Problem when it can be committed in no way.
        """
        wave = [planned for planned in wave if planned.file_no in self._begun]
        while wave:
            result = self._attempt(wave, self._night.waves)
            if result.status == COMMITTED:
                break
            self._wasted = True
            if result.status == REFUSED:
                raise CommitConflict
            wave = self._without(wave, result)
        return wave

    def _without(self, wave: list[Intake], result: CommitResult) -> list[Intake]:
        """Set aside, or leave out, the files that a result names. Raises Problem for any other result."""
        if result.status == SET_ASIDE:
            intakes.condemn([planned for planned in wave if planned.file_no in result.detail], self._files)
            return wave
        if result.status == CHANGED:
            return self._drop_changed(wave, result.detail)
        raise Problem(str(result.detail))

    def _attempt(self, wave: list[Intake], number: int, *, check: bool = False) -> CommitResult:
        self._attempts += 1
        chunks, sharding = intakes.chunks(wave, self._files), self._sharding(wave)
        work = Wave(
            attempt=CommitAttempt(self._night.run_id, number, self._attempts, check),
            chunks=[intakes.work(chunk, wave, self._now_ms, sharding.to_json()) for chunk in chunks],
            limits={p.file_no: error_limit(self._settings, p.source) for p in wave if p.unchecked},
            sharding=sharding,
            now_ms=self._now_ms,
            archive=self._settings.landing.after_commit == "archive" and not check,
        )
        if not work.chunks:
            return CommitResult(COMMITTED)
        what = "checked" if check else f"wave {number + 1}"
        self._progress(f"{what}: {len(wave)} files, about {sum(i.records for i in wave):,} records")
        return run_wave(self._settings, self._reference, work)

    def _sharding(self, wave: list[Intake]) -> Sharding:
        """Return a sharding of about bucket_records a group; only a tenant that fills more than one group is spread."""
        size = self._settings.waves.bucket_records
        buckets = 1
        while buckets * size < sum(planned.records for planned in wave) and buckets < 256:
            buckets *= 2
        if any(planned.source.has_tenants for planned in wave):  # volumes by tenant are not known beforehand
            return Sharding(buckets, {name: buckets.bit_length() - 1 for name in self._settings.tenants})
        volume: dict[str, int] = {}
        for planned in wave:
            volume[planned.source.tenant] = volume.get(planned.source.tenant, 0) + planned.records
        return Sharding(
            buckets, {tenant: buckets.bit_length() - 1 for tenant, records in volume.items() if records > size}
        )

    def _close_files(self, file_nos: list[int]) -> None:
        with database.reading(self._settings) as connection:
            complete = intakes.complete(connection, file_nos)
        reason = "it changed after it was read: what is new in it is taken the next time"
        for number in intakes.close_files(self._files, {number: self._begun[number].arrival for number in complete}):
            self._leave(self._begun[number].arrival, reason)

    def _drop_changed(self, wave: list[Intake], changed: list[int]) -> list[Intake]:
        for planned in wave:
            if planned.file_no in changed:
                self._leave(planned.arrival, "it changed while it was read")
        with database.writing(self._settings) as connection:
            intakes.set_status(connection, changed, "changed")
        for number in changed:
            self._begun.pop(number, None)
        return [planned for planned in wave if planned.file_no not in changed]

    # -- the end ----------------------------------------------------------------------------------------------------

    def _conclude(self) -> None:
        """Turn pieces past their horizon into PARTIAL, make the pending log one file, read the figures."""
        point("before-pending")
        refused = expire_pending(self._settings, self._workspace, self._night.run_id, self._now_ms)
        self._night.second = dict(match_all(self._settings, self._workspace, self._night.run_id))
        if refused or self._wasted:
            remove_orphans(self._settings, over={self._night.run_id})
        with database.reading(self._settings) as connection:
            balances = ledger.balances(connection, list(self._begun))
            for batch in database.batches(sorted(self._begun)):
                rows = connection.execute(
                    select(input_files).where(input_files.c.file_no.in_(batch)).order_by(input_files.c.file_no)
                )
                self._night.files += [self._file(row, balances.get(row.file_no, {})) for row in rows]
        self._night.held = self._held()
        self._night.rows = sum(file.rows for file in self._night.files)
        self._look()

    def _look(self) -> None:
        """Look at each source as a whole, also where nothing of it came."""
        run_id, came = self._night.run_id, self._night.came
        with database.writing(self._settings) as connection:
            ledger.add_shares(connection, run_id, {(source.name, shares.RECORDS): 0 for source in self._sources})
        with database.reading(self._settings) as connection:
            self._night.found = list(alarms(self._workspace, connection, run_id, came))
            self._night.shares = line(shares.of_run(connection, run_id), came)
            self._night.found += since_last(self._workspace, connection, run_id)
            self._night.waiting = waiting(self._settings, connection, _moment(self._now_ms).date())
        self._night.filtered = filtered(self._settings, run_id)
        self._night.found += self._worse()
        self._night.found += feeds.look(self._files, self._sources, _moment(self._now_ms), night=run_id)
        names = {source.name for source in self._sources}
        self._night.found += [alarm for alarm in expiring(self._night.waiting) if alarm.source in names]

    def _worse(self) -> Iterator[Alarm]:
        """Yield an alarm for each source with files that passed by their sample but have too many errors."""
        for source in self._sources:
            limit = error_limit(self._settings, source)
            files = [
                file
                for file in self._night.files
                if file.source == source.name and self._begun[file.file_no].checked and not file.set_aside
                if limit.exceeded(file.buckets[Bucket.SUSPENDED], file.rows)
            ]
            if files:
                yield Alarm(source.name, "worse", f"{source.name}: {_worse(files)}")

    def _held(self) -> dict[str, int]:
        """Return how many versions this run held, by source."""
        f, e = input_files.c, ledger_entries.c
        of_run = (e.run_id == self._night.run_id) & (e.code == str(Suspense.HELD))
        query = select(f.source, func.sum(e.rows)).join(input_files, f.file_no == e.file_no).where(of_run)
        with database.reading(self._settings) as connection:
            rows = connection.execute(query.group_by(f.source).order_by(f.source)).all()
        return {source: int(count) for source, count in rows if count > 0}

    def _file(self, row: Any, balance: dict[str, dict[str, int]]) -> NightFile:
        def amount(bucket: str, column: str) -> int:
            return balance.get(bucket, {}).get(column, 0)

        return NightFile(
            file=row.name,
            file_no=row.file_no,
            file_id=row.name_id[:FILE_ID],
            source=row.source,
            rows=amount(ledger.IN, "rows"),
            buckets={str(bucket): amount(bucket, "rows") for bucket in Bucket},
            talk_ms={name: amount(name, "talk_ms") for name in (ledger.IN, *map(str, Bucket))},
            talk_ms_paired=amount(ledger.PAIRED, "talk_ms"),
            set_aside=row.set_aside,
        )
