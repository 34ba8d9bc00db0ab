"""Requests of persons over real nights: what is shown, what goes, what stays, and what comes in again."""

import copy
import csv
import json
import random
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from sqlalchemy import update

from callward import database, query
from callward.access.roles import ROLES
from callward.errors import Problem, UsageProblem
from callward.keys import approvers, signing
from callward.keys.tokens import number_token
from callward.lake.data_files import DataFiles
from callward.retention import holds
from callward.retention.holds import Hold
from callward.retention.policy import register as policy_register
from callward.retention.requests import register as request_register
from callward.retention.requests import restrictions as register
from callward.retention.requests.register import Refusal, Selector
from callward.retention.requests.search import token_secret
from callward.template import render
from pipelines import request as requests
from pipelines.suspense.records import open_content
from pipelines.vacuum import remove_superseded
from schemas.retention import certificates, disposals, restrictions, row_ends, suppressions
from schemas.retention import requests as request_rows
from schemas.retention_classes import Window, example
from schemas.tables import billing_usage_daily, key_columns, lake_files, sla_account_daily
from schemas.views import ID_COLUMN, INDEX, PARTS, STORED, VIEW_PARTS
from tests.commands import run, strays
from tests.meanwhile import ALWAYS, comes_between, commit_another
from tests.retention import hold, purged
from tests.test_night_scenes import CDR_HEADER, CMR_HEADER, cucm, quality

ALICE, BOB, CAROL = "+13035550101", "+13035550102", "+13035550103"
HOTLINE = "+13035550199"
COLUMNS = (
    "id,calling_number,called_number,start_time,answer_time,end_time,talk_ms,account_code,calling_presentation,"
    "direction,pdd_ms"
)
BY_ACCOUNT = (billing_usage_daily, sla_account_daily)
TODAY = database.now().date()
LAST_WEEK = TODAY - timedelta(7)


@dataclass
class Call:
    """One call of a generic CSV feed."""

    name: str
    calling: str = ALICE
    called: str = BOB
    account: str = "ac-0001"
    presentation: str = "allowed"
    day: date = LAST_WEEK
    minute: int = 0
    talk_s: int = 60
    direction: str = "outbound"
    answered: bool = True

    def line(self) -> str:
        at = datetime(self.day.year, self.day.month, self.day.day, 9, tzinfo=UTC) + timedelta(minutes=self.minute)
        start, end = (f"{moment:%FT%TZ}" for moment in (at, at + timedelta(seconds=self.talk_s)))
        stamps = f"{start},{start if self.answered else ''},{end}"
        parties = f"{self.name},{self.calling},{self.called}"
        talk_ms = self.talk_s * 1000 if self.answered else 0
        return f"{parties},{stamps},{talk_ms},{self.account},{self.presentation},{self.direction},{self.pdd_ms}\n"

    @property
    def pdd_ms(self) -> int:
        """Say which call it is, to the steps of 100 ms in which the assurance view has it."""
        return 100 * (self.minute + 1)


CALLS = [
    Call("a", ALICE, BOB, "ac-0001"),
    Call("b", BOB, ALICE, "ac-0002", minute=1, presentation="restricted"),
    Call("c", BOB, CAROL, "ac-0002", minute=2),
    Call("d", CAROL, ALICE, "ac-0003", minute=3),
    Call("e", ALICE, HOTLINE, "ac-0001", minute=4),
    Call("f", ALICE, CAROL, "ac-0001", minute=5, day=LAST_WEEK - timedelta(3)),
]


def feed(calls: list[Call]) -> bytes:
    return "".join([COLUMNS + "\n", *(call.line() for call in calls)]).encode()


def night(site: Any, name: str, calls: list[Call]) -> Any:
    site.land("generic", name, feed(calls))
    return site.night(now_ms=int(datetime.now(UTC).timestamp() * 1000))


class Office:
    """A workspace after a night over CALLS, and two registered persons who handle requests."""

    def __init__(self, site: Any, keys: Path) -> None:
        self.site, self.keys = site, keys
        hotline = site.folder / "hotlines"
        hotline.mkdir()
        listed = f'format_version = 1\nversion = "1"\nsource = "made up"\n[[numbers]]\nnumber = "{HOTLINE}"\n'
        (hotline / "central.toml").write_text(listed)
        for name in ("first.person", "second.person"):
            approvers.register(self.settings, name, signing.create(keys / name).hex())
        night(site, "first.csv", CALLS)

    @property
    def settings(self) -> Any:
        return self.site.settings

    def copied(self, folder: Path) -> "Office":
        """A copy of the workspace and of the persons' key files, in a folder that is not there yet."""
        database.engine(self.settings).dispose()  # the last connection closed writes the log back into the file
        office = copy.copy(self)
        office.site, office.keys = type(self.site)(folder / "workspace"), folder / "persons"
        shutil.copytree(self.site.folder, office.site.folder)
        shutil.copytree(self.keys, office.keys)
        return office

    def hand(self, to: Path | None = None, person: str = "first.person") -> requests.Handler:
        return requests.Handler(person, self.keys / person, to)

    def ask(self, kind: str, number: str | None = ALICE, *, account: str | None = None, **said: Any) -> dict[str, Any]:
        whom = Selector("account", account) if account else Selector("number", str(number))
        to, today, dry_run = said.pop("to", None), said.pop("today", TODAY), said.pop("dry_run", False)
        fields = {"regime": "gdpr", "identity": "passport shown", **said}
        asked = requests.NewRequest("default", kind, **fields)
        return requests.ask(self.settings, asked, whom, self.hand(to), today, dry_run=dry_run).to_dict()

    def told(self, tmp_path: Path, number: str | None = ALICE, **said: Any) -> dict[str, Any]:
        """The document that an access request is answered with."""
        to = tmp_path / f"answer-{database.now():%H%M%S%f}.json"
        done = self.ask("access", number, to=to, **said)
        return json.loads(to.read_text()) if to.exists() else done

    def govern(self, text: str) -> None:
        version, _ = policy_register.propose(
            self.settings, "default", text, "first.person", self.keys / "first.person", None
        )
        policy_register.activate(self.settings, "default", version, "second.person", self.keys / "second.person")

    def hold(self, **selected: Any) -> Hold:
        wanted = Hold("", "default", "litigation", "a court", "case seven", **selected)
        return holds.place(self.settings, wanted, TODAY, unlisted=True)

    def numbers(self) -> list[tuple[str | None, str | None]]:
        """Both numbers of every billing row, in order of start."""
        rows = self.site.view("billing")
        return list(zip(rows["calling_number"].to_pylist(), rows["called_number"].to_pylist(), strict=True))

    def all(self, table: Any) -> list[Any]:
        return self.site._rows(table)

    def accounts(self, table: Any) -> set[str]:
        """Return the accounts that a derived table names."""
        return {key[key_columns(table).index("account")] for key in self.site.derived()[table.name]}

    def check_whole(self) -> None:
        """Derived tables are what the lake says, every file balances, and accepted = present + gone."""
        assert self.site.differing() == 0
        assert self.site.unbalanced() == {}
        accepted = self.site.entries().get(("accepted", ""), (0, 0))[0]
        gone = sum(row.rows for row in self.all(row_ends) if row.view in PARTS["assurance"] and row.end == "erased")
        assert self.site.view("assurance").num_rows + gone == accepted


def _office(workspace: Callable[..., Any], feed_source: Callable[..., Any], keys: Path, **changes: Any) -> Office:
    return Office(workspace(feed_source("generic", country="US"), **changes), keys)


@pytest.fixture(scope="module")
def unasked(workspace: Callable[..., Any], feed_source: Callable[..., Any], tmp_path_factory: Any) -> Office:
    """One that nobody has asked. It is only copied."""
    return _office(workspace, feed_source, tmp_path_factory.mktemp("persons"))


@pytest.fixture
def office(unasked: Office, tmp_path: Path) -> Office:
    return unasked.copied(tmp_path / "office")


@pytest.fixture(scope="module")
def shared(workspace: Callable[..., Any], feed_source: Callable[..., Any], tmp_path_factory: Any) -> Office:
    """One that tests only ask: what they record does not change what others are told."""
    return _office(workspace, feed_source, tmp_path_factory.mktemp("persons"))


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


# -- access and export -----------------------------------------------------------------------------------------------


def test_access_shows_a_persons_calls_without_withheld_callers(shared, tmp_path):
    told = shared.told(tmp_path)
    shown = [(call["calling_number"], call["called_number"]) for call in told["calls"]]
    assert shown == [(ALICE, CAROL), (ALICE, BOB), (None, ALICE), (CAROL, ALICE)]
    assert told["asked_by"] == {"number": ALICE} and told["recipients"] == "none recorded"


def test_a_caller_who_withheld_the_number_sees_it_in_their_own_answer(shared, tmp_path):
    told = shared.told(tmp_path, BOB)
    assert (BOB, ALICE) in [(call["calling_number"], call["called_number"]) for call in told["calls"]]


def test_an_answer_neither_shows_nor_counts_calls_to_hotlines(shared, tmp_path):
    for whom in ({"number": ALICE}, {"number": None, "account": "acct-0001"}):
        told = shared.told(tmp_path, **whom)
        written = json.dumps(told)
        assert HOTLINE not in written and "hotline" not in written.lower()
        rows = {item["class"]: item["rows"] for item in told["classes"]}
        assert set(rows.values()) == {len(told["calls"])}


def test_who_called_hotlines_alone_is_answered_as_one_who_never_called(workspace, feed_source, tmp_path):
    office = _office(workspace, feed_source, _folder(tmp_path / "persons"))
    night(office.site, "hotline.csv", [Call("z", "+13035550150", HOTLINE, "ac-0009")])
    silent, stranger = (office.told(tmp_path, number) for number in ("+13035550150", "+13035550151"))
    differing = {name for name in silent if silent[name] != stranger[name]}
    assert differing == {"request_id"}
    assert silent["refusal"] == Refusal.NOT_FOUND


def test_what_a_call_cost_is_shown_to_the_account_that_paid(shared, tmp_path):
    by_pair = {(c["calling_number"], c["called_number"]): c for c in shared.told(tmp_path)["calls"]}
    assert by_pair[ALICE, BOB]["billable_s"] == 60
    assert by_pair[CAROL, ALICE]["billable_s"] is None
    of_account = shared.told(tmp_path, None, account="acct-0002")
    assert {c["account"] for c in of_account["calls"]} == {"acct-0002"}
    assert [c["calling_number"] for c in of_account["calls"]] == [BOB, BOB]


def test_other_parties_are_hidden_where_the_tenant_says_so(workspace, feed_source, tmp_path):
    office = _office(workspace, feed_source, _folder(tmp_path / "persons"))
    tenant = office.settings.tenants["default"]
    asked = tenant.requests.model_copy(update={"other_numbers": "hidden"})
    _set_tenant(office, requests=asked)
    shown = {(c["calling_number"], c["called_number"]) for c in office.told(tmp_path)["calls"]}
    assert shown == {(ALICE, None), (None, ALICE)}


def _set_tenant(office: Office, **changes: Any) -> None:
    settings = office.settings
    tenants = {**settings.tenants, "default": settings.tenants["default"].model_copy(update=changes)}
    settings.path.write_text(render(settings.model_copy(update={"tenants": tenants})), encoding="utf-8")


def test_export_holds_the_same_in_two_forms_that_only_their_owner_reads(shared, tmp_path):
    done = shared.ask("export", to=tmp_path / "export")
    document = json.loads((tmp_path / "export" / "answer.json").read_text())
    with (tmp_path / "export" / "calls.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{k: v or None for k, v in row.items()} for row in rows] == [
        {k: None if v is None else str(v) for k, v in call.items()} for call in document["calls"]
    ]
    modes = {stat.S_IMODE(Path(path).stat().st_mode) for path in done["files"]}
    assert modes == {0o600} and done["calls"] == len(rows) == 4


def test_access_looks_back_twelve_months_where_the_law_says_so(workspace, feed_source, tmp_path):
    office = _office(workspace, feed_source, _folder(tmp_path / "persons"))
    old = Window(13, "month").last_day(TODAY)
    night(office.site, "old.csv", [Call("old", day=TODAY - (old - TODAY))])
    assert len(office.told(tmp_path, regime="us")["calls"]) == 4
    assert len(office.told(tmp_path, regime="gdpr")["calls"]) == 5


def test_a_third_request_within_twelve_months_is_refused_under_us_law(office, tmp_path):
    told = [office.told(tmp_path, regime="us") for _ in range(3)]
    assert ["calls" in one for one in told] == [True, True, False]
    assert told[2]["refusal"] == Refusal.REPEATED
    assert "calls" in office.told(tmp_path, CAROL, regime="us")


def test_no_answer_is_written_into_the_workspace(shared):
    with pytest.raises(UsageProblem, match="workspace"):
        shared.ask("access", to=shared.site.folder / "answer.json")


def test_no_answer_is_written_over_a_file_that_is_there(shared, tmp_path):
    (tmp_path / "there").write_text("mine")
    before = len(shared.all(request_rows))
    with pytest.raises(UsageProblem, match="there already"):
        shared.ask("access", to=tmp_path / "there")
    assert len(shared.all(request_rows)) == before and (tmp_path / "there").read_text() == "mine"


# -- the register ----------------------------------------------------------------------------------------------------


def test_a_request_without_a_verified_identity_is_only_recorded(shared, tmp_path):
    waiting = shared.ask("access", identity="")
    assert (waiting["status"], waiting["verified"]) == ("open", False)
    with pytest.raises(UsageProblem, match="identity"):
        requests.answer(shared.settings, waiting["request_id"], shared.hand(tmp_path / "no.json"), TODAY)
    refused = requests.answer(
        shared.settings, waiting["request_id"], shared.hand(), TODAY, refuse="IDENTITY", note="no papers"
    )
    assert (refused.status, refused.refusal) == ("refused", "IDENTITY")
    appealed = request_register.appeal(
        shared.settings, waiting["request_id"], "first.person", shared.keys / "first.person", TODAY, "papers sent"
    )
    assert appealed.due == TODAY + timedelta(60)
    to = tmp_path / "granted.json"
    hand = shared.hand(to)
    granted = requests.answer(shared.settings, waiting["request_id"], hand, TODAY, identity="papers seen")
    assert granted.status == "answered" and len(json.loads(to.read_text())["calls"]) == 4


def test_whom_a_request_is_about_lies_nowhere_in_the_clear(shared, tmp_path):
    shared.ask("access", to=tmp_path / "one.json", identity="called back on the number of record")
    database.engine(shared.settings).dispose()
    digits = ALICE.lstrip("+").encode()
    for path in (p for p in shared.site.folder.rglob("*") if p.is_file() and "hotlines" not in p.parts):
        assert digits not in path.read_bytes(), path.name
    row = shared.all(request_rows)[-1]
    assert b"called back" not in row.body


def test_only_a_registered_person_handles_requests(shared, tmp_path):
    stranger = tmp_path / "stranger"
    signing.create(stranger)
    with pytest.raises(Problem):
        requests.ask(
            shared.settings,
            requests.NewRequest("default", "erase", "gdpr", "seen"),
            Selector("number", ALICE),
            requests.Handler("first.person", stranger),
            TODAY,
            dry_run=False,
        )
    assert len(shared.numbers()) == len(CALLS)


def test_a_processors_requests_are_referred_to_the_customer(office, tmp_path):
    office.govern(example("business-processor"))
    told = office.told(tmp_path, identity="")
    assert (told["status"], told["refusal"], told["addressee"]) == ("referred", "REFERRED", "default")
    assert office.ask("erase")["status"] == "referred" and len(office.numbers()) == len(CALLS)


# -- erase -----------------------------------------------------------------------------------------------------------


def test_erasure_takes_a_persons_rows_out_of_both_views_and_out_of_the_sums(office):
    replaced = [f.path for view in STORED for f in office.site.data_files(view)]
    done = office.ask("erase")
    assert office.numbers() == [(BOB, CAROL)]
    assert office.site.view("assurance").num_rows == 1
    assert (done["status"], done["refusal"], done["rows"]) == ("answered", None, {"removed": 10})
    office.check_whole()
    lake = office.settings.lake_path
    assert not any((lake / path).exists() for path in replaced)


def test_erased_records_do_not_come_in_again_but_later_calls_do(office):
    office.ask("erase")
    when = datetime.now(UTC) + timedelta(days=1)
    longer = replace(CALLS[0], talk_s=90)  # another version of an erased record is the same record
    office.site.land("generic", "again.csv", feed([Call("g", ALICE, BOB, day=when.date()), *CALLS]))
    office.site.land("generic", "longer.csv", feed([longer]))
    office.site.night(now_ms=int((when + timedelta(days=1)).timestamp() * 1000))
    assert office.site.entries()["filtered", "ERASED"][0] == 5 + 1
    assert office.site.entries()[("duplicate", "")][0] == 1
    assert sorted(map(str, office.numbers())) == sorted(map(str, [(BOB, CAROL), (ALICE, BOB)]))
    office.check_whole()


def test_an_erasure_ends_in_a_certificate_that_verifies(office):
    done = office.ask("erase")
    checks = certificates_of(office, done["certificate"])
    assert [check.sentence for check in checks if not check.ok] == []
    body = json.loads(office.all(certificates)[-1].document)["body"]
    assert {line["reason"]["why"] for line in body["scope"]} == {"erasure"}
    assert body["status"] == "COMPLETE"
    assert ALICE.lstrip("+") not in json.dumps(body)


def certificates_of(office: Office, certificate: str) -> list[Any]:
    from callward.evidence import certificates as issued

    return issued.verify(office.settings, certificate)


def _with_floor(cls: str, floor: str) -> str:
    """A policy whose only floor, beside those of the law, is that of one class."""
    text = example("controller-instructed").replace('role = "processor"', 'role = "controller"')
    lines = [line for line in text.splitlines() if not line.startswith("floor")]
    at = lines.index(f"[classes.{cls}]")
    lines.insert(at + 1, f'floor = "{floor}"')
    lines = [line for line in lines if not line.startswith("ceiling")]
    made, within = [], ""
    for line in lines:
        within = line if line.startswith("[") else within
        made.append('window = "7 years"' if within == f"[classes.{cls}]" and line.startswith("window") else line)
    return "\n".join(made) + "\n"


def test_amounts_that_must_be_kept_lose_the_persons_side_alone(office):
    office.govern(_with_floor("billing_transaction", "6 years"))
    talk, attempts = pc.sum(office.site.view("billing")["talk_ms"]), office.site.view("assurance")
    done = office.ask("erase")
    assert sorted(map(str, office.numbers())) == sorted(
        map(str, [(None, CAROL), (None, BOB), (BOB, None), (BOB, CAROL), (CAROL, None), (None, HOTLINE)])
    )
    assert pc.sum(office.site.view("billing")["talk_ms"]) == talk
    assert (done["refusal"], done["words"]) == ("LEGAL_OBLIGATION", request_register.WORDS["LEGAL_OBLIGATION"])
    assert office.site.view("assurance").equals(attempts)  # of nobody
    tokens = office.site.view("billing")
    assert tokens["calling_token"].null_count == 3 and tokens["called_token"].null_count == 2
    office.check_whole()


def test_an_account_whose_amounts_must_be_kept_loses_its_name(office):
    office.govern(_with_floor("billing_transaction", "6 years"))
    office.ask("erase", None, account="acct-0001")
    accounts = office.site.view("billing")["account"].to_pylist()
    assert sorted(accounts) == ["acct-0002", "acct-0002", "acct-0003", "erased", "erased", "erased"]
    assert office.numbers().count((None, None)) == 3
    assert sorted(_indexed(office)["account"].to_pylist()) == sorted(accounts)
    office.check_whole()


def test_nothing_of_an_erased_account_is_left_in_sums_by_account(office):
    night(office.site, "attempts.csv", ATTEMPTS)
    office.govern(_with_floor("billing_transaction", "6 years"))
    before = {table: office.accounts(table) for table in BY_ACCOUNT}
    assert all("acct-0001" in accounts for accounts in before.values())
    office.ask("erase", None, account="acct-0001")
    after = {table: office.accounts(table) for table in BY_ACCOUNT}
    assert after == {
        sla_account_daily: before[sla_account_daily] - {"acct-0001"},  # nobody's attempts are in no sum
        billing_usage_daily: before[billing_usage_daily] - {"acct-0001"} | {"erased"},
    }
    indexed = _indexed(office)["account"].to_pylist()
    assert indexed.count("erased") == 3 + 2 and "acct-0001" not in indexed
    office.check_whole()


def test_numbers_that_must_be_kept_stay(office):
    office.govern(_with_floor("call_detail", "18 months"))
    before = office.numbers()
    done = office.ask("erase")
    assert office.numbers() == before
    assert (done["status"], done["refusal"]) == ("refused", "LEGAL_OBLIGATION")
    assert office.all(suppressions) == [] and office.all(disposals) == []


def test_a_hold_beats_an_erasure_which_goes_on_when_it_is_released(office):
    held = office.hold(accounts=("acct-0003",))
    done = office.ask("erase")
    assert office.numbers() == [(BOB, CAROL), (CAROL, ALICE)]
    assert (done["status"], done["refusal"], done["rows"]) == (
        "answered",
        "LEGAL_OBLIGATION",
        {"removed": 8, "kept": 2},
    )
    holds.release(office.settings, held.hold_id, "first.person", office.keys / "first.person", TODAY)
    (would,) = requests.finish_erasures(office.settings, TODAY, dry_run=True).erasures
    assert would.request_id == done["request_id"] and office.numbers() == [(BOB, CAROL), (CAROL, ALICE)]
    (again,) = requests.finish_erasures(office.settings, TODAY).to_dict()
    assert office.numbers() == [(BOB, CAROL)]
    assert (again["refusal"], again["rows"]) == (None, {"removed": 10})
    assert requests.finish_erasures(office.settings, TODAY).erasures == []
    office.check_whole()


def test_a_record_suspended_before_it_had_an_identity_is_met_by_file_and_line(workspace, feed_source, tmp_path):
    """No date, so no entry in the index: the suspense log says of which file, block and line it is."""
    windows = {"retention": {"suspense": "20 days"}, "thresholds": {"file_errors_pct": 100.0}}
    office = _office(workspace, feed_source, _folder(tmp_path / "persons"), **windows)
    spoilt = CALLS[0].line().replace("a,", "s,", 1).replace(f"{LAST_WEEK}", "not a date")
    office.site.land("generic", "spoilt.csv", feed([Call("x", CAROL, BOB, "ac-0003", minute=30)]) + spoilt.encode())
    office.site.night(now_ms=int(datetime.now(UTC).timestamp() * 1000))

    (aside,) = office.site.log("suspense").to_pylist()
    assert aside["line"] == 1 and (aside["file_no"], aside["block"], aside["line"]) not in _lines(_indexed(office))
    (shown,) = open_content(office.settings, aside["file_no"], "a person asks", 10)
    assert (shown.record, shown.code, shown.content) == (2, "TIME", spoilt.rstrip("\n"))

    until = TODAY + timedelta(20)  # both answers say that nobody can look for it there, and until when
    for answer in (office.told(tmp_path), office.ask("erase")):
        assert {place["where"]: f"{place['until']}" for place in answer["elsewhere"]}["suspense"] == f"{until}"
    assert office.site.log("suspense").num_rows == 1

    placed, past = hold(office.site, numbers=(CAROL,)), TODAY + timedelta(60)
    done = purged(office.site, past, today=past)
    assert office.site.log("suspense").num_rows == 1
    assert [(c["due"], c["held"], c["deleted"]) for c in done["classes"] if c["class"] == "suspense"] == [(1, 1, 0)]
    holds.release(office.settings, placed.hold_id, "first.person", office.keys / "first.person", TODAY)
    purged(office.site, past, today=past)
    assert office.site.data_files("suspense") == []
    ended = [(row.file_no, row.rows) for row in office.all(row_ends) if row.view == "suspense"]
    assert ended == [(aside["file_no"], 1)]
    office.check_whole()


def _lines(rows: pa.Table) -> set[tuple[int, int, int]]:
    return {(row["file_no"], row["block"], row["line"]) for row in rows.to_pylist()}


def test_a_confidential_hold_is_answered_in_the_words_of_a_floor(workspace, feed_source, tmp_path):
    answers = []
    for number, prepare in enumerate((_held_in_secret, _floored)):
        office = _office(workspace, feed_source, _folder(tmp_path / f"persons{number}"))
        prepare(office)
        done = office.ask("erase")
        answers.append({name: done[name] for name in ("status", "refusal", "words")})
    assert answers[0] == answers[1]


def _held_in_secret(office: Office) -> None:
    office.hold(confidential_until=TODAY + timedelta(90))


def _floored(office: Office) -> None:
    office.govern(_with_floor("call_detail", "18 months"))


def test_holds_that_cannot_be_read_stop_an_erasure(office):
    held = office.hold(accounts=("acct-0003",))
    with database.writing(office.settings) as connection:
        connection.exec_driver_sql("UPDATE holds SET digest = 'x'")
    with pytest.raises(Problem):
        office.ask("erase")
    assert held and len(office.numbers()) == len(CALLS)


PEOPLE = [f"+1303555{n:04d}" for n in range(110, 118)]


@pytest.mark.parametrize("seed", range(2))
def test_of_random_calls_exactly_those_go_that_an_oracle_names(office, seed):
    draw = random.Random(seed)
    calls = [
        Call(
            f"r{n}",
            *draw.sample(PEOPLE, 2),
            f"ac-{draw.randrange(5):04d}",
            draw.choice(["allowed", "restricted"]),
            LAST_WEEK - timedelta(draw.randrange(3)),
            minute=n,
            answered=draw.random() < 0.8,
        )
        for n in range(200)
    ]
    night(office.site, "random.csv", calls)
    held = office.hold(accounts=("acct-0003",), first=LAST_WEEK - timedelta(1))
    by_number = bool(seed)
    if by_number:
        office.ask("erase", PEOPLE[0])
    else:
        office.ask("erase", None, account="acct-0001")
    stays, attempts = [], 0
    for call in [*CALLS, *calls]:
        mine = PEOPLE[0] in (call.calling, call.called) if by_number else call.account == "ac-0001"
        kept = call.account == "ac-0003" and call.day >= held.first
        if not mine or kept:
            attempts += 1
            stays += [(call.day, call.minute, call.calling, call.called)] * call.answered
    rows = office.site.view("billing").to_pylist()
    found = [
        (r["start"].date(), r["start"].hour * 60 + r["start"].minute - 540, r["calling_number"], r["called_number"])
        for r in rows
    ]
    assert sorted(found) == sorted(stays)
    assert office.site.view("assurance").num_rows == attempts > len(stays)
    office.check_whole()


# -- the row index: attempts that were not billed, and what is left of a person --------------------------------------

# Attempts by, and to, the person that nobody answered: no row of the billing view.
ATTEMPTS = [
    Call("u", ALICE, CAROL, "ac-0001", minute=20, talk_s=15, answered=False),
    Call("v", CAROL, ALICE, "ac-0003", minute=21, talk_s=15, answered=False),
    Call("w", ALICE, HOTLINE, "ac-0001", minute=22, talk_s=15, answered=False),
]


def _indexed(office: Office) -> pa.Table:
    """Every row of every data file of the index that lies on the disk, in whatever state."""
    files = DataFiles(office.site.opened, "test")
    committed = office.site.data_files(INDEX)
    lies = {
        str(path.relative_to(office.settings.lake_path)) for path in office.settings.lake_path.rglob("index/**/*.*")
    }
    assert lies == {file.path for file in committed}
    return pa.concat_tables([files.rows(file) for file in committed], promote_options="default")


def _of_number(office: Office, number: str) -> pa.Table:
    """Rows of the index with a number on either side."""
    rows, token = _indexed(office), {}
    for month in {f"{day:%Y-%m}" for day in (LAST_WEEK, LAST_WEEK - timedelta(3))}:
        secret = token_secret(office.site.opened, "default", month)
        assert secret is not None
        token[month] = number_token(pa.array([number]), secret)[0]
    tokens = pa.array(list(token.values()))
    return rows.filter(pc.or_(pc.is_in(rows["calling_token"], tokens), pc.is_in(rows["called_token"], tokens)))


def test_attempts_that_were_not_billed_are_found_by_number_but_those_to_hotlines_not(office, tmp_path):
    night(office.site, "attempts.csv", ATTEMPTS)
    told = office.told(tmp_path)
    rows = {item["class"]: item["rows"] for item in told["classes"]}
    assert (rows["billing_transaction"], rows["assurance_metrics"]) == (4, 4 + 2) and len(told["calls"]) == 4
    office.ask("restrict")
    assert _seen(office, "assurance", "SELECT count(*) FROM assurance") == [(1,)]
    office.ask("restrict", wants={"lift": True})
    assert office.ask("erase")["rows"] == {"removed": 10 + 3}
    assert office.site.view("assurance").num_rows == 1
    office.check_whole()


def test_nothing_of_an_erased_person_is_left_in_any_file_of_the_index(office):
    again = [*CALLS, replace(CALLS[0], talk_s=90), *ATTEMPTS]  # duplicates and an older version have entries as well
    night(office.site, "again.csv", again)
    before = _of_number(office, ALICE)["record_id"].unique()
    of_person = _indexed(office)
    of_person = of_person.filter(pc.is_in(of_person["record_id"], before))
    assert {"accepted", "duplicate", "suspended"} <= set(of_person["state"].to_pylist())
    office.ask("erase")
    assert _of_number(office, ALICE).num_rows == 0
    left = _indexed(office)
    assert not pc.any(pc.is_in(left["record_id"], before)).as_py()
    assert left.filter(pc.equal(left["state"], "accepted")).num_rows == 1
    night(office.site, "once-more.csv", [*again, Call("x", BOB, CAROL, "ac-0002", minute=40)])
    assert _of_number(office, ALICE).num_rows == 0
    assert not pc.any(pc.is_in(_indexed(office)["record_id"], before)).as_py()
    office.check_whole()


def _sip_call(at: datetime) -> bytes:
    """A call that two lines of a SIP server's log tell of, 90 seconds apart."""
    lines = [("INVITE", 0, ALICE, CAROL), ("BYE", 90, "", "")]
    told = [
        f"{method}|from1|to1|call1|200|OK|{int(at.timestamp()) + after}|{calling}|{called}\n"
        for method, after, calling, called in lines
    ]
    return "".join(told).encode()


def _of_calls(office: Office, calls: pa.Array) -> int:
    """How many rows of the index are of some calls."""
    rows = _indexed(office)
    return pc.sum(pc.is_in(pc.coalesce(rows["call_id"], rows["record_id"]), calls)).as_py() or 0


def test_pieces_of_an_erased_call_leave_the_index_also_past_midnight(workspace, feed_source, tmp_path):
    site = workspace(*(feed_source(name, country="US") for name in ("generic", "opensips", "cucm")))
    office = Office(site, _folder(tmp_path / "persons"))
    late = datetime(LAST_WEEK.year, LAST_WEEK.month, LAST_WEEK.day, 23, 59, 30, tzinfo=UTC)
    pieces, call, measured = (
        _sip_call(late),
        (CDR_HEADER + cucm(7)).encode(),
        (CMR_HEADER + quality(7, 0, 4, 3)).encode(),
    )
    for source, name, data in (("opensips", "acc", pieces), ("cucm", "cdr_1", call), ("cucm", "cmr_1", measured)):
        site.land(source, name, data)
    night(site, "no-others.csv", [])
    merged = _indexed(office).filter(pc.equal(_indexed(office)["state"], "merged"))
    calls = merged["call_id"].unique()
    assert (merged.num_rows, _of_calls(office, calls)) == (2, 4)
    office.ask("erase")
    assert _of_calls(office, calls) == 0
    more = measured + quality(7, 1, 4, 3).encode()  # what its other leg heard comes late
    for source, name, data in (("opensips", "twice", pieces * 2), ("cucm", "cdr_2", call), ("cucm", "cmr_2", more)):
        site.land(source, name, data)
    night(site, "nobody.csv", [])
    assert _of_calls(office, calls) == 0
    assert office.numbers() == [(BOB, CAROL)]
    assert site.unbalanced() == {}


@pytest.mark.parametrize("account", [None, "acct-0001"])
def test_an_index_row_whose_amounts_must_be_kept_loses_the_persons_side_alone(office, account):
    night(office.site, "attempts.csv", ATTEMPTS)
    office.govern(_with_floor("billing_transaction", "6 years"))
    before = {row["record_id"]: row for row in _indexed(office).to_pylist()}
    of_alice = _of_number(office, ALICE)
    office.ask("erase", None if account else ALICE, account=account)
    assert _of_number(office, ALICE).num_rows == (3 if account else 0)  # other accounts called her
    after = {row["record_id"]: row for row in _indexed(office).to_pylist()}
    assert after.keys() == before.keys()
    sides = ("calling_token", "called_token")
    for record_id, row in after.items():
        mine = before[record_id]["account"] == account if account else record_id in of_alice["record_id"].to_pylist()
        lost = sum(before[record_id][side] is not None and row[side] is None for side in sides)
        assert lost == ((2 if account else 1) if mine else 0)
        assert row["account"] == ("erased" if account and mine else before[record_id]["account"])
        assert row["parts"] == before[record_id]["parts"]
    office.check_whole()


def test_the_index_says_which_views_still_hold_a_row(office):
    office.govern(_with_floor("assurance_metrics", "6 years"))
    office.ask("erase")
    assert sorted(_indexed(office)["parts"].to_pylist()) == [2] * 5 + [3]
    assert (office.site.view("billing").num_rows, office.site.view("assurance").num_rows) == (1, len(CALLS))


def test_a_correction_sets_the_account_in_the_index(office):
    office.ask("correct", None, account="acct-0001", wants={"account": "acct-0005"})
    remove_superseded(office.settings, "")
    assert sorted(_indexed(office)["account"].to_pylist()) == ["acct-0002"] * 2 + ["acct-0003"] + ["acct-0005"] * 3
    assert office.ask("correct", None, account="acct-0001", wants={"account": "acct-0002"})["refusal"] == "NOT_FOUND"


def test_rows_are_marked_without_reading_a_view(office, monkeypatch):
    read = DataFiles._read_rows

    def of_index_alone(self, file, keys, columns, **how):
        assert file.view == INDEX
        return read(self, file, keys, columns, **how)

    with monkeypatch.context() as patch:
        patch.setattr(DataFiles, "_read_rows", of_index_alone)
        office.ask("restrict")
        office.ask("restrict", None, account="acct-0003")
    assert _seen(office, "assurance", "SELECT count(*) FROM assurance") == [(1,)]


@pytest.mark.parametrize("kind", ["access", "erase", "restrict"])
def test_an_index_file_that_is_lost_or_cut_is_named_and_nothing_is_answered(office, tmp_path, kind):
    before = office.site.view("billing")
    file = office.site.data_files(INDEX)[0]
    path = office.settings.lake_path / file.path
    if kind == "erase":
        path.write_bytes(path.read_bytes()[:-40])
    else:
        path.unlink()
    with pytest.raises(Problem, match=f"row index file {file.file_id} of {file.part} (is not in the lake|was altered)"):
        office.ask(kind, to=tmp_path / "answer.json" if kind == "access" else None)
    assert office.site.view("billing").equals(before) and not (tmp_path / "answer.json").exists()
    (request,) = request_register.list_requests(office.settings)
    assert request.status == "open"


def test_rows_that_the_index_does_not_know_stop_a_request(office):
    file = office.site.data_files(INDEX)[0]
    with database.writing(office.settings) as connection:
        connection.execute(update(lake_files).where(lake_files.c.file_id == file.file_id).values(view="held-index"))
    with pytest.raises(Problem, match=f"rows that the row index of {file.part} does not know"):
        office.ask("erase")
    assert len(office.numbers()) == len(CALLS)


# -- correct ---------------------------------------------------------------------------------------------------------


def test_a_correction_sets_the_account_and_moves_the_sums(office):
    done = office.ask("correct", None, account="acct-0001", wants={"account": "acct-0005"})
    assert sorted(set(office.site.view("billing")["account"].to_pylist())) == ["acct-0002", "acct-0003", "acct-0005"]
    assert (done["status"], done["rows"]) == ("answered", {"corrected": 3})
    for table in BY_ACCOUNT:
        assert office.accounts(table) == {"acct-0002", "acct-0003", "acct-0005"}
    office.check_whole()


def test_a_correction_of_attempts_that_were_not_billed_is_counted(office):
    night(office.site, "attempts.csv", [Call("y", BOB, CAROL, "ac-0009", minute=23, answered=False)])
    done = office.ask("correct", None, account="acct-0009", wants={"account": "acct-0005"})
    assert (done["status"], done["rows"]) == ("answered", {"corrected": 1})
    assert office.accounts(sla_account_daily) == {f"acct-000{n}" for n in (1, 2, 3, 5)}
    office.check_whole()


def test_numbers_times_and_amounts_are_not_corrected_but_a_statement_is_kept(office):
    before = office.site.view("billing")
    with pytest.raises(UsageProblem):
        office.ask("correct", wants={})
    done = office.ask("correct", wants={"statement": "I never made that call."})
    assert (done["status"], done["refusal"]) == ("refused", "AS_RECORDED")
    assert request_register.find(office.settings, done["request_id"]).wants == {"statement": "I never made that call."}
    assert office.site.view("billing").equals(before)


# -- while others commit ---------------------------------------------------------------------------------------------

_ERASED = {"kind": "erase"}
_CORRECTED = {"kind": "correct", "number": None, "account": "acct-0001", "wants": {"account": "acct-0005"}}


def _another_before(office: Office, monkeypatch: pytest.MonkeyPatch, times: int = 1) -> list[str]:
    """Let others commit to the newest date of CALLS when the person's rows are written anew."""
    return comes_between(monkeypatch, "view-written", lambda: commit_another(office.site, f"{LAST_WEEK}"), times)


@pytest.mark.parametrize(("asked", "rows"), [(_ERASED, {"removed": 10}), (_CORRECTED, {"corrected": 3})])
def test_a_request_that_another_commit_came_before_is_answered_once(office, asked, rows, monkeypatch):
    passed = _another_before(office, monkeypatch)
    done = office.ask(**asked)
    assert passed.count("request-committed") == 1 and done["rows"] == rows
    assert len(office.all(certificates)) == (asked is _ERASED)
    office.check_whole()
    remove_superseded(office.settings, "")
    assert strays(office.site) == []


@pytest.mark.parametrize("asked", [_ERASED, _CORRECTED])
def test_a_request_that_another_commit_always_comes_before_stays_open_and_changes_nothing(office, asked, monkeypatch):
    before, (entries, derived) = office.site.view("billing"), (office.site.entries(), office.site.derived())
    with monkeypatch.context() as patched, pytest.raises(Problem, match="nothing was changed: answer it later"):
        _another_before(office, patched, ALWAYS)
        patched.setattr("callward.lake.conflicts.TRIES", 2)
        office.ask(**asked)
    assert office.site.view("billing").equals(before)
    assert (office.site.entries(), office.site.derived()) == (entries, derived)
    assert office.all(suppressions) == office.all(certificates) == []
    (request,) = request_register.list_requests(office.settings)
    assert request.status == "open"


# -- restrict --------------------------------------------------------------------------------------------------------


def _seen(office: Office, role: str, sql: str) -> list[tuple[Any, ...]]:
    rows = query.query(office.settings, role, sql)
    return [tuple(row.values()) for row in rows.to_pylist()]


def test_restricted_rows_are_shown_to_no_one_until_the_restriction_is_lifted(office):
    count = "SELECT count(*) FROM {}"
    office.ask("restrict")
    for view in ("billing", "assurance"):
        assert _seen(office, view, count.format(view)) == [(1,)]
    case = query.query(office.settings, "billing", "SELECT called_number FROM billing", purpose="dispute", case="c7")
    assert case["called_number"].to_pylist() == [CAROL]
    assert office.site.view("billing").num_rows == len(CALLS)
    office.ask("restrict", wants={"lift": True})
    assert _seen(office, "billing", count.format("billing")) == [(len(CALLS),)]
    assert [row for row in office.all(restrictions) if row.until is None] == []


# Calls of nobody who is restricted, and one of an account that is.
OTHERS = [
    Call("p", BOB, CAROL, "ac-0002", minute=6, talk_s=90),
    Call("q", CAROL, BOB, "ac-0003", minute=7, direction="inbound"),
    Call("r", CAROL, BOB, "ac-0004", minute=8),
    Call("s", ALICE, CAROL, "ac-0001", minute=9, answered=False),
    Call("t", CAROL, BOB, "ac-0003", minute=10, answered=False),
    Call("v", CAROL, BOB, "ac-0004", minute=11, answered=False),
]
SHOWN = {
    "billing": [call.minute for call in (*CALLS, *OTHERS) if call.name in "cpq"],
    "assurance": [call.pdd_ms for call in (*CALLS, *OTHERS) if call.name in "cpqt"],
}


def _tells(view: str, rows: pa.Table) -> pa.ChunkedArray:
    """Which call each row of a view is of, by what the view tells of it."""
    return pc.minute(rows["start"]) if view == "billing" else rows["pdd_ms"]


def _attempts(office: Office) -> pa.Table:
    """The assurance view as SQL has it: its parts one after the other."""
    parts = [(part, office.site.view(part)) for part in PARTS["assurance"]]
    named = [rows.rename_columns({f"{part}_id": "assurance_id"}) for part, rows in parts]
    return pa.concat_tables(named, promote_options="default")


@pytest.fixture(scope="module")
def restricted(workspace, feed_source, tmp_path_factory):
    """An office where one person is restricted by number and another by account, before and after a night."""
    office = _office(workspace, feed_source, tmp_path_factory.mktemp("persons"))
    for whom in ({"number": ALICE}, {"number": None, "account": "acct-0004"}):
        office.ask("restrict", **whom)
    night(office.site, "others.csv", OTHERS)
    return office


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM {view}",
        "SELECT count(*) FROM {view} WHERE {talk} >= 0",
        "SELECT count(*), count(source) FROM {view} WHERE source = 'generic'",
        "SELECT count(*) FROM {view} WHERE start IS NOT NULL OR {talk} IS NULL",
        "SELECT count(*) FILTER (WHERE {talk} > 0), sum({talk}) FROM {view}",
        "SELECT {talk} FROM {view} ORDER BY ALL",
        "SELECT minute(start), {talk} FROM {view} WHERE {talk} BETWEEN 1 AND 1000000 ORDER BY ALL",
        "SELECT source, sum({talk}), min(start), max(start) FROM {view} GROUP BY ALL",
        "SELECT DISTINCT {account} FROM {view} WHERE {account} IS NOT NULL ORDER BY ALL",
        "SELECT a.start FROM {view} a JOIN {view} b USING ({view}_id) WHERE b.{talk} > 0 ORDER BY ALL",
        "SELECT minute(start) FROM (SELECT * FROM {view} LIMIT 100) WHERE {talk} > 0 ORDER BY ALL",
        "SELECT count(*) FROM (SELECT 1 FROM {view} WHERE {talk} > 0 LIMIT 5)",
        "SELECT {view}_id FROM {view} WHERE {other}",
        "WITH rows AS (SELECT * FROM {view} WHERE {talk} = 60 * {unit}) SELECT count(*) FROM rows",
    ],
)
@pytest.mark.parametrize("view", ["billing", "assurance"])
def test_no_filter_projection_or_count_shows_restricted_rows(restricted, view, sql):
    words = {
        "billing": {
            "talk": "talk_ms",
            "account": "account",
            "unit": 1000,
            "other": "minute(start) IN (0, 1, 3, 4, 5, 8)",
        },
        "assurance": {
            "talk": "pdd_ms",
            "account": "disposition",
            "unit": 5,
            "other": "pdd_ms IN (100, 200, 400, 500, 600, 900, 1000, 1200)",
        },
    }[view]
    asked = sql.format(view=view, **words)
    held = restricted.site.view("billing") if view == "billing" else _attempts(restricted)
    assert held.num_rows == len(CALLS) + len(OTHERS) - (3 if view == "billing" else 0)
    held = held.filter(pc.is_in(_tells(view, held), pa.array(SHOWN[view])))
    with duckdb.connect() as connection:
        connection.register(view, held)
        assert _seen(restricted, view, asked) == connection.execute(asked).fetchall()


def test_no_head_shows_restricted_rows(restricted):
    for view in ("billing", "assurance"):
        for sql in (f"SELECT * FROM {view}", f"SELECT * FROM {view} WHERE start IS NOT NULL"):
            heads = [query.query(restricted.settings, view, sql, limit=limit) for limit in (1, 3, 100)]
            assert [len(head) for head in heads] == [1, 3, len(SHOWN[view])]
            assert {told for head in heads for told in _tells(view, head).to_pylist()} == set(SHOWN[view])


def test_a_case_shows_no_restricted_persons_number_to_whoever_asks_for_it(restricted):
    case = {"purpose": "dispute", "case": "c7"}
    for sql in (
        f"SELECT count(*) FROM billing WHERE calling_number = '{ALICE}' OR called_number = '{ALICE}'",
        f"SELECT count(*) FROM billing WHERE calling_number IN ('{ALICE}') AND talk_ms > 0",
        "SELECT count(*) FROM billing WHERE calling_token = (SELECT min(calling_token) FROM billing WHERE account = "
        "'acct-0001')",
        "SELECT count(*) FROM billing WHERE account IN ('acct-0001', 'acct-0004')",
    ):
        assert query.query(restricted.settings, "billing", sql, **case).to_pylist() == [{"count_star()": 0}]
    numbers = query.query(restricted.settings, "billing", "SELECT calling_number AS n FROM billing", **case)
    assert sorted(numbers["n"].to_pylist()) == [BOB, BOB, CAROL]


def test_no_filter_shows_a_restricted_accounts_sums(restricted):
    for sql in (
        "SELECT count(*) FROM billing_usage_daily WHERE account = 'acct-0004'",
        "SELECT count(*) FROM billing_usage_monthly WHERE account = 'acct-0004' AND calls > 0",
    ):
        assert _seen(restricted, "billing", sql) == [(0,)]
    # Support sees one account's by a case, and of a restricted one none (tests/callward/access/test_cases.py).
    assert [role for role in ROLES if sla_account_daily.name in query.tables_of(role)] == ["support"]


@pytest.mark.parametrize("part", PARTS["assurance"])
def test_no_part_shows_restricted_rows(restricted, part):
    calls = [call for call in (*CALLS, *OTHERS) if call.answered is (part == "answered")]
    shown = [call.pdd_ms for call in calls if call.name in "cpqt"]
    assert restricted.site.view(part).num_rows == len(calls) > len(shown) > 0
    for where in ("", "WHERE pdd_ms > 0", "WHERE disposition IS NOT NULL OR start IS NULL"):
        asked = f"SELECT pdd_ms FROM {part} {where} ORDER BY 1"
        assert _seen(restricted, "assurance", asked) == [(pdd,) for pdd in shown]
    assert _seen(restricted, "assurance", f"SELECT count(*) FROM {part}") == [(len(shown),)]


def test_releases_which_read_the_index_see_no_restricted_records(restricted):
    hidden = register.hidden(restricted.settings, restricted.site.opened.keyring, INDEX)["default"]
    rows = _indexed(restricted)
    assert rows.num_rows == len(CALLS) + len(OTHERS) and not hidden.files
    used = ds.dataset(rows).filter(~hidden.rows(INDEX)).to_table()
    assert sorted(used["pdd_ms"].to_pylist()) == SHOWN["assurance"]


def test_a_file_committed_while_rows_are_marked_is_not_shown_before_the_next_marking(office, monkeypatch):
    look = register.search

    def commit_meanwhile(*asked):
        monkeypatch.setattr(register, "search", look)
        with monkeypatch.context() as patch:
            patch.setattr(register, "mark", lambda settings, **_: 0)  # the night has not come to its own marking
            night(office.site, "later.csv", [Call("h", ALICE, CAROL, minute=30), Call("i", BOB, CAROL, minute=31)])
        return look(*asked)

    monkeypatch.setattr(register, "search", commit_meanwhile)
    office.ask("restrict")
    counts = {view: f"SELECT count(*) FROM {view} WHERE start IS NOT NULL" for view in ("billing", "assurance")}
    assert office.site.view("billing").num_rows == len(CALLS) + 2
    assert [_seen(office, view, sql) for view, sql in counts.items()] == [[(1,)], [(1,)]]
    register.mark(office.settings)
    assert [_seen(office, view, sql) for view, sql in counts.items()] == [[(2,)], [(2,)]]


def test_a_restricted_account_is_in_no_view_and_in_no_sum(office):
    office.ask("restrict", None, account="acct-0001")
    assert _seen(office, "billing", "SELECT count(*) FROM billing") == [(3,)]
    assert _seen(office, "assurance", "SELECT count(*) FROM assurance") == [(3,)]
    accounts = _seen(office, "billing", "SELECT DISTINCT account FROM billing_usage_daily ORDER BY 1")
    assert accounts == [("acct-0002",), ("acct-0003",)]
    assert _seen(office, "billing", "SELECT sum(calls) FROM billing_usage_monthly") == [(3,)]


def test_what_comes_in_later_is_restricted_as_well(office):
    office.ask("restrict")
    night(office.site, "later.csv", [Call("h", ALICE, CAROL, minute=30), Call("i", BOB, CAROL, minute=31)])
    assert _seen(office, "billing", "SELECT count(*) FROM billing") == [(2,)]
    assert _seen(office, "assurance", "SELECT count(*) FROM assurance") == [(2,)]


def test_rows_that_nobody_has_looked_at_are_not_shown(office, monkeypatch):
    office.ask("restrict")
    monkeypatch.setattr(register, "mark", lambda settings, **_: 0)
    night(office.site, "later.csv", [Call("h", ALICE, CAROL, minute=30)])
    assert _seen(office, "billing", "SELECT count(*) FROM billing") == [(1,)]


def test_the_register_of_restrictions_joins_no_views(office):
    office.ask("restrict")
    marks = {bytes.fromhex(row.selector) for row in office.all(restrictions)}
    ids = {part: set(office.site.view(part)[ID_COLUMN[part]].to_pylist()) for part in VIEW_PARTS}
    assert ids["answered"] and marks.isdisjoint(set().union(*ids.values()))


# -- the command line ------------------------------------------------------------------------------------------------


def _command(office: Office, *words: str) -> Any:
    return run("request", *words, "--config", str(office.settings.path))


def test_the_number_may_come_from_a_file_and_is_never_printed(office, tmp_path):
    (tmp_path / "number").write_text("(303) 555-0101\n")
    who = ["--person", "first.person", "--key", str(office.keys / "first.person"), "--regime", "us"]
    whom = ["--tenant", "default", "--number-file", str(tmp_path / "number"), "--identity", "seen"]
    database.engine(office.settings).dispose()
    tried = _command(office, "erase", *whom, *who, "--dry-run", "--json").check_clean([ALICE, BOB, CAROL])
    assert tried.document["found"] == {"billing": 4, "assurance": 4}
    ended = _command(office, "access", *whom, *who, "--to", str(tmp_path / "a.json"), "--json").check_clean(
        [ALICE, BOB]
    )
    assert ended.document["calls"] == 4 and len(json.loads((tmp_path / "a.json").read_text())["calls"]) == 4


def test_an_overdue_request_makes_the_list_end_with_three(office):
    office.ask("access", identity="", received=TODAY - timedelta(80))
    database.engine(office.settings).dispose()
    listed = _command(office, "list", "--json").check_clean([ALICE])
    assert listed.code == 3 and listed.document[0]["days_left"] < 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "charge=0"], "stay as recorded"),
        (["--set", "account=nobody"], "no such account"),
        (["--set", "direction=sideways"], "one of"),
        (["--set", "direction=inbound", "--from", "yesterday"], "a date such as"),
    ],
)
def test_a_correction_that_cannot_be_is_one_sentence(office, words, said):
    who = [
        "--person",
        "first.person",
        "--key",
        str(office.keys / "first.person"),
        "--regime",
        "us",
        "--identity",
        "seen",
    ]
    database.engine(office.settings).dispose()
    ended = _command(office, "correct", "--tenant", "default", "--account", "acct-0001", *words, *who).check_clean()
    assert ended.code == 2 and len(ended.sentences) == 1 and said in ended.err
