"""Looks: what a file is, by its first bytes, when it is not what was expected.

Sources: the formats' own signatures (RFC 1952, RFC 8878, APPNOTE.TXT, Parquet, ORC, Avro, Arrow IPC, SQLite, pcap),
ITU-T X.690 for BER, Telcordia GR-1100 for BAF.
"""

import re
from typing import Final

_SIGNATURES: Final = {
    b"\x1f\x8b": "is packed by gzip: name it .gz",
    b"\x28\xb5\x2f\xfd": "is packed by zstd: name it .zst",
    b"BZh": "is packed by bzip2: unpack it, or pack it by gzip",
    b"\xfd7zXZ\x00": "is packed by xz: unpack it, or pack it by gzip",
    b"\x04\x22\x4d\x18": "is packed by lz4: unpack it, or pack it by gzip",
    b"7z\xbc\xaf\x27\x1c": "is a 7z archive: unpack it",
    b"\x1f\x9d": "is packed by compress: unpack it, or pack it by gzip",
    b"Rar!": "is a rar archive: unpack it",
    b"PAR1": "is Parquet: export it as text",
    b"PARE": "is Parquet: export it as text",
    b"ORC": "is ORC: export it as text",
    b"Obj\x01": "is Avro: export it as text",
    b"ARROW1": "is Arrow IPC: export it as text",
    b"SQLite format 3\x00": "is an SQLite database: export it as text",
    b"%PDF": "is PDF: export it as text",
    b"\xd0\xcf\x11\xe0": "is an old Office file, such as .xls: export it as text",
    b"\xd4\xc3\xb2\xa1": "is a packet capture: export its records as text",
    b"\xa1\xb2\xc3\xd4": "is a packet capture: export its records as text",
    b"\x0a\x0d\x0d\x0a": "is a packet capture: export its records as text",
    b"\x89PNG": "is a picture",
    b"\xff\xd8\xff": "is a picture",
    b"GIF8": "is a picture",
    b"\x7fELF": "is a program",
    b"RIFF": "is a recording",
    b"Salted__": "is encrypted by openssl: decrypt it",
    b"\xfb\xee\x28": "is text in BOCU-1: convert it to UTF-8",
    b"\x0e\xfe\xff": "is text in SCSU: convert it to UTF-8",
    b"\xf7\x64\x4c": "is text in UTF-1: convert it to UTF-8",
    b"\xdd\x73\x66\x73": "is text in UTF-EBCDIC: convert it to UTF-8",
}
# Those of formats that may be text throughout: the others are not, and a value of a text may begin like one of them.
_TEXT_SIGNATURES: Final = {
    b"%PDF-": "is PDF: export it as text",
    b"{\\rtf": "is RTF: export it as text",
    b"-----BEGIN ": "is encrypted, or a key or a certificate (PEM)",
}
_IN_ZIP: Final = {
    rb"xl/|\[Content_Types\]\.xml": "is an Excel workbook (.xlsx): export it as text",
    rb"opendocument\.spreadsheet": "is a spreadsheet (.ods): export it as text",
}
_TEXTS: Final = (
    (r"(?is)^\s*<(!doctype\s+html|html)", "is HTML, such as a page that says an error: look at the transfer"),
    (r"(?s)^\s*<(\?xml|!--|!DOCTYPE|[A-Za-z_])", "looks like XML: convert it"),
    (r'(?s)^\s*(\[\s*)?\{\s*("|\})', "looks like JSON: choose a JSON format"),
    (r"(?is)^\s*(--\s|/\*|INSERT\s+INTO\s|CREATE\s+TABLE\s|COPY\s+\S+\s.*FROM)", "looks like SQL: export it as CSV"),
    (r"^\s*(<\d{1,3}>|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d )", "looks like lines of a log"),
    (r"(?im)^(HTTP/\d|Content-Type:|MIME-Version:|Received: )", "is a message with headers: send what is attached"),
    (r"(?m)\A(?:.*\n)?(?:\s*[\w.\-]+\s*[=:]\s*\S.*\n){3,}", "looks like lines of name = value, as RADIUS writes them"),
    (r"\A---\s*\n", "looks like YAML: convert it"),
    (r"\A(?:[A-Za-z0-9+/]{60,}\r?\n)+[A-Za-z0-9+/=]*\s*\Z", "looks like base64: decode it"),
)
_ASCII: Final = bytes(range(0x80))
# The bytes that EBCDIC writes the printable characters of ASCII with.
_EBCDIC: Final = bytes(byte for byte in range(0x100) if " " <= bytes([byte]).decode("cp500") <= "~")
_TEXTUAL: Final = bytes([*range(0x20, 0x7F), 9, 10, 13, 12, 27, *range(0x80, 0x100)])
_BINARY_SHARE: Final = 0.05  # of control characters
_LOOKED_AT: Final = 4096
_CONSTRUCTED: Final = 0x20
_VALUES: Final = 8  # so many values within the first are looked at
# A tag of one byte or several; a length of one byte, of up to four more, or none.
_BER_HEADER: Final = re.compile(
    rb"(?s)(?:[^\x1f\x3f\x5f\x7f\x9f\xbf\xdf\xff]|[\x1f\x3f\x5f\x7f\x9f\xbf\xdf\xff][\x80-\xff]*[\x00-\x7f])"
    rb"(?P<length>[\x00-\x80]|\x81.|\x82..|\x83...|\x84....)"
)


def packed_or_foreign(head: bytes) -> str | None:
    """Return what a file is by the signature at its start, with what to do; None where it has none."""
    if head.startswith(b"PK\x03\x04") or head.startswith(b"PK\x05\x06"):
        named = (kind for pattern, kind in _IN_ZIP.items() if re.search(pattern, head))
        return next(named, "is a zip archive: unpack it, or pack it by gzip")
    binary = bool(_controls(head[:_LOOKED_AT]))
    if binary and head[257:262] == b"ustar":
        return "is a tar archive: unpack it"
    known = _SIGNATURES.items() if binary else _TEXT_SIGNATURES.items()
    return next((kind for signature, kind in known if head.startswith(signature)), None)


def looks(head: bytes) -> str | None:
    """Return what bytes look like that could not be read as declared, with what to do; None where nothing is known."""
    return packed_or_foreign(head) or as_binary(head) or _as_text(head)


def _as_text(head: bytes) -> str | None:
    text = head[: 1 << 14].decode("utf-8", "replace").removeprefix("\ufeff")
    if not text.strip():
        return "holds only blanks"
    return next((kind for pattern, kind in _TEXTS if re.search(pattern, text)), None)


def as_binary(head: bytes) -> str | None:
    """Return what bytes look like that are no text; None where they are."""
    start = head[:_LOOKED_AT]
    if not start.strip(b"\0"):
        return "holds only NUL bytes"
    controls = len(_controls(start))
    if _is_ebcdic(start):
        return "looks like EBCDIC: convert it to UTF-8"
    if controls <= _BINARY_SHARE * len(start) and not _is_ber(head):
        return None
    if _is_baf(start):
        return "looks like BAF (AMA records): convert it"
    return "looks like BER (ASN.1): convert it" if _is_ber(head) else "is binary"


def _controls(data: bytes) -> bytes:
    """Return the bytes that no text has, in any encoding that ASCII is part of."""
    return data.translate(None, delete=_TEXTUAL)


def _is_ebcdic(start: bytes) -> bool:
    """Return whether nearly all is EBCDIC text, and hardly any of it ASCII."""
    other, not_ascii = (len(start.translate(None, delete=known)) for known in (_EBCDIC, _ASCII))
    return other < 0.1 * len(start) and not_ascii > 0.4 * len(start)


def _is_baf(start: bytes) -> bool:
    """Return whether a record begins as GR-1100 says: a length of two bytes, two zeros, then AA or AB."""
    return any(start[at : at + 3] in (b"\0\0\xaa", b"\0\0\xab") for at in (2, 6))


def _is_ber(head: bytes) -> bool:
    """Return whether a constructed value begins the bytes, and values within fill it, as far as they are there."""
    if not head[:1] or not head[0] & _CONSTRUCTED or not _controls(head[:_LOOKED_AT]):
        return False
    place = _content(head, 0)
    if place is None:
        return False
    at, end = place
    for _ in range(_VALUES):
        inner = _content(head, at)
        if inner is None:
            return False
        at = inner[1]
        if at >= min(end, len(head)):
            return at == end or at >= len(head)
    return True


def _content(data: bytes, at: int) -> tuple[int, int] | None:
    """Return where the content of the BER value at a place begins and ends; None where no value can be there.

    The end of one that does not say its length is taken for that of the data.
    """
    match = _BER_HEADER.match(data, at)
    if match is None:
        return None
    first, length = match.end(), match["length"]
    if length == b"\x80":
        return first, len(data)
    size = length[0] if len(length) == 1 else int.from_bytes(length[1:], "big")
    return first, first + size
