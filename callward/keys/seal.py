"""Sealing: authenticated encryption of bytes, Arrow tables and streams of any length.

Layout of sealed bytes, version 1 (the header is authenticated together with the caller's associated data)::

    CWSEAL | version (1) | key id (16) | salt (16) | nonce (12) | AES-256-GCM ciphertext | tag (16)

The cipher's key is derived by HKDF-SHA256 from the sealing key and the salt. A process draws its salt when it first
seals and again after a fork, and counts nonces under it: no nonce is used twice, and no number of processes uses up
one key's budget (NIST SP 800-38D, section 8.3).

A sealed stream has the magic CWSTRM, its own salt, and no nonce in the header. It goes on in chunks::

    length (4, little-endian) | AES-256-GCM ciphertext of one zstd frame | tag (16)

where the nonce is the chunk's number (11 bytes) and whether it is the last (1 byte): chunks left out, put in another
order, or cut off at the end do not open (the STREAM construction, Hoang et al., CRYPTO 2015).
"""

import functools
import hashlib
import io
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal, NoReturn

import pyarrow as pa
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from callward.columns import only_used
from callward.errors import Problem
from callward.keys.keys import Key
from callward.storage.durable import Bytes, _bytes

MAGIC: Final = b"CWSEAL"
STREAM_MAGIC: Final = b"CWSTRM"
FORMAT_VERSION: Final = 1

_PREFIX_BYTES: Final = 7  # magic and version
_STREAM_HEADER_BYTES: Final = _PREFIX_BYTES + 16 + 16
_HEADER_BYTES: Final = _STREAM_HEADER_BYTES + 12
_TAG_BYTES: Final = 16
_SEALS_PER_SALT: Final = 1 << 32
_LARGEST: Final = (1 << 31) - 1 - _TAG_BYTES
_CHUNK_BYTES: Final = 4 << 20
_FRAME_LIMIT: Final = 2 * _CHUNK_BYTES

Compression = Literal["lz4", "zstd"]


class SealBroken(Problem):
    """What was read is not what was sealed: altered, cut short, moved, or of an unknown version. One sentence."""


@dataclass(frozen=True)
class Streamed:
    """What `seal_stream` wrote: bytes in, bytes out, and the SHA-256 (hex) of what it wrote."""

    plain_bytes: int
    sealed_bytes: int
    sha256: str


def key_id_of(blob: Bytes) -> str:
    """The id of the key that sealed bytes, or the start of a sealed stream, name. Not authenticated yet."""
    head = bytes(_bytes(blob)[:_STREAM_HEADER_BYTES])
    if head[:6] not in (MAGIC, STREAM_MAGIC):
        raise SealBroken("these bytes are not sealed")
    if head[6:7] != bytes([FORMAT_VERSION]):
        raise SealBroken("sealed in a format version that this release does not know")
    if len(head) < _STREAM_HEADER_BYTES:
        raise SealBroken("sealed bytes were cut short")
    return head[_PREFIX_BYTES : _PREFIX_BYTES + 16].hex()


class Sealer:
    """Seals and opens under one key. Safe in threads and across forks; does not pickle."""

    def __init__(self, key: Key) -> None:
        self.key_id = key.key_id
        self._secret = key.secret
        # One tuple, replaced whole: two threads that meet here draw two salts, and both are good.
        self._current = self._fresh()
        self._opener = functools.lru_cache(maxsize=256)(functools.partial(self._cipher, b"callward seal 1"))

    def seal(self, data: Bytes, aad: bytes) -> bytes:
        """`data` encrypted and bound to `aad`, which `open` must be given again; 67 bytes longer than `data`.

        Raises ValueError for 2 GiB and more: such data goes through `seal_stream`.
        """
        view = _bytes(data)
        if len(view) > _LARGEST:
            raise ValueError("2 GiB and more are sealed as a stream")
        header, nonce, cipher = self._next()
        return b"".join((header, cipher.encrypt(nonce, view, header + aad)))

    def open(self, blob: Bytes, aad: bytes) -> bytes:
        """What was sealed. Raises SealBroken when the bytes, the key or `aad` is another one."""
        view = _bytes(blob)
        self._check_head(view, MAGIC, _HEADER_BYTES + _TAG_BYTES)
        header = bytes(view[:_HEADER_BYTES])
        cipher = self._opener(header[_PREFIX_BYTES + 16 : _STREAM_HEADER_BYTES])
        return _decrypt(cipher, header[_STREAM_HEADER_BYTES:], view[_HEADER_BYTES:], header + aad)

    def seal_table(self, table: pa.Table, aad: bytes, *, compression: Compression = "lz4") -> bytes:
        """A table as a compressed Arrow IPC stream, sealed. Only the table's own rows go in, never its parents'."""
        return self.seal(_ipc(table, compression), aad)

    def open_table(self, blob: Bytes, aad: bytes) -> pa.Table:
        """The table that `seal_table` was given, in buffers of its own."""
        return _table(self.open(blob, aad))

    def seal_stream(self, reader: BinaryIO, writer: BinaryIO, aad: bytes, *, level: int = 3) -> Streamed:
        """Compress (zstd) and seal all of `reader` into `writer`, chunk by chunk: 4 MiB of memory at a time."""
        header, cipher = self._stream_head()
        squeeze = zstandard.ZstdCompressor(level=level)
        digest = hashlib.sha256(header)
        writer.write(header)
        plain, sealed = 0, len(header)
        for number, (chunk, last) in enumerate(_chunks(reader)):
            body = cipher.encrypt(_chunk_nonce(number, last), squeeze.compress(chunk), header + aad)
            frame = len(body).to_bytes(4, "little") + body
            digest.update(frame)
            writer.write(frame)
            plain, sealed = plain + len(chunk), sealed + len(frame)
        return Streamed(plain, sealed, digest.hexdigest())

    def open_stream(self, reader: BinaryIO, aad: bytes) -> io.BufferedReader:
        """A binary file of what `seal_stream` was given. Each read returns only bytes already authenticated.

        Reading raises SealBroken at the first chunk that is altered, missing or out of place; a stream cut off
        between two chunks is seen at its end, so whoever must have all of it reads to the end first.
        """
        header = _read_all(reader, _STREAM_HEADER_BYTES)
        self._check_head(memoryview(header), STREAM_MAGIC, _STREAM_HEADER_BYTES)
        cipher = self._cipher(b"callward stream 1", header[-16:])
        return io.BufferedReader(_ChunkReader(_opened_chunks(reader, cipher, header + aad)), _CHUNK_BYTES)

    def _cipher(self, info: bytes, salt: bytes) -> AESGCM:
        return AESGCM(HKDF(hashes.SHA256(), 32, salt, info).derive(self._secret))

    def _head(self, magic: bytes, salt: bytes) -> bytes:
        return magic + bytes([FORMAT_VERSION]) + bytes.fromhex(self.key_id) + salt

    def _fresh(self) -> "tuple[int, bytes, AESGCM, itertools.count[int]]":
        salt = os.urandom(16)
        return os.getpid(), self._head(MAGIC, salt), self._cipher(b"callward seal 1", salt), itertools.count()

    def _next(self) -> tuple[bytes, bytes, AESGCM]:
        """Header, nonce and cipher for one seal. `next` on a count is one step under the interpreter's lock."""
        pid, head, cipher, counter = self._current
        number = next(counter)
        if pid != os.getpid() or number >= _SEALS_PER_SALT:
            self._current = self._fresh()
            return self._next()
        nonce = number.to_bytes(12, "big")
        return head + nonce, nonce, cipher

    def _stream_head(self) -> tuple[bytes, AESGCM]:
        salt = os.urandom(16)
        return self._head(STREAM_MAGIC, salt), self._cipher(b"callward stream 1", salt)

    def _check_head(self, view: memoryview, magic: bytes, least: int) -> None:
        named = key_id_of(view)
        if view[:6] != magic:
            raise SealBroken("a sealed stream and sealed bytes were taken for each other")
        if named != self.key_id:
            raise SealBroken(f"sealed under the key {named}, not {self.key_id}")
        if len(view) < least:
            raise SealBroken("sealed bytes were cut short")

    def __repr__(self) -> str:
        return f"Sealer({self.key_id})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a sealer does not pickle: pass a reference and open its key on the worker")


def _decrypt(cipher: AESGCM, nonce: bytes, body: memoryview | bytes, aad: bytes) -> bytes:
    try:
        return cipher.decrypt(nonce, body, aad)
    except InvalidTag:
        raise SealBroken("sealed bytes were altered, cut short, or belong to another place") from None


# -- tables ------------------------------------------------------------------------------------------------------------


def compact(table: pa.Table) -> pa.Table:
    """The same rows in buffers of their own: a slice no longer keeps, or carries along, its parent's other rows."""
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
    """The table without a byte of rows that it does not have.

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
    """The array itself when its buffers hold its rows and nothing else, otherwise a copy of its rows."""
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


# -- streams -----------------------------------------------------------------------------------------------------------


def _chunk_nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _read_all(reader: BinaryIO, size: int) -> bytes:
    """`size` bytes, or what there is before the end (a raw file or a pipe may return less at a time)."""
    parts = []
    while size and (part := reader.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _chunks(reader: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Chunks of a reader, and whether each is the last; an empty reader has one empty chunk."""
    chunk = _read_all(reader, _CHUNK_BYTES)
    while following := _read_all(reader, _CHUNK_BYTES):
        yield chunk, False
        chunk = following
    yield chunk, True


def _opened_chunks(reader: BinaryIO, cipher: AESGCM, aad: bytes) -> Iterator[bytes]:
    """The chunks of a sealed stream. Whether one is the last is known from what follows it, and authenticated."""
    expand = zstandard.ZstdDecompressor()
    body = _frame(reader)
    for number in itertools.count():
        following = _frame(reader)
        yield expand.decompress(_decrypt(cipher, _chunk_nonce(number, following is None), body or b"", aad))
        if following is None:
            return
        body = following


def _frame(reader: BinaryIO) -> bytes | None:
    """The next chunk as it is sealed; None at the end of the stream."""
    head = _read_all(reader, 4)
    if not head:
        return None
    size = int.from_bytes(head, "little")
    if len(head) < 4 or not _TAG_BYTES <= size <= _FRAME_LIMIT:
        raise SealBroken("a sealed stream was altered or cut short")
    body = _read_all(reader, size)
    if len(body) < size:
        raise SealBroken("a sealed stream was cut short")
    return body


class _ChunkReader(io.RawIOBase):
    """A raw file over an iterator of chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


# -- files -------------------------------------------------------------------------------------------------------------
