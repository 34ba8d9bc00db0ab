"""The calls of a day, as one numpy record array: when, who, how they ended, and how they sounded."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from callward.feeds.world import TRUNKS, Ints, World
from schemas.cdr import DIRECTIONS

Calls = np.ndarray[Any, np.dtype[np.void]]
Mask = npt.NDArray[np.bool_]

CODECS: Final = ("PCMU", "PCMA", "G722", "G729", "opus")
INBOUND, OUTBOUND, INTERNAL = (DIRECTIONS.index(word) for word in ("inbound", "outbound", "internal"))

# One row per record that a switch writes. Times are ms since 1970 UTC; 0 = did not happen.
CALL: Final = np.dtype(
    [
        ("serial", "i8"),  # names the record within its source
        ("linked", "i8"),  # names the call: the serial of its first record
        ("born", "i8"),  # start of the call's first attempt
        ("start", "i8"),
        ("ring", "i8"),
        ("answer", "i8"),
        ("end", "i8"),
        ("talk", "i8"),  # ms, as the record states it
        ("caller", "i4"),
        ("called", "i4"),
        ("form", "i1"),  # how the numbers are written (World.written)
        ("account", "i4"),
        ("trunk", "i2"),  # the carrier's side of the call; -1: none
        ("direction", "i1"),
        ("ending", "i1"),
        ("codec", "i1"),
        ("leg", "i2"),  # route attempt, from 0
        ("piece", "i1"),  # what part of a call the record is; each source says its own
        ("file", "i2"),
        ("bucket", "i1"),  # where the record must end: an index into schemas.codes.Bucket
        ("dirt", "i1"),  # how the line is spoilt: an index into dirt.KINDS; 0: sound
        ("loss", "f4"),  # percent
        ("jitter", "f4"),  # ms
        ("mos", "f4"),
    ]
)


@dataclass(frozen=True)
class Ending:
    """How a call ends, in the words of each switch, and how often (share of all attempts)."""

    share: float
    q850: int
    sip: int
    reason: str
    asterisk: str
    freeswitch: str
    rings: float = 0.0  # share of such calls that alerted


ENDINGS: Final = (
    Ending(0.60, 16, 200, "OK", "ANSWERED", "NORMAL_CLEARING", 1.0),
    Ending(0.14, 19, 480, "Temporarily Unavailable", "NO ANSWER", "NO_ANSWER", 1.0),
    Ending(0.10, 16, 487, "Request Terminated", "NO ANSWER", "ORIGINATOR_CANCEL", 0.7),
    Ending(0.08, 17, 486, "Busy Here", "BUSY", "USER_BUSY"),
    Ending(0.02, 21, 603, "Decline", "BUSY", "CALL_REJECTED", 0.5),
    Ending(0.03, 1, 404, "Not Found", "FAILED", "UNALLOCATED_NUMBER"),
    Ending(0.02, 34, 503, "Service Unavailable", "CONGESTION", "NORMAL_CIRCUIT_CONGESTION"),
    Ending(0.01, 38, 500, "Server Internal Error", "FAILED", "NETWORK_OUT_OF_ORDER"),
)
ANSWERED, CONGESTION = 0, 6

# Calls by hour of the local day: quiet nights, two peaks around lunch, an evening shoulder.
_HOURS: Final = (2, 1.2, 0.8, 0.6, 0.7, 1.5, 4, 9, 15, 19, 21, 20, 17, 19, 21, 20, 18, 15, 11, 9, 7.5, 6, 4.5, 3, 2)
_DAY_MS: Final = 86_400_000
_LONGEST_TALK_MS: Final = 4 * 3_600_000

# Whom subscribers call, and who calls them: pool and share.
_CALLED: Final = {
    "subscriber": 0.40,
    "other": 0.50,
    "abroad": 0.05,
    "toll_free": 0.03,
    "feature": 0.015,
    "emergency": 0.005,
}
_CALLING: Final = {"subscriber": 0.25, "other": 0.65, "abroad": 0.04, "withheld": 0.06}
_INSIDE: Final = {"extension": 0.9, "sip_user": 0.1}


def draw(
    rng: np.random.Generator,
    world: World,
    count: int,
    midnight_ms: int,
    *,
    part: tuple[float, float] = (0.0, 1.0),
    first: int = 0,
) -> Calls:
    """Return `count` calls in order of their start, from the 24 hours after midnight_ms (ms UTC).

    Args:
        part: which part of the day's calls (not of its hours) these are; parts side by side make a whole day.
        first: the serial of the first.
    """
    calls = np.zeros(count, CALL)
    calls["serial"] = calls["linked"] = first + np.arange(count)
    calls["start"] = calls["born"] = midnight_ms + _starts(rng, count, part)
    calls["direction"] = _pick(rng, count, {INBOUND: 0.40, OUTBOUND: 0.45, INTERNAL: 0.15})
    calls["form"] = rng.integers(0, 3, count)
    calls["codec"] = _pick(rng, count, {0: 0.55, 1: 0.1, 2: 0.2, 3: 0.05, 4: 0.1})
    _draw_parties(rng, world, calls)
    _draw_course(rng, world, calls)
    _draw_quality(rng, calls)
    return calls


def answered(calls: Calls) -> Mask:
    """Return which records have an answer time."""
    return np.asarray(calls["answer"] > 0)


def zipf(rng: np.random.Generator, sizes: Ints) -> Ints:
    """Return one rank in [0, size) per size, the chance of a rank falling as 1 / (rank + shift)."""
    shift = np.maximum(sizes / 200, 1.0)
    rank = (sizes + shift) ** (u := rng.random(len(sizes))) * shift ** (1 - u) - shift
    return np.asarray(np.minimum(rank.astype(np.int64), sizes - 1))


def _starts(rng: np.random.Generator, count: int, part: tuple[float, float]) -> Ints:
    """Return sorted offsets into the day, in ms, that follow its curve (the inverse of its cumulative sum)."""
    minutes = np.interp(np.arange(1441) / 60, np.arange(25), _HOURS)
    share = np.concatenate([[0.0], np.cumsum((minutes[1:] + minutes[:-1]) / 2)])
    offsets = np.interp(np.sort(rng.uniform(*part, count)) * share[-1], share, np.arange(1441) * 60_000.0)
    return np.asarray(np.minimum(offsets.astype(np.int64), _DAY_MS - 1))


def _pick(rng: np.random.Generator, count: int, shares: dict[int, float]) -> Ints:
    """Return `count` keys of `shares`, drawn by their shares."""
    edges = np.cumsum(list(shares.values()))
    slots = np.searchsorted(edges[:-1] / edges[-1], rng.random(count), side="right")
    return np.asarray(np.fromiter(shares, np.int64)[slots])


def _party(rng: np.random.Generator, world: World, count: int, shares: dict[str, float]) -> Ints:
    names = list(shares)
    slots = _pick(rng, count, dict(enumerate(shares.values())))
    first, size = (np.array([world.pools[name][i] for name in names])[slots] for i in (0, 1))
    return np.asarray(first + zipf(rng, size))


def _draw_parties(rng: np.random.Generator, world: World, calls: Calls) -> None:
    """Fill in caller, called, account and trunk: a subscriber on one side, the world on the other."""
    count, inside = len(calls), calls["direction"] == INTERNAL
    inbound = calls["direction"] == INBOUND
    subscriber = _party(rng, world, count, {"subscriber": 1.0})
    calls["caller"] = np.where(inbound, _party(rng, world, count, _CALLING), subscriber)
    calls["called"] = np.where(inbound, subscriber, _party(rng, world, count, _CALLED))
    calls["caller"][inside] = _party(rng, world, int(inside.sum()), {"extension": 1.0})
    calls["called"][inside] = _party(rng, world, int(inside.sum()), _INSIDE)
    calls["account"] = world.account_of(subscriber)
    calls["trunk"] = np.where(inside, -1, zipf(rng, np.full(count, len(TRUNKS))))


def _draw_course(rng: np.random.Generator, world: World, calls: Calls) -> None:
    """Fill in ending, ring, answer and end; a post-dial delay, a ringing time and a talk time make them."""
    count = len(calls)
    ending = _pick(rng, count, {n: ending.share for n, ending in enumerate(ENDINGS)})
    ending[calls["called"] == world.pools["emergency"][0]] = ANSWERED
    alerted = rng.random(count) < np.array([e.rings for e in ENDINGS])[ending]
    delay = np.clip(rng.lognormal(7.4, 0.5, count), 150, 15_000).astype(np.int64)
    ringing = np.where(alerted, np.clip(rng.lognormal(9.1, 0.7, count), 300, 60_000), 0).astype(np.int64)
    talk = np.minimum(rng.lognormal(11.2, 1.2, count), _LONGEST_TALK_MS).astype(np.int64)
    talk[rng.random(count) < 0.01] = 0  # answered and cleared within the same moment
    connected = calls["start"] + delay + ringing
    calls["ending"] = ending
    calls["ring"] = np.where(alerted, calls["start"] + delay, 0)
    calls["answer"] = np.where(ending == ANSWERED, connected, 0)
    calls["end"] = np.where(ending == ANSWERED, connected + talk, connected)


def _draw_quality(rng: np.random.Generator, calls: Calls) -> None:
    """Fill in loss, jitter and mos; most calls are clean, some are not, and MOS falls with loss and jitter."""
    count = len(calls)
    calls["loss"] = np.where(rng.random(count) < 0.8, 0, rng.exponential(1.2, count)).round(2)
    calls["jitter"] = np.minimum(rng.lognormal(0.7, 0.9, count), 200).round(2)
    calls["mos"] = np.clip(4.41 - 0.28 * calls["loss"] - 0.008 * calls["jitter"], 1, 4.5).round(2)
