"""Tables of the stream: which slices of a block are committed, where each topic stands, and which streams there are."""

from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, String, Table, Text

from schemas.tables import METADATA, blocks, required

# A block falls into one slice per bucket, and one of what is set aside; it is complete when all are committed.
block_slices = Table(
    "block_slices",
    METADATA,
    Column("file_no", BigInteger, primary_key=True, autoincrement=False),
    Column("block", Integer, primary_key=True, autoincrement=False),
    Column("slice", Integer, primary_key=True, autoincrement=False),
    required("run_id", 32),
    Column("rows", BigInteger, nullable=False),
    Column("committed_at", DateTime, nullable=False, index=True),  # the rate of the last minutes
)

# An input file of a topic: what one source sent through one partition on one UTC day. Its blocks are ranges of offsets.
kafka_inputs = Table(
    "kafka_inputs",
    METADATA,
    Column("file_no", BigInteger, primary_key=True, autoincrement=False),
    required("topic", 249),
    Column("partition", Integer, nullable=False),
    Index("ix_kafka_inputs_topic_partition", "topic", "partition"),
)

streams = Table(
    "streams",
    METADATA,
    required("run_id", 32, primary_key=True),
    Column("sources", Text, nullable=False),  # the leases it holds, as a JSON list
    required("engine", 255),
    Column("job_id", String(255)),
    Column("started_at", DateTime, nullable=False),
    Column("stop_requested_at", DateTime),
    Column("stopped_at", DateTime),
    Column("reason", String(255)),
    # Raised with each commit.
    Column("commits", BigInteger, nullable=False),
    Column("retries", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("suspended", BigInteger, nullable=False),
    Column("last_commit_at", DateTime),
)

# What a stream put into each bucket, raised with each commit: figures that are asked every few seconds cannot add up
# the ledger's entries of weeks.
stream_counts = Table(
    "stream_counts",
    METADATA,
    required("run_id", 32, primary_key=True),
    required("source", primary_key=True),
    required("bucket", 16, primary_key=True),
    required("code", 32, primary_key=True),
    Column("rows", BigInteger, nullable=False),
)

# Of all blocks that ever were, those not committed are few, and asked for all the time.
_OPEN = blocks.c.committed_by.is_(None)
Index("ix_blocks_open", blocks.c.registered_at, sqlite_where=_OPEN, postgresql_where=_OPEN)
