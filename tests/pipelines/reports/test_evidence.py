"""`purge calendar`, `purge verify` and `purge certificates`, as a person and as a script see them."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import and_, delete, insert, select, update
from typer.testing import CliRunner, Result

from callward import database, runs
from callward.access.second_person import Consent
from callward.errors import UsageProblem
from callward.evidence import certificates
from callward.evidence.certificates import Facts, Held
from callward.feeds.generate import generate
from callward.keys import approvers, signing
from callward.retention import holds
from callward.settings import Settings
from pipelines.cli import evidence as evidence_commands
from schemas.retention import certificates as table
from schemas.retention import disposals, row_ends
from schemas.retention_classes import CLASSES
from schemas.views import PARTS
from tests.retention import purge

APP = evidence_commands.app


@pytest.fixture(scope="module")
def site(workspace: Callable[..., Any]) -> Any:
    """A workspace with two certificates: of a purge that held something back, and of one that found nothing due."""
    site = workspace("asterisk")
    for held in ([Held("default", "call_detail", 7), Held("default", "suspense", 2, ("0123abcd",))], []):
        disposal_id = runs.new_id()
        with database.writing(site.settings) as connection:
            connection.execute(insert(disposals).values(_purge(disposal_id)))
        certificates.issue(site.settings, disposal_id, Facts(held=held), date(2026, 11, 22))
    return site


def _purge(disposal_id: str) -> dict[str, Any]:
    return {
        "disposal_id": disposal_id,
        "reason": "purge",
        "as_of": date(2026, 11, 21),
        "status": "done",
        "plan_digest": "0" * 64,
        "plan": "{}",
        "started_by": "ops@host",
        "created_at": database.now(),
        "run_id": runs.new_id(),
    }


def call(site: Any, *arguments: str) -> Result:
    done = CliRunner(env={"COLUMNS": "100"}).invoke(APP, [*arguments, "--config", str(site.folder / "callward.toml")])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def first(site: Any) -> certificates.Certificate:
    return certificates.list_certificates(site.settings)[0]


def test_the_calendar_names_every_class(site: Any) -> None:
    told = call(site, "calendar")
    assert told.exit_code == 0
    for cls in CLASSES:
        assert cls in told.stdout
    assert "nothing is overdue" in told.stdout
    document = json.loads(call(site, "calendar", "--json", "--as-of", "2027-01-31").stdout)
    assert document["as_of"] == "2027-01-31"
    assert {line["class"] for line in document["classes"]} == set(CLASSES)


def test_the_calendar_fits_a_terminal(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert max(map(len, call(site, "calendar").stdout.splitlines())) <= 100


def test_certificates_are_listed_with_their_status(site: Any) -> None:
    listed = json.loads(call(site, "certificates", "list", "--json").stdout)
    assert [(row["status"], row["kept"]) for row in listed] == [("PARTIAL", 9), ("COMPLETE", 0)]
    assert "PARTIAL" in call(site, "certificates", "list").stdout


def test_a_certificate_is_shown_as_it_was_signed(site: Any) -> None:
    made = first(site)
    assert call(site, "certificates", "show", made.certificate_id, "--json").stdout == made.document + "\n"
    told = call(site, "certificates", "show", made.certificate_id).stdout
    assert "PARTIAL" in told and "9 rows past their window are kept" in told
    assert "0123abcd" in told and "other reasons" in told


def test_a_page_is_written_and_no_file_is_overwritten(site: Any, tmp_path: Path) -> None:
    made, target = first(site), tmp_path / "page.html"
    assert call(site, "certificates", "html", made.certificate_id, "--to", str(target)).stdout.strip() == str(target)
    assert target.read_text(encoding="utf-8").startswith("<!doctype html>")
    with pytest.raises(UsageProblem):
        call(site, "certificates", "html", made.certificate_id, "--to", str(target))
    usual = Path(call(site, "certificates", "html", made.certificate_id).stdout.strip())
    assert usual.read_bytes() == target.read_bytes()


def test_verify_says_what_fails_and_ends_with_1(site: Any) -> None:
    made = first(site)
    good = call(site, "verify", made.certificate_id, "--json")
    assert good.exit_code == 0 and json.loads(good.stdout)["ok"]
    stray = site.settings.lake_path / "stray.parquet"
    stray.write_bytes(b"PAR1")
    bad = call(site, "verify", made.certificate_id)
    stray.unlink()
    assert bad.exit_code == 1 and "FAILS" in bad.stdout
    (sentence,) = bad.stderr.splitlines()
    assert sentence.startswith("callward: no orphans: ") and "stray.parquet" in sentence


@pytest.fixture(scope="module")
def purged(workspace: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, day: date) -> tuple[Any, list[str]]:
    """A real night, a real purge while one account is held, and one after its release; their certificates."""
    feed, key = tmp_path_factory.mktemp("feed"), tmp_path_factory.mktemp("person") / "key"
    generate(feed, seed=11, day=day, calls=400, sources=("asterisk", "opensips"))
    windows = {"assurance_metrics": "1 month", "call_detail": "2 months"}
    site = workspace("asterisk", "opensips", retention=windows)
    site.deliver(path for path in sorted(feed.rglob("*")) if path.is_file())
    site.night()
    approvers.register(site.settings, "first.person", signing.create(key).hex())
    account = max(name for name in site.view("billing")["account"].to_pylist() if name != "unassigned")
    today = database.now().date()
    hold = holds.place(site.settings, holds.Hold("", "default", "litigation", "court", "7", accounts=(account,)), today)
    done = [approved_purge(site.settings, today, key)]
    holds.release(site.settings, hold.hold_id, "first.person", key, today)
    done.append(approved_purge(site.settings, today, key))
    return site, [item["certificate"] for item in done]


def approved_purge(settings: Settings, today: date, key: Path) -> dict[str, Any]:
    done = purge(settings, today)
    if done["status"] == "planned":
        done = purge(settings, today, consent=Consent(done["plan_id"], "first.person", key))
    return done


def test_after_real_purges_every_certificate_verifies_and_nothing_is_overdue(purged: tuple[Any, list[str]]) -> None:
    site, (partial, complete) = purged
    listed = json.loads(call(site, "certificates", "list", "--json").stdout)
    assert [(row["certificate"], row["status"], row["completes"]) for row in listed] == [
        (partial, "PARTIAL", ""),
        (complete, "COMPLETE", partial),
    ]
    assert listed[0]["kept"] > 0 == listed[1]["kept"]
    for certificate in (partial, complete):
        told = call(site, "verify", certificate)
        assert told.exit_code == 0, told.stderr
        for scope in certificates.read(site.settings, certificate).body["scope"]:
            assert scope["sanitization"]["preconditions"][0]["pass"], scope  # encrypted before it was stored
    assert "nothing is overdue" in call(site, "calendar").stdout


def test_a_held_row_that_was_lost_is_missed(purged: tuple[Any, list[str]]) -> None:
    site, (partial, _) = purged
    held = and_(row_ends.c.end == "unheld", row_ends.c.view.in_(PARTS["assurance"]))
    with database.writing(site.settings) as connection:
        taken = [dict(row._mapping) for row in connection.execute(select(row_ends).where(held))]
        connection.execute(delete(row_ends).where(held))
    told = call(site, "verify", partial, "--quick")
    with database.writing(site.settings) as connection:
        connection.execute(insert(row_ends), taken)
    assert taken and told.exit_code == 1 and "rows are held, but 0 copies" in told.stderr


def test_a_chain_that_was_broken_is_one_sentence(site: Any) -> None:
    made = first(site)
    with database.writing(site.settings) as connection:
        connection.execute(update(table).where(table.c.seq == 2).values(prev="1" * 64))
    bad = call(site, "verify", made.certificate_id, "--quick")
    with database.writing(site.settings) as connection:
        connection.execute(update(table).where(table.c.seq == 2).values(prev=made.hash))
    assert bad.exit_code == 1 and len(bad.stderr.splitlines()) == 1
    assert call(site, "verify", made.certificate_id).exit_code == 0
