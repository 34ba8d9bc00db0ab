"""Fails when a run-time dependency, an extra's too, or one of theirs, is under a licence that is not permissive.

Reads the metadata of what is installed: the licence expression where there is one (PEP 639), else the licence
classifiers, else the licence field. Needs nothing but the environment that it looks at.
"""

import ast
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution, requires
from itertools import chain
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

SETUP = Path(__file__).resolve().parent.parent / "setup.py"
PERMISSIVE = re.compile(
    r"apache|\bbsd\b|bsd-|0bsd|\bmit\b|mit-|\bpsf\b|python software foundation|python-2\.0|\bisc\b|zlib"
    r"|unlicense|public domain|cnri|hpnd|cc0",
    re.IGNORECASE,
)
# Weak copyleft that stays within its own files: a list of certificates, used as it comes.
EXCEPTIONS = {"certifi": "Mozilla Public License 2.0 (MPL 2.0)"}
COPYLEFT = re.compile(r"\bA?GPL|\bLGPL|affero|general public|\bSSPL|\bBUSL|commons clause", re.IGNORECASE)


def stated() -> list[str]:
    """Return the requirements that setup.py states for use: RUNTIME, and OPTIONAL of every extra."""
    values: dict[str, Any] = {}
    for node in ast.parse(SETUP.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and (name := getattr(node.targets[0], "id", "")) in ("RUNTIME", "OPTIONAL"):
            values[name] = ast.literal_eval(node.value)
    return [*values["RUNTIME"], *chain.from_iterable(values["OPTIONAL"].values())]


def needed(
    requirements: Iterable[str], seen: set[tuple[str, frozenset[str]]], extras: Collection[str] = ()
) -> Iterator[str]:
    """Yield the distributions that requirements and the extras asked for need at run time on this machine."""
    for text in requirements:
        requirement = Requirement(text)
        key = re.sub(r"[-_.]+", "-", requirement.name).lower()
        visit = (key, frozenset(requirement.extras))
        if visit not in seen and applies(requirement, extras):
            seen.add(visit)
            yield key
            yield from needed(requires(key) or [], seen, requirement.extras)


def applies(requirement: Requirement, extras: Collection[str]) -> bool:
    """Return whether a requirement is one of this machine and Python, where these extras are asked for."""
    return requirement.marker is None or any(requirement.marker.evaluate({"extra": name}) for name in ("", *extras))


def licence(name: str) -> str:
    """What a distribution says of its licence, in one line; "" when it says nothing."""
    metadata = distribution(name).metadata
    said = [metadata.get("License-Expression") or ""]
    said += [c.rpartition("::")[2].strip() for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")]
    said.append((metadata.get("License") or "").strip().split("\n")[0][:80])
    return next((text for text in said if text and text != "OSI Approved"), "")


def permissive(text: str) -> bool:
    """Whether a licence as `licence` gives it may be among the run-time dependencies.

    Of "A OR B" one is enough, of "A AND B" both are needed.
    """
    if not text:
        return False
    choices = re.split(r"\s+OR\s+", text)
    return any(bool(PERMISSIVE.search(choice)) and not COPYLEFT.search(choice) for choice in choices)


def main() -> int:
    try:
        names = sorted(set(needed(stated(), set())))
    except PackageNotFoundError as error:
        print(f"licences: {error.name} is not installed", file=sys.stderr)
        return 1
    said = {name: licence(name) for name in names}
    wrong = [(name, text) for name, text in said.items() if not permissive(text) and EXCEPTIONS.get(name) != text]
    for name, text in wrong:
        print(f"licences: {name} is under {text or 'a licence that it does not state'}", file=sys.stderr)
    print(f"licences: {len(names)} run-time dependencies with all extras, {len(wrong)} not permissive")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
