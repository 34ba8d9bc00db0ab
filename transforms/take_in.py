"""TakeIn: bytes → sound records by bucket, what is suspended of them, and what the ledger must know.

This is the one stage that sees cleartext, of a night as of a stream; whatever leaves it is sealed.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import PCollection

from callward.columns import set_column
from callward.lake import ledger
from callward.lake.data_files import DataFiles
from callward.lake.ledger import Changes
from callward.streaming.retry import reporting_failure, retry_transient
from callward.workspace import WorkspaceRef, open_transit, open_workspace
from transforms.among import among, numbered
from transforms.coders import use_transit
from transforms.count_shares import count_clocks, count_shares, count_silent
from transforms.elements import Sharding, TakenIn
from transforms.error_limit import ErrorLimit, error_limit, over_limit
from transforms.identify import by_bucket
from transforms.read import BLOCK, FILE_NO, SOURCE, read, read_messages
from transforms.read_records import read_records
from transforms.safe_errors import SafeDoFn
from transforms.validate import faults_of, separate

# Work is a table: pieces of files (schema elements.CHUNK), or messages (read.MESSAGES). Its metadata say the rest.
NOW, SHARDING, WHOLE, FLUSH = b"callward.now_ms", b"callward.sharding", b"callward.whole", b"callward.flush"


def as_work(chunk: pa.Table, now_ms: int, sharding: str, whole: Collection[int] = ()) -> pa.Table:
    """Return a chunk (schema CHUNK) as work: when its records count as read (ms since 1970) and how they are spread.

    `whole`: ledger numbers of the files that are in it from the first block to the last, and have not been checked
    against their error limit yet.
    """
    files = " ".join(map(str, whole))
    return chunk.replace_schema_metadata({NOW: str(now_ms), SHARDING: sharding, WHOLE: files})


def take_in(work: pa.Table, files: DataFiles, archive: bool, again: pa.Table | None = None) -> TakenIn:
    """Read, parse, normalize, validate and identify one work (of one source and shape).

    A file that is here as a whole is set aside when it has more faults than its source's limit. `again` (schema
    among.AGAIN): of the work's records only these, which the ledger counts already.
    """
    metadata = work.schema.metadata
    if FLUSH in metadata:
        return TakenIn(flush=True)
    table, facts = _validated(work, files, archive, again)
    taken = TakenIn(facts=facts, sharding=metadata[SHARDING].decode())
    taken.blocks = [block for block in _blocks(work) if block[0] not in facts.changed]
    if table is None:
        return taken
    facts.set_aside = over_limit(facts, _limits(table, metadata, files))
    records = separate(table, files.workspace, facts.set_aside)
    facts.entries += records.entries
    # What a broker delivers again is in the same "file", soon or late: equal ones are one.
    taken.suspended = _once(records.suspended) if FILE_NO in metadata else records.suspended
    if again is not None:
        taken.suspended = [(tenant, numbered(rows, again)) for tenant, rows in taken.suspended]
    if records.sound.num_rows:
        taken.rows = defaultdict(list)
        shares = count_clocks(records.sound) + count_silent(records.sound)
        for bucket, rows in by_bucket(records.sound, Sharding.from_json(taken.sharding), files.workspace):
            taken.rows[bucket].append(rows)
            shares += count_shares(rows)
        source = records.sound.schema.metadata[SOURCE].decode()
        facts.shares.update({(source, what): count for what, count in shares.items()})
    return taken


def count_faults(work: pa.Table, files: DataFiles) -> Changes:
    """Return how many records a work has, and how many of them have a fault, by file; nothing of it is to commit.

    This is for a file that is too large to be checked in one piece.
    """
    _, facts = _validated(work, files, False)
    return facts


def _validated(
    work: pa.Table, files: DataFiles, archive: bool, again: pa.Table | None = None
) -> tuple[pa.Table | None, Changes]:
    """Return the records of a work with their faults (None: it has none), and what the ledger must know so far."""
    records, facts = (read_messages if FILE_NO in work.schema.metadata else read)(work, files, archive)
    if again is not None and records is not None:
        records = among(records, again)
    if records is None or not records.num_rows:
        return None, facts
    table = read_records(records, files.workspace, int(work.schema.metadata[NOW]))
    facts.entries.append(ledger.read_entries(table))
    facts.faults = faults_of(table)
    return table, facts


def _limits(table: pa.Table, metadata: Mapping[bytes, bytes], files: DataFiles) -> dict[int, ErrorLimit]:
    """Return the limits of the files that are here as a whole."""
    settings = files.workspace.settings
    limit = error_limit(settings, settings.source(table.schema.metadata[SOURCE].decode()))
    return {int(number): limit for number in metadata.get(WHOLE, b"").split()}


def _once(suspended: list[tuple[str, pa.Table]]) -> list[tuple[str, pa.Table]]:
    return [(tenant, set_column(rows, "by_occurrence", pa.repeat(False, rows.num_rows))) for tenant, rows in suspended]


def _blocks(work: pa.Table) -> list[tuple[int, int]]:
    """Return (file_no, block) of each block of a work."""
    metadata = work.schema.metadata
    if FILE_NO in metadata:
        return [(int(metadata[FILE_NO]), int(metadata[BLOCK]))]
    return list(zip(work["file_no"].to_pylist(), work["block"].to_pylist(), strict=True))


def files_now(reference: WorkspaceRef, run_id: str, files: DataFiles | None = None) -> DataFiles:
    """Return files that seal what is in flight under this month's transit key; `files` themselves while it is theirs.

    A stream may run for years. What it gathers lives for minutes, so a month's key is free soon after the month.
    """
    month = datetime.now(UTC).strftime("%Y-%m")
    if files is not None and files.workspace.reference.transit_month == month:
        return files
    now = replace(reference, transit_month=month)
    use_transit(str(now), open_transit)
    return DataFiles(open_workspace(now), run_id)


# -- Beam --------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class TakeIn(beam.PTransform[PCollection[pa.Table], PCollection[TakenIn]]):
    """PCollection[work table] → PCollection[TakenIn]. Of a stream it waits for what fails in passing, and its work may
    tell all buckets to flush."""

    reference: WorkspaceRef
    run_id: str
    archive: bool
    stream: bool = False

    def expand(self, work: PCollection[pa.Table]) -> PCollection[TakenIn]:
        take_in_fn = _StreamTakeInFn if self.stream else _TakeInFn
        taking_in = beam.ParDo(take_in_fn(self.reference, self.run_id, self.archive))
        return work | "TakeInBlocks" >> taking_in.with_output_types(TakenIn)


class _TakeInFn(SafeDoFn):
    def __init__(self, reference: WorkspaceRef, run_id: str, archive: bool) -> None:
        self._reference, self._run_id, self._archive = reference, run_id, archive

    def setup(self) -> None:
        super().setup()
        self._files = self._opened()

    def _opened(self) -> DataFiles:
        return DataFiles(open_workspace(self._reference), self._run_id)

    def process(self, work: pa.Table) -> Iterator[TakenIn]:
        yield take_in(work, self._files, self._archive)


class _StreamTakeInFn(_TakeInFn):
    def _opened(self) -> DataFiles:
        return files_now(self._reference, self._run_id)

    def process(self, work: pa.Table) -> Iterator[TakenIn]:
        self._files = files_now(self._reference, self._run_id, self._files)
        with reporting_failure(self._files.workspace.settings, self._run_id):
            taken = retry_transient(lambda: take_in(work, self._files, self._archive))
        yield taken


@dataclass(eq=False)
class CountFaults(beam.PTransform[PCollection[pa.Table], PCollection[Changes]]):
    """PCollection[work table] → PCollection[Changes]: the error rate of files that are larger than a wave."""

    reference: WorkspaceRef

    def expand(self, work: PCollection[pa.Table]) -> PCollection[Changes]:
        return work | "CountFaultsOfBlocks" >> beam.ParDo(_CountFaultsFn(self.reference)).with_output_types(Changes)


class _CountFaultsFn(SafeDoFn):
    def __init__(self, reference: WorkspaceRef) -> None:
        self._reference = reference

    def setup(self) -> None:
        super().setup()
        self._files = DataFiles(open_workspace(self._reference), "")

    def process(self, work: pa.Table) -> Iterator[Changes]:
        yield count_faults(work, self._files)
