"""Text: what encoding the bytes of a file are in, and how its lines end, where that is not as declared.

Such a file is rewritten while it is opened, in UTF-8 with LF: from there on it is read as any other.
"""

import codecs
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np

from callward.parsing.looks import as_binary
from callward.parsing.records import record_returns
from schemas.declaration import File

_PIECE: Final = 1 << 16  # bytes read at once
_RETURNS: Final = "returns"
_UNREADABLE: Final = "callward-nul"
# The longer first: the mark of UTF-16 begins that of UTF-32. Python's codec without a mark of its own keeps it.
_MARKS: Final = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
    b"\x84\x31\x95\x33": "gb18030",
    b"+/v8": "utf-7",
    b"+/v9": "utf-7",
    b"+/v+": "utf-7",
    b"+/v/": "utf-7",
}
_SHARE: Final = 0.9  # of the characters of a text in UTF-16 without a mark that are ASCII


def _as_nul(error: UnicodeError) -> tuple[str, int]:
    """Return NUL in place of what an encoding does not have: the record is suspended, and the others are read."""
    if isinstance(error, UnicodeDecodeError | UnicodeEncodeError):
        return "\0", error.end
    raise error


codecs.register_error(_UNREADABLE, _as_nul)


@dataclass(frozen=True)
class TextForm:
    """An encoding other than the declared one ("": as declared), and whether lines end in CR alone, some at least."""

    encoding: str = ""
    returns: bool = False

    def __bool__(self) -> bool:
        """Return whether the text must be rewritten."""
        return bool(self.encoding) or self.returns

    def words(self) -> tuple[str, ...]:
        """Return the form as words, for the ledger: a file is cut again as it was cut first."""
        return tuple(filter(None, (self.encoding, _RETURNS if self.returns else "")))

    @classmethod
    def from_words(cls, words: Sequence[str]) -> "TextForm":
        """Return the form that `words` wrote."""
        return cls("".join(word for word in words if word != _RETURNS), _RETURNS in words)


AS_DECLARED: Final = TextForm()


def text_form(head: bytes, file: File) -> TextForm:
    """Return how a file's text is written, by its first bytes."""
    encoding = _marked(head) or _by_nuls(head)
    if not encoding and as_binary(head):
        return AS_DECLARED
    text = _decoder(encoding).decode(head).encode("utf-8", _UNREADABLE) if encoding else head
    return TextForm(encoding, bool(len(record_returns(np.frombuffer(text, np.uint8), file))))


def rewritten(stream: BinaryIO, form: TextForm) -> BinaryIO:
    """Return a stream's text in UTF-8, with its mark, and with LF at the end of each line; closes the stream as well.

    Where the encoding is the declared one, only the line ends change.
    """
    return io.BufferedReader(_Rewritten(stream, form), _PIECE)


def _marked(head: bytes) -> str:
    return next((encoding for mark, encoding in _MARKS.items() if head.startswith(mark)), "")


def _by_nuls(head: bytes) -> str:
    """Return UTF-16 where every second byte of nearly all characters is NUL, and no other."""
    pairs = np.frombuffer(head[: len(head) // 2 * 2], np.uint8).reshape(-1, 2)
    if len(pairs) < 2:
        return ""
    nul = pairs == 0
    for encoding, high in (("utf-16-le", 1), ("utf-16-be", 0)):
        if nul[:, high].mean() > _SHARE and not nul[:, 1 - high].any():
            return encoding
    return ""


def _decoder(encoding: str) -> Any:
    return codecs.getincrementaldecoder(encoding)(_UNREADABLE)


class _Rewritten(io.RawIOBase):
    """Bytes in, UTF-8 out."""

    def __init__(self, stream: BinaryIO, form: TextForm) -> None:
        self._beneath, self._encoding = stream, "utf-8" if form.encoding else "latin-1"
        decoder = _decoder(form.encoding or "latin-1")  # which keeps every byte
        self._decoder = io.IncrementalNewlineDecoder(decoder, translate=True) if form.returns else decoder
        self._ready = b""
        self._first, self._over = bool(form.encoding), False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and not self._over:
            piece = self._beneath.read(_PIECE)
            self._over = not piece
            self._ready = self._next(piece)
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size

    def _next(self, piece: bytes) -> bytes:
        text = self._decoder.decode(piece, final=not piece)
        if self._first and text:
            text, self._first = "\ufeff" + text.removeprefix("\ufeff"), False
        return text.encode(self._encoding, _UNREADABLE)

    def close(self) -> None:
        super().close()
        self._beneath.close()
