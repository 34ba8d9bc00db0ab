"""Decompression of members as they pass: gzip, zlib, zip, bzip2, xz, lzma, zstd, lz4 frames. Bounded in memory."""

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

import pyarrow as pa
import zstandard

HELD_BACK_BYTES: Final = 256 << 20  # bytes of one lz4 frame, which is gathered before it is decompressed
READ_BYTES: Final = 1 << 20
TRIAL_BYTES: Final = 256
Chunk = bytes | memoryview


class Unpacker(Protocol):
    """Takes a member's bytes, yields what they hold; `over` when the member has ended. Raises one of BROKEN."""

    over: bool

    def feed(self, data: Chunk) -> Iterator[bytes]:
        """Yield what these bytes of the member hold; bytes after its end are ignored."""
        ...

    def close(self) -> Iterator[bytes]:
        """Yield what is still held back of a member that ends early."""
        ...


BROKEN: Final = (zlib.error, zstandard.ZstdError, lzma.LZMAError, pa.ArrowException, OSError, ValueError, EOFError)


class _Deflate:
    """gzip, zlib, and deflate as zip has it."""

    def __init__(self, window: int = 31) -> None:
        self._inner, self.over = zlib.decompressobj(window), False

    def feed(self, data: Chunk) -> Iterator[bytes]:
        while data and not self._inner.eof:
            yield self._inner.decompress(data, READ_BYTES)
            data = self._inner.unconsumed_tail
        self.over = self._inner.eof

    def close(self) -> Iterator[bytes]:
        yield self._inner.flush()


class _Zip:
    """One deflated entry of a zip file, from its local header on (APPNOTE 4.3.7)."""

    def __init__(self) -> None:
        self._head: bytes | None = b""
        self._inner, self.over = _Deflate(-15), False

    def feed(self, data: Chunk) -> Iterator[bytes]:
        if self._head is not None:
            data = self._past_head(data)
        if data:
            yield from self._inner.feed(data)
            self.over = self._inner.over

    def _past_head(self, data: Chunk) -> bytes:
        head = (self._head or b"") + bytes(data)
        size = 30 + sum(struct.unpack_from("<HH", head, 26)) if len(head) >= 30 else 30
        if len(head) >= 10 and head[8:10] != b"\x08\0":
            raise ValueError("not deflated")
        self._head = None if len(head) >= size else head
        return head[size:] if len(head) >= size else b""

    def close(self) -> Iterator[bytes]:
        yield from self._inner.close()


class _Bounded:
    """bzip2 and xz: the standard library's decompressors, which bound their own output."""

    def __init__(self, inner: bz2.BZ2Decompressor | lzma.LZMADecompressor) -> None:
        self._inner, self.over = inner, False

    def feed(self, data: Chunk) -> Iterator[bytes]:
        while not self._inner.eof:
            yield self._inner.decompress(data, READ_BYTES)
            data = b""
            if self._inner.needs_input:
                break
        self.over = self._inner.eof

    def close(self) -> Iterator[bytes]:
        yield b""


class _Zstd:
    """A zstd frame, fed in small slices: a few bytes can inflate to 128 KiB."""

    def __init__(self) -> None:
        self._inner, self.over = zstandard.ZstdDecompressor().decompressobj(), False

    def feed(self, data: Chunk) -> Iterator[bytes]:
        for start in range(0, len(data), 4096):
            yield self._inner.decompress(data[start : start + 4096])
            if self._inner.eof:
                self.over = True
                return

    def close(self) -> Iterator[bytes]:
        yield b""


class _Lz4:
    """An lz4 frame, gathered to its end mark (Arrow reads frames only as files), then read in pieces."""

    def __init__(self) -> None:
        self._held, self._next, self.over = bytearray(), 0, False

    def feed(self, data: Chunk) -> Iterator[bytes]:
        self._held += data
        if self._ended():
            self.over = True
            yield from self._pieces()
        elif len(self._held) > HELD_BACK_BYTES:
            raise TooFar

    def _ended(self) -> bool:
        """Return whether the end mark was met, past whole blocks (lz4 frame format 1.6), and cut the frame there."""
        if len(self._held) < 7:
            return False
        flags = self._held[4]
        if flags >> 6 != 1:
            raise ValueError("no such version")
        self._next = self._next or 7 + (8 if flags & 8 else 0) + (4 if flags & 1 else 0)
        while len(self._held) >= self._next + 4:
            size = int.from_bytes(self._held[self._next : self._next + 4], "little")
            if not size:
                del self._held[self._next + 4 + (4 if flags & 4 else 0) :]
                return True
            self._next += 4 + (size & 0x7FFFFFFF) + (4 if flags & 16 else 0)
        return False

    def _pieces(self) -> Iterator[bytes]:
        with pa.CompressedInputStream(pa.BufferReader(bytes(self._held)), "lz4") as stream:
            while piece := stream.read(READ_BYTES):
                yield piece

    def close(self) -> Iterator[bytes]:
        yield from self._pieces()  # a torn frame gives what it can before the error


UNPACKERS: Final[Mapping[str, Callable[[], Unpacker]]] = {
    "gzip": _Deflate,
    "zlib": lambda: _Deflate(15),
    "zip": _Zip,
    "bzip2": lambda: _Bounded(bz2.BZ2Decompressor()),
    "xz": lambda: _Bounded(lzma.LZMADecompressor(memlimit=256 << 20)),
    "lzma": lambda: _Bounded(lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=256 << 20)),
    "zstd": _Zstd,
    "lz4": _Lz4,
}
MAGICS: Final = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    # lzma's usual properties, and the dictionary of each preset: 256 KiB to 64 MiB.
    *((b"\x5d" + (1 << bits).to_bytes(4, "little"), "lzma") for bits in (18, 20, 21, 22, 23, 24, 25, 26)),
    *((bytes([0x78, level]), "zlib") for level in (0x01, 0x5E, 0x9C, 0xDA)),  # a window of 32 KiB (RFC 1950)
)


def begins(kind: str, data: Chunk) -> bool:
    """Return whether a member of this kind may begin with these bytes: two bytes of zlib's header are often chance."""
    if kind != "zlib":
        return True
    try:
        zlib.decompressobj(15).decompress(data[:TRIAL_BYTES])
    except zlib.error:
        return False
    return True


class TooFar(Exception):
    """A member inflates further than the sweep follows."""
