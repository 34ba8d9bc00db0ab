"""Suspend: records set aside, each once, into sealed suspense files.

A record keeps its id in suspense for as long as suspense is kept, also when it was corrected since: so its re-delivery
is a duplicate, whichever night it comes.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import PCollection

from callward import database
from callward.columns import flat, ranks, set_column, words
from callward.keys import tokens
from callward.lake import ledger
from callward.lake.data_files import DataFiles
from callward.lake.ledger import Changes, DataFile
from callward.workspace import Workspace, WorkspaceRef, open_workspace
from schemas.cdr import CDR, plain
from schemas.codes import Bucket, Suspense
from schemas.suspense import SUSPENDED, SUSPENSE
from transforms.safe_errors import SafeDoFn


def faulty_records(table: pa.Table, tenant: str, source: str, shape: str, workspace: Workspace) -> pa.Table:
    """Return records with a `fault` (parsed tables with lineage) as schema SUSPENDED, payload as it came."""
    n = table.num_rows
    secret = suspense_secret(workspace, tenant, source)
    made = {
        "tenant": pa.repeat(tenant, n),
        "source": pa.repeat(source, n),
        "code": table["fault"],
        "suspense_id": tokens.mac([table["raw"]], secret),
        "by_occurrence": pa.repeat(True, n),
        "kind": pa.repeat("raw", n),
        "payload": table["raw"],
        "shape": pa.repeat(shape, n),
    }
    return pa.table([made[name] if name in made else table[name] for name in SUSPENDED.names], schema=SUSPENDED)


def suspense_secret(workspace: Workspace, tenant: str, source: str) -> bytes:
    """Return what the ids are made with by which suspense knows records of a source that could not be read."""
    uid = workspace.identity(workspace.settings.source(source)).uid
    return workspace.id_secret(tenant, f"suspense/{uid}")


def conflicting_versions(calls: pa.Table, code: Suspense, tenant: str, workspace: Workspace) -> pa.Table:
    """Return versions that are not the row (schema CDR) as schema SUSPENDED, payload their canonical row."""
    n, rows = calls.num_rows, calls.cast(plain(CDR))  # a row carries its own text, not the group's dictionaries
    secret = workspace.id_secret(tenant, "conflict")
    both = np.ascontiguousarray(np.column_stack([tokens.as_u64(calls["record_id"]), tokens.as_u64(calls["content"])]))
    made = {
        "code": pa.repeat(str(code), n),
        "suspense_id": tokens.mac_blocks(both, secret),
        "by_occurrence": pa.repeat(False, n),
        "kind": pa.repeat("row", n),
        "payload": pa.array([_as_stream(rows.slice(i, 1)) for i in range(n)], pa.large_binary()),
        "shape": pa.repeat("", n),
    }
    return pa.table([made[name] if name in made else calls[name] for name in SUSPENDED.names], schema=SUSPENDED)


def _as_stream(row: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, row.schema) as writer:
        writer.write_table(row)
    return bytes(sink.getvalue())


def add_to_log(new: pa.Table, known: pa.Table, now_ms: int) -> tuple[pa.Table, list[pa.Table]]:
    """Return what the suspense log gains (schema SUSPENSE), and ledger entries.

    `new` (schema SUSPENDED) is one tenant's, `known` its suspense log; a record whose id is known, open or closed, or
    that stands twice in `new`, is a duplicate.
    """
    new = number_occurrences(new)
    ids = np.concatenate([tokens.as_u64(known["suspense_id"]), tokens.as_u64(new["suspense_id"])])
    place = [
        np.r_[np.zeros(known.num_rows, np.int64), words(new[name]).astype(np.int64) + 1]
        for name in ("line", "block", "file_no")
    ]
    order = np.lexsort((*place, ids[:, 1], ids[:, 0]))
    first = np.r_[True, (ids[order][1:] != ids[order][:-1]).any(axis=1)] if len(order) else np.zeros(0, bool)
    fresh = np.zeros(len(ids), bool)
    fresh[order[first]] = True
    fresh = fresh[known.num_rows :]
    kept, repeated = new.filter(pa.array(fresh)), new.filter(pa.array(~fresh))
    entries = ledger.entries(kept, Bucket.SUSPENDED, kept["code"]) + ledger.entries(repeated, Bucket.DUPLICATE)
    return _opened(kept, now_ms), entries


def _opened(table: pa.Table, now_ms: int) -> pa.Table:
    seen = pa.repeat(pa.scalar(now_ms, SUSPENSE.field("seen").type), table.num_rows)
    # In suspense it is in the bucket of its code: that is what it leaves when it is recycled.
    table = set_column(table, "was", table["code"])
    table = set_column(table, "was_ms", table["carried_ms"])
    return pa.table([*table.columns, seen, pa.repeat(True, table.num_rows)], schema=SUSPENSE)


def number_occurrences(table: pa.Table) -> pa.Table:
    """Equal records of one file get different ids, by position; those of another file the same ids again."""
    if not table.num_rows:
        return table
    ids = tokens.as_u64(table["suspense_id"]).copy()
    counted = flat(table["by_occurrence"]).to_numpy(zero_copy_only=False)
    order = np.lexsort((*(words(table[name]) for name in ("line", "block", "file_no")), ids[:, 1], ids[:, 0]))
    same = np.column_stack([ids[order], words(table["file_no"])[order]])
    occurrence = ranks(np.cumsum(np.r_[True, (same[1:] != same[:-1]).any(axis=1)]))
    ids[order, 1] ^= np.where(counted[order], occurrence, 0).astype(np.uint64) << np.uint64(32)
    return set_column(table, "suspense_id", tokens.from_u64(ids))


def known_suspense(files: DataFiles, tenant: str) -> tuple[list[DataFile], int]:
    """Return a tenant's suspense log files as committed, and the version they were read at."""
    with database.reading(files.workspace.settings) as connection:
        version = ledger.versions(connection, tenant, [ledger.SUSPENSE])[tenant, ledger.SUSPENSE]
        return files.counting(connection, view="suspense", tenant=tenant), version


@dataclass(frozen=True)
class Meant:
    """Which open records are put through again: those with any of the codes, and all of files `whole`; `file_nos`: of
    these files alone (empty: of any)."""

    codes: tuple[str, ...]
    file_nos: tuple[int, ...] = ()
    whole: tuple[int, ...] = ()

    def to_json(self) -> str:
        """Return it as text, as it travels to a worker."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what `to_json` gave."""
        return cls(**{name: tuple(values) for name, values in json.loads(text).items()})


@dataclass(frozen=True)
class Recycled:
    """Which open records of which sources and log files are put through again."""

    meant: Meant
    sources: tuple[str, ...]
    logs: tuple[str, ...]


def open_records(log: pa.Table, meant: Meant, sources: Sequence[str]) -> pa.Array:
    """Return which rows of a suspense log are open, meant, of those sources, and can be read again."""
    chosen = pc.is_in(log["code"], pa.array(meant.codes, pa.string()))
    chosen = pc.or_(chosen, pc.is_in(log["file_no"], pa.array(meant.whole, pa.int64())))
    if meant.file_nos:
        chosen = pc.and_(chosen, pc.is_in(log["file_no"], pa.array(meant.file_nos, pa.int64())))
    chosen = pc.and_(chosen, pc.is_in(log["source"], pa.array(sources, pa.string())))
    return flat(pc.and_(chosen, pc.and_(log["open"], pc.equal(log["kind"], "raw"))))


def log_after_recycling(
    back: pa.Table, log: pa.Table, was_taken: pa.Array, now_ms: int
) -> tuple[pa.Table, list[pa.Table]]:
    """Return the suspense log after a recycling run, and its entries.

    Of the records taken, those that came `back` stay open under the code they have now; the others are closed: their
    ids stay, so that a re-delivery is known, and their content goes.
    """
    rest, put_through = log.filter(pc.invert(was_taken)), log.filter(was_taken)
    raw = pc.equal(back["kind"], "raw")
    came = back.filter(raw)
    at = {_place(row): position for position, row in enumerate(came.select(_PLACE).to_pylist())}
    now = pa.array([at.get(_place(row)) for row in put_through.select(_PLACE).to_pylist()], pa.int64())
    code = flat(came["code"]).take(now)
    still = pc.is_valid(code)
    put_through = set_column(put_through, "code", pc.coalesce(code, put_through["code"]))
    put_through = set_column(put_through, "was", put_through["code"])
    put_through = set_column(put_through, "open", still)
    put_through = set_column(put_through, "payload", flat(came["payload"]).take(now))  # several lines may be one now
    entries = ledger.entries(came, Bucket.SUSPENDED, came["code"])
    fresh, more = add_to_log(back.filter(pc.invert(raw)), pa.concat_tables([rest, put_through]), now_ms)
    return pa.concat_tables([rest, put_through, fresh]), entries + more


_PLACE = ["file_no", "block", "line"]


def _place(row: dict[str, Any]) -> tuple[int, int, int]:
    return row["file_no"], row["block"], row["line"]


def suspend(
    tenant: str,
    tables: Sequence[pa.Table],
    files: DataFiles,
    now_ms: int,
    *,
    recycled: Recycled | None = None,
) -> Changes:
    """Suspend one tenant's records (schema SUSPENDED), each once, in a sealed file that counts once it is committed.

    With `recycled` they are what came back of those that were put through again.
    """
    logs, version = known_suspense(files, tenant)
    new, known = pa.concat_tables(tables), {log.file_id: files.read_log(log) for log in logs}
    log = pa.concat_tables([SUSPENSE.empty_table(), *known.values()])
    changes = Changes(read={(tenant, ledger.SUSPENSE): version})
    if recycled is None:
        rows, changes.entries = add_to_log(new, log, now_ms)
    else:
        of_logs = np.concatenate(
            [np.zeros(0, bool), *(np.full(t.num_rows, i in recycled.logs) for i, t in known.items())]
        )
        was_taken = pc.and_(pa.array(of_logs), open_records(log, recycled.meant, recycled.sources))
        rows, changes.entries = log_after_recycling(new, log, was_taken, now_ms)
        changes.superseded = {file.file_id: (file.tenant, file.part) for file in logs}
    if rows.num_rows:
        changes.files.append(files.write_log("suspense", tenant, rows))
    return changes


@dataclass(eq=False)
class Suspend(beam.PTransform[PCollection[tuple[str, pa.Table]], PCollection[Changes]]):
    """PCollection[tuple[tenant, SUSPENDED table]] → PCollection[Changes]."""

    reference: WorkspaceRef
    run_id: str
    now_ms: int
    recycled: Recycled | None = None

    def expand(self, suspended: PCollection[tuple[str, pa.Table]]) -> PCollection[Changes]:
        work = _SuspendFn(self.reference, self.run_id, self.now_ms, self.recycled)
        return suspended | "ByTenant" >> beam.GroupByKey() | "SuspendRecords" >> beam.ParDo(work)


class _SuspendFn(SafeDoFn):
    def __init__(self, reference: WorkspaceRef, run_id: str, now_ms: int, recycled: Recycled | None) -> None:
        self._reference, self._run_id, self._now_ms, self._recycled = reference, run_id, now_ms, recycled

    def setup(self) -> None:
        super().setup()
        self._files = DataFiles(open_workspace(self._reference), self._run_id)

    def process(self, element: tuple[str, Iterable[pa.Table]]) -> Iterator[Changes]:
        tenant, tables = element
        yield suspend(tenant, list(tables), self._files, self._now_ms, recycled=self._recycled)
