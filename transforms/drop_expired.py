"""DropExpired: of whole calls those that may still be written. What is past its window on arrival is only counted.

A call date closes view by view: first the service-assurance view or the numbers, last the billing row. While a legal
hold is open, calls of which anything would be left out are sealed in a log of their own for the next purge, which alone
knows what is held.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import select

from callward import database
from callward.columns import has_value, set_column
from callward.keys import tokens
from callward.lake import ledger
from callward.lake.data_files import DataFiles
from callward.lake.ledger import Changes
from callward.retention import holds
from callward.retention.policy import register as policy_register
from callward.retention.policy.register import Policies
from callward.retention.policy.rules import call_clock
from callward.workspace import Workspace
from schemas.cdr import CDR, NUMBERS
from schemas.codes import Bucket, Filter
from schemas.retention import suppressions
from transforms import earlier
from transforms.elements import Group


@dataclass
class WithinWindow:
    """Calls to write (schema CDR), those left out, all that came late (those left out, and those written without a view
    or numbers), and the dates (ISO) that a view or the numbers are closed for."""

    calls: pa.Table
    expired: pa.Table = field(default_factory=lambda: CDR.empty_table())
    late: pa.Table = field(default_factory=lambda: CDR.empty_table())
    without_assurance: tuple[str, ...] = ()
    without_billing: tuple[str, ...] = ()
    without_numbers: tuple[str, ...] = ()


def drop_expired(calls: pa.Table, policies: Policies, today: date, every_attempt: bool) -> WithinWindow:
    """Separate one tenant's calls (schema CDR) by the policy in force on the day they came in.

    `every_attempt`: the billing view holds attempts as well. A call that no open view would hold is expired.
    """
    dates = pc.unique(calls["call_date"]).to_pylist()
    opened = {day: policies.open_for(day, today, today) for day in dates}
    shut = {
        name: sorted(day for day in dates if not getattr(opened[day], name))
        for name in ("assurance", "billing", "numbers")
    }
    named = {f"without_{name}": tuple(day.isoformat() for day in days) for name, days in shut.items()}
    without = _of_subscribers(calls, dates, policies, today)
    if without is None and not any(shut.values()):  # as nearly always
        return WithinWindow(calls)
    behind = _on(calls, sorted({day for days in shut.values() for day in days}))
    if without is not None:
        behind = pc.or_(behind, without)
    late = calls.filter(behind)
    calls = calls if without is None else _without_numbers(calls, without)
    if not shut["assurance"]:
        return WithinWindow(calls, late=late, **named)
    lost = _on(calls, shut["assurance"])
    if shut["billing"] != shut["assurance"] or not every_attempt:
        billed = pa.repeat(True, calls.num_rows) if every_attempt else has_value(calls["disposition"], "answered")
        lost = pc.and_(lost, pc.invert(pc.and_(billed, pc.invert(_on(calls, shut["billing"])))))
    return WithinWindow(calls.filter(pc.invert(lost)), calls.filter(lost), late, **named)


def _of_subscribers(calls: pa.Table, dates: list[date], policies: Policies, today: date) -> pa.ChunkedArray | None:
    """Calls of accounts whose own, shorter window for call detail is past; None where no account has one."""
    if not policies.subscribers("call_detail"):
        return None
    found = pa.chunked_array([pa.repeat(False, calls.num_rows)])
    for day in dates:
        past = policies.due_accounts("call_detail", call_clock(day), today, today)
        if past:
            found = pc.or_(found, pc.and_(_on(calls, [day]), has_value(calls["account"], *past)))
    return found


def _without_numbers(calls: pa.Table, rows: pa.ChunkedArray) -> pa.Table:
    for name in NUMBERS:
        calls = set_column(calls, name, pc.if_else(rows, pa.scalar(None, pa.string()), calls[name]))
    return calls


def _on(calls: pa.Table, days: list[date]) -> pa.ChunkedArray:
    return pc.is_in(calls["call_date"], pa.array(days, pa.date32()))


def erased(records: pa.Table, tenant: str, workspace: Workspace, by: Sequence[str] = ("record_id",)) -> pa.Array | None:
    """Return which records are not to come in again, as their person had them erased; None where a tenant has no such.

    `by`: the columns of ids of which one is enough; with call_id, what is of a call that was erased. Ids that a record
    had under earlier generations of its source count as well.
    """
    known = suppressed(tenant, workspace)
    if not len(known):
        return None
    masks = [pc.is_in(suppression_ids(records[name], tenant, workspace), known) for name in by]
    rows, ids = earlier.unpack(records["earlier"])
    if len(rows):
        before = pc.is_in(suppression_ids(tokens.from_u64(ids[:, :2]), tenant, workspace), known)
        masks.append(pc.is_in(pa.array(np.arange(records.num_rows)), pa.array(rows).filter(before)))
    return reduce(pc.or_, masks)


def suppressed(tenant: str, workspace: Workspace) -> pa.Array:
    """Return the ids of a tenant's erased records, as `suppression_ids` has them."""
    with database.reading(workspace.settings) as connection:
        found = connection.execute(select(suppressions.c.record).where(suppressions.c.tenant == tenant)).scalars().all()
    return pa.array([bytes.fromhex(record) for record in found], tokens.ID_TYPE)


def suppression_ids(record_ids: pa.Array | pa.ChunkedArray, tenant: str, workspace: Workspace) -> pa.Array:
    """Record ids as the register of erased records names them: under a key that no purge destroys."""
    return tokens.permute(record_ids, workspace.id_secret(tenant, "suppression"))


def drop_expired_of_group(group: Group, files: DataFiles, today: date) -> tuple[Group, Changes]:
    """Return a group's calls that may still be written (there may be none), and what became of the others."""
    settings = files.workspace.settings
    with database.reading(settings) as connection:
        policies = policy_register.in_force(settings, connection)[group.tenant]
        held = holds.any_open(connection)
    calls, changes = group.calls, Changes()
    unwanted = erased(calls, group.tenant, files.workspace)
    if unwanted is not None and pc.any(unwanted).as_py():
        changes.entries += ledger.entries(calls.filter(unwanted), Bucket.FILTERED, Filter.ERASED)
        calls = calls.filter(pc.invert(unwanted))
    every_attempt = settings.tenants[group.tenant].billing.rows == "attempts"
    within = drop_expired(calls, policies, today, every_attempt)
    if within.expired.num_rows:
        changes.entries += ledger.entries(within.expired, Bucket.FILTERED, Filter.EXPIRED)
    if held and within.late.num_rows:
        changes.files.append(files.write_log("late", group.tenant, within.late))
    amended = _still_kept(group.amended, policies, today)
    shut = {name: getattr(within, name) for name in ("without_assurance", "without_billing", "without_numbers")}
    others = [(bucket, _still_kept(records, policies, today)) for bucket, records in group.others]
    if unwanted is not None:
        others = [(bucket, _without_erased(records, group.tenant, files.workspace)) for bucket, records in others]
    return replace(group, calls=within.calls, amended=amended, others=others, **shut), changes


def _still_kept(records: pa.Table, policies: Policies, today: date) -> pa.Table:
    """Return the records of dates of which anything is kept still."""
    dates = [day for day in pc.unique(records["call_date"]).to_pylist() if day is not None]
    return records.filter(_on(records, [day for day in dates if any(policies.open_for(day, today, today))]))


def _without_erased(records: pa.Table, tenant: str, workspace: Workspace) -> pa.Table:
    """Return records that come to no row without those of erased calls: the index is not to name these again."""
    unwanted = erased(records, tenant, workspace, ("record_id", "call_id"))
    return records if unwanted is None else records.filter(pc.invert(unwanted))
