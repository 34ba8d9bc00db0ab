"""Rate: what is charged for a call. Until rate plans exist, seconds are known and money is not."""

import pyarrow as pa
import pyarrow.compute as pc


def billable_seconds(talk_ms: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Talk rounded up to the whole second (increment 1/1; formats.md section 5); 0 where there was no talk."""
    talk = pc.fill_null(talk_ms, 0)
    return pc.divide(pc.add(talk, 999), 1000)


def rate(calls: pa.Table) -> pa.Table:
    """Add `billable_s` to deduplicated calls (schema CDR); `charge` stays null, which is not zero."""
    talk = calls["event_ms" if "event_ms" in calls.column_names else "talk_ms"]
    return calls.append_column("billable_s", billable_seconds(talk))
