"""What content links of billing rows, by the size of a network, by what live rows tell, and by how often it commits.

The curve of docs/threat-model.md: made-up calls of one day on 12 trunks of four carriers, both views as Split makes
them, measured by the functions that measure a lake (`callward release attack --day`). The attacker knows trunks.
"""

import argparse
import json
from datetime import UTC, datetime
from typing import Final

import numpy as np
import pyarrow as pa

from callward.feeds import world as worlds
from callward.feeds.calls import INBOUND, OUTBOUND, Calls, answered, draw
from callward.feeds.world import TRUNKS
from callward.release.attack.linkage import Verdict
from callward.release.attack.two_views import Views, measured
from schemas.cdr import TIMESTAMP

SIZES: Final = (1_000, 2_000, 5_000, 10_000, 20_000, 67_000, 200_000)  # attempts a day
SPANS_H: Final = (1, 4, 24)
FLUSHES_S: Final = (30, 300, 900, 3_600)
_SUBSCRIBERS, _ACCOUNTS = 20_000, 5_000
_MIDNIGHT_MS: Final = int(datetime(2026, 3, 5, tzinfo=UTC).timestamp() * 1000)
_HOUR_MS: Final = 3_600_000


def verdict(calls: Calls, *, span_h: int = 1, flush_s: int = 0) -> Verdict:
    """Return what rows of a day link whose start is told to so many hours, and by commits of so many seconds.

    `flush_s` 0 is one commit of the whole day. A record is committed after its call's end.
    """
    trunks = pa.array([*TRUNKS, None])
    of_side = {
        side: trunks.take(pa.array(np.where(calls["direction"] == direction, calls["trunk"], -1) % len(trunks)))
        for side, direction in (("in", INBOUND), ("out", OUTBOUND))
    }
    carriers = {trunk: trunk.partition("-")[0] for trunk in TRUNKS}
    by_commit = calls["end"] // (flush_s * 1000) if flush_s else np.zeros(len(calls), np.int64)
    here, source = np.arange(len(calls)), pa.repeat("asterisk", len(calls))
    owner = np.where(calls["account"] >= 0, calls["account"], _ACCOUNTS).astype("U6")
    billing = {
        "source": source,
        "account": pa.array(owner),
        **{
            f"carrier_{side}": pa.array([carriers.get(name) for name in of.to_pylist()]) for side, of in of_side.items()
        },
        "start": pa.array(calls["start"]).view(TIMESTAMP),
        "answer": pa.array(calls["answer"], mask=~answered(calls)).view(TIMESTAMP),
    }
    assurance = {
        "source": source,
        **{f"trunk_{side}": of for side, of in of_side.items()},
        "start": pa.array(calls["start"] // (span_h * _HOUR_MS) * (span_h * _HOUR_MS)).view(TIMESTAMP),
        "span_h": pa.repeat(span_h, len(calls)),
        "disposition": pa.array(np.where(answered(calls), "answered", "no_answer")),
    }
    both = (pa.table(columns) for columns in (billing, assurance))
    (found,) = measured(Views.of(*both, carriers, (here, here), (by_commit, by_commit)), counters=()).verdicts
    return found


def curve(size: int) -> dict[str, Verdict]:
    """Return what is linked of a day of so many attempts, by what rows tell and how often it was committed."""
    world = worlds.build(np.random.default_rng(1), _SUBSCRIBERS, _ACCOUNTS)
    calls = draw(np.random.default_rng(size), world, size, _MIDNIGHT_MS)
    return {
        **{f"{span} h": verdict(calls, span_h=span) for span in SPANS_H},
        **{f"1 h, commits of {flush} s": verdict(calls, flush_s=flush) for flush in FLUSHES_S},
    }


def main() -> None:
    """Prints the curve as one JSON document: shares of billing rows and of accounts, by attempts a day."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="attempts a day")
    found = {size: curve(size) for size in parser.parse_args().sizes}
    told = {size: {name: [one.rows, one.accounts] for name, one in by.items()} for size, by in found.items()}
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
