"""What a policy says, and until when: rules per class, versions of a tenant's policy, and which of them reaches a row.

Time is counted in whole UTC days. What is kept through its last day is due from the next one: never early. A version
governs what comes in from the day after its activation; data older than the first version is under the first. From
there on each later version with a shorter window replaces it at once, one with a longer window only where that version
names the notice or consent that allows it (docs/policy.md).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Final, NamedTuple

from schemas.cdr import LONGEST_CALL_DAYS
from schemas.retention_classes import CLASSES, Window

UNINVOICED_DAYS: Final = 92
PURPOSES: Final = ("billing", "service_assurance")  # those of the two views
BILLING: Final = "billing_transaction"
NUMBERS: Final = "call_detail"
ASSURANCE: Final = "assurance_metrics"


@dataclass(frozen=True)
class Rule:
    """How long one class is kept, from when it counts, within what bounds, and what happens then."""

    window: Window
    clock: str
    floor: Window | None = None
    ceiling: Window | None = None
    at_expiry: str = "purge"
    basis: str = ""


@dataclass(frozen=True)
class Policy:
    """One version of a tenant's policy. Version 0 is what callward.toml says where no policy was activated."""

    tenant: str
    version: int
    name: str
    role: str  # controller or processor
    digest: str
    rules: Mapping[str, Rule]
    uninvoiced_days: int = UNINVOICED_DAYS
    text: str = ""
    reference: str | None = None
    activated_at: datetime | None = None
    two_people: bool = False
    purposes: frozenset[str] = frozenset(PURPOSES)
    subscribers: Mapping[str, Window] = field(default_factory=dict)  # account → its own window for call_detail

    def last_day(self, cls: str, clock: date, own: Window | None = None) -> date:
        """Return the last day by this version alone; date.max for a class with no window. `own` may only be shorter."""
        rule = self.rules.get(cls)
        last = rule.window.last_day(clock) if rule else date.max
        return min(last, own.last_day(clock)) if own else last


class OpenFor(NamedTuple):
    """Which views may still take a call that comes in now, and whether with its numbers."""

    billing: bool
    numbers: bool
    assurance: bool


def call_clock(call_date: date) -> date:
    """Return the clock "call_end" of a call date: its longest call has ended, so the whole date expires at once."""
    return call_date + timedelta(days=LONGEST_CALL_DAYS)


@dataclass(frozen=True)
class Policies:
    """All versions of a tenant's policy that were ever in force, the oldest first; never empty."""

    tenant: str
    versions: tuple[Policy, ...]

    @property
    def current(self) -> Policy:
        return self.versions[-1]

    @property
    def two_people(self) -> bool:
        """Return whether two registered persons stand behind what is in force: only then may a purge run unattended."""
        return self.current.two_people

    @property
    def leaving(self) -> bool:
        """Return whether the tenant left, so that nothing of it is kept any longer than the law requires."""
        return False

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 (hex) of every version, its activation and its reference: all a last day depends on."""
        facts = [(p.version, p.digest, str(p.activated_at), p.reference) for p in self.versions]
        return hashlib.sha256(json.dumps([self.tenant, facts]).encode()).hexdigest()

    def last_day(self, cls: str, clock: date, received: date, *, invoiced: bool = False) -> date:
        """Return the last day that data of a class is kept through, date.max where the class has no window.

        `clock`: the day that the class's clock began, for calls `call_clock(call_date)`. `received`: the day that the
        data came in. Billing rows that are not `invoiced` stay at least `uninvoiced_days` from their call date.
        """
        last = self._last_day(cls, clock, [None] * len(self.versions), received)
        if cls == BILLING and not invoiced and self._waits_for_invoice():
            return max(last, clock + timedelta(days=self.current.uninvoiced_days - LONGEST_CALL_DAYS))
        return last

    def due(self, cls: str, clock: date, received: date, as_of: date, *, invoiced: bool = False) -> bool:
        """Return whether data of a class is past its window on `as_of`."""
        return as_of > self.last_day(cls, clock, received, invoiced=invoiced)

    def open_for(self, call_date: date, received: date, as_of: date) -> OpenFor:
        """Return the views that still take a call of that date. Numbers never outlast the row that they are in."""
        clock = call_clock(call_date)
        billing = not self.due(BILLING, clock, received, as_of)
        numbers = billing and not self.due(NUMBERS, clock, received, as_of)
        return OpenFor(billing, numbers, not self.due(ASSURANCE, clock, received, as_of))

    def subscribers(self, cls: str = NUMBERS) -> dict[str, Window]:
        """Return the accounts with a window of their own for a class, in the policy that is in force now."""
        return dict(self.current.subscribers) if cls == NUMBERS else {}

    def due_accounts(self, cls: str, clock: date, received: date, as_of: date) -> set[str]:
        """Return the accounts whose own, shorter window is past while the class's is not: their rows are due singly."""
        if cls != NUMBERS or self.due(cls, clock, received, as_of):
            return set()
        due: set[str] = set()
        for windows, accounts in self._own_windows.items():
            if as_of > self._last_day(cls, clock, windows, received):
                due |= accounts
        return due

    def purposes(self, received: date) -> frozenset[str]:
        """Return what data may be used for. As with windows, a later purpose reaches it only by a notice or consent."""
        first, *later = self._reaching(received)
        allowed = first.purposes
        for policy in later:
            allowed = policy.purposes if policy.reference else allowed & policy.purposes
        return allowed

    def _last_day(
        self, cls: str, clock: date, own: tuple[Window | None, ...] | list[Window | None], received: date
    ) -> date:
        """Walk the versions that reach data of that day; `own`: an account's window in each of all versions."""
        reaching = self._reaching(received)
        windows = own[len(self.versions) - len(reaching) :]
        last = reaching[0].last_day(cls, clock, windows[0])
        for policy, window in zip(reaching[1:], windows[1:], strict=True):
            day = policy.last_day(cls, clock, window)
            if day < last or policy.reference:
                last = day
        return last

    def _reaching(self, received: date) -> tuple[Policy, ...]:
        """Return the version in force when data came in, and those after it.

        Whole days: what came in on the day of an activation may have come before it, so the version before governs it.
        """
        in_force = [n for n, p in enumerate(self.versions) if p.activated_at and p.activated_at.date() < received]
        return self.versions[max(in_force, default=0) :]

    def _waits_for_invoice(self) -> bool:
        rule = self.current.rules.get(BILLING)
        return rule is not None and rule.clock == "invoice_date"

    @cached_property
    def _own_windows(self) -> dict[tuple[Window | None, ...], set[str]]:
        """Return the accounts by the windows that they had in each version: many accounts, few histories."""
        accounts: dict[tuple[Window | None, ...], set[str]] = {}
        for account in {account for policy in self.versions for account in policy.subscribers}:
            accounts.setdefault(tuple(p.subscribers.get(account) for p in self.versions), set()).add(account)
        return accounts


_OF_TENANT: Final = (
    "call_detail",
    "billing_transaction",
    "assurance_metrics",
    "suspense",
    "archive",
    "requests",
)


@dataclass(frozen=True)
class Leaving(Policies):
    """Of a tenant that left on a day, by two persons' decision: its data goes now, or when the law's floor has passed.

    What comes in later is past its window on arrival. Classes that are not kept by tenant stay as they were.
    """

    left_on: date = date.max
    keep_floors: bool = False

    @property
    def two_people(self) -> bool:
        return True

    @property
    def leaving(self) -> bool:
        return True

    def last_day(self, cls: str, clock: date, received: date, *, invoiced: bool = False) -> date:
        """Return the day before the tenant left, or that of the floor; never later than without its leaving."""
        usual = super().last_day(cls, clock, received, invoiced=invoiced)
        if cls not in _OF_TENANT:
            return usual
        return min(usual, max(self.floor(cls, clock) if self.keep_floors else date.min, self.left_on - timedelta(1)))

    def floor(self, cls: str, clock: date) -> date:
        """Return the last day that the law requires data of a class; date.min for none."""
        return floor_of(self, cls, clock)

    @cached_property
    def digest(self) -> str:
        """Return the digest of the policies and of the tenant's leaving (SHA-256, hex)."""
        facts = [Policies(self.tenant, self.versions).digest, self.left_on.isoformat(), self.keep_floors]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def floor_of(policies: Policies, cls: str, clock: date) -> date:
    """Return the last day that a class's floor, by the policy or by law, requires; date.min for none."""
    rule = policies.current.rules.get(cls)
    floors = [floor for floor in (rule.floor if rule else None, CLASSES[cls].floor) if floor is not None]
    return max((floor.last_day(clock) for floor in floors), default=date.min)
