"""Sweeping: read every byte under some paths and find telephone numbers that stand in the clear.

Work grows with the bytes, not with numbers x forms. Bytes become streams of digits (written digits, nibbles, decoded
base64, hex or escapes), each window of a stream becomes one 64-bit integer, and a window is looked up among the sorted
numbers of its length, behind a sieve that refuses nearly all of them. Compressed members (the buffers of Arrow files
and pages of Parquet are such, too) are decompressed as they pass and swept in their turn.

Forms, as a report names them (layers before the form, outermost first: ``gzip/base64/national``):

* ``e164``, ``digits``, ``national``: written with ``+`` and country code, with the code, without it
* ``reversed``: ten digits or more, from the last to the first
* ``separated``, ``utf-16``, ``utf-32``: layers; separators stand between the digits (space ``- . ( ) / + _ , :``, line
  ends, tabs), or NULs do
* ``url``, ``json``, ``escape``, ``html``: layers; escapes of single characters: ``%31``, ``\\u0031``, ``\\x31``,
  ``&#49;`` and ``&#x31;``
* ``script``: a layer; digits of other scripts, fullwidth ones too, in UTF-8 and UTF-16
* ``base64``, ``base32``: layers; of nine digits or more, either alphabet of base64, wrapped lines too
* ``hex``: a layer; of digits in ASCII or UTF-16, with and without what stands between the octets
* ``bcd``, ``bcd-swapped``: two digits an octet, high nibble first, or low first (TBCD, 3GPP TS 29.002)
* ``binary``: a 64-bit integer or float64, of either byte order, that equals the number; in SQLite files also the six
  octets in which SQLite keeps integers from 2^31 on
* ``gzip``, ``zlib``, ``zip``, ``bzip2``, ``xz``, ``lzma``, ``zstd``, ``lz4``: layers; compressed members
* ``name``, ``link``: layers; the number is in the name of a file, folder or link, or in what a link points to

What is not found is listed in `callward.sweep.report.NOT_FOUND`, which every report repeats.

A report never holds a number: it has places and forms, and a name that holds a number is masked.
"""

import hashlib
import io
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePath

import numpy as np

from callward.sweep.forms import FileState, find_forms
from callward.sweep.needles import SHORTEST, Needles, needles_of
from callward.sweep.report import Report
from callward.sweep.streams import StreamScanner
from callward.sweep.unpackers import READ_BYTES

Stream = io.BufferedReader | io.FileIO
Ciphertext = Callable[[PurePath, bytes], bool] | Mapping[PurePath, str]


@dataclass(frozen=True)
class Remote:
    """Something to sweep that lies on no file system: its name, and how to open it for reading."""

    name: PurePath
    open: Callable[[], io.BufferedReader]


def sweep(
    paths: Iterable[Path],
    numbers: Iterable[str],
    *,
    ciphertext: Ciphertext | None = None,
    leave_out: Collection[Path] = (),
    remote: Iterable[Remote] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Find `numbers` in every regular file at and under `paths`, in their names, and in `remote`.

    Symbolic links are not followed; of them, and of pipes and devices, the name is looked at, and where a link points.

    numbers: E.164 with ``+``, or as dialled. With ``+``, or as a North American number of 10 or 11 digits, or behind
    011 or 00, a number is found with and without its country code; any other is found as it is written. Numbers under
    7 digits are not looked for, only counted. Forms under 10 digits count only where no further digit touches them.

    ciphertext: says which files are verified ciphertext: a function of path and first 4 KiB, or the SHA-256 (hex) that
    each path must have. Files that begin and end as encrypted Parquet (PARE), or begin with our seal, are known
    without. In ciphertext, BCD shorter than 8 octets is not looked for; elsewhere it counts only beside its framing
    (a length or numbering-type octet before it, or a filler nibble). Longer forms count everywhere.

    leave_out: files, or folders, not to read (landing files that are not committed yet); they are counted.
    progress: called with files and bytes read so far, after each file.
    """
    needles = needles_of(numbers)
    names, report = _Names(needles), Report(short_numbers=needles.short)
    left_out = {_absolute(path) for path in leave_out}
    if isinstance(ciphertext, Mapping):
        ciphertext = {_absolute(p) if isinstance(p, Path) else p: digest for p, digest in ciphertext.items()}
    entries = _entries(paths, lambda lost: report.unreadable.append(names.masked(lost)))
    places: Iterator[tuple[Path | Remote, bool]] = chain(entries, _remote_entries(remote))
    for place, is_file in places:
        path = place.name if isinstance(place, Remote) else place
        if left_out and not left_out.isdisjoint((path, *path.parents)):
            report.left_out += is_file
            continue
        file = FileState(names.masked(path), needles)
        for form in (*names.forms(path.name), *names.forms_of_target(path)):
            file.add(0, form)
        if is_file:
            _sweep_file(place, file, ciphertext, report)
        report.include(file.shown, file.hits, file.chance, file.unfinished)
        if progress:
            progress(report.files, report.bytes)
    return report


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # resolve() would follow links


def _entries(paths: Iterable[Path], lost: Callable[[Path], None]) -> Iterator[tuple[Path, bool]]:
    """Yield what is at and under the paths, each once, in order of name, and whether it is a file to read."""
    seen: set[Path] = set()
    waiting = [_absolute(path) for path in paths][::-1]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        try:
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                waiting += sorted(path.iterdir(), reverse=True)
        except OSError:
            lost(path)
            continue
        yield path, stat.S_ISREG(mode)


def _remote_entries(remote: Iterable[Remote]) -> Iterator[tuple[Remote, bool]]:
    """Yield what lies elsewhere (True: it is read), and before it each folder of its name, once."""
    folders: set[PurePath] = set()
    for place in remote:
        for folder in reversed(place.name.parents):
            if folder not in folders:
                folders.add(folder)
                yield Remote(folder, place.open), False
        yield place, True


def _sweep_file(place: Path | Remote, file: FileState, ciphertext: Ciphertext | None, report: Report) -> None:
    try:
        with _open(place) as stream:
            file.sqlite = _is_sqlite(stream)
            file.sealed = _is_ciphertext(stream, place.name if isinstance(place, Remote) else place, ciphertext)
            stream.seek(0)
            for size in _scan(stream, file):
                report.bytes += size
        report.files += 1
    except OSError:
        report.unreadable.append(file.shown)


def _scan(stream: Stream, file: FileState) -> Iterator[int]:
    """Feed the file to a scanner; yield the size of each piece as it is read."""
    scanner = StreamScanner(file)
    while data := stream.read(READ_BYTES):
        yield len(data)
        scanner.feed(data)
        if file.full:
            file.unfinished = True
            break
    scanner.close()


def _open(place: Path | Remote) -> Stream:
    """Return the file, unbuffered. Refuses a link, and does not wait for a pipe, that took its place meanwhile."""
    if isinstance(place, Remote):
        return place.open()
    return open(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", buffering=0)


def _is_sqlite(stream: Stream) -> bool:
    """Return whether it is SQLite's, by the magics of databases, write-ahead logs and rollback journals.

    SQLite file format, sections 1.3, 3, 4.1.
    """
    stream.seek(0)
    head: bytes = stream.read(16) or b""
    return head.startswith((b"SQLite format 3\0", b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83", b"\xd9\xd5\x05\xf9"))


def _is_ciphertext(stream: Stream, path: PurePath, ciphertext: Ciphertext | None) -> bool:
    stream.seek(0)
    head: bytes = stream.read(4096) or b""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - 4))
    if head.startswith(b"CWSEAL") or (head[:4] == b"PARE" and size >= 12 and stream.read(4) == b"PARE"):
        return True
    if ciphertext is None or callable(ciphertext):
        return ciphertext is not None and ciphertext(path, head)
    expected = ciphertext.get(path)
    stream.seek(0)
    return expected is not None and hashlib.file_digest(stream, "sha256").hexdigest() == expected.lower()


class _Names:
    """Names of files and folders hold numbers too. What was asked once is kept: every path repeats its folders."""

    def __init__(self, needles: Needles) -> None:
        self._needles, self._known = needles, dict[str, list[str]]()

    def forms(self, name: str) -> list[str]:
        """Return the forms in which the name holds a number."""
        if name not in self._known:
            octets = np.frombuffer(os.fsencode(name), np.uint8)
            places = find_forms(octets, FileState(Path(), self._needles, sealed=True)) if len(name) >= SHORTEST else ()
            self._known[name] = [f"name/{form}" for _, form in places]
        return self._known[name]

    def forms_of_target(self, path: PurePath) -> list[str]:
        """Return the forms in which a link points to something whose name holds a number."""
        if not isinstance(path, Path):
            return []
        try:
            target = str(path.readlink())
        except OSError:  # no link, or it is gone
            return []
        return [f"link/{form.removeprefix('name/')}" for form in self.forms(target)]

    def masked(self, path: PurePath) -> PurePath:
        """Return the path as a report may show it: letters and digits of a part that holds a number are masked."""
        return type(path)(*(re.sub(r"\w", "#", part) if self.forms(part) else part for part in path.parts))
