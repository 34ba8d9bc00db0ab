"""The two views: what each purpose may see, and the row index.

No column of one appears under the same key or id in the other; the parts of one view do not meet either.
"""

from typing import Final

import pyarrow as pa

from schemas.cdr import BY_ROLE, FEW, ID, NUMBERS, TIMESTAMP

FORMAT_VERSION: Final = 1
MONEY: Final = pa.decimal128(18, 6)

BILLING: Final = pa.schema(
    [
        pa.field("billing_id", ID),
        pa.field("source", pa.string()),
        pa.field("account", pa.string()),
        pa.field("charged_side", pa.string()),
        pa.field("direction", pa.string()),
        pa.field("calling_presentation", pa.string()),
        pa.field("carrier_in", pa.string()),
        pa.field("carrier_out", pa.string()),
        pa.field("start", TIMESTAMP),
        pa.field("answer", TIMESTAMP),
        pa.field("end", TIMESTAMP),
        pa.field("end_estimated", pa.bool_()),  # no record says when it ended: `end` is its last proof, or its answer
        pa.field("talk_ms", pa.int64()),
        pa.field("billable_s", pa.int64()),
        pa.field("destination", pa.string()),
        pa.field("jurisdiction", pa.string()),
        pa.field("rate", MONEY),
        pa.field("charge", MONEY),
        pa.field("currency", pa.string()),
        pa.field("plan_version", pa.string()),
        pa.field("policy_version", pa.string()),
        # The numbers leave together at the call-detail window: last, and under a key of their own.
        pa.field("calling_token", ID),
        pa.field("called_token", ID),
        *(pa.field(name, pa.string()) for name in NUMBERS),
    ]
)
LINES: Final = ("calling_token", "called_token", "calling_number", "called_number")  # of the two parties
BILLING_NUMBERS: Final = ("calling_token", "called_token", *NUMBERS)

# The assurance view, in two parts: a call that billing has is told by the hour, and nothing of its length or numbers.
FAILED: Final = pa.schema(  # attempts of calls that were never answered, of which billing has no row
    [
        pa.field("failed_id", ID),
        pa.field("source", pa.string()),
        pa.field("trunk_in", pa.string()),
        pa.field("trunk_out", pa.string()),
        pa.field("leg", pa.int16()),
        pa.field("start", TIMESTAMP),  # whole minute
        pa.field("ring_s", pa.int64()),
        pa.field("pdd_ms", pa.int64()),
        pa.field("disposition", pa.string()),
        pa.field("cause_q850", pa.int16()),
        pa.field("cause_sip", pa.int16()),
        pa.field("released_by", pa.string()),
        pa.field("calling_prefix", pa.string()),  # country and area at most
        pa.field("called_prefix", pa.string()),
    ]
)
ANSWERED: Final = pa.schema(  # all attempts of other calls
    [
        pa.field("answered_id", ID),
        pa.field("source", pa.string()),
        pa.field("trunk_in", pa.string()),
        pa.field("trunk_out", pa.string()),
        pa.field("leg", pa.int16()),
        pa.field("start", TIMESTAMP),  # whole hour; of a date that is closed that of `span_h` hours
        pa.field("span_h", pa.int16()),  # 1, or 4 or 24 where too few calls of the hour are alike
        pa.field("pdd_ms", pa.int64()),  # in steps of 100 ms
        pa.field("disposition", pa.string()),
        pa.field("cause_q850", pa.int16()),
        pa.field("cause_sip", pa.int16()),
        pa.field("released_by", pa.string()),
        pa.field("codec", pa.string()),
        pa.field("mos", pa.float32()),
        pa.field("mos_method", pa.string()),
        pa.field("jitter_ms", pa.float32()),
        pa.field("loss_pct", pa.float32()),
    ]
)

# Beside a held copy: which holds each of its rows is kept for, sealed. No other data file has anything beside it.
HOLDS_SUFFIX: Final = ".holds"


def with_sidecar(path: str) -> tuple[str, str]:
    """Return the path of a data file and that of what may lie beside it."""
    return path, path + HOLDS_SUFFIX


# The numbers that a call is found by, and their tokens in the row index. An LRN is a switch's, nobody's own.
FOUND_BY: Final = ("calling_number", "called_number", *BY_ROLE[:-1])
TOKENS: Final = tuple(name.replace("_number", "_token") for name in FOUND_BY)

# The row index: where every record of a (tenant, call_date, shard) is and what it was, so that no view need say it.
# In order of record_id, the accepted one first. `end_time`, `talk_ms` and `content` order the versions of a record.
ROW_INDEX: Final = pa.schema(
    [
        pa.field("record_id", ID),
        pa.field("call_id", ID),  # null: the record's own id
        pa.field("state", pa.string()),  # the ledger's bucket: accepted ones have rows in views, others have none
        pa.field("kind", pa.string()),  # call, leg, piece, or one of UNANSWERED, NOT_CHARGED, or listed (as second)
        pa.field("leg", pa.int16()),
        pa.field("role", pa.int8()),  # as schemas.cdr has it, with `event` and `sequence`: who pays is decided by them
        pa.field("event", pa.int64()),  # of answered records that may be charged: tells edge legs of one call apart
        pa.field("sequence", pa.int64()),
        pa.field("content", ID),
        pa.field("version", pa.int64()),  # as its source numbers the versions of a record
        pa.field("start_time", TIMESTAMP),
        pa.field("answer_time", TIMESTAMP),
        pa.field("end_time", TIMESTAMP),
        pa.field("talk_ms", pa.int64()),
        pa.field("carried_ms", pa.int64()),
        pa.field("account", pa.string()),  # with times, tokens and these: whether two versions are charged alike
        pa.field("direction", pa.string()),
        pa.field("jurisdiction", pa.string()),
        pa.field("trunk_in", pa.string()),
        pa.field("trunk_out", pa.string()),
        pa.field("source", pa.string()),
        pa.field("ring_time", TIMESTAMP),
        pa.field("pdd_ms", pa.int64()),
        pa.field("disposition", pa.string()),
        pa.field("cause_q850", pa.int16()),
        pa.field("cause_sip", pa.int16()),
        pa.field("released_by", pa.string()),
        pa.field("codec", pa.string()),
        pa.field("mos", pa.float32()),
        pa.field("mos_method", pa.string()),
        pa.field("jitter_ms", pa.float32()),
        pa.field("loss_pct", pa.float32()),
        pa.field("calling_prefix", pa.string()),  # country and area at most
        pa.field("called_prefix", pa.string()),
        pa.field("parts", pa.int16()),  # sum of VIEW_BITS: the views that hold a row of it
        pa.field("file_no", pa.int64()),
        pa.field("block", pa.int32()),
        pa.field("line", pa.int32()),
        # Tokens under a key of the index itself: they leave with the numbers, and under a key of their own.
        *(pa.field(name, ID) for name in TOKENS),
    ]
)
INDEX: Final = "index"
# Kinds of attempts that nobody answered; a `route` is one whose call was answered on another.
UNANSWERED: Final = ("failed", "route")
# Kinds of records that are held from billing: of a call that another element's record is charged for, and of one that
# nobody was reached by. Their rows are in the part UNCHARGED, and come back when a later record tells otherwise.
SECOND: Final = "second"
UNREACHED: Final = "unreached"
NOT_CHARGED: Final = (SECOND, UNREACHED)
UNCHARGED: Final = "uncharged"
# What is stored of each view. A person's role, its keys and a retention class are of a view, data files of its parts.
PARTS: Final = {"billing": ("billing", UNCHARGED), "assurance": ("failed", "answered")}
VIEW_OF: Final = {part: view for view, parts in PARTS.items() for part in parts}
VIEW_BITS: Final = {"billing": 1, "assurance": 2}
# What the index says of a record's service: the assurance view and its tables are made of it.
SERVICE: Final = tuple(ROW_INDEX.names[ROW_INDEX.get_field_index("trunk_in") : ROW_INDEX.get_field_index("parts")])
# Columns of the index that leave with the rows of a view; all others stay while any view has a row of the record.
INDEX_COLUMNS_OF: Final = {"billing": (), "assurance": SERVICE}

VIEW_PARTS: Final = {"billing": BILLING, UNCHARGED: BILLING, "failed": FAILED, "answered": ANSWERED}
ID_COLUMN: Final = {part: schema.names[0] for part, schema in VIEW_PARTS.items()}
# What is stored as data files of calls: parts of the views, and the index, which is none. Numbers stand last in each.
STORED: Final = {**VIEW_PARTS, INDEX: ROW_INDEX}
HELD: Final = "held-"  # what a hold keeps past its window lies as parts whose names begin so: no query sees them
NUMBER_COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "billing": BILLING_NUMBERS,
    UNCHARGED: BILLING_NUMBERS,
    "failed": (),
    "answered": (),
    INDEX: TOKENS,
}

# What is stored, on its way to the data files: all their text is FEW (see schemas.cdr), save the numbers.
IN_FLIGHT: Final = {
    view: pa.schema(
        [f.with_type(FEW) if f.type == pa.string() and f.name not in NUMBER_COLUMNS[view] else f for f in schema]
    )
    for view, schema in STORED.items()
}
