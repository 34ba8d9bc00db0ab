"""What is installed is all there is, works outside the checkout, and stands on permissive licences only."""

import email
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("schemas", "callward", "transforms", "pipelines")


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


def test_versions_agree():
    from callward.runs import CODE_VERSION

    (said,) = re.findall(r'^    version="([\d.]+)"', ROOT.joinpath("setup.py").read_text(), re.MULTILINE)
    assert said == CODE_VERSION
    assert f"## [{said}]" in ROOT.joinpath("CHANGELOG.md").read_text()


def test_versions_are_pinned_in_setup_alone():
    tools = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())
    assert "project" not in tools
    assert not list(ROOT.glob("requirements*"))


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


def test_the_licence_is_apache():
    text = ROOT.joinpath("LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text
    assert 'license="Apache-2.0"' in ROOT.joinpath("setup.py").read_text()


@pytest.mark.parametrize("target", ["demo", "test", "bench", "lint", "endurance", "engine", "engine-cluster", "clean"])
def test_make_knows_its_targets(target):
    done = subprocess.run(["make", "-n", "PYTHON=true", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
