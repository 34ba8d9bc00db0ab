"""choose: of records of which versions were set aside, those that came in one file are the rows from now on."""

import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import func, select

from callward import database, runs, workspace_id
from callward.columns import set_column
from callward.errors import Problem
from callward.lake import ledger
from callward.lake.conflicts import retry_on_conflict
from callward.lake.data_files import DataFiles, open_files
from callward.lake.ledger import Changes
from callward.retention.requests import restrictions
from callward.settings import Settings
from pipelines.suspense.records import first_lines, number_in_file
from pipelines.vacuum import remove_orphans
from schemas.cdr import CDR
from schemas.codes import Bucket, Suspense
from schemas.suspense import SUSPENSE
from schemas.tables import input_files
from transforms.process_bucket import process_chosen
from transforms.suspend import known_suspense

ROLE = "billing-run"


@dataclass(frozen=True)
class Choice:
    """How many versions of a file were chosen, and how many records have several versions in it."""

    file_no: int
    dry_run: bool
    chosen: int
    several: int


def choose(settings: Settings, file_no: int, records: Collection[int] = (), *, dry_run: bool = False) -> Choice:
    """Bill the versions of held records that came in a file; the other versions stay in suspense as CONFLICT.

    `records`: their numbers in the file, from 1, as 'callward suspense show' has them; none: all. A record of which
    several of these versions are stays held. Raises Problem where there is no such held record.
    """
    workspace_id.check(settings)
    _check_file(settings, file_no)
    with runs.running(settings, "choose", ["suspense"]) as run_id:
        files, which = open_files(settings, ROLE, "choose", run_id), frozenset(records)
        choosing = _Choosing(files, file_no, which, first_lines(settings, file_no), dry_run, int(time.time() * 1000))
        counts: Counter[str] = Counter()
        for number, tenant in enumerate(settings.tenants):
            counts += retry_on_conflict(
                lambda _, tenant=tenant, number=number: choosing.of_tenant(tenant, number),  # type: ignore[misc]
                also=(FileNotFoundError,),
                on_conflict=lambda: remove_orphans(settings, over={run_id}),
            )
        choice = Choice(file_no, dry_run, counts["chosen"], counts["several"])
        runs.finish(settings, run_id, "done", vars(choice))
    if not choice.chosen and not choice.several:
        raise Problem(
            f"file {file_no} has no such held record in suspense; 'callward suspense list --code HELD' shows which "
            f"have any, and 'callward suspense show {file_no} --code HELD --reason WHY' the numbers of the records"
        )
    restrictions.mark(settings)
    return choice


def _check_file(settings: Settings, file_no: int) -> None:
    """Raise Problem for what is no input file: it may be a telephone number, which no register is to keep."""
    with database.reading(settings) as connection:
        known = connection.execute(select(func.max(input_files.c.file_no))).scalar() or 0
    if not 0 < file_no <= known:
        raise Problem("no file of that number came in; 'callward suspense list --code HELD' shows which have any")


@dataclass(frozen=True)
class _Choosing:
    files: DataFiles
    file_no: int
    records: frozenset[int]
    starts: dict[int, int]  # how many records of the file come before each of its blocks
    dry_run: bool
    now_ms: int

    def of_tenant(self, tenant: str, wave: int) -> Counter[str]:
        """Choose a tenant's versions, in one commit. Raises CommitConflict when another came first."""
        files = DataFiles(self.files.workspace, self.files.run_id)  # it keeps what it read
        logs, version = known_suspense(files, tenant)
        log = pa.concat_tables([SUSPENSE.empty_table(), *(files.read_log(of) for of in logs)])
        held = np.flatnonzero(pc.and_(log["open"], pc.equal(log["code"], str(Suspense.HELD))))
        calls = [_call(payload) for payload in log["payload"].take(pa.array(held)).to_pylist()]
        ids = [call["record_id"][0].as_py() for call in calls]
        mine = [
            self._is_meant(row) for row in log.select(["file_no", "block", "line"]).take(pa.array(held)).to_pylist()
        ]
        times = Counter(name for name, of_file in zip(ids, mine, strict=True) if of_file)
        chosen = [of_file and times[name] == 1 for name, of_file in zip(ids, mine, strict=True)]
        counts = Counter(chosen=sum(chosen), several=sum(count > 1 for count in times.values()))
        if counts["chosen"] and not self.dry_run:
            others = [times[name] == 1 and not this for name, this in zip(ids, chosen, strict=True)]
            rows = pa.concat_tables([call for call, this in zip(calls, chosen, strict=True) if this])
            rest, entries = _without(log, held[chosen], held[others])
            changes = Changes(
                files=[files.write_log("suspense", tenant, rest)] if rest.num_rows else [],
                read={(tenant, ledger.SUSPENSE): version},
                superseded={file.file_id: (file.tenant, file.part) for file in logs},
                entries=entries,
            )
            changes = Changes.merge([changes, *process_chosen(tenant, rows, files, self.now_ms)])
            settings = files.workspace.settings
            changes = ledger.with_sealed_sums(changes, settings, files.workspace.keyring)
            with database.writing(settings) as connection:
                ledger.commit(connection, files.run_id, wave, changes)
        return counts

    def _is_meant(self, row: dict[str, int]) -> bool:
        number = number_in_file(row, self.starts)
        return row["file_no"] == self.file_no and (not self.records or number in self.records)


def _call(payload: bytes) -> pa.Table:
    """Return a version that was set aside (schema CDR), as it leaves suspense."""
    row = pa.ipc.open_stream(payload).read_all().select(CDR.names).cast(CDR)
    row = set_column(row, "was", pa.array([str(Suspense.HELD)]).cast(CDR.field("was").type))
    return set_column(row, "was_ms", row["carried_ms"])


def _without(log: pa.Table, chosen: np.ndarray, others: np.ndarray) -> tuple[pa.Table, list[pa.Table]]:
    """Return a suspense log without chosen rows, in which the other versions lost; and ledger entries of these."""
    lost = log.take(pa.array(others))
    entries = ledger.entries(lost, Bucket.SUSPENDED, str(Suspense.CONFLICT)) if len(others) else []
    is_lost = pa.array(np.isin(np.arange(log.num_rows), others))
    for name in ("code", "was"):
        log = set_column(log, name, pc.if_else(is_lost, str(Suspense.CONFLICT), log[name]))
    return log.filter(pa.array(~np.isin(np.arange(log.num_rows), chosen))), entries
