"""TOML that people write: read within limits, or refused in words that quote nothing of it.

The standard library's parser takes quadratic time for keys of many parts, so what people never write is refused first.
"""

import re
import tomllib
from pathlib import Path
from typing import Any, Final

_PLACE: Final = re.compile(r" \(at (line \d+, column \d+|end of document)\)$")
_OWN_WORDS: Final = re.compile(r"[A-Za-z '=/\[\]]+")  # of the parser; what has digits or brackets may be a key

LARGEST: Final = 4 << 20  # bytes
DEEPEST: Final = 16  # brackets in brackets, and dots of a key
LONGEST: Final = 128  # characters of a bare key, number or time
FAULTS: Final = 20  # of one file, that are named at once
_BARE: Final = r"[A-Za-z0-9_-]"
# What brackets, dots and long words may stand in without being any: a comment, or text in quotes. Text that no quote
# ends reaches to the end: the parser refuses it there.
_TOKEN: Final = re.compile(
    r"""(?P<text>\#[^\n]*|"{3}(?:[^\\"]+|\\.?|"(?!""))*(?:"{3,5})?|'{3}.*?(?:'{3,5}|\Z)"""
    r"""|"(?:[^"\\\n]+|\\.?)*"?|'[^'\n]*'?)"""
    rf"|(?P<word>{_BARE}+)|(?P<open>[\[{{])|(?P<close>[\]}}])|(?P<dot>\.)|(?P<blank>[ \t]+)|(?P<other>.)",
    re.DOTALL,
)


class NotToml(ValueError):
    """The text is no TOML: what is wrong and where, without anything that stands there."""


def read(path: Path) -> bytes:
    """Return the content of a file. Raises OSError, NotToml for one that is too large."""
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    _check_size(len(content))
    return content


def parse(text: str) -> dict[str, Any]:
    """Return the tables of a text. Raises NotToml."""
    _check_size(len(text))
    _check_depth(text)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise NotToml(_sentence(str(error))) from None
    except RecursionError:
        raise _refusal("nested too deep") from None


def _check_size(size: int) -> None:
    if size > LARGEST:
        raise _refusal(f"larger than {LARGEST >> 20} MiB")


def _check_depth(text: str) -> None:
    depth = dots = 0
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup
        depth += (kind == "open") - (kind == "close")
        dots = dots + (kind == "dot") if kind in ("word", "text", "dot", "blank") else 0
        if max(depth, dots) > DEEPEST:
            raise _refusal("nested too deep")
        if kind == "word" and len(token[0]) > LONGEST:
            raise _refusal("not in quotes where a word is long")


def _refusal(why: str) -> NotToml:
    return NotToml(f"not TOML that can be read: it is {why}")


def decode(content: bytes) -> dict[str, Any]:
    """Return the tables of a file's content. Raises NotToml."""
    try:
        return parse(content.decode())
    except UnicodeDecodeError:
        raise NotToml("not TOML: it is not UTF-8 text") from None


def _sentence(message: str) -> str:
    """Return what the parser says, without a key or a character that it quotes."""
    place = _PLACE.search(message)
    words = message[: place.start()] if place else message
    wrong = f": {words}" if _OWN_WORDS.fullmatch(words) else ""
    return f"not TOML{wrong}{f' ({place[1]})' if place else ''}"
