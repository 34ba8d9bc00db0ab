"""Runs and leases: nobody works on what another holds, and what the dead held is taken over at once."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from callward import database, runs
from callward.errors import Problem
from callward.settings import Settings
from schemas.tables import leases
from schemas.tables import runs as runs_table


@pytest.fixture
def settings(workspace: Callable[..., Any]) -> Settings:
    found: Settings = workspace("asterisk").settings
    return found


def _status(settings: Settings, run: str) -> str:
    with database.reading(settings) as connection:
        return str(connection.execute(select(runs_table.c.status).where(runs_table.c.run_id == run)).scalar())


def test_a_living_run_keeps_what_it_holds(settings: Settings) -> None:
    mine = runs.start(settings, "nightly", ["source/a", "source/b"])
    with pytest.raises(Problem, match=f"source/b is being worked on by run {mine}"):
        runs.start(settings, "nightly", ["source/c", "source/b"])
    runs.finish(settings, runs.start(settings, "nightly", ["source/c"]), "done")  # a refused start holds nothing
    runs.finish(settings, mine, "done")
    runs.finish(settings, runs.start(settings, "nightly", ["source/b"]), "done")


def test_what_a_dead_process_held_is_taken_over_at_once(settings: Settings) -> None:
    found = f"settings.load({str(settings.path)!r})"
    code = f"from callward import runs, settings; print(runs.start({found}, 'nightly', ['source/a']))"
    dead = subprocess.check_output([sys.executable, "-c", code], text=True).strip()
    with database.reading(settings) as connection:
        assert dead not in runs.living(connection)
    runs.finish(settings, runs.start(settings, "nightly", ["source/a"]), "done")
    assert _status(settings, dead) == "dead"


def test_a_reused_process_id_is_not_taken_for_the_run(settings: Settings) -> None:
    mine = runs.start(settings, "nightly", ["source/a"])
    with database.writing(settings) as connection:
        connection.execute(update(leases).values(process_start="another time"))
        assert mine not in runs.living(connection)
    runs.start(settings, "nightly", ["source/a"])
    assert _status(settings, mine) == "dead"


def test_a_lease_of_another_host_lives_until_it_expires(settings: Settings) -> None:
    mine = runs.start(settings, "nightly", ["source/a"])
    with database.writing(settings) as connection:
        connection.execute(update(leases).values(host="elsewhere"))
    with pytest.raises(Problem, match="elsewhere"):
        runs.start(settings, "nightly", ["source/a"])
    with database.writing(settings) as connection:
        connection.execute(update(leases).values(expires_at=database.now() - timedelta(seconds=1)))
    runs.start(settings, "nightly", ["source/a"])
    with database.writing(settings) as connection, pytest.raises(Problem, match="lost its lease"):
        runs.renew(connection, mine)


def test_a_body_that_raises_leaves_a_failed_run_and_no_lease(settings: Settings) -> None:
    with pytest.raises(ValueError), runs.running(settings, "nightly", ["source/a"]) as run:
        raise ValueError
    assert _status(settings, run) == "failed"
    with database.reading(settings) as connection:
        assert connection.execute(select(leases)).all() == []


@given(st.integers(0, 50))
def test_ids_are_letters_alone_and_differ(count: int) -> None:
    made = [runs.new_id() for _ in range(count)]
    assert len(set(made)) == count
    assert all(name.isalpha() and name.isascii() for name in made)


def test_a_process_that_ended_and_that_nobody_waited_for_is_gone() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
    assert runs.process_start(ended.pid) == ""
    ended.wait()
    assert runs.process_start(os.getpid()) not in ("", "Z")
