"""OpenSIPS accounting as a flat store: a line per SIP transaction, INVITE and BYE in files of their own, unordered."""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.feeds import dirt, text
from callward.feeds.calls import ENDINGS, INBOUND, Calls, Mask, answered, draw
from callward.feeds.delivery import Delivery, hours, ordered
from callward.feeds.world import TRUNKS, Ints, World, account_codes

_OPEN, _CLOSE, _CHALLENGE, _MESSAGE = range(4)  # the `piece` of a record
_METHODS: Final = ("INVITE", "BYE", "INVITE", "MESSAGE")
_LATE: Final = 49  # the BYEs of the night after; before it, INVITEs at even and BYEs at odd
_LAST_FILE_ENDS_MS: Final = 85_200_000  # at 23:40 the day's last file is taken away
_DISORDER_MS: Final = 90_000

# Seven columns of the module, then the site's: kind, calling, called, account, dialog, trunks.
_HEAD: Final = "<<method>>|<<from>>|<<to>>|<<serial>>-<<tag>>@192.0.2.30|<<code>>|<<reason>>|<<time>>"
_SITE: Final = "|*postpaid|<<caller>>|<<called>>|<<account>>|<<dialog>>|<<trunk_in>>|<<trunk_out>>"
_SITE_OF_BYE: Final = "|||||<<dialog>>||"


def opensips(rng: np.random.Generator, world: World, count: int, midnight_ms: int, zone: str, share: float) -> Delivery:
    """Return `count` calls as transactions; some lack one half, some are closed only in the file of the night after."""
    opened = draw(rng, world, count, midnight_ms)
    closed = _closing(opened, midnight_ms)
    opened["file"] = _hour(_moment(opened), midnight_ms) * 2
    opened, closed = _lose(rng, opened, closed)
    late = np.isin(opened["serial"], closed["serial"][closed["file"] == _LATE])
    opened["bucket"][late] = dirt.PENDING
    dirt.mark(rng, opened, ("torn",), share)
    others = _no_calls(rng, opened, midnight_ms)
    night = closed["file"] != _LATE
    closed = np.concatenate([dirt.repeat(rng, closed[night], share, step=2), closed[~night]])
    calls = np.concatenate([dirt.repeat(rng, opened, share, step=2), closed, others])
    calls = ordered(calls, _moment(calls) + rng.integers(0, _DISORDER_MS, len(calls)))
    lines = dirt.spoil(_lines(world, calls), calls["dirt"], b"|")
    return Delivery(
        [f"acc_{method}_{hour:02d}.log" for hour in range(25) for method in ("a_invite", "b_bye")],
        calls,
        lines,
        late=frozenset({_LATE}),
        late_bucket=_late_bucket(calls, closed["serial"][closed["file"] == _LATE]),
        paired_ms=_talk(calls, closed["serial"][closed["bucket"] == dirt.MERGED]),
    )


def _closing(opened: Calls, midnight_ms: int) -> Calls:
    """Return the BYE of each answered call."""
    closed = opened[answered(opened)]
    closed["piece"], closed["bucket"] = _CLOSE, dirt.MERGED
    after = closed["end"] >= midnight_ms + _LAST_FILE_ENDS_MS
    closed["file"] = np.where(after, _LATE, hours(closed, midnight_ms) * 2 + 1)
    return closed


def _lose(rng: np.random.Generator, opened: Calls, closed: Calls) -> tuple[Calls, Calls]:
    """Return calls of which a few BYEs and a few INVITEs were never written; the other half of each waits."""
    chance = rng.random(len(opened))
    no_bye = opened["serial"][(chance < 0.003) & answered(opened)]
    no_invite = opened["serial"][(chance > 0.998) & answered(opened)]
    opened["bucket"][np.isin(opened["serial"], no_bye)] = dirt.PENDING
    closed["bucket"][np.isin(closed["serial"], no_invite)] = dirt.PENDING
    return opened[~np.isin(opened["serial"], no_invite)], closed[~np.isin(closed["serial"], no_bye)]


def _no_calls(rng: np.random.Generator, opened: Calls, midnight_ms: int) -> Calls:
    """Return challenges (407) before a tenth of the calls, and text messages: neither is an attempt."""
    challenged = opened[(opened["direction"] != INBOUND) & (rng.random(len(opened)) < 0.1)]
    challenged["piece"] = _CHALLENGE
    messages = opened[rng.random(len(opened)) < 0.005]
    messages["piece"] = _MESSAGE
    messages["serial"] += opened["serial"].max(initial=0) + 1
    others = np.concatenate([challenged, messages])
    others["end"] = others["start"] + 20
    others["answer"] = others["ring"] = others["dirt"] = 0
    others["bucket"] = dirt.FILTERED
    others["file"] = _hour(others["end"], midnight_ms) * 2
    return others


def _moment(calls: Calls) -> Ints:
    """Return when the transaction was done: the answer or failure of an INVITE, the end of a call."""
    answer = (calls["piece"] == _OPEN) & answered(calls)
    return np.where(answer, calls["answer"], calls["end"])


def _hour(moment: Ints, midnight_ms: int) -> Ints:
    return np.clip((moment - midnight_ms) // 3_600_000, 0, 23)


def _late_bucket(calls: Calls, late: Ints) -> Ints:
    """Return each record's bucket once the late files were read too: calls that were closed late are accepted."""
    closed = np.isin(calls["serial"], late) & (calls["piece"] == _OPEN) & (calls["bucket"] == dirt.PENDING)
    return np.where(closed, dirt.ACCEPTED, calls["bucket"])


def _talk(calls: Calls, paired: Ints) -> Ints:
    """Return the talk time of each call that has both halves, at its INVITE: whole seconds between the two."""
    opens = (calls["piece"] == _OPEN) & answered(calls) & np.isin(calls["serial"], paired)
    return np.where(opens, (calls["end"] // 1000 - calls["answer"] // 1000) * 1000, 0)


def _lines(world: World, calls: Calls) -> pa.Array:
    challenge, closing = calls["piece"] == _CHALLENGE, calls["piece"] >= _CLOSE
    endings = (*((e.sip, e.reason) for e in ENDINGS), (407, "Proxy Authentication Required"), (200, "OK"))
    inbound = calls["direction"] == INBOUND
    ending = np.where(challenge, len(ENDINGS), np.where(closing, len(ENDINGS) + 1, calls["ending"]))
    columns = _tags(calls) | {
        "method": text.chosen(_METHODS, calls["piece"]),
        "serial": text.numbers(calls["serial"]),
        "tag": text.hexes(calls["born"] + calls["serial"] * 48271),
        "code": text.numbers(np.array([code for code, _ in endings])[ending]),
        "reason": text.chosen([reason for _, reason in endings], ending),
        "time": text.numbers(_moment(calls) // 1000),
        "caller": world.written(calls["caller"], calls["form"]),
        "called": world.written(calls["called"], calls["form"]),
        "account": account_codes(np.asarray(calls["account"])),
        "trunk_in": text.chosen(TRUNKS, np.where(inbound, calls["trunk"], -1)),
        "trunk_out": text.chosen(TRUNKS, np.where(inbound, -1, calls["trunk"])),
        "dialog": pc.binary_join_element_wise(text.numbers(calls["serial"] % 4096), text.numbers(calls["linked"]), ":"),
    }
    site = pc.if_else(pa.array(calls["piece"] == _CLOSE), text.fill(_SITE_OF_BYE, columns), text.fill(_SITE, columns))
    return pc.binary_join_element_wise(text.fill(_HEAD, columns), site, "")


def _tags(calls: Calls) -> dict[str, pa.Array]:
    """Return the dialog's tags; they change sides where the called party sends the BYE; a 407 has one of its own."""
    calling, called = text.hexes(calls["serial"] * 16807 + 1), text.hexes(calls["serial"] * 69621 + 2)
    own = text.hexes(calls["serial"] * 39373 + 3)
    swapped: Mask = (calls["piece"] == _CLOSE) & (calls["serial"] % 5 < 2)
    called = pc.if_else(pa.array(calls["piece"] == _CHALLENGE), own, called)
    return {
        "from": pc.if_else(pa.array(swapped), called, calling),
        "to": pc.if_else(pa.array(swapped), calling, called),
    }
