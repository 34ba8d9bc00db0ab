"""What is particular to the end of a tenant: keys that no month's purge touches, once nothing is under them.

There are no files left to tombstone, so such a disposal begins in `removing`: which keys go is registered first, and
one that was killed knows what to certify.
"""

import hashlib
from collections.abc import Sequence
from datetime import date
from typing import Final

from sqlalchemy import Connection, delete, select

from callward import audit, database, runs
from callward.disposal import completion, record
from callward.disposal.completion import Particulars
from callward.disposal.record import ROLE, Disposal, Status
from callward.evidence.certificates import Certificate
from callward.evidence.findings import canonical
from callward.failpoints import point
from callward.keys.register import EVERY_MONTH
from callward.lake import ledger
from callward.settings import Settings
from schemas.codes import DisposalReason
from schemas.retention import requests, restrictions, suppressions
from schemas.tables import keys

_KEPT_WITH_REQUESTS: Final = ("hold", "requests")


def destroy(settings: Settings, tenant: str, run_id: str, today: date) -> str | None:
    """Destroy keys of months without a data file and, when none is left at all, those of every month.

    Returns the certificate's id; None where no key is left to go. Goes on with what a killed run had begun.
    """
    with database.reading(settings) as connection:
        begun = record.in_states(connection, DisposalReason.TENANT_END, about=tenant)
        key_ids = [] if begun else unneeded(connection, tenant)
    if not begun and not key_ids:
        return None
    disposal = begun[0] if begun else _begin(settings, tenant, key_ids, run_id, today)
    return completion.complete(settings, disposal, TenantEndParticulars(), run_id, today).certificate_id


def unneeded(connection: Connection, tenant: str) -> list[str]:
    """Return ids of a tenant's keys that nothing is under any more; that of its requests stays while one is kept."""
    files = ledger.files(connection, tenant=tenant)
    months = {file.part[:7] for file in files} | ({EVERY_MONTH} if files else set())
    used = {key_id for file in files for key_id in file.key_ids.split()}
    registered = select(requests.c.request_id).where(requests.c.tenant == tenant)
    stays = {_KEPT_WITH_REQUESTS} if connection.execute(registered).first() is not None else set()
    living = select(keys).where(keys.c.tenant == tenant, keys.c.state != "destroyed").order_by(keys.c.key_id)
    return [
        key.key_id
        for key in connection.execute(living)
        if key.key_id not in used and key.month not in months and (key.domain, key.purpose) not in stays
    ]


def _begin(settings: Settings, tenant: str, key_ids: list[str], run_id: str, today: date) -> Disposal:
    facts = {"tenant": tenant, "keys": key_ids}
    plan = canonical(facts)
    disposal = Disposal(
        disposal_id=runs.new_id(),
        reason=DisposalReason.TENANT_END,
        about=tenant,
        run_id=run_id,
        as_of=today,
        status=Status.REMOVING,
        digest=hashlib.sha256(plan.encode()).hexdigest(),
        certificate_id=None,
        facts=facts,
    )
    with database.writing(settings) as connection:
        record.enter(connection, disposal, plan)
    point("tenant-begun")
    return disposal


class TenantEndParticulars(Particulars):
    """The keys of a tenant that left, and the rows that only these keys gave a meaning."""

    def sentence(self, disposal: Disposal) -> str:
        """Return why the keys go."""
        return f"tenant {disposal.about} left"

    def key_ids(self, disposal: Disposal) -> Sequence[str]:
        """Return the keys that were registered when the disposal began."""
        return list(disposal.facts["keys"])

    def end(self, connection: Connection, disposal: Disposal, certificate: Certificate) -> None:
        """Delete suppressions and restrictions, unless the tenant's ids key stays, and note the tenant's end."""
        alive = select(keys.c.key_id).where(
            keys.c.tenant == disposal.about, keys.c.domain == "ids", keys.c.state != "destroyed"
        )
        if connection.execute(alive).first() is None:
            for table in (suppressions, restrictions):
                connection.execute(delete(table).where(table.c.tenant == disposal.about))
        subject = f"{disposal.about} {disposal.disposal_id}"
        audit.append(connection, [audit.Entry(ROLE, "tenant-closed", subject, certificate.certificate_id)])
