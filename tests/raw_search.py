"""A search for numbers that shares nothing with ours: each number in many forms, looked for as bytes, file by file.

It is slow and knows few numbers, and needs no cleverness to be believed: tests compare the sweep's silence with its.
"""

import base64
import bz2
import lzma
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

Forms = dict[bytes, str]  # what to look for → what form of a number it is
_DIGITS = {"fullwidth": 0xFF10, "arabic-indic": 0x660, "devanagari": 0x966, "thai": 0xE50}
_INSIDE = {
    b"\x1f\x8b\x08": lambda: zlib.decompressobj(31),
    b"x\x9c": lambda: zlib.decompressobj(15),
    b"x\x01": lambda: zlib.decompressobj(15),
    b"x\xda": lambda: zlib.decompressobj(15),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": lzma.LZMADecompressor,
    b"]\0\0\x80\0": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE),
}
_ZIP = b"PK\x03\x04"


def a_few(numbers: Iterable[str]) -> list[str]:
    """Return some North American numbers of a feed, in E.164: as many as can be searched for in a moment."""
    whole = sorted({number for number in numbers if len(number) == 12 and number.startswith("+1")})
    return whole[:: max(1, len(whole) // 5)][:5]


def forms_of(number: str) -> Forms:
    """Return the forms of a North American number in E.164; each holds its ten national digits."""
    ten = number[2:]
    written = dict(_written(ten))
    forms = {text.encode(): name for name, text in written.items()}
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le"):
        forms |= {text.encode(encoding): f"{name} {encoding}" for name, text in written.items()}
    for name, text in (("digits", ten), ("dashes", written["dashes"])):
        forms |= dict.fromkeys(_base64(text.encode()), f"base64 of {name}")
        forms |= dict.fromkeys(_base32(text.encode()), f"base32 of {name}")
        for encoding in ("ascii", "utf-16-le", "utf-16-be"):
            octets = text.encode(encoding)
            forms |= dict.fromkeys((octets.hex().encode(), octets.hex().upper().encode()), f"hex of {name}")
        forms[text.encode().hex(" ").encode()] = f"hex dump of {name}"
    for value in (int(ten), int(number)):
        forms |= {struct.pack(kind, value): f"integer {kind}" for kind in ("<q", ">q", "<d", ">d")}
        forms[value.to_bytes(6, "big")] = "integer of SQLite"
    forms[bytes.fromhex(ten)] = "BCD"
    forms[bytes.fromhex("".join(ten[n + 1] + ten[n] for n in range(0, 10, 2)))] = "swapped BCD"
    return forms


def _written(ten: str) -> Iterator[tuple[str, str]]:
    area, exchange, line = ten[:3], ten[3:6], ten[6:]
    yield "digits", ten
    yield "reversed", ten[::-1]
    yield "brackets", f"({area}) {exchange}-{line}"
    for name, mark in zip(["dashes", "spaces", "dots", "slashes", "commas", "colons", "low"], "- ./,:_", strict=True):
        yield name, mark.join((area, exchange, line))
        yield f"{name} between digits", mark.join(ten)
    yield "lines", "\n".join(ten)
    for name, escape in (
        ("url", "%{:02X}"),
        ("json", "\\u{:04x}"),
        ("octets", "\\x{:02x}"),
        ("html", "&#{};"),
        ("xml", "&#x{:x};"),
    ):
        yield name, "".join(escape.format(ord(digit)) for digit in ten)
    for name, nought in _DIGITS.items():
        yield name, "".join(chr(nought + int(digit)) for digit in ten)


def _base64(text: bytes) -> Iterator[bytes]:
    """Yield what base64 of the text is whatever stands before and after it, at each of three alignments."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + text)
        yield encoded[(before * 8 + 5) // 6 : (before + len(text)) * 8 // 6]


def _base32(text: bytes) -> Iterator[bytes]:
    for before in range(5):
        encoded = base64.b32encode(b"\0" * before + text)
        yield encoded[(before * 8 + 4) // 5 : (before + len(text)) * 8 // 5]


def search(places: Iterable[Path], numbers: Iterable[str], leave_out: Iterable[Path] = ()) -> list[str]:
    """Return where a number stands, and in what form: in files and what is packed in them, in names, behind links."""
    forms: Forms = {}
    for number in numbers:
        forms |= forms_of(number)
    left_out = set(leave_out)
    return [hit for place in places for path in _under(place) if path not in left_out for hit in _of_path(path, forms)]


def search_bytes(data: bytes, forms: Forms, depth: int = 0) -> Iterator[str]:
    """Yield the forms that stand in some bytes, and in what is packed in them."""
    yield from (name for form, name in forms.items() if form in data)
    if depth < 3:
        for packed in _packed(data):
            yield from (f"packed {name}" for name in search_bytes(packed, forms, depth + 1))


def _under(place: Path) -> Iterator[Path]:
    yield place
    for folder, folders, names in os.walk(place):
        yield from (Path(folder, name) for name in (*folders, *names))


def _of_path(path: Path, forms: Forms) -> Iterator[str]:
    name = os.fsencode(path.name) + (os.fsencode(path.readlink()) if path.is_symlink() else b"")
    yield from (
        f"the name of {path.suffix or 'something'} in {path.parent.name}: {form}" for form in search_bytes(name, forms)
    )
    if path.is_file() and not path.is_symlink():
        yield from (f"{path.parent.name}/{path.name}: {form}" for form in search_bytes(path.read_bytes(), forms))


def _packed(data: bytes) -> Iterator[bytes]:
    """Yield what each member that may begin in these bytes holds, as far as it can be read."""
    for magic, opened in _INSIDE.items():
        for place in _places(data, magic):
            yield from _unpacked(opened(), memoryview(data)[place:])
    for place in _places(data, _ZIP):
        skip = 30 + sum(struct.unpack("<HH", data[place + 26 : place + 30].ljust(4, b"\0")))
        yield from _unpacked(zlib.decompressobj(-15), memoryview(data)[place + skip :])


def _places(data: bytes, magic: bytes) -> Iterator[int]:
    place = data.find(magic)
    while place >= 0:
        yield place
        place = data.find(magic, place + 1)


def _unpacked(
    opened: "zlib._Decompress | bz2.BZ2Decompressor | lzma.LZMADecompressor", data: memoryview
) -> Iterator[bytes]:
    try:
        if inner := opened.decompress(data, 64 << 20):
            yield inner
    except (zlib.error, OSError, lzma.LZMAError, EOFError):
        return
