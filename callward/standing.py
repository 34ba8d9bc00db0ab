"""Standing alarms: what a person must look at until it is fixed, since when, and when an alert of it went out.

Each look at some sources replaces what stood of them, so what is fixed is gone with the next look.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, update

from callward.redaction import mask
from schemas.tables import standing_alarms as table


@dataclass(frozen=True)
class Alarm:
    """What was seen of a source ("": of no one source), in a sentence; whether a person must look, or it is said only.

    `kind` is one word or two for programs; a source has one alarm of a kind.
    """

    source: str
    kind: str
    sentence: str
    must_look: bool = True


@dataclass(frozen=True)
class Standing:
    """An alarm that stands since a moment (naive UTC), and when an alert of it went out."""

    alarm: Alarm
    since: datetime
    alerted_at: datetime | None = None


def put(connection: Connection, sources: Collection[str], alarms: Iterable[Alarm], now: datetime) -> None:
    """Let these alarms stand of some sources, in place of those that stood; one that stays keeps its `since`."""
    t = table.c
    there = {alarm.alarm.source + "/" + alarm.alarm.kind: alarm for alarm in every(connection)}
    connection.execute(delete(table).where(t.source.in_(sources)))
    rows = {}
    for alarm in alarms:
        before = there.get(f"{alarm.source}/{alarm.kind}")
        rows[alarm.source, alarm.kind] = {
            **vars(alarm),
            "sentence": mask(alarm.sentence),
            "since": before.since if before else now,
            "seen_at": now,
            "alerted_at": before.alerted_at if before else None,
        }
    if rows:
        connection.execute(insert(table), list(rows.values()))


def add(connection: Connection, alarm: Alarm, now: datetime) -> None:
    """Let an alarm stand beside those that stand of its source, in place of an earlier one of its kind."""
    beside = [item.alarm for item in every(connection, [alarm.source]) if item.alarm.kind != alarm.kind]
    put(connection, [alarm.source], [*beside, alarm], now)


def every(connection: Connection, sources: Sequence[str] | None = None) -> list[Standing]:
    """Return what stands, of some sources or of all: what a person must look at first."""
    query = select(table).order_by(table.c.must_look.desc(), table.c.since, table.c.source, table.c.kind)
    if sources is not None:
        query = query.where(table.c.source.in_(sources))
    return [
        Standing(Alarm(row.source, row.kind, row.sentence, row.must_look), row.since, row.alerted_at)
        for row in connection.execute(query)
    ]


def untold(connection: Connection, now: datetime, again: timedelta) -> list[Standing]:
    """Return what stands and of which no alert went out for so long."""
    return [item for item in every(connection) if item.alerted_at is None or item.alerted_at <= now - again]


def note_told(connection: Connection, alarm: Alarm, now: datetime) -> None:
    """Note that an alert of an alarm went out."""
    this = (table.c.source == alarm.source) & (table.c.kind == alarm.kind)
    connection.execute(update(table).where(this).values(alerted_at=now))
