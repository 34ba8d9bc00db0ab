"""Charges: what the charge of an answered call hangs on, so that versions of a record can be compared."""

from datetime import datetime
from typing import Final, NamedTuple

import pyarrow as pa

from callward.columns import flat, has_value
from transforms.rate import billable_seconds

_SAID: Final = ("account", "direction", "jurisdiction", "calling_number", "called_number", "rated_number")


class Charge(NamedTuple):
    """When a call was answered, what is billed of it, who pays, and for what."""

    answer: datetime | None
    billable_s: int
    account: str | None
    direction: str | None
    jurisdiction: str | None
    calling: str | None
    called: str | None
    rated: str | None


def charges_of(calls: pa.Table) -> list[Charge | None]:
    """Return the charge of each call (schema CDR), None where it was not answered (few)."""
    answered = has_value(calls["disposition"], "answered").to_pylist()
    columns = [calls["answer_time"].to_pylist(), flat(billable_seconds(calls["talk_ms"])).to_pylist()]
    columns += [calls[name].to_pylist() for name in _SAID]
    charges = (Charge(*values) for values in zip(*columns, strict=True))
    return [charge if was else None for charge, was in zip(charges, answered, strict=True)]
