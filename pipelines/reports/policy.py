"""policy: what is in force and what was proposed, told to a person; and what lint says of a file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from callward import database
from callward.errors import UsageProblem
from callward.retention.policy import register as policy_register
from callward.retention.policy.register import Policy
from callward.retention.purge import safety_check
from callward.settings import Settings
from pipelines import terminal
from schemas.retention_classes import CLASSES, example, examples


def linted(path: Path) -> dict[str, Any]:
    """What lint says of a policy that is not refused; raises UsageProblem with every line that is."""
    found = policy_register.load(path, "lint")
    return {"file": path.name, "name": found.name, "role": found.role, "classes": len(found.rules)} | {
        "notes": policy_register.lint(found)
    }


def shown(settings: Settings, tenant: str | None) -> list[dict[str, Any]]:
    """What governs each tenant now, or one of them; raises UsageProblem for a tenant that is not known."""
    with database.reading(settings) as connection:
        governed = policy_register.in_force(settings, connection)
    if tenant is not None and tenant not in governed:
        raise UsageProblem(f"no tenant is called so (known: {', '.join(governed)})")
    return [_document(found.current) for name, found in sorted(governed.items()) if tenant in (None, name)]


def _document(found: Policy) -> dict[str, Any]:
    return {
        "tenant": found.tenant,
        "version": found.version,
        "name": found.name,
        "role": found.role,
        "purposes": sorted(found.purposes),
        "two_people": found.two_people,
        "activated_at": found.activated_at,
        "reference": found.reference,
        "digest": found.digest,
        "uninvoiced_days": found.uninvoiced_days,
        "classes": [_clause(found, name) for name in CLASSES if name in found.rules],
        "subscribers": {account: str(window) for account, window in found.subscribers.items()},
    }


def _clause(found: Policy, name: str) -> dict[str, Any]:
    rule = found.rules[name]
    return {
        "class": name,
        "window": str(rule.window),
        "clock": rule.clock,
        "floor": str(rule.floor) if rule.floor else None,
        "ceiling": str(rule.ceiling) if rule.ceiling else None,
        "at_expiry": rule.at_expiry,
        "basis": rule.basis,
    }


def told(documents: list[dict[str, Any]]) -> Iterator[Any]:
    """Those for a person: a heading, what stands behind it, and a table of the classes."""
    for found in documents:
        since = f", since {found['activated_at']:%Y-%m-%d}" if found["activated_at"] else ""
        yield f"{found['tenant']}: {found['name']}, version {found['version']}, {found['role']}{since}"
        yield (
            "activated by two people"
            if found["two_people"]
            else "not activated by two people: no purge runs unattended"
        )
        yield f"purposes: {', '.join(found['purposes'])}"
        if found["subscribers"]:
            yield f"{terminal.count(len(found['subscribers']), 'account')} with a shorter window of call_detail"
        columns = ["class", "window", "clock", "floor", "ceiling", "at_expiry", "basis"]
        yield terminal.table("", columns, [[clause[name] for name in columns] for clause in found["classes"]])


def listed(settings: Settings, tenant: str | None) -> list[dict[str, Any]]:
    """Every version that was proposed, with who stands behind it."""
    names = ("tenant", "version", "name", "state", "proposed_by", "proposed_at", "activated_by", "activated_at")
    rows = policy_register.listed(settings, tenant)
    return [{name: row[name] for name in (*names, "reference", "digest")} for row in rows]


def proposed(
    settings: Settings, file: Path, tenant: str, person: str, key_file: Path, reference: str | None, dry_run: bool
) -> dict[str, Any]:
    """Propose a file's policy for a tenant; a dry run says which version it would be."""
    found = policy_register.load(file, tenant)
    if dry_run:
        version, digest = policy_register.check_proposal(settings, tenant, found.text, reference)
    else:
        version, digest = policy_register.propose(settings, tenant, found.text, person, key_file, reference)
    done = {"tenant": tenant, "version": version, "name": found.name, "digest": digest, "dry_run": dry_run}
    return done | {"notes": policy_register.lint(found)}


def activated(
    settings: Settings, tenant: str, version: int, person: str, key_file: Path, dry_run: bool
) -> dict[str, Any]:
    """Put a proposed version in force; a dry run says whether it could be."""
    if dry_run:
        digest = policy_register.check_activation(settings, tenant, version, person)
    else:
        digest = policy_register.activate(settings, tenant, version, person, key_file).digest
        safety_check.note_forecast(settings, database.now().date())  # two people wanted what purges will take by it
    return {"tenant": tenant, "version": version, "digest": digest, "dry_run": dry_run}


def example_text(name: str) -> str:
    """The text of an example; raises UsageProblem naming those that there are."""
    try:
        return example(name)
    except KeyError:
        raise UsageProblem(f"no example is called so (known: {', '.join(examples())})") from None
