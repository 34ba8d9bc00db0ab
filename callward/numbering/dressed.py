"""What was dialled, out of what a switch wrote around it: URIs, display names, separators, extensions, letters.

Sources: RFC 3261 sections 19.1 and 20.10 (SIP URI, name-addr), RFC 3966 (tel URI), RFC 3323 (anonymous).
"""

from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.numbering.arrays import changed, matches, replaced
from callward.numbering.possible import PREMIUM_CODE, TOLL_FREE_CODES, in_context

_HIDDEN_NAME: Final = r"""(?i)^["' ]*(?:anonymous|restricted|private|withheld)["' ]*<"""
_SEPARATED_DIGITS: Final = r"^[0-9+*#().\-/ ]*[0-9][0-9+*#().\-/ ]*$"
_OCTET: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_INTERNET_ADDRESS: Final = rf"^{_OCTET}(?:\.{_OCTET}){{3}}$"  # its dots are no separators
_WITH_EXTENSION: Final = r"(?i)^([0-9+().\-/ ]{7,}?) *(?:ext(?:n|ension)?\.?|x\.?) *[0-9]{1,7}$"
_SPELLING_CODES: Final = "|".join((*TOLL_FREE_CODES, PREMIUM_CODE))
_SPELLING: Final = rf"^\+?(?:1[-. ]*)?\(?(?:{_SPELLING_CODES})\)?[-. ]*(?:[0-9A-Za-z][-. ]*){{7}}$"
_THREE_LETTERS: Final = r"[A-Za-z].*[A-Za-z].*[A-Za-z]"
_KEYPAD: Final = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"22233344455566677778889999")

# RFC 3966, section 5.1.5: a local number, and the global digits that it is to be dialled behind.
_CONTEXT: Final = (
    r"(?i)^[^@]*?(?:sips?:|tel:|^|<)(?P<local>[0-9().\- ]+);(?:[^@]*;)?phone-context=(?:\+|%2b)(?P<context>[0-9().\-]+)"
)
_URI_SIGNS: Final = r"""[@:;<>"%\pZ\pC]"""
_SIP_WITHOUT_USER: Final = r"(?i)^ *(?:sips?: *)+[^@]*$"
_SIP_DIGITS_ONLY: Final = r"(?i)^ *(?:sips?: *)+\+?[0-9*#]+ *(?:;.*)?$"


class _Step(NamedTuple):
    """A replacement, and a byte without which there is nothing to replace ("" where any of many will do)."""

    sign: bytes
    pattern: str
    replacement: str


# In this order nothing of it is left at the end, so that a second pass is idle.
_TO_DIALLED: Final = (
    # As a spreadsheet keeps digits from being rounded: '… or ="….
    _Step(b"'", r"""^ *"?'([0-9+*#().\-/][0-9+*#().\-/ ]*)['"]* *$""", r"\1"),
    _Step(b"=", r"""^ *"?="*([0-9+*#().\-/][0-9+*#().\-/ ]*)['"]* *$""", r"\1"),
    _Step(b"\\", r"^ *\\+\+", "+"),
    _Step(b"&", r"^ *(?:&#43;|&plus;)", "+"),
    _Step(b"%25", r"(?i)^ *%252b", "+"),
)
_ENDED: Final = _Step(b"#", r"^(\+?[0-9]+)#$", r"\1")  # by the key that ends dialling
_TO_URI: Final = (
    _Step(b"", r"[\pZ\pC]+", " "),  # and control characters
    _Step(b"<", r"^.*<([^<>]*).*$", r"\1"),  # "Name" <uri>;parameters
)
_TO_USER: Final = (
    _Step(b"", r"[\"<>]+", " "),
    _Step(b":", r"(?i)^ *(?:(?:sips?|tel): *)+", ""),
    _Step(b"@", r"(?:[:;][^@]*)?@.*$", ""),  # user[:password][;parameters]@host
    _Step(b";", r";.*$", ""),
    _Step(b"%", r"(?i)%2b", "+"),
    _Step(b"%", r"(?i)%2a", "*"),
    _Step(b"%", r"%23", "#"),
    _Step(b" ", r" +", " "),
    _Step(b" ", r"^ | $", ""),
)


def undress(text: pa.Array) -> pa.Array:
    """Return the dialled text of values that are no plain digits (shape [n]): user part of a URI, digits unseparated.

    Nothing dialled is left out: digits that are no number keep their count, a user's name stays as it is. Where a URI
    names a host and no user, the text is empty.
    """
    for step in _TO_DIALLED:
        text = _stepped(text, step)
    text = changed(text, ~matches(text, _SEPARATED_DIGITS), _unlettered)
    separated = matches(text, _SEPARATED_DIGITS) & ~matches(text, _INTERNET_ADDRESS)
    text = changed(text, separated, _without_separators)
    return _stepped(text, _ENDED)


def is_hidden(text: pa.Array) -> np.ndarray:
    """Return whether the display name before a URI asks that the number stay hidden; bool [n]."""
    return matches(text, _HIDDEN_NAME)


def spelled(word: str) -> int:
    """Return the digits that dial a word on a telephone keypad (ITU-T E.161)."""
    return int(word.upper().encode().translate(_KEYPAD))


def _unlettered(text: pa.Array) -> pa.Array:
    text = changed(text, matches(text, _URI_SIGNS), _user_part)
    text = changed(text, matches(text, _WITH_EXTENSION), _without_extension)
    return changed(text, matches(text, _SPELLING) & matches(text, _THREE_LETTERS), _from_keypad)


def _user_part(text: pa.Array) -> pa.Array:
    if b"context=" in _written(text).lower():
        text = changed(text, matches(text, _CONTEXT), _in_context)
    for step in _TO_URI:
        text = _stepped(text, step)
    host_only = matches(text, _SIP_WITHOUT_USER)
    host_only[host_only] = ~matches(text.filter(pa.array(host_only)), _SIP_DIGITS_ONLY)
    for step in _TO_USER:
        text = _stepped(text, step)
    return changed(text, host_only, lambda rows: pa.array([""] * len(rows), pa.string()))


def _in_context(text: pa.Array) -> pa.Array:
    """Return local numbers with what their phone-context says before them, where that makes a number."""
    found = pc.extract_regex(text, pattern=_CONTEXT)
    names = ("local", "context")
    local, context = (replaced(pc.struct_field(found, name), "[^0-9]", "").to_pylist() for name in names)
    numbers = [in_context(*pair) for pair in zip(local, context, strict=True)]
    written = pa.array([f"+{number}" if number else None for number in numbers], pa.string())
    return pc.coalesce(written, text)


def _stepped(text: pa.Array, step: _Step) -> pa.Array:
    """Return text with a step applied to the rows that need it: to look for a byte first is cheaper than rewriting."""
    if step.sign not in _written(text):
        return text
    return changed(text, matches(text, step.pattern), lambda rows: replaced(rows, step.pattern, step.replacement))


def _written(text: pa.Array) -> bytes:
    data = text.buffers()[2]
    return data.to_pybytes() if data else b""


def _without_extension(text: pa.Array) -> pa.Array:
    return replaced(text, _WITH_EXTENSION, r"\1")


def _without_separators(text: pa.Array) -> pa.Array:
    return replaced(text, r"[().\-/ ]+", "")


def _from_keypad(text: pa.Array) -> pa.Array:
    """Return 1-800-FLOWERS as 18003569377: toll-free and 900 numbers only; elsewhere letters may be a user's name."""
    upper = pc.ascii_upper(replaced(text, r"[^0-9A-Za-z+]+", ""))
    return pa.array([word.encode().translate(_KEYPAD).decode() for word in upper.to_pylist()], pa.string())
