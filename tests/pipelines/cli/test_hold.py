"""hold: what people type, what they read, and what nobody reads."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from callward import database
from callward.keys import approvers, signing
from schemas import retention
from tests.typed import Ran, Run, typing

NUMBER = "+15555550101"
ORDER = ("--tenant", "default", "--kind", "litigation", "--authority", "the court", "--case", "case A")
SECRET = (*ORDER[:-1], "whispered", "--confidential-until", "2999-01-01", "--trunk", "qwest-1")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """run("list", …) → how `callward hold list …` ended, in this process; no number may be in what it printed."""

    def checked(*words: object, stdin: str = "") -> Ran:
        ran = typed(*words, stdin=stdin)
        assert "555555" not in ran.out + ran.err and "a defect" not in ran.err
        return ran

    with typing(capsys, monkeypatch, "hold", columns=160) as typed:
        yield checked


@pytest.fixture
def site(workspace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    made = workspace("asterisk")
    monkeypatch.setenv("CALLWARD_CONFIG", str(made.folder))
    return made


@pytest.fixture
def approver(site: Any, tmp_path: Path) -> tuple[str, ...]:
    file = tmp_path / "approver.key"
    approvers.register(site.settings, "approver", signing.create(file).hex())
    return ("--person", "approver", "--key", str(file))


def placed(run: Run, *words: object, **given: Any) -> str:
    """The id of a hold that was placed."""
    ran = run("place", *words, "--json", **given)
    assert ran.code == 0, ran.err
    return str(ran.json["hold_id"])


def _refused(ran: Ran, code: int, told: str) -> None:
    assert (ran.code, ran.out) == (code, ""), ran
    assert told in ran.err and len(ran.err.strip().splitlines()) == 1, ran.err


def test_a_hold_is_placed_listed_shown_and_released(run: Run, site: Any, approver: tuple[str, ...]) -> None:
    hold_id = placed(run, *ORDER, "--account", "acct-0007", "--from", "2026-01-01", "--number", NUMBER)
    (row,) = run("list", "--json").json
    assert (row["hold_id"], row["state"], row["accounts"], row["numbers"]) == (hold_id, "open", ["acct-0007"], 1)
    assert hold_id in run("list").out
    shown = run("show", hold_id)
    assert shown.code == 0 and "acct-0007" in shown.out and "2026-01-01" in shown.out
    ended = run("release", hold_id, *approver)
    assert ended.code == 0 and "due at the next purge" in ended.out
    assert run("list").out.strip() == "holds: none"
    assert run("list", "--json").json == []
    assert [row["state"] for row in run("list", "--released", "--json").json] == ["released"]


def test_numbers_come_from_a_file_or_standard_input(run: Run, site: Any, tmp_path: Path) -> None:
    lines = f"# of the order\n{NUMBER}\n\n(555) 555-0102\n{NUMBER}\n"
    file = tmp_path / "numbers"
    file.write_text(lines, encoding="utf-8")
    assert run("place", *ORDER, "--numbers-file", "-", "--json", stdin=lines).json["numbers"] == 2
    assert run("place", *ORDER, "--numbers-file", file, "--json").json["numbers"] == 2


@pytest.mark.parametrize("given", ["", "\n# nothing\n"])
def test_an_empty_list_of_numbers_is_not_a_hold_on_everything(run: Run, site: Any, given: str) -> None:
    _refused(run("place", *ORDER, "--numbers-file", "-", stdin=given), 2, "would keep everything")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((*ORDER, "--from", "5555550101"), "--from takes a date"),
        ((*ORDER, "--tail", "5555550101"), "--tail takes a window"),
        ((*ORDER, "--country", "XX"), "ISO code"),
        ((*ORDER, "--number", "5555550101234567890"), "number 1 of 1"),
        ((*ORDER[:-1], "call 555-555-0101"), "--case holds what looks like a telephone number"),
        ((*ORDER, "--trunk", "5555550101"), "--trunk holds what looks like a telephone number"),
        ((*ORDER, "--numbers-file", "/no/such/file"), "No such file"),
        ((*ORDER, "--account", "acct-9999"), "--unlisted"),
    ],
)
def test_what_is_wrong_is_one_sentence_without_a_number(run: Run, site: Any, words: Any, told: str) -> None:
    ran = run("place", *words, *(("--number", NUMBER) if "--country" in words else ()))
    assert ran.code in (1, 2)
    _refused(ran, ran.code, told)


def test_a_number_as_an_id_is_not_repeated(run: Run, site: Any) -> None:
    _refused(run("show", NUMBER), 2, "no hold of that id")
    _refused(run("list", "--role", NUMBER), 2, "--role is compliance or legal")


def test_a_file_that_is_no_text_is_refused(run: Run, site: Any, tmp_path: Path) -> None:
    file = tmp_path / "numbers"
    file.write_bytes(b"\xff\xfe\x00")
    _refused(run("place", *ORDER, "--numbers-file", file), 2, "not text")


def test_a_dry_run_says_and_does_nothing(run: Run, site: Any, approver: tuple[str, ...]) -> None:
    ran = run("place", *ORDER, "--kind", "preservation", "--dry-run")
    assert ran.code == 0 and "would be placed" in ran.out
    assert run("list", "--json").json == []
    hold_id = placed(run, *ORDER, "--kind", "preservation")
    assert "would be changed" in run("renew", hold_id, "--dry-run").out
    assert "would be changed" in run("release", hold_id, *approver, "--dry-run").out
    assert [row["state"] for row in run("list", "--json").json] == ["open"]


def test_an_order_that_ends_soon_makes_somebody_look(run: Run, site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hold_id = placed(run, *ORDER, "--kind", "preservation")
    assert run("list").code == 0
    later = datetime.now(UTC).replace(tzinfo=None) + timedelta(80)
    monkeypatch.setattr(database, "now", lambda: later)
    ran = run("list")
    assert ran.code == 3 and f"hold {hold_id}" in ran.err and "renew or release it" in ran.err
    assert run("renew", hold_id).code == 0
    assert run("list").code == 0


def test_a_dispute_says_through_which_day_it_blocks(run: Run, site: Any, approver: tuple[str, ...]) -> None:
    hold_id = placed(run, *ORDER, "--kind", "dispute", "--tail", "10 days")
    through = str(datetime.now(UTC).date() + timedelta(10))
    assert run("release", hold_id, *approver, "--json").json["blocks_through"] == through
    assert [row["state"] for row in run("list", "--json").json] == ["tail"]


def test_compliance_reads_the_same_whether_a_confidential_hold_is_there_or_not(
    run: Run, site: Any, approver: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = placed(run, *ORDER, "--kind", "preservation")
    later = datetime.now(UTC).replace(tzinfo=None) + timedelta(85)

    def read(hold_id: str) -> list[Ran]:
        with monkeypatch.context() as patched:
            patched.setattr(database, "now", lambda: later)
            return [
                *(run("list", *words) for words in ((), ("--json",), ("--released", "--json"))),
                *(run("show", hold_id, *words) for words in ((), ("--json",))),
                run("renew", hold_id, "--json"),
                run("renew", hold_id, "--confidential-until", "2999-02-01"),
                run("release", hold_id, *approver),
            ]

    before = read("0" * 16)
    hidden = placed(run, *SECRET, "--kind", "preservation", "--number", NUMBER, "--unlisted")
    assert read(hidden) == before
    assert {row["hold_id"] for row in run("list", "--role", "legal", "--json").json} == {known, hidden}
    assert "whispered" in run("show", hidden, "--role", "legal").out
    assert run("release", hidden, *approver, "--role", "legal").code == 0
    assert read(hidden) == before


def test_an_unreadable_register_is_one_sentence(run: Run, site: Any) -> None:
    placed(run, *ORDER)
    with database.writing(site.settings) as connection:
        connection.execute(retention.holds.delete())
    for words in (("list",), ("show", "0" * 16)):
        _refused(run(*words), 1, "nothing is purged")


def test_what_a_purge_has_destroyed_already_is_told(run: Run, site: Any) -> None:
    with database.writing(site.settings) as connection:
        times = {"as_of": datetime.now(UTC).date(), "created_at": database.now()}
        words = {
            "disposal_id": "one",
            "reason": "purge",
            "status": "done",
            "plan_digest": "",
            "plan": "",
            "started_by": "test",
        }
        connection.execute(insert(retention.disposals).values(**words, **times))
        item = {"disposal_id": "one", "item": 0, "retention_class": "call_detail", "action": "delete", "rows": 7}
        where = {"tenant": "default", "view": "billing", "part": "2026-03-01", "file_id": "f", "held": 0}
        connection.execute(insert(retention.disposal_items).values(**item, **where, state="removed"))
    ran = run("place", *ORDER, "--json")
    assert ran.code == 3
    assert [(g["month"], g["rows"], g["state"]) for g in ran.json["removed"]] == [("2026-03", 7, "removed")]
    told = run("place", *ORDER)
    assert told.code == 3 and "Destroyed before" in told.out and "2026-03" in told.out
    assert run("place", *ORDER, "--from", "2026-04-01").code == 0
    with database.reading(site.settings) as connection:
        assert len(connection.execute(select(retention.holds)).all()) == 3
