"""first tables"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "workspace",
        sa.Column("workspace_id", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", name=op.f("pk_workspace")),
    )
    op.create_table(
        "account_directories",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("path", sa.String(length=255), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=32), nullable=False),
        sa.Column("accounts", sa.BigInteger(), nullable=False),
        sa.Column("numbers", sa.BigInteger(), nullable=False),
        sa.Column("ranges", sa.BigInteger(), nullable=False),
        sa.Column("codes", sa.BigInteger(), nullable=False),
        sa.Column("trunks", sa.BigInteger(), nullable=False),
        sa.Column("contexts", sa.BigInteger(), nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.Column("removed", sa.BigInteger(), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.Column("format_version", sa.Integer(), nullable=False),
        sa.Column("imported_by", sa.String(length=255), nullable=False),
        sa.Column("imported_at", sa.DateTime(), nullable=False),
        sa.Column("removed_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "version", name=op.f("pk_account_directories")),
    )
    op.create_table(
        "analytics_cells",
        sa.Column("release_id", sa.String(length=32), nullable=False),
        sa.Column("cell", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("measure", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("period_start", sa.Date(), nullable=False),
        sa.Column("period_end", sa.Date(), nullable=False),
        sa.Column("correction_no", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("audience", sa.String(length=16), nullable=False),
        sa.Column("d1", sa.String(length=64), nullable=True),
        sa.Column("d2", sa.String(length=64), nullable=True),
        sa.Column("d3", sa.String(length=64), nullable=True),
        sa.Column("d4", sa.String(length=64), nullable=True),
        sa.Column("d5", sa.String(length=64), nullable=True),
        sa.Column("d6", sa.String(length=64), nullable=True),
        sa.Column("value", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.BigInteger(), nullable=False),
        sa.Column("suppressed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("release_id", "cell", "measure", name=op.f("pk_analytics_cells")),
        schema="analytics",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "approvals",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("signature", sa.String(length=128), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "digest", "person", name=op.f("pk_approvals")),
    )
    op.create_table(
        "assurance_durations_daily",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("call_date", sa.Date(), nullable=False),
        sa.Column("trunk_in", sa.String(length=64), nullable=False),
        sa.Column("trunk_out", sa.String(length=64), nullable=False),
        sa.Column("from_s", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("to_s", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("talk_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant",
            "call_date",
            "trunk_in",
            "trunk_out",
            "from_s",
            "to_s",
            name=op.f("pk_assurance_durations_daily"),
        ),
        schema="assurance",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "assurance_prefix_daily",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("call_date", sa.Date(), nullable=False),
        sa.Column("called_prefix", sa.String(length=16), nullable=False),
        sa.Column("trunk_out", sa.String(length=64), nullable=False),
        sa.Column("disposition", sa.String(length=32), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant", "call_date", "called_prefix", "trunk_out", "disposition", name=op.f("pk_assurance_prefix_daily")
        ),
        schema="assurance",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "assurance_erlangs_hourly",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("call_date", sa.Date(), nullable=False),
        sa.Column("hour", sa.DateTime(), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("trunk", sa.String(length=64), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("talk_min", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant", "call_date", "hour", "side", "trunk", name=op.f("pk_assurance_erlangs_hourly")
        ),
        schema="assurance",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "assurance_failed_5min",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("start", sa.DateTime(), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("trunk", sa.String(length=64), nullable=False),
        sa.Column("disposition", sa.String(length=32), nullable=False),
        sa.Column("cause_q850", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("cause_sip", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("released_by", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant",
            "start",
            "side",
            "trunk",
            "disposition",
            "cause_q850",
            "cause_sip",
            "released_by",
            name=op.f("pk_assurance_failed_5min"),
        ),
        schema="assurance",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "assurance_failed_destination_hourly",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("hour", sa.DateTime(), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("trunk", sa.String(length=64), nullable=False),
        sa.Column("called_prefix", sa.String(length=16), nullable=False),
        sa.Column("disposition", sa.String(length=32), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant",
            "hour",
            "side",
            "trunk",
            "called_prefix",
            "disposition",
            name=op.f("pk_assurance_failed_destination_hourly"),
        ),
        schema="assurance",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "assurance_trunk_hourly",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("hour", sa.DateTime(), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("trunk", sa.String(length=64), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("unknown", sa.BigInteger(), nullable=False),
        sa.Column("seizures", sa.BigInteger(), nullable=False),
        sa.Column("answered", sa.BigInteger(), nullable=False),
        sa.Column("ner_success", sa.BigInteger(), nullable=False),
        sa.Column("rescued", sa.BigInteger(), nullable=False),
        sa.Column("talk_s", sa.BigInteger(), nullable=False),
        sa.Column("pdd_ms", sa.BigInteger(), nullable=False),
        sa.Column("pdd_count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "hour", "side", "trunk", name=op.f("pk_assurance_trunk_hourly")),
        schema="assurance",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "assurance_trunk_hourly_cause",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("hour", sa.DateTime(), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("trunk", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("cause", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant", "hour", "side", "trunk", "kind", "cause", name=op.f("pk_assurance_trunk_hourly_cause")
        ),
        schema="assurance",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "assurance_trunk_hourly_mos",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("hour", sa.DateTime(), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("trunk", sa.String(length=64), nullable=False),
        sa.Column("method", sa.String(length=32), nullable=False),
        sa.Column("mos_milli", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant", "hour", "side", "trunk", "method", name=op.f("pk_assurance_trunk_hourly_mos")
        ),
        schema="assurance",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "assurance_trunk_hourly_pdd",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("hour", sa.DateTime(), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("trunk", sa.String(length=64), nullable=False),
        sa.Column("bucket", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant", "hour", "side", "trunk", "bucket", name=op.f("pk_assurance_trunk_hourly_pdd")
        ),
        schema="assurance",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "audit_log",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("who", sa.String(length=255), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("event", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("reason", sa.String(length=255), nullable=False),
        sa.Column("prev", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_log")),
        sa.UniqueConstraint("hash", name=op.f("uq_audit_log_hash")),
        sa.UniqueConstraint("prev", name=op.f("uq_audit_log_prev")),
    )
    op.create_table(
        "billing_usage_daily",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("billing_date", sa.Date(), nullable=False),
        sa.Column("direction", sa.String(length=16), nullable=False),
        sa.Column("destination", sa.String(length=32), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("answered", sa.BigInteger(), nullable=False),
        sa.Column("talk_ms", sa.BigInteger(), nullable=False),
        sa.Column("billable_s", sa.BigInteger(), nullable=False),
        sa.Column("charge", sa.Numeric(precision=18, scale=6), nullable=True),
        sa.Column("currency", sa.String(length=3), nullable=True),
        sa.PrimaryKeyConstraint(
            "tenant", "account", "billing_date", "direction", "destination", name=op.f("pk_billing_usage_daily")
        ),
        schema="billing",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "block_slices",
        sa.Column("file_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("block", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("slice", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("committed_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("file_no", "block", "slice", name=op.f("pk_block_slices")),
    )
    with op.batch_alter_table("block_slices", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_block_slices_committed_at"), ["committed_at"], unique=False)

    op.create_table(
        "blocks",
        sa.Column("file_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("block", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("committed_by", sa.String(length=32), nullable=True),
        sa.Column("archive_file", sa.String(length=96), nullable=True),
        sa.Column("archive_first", sa.BigInteger(), nullable=True),
        sa.Column("registered_at", sa.DateTime(), nullable=True),
        sa.Column("oldest_at", sa.DateTime(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.Column("sharding", sa.Text(), nullable=True),
        sa.Column("slices", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("file_no", "block", name=op.f("pk_blocks")),
        sa.UniqueConstraint("file_no", "first", name=op.f("uq_blocks_file_no_first")),
    )
    with op.batch_alter_table("blocks", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_blocks_archive_file"), ["archive_file"], unique=False)
        batch_op.create_index(
            "ix_blocks_open",
            ["registered_at"],
            unique=False,
            sqlite_where=sa.text("committed_by IS NULL"),
            postgresql_where=sa.text("committed_by IS NULL"),
        )
        batch_op.create_index(batch_op.f("ix_blocks_registered_at"), ["registered_at"], unique=False)

    op.create_table(
        "cases",
        sa.Column("case_id", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=255), nullable=False),
        sa.Column("opened_by", sa.String(length=255), nullable=False),
        sa.Column("opened_at", sa.DateTime(), nullable=False),
        sa.Column("closed_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("case_id", name=op.f("pk_cases")),
    )
    op.create_table(
        "certificates",
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("certificate_id", sa.String(length=32), nullable=False),
        sa.Column("disposal_id", sa.String(length=32), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("prev", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("issued_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_certificates")),
        sa.UniqueConstraint("certificate_id", name=op.f("uq_certificates_certificate_id")),
    )
    op.create_table(
        "disposal_items",
        sa.Column("disposal_id", sa.String(length=32), nullable=False),
        sa.Column("item", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("retention_class", sa.String(length=32), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("view", sa.String(length=16), nullable=False),
        sa.Column("part", sa.String(length=16), nullable=False),
        sa.Column("file_id", sa.String(length=96), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("disposal_id", "item", name=op.f("pk_disposal_items")),
    )
    op.create_table(
        "disposals",
        sa.Column("disposal_id", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("about", sa.String(length=64), nullable=True),
        sa.Column("as_of", sa.Date(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("plan_digest", sa.String(length=64), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("started_by", sa.String(length=255), nullable=False),
        sa.Column("approved_by", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("finished_at", sa.DateTime(), nullable=True),
        sa.Column("run_id", sa.String(length=32), nullable=True),
        sa.Column("certificate_id", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("disposal_id", name=op.f("pk_disposals")),
    )
    op.create_table(
        "frozen_derived",
        sa.Column("disposal_id", sa.String(length=32), nullable=False),
        sa.Column("table_name", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("part", sa.String(length=16), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("disposal_id", "table_name", "tenant", "part", name=op.f("pk_frozen_derived")),
    )
    op.create_table(
        "holds",
        sa.Column("hold_id", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("placed_at", sa.DateTime(), nullable=False),
        sa.Column("released_at", sa.DateTime(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("hold_id", name=op.f("pk_holds")),
    )
    op.create_table(
        "input_files",
        sa.Column("file_no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("name_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("name_id", sa.String(length=32), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("modified_ns", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=255), nullable=True),
        sa.Column("path_form", sa.String(length=32), nullable=False),
        sa.Column("content_id", sa.String(length=32), nullable=True),
        sa.Column("shape_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("seen_at", sa.DateTime(), nullable=False),
        sa.Column("set_aside", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("file_no", name=op.f("pk_input_files")),
    )
    with op.batch_alter_table("input_files", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_input_files_content_id"), ["content_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_input_files_name_id"), ["name_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_input_files_status"), ["status"], unique=False)

    op.create_table(
        "kafka_inputs",
        sa.Column("file_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("topic", sa.String(length=249), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("file_no", name=op.f("pk_kafka_inputs")),
    )
    with op.batch_alter_table("kafka_inputs", schema=None) as batch_op:
        batch_op.create_index("ix_kafka_inputs_topic_partition", ["topic", "partition"], unique=False)

    op.create_table(
        "keys",
        sa.Column("key_id", sa.String(length=32), nullable=False),
        sa.Column("domain", sa.String(length=32), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("month", sa.String(length=8), nullable=False),
        sa.Column("purpose", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=True),
        sa.Column("root_id", sa.String(length=128), nullable=False),
        sa.Column("fingerprint", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("destroyed_at", sa.DateTime(), nullable=True),
        sa.Column("format_version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_keys")),
        sa.UniqueConstraint(
            "domain", "tenant", "month", "purpose", name=op.f("uq_keys_domain_tenant_month_purpose")
        ),
    )
    op.create_table(
        "lake_file_inputs",
        sa.Column("file_id", sa.String(length=96), nullable=False),
        sa.Column("file_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("file_id", "file_no", name=op.f("pk_lake_file_inputs")),
    )
    with op.batch_alter_table("lake_file_inputs", schema=None) as batch_op:
        batch_op.create_index("ix_lake_file_inputs_file_no", ["file_no"], unique=False)

    op.create_table(
        "lake_files",
        sa.Column("file_id", sa.String(length=96), nullable=False),
        sa.Column("view", sa.String(length=16), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("part", sa.String(length=16), nullable=False),
        sa.Column("path", sa.String(length=255), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("first_start", sa.DateTime(), nullable=True),
        sa.Column("last_start", sa.DateTime(), nullable=True),
        sa.Column("shard_bits", sa.Integer(), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("format_version", sa.Integer(), nullable=False),
        sa.Column("received_on", sa.Date(), nullable=False),
        sa.Column("key_ids", sa.Text(), nullable=False),
        sa.Column("numbers", sa.Boolean(), nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.Column("parts", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("committed_at", sa.DateTime(), nullable=False),
        sa.Column("superseded_at", sa.DateTime(), nullable=True),
        sa.Column("superseded_by", sa.String(length=32), nullable=True),
        sa.Column("removed_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("file_id", name=op.f("pk_lake_files")),
    )
    with op.batch_alter_table("lake_files", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_lake_files_part"), ["part"], unique=False)
        batch_op.create_index(batch_op.f("ix_lake_files_superseded_at"), ["superseded_at"], unique=False)

    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("process_start", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "ledger_entries",
        sa.Column("entry_no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("wave", sa.Integer(), nullable=False),
        sa.Column("file_no", sa.BigInteger(), nullable=False),
        sa.Column("bucket", sa.String(length=16), nullable=False),
        sa.Column("code", sa.String(length=32), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("talk_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("entry_no", name=op.f("pk_ledger_entries")),
    )
    with op.batch_alter_table("ledger_entries", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_ledger_entries_file_no"), ["file_no"], unique=False)

    op.create_table(
        "partitions",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("part", sa.String(length=16), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("matched", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("tenant", "part", name=op.f("pk_partitions")),
    )
    op.create_table(
        "approvers",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("public_key", sa.String(length=64), nullable=False),
        sa.Column("registered_at", sa.DateTime(), nullable=False),
        sa.Column("registered_by", sa.String(length=255), nullable=False),
        sa.Column("signature", sa.String(length=128), nullable=False),
        sa.Column("revoked_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_approvers")),
    )
    op.create_table(
        "policies",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("proposed_by", sa.String(length=64), nullable=False),
        sa.Column("proposed_at", sa.DateTime(), nullable=False),
        sa.Column("activated_by", sa.String(length=64), nullable=True),
        sa.Column("activated_at", sa.DateTime(), nullable=True),
        sa.Column("reference", sa.String(length=255), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "version", name=op.f("pk_policies")),
    )
    op.create_table(
        "purge_forecasts",
        sa.Column("made_at", sa.DateTime(), nullable=False),
        sa.Column("until", sa.Date(), nullable=False),
        sa.Column("rows", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("made_at", name=op.f("pk_purge_forecasts")),
    )
    op.create_table(
        "release_budgets",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("unit", sa.String(length=16), nullable=False),
        sa.Column("window", sa.String(length=8), nullable=False),
        sa.Column("cap", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "unit", "window", name=op.f("pk_release_budgets")),
    )
    op.create_table(
        "release_charges",
        sa.Column("release_id", sa.String(length=32), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("unit", sa.String(length=16), nullable=False),
        sa.Column("window", sa.String(length=8), nullable=False),
        sa.Column("rho", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("release_id", "tenant", "unit", "window", name=op.f("pk_release_charges")),
    )
    op.create_table(
        "releases",
        sa.Column("release_id", sa.String(length=32), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("period_start", sa.Date(), nullable=False),
        sa.Column("period_end", sa.Date(), nullable=False),
        sa.Column("correction_no", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("view", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("audience", sa.String(length=16), nullable=False),
        sa.Column("unit", sa.String(length=16), nullable=False),
        sa.Column("spec_digest", sa.String(length=64), nullable=False),
        sa.Column("domains_digest", sa.String(length=64), nullable=False),
        sa.Column("snapshot", sa.String(length=64), nullable=False),
        sa.Column("rho", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("reserved_at", sa.DateTime(), nullable=False),
        sa.Column("published_at", sa.DateTime(), nullable=True),
        sa.Column("path", sa.String(length=255), nullable=False),
        sa.Column("files", sa.Text(), nullable=True),
        sa.Column("sheet", sa.Text(), nullable=True),
        sa.Column("partition", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("release_id", name=op.f("pk_releases")),
        sa.UniqueConstraint(
            "tenant",
            "name",
            "period_start",
            "correction_no",
            "attempt",
            name=op.f("uq_releases_tenant_name_period_start_correction_no_attempt"),
        ),
    )
    op.create_table(
        "restrictions",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("selector", sa.String(length=32), nullable=False),
        sa.Column("request_id", sa.String(length=32), nullable=False),
        sa.Column("since", sa.DateTime(), nullable=False),
        sa.Column("until", sa.DateTime(), nullable=True),
        sa.Column("confidential", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "selector", name=op.f("pk_restrictions")),
    )
    op.create_table(
        "root_copies",
        sa.Column("copy_no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("root_id", sa.String(length=128), nullable=False),
        sa.Column("domain", sa.String(length=32), nullable=False),
        sa.Column("place", sa.String(length=255), nullable=False),
        sa.Column("recorded_at", sa.DateTime(), nullable=False),
        sa.Column("recorded_by", sa.String(length=255), nullable=False),
        sa.Column("destroyed_at", sa.DateTime(), nullable=True),
        sa.Column("confirmed_by", sa.String(length=255), nullable=True),
        sa.PrimaryKeyConstraint("copy_no", name=op.f("pk_root_copies")),
    )
    op.create_table(
        "roots",
        sa.Column("domain", sa.String(length=32), nullable=False),
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("root_id", sa.String(length=128), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("destroyed_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("domain", "epoch", name=op.f("pk_roots")),
    )
    op.create_table(
        "row_ends",
        sa.Column("disposal_id", sa.String(length=32), nullable=False),
        sa.Column("view", sa.String(length=16), nullable=False),
        sa.Column("file_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("end", sa.String(length=16), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("disposal_id", "view", "file_no", "end", name=op.f("pk_row_ends")),
    )
    op.create_table(
        "sla_sums",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("call_date", sa.Date(), nullable=False),
        sa.Column("sums_id", sa.String(length=32), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.String(length=32), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "call_date", "sums_id", name=op.f("pk_sla_sums")),
        schema="sla",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "source_generations",
        sa.Column("uid", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("began_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("uid", "number", name=op.f("pk_source_generations")),
    )
    op.create_table(
        "source_names",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("uid", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_source_names")),
    )
    with op.batch_alter_table("source_names", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_source_names_uid"), ["uid"], unique=False)

    op.create_table(
        "source_shares",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("measure", sa.String(length=32), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "day", "source", "measure", name=op.f("pk_source_shares")),
    )
    op.create_table(
        "feed_states",
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("last_file_no", sa.BigInteger(), nullable=False),
        sa.Column("came_at", sa.DateTime(), nullable=True),
        sa.Column("state_sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_feed_states")),
    )
    op.create_table(
        "standing_alarms",
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.Column("must_look", sa.Boolean(), nullable=False),
        sa.Column("since", sa.DateTime(), nullable=False),
        sa.Column("seen_at", sa.DateTime(), nullable=False),
        sa.Column("alerted_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("source", "kind", name=op.f("pk_standing_alarms")),
    )
    op.create_table(
        "sources",
        sa.Column("uid", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("registered_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_sources")),
        sa.UniqueConstraint("name", name=op.f("uq_sources_name")),
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=64), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("finished_at", sa.DateTime(), nullable=True),
        sa.Column("started_by", sa.String(length=255), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("code_version", sa.String(length=64), nullable=False),
        sa.Column("settings_digest", sa.String(length=64), nullable=False),
        sa.Column("settings_id", sa.String(length=32), nullable=True),
        sa.Column("audit_head", sa.String(length=64), nullable=True),
        sa.Column("summary", sa.Text(), nullable=True),
        sa.Column("swept_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_runs")),
    )
    op.create_table(
        "settings_in_force",
        sa.Column("settings_id", sa.String(length=32), nullable=False),
        sa.Column("first_at", sa.DateTime(), nullable=False),
        sa.Column("code_version", sa.String(length=64), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("settings_id", name=op.f("pk_settings_in_force")),
    )
    op.create_table(
        "stream_counts",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("bucket", sa.String(length=16), nullable=False),
        sa.Column("code", sa.String(length=32), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "source", "bucket", "code", name=op.f("pk_stream_counts")),
    )
    op.create_table(
        "streams",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("sources", sa.Text(), nullable=False),
        sa.Column("engine", sa.String(length=255), nullable=False),
        sa.Column("job_id", sa.String(length=255), nullable=True),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("stop_requested_at", sa.DateTime(), nullable=True),
        sa.Column("stopped_at", sa.DateTime(), nullable=True),
        sa.Column("reason", sa.String(length=255), nullable=True),
        sa.Column("commits", sa.BigInteger(), nullable=False),
        sa.Column("retries", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("suspended", sa.BigInteger(), nullable=False),
        sa.Column("last_commit_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_streams")),
    )
    op.create_table(
        "requests",
        sa.Column("request_id", sa.String(length=32), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("received_at", sa.DateTime(), nullable=False),
        sa.Column("due_at", sa.DateTime(), nullable=False),
        sa.Column("extended_to", sa.DateTime(), nullable=True),
        sa.Column("answered_at", sa.DateTime(), nullable=True),
        sa.Column("refusal", sa.String(length=32), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_requests")),
    )
    op.create_table(
        "suppressions",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("record", sa.String(length=32), nullable=False),
        sa.Column("request_id", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "record", name=op.f("pk_suppressions")),
    )
    op.create_table(
        "waves",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("wave", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "wave", "attempt", name=op.f("pk_waves")),
    )


def downgrade() -> None:
    op.drop_table("waves")
    op.drop_table("suppressions")
    op.drop_table("requests")
    op.drop_table("streams")
    op.drop_table("settings_in_force")
    op.drop_table("stream_counts")
    op.drop_table("runs")
    op.drop_table("sources")
    op.drop_table("standing_alarms")
    op.drop_table("feed_states")
    op.drop_table("source_shares")
    with op.batch_alter_table("source_names", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_source_names_uid"))

    op.drop_table("source_names")
    op.drop_table("source_generations")
    op.drop_table("sla_sums", schema="sla")
    op.drop_table("row_ends")
    op.drop_table("roots")
    op.drop_table("root_copies")
    op.drop_table("restrictions")
    op.drop_table("releases")
    op.drop_table("release_charges")
    op.drop_table("release_budgets")
    op.drop_table("purge_forecasts")
    op.drop_table("policies")
    op.drop_table("approvers")
    op.drop_table("partitions")
    with op.batch_alter_table("ledger_entries", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_ledger_entries_file_no"))

    op.drop_table("ledger_entries")
    op.drop_table("leases")
    with op.batch_alter_table("lake_files", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_lake_files_superseded_at"))
        batch_op.drop_index(batch_op.f("ix_lake_files_part"))

    op.drop_table("lake_files")
    with op.batch_alter_table("lake_file_inputs", schema=None) as batch_op:
        batch_op.drop_index("ix_lake_file_inputs_file_no")

    op.drop_table("lake_file_inputs")
    op.drop_table("keys")
    with op.batch_alter_table("kafka_inputs", schema=None) as batch_op:
        batch_op.drop_index("ix_kafka_inputs_topic_partition")

    op.drop_table("kafka_inputs")
    with op.batch_alter_table("input_files", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_input_files_status"))
        batch_op.drop_index(batch_op.f("ix_input_files_name_id"))
        batch_op.drop_index(batch_op.f("ix_input_files_content_id"))

    op.drop_table("input_files")
    op.drop_table("holds")
    op.drop_table("frozen_derived")
    op.drop_table("disposals")
    op.drop_table("disposal_items")
    op.drop_table("certificates")
    op.drop_table("cases")
    with op.batch_alter_table("blocks", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_blocks_registered_at"))
        batch_op.drop_index(
            "ix_blocks_open",
            sqlite_where=sa.text("committed_by IS NULL"),
            postgresql_where=sa.text("committed_by IS NULL"),
        )
        batch_op.drop_index(batch_op.f("ix_blocks_archive_file"))

    op.drop_table("blocks")
    with op.batch_alter_table("block_slices", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_block_slices_committed_at"))

    op.drop_table("block_slices")
    op.drop_table("billing_usage_daily", schema="billing")
    op.drop_table("audit_log")
    op.drop_table("assurance_trunk_hourly_pdd", schema="assurance")
    op.drop_table("assurance_trunk_hourly_mos", schema="assurance")
    op.drop_table("assurance_trunk_hourly_cause", schema="assurance")
    op.drop_table("assurance_trunk_hourly", schema="assurance")
    op.drop_table("assurance_prefix_daily", schema="assurance")
    op.drop_table("assurance_failed_destination_hourly", schema="assurance")
    op.drop_table("assurance_failed_5min", schema="assurance")
    op.drop_table("assurance_erlangs_hourly", schema="assurance")
    op.drop_table("assurance_durations_daily", schema="assurance")
    op.drop_table("approvals")
    op.drop_table("analytics_cells", schema="analytics")
    op.drop_table("account_directories")
    op.drop_table("workspace")
