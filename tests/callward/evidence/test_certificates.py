"""Certificates state every field and nothing that is confidential; whatever is changed afterwards is found."""

import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, update

from callward import audit, database, runs
from callward.errors import UsageProblem
from callward.evidence import certificates, statement
from callward.evidence.certificates import Facts, Held
from callward.feeds.generate import generate
from callward.keys import approvers, rotation, signing
from callward.keys.keys import KeyProblem
from callward.lake import ledger
from callward.retention.policy import register as policy_register
from callward.settings import load
from pipelines.vacuum import remove_orphans
from schemas import retention
from schemas.retention_classes import example
from schemas.tables import keys, lake_files, ledger_entries
from schemas.views import HOLDS_SUFFIX, PARTS
from tests.altered import altered
from tests.examples import tries

TODAY = date(2027, 6, 1)
AS_OF = date(2027, 5, 31)
# Field by field what NIST SP 800-88 section 4.8 asks for, adapted (compliance, section 3d), and where it stands.
FIELDS = {
    1: (
        "identity",
        {"certificate_id", "issuer", "tenants", "disposal_id", "reason", "code_sha256", "policies", "settings_sha256"},
    ),
    2: ("media", {"store", "partitions", "object_versions", "manufacturer", "model", "serial_number"}),
    3: ("confidentiality", {"before", "after"}),
    4: ("row_counts", {"by_end", "sha256"}),
    7: ("tool", {"name", "version", "cryptographic_module", "validation_status"}),
    8: ("verification", {"method", "checks"}),
    9: ("exclusions", {"held", "backups", "replicas", "broker_topics", "downstream_recipients"}),
    11: ("performed_by", {"name", "title", "date", "location", "contact", "signature", "os_user"}),
    12: ("chain", {"seq", "previous", "audit_seq", "audit_head"}),
}


@dataclass
class Purged:
    """A workspace whose assurance view was purged, as the purge leaves it: files, registers, keys."""

    folder: Path
    disposal_id: str
    facts: Facts

    @property
    def settings(self) -> Any:
        return load(self.folder)

    def issue(self, facts: Facts | None = None, today: date = TODAY) -> certificates.Certificate:
        return certificates.issue(self.settings, self.disposal_id, facts or self.facts, today)

    def failed(self, reference: Any, **options: Any) -> dict[str, str]:
        """The checks that fail, with their sentences."""
        return {c.name: c.sentence for c in certificates.verify(self.settings, reference, **options) if not c.ok}

    def change(self, statement: Any, *rows: Any) -> None:
        with database.writing(self.settings) as connection:
            connection.execute(statement, *rows)

    def rows(self, table: Any, where: Any = True) -> list[Any]:
        with database.reading(self.settings) as connection:
            return list(connection.execute(select(table).where(where)))


def purge(site_settings: Any, view: str, cls: str) -> tuple[str, Facts]:
    """What a purge leaves when all files of a view went, for the tests of what is said about it."""
    run_id = runs.start(site_settings, "purge", ["purge"])
    disposal_id = runs.new_id()
    with database.writing(site_settings) as connection:
        gone = [file for part in PARTS[view] for file in ledger.files(connection, view=part)]
        _register(connection, disposal_id, run_id, cls, gone)
    for file in gone:
        (site_settings.lake_path / file.path).unlink(missing_ok=True)
    key_ids = sorted({key_id for file in gone for key_id in file.key_ids.split()})
    facts = Facts(
        tombstones=rotation.destroy(site_settings, key_ids, role="retention-run", reason=f"purge {disposal_id}")
    )
    runs.finish(site_settings, run_id, "done")
    return disposal_id, facts


def _register(connection: Any, disposal_id: str, run_id: str, cls: str, gone: list[ledger.DataFile]) -> None:
    connection.execute(insert(retention.disposals).values(_purge_row(disposal_id, run_id)))
    counts: Counter[tuple[str, int]] = Counter()
    for number, file in enumerate(gone):
        connection.execute(
            insert(retention.disposal_items).values(
                disposal_id=disposal_id,
                item=number,
                retention_class=cls,
                action="delete",
                tenant=file.tenant,
                view=file.view,
                part=file.part,
                file_id=file.file_id,
                rows=file.rows,
                held=0,
                state="removed",
            )
        )
        connection.execute(
            update(lake_files)
            .where(lake_files.c.file_id == file.file_id)
            .values(superseded_at=database.now(), superseded_by=run_id, removed_at=database.now())
        )
        inputs = select(retention.lake_file_inputs).where(retention.lake_file_inputs.c.file_id == file.file_id)
        for row in connection.execute(inputs):
            counts[file.view, row.file_no] += row.rows
    common = {"disposal_id": disposal_id, "end": "purged"}
    ends = [{**common, "view": view, "file_no": file_no, "rows": rows} for (view, file_no), rows in counts.items()]
    connection.execute(insert(retention.row_ends), ends)


def _purge_row(disposal_id: str, run_id: str) -> dict[str, Any]:
    return {
        "disposal_id": disposal_id,
        "reason": "purge",
        "as_of": AS_OF,
        "status": "done",
        "plan_digest": "0" * 64,
        "plan": "{}",
        "started_by": "ops@host",
        "created_at": database.now(),
        "run_id": run_id,
    }


@pytest.fixture(scope="module")
def _before(workspace: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, day: date) -> Path:
    """A workspace after a night, with the windows of the demo."""
    feed = tmp_path_factory.mktemp("feed")
    generate(feed, seed=11, day=day, calls=400, dirt=0.01, sources=("asterisk", "opensips"))
    site = workspace("asterisk", "opensips", retention={"assurance_metrics": "13 months"})
    site.deliver(path for path in sorted(feed.rglob("*")) if path.is_file())
    site.night()
    database.engine(site.settings).dispose()
    return Path(site.folder)


@pytest.fixture(scope="module")
def _after(_before: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Facts]:
    folder = _copied(_before, tmp_path_factory.mktemp("purged") / "workspace")
    disposal_id, facts = purge(load(folder), "assurance", "assurance_metrics")
    database.engine(load(folder)).dispose()
    return folder, disposal_id, facts


@pytest.fixture
def purged(_after: tuple[Path, str, Facts], tmp_path: Path) -> Purged:
    folder, disposal_id, facts = _after
    return Purged(_copied(folder, tmp_path / "workspace"), disposal_id, facts)


def _copied(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    for key in (target / "keys").iterdir():
        os.chmod(key, 0o600)
    return target


class _Tags(HTMLParser):
    """Which elements of a page are open where it ends; fails on one that is closed in the wrong order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    @classmethod
    def left_open(cls, page: str) -> list[str]:
        parser = cls()
        parser.feed(page)
        return parser.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


# -- what is stated ---------------------------------------------------------------------------------------------------


def test_a_certificate_states_every_field(purged: Purged) -> None:
    body = purged.issue().body
    for number, (name, fields) in FIELDS.items():
        assert fields <= body[name].keys(), f"field {number}"
        assert all(body[name][field] not in (None, "") for field in fields), f"field {number}"
    assert body["destination"]
    assert body["scope"]
    for scope in body["scope"]:
        assert {"first", "last", "rows", "files", "bytes", "selector_sha256", "manifest_sha256"} <= scope.keys()
        assert {"why", "window", "clock", "due", "destroyed_on"} <= scope["reason"].keys()
        assert {"category", "method", "preconditions"} <= scope["sanitization"].keys()
    for person in ("performed_by", "verified_by", "approved_by"):
        assert body[person]
    assert {k["key_id"] for k in body["keys"]} == {t.key_id for t in purged.facts.tombstones}
    for key in body["keys"]:
        assert key["algorithm"] == "AES-256-GCM" and key["bits"] == 256 and key["root_state"] == "destroyed"
        assert key["fingerprint"] and key["root_id"] and key["files"] > 0


def test_counts_are_those_of_what_went(purged: Purged) -> None:
    body = purged.issue().body
    assert {(e["view"], e["rows"]) for e in body["row_counts"]["by_end"]} == {
        (scope["view"], scope["rows"]) for scope in body["scope"]
    }
    assert sorted(scope["view"] for scope in body["scope"]) == sorted(PARTS["assurance"])
    for scope in body["scope"]:
        gone = purged.rows(lake_files, lake_files.c.view == scope["view"])
        assert (scope["rows"], scope["files"], scope["bytes"]) == (
            sum(row.rows for row in gone),
            len(gone),
            sum(row.bytes for row in gone),
        )
        assert (scope["first"], scope["last"]) == (min(row.part for row in gone), max(row.part for row in gone))
        # A date's clock starts when its longest call (31 days) has ended; kept through the day 13 months on.
        kept = pd.Timestamp(scope["first"]) + pd.Timedelta(days=31) + pd.DateOffset(months=13)
        assert scope["reason"]["due"][0] == (kept.date() + timedelta(1)).isoformat()


def test_all_is_well_after_a_purge(purged: Purged) -> None:
    made = purged.issue()
    assert made.status == "complete" and made.body["partial_because"] == []
    assert purged.failed(made.certificate_id) == {}
    assert all(check["ok"] for check in made.body["verification"]["checks"])


def test_erasure_is_called_cryptographic_only_when_every_precondition_holds(purged: Purged) -> None:
    for scope in purged.issue().body["scope"]:
        assert scope["sanitization"]["method"] == "cryptographic erase"
        assert all(condition["pass"] for condition in scope["sanitization"]["preconditions"])


def test_what_still_lies_under_a_living_key_was_deleted_only(_before: Path, tmp_path: Path) -> None:
    folder = _copied(_before, tmp_path / "workspace")
    run = runs.start(load(folder), "purge", ["purge"])
    with database.writing(load(folder)) as connection:
        file = ledger.files(connection, view="answered")[0]
        _register(connection, "purgeone", run, "assurance_metrics", [file])
    (load(folder).lake_path / file.path).unlink()
    runs.finish(load(folder), run, "done")
    made = certificates.issue(load(folder), "purgeone", Facts(), TODAY)
    (scope,) = made.body["scope"]
    assert scope["sanitization"]["category"] == "Clear" and scope["sanitization"]["method"] == "logical deletion"
    assert not all(condition["pass"] for condition in scope["sanitization"]["preconditions"])
    assert made.status == "complete"  # nothing was left behind: the month's key goes with its last day


def test_a_copy_of_the_root_that_is_not_confirmed_destroyed_makes_it_partial(_before: Path, tmp_path: Path) -> None:
    folder = _copied(_before, tmp_path / "workspace")
    copy = rotation.add_copy(load(folder), "assurance", "safe in the vault")
    disposal_id, facts = purge(load(folder), "assurance", "assurance_metrics")
    before = certificates.issue(load(folder), disposal_id, facts, TODAY)
    assert before.status == "partial"
    assert any("safe in the vault" in reason for reason in before.body["partial_because"])
    assert before.body["scope"][0]["sanitization"]["method"] == "logical deletion"
    assert copy.root_id in {item["root_id"] for item in before.body["root_copies"] if not item["destroyed"]}


def test_held_rows_make_it_partial(purged: Purged) -> None:
    held = Held("default", "assurance_metrics", 3, ("0123abcd",))
    body = purged.issue(replace(purged.facts, held=[held])).body
    assert body["status"] == "PARTIAL"
    assert body["exclusions"]["held"] == [
        {"tenant": "default", "retention_class": "assurance_metrics", "rows": 3, "holds": ["0123abcd"]}
    ]


def test_it_is_pending_while_a_deletion_waits_and_is_followed_when_it_is_over(purged: Purged) -> None:
    waiting = replace(purged.facts, deletion_pending_until=TODAY + timedelta(7))
    first = purged.issue(waiting)
    assert first.status == "pending" and first.body["deletion_pending_until"] == (TODAY + timedelta(7)).isoformat()
    assert purged.issue(waiting, TODAY + timedelta(7)).certificate_id == first.certificate_id
    second = purged.issue(replace(waiting, completes=[first.certificate_id]), TODAY + timedelta(8))
    assert second.status == "complete" and second.body["completes"] == [first.certificate_id]
    assert purged.failed(first.certificate_id) == purged.failed(second.certificate_id) == {}


def test_it_names_who_approved(purged: Purged) -> None:
    for name in ("first.person", "second.person"):
        public = signing.create(purged.folder / name)
        approvers.register(purged.settings, name, public.hex())
    text = example("global-carrier")
    version, digest = policy_register.propose(
        purged.settings, "default", text, "first.person", purged.folder / "first.person", None
    )
    policy_register.activate(purged.settings, "default", version, "second.person", purged.folder / "second.person")
    body = purged.issue().body
    (approved,) = body["approved_by"]["approved"]
    assert "first.person and second.person" in approved and body["approved_by"]["person"] is None
    (stated,) = body["identity"]["policies"]
    assert (stated["version"], stated["sha256"], stated["two_people"]) == (version, digest, True)


def test_it_names_the_person_who_approved_a_plan(purged: Purged) -> None:
    purged.change(update(retention.disposals).values(approved_by="first.person", plan_digest="ab" * 32))
    approved = purged.issue().body["approved_by"]
    assert approved["person"] == "first.person" and "ab" * 32 in approved["approved"]


def test_issued_again_it_is_the_same_certificate(purged: Purged) -> None:
    first = purged.issue()
    (certificates.folder(purged.settings) / f"{first.certificate_id}.json").unlink()
    assert purged.issue() == first
    assert (certificates.folder(purged.settings) / f"{first.certificate_id}.json").exists()


def test_a_check_that_fails_is_printed_and_makes_it_partial(purged: Purged) -> None:
    survivor = purged.rows(lake_files, lake_files.c.view == "billing")[0]
    (purged.settings.lake_path / survivor.path).unlink()
    body = purged.issue().body
    assert body["status"] == "PARTIAL"
    assert any(survivor.file_id in reason for reason in body["partial_because"])


def test_nothing_is_certified_with_a_key_that_is_not_the_registered_one(purged: Purged) -> None:
    file = signing.signer_file(purged.settings, "retention")
    file.unlink()
    signing.create(file)
    with pytest.raises(KeyProblem):
        purged.issue()
    assert purged.rows(retention.certificates) == []


def test_what_a_person_wrote_is_masked_where_it_could_be_a_number(_before: Path, tmp_path: Path) -> None:
    folder = _copied(_before, tmp_path / "workspace")
    rotation.add_copy(load(folder), "assurance", "a place")
    with database.writing(load(folder)) as connection:
        connection.execute(update(retention.root_copies).values(place="with 720-555-0134"))
    disposal_id, facts = purge(load(folder), "assurance", "assurance_metrics")
    made = certificates.issue(load(folder), disposal_id, facts, TODAY)
    page = certificates.folder(load(folder)) / f"{made.certificate_id}.html"
    assert "555-0134" not in made.document and "555-0134" not in page.read_text(encoding="utf-8")


# -- what is changed is found ------------------------------------------------------------------------------------------


@tries(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_byte_that_is_changed_is_found(purged: Purged, data: st.DataObject) -> None:
    made = purged.issue()
    whole = (made.document + "\n").encode()
    at = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[at]))
    copy = purged.folder / "tampered.json"
    copy.write_bytes(whole[:at] + bytes([other]) + whole[at + 1 :])
    assert purged.failed(copy, quick=True).keys() & {"document", "signature"}


def test_a_certificate_that_was_written_anew_is_found(purged: Purged) -> None:
    made = purged.issue()
    parsed = json.loads(made.document)
    parsed["body"]["scope"][0]["rows"] += 1
    copy = purged.folder / "rewritten.json"
    copy.write_text(certificates.canonical(parsed) + "\n")
    assert purged.failed(copy, quick=True).keys() == {"signature"}


def test_a_copy_elsewhere_is_verified_as_well(purged: Purged, tmp_path: Path) -> None:
    made = purged.issue()
    elsewhere = tmp_path / "auditor" / "handed over.json"
    elsewhere.parent.mkdir()
    shutil.copy(certificates.folder(purged.settings) / f"{made.certificate_id}.json", elsewhere)
    assert purged.failed(elsewhere) == {}
    assert purged.failed(str(elsewhere)) == {}


def test_another_key_s_signature_is_not_believed(purged: Purged) -> None:
    made = purged.issue()
    parsed = json.loads(made.document)
    signing.create(purged.folder / "forger")
    forger = signing.SigningKey(purged.folder / "forger")
    signed = f"callward/certificate/1|{certificates.canonical(parsed['body'])}".encode()
    assert signing.verify(bytes.fromhex(parsed["public_key"]), bytes.fromhex(parsed["signature"]), signed)
    parsed["public_key"], parsed["signature"] = forger.public.hex(), forger.sign(signed).hex()
    copy = purged.folder / "forged.json"
    copy.write_text(certificates.canonical(parsed) + "\n")
    assert purged.failed(copy, quick=True).keys() == {"signature"}


@pytest.mark.parametrize("column", ["document", "prev", "hash", "status", "disposal_id"])
def test_a_register_that_was_altered_is_found(purged: Purged, column: str) -> None:
    made = purged.issue()
    values = {"document": made.document.replace("COMPLETE", "PARTIAL"), "prev": "1" * 64, "hash": "2" * 64}
    table = retention.certificates
    purged.change(update(table).values({column: values.get(column, "other")}))
    file = certificates.folder(purged.settings) / f"{made.certificate_id}.json"
    assert purged.failed(file, quick=True).keys() & {"register", "chain", "audit log"}


def _three(purged: Purged) -> list[certificates.Certificate]:
    """Three certificates in a chain, the first two of purges that found nothing due."""
    made = []
    for number in range(2):
        run_id, disposal_id = runs.new_id(), runs.new_id()
        with database.writing(purged.settings) as connection:
            connection.execute(insert(retention.disposals).values(_purge_row(disposal_id, run_id)))
        made.append(certificates.issue(purged.settings, disposal_id, Facts(), TODAY + timedelta(number)))
    return [*made, purged.issue()]


def test_certificates_are_chained_and_a_missing_one_is_found(purged: Purged) -> None:
    first, second, last = _three(purged)
    assert [made.body["chain"]["previous"] for made in (first, second, last)] == ["0" * 64, first.hash, second.hash]
    assert purged.failed(last.certificate_id, quick=True) == {}
    purged.change(delete(retention.certificates).where(retention.certificates.c.seq == second.seq))
    for made in (first, last):
        assert purged.failed(made.certificate_id, quick=True).keys() & {"chain", "audit log"}
    assert "chain" in purged.failed(last.certificate_id, quick=True)


def test_a_certificate_that_was_cut_off_the_end_is_missed(purged: Purged) -> None:
    first, *_, last = _three(purged)
    purged.change(delete(retention.certificates).where(retention.certificates.c.seq == last.seq))
    assert "audit log" in purged.failed(first.certificate_id, quick=True)


def test_an_audit_log_that_was_edited_is_found(purged: Purged) -> None:
    made = purged.issue()
    purged.change(update(audit.audit_log).where(audit.audit_log.c.seq == 1).values(reason="another"))
    assert "audit log" in purged.failed(made.certificate_id, quick=True)


def test_what_is_no_certificate_is_said_so(purged: Purged) -> None:
    other = purged.folder / "other.json"
    for text in ("", "{}", "[]", '{"body": {"format_version": 1}}', "\x00", '{"body": 7}', '{"body": {"keys": 3}}'):
        other.write_text(text)
        assert purged.failed(other).keys() == {"document"}
    for reference in ("nosuchid", purged.folder / "absent.json", "7205550134", "720-555-0134.json"):
        with pytest.raises(UsageProblem) as refused:
            certificates.verify(purged.settings, reference)
        assert "0134" not in str(refused.value)


# -- what came back, or went, is found ---------------------------------------------------------------------------------


def test_a_file_that_was_put_back_is_found(purged: Purged, _before: Path) -> None:
    made = purged.issue()
    gone = purged.rows(lake_files, lake_files.c.view == "answered")[0]
    for suffix in ("", HOLDS_SUFFIX):
        back = purged.settings.lake_path / (gone.path + suffix)
        back.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(load(_before).lake_path / gone.path, back)
        assert gone.file_id in purged.failed(made.certificate_id, quick=True)["files absent"]
        back.unlink()
    assert purged.failed(made.certificate_id, quick=True) == {}


def test_a_key_brought_back_from_an_old_database_is_found(purged: Purged, _before: Path) -> None:
    made = purged.issue()
    key_id = purged.facts.tombstones[0].key_id
    with database.reading(load(_before)) as connection:
        old = connection.execute(select(keys).where(keys.c.key_id == key_id)).one()
    here = keys.c.key_id == key_id
    for values in ({"blob": old.blob}, {"state": "active"}, {"blob": old.blob, "state": "active"}):
        purged.change(update(keys).where(here).values(**values))
        assert "keys dead" in purged.failed(made.certificate_id, quick=True)
        purged.change(update(keys).where(here).values(blob=None, state="destroyed"))
    assert purged.failed(made.certificate_id, quick=True) == {}
    purged.change(delete(keys).where(here))
    assert "keys dead" in purged.failed(made.certificate_id, quick=True)


def test_a_root_brought_back_from_a_backup_is_found(purged: Purged, _before: Path) -> None:
    made = purged.issue()
    shutil.copy(_before / "keys" / "assurance.root", purged.folder / "keys" / "assurance.root")
    assert "keys dead" in purged.failed(made.certificate_id, quick=True)


def test_an_orphan_is_found(purged: Purged) -> None:
    made = purged.issue()
    orphan = purged.settings.lake_path / "billing" / "tenant=default" / "nobody-knows.parquet"
    orphan.write_bytes(b"PAR1")
    assert purged.failed(made.certificate_id, quick=True).keys() == {"no orphans"}


def test_a_file_of_a_run_at_work_is_no_orphan_nor_is_one_that_the_next_night_sweeps(purged: Purged) -> None:
    made = purged.issue()
    run_id = runs.start(purged.settings, "nightly", ["source:asterisk"])
    left = purged.settings.lake_path / "billing" / f"{run_id}-begun.parquet"
    left.write_bytes(b"PAR1")
    assert purged.failed(made.certificate_id, quick=True) == {}
    runs.finish(purged.settings, run_id, "failed")
    assert purged.failed(made.certificate_id, quick=True) == {}
    remove_orphans(purged.settings)
    assert not left.exists()
    left.write_bytes(b"PAR1")
    assert purged.failed(made.certificate_id, quick=True).keys() == {"no orphans"}


def test_a_missing_survivor_is_found(purged: Purged) -> None:
    made = purged.issue()
    survivor = purged.rows(lake_files, lake_files.c.view == "billing")[0]
    path = purged.settings.lake_path / survivor.path
    whole = path.read_bytes()
    path.unlink()
    assert survivor.file_id in purged.failed(made.certificate_id, quick=True)["survivors present"]
    path.write_bytes(whole[:-1])
    assert "survivors present" in purged.failed(made.certificate_id, quick=True)
    path.write_bytes(altered(whole))
    assert purged.failed(made.certificate_id, quick=True) == {}  # what --quick leaves out
    assert "was altered" in purged.failed(made.certificate_id)["survivors present"]


def test_counts_foot_to_the_ledger(purged: Purged) -> None:
    made = purged.issue()
    entry = purged.rows(ledger_entries, ledger_entries.c.bucket == "accepted")[0]
    here = ledger_entries.c.entry_no == entry.entry_no
    for rows in (entry.rows + 1, entry.rows - 1):
        purged.change(update(ledger_entries).where(here).values(rows=rows))
        assert purged.failed(made.certificate_id, quick=True).keys() == {"counts foot"}
    purged.change(update(ledger_entries).where(here).values(rows=entry.rows))
    assert purged.failed(made.certificate_id, quick=True) == {}


def test_a_row_count_or_file_that_was_altered_in_the_register_is_found(purged: Purged) -> None:
    made = purged.issue()
    table = retention.row_ends
    first = purged.rows(table)[0]
    changed = update(table).where(table.c.file_no == first.file_no, table.c.view == first.view)
    purged.change(changed.values(rows=first.rows + 1))
    assert {"counts", "counts foot"} <= purged.failed(made.certificate_id, quick=True).keys()
    purged.change(changed.values(rows=first.rows))
    gone = lake_files.c.view.in_(PARTS["assurance"])
    purged.change(update(lake_files).where(gone).values(sha256="f" * 64))
    assert purged.failed(made.certificate_id, quick=True).keys() == {"counts"}


# -- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_stands_alone_and_says_what_the_document_says(purged: Purged) -> None:
    made = purged.issue(replace(purged.facts, held=[Held("default", "assurance_metrics", 7)]))
    page = (certificates.folder(purged.settings) / f"{made.certificate_id}.html").read_text(encoding="utf-8")
    assert "PARTIAL" in page and made.certificate_id in page and made.hash in page
    assert not re.search(r"<script|https?://|@import|url\(", page)
    for check in made.body["verification"]["checks"]:
        assert check["sentence"] in page
    for key in made.body["keys"]:
        assert key["key_id"] in page
    assert _Tags.left_open(page) == []


def test_what_a_person_wrote_is_escaped_on_the_page(_before: Path, tmp_path: Path) -> None:
    folder = _copied(_before, tmp_path / "workspace")
    rotation.add_copy(load(folder), "assurance", "<script>alert(1)</script>")
    disposal_id, facts = purge(load(folder), "assurance", "assurance_metrics")
    made = certificates.issue(load(folder), disposal_id, facts, TODAY)
    page = (certificates.folder(load(folder)) / f"{made.certificate_id}.html").read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;" in page


def test_the_digest_of_the_code_is_of_some_code() -> None:
    assert statement.code_digest() != hashlib.sha256().hexdigest()
