"""Asterisk's Master.csv, 21 columns (uniqueid, userfield and the newer columns on), in local time, a file an hour."""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.feeds import dirt, text
from callward.feeds.calls import CONGESTION, ENDINGS, INBOUND, INTERNAL, Calls, answered, draw
from callward.feeds.delivery import Delivery, hours, ordered
from callward.feeds.world import TRUNKS, World, account_codes

LOCAL = 1  # the `piece` of a local channel's inner half
RESENT: Final = 10  # the hour whose file is delivered twice; nothing in it is dirty or left out
_KINDS: Final = ("torn", "bad_date", "columns", "encoding")


def asterisk(rng: np.random.Generator, world: World, count: int, midnight_ms: int, zone: str, share: float) -> Delivery:
    """Return about `count` calls of one switch, with further routes, forwarded calls, repeats, conflicts and dirt."""
    calls = _further_routes(rng, draw(rng, world, count, midnight_ms))
    calls["file"] = hours(calls, midnight_ms)
    calls = _forwarded(rng, calls)
    calls["talk"] = np.where(answered(calls), (calls["end"] - calls["answer"]) // 1000 * 1000, 0)
    calls = _gone_wrong(rng, calls, share)
    resent = calls[calls["file"] == RESENT]
    resent["file"], resent["bucket"] = 24, dirt.DUPLICATE
    calls = ordered(np.concatenate([calls, resent]))
    lines = text.csv_lines(table(world, calls, zone))
    stem = np.datetime_as_string(np.datetime64(midnight_ms + 43_200_000, "ms"), "D").replace("-", "")
    names = [f"Master-{stem}-{hour:02d}.csv" for hour in range(24)] + [f"Master-{stem}-{RESENT:02d}_resent.csv"]
    return Delivery(names, calls, dirt.spoil(lines, calls["dirt"], b","))


def table(world: World, calls: Calls, zone: str) -> pa.Table:
    """Return the 21 columns; strings are quoted and integers bare when pyarrow writes them, as cdr_csv does."""
    caller = world.written(calls["caller"], calls["form"])
    called = world.written(calls["called"], calls["form"])
    inside, outside = _channels(calls, called)
    inbound, reached = pa.array(calls["direction"] == INBOUND), pa.array(calls["ring"] + calls["answer"] > 0)
    count = len(calls)
    born = text.numbers(calls["born"] // 1000)
    columns = {
        "accountcode": account_codes(np.where(calls["piece"] == LOCAL, -1, calls["account"])),
        "src": caller,
        "dst": called,
        "dcontext": text.either(calls["direction"] == INBOUND, "from-trunk", "from-internal"),
        "clid": pc.binary_join_element_wise('"DESK ', text.numbers(calls["caller"] % 97), '" <', caller, ">", ""),
        "channel": pc.if_else(inbound, outside, inside),
        "dstchannel": pc.if_else(reached, pc.if_else(inbound, inside, outside), ""),
        "lastapp": text.either(calls["ending"] == CONGESTION, "Congestion", "Dial"),
        "lastdata": pc.binary_join_element_wise(
            "PJSIP/", called, "@", text.chosen(TRUNKS, calls["trunk"]), ",60,tT", ""
        ),
        "start": text.stamps(calls["start"], zone),
        "answer": text.stamps(calls["answer"], zone),
        "end": text.stamps(calls["end"], zone),
        "duration": pa.array((calls["end"] - calls["start"]) // 1000),
        "billsec": pa.array(calls["talk"] // 1000),
        "disposition": text.chosen([e.asterisk for e in ENDINGS], calls["ending"]),
        "amaflags": text.repeated("DOCUMENTATION", count),
        "uniqueid": pc.binary_join_element_wise(born, text.numbers(calls["serial"]), "."),
        "userfield": text.repeated("", count),
        "peeraccount": text.either(calls["direction"] == INTERNAL, "internal", ""),
        "linkedid": pc.binary_join_element_wise(born, text.numbers(calls["linked"]), "."),
        "sequence": pa.array(calls["serial"] * 4 + calls["leg"]),
    }
    return pa.table(columns)


def _further_routes(rng: np.random.Generator, calls: Calls) -> Calls:
    """Return calls of which some failed on a first carrier: one more record before theirs, of the same uniqueid."""
    chosen = np.flatnonzero((rng.random(len(calls)) < 0.03) & (calls["trunk"] >= 0) & (calls["direction"] != INBOUND))
    first = calls[chosen]
    first["ring"] = first["answer"] = 0
    first["end"], first["ending"] = first["start"] + 300, CONGESTION
    calls["leg"][chosen] = 1
    calls["trunk"][chosen] = (calls["trunk"][chosen] + 1) % len(TRUNKS)
    for moment in ("start", "ring", "answer", "end"):
        calls[moment][chosen] += np.where(calls[moment][chosen] > 0, 400, 0)
    return np.concatenate([calls, first])


def _forwarded(rng: np.random.Generator, calls: Calls) -> Calls:
    """Return calls of which some were forwarded through a local channel, whose inner half is an unanswered record."""
    inner = calls[(rng.random(len(calls)) < 0.02) & (calls["direction"] != INBOUND) & (calls["file"] != RESENT)]
    inner["serial"] = calls["serial"].max(initial=0) + 1 + np.arange(len(inner))
    inner["leg"] = inner["ring"] = inner["answer"] = 0
    inner["ending"], inner["piece"], inner["bucket"] = 1, LOCAL, dirt.FILTERED
    return np.concatenate([calls, inner])


def _gone_wrong(rng: np.random.Generator, calls: Calls, share: float) -> Calls:
    clean = calls["file"] == RESENT
    rest = dirt.contradict(rng, calls[~clean], share)
    rest["talk"] = np.where(answered(rest), (rest["end"] - rest["answer"]) // 1000 * 1000, 0)
    dirt.mark(rng, rest, _KINDS, share / 4)
    return np.concatenate([dirt.repeat(rng, rest, share * 2), calls[clean]])


def _channels(calls: Calls, called: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Return names of the channel on our side, and on the carrier's (or, on calls between us, the other phone's)."""
    local, inside = calls["piece"] == LOCAL, calls["trunk"] < 0
    forwarding = pc.binary_join_element_wise("Local/", called, "@from-internal-", "")
    names = pc.if_else(pa.array(local), forwarding, "PJSIP/desk-")
    ours = pc.binary_join_element_wise(names, text.hexes(calls["serial"] * 2), text.either(local, ";2", ""), "")
    far = pc.if_else(pa.array(inside), "desk", text.chosen(TRUNKS, calls["trunk"]))
    return ours, pc.binary_join_element_wise("PJSIP/", far, "-", text.hexes(calls["serial"] * 2 + 1), "")
