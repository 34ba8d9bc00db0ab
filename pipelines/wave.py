"""One wave: a night's pipeline, read top to bottom as design.md section 4 draws it."""

from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from callward.lake.data_files import DataFiles
from callward.settings import Settings
from callward.workspace import WorkspaceRef, open_workspace
from pipelines.engine import run as engine
from schemas.suspense import SUSPENDED
from transforms.assemble import Assemble
from transforms.commit import Commit, CommitAttempt, CommitResult, Limit, result_of
from transforms.deduplicate import Deduplicate
from transforms.drop_expired import DropExpired
from transforms.elements import Sharding
from transforms.identify import Identify
from transforms.normalize import Normalize
from transforms.parse import Parse
from transforms.rate import Rate
from transforms.read import Read
from transforms.shuffle import Shuffle
from transforms.split import Split
from transforms.summarize import Summarize
from transforms.suspend import Recycled, Suspend
from transforms.validate import Validate
from transforms.write import OncePerFile, Write


@dataclass(frozen=True)
class Wave:
    """What one attempt at a wave works on."""

    attempt: CommitAttempt
    chunks: list[pa.Table]
    limits: dict[int, Limit]
    sharding: Sharding
    now_ms: int
    archive: bool
    recycled: Recycled | None = None
    tenants: tuple[str, ...] = ()  # of the suspense that is recycled


def run_wave(settings: Settings, reference: WorkspaceRef, wave: Wave) -> CommitResult:
    """Run one attempt at a wave; its verdict says whether it was committed, and if not, why. Raises Problem."""
    build = check if wave.attempt.check else night
    try:
        engine.run(settings, reference, lambda pipeline: build(pipeline, reference, wave))
    finally:
        DataFiles(open_workspace(reference), wave.attempt.run_id).clear_spilled()
    return result_of(settings, wave.attempt) or CommitResult("failed", "the wave ended without a verdict")


def night(pipeline: beam.Pipeline, reference: WorkspaceRef, wave: Wave) -> None:
    """Records → both views, derived tables, suspense, pending and archive, in one commit."""
    run_id, now_ms = wave.attempt.run_id, wave.now_ms
    good, suspended, facts = _taken_in(pipeline, reference, wave)

    grouped = good | "Shuffle" >> Shuffle(reference, run_id)  # Gathered: the CDR tables of a bucket
    paired = grouped | "Assemble" >> Assemble(reference, run_id, wave.sharding, now_ms)  # Group
    admitted = paired.groups | "DropExpired" >> DropExpired(reference, run_id, now_ms)  # Group, within its window
    settled = admitted.groups | "Deduplicate" >> Deduplicate(reference, run_id)  # Group, once each
    shares = settled.groups | "Rate" >> Rate() | "Split" >> Split(reference)  # ViewRows per view and call_date

    rewrites = settled.rewrites | "Rewrites" >> OncePerFile()

    # Shares are used where they are made: to flatten them with the few rewrites would carry all through the runner.
    write, summarize = Write(reference, run_id), Summarize(reference)
    written = (shares | "Write" >> write, rewrites | "Rewrite" >> write)  # Changes
    derived = (
        shares | "Summarize" >> summarize,
        rewrites | "SummarizeRewritten" >> summarize,
        settled.taken | "SummarizeTaken" >> summarize,
    )

    # A tenant whose recycled records all came through has none to set aside, but its suspense log changes all the same.
    touched = pipeline | "Recycled" >> beam.Create([(tenant, SUSPENDED.empty_table()) for tenant in wave.tenants])
    aside = (suspended, settled.suspended, touched) | "WhatIsSetAside" >> beam.Flatten()
    set_aside = aside | "Suspend" >> Suspend(reference, run_id, now_ms, recycled=wave.recycled)  # Changes

    outcomes = (*facts, paired.facts, admitted.facts, settled.facts, *written, *derived, set_aside)
    outcomes | "Outcomes" >> beam.Flatten() | "Commit" >> Commit(reference, wave.attempt, wave.limits)


def check(pipeline: beam.Pipeline, reference: WorkspaceRef, wave: Wave) -> None:
    """Parse only, for the error rate of a file that is larger than a wave: nothing is written or committed."""
    _, suspended, facts = _taken_in(pipeline, reference, wave)
    counted = suspended | "Suspend" >> Suspend(reference, wave.attempt.run_id, wave.now_ms, write=False)
    (*facts, counted) | "Outcomes" >> beam.Flatten() | "Commit" >> Commit(reference, wave.attempt, wave.limits)


def _taken_in(pipeline: beam.Pipeline, reference: WorkspaceRef, wave: Wave):  # type: ignore[no-untyped-def]
    """The fused stage that cleartext never leaves: chunks → sound records by bucket, suspended by tenant, facts."""
    read = (
        pipeline
        | "Chunks" >> beam.Create(wave.chunks).with_output_types(pa.Table)
        | "Spread" >> beam.Reshuffle()
        | "Read" >> Read(reference, wave.attempt.run_id, wave.archive)  # records as they came
    )
    validated = (
        read.records
        | "Parse" >> Parse(reference)  # canonical fields, one row per record
        | "Normalize" >> Normalize(reference)  # E.164, places
        | "Validate" >> Validate(reference, wave.now_ms)  # sound ones; suspended ones and facts aside
    )
    good = validated.good | "Identify" >> Identify(reference, wave.sharding)  # tuple[bucket, CDR table]
    return good, validated.suspended, (read.facts, validated.facts)
