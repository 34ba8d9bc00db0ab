"""Registers of retention: policies, approvers, roots, holds, purges, certificates, requests. No number enters them.

What a hold or a request selects by (a number, a case) is sealed under the hold root; only digests lie in the clear.
"""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Date, DateTime, Index, Integer, LargeBinary, String, Table, Text

from schemas.tables import METADATA, required, serial

approvers = Table(
    "approvers",
    METADATA,
    required("name", 64, primary_key=True),
    required("public_key", 64),  # Ed25519, hex
    Column("registered_at", DateTime, nullable=False),
    required("registered_by", 255),
    required("signature", 128),  # of (name, public key) by the custodian's key, hex
    Column("revoked_at", DateTime),
)

approvals = Table(
    "approvals",
    METADATA,
    required("kind", 16, primary_key=True),  # policy, purge, close, hold ...
    required("digest", 64, primary_key=True),  # SHA-256 of what is approved
    required("person", 64, primary_key=True),
    required("signature", 128),  # Ed25519 over "callward/approve/1|kind|digest", hex
    Column("at", DateTime, nullable=False),
)

policies = Table(
    "policies",
    METADATA,
    required("tenant", primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    required("name"),
    Column("text", Text, nullable=False),  # the policy as it was written (TOML)
    required("digest", 64),
    required("state", 16),  # proposed, active, replaced
    required("proposed_by", 64),
    Column("proposed_at", DateTime, nullable=False),
    Column("activated_by", String(64)),
    Column("activated_at", DateTime),
    Column("reference", String(255)),  # of the notice or consent that lets longer windows reach older rows
)

roots = Table(
    "roots",
    METADATA,
    required("domain", 32, primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    required("root_id", 128),
    required("state", 16),  # active, retired (nothing is wrapped by it any more), destroyed
    Column("created_at", DateTime, nullable=False),
    Column("destroyed_at", DateTime),
)

root_copies = Table(
    "root_copies",
    METADATA,
    Column("copy_no", serial(), primary_key=True, autoincrement=True),
    required("root_id", 128),
    required("domain", 32),
    required("place", 255),
    Column("recorded_at", DateTime, nullable=False),
    required("recorded_by", 255),
    Column("destroyed_at", DateTime),
    Column("confirmed_by", String(255)),
)

holds = Table(
    "holds",
    METADATA,
    required("hold_id", 32, primary_key=True),
    required("state", 16),  # open or released
    Column("placed_at", DateTime, nullable=False),
    Column("released_at", DateTime),
    Column("body", LargeBinary, nullable=False),  # everything about it, sealed under the hold root
    required("digest", 64),  # SHA-256 of body; each is in the audit log as well, so a lost row is noticed
    Column("version", Integer, nullable=False),
)

# Whatever is destroyed with proof: by its window (purge), at a person's request (erasure), with a tenant that left.
disposals = Table(
    "disposals",
    METADATA,
    required("disposal_id", 32, primary_key=True),
    required("reason", 16),  # purge, erasure, tenant end
    Column("about", String(64)),  # the request of an erasure, the tenant of a tenant's end
    Column("as_of", Date, nullable=False),
    required("status", 16),  # planned, approved, tombstoned, removing, done, partial, abandoned
    required("plan_digest", 64),
    Column("plan", Text, nullable=False),  # JSON; names files and keys, never a hold that is confidential
    required("started_by", 255),
    Column("approved_by", String(64)),
    Column("created_at", DateTime, nullable=False),
    Column("finished_at", DateTime),
    Column("run_id", String(32)),  # that wrote its files; another one may finish it
    Column("certificate_id", String(32)),
)

disposal_items = Table(
    "disposal_items",
    METADATA,
    required("disposal_id", 32, primary_key=True),
    Column("item", Integer, primary_key=True, autoincrement=False),
    required("retention_class", 32),
    required("action", 16),  # delete, rewrite, release
    required("tenant"),
    required("view", 16),
    required("part", 16),
    required("file_id", 96),
    Column("rows", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    required("state", 16),  # planned, tombstoned, removed, kept
)

# What a look at the calendar foresaw for the purges to come: one row, the newest (purge/safety_check.py).
purge_forecasts = Table(
    "purge_forecasts",
    METADATA,
    Column("made_at", DateTime, primary_key=True),
    Column("until", Date, nullable=False),  # how far it reaches
    Column("rows", Text, nullable=False),  # JSON: class, the first and the last of its last days, rows
)

# Per data file and input file how many rows came from it: so a purge that reads no row still knows whose rows went.
lake_file_inputs = Table(
    "lake_file_inputs",
    METADATA,
    required("file_id", 96, primary_key=True),
    Column("file_no", BigInteger, primary_key=True, autoincrement=False),
    Column("rows", BigInteger, nullable=False),
)

# Rows of an input file that retention has taken out of a view, or holds past their window.
row_ends = Table(
    "row_ends",
    METADATA,
    required("disposal_id", 32, primary_key=True),  # or the run that never wrote them: they were past their window
    required("view", 16, primary_key=True),
    Column("file_no", BigInteger, primary_key=True, autoincrement=False),
    required("end", 16, primary_key=True),  # purged, held, unheld (a held row that went), erased, numbers
    Column("rows", BigInteger, nullable=False),
)

# Derived rows whose data files are gone: what they were when these went. `rebuild --check` compares them with this.
frozen_derived = Table(
    "frozen_derived",
    METADATA,
    required("disposal_id", 32, primary_key=True),
    required("table_name", 64, primary_key=True),
    required("tenant", primary_key=True),
    required("part", 16, primary_key=True),  # the date
    Column("rows", BigInteger, nullable=False),
    required("sha256", 64),
)

certificates = Table(
    "certificates",
    METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    required("certificate_id", 32, unique=True),
    Column("disposal_id", String(32)),
    required("status", 16),  # complete, partial, pending
    Column("document", Text, nullable=False),  # canonical JSON, signed
    required("prev", 64),
    required("hash", 64),
    Column("issued_at", DateTime, nullable=False),
)

requests = Table(
    "requests",
    METADATA,
    required("request_id", 32, primary_key=True),
    required("tenant"),
    required("kind", 16),  # access, correct, erase, restrict, export
    required("status", 16),  # open, answered, refused, referred, appealed
    Column("received_at", DateTime, nullable=False),
    Column("due_at", DateTime, nullable=False),
    Column("extended_to", DateTime),
    Column("answered_at", DateTime),
    Column("refusal", String(32)),
    Column("body", LargeBinary, nullable=False),  # selector, identity check, notes: sealed under the hold root
)

# Record ids that are not to come in again (an erasure), under a key that purges leave alone: not the person's number.
suppressions = Table(
    "suppressions",
    METADATA,
    required("tenant", primary_key=True),
    required("record", 32, primary_key=True),  # hex
    required("request_id", 32),
)

# Persons whose rows may be kept but not used, until they say otherwise: a keyed hash of the number or account.
restrictions = Table(
    "restrictions",
    METADATA,
    required("tenant", primary_key=True),
    required("selector", 32, primary_key=True),  # hex
    required("request_id", 32),
    Column("since", DateTime, nullable=False),
    Column("until", DateTime),
    Column("confidential", Boolean, nullable=False, default=False),
)

Index("ix_lake_file_inputs_file_no", lake_file_inputs.c.file_no)

RETENTION: Final = (
    approvers,
    approvals,
    policies,
    roots,
    root_copies,
    holds,
    disposals,
    disposal_items,
    purge_forecasts,
    lake_file_inputs,
    row_ends,
    frozen_derived,
    certificates,
    requests,
    suppressions,
    restrictions,
)
