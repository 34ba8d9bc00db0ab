"""What changes much waits for a second person: nothing is changed until an approver signs exactly that."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from callward.access.second_person import Consent, SecondPersonNeeded
from callward.errors import Problem, UsageProblem
from callward.keys.keys import KeyDenied
from callward.settings import Settings, Trunk
from pipelines import accounts, assigning
from pipelines.corrections.run import back_out, reprocess
from tests.commands import all_that_is, run
from tests.retention import CALLED, person

_CALLS = 5


@pytest.fixture(scope="module")
def made(workspace: Callable[..., Any]) -> Any:
    trunks = [Trunk(name="north", carrier="north")]
    site = workspace("generic", accounts=[], trunks=trunks, thresholds={"second_person": _CALLS - 1})
    rows = (f"id-{n},+12125550160,{CALLED},2026-03-05 10:0{n},2026-03-05 10:0{n},60,north\n" for n in range(_CALLS))
    site.land(
        "generic",
        "a.csv",
        ("id,calling_number,called_number,start,answer,talk_s,ingress_trunk\n" + "".join(rows)).encode(),
    )
    site.night()
    return site


@pytest.fixture
def site(made: Any) -> Any:
    """A site after a night of _CALLS calls of no account, of which one person may change one fewer; and ada."""
    person(made)
    return made


def limited(site: Any, limit: int) -> Settings:
    thresholds = site.settings.thresholds.model_copy(update={"second_person": limit})
    return site.settings.model_copy(update={"thresholds": thresholds, "digest": f"limit {limit}"})  # type: ignore[no-any-return]


def waits(work: Callable[..., Any]) -> str:
    """Return the plan that waits."""
    with pytest.raises(SecondPersonNeeded) as raised:
        work()
    (plan,) = re.findall("--approve ([0-9a-f]{16}) ", str(raised.value))
    assert raised.value.exit_code == 3
    return plan


def numbers_of(site: Any, text: str) -> Any:
    path = site.folder / "numbers.csv"
    path.write_text(text)
    return path


def imported(site: Any, text: str) -> Callable[..., Any]:
    return lambda **how: accounts.import_file(site.settings, numbers_of(site, text), **how)


@pytest.mark.parametrize("what", ["backout", "reprocess"])
def test_a_large_correction_waits_and_one_at_the_limit_does_not(site: Any, what: str) -> None:
    def correct(settings: Settings, **how: Any) -> Any:
        return back_out(settings, ["1"], **how) if what == "backout" else reprocess(settings, named=["1"], **how)

    before = all_that_is(site)
    plan = waits(lambda: correct(site.settings))
    assert correct(site.settings, dry_run=True).corrected.files
    with pytest.raises(Problem, match="is not what would be done now"):
        correct(site.settings, consent=Consent("0" * 16, "ada", person(site)))
    with pytest.raises(KeyDenied):
        correct(site.settings, consent=Consent(plan, "ada", person(site, "eve")))
    assert waits(lambda: correct(site.settings)) == plan
    assert waits(lambda: correct(limited(site, 1))) != plan, "an approval is of one state of the settings"
    assert all_that_is(site) == before
    if what == "reprocess":
        assert correct(limited(site, _CALLS)).corrected.files and correct(limited(site, 0)).corrected.files
        assert correct(site.settings, consent=Consent(plan, "ada", person(site))).corrected.files


def test_an_import_of_many_entries_waits_for_a_signature_over_its_file(site: Any) -> None:
    many = "account,code\n" + "".join(f"a,ac-{n}\n" for n in range(_CALLS))
    assert imported(site, "account,code\n" + "".join(f"a,ac-{n}\n" for n in range(_CALLS - 1)))().tenants
    replaced = many.replace("ac-", "bc-")
    plan = waits(imported(site, replaced))
    assert waits(imported(site, replaced.replace("bc-0", "bc-9"))) != plan
    assert imported(site, replaced)(consent=Consent(plan, "ada", person(site))).tenants[0].version == 2
    assert imported(site, replaced)().tenants[0].same, "what changes nothing waits for nobody"


def test_an_assignment_of_many_calls_waits(site: Any) -> None:
    imported(site, f"account,number\nb,{CALLED}\n")(add=True)
    plan = waits(lambda: assigning.assign(site.settings))
    (given,) = assigning.assign(site.settings, dry_run=True).accounts
    assert (given.account, given.calls) == ("b", _CALLS)
    assert assigning.assign(site.settings, consent=Consent(plan, "ada", person(site))).accounts == [given]
    assert assigning.assign(site.settings).accounts == []


def test_the_commands_take_all_of_an_approval_or_none(site: Any) -> None:
    with pytest.raises(UsageProblem, match="together"):
        Consent.of("plan", None, None)
    config = ("--config", str(site.folder))
    ended = run("backout", "--file", "1", "--json", *config)
    assert ended.code == 3 and ended.document["code"] == "second_person"
    (plan,) = re.findall("--approve ([0-9a-f]{16}) ", ended.document["error"])
    assert run("backout", "--file", "1", "--approve", plan, *config).code == 2
    signed = ("--approve", plan, "--person", "ada", "--key", str(person(site)))
    assert run("backout", "--file", "1", *signed, *config).code == 0
    assert site.view("billing").num_rows == 0
