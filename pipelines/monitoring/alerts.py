"""alerts: what was seen stands until the next look, and who is to be told is told, once, and again while it stands."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection

from callward import database, standing
from callward.alerts import AlertFailed, is_set, send
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


def _document(settings: Settings, item: Standing) -> dict[str, Any]:
    since = item.since.replace(tzinfo=UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    about = {"format_version": FORMAT_VERSION, "workspace": settings.workspace_id or ""}
    return {**about, **vars(item.alarm), "since": since}
