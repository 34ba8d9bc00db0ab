"""Rate: what is charged for a call. Until rate plans exist, seconds are known and money is not."""

import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import Column, has_value, is_absent


def billable_seconds(talk_ms: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Talk rounded up to the whole second (increment 1/1; formats.md section 5); 0 where there was no talk."""
    talk = pc.fill_null(talk_ms, 0)
    return pc.divide(pc.add(talk, 999), 1000)


def is_free(direction: Column, charged_side: Column) -> pa.BooleanArray:
    """Return which calls cost the account nothing: an emergency, another's toll-free number, a premium one of ours."""
    ours = has_value(direction, "inbound", "internal")
    theirs = pc.and_(has_value(charged_side, "called"), pc.invert(ours))
    received = pc.and_(has_value(charged_side, "calling"), has_value(direction, "inbound"))
    return pc.or_(has_value(charged_side, "none"), pc.or_(theirs, received))


def billed_seconds(talk_ms: Column, direction: Column, charged_side: Column) -> pa.Array:
    """Return the seconds that each call is charged for: its billable ones, or 0 where it is free."""
    seconds = billable_seconds(talk_ms)
    return seconds if is_absent(charged_side) else pc.if_else(is_free(direction, charged_side), 0, seconds)


def rate(calls: pa.Table) -> pa.Table:
    """Add `billable_s` to deduplicated calls (schema CDR); `charge` stays null, which is not zero."""
    talk = calls["event_ms" if "event_ms" in calls.column_names else "talk_ms"]
    return calls.append_column("billable_s", billed_seconds(talk, calls["direction"], calls["charged_side"]))
