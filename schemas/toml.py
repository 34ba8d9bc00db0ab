"""TOML that people write: read, or refused in words that quote nothing of it."""

import re
import tomllib
from typing import Any, Final

_PLACE: Final = re.compile(r" \(at (line \d+, column \d+|end of document)\)$")
_OWN_WORDS: Final = re.compile(r"[A-Za-z '=/\[\]]+")  # of the parser; what has digits or brackets may be a key


class NotToml(ValueError):
    """The text is no TOML: what is wrong and where, without anything that stands there."""


def parse(text: str) -> dict[str, Any]:
    """Return the tables of a text. Raises NotToml."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise NotToml(_sentence(str(error))) from None
    except RecursionError:
        raise NotToml("not TOML that can be read: it is nested too deep") from None


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
