"""export: open records of suspense with their content, sealed for the key of whoever is to look at them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

from callward import audit, runs, workspace_id
from callward.columns import has_value
from callward.errors import Problem, UsageProblem
from callward.lake.data_files import DataFiles, open_files
from callward.redaction import mask, recorded
from callward.retention.tenants import data_return
from callward.settings import Settings
from pipelines.hand_over import HandOver, Piece, make_folder
from pipelines.suspense.records import Chosen, OpenRecord, open_pieces, open_records, opened
from schemas.codes import Suspense

ROLE: Final = "billing-run"
_EVENT: Final = "suspense export"


@dataclass(frozen=True)
class Exported:
    """How many records of a tenant were handed over, or would be; the folder, and the SHA-256 of its manifest."""

    tenant: str
    dry_run: bool
    records: int
    folder: str | None = None
    manifest: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the document of `callward suspense export --json`."""
        return vars(self)


@dataclass(frozen=True)
class Recipient:
    """For whom records are exported: the X25519 public key (PEM or hex), into which new folder, and why."""

    key: str
    to: Path
    reason: str


def export(
    settings: Settings,
    tenant: str,
    recipient: Recipient,
    person: str,
    key_file: Path,
    today: date,
    *,
    codes: Sequence[str] = (),
    only: Sequence[str] = (),
    named: Sequence[str] = (),
    dry_run: bool = False,
) -> Exported:
    """Write a tenant's open records with any of the codes, of any of the sources and files, into a new folder: sealed
    for the recipient's key, with a signed manifest that a registered person answers for. Suspense stays as it is.

    Raises UsageProblem for a tenant, code or source that is not known, for a reason that cannot be recorded and for a
    folder that is there; Problem where there is no such record.
    """
    if tenant not in settings.tenants:
        raise UsageProblem(f"no tenant is called {mask(tenant)!r} (known: {', '.join(settings.tenants)})")
    reason, public = recorded("--reason", recipient.reason), data_return.public_key(recipient.key)
    workspace_id.check(settings)
    chosen = Chosen.of(settings, codes or list(map(str, Suspense)), only, named, _EVENT)
    # Recorded before anything is opened: also an attempt by someone whose root does not open is known.
    audit.record(settings, [audit.Entry(ROLE, _EVENT, tenant, reason)])
    with runs.running(settings, "suspense-export", [f"return/{tenant}"]) as run_id:
        records = _records(settings, open_files(settings, ROLE, f"{_EVENT}: {reason}", run_id), tenant, chosen)
        if not records:
            raise Problem(f"tenant {tenant} has no such open record in suspense")
        exported = Exported(tenant, dry_run, len(records))
        if not dry_run:
            make_folder(recipient.to)
            over = HandOver(settings, tenant, recipient.to, public, today, "export", _EVENT, ROLE, reason)
            _, digest = over.write([_piece(records)], person, key_file)
            exported = Exported(tenant, dry_run, len(records), str(recipient.to), digest)
        runs.finish(
            settings, run_id, "done", {"tenant": tenant, "records": len(records), "manifest": exported.manifest}
        )
    return exported


def _records(settings: Settings, files: DataFiles, tenant: str, chosen: Chosen) -> list[OpenRecord]:
    rows: list[dict[str, Any]] = []
    for table in (open_records(files), open_pieces(files)):
        meant = table.filter(has_value(table["tenant"], tenant))
        rows += meant.filter(chosen.among(meant, "code")).to_pylist()
    return opened(settings, rows)


def _piece(records: Sequence[OpenRecord]) -> Piece:
    lines = "".join(json.dumps(asdict(record), ensure_ascii=False) + "\n" for record in records)
    return Piece("suspense.jsonl", "suspense", lines.encode(), len(records))
