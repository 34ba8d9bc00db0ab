"""Roles of persons: what each may ask for, and what its commands read and write in the database. Default deny.

The services that run pipelines and retention own the database and are not in this table. A derived table that is
listed in `schemas.tables.DERIVED` belongs to its view's role without a word here.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Column, LargeBinary, MetaData, String, Table

from callward.lake.account_sums import DOMAIN
from callward.lake.readers import PREFIX
from schemas import retention, streaming, tables
from schemas.release import PUBLISHED, analytics_cells, release_budgets, release_charges, releases
from schemas.views import PARTS


@dataclass(frozen=True)
class Access:
    """What a role may do with a table: read it, or write it too; all or some columns, all or some rows.

    Attributes:
        columns: the names of those that it sees; none stands for all.
        rows: a condition in SQL that each row meets; "" for every row.
        writes: whether it adds, changes and removes rows as well.
    """

    table: Table
    columns: tuple[str, ...] = ()
    rows: str = ""
    writes: bool = False

    @property
    def schema(self) -> str:
        """The schema that the table lies in."""
        return self.table.schema or "public"

    @property
    def name(self) -> str:
        """The table's name with its schema."""
        return f"{self.schema}.{self.table.name}"


@dataclass(frozen=True)
class Role:
    """What a role may ask, and what its commands need of the database.

    Attributes:
        view: the view of the lake that it reads, or the sums by account (`sla`); the roots of that view must open for
            it to ask at all.
        tables: tables of the database that it may ask for.
        computed: tables that are made when they are asked for.
        registers: what its commands read and write besides.
        events: what it appends to the audit log.
    """

    view: str | None
    tables: tuple[Table, ...]
    computed: tuple[str, ...] = ()
    registers: tuple[Access, ...] = ()
    events: tuple[str, ...] = ("sql",)

    def roots(self, with_numbers: bool) -> list[str]:
        """Return key domains whose roots must open."""
        if self.view is None:
            return []
        return [self.view, f"{self.view}-numbers"] if with_numbers else [self.view]

    def access(self) -> list[Access]:
        """Return all that the role may do with tables, one entry for each table."""
        besides = (*_EVERYBODY, *self.registers)
        named = {access.table for access in besides}
        return [*(_unsealed(table) for table in self.tables if table not in named), *besides]


def unsealed(table: Table) -> tuple[str, ...]:
    """Return the names of a table's columns without sealed bytes, in which there is nothing to read."""
    return tuple(column.name for column in table.columns if not isinstance(column.type, LargeBinary))


def _unsealed(table: Table) -> Access:
    """Return access to what of a table is not sealed."""
    names = unsealed(table)
    return Access(table, () if len(names) == len(table.columns) else names)


# Alembic's own, with the version of all other tables: every reading begins with it.
_VERSION: Final = Table("alembic_version", MetaData(), Column("version_num", String(32)))
_EVERYBODY: Final = (
    Access(_VERSION),
    Access(tables.workspace),
    Access(tables.leases, rows=f"starts_with(name, '{PREFIX}')", writes=True),  # a long query keeps its files so
)


def _of_view(view: str) -> Role:
    """Return the role of a view: the sums of its own derived tables, and what opens its own data files."""
    its_keys = f"domain IN ('{view}', '{view}-numbers')"
    its_files = ", ".join(f"'{part}'" for part in PARTS[view])
    registers = (
        Access(tables.lake_files, rows=f"view IN ({its_files})"),
        Access(tables.keys, rows=its_keys),
        Access(retention.roots, rows=its_keys),
        Access(retention.restrictions, ("tenant", "selector", "request_id", "until")),
        Access(tables.runs, ("kind", "status", "started_at"), rows="kind = 'restrict'"),
    )
    return Role(view, tables.of_view(view), registers=registers, events=("sql", "open"))


_EVIDENCE: Final = (
    *(retention.approvers, retention.approvals, retention.policies, retention.roots, retention.root_copies),
    *(
        retention.holds,
        retention.requests,
        retention.disposals,
        retention.disposal_items,
        retention.row_ends,
        retention.frozen_derived,
    ),
    *(retention.lake_file_inputs, retention.certificates, retention.purge_forecasts, release_budgets),
    *(
        tables.account_directories,
        tables.partitions,
        streaming.block_slices,
        streaming.streams,
        streaming.stream_counts,
    ),
)
_COMPLIANCE: Final = Role(
    None,
    (
        tables.runs,
        tables.waves,
        tables.input_files,
        tables.blocks,
        tables.ledger_entries,
        tables.lake_files,
        tables.keys,
        tables.audit_log,
        tables.cases,
        releases,
        release_charges,
    ),
    ("retention_due",),
    (
        *map(_unsealed, _EVIDENCE),
        Access(tables.keys),  # also wrapped keys, which open nothing: 'purge verify' looks whether one is left
        Access(releases),
    ),
)
_ANALYTICS: Final = Role(
    None,
    (analytics_cells,),
    registers=(
        Access(
            releases,
            ("release_id", "name", "tenant", "period_start", "correction_no", "status", "published_at", "sheet"),
            rows=f"status = '{PUBLISHED}'",
        ),
    ),
)

_ITS_SUMS: Final = f"domain = '{DOMAIN}'"
_SUPPORT: Final = Role(
    DOMAIN,
    (),
    (tables.sla_account_daily.name,),  # the rows of a case's account, opened
    (
        Access(tables.sla_sums),
        Access(tables.keys, rows=_ITS_SUMS),
        Access(retention.roots, rows=_ITS_SUMS),
        Access(retention.restrictions, ("tenant", "selector", "request_id", "until")),
        Access(tables.cases, rows="closed_at IS NULL"),
    ),
    ("sql", "open", "refused"),
)

ROLES: Final = {
    "billing": _of_view("billing"),
    "assurance": _of_view("assurance"),
    "compliance": _COMPLIANCE,
    "analytics": _ANALYTICS,
    "support": _SUPPORT,
}
