"""Bodies: what a switch posts, and the one record in it.

FreeSWITCH's mod_json_cdr posts the JSON as it is, or as a form whose field `cdr` is percent-encoded (`encode = true`)
or base64 that is not percent-encoded in turn (`encode = base64`). With `disable-100-continue` it sends curl's own
Content-Type, a form's, also with plain JSON: so the body says what it is, and not its header. Values that are encoded
one by one (`encode-values`) are left so: the source's declaration undoes that.
"""

import base64
import binascii
import json
import zlib
from typing import Final
from urllib.parse import unquote_to_bytes

_BOM: Final = b"\xef\xbb\xbf"
_FIELD: Final = b"cdr"
_NO_CONTENT: Final = b"[], \t\r\n"
_TYPES: Final = (
    "",
    "application/json",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "application/x-www-form-base64-encoded",
    "text/json",
    "text/plain",
)
_PACKINGS: Final = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class TooLarge(Exception):
    """A body that unpacks to more than is allowed."""


class Damaged(Exception):
    """A packed body that does not unpack: whoever sent it still has it whole."""


def is_type(content_type: str) -> bool:
    """Return whether a Content-Type can be of a record; its parameters do not matter."""
    return content_type.partition(";")[0].strip().lower() in _TYPES


def is_packing(content_encoding: str) -> bool:
    """Return whether a Content-Encoding can be undone."""
    return content_encoding.strip().lower() in ("", "identity", *_PACKINGS)


def unpacked(body: bytes, content_encoding: str, limit: int) -> bytes:
    """Return a body of a known Content-Encoding without it. Raises TooLarge beyond `limit` bytes, and Damaged."""
    packing = content_encoding.strip().lower()
    if packing not in _PACKINGS:
        return body
    inflate = zlib.decompressobj(_PACKINGS[packing])
    try:
        plain = inflate.decompress(body, limit + 1)
    except zlib.error:
        raise Damaged from None
    if len(plain) > limit:
        raise TooLarge
    if not inflate.eof or inflate.unused_data:
        raise Damaged
    return plain


def record_in(body: bytes) -> bytes:
    """Return the record that a body holds, as the switch made it; b"" where it holds nothing."""
    text = body.strip().removeprefix(_BOM).strip()
    value = None if _is_json(text) else _field(text)
    if value is not None:
        text = _decoded(value).strip()
    return text if text.strip(_NO_CONTENT) else b""


def _is_json(text: bytes) -> bool:
    """Return whether a text begins as an object or an array does."""
    return text[:1] in (b"{", b"[")


def _field(form: bytes) -> bytes | None:
    pairs = (pair.partition(b"=") for pair in form.split(b"&"))
    return next((value for name, equals, value in pairs if equals and name == _FIELD), None)


def _decoded(value: bytes) -> bytes:
    """Return what a form's field holds; what is neither JSON nor base64 of it is a record too, and suspended later."""
    plain = unquote_to_bytes(value.replace(b"+", b" "))
    if _is_json(plain.lstrip()):
        return plain
    decoded = _of_base64(unquote_to_bytes(value))
    return decoded if _is_json(decoded.lstrip()) else plain


def _of_base64(text: bytes) -> bytes:
    digits = b"".join(text.split()).rstrip(b"=")
    try:
        return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except binascii.Error:
        return b""


def line_of(record: bytes, documents: bool) -> bytes:
    """Return a record as one line, so that many of them are a file of their source's format.

    JSON has line ends only between its words, so there they mean no more than blanks. Where a format's file is a
    `document`, one that is no JSON would spoil all that it lies with: it becomes a JSON text, and is suspended as such.
    """
    line = record.replace(b"\r", b" ").replace(b"\n", b" ")
    if documents and not _parses(line):
        line = json.dumps(record.decode("utf-8", "backslashreplace")).encode()
    return line + b"\n"


def _parses(line: bytes) -> bool:
    try:
        json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return False
    return True
