"""What a sweep read, and its hits. Holds no number."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Final

# What no sweep finds, also where a number on the list stands there so. docs/threat-model.md repeats it.
NOT_FOUND: Final = (
    "numbers that are not on the list",
    "local numbers without their area code",
    "raw deflate, raw LZMA, snappy, Brotli, lz4 blocks without a frame, zlib of a smaller window than 32 KiB",
    "members within five members, and what an encrypted archive holds",
    "32-bit integers, packed decimals of other kinds, reversed digits of fewer than ten",
    "BCD, reversed BCD and binary integers within base64, base32 or hex",
    "base32 with the extended hex alphabet, base32 of UTF-16, base58, base85, quoted-printable, uuencode",
    "digits spelled as words, Roman or CJK numerals, digits with more than three separators between two",
    "escapes within escapes, hex dumps whose number runs over a line's end",
    "what the border of a database page cuts, extended attributes, deleted files, memory, swap",
)


@dataclass(frozen=True, order=True)
class Hit:
    """Numbers in the clear: where the first digit stands, the country code not counted.

    All hits of one form in one compressed member are one: its offset is where the outermost member starts.
    """

    file: PurePath
    offset: int
    form: str


@dataclass
class Report:
    """What was read, and the hits in it. Holds no number.

    `expected_chance_hits` is how many hits the same bytes would give if they held no number: the sum, over forms and
    lengths, of windows looked at x numbers of that length / 10^length (x the share that looks framed, for forms that
    need framing). For random bytes this is bytes x numbers x 2^-bits of the form; for text it is larger, because
    timestamps and ids are digits too.
    """

    files: int = 0
    bytes: int = 0
    hits: list[Hit] = field(default_factory=list)
    expected_chance_hits: float = 0.0
    left_out: int = 0  # files that the caller asked to leave out
    unreadable: list[PurePath] = field(default_factory=list)  # vanished, refused, or damaged under the reader
    unfinished: list[PurePath] = field(
        default_factory=list
    )  # left early: too many hits, or a member that inflates too far
    short_numbers: int = 0  # numbers too short to look for

    def include(self, file: PurePath, hits: Iterable[Hit], chance: float, unfinished: bool) -> None:
        """Add the hits of one file, those expected by `chance`, and whether it was left early."""
        self.hits += sorted(hits)
        self.expected_chance_hits += chance
        if unfinished:
            self.unfinished.append(file)

    def as_json(self) -> dict[str, Any]:
        """Return the document of ``callward sweep --json``."""
        return {
            "files": self.files,
            "bytes": self.bytes,
            "hits": [{"file": str(hit.file), "offset": hit.offset, "form": hit.form} for hit in self.hits],
            "expected_chance_hits": self.expected_chance_hits,
            "left_out": self.left_out,
            "unreadable": [str(path) for path in self.unreadable],
            "unfinished": [str(path) for path in self.unfinished],
            "short_numbers": self.short_numbers,
            "not_found": list(NOT_FOUND),
        }
