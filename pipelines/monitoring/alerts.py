"""alerts: what was seen stands until the next look, and who is to be told is told, once, and again while it stands."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection

from callward import database, standing
from callward.alerts import AlertFailed, is_set, send
from callward.errors import Problem
from callward.settings import Settings
from callward.standing import Alarm, Standing

FORMAT_VERSION: Final = 1


def stand(settings: Settings, looked_at: Sequence[str], alarms: Iterable[Alarm], now: datetime) -> list[str]:
    """Let alarms stand of the sources that were looked at, and tell of what nobody was told of yet.

    Returns a sentence for each way of telling that failed; the next look tries again.
    """
    with database.writing(settings) as connection:
        standing.put(connection, [*looked_at, *_gone(settings, connection)], alarms, now)
        again = timedelta(hours=settings.alerts.again_hours)
        untold = standing.untold(connection, now, again) if is_set(settings) else []
    return list(_tell(settings, untold, now))


def failed(settings: Settings, problem: Problem, now: datetime) -> list[str]:
    """Tell that a night failed, also where the database is away; it stands until a night ends.

    Returns as `stand` does.
    """
    alarm = Alarm("", "failed", f"the night failed: {problem}; once that is fixed, run 'callward nightly' again")
    try:
        with database.writing(settings) as connection:
            standing.add(connection, alarm, now)
            untold = standing.untold(connection, now, timedelta(hours=settings.alerts.again_hours))
        mine = [item for item in untold if item.alarm.kind == alarm.kind]
        return list(_tell(settings, mine, now)) if is_set(settings) else []
    except Problem:  # the database is away, or of another version
        return list(_tell_at_once(settings, alarm, now)) if is_set(settings) else []


def _gone(settings: Settings, connection: Connection) -> set[str]:
    """Return the sources of which something stands and which are in the settings no more."""
    known = {"", *(source.name for source in settings.sources)}
    return {item.alarm.source for item in standing.every(connection)} - known


def _tell(settings: Settings, untold: Sequence[Standing], now: datetime) -> Iterator[str]:
    """Tell of each; the first that fails is the last that is tried: a night does not wait for a dead address."""
    for number, item in enumerate(untold):
        try:
            send(settings, _document(settings, item))
        except AlertFailed as failure:
            left = len(untold) - number
            yield f"alerts: {failure}; {left} of {len(untold)} were not sent, and are tried again with the next night"
            return
        with database.writing(settings) as connection:
            standing.note_told(connection, item.alarm, now)


def _tell_at_once(settings: Settings, alarm: Alarm, now: datetime) -> Iterator[str]:
    """Tell of an alarm that can stand nowhere."""
    try:
        send(settings, _document(settings, Standing(alarm, now)))
    except AlertFailed as failure:
        yield f"alerts: {failure}"


def _document(settings: Settings, item: Standing) -> dict[str, Any]:
    since = item.since.replace(tzinfo=UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    about = {"format_version": FORMAT_VERSION, "workspace": settings.workspace_id or ""}
    return {**about, **vars(item.alarm), "since": since}
