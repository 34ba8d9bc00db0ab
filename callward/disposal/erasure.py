"""What is particular to an erasure: its rows are gone for every reader in the transaction that begins it.

Nothing may take it back, so it begins in `removing`; what was replaced leaves the disk, and a certificate is issued.
A correction is committed the same way, and disposes of nothing.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from callward import audit, database
from callward.disposal import completion, record
from callward.disposal.completion import Particulars
from callward.disposal.record import Disposal, Item, Status
from callward.evidence.certificates import Facts, Held
from callward.failpoints import point
from callward.keys.rotation import Tombstone
from callward.lake import ledger
from callward.lake.ledger import Changes, CommitConflict
from callward.lake.removal import FileOnDisk
from callward.retention import holds
from callward.retention.requests import register as request_register
from callward.retention.requests.register import SERVICE, Refusal, Request
from callward.settings import Settings
from schemas.codes import DisposalReason
from schemas.retention import disposal_items, disposals, suppressions
from schemas.tables import lake_files
from schemas.views import STORED


@dataclass(frozen=True)
class RequestChanges:
    """What a request comes to, over all dates."""

    outcome: Changes
    suppressed: Sequence[str]
    items: Sequence[Item]
    counts: Counter[str]
    fingerprints: set[str]  # of the holds that were looked at


def commit(settings: Settings, run_id: str, request_id: str, changes: RequestChanges, today: date) -> None:
    """Commit rows, derived tables, suppressions and the answer together; what is committed already changes nothing.

    Raises CommitConflict when a partition or a hold changed since they were read.
    """
    request = request_register.find(settings, request_id)
    with database.writing(settings) as connection:
        if record.find(connection, run_id) is not None:
            return
        if changes.fingerprints != {holds.fingerprint(connection)}:
            raise CommitConflict
        if changes.outcome.superseded:
            ledger.commit(connection, run_id, 0, changes.outcome)
        _suppress(connection, request, changes.suppressed)
        if changes.items:
            _begin(connection, run_id, request, changes.items, today)
        request_register.put(connection, settings, request, _answered(request, changes), "altered")
    point("request-committed")


def _answered(request: Request, changes: RequestChanges) -> Request:
    """Return the answer, with rows of both views together: how many went, lost the person's side, stay as they are.

    While something stays that may go later, the answer is not the last: its own retention does not begin.
    """
    rows: Counter[str] = Counter({name: n for name, n in request.answer.get("rows", {}).items() if name != "kept"})
    for name, count in changes.counts.items():
        rows[name.split(" ")[1]] += count
    counted = {name: count for name, count in rows.items() if count}
    obliged = Refusal.LEGAL_OBLIGATION if rows["kept"] or rows["blanked"] else None
    if set(counted) <= {"kept"}:
        answered = request_register.refused(request, obliged or Refusal.NOT_FOUND)
    else:
        answered = request_register.answered(request, {}, obliged)
    last = None if rows["kept"] and request.kind == "erase" else answered.answered_at
    return replace(answered, answer={"rows": counted, "left": bool(rows["kept"])}, answered_at=last)


def _suppress(connection: Connection, request: Request, records: Sequence[str]) -> None:
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    rows = [{"tenant": request.tenant, "record": name, "request_id": request.request_id} for name in records]
    for some in database.batches(rows):
        connection.execute(dialect.insert(suppressions).on_conflict_do_nothing(), some)


def _begin(connection: Connection, run_id: str, request: Request, items: Sequence[Item], today: date) -> None:
    facts = {"request_id": request.request_id, "items": [vars(item) for item in items]}
    plan = json.dumps(facts, sort_keys=True)
    disposal = Disposal(
        disposal_id=run_id,
        reason=DisposalReason.ERASURE,
        about=request.request_id,
        run_id=run_id,
        as_of=today,
        status=Status.REMOVING,
        digest=hashlib.sha256(plan.encode()).hexdigest(),
        certificate_id=None,
        facts=facts,
    )
    record.enter(connection, disposal, plan)
    record.list_items(connection, run_id, items, tombstoned=True)
    subject = f"{run_id} request {request.request_id}"
    audit.append(connection, [audit.Entry(SERVICE, "erase", subject, f"{len(items)} data files")])


def unfinished(settings: Settings) -> list[Disposal]:
    """Return erasures that are not certified yet."""
    with database.reading(settings) as connection:
        return record.in_states(connection, DisposalReason.ERASURE)


def finish(settings: Settings, disposal_id: str, run_id: str, today: date) -> str | None:
    """Complete an erasure; returns its certificate's id. None where nothing was replaced."""
    with database.reading(settings) as connection:
        disposal = record.find(connection, disposal_id)
    if disposal is None or disposal.status != Status.REMOVING:
        return disposal.certificate_id if disposal is not None else None
    return completion.complete(settings, disposal, ErasureParticulars(), run_id, today).certificate_id


class ErasureParticulars(Particulars):
    """The files that an erasure replaced, and earlier ones of the same rows; what stays, and why it may not go."""

    def files(self, connection: Connection, disposal: Disposal) -> Sequence[FileOnDisk]:
        """Return data files of the erasure, and those of the same dates that are kept for their readers."""
        f, i = lake_files.c, disposal_items.c
        own = select(i.file_id).where(i.disposal_id == disposal.disposal_id)
        query = select(f.file_id, f.path).where(f.removed_at.is_(None))
        query = query.where(f.file_id.in_(own) | _replaced_before(disposal.disposal_id))
        return [FileOnDisk(*row) for row in connection.execute(query)]

    def facts(self, settings: Settings, disposal: Disposal, tombstones: Sequence[Tombstone]) -> Facts:
        """Return what stays as one figure, whatever keeps it: a law, an order, or one that is confidential."""
        request = request_register.find(settings, str(disposal.about))
        kept = sum(rows for what, rows in request.answer.get("rows", {}).items() if what in ("kept", "blanked"))
        held = [Held(request.tenant, "billing_transaction", kept)] if kept else []
        return Facts(tombstones, held, completes=_partial_before(settings, disposal))


def _replaced_before(disposal_id: str) -> ColumnElement[bool]:
    """Select data files of the same dates that were replaced earlier, as by a compaction: the rows are there, too."""
    i, f = disposal_items.c, lake_files.c
    about = select(i.file_id).where(i.disposal_id == disposal_id, i.tenant == f.tenant, i.part == f.part).exists()
    return f.superseded_at.is_not(None) & f.view.in_(STORED) & about


def _partial_before(settings: Settings, disposal: Disposal) -> list[str]:
    """Return certificates of earlier erasures for the same request that left something."""
    d = disposals.c
    query = select(d.certificate_id).where(
        d.reason == DisposalReason.ERASURE,
        d.about == disposal.about,
        d.status == Status.PARTIAL,
        d.disposal_id != disposal.disposal_id,
        d.certificate_id.is_not(None),
    )
    with database.reading(settings) as connection:
        return [str(certificate_id) for certificate_id in connection.execute(query).scalars()]
