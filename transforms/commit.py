"""Commit: all that a wave made, in one database transaction, or nothing; and a verdict for whoever started the wave."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa
from sqlalchemy import Connection, insert, select

from callward import database
from callward.errors import Problem
from callward.lake import ledger
from callward.lake.ledger import Outcome, Refused
from callward.settings import Settings
from callward.workspace import Reference, open_workspace
from schemas.tables import waves

COMMITTED, REFUSED, SET_ASIDE, CHANGED, FAILED = "committed", "refused", "set_aside", "changed", "failed"


@dataclass(frozen=True)
class Limit:
    """When a file is set aside whole: more than `share` of its records suspended, and at least `least` of them."""

    share: float
    least: int

    def exceeded(self, wrong: int, read: int) -> bool:
        return wrong >= self.least and wrong > self.share * read


@dataclass(frozen=True)
class Verdict:
    """What became of an attempt at a wave. `detail`: ledger numbers of files to leave out, or the sentence to show."""

    status: str
    detail: Any = None


@dataclass(frozen=True)
class Attempt:
    """Which attempt at which wave of which run; `check` ones judge the files' error rates and commit nothing."""

    run_id: str
    wave: int
    number: int
    check: bool = False


def over_limit(entries: pa.Table, faults: Mapping[int, int], limits: Mapping[int, Limit]) -> list[int]:
    """Files whose faulty records pass their limit (summed entries of one wave), also where they are known already."""
    read = {row["file_no"]: row["rows"] for row in entries.to_pylist() if row["bucket"] == ledger.IN}
    return [no for no, limit in limits.items() if limit.exceeded(faults.get(no, 0), read.get(no, 0))]


def commit(outcomes: Iterable[Outcome], settings: Settings, attempt: Attempt, limits: Mapping[int, Limit]) -> Verdict:
    """Commit a wave's outcomes once and record the verdict; an attempt that has one already answers so again."""
    known = verdict_of(settings, attempt)
    if known is not None:
        return known
    try:
        return _commit(Outcome.merge(outcomes), settings, attempt, limits)
    except Refused:
        verdict = Verdict(REFUSED)
    except Problem as problem:
        verdict = Verdict(FAILED, str(problem))
    return _record(settings, attempt, verdict)


def _commit(merged: Outcome, settings: Settings, attempt: Attempt, limits: Mapping[int, Limit]) -> Verdict:
    if merged.changed:
        return _record(settings, attempt, Verdict(CHANGED, sorted(merged.changed)))
    guilty = over_limit(ledger.sum_entries(merged.entries), merged.faults, limits)
    if guilty or attempt.check:
        return _record(settings, attempt, Verdict(SET_ASIDE if guilty else COMMITTED, guilty))
    with database.writing(settings) as connection:
        ledger.commit(connection, attempt.run_id, attempt.wave, merged)
        return _insert(connection, attempt, Verdict(COMMITTED))


def _record(settings: Settings, attempt: Attempt, verdict: Verdict) -> Verdict:
    with database.writing(settings) as connection:
        return _insert(connection, attempt, verdict)


def _insert(connection: Connection, attempt: Attempt, verdict: Verdict) -> Verdict:
    row = {"run_id": attempt.run_id, "wave": attempt.wave, "attempt": attempt.number, "status": verdict.status}
    connection.execute(insert(waves).values(**row, detail=json.dumps(verdict.detail), at=database.now()))
    return verdict


def verdict_of(settings: Settings, attempt: Attempt) -> Verdict | None:
    """What became of an attempt; None when it has not ended."""
    mine = (waves.c.run_id == attempt.run_id) & (waves.c.wave == attempt.wave) & (waves.c.attempt == attempt.number)
    with database.reading(settings) as connection:
        row = connection.execute(select(waves.c.status, waves.c.detail).where(mine)).first()
    return Verdict(row.status, json.loads(row.detail)) if row else None


@dataclass(eq=False)
class Commit(beam.PTransform):  # type: ignore[misc]
    """PCollection[Outcome] of one wave → its verdict in the database: a runner hands nothing back to who started it."""

    reference: Reference
    attempt: Attempt
    limits: dict[int, Limit]

    def expand(self, outcomes: beam.PCollection) -> beam.PCollection:
        return (
            outcomes
            | "OneWave" >> beam.WithKeys(0)
            | "Gather" >> beam.GroupByKey()
            | "CommitOnce" >> beam.ParDo(_CommitFn(self.reference, self.attempt, self.limits))
        )


class _CommitFn(beam.DoFn):  # type: ignore[misc]
    def __init__(self, reference: Reference, attempt: Attempt, limits: dict[int, Limit]) -> None:
        self._reference, self._attempt, self._limits = reference, attempt, limits

    def process(self, element: tuple[int, Iterable[Outcome]]) -> None:
        commit(element[1], open_workspace(self._reference).settings, self._attempt, self._limits)
