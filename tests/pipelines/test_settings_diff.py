"""settings diff: whatever changes how records are read is named, with the command that reads them again."""

import shlex
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from callward import in_force
from callward.errors import UsageProblem
from callward.settings import Settings, Source, Trunk
from callward.settings.effects import EFFECTS, Effect, _table_in, effect, values
from callward.template import brief
from pipelines.corrections.run import reprocess
from pipelines.settings_diff import Differences, diff
from schemas.declaration import Declaration
from schemas.tables import settings_in_force
from tests.conftest import MORNING, source
from tests.retention import call, copied, feed, night
from tests.typed import Run, typing

DAY = date(2026, 3, 5)


@pytest.fixture(scope="module")
def read(workspace: Callable[..., Any]) -> Any:
    """A night of a source whose times are local; only copied."""
    site = workspace(source("generic", zone="UTC"))
    night(site, feed(*(call(n, DAY) for n in range(4))).replace(b"Z,", b","), name="first.csv")
    return site


@pytest.fixture
def site(read: Any, tmp_path: Path) -> Any:
    return copied(read, tmp_path / "copy")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    with typing(capsys, monkeypatch) as typed:
        yield typed


def rewrite(site: Any, **changes: Any) -> None:
    """Lay changes over the settings: sections, or whole lists."""
    now = site.settings
    now.path.write_text(brief(now.model_copy(update=changes)), encoding="utf-8")


def of_source(site: Any, **changes: Any) -> None:
    rewrite(site, sources=[one.model_copy(update=changes) for one in site.settings.sources])


# -- every setting is classified ---------------------------------------------------------------------------------------


def _keys(table: type[BaseModel]) -> set[tuple[type[BaseModel], str]]:
    """Every key of a table, and of the tables in it, but for those that hold tables and are not classified whole."""
    found = set()
    for name, field in table.model_fields.items():
        inner = None if field.exclude else _table_in(field.annotation)
        if not field.exclude and (inner is None or (table, name) in EFFECTS):
            found.add((table, name))
        found |= _keys(inner) if inner else set()
    return found


def test_what_a_change_of_each_setting_does_is_said_of_each() -> None:
    assert _keys(Settings) | {(Declaration, name) for name in Declaration.model_fields} == set(EFFECTS)


def test_each_place_of_a_full_file_has_an_effect(workspace: Callable[..., Any]) -> None:
    made = workspace("asterisk").settings
    places = [place for place, _, _ in values(made)]
    assert len({*places}) == len(places) and {effect(place) for place in places} == {*Effect}


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_what_is_kept_of_settings_holds_no_number_no_address_and_no_secret(site: Any) -> None:
    accounts = [{"id": "acct-x", "numbers": [{"first": "+13035550111"}], "codes": ["44 13035550112"]}]
    made = Settings.model_validate(
        {**site.settings.model_dump(), "path": site.settings.path, "accounts": accounts}, strict=False
    )
    site.settings.path.write_text(brief(made), encoding="utf-8")
    night(site, feed(call(9, DAY)), name="second.csv")
    kept = [row.content for row in site._rows(settings_in_force)]
    assert len(kept) == 2
    for text in kept:
        assert "30355501" not in text and str(site.folder) not in text and "sqlite" not in text


def test_equal_settings_are_kept_once(site: Any) -> None:
    site.settings.path.write_text(site.settings.path.read_text() + "\n# a comment\n", encoding="utf-8")
    night(site, feed(call(9, DAY)), name="second.csv")
    assert len(site._rows(settings_in_force)) == 1
    assert diff(site.settings).rows == diff(site.settings).others == []


# -- what a change does ------------------------------------------------------------------------------------------------


def test_a_zone_is_changed_named_and_applied_by_the_command_that_is_named(site: Any, run: Run) -> None:
    config = ["--config", str(site.settings.path)]
    assert run("settings", "diff", *config).code == 0
    of_source(site, zone="America/Denver")
    ran = run("settings", "diff", *config)
    assert ran.code == 3 and "Rows that would be otherwise" in ran.out
    found = run("settings", "diff", "--json", *config).json
    assert [(row["files"], row["records"], row["now"]) for row in found["rows"]] == [(1, 4, '"America/Denver"')]
    assert found["rows"][0]["setting"] == "[[sources]] generic, zone"
    assert found["commands"] == ["callward reprocess --source generic"] and found["commands"][0] in ran.out
    hours = {start.hour for start in site.view("billing")["start"].to_pylist()}
    assert run(*shlex.split(found["commands"][0])[1:], *config).code == 0
    assert hours == {12} and {start.hour for start in site.view("billing")["start"].to_pylist()} == {19}
    assert run("settings", "diff", *config).code == 0
    assert "nothing new had arrived" in run("nightly", "--source", "generic", *config).out


CHANGED: dict[str, Callable[[Any], None]] = {
    "[[sources]] generic, area_code": lambda site: of_source(site, area_code="303"),
    "[[sources]] generic, national_prefix": lambda site: of_source(site, national_prefix=["0"]),
    "[[sources]] generic, billing_rank": lambda site: of_source(site, billing_rank=2),
    "[[trunks]] new-trunk": lambda site: rewrite(site, trunks=[*site.settings.trunks, Trunk(name="new-trunk")]),
    "[[trunks]] desk, carrier": lambda site: rewrite(site, trunks=_recarried(site)),
    "[[accounts]] acct-0003": lambda site: rewrite(site, accounts=_without(site, "acct-0003")),
    "tenants.default.zone": lambda site: rewrite(site, tenants=_in_chicago(site)),
}


def _in_chicago(site: Any) -> dict[str, Any]:
    return {"default": site.settings.tenants["default"].model_copy(update={"zone": "America/Chicago"})}


def _recarried(site: Any) -> list[Trunk]:
    return [t.model_copy(update={"carrier": "other"}) if t.name == "desk" else t for t in site.settings.trunks]


def _without(site: Any, account: str) -> list[Any]:
    return [one for one in site.settings.accounts if one.id != account]


@pytest.mark.parametrize("setting", CHANGED)
def test_a_setting_that_alters_rows_is_named(site: Any, setting: str) -> None:
    CHANGED[setting](site)
    found = diff(site.settings)
    assert [row.setting for row in found.rows] == [setting] and found.others == []
    assert (found.rows[0].files, found.rows[0].records) == (1, 4)
    assert found.commands == ["callward reprocess --source generic"]


def test_other_settings_are_named_with_when_they_take_effect(site: Any) -> None:
    site.set(waves={"records": 1000}, stream={"flush_seconds": 5.0}, lake={"region": "us-west-2"})
    found = diff(site.settings)
    assert found.rows == found.commands == []
    said = {change.setting: (change.before, change.now, change.takes_effect) for change in found.others}
    assert said["waves.records"][:2] == ("4000000", "1000") and "next night" in said["waves.records"][2]
    assert "start of the stream" in said["stream.flush_seconds"][2] and said["lake.region"][:2] == ("-", '"us-west-2"')


def test_only_the_days_on_which_older_files_came_are_read_again(site: Any) -> None:
    of_source(site, area_code="303")
    night(site, feed(call(9, DAY)), name="second.csv")
    found = diff(site.settings)
    assert [(row.files, row.records) for row in found.rows] == [(1, 4)]
    today = found.rows[0].first.isoformat()
    assert found.commands == [f"callward reprocess --source generic --from {today} --to {today}"]
    assert diff(site.settings, since=found.run_id).rows == []
    with pytest.raises(UsageProblem, match="no run nonesuch"):
        diff(site.settings, since="nonesuch")


def test_a_file_that_is_not_yet_in_force_is_compared(site: Any) -> None:
    new = site.settings.path.with_name("new.toml")
    of = site.settings
    sources = [one.model_copy(update={"area_code": "303"}) for one in of.sources]
    new.write_text(brief(of.model_copy(update={"sources": sources})), encoding="utf-8")
    assert [row.setting for row in diff(site.settings, new).rows] == ["[[sources]] generic, area_code"]
    assert diff(site.settings).rows == []


def test_a_declaration_that_changed_with_a_release_counts(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The declaration that comes with callward is another by now: no letter of callward.toml changed."""
    real = in_force._declared

    def newer(workspace: Any, one: Source) -> Any:
        for path, value in real(workspace, one):
            yield path, [*value, {"column": ["other"]}] if path[-1] == "called_raw" else value

    monkeypatch.setattr(in_force, "_declared", newer)
    assert [row.setting for row in diff(site.settings).rows] == ["[[sources]] generic, declaration fields.called_raw"]


def test_a_night_says_once_that_a_change_would_alter_rows(site: Any) -> None:
    of_source(site, area_code="303")
    first = site.night(MORNING)
    said = [line for line in first.warnings if "callward settings diff" in line]
    assert len(said) == 1 and said[0].startswith("generic: settings changed, and 4 records")
    assert [alarm.must_look for alarm in first.found if alarm.kind == "settings"] == [False]
    assert not [line for line in site.night(MORNING).warnings if "callward settings diff" in line]
    site.set(waves={"records": 1000})
    assert not [line for line in site.night(MORNING).warnings if "callward settings diff" in line]


def test_settings_that_alter_nothing_after_reprocess(site: Any) -> None:
    of_source(site, area_code="303")
    reprocess(site.settings, "generic")
    assert diff(site.settings).rows == []


def test_a_workspace_that_has_read_nothing_has_nothing_to_compare(workspace: Callable[..., Any]) -> None:
    assert diff(workspace("asterisk").settings) == Differences()
