"""One stream of bytes swept as it passes, with the compressed members in it."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from callward.sweep.forms import FileState, find_forms
from callward.sweep.unpackers import BROKEN, MAGICS, TRIAL_BYTES, UNPACKERS, Chunk, TooFar, Unpacker, begins

DEEPEST: Final = 4  # members within members
_BODY_BYTES: Final = 1 << 19  # bytes swept at once: the arrays of one step then fit the cache
_AHEAD_BYTES: Final = 512  # longer than any form of a number
_BEHIND_BYTES: Final = 128  # what a form may need to see before its first digit
_OPEN_MEMBERS: Final = 64  # members that one stream may have open at once


class StreamScanner:
    """Sweeps one stream of bytes as it passes: the file's own, or what a compressed member holds."""

    def __init__(self, file: FileState, layers: str = "", anchor: int | None = None, depth: int = 0) -> None:
        self._file, self._layers, self._anchor, self._depth = file, layers, anchor, depth
        self._base = 0  # place in the stream of the first byte held
        self._held = bytearray()
        self._own = 0  # first byte held whose hits have not been reported yet
        self._passed = 0
        self._tail = b""
        self._members: list[_Member] = []

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self._feed_members(data)
        for start in range(0, len(data), _BODY_BYTES):
            self._held += data[start : start + _BODY_BYTES]
            if len(self._held) >= _BODY_BYTES:
                self._sweep_held(len(self._held) - _AHEAD_BYTES)

    def close(self) -> None:
        """End the stream, and the members that are open in it."""
        for member in self._members:
            member.close()
        self._members = []
        self._sweep_held(len(self._held))

    def _feed_members(self, data: bytes) -> None:
        for member in self._members:
            member.feed(data)
        for start, kind in self._magics(data):
            if begins(kind, self._held_from(start, data)):
                self._open_member(kind, start, data)
        self._members = [member for member in self._members if not member.over]
        self._tail = (self._tail + data)[-5:]
        self._passed += len(data)

    def _held_from(self, start: int, data: bytes) -> bytes:
        """Return the first bytes from `start` on, a place in the tail and the data."""
        past = max(0, start - len(self._tail))
        return self._tail[start:] + data[past : past + TRIAL_BYTES]

    def _open_member(self, kind: str, start: int, data: bytes) -> None:
        """Open a member of this kind that may begin `start` bytes into the tail and the data."""
        if len(self._members) >= _OPEN_MEMBERS:
            self._members = [member for member in self._members if not member.over]
        if len(self._members) >= _OPEN_MEMBERS:
            self._file.unfinished = True
            return
        place = self._passed - len(self._tail) + start
        anchor = place if self._anchor is None else self._anchor
        inner = StreamScanner(self._file, f"{self._layers}{kind}/", anchor, self._depth + 1)
        member = _Member(UNPACKERS[kind](), inner, self._file)
        if start < len(self._tail):
            member.feed(self._tail[start:])
        member.feed(memoryview(data)[max(0, start - len(self._tail)) :])
        self._members.append(member)

    def _magics(self, data: bytes) -> list[tuple[int, str]]:
        """Return where members begin, at most five bytes back (then not seen whole before)."""
        if self._depth == DEEPEST:
            return []
        seam = self._tail + data[:5]
        tail = len(self._tail)
        places = [(place, kind) for place, magic, kind in _finds(seam) if place < tail < place + len(magic)]
        places += [(place + tail, kind) for place, _, kind in _finds(data)]
        return sorted(places)

    def _sweep_held(self, end: int) -> None:
        """Report the hits that begin before `end`, and keep what the next ones need to see."""
        octets = np.frombuffer(bytes(self._held), np.uint8)
        if octets.any() and not self._file.full:
            for place, form in find_forms(octets, self._file):
                if self._own <= place < end:
                    self._file.add(self._base + place if self._anchor is None else self._anchor, self._layers + form)
        drop = max(0, end - _BEHIND_BYTES)
        del self._held[:drop]
        self._base += drop
        self._own = end - drop


_BY_FIRST: Final = {first: [(m, kind) for m, kind in MAGICS if m[0] == first] for first in {m[0] for m, _ in MAGICS}}


def _finds(data: bytes) -> Iterator[tuple[int, bytes, str]]:
    """Yield where each magic stands (numpy: bytes.find is slow for so short a word), the magic, and its kind."""
    octets = np.frombuffer(data, np.uint8)
    for first, magics in _BY_FIRST.items():
        begins_so = np.flatnonzero(octets == first)
        for magic, kind in magics:
            at = begins_so[begins_so <= len(octets) - len(magic)]
            for step in range(1, len(magic)):
                at = at[octets[at + step] == magic[step]]
            yield from ((int(place), magic, kind) for place in at)


class _Member:
    """One compressed member: its bytes go in, what they hold goes to a scanner of its own. Never raises."""

    def __init__(self, unpacker: Unpacker, inner: StreamScanner, file: FileState) -> None:
        self._unpacker, self._inner, self._file = unpacker, inner, file
        self.over = False

    def feed(self, data: Chunk) -> None:
        """Take the next bytes of the stream; those after the member's end are ignored."""
        if not self.over and (self._pass_on(self._unpacker.feed(data)) or self._unpacker.over):
            self._end()

    def close(self) -> None:
        """End the member where the stream around it ends."""
        if not self.over:
            self._pass_on(self._unpacker.close())
            self._end()

    def _end(self) -> None:
        self.over = True
        self._inner.close()

    def _pass_on(self, pieces: Iterator[bytes]) -> bool:
        """Scan the pieces; return whether the member is broken or inflates too far."""
        try:
            for piece in pieces:
                self._file.room -= len(piece)
                if self._file.room < 0:
                    raise TooFar
                self._inner.feed(piece)
                if self._file.full:
                    return True
        except TooFar:
            self._file.unfinished = True
            return True
        except BROKEN:
            return True
        return False
