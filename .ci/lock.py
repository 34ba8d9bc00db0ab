"""Write requirements/: what `make`, CI and the image install, with hashes; two files per Python version.

pyXY.txt is what callward needs to run, with all extras; pyXY-dev.txt adds what tests and lint need, at the same
versions. Versions that are there stay unless they no longer fit setup.py; --upgrade takes the newest. Both name no
index: whoever installs says where from. Fails when a package has no wheel for one of PLATFORMS.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path("requirements")
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28")
PIN = re.compile(r"^[a-z0-9][^=\s]*==\S+", re.MULTILINE)


def main(options: Sequence[str]) -> int:
    for python in PYTHONS:
        name = FOLDER / f"py{python.replace('.', '')}"
        dev, run = f"{name}-dev.txt", f"{name}.txt"
        lock(python, dev, "--extra", "dev", *options)
        lock(python, run, "--extra", "all", "--constraint", dev, *options)
        for platform in PLATFORMS:
            check_wheels(python, dev, platform)
        print(f"{run}, {dev}: {len(pins(run))} and {len(pins(dev))} packages for Python {python}")
    return 0


def lock(python: str, file: str, *options: str) -> None:
    """Write one file: setup.py with an extra, and what builds callward itself, as nothing is fetched for that."""
    build = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    command = ("setup.py", "-", "--generate-hashes", "--custom-compile-command", "make lock", "--output-file", file)
    compile_for(python, PLATFORMS[0], *command, *options, stdin="\n".join(build))


def check_wheels(python: str, file: str, platform: str) -> None:
    """Exit where a platform needs other packages than the file has, or one of them has no wheel for it."""
    printed = compile_for(python, platform, file, "--only-binary", ":all:", "--no-annotate")
    if other := set(PIN.findall(printed)) ^ pins(file):
        sys.exit(f"{file} does not fit {platform}: {', '.join(sorted(other))}")


def pins(file: str) -> set[str]:
    """Return the name==version of every package of a file."""
    return set(PIN.findall(ROOT.joinpath(file).read_text(encoding="utf-8")))


def compile_for(python: str, platform: str, *options: str, stdin: str = "") -> str:
    """Return what uv prints as it resolves for a Python version and a platform; exits with its sentence on an error."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-config"]
    command += ["--python-version", python, "--python-platform", platform, *options]
    done = subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"lock: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
