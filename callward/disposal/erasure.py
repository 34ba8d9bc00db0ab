"""Erasures and corrections, once their files are written: the commit, the removal of what was replaced, the proof.

An erasure is a purge of its own: a row of `purges` with its items, and a certificate with the reason "erasure". It
ends in two steps, so that a kill between them leaves something to go on from: one transaction in which the rows are
gone for every reader, then the replaced files leave the disk and the certificate is issued.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from callward import audit, database
from callward.evidence import certificates
from callward.evidence.certificates import Facts, Held
from callward.failpoints import point
from callward.lake import ledger
from callward.lake.data_files import COMPANIONS
from callward.lake.ledger import Changes, CommitConflict
from callward.retention import holds
from callward.retention.requests import register as request_register
from callward.retention.requests.register import SERVICE, Refusal, Request
from callward.settings import Settings
from callward.storage.store import Store
from schemas.retention import purge_items, purges, suppressions
from schemas.tables import lake_files

ERASED: Final = "erased"  # the status of such a purge whose replaced files may still be on the disk
REASON: Final = "erasure"


@dataclass(frozen=True)
class Done:
    """What a request came to, over all dates."""

    outcome: Changes
    suppressed: Sequence[str]
    items: Sequence[Mapping[str, Any]]
    counts: Counter[str]
    fingerprints: set[str]  # of the holds that were looked at


def commit(settings: Settings, run_id: str, request_id: str, done: Done, today: date) -> None:
    """Rows, derived tables, suppressions and the answer count together, or none does.

    Raises CommitConflict when a partition or a hold changed since they were read. Done already, it changes nothing.
    """
    request = request_register.found(settings, request_id)
    with database.writing(settings) as connection:
        if connection.execute(select(purges.c.purge_id).where(purges.c.purge_id == run_id)).first() is not None:
            return
        if done.fingerprints != {holds.fingerprint(connection)}:
            raise CommitConflict
        if done.outcome.superseded:
            ledger.commit(connection, run_id, 0, done.outcome)
        _suppress(connection, request, done.suppressed)
        if done.items:
            _note(connection, settings, run_id, request, done, today)
        request_register.put(connection, settings, request, _answered(request, done), "altered")
    point("request-committed")


def _answered(request: Request, done: Done) -> Request:
    """The answer, with rows of both views together: how many went, lost the person's side of them, stay as they are.

    While something stays that may go later, the answer is not the last: its own retention does not begin.
    """
    rows: Counter[str] = Counter({name: n for name, n in request.answer.get("rows", {}).items() if name != "kept"})
    for name, count in done.counts.items():
        rows[name.split(" ")[1]] += count
    found = {name: count for name, count in rows.items() if count}
    obliged = Refusal.LEGAL_OBLIGATION if rows["kept"] or rows["blanked"] else None
    if set(found) <= {"kept"}:
        made = request_register.refused(request, obliged or Refusal.NOT_FOUND)
    else:
        made = request_register.answered(request, {}, obliged)
    last = None if rows["kept"] and request.kind == "erase" else made.answered_at
    return replace(made, answer={"rows": found, "left": bool(rows["kept"])}, answered_at=last)


def _suppress(connection: Connection, request: Request, records: Sequence[str]) -> None:
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    rows = [{"tenant": request.tenant, "record": record, "request_id": request.request_id} for record in records]
    for some in database.batches(rows):
        connection.execute(dialect.insert(suppressions).on_conflict_do_nothing(), some)


def _note(connection: Connection, settings: Settings, run_id: str, request: Request, done: Done, today: date) -> None:
    items = [{"purge_id": run_id, "item": n, "state": "tombstoned", **item} for n, item in enumerate(done.items)]
    plan = json.dumps({"reason": REASON, "request_id": request.request_id, "items": list(done.items)}, sort_keys=True)
    connection.execute(
        insert(purges).values(
            purge_id=run_id,
            as_of=today,
            status=ERASED,
            plan_digest=hashlib.sha256(plan.encode()).hexdigest(),
            plan=plan,
            started_by=audit.who(),
            created_at=database.now(),
            run_id=run_id,
        )
    )
    connection.execute(insert(purge_items), items)
    subject = f"{run_id} request {request.request_id}"
    audit.append(connection, [audit.Entry(SERVICE, "erase", subject, f"{len(items)} data files")])


def unfinished(settings: Settings) -> list[str]:
    """Erasures whose second step is not done."""
    with database.reading(settings) as connection:
        return list(connection.execute(select(purges.c.purge_id).where(purges.c.status == ERASED)).scalars())


def _before(purge_id: str) -> ColumnElement[bool]:
    """Data files of the same dates that were replaced earlier, and are kept for their readers: the rows are there, too.

    Such as those that a compaction has merged.
    """
    i, f = purge_items.c, lake_files.c
    about = select(i.file_id).where(i.purge_id == purge_id, i.tenant == f.tenant, i.part == f.part).exists()
    return f.superseded_at.is_not(None) & f.removed_at.is_(None) & f.view.in_(("billing", "assurance")) & about


def finish(settings: Settings, purge_id: str, today: date) -> str | None:
    """Remove what an erasure replaced and issue its certificate; its id. None where nothing was replaced."""
    with database.reading(settings) as connection:
        purge = connection.execute(select(purges).where(purges.c.purge_id == purge_id)).first()
        mine = select(purge_items.c.file_id).where(purge_items.c.purge_id == purge_id)
        gone = connection.execute(select(lake_files).where(lake_files.c.file_id.in_(mine) | _before(purge_id))).all()
    if purge is None or purge.status != ERASED:
        return purge.certificate_id if purge is not None else None
    _remove(settings, [row.path for row in gone])
    point("request-removed")
    with database.writing(settings) as connection:
        for some in database.batches(row.file_id for row in gone):
            removed = lake_files.c.file_id.in_(some) & lake_files.c.removed_at.is_(None)
            connection.execute(update(lake_files).where(removed).values(removed_at=database.now()))
        connection.execute(update(purge_items).where(purge_items.c.purge_id == purge_id).values(state="done"))
    request = request_register.found(settings, json.loads(purge.plan)["request_id"])
    made = certificates.issue(settings, purge_id, _facts(settings, request, purge_id), today)
    point("request-certified")
    with database.writing(settings) as connection:
        connection.execute(
            update(purges)
            .where(purges.c.purge_id == purge_id)
            .values(
                status="done" if made.status == "complete" else "partial",
                finished_at=database.now(),
                certificate_id=made.certificate_id,
            )
        )
    return made.certificate_id


def _facts(settings: Settings, request: Request, purge_id: str) -> Facts:
    """What stays is one figure, whatever keeps it: a law, an order, or one that is confidential."""
    kept = sum(rows for what, rows in request.answer.get("rows", {}).items() if what in ("kept", "blanked"))
    held = [Held(request.tenant, "billing_transaction", kept)] if kept else []
    return Facts(held=held, completes=_partial_before(settings, request, purge_id))


def _partial_before(settings: Settings, request: Request, purge_id: str) -> list[str]:
    """Certificates of earlier goes at the same request that left something."""
    query = select(purges.c.certificate_id, purges.c.plan).where(
        purges.c.status == "partial", purges.c.purge_id != purge_id, purges.c.plan.contains(request.request_id)
    )
    with database.reading(settings) as connection:
        return [row.certificate_id for row in connection.execute(query) if row.certificate_id]


def _remove(settings: Settings, paths: Sequence[str]) -> None:
    store = Store.of(settings)
    store.remove(path + suffix for path in paths for suffix in ("", *COMPANIONS))
    store.settle(paths)
