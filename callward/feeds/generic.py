"""A switch of no known make: CSV with a header whose columns bear the canonical names, UTC times, milliseconds."""

import numpy as np
import pyarrow as pa

from callward.feeds import dirt, text
from callward.feeds.calls import CODECS, ENDINGS, INBOUND, Calls, answered, draw
from callward.feeds.delivery import Delivery, hours, ordered
from callward.feeds.world import TRUNKS, World, account_codes
from schemas.cdr import DIRECTIONS


def generic(rng: np.random.Generator, world: World, count: int, midnight_ms: int, zone: str, share: float) -> Delivery:
    """Return `count` calls in a compressed file for every six hours."""
    calls = draw(rng, world, count, midnight_ms)
    calls["file"] = hours(calls, midnight_ms) // 6
    calls["talk"] = np.where(answered(calls), calls["end"] - calls["answer"], 0)
    calls = dirt.contradict(rng, calls, share)
    calls["talk"] = np.where(answered(calls), calls["end"] - calls["answer"], 0)
    dirt.mark(rng, calls, ("torn", "bad_date", "columns", "encoding"), share / 4)
    calls = ordered(dirt.repeat(rng, calls, share))
    columns = table(world, calls, int(rng.integers(1 << 31)))
    header = (",".join(columns.column_names) + "\n").encode()
    lines = dirt.spoil(text.csv_lines(columns), calls["dirt"], b",")
    return Delivery([f"usage-{n}.csv.gz" for n in range(4)], calls, lines, dict.fromkeys(range(4), header))


def table(world: World, calls: Calls, seed: int) -> pa.Table:
    """Return the columns; what a call lacks is null."""
    inbound = calls["direction"] == INBOUND
    silent = ~answered(calls)
    return pa.table(
        {
            "call_id": text.uuids(seed, np.asarray(calls["serial"])),
            "direction": text.chosen(DIRECTIONS, calls["direction"]),
            "account_code": account_codes(np.asarray(calls["account"])),
            "calling_number": world.written(calls["caller"], calls["form"]),
            "called_number": world.written(calls["called"], calls["form"]),
            "ingress_trunk": text.chosen(TRUNKS, np.where(inbound, calls["trunk"], -1)),
            "egress_trunk": text.chosen(TRUNKS, np.where(inbound, -1, calls["trunk"])),
            "start_time": text.iso(calls["start"]),
            "ring_time": text.iso(calls["ring"]),
            "answer_time": text.iso(calls["answer"]),
            "end_time": text.iso(calls["end"]),
            "talk_ms": pa.array(calls["talk"]),
            "cause_q850": pa.array(np.array([e.q850 for e in ENDINGS])[calls["ending"]]),
            "cause_sip": pa.array(np.array([e.sip for e in ENDINGS])[calls["ending"]]),
            "codec": text.chosen(CODECS, np.where(silent, -1, calls["codec"])),
            "mos": pa.array(calls["mos"], mask=silent),
            "jitter_ms": pa.array(calls["jitter"], mask=silent),
            "loss_pct": pa.array(calls["loss"], mask=silent),
        }
    )
