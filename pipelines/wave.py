"""One wave: a night's pipeline, read top to bottom as design.md section 4 draws it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import PCollection

from callward.lake.data_files import DataFiles
from callward.lake.ledger import Changes
from callward.settings import Settings
from callward.workspace import WorkspaceRef, open_workspace
from pipelines.engine import run as engine
from schemas.suspense import SUSPENDED
from transforms.commit import Commit, CommitAttempt, CommitResult, result_of
from transforms.elements import Sharding, TakenIn
from transforms.error_limit import ErrorLimit
from transforms.process_bucket import ProcessBucket
from transforms.shuffle import Shuffle
from transforms.spread import Spread
from transforms.suspend import Recycled, Suspend
from transforms.take_in import CountFaults, TakeIn


@dataclass(frozen=True)
class Wave:
    """What one attempt at a wave works on."""

    attempt: CommitAttempt
    chunks: list[pa.Table]  # work for TakeIn
    limits: dict[int, ErrorLimit]
    sharding: Sharding
    now_ms: int
    archive: bool
    recycled: Recycled | None = None
    tenants: tuple[str, ...] = ()  # of the suspense that is recycled


def run_wave(settings: Settings, reference: WorkspaceRef, wave: Wave) -> CommitResult:
    """Run one attempt at a wave; return whether it was committed, and if not, why. Raises Problem."""
    build = check if wave.attempt.check else night
    try:
        engine.run(settings, reference, lambda pipeline: build(pipeline, reference, wave))
    finally:
        DataFiles(open_workspace(reference), wave.attempt.run_id).clear_spilled()
    return result_of(settings, wave.attempt) or CommitResult("failed", "the wave ended without a result")


def night(pipeline: beam.Pipeline, reference: WorkspaceRef, wave: Wave) -> None:
    """Add the steps of a wave: records → views, derived tables, suspense, pending and archive, in one commit."""
    run_id, now_ms = wave.attempt.run_id, wave.now_ms
    chunks = pipeline | "Chunks" >> Spread(wave.chunks, pa.Table)
    taken = chunks | "TakeIn" >> TakeIn(reference, run_id, wave.archive)  # TakenIn
    processed = (
        taken
        | "Shuffle" >> Shuffle(reference, run_id)  # BucketRows: the CDR tables of a bucket
        | "ProcessBucket" >> ProcessBucket(reference, run_id, wave.sharding, now_ms)  # Changes, suspended
    )
    # A tenant whose recycled records all came through suspends none, but its suspense log changes all the same.
    touched = pipeline | "Recycled" >> beam.Create([(tenant, SUSPENDED.empty_table()) for tenant in wave.tenants])
    faulty = taken | "Faulty" >> _each(lambda of: of.suspended, tuple[str, pa.Table])
    suspended = (
        (faulty, processed.suspended, touched)
        | "ToSuspend" >> beam.Flatten()  # tuple[tenant, SUSPENDED table]
        | "Suspend" >> Suspend(reference, run_id, now_ms, wave.recycled)  # Changes
    )
    facts = taken | "Facts" >> _each(lambda of: [of.facts], Changes)
    _commit((facts, processed.changes, suspended), reference, wave)


def check(pipeline: beam.Pipeline, reference: WorkspaceRef, wave: Wave) -> None:
    """Count faults only, for the error rate of a file that is larger than a wave: nothing is written or committed."""
    faults = pipeline | "Chunks" >> Spread(wave.chunks, pa.Table) | "CountFaults" >> CountFaults(reference)
    _commit((faults,), reference, wave)


def _each(parts: Callable[[TakenIn], Iterable[Any]], kind: Any) -> Any:
    return beam.FlatMap(parts).with_output_types(kind)


def _commit(changes: Sequence[PCollection[Changes]], reference: WorkspaceRef, wave: Wave) -> None:
    changes | "Changes" >> beam.Flatten() | "Commit" >> Commit(reference, wave.attempt, wave.limits)
