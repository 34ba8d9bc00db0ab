"""Golden folders: files of our own invention, the rows that they must become, and what must be set aside."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from callward.parsing.records import records
from schemas.cdr import FEW, PARSED
from schemas.declaration import Declaration, available, load, sniff
from transforms.parse import parse
from transforms.validate import validate

GOLDEN = Path(__file__).parents[1] / "golden"
NOW_MS = 1_796_083_200_000  # 2026-12-01
_LEFT_OUT = ("raw", "silent", "ahead_ms")
EXPECTED = (".rows.jsonl", ".suspense.jsonl")


def _case(folder: Path) -> tuple[Declaration, str]:
    case = json.loads((folder / "case.json").read_text())
    name = case["declaration"]
    return load(folder / name if name.endswith(".toml") else name), case["zone"]


def _inputs() -> list[Path]:
    rows = sorted(GOLDEN.glob("*/*.rows.jsonl"))
    return [path.with_name(path.name.removesuffix(".rows.jsonl")) for path in rows]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """A row as the golden files write it: no nulls, no raw bytes, nothing for alarms, ISO 8601, four decimals."""

    def value(v: Any) -> Any:
        if hasattr(v, "isoformat"):
            return v.isoformat(timespec="milliseconds")
        return round(v, 4) if isinstance(v, float) else v

    return {name: value(v) for name, v in row.items() if v is not None and name not in _LEFT_OUT}


@pytest.mark.parametrize("path", _inputs(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_golden_file_becomes_its_rows_and_suspense(path: Path) -> None:
    declaration, zone = _case(path.parent)
    data = path.read_bytes()
    shape = sniff(data, declaration)
    body = b"".join(data.splitlines(keepends=True)[shape.header_lines :])
    table = validate(parse(records(body, declaration), declaration, shape, zone), NOW_MS)
    assert table.schema == PARSED
    for dictionary in (chunk.dictionary.to_pylist() for f in PARSED if f.type == FEW for chunk in table[f.name].chunks):
        assert len(set(dictionary)) == len(dictionary) and None not in dictionary
    rows = [_told(row) for row in table.to_pylist()]
    good = [row for row in rows if "fault" not in row]
    suspended = [{"line": row["line"], "fault": row["fault"]} for row in rows if "fault" in row]
    assert good == _lines(path.with_name(path.name + ".rows.jsonl"))
    assert suspended == _lines(path.with_name(path.name + ".suspense.jsonl"))


def test_every_declaration_has_a_golden_folder() -> None:
    assert set(available()) <= {folder.name for folder in GOLDEN.iterdir() if (folder / "case.json").exists()}


def test_golden_inputs_hold_fictitious_numbers_only() -> None:
    text = b"\n".join(path.read_bytes() for path in _inputs()).decode("utf-8", "replace")
    dialled = re.findall(r"(?<![0-9a-zA-Z-])1?([2-9]\d{2}[2-9]\d{6})(?![0-9a-zA-Z])", text)
    assert dialled
    assert {number[3:8] for number in dialled} == {"55501"}
