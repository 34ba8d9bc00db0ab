"""What may be said of an error of the query engine: its kind and its place in the question, never what it quotes.

What the engine says of a value quotes it, or what the question has made of it, in which no pattern finds a number any
more. So its words are shown only where it has seen the question and no row: while it binds the question to empty
tables. Of everything else the kind is said, and the person's own words where it came up.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from callward.errors import UsageProblem
from callward.redaction import mask

_TRY: Final = "TRY(...) gives NULL where an expression fails"
_KINDS: Final[Mapping[str, tuple[str, str | None]]] = {
    "Conversion": ("a value cannot be converted", _TRY),
    "Out of Range": ("a value is out of range", _TRY),
    "Mismatch Type": ("a value is of another type", _TRY),
    "Decimal": ("a value is out of range", _TRY),
    "Invalid Input": ("a function was given what it does not take", _TRY),
    "Invalid type": ("a function was given what it does not take", _TRY),
    "Not implemented": ("the engine cannot do that", None),
    "Parser": ("the question is no SQL", None),
    "Syntax": ("the question is no SQL", None),
    "Binder": ("the question names or joins what does not fit", "DESCRIBE <table> lists the columns and their types"),
    "Catalog": ("the question names what is not there", "SHOW TABLES lists the tables"),
}
_OF_QUESTION: Final = ("Parser", "Syntax", "Binder", "Catalog")  # found before any row is read
_WITH_DIGIT: Final = re.compile(r"\w*\d\w*")
_SHORT: Final = 2  # digits that the engine's own words may hold: "should be between 1 and 3"
_LONGEST: Final = 40  # characters of the question that are quoted


def problem(error: Exception, sql: str, *, rows_read: bool) -> UsageProblem:
    """Return what is said of the engine's error in one sentence.

    With `rows_read` false its own words are said, if all the digits in them stand in the question too.
    """
    detail = _detail(error)
    kind, hint = _KINDS.get(detail["exception_type"], ("the engine could not answer", "ask in a simpler way"))
    message = mask(str(detail["exception_message"]).split("\n")[0])
    if not rows_read and detail["exception_type"] in _OF_QUESTION and _is_of(sql, message):
        kind, hint = message, None
    return UsageProblem(kind + _place(detail, sql), hint=hint)


def _detail(error: Exception) -> dict[str, Any]:
    """Return type, message and location of an error as the engine writes it: "<type> Error: " and JSON, or words."""
    kind, _, words = str(error).partition(" Error: ")
    try:
        document = json.loads(words)
    except ValueError:
        document = None
    found = document if isinstance(document, dict) else {}
    return {"exception_message": words, **found, "exception_type": found.get("exception_type", kind)}


def _is_of(sql: str, message: str) -> bool:
    """Return whether every word with a digit stands in the question, but for what counts its parts."""
    own = set(_WITH_DIGIT.findall(sql.casefold()))
    return all(word in own or len(word) <= _SHORT for word in _WITH_DIGIT.findall(message.casefold()))


def _place(detail: Mapping[str, Any], sql: str) -> str:
    """Return where in the question an error came up, and the question's words there; "" where that is not known."""
    try:
        start, size = json.loads(detail.get("location") or f"[{detail['position']}, 0]")
        before = sql.encode()[: int(start)].decode()
    except (KeyError, ValueError, TypeError):
        return ""
    words = " ".join(sql.encode()[int(start) : int(start) + int(size)].decode(errors="replace").split())
    quoted = f": {mask(words)[:_LONGEST]}" if words else ""
    return f" (line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}{quoted})"
