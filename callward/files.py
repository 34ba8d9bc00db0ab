"""Data files of one run: the views' Parquet with their sealed companions, and the sealed logs, all under the manifest.

Each file has a name of its own that begins with the run's id, so what a killed run left is known by its name. Beside
a data file lie its id filter (`.ids`) and its lineage (`.lin`), sealed under the lineage root.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import zstandard

from callward import database, ledger, tokens
from callward.columns import flat
from callward.crash import point
from callward.lake import IdFilter, read_parquet, write_parquet
from callward.ledger import DataFile
from callward.register import KeyName
from callward.runs import new_id
from callward.seal import key_id_of, write_sealed
from callward.workspace import Workspace
from schemas import aside, views

# Who may open which sealed log: the capability whose month key seals it.
_LOGS: Mapping[str, pa.Schema] = {"suspense": aside.SUSPENSE, "pending": aside.PENDING}

_TRANSIT = "transit"  # below the lake's root
_ARCHIVE_LEVEL = 1  # of zstd: a sixth smaller than level -1, at nearly its speed


class Files:
    """Reads and writes data files for one role; what was read stays for the life of this object."""

    def __init__(self, workspace: Workspace, run_id: str) -> None:
        self.workspace = workspace
        self.run_id = run_id
        self._root = workspace.settings.lake_path
        self._filters: dict[str, IdFilter] = {}
        self._lineage: dict[str, pa.Table] = {}
        self._ids: dict[str, np.ndarray] = {}

    # -- the manifest ---------------------------------------------------------------------------------------------

    def committed(self, view: str, tenant: str, parts: Sequence[str]) -> list[DataFile]:
        """Data files of a view that count now."""
        with database.reading(self.workspace.settings) as connection:
            return ledger.files(connection, view=view, tenant=tenant, parts=parts)

    def by_id(self, file_id: str) -> DataFile:
        """A data file that counts, by its id."""
        with database.reading(self.workspace.settings) as connection:
            return ledger.files(connection, file_id=file_id)[0]

    def path(self, file: DataFile, suffix: str = "") -> Path:
        return self._root / (file.path + suffix)

    def new_file_id(self) -> str:
        """An id no other file ever has, that says which run wrote it."""
        return f"{self.run_id}-{new_id()}"

    # -- the views ------------------------------------------------------------------------------------------------

    def write_view(
        self, view: str, tenant: str, call_date: str, rows: pa.Table, lineage: pa.Table, bits: int = 0, shard: int = 0
    ) -> DataFile:
        """Write rows of one (view, tenant, call_date) with their filter and lineage; not committed yet."""
        file_id = self.new_file_id()
        path = f"{view}/tenant={tenant}/call_date={call_date}/{file_id}.parquet"
        meta, numbers = self._view_keys(view, tenant, call_date[:7])
        written = write_parquet(
            rows,
            str(self._root / path),
            file_id=file_id,
            meta=meta,
            numbers=numbers,
            number_columns=views.NUMBER_COLUMNS[view],
            without_dictionary=("billable_s", "talk_ms", "calling_number", "called_number"),
        )
        point("rows-written")
        sealer = self.workspace.keyring.sealer(_lineage_key(view, tenant, call_date[:7]))
        ids = IdFilter.build(flat(rows[views.ID_COLUMN[view]]))
        write_sealed(self._root / (path + ".ids"), sealer.seal(ids.to_bytes(), f"ids|{file_id}".encode()))
        write_sealed(self._root / (path + ".lin"), sealer.seal_table(lineage, f"lin|{file_id}".encode()))
        point("view-written")
        span = pc.min_max(rows["start"].cast(pa.int64()))
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
        )

    def _view_keys(self, view: str, tenant: str, month: str):  # type: ignore[no-untyped-def]
        names = [KeyName(view, tenant, month, "meta")]
        if views.NUMBER_COLUMNS[view]:
            names.append(KeyName(f"{view}-numbers", tenant, month, "numbers"))
        opened = self.workspace.keyring.keys(names)
        return (*opened, None)[:2]

    def rows(self, file: DataFile, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of a view's data file, in their order there."""
        meta, numbers = self._view_keys(file.view, file.tenant, file.part[:7])
        keys = {key.key_id: key for key in (meta, numbers) if key is not None}
        return read_parquet(str(self.path(file)), file_id=file.file_id, keys=keys, columns=columns, sha256=file.sha256)

    def ids(self, file: DataFile) -> np.ndarray:
        """A data file's view ids as words, shape [rows, 2]."""
        if file.file_id not in self._ids:
            column = views.ID_COLUMN[file.view]
            self._ids[file.file_id] = tokens.as_u64(self.rows(file, [column])[column])
        return self._ids[file.file_id]

    def id_filter(self, file: DataFile) -> IdFilter:
        """The filter that says which ids are certainly not in a data file."""
        if file.file_id not in self._filters:
            blob = self.path(file, ".ids").read_bytes()
            sealer = self.workspace.keyring.sealer(_lineage_key(file.view, file.tenant, file.part[:7]))
            self._filters[file.file_id] = IdFilter.from_bytes(sealer.open(blob, f"ids|{file.file_id}".encode()))
        return self._filters[file.file_id]

    def lineage(self, file: DataFile) -> pa.Table:
        """Where each row of a data file came from (schema views.LINEAGE)."""
        if file.file_id not in self._lineage:
            blob = self.path(file, ".lin").read_bytes()
            sealer = self.workspace.keyring.sealer(_lineage_key(file.view, file.tenant, file.part[:7]))
            self._lineage[file.file_id] = sealer.open_table(blob, f"lin|{file.file_id}".encode())
        return self._lineage[file.file_id]

    # -- sealed logs: suspense and pending --------------------------------------------------------------------------

    def write_log(self, kind: str, tenant: str, table: pa.Table) -> DataFile:
        """Write rows of a log (suspense or pending) under this month's key; not committed yet."""
        file_id = self.new_file_id()
        path = f"{kind}/tenant={tenant}/{file_id}.seal"
        month = database.now().strftime("%Y-%m")
        blob = self.workspace.keyring.sealer(KeyName(kind, tenant, month, "records")).seal_table(
            table.select(_LOGS[kind].names), f"{kind}|{file_id}".encode(), compression="zstd"
        )
        write_sealed(self._root / path, blob)
        point(f"{kind}-written")
        return DataFile(
            file_id=file_id,
            view=kind,
            tenant=tenant,
            part=kind,
            path=path,
            rows=table.num_rows,
            bytes=len(blob),
            sha256=hashlib.sha256(blob).hexdigest(),
        )

    def read_log(self, file: DataFile) -> pa.Table:
        """Rows of a sealed log file."""
        blob = self.path(file).read_bytes()
        sealer = self.workspace.keyring.sealer_by_id(key_id_of(blob))
        return sealer.open_table(blob, f"{file.view}|{file.file_id}".encode())

    # -- batches in flight ------------------------------------------------------------------------------------------

    def spill(self, table: pa.Table) -> str:
        """Write a batch sealed under the transit key, for another worker of this run; returns its name."""
        name = f"{self.new_file_id()}.seal"
        folder = self._root / _TRANSIT
        folder.mkdir(parents=True, exist_ok=True)
        # No fsync: what a crash loses here is made again, as nothing of it was committed.
        (folder / name).write_bytes(self.workspace.transit.seal_table(table, f"transit|{name}".encode()))
        return name

    def fetch(self, name: str) -> pa.Table:
        """A batch that `spill` wrote."""
        return self.workspace.transit.open_table(
            (self._root / _TRANSIT / name).read_bytes(), f"transit|{name}".encode()
        )

    def clear_spilled(self) -> None:
        """Remove the batches in flight of this run."""
        for path in (self._root / _TRANSIT).glob(f"{self.run_id}-*"):
            path.unlink(missing_ok=True)

    # -- the archive: what was read, as it came ---------------------------------------------------------------------

    def write_archive(self, tenant: str, data: bytes) -> DataFile:
        """Seal a block of a landing file (compressed) under this month's archive key; not committed yet."""
        file_id, day = self.new_file_id(), database.now().date().isoformat()
        path = f"archive/tenant={tenant}/date={day}/{file_id}.seal"
        sealer = self.workspace.keyring.sealer(KeyName("archive", tenant, day[:7], "blocks"))
        blob = sealer.seal(zstandard.ZstdCompressor(level=_ARCHIVE_LEVEL).compress(data), f"archive|{file_id}".encode())
        write_sealed(self._root / path, blob)
        point("archive-written")
        digest = hashlib.sha256(blob).hexdigest()
        return DataFile(
            file_id=file_id, view="archive", tenant=tenant, part=day, path=path, rows=0, bytes=len(blob), sha256=digest
        )

    def archived_at(self, path: str) -> DataFile:
        """The data file of a sealed block, from where it lies: before its commit no register knows it."""
        folder, day, name = Path(path).parts[-3:]
        blob = (self._root / path).read_bytes()
        return DataFile(
            file_id=name.removesuffix(".seal"),
            view="archive",
            tenant=folder.removeprefix("tenant="),
            part=day.removeprefix("date="),
            path=path,
            rows=0,
            bytes=len(blob),
            sha256=hashlib.sha256(blob).hexdigest(),
        )

    def read_archive(self, file: DataFile) -> bytes:
        """The block that was archived."""
        blob = self.path(file).read_bytes()
        sealer = self.workspace.keyring.sealer_by_id(key_id_of(blob))
        return zstandard.ZstdDecompressor().decompress(sealer.open(blob, f"archive|{file.file_id}".encode()))


def _lineage_key(view: str, tenant: str, month: str) -> KeyName:
    return KeyName("lineage", tenant, month, view)
