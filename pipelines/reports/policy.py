"""What the commands of `callward policy` say: what is in force, what was proposed, and what lint finds in a file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from callward import database
from callward.errors import UsageProblem
from callward.redaction import mask
from callward.retention.policy import register as policy_register
from callward.retention.policy.register import Policy, PolicyVersion
from callward.retention.purge import safety_check
from callward.settings import Settings
from pipelines import terminal
from pipelines.results import Part, Result, Rows, to_document
from schemas import retention_classes
from schemas.retention_classes import CLASSES

_DIGEST_SHOWN = 16  # hex digits of a digest, in a table


# -- a file ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Linted(Result):
    """A policy that is not refused, and what should be known about it."""

    file: str
    name: str
    role: str
    classes: int
    notes: Sequence[str]

    def render(self) -> Iterator[Part]:
        yield f"{mask(str(self.file))}: {self.name} is sound; {terminal.count(self.classes, 'class', 'classes')}"
        yield from (f"note: {note}" for note in self.notes)


def lint(path: Path) -> Linted:
    """Return what lint says of a policy. Raises UsageProblem with every line that is refused."""
    policy = policy_register.load(path, "lint")
    return Linted(path.name, policy.name, policy.role, len(policy.rules), policy_register.lint(policy))


@dataclass(frozen=True)
class Example(Result):
    """A policy that comes with callward, as it is written."""

    name: str
    policy: str  # TOML

    def render(self) -> Iterator[Part]:
        yield self.policy.rstrip()


@dataclass(frozen=True)
class ExampleNames(Result):
    """The policies that come with callward."""

    names: Sequence[str]

    def to_dict(self) -> list[Any]:
        return list(self.names)

    def render(self) -> Iterator[Part]:
        return iter(self.names)


def example(name: str | None) -> Example | ExampleNames:
    """Return an example, or their names. Raises UsageProblem naming those that there are."""
    names = retention_classes.examples()
    if name is None:
        return ExampleNames(names)
    if name not in names:
        raise UsageProblem(f"no example is called so (known: {', '.join(names)})")
    return Example(name, retention_classes.example(name))


# -- what is in force --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Clause:
    """One class of a policy. Windows are in words, such as "18 months"."""

    class_: str
    window: str
    clock: str
    floor: str | None
    ceiling: str | None
    at_expiry: str
    basis: str


@dataclass(frozen=True, kw_only=True)
class Governing:
    """What governs a tenant now."""

    tenant: str
    version: int
    name: str
    role: str
    purposes: Sequence[str]
    two_people: bool
    activated_at: datetime | None
    reference: str | None
    digest: str
    uninvoiced_days: int
    classes: Sequence[Clause]
    subscribers: Mapping[str, str]  # account → its window for call_detail

    def render(self) -> Iterator[Part]:
        """Yield a heading, what stands behind the policy, and a table of its classes."""
        since = f", since {self.activated_at:%Y-%m-%d}" if self.activated_at else ""
        yield f"{self.tenant}: {self.name}, version {self.version}, {self.role}{since}"
        unattended = "not activated by two people: no purge runs unattended"
        yield "activated by two people" if self.two_people else unattended
        yield f"purposes: {', '.join(self.purposes)}"
        if self.subscribers:
            yield f"{terminal.count(len(self.subscribers), 'account')} with a shorter window of call_detail"
        yield from Rows(self.classes).render()


@dataclass(frozen=True)
class PoliciesInForce(Result):
    """What governs each tenant now."""

    tenants: Sequence[Governing]

    def to_dict(self) -> list[Any]:
        return [to_document(governing) for governing in self.tenants]

    def render(self) -> Iterator[Part]:
        for governing in self.tenants:
            yield from governing.render()


def show(settings: Settings, tenant: str | None) -> PoliciesInForce:
    """Return what governs each tenant, or one of them. Raises UsageProblem for a tenant that is not known."""
    with database.reading(settings) as connection:
        policies = policy_register.in_force(settings, connection)
    if tenant is not None and tenant not in policies:
        raise UsageProblem(f"no tenant is called so (known: {', '.join(policies)})")
    wanted = [policies[name].current for name in sorted(policies) if tenant in (None, name)]
    return PoliciesInForce([_governing(policy) for policy in wanted])


def _governing(policy: Policy) -> Governing:
    return Governing(
        tenant=policy.tenant,
        version=policy.version,
        name=policy.name,
        role=policy.role,
        purposes=sorted(policy.purposes),
        two_people=policy.two_people,
        activated_at=policy.activated_at,
        reference=policy.reference,
        digest=policy.digest,
        uninvoiced_days=policy.uninvoiced_days,
        classes=[_clause(policy, name) for name in CLASSES if name in policy.rules],
        subscribers={account: str(window) for account, window in policy.subscribers.items()},
    )


def _clause(policy: Policy, name: str) -> Clause:
    rule = policy.rules[name]
    return Clause(
        class_=name,
        window=str(rule.window),
        clock=rule.clock,
        floor=str(rule.floor) if rule.floor else None,
        ceiling=str(rule.ceiling) if rule.ceiling else None,
        at_expiry=rule.at_expiry,
        basis=rule.basis,
    )


# -- the register ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class VersionList(Result):
    """Every version that was proposed."""

    versions: Sequence[PolicyVersion]

    def to_dict(self) -> list[Any]:
        return [to_document(version) for version in self.versions]

    def render(self) -> Iterator[Part]:
        brief = [replace(version, digest=version.digest[:_DIGEST_SHOWN]) for version in self.versions]
        return Rows(brief, "In the register").render()


def list_versions(settings: Settings, tenant: str | None) -> VersionList:
    """Return every version that was proposed, with who stands behind it."""
    return VersionList(policy_register.list_versions(settings, tenant))


@dataclass(frozen=True, kw_only=True)
class Proposed(Result):
    """A policy that waits for a second person, or would."""

    tenant: str
    version: int
    name: str
    digest: str
    dry_run: bool
    file: str
    notes: Sequence[str]

    def render(self) -> Iterator[Part]:
        how = "would be proposed" if self.dry_run else "is proposed"
        yield f"{self.tenant}: {self.name} {how} as version {self.version}, digest {self.digest}"
        yield from (f"note: {note}" for note in self.notes)
        if not self.dry_run:
            yield f"its effect: callward purge --as-of DATE --policy {mask(str(self.file))} --dry-run"
            activate = f"callward policy activate --tenant {self.tenant} --version {self.version} ..."
            yield f"then another person: {activate}"


@dataclass(frozen=True)
class Activated(Result):
    """A version that is in force, or could be."""

    tenant: str
    version: int
    digest: str
    dry_run: bool

    def render(self) -> Iterator[Part]:
        how = "would be" if self.dry_run else "is"
        yield f"{self.tenant}: version {self.version} {how} in force, digest {self.digest}"


def propose(
    settings: Settings, file: Path, tenant: str, person: str, key_file: Path, reference: str | None, *, dry_run: bool
) -> Proposed:
    """Propose a file's policy for a tenant; a dry run says which version it would be."""
    policy = policy_register.load(file, tenant)
    if dry_run:
        version, digest = policy_register.check_proposal(settings, tenant, policy.text, reference)
    else:
        version, digest = policy_register.propose(settings, tenant, policy.text, person, key_file, reference)
    return Proposed(
        tenant=tenant,
        version=version,
        name=policy.name,
        digest=digest,
        dry_run=dry_run,
        file=str(file),
        notes=policy_register.lint(policy),
    )


def activate(settings: Settings, tenant: str, version: int, person: str, key_file: Path, *, dry_run: bool) -> Activated:
    """Put a proposed version in force; a dry run says whether it could be."""
    if dry_run:
        digest = policy_register.check_activation(settings, tenant, version, person)
    else:
        digest = policy_register.activate(settings, tenant, version, person, key_file).digest
        safety_check.note_forecast(settings, database.now().date())  # two people wanted what purges will take by it
    return Activated(tenant, version, digest, dry_run)
