"""Policies in force: activated in the register by two persons, else what callward.toml says of a tenant.

A version is proposed by one registered person and activated by another; both sign its digest, which covers the text,
the reference and the digest of the version before it, so that no version can be slipped in, left out or changed later
without a signature that fails. Where the register does not hold, nothing is governed and nothing may be purged.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, select, update

from callward import audit, database
from callward.errors import Problem, UsageProblem
from callward.keys import approvers
from callward.redaction import mask, recorded
from callward.retention.policy.policy_file import lint, load, parse, read
from callward.retention.policy.rules import Leaving, OpenFor, Policies, Policy, Rule, call_clock
from callward.retention.tenants import closing
from callward.settings import Settings
from schemas.retention import policies
from schemas.retention_classes import CLASSES, Window
from schemas.tables import audit_log

__all__ = [
    "OpenFor",
    "Policies",
    "Policy",
    "PolicyProblem",
    "PolicyVersion",
    "Rule",
    "activate",
    "call_clock",
    "check_activation",
    "check_history",
    "check_proposal",
    "in_force",
    "lint",
    "list_versions",
    "load",
    "of_settings",
    "parse",
    "propose",
]

KIND: Final = "policy"  # of approvals
FROM_SETTINGS: Final = "from settings"
PROPOSED, ACTIVE, REPLACED = "proposed", "active", "replaced"
_TAG: Final = "callward/policy/1"
_ROLE: Final = "compliance"
_ACTIVATED: Final = "policy-activate"


class PolicyProblem(Problem):
    """The register's policies are not those that were approved: nothing may be purged until they are."""


def in_force(
    settings: Settings, connection: Connection, candidates: Mapping[str, Policy] | None = None
) -> dict[str, Policies]:
    """Return the policies of every tenant of the settings and of the register.

    `candidates`: tenant → a policy to be taken as if it were activated now, to see its effect; its `reference` counts.
    Raises PolicyProblem where the register's versions are not those that were approved.
    """
    proposed = candidates or {}
    registered = _registered(connection)
    governed = {}
    for tenant in {**settings.tenants, **registered, **proposed}:
        versions = registered.get(tenant, ())
        if tenant in proposed:
            versions = (*versions, _candidate(proposed[tenant], tenant, versions))
        governed[tenant] = Policies(tenant, versions or (of_settings(settings, tenant),))
    for tenant, left in closing.decided(connection).items():
        if tenant in governed:
            governed[tenant] = Leaving(tenant, governed[tenant].versions, left.left_on, left.keep_floors)
    return governed


def check_history(connection: Connection) -> None:
    """Raise PolicyProblem unless the register has every activation that the audit log tells of, and no other.

    The digests of `in_force` find what was altered; this finds a version that was taken away or put back. It reads the
    log, so a purge calls it once, and no worker does.
    """
    subjects = select(audit_log.c.subject).where(audit_log.c.event == _ACTIVATED).order_by(audit_log.c.seq)
    logged = list(connection.execute(subjects).scalars())
    kept = {_subject(row.tenant, row.version, row.digest) for row in _rows(connection, states=(ACTIVE, REPLACED))}
    if kept != set(logged):
        odd = mask(min(kept ^ set(logged)).rpartition(" ")[0])
        raise PolicyProblem(f"the audit log and the register differ on the policy of {odd}: the register was altered")


def of_settings(settings: Settings, tenant: str) -> Policy:
    """Return what callward.toml says of a tenant: windows alone, with the clocks and actions usual for classes."""
    windows = settings.tenants[tenant].retention
    rules = {
        name: Rule(
            window=Window.parse(windows[name]),
            clock=retention.clock,
            floor=retention.floor,
            at_expiry=retention.default_action,
            basis="callward.toml",
        )
        for name, retention in CLASSES.items()
        if name in windows
    }
    said = json.dumps([tenant, sorted(windows.items())])
    digest = hashlib.sha256(said.encode()).hexdigest()
    return Policy(tenant, 0, FROM_SETTINGS, "controller", digest, rules)


def propose(
    settings: Settings, tenant: str, text: str, person: str, key_file: Path, reference: str | None
) -> tuple[int, str]:
    """Put a policy before a second person: its version and digest. Nothing is governed by it before `activate`.

    `reference` names the notice or consent by which longer windows and new purposes reach data that is there already.
    Raises UsageProblem for a policy that is refused, a tenant or person that is not known.
    """
    version, digest = check_proposal(settings, tenant, text, reference)
    approvers.approve(settings, KIND, digest, person, key_file)
    with database.writing(settings) as connection:
        if _next(connection, tenant, text, reference) != (version, digest):
            raise Problem(f"another version of {tenant}'s policy came in between; propose it again")
        connection.execute(
            insert(policies).values(
                tenant=tenant,
                version=version,
                name=parse(text, tenant).name,
                text=text,
                digest=digest,
                state=PROPOSED,
                proposed_by=person,
                proposed_at=database.now(),
                reference=reference,
            )
        )
        audit.append(connection, [_entry("policy-propose", tenant, version, digest, f"by {person}")])
    return version, digest


def check_proposal(settings: Settings, tenant: str, text: str, reference: str | None) -> tuple[int, str]:
    """Return the version and digest that a proposal would have; raises UsageProblem for what would be refused."""
    parse(text, tenant)
    _check_reference(reference)
    with database.reading(settings) as connection:
        if tenant not in settings.tenants and not _rows(connection, tenant):
            raise UsageProblem(f"no tenant is called {mask(tenant)!r} (known: {', '.join(settings.tenants)})")
        return _next(connection, tenant, text, reference)


def activate(settings: Settings, tenant: str, version: int, person: str, key_file: Path) -> Policy:
    """Put a proposed version in force, by a person who did not propose it. The same again changes nothing.

    Raises UsageProblem for a version that is not there or was proposed by the same person, Problem where another
    version was activated since the proposal, whose effect was looked at against the one before.
    """
    digest = check_activation(settings, tenant, version, person)
    approvers.approve(settings, KIND, digest, person, key_file)
    with database.writing(settings) as connection:
        row = _waiting(connection, tenant, version, person)
        if row.state == PROPOSED:
            _put_in_force(connection, row, person)
        return _registered(connection)[tenant][-1]


def check_activation(settings: Settings, tenant: str, version: int, person: str) -> str:
    """Return the digest this person would sign; raises UsageProblem or Problem for what `activate` would refuse."""
    with database.reading(settings) as connection:
        row = _waiting(connection, tenant, version, person)
    parse(row.text, tenant)
    return str(row.digest)


@dataclass(frozen=True, kw_only=True)
class PolicyVersion:
    """A version that was proposed, and who stands behind it."""

    tenant: str
    version: int
    name: str
    state: str
    proposed_by: str
    proposed_at: datetime
    activated_by: str | None
    activated_at: datetime | None
    reference: str | None
    digest: str  # SHA-256, hex


def list_versions(settings: Settings, tenant: str | None = None) -> list[PolicyVersion]:
    """Return every version in the register."""
    with database.reading(settings) as connection:
        rows = _rows(connection, tenant)
    names = [field.name for field in fields(PolicyVersion)]
    return [PolicyVersion(**{name: getattr(row, name) for name in names}) for row in rows]


# -- the register ------------------------------------------------------------------------------------------------------


def _rows(connection: Connection, tenant: str | None = None, states: Sequence[str] = ()) -> list[Row[Any]]:
    query = select(policies).order_by(policies.c.tenant, policies.c.version)
    if tenant is not None:
        query = query.where(policies.c.tenant == tenant)
    if states:
        query = query.where(policies.c.state.in_(states))
    return list(connection.execute(query))


def _registered(connection: Connection) -> dict[str, tuple[Policy, ...]]:
    """Return by tenant every version that was ever in force, the oldest first, each checked against its digest."""
    rows = _rows(connection, states=(ACTIVE, REPLACED))
    return {tenant: _checked(connection, list(own)) for tenant, own in groupby(rows, lambda row: str(row.tenant))}


def _checked(connection: Connection, rows: Sequence[Row[Any]]) -> tuple[Policy, ...]:
    before = ""
    for row in rows:
        if row.digest != _digest(row.tenant, row.version, before, row.reference, row.text):
            raise PolicyProblem(f"{_called(row)} is not the one that was approved: the register was altered")
        before = row.digest
    states, times = [row.state for row in rows], [row.activated_at for row in rows]
    if states != [*[REPLACED] * (len(rows) - 1), ACTIVE] or None in times or times != sorted(times):
        raise PolicyProblem(
            f"the versions of {rows[-1].tenant}'s policy do not follow each other: the register was altered"
        )
    return tuple(_policy(connection, row, last=row is rows[-1]) for row in rows)


def _policy(connection: Connection, row: Row[Any], last: bool) -> Policy:
    try:
        policy = read(row.text, row.tenant)
    except UsageProblem as problem:
        raise PolicyProblem(f"{_called(row)} cannot be read: {problem}") from None
    return replace(
        policy,
        version=row.version,
        digest=row.digest,
        reference=row.reference,
        activated_at=row.activated_at,
        two_people=last and _two_people(connection, row),
    )


def _two_people(connection: Connection, row: Row[Any]) -> bool:
    """Return whether both signatures hold, as when it was activated: what was decided outlasts who decided it."""
    signed = approvers.approved_by(connection, KIND, row.digest, at=row.activated_at)
    return row.proposed_by != row.activated_by and {row.proposed_by, row.activated_by} <= signed


def _candidate(policy: Policy, tenant: str, versions: Sequence[Policy]) -> Policy:
    version = versions[-1].version + 1 if versions else 1
    return replace(policy, tenant=tenant, version=version, activated_at=database.now())


def _next(connection: Connection, tenant: str, text: str, reference: str | None) -> tuple[int, str]:
    """Return the number and digest of a tenant's next version, after the one that is in force now."""
    highest = connection.execute(select(func.max(policies.c.version)).where(policies.c.tenant == tenant)).scalar()
    version = (highest or 0) + 1
    return version, _digest(tenant, version, _before(connection, tenant), reference, text)


def _before(connection: Connection, tenant: str) -> str:
    """Return the digest of the version in force, "" for none."""
    return next((str(row.digest) for row in _rows(connection, tenant, (ACTIVE,))), "")


def _digest(tenant: str, version: int, before: str, reference: str | None, text: str) -> str:
    """Return the SHA-256 (hex) of what two persons sign."""
    said = json.dumps([_TAG, tenant, version, before, reference, text])
    return hashlib.sha256(said.encode()).hexdigest()


def _waiting(connection: Connection, tenant: str, version: int, person: str) -> Row[Any]:
    """Return the version to activate, or the one that this person has activated already."""
    row = next((row for row in _rows(connection, tenant) if row.version == version), None)
    if row is None:
        raise UsageProblem(
            f"there is no version {version} of {mask(tenant)}'s policy; 'callward policy list' shows all"
        )
    if row.state != PROPOSED and (row.state, row.activated_by) != (ACTIVE, person):
        raise UsageProblem(f"{_called(row)} is {row.state} already; propose a new one")
    if row.proposed_by == person:
        raise UsageProblem(f"{person} proposed {_called(row)}: another person activates it")
    if row.state == PROPOSED:
        _check_waiting(connection, row)
    return row


def _check_waiting(connection: Connection, row: Row[Any]) -> None:
    if row.digest != _digest(row.tenant, row.version, _before(connection, row.tenant), row.reference, row.text):
        raise Problem(f"{_called(row)} was proposed after another version than is in force now; propose it again")
    if row.proposed_by not in approvers.approved_by(connection, KIND, row.digest):
        raise Problem(f"{_called(row)} has no valid signature of {row.proposed_by}; propose it again")


def _put_in_force(connection: Connection, row: Row[Any], person: str) -> None:
    tenant, version = policies.c.tenant == row.tenant, policies.c.version == row.version
    now, before = database.now(), connection.execute(select(func.max(policies.c.activated_at)).where(tenant)).scalar()
    if before is not None and now < before:
        raise Problem(f"{_called(row)} would be in force before the one before it: this machine's clock is behind")
    connection.execute(update(policies).where(tenant, policies.c.state == ACTIVE).values(state=REPLACED))
    connection.execute(
        update(policies).where(tenant, version).values(state=ACTIVE, activated_by=person, activated_at=now)
    )
    audit.append(connection, [_entry(_ACTIVATED, row.tenant, row.version, row.digest, f"by {person}")])


def _check_reference(reference: str | None) -> None:
    if reference is None:
        return
    if not recorded("--reference", reference):
        raise UsageProblem("--reference names a notice or a consent in one line")


def _called(row: Row[Any]) -> str:
    return f"version {row.version} of {mask(row.tenant)}'s policy"


def _entry(event: str, tenant: str, version: int, digest: str, reason: str) -> audit.Entry:
    return audit.Entry(_ROLE, event, _subject(tenant, version, digest), reason)


def _subject(tenant: str, version: int, digest: str) -> str:
    return f"{tenant} version {version} {digest}"
