"""What the registers say about a disposal: all that its certificate states and can be proved by later.

Everything is counted from registers that outlive the data, in one snapshot; what only the run itself knows comes as
`Facts`.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Connection, func, select

from callward import database
from callward.evidence.checks import Check, removed_files
from callward.keys import rotation
from callward.lake.ledger import DataFile
from callward.retention.policy import register as policy_register
from callward.retention.policy.register import Policies
from callward.retention.purge import calendar as purge_calendar
from callward.retention.tenants import closing
from callward.settings import Settings
from schemas.retention import disposals, frozen_derived, policies, roots, row_ends
from schemas.tables import blocks, input_files, keys, lake_files

_DECIDED: Final = ("active", closing.DECIDED)
_LOGS: Final = ("suspense", "pending", "late")  # their partitions have no date


@dataclass(frozen=True)
class Held:
    """Rows past their window that a disposal left, and why: ids of holds that everyone may know of, or none."""

    tenant: str
    retention_class: str
    rows: int
    holds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Removed:
    """Rows or files outside the manifest that a disposal removed: database rows, batches in flight."""

    tenant: str
    retention_class: str
    what: str
    rows: int


@dataclass(frozen=True)
class Facts:
    """What only the disposal itself knows; all the rest of a certificate is read from the registers.

    `held` may name no hold that is confidential, nor count its rows apart: certificates are read by everybody.
    """

    tombstones: Sequence[rotation.Tombstone] = ()
    held: Sequence[Held] = ()
    removed: Sequence[Removed] = ()
    completes: Sequence[str] = ()  # certificates that were PARTIAL for what this disposal removed
    deletion_pending_until: date | None = None  # a key service destroys after a waiting period


@dataclass(frozen=True)
class Known:
    """What the registers say about a disposal, read in one snapshot."""

    disposal: Any  # its row
    removed: Sequence[Any]  # lake_files rows with their item: see checks.removed_files
    keys: Mapping[str, Any]
    under: Mapping[str, int]  # data files that ever lay under a destroyed key
    roots: Mapping[str, str]  # state by root id
    copies: Sequence[rotation.Copy]
    policies: Mapping[str, Policies]
    activated: Mapping[str, tuple[str, str]]  # the two persons behind a tenant's policy
    ends: Sequence[Mapping[str, Any]]
    ends_sha256: str
    derived: Sequence[Mapping[str, Any]]  # sums by trunk, account or day that stay
    in_landing: int  # landing files of these rows that were not removed
    archived: int  # sealed blocks of the same landing files, which are kept by a class of their own
    checks: Sequence[Check]


def digest(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def canonical(value: Any) -> str:
    """Return JSON with sorted keys and no spaces: equal values are equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=_plain)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else str(value)


# -- reading the registers ------------------------------------------------------------------------------------------


def known(settings: Settings, connection: Connection, disposal_id: str, facts: Facts, checks: Sequence[Check]) -> Known:
    """Return everything about a disposal that a certificate stands on."""
    removed = removed_files(connection, disposal_id)
    key_ids = {key_id for row in removed for key_id in row.key_ids.split()} | {t.key_id for t in facts.tombstones}
    rows = _keys(connection, key_ids)
    root_ids = sorted({t.root_id for t in facts.tombstones} | {k.root_id for k in rows.values() if k.blob is None})
    ends, ends_sha256 = row_counts(connection, disposal_id)
    return Known(
        disposal=connection.execute(select(disposals).where(disposals.c.disposal_id == disposal_id)).one(),
        removed=removed,
        keys=rows,
        under=_files_under(connection, facts.tombstones),
        roots=_root_states(connection, root_ids),
        copies=rotation.copies(connection, root_ids),
        policies=policy_register.in_force(settings, connection),
        activated=_activated(connection),
        ends=ends,
        ends_sha256=ends_sha256,
        derived=_derived(connection, disposal_id),
        in_landing=_in_landing(connection, disposal_id),
        archived=_archived(connection, disposal_id),
        checks=checks,
    )


def _keys(connection: Connection, key_ids: set[str]) -> dict[str, Any]:
    rows = {}
    for batch in database.batches(sorted(key_ids)):
        rows.update({row.key_id: row for row in connection.execute(select(keys).where(keys.c.key_id.in_(batch)))})
    return rows


def _root_states(connection: Connection, root_ids: Sequence[str]) -> dict[str, str]:
    return {row.root_id: row.state for row in connection.execute(select(roots).where(roots.c.root_id.in_(root_ids)))}


def _files_under(connection: Connection, tombstones: Sequence[rotation.Tombstone]) -> Counter[str]:
    """Count the data files, of this disposal or an earlier one, that lay under each destroyed key."""
    wanted, counted = {t.key_id for t in tombstones}, Counter[str]()
    months = sorted(t.name.month for t in tombstones)
    if months:
        f = lake_files.c
        of_months = f.part.between(f"{months[0]}-01", f"{months[-1]}-31") | f.part.in_(_LOGS)
        for key_ids in connection.execute(select(f.key_ids).where(of_months)).scalars():
            counted.update(wanted.intersection(key_ids.split()))
    return counted


def row_counts(connection: Connection, disposal_id: str) -> tuple[list[dict[str, Any]], str]:
    """Count rows by view and end; with the SHA-256 of the same by input file, so that each can be proved later."""
    query = select(row_ends).where(row_ends.c.disposal_id == disposal_id)
    lines = sorted((row.view, row.end, row.file_no, int(row.rows)) for row in connection.execute(query))
    sums = []
    for (view, end), group in groupby(lines, key=lambda line: line[:2]):
        counts = [rows for *_, rows in group]
        sums.append({"view": view, "end": end, "rows": sum(counts), "input_files": len(counts)})
    return sums, digest(lines)


def _derived(connection: Connection, disposal_id: str) -> list[dict[str, Any]]:
    """Return derived rows that stay after the rows they were made of: sums that name nobody, or that a hold keeps."""
    f = frozen_derived.c
    query = select(f.table_name, f.tenant, func.sum(f.rows).label("rows")).where(f.disposal_id == disposal_id)
    rows = connection.execute(query.group_by(f.table_name, f.tenant).order_by(f.table_name, f.tenant))
    return [{"tenant": row.tenant, "table": row.table_name, "rows": int(row.rows)} for row in rows if row.rows]


def _in_landing(connection: Connection, disposal_id: str) -> int:
    """Count the landing files, in the clear, of rows that this disposal removed."""
    touched = select(row_ends.c.file_no).where(row_ends.c.disposal_id == disposal_id)
    left = select(func.count()).where(input_files.c.file_no.in_(touched), input_files.c.status != "removed")
    return connection.execute(left.select_from(input_files)).scalar_one()


def _archived(connection: Connection, disposal_id: str) -> int:
    """Count the archive files whose sealed blocks still hold these rows as they came."""
    touched = select(row_ends.c.file_no).where(row_ends.c.disposal_id == disposal_id)
    counting = lake_files.c.superseded_at.is_(None) & blocks.c.file_no.in_(touched)
    joined = blocks.join(lake_files, lake_files.c.file_id == blocks.c.archive_file)
    query = select(func.count(lake_files.c.file_id.distinct())).select_from(joined).where(counting)
    return connection.execute(query).scalar_one()


def _activated(connection: Connection) -> dict[str, tuple[str, str]]:
    query = select(policies).where(policies.c.state.in_(_DECIDED)).order_by(policies.c.version)
    return {row.tenant: (row.proposed_by, row.activated_by or "") for row in connection.execute(query)}


# -- what went -------------------------------------------------------------------------------------------------------


def tally(removed: Sequence[Any]) -> list[dict[str, Any]]:
    """Count what went by tenant, class and view: files, rows, bytes, event time, and a digest that names every file."""

    def group(row: Any) -> tuple[str, str, str]:
        return row.tenant, row.retention_class, row.view

    lines = []
    for (tenant, cls, view), members in groupby(sorted(removed, key=group), key=group):
        rows = list(members)
        days = sorted(purge_calendar.about(data_file(row)) for row in rows)
        lines.append(
            {
                "tenant": tenant,
                "retention_class": cls,
                "view": view,
                "first": days[0].isoformat(),
                "last": days[-1].isoformat(),
                "files": len(rows),
                "rows": sum(row.due - row.held for row in rows),
                "held_apart": sum(row.held for row in rows),
                "bytes": sum(row.bytes for row in rows),
                "manifest_sha256": digest(sorted([row.file_id, row.sha256, row.rows, row.bytes] for row in rows)),
            }
        )
    return lines


def data_file(row: Any) -> DataFile:
    """Return a row of lake_files as the manifest names it."""
    return DataFile(**{name: getattr(row, name) for name in DataFile.__dataclass_fields__ if name != "inputs"})
