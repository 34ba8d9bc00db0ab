"""What is particular to a purge: its plan waits for a person, and its tombstones can be taken back.

Up to `tombstoned` nothing has changed for anyone; there old data files no longer count (reads refuse them) but lie
where they lay. A hold that comes before `removing` wins: everything counts again. Each step is one transaction, so a
kill falls before it or after it.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, literal, or_, select, update

from callward import audit, database, runs
from callward.disposal import derived, record
from callward.disposal.completion import Particulars
from callward.disposal.record import ROLE, Disposal, Item, Status
from callward.evidence.certificates import Certificate, Facts, Held, Removed
from callward.failpoints import point
from callward.keys.rotation import Tombstone
from callward.lake import ledger
from callward.lake.ledger import ENDS, CommitConflict, DataFile
from callward.lake.removal import FileOnDisk
from callward.retention import holds
from callward.retention.purge.due_files import KEEP, PlanItem
from callward.retention.purge.plan import Plan
from callward.settings import Settings
from callward.storage.store import TRANSIT
from schemas.codes import DisposalReason
from schemas.retention import certificates, disposals, lake_file_inputs, requests, row_ends
from schemas.tables import lake_files, ledger_entries
from schemas.views import HELD, INDEX, STORED, VIEW_PARTS

_NOT_PARTITIONS: Final = ("archive",)  # of these nobody reads a version


@dataclass(frozen=True)
class Written:
    """What a plan's batch wrote: data files by the id of the one whose place they take, and what sealed logs note."""

    files: Mapping[str, Sequence[DataFile]] = field(default_factory=dict)
    entries: Sequence[Mapping[str, Any]] = ()  # rows of ledger.ENTRIES
    ends: Sequence[Mapping[str, Any]] = ()  # rows of ledger.ENDS


def find(connection: Connection, purge_id: str) -> Disposal | None:
    """Return a purge by its id."""
    disposal = record.find(connection, purge_id)
    return disposal if disposal is not None and disposal.reason == DisposalReason.PURGE else None


def under_way(connection: Connection) -> list[Disposal]:
    """Return purges that were begun and not ended, oldest first."""
    return record.in_states(connection, DisposalReason.PURGE)


# -- before anything counts --------------------------------------------------------------------------------------------


def register_plan(settings: Settings, plan: Plan, run_id: str) -> str:
    """Register a plan that waits for a person; the same plan keeps its id. Older plans that wait are abandoned."""
    with database.writing(settings) as connection:
        waiting = record.in_states(connection, DisposalReason.PURGE, [Status.PLANNED])
        same = [purge.disposal_id for purge in waiting if purge.digest == plan.digest]
        for purge in waiting:
            if purge.digest != plan.digest:
                record.move(connection, purge.disposal_id, Status.ABANDONED)
        return same[0] if same else _enter(connection, plan, run_id)


def _enter(connection: Connection, plan: Plan, run_id: str) -> str:
    disposal = Disposal(
        disposal_id=runs.new_id(),
        reason=DisposalReason.PURGE,
        about=None,
        run_id=run_id,
        as_of=plan.as_of,
        status=Status.PLANNED,
        digest=plan.digest,
        certificate_id=None,
        facts={},
    )
    record.enter(connection, disposal, plan.to_json())
    _audit(connection, "purge-planned", disposal.disposal_id, plan.digest, f"as of {plan.as_of}")
    return disposal.disposal_id


def approve(settings: Settings, plan: Plan, run_id: str, purge_id: str, by: str | None) -> None:
    """Let a plan go ahead: `by` a person, or None where the policies of two people let it run by itself."""
    with database.writing(settings) as connection:
        record.move(connection, purge_id, Status.APPROVED, approved_by=by, run_id=run_id, plan=plan.to_json())
        record.list_items(connection, purge_id, [_item(item) for item in plan.items])
        _audit(connection, "purge-begun", purge_id, plan.digest, f"as of {plan.as_of}, approved by {by or 'policy'}")
    point("purge-approved")


def abandon_unfinished(settings: Settings) -> None:
    """Abandon purges that were killed, or refused, before anything counted: their files are orphans of their run."""
    with database.writing(settings) as connection:
        for purge in record.in_states(connection, DisposalReason.PURGE, [Status.APPROVED]):
            record.move(connection, purge.disposal_id, Status.ABANDONED)


def _item(item: PlanItem) -> Item:
    return Item(
        retention_class=item.retention_class,
        action=item.action,
        tenant=item.file.tenant,
        view=item.file.view,
        part=item.file.part,
        file_id=item.file.file_id,
        rows=item.rows,
        held=item.held,
        kept=item.action == KEEP,
    )


def _audit(connection: Connection, event: str, purge_id: str, digest: str, reason: str) -> None:
    audit.append(connection, [audit.Entry(ROLE, event, f"{purge_id} {digest}", reason)])


# -- first phase: tombstones -------------------------------------------------------------------------------------------


def tombstone(settings: Settings, plan: Plan, run_id: str, purge_id: str, written: Written) -> None:
    """Old data files count no more, and what was written counts: all at once.

    Raises CommitConflict when a hold, or a partition of the plan, is not as it was planned with.
    """
    at = database.now()
    point("purge-prepared")
    with database.writing(settings) as connection:
        runs.renew(connection, run_id)
        _check_as_planned(connection, plan)
        old = [item.file for item in plan.doing]
        ledger.supersede_files(connection, run_id, [file.file_id for file in old], at)
        new = [file for files in written.files.values() for file in files]
        ledger.add_files(connection, run_id, new, at)
        _same_inputs(connection, written)
        ledger.raise_versions(connection, {(f.tenant, f.part) for f in [*old, *new] if f.view not in _NOT_PARTITIONS})
        point("purge-half-tombstoned")
        _count_ends(connection, plan, purge_id, written)
        _note_entries(connection, run_id, written.entries)
        record.move(connection, purge_id, Status.TOMBSTONED)
    point("purge-tombstoned")


def _check_as_planned(connection: Connection, plan: Plan) -> None:
    if holds.fingerprint(connection) != plan.fingerprint:
        raise CommitConflict
    by_tenant: dict[str, list[str]] = defaultdict(list)
    for tenant, part in plan.versions:
        by_tenant[tenant].append(part)
    for tenant, parts in by_tenant.items():
        for some in database.batches(sorted(parts)):
            for key, version in ledger.versions(connection, tenant, some).items():
                if plan.versions[key] != version:
                    raise CommitConflict


def _same_inputs(connection: Connection, written: Written) -> None:
    """Give a file of the same rows in other columns the input files of the old one: its writer did not count them."""
    i = lake_file_inputs.c
    for old, files in written.files.items():
        for file in files:
            if file.rows and not file.inputs:
                same = select(literal(file.file_id), i.file_no, i.rows).where(i.file_id == old)
                connection.execute(insert(lake_file_inputs).from_select(["file_id", "file_no", "rows"], same))


def _count_ends(connection: Connection, plan: Plan, purge_id: str, written: Written) -> None:
    """By view and input file: rows that went, that a hold keeps, whose numbers went, that a hold kept no longer."""
    counts: Counter[tuple[str, int, str]] = Counter()
    for row in written.ends:
        counts[row["view"], row["file_no"], row["end"]] += row["rows"]
    for end, listed in _by_end(plan):
        went: Counter[tuple[str, int]] = Counter()
        for some in database.batches(item.file.file_id for item in listed):
            went.update(_inputs(connection, some))
        for item in listed:
            for file in written.files.get(item.file.file_id, ()):
                # Rows of a held copy stay: of a file that goes they are held, of a copy written anew held as before.
                kept = {(item.file.view, file_no): rows for file_no, rows in _kept(item, file).items()}
                went.subtract(kept)
                if not item.file.view.startswith(HELD):
                    counts.update({(view, file_no, "held"): rows for (view, file_no), rows in kept.items()})
        counts.update({(view.removeprefix(HELD), file_no, end): rows for (view, file_no), rows in went.items()})
    _add_ends(connection, purge_id, counts)


def _add_ends(connection: Connection, purge_id: str, counts: Mapping[tuple[str, int, str], int]) -> None:
    """Note how many rows of each view and input file came to which end."""
    rows = [{"view": v, "file_no": n, "end": e, "rows": r} for (v, n, e), r in sorted(counts.items()) if r]
    if rows:
        ledger.add_ends(connection, purge_id, [pa.Table.from_pylist(rows, schema=ENDS)])


def _by_end(plan: Plan) -> Iterator[tuple[str, list[PlanItem]]]:
    """Items whose rows are counted from the register alone, by what becomes of these. Sealed logs count their own."""
    ends: dict[str, list[PlanItem]] = defaultdict(list)
    for item in plan.doing:
        if item.file.view.startswith(HELD):
            ends["unheld"].append(item)
        elif item.file.view in (*VIEW_PARTS, "late") and not item.accounts:
            ends["numbers" if item.action == "rewrite" else "purged"].append(item)
    yield from sorted(ends.items())


def _kept(item: PlanItem, file: DataFile) -> Mapping[int, int]:
    return file.inputs if file.view.startswith(HELD) else {}


def _inputs(connection: Connection, file_ids: Sequence[str]) -> dict[tuple[str, int], int]:
    """Return the rows of data files by view and input file."""
    i = lake_file_inputs.c
    query = (
        select(lake_files.c.view, i.file_no, func.sum(i.rows).label("rows"))
        .join(lake_files, lake_files.c.file_id == i.file_id)
        .where(i.file_id.in_(file_ids))
        .group_by(lake_files.c.view, i.file_no)
    )
    return {(row.view, row.file_no): int(row.rows) for row in connection.execute(query)}


def _note_entries(connection: Connection, run_id: str, entries: Sequence[Mapping[str, Any]]) -> None:
    """Records of sealed logs that expired move in the ledger to filtered; their file balances as before."""
    if not entries:
        return
    summed = ledger.sum_entries([pa.Table.from_pylist(list(entries), schema=ledger.ENTRIES)])
    ledger.check_balance(summed)
    rows = [row for row in summed.to_pylist() if row["rows"] or row["talk_ms"]]
    if rows:
        connection.execute(insert(ledger_entries), [{"run_id": run_id, "wave": 0, **row} for row in rows])


# -- second phase ------------------------------------------------------------------------------------------------------


def begin_removal(settings: Settings, run_id: str, purge: Disposal) -> bool:
    """Bring a tombstoned purge to where there is no way back, unless a hold came before.

    Returns False when one did: then everything counts again.
    """
    with database.writing(settings) as connection:
        runs.renew(connection, run_id)
        if holds.fingerprint(connection) != purge.facts["fingerprint"]:
            _undo(connection, purge)
            return False
        removed = derived.settle(connection, purge)
        facts = json.dumps({**purge.facts, "removed": removed}, sort_keys=True, separators=(",", ":"))
        record.move(connection, purge.disposal_id, Status.REMOVING, plan=facts)
        point("purge-half-begun")
    point("purge-begun")
    return True


def _undo(connection: Connection, purge: Disposal) -> None:
    """Everything counts as before the tombstones, and what was written instead does not.

    In a partition of which a night has written a file anew since, it stays as the purge left it, and is held whole.
    """
    at, f = database.now(), lake_files.c
    stuck = f.part.in_(_changed_since(connection, purge))
    superseded = (f.superseded_by == purge.run_id) & f.removed_at.is_(None) & (f.run_id != purge.run_id)
    parts = connection.execute(select(f.tenant, f.part, f.view).where(superseded)).all()
    connection.execute(delete(row_ends).where(row_ends.c.disposal_id == purge.disposal_id))
    _hold_whole(connection, purge, and_(superseded, stuck))
    counting = {"superseded_at": None, "superseded_by": None}
    connection.execute(update(lake_files).where(superseded, or_(f.view != INDEX, ~stuck)).values(counting))
    written = and_(f.run_id == purge.run_id, f.superseded_at.is_(None), or_(f.view.not_in(STORED), ~stuck))
    connection.execute(update(lake_files).where(written).values(superseded_at=at, superseded_by=purge.run_id))
    ledger.raise_versions(connection, {(row.tenant, row.part) for row in parts if row.view not in _NOT_PARTITIONS})
    connection.execute(delete(ledger_entries).where(ledger_entries.c.run_id == purge.run_id))
    record.move(connection, purge.disposal_id, Status.ABANDONED)
    _audit(connection, "purge-undone", purge.disposal_id, purge.digest, "a hold was placed or changed")


def _hold_whole(connection: Connection, purge: Disposal, where: ColumnElement[bool]) -> None:
    """Keep data files of views as held ones, with all their rows, for the holds that cover their dates."""
    f = lake_files.c
    query = select(f.file_id).where(where, f.view.in_(VIEW_PARTS))
    counts: Counter[tuple[str, int, str]] = Counter()
    for some in database.batches(connection.execute(query).scalars().all()):
        held = _inputs(connection, some)
        counts.update({(view, file_no, "held"): rows for (view, file_no), rows in held.items()})
        values = {"view": literal(HELD) + f.view, "superseded_at": None, "superseded_by": None}
        connection.execute(update(lake_files).where(f.file_id.in_(some)).values(values))
    _add_ends(connection, purge.disposal_id, counts)


def _changed_since(connection: Connection, purge: Disposal) -> list[str]:
    """Partitions in which a file that the purge wrote was replaced since."""
    f = lake_files.c
    query = select(f.part).where(f.run_id == purge.run_id, f.superseded_by != purge.run_id).distinct()
    return list(connection.execute(query).scalars())


# -- the second phase: what completion.py asks -------------------------------------------------------------------------


class PurgeParticulars(Particulars):
    """What a purge removes, destroys and certifies beside its items."""

    def files(self, connection: Connection, disposal: Disposal) -> Sequence[FileOnDisk]:
        """Return data files of the purge, and those replaced before whose rows are due."""
        f = lake_files.c
        query = select(f.file_id, f.path).where(f.removed_at.is_(None))
        files = [FileOnDisk(*row) for row in connection.execute(query.where(f.superseded_by == disposal.run_id))]
        for some in database.batches(disposal.facts["stale"]):
            files += [FileOnDisk(*row) for row in connection.execute(query.where(f.file_id.in_(some)))]
        return files

    def other_files(self, disposal: Disposal) -> Sequence[str]:
        """Return batches in flight that their run left behind."""
        return [f"{TRANSIT}/{name}" for name in disposal.facts["spilled"]]

    def delete_rows(self, connection: Connection, disposal: Disposal) -> None:
        """Delete requests whose own retention is over."""
        for some in database.batches(disposal.facts["requests"]):
            connection.execute(delete(requests).where(requests.c.request_id.in_(some)))

    def key_ids(self, disposal: Disposal) -> Sequence[str]:
        """Return the keys of the plan, and those that nothing ever lay under."""
        return [*(key_id for key_id, _ in disposal.facts["keys"]), *disposal.facts["unused_keys"]]

    def facts(self, settings: Settings, disposal: Disposal, tombstones: Sequence[Tombstone]) -> Facts:
        """Return what stays for holds, rows that went outside the manifest, and the certificates this completes."""
        held = [
            Held(tenant, cls, rows, (hold_id,) if hold_id else ())
            for tenant, cls, hold_id, rows in disposal.facts["held"]
        ]
        with database.reading(settings) as connection:
            completes = _completed(connection, disposal)
        return Facts(tombstones, held, list(_rows_removed(disposal)), completes)

    def end(self, connection: Connection, disposal: Disposal, certificate: Certificate) -> None:
        """Note the purge's end in the audit log."""
        _audit(connection, "purge-done", disposal.disposal_id, disposal.digest, certificate.status)


def _rows_removed(purge: Disposal) -> Iterator[Removed]:
    for row in purge.facts.get("removed", []):
        cls = "billing_transaction" if row["table"].startswith("billing") else "assurance_metrics"
        yield Removed(row["tenant"], cls, row["table"], row["rows"])
    if purge.facts["requests"]:
        yield Removed("_all", "requests", "requests", len(purge.facts["requests"]))
    if purge.facts["spilled"]:
        yield Removed("_all", "temp", "batches in flight", len(purge.facts["spilled"]))


def _completed(connection: Connection, purge: Disposal) -> list[str]:
    """Return certificates that were PARTIAL for held rows of which this purge removed some."""
    f, c = lake_files.c, certificates.c
    copies = select(f.run_id).where(f.superseded_by == purge.run_id, f.view.startswith(HELD))
    query = select(c.certificate_id).join(disposals, disposals.c.disposal_id == c.disposal_id)
    earlier = connection.execute(query.where(disposals.c.run_id.in_(copies), c.status == "partial"))
    return sorted(set(earlier.scalars()))
