"""One recognizer decides what looks like a number: no other pattern in the sources takes seven digits for one."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("schemas", "callward", "transforms", "pipelines")
LEAST = 7  # digits of a number
# Patterns that take so many digits and decide nothing about numbers: what they read instead.
OTHERS = {
    "callward/accounts": "numbers of accounts, which calls are compared with",
    "callward/database": "the file of a migration; a figure that a server returns",
    "callward/error_text.py": "an error number of the operating system",
    "callward/feeds/dirt.py": "the date in a made-up record",
    "callward/ingest/kafka.py": "milliseconds in a message of the client library",
    "callward/keys/exports.py": "the serial number of an export",
    "callward/numbering": "numbers in records, which it normalizes",
    "callward/parsing": "times and figures in records",
    "callward/redaction.py": "the recognizer",
    "callward/release/declaration.py": "a period",
    "callward/retention/requests/hotlines.py": "the numbers of hotlines",
    "callward/settings/inputs.py": "the hash of a password",
    "callward/settings/tenants.py": "numbers of accounts",
    "callward/sweep": "numbers in bytes",
    "pipelines/engine/flink.py": "an error number of Java",
    "schemas/toml.py": "the line of an error in TOML",
    "transforms/parse.py": "figures that a spreadsheet rounded",
}
_DIGIT = r"(?:\\d|\[0-9\]|\[1-9\]|\[:digit:\]|\\p\{Nd?\})"
_SOME = re.compile(rf"{_DIGIT}(?:\{{(\d*)(,?)(\d*)\}}|([+*])|)")


def most_digits(pattern: str) -> float:
    """Return how many digits a pattern takes at most; one whose group repeats takes any number."""
    pattern = re.sub(r"(?<!\\)\[(?!0-9\]|1-9\])[^\]]*\]", ".", pattern)  # other classes of characters may hold brackets
    if re.search(rf"\([^()]*{_DIGIT}[^()]*\)(?:\{{\d+,\}}|[+*])", pattern):
        return float("inf")
    return sum(_most(match) for match in _SOME.finditer(pattern))


def _most(match: re.Match[str]) -> float:
    least, comma, most, endless = match.groups()
    if endless or (comma and not most):
        return float("inf")
    return int(most or least or 1)


def digit_patterns(source: str) -> Iterator[int]:
    """Yield the lines of patterns that take seven digits or more, and of code that counts digits."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            if most_digits(text) >= LEAST:
                yield node.lineno
        elif isinstance(node, ast.comprehension | ast.GeneratorExp):
            tests = {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
            if tests & {"isdigit", "isdecimal", "isnumeric"} and isinstance(node, ast.GeneratorExp):
                yield node.lineno


def _is_other(path: Path) -> bool:
    return any(str(path).startswith(other) for other in OTHERS)


def test_no_other_pattern_decides_what_looks_like_a_number() -> None:
    paths = [path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]
    others = [path for path in paths if not _is_other(path.relative_to(ROOT))]
    assert [f"{path.relative_to(ROOT)}:{line}" for path in others for line in digit_patterns(path.read_text())] == [], (
        "use callward/redaction.py to recognize a number; name a pattern that reads something else in OTHERS"
    )


@pytest.mark.parametrize("other", OTHERS)
def test_every_exception_is_needed(other: str) -> None:
    path = ROOT / other
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    assert any(list(digit_patterns(file.read_text())) for file in files)


@pytest.mark.parametrize(
    "source",
    [
        r're.compile(r"\d{7,}")',
        r're.sub(r"\d", "#", x) if sum(c.isdigit() for c in x) >= 7 else x',
        r're.compile(r"\d(?:[\s().+/_-]{0,3}\d){4,}")',
        r're.compile(r"\(?\d{3}\)?[-. ]{1,2}\d{3}[-. ]\d{4}")',
        r're.compile(rb"[0-9]+")',
        r're.compile("\\+[1-9]\\d{6,14}")',
    ],
)
def test_the_patterns_that_were_there_are_found(source: str) -> None:
    assert list(digit_patterns(source))


def test_short_runs_are_no_pattern_of_a_number() -> None:
    assert not list(digit_patterns(r're.compile(r"[A-Z]{2}\d{1,5}"); x.isdigit()'))
