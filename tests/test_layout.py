"""The layout of the code (design, section 3): imports only go down, rooms form no circle, and Beam is known from
transforms/ upwards."""

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import pytest

from tests import balance

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("schemas", "callward", "transforms", "pipelines")  # from the bottom to the top

Arrows = Mapping[str, Set[str]]


def files(root: Path, layer: str) -> list[Path]:
    return sorted((root / layer).rglob("*.py"))


def imported(root: Path, path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of every import of a file, also those inside functions; `from a import b` is a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{_absolute(root, path, node)}.{alias.name}") for alias in node.names)


def _absolute(root: Path, path: Path, node: ast.ImportFrom) -> str:
    here = path.relative_to(root).parts[: -node.level] if node.level else ()
    return ".".join((*here, *(node.module or "").split("."))).strip(".")


def _folder(name: str) -> str:
    return name.partition(".")[0]


def upward(root: Path, layer: str) -> list[str]:
    """Return the imports of a layer's files that go up, or that bring Beam below transforms/."""
    above = {*LAYERS[LAYERS.index(layer) + 1 :], "tests", "bench"}
    if layer in ("schemas", "callward"):
        above.add("apache_beam")
    places = ((path, line, name) for path in files(root, layer) for line, name in imported(root, path))
    return sorted(
        {f"{path.relative_to(root)}:{line} imports {_folder(n)}" for path, line, n in places if _folder(n) in above}
    )


def module(root: Path, path: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def rooms(root: Path, layer: str) -> dict[str, str]:
    """Return each module's room: the package that it lies in, or, where that is the layer itself, the module alone."""
    names = {module(root, path): path for path in files(root, layer)}
    packages = {name for name, path in names.items() if path.name == "__init__.py"}
    within = {name: name if name in packages else name.rpartition(".")[0] for name in names}
    return {name: name if room == layer else room for name, room in within.items()}


def arrows(root: Path, layer: str) -> dict[str, set[str]]:
    """Return the rooms of a layer, each with the other rooms of it that its modules import."""
    room_of, reached = rooms(root, layer), defaultdict[str, set[str]](set)
    for path in files(root, layer):
        room = room_of[module(root, path)]
        reached[room] |= {_room(name, room_of) for _, name in imported(root, path)} - {room, ""}
    return reached


def _room(name: str, room_of: Mapping[str, str]) -> str:
    """Return the room of what is imported: a module, or something in one; "" where it is of no room."""
    while name and name not in room_of:
        name = name.rpartition(".")[0]
    return room_of.get(name, "")


def circle(graph: Arrows) -> list[str]:
    """Return rooms that import each other all round, the first one again at the end; [] where there are none."""
    cleared: set[str] = set()

    def walk(path: list[str]) -> list[str]:
        for room in sorted(graph.get(path[-1], ())):
            if room in path:
                return [*path[path.index(room) :], room]
            if room not in cleared and (closed := walk([*path, room])):
                return closed
        cleared.add(path[-1])
        return []

    return next((closed for room in sorted(graph) if (closed := walk([room]))), [])


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_only_go_down_between_folders(layer: str) -> None:
    assert files(ROOT, layer)
    assert upward(ROOT, layer) == []


@pytest.mark.parametrize("layer", LAYERS)
def test_rooms_of_a_folder_form_no_circle(layer: str) -> None:
    assert " → ".join(circle(arrows(ROOT, layer))) == ""


def plant(root: Path, texts: Mapping[str, str]) -> None:
    """Write modules below `root`, with the packages that they lie in."""
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in path.relative_to(root).parents:
            if folder.parts:
                (root / folder / "__init__.py").touch()
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        ("schemas", "from callward.keys.keys import Key"),
        ("callward", "def f():\n    import transforms.parse"),
        ("transforms", "from pipelines import nightly"),
        ("pipelines", "import tests.commands"),
        ("schemas", "import apache_beam"),
        ("callward", "import apache_beam as beam"),
        ("callward", "from apache_beam.coders import coders"),
    ],
)
def test_an_import_that_goes_up_is_found(layer: str, text: str, tmp_path: Path) -> None:
    plant(tmp_path, {f"{layer}/room/wrong.py": text})
    assert len(upward(tmp_path, layer)) == 1


@pytest.mark.parametrize(
    "texts",
    [
        {"a.py": "from callward import b", "b.py": "import callward.a"},
        {"a/x.py": "from callward.b import y", "b/y.py": "def f():\n    from callward.a.z import it", "a/z.py": ""},
        {"a/x.py": "from callward import b", "b.py": "from callward.c import y", "c/y.py": "from ..a import x"},
        {"a/x.py": "from callward.a.deep import y", "a/deep/y.py": "from callward.a import x"},
        {"a/x.py": "from callward.b import c, it", "b/__init__.py": "import callward.a.x", "b/c/y.py": ""},
        {"a/__init__.py": "import callward.b", "b.py": "from callward.a import it"},
    ],
)
def test_a_circle_between_rooms_is_found(texts: dict[str, str], tmp_path: Path) -> None:
    plant(tmp_path, {f"callward/{name}": text for name, text in texts.items()})
    assert circle(arrows(tmp_path, "callward"))


@pytest.mark.parametrize(
    "texts",
    [
        {"a/x.py": "from callward.a import z", "a/z.py": "from callward.a import x"},  # within a room
        {"a/x.py": "from callward.b import y", "b/y.py": "import callward.c", "c.py": ""},
        {"a/x.py": "from callward.a.deep import y", "a/deep/y.py": "from callward import b", "b.py": ""},
        {"a/x.py": "from callward.b import y", "b/y.py": "", "b/z.py": "from callward import c", "c.py": ""},
    ],
)
def test_rooms_that_only_look_down_are_no_circle(texts: dict[str, str], tmp_path: Path) -> None:
    plant(tmp_path, {f"callward/{name}": text for name, text in texts.items()})
    assert circle(arrows(tmp_path, "callward")) == []


def test_what_runs_without_beam_does_not_load_it() -> None:
    """A person who asks for SQL or for suspense waits for no engine: schemas/ and callward/ load without Beam."""
    paths = [path for layer in ("schemas", "callward") for path in files(ROOT, layer)]
    names = [module(ROOT, path) for path in paths if "migrations" not in path.parts]
    assert names_loaded_with_beam(names, ROOT) == "[]"


def test_beam_that_is_loaded_on_the_way_is_seen(tmp_path: Path) -> None:
    plant(tmp_path, {"callward/room/a.py": "import importlib\nimportlib.import_module('apache_' + 'beam')"})
    (tmp_path / "apache_beam.py").touch()
    assert names_loaded_with_beam(["callward.room.a"], tmp_path) == "['callward.room.a']"


def names_loaded_with_beam(names: list[str], root: Path) -> str:
    """Return which of the modules were the first to load Beam, in a process of its own that starts at `root`."""
    code = f"""
import importlib, sys
first = []
for name in {names!r}:
    importlib.import_module(name)
    if not first and "apache_beam" in sys.modules:
        first.append(name)
print(first)
"""
    printed = subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True)
    return printed.stdout.strip()


def test_the_files_of_tests_that_take_long_are_there() -> None:
    assert [name for name in balance._LONGEST if not (ROOT / "tests" / name).is_file()] == []
