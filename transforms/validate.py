"""Validate: what a record says must be possible. A record that is not gets a fault; nothing is corrected here."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import has_value
from callward.lake import ledger
from callward.workspace import Workspace
from schemas.cdr import TIMESTAMP
from schemas.codes import Bucket, Suspense
from transforms.read import CONDEMNED, SHAPE, SOURCE
from transforms.suspend import faulty_records

DAY_MS: Final = 86_400_000
LONGEST_TALK_MS: Final = 31 * DAY_MS
LONGEST_NUMBER: Final = 32  # characters
# Before this no switch wrote CDRs of SIP or ISDN calls: a clock that was never set says 1970.
EARLIEST: Final = pa.scalar(631_152_000_000, pa.int64()).cast(TIMESTAMP)  # 1990-01-01
_ROUNDED_MS: Final = 1000  # talk and stamps that a switch rounds apart may differ by a second
_URI: Final = r"^(?i:sips?:|tel:)?([^@;>]*).*$"


def validate(table: pa.Table, now_ms: int) -> pa.Table:
    """`table` (schema PARSED) with `fault` filled where a record is impossible; the first fault wins.

    `now_ms` is when the record was read, in ms since 1970. Records that a rule leaves out are not checked.
    """
    fault = _first(_checks(table, now_ms), table["fault"])
    if fault is table["fault"]:
        return table
    fault = pc.if_else(pc.is_valid(table["filter"]), table["fault"], fault)
    return table.set_column(table.schema.get_field_index("fault"), table.schema.field("fault"), fault)


def contradictions(rows: pa.Table) -> pa.Array | pa.ChunkedArray:
    """Return the code of what the times and lengths of each row contradict; null where they agree.

    `rows` have the times, talk and pdd of schema CDR: a call that was put together is judged as a whole record is.
    """
    return _first(_of_lengths(rows), pa.nulls(rows.num_rows, pa.string()))


def _first(
    checks: Iterable[tuple[Suspense, pa.ChunkedArray]], fault: pa.Array | pa.ChunkedArray
) -> pa.Array | pa.ChunkedArray:
    """Return faults with the first code that says a row is wrong, where it has none; the same ones if none does."""
    for code, wrong in checks:
        if pc.any(wrong, min_count=0).as_py():
            fault = pc.coalesce(fault, pc.if_else(wrong, code.value, pa.scalar(None, pa.string())))
    return fault


def _checks(table: pa.Table, now_ms: int) -> Iterator[tuple[Suspense, pa.ChunkedArray]]:
    """Yield each code with the rows it is about (null: not), in the order in which they win."""
    yield Suspense.TIME, _no_time(table)
    yield from _of_lengths(table)
    yield Suspense.FUTURE, pc.greater(_moment(table), pa.scalar(now_ms + DAY_MS, pa.int64()).cast(TIMESTAMP))
    yield Suspense.NUMBER, pc.or_(_too_long_a_number(table, "calling"), _too_long_a_number(table, "called"))
    yield Suspense.IDENTITY, pc.and_(_is_part(table), pc.is_null(table["call"]))


def _of_lengths(table: pa.Table) -> Iterator[tuple[Suspense, pa.ChunkedArray]]:
    yield Suspense.DURATION, _negative(table)  # a wrong length puts stamps that follow from it out of order
    yield Suspense.ORDER, _out_of_order(table)
    yield Suspense.DURATION, _too_long_a_talk(table)


def _is_part(table: pa.Table) -> pa.BooleanArray:
    """Return whether a record is a piece of a call: it must name the call."""
    return has_value(table["piece"], "open", "interim", "close", "refused", "quality")


def _speaks_of_end(table: pa.Table) -> pa.BooleanArray:
    return has_value(table["piece"], "close", "quality")


def _moment(table: pa.Table) -> pa.ChunkedArray:
    """Return when a record was: its start, or its end where it is a piece that knows no start."""
    end = pc.if_else(_speaks_of_end(table), table["end_time"], pa.scalar(None, TIMESTAMP))
    return pc.coalesce(table["start_time"], end)


def _no_time(table: pa.Table) -> pa.ChunkedArray:
    return pc.fill_null(pc.less(_moment(table), EARLIEST), True)


def _before(table: pa.Table, first: str, second: str) -> pa.ChunkedArray:
    return pc.fill_null(pc.less(table[first], table[second]), False)


def _out_of_order(table: pa.Table) -> pa.ChunkedArray:
    ends = pc.or_(_before(table, "end_time", "start_time"), _before(table, "end_time", "answer_time"))
    return pc.or_(ends, _before(table, "answer_time", "start_time"))


def _negative(table: pa.Table) -> pa.ChunkedArray:
    return pc.or_(_true(pc.less(table["talk_ms"], 0)), _true(pc.less(table["pdd_ms"], 0)))


def _too_long_a_talk(table: pa.Table) -> pa.ChunkedArray:
    talk = table["talk_ms"]
    call = pc.subtract(table["end_time"], table["start_time"]).cast(pa.int64())
    longer = _true(pc.greater(talk, pc.add(call, _ROUNDED_MS)))
    return pc.or_(longer, _true(pc.greater(talk, LONGEST_TALK_MS)))


def _true(mask: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(mask, False)


def _too_long_a_number(table: pa.Table, party: str) -> pa.Array | pa.ChunkedArray:
    """Return whether a party's number is too long to be one; of a URI, only its user part counts."""
    number, raw = table[f"{party}_number"], table[f"{party}_raw"]
    octets = pc.coalesce(pc.binary_length(number), pc.binary_length(raw))  # at least as many as characters
    if (pc.max(octets).as_py() or 0) <= LONGEST_NUMBER:
        return pa.repeat(False, table.num_rows)
    long = _true(pc.greater(pc.utf8_length(pc.coalesce(number, raw)), LONGEST_NUMBER))
    if not pc.any(long, min_count=0).as_py():
        return long
    user = pc.replace_substring_regex(pc.if_else(long, raw, None), pattern=_URI, replacement=r"\1")
    return pc.and_(long, _true(pc.greater(pc.utf8_length(pc.coalesce(number, user)), LONGEST_NUMBER)))


@dataclass
class Separated:
    """Sound records, suspended ones by tenant (schema SUSPENDED), and ledger entries of what was filtered."""

    sound: pa.Table
    suspended: list[tuple[str, pa.Table]]
    entries: list[pa.Table]


def separate(table: pa.Table, workspace: Workspace, set_aside: Collection[int] = ()) -> Separated:
    """Separate validated records (of one source and shape) by their filters and faults.

    `set_aside`: ledger numbers of files that are set aside whole, besides what the work itself says.
    """
    metadata = table.schema.metadata
    entries: list[pa.Table] = []
    if table["filter"].null_count < table.num_rows:
        filtered = pc.and_(pc.is_valid(table["filter"]), pc.is_null(table["fault"]))
        left_out = table.filter(filtered)
        entries += ledger.entries(left_out, Bucket.FILTERED, left_out["filter"])
        table = table.filter(pc.invert(filtered))
    if metadata[CONDEMNED]:
        table = _condemned(table)
    elif set_aside:
        table = _condemned(table, pc.is_in(table["file_no"], pa.array(sorted(set_aside), pa.int64())))
    suspended: list[tuple[str, pa.Table]] = []
    if table["fault"].null_count < table.num_rows:
        faulty = pc.is_valid(table["fault"])
        suspended = _suspended(table.filter(faulty), metadata, workspace)
        table = table.filter(pc.invert(faulty))
    return Separated(table.replace_schema_metadata(metadata), suspended, entries)


def faults_of(table: pa.Table) -> Counter[int]:
    """Return how many validated records of each file have a fault."""
    if table["fault"].null_count == table.num_rows:
        return Counter()
    counts = pc.value_counts(table["file_no"].filter(pc.is_valid(table["fault"])))
    return Counter(dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)))


def _condemned(table: pa.Table, rows: pa.Array | pa.ChunkedArray | None = None) -> pa.Table:
    """Return the table with the fault FILE for the sound ones of those rows (default: all)."""
    fault = pc.fill_null(table["fault"], str(Suspense.FILE))
    if rows is not None:
        fault = pc.if_else(rows, fault, table["fault"])
    return table.set_column(table.schema.get_field_index("fault"), "fault", fault)


def _suspended(table: pa.Table, metadata: dict[bytes, bytes], workspace: Workspace) -> list[tuple[str, pa.Table]]:
    source, shape = metadata[SOURCE].decode(), metadata[SHAPE].decode()
    by_tenant = ((t, table.filter(has_value(table["tenant"], t))) for t in table["tenant"].unique().to_pylist())
    return [(tenant, faulty_records(rows, tenant, source, shape, workspace)) for tenant, rows in by_tenant]
