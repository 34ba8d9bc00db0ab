"""Legal holds: orders to keep matching records past their window, what they match, and a register that fails closed.

Everything about a hold is sealed under the hold root; the table shows an id, times and a digest. Each change is an
entry of the audit log with the same digest, so a hold that was lost, altered or slipped in is noticed, and whoever
must know what is held gets a Problem instead of a shorter list. Selectors of one hold are alternatives; a hold
without any is for everything of its tenant and dates. Where rows cannot be matched a hold keeps them all.
"""

from callward.retention.holds.changes import list_holds, normalized, place, read_hold, release, renew, warnings
from callward.retention.holds.order import (
    COMPLIANCE,
    KINDS,
    LEGAL,
    PRESERVATION_DAYS,
    SERVICE,
    WARNING_DAYS,
    Hold,
    HoldSummary,
    visible,
    warned,
)
from callward.retention.holds.rows import (
    OTHER,
    MonthSecrets,
    RemovedRows,
    columns,
    covering,
    kept_by,
    matching,
    receiving,
    removed,
    secrets,
    unmatched,
)
from callward.retention.holds.sealed import FORMAT_VERSION, HoldUnreadable, any_open, fingerprint, opened

__all__ = [
    "COMPLIANCE",
    "FORMAT_VERSION",
    "KINDS",
    "LEGAL",
    "OTHER",
    "PRESERVATION_DAYS",
    "SERVICE",
    "WARNING_DAYS",
    "Hold",
    "HoldSummary",
    "HoldUnreadable",
    "MonthSecrets",
    "RemovedRows",
    "any_open",
    "columns",
    "covering",
    "fingerprint",
    "kept_by",
    "list_holds",
    "matching",
    "normalized",
    "opened",
    "place",
    "read_hold",
    "receiving",
    "release",
    "removed",
    "renew",
    "secrets",
    "unmatched",
    "visible",
    "warned",
    "warnings",
]
