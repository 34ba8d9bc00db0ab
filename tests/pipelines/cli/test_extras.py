"""Without the libraries of the extras callward works, and who asks for a part that needs one is told which."""

import ast
from collections.abc import Callable
from typing import Any

import pytest

from callward import extras
from tests.commands import run
from tests.releases import declare, register, text
from tests.retention import DAY, call, feed
from tests.test_packaging import ROOT

MODULES = ("opendp", "confluent_kafka", "aiohttp", "pg8000")


@pytest.fixture(scope="module")
def site(workspace: Callable[..., Any]) -> Any:
    made = workspace("generic")
    made.land("generic", "a.csv", feed(call(1), call(2)))
    declare(made, text(rho="0.001"))
    return made


def test_a_night_and_its_questions_need_no_extra(site: Any) -> None:
    config = ("--config", str(site.folder))
    assert run("nightly", "--json", *config, without=MODULES).document["rows"] == 2
    words = ("sql", "--role", "billing", "SELECT billing_id FROM billing", "--format", "json")
    asked = run(*words, *config, without=MODULES)
    assert asked.code == 0 and len(asked.document) == 2


@pytest.mark.parametrize(
    ("module", "extra", "words"),
    [
        ("opendp", "release", ("release", "run", "calls", "--period", DAY.isoformat())),
        ("confluent_kafka", "kafka", ("stream", "start")),
        ("confluent_kafka", "kafka", ("stream", "status")),
        ("aiohttp", "receive", ("receive",)),
    ],
)
def test_a_missing_extra_is_one_sentence(site: Any, module: str, extra: str, words: tuple[str, ...]) -> None:
    ended = run(*words, "--json", "--config", str(site.folder), without=[module]).check_clean()
    assert ended.code == 2 and len(ended.sentences) == 1
    assert ended.document["code"] == "extra"
    assert ended.document["error"].endswith(f" needs callward[{extra}]: pip install 'callward[{extra}]'")


def test_a_database_without_its_driver_is_one_sentence(workspace: Callable[..., Any]) -> None:
    site = workspace("generic")
    site.set(database={"url": "postgresql+pg8000://nobody@127.0.0.1:1/none"})
    ended = run("nightly", "--json", "--config", str(site.folder), without=["pg8000"]).check_clean()
    assert ended.code == 2 and "callward[postgresql]" in ended.document["error"]
    looked = run("doctor", "--json", "--config", str(site.folder), without=["pg8000"]).check_clean()
    assert {row["state"] for row in looked.document if "callward[postgresql]" in row["seen"]} == {"wrong"}


def test_a_release_without_its_library_reserves_nothing(site: Any) -> None:
    words = ("release", "run", "calls", "--period", DAY.isoformat(), "--config", str(site.folder))
    assert run(*words, without=["opendp"]).code == 2
    assert register(site) == []


def test_every_extra_of_the_package_has_its_sentence() -> None:
    nodes = ast.parse(ROOT.joinpath("setup.py").read_text(encoding="utf-8")).body
    (optional,) = (node.value for node in nodes if isinstance(node, ast.Assign) and node.targets[0].id == "OPTIONAL")
    assert {extra.name for extra in extras._EXTRAS.values()} == ast.literal_eval(optional).keys()
    assert extras._EXTRAS.keys() == set(MODULES)


def test_another_module_that_is_missing_stays_a_defect() -> None:
    assert extras.missing(ModuleNotFoundError("No module named 'nothing'", name="nothing")) is None
