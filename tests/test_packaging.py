"""What is installed is all there is, works outside the checkout, and stands on permissive licences only."""

import ast
import email
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("schemas", "callward", "transforms", "pipelines")
_IMPORT = re.compile(r"^ *(?:import (\w+)|from (\w+)[\w.]* import )", re.MULTILINE)
LOCKS = sorted(ROOT.joinpath("requirements").glob("*.txt"))


def _licences():
    spec = importlib.util.spec_from_file_location("licences", ROOT / ".ci" / "licences.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The package as setuptools lays it out for a wheel, built from a copy of what a checkout has."""
    copy, target = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("built")
    for name in (*FOLDERS, "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        copy.joinpath(name).symlink_to(ROOT / name)
    command = [sys.executable, "setup.py", "-q", "egg_info", "-e", str(target), "build_py", "--build-lib", str(target)]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def test_every_module_and_data_file_is_packaged(built):
    kinds = ("*.py", "*.toml", "*.mako", "*.html", "*.css", "*.svg")
    wanted = {
        str(path.relative_to(ROOT))
        for folder in FOLDERS
        for kind in kinds
        for path in ROOT.joinpath(folder).rglob(kind)
        if "__pycache__" not in path.parts
    }
    found = {str(path.relative_to(built)) for kind in kinds for path in built.rglob(kind)}
    assert wanted - found == set()
    assert found - wanted == set()


def test_the_built_package_makes_a_workspace_outside_the_checkout(built, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(built)}
    command = [
        sys.executable,
        "-P",
        "-c",
        "from pipelines.cli.main import main; main()",
        "init",
        "--demo",
        str(tmp_path / "w"),
    ]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    command[-3:] = ["nightly", "--explain", "--json"]
    environment["CALLWARD_CONFIG"] = str(tmp_path / "w")
    explained = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert explained.returncode == 0, explained.stderr
    assert "acc_flatstore" not in explained.stderr and '"talk_ms"' in explained.stdout


def test_the_wheel_has_a_readme_and_classifiers(built):
    metadata = email.message_from_string(built.joinpath("callward.egg-info", "PKG-INFO").read_text(encoding="utf-8"))
    readme = ROOT.joinpath("README.md").read_text(encoding="utf-8")
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().strip() == readme.strip()
    classifiers = metadata.get_all("Classifier")
    assert f"Programming Language :: Python :: {metadata['Requires-Python'].removeprefix('>=')}" in classifiers
    assert not [name for name in classifiers if name.startswith("License ::")], "license is an SPDX expression"


def test_the_package_states_its_extras(built):
    stated = built.joinpath("callward.egg-info", "requires.txt").read_text(encoding="utf-8")
    always, *extras = re.split(r"^\[(.*)\]$", stated, flags=re.MULTILINE)
    assert {Requirement(text).name for text in always.split()} == {Requirement(text).name for text in _setup("RUNTIME")}
    assert set(extras[::2]) == {*_setup("OPTIONAL"), "all", "dev"}


def test_versions_agree():
    from callward.runs import CODE_VERSION

    (said,) = re.findall(r'^    version="([\d.]+)"', ROOT.joinpath("setup.py").read_text(), re.MULTILINE)
    assert said == CODE_VERSION
    assert f"## [{said}]" in ROOT.joinpath("CHANGELOG.md").read_text()


def _setup(name: str) -> Any:
    """A literal of setup.py."""
    for node in ast.parse(ROOT.joinpath("setup.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f"setup.py has no {name}")


def _pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\$", path.read_text(encoding="utf-8"), re.MULTILINE))


def _stated(dev: bool) -> list[Requirement]:
    stated = [*_setup("RUNTIME"), *chain.from_iterable(_setup("OPTIONAL").values()), *(_setup("DEV") if dev else [])]
    return [Requirement(text) for text in stated]


def test_requirements_stand_in_setup_alone():
    tools = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())
    assert "project" not in tools
    assert not list(ROOT.glob("requirements*.txt"))


def test_every_library_that_is_imported_is_stated():
    stated = {requirement.name for requirement in _stated(False)}
    of_module = packages_distributions()
    missing = {
        name: sorted(distributions)
        for name in _imported() - set(FOLDERS) - sys.stdlib_module_names
        if not (distributions := {_normal(d) for d in of_module.get(name, [])}) & stated
    }
    assert missing == {}, "it comes with another library, until that one does without it"


def _imported() -> set[str]:
    """The top-level modules that our code imports."""
    texts = (path.read_text(encoding="utf-8") for folder in FOLDERS for path in ROOT.joinpath(folder).rglob("*.py"))
    return {name for text in texts for pair in _IMPORT.findall(text) for name in pair if name}


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_beam_is_exact_as_its_job_server_is_tested_with_it():
    (beam,) = (requirement for requirement in _stated(False) if requirement.name == "apache-beam")
    assert str(beam.specifier).startswith("==")


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_a_lock_file_has_what_setup_asks_for(path):
    pins = _pins(path)
    for requirement in _stated(dev=path.stem.endswith("-dev")):
        name = requirement.name.lower()
        assert pins.get(name) and requirement.specifier.contains(pins[name]), f"{name}: make lock"
    assert "setuptools" in pins, "callward itself is built without fetching anything"


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_a_lock_file_has_hashes_and_names_no_index(path):
    text = path.read_text(encoding="utf-8")
    stanzas = re.split(r"^(?=[a-z0-9])", re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE), flags=re.MULTILINE)[1:]
    assert len(stanzas) == len(_pins(path))
    assert all("--hash=sha256:" in stanza for stanza in stanzas)
    assert "://" not in text and "--index" not in text and "--find-links" not in text


def test_tests_run_with_the_versions_that_are_installed_elsewhere():
    for path in LOCKS:
        if not path.stem.endswith("-dev"):
            assert _pins(path).items() <= _pins(path.with_name(f"{path.stem}-dev.txt")).items()


def test_make_and_the_image_install_from_a_lock_file():
    image = ROOT.joinpath("deploy/kubernetes/Dockerfile.callward").read_text()
    makefile = ROOT.joinpath("Makefile").read_text()
    (python,) = re.findall(r"^ARG BASE=python:(3\.\d+)", image, re.MULTILINE)
    assert f"requirements/py{python.replace('.', '')}.txt" in image
    for text in (image, makefile):
        installs = re.findall(r"(?:pip|\(PIP\)) install (.*)", text)
        assert len(installs) == 2
        assert all("--require-hashes" in line or "--no-deps --no-build-isolation" in line for line in installs)


def test_run_time_dependencies_are_permissive():
    assert _licences().main() == 0


@pytest.mark.parametrize(
    ("said", "allowed"),
    [
        ("Apache-2.0", True),
        ("BSD-3-Clause", True),
        ("MIT OR GPL-3.0-only", True),
        ("MIT License", True),
        ("Apache-2.0 AND GPL-3.0-only", False),
        ("GNU Lesser General Public License v3 (LGPLv3)", False),
        ("LGPL-2.1-or-later", False),
        ("GNU Affero General Public License v3", False),
        ("AGPL-3.0", False),
        ("Mozilla Public License 2.0 (MPL 2.0)", False),
        ("Proprietary", False),
        ("", False),
    ],
)
def test_a_licence_that_is_not_permissive_is_told(said, allowed):
    assert _licences().permissive(said) is allowed


def test_the_licence_gate_covers_the_extras():
    names = set(_licences().needed(_licences().stated(), set()))
    assert {"apache-beam", "opendp", "confluent-kafka", "aiohttp", "pg8000"} <= names


def test_the_licence_is_apache():
    text = ROOT.joinpath("LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text
    assert 'license="Apache-2.0"' in ROOT.joinpath("setup.py").read_text()


def test_an_audit_that_cannot_look_up_fails_and_is_no_part_of_lint():
    printed = {
        target: subprocess.run(["make", "-n", "PYTHON=true", target], cwd=ROOT, capture_output=True, text=True).stdout
        for target in ("audit", "lint")
    }
    assert "pip_audit --strict" in printed["audit"] and "--require-hashes" in printed["audit"]
    assert "pip_audit" not in printed["lint"]


@pytest.mark.parametrize(
    "target", ["demo", "test", "bench", "lint", "endurance", "engine", "engine-cluster", "lock", "audit", "clean"]
)
def test_make_knows_its_targets(target):
    done = subprocess.run(["make", "-n", "PYTHON=true", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
