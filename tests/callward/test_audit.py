"""The audit log: any edit, deletion or cut is seen."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from sqlalchemy import delete, select, update

from callward import audit, database, runs
from callward.audit import Entry
from callward.errors import Problem
from callward.settings import Settings
from schemas.tables import audit_log
from tests.examples import tries


@pytest.fixture(scope="module")
def logged(workspace: Callable[..., Any]) -> Settings:
    """A workspace whose log has entries of its own, and a run that saw its head."""
    found: Settings = workspace("asterisk").settings
    audit.record(found, [Entry("custodian", "open", f"key {n}", "test") for n in range(9)])
    run = runs.start(found, "nightly", ["source/asterisk"])
    runs.finish(found, run, "done", {})
    return found


class _Undone(Exception):
    """Rolls a transaction back."""


def _damage(settings: Settings, statement: Any) -> None:
    """Verify the log as it would be after `statement`, which is then undone."""
    with pytest.raises(_Undone), database.writing(settings) as connection:
        assert connection.execute(statement).rowcount
        with pytest.raises(Problem, match="broken at entry"):
            audit.verify(connection)
        raise _Undone


def _length(settings: Settings) -> int:
    with database.reading(settings) as connection:
        return audit.verify(connection)


@tries(25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), column=st.sampled_from(["who", "role", "event", "subject", "reason", "prev", "hash"]))
def test_any_edited_column_breaks_the_chain(logged: Settings, data: st.DataObject, column: str) -> None:
    seq = data.draw(st.integers(1, _length(logged)))
    _damage(logged, update(audit_log).where(audit_log.c.seq == seq).values({column: "another word"}))


@pytest.mark.parametrize("shift", [timedelta(seconds=1), timedelta(days=-1), timedelta(microseconds=1)])
def test_an_entry_dated_anew_breaks_the_chain(logged: Settings, shift: timedelta) -> None:
    with database.reading(logged) as connection:
        times = connection.execute(select(audit_log.c.seq, audit_log.c.at)).all()
    for seq, at in times:
        _damage(logged, update(audit_log).where(audit_log.c.seq == seq).values(at=at + shift))


def test_an_entry_taken_out_breaks_the_chain(logged: Settings) -> None:
    for seq in range(1, _length(logged)):
        _damage(logged, delete(audit_log).where(audit_log.c.seq == seq))


def test_a_renumbered_log_without_its_first_entry_is_broken(logged: Settings) -> None:
    with pytest.raises(_Undone), database.writing(logged) as connection:
        connection.execute(delete(audit_log).where(audit_log.c.seq == 1))
        connection.execute(update(audit_log).values(seq=audit_log.c.seq - 1))
        with pytest.raises(Problem, match="broken at entry 1"):
            audit.verify(connection)
        raise _Undone


def test_a_cut_tail_is_seen_by_the_heads_that_runs_kept(workspace: Callable[..., Any]) -> None:
    found = workspace("asterisk").settings
    audit.record(found, [Entry("custodian", "open", f"key {n}", "test") for n in range(3)])
    runs.finish(found, runs.start(found, "nightly", []), "done", {})
    length, head = audit.checked(found)
    assert audit.newest(found, 1)[0].hash == head
    with database.writing(found) as connection:
        connection.execute(delete(audit_log).where(audit_log.c.seq == length))
        assert audit.verify(connection) == length - 1  # the chain alone does not see it
    with pytest.raises(Problem, match="cut off its end"):
        audit.checked(found)


def test_newest_are_in_order_and_limited(logged: Settings) -> None:
    rows = audit.newest(logged, 4)
    assert [row.seq for row in rows] == list(range(_length(logged) - 3, _length(logged) + 1))


@pytest.mark.parametrize("number", ["+44 20 7946 0958", "case5550178", "719_555_0178"])
def test_no_entry_holds_a_number_whoever_writes_it(workspace: Callable[..., Any], number: str) -> None:
    settings = workspace("asterisk").settings
    audit.record(settings, [Entry("billing", "sql", f"of {number}", number)])
    with database.reading(settings) as connection:
        audit.verify(connection)
        row = connection.execute(select(audit_log).order_by(audit_log.c.seq.desc())).first()
    assert row is not None
    assert not any(character.isdigit() for character in row.subject + row.reason)
