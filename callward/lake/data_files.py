"""Data files of one run: Parquet of the views and the row index, and the sealed logs, all under the manifest.

Each file has a name of its own that begins with the run's id, so what a killed run left is known by its name.
"""

import hashlib
import hmac
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import zstandard
from sqlalchemy import Connection

from callward import database
from callward.failpoints import point
from callward.keys import tokens
from callward.keys.keys import Key
from callward.keys.register import EVERY_MONTH, KeyName
from callward.keys.seal import key_id_of
from callward.lake import ledger
from callward.lake.ledger import DataFile
from callward.lake.parquet import Encoding, Written, read_parquet, write_parquet
from callward.runs import new_id
from callward.settings import Settings
from callward.storage.store import TRANSIT, Store
from callward.workspace import Workspace, WorkspaceRef, open_workspace
from schemas import suspense, views
from schemas.cdr import CDR, plain
from schemas.codes import Bucket
from schemas.views import HELD

# Who may open which sealed log: the key domain whose month key seals it.
_LOGS: Mapping[str, pa.Schema] = {"suspense": suspense.SUSPENSE, "pending": suspense.PENDING, "late": plain(CDR)}

# What is known of a held row: ids of the holds that matched it, and of all that were asked, spaces between.
HELD_FIELDS = (pa.field("holds", pa.string()), pa.field("asked", pa.string()))
HELD_BESIDE = pa.schema([*HELD_FIELDS, pa.field("file_no", pa.int64())])
HELD_LATE = pa.schema([*plain(CDR), *HELD_FIELDS])
_ENCODINGS: Mapping[str, Encoding] = {
    **dict.fromkeys((*views.ID_COLUMN.values(), "record_id", "content", "event"), "unique"),
    **dict.fromkeys(("billable_s", *views.FOUND_BY), "plain"),
    **dict.fromkeys(("sequence", "start_time", "answer_time", "end_time", "line"), "delta"),
}
# Times of assurance are whole minutes or hours.
_OF_PARTS: Mapping[str, Mapping[str, Encoding]] = {part: {"start": "dictionary"} for part in views.PARTS["assurance"]}

_SMALL_BLOCK = 1 << 18  # bytes: smaller ones are compressed better together
_FRAME_HEAD = 18  # bytes at most, at which a frame of zstd begins
_REPEATED = 1  # the kind of a block of one byte, over and over
_ARCHIVE_LEVEL = 1  # of zstd: a sixth smaller than level -1, at nearly its speed


class DataFiles:
    """Reads and writes data files for one role; ids that were read last stay until others are.

    `instead`: by id, what takes the place of data files in a correction's eyes alone, before it is committed; None:
    nothing does.
    """

    def __init__(
        self, workspace: Workspace, run_id: str, instead: Mapping[str, DataFile | None] = MappingProxyType({})
    ) -> None:
        self.workspace = workspace
        self.run_id = run_id
        self.instead = instead
        self._staged = {file.file_id for file in instead.values() if file is not None}
        self.store = Store.of(workspace.settings)
        self._ids: tuple[str, np.ndarray] = ("", np.zeros((0, 2), np.uint64))  # of the last file alone: a date has many
        self._archived = "", b""  # as well

    # -- the manifest ---------------------------------------------------------------------------------------------

    def counting(self, connection: Connection, **which: Any) -> list[DataFile]:
        """Return data files that count, as `ledger.files` has them; with what takes the place of some."""
        files = (self.instead.get(file.file_id, file) for file in ledger.files(connection, **which))
        return [file for file in files if file is not None]

    def committed(self, view: str, tenant: str, parts: Sequence[str]) -> list[DataFile]:
        """Return data files of a view that count now."""
        with database.reading(self.workspace.settings) as connection:
            return self.counting(connection, view=view, tenant=tenant, parts=parts)

    def by_id(self, file_id: str) -> DataFile:
        """Return a data file that counts, by its id."""
        with database.reading(self.workspace.settings) as connection:
            return ledger.files(connection, file_id=file_id)[0]

    def counts(self, file: DataFile) -> bool:
        """Return whether a data file counts now."""
        if file.file_id in self._staged:
            return True
        with database.reading(self.workspace.settings) as connection:
            return bool(ledger.files(connection, file_id=file.file_id))

    def path(self, file: DataFile, suffix: str = "") -> Path:
        """Return where a data file lies, or what lies beside it; raises UsageProblem for a lake on an object store."""
        return self.workspace.settings.lake_path / (file.path + suffix)

    def new_file_id(self) -> str:
        """Return an id no other file ever has, that says which run wrote it."""
        return f"{self.run_id}-{new_id()}"

    # -- the views and the row index --------------------------------------------------------------------------------

    def write_view(
        self,
        view: str,
        tenant: str,
        call_date: str,
        rows: pa.Table,
        inputs: Mapping[int, int],
        bits: int = 0,
        shard: int = 0,
        received_on: date | None = None,
        *,
        closed: bool = False,
    ) -> DataFile:
        """Write rows of one (view or index, tenant, call_date); not committed yet. `inputs`: rows by input file.

        Rows without the number columns need no numbers key: it may be destroyed already.
        """
        file_id = self.new_file_id()
        path = f"{view}/tenant={tenant}/call_date={call_date}/{file_id}.parquet"
        meta, numbers = self._view_keys(view, tenant, call_date[:7], rows.column_names)
        written = self._write_rows(view, path, file_id, rows, meta, numbers)
        point("view-written")
        span = pc.min_max(rows["start_time" if view == views.INDEX else "start"].cast(pa.int64()))
        return DataFile(
            file_id=file_id,
            view=view,
            tenant=tenant,
            part=call_date,
            path=path,
            rows=written.rows,
            bytes=written.bytes,
            sha256=written.sha256,
            first_start=ledger.to_datetime(span["min"].as_py()),
            last_start=ledger.to_datetime(span["max"].as_py()),
            shard_bits=bits,
            shard=shard,
            received_on=received_on,
            key_ids=_ids_of(meta, numbers),
            numbers=numbers is not None,
            closed=closed,
            parts=views_of(rows) if view == views.INDEX else 0,
            inputs=inputs,
        )

    def restate_view(self, old: DataFile, rows: pa.Table) -> DataFile:
        """Write the rows of a data file anew with other columns: the same rows in the same order; not committed yet."""
        file_id = self.new_file_id()
        path = f"{old.view}/tenant={old.tenant}/call_date={old.part}/{file_id}.parquet"
        meta, numbers = self._view_keys(old.view, old.tenant, old.part[:7], rows.column_names)
        written = self._write_rows(old.view, path, file_id, rows, meta, numbers)
        point("rows-restated")
        return replace(
            old,
            file_id=file_id,
            path=path,
            bytes=written.bytes,
            sha256=written.sha256,
            key_ids=_ids_of(meta, numbers),
            numbers=numbers is not None,
            parts=views_of(rows) if old.view == views.INDEX else 0,
        )

    def _write_rows(
        self, view: str, path: str, file_id: str, rows: pa.Table, meta: Key, numbers: Key | None
    ) -> Written:
        """Return the encrypted Parquet of a data file alone, without what lies beside it."""
        with self.store.answering():
            return write_parquet(
                rows,
                self.store.full(path),
                file_id=file_id,
                meta=meta,
                numbers=numbers,
                number_columns=views.NUMBER_COLUMNS[view],
                encodings={**_ENCODINGS, **_OF_PARTS.get(view, {})},
                filesystem=self.store.filesystem,
            )

    def _read_rows(
        self, file: DataFile, keys: Mapping[str, Key], columns: Sequence[str] | None, whole: bool = True
    ) -> pa.Table:
        """Return rows of a data file; `whole`: all of it is read, and its hash compared."""
        with self.store.answering():
            return read_parquet(
                self.store.full(file.path),
                file_id=file.file_id,
                keys=keys,
                columns=columns,
                sha256=file.sha256 if whole else None,
                filesystem=self.store.filesystem,
            )

    def _view_keys(self, view: str, tenant: str, month: str, columns: Sequence[str]) -> tuple[Key, Key | None]:
        names = [KeyName(views.VIEW_OF.get(view, view), tenant, month, "meta")]
        if not set(views.NUMBER_COLUMNS[view]).isdisjoint(columns):
            names.append(numbers_key(view, tenant, month))
        meta, *numbers = self.workspace.keyring.keys(names)
        return meta, numbers[0] if numbers else None

    def rows(self, file: DataFile, columns: Sequence[str] | None = None) -> pa.Table:
        """Return rows of a view's data file, in their order there; without `columns` all that it still has."""
        if file.view.startswith(HELD):
            return self._held_rows(file, columns)
        asked = columns if columns is not None else views.NUMBER_COLUMNS[file.view] if file.numbers else ()
        return self._read_rows(file, self._keys_of(file, asked), columns)

    def _keys_of(self, file: DataFile, columns: Sequence[str]) -> dict[str, Key]:
        """Return by their ids the keys that open columns of a data file of its month."""
        keys = self._view_keys(file.view, file.tenant, file.part[:7], columns)
        return {key.key_id: key for key in keys if key is not None}

    def ids(self, file: DataFile) -> np.ndarray:
        """Return the ids of a data file's rows as words, shape [rows, 2]: of a view its own, of the index record ids.

        Only their column is read: each piece of it is authenticated as part of this very file.
        """
        if self._ids[0] != file.file_id:
            column = views.ID_COLUMN.get(file.view, "record_id")
            self._ids = file.file_id, tokens.as_u64(self.columns(file, [column])[column])
        return self._ids[1]

    def columns(self, file: DataFile, columns: Sequence[str]) -> pa.Table:
        """Return columns of a data file without reading the rest of it, so that its hash is not compared.

        Each page is authenticated, with the file and the place that it is of.
        """
        return self._read_rows(file, self._keys_of(file, columns), columns, whole=False)

    def inputs(self, file: DataFile) -> dict[int, int]:
        """Return how many rows of a data file that counts came from each input file."""
        if file.file_id in self._staged:
            return dict(file.inputs)
        with database.reading(self.workspace.settings) as connection:
            return ledger.inputs(connection, [file.file_id])

    # -- held rows: copies under keys of their own, so that a month key can be destroyed ----------------------------

    def write_held(
        self,
        view: str,
        tenant: str,
        call_date: str,
        rows: pa.Table,
        kept_for: pa.Table,
        purge_id: str,
        received_on: date | None,
    ) -> DataFile:
        """Write rows of one (view, tenant, call_date) that a hold keeps, under keys of this purge; not committed yet.

        `kept_for` (schema HELD_BESIDE): for which holds each row is kept, and of which input file it is.
        """
        file_id = self.new_file_id()
        path = f"{HELD}{view}/tenant={tenant}/call_date={call_date}/{file_id}.parquet"
        numbered = not set(views.NUMBER_COLUMNS[view]).isdisjoint(rows.column_names)
        purposes = [view, *([f"{view}-numbers"] if numbered else []), f"holds-{view}"]
        names = [KeyName("hold", tenant, call_date[:7], f"{purpose}.{purge_id}") for purpose in purposes]
        keys = self.workspace.keyring.keys(names)
        written = self._write_rows(view, path, file_id, rows, keys[0], keys[1] if numbered else None)
        sealer = self.workspace.keyring.sealer(names[-1])
        self.store.write(path + views.HOLDS_SUFFIX, sealer.seal_table(kept_for, f"holds|{file_id}".encode()))
        point("held-written")
        return DataFile(
            file_id=file_id,
            view=HELD + view,
            tenant=tenant,
            part=call_date,
            path=path,
            rows=written.rows,
            bytes=written.bytes,
            sha256=written.sha256,
            received_on=received_on,
            key_ids=_ids_of(*keys),
            numbers=numbered,
            inputs=inputs_of(kept_for["file_no"]),
        )

    def held_for(self, file: DataFile) -> pa.Table | None:
        """Return for which holds each row of a held copy is kept (schema HELD_BESIDE); None where it was held whole."""
        try:
            blob = self.store.read(file.path + views.HOLDS_SUFFIX)
        except FileNotFoundError:
            return None
        sealer = self.workspace.keyring.sealer_by_id(file.key_ids.split()[-1])
        return sealer.open_table(blob, f"holds|{file.file_id}".encode())

    def _held_rows(self, file: DataFile, columns: Sequence[str] | None) -> pa.Table:
        """Return rows of a held data file.

        Its keys are found by their ids, as their names tell of the purge that made it.
        """
        ids = file.key_ids.split()
        number_columns = views.NUMBER_COLUMNS[file.view.removeprefix(HELD)]
        numbered = file.numbers and (columns is None or not set(number_columns).isdisjoint(columns))
        keys = {key_id: self.workspace.keyring.by_id(key_id) for key_id in ids[: 2 if numbered else 1]}
        return self._read_rows(file, keys, columns)

    def write_held_late(
        self, tenant: str, call_date: str, rows: pa.Table, purge_id: str, received_on: date | None
    ) -> DataFile:
        """Write records (schema HELD_LATE) that came past their window and match a hold; not committed yet."""
        file_id = self.new_file_id()
        path = f"{HELD}late/tenant={tenant}/call_date={call_date}/{file_id}.seal"
        sealer = self.workspace.keyring.sealer(KeyName("hold", tenant, call_date[:7], f"late.{purge_id}"))
        blob = sealer.seal_table(rows, f"{HELD}late|{file_id}".encode(), compression="zstd")
        self.store.write(path, blob)
        point("held-written")
        sealed = _sealed(file_id, f"{HELD}late", tenant, call_date, path, blob)
        return replace(sealed, rows=rows.num_rows, received_on=received_on, inputs=inputs_of(rows["file_no"]))

    # -- sealed logs: suspense, pending, late -----------------------------------------------------------------------

    def write_log(self, kind: str, tenant: str, table: pa.Table, month: str | None = None) -> DataFile:
        """Write rows of a log (suspense, pending or late) under a month's key (YYYY-MM, default this one's).

        Not committed yet.

        `first_start` and `last_start` span what its class's clock begins with: when records of suspense were seen,
        elsewhere their call dates. So a purge knows without opening a log whether any of it is due.
        """
        file_id = self.new_file_id()
        path = f"{kind}/tenant={tenant}/{file_id}.seal"
        name = KeyName(kind, tenant, month or database.now().strftime("%Y-%m"), "records")
        sealer = self.workspace.keyring.sealer(name)
        stored = table.select(_LOGS[kind].names).cast(_LOGS[kind])
        blob = sealer.seal_table(stored, f"{kind}|{file_id}".encode(), compression="zstd")
        self.store.write(path, blob)
        point(f"{kind}-written")
        span = pc.min_max(clock_days(kind, table))
        return replace(
            _sealed(file_id, kind, tenant, kind, path, blob),
            rows=table.num_rows,
            first_start=_midnight(span["min"].as_py()),
            last_start=_midnight(span["max"].as_py()),
            received_on=pc.max(seen_days(table)).as_py() if "seen" in table.column_names else None,
            inputs=inputs_of(table["file_no"].filter(counted_rows(kind, table))),
        )

    def read_log(self, file: DataFile) -> pa.Table:
        """Return rows of a sealed log file."""
        blob = self.store.read(file.path)
        sealer = self.workspace.keyring.sealer_by_id(key_id_of(blob))
        return sealer.open_table(blob, f"{file.view}|{file.file_id}".encode())

    # -- batches in flight ------------------------------------------------------------------------------------------

    def spill(self, table: pa.Table) -> str:
        """Write a batch sealed under the transit key, for another worker of this run; returns its name."""
        name = f"{self.new_file_id()}.seal"
        blob = self.workspace.transit.seal_table(table, f"transit|{name}".encode())
        # What a crash loses here is made again, as nothing of it was committed.
        self.store.write(f"{TRANSIT}/{name}", blob, lasting=False)
        return name

    def fetch(self, name: str) -> pa.Table:
        """Return a batch that `spill` wrote, under the transit key of whichever month it was."""
        blob = self.store.read(f"{TRANSIT}/{name}")
        return self.workspace.keyring.sealer_by_id(key_id_of(blob)).open_table(blob, f"transit|{name}".encode())

    def discard(self, names: Sequence[str]) -> None:
        """Remove batches that were fetched and committed."""
        self.store.remove([f"{TRANSIT}/{name}" for name in names])

    def clear_spilled(self) -> None:
        """Remove the batches in flight of this run."""
        prefix = f"{TRANSIT}/{self.run_id}-"
        self.store.remove([file.path for file in self.store.list(TRANSIT) if file.path.startswith(prefix)])

    # -- the archive: what was read, as it came ---------------------------------------------------------------------

    def write_archive(self, tenant: str, data: bytes, day: str | None = None) -> DataFile:
        """Seal a block of a landing file (compressed) under its month's archive key; not committed yet.

        `day`: the date (ISO) that it came in, today if not given.
        """
        return self._write_archived(tenant, _compressed(data), day or database.now().date().isoformat())

    def merge_archive(self, tenant: str, merged: Sequence[DataFile], day: str) -> tuple[DataFile, list[int]]:
        """Seal what was archived in files one behind the other; not committed yet.

        Returns where the content of each begins in that of the new file, in bytes.
        """
        compressed = [self._frames(file) for file in merged]
        begins = list(itertools.accumulate(map(content_length, compressed), initial=0))[:-1]
        together = b"".join(compressed)
        if len(together) < _SMALL_BLOCK * len(merged):
            together = _compressed(_decompressed(together))
        return self._write_archived(tenant, together, day), begins

    def _write_archived(self, tenant: str, compressed: bytes, day: str) -> DataFile:
        file_id = self.new_file_id()
        path = f"archive/tenant={tenant}/date={day}/{file_id}.seal"
        sealer = self.workspace.keyring.sealer(KeyName("archive", tenant, day[:7], "blocks"))
        blob = sealer.seal(compressed, f"archive|{file_id}".encode())
        self.store.write(path, blob)
        point("archive-written")
        return _sealed(file_id, "archive", tenant, day, path, blob)

    def digest(self, tenant: str, data: bytes) -> str:
        """Return a hash (hex) of a block that is not archived, under the key that would have sealed it.

        By a plain hash, whoever reads the database would find the number in a file of one record by trying them all.
        """
        name = KeyName("archive", tenant, database.now().strftime("%Y-%m"), "blocks")
        secret = tokens.derive(self.workspace.keyring.key(name).secret, "callward block digest")
        return hmac.digest(secret, data, "sha256").hex()

    def archived_at(self, path: str) -> DataFile:
        """Return the data file of a sealed block, from where it lies: before its commit no register knows it."""
        folder, day, name = Path(path).parts[-3:]
        blob = self.store.read(path)
        tenant, date = folder.removeprefix("tenant="), day.removeprefix("date=")
        return _sealed(name.removesuffix(".seal"), "archive", tenant, date, path, blob)

    def read_archive(self, file: DataFile) -> bytes:
        """Return the block that was archived, or the blocks, where compaction put them one behind the other."""
        return _decompressed(self._frames(file))

    def read_archived(self, file_id: str, first: int, last: int) -> bytes:
        """Return the bytes [first, last) of a data file of the archive that counts: it may be of many blocks."""
        if self._archived[0] != file_id:
            self._archived = file_id, self.read_archive(self.by_id(file_id))
        return self._archived[1][first:last]

    def _frames(self, file: DataFile) -> bytes:
        blob = self.store.read(file.path)
        sealer = self.workspace.keyring.sealer_by_id(key_id_of(blob))
        return sealer.open(blob, f"archive|{file.file_id}".encode())


def _compressed(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=_ARCHIVE_LEVEL).compress(data)


def _decompressed(frames: bytes) -> bytes:
    """Return the content of compressed blocks (each a frame of zstd) that follow each other."""
    with zstandard.ZstdDecompressor().stream_reader(frames, read_across_frames=True) as reader:
        return reader.readall()


def content_length(frames: bytes) -> int:
    """Return how many bytes compressed blocks have, from the heads of their frames alone (RFC 8878, section 3.1.1)."""
    length = at = 0
    while at < len(frames):
        head = frames[at : at + _FRAME_HEAD]
        frame, last = zstandard.get_frame_parameters(head), False
        length, at = length + frame.content_size, at + zstandard.frame_header_size(head)
        while not last and at < len(frames):
            block = int.from_bytes(frames[at : at + 3], "little")
            last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
            at += 3 + (1 if kind == _REPEATED else size)
        at += 4 * frame.has_checksum
    return length


def open_files(
    settings: Settings, role: str, reason: str, run_id: str = "read", transit_month: str = EVERY_MONTH
) -> DataFiles:
    """Return the data files of a workspace for a role, which each key that is opened is noted under, and a reason.

    Who writes gives the run that writes. `transit_month` is whose transit key seals what is in flight (YYYY-MM).
    """
    return DataFiles(open_workspace(WorkspaceRef.of(settings, role, reason, transit_month)), run_id)


def _sealed(file_id: str, view: str, tenant: str, part: str, path: str, blob: bytes) -> DataFile:
    return DataFile(
        file_id=file_id,
        view=view,
        tenant=tenant,
        part=part,
        path=path,
        rows=0,
        bytes=len(blob),
        sha256=hashlib.sha256(blob).hexdigest(),
        key_ids=key_id_of(blob),
    )


def clock_days(kind: str, table: pa.Table) -> pa.ChunkedArray:
    """Return the day (date32) that the clock of each row of a sealed log begins with."""
    if kind == "suspense":
        return seen_days(table)
    days = table["call_date"]
    return pc.coalesce(days, seen_days(table)) if "seen" in table.column_names else days


def seen_days(table: pa.Table) -> pa.ChunkedArray:
    """Return the UTC day (date32) that each row of suspense or pending came in."""
    return table["seen"].cast(pa.date32())


def counted_rows(kind: str, table: pa.Table) -> pa.ChunkedArray | pa.Array:
    """Return which rows of a sealed log the ledger still counts there: not those that are only remembered."""
    if kind == "suspense":
        return table["open"]
    if kind == "pending":
        known = pc.less(table["state"], suspense.PENDING_STATES.index("estimated"))
        return pc.and_(known, pc.not_equal(table["was"], str(Bucket.WRITTEN_OFF)))
    return pa.repeat(True, table.num_rows)


def _midnight(day: date | None) -> datetime | None:
    return None if day is None else datetime.combine(day, time())


def _ids_of(*keys: Key | None) -> str:
    return " ".join(key.key_id for key in keys if key is not None)


def inputs_of(file_no: pa.ChunkedArray) -> dict[int, int]:
    """Return how many rows came from each input file."""
    counts = pc.value_counts(file_no)
    return dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))


def views_of(rows: pa.Table) -> int:
    """Return the sum of VIEW_BITS of the views that rows of the index say anything of: a bit, or a column of theirs."""
    said = int(np.bitwise_or.reduce(rows["parts"].to_numpy(), initial=0))
    for view, columns in views.INDEX_COLUMNS_OF.items():
        if any(rows[name].null_count < rows.num_rows for name in columns):
            said |= views.VIEW_BITS[view]
    return said


def numbers_key(view: str, tenant: str, month: str) -> KeyName:
    """Return the name of the key that the number columns of a view, or of the index, are under."""
    domain = view if view == views.INDEX else f"{views.VIEW_OF.get(view, view)}-numbers"
    return KeyName(domain, tenant, month, "numbers")
