"""Redaction: what looks like a telephone number in text from outside, how it is masked, and how it is refused.

A number is seven digits or more with at most three characters between two of them, none a letter: 719_555_0178 and
case5550178 are numbers. Digits are those of every script, also full-width, circled, raised and escaped ones; characters
that print nothing do not count. UUIDs, hashes in hex, and dates and times written with separators or a T are none;
eight bare digits are one, also where they read as a date.

It decides about text from outside. Counts of ours are typed; our own ids are letters, or hex as long as a hash.
"""

import html
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

from callward.errors import UsageProblem

_LEAST: Final = 7  # digits of a number
_LONGEST: Final = 100  # characters of what is written down: a purpose, a case, a reason
_NUMBER: Final = re.compile(rf"[0-9](?:[\W_]{{0,3}}[0-9]){{{_LEAST - 1},}}")
_START, _END = r"(?<![^\W_])", r"(?![^\W_])"  # of a word: beside it is no letter and no digit

_UUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_HASH: Final = "|".join(f"[0-9a-f]{{{length}}}" for length in (128, 96, 64, 56, 48, 40, 32))
_HEX: Final = re.compile(rf"{_START}(?:{_UUID}|{_HASH}){_END}", re.IGNORECASE)

_YEAR, _MONTH, _DAY = "(?:19|20)[0-9]{2}", "(?:0[1-9]|1[0-2])", "(?:0[1-9]|[12][0-9]|3[01])"
_HOUR, _SIXTY = "(?:[01][0-9]|2[0-3])", "[0-5][0-9]"
_FRACTION, _ZONE = "(?:[.,][0-9]{1,9})?", "(?:Z|[+-][0-9]{2}:?[0-9]{2})?"
_DATED: Final = re.compile(  # 2026-03-05, also with a time; 20260305T140000Z
    rf"(?<![0-9+])(?:{_YEAR}([-/._]){_MONTH}\1{_DAY}"
    rf"(?:[T _-]{_HOUR}[:.-]?{_SIXTY}(?:[:.-]?{_SIXTY}{_FRACTION})?{_ZONE})?"
    rf"|{_YEAR}{_MONTH}{_DAY}T{_HOUR}(?::?{_SIXTY}(?::?{_SIXTY}{_FRACTION})?)?{_ZONE})(?![0-9])"
)
_TIME: Final = rf"{_HOUR}:{_SIXTY}(?::{_SIXTY}{_FRACTION})?{_ZONE}"
_OTHER_DATE: Final = rf"(?:{_DAY}([-/.]){_MONTH}\1{_YEAR}|{_MONTH}([-/.]){_DAY}\2{_YEAR})"  # 31.12.2026, 12/31/2026
_TIMES: Final = re.compile(rf"{_TIME}(?:[\s,;/-]{{1,3}}{_TIME})*|{_OTHER_DATE}(?:[\s,]{{1,2}}{_TIME})?")

_LETTERS: Final = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
_ESCAPED: Final = re.compile(
    r"(?:%[0-9a-f]{2})+|(?:\\x[0-9a-f]{2})+|\\u[0-9a-f]{4}|\\u\{[0-9a-f]{1,6}\}|&#?\w{1,31};", re.IGNORECASE
)
_FILLERS: Final = frozenset("\u115f\u1160\u3164\uffa0")  # letters that print nothing


def mask(text: str) -> str:
    """Return the text with # for each digit of what looks like a number, and no longer or shorter."""
    shown = list(text)
    for start, end in _digit_spans(text):
        shown[start:end] = "#" * (end - start)
    return "".join(shown)


def looks_like_number(text: str) -> bool:
    """Return whether something in the text looks like a telephone number."""
    return next(_digit_spans(text), None) is not None


def number_at(document: Any, where: str = "") -> str | None:
    """Return where a parsed file holds a text that looks like a number, as its dotted key, masked; None where none is.

    A key's own name is a text, too.
    """
    if isinstance(document, dict):
        inside = [(f"{where}.{name}".lstrip("."), part) for name, value in document.items() for part in (name, value)]
    elif isinstance(document, list | tuple):
        inside = [(where, value) for value in document]
    else:
        return mask(where) if isinstance(document, str) and looks_like_number(document) else None
    return next((place for key, value in inside if (place := number_at(value, key)) is not None), None)


def refuse_number(what: str, text: str) -> None:
    """Raise UsageProblem where the text, of which `what` says what it is, holds what looks like a number."""
    if looks_like_number(text):
        raise UsageProblem(
            f"{what} holds what looks like a telephone number, and is stored or shown in the clear: "
            "write it without a number"
        )


def recorded(what: str, text: str) -> str:
    """Return words as they are checked, used and written down: in NFKC, and without space around them.

    Raises UsageProblem for what looks like a number, for more than one line, and for what is too long.
    """
    refuse_number(what, text)
    words = unicodedata.normalize("NFKC", text).strip()
    if len(words) > _LONGEST or not words.isprintable():
        raise UsageProblem(f"{what} takes one line of at most {_LONGEST} characters")
    return words


def in_letters(digest: bytes) -> str:
    """Return a digest as letters, two for a byte: an id of ours that cannot look like a number."""
    return digest.hex().translate(_LETTERS)


# -- how text is read --------------------------------------------------------------------------------------------------

_Piece = tuple[str, int, int]  # a character, and where it starts and ends in the text


def _digit_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield where the text holds a digit of a number; an escape is one place."""
    if text.isascii() and sum(map(text.count, "0123456789")) < _LEAST:
        return
    readings = [_written(text)]
    if _ESCAPED.search(text):
        readings.append(_unescaped(text))
    for pieces in readings:
        yield from _spans(list(pieces))


def _spans(pieces: list[_Piece]) -> Iterator[tuple[int, int]]:
    read = "".join(char for char, _, _ in pieces)
    read = _DATED.sub(_letters, _HEX.sub(_unless_digits, read))
    for run in _NUMBER.finditer(read):
        if not _TIMES.fullmatch(run[0]):
            yield from (pieces[place][1:] for place in range(*run.span()) if read[place] in "0123456789")


def _letters(match: re.Match[str]) -> str:
    """Return letters in place of what is no number, so that digits on both sides stay apart."""
    return "x" * len(match[0])


def _unless_digits(match: re.Match[str]) -> str:
    """Return letters in place of a hex id; digits that one letter fills up to the length of an id are none."""
    return _letters(match) if len(set(match[0].lower()) & set("abcdef")) > 1 else match[0]


def _written(text: str, start: int = 0) -> Iterator[_Piece]:
    """Yield what the characters of the text stand for, digits as ASCII, where each is."""
    for place, char in enumerate(text, start):
        yield from ((read, place, place + 1) for read in _folded(char))


def _unescaped(text: str) -> Iterator[_Piece]:
    """Yield the same with escapes of URLs, JSON, Python and HTML read as what they stand for."""
    end = 0
    for escape in _ESCAPED.finditer(text):
        yield from _written(text[end : escape.start()], end)
        end = escape.end()
        plain = "".join(map(_folded, _plain(escape[0])))
        yield from ((read, *escape.span()) for read in plain)
    yield from _written(text[end:], end)


def _plain(escape: str) -> str:
    """Return what an escape stands for; itself where it is none."""
    if escape[0] == "&":
        return html.unescape(escape)
    if escape[0] == "%" or escape[1] in "xX":
        return unquote(re.sub(r"(?i)\\x", "%", escape))
    point = int(escape[2:].strip("{}"), 16)
    return chr(point) if point <= 0x10FFFF else escape


@lru_cache(maxsize=4096)
def _folded(char: str) -> str:
    """Return a character in NFKC, its digits as ASCII; nothing for one that prints nothing or joins the one before."""
    if char.isascii():
        return char if char.isprintable() or char.isspace() else ""
    return "".join(
        str(unicodedata.digit(part, part))
        for part in unicodedata.normalize("NFKC", char)
        if unicodedata.category(part)[0] != "M" and unicodedata.category(part) != "Cf" and part not in _FILLERS
    )
