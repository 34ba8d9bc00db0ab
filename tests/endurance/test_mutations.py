"""Nights over golden files that something happened to: never a crash, always balanced, and no file comes to nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from schemas.declaration import available
from tests.commands import run, strays
from tests.conftest import AS_INSTALLED
from tests.examples import tries
from tests.mutations import mutated_files

pytestmark = pytest.mark.endurance


@tries(8, suppress_health_check=list(HealthCheck), deadline=None)
@given(files=st.lists(mutated_files(), min_size=60, max_size=60))
def test_a_night_over_changed_files_is_balanced_and_silent_about_none(
    files: list[tuple[Path, bytes]], workspace: Callable[..., Any], feed_source: Callable[..., Any]
) -> None:
    site = workspace(*(feed_source(name, format=name) for name in available()), engine=AS_INSTALLED)
    for number, (path, data) in enumerate(files):
        site.land(path.parent.name, f"{number:03d}.txt", data)
    ended = run("nightly", "--json", "--config", str(site.folder)).check_clean()
    assert ended.code in (0, 3)
    assert site.unbalanced() == {} and site.differing() == 0 and strays(site) == []
    night = ended.document
    rows = {file["file"]: file["rows"] for file in night["files"]}
    left = {file["file"]: file["reason"] for file in night["left_alone"]}
    for number, (path, data) in enumerate(files):
        name = f"{path.parent.name}/{number:03d}.txt"
        assert (name in rows) != (name in left), name
        assert rows.get(name) != 0 or len(data.split()) < 20 or path.name == "names_and_nothing", name
