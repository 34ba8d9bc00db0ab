"""The database: registers and derived tables. No number ever enters it; file names are stored masked and sealed.

Derived tables are additive: sums, counts, numerators and denominators, with histograms, causes and scores as child
rows, so that SQL may add them over any period. Ratios are computed when read. On PostgreSQL those of a view lie in a
schema of the view's name, so that a login has rights to one view alone; registers lie in `public`. SQLite has no
schemas, and every table lies in its file.
"""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    UniqueConstraint,
)

METADATA: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

# Schemas of PostgreSQL, one for each view that has derived tables, or will have.
SCHEMAS: Final = ("billing", "assurance", "sla", "analytics")


def derived(view: str, name: str, *columns: Column[Any]) -> Table:
    """Return a new table in the schema of its view; SQLite keeps its rows by their key alone."""
    assert view in SCHEMAS, f"no schema for the derived tables of {view}"
    return Table(name, METADATA, *columns, schema=view, sqlite_with_rowid=False)


def serial() -> Any:
    """Return the type of a key that the database counts up."""
    return BigInteger().with_variant(Integer, "sqlite")


def required(name: str, size: int = 64, **options: Any) -> Column[str]:
    """Return a text column that is never null."""
    return Column(name, String(size), nullable=False, **options)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, default=0)


workspace = Table(
    "workspace",
    METADATA,
    required("workspace_id", 32, primary_key=True),  # one row: also in settings, lake and exports
    Column("created_at", DateTime, nullable=False),
)

runs = Table(
    "runs",
    METADATA,
    required("run_id", 32, primary_key=True),
    required("kind"),
    required("status"),  # running, done, failed, dead
    Column("started_at", DateTime, nullable=False),
    Column("finished_at", DateTime),
    required("started_by", 255),
    required("host", 255),
    Column("pid", Integer, nullable=False),
    required("code_version"),
    required("settings_digest"),
    Column("settings_id", String(32)),  # of settings_in_force; null for what reads no records
    Column("audit_head", String(64)),
    Column("summary", Text),
    Column("swept_at", DateTime),  # when what it left in the lake was removed
)

# The settings that runs read records under, each kept once: what could be a number or a secret as a keyed hash alone.
settings_in_force = Table(
    "settings_in_force",
    METADATA,
    required("settings_id", 32, primary_key=True),  # hash of the content
    Column("first_at", DateTime, nullable=False),
    required("code_version"),
    Column("content", Text, nullable=False),  # JSON: [where a setting stands, its value], ...
)

leases = Table(
    "leases",
    METADATA,
    required("name", 255, primary_key=True),
    required("run_id", 32),
    required("host", 255),
    Column("pid", Integer, nullable=False),
    required("process_start", 64),
    Column("expires_at", DateTime, nullable=False),
)

sources = Table(
    "sources",
    METADATA,
    required("uid", primary_key=True),  # its first name: in every id, for life; no other source may take it
    required("name", unique=True),
    Column("registered_at", DateTime, nullable=False),
)

# Every name that a source has or had: what was written under an earlier one is found by it.
source_names = Table("source_names", METADATA, required("name", primary_key=True), required("uid", index=True))

source_generations = Table(
    "source_generations",
    METADATA,
    required("uid", primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("rule", Text, nullable=False),  # schemas.generation.Generation as JSON
    Column("began_at", DateTime, nullable=False),
)

# Versions of each tenant's account directory, the highest of which counts: one sealed file each.
account_directories = Table(
    "account_directories",
    METADATA,
    required("tenant", primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    required("path", 255),  # below the lake's root
    Column("bytes", BigInteger, nullable=False),
    required("sha256", 64),
    required("key_id", 32),
    Column("accounts", BigInteger, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in ("numbers", "ranges", "codes", "trunks", "contexts")),
    *(Column(name, BigInteger, nullable=False) for name in ("added", "removed", "changed")),
    Column("format_version", Integer, nullable=False),
    required("imported_by", 255),
    Column("imported_at", DateTime, nullable=False),
    Column("removed_at", DateTime),  # when its file was removed; the row stays as a record of what was there
)

waves = Table(
    "waves",
    METADATA,
    required("run_id", 32, primary_key=True),
    Column("wave", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    required("status", 16),  # committed, refused, set_aside, changed, failed
    Column("detail", Text, nullable=False),
    Column("at", DateTime, nullable=False),
)

input_files = Table(
    "input_files",
    METADATA,
    Column("file_no", serial(), primary_key=True, autoincrement=True),
    required("source"),
    required("name", 255),  # digits that could be a number are masked
    Column("name_sealed", LargeBinary, nullable=False),
    Column("name_id", String(32), nullable=False, index=True),  # keyed hash of the path below landing/
    Column("size", BigInteger, nullable=False),
    Column("modified_ns", BigInteger, nullable=False),
    required("status", index=True),  # reading, committed, removed (it left landing), changed, unreadable, withdrawn
    Column("reason", String(255)),
    required("path_form", 32),  # plain, gzip, zstd, sealed or kafka; and how its text is rewritten
    Column("content_id", String(32), index=True),  # keyed hash of its first bytes as text; null: it has no records
    Column("shape_sealed", LargeBinary),
    required("run_id", 32),
    Column("seen_at", DateTime, nullable=False),
    Column("set_aside", Boolean, nullable=False, default=False),
)

blocks = Table(
    "blocks",
    METADATA,
    Column("file_no", BigInteger, primary_key=True, autoincrement=False),
    Column("block", Integer, primary_key=True, autoincrement=False),
    Column("first", BigInteger, nullable=False),  # byte offsets in the decompressed file
    Column("last", BigInteger, nullable=False),
    Column("generation", Integer, nullable=False),  # of its source: how its records were named and dated
    Column("records", BigInteger),
    Column("digest", String(64)),
    required("run_id", 32),
    Column("committed_by", String(32)),
    Column("archive_file", String(96), index=True),
    Column("archive_first", BigInteger),
    # What follows is of a stream's blocks alone: a night closes a block in one commit.
    Column("registered_at", DateTime, index=True),
    Column("oldest_at", DateTime),  # when its oldest record arrived
    Column("bytes", BigInteger),
    Column("sharding", Text),  # how its records are spread, as JSON: a restart spreads them just so
    Column("slices", Integer),  # how many it fell into; null until it is parsed
    UniqueConstraint("file_no", "first"),
)

ledger_entries = Table(
    "ledger_entries",
    METADATA,
    Column("entry_no", serial(), primary_key=True, autoincrement=True),
    required("run_id", 32),
    Column("wave", Integer, nullable=False),
    Column("file_no", BigInteger, nullable=False, index=True),
    required("bucket", 16),  # schemas.codes.Bucket, or "paired": talk that pairing computed
    required("code", 32),  # suspense or filter code, else ""
    Column("rows", BigInteger, nullable=False),
    Column("talk_ms", BigInteger, nullable=False),
)

partitions = Table(
    "partitions",
    METADATA,
    required("tenant", primary_key=True),
    required("part", 16, primary_key=True),  # a call_date, "pending" or "suspense"
    Column("version", BigInteger, nullable=False),
    # The version at which records of two network elements were last matched (transforms/match_elements.py).
    Column("matched", BigInteger, nullable=False, server_default="0"),
)

lake_files = Table(
    "lake_files",
    METADATA,
    required("file_id", 96, primary_key=True),
    required("view", 16),  # billing, assurance, pending, suspense, archive
    required("tenant"),
    required("part", 16, index=True),
    required("path", 255),  # below the lake's root
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    required("sha256", 64),
    Column("first_start", DateTime),
    Column("last_start", DateTime),
    Column("shard_bits", Integer, nullable=False),
    Column("shard", Integer, nullable=False),
    Column("format_version", Integer, nullable=False),
    Column("received_on", Date, nullable=False),  # when its rows came in: a longer window does not reach older ones
    Column("key_ids", Text, nullable=False),  # of the month keys it is under, with spaces between
    Column("numbers", Boolean, nullable=False),  # whether it still has its number columns
    Column("closed", Boolean, nullable=False, default=False),  # of a part: made anew when its date closed
    Column("parts", Integer, nullable=False, default=0),  # of the row index: the views that it still says anything of
    required("run_id", 32),
    Column("committed_at", DateTime, nullable=False),
    Column("superseded_at", DateTime, index=True),
    Column("superseded_by", String(32)),
    Column("removed_at", DateTime),  # from the disk; the row stays as a record of what was there
)

keys = Table(
    "keys",
    METADATA,
    required("key_id", 32, primary_key=True),
    required("domain", 32),  # whose root wraps it
    required("tenant"),
    required("month", 8),  # YYYY-MM, or "all"
    required("purpose", 32),
    required("state", 16),  # active, retired, destroyed
    Column("blob", LargeBinary),
    required("root_id", 128),
    required("fingerprint", 32),
    Column("created_at", DateTime, nullable=False),
    Column("destroyed_at", DateTime),
    Column("format_version", Integer, nullable=False),
    UniqueConstraint("domain", "tenant", "month", "purpose"),
)

audit_log = Table(
    "audit_log",
    METADATA,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", DateTime, nullable=False),
    required("who", 255),
    required("role", 32),
    required("event", 32),
    required("subject", 255),
    required("reason", 255),
    required("prev", 64, unique=True),
    required("hash", 64, unique=True),
)

billing_usage_daily = derived(
    "billing",
    "billing_usage_daily",
    required("tenant", primary_key=True),
    required("account", primary_key=True),
    Column("billing_date", Date, primary_key=True),
    required("direction", 16, primary_key=True),
    required("destination", 32, primary_key=True),
    _count("calls"),
    _count("answered"),
    _count("talk_ms"),
    _count("billable_s"),
    Column("charge", Numeric(18, 6)),  # null until rated
    Column("currency", String(3)),
)


# What records of a source lacked, by run and day of intake: what a person must look at is told from it.
source_shares = Table(
    "source_shares",
    METADATA,
    required("run_id", 32, primary_key=True),
    Column("day", Date, primary_key=True),
    required("source", primary_key=True),
    required("measure", 32, primary_key=True),  # transforms/count_shares.py
    Column("rows", BigInteger, nullable=False),
)


# How far the files of a source were looked at for what no file shows by itself (callward/ingest/sequences.py).
feed_states = Table(
    "feed_states",
    METADATA,
    required("source", primary_key=True),
    Column("last_file_no", BigInteger, nullable=False),
    Column("came_at", DateTime),  # when its newest file was written, or its newest record of a topic came
    Column("state_sealed", LargeBinary, nullable=False),
)

# What a person must look at, until it is fixed: since when, and when an alert of it went out.
standing_alarms = Table(
    "standing_alarms",
    METADATA,
    required("source", primary_key=True),  # "" for what is of no one source
    required("kind", 32, primary_key=True),
    Column("sentence", Text, nullable=False),
    Column("must_look", Boolean, nullable=False),  # or it is only said
    Column("since", DateTime, nullable=False),
    Column("seen_at", DateTime, nullable=False),
    Column("alerted_at", DateTime),
)


def _trunk_key() -> list[Column[Any]]:
    """Return new columns each time: SQLAlchemy's belong to one table."""
    return [
        required("tenant", primary_key=True),
        Column("hour", DateTime, primary_key=True),
        required("side", 8, primary_key=True),
        required("trunk", primary_key=True),
    ]


assurance_trunk_hourly = derived(
    "assurance",
    "assurance_trunk_hourly",
    *_trunk_key(),
    _count("attempts"),
    _count("unknown"),  # attempts whose disposition is not known: in no numerator and no denominator
    _count("seizures"),
    _count("answered"),
    _count("ner_success"),
    _count("rescued"),  # attempts that failed, of calls that were answered by another route
    _count("talk_s"),
    _count("pdd_ms"),
    _count("pdd_count"),
)
assurance_trunk_hourly_pdd = derived(
    "assurance",
    "assurance_trunk_hourly_pdd",
    *_trunk_key(),
    Column("bucket", Integer, primary_key=True, autoincrement=False),
    _count("count"),
)
assurance_trunk_hourly_cause = derived(
    "assurance",
    "assurance_trunk_hourly_cause",
    *_trunk_key(),
    required("kind", 8, primary_key=True),  # q850 or sip
    Column("cause", Integer, primary_key=True, autoincrement=False),
    _count("count"),
)
assurance_trunk_hourly_mos = derived(
    "assurance",
    "assurance_trunk_hourly_mos",
    *_trunk_key(),
    required("method", 32, primary_key=True),
    _count("mos_milli"),  # sum of thousandths: whole numbers add the same in any order
    _count("count"),
)
# Attempts of calls that nobody answered, which the part `failed` tells in full: billing has none of them, so their
# figures may be as fine as is useful. Those of answered calls are told by the hour and no finer.
assurance_failed_5min = derived(
    "assurance",
    "assurance_failed_5min",
    required("tenant", primary_key=True),
    Column("start", DateTime, primary_key=True),  # whole five minutes
    required("side", 8, primary_key=True),
    required("trunk", primary_key=True),
    required("disposition", 32, primary_key=True),
    Column("cause_q850", Integer, primary_key=True, autoincrement=False),  # -1: not known
    Column("cause_sip", Integer, primary_key=True, autoincrement=False),  # -1: not known
    required("released_by", 16, primary_key=True),
    _count("attempts"),
)
assurance_failed_destination_hourly = derived(
    "assurance",
    "assurance_failed_destination_hourly",
    *_trunk_key(),
    required("called_prefix", 16, primary_key=True),  # country, in the NANP with the area; "" where it is not known
    required("disposition", 32, primary_key=True),
    _count("attempts"),
)
# Whom a person of support may look at (callward/access/cases.py): one account each.
cases = Table(
    "cases",
    METADATA,
    required("case_id", primary_key=True),
    required("tenant"),
    required("account"),
    required("purpose"),
    required("reason", 255),
    required("opened_by", 255),
    Column("opened_at", DateTime, nullable=False),
    Column("closed_at", DateTime),  # null: open
)

# Sums by account, which no database shows: its rows lie sealed in `sla_sums` (callward/lake/account_sums.py). It is a
# table as others are for whoever adds, compares or asks.
sla_account_daily = Table(
    "sla_account_daily",
    MetaData(),
    required("tenant", primary_key=True),
    required("account", primary_key=True),
    Column("call_date", Date, primary_key=True),
    required("region", 16, primary_key=True),  # that was called: country, in the NANP with the area; "": not known
    required("mos_method", 32, primary_key=True),  # of attempts with a score, else "": scores of two do not mix
    _count("attempts"),
    _count("unknown"),
    _count("answered"),
    _count("ner_success"),
    _count("talk_ms"),
    _count("pdd_ms"),
    _count("pdd_count"),
    _count("mos_milli"),
    _count("mos_count"),
)
# What commits added to the sums of a call date, sealed under the month's key of the domain `sla`: their sum counts.
sla_sums = derived(
    "sla",
    "sla_sums",
    required("tenant", primary_key=True),
    Column("call_date", Date, primary_key=True),
    required("sums_id", 32, primary_key=True),
    Column("rows", BigInteger, nullable=False),
    required("key_id", 32),
    Column("sealed", LargeBinary, nullable=False),
)

# Made when a date closes, from the index, in cells of many rows (transforms/close.py): how long calls were, where they
# went, and how many talked at once. Null in a cell of fewer: what is told of it is told of all such together.
assurance_durations_daily = derived(
    "assurance",
    "assurance_durations_daily",
    required("tenant", primary_key=True),
    Column("call_date", Date, primary_key=True),
    required("trunk_in", primary_key=True),
    required("trunk_out", primary_key=True),
    Column("from_s", Integer, primary_key=True, autoincrement=False),
    Column("to_s", Integer, primary_key=True, autoincrement=False),  # talk of less
    _count("calls"),
    _count("talk_ms"),
)
assurance_prefix_daily = derived(
    "assurance",
    "assurance_prefix_daily",
    required("tenant", primary_key=True),
    Column("call_date", Date, primary_key=True),
    required("called_prefix", 16, primary_key=True),
    required("trunk_out", primary_key=True),
    required("disposition", 32, primary_key=True),
    _count("attempts"),
)
assurance_erlangs_hourly = derived(
    "assurance",
    "assurance_erlangs_hourly",
    required("tenant", primary_key=True),
    Column("call_date", Date, primary_key=True),  # of the calls' start: those of the day before talk on in the next
    Column("hour", DateTime, primary_key=True),
    required("side", 8, primary_key=True),
    required("trunk", primary_key=True),
    _count("calls"),  # that talked in the hour
    _count("talk_min"),  # within the hour; sixty are an erlang
)
CLOSED: Final = (assurance_durations_daily, assurance_prefix_daily, assurance_erlangs_hourly)

# Every table that Summarize writes in the clear: one that is listed is rebuilt, purged, and granted to its view's role.
DERIVED: Final = (
    *CLOSED,
    billing_usage_daily,
    assurance_trunk_hourly,
    assurance_trunk_hourly_pdd,
    assurance_trunk_hourly_cause,
    assurance_trunk_hourly_mos,
    assurance_failed_5min,
    assurance_failed_destination_hourly,
)
SUMMARIZED: Final = (*DERIVED, sla_account_daily)


def of_view(view: str) -> tuple[Table, ...]:
    """Return the derived tables of a view."""
    return tuple(table for table in DERIVED if table.schema == view)


def day_column(table: Table) -> Column[Any]:
    """Return the column of a derived table's key that says of which day a row is: a date, or a time."""
    return next(column for column in table.primary_key.columns if isinstance(column.type, Date | DateTime))


def key_columns(table: Table) -> list[str]:
    """Return the names of a derived table's key."""
    return [column.name for column in table.primary_key.columns]


def sum_columns(table: Table) -> list[str]:
    """Return the names of a derived table's additive columns that are filled (money waits for rating)."""
    return [c.name for c in table.columns if not c.primary_key and isinstance(c.type, BigInteger)]
