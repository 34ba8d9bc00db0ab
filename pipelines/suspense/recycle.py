"""recycle: suspended records once more through the pipeline, after what was wrong has been fixed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from sqlalchemy import func, select

from callward import database, runs, sources, workspace_id
from callward.errors import Problem
from callward.lake import ledger
from callward.lake.conflicts import retry_on_conflict
from callward.lake.data_files import DataFiles, open_files
from callward.lake.ledger import CommitConflict
from callward.retention.requests import restrictions
from callward.settings import Settings
from pipelines.results import to_document
from pipelines.suspense.records import OpenRecords, check_codes, file_numbers, list_open
from pipelines.vacuum import remove_orphans
from pipelines.wave import Wave, run_wave
from schemas.codes import Suspense
from schemas.tables import input_files, ledger_entries
from transforms.commit import COMMITTED, REFUSED, CommitAttempt, CommitResult
from transforms.elements import CHUNK, Sharding
from transforms.read import SUSPENDED
from transforms.suspend import Meant, Recycled, open_records
from transforms.take_in import as_work

ROLE = "billing-run"
# A conflict's loser stays one, a piece is closed by its mate, and of held versions a person chooses one.
_NOT_RECYCLED = {Suspense.CONFLICT, Suspense.PARTIAL, Suspense.HELD}


@dataclass(frozen=True)
class Recycling:
    """What was put through again, or would be.

    Attributes:
        taken: records that were put through.
        buckets: change in records by bucket, where there is one.
        records: by file and code, as they were in suspense before.
    """

    run_id: str
    dry_run: bool
    taken: int
    buckets: dict[str, int]
    records: list[OpenRecords]

    def to_dict(self) -> dict[str, Any]:
        """Return the document of `callward recycle --json`."""
        return {**self.summary(), "records": to_document(self.records)}

    def summary(self) -> dict[str, Any]:
        """Return the document without its files, as the register of runs keeps it."""
        return {"run_id": self.run_id, "dry_run": self.dry_run, "taken": self.taken, "buckets": self.buckets}


def recycle(
    settings: Settings, codes: Sequence[str], only: Sequence[str], named: Sequence[str] = (), *, dry_run: bool = False
) -> Recycling:
    """Put open records of those codes (default all that can be fixed), sources and files through again.

    `named`: files by number, id, or name below the landing folder. The code FILE means all records of the files that
    were set aside whole, whatever was wrong with each.

    The balance of every file holds before and after. Raises UsageProblem for a code or source that is not known,
    Problem for codes that are not recycled and for records that cannot be committed.
    """
    wanted = check_codes(list(codes)) or [str(code) for code in Suspense if code not in _NOT_RECYCLED]
    if set(wanted) & _NOT_RECYCLED:
        raise Problem(
            "CONFLICT, PARTIAL and HELD are not recycled: a later version or the missing piece resolves the first two; "
            "of held versions choose one: 'callward suspense choose FILE_NO'"
        )
    chosen = [settings.source(name) for name in only] or list(settings.sources)
    names = [source.name for source in chosen]
    workspace_id.check(settings)
    with runs.running(settings, "recycle", ["suspense", *(f"source/{name}" for name in names)]) as run_id:
        files = open_files(settings, ROLE, "recycle", run_id, time.strftime("%Y-%m", time.gmtime()))
        files.workspace.enter(chosen)
        whole = _set_aside(settings, names) if Suspense.FILE in codes else []
        meant = Meant(tuple(wanted), tuple(file_numbers(settings, named, "recycle") if named else []), tuple(whole))
        records = list_open(settings, wanted, names, [str(number) for number in meant.file_nos], whole=whole)

        def attempt(number: int) -> int:
            wave, count = _wave(settings, files, CommitAttempt(run_id, 0, number), meant, names)
            if count and not dry_run:
                _check(run_wave(settings, files.workspace.reference, wave))
            return count

        count = retry_on_conflict(attempt, on_conflict=lambda: remove_orphans(settings, over={run_id}))
        recycling = Recycling(run_id, dry_run, count, _changes(settings, run_id), records)
        runs.finish(settings, run_id, "done", recycling.summary())
    restrictions.mark(settings)
    return recycling


def _set_aside(settings: Settings, names: Sequence[str]) -> list[int]:
    """Return the numbers of files of some sources that were set aside whole."""
    f = input_files.c
    with database.reading(settings) as connection:
        return list(connection.execute(select(f.file_no).where(f.set_aside, f.source.in_(names))).scalars())


def _check(result: CommitResult) -> None:
    """Raise CommitConflict where another commit came first, Problem where the wave failed."""
    if result.status == REFUSED:
        raise CommitConflict
    if result.status != COMMITTED:
        raise Problem(str(result.detail))


def _wave(
    settings: Settings, files: DataFiles, attempt: CommitAttempt, meant: Meant, names: list[str]
) -> tuple[Wave, int]:
    with database.reading(settings) as connection:
        logs = ledger.files(connection, view="suspense")
        now_called = {old: name for name in names for old in sources.names_of(connection, name)}
    chunks, tenants, count = [], set(), 0
    sharding, now_ms = Sharding(), int(time.time() * 1000)
    for log in logs:
        table = files.read_log(log)
        rows = table.filter(open_records(table, meant, list(now_called)))
        count += rows.num_rows
        groups = rows.group_by(["source", "shape"]).aggregate([]).to_pylist()
        for source, shape in sorted({(now_called[group["source"]], group["shape"]) for group in groups}):
            chunk = _chunk(log.file_id, source, shape, meant)
            chunks.append(as_work(chunk, now_ms, sharding.to_json()))
            tenants.add(log.tenant)
    recycled = Recycled(meant, tuple(now_called), tuple(log.file_id for log in logs))
    return Wave(attempt, chunks, {}, sharding, now_ms, False, recycled, tuple(sorted(tenants))), count


def _chunk(file_id: str, source: str, shape: str, meant: Meant) -> pa.Table:
    piece = {
        "kind": SUSPENDED,
        "source": source,
        "shape": shape,
        "path": file_id,
        "meant": meant.to_json(),
        "condemned": False,
    }
    return pa.Table.from_pylist([piece], schema=CHUNK)


def _changes(settings: Settings, run_id: str) -> dict[str, int]:
    e = ledger_entries.c
    with database.reading(settings) as connection:
        rows = connection.execute(select(e.bucket, func.sum(e.rows)).where(e.run_id == run_id).group_by(e.bucket))
        return {bucket: int(total) for bucket, total in rows if bucket not in (ledger.IN, ledger.PAIRED) and total}
