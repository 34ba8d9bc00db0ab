"""tenant: handing a tenant's data back, and destroying what is left of it, by two persons' decision."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, func, select

from callward import database, runs, workspace_id
from callward.access.second_person import Consent
from callward.disposal import tenant_keys
from callward.disposal.record import Status
from callward.errors import Problem, UsageProblem
from callward.evidence.findings import canonical
from callward.failpoints import point
from callward.lake import ledger
from callward.lake.data_files import DataFiles, open_files
from callward.lake.ledger import DataFile
from callward.redaction import mask
from callward.retention import holds
from callward.retention.policy import register as policy_register
from callward.retention.policy.register import Policies
from callward.retention.policy.rules import call_clock, floor_of
from callward.retention.purge import due_files as plans
from callward.retention.requests import register as request_register
from callward.retention.tenants import closing, data_return
from callward.retention.tenants.data_return import SUFFIX
from callward.settings import Settings
from pipelines import results
from pipelines.hand_over import HandOver, Piece, make_folder, put
from pipelines.purge import purge
from pipelines.reports.tenant import WAITS, Floor, ReturnOpened, TenantClosed, TenantReturned
from schemas.retention import lake_file_inputs, requests, row_ends
from schemas.tables import input_files, lake_files
from schemas.views import HELD, PARTS, VIEW_PARTS

ROLE: Final = "retention-run"
_VIEWS: Final = tuple(VIEW_PARTS)  # the row index is the services' own


# -- return ------------------------------------------------------------------------------------------------------------


def return_data(
    settings: Settings,
    tenant: str,
    recipient: str,
    to: Path,
    person: str,
    key_file: Path,
    today: date,
    *,
    dry_run: bool,
) -> TenantReturned:
    """Write everything of a tenant into a new folder, sealed for the recipient's public key, with a signed manifest.

    A registered person answers for it. Nothing is changed in the lake. Raises Problem where the holds cannot be read.
    """
    workspace_id.check(settings)
    _check_tenant(settings, tenant)
    public = data_return.public_key(recipient)
    if dry_run:
        return TenantReturned(tenant, True, _rows(settings, tenant))
    make_folder(to)
    with runs.running(settings, "return", [f"return/{tenant}"]) as run_id:
        over = HandOver(settings, tenant, to, public, today, "return", "tenant-return", ROLE)
        listed, digest = over.write(_pieces(settings, tenant, run_id, today), person, key_file)
        runs.finish(settings, run_id, "done", {"tenant": tenant, "manifest": digest})
    rows: Counter[str] = Counter()
    for item in listed:
        if item["rows"] is not None:
            rows[item["what"]] += item["rows"]
    return TenantReturned(tenant, False, rows, str(to), len(listed), digest)


def _check_tenant(settings: Settings, tenant: str) -> None:
    if tenant not in settings.tenants:
        raise UsageProblem(f"no tenant is called {mask(tenant)!r} (known: {', '.join(settings.tenants)})")


def _rows(settings: Settings, tenant: str) -> dict[str, int]:
    f = lake_files.c
    query = select(f.view, func.sum(f.rows)).where(f.tenant == tenant, f.view.in_(_VIEWS), f.superseded_at.is_(None))
    with database.reading(settings) as connection:
        return {view: int(rows) for view, rows in connection.execute(query.group_by(f.view))}


def _pieces(settings: Settings, tenant: str, run_id: str, today: date) -> Iterator[Piece]:
    files = open_files(settings, ROLE, f"return of tenant {tenant}", run_id)
    for view in _VIEWS:
        with database.reading(settings) as connection:
            found = ledger.files(connection, view=view, tenant=tenant)
        yield from (_of_rows(files, file) for file in found)
    with database.reading(settings) as connection:
        governed = policy_register.in_force(settings, connection)[tenant]
        origin = _origin(connection, tenant)
    for version in governed.versions:
        text = version.text or canonical({name: str(rule.window) for name, rule in version.rules.items()})
        suffix = "toml" if version.text else "json"
        yield Piece(f"policies/version-{version.version}.{suffix}", "policy", text.encode())
    listed = holds.list_holds(settings, holds.COMPLIANCE, today)
    placed = [results.to_document(hold) for hold in listed if hold.tenant == tenant]
    received = request_register.list_requests(settings, tenant=tenant, everything=True)
    asked = [results.to_document(request.summary(today)) for request in received]
    documents = {"holds": placed, "requests": asked, "consents": [], "ledger": origin}
    yield from (Piece(f"{name}.json", name, canonical(document).encode()) for name, document in documents.items())


def _of_rows(files: DataFiles, file: DataFile) -> Piece:
    """Return a data file as plain Parquet: in memory only, until it is sealed."""
    sink = pa.BufferOutputStream()
    rows = files.rows(file)
    pq.write_table(rows, sink, compression="zstd")
    data = memoryview(sink.getvalue()).cast("B")
    return Piece(f"{file.view}/call_date={file.part}/{file.file_id}.parquet", file.view, data, rows.num_rows)


def _origin(connection: Connection, tenant: str) -> list[dict[str, Any]]:
    """Per input file the tenant's rows in each view, and those that retention took out; of nobody else's."""
    i, f = lake_file_inputs.c, lake_files.c
    mine = select(i.file_no, f.view, func.sum(i.rows).label("rows")).join(lake_files, f.file_id == i.file_id)
    present = mine.where(f.tenant == tenant, f.view.in_(_VIEWS), f.superseded_at.is_(None)).group_by(i.file_no, f.view)
    rows: dict[int, dict[str, int]] = {}
    for row in connection.execute(present):
        rows.setdefault(row.file_no, {})[row.view] = int(row.rows)
    whole = _only_of(connection, tenant, rows)
    balances = ledger.balances(connection, sorted(whole)) if whole else {}
    ends = _ends(connection, whole)
    names = {row.file_no: row for row in connection.execute(select(input_files).where(input_files.c.file_no.in_(rows)))}
    return [
        {
            "file_no": file_no,
            "source": names[file_no].source,
            "present": present_rows,
            "balance": balances.get(file_no),
            "ended": ends.get(file_no),
        }
        for file_no, present_rows in sorted(rows.items())
    ]


def _only_of(connection: Connection, tenant: str, file_nos: Mapping[int, Any]) -> set[int]:
    """Input files that brought records of no other tenant: their balance speaks of this one alone."""
    i = lake_file_inputs.c
    others = select(i.file_no).join(lake_files, lake_files.c.file_id == i.file_id).where(lake_files.c.tenant != tenant)
    return set(file_nos) - set(connection.execute(others.distinct()).scalars())


def _ends(connection: Connection, file_nos: set[int]) -> dict[int, dict[str, int]]:
    """Return the rows that retention took out. What a hold keeps is not listed: a hold may be confidential."""
    e = row_ends.c
    query = select(e.file_no, e.view, e.end, func.sum(e.rows).label("rows")).where(e.file_no.in_(file_nos))
    found: dict[int, dict[str, int]] = {}
    for row in connection.execute(query.group_by(e.file_no, e.view, e.end)):
        if row.end in ("purged", "erased", "expired"):
            found.setdefault(row.file_no, {})[f"{row.view} {row.end}"] = int(row.rows)
    return found


def open_returned(folder: Path, private: Path, to: Path, signer: str, *, dry_run: bool = False) -> ReturnOpened:
    """For the recipient: check a hand-over and write its files in the clear into a new folder that only they read.

    A dry run checks and decrypts every file, and writes none.
    """
    manifest = data_return.read(folder, signer)
    made = data_return.opened(manifest, data_return.private_key(private))
    if not dry_run:
        make_folder(to)
    for item in manifest["files"]:
        name = item["name"].removesuffix(SUFFIX)
        content = data_return.unseal(made, name, (folder / item["name"]).read_bytes())
        if not dry_run:
            put(to / name, content)
    return ReturnOpened(manifest["tenant"], str(to), len(manifest["files"]))


# -- close -------------------------------------------------------------------------------------------------------------


def close(
    settings: Settings, tenant: str, person: str, key_file: Path, today: date, *, keep_floors: bool, dry_run: bool
) -> TenantClosed:
    """Destroy what is left of a tenant, once two persons have said so; each says it with a command of their own.

    Refuses while a hold is open, while floors stand (unless they are to be kept), while requests wait. Killed
    anywhere it is just run again, by either of them.
    """
    workspace_id.check(settings)
    closing.check_known(settings, tenant)
    with database.reading(settings) as connection:
        governed = policy_register.in_force(settings, connection)[tenant]
    _check_holds(settings, tenant, today)
    floors = list(_floors(settings, tenant, governed, today))
    _check_requests(settings, tenant)
    if floors and not (keep_floors or governed.leaving):
        kept = "; ".join(f"{floor.class_} ({floor.rows:,} rows) until {floor.until}" for floor in floors)
        raise Problem(f"the law requires to keep {kept}; --keep-floors keeps exactly that and destroys the rest")
    if dry_run:
        return TenantClosed(tenant, "dry run", floors, dry_run=True, rows=_rows(settings, tenant))
    left = closing.decide(settings, tenant, keep_floors, person, key_file)
    if left is None:
        return TenantClosed(tenant, WAITS, floors)
    point("tenant-decided")
    return _destroy(settings, tenant, floors, person, key_file, today)


def _check_holds(settings: Settings, tenant: str, today: date) -> None:
    """Refuse while a hold stands: one that everyone may know of is named; of others, that the law requires it."""
    found = holds.covering(holds.opened(settings, today=today), tenant, date.min, date.max)
    shown = holds.visible(found, holds.COMPLIANCE, today)
    if shown:
        names = ", ".join(f"hold {hold.hold_id} ({hold.kind}, {hold.case})" for hold in shown)
        raise Problem(f"{names} keeps records of this tenant: release it first")
    if found:
        raise Problem("LEGAL_OBLIGATION: " + request_register.WORDS[request_register.Refusal.LEGAL_OBLIGATION])


def _check_requests(settings: Settings, tenant: str) -> None:
    waiting = request_register.list_requests(settings, tenant=tenant)
    if waiting:
        raise Problem(
            f"{len(waiting)} requests of persons wait for an answer ('callward request list'); answer them first"
        )


def _floors(settings: Settings, tenant: str, governed: Policies, today: date) -> Iterator[Floor]:
    """Yield per class what the law requires to be kept beyond today."""
    with database.reading(settings) as connection:
        files = [file for file in ledger.files(connection, tenant=tenant) if not file.view.startswith(HELD)]
        answered = connection.execute(select(requests.c.answered_at).where(requests.c.tenant == tenant)).scalars()
        days = [moment.date() for moment in answered if moment is not None]
    clocks = [(cls, clock, file.rows) for file in files for cls, clock in _clocks(file)]
    clocks += [("requests", day, 1) for day in days]
    found: dict[str, tuple[int, date]] = {}
    for cls, clock, rows in clocks:
        until = floor_of(governed, cls, clock)
        if until >= today:
            before = found.get(cls, (0, date.min))
            found[cls] = before[0] + rows, max(before[1], until)
    for cls, (rows, until) in sorted(found.items()):
        yield Floor(cls, rows, until)


def _clocks(file: DataFile) -> Iterator[tuple[str, date]]:
    """Yield the classes that govern a data file, and the day that the clock of its newest row began."""
    if file.view in PARTS["billing"]:
        clock = call_clock(date.fromisoformat(file.part))
        yield "billing_transaction", clock
        if file.numbers:
            yield "call_detail", clock
    elif file.view in VIEW_PARTS:
        yield "assurance_metrics", call_clock(date.fromisoformat(file.part))
    elif file.view == "archive":
        yield "archive", date.fromisoformat(file.part)
    elif file.view in ("suspense", "pending", "late"):
        _, newest = plans.log_span(file)
        yield ("suspense", newest) if file.view == "suspense" else ("call_detail", call_clock(newest))


def _destroy(
    settings: Settings, tenant: str, floors: Sequence[Floor], person: str, key_file: Path, today: date
) -> TenantClosed:
    """Purge the tenant alone, then destroy the keys that no month's purge touches."""
    purged = purge(settings, today, today=today, only=tenant)
    if purged.status == Status.PLANNED:
        consent = Consent.of(purged.plan_id, person, key_file)
        purged = purge(settings, today, today=today, only=tenant, consent=consent)
    point("tenant-purged")
    with runs.running(settings, "close", ["purge"]) as run_id:
        certificate = tenant_keys.destroy(settings, tenant, run_id, today)
        runs.finish(settings, run_id, "done", {"tenant": tenant})
    return TenantClosed(
        tenant,
        "closed",
        floors,
        purge_id=purged.purge_id,
        classes=purged.classes,
        held=purged.held,
        certificates=[name for name in (purged.certificate, certificate) if name],
    )
