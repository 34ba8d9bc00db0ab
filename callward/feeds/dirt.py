"""What goes wrong on the way: repeats, conflicting versions and spoilt lines, each with a bucket known beforehand."""

import re
from collections.abc import Callable
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.feeds.calls import Calls, Mask, answered
from callward.feeds.world import Ints
from schemas.codes import Bucket

ACCEPTED, MERGED, DUPLICATE, SUSPENDED, FILTERED, PENDING, *_ = range(len(Bucket))

_DATE: Final = re.compile(rb"(\d{4})-\d\d-\d\d")

# How a line is spoilt. "conflict" is no damage to the line: an earlier version of a record that was sent again.
KINDS: Final = ("", "conflict", "torn", "bad_date", "columns", "encoding")
CONFLICT: Final = KINDS.index("conflict")
LATER_BY_MS: Final = 6000  # how much longer the second version of a record says that the call lasted


def repeat(rng: np.random.Generator, calls: Calls, share: float, step: int = 1) -> Calls:
    """Return the records, and copies of some accepted or merged ones: each a duplicate, some `step` files late."""
    sound = np.isin(calls["bucket"], (ACCEPTED, MERGED)) & (calls["dirt"] == 0)
    copies = calls[_choose(rng, sound, share)]
    copies["bucket"] = DUPLICATE
    last = copies["file"] + step > calls["file"].max(initial=0)
    copies["file"] += np.where((rng.random(len(copies)) < 0.3) & ~last, step, 0).astype(np.int16)
    return np.concatenate([calls, copies])


def contradict(rng: np.random.Generator, calls: Calls, share: float) -> Calls:
    """Return the records, and longer versions of some unanswered ones: the longer is the row, the first a conflict.

    Call it before `repeat`: a copy of a version that lost would be one more conflict.
    """
    chosen = _choose(rng, _untouched(calls) & ~answered(calls) & _alone(calls), share)
    longer = calls[chosen]
    longer["end"] += LATER_BY_MS
    calls["bucket"][chosen], calls["dirt"][chosen] = SUSPENDED, CONFLICT
    return np.concatenate([calls, longer])


def mark(rng: np.random.Generator, calls: Calls, kinds: tuple[str, ...], share: float) -> None:
    """Mark some records for spoiling, at least one of each kind where there are any.

    Only unanswered calls that have no second copy: so a spoilt line takes no talk time with it.
    """
    for kind in kinds:
        free = _untouched(calls) & ~answered(calls) & _alone(calls)
        chosen = _choose(rng, free, share)
        calls["bucket"][chosen], calls["dirt"][chosen] = SUSPENDED, KINDS.index(kind)


def spoil(lines: pa.Array, dirt: Ints, separator: bytes) -> pa.Array:
    """Return the lines as bytes, those that are marked damaged in their way (a loop over the few)."""
    data, marked = lines.cast(pa.large_binary()), np.asarray(dirt) > CONFLICT
    odd = data.filter(pa.array(marked)).to_pylist()
    damaged = [_DAMAGE[KINDS[kind]](line, separator) for line, kind in zip(odd, dirt[marked].tolist(), strict=True)]
    return pc.replace_with_mask(data, pa.array(marked), pa.array(damaged, pa.large_binary()))


def _tear(line: bytes, _: bytes) -> bytes:
    return line[: len(line) // 3]


def _misdate(line: bytes, _: bytes) -> bytes:
    return _DATE.sub(rb"\1-02-30", line, count=1)


def _widen(line: bytes, separator: bytes) -> bytes:
    return line + separator + separator.join([b'"extra"'] * 9)


def _garble(line: bytes, _: bytes) -> bytes:
    """Return a byte that UTF-8 does not have, in the first number if there is one."""
    return line.replace(b"555", b"5\xff5", 1) if b"555" in line else line[:2] + b"\xff" + line[2:]


_DAMAGE: Final[dict[str, Callable[[bytes, bytes], bytes]]] = {
    "torn": _tear,
    "bad_date": _misdate,
    "columns": _widen,
    "encoding": _garble,
}


def _untouched(calls: Calls) -> Mask:
    return np.asarray((calls["bucket"] == ACCEPTED) & (calls["dirt"] == 0))


def _alone(calls: Calls) -> Mask:
    """Return which records are the only ones of their serial and leg."""
    keys = calls["serial"] * 4 + calls["leg"]
    _, back, times = np.unique(keys, return_inverse=True, return_counts=True)
    return np.asarray(times[back] == 1)


def _choose(rng: np.random.Generator, free: Mask, share: float) -> Ints:
    """Return positions of a share of the free ones: at least one, where the share is not 0 and one is free."""
    spots = np.flatnonzero(free)
    count = min(len(spots), max(1, round(share * len(free)))) if share > 0 else 0
    return np.sort(rng.choice(spots, count, replace=False))
