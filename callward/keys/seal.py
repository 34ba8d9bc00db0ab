"""Sealing: authenticated encryption of bytes and Arrow tables.

Layout of sealed bytes, version 1 (the header is authenticated together with the caller's associated data)::

    CWSEAL | version (1) | key id (16) | salt (16) | nonce (12) | AES-256-GCM ciphertext | tag (16)

The cipher's key is derived by HKDF-SHA256 from the sealing key and the salt. A process draws its salt when it makes a
sealer and again after it was forked, and counts nonces under it: no nonce is used twice, and no number of processes
uses up one key's budget (NIST SP 800-38D, section 8.3).
"""

import functools
import itertools
import os
from typing import Final, Literal, NoReturn

import pyarrow as pa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from callward.columns import only_used
from callward.errors import Problem
from callward.keys.keys import Key
from callward.storage.durable import Bytes, view_of

MAGIC: Final = b"CWSEAL"
FORMAT_VERSION: Final = 1

_INFO: Final = b"callward seal 1"  # binds a derived key to its use
_PREFIX_BYTES: Final = 7  # magic and version
_SALTED_BYTES: Final = _PREFIX_BYTES + 16 + 16  # up to the salt's end
_HEADER_BYTES: Final = _SALTED_BYTES + 12
_TAG_BYTES: Final = 16
_SEALS_PER_SALT: Final = 1 << 32
_LARGEST: Final = (1 << 31) - 1 - _TAG_BYTES

Compression = Literal["lz4", "zstd"]

_process: object = object()  # another one in every process; ids are not, where each container counts from 1


def _begin_process() -> None:
    global _process
    _process = object()


os.register_at_fork(after_in_child=_begin_process)


class SealBroken(Problem):
    """What was read is not what was sealed: altered, cut short, moved, or of an unknown version. One sentence."""

    code = "damaged"


def key_id_of(blob: Bytes) -> str:
    """Return the id of the key that sealed bytes name. Not authenticated yet. Raises SealBroken for other bytes."""
    head = bytes(view_of(blob)[:_SALTED_BYTES])
    if head[:6] != MAGIC:
        raise SealBroken("these bytes are not sealed")
    if head[6:7] != bytes([FORMAT_VERSION]):
        raise SealBroken("sealed in a format version that this release does not know")
    if len(head) < _SALTED_BYTES:
        raise SealBroken("sealed bytes were cut short")
    return head[_PREFIX_BYTES : _PREFIX_BYTES + 16].hex()


class Sealer:
    """Seals and opens under one key. Safe in threads and across forks; does not pickle."""

    def __init__(self, key: Key) -> None:
        self.key_id = key.key_id
        self._secret = key.secret
        # One tuple, replaced whole: two threads that meet here draw two salts, and both are good.
        self._current = self._fresh()
        self._opener = functools.lru_cache(maxsize=256)(self._cipher)

    def seal(self, data: Bytes, aad: bytes) -> bytes:
        """Return `data` encrypted and bound to `aad`, which `open` must be given again; 67 bytes longer than `data`.

        Raises ValueError for 2 GiB and more.
        """
        view = view_of(data)
        if len(view) > _LARGEST:
            raise ValueError("2 GiB and more cannot be sealed as one")
        header, nonce, cipher = self._next()
        return b"".join((header, cipher.encrypt(nonce, view, header + aad)))

    def open(self, blob: Bytes, aad: bytes) -> bytes:
        """Return what was sealed. Raises SealBroken when the bytes, the key or `aad` is another one."""
        view = view_of(blob)
        self._check_head(view)
        header = bytes(view[:_HEADER_BYTES])
        cipher = self._opener(header[_PREFIX_BYTES + 16 : _SALTED_BYTES])
        try:
            return cipher.decrypt(header[_SALTED_BYTES:], view[_HEADER_BYTES:], header + aad)
        except InvalidTag:
            raise SealBroken("sealed bytes were altered, cut short, or belong to another place") from None

    def seal_table(self, table: pa.Table, aad: bytes, *, compression: Compression = "lz4") -> bytes:
        """Return a table as a compressed Arrow IPC stream, sealed. Its own rows go in, never its parents' rows."""
        return self.seal(_ipc(table, compression), aad)

    def open_table(self, blob: Bytes, aad: bytes) -> pa.Table:
        """Return the table that `seal_table` was given, in buffers of its own."""
        return _table(self.open(blob, aad))

    def _cipher(self, salt: bytes) -> AESGCM:
        return AESGCM(HKDF(hashes.SHA256(), 32, salt, _INFO).derive(self._secret))

    def _head(self, salt: bytes) -> bytes:
        return MAGIC + bytes([FORMAT_VERSION]) + bytes.fromhex(self.key_id) + salt

    def _fresh(self) -> "tuple[object, bytes, AESGCM, itertools.count[int]]":
        salt = os.urandom(16)
        return _process, self._head(salt), self._cipher(salt), itertools.count()

    def _next(self) -> tuple[bytes, bytes, AESGCM]:
        """Return header, nonce and cipher for one seal. `next` on a count is one step under the interpreter's lock."""
        process, head, cipher, counter = self._current
        number = next(counter)
        if process is not _process or number >= _SEALS_PER_SALT:
            self._current = self._fresh()
            return self._next()
        nonce = number.to_bytes(12, "big")
        return head + nonce, nonce, cipher

    def _check_head(self, view: memoryview) -> None:
        named = key_id_of(view)
        if named != self.key_id:
            raise SealBroken(f"sealed under the key {named}, not {self.key_id}")
        if len(view) < _HEADER_BYTES + _TAG_BYTES:
            raise SealBroken("sealed bytes were cut short")

    def __repr__(self) -> str:
        return f"Sealer({self.key_id})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a sealer does not pickle: pass a reference and open its key on the worker")


# -- tables ------------------------------------------------------------------------------------------------------------


def compact(table: pa.Table) -> pa.Table:
    """Return the same rows in buffers of their own: a slice no longer keeps, or carries, its parent's other rows."""
    return _dense(table)


def _ipc(table: pa.Table, compression: Compression | None) -> pa.Buffer:
    table = _dense(table)
    sink = pa.BufferOutputStream()
    # Without Arrow's threads: each worker is one already, and a small table would wait behind the large ones of others.
    options = pa.ipc.IpcWriteOptions(compression=compression, use_threads=False)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _table(ipc: bytes | pa.Buffer) -> pa.Table:
    return pa.ipc.open_stream(pa.py_buffer(ipc), options=pa.ipc.IpcReadOptions(use_threads=False)).read_all()


def _dense(table: pa.Table) -> pa.Table:
    """Return the table without a byte of rows that it does not have.

    IPC alone does not see to that: it fills a slice's buffers up to 64 bytes with the values of the rows behind it,
    and carries dictionaries and the buffers of views whole.
    """
    columns = [_dense_column(column) for column in table.columns]
    return pa.Table.from_arrays(columns, schema=table.schema)


def _dense_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        return pa.chunked_array([_dense_dictionary(chunk) for chunk in only_used(column).chunks], column.type)
    plain = _plain_type(column.type)
    if plain != column.type:
        return column.cast(plain).cast(column.type)
    return pa.chunked_array([_dense_chunk(chunk) for chunk in column.chunks], column.type)


def _dense_dictionary(chunk: pa.DictionaryArray) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(
        _dense_chunk(chunk.indices), _dense_chunk(chunk.dictionary), ordered=chunk.type.ordered, safe=False
    )


def _dense_chunk(chunk: pa.Array) -> pa.Array:
    """Return the array itself when its buffers hold its rows and nothing else, otherwise a copy of its rows."""
    if not chunk.type.num_fields and chunk.nbytes == chunk.get_total_buffer_size():
        return chunk
    return pa.concat_arrays([chunk, chunk[:0]])  # of a single array it would be the array itself


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    children = [kind.field(at).type for at in range(kind.num_fields)]
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind) or children != list(map(_plain_type, children)):
        raise TypeError(f"a column of type {kind} would carry rows that were filtered out")
    return kind
