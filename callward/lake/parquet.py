"""Encrypted Parquet data files.

A file is written with Parquet modular encryption: AES-256-GCM, encrypted footer, every column encrypted. The *meta*
key opens the footer and all columns but the numbers; number columns come last and have a key of their own, so that
destroying it takes the numbers out of a file and leaves the rest readable. The footer (authenticated) names the file,
the format version and which columns are numbers.

Arrow answers some reads of a column whose key is missing by ending the process or by hanging. Readers here never ask
it: which columns a set of keys opens is decided before Arrow is called.
"""

import base64
import hashlib
import json
import os
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from callward.columns import flat, only_used
from callward.keys.keys import Key, KeyDenied
from callward.keys.seal import SealBroken
from callward.storage.durable import write_sealed
from callward.storage.store import is_refusal

FORMAT_VERSION: Final = 1

_FILE: Final = "callward.file"
_FORMAT: Final = "callward.format"
_NUMBERS: Final = "callward.numbers"
_ARROW_SCHEMA: Final = "ARROW:schema"  # Arrow's own key: types and field metadata that Parquet does not have
_MAGIC: Final = b"PARE"  # Parquet with an encrypted footer
_PLAIN_MAGIC: Final = b"PAR1"
_ROW_GROUP_ROWS: Final = 1 << 18
_NONCE_BYTES: Final = 12

# How a column is written: values by number, as they are, integers by what they differ in from the last, or such that
# nothing makes smaller (unique ids). The first two are compressed.
Encoding: TypeAlias = Literal["dictionary", "plain", "delta", "unique"]
_COMPRESSED: Final = ("dictionary", "plain")


@dataclass(frozen=True)
class Written:
    """A data file as it lies: path, size in bytes, SHA-256 (hex) of the whole file, rows."""

    path: str
    bytes: int
    sha256: str
    rows: int


@dataclass(frozen=True)
class LakeFile:
    """A data file to read: where it is, which file it must be, and the ids of the keys it must be under.

    `numbers` is None when the file has no numbers, or none any more because their key was destroyed. Rows for which
    `hidden` is true are not read.
    """

    path: str
    file_id: str
    meta: str
    numbers: str | None = None
    hidden: pc.Expression | None = field(default=None, compare=False)


# -- keys for Arrow ----------------------------------------------------------------------------------------------------


class _Kms(pe.KmsClient):  # type: ignore[misc]
    """Wraps the files' data keys under keys that are open already. It knows those keys and no others."""

    def __init__(self, keys: Mapping[str, Key]) -> None:
        pe.KmsClient.__init__(self)
        self._ciphers = {key_id: AESGCM(key.secret) for key_id, key in keys.items()}

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[master_key_identifier].encrypt(nonce, key_bytes, master_key_identifier.encode())
        return base64.b64encode(nonce + sealed)

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        cipher = self._ciphers.get(master_key_identifier)
        if cipher is None:
            raise KeyDenied("a data file is under a key that was not opened for it")
        try:
            blob = base64.b64decode(wrapped_key)
            return cipher.decrypt(blob[:_NONCE_BYTES], blob[_NONCE_BYTES:], master_key_identifier.encode())
        except (InvalidTag, ValueError):
            raise SealBroken(f"a data key under {master_key_identifier} was altered") from None


def _factory(keys: Mapping[str, Key]) -> pe.CryptoFactory:
    client = _Kms(keys)
    return pe.CryptoFactory(lambda _: client)


def _decryption(keys: Mapping[str, Key]) -> Any:
    return _factory(keys).file_decryption_properties(pe.KmsConnectionConfig(), pe.DecryptionConfiguration())


def _encryption(schema: pa.Schema, numbers_at: int, meta: Key, numbers: Key | None) -> Any:
    """Return one key for everything, or the numbers key for the columns from `numbers_at` on.

    Columns that no key is named for would stay in the clear, so all are named. Data keys are wrapped once each
    (double wrapping would cut the wrapping keys to 128 bits and keep them in a cache that outlives a destroyed key).
    """
    split: dict[str, Any] = {"uniform_encryption": True}
    keys = {meta.key_id: meta}
    if numbers is not None:
        split = {"column_keys": {meta.key_id: schema.names[:numbers_at], numbers.key_id: schema.names[numbers_at:]}}
        keys[numbers.key_id] = numbers
    config = pe.EncryptionConfiguration(
        meta.key_id,
        encryption_algorithm="AES_GCM_V1",
        plaintext_footer=False,
        double_wrapping=False,
        internal_key_material=True,
        data_key_length_bits=256,
        **split,
    )
    return _factory(keys).file_encryption_properties(pe.KmsConnectionConfig(), config)


# -- writing -----------------------------------------------------------------------------------------------------------


def write_parquet(
    table: pa.Table,
    path: str,
    *,
    file_id: str,
    meta: Key,
    numbers: Key | None = None,
    number_columns: Sequence[str] = (),
    encodings: Mapping[str, Encoding] = MappingProxyType({}),
    filesystem: pafs.FileSystem | None = None,
) -> Written:
    """Write `table` as one encrypted data file, whole or not at all, on disk when this returns.

    `number_columns` that the table has must come last and go under `numbers`; `encodings` are those of columns whose
    type does not say enough. Raises ValueError for number columns without a key of their own, or not last: they would
    be readable by, or make the file unreadable for, who may not see numbers.
    """
    numbers_at = _numbers_at(table.schema, meta, numbers, number_columns)
    hidden = table.schema.names[numbers_at:]
    properties = _encryption(table.schema, numbers_at, meta, numbers if hidden else None)
    note = {"key": numbers.key_id, "columns": hidden} if numbers is not None and hidden else None
    metadata = {_FILE: file_id, _FORMAT: str(FORMAT_VERSION), _NUMBERS: json.dumps(note)}
    blob = _parquet(table, metadata, properties, encodings)
    write_sealed(path, blob, filesystem)
    return Written(path, blob.size, hashlib.sha256(memoryview(blob)).hexdigest(), table.num_rows)


def _numbers_at(schema: pa.Schema, meta: Key, numbers: Key | None, number_columns: Sequence[str]) -> int:
    """Return the index of the first number column; the number of columns when there is none."""
    hidden = set(number_columns) & set(schema.names)
    at = len(schema.names) - len(hidden)
    if set(schema.names[at:]) != hidden:
        raise ValueError("number columns come last")
    if hidden and (numbers is None or numbers.key_id == meta.key_id or numbers.secret == meta.secret):
        raise ValueError("number columns need a key of their own")
    if hidden and any(kind.num_fields for kind in schema.types):
        raise ValueError("a table with number columns has no nested columns")
    return at


def _parquet(
    table: pa.Table, metadata: Mapping[str, str], properties: Any, encodings: Mapping[str, Encoding]
) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    table = _own_values(table)
    encoded = {f.name: encodings.get(f.name) or _usual(f.type) for f in table.schema}
    smaller = {name: encoding in _COMPRESSED for name, encoding in encoded.items()}
    writer = pq.ParquetWriter(
        sink,
        table.schema,
        compression={name: "zstd" if yes else "NONE" for name, yes in smaller.items()},
        compression_level={name: 1 for name, yes in smaller.items() if yes},
        use_dictionary=[name for name, encoding in encoded.items() if encoding == "dictionary"],
        column_encoding={name: "DELTA_BINARY_PACKED" for name, encoding in encoded.items() if encoding == "delta"},
        write_statistics=[f.name for f in table.schema if _is_measure(f.type)],
        encryption_properties=properties,
        store_schema=False,  # Arrow's would make readers give dictionaries back for text that was encoded already
    )
    with writer:
        schema = base64.b64encode(_decoded(table.schema).with_metadata(metadata).serialize())
        writer.add_key_value_metadata({**metadata, _ARROW_SCHEMA: schema})
        writer.write_table(table, row_group_size=_ROW_GROUP_ROWS)
    return sink.getvalue()


def _is_measure(kind: pa.DataType) -> bool:
    """Return whether the least and greatest value of some rows may spare a query these rows: not of text and ids."""
    return not (pa.types.is_dictionary(kind) or pa.types.is_string(kind) or pa.types.is_fixed_size_binary(kind))


def _decoded(schema: pa.Schema) -> pa.Schema:
    """Return the schema that readers see: values themselves where the table has them encoded."""
    return pa.schema([f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in schema])


def _own_values(table: pa.Table) -> pa.Table:
    """Return the table with one dictionary for each encoded column, and in it no value that none of the rows has."""
    columns = [only_used(flat(column)) if pa.types.is_dictionary(column.type) else column for column in table.columns]
    return pa.Table.from_arrays(columns, schema=table.schema)


def _usual(kind: pa.DataType) -> Encoding:
    """Return the encoding that pays by type: a dictionary, but not for ids, tokens, times and measurements."""
    varies = pa.types.is_fixed_size_binary(kind) or pa.types.is_timestamp(kind) or pa.types.is_floating(kind)
    return "plain" if varies else "dictionary"


# -- reading -----------------------------------------------------------------------------------------------------------


def read_parquet(
    path: str,
    *,
    file_id: str,
    keys: Mapping[str, Key],
    columns: Sequence[str] | None = None,
    sha256: str | None = None,
    filesystem: pafs.FileSystem | None = None,
) -> pa.Table:
    """Return rows of one data file: `columns`, or all that `keys` (by key id) open.

    Give only the keys that this file should be under: a file moved here from another month then does not open.
    Raises SealBroken when it is another file, plaintext, altered or cut short (with `sha256`: any byte of it differs);
    KeyDenied when the footer's key, or the key of a number column asked for by name, is not among `keys`.
    """
    with (filesystem or pafs.LocalFileSystem()).open_input_file(str(path)) as source, _broken(file_id):
        if sha256 is not None:
            source = _checked(source, file_id, sha256)
        _check_magic(source, file_id)
        with pq.ParquetFile(source, decryption_properties=_decryption(keys)) as file:
            schema = file.schema_arrow
            _check_footer(schema, file_id)
            wanted = _openable(schema, keys) if columns is None else list(columns)
            if not set(wanted) <= set(_openable(schema, keys)):
                _refuse(schema, wanted, file_id)
            return file.read(columns=wanted).select(wanted).replace_schema_metadata(None)


@contextmanager
def _broken(file_id: str) -> Iterator[None]:
    """Turn Arrow's errors for bytes that are not what was written into SealBroken; what a system refuses passes."""
    try:
        yield
    except pa.ArrowMemoryError:
        raise
    except (pa.ArrowException, OSError) as problem:
        if isinstance(problem, OSError) and (problem.errno is not None or is_refusal(problem)):
            raise
        raise SealBroken(f"data file {file_id} was altered or cut short") from None


def _checked(source: pa.NativeFile, file_id: str, sha256: str) -> pa.BufferReader:
    """Return the whole file in memory, after its hash was compared."""
    content = source.read_buffer()
    if hashlib.sha256(memoryview(content)).hexdigest() != sha256:
        raise SealBroken(f"data file {file_id} differs from what the manifest says was written")
    return pa.BufferReader(content)


def _check_magic(source: pa.NativeFile, file_id: str) -> None:
    """Refuse plaintext Parquet: Arrow reads it even where keys are given, so whoever writes a file could forge one."""
    size = source.size()
    ends = source.read_at(4, 0), source.read_at(4, max(size - 4, 0))
    if _PLAIN_MAGIC in ends:
        raise SealBroken(f"data file {file_id} is plaintext Parquet, which is never written here")
    if ends != (_MAGIC, _MAGIC):
        raise SealBroken(f"data file {file_id} was altered or cut short")


def _check_footer(schema: pa.Schema, file_id: str) -> None:
    metadata = schema.metadata or {}
    if metadata.get(_FORMAT.encode()) != str(FORMAT_VERSION).encode():
        raise SealBroken(f"data file {file_id} has a format version that this release does not know")
    if metadata.get(_FILE.encode()) != file_id.encode():
        raise SealBroken(f"data file {file_id} was replaced by another data file")


def _openable(schema: pa.Schema, keys: Mapping[str, Key]) -> list[str]:
    """Return the columns of a file that `keys` open, in its order. The footer, which says so, is authenticated."""
    note = json.loads(schema.metadata[_NUMBERS.encode()])
    closed = set(note["columns"]) if note and note["key"] not in keys else set()
    return [name for name in schema.names if name not in closed]


def _refuse(schema: pa.Schema, wanted: Sequence[str], file_id: str) -> None:
    absent = sorted(set(wanted) - set(schema.names))
    if absent:
        raise ValueError(f"data file {file_id} has no column {', '.join(absent)}")
    raise KeyDenied(f"the numbers of data file {file_id} are under a key that was not opened")


# -- many files --------------------------------------------------------------------------------------------------------


def open_dataset(
    files: Sequence[LakeFile],
    keys: Mapping[str, Key],
    schema: pa.Schema,
    filesystem: pafs.FileSystem | None = None,
) -> "LakeDataset":
    """Return a dataset over data files, for Arrow and DuckDB, with the columns of `schema` (null where missing).

    Who may not see numbers gives a `schema` without them; a filter on one is then an error like any unknown column.
    Where a file's `numbers` is None its number columns are null. All keys and every file's identity are checked here:
    raises KeyDenied and SealBroken as `read_parquet` does. Each file is read under its own keys only.
    """
    filesystem = filesystem or pafs.LocalFileSystem()
    by_keys: dict[tuple[str, str | None], list[LakeFile]] = defaultdict(list)
    for file in files:
        by_keys[file.meta, file.numbers].append(file)
    parts = []
    for key_ids, group in by_keys.items():
        named = _named(keys, key_ids)
        config = ds.ParquetDecryptionConfig(_factory(named), pe.KmsConnectionConfig(), pe.DecryptionConfiguration())
        options = ds.ParquetFragmentScanOptions(decryption_config=config)
        form = ds.ParquetFileFormat(default_fragment_scan_options=options)
        parts += [_part(file, form, named, schema, filesystem) for file in group]
    return LakeDataset(schema, parts)


def _named(keys: Mapping[str, Key], key_ids: Sequence[str | None]) -> dict[str, Key]:
    """Return the keys of one group of files; the numbers key may be missing, which `_part` judges by the columns."""
    if key_ids[0] not in keys:
        raise KeyDenied(f"the key {key_ids[0]} of a data file was not opened")
    return {key_id: keys[key_id] for key_id in key_ids if key_id is not None and key_id in keys}


@dataclass(frozen=True)
class _Part:
    """One file, and the columns wanted that it does not keep closed."""

    file_id: str
    fragment: ds.ParquetFileFragment
    schema: pa.Schema
    hidden: pc.Expression | None = None

    def filter(self, asked: pc.Expression | None) -> pc.Expression | None:
        """Return what a scan's filter comes to for this file."""
        if self.hidden is None:
            return asked
        return ~self.hidden if asked is None else asked & ~self.hidden


def _part(
    file: LakeFile, form: ds.ParquetFileFormat, keys: Mapping[str, Key], schema: pa.Schema, filesystem: Any
) -> _Part:
    """Open and check a file; its footer stays in memory, so what was checked is what is read."""
    with filesystem.open_input_file(file.path) as source, _broken(file.file_id):
        _check_magic(source, file.file_id)
        fragment = form.make_fragment(file.path, filesystem)
        fragment.ensure_complete_metadata()
        stored = fragment.physical_schema
        _check_footer(stored, file.file_id)
    closed = set(schema.names) & (set(stored.names) - set(_openable(stored, keys)))
    if closed and file.numbers is not None:
        _refuse(stored, sorted(closed), file.file_id)
    return _Part(file.file_id, fragment, pa.schema([f for f in schema if f.name not in closed]), file.hidden)


class LakeDataset(ds.InMemoryDataset):  # type: ignore[misc]
    """Data files as one Arrow dataset: `to_table`, `to_batches`, `head`, `count_rows`, `scanner`, and DuckDB.

    Arrow's own dataset over these files would not do, for two reasons. It reads ahead on threads of its own, which
    call back for keys; left behind by a query that stopped early (`LIMIT`), they hang or abort the process when it
    ends. And it would ask every file for every column, also for those whose key is gone. So here each row group is
    read to its end, by a thread that Python waits for, and columns that are closed are never asked for.
    """

    def __init__(self, schema: pa.Schema, parts: Sequence[_Part]) -> None:
        super().__init__(schema.empty_table())
        self._parts = parts

    def scanner(self, columns: Any = None, filter: pc.Expression | None = None, **_: Any) -> "LakeScanner":
        """Return a scan of `columns` (names, or names with expressions) of the rows that pass `filter`."""
        return LakeScanner(self.schema, self._parts, columns, filter)

    def _unsupported(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("read this dataset with to_table, to_batches, head, count_rows, scanner or DuckDB")

    # Arrow's versions of these would work on the empty table that this object is to Arrow.
    filter = replace_schema = get_fragments = join = join_asof = sort_by = __reduce__ = _unsupported


class LakeScanner:
    """One scan of a `LakeDataset`, with the methods of Arrow's scanner."""

    def __init__(self, schema: pa.Schema, parts: Sequence[_Part], columns: Any, filter: pc.Expression | None) -> None:
        self._parts = parts
        self._dataset_schema = schema
        self._columns = schema.names if columns is None else columns
        self._filter = filter
        # Binding to an empty table names the result's types, and an unknown column is an error here.
        self.projected_schema = _bound(schema, self._columns, filter)

    def to_batches(self) -> Generator[pa.RecordBatch, None, None]:
        """Yield the rows, in the order of the files; a few row groups are read ahead."""
        work = (partial(self._read, part, group) for part in self._parts for group in self._groups(part))
        for table in _ahead(work):
            yield from table.to_batches()

    def to_reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self.projected_schema, self.to_batches())

    def to_table(self) -> pa.Table:
        return pa.Table.from_batches(self.to_batches(), self.projected_schema)

    def head(self, num_rows: int) -> pa.Table:
        found: list[pa.RecordBatch] = []
        missing = num_rows
        with closing(self.to_batches()) as batches:
            while missing > 0 and (batch := next(batches, None)) is not None:
                found.append(batch[:missing])
                missing -= len(found[-1])
        return pa.Table.from_batches(found, self.projected_schema)

    def count_rows(self) -> int:
        if all(part.filter(self._filter) is None for part in self._parts):
            return sum(part.fragment.metadata.num_rows for part in self._parts)
        return sum(batch.num_rows for batch in self.to_batches())

    def _groups(self, part: _Part) -> list[ds.ParquetFileFragment]:
        """Return the file's row groups that the filter may match, by their statistics."""
        with _broken(part.file_id):
            pushed = self._filter if self._binds(part, []) else None
            return list(part.fragment.split_by_row_group(pushed, part.schema))

    def _read(self, part: _Part, group: ds.ParquetFileFragment) -> pa.Table:
        """Return one row group, with null for the columns that are closed."""
        columns, nulls = self._columns, _nulls(self._dataset_schema, part.schema)
        if nulls and not isinstance(columns, dict):
            columns = {name: nulls.get(name, pc.field(name)) for name in columns}
        with _broken(part.file_id):
            if self._binds(part, columns):
                return group.to_table(part.schema, columns, part.filter(self._filter))
            # The filter, or an expression, is about a column that is closed: it sees nulls.
            every = {name: nulls.get(name, pc.field(name)) for name in self._dataset_schema.names}
            table = group.to_table(part.schema, every)
        return ds.InMemoryDataset(table).to_table(self._columns, part.filter(self._filter))

    def _binds(self, part: _Part, columns: Any) -> bool:
        """Return whether `columns` and the filter are about columns that the file does not keep closed."""
        if len(part.schema) == len(self._dataset_schema):
            return True
        try:
            _bound(part.schema, columns, self._filter)
        except pa.ArrowInvalid:
            return False
        return True


def _nulls(schema: pa.Schema, limited: pa.Schema) -> dict[str, pc.Expression]:
    closed = [field for field in schema if field.name not in limited.names]
    return {field.name: pc.scalar(pa.scalar(None, field.type)) for field in closed}


def _bound(schema: pa.Schema, columns: Any, filter: pc.Expression | None) -> pa.Schema:
    """Return the schema of a scan's result. Raises ArrowInvalid for a column that `schema` does not have."""
    return ds.InMemoryDataset(schema.empty_table()).scanner(columns=columns, filter=filter).projected_schema


def _ahead(work: Iterator[Callable[[], pa.Table]]) -> Iterator[pa.Table]:
    """Yield the results of `work` in its order, with as many of them under way as there are threads.

    They are Python's threads, and whoever stops early waits for the pieces under way: nothing is left behind.
    """
    threads = min(4, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(threads, "lake")
    try:
        running = deque(pool.submit(piece) for piece in islice(work, threads))
        while running:
            table = running.popleft().result()
            running.extend(pool.submit(piece) for piece in islice(work, 1))
            yield table
    finally:
        pool.shutdown(cancel_futures=True)
