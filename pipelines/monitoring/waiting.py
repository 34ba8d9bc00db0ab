"""waiting: what is in suspense or pending, since when, and what of it a purge takes soon. From the ledger alone: no key
is opened."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from sqlalchemy import Connection, func, select

from callward import database
from callward.retention.policy import register as policy_register
from callward.retention.policy.rules import NUMBERS, call_clock
from callward.retention.purge.due_files import SUSPENSE, Governance
from callward.settings import Settings
from callward.standing import Alarm
from schemas.codes import Bucket, Suspense
from schemas.tables import input_files
from schemas.tables import ledger_entries as entries

SOON_DAYS: Final = 14
# Pieces of calls lie in the pending log, and go with the numbers of their calls.
_OF_PENDING: Final = (str(Suspense.PARTIAL), "")


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Records of a source in suspense by their code, or pending: since when, and until when they are kept.

    `expires` is the first day on which a purge takes some of them (None: no window ends it), by the day that their
    file came; `expiring` is how many of them it takes within SOON_DAYS.
    """

    source: str
    what: str  # a suspense code, or "pending"
    records: int
    oldest: date
    expires: date | None
    expiring: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, days in ISO 8601."""
        expires = self.expires and self.expires.isoformat()
        return {**vars(self), "oldest": self.oldest.isoformat(), "expires": expires}


def waiting(settings: Settings, connection: Connection, today: date) -> list[Waiting]:
    """Return what waits, by source and code."""
    law = Governance(policy_register.in_force(settings, connection))
    tenants = {source.name: source.archive_tenant for source in settings.sources}
    groups: dict[tuple[str, str, str], list[tuple[date, int]]] = {}
    for row in connection.execute(_query()):
        groups.setdefault((row.source, row.bucket, row.code), []).append((_day(row.day), int(row.rows)))
    return [
        _waiting(law, tenants.get(source), today, source, code if bucket == Bucket.SUSPENDED else "", days)
        for (source, bucket, code), days in sorted(groups.items())
    ]


def _query() -> Any:
    """Return the rows of a file that wait, added up by day: what left the bucket was taken off in its file."""
    e, day = entries.c, func.date(input_files.c.seen_at).label("day")
    total, of = func.sum(e.rows), input_files.c.source
    query = select(of, e.bucket, e.code, day, total.label("rows")).join(input_files, input_files.c.file_no == e.file_no)
    query = query.where(e.bucket.in_([str(Bucket.SUSPENDED), str(Bucket.PENDING)]))
    return query.group_by(of, e.bucket, e.code, day).having(total > 0)


def _day(day: date | str) -> date:
    return date.fromisoformat(day) if isinstance(day, str) else day  # SQLite has no dates


def _waiting(
    law: Governance, tenant: str | None, today: date, source: str, code: str, days: Sequence[tuple[date, int]]
) -> Waiting:
    goes = {day: _expires(law, tenant, code, day) for day, _ in days}
    first = min(goes.values())
    soon = today + timedelta(SOON_DAYS)
    return Waiting(
        source=source,
        what=code or str(Bucket.PENDING),
        records=sum(rows for _, rows in days),
        oldest=min(goes),
        expires=None if first == date.max else first,
        expiring=sum(rows for day, rows in days if goes[day] <= soon),
    )


def _expires(law: Governance, tenant: str | None, code: str, day: date) -> date:
    """Return the first day on which a purge takes a record that came on a day; date.max where none does."""
    if tenant is None or not (tenant in law.policies or tenant.startswith("_")):
        return date.max  # of a source that is in the settings no more
    of_pending = code in _OF_PENDING
    clock = call_clock(day) if of_pending else day
    last = law.last_day(tenant, NUMBERS if of_pending else SUSPENSE, clock, day)
    return last if last == date.max else last + timedelta(1)


def suspended(of: Sequence[Waiting]) -> list[Waiting]:
    """Return what is in suspense, without what is pending."""
    return [item for item in of if item.what != Bucket.PENDING]


def expiring(of: Sequence[Waiting]) -> Iterator[Alarm]:
    """Yield an alarm for each source of which something in suspense goes within SOON_DAYS."""
    sums: dict[str, list[Waiting]] = {}
    for item in suspended(of):
        if item.expiring:
            sums.setdefault(item.source, []).append(item)
    for source, items in sums.items():
        first = min(item.expires for item in items if item.expires is not None)
        codes = ", ".join(f"{item.what} {item.expiring:,}" for item in items)
        sentence = (
            f"{source}: {sum(item.expiring for item in items):,} records in suspense ({codes}) are kept no longer than "
            f"{SOON_DAYS} days from now, the first go on {first}; see 'callward suspense list', then 'callward recycle'"
        )
        yield Alarm(source, "expiring", sentence, must_look=False)


def filtered(settings: Settings, run_id: str) -> list[Mapping[str, Any]]:
    """Return what a run counted and left out, by source and reason."""
    e, f = entries.c, input_files.c
    total = func.sum(e.rows)
    query = select(f.source, e.code, total.label("records")).join(input_files, f.file_no == e.file_no)
    query = query.where(e.run_id == run_id, e.bucket == Bucket.FILTERED).group_by(f.source, e.code).having(total > 0)
    with database.reading(settings) as connection:
        rows = connection.execute(query.order_by(f.source, e.code))
        return [{"source": row.source, "reason": row.code, "records": int(row.records)} for row in rows]
