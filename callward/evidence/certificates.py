"""Certificates of destruction: issued once per purge, signed, chained to the one before, verified whenever asked.

A certificate is canonical JSON: a body (statement.py), the retention signer's public key, and its signature
over the body. `hash = SHA-256(tag | seq | prev | document)` chains them; the audit log names each hash, so one that was
cut off the end is missed as well.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, select

from callward import audit, database, runs
from callward.errors import Problem, UsageProblem
from callward.evidence import certificate_page, checks, findings, statement
from callward.evidence.checks import Check
from callward.evidence.findings import Facts, Held, Removed, canonical
from callward.failpoints import point
from callward.keys import signing
from callward.redaction import mask
from callward.settings import Settings
from callward.storage.durable import replacing
from schemas.retention import certificates
from schemas.tables import audit_log

__all__ = ["Certificate", "Check", "Facts", "Held", "Removed", "folder", "issue", "list_certificates", "read", "verify"]

GENESIS: Final = "0" * 64
SIGNER: Final = "retention"
ROLE: Final = "retention-run"
EVENT: Final = "certificate"
_TAG: Final = "callward/certificate/1"


@dataclass(frozen=True)
class Certificate:
    """One certificate as it was issued. `document` is its canonical JSON, byte for byte."""

    certificate_id: str
    seq: int
    disposal_id: str | None
    status: str  # complete, partial, pending
    document: str
    hash: str

    @property
    def body(self) -> dict[str, Any]:
        return dict(json.loads(self.document)["body"])

    @property
    def key_ids(self) -> list[str]:
        """Return the keys whose destruction it certifies."""
        return [key["key_id"] for key in self.body["keys"]]


def folder(settings: Settings) -> Path:
    """Return where certificates lie as files: the JSON and a page to print."""
    return settings.folder / "certificates"


# -- issuing ---------------------------------------------------------------------------------------------------------


def issue(settings: Settings, disposal_id: str, facts: Facts, today: date) -> Certificate:
    """Verify a disposal, certify what is seen, and write the certificate's files. Issued again: the same certificate.

    What was PENDING is followed by a new certificate once the waiting period is over. A check that fails makes it
    PARTIAL and is printed. Raises KeyProblem when the retention signer's key cannot be used.
    """
    looked_at = checks.of_disposal(settings, disposal_id, [t.key_id for t in facts.tombstones], quick=True)
    with database.writing(settings) as connection:
        certificate = _standing(connection, disposal_id, facts, today)
        certificate = certificate or _add(settings, connection, disposal_id, facts, looked_at, today)
    point("certificate-issued")
    write_files(settings, certificate)
    return certificate


def _standing(connection: Connection, disposal_id: str, facts: Facts, today: date) -> Certificate | None:
    """Return the disposal's newest certificate, unless it was pending and is so no more."""
    query = select(certificates).where(certificates.c.disposal_id == disposal_id).order_by(certificates.c.seq.desc())
    row = connection.execute(query.limit(1)).first()
    waits = facts.deletion_pending_until is not None and facts.deletion_pending_until >= today
    return _certificate(row) if row is not None and (row.status != "pending" or waits) else None


def _add(
    settings: Settings, connection: Connection, disposal_id: str, facts: Facts, looked_at: Sequence[Check], today: date
) -> Certificate:
    seq, prev = _head(connection)
    certificate_id = runs.new_id()
    known = findings.known(settings, connection, disposal_id, facts, looked_at)
    body = statement.body(settings, certificate_id, facts, known, today)
    audit_seq, audit_head = audit.head(connection)
    body["chain"] = {"seq": seq + 1, "previous": prev, "audit_seq": audit_seq, "audit_head": audit_head}
    body["issued_at"] = database.now().isoformat(timespec="seconds") + "Z"
    document = _signed(settings, body)
    certificate = Certificate(
        certificate_id, seq + 1, disposal_id, body["status"].lower(), document, _hash(seq + 1, prev, document)
    )
    _insert(connection, certificate, prev)
    return certificate


def _head(connection: Connection) -> tuple[int, str]:
    row = connection.execute(select(certificates).order_by(certificates.c.seq.desc()).limit(1)).first()
    return (row.seq, row.hash) if row else (0, GENESIS)


def _signed(settings: Settings, body: dict[str, Any]) -> str:
    signature = signing.sign(settings, SIGNER, _to_sign(body)).hex()
    return canonical({"body": body, "public_key": signing.public_key(settings, SIGNER).hex(), "signature": signature})


def _to_sign(body: dict[str, Any]) -> bytes:
    return f"{_TAG}|{canonical(body)}".encode()


def _hash(seq: int, prev: str, document: str) -> str:
    return hashlib.sha256(f"{_TAG}|{seq}|{prev}|{document}".encode()).hexdigest()


def _insert(connection: Connection, certificate: Certificate, prev: str) -> None:
    connection.execute(
        insert(certificates).values(
            seq=certificate.seq,
            certificate_id=certificate.certificate_id,
            disposal_id=certificate.disposal_id,
            status=certificate.status,
            document=certificate.document,
            prev=prev,
            hash=certificate.hash,
            issued_at=database.now(),
        )
    )
    subject = f"{certificate.certificate_id} {certificate.hash}"
    audit.append(
        connection, [audit.Entry(ROLE, EVENT, subject, f"disposal {certificate.disposal_id}, {certificate.status}")]
    )


def write_files(settings: Settings, certificate: Certificate) -> list[Path]:
    """Write the certificate as JSON and as a page to print; both are whole on disk when this returns."""
    where = folder(settings)
    where.mkdir(parents=True, exist_ok=True, mode=0o750)
    contents = {
        ".json": certificate.document + "\n",
        ".html": certificate_page.page(certificate.body, certificate.hash),
    }
    written = []
    for suffix, text in contents.items():
        path = where / (certificate.certificate_id + suffix)
        with replacing(path) as file:
            file.write(text.encode())
        written.append(path)
    return written


# -- reading ---------------------------------------------------------------------------------------------------------


def list_certificates(settings: Settings) -> list[Certificate]:
    """Return every certificate, the oldest first."""
    with database.reading(settings) as connection:
        return [_certificate(row) for row in connection.execute(select(certificates).order_by(certificates.c.seq))]


def read(settings: Settings, certificate_id: str) -> Certificate:
    """Return a certificate of the register by its id; raises UsageProblem for one that it does not have."""
    with database.reading(settings) as connection:
        row = _row(connection, certificate_id)
    if row is None:
        raise UsageProblem(
            f"no certificate is called {mask(certificate_id)!r}; 'callward purge certificates list' shows them"
        )
    return _certificate(row)


def _row(connection: Connection, certificate_id: str) -> Row[Any] | None:
    return connection.execute(select(certificates).where(certificates.c.certificate_id == certificate_id)).first()


def _certificate(row: Row[Any]) -> Certificate:
    return Certificate(row.certificate_id, row.seq, row.disposal_id, row.status, row.document, row.hash)


# -- verifying -------------------------------------------------------------------------------------------------------


def verify(settings: Settings, reference: str | Path, *, quick: bool = False) -> list[Check]:
    """Make every check of a certificate, given as a file (wherever it was copied to) or by its id.

    First the document: its signature, the register's word for it, its place in the chain, its counts. Then the disposal
    that it speaks of, as the disk and the registers are now (checks.py). A document that is none, or whose
    signature does not hold, answers with that one check.
    Raises UsageProblem when there is neither such a file nor such an id.
    """
    document = _document(settings, reference)
    parsed = _parsed(document)
    if parsed is None:
        return [Check("document", False, "this is not a certificate of destruction, as this release writes them")]
    signature = _signature(settings, parsed)
    if not signature.ok:  # whose words these are nobody knows: there is nothing to compare
        return [signature]
    body = parsed["body"]
    with database.reading(settings) as connection:
        outcomes = [signature, _registered(connection, body, document), *_chain(connection, body)]
        outcomes.append(_counts(connection, body))
    key_ids = [key["key_id"] for key in body["keys"]]
    return outcomes + checks.of_disposal(settings, body["identity"]["disposal_id"], key_ids, quick=quick)


def _document(settings: Settings, reference: str | Path) -> bytes:
    path = Path(reference)
    if path.is_file():
        return path.read_bytes()
    if path.suffix or len(path.parts) > 1:
        raise UsageProblem(f"there is no certificate file {mask(str(path))}")
    return (read(settings, str(reference)).document + "\n").encode()


def _parsed(document: bytes) -> dict[str, Any] | None:
    """Return a certificate of this version, byte for byte as it would be written; None for anything else."""
    try:
        parsed = json.loads(document)
        whole = document == (canonical(parsed) + "\n").encode()
        version = parsed["body"]["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return dict(parsed) if whole and version == statement.FORMAT_VERSION else None


def _signature(settings: Settings, parsed: dict[str, Any]) -> Check:
    registered = signing.public_key(settings, SIGNER)
    try:
        signature, embedded = bytes.fromhex(parsed["signature"]), bytes.fromhex(parsed["public_key"])
    except (ValueError, KeyError, TypeError):
        signature, embedded = b"", b""
    if embedded != registered:
        return Check("signature", False, "the certificate was signed with another key than the registered one")
    if not signing.verify(registered, signature, _to_sign(parsed["body"])):
        return Check("signature", False, "the signature does not hold: the certificate was altered")
    return Check("signature", True, f"whole, and signed by {SIGNER} with the registered key {registered.hex()[:16]}")


def _registered(connection: Connection, body: dict[str, Any], document: bytes) -> Check:
    row = _row(connection, body["identity"]["certificate_id"])
    if row is None:
        return Check("register", False, "the register has no such certificate")
    if (row.document + "\n").encode() != document or row.disposal_id != body["identity"]["disposal_id"]:
        return Check("register", False, "the register holds this certificate with other words")
    if row.status != body["status"].lower():
        return Check("register", False, f"the register calls this certificate {row.status}")
    return Check("register", True, f"the register holds the same words, status {row.status}")


def _chain(connection: Connection, body: dict[str, Any]) -> Iterator[Check]:
    """Check the hash, the links to the certificate before and from the one after, and the audit log's word for them."""
    seq = body["chain"]["seq"]
    near = select(certificates).where(certificates.c.seq.between(seq - 1, seq + 1))
    rows = {row.seq: row for row in connection.execute(near)}
    yield _links(rows, seq, body["chain"]["previous"])
    yield _audited(connection, rows.get(seq), body)


def _links(rows: dict[int, Row[Any]], seq: int, previous: str) -> Check:
    before = rows[seq - 1].hash if seq - 1 in rows else GENESIS
    if seq not in rows or (seq > 1 and seq - 1 not in rows):
        return Check("chain", False, f"certificate {seq} or the one before it is missing from the chain")
    for number, row in rows.items():
        if row.hash != _hash(row.seq, row.prev, row.document):
            return Check("chain", False, f"the chain is broken at certificate {number}: it was altered")
    if not rows[seq].prev == previous == before:
        return Check("chain", False, f"certificate {seq} is not chained to the one before it")
    if seq + 1 in rows and rows[seq + 1].prev != rows[seq].hash:
        return Check("chain", False, f"the certificate after {seq} is not chained to it")
    return Check("chain", True, f"number {seq}, chained to {'the one before' if seq > 1 else 'the beginning'}")


def _audited(connection: Connection, row: Row[Any] | None, body: dict[str, Any]) -> Check:
    trouble = _not_audited(connection, row, body["chain"])
    return Check("audit log", not trouble, trouble or "a whole chain, and it names this certificate")


def _not_audited(connection: Connection, row: Row[Any] | None, chain: dict[str, Any]) -> str:
    """Return what the audit log says against a certificate, "" for nothing."""
    a = audit_log.c
    head = connection.execute(select(a.hash).where(a.seq == chain["audit_seq"])).scalar() or GENESIS
    if head != chain["audit_head"]:
        return f"entry {chain['audit_seq']} of the audit log is another one now"
    issued = connection.execute(select(a.subject).where(a.event == EVENT, a.role == ROLE)).scalars().all()
    if row is None or f"{row.certificate_id} {row.hash}" not in issued:
        return "the audit log does not name this certificate"
    there = connection.execute(select(func.count()).select_from(certificates)).scalar_one()
    if there != len(issued):
        return f"the audit log names {len(issued)} certificates, the register has {there}"
    try:
        audit.verify(connection)
    except Problem as problem:
        return str(problem)
    return ""


def _counts(connection: Connection, body: dict[str, Any]) -> Check:
    """Compare the certificate's numbers with the registers: rows by view and end, and what went by class."""
    disposal_id = body["identity"]["disposal_id"]
    ends, ends_sha256 = findings.row_counts(connection, disposal_id)
    if body["row_counts"] != {"by_end": ends, "sha256": ends_sha256}:
        return Check("counts", False, "the register counts other rows for this disposal than the certificate states")
    tallied = findings.tally(checks.removed_files(connection, disposal_id))
    stated = [{name: line.get(name) for name in tallied[0]} for line in body["scope"]] if tallied else body["scope"]
    if stated != tallied:
        return Check("counts", False, "the register names other files for this disposal than the certificate states")
    rows, files = (sum(line[name] for line in tallied) for name in ("rows", "files"))
    return Check("counts", True, f"{rows:,} rows in {files:,} files, as the register has them")
