"""Commit: all that a wave made, in one database transaction, or nothing; and a result for whoever started the wave."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection
from sqlalchemy import Connection, insert, select

from callward import database
from callward.errors import Problem
from callward.lake import ledger
from callward.lake.ledger import Changes, CommitConflict
from callward.settings import Settings
from callward.workspace import Workspace, WorkspaceRef, open_workspace
from schemas.tables import waves
from transforms.counters import count_records
from transforms.error_limit import ErrorLimit, over_limit
from transforms.safe_errors import SafeDoFn

COMMITTED, REFUSED, SET_ASIDE, CHANGED, FAILED = "committed", "refused", "set_aside", "changed", "failed"


@dataclass(frozen=True)
class CommitResult:
    """What became of an attempt at a wave. `detail`: ledger numbers of files to leave out, or the sentence to show."""

    status: str
    detail: Any = None


@dataclass(frozen=True)
class CommitAttempt:
    """Which attempt at which wave of which run; `check` ones judge the files' error rates and commit nothing."""

    run_id: str
    wave: int
    number: int
    check: bool = False


def commit(
    changes: Iterable[Changes], workspace: Workspace, attempt: CommitAttempt, limits: Mapping[int, ErrorLimit]
) -> CommitResult:
    """Commit a wave's changes once and record the result; an attempt that has one already answers so again."""
    settings = workspace.settings
    known = result_of(settings, attempt)
    if known is not None:
        return known
    try:
        return _commit(Changes.merge(changes), workspace, attempt, limits)
    except CommitConflict:
        result = CommitResult(REFUSED)
    except Problem as problem:
        result = CommitResult(FAILED, str(problem))
    return _record(settings, attempt, result)


def _commit(
    merged: Changes, workspace: Workspace, attempt: CommitAttempt, limits: Mapping[int, ErrorLimit]
) -> CommitResult:
    settings = workspace.settings
    if merged.changed:
        return _record(settings, attempt, CommitResult(CHANGED, sorted(merged.changed)))
    faulty = sorted(over_limit(merged, limits) - merged.set_aside)
    if faulty or attempt.check:
        return _record(settings, attempt, CommitResult(SET_ASIDE if faulty else COMMITTED, faulty))
    merged = ledger.with_sealed_sums(merged, settings, workspace.keyring)
    with database.writing(settings) as connection:
        counted = ledger.counted(connection, ledger.commit(connection, attempt.run_id, attempt.wave, merged))
        result = _insert(connection, attempt, CommitResult(COMMITTED))
    count_records(counted)
    return result


def _record(settings: Settings, attempt: CommitAttempt, result: CommitResult) -> CommitResult:
    with database.writing(settings) as connection:
        return _insert(connection, attempt, result)


def _insert(connection: Connection, attempt: CommitAttempt, result: CommitResult) -> CommitResult:
    row = {"run_id": attempt.run_id, "wave": attempt.wave, "attempt": attempt.number, "status": result.status}
    connection.execute(insert(waves).values(**row, detail=json.dumps(result.detail), at=database.now()))
    return result


def result_of(settings: Settings, attempt: CommitAttempt) -> CommitResult | None:
    """Return what became of an attempt; None when it has not ended."""
    mine = (waves.c.run_id == attempt.run_id) & (waves.c.wave == attempt.wave) & (waves.c.attempt == attempt.number)
    with database.reading(settings) as connection:
        row = connection.execute(select(waves.c.status, waves.c.detail).where(mine)).first()
    return CommitResult(row.status, json.loads(row.detail)) if row else None


@dataclass(eq=False)
class Commit(beam.PTransform[PCollection[Changes], PCollection[None]]):
    """PCollection[Changes] of one wave → its result in the database: a runner hands nothing back to who started it."""

    reference: WorkspaceRef
    attempt: CommitAttempt
    limits: dict[int, ErrorLimit]

    def expand(self, changes: PCollection[Changes]) -> PCollection[None]:
        return (
            changes
            | "OneWave" >> beam.WithKeys(0).with_output_types(tuple[int, Changes])
            | "Gather" >> beam.GroupByKey()
            | "CommitOnce"
            >> beam.ParDo(_CommitFn(self.reference, self.attempt, self.limits)).with_output_types(NoneType)
        )


class _CommitFn(SafeDoFn):
    def __init__(self, reference: WorkspaceRef, attempt: CommitAttempt, limits: dict[int, ErrorLimit]) -> None:
        self._reference, self._attempt, self._limits = reference, attempt, limits

    def process(self, element: tuple[int, Iterable[Changes]]) -> None:
        commit(element[1], open_workspace(self._reference), self._attempt, self._limits)
