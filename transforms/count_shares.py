"""CountShares: how many records of a source lack what is needed to bill them, and whether its clock is off."""

from collections import Counter
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from callward.accounts.entries import UNASSIGNED
from callward.columns import has_value
from callward.lake.shares import ATTEMPTS, NO_ACCOUNT, NO_DIRECTION, OTHER_TRUNK
from transforms.identify import OTHER

NO_CALLED, NO_OUTCOME, NO_TRUNK = "no called number", "no answer and talk", "no trunk"
UNJOINED: Final = "unjoined"  # calls beyond an internal channel, whose caller's call is not known
LACKS: Final = (NO_CALLED, NO_OUTCOME, NO_DIRECTION, NO_ACCOUNT, OTHER_TRUNK, NO_TRUNK)
CLOCK: Final = "clock "  # and by how many quarters of an hour the start is ahead of the epoch in the record
_LOOKED_AT: Final = (
    *("piece", "called_number", "direction", "account"),
    *("ingress_trunk", "egress_trunk"),
)

_QUARTER_MS: Final = 900_000
_AGREE_MS: Final = 5_000  # a channel that comes into being is written as the start within this


def count_shares(calls: pa.Table) -> Counter[str]:
    """Return of sound records (schema CDR) how many are attempts, and how many of these lack what."""
    attempts = calls.select(_LOOKED_AT)
    are = _are_attempts(calls)
    if not pc.all(are).as_py():
        attempts = attempts.filter(are)
    counts = Counter({ATTEMPTS: attempts.num_rows})
    if attempts.num_rows:
        counts.update({what: _count(lacking) for what, lacking in _lacking(attempts).items()})
    return +counts


def _lacking(calls: pa.Table) -> dict[str, pa.Array | pa.ChunkedArray]:
    trunks = calls["ingress_trunk"], calls["egress_trunk"]
    return {
        NO_CALLED: pc.is_null(calls["called_number"]),
        NO_DIRECTION: pc.or_(pc.is_null(calls["direction"]), has_value(calls["direction"], "unknown")),
        NO_ACCOUNT: has_value(calls["account"], UNASSIGNED),
        OTHER_TRUNK: pc.or_(*(has_value(trunk, OTHER) for trunk in trunks)),
        NO_TRUNK: pc.and_(*(pc.is_null(trunk) for trunk in trunks)),
    }


def _count(mask: pa.Array | pa.ChunkedArray) -> int:
    return int(pc.sum(mask).as_py() or 0)


def _are_attempts(records: pa.Table) -> pa.BooleanArray:
    return has_value(records["piece"], "whole", "open")


def count_silent(parsed: pa.Table) -> Counter[str]:
    """Return of sound records (schema PARSED) how many attempts say neither answer nor talk, nor why there was none."""
    silent = parsed["silent"]
    if not pc.any(silent).as_py():
        return Counter()
    return +Counter({NO_OUTCOME: _count(pc.and_(silent, _are_attempts(parsed)))})


def count_clocks(parsed: pa.Table) -> Counter[str]:
    """Return of records (schema PARSED) by how many quarters of an hour their starts are ahead of their epochs."""
    return Counter({f"{CLOCK}{quarter}": count for quarter, count in quarters_apart(parsed["ahead_ms"]).items()})


def quarters_apart(apart_ms: pa.Array | pa.ChunkedArray) -> Counter[int]:
    """Return how many stamps are apart by each number of quarters of an hour, as zones are; null counts nowhere.

    Those that are off by anything else say nothing of a zone: a later leg of the channel began so much later.
    """
    if apart_ms.null_count == len(apart_ms):
        return Counter()
    apart = pc.drop_null(apart_ms).cast(pa.float64())
    quarters = pc.round(pc.divide(apart, float(_QUARTER_MS)))
    rest = pc.abs(pc.subtract(apart, pc.multiply(quarters, float(_QUARTER_MS))))
    counted = pc.value_counts(quarters.filter(pc.less_equal(rest, float(_AGREE_MS))).cast(pa.int64()))
    return Counter(dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)))
