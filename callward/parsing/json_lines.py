"""Lines of a JSON file onto the sheet: by pyarrow, and one by one the few that it refuses."""

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from callward.parsing.raw_columns import (
    BLOCK,
    Part,
    Rows,
    Sheet,
    Texts,
    any_true,
    as_mask,
    by_distinct,
    finished,
    joined,
)
from schemas.codes import Suspense
from schemas.declaration import File

_GROUP: Final = 1024  # JSON records that are tried together after a block was refused
_SAMPLE: Final = 16
_EACH: Final = ""  # among the fields that are asked for: those of each element of a list
_TWICE: Final = str(b"two values of one name", "ascii")  # known by being this very object


def read_json(sheet: Sheet, rows: Rows, lines: pa.LargeBinaryArray, file: File, paths: list[str]) -> None:
    """Read `lines` (an object each) by pyarrow; in groups where it refuses the block; one by one where a group."""
    # A line that starts and ends as an object cannot be the rest of another: so many rows means these rows.
    alike = as_mask(pc.and_(pc.starts_with(lines, pattern=b"{"), pc.ends_with(lines, pattern=b"}")))
    parts, refused = _json_parts(lines, np.flatnonzero(alike), paths)
    singly = np.concatenate([np.flatnonzero(~alike), *refused])
    objects = [_object(lines[int(at)].as_py()) for at in singly]
    values = [None if document is None else [_at(document, path) for path in paths] for document in objects]
    good = np.array([row is not None and not any(value is _TWICE for value in row) for row in values], bool)
    sheet.mark(rows[singly[~good]], Suspense.JSON)
    if good.any():
        kept = zip(*(values[at] or () for at in np.flatnonzero(good)), strict=True)
        parts.append((singly[good], {path: _texts(column) for path, column in zip(paths, kept, strict=True)}))
    if parts:
        texts = {path: finished(pa.concat_arrays([texts[path] for _, texts in parts]), file) for path in paths}
        sheet.parts.append(Part(rows[np.concatenate([at for at, _ in parts])], texts))


def _json_parts(
    lines: pa.LargeBinaryArray, which: Rows, paths: list[str]
) -> tuple[list[tuple[Rows, Texts]], list[Rows]]:
    """Return what pyarrow reads of the lines at `which`, and the groups of lines that it refuses."""
    if not len(which):
        return [], []
    texts = _objects_by_pyarrow(lines if len(which) == len(lines) else lines.take(pa.array(which)), paths)
    if texts is not None:
        return [(which, texts)], []
    if len(which) <= _GROUP:
        return [], [which]
    halves = [_json_parts(lines, half, paths) for half in np.array_split(which, 2)]
    return [part for parts, _ in halves for part in parts], [group for _, groups in halves for group in groups]


def _objects_by_pyarrow(lines: pa.LargeBinaryArray, paths: list[str]) -> Texts | None:
    longest = pc.max(pc.binary_length(lines)).as_py()
    try:
        table = pa.json.read_json(
            joined(lines),
            pa.json.ReadOptions(use_threads=False, block_size=max(BLOCK, 2 * longest)),
            pa.json.ParseOptions(explicit_schema=_json_schema(lines, paths), unexpected_field_behavior="ignore"),
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    if table.num_rows != len(lines):
        return None
    return {path: _leaf(table, path.split(".")) for path in paths}


def _json_schema(lines: pa.LargeBinaryArray, paths: list[str]) -> pa.Schema:
    """Return the declared paths, each a string unless a sample of the records has numbers or booleans there."""
    step = max(1, len(lines) // _SAMPLE)
    sample = [_object(lines[at].as_py(), as_written=False) for at in range(0, len(lines), step)]
    tree: dict[str, Any] = {}
    for path in paths:
        *parents, last = (_EACH if _is_place(name) else name for name in path.split("."))
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[last] = _leaf_type({type(_at(document, path)) for document in sample if document is not None})
    return pa.schema([(name, _arrow_type(kind)) for name, kind in tree.items()])


def _leaf_type(seen: set[type]) -> pa.DataType:
    # Each of these refuses what is of another: a string of digits must never be read as a number.
    for kind, arrow in ((bool, pa.bool_()), (float, pa.float64()), (int, pa.int64())):
        if kind in seen:
            return arrow
    return pa.string()


def _arrow_type(kind: Any) -> pa.DataType:
    if not isinstance(kind, dict):
        return kind
    if _EACH in kind:
        return pa.list_(_arrow_type(kind[_EACH]))
    return pa.struct([(name, _arrow_type(inner)) for name, inner in kind.items()])


def _leaf(table: pa.Table, path: list[str]) -> pa.Array:
    values = table[path[0]].combine_chunks()
    for name in path[1:]:
        values = _element(values, int(name)) if _is_place(name) else pc.struct_field(values, name)
    if pa.types.is_floating(values.type) and not pc.all(pc.is_finite(values), min_count=0).as_py():
        values = pc.if_else(pc.is_finite(values), values, None)
    text = values.cast(pa.string())
    exponents = pa.types.is_floating(values.type) and any_true(pc.match_substring(text, "e"))
    return by_distinct(text, _number) if exponents else text


def _element(lists: pa.ListArray, place: int) -> pa.Array:
    """Return the element of each list at a place, counted from its end where negative; null where there is none."""
    bounds = lists.offsets.to_numpy()
    first, end = bounds[:-1].astype(np.int64), bounds[1:]
    at = (end if place < 0 else first) + place
    none = (at < first) | (at >= end) | as_mask(lists.is_null())
    return lists.values.take(pa.array(at, mask=none))


def _is_place(name: str) -> bool:
    """Return whether a part of a path is a place in a list."""
    return name.removeprefix("-").isdecimal()


def _object(line: bytes, as_written: bool = True) -> dict[str, Any] | None:
    """Return the JSON object of a record, its numbers as text; None where it is none."""
    try:
        document = json.loads(line, **_AS_WRITTEN) if as_written else json.loads(line)
        json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError, ArithmeticError):  # such as an exponent of twenty digits
        return None
    return document if isinstance(document, dict) else None


def _named_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, with _TWICE where a name has two different values."""
    named = dict(pairs)
    if len(named) < len(pairs):
        named |= {name: _TWICE for name, value in pairs if named[name] != value}
    return named


def _number(text: str) -> str:
    """Return a JSON number as `_leaf` writes it: no exponent, no zeros at the end of a fraction."""
    if text.lstrip("-").isdecimal():
        return text
    plain = format(Decimal(text), "f") if abs(Decimal(text).adjusted()) < 38 else text
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


_AS_WRITTEN: Final[dict[str, Any]] = {
    "parse_int": _number,
    "parse_float": _number,
    "parse_constant": lambda name: None,  # NaN and infinities say that there is no number
    "object_pairs_hook": _named_once,
}


def _at(document: Any, path: str) -> Any:
    for name in path.split("."):
        if document is _TWICE:
            return document
        if _is_place(name) and isinstance(document, list):
            place = int(name)
            document = document[place] if -len(document) <= place < len(document) else None
        elif not (name in ("0", "-1") and isinstance(document, dict) and name not in document):  # alone, not in a list
            document = document.get(name) if isinstance(document, dict) else None
    return document


def _texts(values: Sequence[Any]) -> pa.Array:
    words = [str(value).lower() if isinstance(value, bool) else value for value in values]
    return pa.array([word if isinstance(word, str) else None for word in words], pa.string())
