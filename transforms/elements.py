"""What passes between the transforms of a wave. Tables inside are sealed whenever they are pickled or encoded."""

import json
import pickle
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

import numpy as np
import pyarrow as pa
from apache_beam import coders
from apache_beam.coders.typecoders import registry

from callward.lake.ledger import Changes, DataFile
from schemas.cdr import CDR

# A chunk of work: pieces of files of one source and shape, for TakeIn. `kind`: plain (a byte range of a landing file),
# staged (a sealed block of a file that was compressed), suspense (records of a suspense file) or archived (a block in a
# data file of the archive, whose id is the path; first and last are in that).
CHUNK: Final = pa.schema(
    [
        pa.field("kind", pa.string()),
        pa.field("source", pa.string()),
        pa.field("shape", pa.string()),
        pa.field("path", pa.string()),  # in the lake; of a plain file below the landing folder
        pa.field("file_no", pa.int64()),
        pa.field("block", pa.int32()),
        pa.field("first", pa.int64()),
        pa.field("last", pa.int64()),
        pa.field("size", pa.int64()),  # of the landing file when it was registered; -1 where that does not matter
        pa.field("modified_ns", pa.int64()),
        pa.field("inode", pa.uint64()),
        pa.field("meant", pa.string()),  # of suspense: which records are put through again (transforms.suspend.Meant)
        pa.field("condemned", pa.bool_()),  # the file is set aside whole: even sound records go to suspense
    ]
)


@dataclass(frozen=True)
class Sharding:
    """How a wave's records are spread: `buckets` groups, and per tenant the bits of its shards (default 0)."""

    buckets: int = 1
    bits: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps({"buckets": self.buckets, "bits": self.bits}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Sharding":
        return cls(**json.loads(text))


@dataclass
class TakenIn:
    """What was taken in of a work: sound records by bucket (each table of one tenant and shard, schema CDR), suspended
    ones by tenant (schema SUSPENDED), and what the ledger must know of its blocks (file_no, block).

    `flush`: it has no records; every bucket is to flush, as a stream stops.
    """

    rows: dict[int, list[pa.Table]] = field(default_factory=dict)
    suspended: list[tuple[str, pa.Table]] = field(default_factory=list)
    facts: Changes = field(default_factory=Changes)
    blocks: list[tuple[int, int]] = field(default_factory=list)
    sharding: str = ""
    flush: bool = False


@dataclass
class BucketRows:
    """The batches of one bucket (schema CDR), in no order."""

    bucket: int
    tables: list[pa.Table]


@dataclass
class Group:
    """One tenant's records of one bucket: whole calls (schema CDR), and what changes of rows committed before.

    Deduplicated calls say further whether each is charged, and whether its call was answered (split.OF_ANSWERED).
    `others` are records that come to no row of their own: (ledger bucket, table of schema CDR). `withdrawn` are rows
    committed before that go. `chosen`: its calls are versions of records that a person chose.
    """

    tenant: str
    bits: int
    shard: int
    calls: pa.Table
    amended: pa.Table
    others: list[tuple[str, pa.Table]] = field(default_factory=list)
    # Dates (ISO) that a view, or the numbers, are closed for: their window was past when the calls came.
    without_assurance: tuple[str, ...] = ()
    without_billing: tuple[str, ...] = ()
    without_numbers: tuple[str, ...] = ()
    withdrawn: pa.Table = field(default_factory=lambda: CDR.empty_table())
    chosen: bool = False


@dataclass
class ViewRows:
    """Rows of one (view or index, tenant, call_date) to write; `taken` ones only leave the derived tables.

    `inputs`: how many of them came from each input file. `received_on`: the day that they came in on, where that is not
    the commit's.
    """

    view: str
    tenant: str
    call_date: str
    bits: int
    shard: int
    rows: pa.Table
    inputs: Counter[int] = field(default_factory=Counter)
    taken: bool = False
    received_on: date | None = None


@dataclass
class Rewrite:
    """A committed data file to write anew: without the rows at `drop`, and with those at `change` replaced.

    `dropped`: how many of those that go came from each input file.
    """

    file: DataFile
    drop: np.ndarray
    dropped: Counter[int]
    change: np.ndarray
    changed: pa.Table | None


ROW_BYTES: Final = 200  # about what a row takes: to add up the buffers of every column costs more than it tells


class _ElementCoder(coders.Coder):
    """Pickles an element, in which every table is sealed; says its size without encoding it, as Beam asks often."""

    def encode(self, value: Any) -> bytes:
        return pickle.dumps(value, protocol=5)

    def decode(self, encoded: bytes) -> Any:
        return pickle.loads(encoded)

    def estimate_size(self, value: Any) -> int:
        rows = sum(part.num_rows for part in vars(value).values() if isinstance(part, pa.Table))
        return 1000 + int(rows) * ROW_BYTES

    def is_deterministic(self) -> bool:
        return False


for _kind in (TakenIn, BucketRows, Group, ViewRows, Rewrite, Changes):
    registry.register_coder(_kind, _ElementCoder)
