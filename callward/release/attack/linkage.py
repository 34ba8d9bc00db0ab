"""What times and durations still link: rows of the billing view looked for in the assurance view.

No key, id or token is in both. But both describe the same calls: assurance has the minute of the start, talk in steps
of 6 s, ringing in seconds, the delay before it; billing has milliseconds. Who could read both would join them so.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from callward.release.attack.attacks import Ints, Mask, linkage, owners_named

BILLING_COLUMNS: Final = ("source", "account", "carrier_in", "carrier_out", "start", "answer", "talk_ms")
ASSURANCE_COLUMNS: Final = (
    *("source", "account_token", "trunk_in", "trunk_out", "start", "ring_s", "talk_s", "pdd_ms", "disposition"),
)
_TALK_STEP_S: Final = 6
_UNKNOWN: Final = -1

Column = npt.NDArray[Any]


class Linked(NamedTuple):
    """What an attacker with both views gets who compares so much.

    Attributes:
        compared: in words.
        linked: share of billing rows with exactly one assurance row that fits, and that is theirs.
        mistaken: share with exactly one that fits, which is another's (what was stated otherwise than it happened).
        candidates: assurance rows that fit a billing row, on average.
        accounts: share of billing accounts whose token in assurance one linked row gives away.
    """

    compared: str
    linked: float
    mistaken: float
    candidates: float
    accounts: float


@dataclass(frozen=True, eq=False)
class Views:
    """Answered calls of both views as columns to compare; `truth` names the call in both, for the count alone."""

    billing: Mapping[str, Column]
    assurance: Mapping[str, Column]
    owner: Column
    truth: tuple[Ints, Ints]

    @classmethod
    def of(
        cls, billing: pa.Table, assurance: pa.Table, carriers: Mapping[str, str], truth: tuple[Ints, Ints]
    ) -> "Views":
        """Tables with BILLING_COLUMNS and ASSURANCE_COLUMNS; `carriers` says whose each trunk is."""
        billed = np.asarray(pc.is_valid(billing["answer"]))
        answered = np.asarray(pc.equal(assurance["disposition"], "answered").fill_null(False))
        billing, assurance = billing.filter(pa.array(billed)), assurance.filter(pa.array(answered))
        start, answer = _whole(billing["start"]), _whole(billing["answer"])
        step = 1000 * _TALK_STEP_S
        left = {
            "start_ms": start,
            "talk_s": -(-_whole(billing["talk_ms"]) // step) * _TALK_STEP_S,
            "wait_ms": answer - start,
            **{name: _words(billing[name]) for name in ("source", "carrier_in", "carrier_out")},
        }
        right = {
            "start_ms": _whole(assurance["start"]),
            **{name: _whole(assurance[name]) for name in ("talk_s", "ring_s", "pdd_ms")},
            "source": _words(assurance["source"]),
            "carrier_in": _carriers(assurance["trunk_in"], carriers),
            "carrier_out": _carriers(assurance["trunk_out"], carriers),
        }
        return cls(left, right, _words(billing["account"]), (truth[0][billed], truth[1][answered]))


def linkages(views: Views) -> list[Linked]:
    """Step by step what more knowledge links; then the same with everything in coarser steps than assurance has."""
    minute = _by("start_ms", 60_000)
    talk, places = _by("talk_s", 1), [_by(name) for name in ("source", "carrier_in", "carrier_out")]
    return [
        _linked(views, "the minute of the start", [minute]),
        _linked(views, "… and talk in steps of 6 s", [minute, talk]),
        _linked(views, "… and source and carriers", [minute, talk, *places]),
        _linked(views, "… and ringing and delay", [minute, talk, *places], _same_wait(views)),
        _linked(views, "if assurance had talk in minutes, and no ringing", [minute, _by("talk_s", 60), *places]),
        _linked(views, "if it had the quarter of an hour, too", [_by("start_ms", 900_000), _by("talk_s", 60), *places]),
        _linked(views, "if it had the hour, and no talk", [_by("start_ms", 3_600_000), *places]),
    ]


_Compared = Callable[[Mapping[str, Column]], Column]


def _by(name: str, step: int = 0) -> _Compared:
    """Return a column of either view, in whole steps."""
    return lambda columns: columns[name] // step if step else columns[name]


def _linked(
    views: Views, compared: str, by: list[_Compared], fits: Callable[[Ints, Ints], Mask] | None = None
) -> Linked:
    joined = linkage([column(views.billing) for column in by], [column(views.assurance) for column in by], fits)
    right = views.truth[0][joined.left] == views.truth[1][joined.right]
    linked = float(right.sum()) / max(len(views.owner), 1)
    true = joined._replace(linked=linked, left=joined.left[right], right=joined.right[right])
    return Linked(compared, linked, joined.linked - linked, joined.candidates, owners_named(views.owner, true))


def _same_wait(views: Views) -> Callable[[Ints, Ints], Mask]:
    """From start to answer lie the delay and the ringing, which assurance cuts to whole seconds."""
    wait, ring, delay = views.billing["wait_ms"], views.assurance["ring_s"], views.assurance["pdd_ms"]

    def fits(left: Ints, right: Ints) -> Mask:
        unknown = (ring[right] < 0) | (delay[right] < 0)
        return np.asarray(unknown | ((wait[left] - delay[right]) // 1000 == ring[right]))

    return fits


def _whole(column: pa.ChunkedArray) -> Ints:
    """Whole numbers or ms since 1970; unknown is -1."""
    numbers = column if pa.types.is_integer(column.type) else column.cast(pa.int64())
    return np.asarray(numbers.fill_null(_UNKNOWN), np.int64)


def _words(column: pa.ChunkedArray) -> Ints:
    """Text as numbers that are equal in both views: hashes, as positions in a dictionary would not be."""
    return _hashed(column, str)


def _carriers(trunks: pa.ChunkedArray, carriers: Mapping[str, str]) -> Ints:
    return _hashed(trunks, lambda name: carriers.get(name, ""))


def _hashed(column: pa.ChunkedArray, key_of: Callable[[str], str]) -> Ints:
    encoded = column.cast(pa.string()).fill_null("").combine_chunks().dictionary_encode()
    hashes = np.array([hash(key_of(word)) for word in encoded.dictionary.to_pylist()], np.int64)
    return np.asarray(hashes[np.asarray(encoded.indices)], np.int64)
