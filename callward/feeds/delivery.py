"""From the records of a source to its files: a folder per source, each file whole from its first moment."""

import gzip
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from callward.feeds.calls import Calls
from callward.feeds.dirt import ACCEPTED
from callward.feeds.text import body_of
from callward.feeds.truth import Count
from callward.feeds.world import Ints
from callward.storage.durable import replacing


@dataclass(frozen=True, eq=False)
class Delivery:
    """The files of one source.

    Attributes:
        names: file names; a record's `file` is an index into them. A name that ends in `.gz` is compressed.
        calls: every record, in the order of the lines.
        lines: each record's line, as bytes.
        headers: what stands before the records of a file, by its index.
        late: indexes of the files that come the night after.
        late_bucket: each record's bucket once the late files were read too, where that differs.
        paired_ms: talk time that pairing computes, per record: at the piece that opens the call, once it is accepted.
    """

    names: list[str]
    calls: Calls
    lines: pa.Array
    headers: dict[int, bytes] = field(default_factory=dict)
    late: frozenset[int] = frozenset()
    late_bucket: Ints | None = None
    paired_ms: Ints | None = None

    def files(self) -> list[int]:
        """Return indexes of the files that have records, or a header."""
        return sorted({*np.unique(self.calls["file"]).tolist(), *self.headers})

    def content(self, file: int) -> bytes:
        """Return the bytes of a file, before compression."""
        return self.headers.get(file, b"") + body_of(self.lines.filter(pa.array(self.calls["file"] == file)))

    def count(self, file: int, with_late: bool = False) -> Count:
        """Return what a file's records must come to: on their night, or once the late files were read too."""
        in_file = self.calls["file"] == file
        calls = self.calls[in_file]
        if with_late and self.late_bucket is not None:
            calls["bucket"] = self.late_bucket[in_file]
        if self.paired_ms is None:
            return Count.of(calls)
        return Count.of(calls, int(self.paired_ms[in_file][calls["bucket"] == ACCEPTED].sum()))


def ordered(calls: Calls, moment: Ints | None = None) -> Calls:
    """Return the records by file and, within it, by the moment they were written (the end of the call by default)."""
    return calls[np.lexsort((calls["end"] if moment is None else moment, calls["file"]))]


def hours(calls: Calls, midnight_ms: int) -> Ints:
    """Return the hour of the day in which each call ended, 23 also after midnight: its hourly file."""
    return np.asarray(np.clip((calls["end"] - midnight_ms) // 3_600_000, 0, 23))


def write_whole(path: Path, blocks: Iterable[bytes | pa.Buffer]) -> Path:
    """Write a file that has its name only when it is whole, compressed if it ends in .gz; return its path."""
    with replacing(path, 0o666, lasting=False) as file:
        for block in blocks:
            file.write(gzip.compress(block, 6, mtime=0) if path.name.endswith(".gz") else block)
    return path
