"""One hold: what it asks for, until when it keeps rows, and who may know of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final

from schemas.retention_classes import Window

KINDS: Final = ("litigation", "preservation", "dispute", "regulator", "traceback")
SERVICE, LEGAL, COMPLIANCE = "retention-run", "legal", "compliance"
PRESERVATION_DAYS: Final = 90  # 18 U.S.C. 2703(f)(2): 90 days, extended by 90 upon a renewed request
WARNING_DAYS: Final = 14

_OF_MANY: Final = ("_shared", "_unknown")  # an archive of several tenants, and records of nobody knows which


@dataclass(frozen=True, repr=False)
class Hold:
    """One hold. Dates are UTC days and count themselves; None is open-ended. `numbers` are E.164, in memory only."""

    hold_id: str
    tenant: str
    kind: str  # one of KINDS
    authority: str
    case: str
    first: date | None = None  # of call_date
    last: date | None = None
    accounts: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    trunks: tuple[str, ...] = ()
    placed_by: str = ""
    placed_at: datetime | None = None
    expires_on: date | None = None  # of the order: past it, the hold blocks all the same
    tail: Window | None = None  # it blocks so long after its release
    confidential_until: date | None = None  # that day included
    released_on: date | None = None

    def __repr__(self) -> str:
        return f"Hold({self.hold_id})"

    def blocks(self, today: date) -> bool:
        """Return whether it keeps rows: until it is released, and through its tail."""
        return self.last_day is None or today <= self.last_day

    @property
    def last_day(self) -> date | None:
        """Return the last day on which it keeps rows; None while it is not released."""
        if self.released_on is None:
            return None
        return self.tail.last_day(self.released_on) if self.tail else self.released_on - timedelta(1)

    @property
    def free_at(self) -> datetime | None:
        """Return the midnight (UTC) from which it keeps nothing; None while it is not released."""
        if self.last_day is None:
            return None
        return datetime.combine(min(self.last_day, date.max - timedelta(1)) + timedelta(1), time())

    def covers(self, first: date, last: date) -> bool:
        """Return whether one of these days is within its dates."""
        return (self.first or date.min) <= last and first <= (self.last or date.max)

    def concerns(self, tenant: str) -> bool:
        """Return whether data filed under `tenant` may be of its tenant."""
        return tenant == self.tenant or tenant in _OF_MANY


@dataclass(frozen=True, kw_only=True)
class HoldSummary:
    """A hold as people may read it: how many numbers it selects by, never which. `from_` and `to` are call dates."""

    hold_id: str
    state: str  # open, expiring, expired, tail or released
    tenant: str
    kind: str
    authority: str
    case: str
    from_: date | None
    to: date | None
    accounts: tuple[str, ...]
    trunks: tuple[str, ...]
    numbers: int
    placed_by: str
    placed_at: datetime | None
    age_days: int | None
    expires_on: date | None
    tail: str | None
    confidential_until: date | None
    released_on: date | None
    blocks_through: date | None
    warning: str | None


def visible(holds: Iterable[Hold], role: str, today: date) -> list[Hold]:
    """Return the holds that a role may know of: all for legal, for others those not confidential (any more)."""
    return [
        hold for hold in holds if role == LEGAL or hold.confidential_until is None or today > hold.confidential_until
    ]


def warned(holds: Iterable[Hold], today: date) -> list[str]:
    """Return the warnings of holds that were opened, a sentence each."""
    return [sentence for hold in holds if (sentence := _warning(hold, today))]


def _warning(hold: Hold, today: date) -> str:
    name = f"hold {hold.hold_id} of {hold.tenant} ({hold.kind}, {hold.case})"
    match state(hold, today):
        case "expired":
            return f"{name}: its order expired on {hold.expires_on}; it blocks until someone renews or releases it"
        case "expiring":
            left = (hold.expires_on - today).days if hold.expires_on else 0
            return f"{name}: its order expires on {hold.expires_on}, in {left} days; renew or release it"
    return ""


def state(hold: Hold, today: date) -> str:
    """Return open, expiring, expired, tail or released."""
    if hold.released_on is not None:
        return "tail" if hold.blocks(today) else "released"
    if hold.expires_on is None or today < hold.expires_on - timedelta(WARNING_DAYS):
        return "open"
    return "expired" if today > hold.expires_on else "expiring"


def summarize(hold: Hold, today: date) -> HoldSummary:
    """Return what may be read of a hold, as it stands on a day."""
    return HoldSummary(
        hold_id=hold.hold_id,
        state=state(hold, today),
        tenant=hold.tenant,
        kind=hold.kind,
        authority=hold.authority,
        case=hold.case,
        from_=hold.first,
        to=hold.last,
        accounts=hold.accounts,
        trunks=hold.trunks,
        numbers=len(hold.numbers),
        placed_by=hold.placed_by,
        placed_at=hold.placed_at,
        age_days=(today - hold.placed_at.date()).days if hold.placed_at else None,
        expires_on=hold.expires_on,
        tail=str(hold.tail) if hold.tail else None,
        confidential_until=hold.confidential_until,
        released_on=hold.released_on,
        blocks_through=hold.last_day if hold.tail else None,
        warning=_warning(hold, today) or None,
    )
