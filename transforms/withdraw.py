"""Withdraw: what some input files have brought into the lake → the lake without it, and what others of them must be
read again.

A record may stand in several files, and a call be made of the records of several. So what the files brought goes with
all that is of the same records and calls, from wherever it came; what other files hold of these is to be taken in
again, as though the withdrawn files had never come. A repetition is of no consequence to anything else: it goes alone.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import select

from callward import database
from callward.columns import flat, has_value, set_column
from callward.keys import tokens
from callward.lake import ledger, row_index
from callward.lake.data_files import DataFiles, seen_days
from callward.lake.ledger import Changes, DataFile
from schemas.codes import Bucket
from schemas.retention import lake_file_inputs
from schemas.suspense import PENDING, SUSPENSE
from schemas.tables import lake_files
from schemas.views import INDEX, ROW_INDEX, VIEW_BITS, VIEW_PARTS
from transforms.among import AGAIN, PLACE, places_of
from transforms.assemble import fold, talk_rules
from transforms.deduplicated import Gone
from transforms.drop_expired import suppressed, suppression_ids
from transforms.elements import Rewrite, ViewRows
from transforms.onward import ONWARD
from transforms.summarize import differences
from transforms.write import rewrite

Words: TypeAlias = npt.NDArray[np.uint64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Positions: TypeAlias = npt.NDArray[np.int64]

_ASSURANCE: Final = VIEW_BITS["assurance"]
_NOTHING: Final = np.zeros(0, np.int64)


# What the index said, with the tenant and the date (ISO).
_ROWS: Final = pa.schema([*ROW_INDEX, pa.field("tenant", pa.string()), pa.field("call_date", pa.string())])


@dataclass
class Withdrawn:
    """What a correction takes out of the lake; nothing of it counts yet.

    Attributes:
        changes: data files without it, the derived tables, and what the ledger says of other input files.
        instead: by id of a data file, what takes its place for whoever reads the lake without it.
        again: records of other input files that are to be read again (schema AGAIN).
        unread: by tenant, records of the files that left suspense as they came (schema SUSPENSE).
        undated: by tenant, pieces of calls of the files that have no date: no index knows repetitions of them (schema
            PENDING).
        received: by tenant, the days on which what went of suspense and of pieces came in.
        rows: what the index said of all that went, with tenant and call_date.
    """

    changes: Changes = field(default_factory=Changes)
    instead: dict[str, DataFile | None] = field(default_factory=dict)
    again: pa.Table = field(default_factory=AGAIN.empty_table)
    unread: dict[str, pa.Table] = field(default_factory=dict)
    undated: dict[str, pa.Table] = field(default_factory=dict)
    received: dict[str, set[date]] = field(default_factory=lambda: defaultdict(set))
    rows: pa.Table = field(default_factory=lambda: _ROWS.empty_table())


def withdraw(files: DataFiles, file_nos: Collection[int], tenants: Collection[str]) -> Withdrawn:
    """Take what input files (by their numbers, of sources with these tenants) have brought out of the lake.

    Raises Problem for a data file of the index that cannot be read, FileNotFoundError for one that was replaced
    meanwhile.
    """
    withdrawn, numbers = Withdrawn(), np.array(sorted(file_nos), np.int64)
    with database.reading(files.workspace.settings) as connection:
        of_files = select(lake_file_inputs.c.file_id).where(
            lake_file_inputs.c.file_no.in_(numbers.tolist()), lake_file_inputs.c.rows > 0
        )
        there = select(lake_files.c.tenant).where(
            lake_files.c.file_id.in_(of_files), lake_files.c.superseded_at.is_(None)
        )
        named = {*tenants, *connection.execute(there.distinct()).scalars()}
    for tenant in sorted(named & files.workspace.settings.tenants.keys()):
        _Leaving.of(files, tenant, numbers).leave(withdrawn)
    return withdrawn


@dataclass
class _Leaving:
    """What leaves of one tenant's rows: of which dates, and which records and calls (first halves of their ids)."""

    files: DataFiles
    tenant: str
    numbers: npt.NDArray[np.int64]
    read: dict[tuple[str, str], int]
    index: list[DataFile]
    pending: list[DataFile]
    suspense: list[DataFile]
    keys: Words = field(default_factory=lambda: np.zeros(0, np.uint64))

    @classmethod
    def of(cls, files: DataFiles, tenant: str, numbers: npt.NDArray[np.int64]) -> "_Leaving":
        """Find the dates, and the data files of the index of these and of the days beside them."""
        with database.reading(files.workspace.settings) as connection:
            inputs = select(lake_file_inputs.c.file_id).where(lake_file_inputs.c.file_no.in_(numbers.tolist()))
            mine = ledger.files(connection, view=INDEX, tenant=tenant, where=lake_files.c.file_id.in_(inputs))
            logs = [ledger.files(connection, view=kind, tenant=tenant) for kind in ("pending", "suspense")]
            days = {date.fromisoformat(file.part) for file in mine}
            parts = sorted({(day + timedelta(by)).isoformat() for day in days for by in (-1, 0, 1)})
            index = ledger.files(connection, view=INDEX, tenant=tenant, parts=parts)
            read = ledger.versions(connection, tenant, [*parts, ledger.PENDING, ledger.SUSPENSE])
        return cls(files, tenant, numbers, read, index, logs[0], logs[1])

    def leave(self, withdrawn: Withdrawn) -> None:
        """Write the lake's data files without what leaves."""
        withdrawn.changes.read |= self.read
        pieces = [self.files.read_log(log) for log in self.pending]
        folded = fold(pa.concat_tables([PENDING.empty_table(), *pieces]))
        suspense = [self.files.read_log(log) for log in self.suspense]
        self._close(folded)
        rows = self._of_index(withdrawn)
        again = self._again(rows, folded, pa.concat_tables([SUSPENSE.empty_table(), *suspense]))
        withdrawn.again = pa.concat_tables([withdrawn.again, again])
        withdrawn.rows = pa.concat_tables([withdrawn.rows, rows])
        self._of_views(rows, withdrawn)
        self._of_ledger(rows, withdrawn)
        self._of_logs(pieces, suspense, again, withdrawn)
        withdrawn.undated[self.tenant] = folded.filter(
            pa.array(self._mine(folded) & _mask(pc.is_null(folded["call_date"])))
        )
        log = pa.concat_tables([SUSPENSE.empty_table(), *suspense])
        withdrawn.unread[self.tenant] = log.filter(pa.array(self._mine(log) & _mask(has_value(log["kind"], "raw"))))

    # -- which records and calls ------------------------------------------------------------------------------------

    def _close(self, folded: pa.Table) -> None:
        """Find all records and calls that what the files brought has to do with."""
        keys = [np.zeros(0, np.uint64), *_keys(folded.filter(pa.array(self._mine(folded))))]
        for file in self.index:
            rows = self._columns(file, ("record_id", "call_id", "state", "file_no"))
            decides = self._mine(rows) & ~_mask(has_value(rows["state"], Bucket.DUPLICATE))
            keys += _keys(rows.filter(pa.array(decides)))
        self.keys, before = np.unique(np.concatenate(keys)), -1
        while len(self.keys) != before:
            before, keys = len(self.keys), [self.keys]
            keys += _keys(folded.filter(pa.array(self._known(folded))))
            for file in self.index if before else ():
                mine = self._mine(self._columns(file, ("file_no",)))
                if not mine.all():
                    rows = self._columns(file, ("record_id", "call_id")).filter(pa.array(~mine))
                    keys += _keys(rows.filter(pa.array(self._known(rows))))
            self.keys = np.unique(np.concatenate(keys))

    def _columns(self, file: DataFile, names: Sequence[str]) -> pa.Table:
        with row_index.reading_beside_others(self.files, file):
            return self.files.columns(file, names)

    def _mine(self, rows: pa.Table) -> Mask:
        return np.isin(flat(rows["file_no"]).to_numpy(), self.numbers)

    def _known(self, rows: pa.Table) -> Mask:
        """Return which rows are of records or calls that leave."""
        known = np.zeros(rows.num_rows, bool)
        if not len(self.keys):
            return known
        bits = np.uint64(64 - min(26, max(16, len(self.keys).bit_length() + 4)))
        perhaps = np.zeros(1 << (64 - int(bits)), bool)  # by leading bits: a look at these spares nearly every search
        perhaps[self.keys >> bits] = True
        for words in _keys(rows):
            at = np.flatnonzero(perhaps[words >> bits])
            place = np.minimum(np.searchsorted(self.keys, words[at]), len(self.keys) - 1)
            known[at] |= self.keys[place] == words[at]
        return known

    # -- where they are -----------------------------------------------------------------------------------------------

    def _of_index(self, withdrawn: Withdrawn) -> pa.Table:
        """Take them out of the index; return what it said of them (schema _ROWS)."""
        found, erased = [_ROWS.empty_table()], suppressed(self.tenant, self.files.workspace)
        for file in self.index:
            rows = self._columns(file, ("record_id", "call_id", "state", "file_no"))
            leaves = self._mine(rows)
            others = np.flatnonzero(~leaves)
            leaves[others] = self._known(rows.take(pa.array(others)))
            position = np.flatnonzero(leaves)
            if len(erased):  # what an erasure left of a record stays as it is
                few = rows.take(pa.array(position))
                ids = suppression_ids(few["record_id"], self.tenant, self.files.workspace)
                stays = _mask(pc.is_in(ids, erased)) & _mask(has_value(few["state"], Bucket.ACCEPTED))
                position = position[~stays]
            if len(position):
                with row_index.reading_beside_others(self.files, file):
                    gone = self.files.rows(file).take(pa.array(position))
                self._drop(file, position, gone["file_no"], withdrawn)
                self._out_of_tables(INDEX, gone.filter(has_value(gone["state"], Bucket.ACCEPTED)), withdrawn)
                found.append(_of(gone, self.tenant, file.part))
        return pa.concat_tables(found).combine_chunks()

    def _of_views(self, rows: pa.Table, withdrawn: Withdrawn) -> None:
        accepted = rows.filter(has_value(rows["state"], Bucket.ACCEPTED))
        for day in accepted["call_date"].unique().to_pylist():
            of_day = accepted.filter(pc.equal(accepted["call_date"], day)).combine_chunks()
            for part in VIEW_PARTS:
                ids = flat(of_day["record_id"])
                for file, position, asked in row_index.in_part(self.files, part, self.tenant, day, ids):
                    if part == "billing":
                        taken = self.files.rows(file).take(pa.array(position))
                        self._out_of_tables(part, taken, withdrawn)
                    self._drop(file, position, of_day["file_no"].take(pa.array(asked)), withdrawn)

    def _drop(self, file: DataFile, position: Positions, file_no: pa.ChunkedArray, withdrawn: Withdrawn) -> None:
        gone = Gone()
        gone.add(position, file_no)
        written = rewrite(Rewrite(file, gone.rows, gone.inputs, _NOTHING, None), self.files)
        self._in_place(file, written.files, withdrawn)

    def _in_place(self, file: DataFile, written: Sequence[DataFile], withdrawn: Withdrawn) -> None:
        withdrawn.changes.superseded[file.file_id] = file.tenant, file.part
        withdrawn.changes.files += written
        withdrawn.instead[file.file_id] = written[0] if written else None

    def _out_of_tables(self, view: str, rows: pa.Table, withdrawn: Withdrawn) -> None:
        if rows.num_rows:
            taken = differences(ViewRows(view, self.tenant, "", 0, 0, rows, taken=True), self.files.workspace)
            for name, tables in taken.derived.items():
                withdrawn.changes.derived.setdefault(name, []).extend(tables)

    # -- what of other files is read again ----------------------------------------------------------------------------

    def _again(self, rows: pa.Table, folded: pa.Table, suspense: pa.Table) -> pa.Table:
        """Return records of other input files that went (schema AGAIN)."""
        switch = ~is_onward(rows)
        of_index = rows.filter(pa.array(switch & ~self._mine(rows)))
        others = folded.filter(pa.array(self._known(folded) & ~self._mine(folded)))
        others = others.filter(pa.array(~_at(others, places_of(of_index))))
        aside = suspense["was"].combine_chunks().take(pc.index_in(places_of(of_index), places_of(suspense)))
        was = pc.if_else(has_value(of_index["state"], Bucket.SUSPENDED), aside, of_index["state"])
        read = [_to_read(of_index, was, of_index["carried_ms"]), _to_read(others, others["was"], others["was_ms"])]
        return pa.concat_tables(read)

    def _of_ledger(self, rows: pa.Table, withdrawn: Withdrawn) -> None:
        """Note what the ledger must know beside the bucket of each record: of talk that assembly computed for other
        files, and of rows that a view has not kept."""
        accepted = rows.filter(pa.array(_mask(has_value(rows["state"], Bucket.ACCEPTED)) & ~is_onward(rows)))
        rules = talk_rules(self.files.workspace)
        if "computed" in rules.values():
            differs = pc.not_equal(pc.fill_null(accepted["talk_ms"], -1), pc.fill_null(accepted["carried_ms"], -1))
            computed = accepted.filter(pc.and_(pa.array(~self._mine(accepted)), differs))
            withdrawn.changes.entries.append(ledger.negated(ledger.computed_talk_entries(computed)))
        left = pc.equal(pc.bit_wise_and(accepted["parts"], pa.scalar(_ASSURANCE, pa.int16())), 0)
        ended = accepted["file_no"].filter(left)
        if len(ended):
            ends = ledger.ends(ended, "assurance", ledger.NEVER_WRITTEN)
            withdrawn.changes.ends.append(set_column(ends, "rows", pc.negate(ends["rows"])))

    def _of_logs(
        self, pieces: Sequence[pa.Table], suspense: Sequence[pa.Table], again: pa.Table, withdrawn: Withdrawn
    ) -> None:
        for log, rows in zip(self.pending, pieces, strict=True):
            self._keep(log, rows, ~(self._mine(rows) | self._known(rows)), withdrawn)
        places = places_of(again)
        for log, rows in zip(self.suspense, suspense, strict=True):
            versions = _mask(has_value(rows["kind"], "row")) & _at(rows, places)
            self._keep(log, rows, ~(self._mine(rows) | versions), withdrawn)

    def _keep(self, log: DataFile, rows: pa.Table, stays: Mask, withdrawn: Withdrawn) -> None:
        if stays.all():
            return
        kept, gone = rows.filter(pa.array(stays)), rows.filter(pa.array(~stays))
        withdrawn.received[self.tenant].update(seen_days(gone).unique().to_pylist())
        written = [self.files.write_log(log.view, self.tenant, kept)] if kept.num_rows else []
        self._in_place(log, written, withdrawn)


def _keys(rows: pa.Table) -> list[Words]:
    """Return the first halves of the ids of records and of their calls: they decide, as everywhere."""
    record, call = flat(rows["record_id"]), flat(rows["call_id"])
    return [tokens.as_u64(ids)[:, 0] for ids in (record, pc.coalesce(call, record))]


def _of(rows: pa.Table, tenant: str, part: str) -> pa.Table:
    """Return rows of the index (which may have lost columns) as schema _ROWS."""
    n = rows.num_rows
    more = {"tenant": pa.repeat(tenant, n), "call_date": pa.repeat(part, n)}
    columns = [
        more.get(f.name) if f.name in more else rows[f.name] if f.name in rows.column_names else pa.nulls(n, f.type)
        for f in _ROWS
    ]
    return pa.table(columns, names=_ROWS.names).cast(_ROWS)


def _to_read(rows: pa.Table, was: pa.ChunkedArray, was_ms: pa.ChunkedArray) -> pa.Table:
    place, occurrence = [rows[name].cast(pa.int64()) for name in PLACE], pa.nulls(rows.num_rows, pa.int64())
    columns = [*place, was.cast(pa.string()), pc.fill_null(was_ms, 0), occurrence]
    return pa.table(columns, schema=AGAIN)


def _at(rows: pa.Table, places: pa.Array) -> Mask:
    return _mask(pc.is_in(places_of(rows), places))


def is_onward(rows: pa.Table) -> Mask:
    """Return which rows of the index are of legs that no switch wrote a record of."""
    return np.asarray(flat(pc.fill_null(rows["role"], 0)).to_numpy() == ONWARD)


def _mask(column: pa.Array | pa.ChunkedArray) -> Mask:
    return np.asarray(flat(column).to_numpy(zero_copy_only=False), np.bool_)
