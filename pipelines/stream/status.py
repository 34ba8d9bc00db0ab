"""stream status: whether a stream runs, how fresh what it committed is, and what a person must look at."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

from callward import database
from callward.settings import Settings
from callward.streaming.metrics import DEAD, FAILED, RUNNING, STOPPED, STOPPING, StreamMetrics, figures, watched
from pipelines import terminal
from pipelines.stream.metrics_server import AskBroker, Latest

_BROKER_PATIENCE_S: Final = 5.0
_FEW_RETRIES: Final = 10  # a few are usual, where a night commits to the same days
_RETRIED_SHARE: Final = 0.2  # of all tries to commit
_MEBIBYTE: Final = 1 << 20


def status(settings: Settings, ask_broker: AskBroker | None = None) -> dict[str, Any]:
    """{streams: [figures of each, with what a person must look at]}: those that should run, else the last one.

    The broker is asked where `ask_broker` is given, and not waited for long: lags stay unknown without it.
    """
    said = Latest(ask_broker).get(_BROKER_PATIENCE_S) if ask_broker else None
    marks = said.value if said and said.current else None
    with database.reading(settings) as connection:
        found = [figures(connection, run_id, marks) for run_id in watched(connection)]
    broker_away = said is not None and not said.current
    return {"streams": [_document(settings, now, broker_away) for now in found if now is not None]}


def exit_code(document: dict[str, Any]) -> int:
    """0: all run and are fresh; 3: a person must look; 1: none runs."""
    streams = document["streams"]
    if any(stream["state"] == DEAD for stream in streams):
        return 3
    if not streams or any(stream["state"] in (STOPPED, FAILED) for stream in streams):
        return 1
    return 3 if any(stream["look"] for stream in streams) else 0


def told(document: dict[str, Any]) -> Iterator[Any]:
    """The document for a person."""
    if not document["streams"]:
        yield "no stream has run in this workspace; start one: callward stream start"
    for stream in document["streams"]:
        yield _headline(stream)
        if stream["sources"]:
            yield terminal.table("By source", list(_SOURCE_COLUMNS), [_source_row(of) for of in stream["sources"]])
        if stream["partitions"]:
            yield _partitions(stream["partitions"])
        yield from (f"look: {sentence}" for sentence in stream["look"])


# -- the document ------------------------------------------------------------------------------------------------------


def _document(settings: Settings, now: StreamMetrics, broker_away: bool) -> dict[str, Any]:
    found = asdict(now)
    found["rows_per_second"] = round(sum(of.rows_per_second for of in now.sources), 1)
    found["freshness_s"] = now.freshness_s
    found["look"] = list(_look(settings, now, broker_away))
    return found


def _look(settings: Settings, now: StreamMetrics, broker_away: bool) -> Iterator[str]:
    """What a person must look at, a sentence each."""
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
            yield f"{of.source} is behind: its oldest uncommitted record came {_span(of.freshness_s)} ago"
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


# -- for a person ------------------------------------------------------------------------------------------------------


def _headline(stream: dict[str, Any]) -> str:
    records = terminal.count(stream["rows"], "record")
    commits = terminal.count(stream["commits"], "commit")
    ended = f" ({stream['reason']})" if stream["reason"] and stream["state"] in (STOPPED, FAILED) else ""
    at = stream["started_at"].isoformat(" ", "seconds")
    return (
        f"stream {stream['run_id']}: {stream['state']}{ended}, on {stream['engine']} since {at} UTC; "
        f"{records} in {commits}, {stream['suspended']:,} suspended, {stream['retries']:,} refused and tried again"
    )


_SOURCE_COLUMNS: Final = ("source", "records", "a second", "suspended", "oldest waits", "blocks", "MiB", "slices")


def _source_row(of: dict[str, Any]) -> list[Any]:
    waits = _span(of["freshness_s"]) if of["blocks"] else ""
    sizes = of["blocks"], round(of["bytes"] / _MEBIBYTE, 1), of["slices"]
    return [of["source"], of["rows"], round(of["rows_per_second"]), sum(of["suspended"].values()), waits, *sizes]


def _partitions(partitions: list[dict[str, Any]]) -> terminal.Table:
    """Partitions with what is unknown as a dash: it is not 0."""
    names = ("next_offset", "committed_offset", "lag")
    rows = [
        [of["topic"], of["partition"], *("-" if of[name] is None else of[name] for name in names)] for of in partitions
    ]
    return terminal.table("By partition", ["topic", "partition", "next", "committed", "lag"], rows)


def _ago(now: StreamMetrics, at: Any) -> str:
    return f"{_span((now.at - at).total_seconds())} ago"


def _span(seconds: float) -> str:
    """A span in the largest unit that it fills."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
