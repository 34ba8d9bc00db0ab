"""What people do with holds: place, renew, release, list."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import Row, select

from callward import database, identity
from callward.accounts import register
from callward.errors import UsageProblem
from callward.keys import approvers
from callward.numbering import Plan, normalize_values, plan
from callward.redaction import recorded
from callward.retention.holds import sealed
from callward.retention.holds.order import (
    COMPLIANCE,
    KINDS,
    LEGAL,
    PRESERVATION_DAYS,
    SERVICE,
    Hold,
    HoldSummary,
    summarize,
    visible,
    warned,
)
from callward.runs import new_id
from callward.settings import Settings
from callward.workspace import Workspace, WorkspaceRef
from schemas.tables import lake_files


def place(settings: Settings, hold: Hold, today: date, *, unlisted: bool = False, dry_run: bool = False) -> Hold:
    """Put a hold into force, and return it with its id, who placed it and when; raises UsageProblem for a wrong one.

    A preservation order without `expires_on` gets 90 days. `unlisted` admits accounts and trunks that the settings do
    not list (any more): a name written wrong would hold nothing, and nobody would know.
    """
    at_most = today + timedelta(PRESERVATION_DAYS) if hold.kind == "preservation" else None
    if at_most and hold.expires_on and hold.expires_on > at_most:
        raise UsageProblem(f"a preservation order runs {PRESERVATION_DAYS} days at most, and is renewed by as many")
    placed = replace(
        hold,
        hold_id=new_id(),
        placed_by=identity.who(),
        placed_at=database.now().replace(microsecond=0),
        expires_on=hold.expires_on or at_most,
        released_on=None,
    )
    _check(settings, placed, today, unlisted)
    return placed if dry_run else sealed.add(settings, placed)


def renew(
    settings: Settings,
    hold_id: str,
    today: date,
    *,
    expires_on: date | None = None,
    confidential_until: date | None = None,
    role: str = COMPLIANCE,
    dry_run: bool = False,
) -> Hold:
    """Extend an order: one of preservation by 90 days, another to a later date; or how long it is confidential.

    A preservation order that has expired gets its 90 days from today. Raises UsageProblem for a date that is no
    extension, and for a hold that is not there, is released, or may not be known to the role.
    """
    row, hold = _found(settings, hold_id, today, role)
    if hold.released_on is not None:
        raise UsageProblem(f"hold {hold_id} was released on {hold.released_on}: place a new one")
    renewed = replace(
        hold,
        expires_on=_later_expiry(hold, today, expires_on, confidential_until is not None),
        confidential_until=confidential_until or hold.confidential_until,
    )
    if renewed.confidential_until and hold.confidential_until and renewed.confidential_until < hold.confidential_until:
        raise UsageProblem("--confidential-until can be put off only: what an order keeps secret is not told earlier")
    if not dry_run:
        sealed.change(settings, row, renewed, sealed.RENEW)
    return renewed


def release(
    settings: Settings,
    hold_id: str,
    person: str,
    key_file: Path,
    today: date,
    *,
    role: str = COMPLIANCE,
    dry_run: bool = False,
) -> Hold:
    """End a hold with a registered person's approval of it as it stands; its tail, if it has one, begins today.

    Raises UsageProblem as `renew` does, Problem when the person's key does not sign for that name.
    """
    row, hold = _found(settings, hold_id, today, role)
    if hold.released_on is not None:
        raise UsageProblem(f"hold {hold_id} was released on {hold.released_on} already")
    released = replace(hold, released_on=today)
    if not dry_run:
        approvers.approve(settings, "hold", row.digest, person, key_file)
        sealed.change(settings, row, released, sealed.RELEASE, person)
    return released


def list_holds(settings: Settings, role: str, today: date) -> list[HoldSummary]:
    """Return every hold that the role may know of, the oldest first, released ones too.

    For anyone but legal the service reads the register: what is confidential is left out, without a trace.
    """
    rows_and_holds = sealed.read(settings, LEGAL if role == LEGAL else SERVICE)
    return [summarize(hold, today) for hold in visible([hold for _, hold in rows_and_holds], role, today)]


def read_hold(settings: Settings, hold_id: str, role: str, today: date) -> HoldSummary:
    """Return one hold as `list_holds` has it; raises UsageProblem for one that is not there or may not be known."""
    _, hold = _found(settings, hold_id, today, role)
    return summarize(hold, today)


def warnings(settings: Settings, today: date, role: str = COMPLIANCE) -> list[str]:
    """Return a sentence for each order that expires within 14 days, or has; only of holds the role may know of."""
    return warned(visible(sealed.opened(settings, today=today), role, today), today)


def _found(settings: Settings, hold_id: str, today: date, role: str) -> tuple[Row[Any], Hold]:
    """Return a hold by its id. One that may not be known is missing in the same words as one that never was."""
    for row, hold in sealed.read(settings, LEGAL if role == LEGAL else SERVICE):
        if row.hold_id == hold_id and visible([hold], role, today):
            return row, hold
    raise UsageProblem("there is no hold of that id; 'callward hold list' shows them")


# -- what is refused ---------------------------------------------------------------------------------------------------


def _check(settings: Settings, hold: Hold, today: date, unlisted: bool) -> None:
    if hold.kind not in KINDS:
        raise UsageProblem(f"a hold is one of {', '.join(KINDS)}")
    for option, text in (("--authority", hold.authority), ("--case", hold.case)):
        if not recorded(option, text):
            raise UsageProblem(f"{option} says in one line on what the hold rests")
    if hold.first and hold.last and hold.first > hold.last:
        raise UsageProblem("--from is after --to")
    if hold.kind == "dispute" and hold.tail is None:
        raise UsageProblem('a dispute hold needs --tail, how long claims may still be made, such as "3 years"')
    if hold.expires_on and hold.expires_on <= today:
        raise UsageProblem("--expires is not in the future")
    _check_names(settings, hold, unlisted)


def _check_names(settings: Settings, hold: Hold, unlisted: bool) -> None:
    if hold.tenant not in settings.tenants and not _has_data(settings, hold.tenant):
        raise UsageProblem("no tenant of that name is in the settings or has data")
    if unlisted:
        return
    accounts = register.known(settings, hold.tenant) | {"unassigned"}
    trunks = {trunk.name for trunk in settings.trunks} | {"other"}
    for option, named, known in (("--account", hold.accounts, accounts), ("--trunk", hold.trunks, trunks)):
        for name in set(named) - known:
            raise UsageProblem(
                f"{option}: {name!r} is not known here, and a name written wrong would hold nothing; "
                "--unlisted if it was there once"
            )


def _has_data(settings: Settings, tenant: str) -> bool:
    with database.reading(settings) as connection:
        named = select(lake_files.c.file_id).where(lake_files.c.tenant == tenant).limit(1)
        return connection.execute(named).first() is not None


def _later_expiry(hold: Hold, today: date, wanted: date | None, other_change: bool) -> date | None:
    if hold.kind == "preservation":
        if wanted is not None:
            raise UsageProblem(f"a preservation order is renewed by {PRESERVATION_DAYS} days: no --expires")
        return max(hold.expires_on or today, today) + timedelta(PRESERVATION_DAYS)
    if wanted is None:
        if other_change:
            return hold.expires_on
        raise UsageProblem("say how far the order was extended: --expires")
    if wanted <= max(hold.expires_on or today, today):
        raise UsageProblem("--expires is no later than the order runs already, or not in the future")
    return wanted


# -- numbers as people write them --------------------------------------------------------------------------------------


def normalized(settings: Settings, tenant: str, written: Sequence[str], country: str | None = None) -> tuple[str, ...]:
    """Turn numbers as people write them into E.164, each once; by the plans of the tenant's sources, or a country's.

    Raises UsageProblem, by the number's position, for one that is not certain, or that two of the tenant's sources
    would read in two ways: a hold on another number than was meant would let the right one go.
    """
    if not written:
        return ()
    readings = [normalize_values(pa.array(written, pa.string()), p) for p in _plans(settings, tenant, country)]
    for position, values in enumerate(zip(*(r.number.to_pylist() for r in readings), strict=True), 1):
        certain = all(reading.kind[position - 1].as_py() == "e164" for reading in readings)
        if not certain or len(set(values)) > 1:
            where = f"number {position} of {len(written)}"
            raise UsageProblem(f"{where} is not certain: write it with + and its country code, or give --country")
    return tuple(dict.fromkeys(readings[0].number.to_pylist()))


def _plans(settings: Settings, tenant: str, country: str | None) -> list[Plan]:
    if country is not None:
        try:
            return [plan(country)]
        except ValueError:
            raise UsageProblem("--country takes an ISO code such as US") from None
    workspace = Workspace(WorkspaceRef.of(settings, SERVICE, "numbers of a hold"), settings)
    plans = [workspace.plan(s) for s in settings.sources if tenant in s.all_tenants]
    return list(dict.fromkeys(plans)) or [plan("US")]
