"""Fails when a run-time dependency, or one of theirs, is under a licence that is not permissive.

Reads the metadata of what is installed: the licence expression where there is one (PEP 639), else the licence
classifiers, else the licence field. Needs nothing but the environment that it looks at.
"""

import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, requires

from packaging.requirements import Requirement

ROOT = "callward"
PERMISSIVE = re.compile(
    r"apache|\bbsd\b|bsd-|0bsd|\bmit\b|mit-|\bpsf\b|python software foundation|python-2\.0|\bisc\b|\bmpl|mozilla|zlib"
    r"|unlicense|public domain|cnri|hpnd|cc0",
    re.IGNORECASE,
)
COPYLEFT = re.compile(r"\bA?GPL|\bLGPL|affero|general public|\bSSPL|\bBUSL|commons clause", re.IGNORECASE)
# Whose metadata says nothing: what their licence file says, checked by hand.
BY_HAND: dict[str, str] = {}


def needed(name: str, seen: set[str]) -> Iterator[str]:
    """Names of the distributions that `name` needs at run time on this machine, each once."""
    for text in requires(name) or []:
        requirement = Requirement(text)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        key = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if wanted and key not in seen:
            seen.add(key)
            yield key
            yield from needed(key, seen)


def licence(name: str) -> str:
    """What a distribution says of its licence, in one line; "" when it says nothing."""
    metadata = distribution(name).metadata
    said = [metadata.get("License-Expression") or ""]
    said += [c.rpartition("::")[2].strip() for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")]
    said.append((metadata.get("License") or "").strip().split("\n")[0][:80])
    return next((text for text in said if text and text != "OSI Approved"), BY_HAND.get(name, ""))


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
        names = sorted(needed(ROOT, {ROOT}))
    except PackageNotFoundError as error:
        print(f"licences: {error.name} is not installed", file=sys.stderr)
        return 1
    wrong = [(name, said) for name in names if not permissive(said := licence(name))]
    for name, said in wrong:
        print(f"licences: {name} is under {said or 'a licence that it does not state'}", file=sys.stderr)
    print(f"licences: {len(names)} run-time dependencies, {len(wrong)} not permissive")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
