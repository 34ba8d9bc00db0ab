"""hand_over: files sealed for a recipient's key in a new folder, with a signed manifest that a person answers for.

What was handed over is opened by `callward tenant open`, without a workspace.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from callward import audit, runs
from callward.errors import UsageProblem
from callward.failpoints import point
from callward.keys import approvers, signing
from callward.redaction import mask
from callward.retention.tenants import data_return
from callward.retention.tenants.data_return import MANIFEST, SIGNATURE, SUFFIX, Envelope
from callward.settings import Settings
from callward.storage.durable import create


@dataclass(frozen=True)
class Piece:
    """One file of a hand-over, before it is sealed."""

    name: str
    what: str
    data: bytes | memoryview
    rows: int | None = None


@dataclass(frozen=True)
class HandOver:
    """What is handed over of a tenant: into which new folder, for whose key, on which day; who answers for it.

    `kind` is what the person approves, `event` what the audit log has, `why` what stands there beside the person.
    """

    settings: Settings
    tenant: str
    to: Path
    recipient: bytes
    today: date
    kind: str
    event: str
    role: str
    why: str = ""

    def write(self, pieces: Iterable[Piece], person: str, key_file: Path) -> tuple[list[dict[str, Any]], str]:
        """Write the files and the manifest; return what it lists, and its SHA-256 (hex).

        A folder without a manifest is unfinished. Raises UsageProblem and KeyDenied where the person may not approve.
        """
        made = data_return.envelope(self.recipient)
        listed = [_write(self.to, made, piece) for piece in pieces]
        manifest = data_return.canonical(self._manifest(made, listed))
        digest = hashlib.sha256(manifest).hexdigest()
        approvers.approve(self.settings, self.kind, digest, person, key_file)
        said = f"by {person}" + (f": {self.why}" if self.why else "")
        audit.record(self.settings, [audit.Entry(self.role, self.event, f"{self.tenant} {digest}", said)])
        put(self.to / MANIFEST, manifest)
        signature = signing.sign(self.settings, "retention", data_return.to_sign(manifest))
        put(self.to / SIGNATURE, signature.hex().encode() + b"\n")
        return listed, digest

    def _manifest(self, made: Envelope, listed: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "format_version": data_return.FORMAT_VERSION,
            "tenant": self.tenant,
            "made_on": self.today.isoformat(),
            "code_version": runs.CODE_VERSION,
            "envelope": made.to_dict(),
            "signed_by": signing.public_key(self.settings, "retention").hex(),
            "files": listed,
        }


def make_folder(to: Path) -> None:
    """Make a new folder that only this user reads. Raises UsageProblem where there is one that is not empty."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UsageProblem(f"--to {mask(str(to))}: it is there already, and not empty")
    to.mkdir(mode=0o700, exist_ok=True)


def put(path: Path, data: bytes) -> None:
    """Write a new file, and the folders above it that are missing."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    create(path, data)


def _write(to: Path, made: Envelope, piece: Piece) -> dict[str, Any]:
    name = piece.name + SUFFIX
    blob = made.seal(piece.name, piece.data)
    put(to / name, blob)
    point("return-written")
    digest = hashlib.sha256(blob).hexdigest()
    return {"name": name, "what": piece.what, "rows": piece.rows, "bytes": len(blob), "sha256": digest}
