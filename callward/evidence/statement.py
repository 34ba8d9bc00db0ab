"""What a certificate of destruction states: the fields of NIST SP 800-88 section 4.8, filled from the registers.

Fields about a medium that a cloud or a host provides say so. Row and file deletion is "logical deletion", never above
Clear; the destruction of keys is "cryptographic erase" (Purge) only where every precondition holds, each printed.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date, timedelta
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.backends.openssl import backend

from callward import identity
from callward.evidence.checks import KEYS_DEAD, VERSIONLESS
from callward.evidence.findings import Facts, Known, data_file, digest, tally
from callward.redaction import mask
from callward.retention.policy.register import Policies
from callward.retention.purge import calendar as purge_calendar
from callward.retention.purge import due_files
from callward.retention.purge.due_files import Governance
from callward.runs import CODE_VERSION
from callward.settings import Settings
from schemas.codes import DisposalReason
from schemas.retention_classes import CLASSES
from schemas.views import INDEX

FORMAT_VERSION: Final = 1
UNKNOWN: Final = "provider-managed, unknown"
NONE: Final = "none recorded"
CLEAR: Final = {"category": "Clear", "method": "logical deletion"}
PURGE: Final = {"category": "Purge", "method": "cryptographic erase"}
_ALGORITHM: Final = "AES-256-GCM"
_KEY_BITS: Final = 256
_DEVICE: Final = ("manufacturer", "model", "serial_number", "property_number", "media_type", "media_source")
_WHY: Final = {
    "delete": "past its window",
    "rewrite": "part of it was past its window",
    "release": "past its window, and no hold keeps it any more",
}
# Where only some columns are past their window, the keys of these (domain, purpose) are the ones that must die.
_KEYS_OF: Final = {
    ("call_detail", "billing"): ("billing-numbers", "numbers"),
    ("call_detail", INDEX): (INDEX, "numbers"),
}


def body(settings: Settings, certificate_id: str, facts: Facts, known: Known, today: date) -> dict[str, Any]:
    """Return the certificate without its place in the chain: fields 1 to 11 of the template (compliance, 3d)."""
    scope = [_scope(settings, line, known, today) for line in tally(known.removed)]
    reasons = partial_because(facts, known)
    return {
        "format_version": FORMAT_VERSION,
        "title": "Certificate of destruction",
        "status": _status(facts, reasons, today),
        "partial_because": reasons,
        "completes": sorted(facts.completes),
        "identity": _identity(settings, certificate_id, known),
        "media": _media(settings, known),
        "confidentiality": {
            "before": "customer proprietary network information (47 U.S.C. 222(h)(1)), encrypted",
            "after": "none: destroyed as stated for each class",
        },
        "scope": scope,
        "database_rows": [{**asdict(item), **CLEAR} for item in facts.removed],
        "row_counts": {"by_end": known.ends, "sha256": known.ends_sha256},
        "keys": _destroyed(facts, known),
        "root_copies": [{"root_id": c.root_id, "place": mask(c.place), "destroyed": c.destroyed} for c in known.copies],
        "deletion_pending_until": facts.deletion_pending_until,
        "tool": _tool(),
        "verification": {
            "method": "full: every file, key and input file of this disposal, and every file of the lake; no sample",
            "checks": [asdict(check) for check in known.checks],
        },
        "exclusions": {
            "held": [asdict(item) for item in facts.held],
            "derived_rows": known.derived,
            "archived_blocks": known.archived,
            "backups": NONE,
            "replicas": NONE,
            "broker_topics": _topics(settings),
            "downstream_recipients": NONE,
            "object_versions": _object_versions(known),
        },
        "destination": "destroyed in place; the storage stays in use",
        **_people(known, today),
    }


def _topics(settings: Settings) -> str:
    """Name the topics that a stream reads: the broker's own copies, in the clear, which no purge reaches."""
    named = ", ".join(mask(topic.name) for topic in settings.kafka.topics)
    return f"not reached, and kept as long as the broker keeps them: {named}" if named else NONE


def partial_because(facts: Facts, known: Known) -> list[str]:
    """Return why not all is gone; empty for a disposal that is complete."""
    held = sum(item.rows for item in facts.held)
    reasons = [f"{held} rows past their window are kept"] if held else []
    reasons += [
        f"a copy of root {copy.root_id} at {mask(copy.place)} is not confirmed destroyed"
        for copy in known.copies
        if not copy.destroyed
    ]
    return reasons + [f"{check.name}: {check.sentence}" for check in known.checks if not check.ok]


def _status(facts: Facts, reasons: Sequence[str], today: date) -> str:
    """Return PENDING while a key service's waiting period runs: until then the keys could still be called back."""
    if facts.deletion_pending_until is not None and facts.deletion_pending_until >= today:
        return "PENDING"
    return "PARTIAL" if reasons else "COMPLETE"


def _identity(settings: Settings, certificate_id: str, known: Known) -> dict[str, Any]:
    tenants = sorted({row.tenant for row in known.removed})
    return {
        "certificate_id": certificate_id,
        "issuer": "callward, signer retention",
        "tenants": tenants,
        "disposal_id": known.disposal.disposal_id,
        "reason": known.disposal.reason,
        "run_id": known.disposal.run_id,
        "as_of": known.disposal.as_of,
        "plan_sha256": known.disposal.plan_digest,
        "code_version": CODE_VERSION,
        "code_sha256": code_digest(),
        "settings_sha256": settings.digest,
        "policies": [_policy(known.policies[name]) for name in tenants if name in known.policies],
    }


def _policy(governed: Policies) -> dict[str, Any]:
    current = governed.current
    return {
        "tenant": governed.tenant,
        "name": current.name,
        "version": current.version,
        "sha256": current.digest,
        "all_versions_sha256": governed.digest,
        "two_people": governed.two_people,
    }


def _object_versions(known: Known) -> str | None:
    """Return what was seen of versions that a bucket keeps of removed objects; None where the lake is a folder."""
    return next((check.sentence for check in known.checks if check.name == VERSIONLESS), None)


def _media(settings: Settings, known: Known) -> dict[str, Any]:
    return {
        "store": settings.lake.uri,
        "database": settings.database.url.partition(":")[0],
        "object_versions": _object_versions(known) or UNKNOWN,
        "partitions": sorted({f"{row.view}/{row.tenant}/{row.part}" for row in known.removed}),
        **dict.fromkeys(_DEVICE, UNKNOWN),
    }


def _scope(settings: Settings, line: dict[str, Any], known: Known, today: date) -> dict[str, Any]:
    of_line = [r for r in known.removed if (r.tenant, r.retention_class, r.view) == _group(line)]
    conditions = _preconditions(_KEYS_OF.get((line["retention_class"], line["view"])), of_line, known)
    method = PURGE if all(condition["pass"] for condition in conditions) else CLEAR
    return {
        **line,
        "selector_sha256": digest([*_group(line), known.disposal.as_of, sorted({row.part for row in of_line})]),
        "reason": _reason(line, of_line, known, today),
        "sanitization": {**method, "preconditions": conditions},
    }


def _group(line: Mapping[str, Any]) -> tuple[str, str, str]:
    return line["tenant"], line["retention_class"], line["view"]


def _reason(line: Mapping[str, Any], rows: Sequence[Any], known: Known, today: date) -> dict[str, Any]:
    """Return why these rows went: the class's window and clock, which days they fell due between, when they went."""
    governed = known.policies.get(line["tenant"])
    rule = governed.current.rules.get(line["retention_class"]) if governed else None
    clocks = [purge_calendar.clock_of(data_file(row)) for row in rows]
    return {
        "why": _why(rows, known, governed),
        "window": str(rule.window) if rule else NONE if governed else "the shortest of all tenants",
        "clock": rule.clock if rule else CLASSES[line["retention_class"]].clock,
        "basis": rule.basis if rule else "",
        "clock_started": [min(clocks), max(clocks)],
        "due": _due(line["retention_class"], rows, known),
        "destroyed_on": today,
    }


def _why(rows: Sequence[Any], known: Known, governed: Policies | None) -> str:
    """Return why rows went that one line of the scope counts; a request or a tenant's end comes before windows."""
    if known.disposal.reason == DisposalReason.ERASURE:
        return "erasure"
    if known.disposal.reason == DisposalReason.TENANT_END or (governed is not None and governed.leaving):
        return "the tenant left"
    return "; ".join(sorted({_WHY[row.action] for row in rows}))


def _due(cls: str, rows: Sequence[Any], known: Known) -> list[date]:
    """Return the first and the last day on which these rows fell due; [] for held copies, which did so before,
    and for what was asked to go before its time.
    """
    law, as_of = Governance(known.policies), known.disposal.as_of
    files = [data_file(row) for row in rows]
    expiries = [
        e for file in files for e in due_files.expiries(file, law) if e.retention_class == cls and e.first < as_of
    ]
    if not expiries:
        return []
    last = max(min(e.last, as_of - timedelta(1)) for e in expiries)
    return [min(e.first for e in expiries) + timedelta(1), last + timedelta(1)]


def _preconditions(of: tuple[str, str] | None, rows: Sequence[Any], known: Known) -> list[dict[str, Any]]:
    """Check what must hold before the death of keys may be called cryptographic erase (NIST SP 800-88 section 2.6).

    `of`: only keys of this domain and purpose are about what went; None: all that the rows were under.
    """
    key_ids = sorted({i for row in rows for i in row.key_ids.split() if _concerns(of, known.keys.get(i))})
    alive = [i for i in key_ids if i not in known.keys or known.keys[i].blob is not None]
    roots_of = {known.keys[i].root_id for i in key_ids if i in known.keys}
    living = sorted(r for r in roots_of if known.roots.get(r, "destroyed") != "destroyed")
    copies = [c for c in known.copies if c.root_id in roots_of and not c.destroyed]
    dead = next((check for check in known.checks if check.name == KEYS_DEAD), None)
    bare = sum(not row.key_ids for row in rows)
    return [
        _condition("encrypted before it was stored", bool(key_ids) and not bare, f"{bare} files without a key"),
        _condition("algorithm and key length", True, "", f"{_ALGORITHM}, {_KEY_BITS} bits"),
        _condition(
            "every key of this data destroyed",
            bool(key_ids) and not alive,
            f"{len(alive)} of {len(key_ids)} still serve other days of their month",
            f"{len(key_ids)} destroyed",
        ),
        _condition("no living root opens them", dead is not None and dead.ok, dead.sentence if dead else "not checked"),
        _condition("the roots that wrapped them destroyed", not living, f"root {', '.join(living)} lives"),
        _condition("every known copy of these roots destroyed", not copies, f"{len(copies)} copies not confirmed"),
        _condition("no copy in the clear known", not known.in_landing, f"{known.in_landing} landing files remain"),
    ]


def _concerns(of: tuple[str, str] | None, key: Any) -> bool:
    return of is None or (key is not None and (key.domain, key.purpose) == of)


def _condition(name: str, passed: bool, otherwise: str, detail: str = "") -> dict[str, Any]:
    return {"name": name, "pass": passed, "detail": detail if passed else otherwise}


def _destroyed(facts: Facts, known: Known) -> list[dict[str, Any]]:
    return [
        {
            "key_id": t.key_id,
            "name": str(t.name),
            "fingerprint": t.fingerprint,
            "algorithm": _ALGORITHM,
            "bits": _KEY_BITS,
            "root_id": t.root_id,
            "root_state": known.roots.get(t.root_id, "not in the register"),
            "destroyed_at": known.keys[t.key_id].destroyed_at if t.key_id in known.keys else None,
            "files": known.under[t.key_id],
        }
        for t in sorted(facts.tombstones, key=lambda t: str(t.name))
    ]


def _tool() -> dict[str, str]:
    return {
        "name": "callward",
        "version": CODE_VERSION,
        "cryptographic_module": f"{backend.openssl_version_text()}, cryptography {metadata.version('cryptography')}",
        "parquet_encryption": f"Apache Arrow {metadata.version('pyarrow')}",
        "validation_status": "no FIPS 140 validation is claimed for this installation",
    }


def _people(known: Known, today: date) -> dict[str, Any]:
    """Return field 11. The service signs with the retention key; who wants a verifier of their own runs the command."""
    common = {"title": "service", "location": identity.host(), "contact": NONE, "date": today}
    return {
        "performed_by": {
            "name": "retention-run",
            "os_user": identity.who(),
            "started_by": known.disposal.started_by,
            "signature": "Ed25519, signer retention, over this statement",
            **common,
        },
        "verified_by": {
            "name": f"verify step of run {known.disposal.run_id}",
            "os_user": identity.who(),
            "signature": "the same; 'callward purge verify' repeats every check for anybody",
            **common,
        },
        "approved_by": _approver(known),
    }


def _approver(known: Known) -> dict[str, Any]:
    """Return a person, for the plan; else those who activated the policies, where both signatures hold."""
    if known.disposal.approved_by:
        return {"person": known.disposal.approved_by, "approved": f"the plan {known.disposal.plan_digest}"}
    tenants = sorted({row.tenant for row in known.removed} & known.activated.keys())
    approved = [
        f"policy of {name}, version {version}, activated by {' and '.join(known.activated[name])}"
        for name, version in ((name, known.policies[name].current.version) for name in tenants)
        if known.policies[name].two_people
    ]
    return {"person": None, "approved": approved or NONE}


@cache
def code_digest() -> str:
    """Return the SHA-256 over the code that is installed: file names and contents of the four packages."""
    top = Path(__file__).resolve().parents[2]
    sha256 = hashlib.sha256()
    for package in ("callward", "pipelines", "schemas", "transforms"):
        for path in sorted((top / package).rglob("*")):
            if path.suffix in (".py", ".toml", ".html", ".css", ".svg"):
                sha256.update(str(path.relative_to(top)).encode() + b"\0" + path.read_bytes() + b"\0")
    return sha256.hexdigest()
