"""Account directories: an import is whole or nothing, is recorded, and shows what it changes before it does."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from callward import audit, database
from callward.accounts.reading import WrongFile
from callward.errors import Problem, UsageProblem
from callward.settings import Account, Tenant, Trunk
from callward.storage.store import Store
from pipelines import accounts, vacuum
from schemas.retention_classes import CLASSES
from schemas.tables import account_directories
from tests.commands import run

Make = Callable[..., Any]

_HEAD = "account,number,last,code,trunk,since,until,tenant\n"
_FIRST = _HEAD + "a,+13035550110,,,,,,\nb,+13035550120,+13035550129,,,,,\nb,,,ac-b,t,,,\n"
_KEPT = dict.fromkeys(CLASSES, "99 years")


@pytest.fixture
def site(workspace: Make, tmp_path: Path) -> Any:
    """A workspace of two tenants, without accounts in its settings."""
    tenants = {name: Tenant(retention=_KEPT) for name in ("default", "north")}
    return workspace("generic", accounts=[], trunks=[Trunk(name="t")], tenants=tenants)


def _file(site: Any, text: str, name: str = "accounts.csv") -> Path:
    path: Path = site.folder / name
    path.write_text(text)
    return path


def _import(site: Any, text: str, **how: Any) -> accounts.ImportReport:
    return accounts.import_file(site.settings, _file(site, text), **how)


def _held(site: Any, account: str) -> list[tuple[str, int, str | None, str | None]]:
    return [(h.kind, h.entries, h.since, h.until) for h in accounts.history_of(site.settings, account, None)]


def _files(site: Any) -> list[str]:
    return sorted(file.path for file in Store.of(site.settings).list("accounts"))


def test_an_import_is_a_version_that_says_what_changed_and_who_did_it(site: Any) -> None:
    report = _import(site, _FIRST)
    assert report.exit_code == 0
    (one,) = report.tenants
    assert (one.version, one.accounts) == (1, 2)
    assert [(d.kind, d.added) for d in one.entries if d.added] == [
        ("number", 1),
        ("range", 1),
        ("code", 1),
        ("trunk", 1),
    ]
    (version,) = accounts.history(site.settings, None)
    assert (version.numbers, version.ranges, version.codes, version.trunks, version.added) == (1, 1, 1, 1, 4)
    events = [(entry.event, entry.reason) for entry in audit.newest(site.settings, 20)]
    with database.reading(site.settings) as connection:
        row = connection.execute(select(account_directories)).one()
    assert ("accounts import", "import of accounts.csv") in events
    assert _files(site) == [row.path]
    (listed,) = accounts.listed(site.settings, None, "b", 50)
    assert (listed.numbers, listed.in_ranges, listed.codes, listed.trunks) == (0, 10, 1, 1)


def test_the_same_file_again_is_no_version(site: Any) -> None:
    _import(site, _FIRST)
    head, *rows = _FIRST.splitlines(keepends=True)
    assert [one.same for one in _import(site, head + "".join(reversed(rows))).tenants] == [True]
    assert [version.version for version in accounts.history(site.settings, None)] == [1]


def test_a_dry_run_shows_the_difference_and_writes_nothing(site: Any) -> None:
    _import(site, _FIRST)
    before = _files(site)
    report = _import(site, _HEAD + "a,+13035550110,,,,,2026-03-01,\nb,+13035550111,,,,,,\n", dry_run=True)
    entries = {d.kind: (d.added, d.removed, d.changed) for d in report.tenants[0].entries}
    assert entries["number"] == (1, 0, 1)
    assert entries["range"] == (0, 1, 0)
    assert {a.account: (a.gets, a.loses) for a in report.tenants[0].of_accounts} == {"a": (1, 1), "b": (1, 3)}
    assert _files(site) == before
    assert len(accounts.history(site.settings, None)) == 1


def test_numbers_are_ported_in_and_out_and_accounts_closed_from_a_day_on(site: Any) -> None:
    _import(site, _FIRST)
    ported = "account,number\nb,+13035550110\nunassigned,+13035550125\n"
    report = _import(site, ported, start=date(2026, 4, 1), add=True)
    assert report.exit_code == 0
    assert _held(site, "a") == [("number", 1, None, "2026-03-31")]
    assert ("number", 1, "2026-04-01", None) in _held(site, "b")
    crm = "account,number,last,code,trunk\nb,+13035550120,+13035550129,,\n"
    _import(site, crm, start=date(2026, 5, 1))
    assert sorted(_held(site, "b"), key=str) == [
        ("code", 1, None, "2026-04-30"),
        ("number", 1, "2026-04-01", "2026-04-30"),
        ("range", 1, None, None),
        ("trunk", 1, None, "2026-04-30"),
    ]


def test_tenants_of_one_file_come_in_together_and_others_stay(site: Any) -> None:
    _import(site, _FIRST)
    _import(site, _HEAD + "n,+13035550110,,,,,,north\n", tenant="default")
    assert [(v.tenant, v.version) for v in accounts.history(site.settings, None)] == [("default", 1), ("north", 1)]
    report = _import(site, _HEAD + "n,+13035550111,,,,,,north\nd,+13035550111,,,,,,\n")
    assert {(one.tenant, one.version) for one in report.tenants} == {("default", 2), ("north", 2)}


@pytest.mark.parametrize("row", ["c,+1303555011x,,,,,,", "c,,,ac-b,,,,", "n,,,,,2026-03-02,2026-03-01,north"])
def test_nothing_is_half_imported(site: Any, row: str) -> None:
    _import(site, _FIRST)
    before = _files(site)
    with pytest.raises(UsageProblem) as problem:
        _import(site, f"{_FIRST}n,+13035550130,,,,,,north\n{row}\n")
    assert "555" not in str(problem.value)
    assert (_files(site), len(accounts.history(site.settings, None))) == (before, 1)


def test_a_code_that_the_settings_give_to_another_account_is_refused(workspace: Make) -> None:
    site = workspace("generic", accounts=[Account(id="c", codes=["ac-b"])], trunks=[Trunk(name="t")])
    with pytest.raises(UsageProblem, match="accounts 'b' and 'c' have a code in common"):
        _import(site, _FIRST)


def test_what_looks_wrong_ends_with_code_3_and_names_lines(site: Any) -> None:
    report = _import(site, _FIRST + "b,+13035550110,,,,,,\n")
    assert report.exit_code == 3
    assert [(f.finding, f.account, f.other, f.lines) for f in report.tenants[0].findings] == [("tie", "a", "b", (2, 5))]
    assert [f.finding for f in accounts.lint_directories(site.settings).tenants["default"]] == ["tie"]


def test_files_of_earlier_versions_go_after_their_grace(site: Any) -> None:
    for last in ("0", "1", "2"):
        _import(site, f"account,number\na,+1303555011{last}\n")
    assert len(_files(site)) == 1
    with database.reading(site.settings) as connection:
        rows = connection.execute(select(account_directories.c.removed_at).order_by("version")).scalars().all()
    assert [at is None for at in rows] == [False, False, True]
    site.set(lake={"grace_minutes": 60.0})
    _import(site, "account,number\na,+13035550113\n")
    assert len(_files(site)) == 2


@pytest.mark.parametrize("where", ["directory-written", "directory-ready", "directory-committed"])
def test_an_import_that_is_killed_is_whole_or_nothing_and_leaves_no_file(site: Any, where: str) -> None:
    _import(site, _FIRST)
    path = _file(site, _FIRST.replace("+13035550110", "+13035550111"))
    command = ["accounts", "import", str(path), "--config", str(site.settings.path)]
    assert run(*command, environment={"CALLWARD_CRASH_AT": where}).code < 0
    version = accounts.history(site.settings, None)[0].version
    assert version == (2 if where == "directory-committed" else 1)
    assert run(*command).check_clean().code == 0
    assert accounts.history(site.settings, None)[0].version == 2
    vacuum.remove_orphans(site.settings)
    with database.reading(site.settings) as connection:
        assert _files(site) == sorted(accounts.register.on_disk(connection))
    assert site.opened.directory("default").ids.to_pylist() == ["a", "b"]


def test_another_import_meanwhile_is_noticed(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    written = accounts.register.write

    def beaten(settings: Any, *how: Any) -> dict[str, Any]:
        row: dict[str, Any] = written(settings, *how)
        with database.writing(settings) as connection:
            accounts.register.commit(connection, {**row, "path": "elsewhere"}, [], "another")
        return row

    monkeypatch.setattr(accounts.register, "write", beaten)
    with pytest.raises(Problem, match="was changed meanwhile"):
        _import(site, _FIRST)


def test_a_directory_that_is_gone_from_the_lake_stops_who_needs_it(site: Any) -> None:
    _import(site, _FIRST)
    Store.of(site.settings).remove(_files(site))
    with pytest.raises(Problem, match="version 1 of the account directory of tenant default is not in the lake"):
        site.opened.directory("default")


def test_no_command_prints_a_number(site: Any) -> None:
    path, config = _file(site, _FIRST + "b,+13035550110,,,,,,\n"), ("--config", str(site.settings.path))
    for words in (
        ("import", str(path), "--dry-run"),
        ("import", str(path), "--json"),
        ("list",),
        ("lint", "--json"),
        ("history", "b", "--json"),
    ):
        ended = run("accounts", *words, *config).check_clean(["13035550110", "13035550120", "13035550129"])
        assert ended.code in (0, 3)
        assert "--json" not in words or json.loads(ended.out)


def test_a_wrong_file_is_wrong_usage(site: Any) -> None:
    with pytest.raises(WrongFile):
        _import(site, "account,number\na,1001\n")
    with pytest.raises(UsageProblem, match="no tenant is called 'nort'; did you mean 'north'"):
        _import(site, _FIRST, tenant="nort")
    with pytest.raises(UsageProblem, match="--country"):
        _import(site, _FIRST, country="XX")
