"""stream status: whether a stream runs, how fresh what it committed is, and what a person must look at."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from sqlalchemy import Connection

from callward import database, standing
from callward.lake import shares
from callward.settings import Settings
from callward.streaming.metrics import DEAD, FAILED, RUNNING, STOPPED, STOPPING, StreamMetrics, figures, watched
from callward.workspace import Workspace, WorkspaceRef
from pipelines import terminal
from pipelines.monitoring.alarms import Came, alarms, line
from pipelines.monitoring.feeds import KINDS
from pipelines.results import fields_of
from pipelines.stream.metrics_server import AskBroker, Latest

_BROKER_PATIENCE_S: Final = 5.0
_FEW_RETRIES: Final = 10  # a few are usual, where a night commits to the same days
_RETRIED_SHARE: Final = 0.2  # of all tries to commit


@dataclass(frozen=True)
class StreamStatus:
    """A stream as it stands, and what a person must look at, a sentence each."""

    metrics: StreamMetrics
    look: Sequence[str]
    shares: str = ""

    @property
    def rows_per_second(self) -> float:
        """Return the rows committed a second, over all sources."""
        return round(sum(of.rows_per_second for of in self.metrics.sources), 1)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name, with the sums over sources and what to look at."""
        sums = {"rows_per_second": self.rows_per_second, "freshness_s": self.metrics.freshness_s}
        return {**fields_of(self.metrics), **sums, "look": list(self.look), "shares": self.shares}


def status(settings: Settings, ask_broker: AskBroker | None = None) -> list[StreamStatus]:
    """Return the streams that should run, else the last one, each with what a person must look at.

    The broker is asked where `ask_broker` is given, and not waited for long: lags stay unknown without it.
    """
    answer = Latest(ask_broker).get(_BROKER_PATIENCE_S) if ask_broker else None
    marks = answer.value if answer and answer.current else None
    with database.reading(settings) as connection:
        streams = [figures(connection, run_id, marks) for run_id in watched(connection)]
        broker_away = answer is not None and not answer.current
        return [_status(settings, connection, now, broker_away) for now in streams if now is not None]


def _status(settings: Settings, connection: Connection, now: StreamMetrics, broker_away: bool) -> StreamStatus:
    workspace = Workspace(WorkspaceRef.of(settings, "ops", "stream status"), settings)
    came = {of.source: Came(of.rows, sum(of.suspended.values())) for of in now.sources}
    day = shares.last_day(connection, now.run_id)
    look = [*_look(settings, now, broker_away), *_standing(workspace, connection, now, came, day)]
    return StreamStatus(now, look, line(shares.of_run(connection, now.run_id, day), came))


def _standing(
    workspace: Workspace, connection: Connection, now: StreamMetrics, came: Mapping[str, Came], day: date | None
) -> Iterator[str]:
    """Yield what its records say today, and what its maintenance saw of its feeds."""
    yield from (alarm.sentence for alarm in alarms(workspace, connection, now.run_id, came, day))
    for item in standing.every(connection, list(came)):
        if item.alarm.must_look and item.alarm.kind in KINDS:
            yield item.alarm.sentence


def _look(settings: Settings, now: StreamMetrics, broker_away: bool) -> Iterator[str]:
    """Yield what a person must look at, a sentence each."""
    if now.state == DEAD:
        yield "its supervisor died; start the stream again: callward stream start"
    if now.state == STOPPING:
        yield f"a stop was asked for {_ago(now, now.stop_requested_at)}; it ends when all that was read is committed"
    if now.state in (STOPPED, FAILED, DEAD) and now.blocks:
        yield f"{terminal.count(now.blocks, 'block')} read and not committed: the next start takes them up"
    if now.state in (RUNNING, STOPPING):
        yield from _running_badly(settings, now)
        if broker_away:
            yield "the broker did not answer: lags are not known"
    yield from _missed(now)


def _running_badly(settings: Settings, now: StreamMetrics) -> Iterator[str]:
    limit = settings.stream.fresh_seconds
    for of in now.sources:
        if of.freshness_s > limit:
            yield f"{of.source} is behind: its oldest uncommitted record came {span(of.freshness_s)} ago"
    tries = now.commits + now.retries
    if now.retries >= _FEW_RETRIES and now.retries > _RETRIED_SHARE * tries:
        yield f"{now.retries:,} of {tries:,} tries to commit were refused: others write the same days at the same time"


def _missed(now: StreamMetrics) -> Iterator[str]:
    for of in now.partitions:
        if of.missed:
            yield (
                f"{of.topic}, partition {of.partition}: the broker deleted {terminal.count(of.missed, 'message')} "
                "before they were read; keep them longer there, and have the source send them again"
            )


def _ago(now: StreamMetrics, at: Any) -> str:
    return f"{span((now.at - at).total_seconds())} ago"


def span(seconds: float) -> str:
    """Return a span in the largest unit that it fills."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
