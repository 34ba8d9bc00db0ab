"""The canonical call-detail record (CDR): one Arrow schema that every source is read into.

Each field carries two facts as Arrow metadata: its CPNI class (47 U.S.C. 222(h); 47 CFR 64.2003(d) calls number,
time, location and duration *call detail*) and its unit. A field that the source lacks is null, never 0 or "".

Few-valued text (`FEW`) is dictionary-encoded from Parse to the data file: a row is moved, sealed and grouped as one
small integer, and each value is looked at once. Three rules keep it sound: a dictionary has no value twice and no null
(a null row has a null index); where tables meet their dictionaries are made one (`unify_dictionaries`); and what
leaves a worker's memory carries no value that none of its rows has (`callward.columns.only_used`), for it would be that
of another tenant's, view's or suspended row. Numbers are never FEW. What is stored reads as plain text (`plain`).
"""

from typing import Final

import pyarrow as pa

FORMAT_VERSION: Final = 1
LONGEST_CALL_DAYS: Final = 31  # a record that says longer is suspended; a date expires whole so long after it

DISPOSITIONS: Final = (
    "answered",
    "busy",
    "no_answer",
    "abandoned_alerting",
    "abandoned_before_alerting",
    "rejected",
    "number_error",
    "network_failure",
    "unknown",
)
DIRECTIONS: Final = ("inbound", "outbound", "internal", "transit", "unknown")
SIDES: Final = ("customer", "network", "unknown")  # who is at the other end of where a call came in, or left
# Whose account pays: where it is not ours (another's toll-free number, a premium one of ours) the call is free.
CHARGED_SIDES: Final = ("calling", "called", "none")
RELEASED_BY: Final = ("calling", "called", "network", "unknown")
PRESENTATIONS: Final = ("allowed", "restricted", "unavailable")
# A call's further numbers, each by its role: what the switch sent out, who forwarded the call, whom the network vouches
# for as its caller, who is to be charged, and the switch that serves a ported number.
BY_ROLE: Final = ("rated_number", "redirecting_number", "asserted_number", "charge_number", "lrn")
BY_ROLE_RAW: Final = tuple(f"{name.removesuffix('_number')}_raw" for name in BY_ROLE)
NUMBERS: Final = ("calling_number", "called_number", *BY_ROLE, "oli", "carrier_id")  # they leave together
PIECES: Final = ("whole", "open", "interim", "close", "quality", "refused")
# What a leg is to its call, as a number its place here: who pays for a call is decided by it.
# "onward" is no record of a switch: callward makes it of one that two parties pay for (transforms/onward.py). Then
# come a caller's leg whose call left the switch, as far as is known, a leg by which it may have, and a caller's leg
# that says itself that nobody was reached where its call went (docs/legs.md).
ROLES: Final = ("caller", "attempt", "internal", "onward", "outward", "egress", "unreached")

TIMESTAMP: Final = pa.timestamp("ms", tz="UTC")
ID: Final = pa.binary(16)
FEW: Final = pa.dictionary(pa.int32(), pa.string())  # text of few distinct values


def _field(name: str, kind: pa.DataType, cpni: str, unit: str = "") -> pa.Field:
    return pa.field(name, kind, metadata={b"cpni": cpni.encode(), b"unit": unit.encode()})


# Read from a record by Parse (and rewritten by Normalize). Nothing else of a vendor's record is ever read.
READ_FIELDS: Final = (
    _field("direction", FEW, "service"),
    _field("calling_number", pa.string(), "call_detail", "E.164, or as dialled"),
    _field("called_number", pa.string(), "call_detail", "E.164, or as dialled"),
    _field("calling_raw", pa.string(), "call_detail", "as the switch wrote it"),
    _field("called_raw", pa.string(), "call_detail", "as the switch wrote it"),
    _field("rated_number", pa.string(), "call_detail", "E.164, or as sent out; null where it is the called number"),
    _field("redirecting_number", pa.string(), "call_detail", "E.164, or as dialled"),
    _field("asserted_number", pa.string(), "call_detail", "E.164, or as dialled (RFC 3325)"),
    _field("charge_number", pa.string(), "call_detail", "E.164, or as dialled"),
    _field("lrn", pa.string(), "call_detail", "E.164: location routing number (RFC 4694, rn)"),
    *(_field(name, pa.string(), "call_detail", "as the switch wrote it") for name in BY_ROLE_RAW),
    _field("oli", pa.string(), "call_detail", "two digits: originating line information (ANI II)"),
    _field("carrier_id", pa.string(), "call_detail", "carrier identification code (RFC 4694, cic)"),
    _field("account_code", pa.string(), "account"),
    _field("ingress_trunk", FEW, "service"),
    _field("egress_trunk", FEW, "service"),
    _field("ingress_side", FEW, "service", "one of SIDES, where the record says it: by a context, or a device"),
    _field("egress_side", FEW, "service", "one of SIDES"),
    _field("context", FEW, "service", "of the dialplan, where the call came in"),
    _field("leg", pa.int16(), "service", "0 is the caller's call, 1 and up are further route attempts"),
    _field("sequence", pa.int64(), "service"),
    _field("version", pa.int64(), "service", "of several versions of a record the highest counts"),
    _field("start_time", TIMESTAMP, "call_detail", "ms UTC"),
    _field("ring_time", TIMESTAMP, "call_detail", "ms UTC"),
    _field("answer_time", TIMESTAMP, "call_detail", "ms UTC"),
    _field("end_time", TIMESTAMP, "call_detail", "ms UTC"),
    _field("talk_ms", pa.int64(), "call_detail", "ms"),
    _field("pdd_ms", pa.int64(), "service", "ms"),
    _field("disposition", FEW, "service"),
    _field("cause_q850", pa.int16(), "service", "ITU-T Q.850"),
    _field("cause_sip", pa.int16(), "service", "RFC 3261 status"),
    _field("released_by", FEW, "service"),
    _field("calling_presentation", FEW, "service"),
    _field("codec", FEW, "service"),
    _field("mos", pa.float32(), "service", "1..5, by mos_method"),
    _field("mos_method", FEW, "service"),
    _field("jitter_ms", pa.float32(), "service", "ms"),
    _field("loss_pct", pa.float32(), "service", "percent"),
)

# What Parse adds for the stages behind it; all of it is gone after Identify.
PARSE_FIELDS: Final = (
    pa.field("line", pa.int32()),  # record's line within its block, from 0
    pa.field("identity", pa.string()),  # raw identity fields, joined with \x1f; null: take the content
    pa.field("call", pa.string()),  # raw fields that name the call, joined with \x1f
    pa.field("within", pa.string()),  # raw fields that name what the caller asked for, of which the call is a part
    pa.field("leg_a", pa.string()),  # raw ids that a quality record is joined by
    pa.field("leg_b", pa.string()),
    pa.field("piece", FEW),  # one of PIECES
    pa.field("role", pa.int8()),  # place in ROLES; null where the declaration has no legs
    pa.field("event", pa.string()),  # raw id of the edge leg that it is about; null: the call as a whole
    pa.field("onward", pa.string()),  # raw id of the edge leg that goes on from it, where it names both; or null
    pa.field("silent", pa.bool_()),  # neither an answer nor talk, and no word of why: nobody knows whether to charge it
    pa.field("ahead_ms", pa.int64()),  # of the first records: how far the start is ahead of the epoch that they hold
    pa.field("reached", TIMESTAMP),  # when the far end was there, as the caller's leg says it
    pa.field("end_again", TIMESTAMP),  # second moment of an end that knows no start, in a local hour that comes twice
    pa.field("tenant_field", pa.string()),  # raw value the tenant rule looks at
    pa.field("fault", pa.string()),  # a suspense code: this record will be suspended
    pa.field("filter", pa.string()),  # a filter code: this record is counted and left out
    pa.field("calling_place", FEW),  # class of the caller's number, as `destination` is of the called one
    pa.field("raw", pa.large_binary()),  # the record as it came, without its line end
)

# Where a record came from: a ledger file, its block, the line within the block. Never a name, never content.
LINEAGE_FIELDS: Final = (
    pa.field("file_no", pa.int64()),
    pa.field("block", pa.int32()),
    pa.field("line", pa.int32()),
    pa.field("carried_ms", pa.int64()),  # talk that the record itself carried, which the balance of talk time counts
    pa.field("was", FEW),  # the ledger bucket it is in: "" when just read, pending, accepted, or a suspense code
    pa.field("was_ms", pa.int64()),  # talk that the ledger counts for it there
)

# Set by Identify.
IDENTIFY_FIELDS: Final = (
    _field("source", FEW, "service"),
    _field("tenant", FEW, "service"),
    _field("record_id", ID, "identifier", "keyed, 128 bits"),
    _field("call_id", ID, "identifier", "keyed, 128 bits: all pieces and legs of one call"),
    _field("content", ID, "identifier", "keyed hash of what the record says"),
    _field("account", FEW, "account"),
    _field("charged_side", FEW, "service", "one of CHARGED_SIDES"),
    _field("call_date", pa.date32(), "call_detail", "UTC date of start_time"),
    pa.field("piece", FEW),
    pa.field("leg_a", ID),
    pa.field("leg_b", ID),
    pa.field("role", pa.int8()),
    pa.field("event", ID),
    pa.field("onward", ID),  # of the edge leg that goes on from a forwarded call; null: it was not forwarded
    pa.field("onward_account", FEW),  # who pays for that leg
    pa.field("end_again", TIMESTAMP),
    pa.field("by_content", pa.bool_()),  # the id is of the content: Deduplicate adds the occurrence within the file
    pa.field("earlier", pa.binary()),  # its ids and dates under earlier generations (transforms/earlier.py); or null
    pa.field("calling_prefix", FEW),  # country and area at most
    pa.field("called_prefix", FEW),
    pa.field("destination", FEW),  # class of the called number: US, CA, toll_free, emergency, internal, ...
    pa.field("jurisdiction", FEW),
)

PARSED: Final = pa.schema(READ_FIELDS + PARSE_FIELDS)
# What travels behind Identify: what the switch wrote of numbers and accounts has become ids and a content hash, and
# what it wrote of sides and contexts a direction and an account.
_USED_UP: Final = ("calling_raw", "called_raw", *BY_ROLE_RAW, "account_code", "ingress_side", "egress_side", "context")
CDR: Final = pa.schema(IDENTIFY_FIELDS + tuple(f for f in READ_FIELDS if f.name not in _USED_UP) + LINEAGE_FIELDS)


def plain(schema: pa.Schema) -> pa.Schema:
    """Return a schema as it is stored: text for FEW."""
    return pa.schema([field.with_type(pa.string()) if field.type == FEW else field for field in schema])
