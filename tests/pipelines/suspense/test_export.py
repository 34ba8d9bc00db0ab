"""Export: suspended records reach the one they are sealed for, and nobody else; a person answers for it."""

import json
import signal
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from callward.errors import Problem, UsageProblem
from callward.keys import signing
from callward.keys.approvers import KeyDenied
from callward.settings import Tenant
from pipelines.suspense.export import Exported, Recipient, export
from pipelines.suspense.records import list_open, open_content
from pipelines.tenant import open_returned
from schemas.retention_classes import CLASSES
from schemas.tables import audit_log
from tests.commands import all_that_is, run
from tests.retention import CALLER, call, feed, night, person

TODAY = date(2026, 3, 7)
SPOILT = "id-{},+13035550101,+13035550102,not a time,,2026-03-05T12:00:00Z,0,{}\n"


@pytest.fixture(scope="module")
def site(workspace: Callable[..., Any], feed_source: Callable[..., Any]) -> Any:
    """Records of two tenants in suspense, one of them in two versions; nothing here changes it."""
    source = feed_source("generic", tenant_field="account", tenants={"east": "default", "west": "other"})
    tenants = {name: Tenant(retention=dict.fromkeys(CLASSES, "99 years")) for name in ("default", "other")}
    site = workspace(source, accounts=[], tenants=tenants, thresholds={"file_errors_pct": 100.0})
    data = feed(
        call(1, account="east"), call(4, talk=60, account="east"), SPOILT.format(90, "west"), SPOILT.format(91, "east")
    )
    night(site, data, name="first.csv")
    night(site, feed(call(4, talk=90, account="east"), SPOILT.format(92, "east")), name="second.csv")
    return site


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, str]:
    """The file of a recipient's private key, and the public one."""
    pair, path = X25519PrivateKey.generate(), tmp_path / "recipient.pem"
    encoding = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(pair.private_bytes(*encoding))
    return path, pair.public_key().public_bytes_raw().hex()


def exported(site: Any, to: Path, key: str, tenant: str = "default", **options: Any) -> Exported:
    recipient = Recipient(key, to, "ticket 7")
    return export(site.settings, tenant, recipient, "ada", person(site), TODAY, **options)


def test_the_recipient_reads_what_suspense_has_of_the_tenant(site: Any, keys: Any, tmp_path: Path) -> None:
    private, public = keys
    before = all_that_is(site)
    done = exported(site, tmp_path / "out", public)
    open_returned(tmp_path / "out", private, tmp_path / "clear", "")
    lines = (tmp_path / "clear" / "suspense.jsonl").read_text().splitlines()
    shown = [vars(of) for number in (1, 2) for of in open_content(site.settings, number, "look", 9)]
    mine = [of for of in shown if "id-90" not in str(of["content"])]
    assert [json.loads(line) for line in lines] == json.loads(json.dumps(mine))
    assert done.records == len(mine) == sum(of.records for of in list_open(site.settings)) - 1 == 4
    assert all_that_is(site) == before
    entry = [row for row in site._rows(audit_log) if row.event == "suspense export"][-1]
    assert done.manifest in entry.subject and entry.reason == "by ada: ticket 7"
    with pytest.raises(UsageProblem, match="already, and not empty"):
        exported(site, tmp_path / "out", public)


def test_another_tenants_records_and_unmeant_ones_stay_at_home(site: Any, keys: Any, tmp_path: Path) -> None:
    for number, (tenant, options, count) in enumerate(
        [("other", {}, 1), ("default", {"codes": ["HELD"]}, 2), ("default", {"codes": ["TIME"], "named": ["2"]}, 1)]
    ):
        assert exported(site, tmp_path / f"out-{number}", keys[1], tenant, **options).records == count
    with pytest.raises(Problem, match="tenant other has no such open record"):
        exported(site, tmp_path / "none", keys[1], "other", codes=["HELD"])
    with pytest.raises(UsageProblem, match="no tenant is called"):
        exported(site, tmp_path / "none", keys[1], "nobody")
    assert not (tmp_path / "none").exists()


def test_what_is_handed_over_is_sealed_and_answered_for(site: Any, keys: Any, tmp_path: Path) -> None:
    exported(site, tmp_path / "out", keys[1])
    blobs = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert blobs and not any(CALLER[2:].encode() in blob or b"id-91" in blob for blob in blobs)
    stranger = tmp_path / "stranger.sign"
    signing.create(stranger)
    with pytest.raises(KeyDenied):
        export(site.settings, "default", Recipient(keys[1], tmp_path / "two", "why"), "ada", stranger, TODAY)
    assert not (tmp_path / "two" / "manifest.json").exists(), "unfinished"
    with pytest.raises(UsageProblem, match="X25519"):
        exported(site, tmp_path / "three", "ab" * 31)
    assert exported(site, tmp_path / "three", keys[1], dry_run=True).records == 4
    assert not (tmp_path / "three").exists()


def test_killed_it_leaves_an_unfinished_folder_that_nobody_opens(site: Any, keys: Any, tmp_path: Path) -> None:
    words = ["suspense", "export", "default", "--recipient", keys[1], "--reason", "why", "--person", "ada"]
    words += ["--key", str(person(site)), "--config", str(site.folder), "--to", str(tmp_path / "out")]
    ended = run(*words, environment={"CALLWARD_CRASH_AT": "return-written"})
    assert ended.code == -signal.SIGKILL
    with pytest.raises(Problem, match="no complete hand-over"):
        open_returned(tmp_path / "out", keys[0], tmp_path / "clear", "")
    assert run(*words[:-1], str(tmp_path / "again")).check_clean([CALLER]).code == 0
