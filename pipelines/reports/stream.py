"""What people read of streams: how each stands."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from callward.streaming.metrics import DEAD, FAILED, STOPPED, OfPartition, OfSource, StreamMetrics
from pipelines import terminal
from pipelines.results import Part, Result
from pipelines.stream.status import StreamStatus, span

_MEBIBYTE: Final = 1 << 20
_SOURCE_COLUMNS: Final = ("source", "records", "a second", "suspended", "oldest waits", "blocks", "MiB", "slices")


@dataclass(frozen=True)
class StatusReport(Result):
    """How the streams stand."""

    streams: Sequence[StreamStatus]

    @property
    def exit_code(self) -> int:
        """Return 0 when all run and are fresh, 3 when a person must look, 1 when none runs."""
        states = [stream.metrics.state for stream in self.streams]
        if DEAD in states:
            return 3
        if not states or STOPPED in states or FAILED in states:
            return 1
        return 3 if any(stream.look for stream in self.streams) else 0

    def to_dict(self) -> dict[str, Any]:
        return {"streams": [stream.to_dict() for stream in self.streams]}

    def render(self) -> Iterator[Part]:
        if not self.streams:
            yield "no stream has run in this workspace; start one: callward stream start"
        for stream in self.streams:
            metrics = stream.metrics
            yield _headline(metrics)
            if metrics.sources:
                yield terminal.table("By source", _SOURCE_COLUMNS, [_source_row(of) for of in metrics.sources])
            if metrics.partitions:
                yield _partitions(metrics.partitions)
            yield from (f"look: {sentence}" for sentence in stream.look)
            if stream.metrics.rows:
                yield stream.shares


def _headline(stream: StreamMetrics) -> str:
    records = terminal.count(stream.rows, "record")
    commits = terminal.count(stream.commits, "commit")
    ended = f" ({stream.reason})" if stream.reason and stream.state in (STOPPED, FAILED) else ""
    at = stream.started_at.isoformat(" ", "seconds")
    return (
        f"stream {stream.run_id}: {stream.state}{ended}, on {stream.engine} since {at} UTC; "
        f"{records} in {commits}, {stream.suspended:,} suspended, {stream.retries:,} refused and tried again"
    )


def _source_row(of: OfSource) -> list[Any]:
    waits = span(of.freshness_s) if of.blocks else ""
    sizes = of.blocks, round(of.bytes / _MEBIBYTE, 1), of.slices
    return [of.source, of.rows, round(of.rows_per_second), sum(of.suspended.values()), waits, *sizes]


def _partitions(partitions: Sequence[OfPartition]) -> terminal.Table:
    """Return the partitions with what is unknown as a dash: it is not 0."""
    rows = [[of.topic, of.partition, *("-" if value is None else value for value in _offsets(of))] for of in partitions]
    return terminal.table("By partition", ["topic", "partition", "next", "committed", "lag"], rows)


def _offsets(of: OfPartition) -> tuple[int | None, int | None, int | None]:
    return of.next_offset, of.committed_offset, of.lag
