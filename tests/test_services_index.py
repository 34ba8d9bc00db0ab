"""The row index belongs to services: what answers persons does not name it, and no question of theirs reaches it."""

import re
from pathlib import Path
from typing import Any

import pytest

from callward import audit, query
from callward.access.roles import ROLES
from callward.errors import Problem
from schemas.views import INDEX, PARTS

ROOT = Path(__file__).parent.parent
# Where questions of persons are answered. Each file of the four folders that is not here is a service's.
ANSWERING = ("callward/query.py", "callward/access", "callward/lake/readers.py", "callward/lake/account_sums.py")
COMMANDS = ("pipelines/cli", "pipelines/reports")
_COUNTS_FILES = {"pipelines/reports/night.py"}  # of the manifest, for the summary of a night: it opens none
_NAMES_IT = re.compile(r"\brow_index\b|\bINDEX\b|[\"']index[\"'/]")


def sources(place: str) -> list[Path]:
    path = ROOT / place
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


@pytest.mark.parametrize("place", [*ANSWERING, *COMMANDS])
def test_what_answers_persons_does_not_name_the_index(place: str) -> None:
    naming = {f"{path.relative_to(ROOT)}" for path in sources(place) if _NAMES_IT.search(_code(path))}
    assert naming - _COUNTS_FILES == set()


def _code(path: Path) -> str:
    """Return a module's code without the option of `rebuild` and what else commands say in words."""
    return re.sub(r'typer\.Option\(.*?\)|""".*?"""|#.*', "", path.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("role", sorted(ROLES))
def test_no_question_of_a_person_reaches_the_index_though_its_root_is_there(
    finished: tuple[Any, Path], role: str
) -> None:
    site, _ = finished
    (stored, *_) = site.data_files(INDEX)
    before = audit.newest(site.settings, 1)[0].seq
    lake = site.settings.lake_path / stored.path
    for table in ("row_index", "lake.index", '"index"', f"read_parquet('{lake}')", f"parquet_metadata('{lake}')"):
        with pytest.raises(Problem):
            query.query(site.settings, role, f"SELECT * FROM {table}")
    own = ROLES[role].view
    if own in PARTS:
        query.query(site.settings, role, f"SELECT * FROM {own}")
    since = [entry for entry in audit.newest(site.settings, 1000) if entry.seq > before and entry.event == "open"]
    opened = {entry.subject.split()[1].partition("/")[0] for entry in since}  # subject: id and name of a key
    assert opened == ({own} if own in PARTS else set())
