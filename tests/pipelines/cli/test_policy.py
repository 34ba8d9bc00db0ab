"""callward policy: a file is checked, proposed by one person, put in force by another, and shown."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from callward.keys import approvers, signing
from callward.settings import Tenant
from pipelines.doctor import checks as doctor
from schemas.retention_classes import CLASSES, DEMO_WINDOWS, REQUIRED, example, examples
from tests.typed import Ran, Run, typing


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """run("policy", "show", …) → how `callward policy show …` ended, in this process."""
    with typing(capsys, monkeypatch, columns=150) as typed:
        yield typed


@pytest.fixture
def site(workspace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    made = workspace("asterisk", tenants={"default": Tenant(retention=DEMO_WINDOWS)})
    monkeypatch.setenv("CALLWARD_CONFIG", str(made.folder))
    return made


@pytest.fixture
def people(site: Any) -> dict[str, Path]:
    """Two registered persons, and their key files."""
    files = {name: site.folder / "keys" / f"{name}.sign" for name in ("first", "second")}
    for name, path in files.items():
        approvers.register(site.settings, name, signing.create(path).hex())
    return files


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(example("global-carrier"))
    return path


def _propose(run: Run, file: Path, people: dict[str, Path], *more: str) -> Ran:
    return run("policy", "propose", file, "--tenant", "default", "--person", "first", "--key", people["first"], *more)


def _activate(run: Run, people: dict[str, Path], *more: str, person: str = "second") -> Ran:
    words = ("policy", "activate", "--tenant", "default", "--version", "1", "--person", person, "--key", people[person])
    return run(*words, *more)


def _document(run: Run) -> Any:
    (found,) = run("policy", "show", "--tenant", "default", "--json").json
    return found


def test_an_example_is_printed_as_lint_takes_it(run: Run, tmp_path: Path) -> None:
    assert run("policy", "example").out.split() == examples()
    for name in examples():
        path = tmp_path / f"{name}.toml"
        path.write_text(run("policy", "example", name).out)
        found = run("policy", "lint", path, "--json")
        assert (found.code, found.json["name"], found.json["classes"]) == (0, name, len(CLASSES))
    missing = run("policy", "example", "carrier")
    assert (missing.code, missing.out) == (2, "")
    assert "per-subscriber" in missing.err


def test_lint_notes_what_may_stand(run: Run, file: Path) -> None:
    found = run("policy", "lint", file)
    assert found.code == 0
    first, note = found.out.splitlines()
    assert first == f"mine.toml: global-carrier is sound; {len(CLASSES)} classes"
    assert note.startswith("note: billing_transaction is kept 7 years, its keys 5 years")


def test_lint_names_the_line_of_what_is_refused(run: Run, file: Path) -> None:
    file.write_text(file.read_text().replace('window = "7 days"', 'window = "1 week"'))
    found = run("policy", "lint", file)
    assert (found.code, found.out) == (2, "")
    line = file.read_text().splitlines().index('window = "1 week"') + 1
    assert found.err.startswith(f"callward: mine.toml: line {line}: classes.temp.window: a window is written like")
    gone = run("policy", "lint", file.with_name("none.toml"))
    assert (gone.code, gone.err.count("\n")) == (2, 1)


def test_a_policy_goes_from_one_person_to_another_into_force(
    run: Run, site: Any, file: Path, people: dict[str, Path]
) -> None:
    assert _document(run)["name"] == "from settings"
    proposed = _propose(run, file, people, "--reference", "notice 2026-11", "--json")
    assert (proposed.code, proposed.json["version"]) == (0, 1)
    assert _document(run)["version"] == 0
    refused = _activate(run, people, person="first")
    assert refused.code == 2
    assert "another person activates it" in refused.err
    done = _activate(run, people)
    assert done.code == 0
    assert proposed.json["digest"] in done.out
    found = _document(run)
    assert (found["version"], found["two_people"], found["digest"]) == (1, True, proposed.json["digest"])
    assert [clause["class"] for clause in found["classes"]] == list(CLASSES)
    (row,) = run("policy", "list", "--json").json
    assert (row["state"], row["proposed_by"], row["activated_by"]) == ("active", "first", "second")
    assert row["reference"] == "notice 2026-11"


def test_a_dry_run_changes_nothing_and_says_what_would_be(
    run: Run, site: Any, file: Path, people: dict[str, Path]
) -> None:
    would = _propose(run, file, people, "--dry-run")
    assert would.code == 0
    assert "would be proposed as version 1" in would.out
    assert run("policy", "list").out == "In the register: none\n"
    digest = _propose(run, file, people, "--json").json["digest"]
    assert f"version 1 would be in force, digest {digest}" in _activate(run, people, "--dry-run").out
    assert _document(run)["version"] == 0
    assert digest in would.out


def test_a_person_reads_what_governs_and_who_stands_behind_it(run: Run, site: Any, people: dict[str, Path]) -> None:
    before = run("policy", "show").out
    assert "default: from settings, version 0, controller" in before
    assert "no purge runs unattended" in before
    assert all(re.search(rf"^{name} +{DEMO_WINDOWS[name]} ", before, re.MULTILINE) for name in REQUIRED)
    path = site.folder / "subscribers.toml"
    path.write_text(example("per-subscriber"))
    _propose(run, path, people)
    _activate(run, people)
    after = run("policy", "show", "--tenant", "default").out
    assert "activated by two people" in after
    assert "2 accounts with a shorter window of call_detail" in after
    assert re.search(r"^audit +5 years +event .* archive +accountability", after, re.MULTILINE)
    assert "acct-example-1" not in after


def test_a_tenant_that_is_not_there_is_told(run: Run, site: Any, file: Path, people: dict[str, Path]) -> None:
    shown = run("policy", "show", "--tenant", "defalt")
    assert (shown.code, shown.out) == (2, "")
    assert "known: default" in shown.err
    words = ("policy", "propose", file, "--tenant", "defalt", "--person", "first", "--key", people["first"])
    assert run(*words).code == 2


def _finding(site: Any) -> doctor.Finding:
    (found,) = [finding for finding in doctor.examine(str(site.folder)) if finding.what == "policy of default"]
    return found


def test_doctor_says_who_stands_behind_the_windows(run: Run, site: Any, file: Path, people: dict[str, Path]) -> None:
    assert _finding(site).state == doctor.NOTE
    _propose(run, file, people)
    _activate(run, people)
    assert (_finding(site).state, _finding(site).seen) == (
        doctor.OK,
        "global-carrier, version 1, activated by two people",
    )


def test_doctor_warns_of_a_window_under_its_floor(site: Any) -> None:
    text = site.settings.path.read_text()
    site.settings.path.write_text(
        text.replace("[tenants.default.retention]", "[tenants.default.retention]\nconsent = '11 months'")
    )
    found = _finding(site)
    assert (found.state, found.seen) == (doctor.WARNING, "from settings: under its floor: consent")
