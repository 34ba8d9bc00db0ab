"""Legal holds: what they match, who may know of them, and a register that would rather stop a purge than lose one."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, update

from callward import audit, database, identity
from callward.errors import Problem, UsageProblem
from callward.initiate import root_file
from callward.keys import approvers, exports, signing, tokens
from callward.keys.register import KeyName
from callward.lake.data_files import DataFiles
from callward.retention import holds
from callward.retention.holds import Hold, HoldUnreadable, MonthSecrets, sealed
from callward.retention.purge.index_rows import IndexRows
from callward.settings import Settings
from schemas import retention
from schemas.cdr import FEW, ID
from schemas.retention_classes import Window
from schemas.tables import audit_log, keys
from schemas.views import FOUND_BY, PARTS, TOKENS, VIEW_PARTS
from tests import retention as scenes
from tests.altered import altered
from tests.examples import tries

TODAY = date(2026, 3, 6)
NUMBER, SECOND, THIRD = "+15555550101", "+15555550102", "+15555550103"
HUSH = date(2026, 6, 1)


def order(**changes: Any) -> Hold:
    """A hold as a person asks for it."""
    usual: dict[str, Any] = {"tenant": "default", "kind": "litigation", "authority": "the court", "case": "case A"}
    return Hold(hold_id="", **(usual | changes))


def secret_order(**changes: Any) -> Hold:
    return order(case="whispered", numbers=(NUMBER,), confidential_until=HUSH, **changes)


@pytest.fixture
def settings(workspace: Callable[..., Any]) -> Settings:
    found: Settings = workspace("asterisk").settings
    return found


@pytest.fixture
def approver(settings: Settings, tmp_path: Path) -> Path:
    """The key file of a registered person called "approver"."""
    file = tmp_path / "approver.key"
    approvers.register(settings, "approver", signing.create(file).hex())
    return file


def state_of(settings: Settings, hold_id: str, today: date) -> str:
    return str(holds.read_hold(settings, hold_id, holds.LEGAL, today).state)


def blocking(settings: Settings, today: date) -> list[str]:
    return [hold.hold_id for hold in holds.opened(settings, today=today)]


def any_open(settings: Settings) -> bool:
    with database.reading(settings) as connection:
        return holds.any_open(connection)


def rows_of(settings: Settings, table: Any) -> list[dict[str, Any]]:
    with database.reading(settings) as connection:
        return [dict(row._mapping) for row in connection.execute(select(table))]


# -- the register ------------------------------------------------------------------------------------------------------

_WORDS = st.text(st.characters(min_codepoint=32, exclude_categories=["C", "Z"]), min_size=1, max_size=12)
_DAYS = st.dates(date(2025, 1, 1), date(2027, 1, 1))
_ORDERS = st.builds(
    order,
    kind=st.sampled_from(["litigation", "dispute", "regulator", "traceback"]),
    authority=_WORDS,
    case=_WORDS,
    first=st.none() | st.dates(date(2025, 1, 1), date(2025, 6, 1)),
    last=st.none() | st.dates(date(2025, 6, 1), date(2025, 12, 1)),
    accounts=st.lists(_WORDS, max_size=3).map(tuple),
    numbers=st.lists(st.sampled_from([NUMBER, SECOND, THIRD]), max_size=2).map(tuple),
    trunks=st.lists(_WORDS, max_size=3).map(tuple),
    expires_on=st.none() | st.dates(TODAY + timedelta(1), date(2030, 1, 1)),
    tail=st.builds(Window, st.integers(1, 999), st.sampled_from(["day", "month", "year"])),
    confidential_until=st.none() | _DAYS,
)


@pytest.fixture(scope="module")
def shared(workspace: Callable[..., Any]) -> Settings:
    found: Settings = workspace("asterisk").settings
    return found


@tries(20)
@given(wanted=_ORDERS)
def test_a_hold_comes_back_as_it_was_placed(shared: Settings, wanted: Hold) -> None:
    made = holds.place(shared, wanted, TODAY, unlisted=True)
    kept = {hold.hold_id: hold for hold in holds.opened(shared, today=TODAY)}[made.hold_id]
    assert kept == made
    assert replace(kept, hold_id="", placed_by="", placed_at=None) == wanted
    assert kept.placed_by == identity.who()


def test_nothing_but_id_state_and_times_is_in_the_clear(settings: Settings) -> None:
    made = holds.place(settings, order(case="whispered", accounts=("acct-0007",), numbers=(NUMBER,)), TODAY)
    (row,) = rows_of(settings, retention.holds)
    assert set(row) == {"hold_id", "state", "placed_at", "released_at", "body", "digest", "version"}
    database.engine(settings).dispose()
    for path in [p for p in settings.folder.rglob("*") if p.is_file() and p.suffix != ".toml"]:
        data = path.read_bytes()
        assert [word for word in (b"whispered", NUMBER[1:].encode(), b"litigation") if word in data] == []
    assert made.hold_id in repr(made) and "whispered" not in repr(made) and NUMBER[1:] not in repr(made)


def test_neither_the_register_of_keys_nor_the_audit_log_tells_whose_data_is_held(settings: Settings) -> None:
    holds.place(settings, order(), TODAY)
    assert {row["tenant"] for row in rows_of(settings, keys) if row["domain"] == "hold"} == {"_all"}
    told = [row for row in rows_of(settings, audit_log) if "hold" in row["event"] + row["subject"] + row["reason"]]
    assert told and all("default" not in row["subject"] + row["reason"] for row in told)


def test_bodies_of_few_and_of_many_numbers_have_one_length(settings: Settings) -> None:
    holds.place(settings, order(), TODAY)
    holds.place(settings, order(numbers=(NUMBER, SECOND, THIRD), accounts=("acct-0007",)), TODAY)
    assert len({len(row["body"]) for row in rows_of(settings, retention.holds)}) == 1


def test_each_change_is_audited_by_id_and_digest_alone(settings: Settings, approver: Path) -> None:
    made = holds.place(settings, secret_order(kind="preservation"), TODAY)
    digests = [rows_of(settings, retention.holds)[0]["digest"]]
    holds.renew(settings, made.hold_id, TODAY, role=holds.LEGAL)
    digests += [rows_of(settings, retention.holds)[0]["digest"]]
    holds.release(settings, made.hold_id, "approver", approver, TODAY, role=holds.LEGAL)
    digests += [rows_of(settings, retention.holds)[0]["digest"]]
    changes = [row for row in rows_of(settings, audit_log) if row["event"].startswith("hold-")]
    assert [(row["event"], row["subject"]) for row in changes] == [
        (event, f"{made.hold_id} {digest}")
        for event, digest in zip(("hold-place", "hold-renew", "hold-release"), digests, strict=True)
    ]
    assert len(set(digests)) == 3
    assert {row["role"] for row in changes} == {holds.SERVICE}  # legal's would tell which are confidential
    assert rows_of(settings, retention.holds)[0]["version"] == 3


def test_the_fingerprint_is_another_one_after_each_change(settings: Settings, approver: Path) -> None:
    def print_of() -> str:
        with database.reading(settings) as connection:
            return holds.fingerprint(connection)

    found = [print_of()]
    made = holds.place(settings, order(kind="preservation"), TODAY)
    found.append(print_of())
    assert print_of() == found[-1]
    holds.renew(settings, made.hold_id, TODAY)
    found.append(print_of())
    holds.release(settings, made.hold_id, "approver", approver, TODAY)
    found.append(print_of())
    assert len(set(found)) == 4


def test_a_dry_run_changes_nothing(settings: Settings, approver: Path) -> None:
    made = holds.place(settings, order(kind="preservation"), TODAY)
    before = rows_of(settings, retention.holds), rows_of(settings, retention.approvals)
    holds.place(settings, order(), TODAY, dry_run=True)
    holds.renew(settings, made.hold_id, TODAY, dry_run=True)
    holds.release(settings, made.hold_id, "approver", approver, TODAY, dry_run=True)
    assert (rows_of(settings, retention.holds), rows_of(settings, retention.approvals)) == before


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "whim"}, "litigation, preservation"),
        ({"case": " "}, "--case"),
        ({"authority": "two\nlines"}, "--authority"),
        ({"first": date(2026, 3, 2), "last": date(2026, 3, 1)}, "--from is after --to"),
        ({"kind": "dispute"}, "--tail"),
        ({"expires_on": TODAY}, "not in the future"),
        ({"kind": "preservation", "expires_on": TODAY + timedelta(91)}, "90 days at most"),
        ({"tenant": "nobody"}, "no tenant"),
        ({"accounts": ("acct-9999",)}, "--account"),
        ({"trunks": ("no-such",)}, "--trunk"),
    ],
)
def test_a_wrong_order_is_refused_and_leaves_nothing(settings: Settings, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageProblem, match=told):
        holds.place(settings, order(**changes), TODAY)
    assert rows_of(settings, retention.holds) == []


# -- orders, terms, tails ----------------------------------------------------------------------------------------------


def test_a_preservation_order_runs_90_days_and_is_extended_by_90(settings: Settings) -> None:
    made = holds.place(settings, order(kind="preservation"), TODAY)
    assert made.expires_on == date(2026, 6, 4)
    renewed = holds.renew(settings, made.hold_id, TODAY + timedelta(10))
    assert renewed.expires_on == date(2026, 9, 2)
    late = holds.renew(settings, made.hold_id, date(2026, 12, 1))
    assert late.expires_on == date(2027, 3, 1)
    with pytest.raises(UsageProblem, match="90 days"):
        holds.renew(settings, made.hold_id, TODAY, expires_on=date(2028, 1, 1))


def test_another_order_is_renewed_to_a_later_date_only(settings: Settings) -> None:
    made = holds.place(settings, order(expires_on=date(2026, 9, 1)), TODAY)
    for wrong in (None, TODAY, date(2026, 9, 1)):
        with pytest.raises(UsageProblem, match="--expires"):
            holds.renew(settings, made.hold_id, TODAY, expires_on=wrong)
    assert holds.renew(settings, made.hold_id, TODAY, expires_on=date(2027, 1, 1)).expires_on == date(2027, 1, 1)


def test_an_order_warns_14_days_before_and_blocks_past_its_end(settings: Settings) -> None:
    made = holds.place(settings, order(kind="preservation"), TODAY)
    ends = made.expires_on
    assert ends is not None
    assert holds.warnings(settings, ends - timedelta(15)) == []
    (soon,) = holds.warnings(settings, ends - timedelta(14))
    assert f"expires on {ends}, in 14 days" in soon
    (last,) = holds.warnings(settings, ends)
    assert "in 0 days" in last
    (over,) = holds.warnings(settings, ends + timedelta(400))
    assert f"expired on {ends}" in over
    assert [state_of(settings, made.hold_id, ends + timedelta(n)) for n in (-15, -14, 0, 1)] == [
        *("open", "expiring", "expiring", "expired")
    ]
    assert blocking(settings, ends + timedelta(400)) == [made.hold_id]


def test_a_released_hold_blocks_no_more(settings: Settings, approver: Path) -> None:
    made = holds.place(settings, order(), TODAY)
    assert any_open(settings)
    holds.release(settings, made.hold_id, "approver", approver, TODAY)
    assert blocking(settings, TODAY) == []
    assert not any_open(settings)
    assert state_of(settings, made.hold_id, TODAY) == "released"
    with pytest.raises(UsageProblem, match="released"):
        holds.renew(settings, made.hold_id, TODAY, expires_on=HUSH)
    with pytest.raises(UsageProblem, match="already"):
        holds.release(settings, made.hold_id, "approver", approver, TODAY)


@pytest.mark.parametrize(
    ("released", "tail", "last"),
    [
        (date(2028, 2, 29), "1 year", date(2029, 2, 28)),
        (date(2026, 1, 31), "1 month", date(2026, 2, 28)),
        (date(2026, 3, 6), "10 days", date(2026, 3, 16)),
    ],
)
def test_a_dispute_blocks_through_its_tail(
    settings: Settings, approver: Path, released: date, tail: str, last: date
) -> None:
    made = holds.place(settings, order(kind="dispute", tail=Window.parse(tail)), released - timedelta(5))
    holds.release(settings, made.hold_id, "approver", approver, released)
    assert blocking(settings, last) == [made.hold_id]
    assert blocking(settings, last + timedelta(1)) == []
    assert [state_of(settings, made.hold_id, last + timedelta(n)) for n in (0, 1)] == ["tail", "released"]


def test_a_tail_keeps_late_records_waiting(settings: Settings, approver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = holds.place(settings, order(kind="dispute", tail=Window.parse("10 days")), TODAY)
    holds.release(settings, made.hold_id, "approver", approver, TODAY)
    for day, blocks in ((16, True), (17, False)):
        monkeypatch.setattr(database, "now", lambda day=day: datetime(2026, 3, day, 12))
        assert any_open(settings) is blocks
        assert bool(holds.opened(settings)) is blocks


def test_only_a_registered_person_releases(settings: Settings, approver: Path, tmp_path: Path) -> None:
    made = holds.place(settings, order(), TODAY)
    stranger = tmp_path / "stranger.key"
    signing.create(stranger)
    for person, key in (("stranger", stranger), ("approver", stranger), ("approver", tmp_path / "none.key")):
        with pytest.raises(Problem):
            holds.release(settings, made.hold_id, person, key, TODAY)
    approvers.revoke(settings, "approver")
    with pytest.raises(Problem):
        holds.release(settings, made.hold_id, "approver", approver, TODAY)
    assert blocking(settings, TODAY) == [made.hold_id]


def test_an_approval_that_is_not_valid_releases_nothing(
    settings: Settings, approver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = holds.place(settings, order(), TODAY)
    monkeypatch.setattr(approvers, "approve", lambda *_: None)
    with pytest.raises(Problem, match="not valid"):
        holds.release(settings, made.hold_id, "approver", approver, TODAY)
    assert blocking(settings, TODAY) == [made.hold_id]


def test_a_hold_that_someone_else_changed_meanwhile_is_not_released(
    settings: Settings, approver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, approve = holds.place(settings, order(kind="preservation"), TODAY), approvers.approve

    def renewed_meanwhile(*given: Any) -> None:
        approve(*given)
        holds.renew(settings, made.hold_id, TODAY)

    monkeypatch.setattr(approvers, "approve", renewed_meanwhile)
    with pytest.raises(Problem, match="somebody else"):
        holds.release(settings, made.hold_id, "approver", approver, TODAY)
    assert blocking(settings, TODAY) == [made.hold_id]


# -- fail closed -------------------------------------------------------------------------------------------------------


def _write(settings: Settings, *statements: Any) -> None:
    with database.writing(settings) as connection:
        for statement in statements:
            connection.execute(statement)


def _flip(settings: Settings, first: dict[str, Any], _: dict[str, Any]) -> None:
    """A byte of the body, with a digest that fits, there and in the table; the log keeps the old one."""
    body = altered(first["body"], len(first["body"]) // 2)
    digest = hashlib.sha256(body).hexdigest()
    _change_row(settings, first, body=body, digest=digest)


def _swap(settings: Settings, first: dict[str, Any], second: dict[str, Any]) -> None:
    _change_row(settings, first, body=second["body"], digest=second["digest"])


def _slip_in(settings: Settings, first: dict[str, Any], _: dict[str, Any]) -> None:
    _write(settings, insert(retention.holds).values(**{**first, "hold_id": "0" * 16}))


def _lose(settings: Settings, first: dict[str, Any], _: dict[str, Any]) -> None:
    _write(settings, delete(retention.holds).where(retention.holds.c.hold_id == first["hold_id"]))


def _forget(settings: Settings, first: dict[str, Any], _: dict[str, Any]) -> None:
    """The row and its entry in the log: the chain of the log shows it."""
    _lose(settings, first, _)
    _write(settings, delete(audit_log).where(audit_log.c.subject.startswith(first["hold_id"])))


def _rename_entry(settings: Settings, first: dict[str, Any], _: dict[str, Any]) -> None:
    _lose(settings, first, _)
    _write(settings, update(audit_log).where(audit_log.c.subject.startswith(first["hold_id"])).values(event="open"))


def _take_root(settings: Settings, *_: Any) -> None:
    file = root_file(settings, "hold")
    assert file is not None
    file.unlink()


def _destroy_key(settings: Settings, *_: Any) -> None:
    _write(settings, update(keys).where(keys.c.domain == "hold").values(state="destroyed", blob=None))


def _change_row(settings: Settings, row: dict[str, Any], **values: Any) -> None:
    _write(settings, update(retention.holds).where(retention.holds.c.hold_id == row["hold_id"]).values(**values))


_DAMAGE: dict[str, Callable[..., None]] = {
    "the root is gone": _take_root,
    "the key was destroyed": _destroy_key,
    "a body was altered": _flip,
    "a body is another hold's": _swap,
    "a digest was altered": lambda s, a, _: _change_row(s, a, digest="0" * 64),
    "a version was altered": lambda s, a, _: _change_row(s, a, version=2),
    "a row is marked released": lambda s, a, _: _change_row(s, a, state="released", released_at=datetime(2026, 1, 1)),
    "a row has an end": lambda s, a, _: _change_row(s, a, released_at=datetime(2026, 1, 1)),
    "a row was placed at another time": lambda s, a, _: _change_row(s, a, placed_at=datetime(2026, 1, 1)),
    "a row was lost": _lose,
    "a row was slipped in": _slip_in,
    "a row and its entry were lost": _forget,
    "a row was lost and its entry renamed": _rename_entry,
}


@pytest.mark.parametrize("damage", _DAMAGE.values(), ids=_DAMAGE)
def test_a_register_that_cannot_be_relied_on_stops_everything(settings: Settings, damage: Callable[..., None]) -> None:
    first = holds.place(settings, secret_order(), TODAY)
    holds.place(settings, order(), TODAY)
    rows = {row["hold_id"]: row for row in rows_of(settings, retention.holds)}
    damage(settings, rows.pop(first.hold_id), *rows.values())
    for ask in (
        lambda: holds.opened(settings, today=TODAY),
        lambda: holds.list_holds(settings, holds.COMPLIANCE, TODAY),
        lambda: holds.warnings(settings, TODAY),
        lambda: holds.renew(settings, first.hold_id, TODAY, expires_on=HUSH, role=holds.LEGAL),
    ):
        with pytest.raises(HoldUnreadable, match="nothing is purged") as raised:
            ask()
        assert "whispered" not in str(raised.value) and first.hold_id not in str(raised.value)
    assert any_open(settings)


def test_an_older_version_put_back_is_noticed(settings: Settings) -> None:
    made = holds.place(settings, order(kind="preservation"), TODAY)
    (old,) = rows_of(settings, retention.holds)
    holds.renew(settings, made.hold_id, TODAY)
    _write(settings, update(retention.holds).values(**old))
    with pytest.raises(HoldUnreadable):
        holds.opened(settings, today=TODAY)


def test_a_body_that_was_sealed_anew_beside_the_log_is_noticed(settings: Settings) -> None:
    """Whoever holds the hold root still cannot make a hold narrower: the log has the digest."""
    made = holds.place(settings, order(), TODAY)
    narrower = sealed.row_of(sealed.sealer_of(settings, "test"), replace(made, trunks=("other",)), 1)
    for values in (narrower, {"body": narrower["body"]}, {"digest": narrower["digest"]}):
        before = rows_of(settings, retention.holds)[0]
        _write(settings, update(retention.holds).values(**values))
        with pytest.raises(HoldUnreadable):
            holds.opened(settings, today=TODAY)
        _write(settings, update(retention.holds).values(**before))
    assert holds.opened(settings, today=TODAY) == [made]


def test_a_late_record_that_does_not_say_its_day_is_kept() -> None:
    found = [Hold("1", "default", "litigation", "a", "c", first=date(2026, 3, 1), last=date(2026, 3, 9))]
    days = pa.array([None, date(2026, 3, 1), date(2026, 2, 28), date(2026, 3, 9), date(2026, 3, 10)], pa.date32())
    kept = holds.matching("late", pa.table({"call_date": days}), "default", None, found, MonthSecrets())
    assert kept.to_pylist() == [True, True, False, True, False]


def test_a_lost_row_does_not_let_late_records_go(settings: Settings) -> None:
    assert not any_open(settings)
    holds.place(settings, order(), TODAY)
    _write(settings, delete(retention.holds))
    assert any_open(settings)


def test_no_hold_at_all_is_read_with_the_root_too(settings: Settings) -> None:
    assert holds.opened(settings, today=TODAY) == []
    _take_root(settings)
    with pytest.raises(HoldUnreadable):
        holds.opened(settings, today=TODAY)


# -- who may know ------------------------------------------------------------------------------------------------------


def test_confidential_holds_leave_no_trace_for_anyone_but_legal(settings: Settings, approver: Path) -> None:
    holds.place(settings, order(kind="preservation", case="open"), TODAY)
    late = TODAY + timedelta(85)
    before = holds.list_holds(settings, holds.COMPLIANCE, late), holds.warnings(settings, late)
    hidden = holds.place(settings, secret_order(kind="preservation"), TODAY)
    assert (holds.list_holds(settings, holds.COMPLIANCE, late), holds.warnings(settings, late)) == before
    assert len(holds.list_holds(settings, holds.LEGAL, late)) == 2
    assert len(holds.warnings(settings, late, holds.LEGAL)) == 2
    assert hidden in holds.opened(settings, today=late)


def test_a_confidential_hold_is_missing_in_the_words_of_one_that_never_was(settings: Settings, approver: Path) -> None:
    hidden = holds.place(settings, secret_order(), TODAY).hold_id

    def sentences(hold_id: str, role: str) -> list[str]:
        found = []
        for ask in (
            lambda: holds.read_hold(settings, hold_id, role, TODAY),
            lambda: holds.renew(settings, hold_id, TODAY, expires_on=date(2027, 1, 1), role=role),
            lambda: holds.release(settings, hold_id, "approver", approver, TODAY, role=role),
        ):
            with pytest.raises(UsageProblem) as raised:
                ask()
            found.append(str(raised.value))
        return found

    assert sentences(hidden, holds.COMPLIANCE) == sentences("0" * 16, holds.COMPLIANCE)
    assert rows_of(settings, retention.approvals) == []
    assert holds.read_hold(settings, hidden, holds.LEGAL, TODAY).case == "whispered"
    holds.release(settings, hidden, "approver", approver, TODAY, role=holds.LEGAL)


def test_a_hold_is_confidential_through_its_day(settings: Settings) -> None:
    made = holds.place(settings, secret_order(), TODAY)
    assert [len(holds.list_holds(settings, holds.COMPLIANCE, HUSH + timedelta(n))) for n in (0, 1)] == [0, 1]
    holds.renew(settings, made.hold_id, TODAY, confidential_until=HUSH + timedelta(9), role=holds.LEGAL)
    assert [len(holds.list_holds(settings, holds.COMPLIANCE, HUSH + timedelta(n))) for n in (9, 10)] == [0, 1]
    with pytest.raises(UsageProblem, match="put off only"):
        holds.renew(settings, made.hold_id, TODAY, confidential_until=HUSH, role=holds.LEGAL)


def test_a_list_never_holds_a_number(settings: Settings) -> None:
    holds.place(settings, order(numbers=(NUMBER, SECOND)), TODAY)
    (row,) = holds.list_holds(settings, holds.LEGAL, TODAY)
    assert row.numbers == 2
    assert [number for number in (NUMBER, SECOND) if number[1:] in json.dumps(row, default=str)] == []


def test_what_cannot_be_looked_for_in_a_view_or_copy_is_known() -> None:
    by_account, by_number, by_trunk = found = [
        Hold(str(number), "default", "litigation", "a", "c", **{kind: ("x",)})
        for number, kind in enumerate(("accounts", "numbers", "trunks"))
    ]
    for part in PARTS["billing"]:
        assert holds.unmatched(f"held-{part}", found) == [by_trunk]
    for part in PARTS["assurance"]:  # a copy has no account and no number, its record is not to be known by it
        assert holds.unmatched(f"held-{part}", found) == [by_account, by_number]
    for view in VIEW_PARTS:  # rows of any view are found by the index
        assert holds.unmatched(view, found) == []
    assert holds.unmatched("suspense", found) == found


# -- matching ----------------------------------------------------------------------------------------------------------

_TOKEN = b"t" * 32
_SOME_NUMBERS = (NUMBER, SECOND, THIRD, "2001", "alice")
_SOME_ACCOUNTS = ("acct-0001", "acct-0002", "unassigned")
_SOME_TRUNKS = ("north-1", "north-2", "other")
_UNSEEN = {
    "index": set(),
    "held-billing": {"trunks"},
    **{f"held-{part}": {"accounts", "numbers"} for part in PARTS["assurance"]},
    "late": set(),
}
_DAY = st.dates(date(2026, 2, 27), date(2026, 3, 3))

_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            **{role: st.none() | st.sampled_from(_SOME_NUMBERS) for role in FOUND_BY},
            "account": st.none() | st.sampled_from(_SOME_ACCOUNTS),
            "in": st.none() | st.sampled_from(_SOME_TRUNKS),
            "out": st.none() | st.sampled_from(_SOME_TRUNKS),
            "day": st.none() | _DAY,
        }
    ),
    max_size=12,
)
_HOLDS = st.lists(
    st.builds(
        Hold,
        hold_id=st.uuids().map(str),
        tenant=st.sampled_from(["default", "acme"]),
        kind=st.just("litigation"),
        authority=st.just("a"),
        case=st.just("c"),
        first=st.none() | _DAY,
        last=st.none() | _DAY,
        accounts=st.lists(st.sampled_from(_SOME_ACCOUNTS), max_size=2).map(tuple),
        numbers=st.lists(st.sampled_from(_SOME_NUMBERS[:3]), max_size=2).map(tuple),
        trunks=st.lists(st.sampled_from(_SOME_TRUNKS), max_size=1).map(tuple),
    ).filter(lambda hold: (hold.first or date.min) <= (hold.last or date.max)),
    max_size=3,
)


def _keeps(hold: Hold, view: str, row: dict[str, Any], tenant: str, day: date | None, gone: Iterable[str]) -> bool:
    """Whether a hold keeps a row, decided on its plain values. `gone`: kinds of selectors that have no key any more."""
    if tenant not in ("_shared", hold.tenant):
        return False
    if day is not None and ((hold.first and day < hold.first) or (hold.last and day > hold.last)):
        return False
    asked = {kind: set(getattr(hold, kind)) for kind in ("accounts", "numbers", "trunks") if getattr(hold, kind)}
    if not asked or asked.keys() & (_UNSEEN[view] | set(gone)):
        return True
    has = {
        "accounts": {row["account"]},
        "numbers": {row[role] for role in FOUND_BY},
        "trunks": {row["in"], row["out"]},
    }
    return any(asked[kind] & has[kind] for kind in asked)


def _column(rows: Sequence[dict[str, Any]], name: str, kind: pa.DataType = pa.string()) -> pa.Array:
    return pa.array([row[name] for row in rows], kind)


def _stored(view: str, rows: Sequence[dict[str, Any]], few: bool) -> pa.Table:
    """Rows as the lake holds them in a view."""
    text = FEW if few else pa.string()
    account, into, out = (_column(rows, name) for name in ("account", "in", "out"))
    numbers = {role: _column(rows, role) for role in FOUND_BY}
    served = {"trunk_in": into.cast(text), "trunk_out": out.cast(text)}
    if view == "index":
        found_by = zip(TOKENS, numbers.values(), strict=True)
        made = {token: tokens.number_token(column, _TOKEN).cast(ID) for token, column in found_by}
        return pa.table({"account": account.cast(text), **made, **served})
    if view == "held-billing":
        return pa.table({"account": account.cast(text), **numbers})
    if view in ("held-failed", "held-answered"):
        return pa.table(served)
    trunks = {"ingress_trunk": into.cast(text), "egress_trunk": out.cast(text)}
    days = _column(rows, "day", pa.date32())
    return pa.table({"account": account.cast(text), **numbers, "call_date": days, **trunks})


@tries(300)
@given(
    view=st.sampled_from(list(_UNSEEN)),
    rows=_ROWS,
    found=_HOLDS,
    tenant=st.sampled_from(["default", "_shared"]),
    call_date=_DAY,
    token=st.booleans(),
    few=st.booleans(),
    by_column=st.booleans(),
)
def test_matching_keeps_what_an_oracle_keeps_row_by_row(
    view: str,
    rows: list[dict[str, Any]],
    found: list[Hold],
    tenant: str,
    call_date: date,
    token: bool,
    few: bool,
    by_column: bool,
) -> None:
    known = MonthSecrets(_TOKEN if token else None)
    gone = ["numbers"] if view == "index" and not token else []
    day = None if by_column and view == "late" else call_date
    table = _stored(view, rows, few)
    kept = holds.matching(view, table.select(holds.columns(view, found)), tenant, day, found, known).to_pylist()
    if not holds.columns(view, found):
        kept = holds.matching(view, table, tenant, day, found, known).to_pylist()
    assert kept == [any(_keeps(h, view, row, tenant, day or row["day"], gone) for h in found) for row in rows]


@tries(100)
@given(view=st.sampled_from([*_UNSEEN, "suspense", "archive", "pending"]), found=_HOLDS)
def test_a_hold_that_cannot_be_matched_keeps_all_of_its_dates(view: str, found: list[Hold]) -> None:
    blind = holds.unmatched(view, found)
    row = {**dict.fromkeys((*FOUND_BY, "account", "in", "out")), "day": date(2026, 3, 1)}
    rows = [row] * 2
    table = _stored(view, rows, False) if view in _UNSEEN else pa.table({"raw": ["", ""]})
    for hold in blind:
        kept = holds.matching(view, table, hold.tenant, date(2026, 3, 1), [hold], MonthSecrets(_TOKEN))
        assert kept.to_pylist() == [hold.covers(date(2026, 3, 1), date(2026, 3, 1))] * 2
    assert view in _UNSEEN or blind == found


def test_a_hold_by_number_keeps_rows_whose_numbers_have_gone(settings: Settings) -> None:
    found = [Hold("1", "default", "litigation", "a", "c", numbers=(NUMBER,))]
    rows = pa.table({"account": ["acct-0001", "acct-0002"]})
    kept = holds.matching("index", rows, "default", date(2026, 3, 1), found, MonthSecrets(_TOKEN))
    assert kept.to_pylist() == [True, True]


def test_held_copies_are_matched_without_the_keys_of_their_month() -> None:
    found = [Hold("1", "default", "litigation", "a", "c", numbers=(NUMBER,))]
    numbers = {role: [NUMBER if at == n else SECOND for at in range(len(FOUND_BY))] for n, role in enumerate(FOUND_BY)}
    rows = pa.concat_tables([pa.table(numbers), pa.table({role: [THIRD] for role in FOUND_BY})])
    assert holds.columns("held-billing", found) == rows.column_names
    kept = holds.matching("held-billing", rows, "default", date(2026, 3, 1), found, MonthSecrets())
    assert kept.to_pylist() == [True] * len(FOUND_BY) + [False]


def kept_by_file(site: Any, view: str, hold: Hold) -> Iterator[tuple[pa.Table, list[bool]]]:
    """Rows of each data file of a view on 5 March, and which of them a hold keeps as the row index has it."""
    files = DataFiles(site.opened, "test")
    known, index = holds.secrets(site.opened, "default", "2026-03"), IndexRows(files)
    for file in (file for part in PARTS[view] for file in files.committed(part, "default", ["2026-03-05"])):
        indexed = index.of(file, [hold])
        assert not indexed.is_blind(hold)
        yield files.rows(file), indexed.matched(hold, known).tolist()


def test_a_hold_finds_the_rows_of_a_real_night(finished: Any) -> None:
    """By tokens of the index, with the month's secrets out of the register, as the numbers of the view say."""
    site = finished[0]
    wanted = site.view("billing")["called_number"].drop_null().value_counts().to_pylist()[0]["values"]
    by_number = Hold("1", "default", "litigation", "a", "c", numbers=(wanted,))
    kept = []
    for rows, of_file in kept_by_file(site, "billing", by_number):
        sides = (rows[name].to_pylist() for name in ("calling_number", "called_number"))
        assert of_file == [wanted in pair for pair in zip(*sides, strict=True)]
        kept += of_file
    assert any(kept) and not all(kept)


def test_a_hold_by_number_or_account_finds_as_many_attempts_as_calls_are_billed(finished: Any) -> None:
    site = finished[0]
    billed = site.view("billing")
    account = next(a for a in billed["account"].to_pylist() if a != "unassigned")
    number = billed["calling_number"].drop_null().value_counts().to_pylist()[0]["values"]
    for selectors in ({"accounts": (account,)}, {"numbers": (number,)}):
        asked = Hold("1", "default", "litigation", "a", "c", **selectors)
        of_billing = sum(sum(kept) for _, kept in kept_by_file(site, "billing", asked))
        of_assurance = 0
        for rows, kept in kept_by_file(site, "assurance", asked):
            of_assurance += pc.sum(pc.and_(pc.equal(rows["disposition"], "answered"), pa.array(kept))).as_py()
        assert of_billing == of_assurance > 0
    assert of_billing < billed.num_rows


def test_a_hold_by_trunk_finds_its_rows_in_every_view(finished: Any) -> None:
    site = finished[0]
    served = site.view("assurance").filter(pc.equal(site.view("assurance")["disposition"], "answered"))
    trunk = served["trunk_out"].drop_null().value_counts().to_pylist()[0]["values"]
    by_trunk = Hold("1", "default", "litigation", "a", "c", trunks=(trunk,))
    answered = 0
    for rows, kept in kept_by_file(site, "assurance", by_trunk):
        sides = (rows[name].to_pylist() for name in ("trunk_in", "trunk_out"))
        assert kept == [trunk in pair for pair in zip(*sides, strict=True)]
        answered += pc.sum(pc.and_(pc.equal(rows["disposition"], "answered"), pa.array(kept))).as_py()
    assert sum(sum(kept) for _, kept in kept_by_file(site, "billing", by_trunk)) == answered > 0


def test_secrets_of_a_month_without_keys_are_none_and_none_is_minted(settings: Settings, workspace: Any) -> None:
    site = workspace("asterisk")
    before = rows_of(site.settings, keys)
    assert holds.secrets(site.opened, "default", "2019-01").token is None
    assert rows_of(site.settings, keys) == before
    name = KeyName("index", "default", "2026-03", "token")
    assert holds.secrets(site.opened, "default", "2026-03").token == site.opened.keyring.key(name).secret
    with pytest.raises(TypeError, match="pickle"):
        holds.secrets(site.opened, "default", "2026-03").__reduce__()


def test_no_secret_shows_in_a_repr() -> None:
    assert "tttt" not in repr(MonthSecrets(_TOKEN))


@tries(200)
@given(found=_HOLDS, first=_DAY, days=st.integers(0, 3), tenant=st.sampled_from(["default", "acme", "_shared"]))
def test_covering_is_one_day_in_common(found: list[Hold], first: date, days: int, tenant: str) -> None:
    asked = [first + timedelta(n) for n in range(days + 1)]
    told = [
        hold
        for hold in found
        if tenant in (hold.tenant, "_shared")
        and any((hold.first or date.min) <= day <= (hold.last or date.max) for day in asked)
    ]
    assert holds.covering(found, tenant, asked[0], asked[-1]) == told


def test_what_came_in_since_a_holds_first_day_may_be_about_it() -> None:
    dated = Hold("1", "default", "litigation", "a", "c", first=date(2026, 3, 2), last=date(2026, 3, 3))
    always = Hold("2", "default", "litigation", "a", "c", last=date(2026, 3, 3))
    for day, found in ((1, [always]), (2, [dated, always]), (30, [dated, always])):
        assert holds.receiving([dated, always], "default", date(2026, 3, day)) == found
        assert holds.receiving([dated, always], "_unknown", date(2026, 3, day)) == found
    assert holds.receiving([dated, always], "acme", date(2026, 3, 30)) == []


# -- numbers as people write them --------------------------------------------------------------------------------------


def test_numbers_are_read_as_the_tenants_sources_dial_them(settings: Settings) -> None:
    written = ["(555) 555-0101", "+1 555 555 0101", "011 44 20 7946 0018", "1-555-555-0102"]
    assert holds.normalized(settings, "default", written) == (NUMBER, "+442079460018", SECOND)
    assert holds.normalized(settings, "default", ["020 7946 0018"], "GB") == ("+442079460018",)
    assert holds.normalized(settings, "default", []) == ()


@pytest.mark.parametrize("wrong", ["2001", "anonymous", "", "555-0101", "alice", "911"])
def test_a_number_that_is_not_certain_is_refused_by_its_position(settings: Settings, wrong: str) -> None:
    with pytest.raises(UsageProblem, match="number 2 of 2") as raised:
        holds.normalized(settings, "default", [NUMBER, wrong])
    assert "0101" not in str(raised.value) and (not wrong or wrong not in str(raised.value))


def test_a_number_that_two_sources_read_in_two_ways_is_refused(
    workspace: Callable[..., Any], feed_source: Callable[..., Any]
) -> None:
    settings = workspace("asterisk", feed_source("freeswitch", country="GB")).settings
    assert holds.normalized(settings, "default", [NUMBER]) == (NUMBER,)
    both = "2025550143"  # in Washington, or in London
    assert [holds.normalized(settings, "default", [both], c) for c in ("US", "GB")] == [(f"+1{both}",), (f"+44{both}",)]
    with pytest.raises(UsageProblem, match="not certain"):
        holds.normalized(settings, "default", [both])
    with pytest.raises(UsageProblem, match="not certain"):
        holds.normalized(settings, "default", ["020 7946 0018"])
    with pytest.raises(UsageProblem, match="ISO code"):
        holds.normalized(settings, "default", [NUMBER], "Nowhere")


# -- too late ----------------------------------------------------------------------------------------------------------


def _purge(settings: Settings, disposal_id: str, status: str, *items: dict[str, Any]) -> None:
    run = {"as_of": TODAY, "plan_digest": "0" * 64, "plan": "{}", "started_by": "test", "created_at": database.now()}
    usual = {"retention_class": "call_detail", "action": "delete", "tenant": "default", "view": "billing", "held": 0}
    rows = [
        {**usual, "disposal_id": disposal_id, "item": n, "file_id": f"f{n}", "rows": 10, **item}
        for n, item in enumerate(items)
    ]
    _write(
        settings,
        insert(retention.disposals).values(disposal_id=disposal_id, reason="purge", status=status, **run),
        insert(retention.disposal_items).values(rows),
    )


def test_a_hold_that_comes_too_late_is_told_what_is_gone(settings: Settings) -> None:
    _purge(
        settings,
        "one",
        "removing",
        {"part": "2026-03-01", "state": "removed"},
        {"part": "2026-03-02", "state": "removed", "held": 4},
        {"part": "2026-03-03", "state": "tombstoned"},
        {"part": "2026-03-01", "state": "kept"},
        {"part": "2026-05-01", "state": "removed"},
        {"part": "2026-03-01", "state": "removed", "tenant": "acme"},
        {"part": "2026-03-01", "state": "removed", "action": "release"},
        {"part": "2026-09-01", "state": "removed", "view": "archive", "retention_class": "archive"},
        {"part": "2026-02-01", "state": "removed", "view": "archive", "retention_class": "archive"},
        {"part": "suspense", "state": "removed", "view": "suspense", "retention_class": "suspense"},
    )
    _purge(settings, "two", "tombstoned", {"part": "2026-03-01", "state": "tombstoned"})
    hold = order(first=date(2026, 3, 1), last=date(2026, 3, 31))
    with database.reading(settings) as connection:
        gone = holds.removed(connection, hold)
    assert {(g.disposal_id, g.class_, g.view, g.month, g.state, g.rows) for g in gone} == {
        ("one", "call_detail", "billing", "2026-03", "removed", 16),
        ("one", "call_detail", "billing", "2026-03", "removing", 10),
        ("one", "archive", "archive", "2026-09", "removed", 10),
        ("one", "suspense", "suspense", "", "removed", 10),
    }


def test_nothing_is_gone_before_a_purge(settings: Settings) -> None:
    with database.reading(settings) as connection:
        assert holds.removed(connection, order()) == []


def test_a_database_put_back_from_before_knows_the_holds_again_by_the_newest_export(
    workspace: Callable[..., Any], tmp_path: Path
) -> None:
    site = workspace("generic")
    first = scenes.hold(site, case="one")
    database.engine(site.settings).dispose()
    file = site.folder / "callward.db"
    shutil.copy2(file, tmp_path / "old.db")
    scenes.person(site)
    scenes.release(site, first)
    second = scenes.hold(site, numbers=("+13035550101",))
    assert [one.hold_id for one in holds.opened(site.settings, today=date.today())] == [second.hold_id]
    database.engine(site.settings).dispose()
    for beside in site.folder.glob("callward.db*"):
        beside.unlink()
    shutil.copy2(tmp_path / "old.db", file)
    exports.restore(site.settings, exports.list_exports(site.settings.register_path)[0])
    assert [one.hold_id for one in holds.opened(site.settings, today=date.today())] == [second.hold_id]
    with database.reading(site.settings) as connection:
        audit.verify(connection)
        assert holds.any_open(connection)
