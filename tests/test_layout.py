"""The layout of the code (design, section 3): imports only go down, and Beam is known from transforms/ upwards."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("schemas", "callward", "transforms", "pipelines")  # from the bottom to the top
FILES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, top-level package) of every import in a file, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, (node.module or "").partition(".")[0] if not node.level else _layer(path)


def _layer(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def upward(path: Path) -> list[str]:
    """Imports of a file that go up, or that bring Beam below transforms/."""
    above = set(LAYERS[LAYERS.index(_layer(path)) + 1 :])
    if _layer(path) in ("schemas", "callward"):
        above.add("apache_beam")
    above |= {"tests", "bench"}
    return [f"{path.relative_to(ROOT)}:{line} imports {name}" for line, name in imported(path) if name in above]


def test_imports_only_go_down() -> None:
    assert [found for path in FILES for found in upward(path)] == []


def test_there_is_something_to_check_in_every_layer() -> None:
    assert {_layer(path) for path in FILES} == set(LAYERS)


@pytest.mark.parametrize(
    ("layer", "line"),
    [
        ("schemas", "from callward.keys.keys import Key"),
        ("callward", "import apache_beam as beam"),
        ("callward", "def f():\n    import transforms.parse"),
        ("transforms", "from pipelines import nightly"),
    ],
)
def test_an_import_that_goes_up_is_found(
    layer: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / layer).mkdir()
    (tmp_path / layer / "wrong.py").write_text(line, encoding="utf-8")
    assert len(upward(tmp_path / layer / "wrong.py")) == 1


def test_what_runs_without_beam_does_not_load_it() -> None:
    """A person who asks for SQL or for suspense waits for no engine: callward/ loads without Beam."""
    names = sorted(
        {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "callward").glob("*.py")}
    )
    load = f"[importlib.import_module(name) for name in {names!r}]"
    code = f"import sys, importlib; {load}; sys.exit('apache_beam' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
