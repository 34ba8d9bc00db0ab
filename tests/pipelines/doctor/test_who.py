"""doctor knows the role that asks: a person sees nothing that is not theirs to fix."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from callward.initiate import root_file
from callward.settings import KEY_DOMAINS, Settings
from callward.template import render
from pipelines.doctor import who
from pipelines.doctor.checks import examine


@pytest.fixture
def person(workspace: Callable[..., Any], tmp_path: Path) -> Callable[..., Settings]:
    """person("billing") → settings of somebody who has copies of these roots, and the same lake and database."""
    site = workspace("generic")

    def settings(*domains: str) -> Settings:
        folder = tmp_path / "-".join(("of", *domains))
        folder.mkdir(mode=0o700)
        for domain in domains:
            shutil.copy2(root_file(site.settings, domain), folder / f"{domain}.root")
        given = {
            "lake": {"uri": f"file:{site.settings.lake_path}"},
            "database": {"url": f"sqlite:///{site.settings.database_file}"},
            "keys": {"roots": {domain: f"local:{domain}.root" for domain in domains}},
        }
        mine = Settings(path=folder / "callward.toml", **given)
        mine.path.write_text(render(mine))
        return mine

    return settings


@pytest.mark.parametrize(
    ("domains", "role"),
    [
        (("billing",), "billing"),
        (("billing", "billing-numbers"), "billing, with a case"),
        (("assurance",), "assurance"),
        (("hold",), "legal"),
        ((), "compliance, ops or analytics (no root opens)"),
        (("suspense", "billing"), "whoever opens billing, suspense"),
    ],
)
def test_a_person_has_nothing_to_fix_that_is_not_theirs(
    person: Callable[..., Settings], domains: tuple[str, ...], role: str
) -> None:
    settings = person(*domains)
    assert who.person(settings) == role
    found = examine(str(settings.path))
    assert [finding for finding in found if finding.bad] == []
    assert {f.what for f in found if f.what.startswith("root ")} == {f"root {domain}" for domain in domains}


def test_a_person_whose_own_root_does_not_open_is_told(person: Callable[..., Settings]) -> None:
    settings = person("billing", "billing-numbers")
    (settings.folder / "billing-numbers.root").chmod(0o644)
    assert [finding.what for finding in examine(str(settings.path)) if finding.bad] == ["root billing-numbers"]


def test_a_service_that_lost_its_roots_is_no_person(workspace: Callable[..., Any]) -> None:
    settings = workspace("generic").settings
    assert who.person(settings) is None
    for domain in KEY_DOMAINS:
        root_file(settings, domain).unlink()
    assert who.person(settings) is None
    assert sum(f.bad for f in examine(str(settings.path)) if f.what.startswith("root ")) == len(KEY_DOMAINS)
