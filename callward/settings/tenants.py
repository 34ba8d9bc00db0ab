"""Whose records they are: tenants, what may be released of them, accounts and trunks."""

from datetime import date
from typing import Literal

from pydantic import Field, field_validator, model_validator

from callward.settings.values import Section, Words, known_zone, nearest
from schemas.retention_classes import CLASSES, Window


class Billing(Section):
    rows: Literal["answered", "attempts"] = Field(
        default="answered", description="The billing view holds answered calls, or all attempts at 0."
    )
    second_elements: Literal["hold", "list"] = Field(
        default="hold",
        description="Of calls that two sources with billing_rank recorded, the record of the lower rank is held from "
        "billing and listed, or listed alone ('callward sources second').",
    )


class Requests(Section):
    regime: Literal["pipeda", "us", "gdpr"] | None = Field(
        default=None,
        description="Whose clocks a person's request runs by: pipeda, us (state laws) or gdpr.",
        examples=["us"],
    )
    other_numbers: Literal["shown", "hidden"] = Field(
        default="shown", description="Whether an answer to a person shows the other parties' numbers, as a bill does."
    )


class ReleaseCaps(Section):
    rho_month: float = Field(
        default=0.21,
        ge=0,
        le=100,
        description="What released tables about one calendar month may cost a customer's privacy in all, in zCDP "
        "(0.21 is epsilon 4.4 at delta 1e-9).",
    )
    rho_all: float = Field(
        default=2.5, ge=0, le=1000, description="... and what all released tables may cost, of whatever month."
    )
    threshold_outside: bool = Field(
        default=False,
        description="Whether tables by threshold, which are suppressed and not anonymous, may leave the company (k of "
        "15 at least).",
    )


class Tenant(Section):
    zone: str = Field(default="UTC", description="Billing zone: its local date of the answer is the billing date.")
    billing: Billing = Field(default=Billing(), description="What the billing view holds.")
    requests: Requests = Field(default=Requests(), description="Requests of persons about their data.")
    release: ReleaseCaps = Field(default=ReleaseCaps(), description="What may be released about its customers.")
    retention: dict[str, str] = Field(
        default={},
        description='Windows per class of data, such as "18 months"; nightly refuses to run while one is missing.',
        examples=[{"call_detail": "18 months"}],
    )

    _check_zone = field_validator("zone")(known_zone)

    @field_validator("retention")
    @classmethod
    def _windows(cls, retention: dict[str, str]) -> dict[str, str]:
        for name, window in retention.items():
            if name not in CLASSES:
                raise ValueError(f"no retention class is called {name!r}{nearest(name, CLASSES)}")
            Window.parse(window)
        return retention


class Release(Section):
    folder: str = Field(
        default="releases", description="Declarations of the tables that are released, one TOML file each."
    )
    output: str = Field(default="released", description="Where released tables are written, a folder for each.")


class Trunk(Section):
    name: str = Field(
        description="As the switch writes it, once the declaration has cut it out of a channel or address.",
        examples=["northwind-1"],
    )
    carrier: str | None = Field(
        default=None, description="Carrier id that the billing view shows instead of the trunk.", examples=["northwind"]
    )
    side: Literal["customer", "network"] | None = Field(
        default=None,
        description="Who is at its other end: a customer or the network. Without it: a customer where an account has "
        "it, the network where it has a carrier.",
        examples=["customer"],
    )
    site: str | None = Field(
        default=None,
        pattern=r"^\S(.{0,62}\S)?$",
        description="Where a customer's trunk is: assurance shows this in its place, or 'customers', as the trunk "
        "itself would name an account.",
        examples=["denver"],
    )
    account: str | None = Field(
        default=None,
        description="Account that pays for its calls, unless the caller's number is of another account that has it.",
        examples=["acct-0001"],
    )


class NumberRange(Section):
    """Numbers of an account, and when they are its own. Days are those of the tenant's billing zone."""

    first: str = Field(
        pattern=r"^\+[1-9][0-9]{6,14}$", description="First number, as E.164 with its plus.", examples=["+15005550100"]
    )
    last: str | None = Field(
        default=None, pattern=r"^\+[1-9][0-9]{6,14}$", description="Last number, if there is more than one."
    )
    since: date | None = Field(default=None, description="First day, if not since ever.", examples=[date(2026, 1, 1)])
    until: date | None = Field(default=None, description="Last day, if there is one.", examples=[date(2026, 12, 31)])

    @model_validator(mode="after")
    def _in_order(self) -> "NumberRange":
        if self.last is not None and (len(self.last) != len(self.first) or self.last < self.first):
            raise ValueError("the last number is of another length than the first, or before it")
        if self.since is not None and self.until is not None and self.until < self.since:
            raise ValueError("until is before since")
        return self

    @property
    def bounds(self) -> tuple[int, int]:
        """Return the first and the last number, as integers."""
        return int(self.first), int(self.last or self.first)

    @property
    def length(self) -> int:
        """Return how many numbers there are."""
        first, last = self.bounds
        return last - first + 1

    @property
    def days(self) -> tuple[date, date]:
        """Return the first and the last day."""
        return self.since or date.min, self.until or date.max

    def overlaps(self, other: "NumberRange") -> bool:
        """Return whether both have a number on the same day."""
        (low, high), (other_low, other_high) = self.bounds, other.bounds
        (since, until), (other_since, other_until) = self.days, other.days
        return low <= other_high and other_low <= high and since <= other_until and other_since <= until


class Account(Section):
    id: str = Field(description="Opaque account id; never a phone number.", examples=["acct-0001"])
    tenant: str = Field(default="default", description="Tenant the account belongs to.")
    zone: str | None = Field(
        default=None,
        description="Its billing zone, if not the tenant's: the local date of the answer is the billing date.",
        examples=["America/Chicago"],
    )
    codes: Words = Field(default=[], description="Account codes that switches write.", examples=[["ac-0001"]])
    trunks: Words = Field(
        default=[],
        description="Trunks whose calls this account pays for; where several accounts have one, the caller's number "
        "chooses among them.",
        examples=[["pbx-7"]],
    )
    contexts: Words = Field(
        default=[],
        description="Contexts of a dialplan whose calls this account pays for, where neither code nor trunk says who.",
        examples=[["from-northwind"]],
    )
    numbers: list[NumberRange] = Field(default=[], description="Its numbers: it pays for calls to them.")
