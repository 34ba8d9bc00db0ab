"""Contents: the text of an incoming file, unpacked and as it is written, and blocks of it cut at record ends."""

import io
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from callward.ingest.landing import PACKED
from callward.parsing.looks import packed_or_foreign
from callward.parsing.records import record_end
from callward.parsing.text import TextForm, rewritten, text_form
from schemas.declaration import Declaration

HEAD: Final = 64 << 10  # bytes that a file's form and shape are told from
_LONGEST: Final = 256 << 20  # a record longer than this is cut, and suspended in parts


class FileUnreadable(Exception):
    """A file that cannot be unpacked or is of another format; `args[0]` says why."""


def require_packed(file: BinaryIO, form: str) -> None:
    """Raise FileUnreadable for a file that is not packed in the form that its name says."""
    if form in PACKED and not file.read(len(PACKED[form])).startswith(PACKED[form]):
        raise FileUnreadable(f"this file is not packed by {form}, as its name says: rename it")


def head_of(
    unpacked: Callable[[], BinaryIO], declaration: Declaration, known: TextForm | None = None
) -> tuple[bytes, TextForm]:
    """Return the first bytes of a file's text, and how that is written: as `known` from before, or as it looks.

    Raises FileUnreadable for what is damaged, or has the signature of something else.
    """
    with unpacked() as stream:
        head = read_some(stream, HEAD)
    foreign = packed_or_foreign(head) if known is None else None
    if foreign:
        raise FileUnreadable(f"this file {foreign}")
    text = text_form(head, declaration.file) if known is None else known
    return rewritten(io.BytesIO(head), text).read() if text else head, text


def blocks_of(stream: BinaryIO, declaration: Declaration, size: int, most: int, setting: str) -> Iterator[bytes]:
    """Yield a text in blocks of about `size` bytes that end where a record does.

    Raises FileUnreadable where it unpacks to more than `most` bytes, which `setting` says.
    """
    held, given = b"", 0
    while True:
        more = read_some(stream, size)
        held += more
        if given + len(held) > most:
            raise FileUnreadable(f"it unpacks to more than {setting}")
        end = record_end(held, declaration) if more else len(held)
        if more and declaration.file.records == "file":
            continue
        if end <= 0 and more and len(held) < _LONGEST:
            continue
        end = end if end > 0 else len(held)
        if end:
            yield held[:end]
            given, held = given + end, held[end:]
        if not more:
            return


def skip_lines(stream: BinaryIO, lines: int) -> int:
    """Read so many lines, and return how many bytes they were. Raises FileUnreadable."""
    skipped = 0
    for _ in range(lines):
        while piece := _guarded(lambda: stream.readline(HEAD)):
            skipped += len(piece)
            if piece.endswith(b"\n"):
                break
    return skipped


def read_some(stream: BinaryIO, size: int) -> bytes:
    """Read from a possibly packed stream. Raises FileUnreadable for damage, in a sentence without content."""
    return _guarded(lambda: stream.read(size))


def _guarded(read: Callable[[], bytes]) -> bytes:
    try:
        return read() or b""
    except EOFError:
        raise FileUnreadable("the packed file is cut short") from None
    except OSError as error:
        if error.errno is not None:
            raise
        cut = "Truncated" in str(error)  # what Arrow says of a zstd frame without its end
        raise FileUnreadable("the packed file is cut short" if cut else "the packed file is damaged") from None
    except zlib.error:
        raise FileUnreadable("the packed file is damaged") from None
