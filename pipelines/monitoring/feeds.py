"""Feeds: what of a source is strange though nothing of its files is wrong. It is silent, its folder is missing, more or
less came than on such a day, numbers of files are missing or came again, a growing file shrank.

A night looks when it has taken in what there is, the maintenance of a stream every few minutes: by the same look.
"""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, get_args

from sqlalchemy import Connection, delete, func, insert, select
from sqlalchemy.orm import aliased

from callward import database
from callward.ingest.sequences import AGAIN, GROWN, NEW, Gap, News, Numbering, Seen
from callward.keys.seal import Sealer
from callward.lake import volume
from callward.lake.data_files import DataFiles
from callward.lake.volume import Volume
from callward.settings import Source
from callward.settings.values import seconds
from callward.standing import Alarm
from callward.streaming import blocks as streaming
from pipelines import intake as intakes
from pipelines import terminal
from pipelines.readiness.checks import landing_of
from schemas.tables import blocks, feed_states, input_files, sources

Kind = Literal["folder", "silent", "empty", "volume", "gap", "repeat", "shrank"]
KINDS: Final = get_args(Kind)
_GAP_DAYS: Final = 30  # a missing file is named so long, for it may still come
_EVENT_HOURS: Final = 24  # what is over when it is seen is named in the nights of a day
_RANGES: Final = 3  # that a sentence names
_TOPIC_FILES: Final = 50  # the newest of a topic's files, of which each is a partition's day
_AAD: Final = b"feed state"


@dataclass
class _State:
    """What earlier looks know of a source: its numbers, and what was seen once (kind, seconds since 1970, sentence)."""

    numbering: str = ""
    seen: Seen = field(default_factory=Seen)
    events: list[tuple[Kind, int, str]] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "_State":
        given = json.loads(text)
        gaps = [Gap(**gap) for gap in given["seen"].pop("gaps")]
        return cls(given["numbering"], Seen(**given["seen"], gaps=gaps), [tuple(event) for event in given["events"]])


@dataclass
class _Look:
    """One look at one source at a moment (naive UTC)."""

    files: DataFiles
    key: Sealer  # of what is kept from one look to the next, and of names of files
    connection: Connection
    source: Source
    now: datetime
    night: str | None  # the run of the night that looks; None for a stream
    landed: bool  # whether files of it are taken from its landing folder

    def alarms(self) -> Iterator[Alarm]:
        """Yield what is strange of the source, and keep what the next look must know."""
        state, last, came = self._known()
        newest, state, came = self._brought_up_to_date(state, last, came)
        yield from self._folder()
        yield from self._silence(came)
        yield from self._volume()
        yield from self._numbers(state)
        self._keep(state, newest, came)

    def _alarm(self, kind: Kind, sentence: str) -> Alarm:
        must_look = kind in self.files.workspace.settings.thresholds.exit_3_for
        return Alarm(self.source.name, kind, f"{self.source.name}: {sentence}", must_look)

    @property
    def _at(self) -> int:
        return int(self.now.replace(tzinfo=UTC).timestamp())

    # -- folder, silence, volume --------------------------------------------------------------------------------------

    def _folder(self) -> Iterator[Alarm]:
        finding = landing_of(self.files.workspace.settings, self.source)
        if finding.bad and self.landed:
            yield self._alarm("folder", f"nothing of its landing folder is read: {finding.seen}; {finding.fix}")

    def _silence(self, came: datetime | None) -> Iterator[Alarm]:
        since = came or self._registered()
        if since is None:
            return
        expected = self.source.expect_every
        limit = timedelta(seconds=seconds(expected)) if expected else self._empty
        if self.now - since <= limit:
            return
        what = (
            f"nothing came for {terminal.age(self.now - since)}"
            if came
            else f"nothing ever came, in {terminal.age(self.now - since)}"
        )
        wants = f"one is expected every {expected}" if expected else "see whether it is still sent, or set expect_every"
        yield self._alarm("silent" if expected else "empty", f"{what}; {wants}; {self._lies_there()}")

    @property
    def _empty(self) -> timedelta:
        return timedelta(days=self.files.workspace.settings.thresholds.empty_days)

    def _lies_there(self) -> str:
        try:
            there = len(os.listdir(self.files.workspace.settings.landing_path / self.source.name))
        except OSError:
            return "its landing folder cannot be read"
        return f"its landing folder holds {terminal.count(there, 'file')} that wait" if there else "its folder is empty"

    def _registered(self) -> datetime | None:
        query = select(sources.c.registered_at).where(sources.c.name == self.source.name)
        return self.connection.execute(query).scalar()

    def _volume(self) -> Iterator[Alarm]:
        limits = self.files.workspace.settings.thresholds
        came = self._came()
        if came and came.is_strange(limits.volume_factor, limits.volume_nights, limits.volume_min):
            sort = "more than {:g} times" if came.rows > came.usual else "less than one in {:g} of"
            yield self._alarm(
                "volume",
                f"{came.rows:,} records came on {came.day:%A}, {came.day}: {sort.format(limits.volume_factor)} the "
                f"{came.usual:,.0f} that are usual, by its last {len(came.earlier)} {came.day:%A}s",
            )

    def _came(self) -> Volume | None:
        """Return what is compared: of a night the nights of its day, of a stream the last day that is over."""
        if self.night:
            return volume.of_nights(self.connection, self.source.name, self.night)
        return volume.of_day(self.connection, self.source.name, self.now.date() - timedelta(1))

    # -- numbers of files ---------------------------------------------------------------------------------------------

    def _numbers(self, state: _State) -> Iterator[Alarm]:
        gaps = [gap for gap in state.seen.gaps if self._at - gap.at < _GAP_DAYS * 86_400]
        if gaps and self.source.sequence:
            missing = terminal.count(sum(map(len, gaps)), "file is", "files are")
            named = self._ranges([(gap.first, gap.last) for gap in gaps])
            yield self._alarm("gap", f"{missing} missing by their numbers: {named}; have them sent again")
        for kind in ("repeat", "shrank"):
            told = [sentence for of, at, sentence in state.events if of == kind]
            if told:
                more = f" (and {len(told) - 1:,} more)" if len(told) > 1 else ""
                yield self._alarm(kind, f"{told[-1]}{more}")

    def _ranges(self, ranges: Sequence[tuple[int, int]]) -> str:
        numbering = numbering_of(self.source)
        shown = [
            numbering.shown(first) if first == last else f"{numbering.shown(first)} to {numbering.shown(last)}"
            for first, last in ranges[-_RANGES:]
        ]
        more = len(ranges) - _RANGES
        return ", ".join(shown) + (f", and {terminal.count(more, 'range')} before" if more > 0 else "")

    # -- what is new since the last look ------------------------------------------------------------------------------

    def _known(self) -> tuple[_State, int, datetime | None]:
        row = self.connection.execute(select(feed_states).where(feed_states.c.source == self.source.name)).first()
        if row is None:
            return _State(), 0, None
        return _State.from_json(self.key.open(row.state_sealed, _AAD).decode()), row.last_file_no, row.came_at

    def _keep(self, state: _State, newest: int, came: datetime | None) -> None:
        c = feed_states.c
        self.connection.execute(delete(feed_states).where(c.source == self.source.name))
        row = {"source": self.source.name, "last_file_no": newest, "came_at": came}
        sealed = self.key.seal(state.to_json().encode(), _AAD)
        self.connection.execute(insert(feed_states).values(**row, state_sealed=sealed))

    def _brought_up_to_date(
        self, state: _State, last: int, came: datetime | None
    ) -> tuple[int, _State, datetime | None]:
        """Return the number of the newest file, and what is known with the files after the `last` that was known."""
        f = input_files.c
        mine = (f.source == self.source.name) & (f.file_no > last)
        landed = mine & (f.path_form != streaming.TOPIC)
        query = select(func.max(f.file_no), func.max(f.seen_at), func.max(f.modified_ns))
        newest = self.connection.execute(select(func.max(f.file_no)).where(mine)).scalar() or last
        _, seen_at, modified_ns = self.connection.execute(query.where(landed)).one()
        written = min(seen_at, _moment(modified_ns)) if seen_at else None
        came = max(filter(None, (came, written, self._came_by_topic())), default=None)
        state.events = [event for event in state.events if self._at - event[1] < _EVENT_HOURS * 3600]
        state.events += [("shrank", self._at, sentence) for sentence in self._shrunk(last)]
        self._add_numbers(state, landed)
        return int(newest), state, came

    def _came_by_topic(self) -> datetime | None:
        f, b = input_files.c, blocks.c
        topics = (f.source == self.source.name) & (f.path_form == streaming.TOPIC)
        files = select(f.file_no).where(topics).order_by(f.file_no.desc()).limit(_TOPIC_FILES)
        if not self.files.workspace.settings.kafka.topics:
            return None
        newest = select(func.max(b.registered_at)).where(b.file_no.in_(files.scalar_subquery()))
        return self.connection.execute(newest).scalar()

    def _shrunk(self, last: int) -> Iterator[str]:
        """Yield a sentence where a file that still lay there came again with fewer bytes."""
        old, new = aliased(input_files), aliased(input_files)
        named = (old.c.name_id == new.c.name_id) & (old.c.source == new.c.source) & (old.c.file_no < new.c.file_no)
        query = select(new.c.name, new.c.size, func.max(old.c.size).label("before")).join(old, named)
        query = query.where(new.c.source == self.source.name, new.c.file_no > last, old.c.status != "removed")
        query = query.where(new.c.path_form != streaming.TOPIC, old.c.size > new.c.size)
        for row in self.connection.execute(query.group_by(new.c.file_no, new.c.name, new.c.size)):
            yield (
                f"{row.name} shrank from {row.before:,} to {row.size:,} bytes while it lay there: what was in it and "
                "not read yet is lost; let the switch write whole files"
            )

    def _add_numbers(self, state: _State, new: Any) -> None:
        if self.source.sequence is None:
            return
        numbering = numbering_of(self.source)
        if state.numbering != numbering.text:
            state.numbering, state.seen = numbering.text, Seen()
        f = input_files.c
        query = select(f.file_no, f.name_id, f.name_sealed).where(new, f.path_form != "sealed").order_by(f.file_no)
        rows, key = self.connection.execute(query).all(), self.key
        named = [(row.file_no, numbering.number(key.open(row.name_sealed, b"name").decode())) for row in rows]
        numbered = {file_no: number for file_no, number in named if number is not None}
        file_nos, ids = list(numbered), {row.file_no: row.name_id for row in rows}
        news = state.seen.add(
            numbering, [*numbered.values()], self._at, lambda n: self._earlier(file_nos[n], ids[file_nos[n]])
        )
        told = self._of_numbers(numbering, news, len(named) - len(numbered))
        state.events += [("repeat", self._at, sentence) for sentence in told]

    def _of_numbers(self, numbering: Numbering, news: News, without: int) -> Iterator[str]:
        if without:
            yield f"{terminal.count(without, 'file')} came without a number as 'sequence' says"
        if news.began_at is not None:
            yield f"the numbers of its files began anew at {numbering.shown(news.began_at)}"
        if news.repeats:
            came = f"{terminal.count(len(news.repeats), 'file')} came with a number that was there before"
            yield f"{came}: {self._ranges(list(_runs(news.repeats)))}"

    def _earlier(self, file_no: int, name_id: str) -> str:
        """Return what a file is to those of its name before it."""
        f = input_files.c
        same = (f.source == self.source.name) & (f.name_id == name_id) & (f.file_no < file_no)
        statuses = set(self.connection.execute(select(f.status).where(same)).scalars())
        return NEW if not statuses else AGAIN if "removed" in statuses else GROWN


def look(
    files: DataFiles,
    of: Iterable[Source],
    now: datetime,
    *,
    night: str | None = None,
    landed: Collection[str] | None = None,
) -> list[Alarm]:
    """Return what is strange of sources at a moment (naive UTC), and keep what the next look must know.

    `night`: the run of the night that has just taken in what there was; without it a stream does. `landed`: those that
    are taken from landing folders, if not all are.
    """
    found: list[Alarm] = []
    key = intakes.names_key(files)  # minted beforehand: that is a transaction of its own
    for source in of:
        with database.writing(files.workspace.settings) as connection:
            found += _Look(files, key, connection, source, now, night, landed is None or source.name in landed).alarms()
    return found


def numbering_of(source: Source) -> Numbering:
    """Return how a source's files are numbered."""
    first_and_last = source.sequence_range
    return Numbering(source.sequence or "", (first_and_last[0], first_and_last[1]) if first_and_last else None)


def _moment(modified_ns: int) -> datetime:
    try:
        return datetime.fromtimestamp(modified_ns / 1e9, UTC).replace(tzinfo=None)
    except (OverflowError, ValueError, OSError):
        return datetime.max


def _runs(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield first and last of each run of places (sorted) that follow each other."""
    first = last = places[0]
    for place in places[1:]:
        if place > last + 1:
            yield first, last
            first = place
        last = place
    yield first, last
