"""`callward keys` as people meet it: exit codes, one sentence for what is wrong, documents, and no secret."""

import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from callward import database, initiate
from callward.keys import approvers, exports, rotation, signing
from callward.keys.keys import create_local
from callward.keys.register import KeyName, Keyring
from callward.keys.roots import root_file
from pipelines.doctor import checks as doctor
from schemas.retention import roots
from tests.typed import Ran, Run, typing

NAME = KeyName("billing", "default", "2030-01", "meta")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, site: Any) -> Iterator[Run]:
    """run("list") → how `callward keys list` ended, in this process; it never printed a secret."""

    def checked(*words: object) -> Ran:
        secrets = {path.read_text().split()[1] for path in (site.folder / "keys").iterdir()}
        ran = typed(*words)
        assert not any(secret in ran.out + ran.err for secret in secrets)
        return ran

    with typing(capsys, monkeypatch, "keys", columns=200) as typed:
        yield checked


@pytest.fixture
def site(workspace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    found = workspace("asterisk")
    monkeypatch.setenv("CALLWARD_CONFIG", str(found.folder))
    return found


def key(site: Any) -> Any:
    return Keyring(site.settings, "billing-run", "test").key(NAME)


def refused(ran: Ran, code: int, words: str) -> None:
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err
    assert len(ran.err.strip().splitlines()) == 1


def test_list_shows_keys_epochs_and_copies(run: Callable[..., Ran], site: Any) -> None:
    key(site)
    seen = run("list", "--json").json
    billing = next(row for row in seen["domains"] if row["domain"] == "billing")
    assert (billing["epoch"], billing["destroyed"], billing["last_month"]) == (1, 0, "2030-01")
    assert billing["active"] > 1
    rotation.destroy(site.settings, [key(site).key_id], role="retention-run", reason="test")
    seen = run("list", "--json").json
    after = next(row for row in seen["domains"] if row["domain"] == "billing")
    assert (after["epoch"], after["active"], after["destroyed"]) == (2, billing["active"] - 1, 1)
    assert [row["state"] for row in seen["epochs"] if row["domain"] == "billing"] == ["destroyed", "active"]
    table = run("list")
    assert table.code == 0
    assert "2030-01" in table.out
    assert "Copies of roots: none is recorded" in table.out


def test_a_rotation_names_the_copies_that_must_go(run: Callable[..., Ran], site: Any) -> None:
    minted = key(site)
    assert run("rotate", "--domain", "billing", "--dry-run").code == 0
    assert run("list", "--json").json["copies"] == []
    assert run("copy", "add", "--domain", "billing", "--place", "safe 2, Denver").code == 0
    done = run("rotate", "--domain", "billing", "--json")
    assert done.code == 3, "a person must destroy the copy"
    (left,) = done.json["copies_left"]
    assert left["place"] == "safe 2, Denver"
    assert key(site) == minted
    assert Path(done.json["export"]).exists()
    assert run("copy", "confirm", left["copy_no"]).code == 0
    assert run("rotate", "--domain", "billing").code == 0
    refused(run("rotate", "--domain", "biling"), 2, "did you mean 'billing'?")
    refused(run("copy", "confirm", 99), 1, "no copy has the number 99")
    refused(run("copy", "add", "--domain", "billing", "--place", "call +13035550100"), 2, "without a number")


def test_a_lost_database_comes_back_by_one_command(run: Callable[..., Ran], site: Any, tmp_path: Path) -> None:
    minted, file = key(site), site.folder / "callward.db"
    database.engine(site.settings).dispose()
    shutil.copyfile(file, tmp_path / "old.db")
    assert run("rotate", "--domain", "billing").code == 0
    written = run("export", "--json").json["export"]
    database.engine(site.settings).dispose()
    for path in site.folder.glob("callward.db*"):
        path.unlink()
    shutil.copyfile(tmp_path / "old.db", file)
    assert run("restore", "--export", written, "--dry-run", "--json").json["keys"]["changed"] > 0
    ran = run("restore", "--export", written)
    assert ran.code == 3, "entries of the audit log are lost"
    assert "audit entries" in ran.out
    assert key(site) == minted
    refused(run("restore", "--export", tmp_path / "old.db"), 1, "is not a register export")
    refused(run("restore", "--export", tmp_path / "none"), 1, "No such file")


def test_exports_go_to_the_second_place_or_say_that_it_is_away(run: Callable[..., Ran], site: Any) -> None:
    site.set(keys={"export_to": "second"})
    refused(run("export"), 1, "is that disk mounted")
    (site.folder / "second").mkdir()
    assert run("export", "--dry-run").code == 0
    assert list((site.folder / "second").iterdir()) == []
    done = run("export", "--json").json
    assert Path(done["second"]).read_bytes() == Path(done["export"]).read_bytes()


def test_a_person_makes_a_key_and_the_custodian_registers_it(
    run: Callable[..., Ran], site: Any, tmp_path: Path
) -> None:
    file = tmp_path / "ada.sign"
    assert run("approver", "new", "ada", "--out", file, "--dry-run").code == 0
    assert not file.exists()
    made = run("approver", "new", "ada", "--out", file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    public = made.out.strip()
    assert public in made.err
    assert file.read_text().split()[1] not in made.out + made.err
    refused(run("approver", "new", "ada", "--out", file), 1, "File exists")
    refused(run("approver", "new", "Ada Moreno", "--out", tmp_path / "x"), 2, "lower-case")
    assert run("approver", "add", "ada", "--public", public).code == 0
    refused(run("approver", "add", "ben", "--public", public), 1, "with this very key")
    approvers.approve(site.settings, "purge", "ab" * 32, "ada", file)
    assert [(row["name"], row["valid"]) for row in run("approver", "list", "--json").json] == [("ada", True)]
    assert run("approver", "revoke", "ada").code == 0
    assert [(row["name"], row["valid"]) for row in run("approver", "list", "--json").json] == [("ada", False)]
    refused(run("approver", "revoke", "eve"), 2, "no person is called 'eve'")


def test_a_root_that_is_another_one_rotates_nothing(run: Callable[..., Ran], site: Any) -> None:
    key(site)
    billing, assurance = root_file(site.settings, "billing"), root_file(site.settings, "assurance")
    assert billing is not None
    assert assurance is not None
    shutil.copyfile(assurance, billing)
    refused(run("rotate", "--domain", "billing"), 1, "another root's")


# -- what doctor says about keys ---------------------------------------------------------------------------------------


def findings(site: Any, what: str) -> list[tuple[str, str]]:
    """(state, what was seen) of the findings with that name."""
    found = [finding for finding in doctor.examine(str(site.folder)) if finding.what == what]
    assert all(finding.fix for finding in found if finding.state != "ok")
    return [(finding.state, finding.seen) for finding in found]


def test_doctor_warns_of_roots_beside_what_they_open(site: Any, tmp_path: Path) -> None:
    ((state, seen),) = findings(site, "place of roots")
    assert state == "warning"
    assert "the database and the lake" in seen
    apart = tmp_path / "apart"
    shutil.copytree(site.folder / "keys", apart)
    site.set(keys={"roots": {path.stem: f"local://{path}" for path in apart.glob("*.root")}})
    assert [state for state, _ in findings(site, "place of roots")] == ["ok"]
    site.set(lake={"uri": f"file:{apart}/below/lake"})
    ((state, seen),) = findings(site, "place of roots")
    assert state == "warning"
    assert "the lake" in seen
    assert "the database" not in seen


def test_doctor_knows_a_root_that_is_not_registered_or_not_the_active_one(site: Any) -> None:
    assert [state for state, _ in findings(site, "root billing")] == ["ok"]
    with database.writing(site.settings) as connection:
        connection.execute(delete(roots).where(roots.c.domain == "billing"))
    assert findings(site, "root billing") == [("wrong", "the register does not know it")]
    initiate.upgrade(site.settings)
    assert [state for state, _ in findings(site, "root billing")] == ["ok"]
    file = root_file(site.settings, "late")
    assert file is not None
    file.unlink()
    create_local(file)
    ((state, seen),) = findings(site, "root late")
    assert (state, "calls" in seen) == ("wrong", True)


def test_doctor_knows_a_signing_key_that_is_not_the_registered_one(site: Any) -> None:
    assert findings(site, "signing key retention") == [("ok", "the registered one")]
    file = signing.signer_file(site.settings, "retention")
    file.unlink()
    assert [state for state, _ in findings(site, "signing key retention")] == ["warning"]
    signing.create(file)
    assert [state for state, _ in findings(site, "signing key retention")] == ["wrong"]


def test_doctor_sees_an_interrupted_switch_until_it_is_ended(
    site: Any, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert findings(site, "epochs") == []
    monkeypatch.setattr(rotation, "_promote", lambda *_: None)
    rotation.rotate(site.settings, "billing", role="custodian", reason="test")
    assert [state for state, _ in findings(site, "epochs")] == ["warning"]
    monkeypatch.undo()
    monkeypatch.setenv("CALLWARD_CONFIG", str(site.folder))
    assert run("export").code == 0
    assert findings(site, "epochs") == []
    assert [state for state, _ in findings(site, "root billing")] == ["ok"]


def test_doctor_names_copies_that_outlived_their_root(site: Any) -> None:
    rotation.add_copy(site.settings, "billing", "safe 2")
    assert findings(site, "copy of a root") == []
    rotation.rotate(site.settings, "billing", role="custodian", reason="test")
    ((state, seen),) = findings(site, "copy of a root")
    assert (state, "safe 2" in seen) == ("warning", True)
    rotation.confirm_copy(site.settings, 1)
    assert findings(site, "copy of a root") == []


def test_doctor_asks_for_exports_that_have_every_key(site: Any) -> None:
    assert [state for state, _ in findings(site, "register export")] == ["warning", "note"]
    exports.write(site.settings, "test")
    assert [state for state, _ in findings(site, "register export")] == ["ok", "note"]
    key(site)
    assert ("warning", True) in [(state, "lacks 1 key" in seen) for state, seen in findings(site, "register export")]
    exports.write(site.settings, "test")
    (site.folder / "second").mkdir()
    site.set(keys={"export_to": "second"})
    assert [state for state, _ in findings(site, "register export")] == ["ok"]
