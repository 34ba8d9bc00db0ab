"""`callward release` as a person types it: exit codes, sentences, documents; never a traceback, never a number."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from schemas.release import examples
from tests.commands import run
from tests.releases import AREA, DIRECTION, HOUR, declare, register, text
from tests.retention import DAY, call, feed, night

NUMBERS = [f"+130355501{n:02d}" for n in range(40)]
PERIOD = DAY.isoformat()


@pytest.fixture(scope="module")
def site(workspace: Callable[..., Any]) -> Any:
    made = workspace("generic")
    night(made, feed(*(call(n, caller=NUMBERS[n % 40]) for n in range(120))))
    declare(made, text(rho="0.001", more="[expected]\ncalls_per_day = 2_000_000\nunits = 150_000\n"))
    return made


def release(site: Any, *words: str) -> Any:
    return run("release", *words, "--config", str(site.settings.path)).check_clean(NUMBERS)


def test_a_table_from_its_example_to_its_figures(site: Any) -> None:
    assert release(site, "lint").code == 0
    assert release(site, "list", "--json").document[0]["periods_out"] in (0, 1)
    dry = release(site, "run", "calls", "--period", PERIOD, "--dry-run")
    assert dry.code == 0 and "nothing was changed" in dry.out
    done = release(site, "run", "calls", "--period", PERIOD, "--json")
    assert done.code == 0 and done.document["status"] == "published"
    shown = release(site, "show", "calls", "--period", PERIOD)
    assert shown.code == 0 and "inbound" in shown.out
    csv = release(site, "show", "calls", "--period", PERIOD, "--format", "csv").out
    assert csv.splitlines()[0].startswith('"direction","calls","calls_error"') and len(csv.splitlines()) == 6
    sheet = release(site, "show", "calls", "--period", PERIOD, "--json").document
    assert sheet == json.loads(release(site, "show", "calls", "--period", PERIOD, "--format", "sheet").out)
    assert sheet["release_id"] == done.document["release_id"]
    (listed,) = release(site, "list", "--json").document
    assert (listed["last_out"], listed["periods_out"]) == (PERIOD, 1)


def test_the_budget_says_what_was_spent_and_its_epsilon(site: Any) -> None:
    release(site, "run", "calls", "--period", PERIOD)
    rows = {row["window"]: row for row in release(site, "budget", "--json").document}
    assert rows["2026-03"]["spent"] == 0.001 and rows["all"]["left"] == pytest.approx(2.499)
    assert 0.2 < rows["all"]["epsilon"] < 0.3  # of rho 0.001 at delta 1e-9
    assert release(site, "budget").code == 0


def test_a_preview_reads_nothing_true_and_spends_nothing(site: Any) -> None:
    before = register(site)
    made_up = release(site, "preview", "calls", "--json").document
    assert made_up["on"] == "made-up traffic" and made_up["measures"][0]["sizes"]
    assert release(site, "preview", "calls", "--calls", "5000", "--units", "400").code == 0
    assert len(register(site)) == len(before)
    release(site, "run", "calls", "--period", PERIOD)
    like = release(site, "preview", "calls", "--like", PERIOD, "--json").document
    assert PERIOD in like["on"]


def test_the_lint_ends_with_3_and_names_a_grain_that_works(site: Any) -> None:
    body = text(name='"fine"', dimensions=AREA + HOUR + DIRECTION, rho="0.001")
    declare(site, body, "fine")
    try:
        ended = release(site, "lint", "fine", "--calls", "1000000", "--units", "90000")
        assert ended.code == 3 and "too fine" in ended.out and "cells" in ended.out
        found = release(site, "lint", "fine", "--calls", "1000000", "--units", "90000", "--json").document
        assert [row["code"] for row in found] == ["grain"] and "gives" in found[0]["sentence"]
    finally:
        (site.settings.releases_path / "fine.toml").unlink()


@pytest.mark.parametrize("name", examples())
def test_examples_are_shown_as_they_are_written(site: Any, name: str) -> None:
    listed = run("release", "example", "--json").check_clean().document
    assert name in [row["name"] for row in listed]
    assert f'name = "{name}"' in run("release", "example", name).check_clean().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "say which table and period"),
        (["run", "calls"], "say which table and period"),
        (["run", "--due", "--period", PERIOD], "say which table and period"),
        (["run", "cals", "--period", PERIOD], "did you mean 'calls'"),
        (["run", "calls", "--period", "2026-3-5"], "is written like"),
        (["run", "calls", "--period", "2099-01-01"], "may be released from"),
        (["run", "calls", "--period", PERIOD, "--correct"], "changed since|nothing to correct"),
        (["show", "calls", "--period", "2020-01-01"], "is not released"),
        (["show", "nothing", "--period", PERIOD], "nothing of"),
        (["show", "calls", "--period", PERIOD, "--format", "xml"], "table, csv or sheet"),
        (["preview", "calls", "--calls", "5"], "go together"),
        (["preview", "+13035550101"], "no release is called"),
        (["example", "nothing"], "no example"),
        (["lint", "nothing"], "no release is called"),
    ],
)
def test_wrong_words_are_one_sentence_and_exit_code_2(site: Any, words: list[str], said: str) -> None:

    release(site, "run", "calls", "--period", PERIOD)
    ended = release(site, *words) if words[0] != "example" else run("release", *words).check_clean()
    assert ended.code == 2 and re.search(said, ended.err), ended.err


def test_all_that_is_due_is_released_by_one_command(site: Any) -> None:
    ended = release(site, "run", "--due", "--json")
    assert ended.code == 0 and ended.document == []  # the only day with calls is long past: it is released by name
