"""What is set aside: suspended records, and pieces of calls that wait. Both lie sealed, never in the clear."""

from typing import Final

import pyarrow as pa

from schemas.cdr import CDR, ID, TIMESTAMP, plain

FORMAT_VERSION: Final = 1

# A suspended record as it travels to Suspend. `payload` is the record as it came ("raw") or, for one that was already
# read when it lost to another (CONFLICT), its canonical row as an Arrow stream ("row").
SUSPENDED: Final = pa.schema(
    [
        pa.field("tenant", pa.string()),
        pa.field("source", pa.string()),
        pa.field("code", pa.string()),
        pa.field("suspense_id", ID),
        pa.field("by_occurrence", pa.bool_()),  # equal records of one file are distinguished by their number in it
        pa.field("kind", pa.string()),  # raw or row
        pa.field("payload", pa.large_binary()),
        pa.field("shape", pa.string()),  # how the file's columns were known (declaration.Shape as JSON)
        pa.field("file_no", pa.int64()),
        pa.field("block", pa.int32()),
        pa.field("line", pa.int32()),
        pa.field("carried_ms", pa.int64()),
        pa.field("was", pa.string()),
        pa.field("was_ms", pa.int64()),
    ]
)

# A suspense file: the same, with when it came in and whether it still waits. A closed entry keeps its id, so that a
# re-delivery of the record is known: without the payload where the record was put through again, with it where it was
# written off (`was` says so), until a purge takes it.
SUSPENSE: Final = pa.schema([*SUSPENDED, pa.field("seen", TIMESTAMP), pa.field("open", pa.bool_())])

# The pending log: a piece and how far it has come. Each row of a piece has one turn more than the one before it, so
# the highest turn counts.
PENDING_STATES: Final = ("waiting", "partial", "impossible", "estimated", "closed")
PENDING: Final = pa.schema(
    [*plain(CDR), pa.field("state", pa.int8()), pa.field("seen", TIMESTAMP), pa.field("turn", pa.int32())]
)
