"""Tenants that leave: what is handed back can be opened by its recipient alone; closing takes two."""

import json
import re
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from sqlalchemy import select

from callward import database
from callward.errors import Problem, UsageProblem
from callward.evidence import certificates
from callward.keys import approvers, rotation, signing
from callward.retention import holds
from callward.retention.holds import Hold
from callward.retention.policy import register as policy_register
from callward.settings import Account, Tenant
from callward.template import render
from pipelines import tenant
from schemas.retention import frozen_derived, suppressions
from schemas.retention_classes import CLASSES, example
from schemas.tables import keys
from tests.altered import altered
from tests.retention import call, feed

LAST_WEEK = database.now().date() - timedelta(7)
CALLER = "+13035550101"


def today() -> date:
    """Return the day that it is now: tests may run across midnight."""
    return database.now().date()


def _pem(folder: Path) -> tuple[Path, str]:
    """A recipient's key pair: the private key's file, the public key in PEM."""
    pair, raw = X25519PrivateKey.generate(), serialization.Encoding.PEM
    private = folder / "recipient.pem"
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private.write_bytes(pair.private_bytes(raw, *form))
    public = pair.public_key().public_bytes(raw, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, public.decode()


class Leaver:
    """A workspace with calls of two tenants; `west` is the one that leaves."""

    def __init__(self, site: Any, folder: Path) -> None:
        self.site, self.folder = site, folder
        for name in ("first.person", "second.person"):
            approvers.register(self.settings, name, signing.create(folder / name).hex())
        now_ms = int(database.now().timestamp() * 1000)
        for source, numbers in (("generic", range(4)), ("western", range(10, 16))):
            site.land(source, "first.csv", feed(*(call(n, LAST_WEEK) for n in numbers)))
        site.night(now_ms=now_ms + 86_400_000)

    @property
    def settings(self) -> Any:
        return self.site.settings

    def without_source(self) -> None:
        settings = self.settings
        kept = [source for source in settings.sources if source.tenant != "west"]
        settings.path.write_text(render(settings.model_copy(update={"sources": kept})), encoding="utf-8")

    def return_data(self, to: Path, recipient: str) -> dict[str, Any]:
        who = "first.person", self.folder / "first.person"
        return tenant.return_data(self.settings, "west", recipient, to, *who, today(), dry_run=False).to_dict()

    def close(self, person: str, **said: Any) -> dict[str, Any]:
        options = {"keep_floors": False, "dry_run": False, **said}
        return tenant.close(self.settings, "west", person, self.folder / person, today(), **options).to_dict()

    def rows(self, view: str, whose: str) -> int:
        return sum(file.rows for file in self.site.data_files(view) if file.tenant == whose)

    def living_keys(self, whose: str) -> list[str]:
        with database.reading(self.settings) as connection:
            rows = connection.execute(select(keys).where(keys.c.tenant == whose, keys.c.state != "destroyed"))
            return [f"{row.domain}/{row.month}/{row.purpose}" for row in rows]

    def govern(self, text: str) -> None:
        version, _ = policy_register.propose(
            self.settings, "west", text, "first.person", self.folder / "first.person", None
        )
        policy_register.activate(self.settings, "west", version, "second.person", self.folder / "second.person")

    def hold(self, **selected: Any) -> Hold:
        return holds.place(self.settings, Hold("", "west", "litigation", "a court", "case 7", **selected), today())


@pytest.fixture
def leaver(workspace: Callable[..., Any], feed_source: Callable[..., Any], tmp_path: Path) -> Leaver:
    kept = dict.fromkeys(CLASSES, "99 years")
    western = feed_source("western", format="generic_csv", tenant="west")
    site = workspace(
        "generic",
        western,
        tenants={"default": Tenant(retention=kept), "west": Tenant(retention=kept)},
        accounts=[Account(id="acct-w", tenant="west", codes=["w"])],
    )
    folder = tmp_path / "persons"
    folder.mkdir()
    return Leaver(site, folder)


# -- return ------------------------------------------------------------------------------------------------------------


def test_what_is_handed_back_opens_for_its_recipient_and_is_all_of_the_tenant(leaver, tmp_path):
    private, public = _pem(tmp_path)
    done = leaver.return_data(tmp_path / "out", public)
    assert done["rows"] == {"billing": 6, "answered": 6}
    signer = signing.public_key(leaver.settings, "retention").hex()
    tenant.open_returned(tmp_path / "out", private, tmp_path / "clear", signer)
    billing = [pq.read_table(path) for path in (tmp_path / "clear" / "billing").rglob("*.parquet")]
    assert sum(table.num_rows for table in billing) == 6
    assert {number for table in billing for number in table["calling_number"].to_pylist()} == {CALLER}
    told = {path.name: json.loads(path.read_text()) for path in (tmp_path / "clear").glob("*.json")}
    assert told["consents.json"] == [] and told["ledger.json"][0]["balance"]["accepted"]["rows"] == 6
    assert leaver.rows("billing", "west") == 6


def test_a_hand_over_holds_nothing_in_the_clear(leaver, tmp_path):
    _, public = _pem(tmp_path)
    leaver.return_data(tmp_path / "out", public)
    for path in (p for p in (tmp_path / "out").rglob("*") if p.is_file()):
        data = path.read_bytes()
        assert CALLER.lstrip("+").encode() not in data and b"PAR1" not in data
        assert path.stat().st_mode & 0o077 == 0
    other, _ = _pem(_made(tmp_path / "other"))
    with pytest.raises(Problem, match="another one"):
        tenant.open_returned(tmp_path / "out", other, tmp_path / "clear", "")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("which", ["manifest.json", "manifest.sig", "holds.json.sealed"])
def test_a_hand_over_that_was_altered_is_refused(leaver, tmp_path, which):
    private, public = _pem(tmp_path)
    leaver.return_data(tmp_path / "out", public)
    path = tmp_path / "out" / which
    path.write_bytes(altered(path.read_bytes(), path.stat().st_size // 2))
    with pytest.raises(Problem):
        tenant.open_returned(tmp_path / "out", private, tmp_path / "clear", "")
    assert not (tmp_path / "clear").exists()


def test_a_manifest_that_somebody_else_signed_is_refused(leaver, tmp_path):
    private, public = _pem(tmp_path)
    leaver.return_data(tmp_path / "out", public)
    with pytest.raises(Problem, match="signature"):
        tenant.open_returned(tmp_path / "out", private, tmp_path / "clear", "00" * 32)


def test_a_dry_run_of_opening_checks_every_file_and_writes_none(leaver, tmp_path):
    private, public = _pem(tmp_path)
    done = leaver.return_data(tmp_path / "out", public)
    opened = tenant.open_returned(tmp_path / "out", private, tmp_path / "clear", "", dry_run=True)
    assert opened.files == done["files"] and not (tmp_path / "clear").exists()
    sealed = tmp_path / "out" / "holds.json.sealed"
    sealed.write_bytes(altered(sealed.read_bytes()))
    with pytest.raises(Problem):
        tenant.open_returned(tmp_path / "out", private, tmp_path / "clear", "", dry_run=True)


def test_confidential_holds_are_not_handed_back(leaver, tmp_path):
    private, public = _pem(tmp_path)
    shown = leaver.hold()
    hidden = leaver.hold(confidential_until=today() + timedelta(30))
    leaver.return_data(tmp_path / "out", public)
    tenant.open_returned(tmp_path / "out", private, tmp_path / "clear", "")
    listed = (tmp_path / "clear" / "holds.json").read_text()
    assert shown.hold_id in listed and hidden.hold_id not in listed


# -- close -------------------------------------------------------------------------------------------------------------


def test_closing_takes_two_persons_and_leaves_nothing_of_the_tenant(leaver):
    leaver.without_source()
    before = leaver.rows("billing", "default")
    assert leaver.close("first.person")["status"] == "waits for a second person"
    assert leaver.close("first.person")["status"] == "waits for a second person"
    assert leaver.rows("billing", "west") == 6
    done = leaver.close("second.person")
    assert done["status"] == "closed"
    with database.reading(leaver.settings) as connection:
        left = [file for file in _files(connection) if file.tenant == "west"]
    assert left == [] and leaver.living_keys("west") == []
    assert leaver.rows("billing", "default") == before and leaver.living_keys("default")
    assert leaver.site.differing() == 0 and leaver.site.unbalanced() == {}
    assert not any("tenant=west" in str(path) for path in leaver.settings.lake_path.rglob("*") if path.is_file())
    assert {key[0] for table in leaver.site.derived().values() for key in table} == {"default"}
    assert leaver.site._rows(frozen_derived) == [] and leaver.site._rows(suppressions) == []
    for certificate in done["certificates"]:
        checks = certificates.verify(leaver.settings, certificate)
        assert [check.sentence for check in checks if not check.ok] == []
    first = certificates.read(leaver.settings, done["certificates"][0]).body
    assert {line["reason"]["why"] for line in first["scope"]} == {"the tenant left"}
    assert all(rotation.dead(leaver.settings, key_id) for key_id in _key_ids(leaver, "west"))


def _files(connection: Any) -> list[Any]:
    from callward.lake import ledger

    return ledger.files(connection)


def _key_ids(leaver: Leaver, whose: str) -> list[str]:
    with database.reading(leaver.settings) as connection:
        return list(connection.execute(select(keys.c.key_id).where(keys.c.tenant == whose)).scalars())


def test_closing_again_changes_nothing(leaver):
    leaver.without_source()
    leaver.close("first.person")
    leaver.close("second.person")
    again = leaver.close("first.person")
    assert again["status"] == "closed" and again["certificates"] == [] and again["classes"] == []


def test_records_of_a_closed_tenant_are_not_taken_in(leaver):
    sources = leaver.settings.sources
    leaver.without_source()
    leaver.close("first.person")
    leaver.close("second.person")
    settings = leaver.settings
    settings.path.write_text(render(settings.model_copy(update={"sources": list(sources)})), encoding="utf-8")
    leaver.site.land("western", "late.csv", feed(*(call(n, LAST_WEEK) for n in range(20, 23))))
    with pytest.raises(Problem, match="was destroyed"):
        leaver.site.night(now_ms=int(database.now().timestamp() * 1000) + 2 * 86_400_000)
    assert leaver.rows("billing", "west") == 0 and leaver.site.unbalanced() == {}


def test_a_tenant_whose_source_still_delivers_is_not_closed(leaver):
    with pytest.raises(UsageProblem, match="western"):
        leaver.close("first.person")


def test_a_hold_stops_a_closing(leaver):
    leaver.without_source()
    placed = leaver.hold()
    with pytest.raises(Problem, match=placed.hold_id):
        leaver.close("first.person")


def test_a_confidential_hold_stops_it_without_being_named(leaver):
    leaver.without_source()
    placed = leaver.hold(confidential_until=today() + timedelta(30))
    with pytest.raises(Problem, match="LEGAL_OBLIGATION") as told:
        leaver.close("first.person")
    assert placed.hold_id not in str(told.value) and "hold" not in str(told.value)


def _with_floor() -> str:
    """A policy whose amounts must be kept for six years, and nothing else."""
    text = re.sub(r"^(floor|ceiling) = .*\n", "", example("business-processor"), flags=re.MULTILINE)
    text = re.sub(r"\n\[subscribers\]\n(?:.+\n)*", "\n", text)
    return re.sub(
        r'(\[classes\.billing_transaction\]\n(?:.*\n)*?window = )".*?"', r'\g<1>"7 years"\nfloor = "6 years"', text
    )


def test_floors_stop_a_closing_unless_they_are_kept(leaver):
    leaver.without_source()
    leaver.govern(_with_floor())
    with pytest.raises(Problem, match=r"billing_transaction \(6 rows\) until") as told:
        leaver.close("first.person")
    assert "call_detail" not in str(told.value)
    leaver.close("first.person", keep_floors=True)
    done = leaver.close("second.person", keep_floors=True)
    assert done["status"] == "closed" and done["floors"][0]["class"] == "billing_transaction"
    assert (leaver.rows("billing", "west"), leaver.rows("assurance", "west")) == (6, 0)
    assert not any(file.numbers for file in leaver.site.data_files("billing") if file.tenant == "west")
    living = leaver.living_keys("west")
    assert any(name.startswith("billing/") for name in living)
    assert not any(name.startswith(("billing-numbers/", "assurance/")) for name in living)
    assert leaver.site.unbalanced() == {}


def test_a_decision_that_was_altered_governs_nothing(leaver):
    leaver.without_source()
    leaver.close("first.person")
    with database.writing(leaver.settings) as connection:
        connection.exec_driver_sql(
            "UPDATE policies SET state = 'leaving', activated_by = 'second.person', activated_at = proposed_at"
        )
    with pytest.raises(Problem, match="altered"), database.reading(leaver.settings) as connection:
        policy_register.in_force(leaver.settings, connection)
