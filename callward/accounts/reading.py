"""Files of account directories, in CSV or JSON: each row checked, and what is wrong named by line, never by a value.

A row gives an account some of: a number (to the last of a range), a code, a trunk, a context, a billing zone; and the
days on which it has them.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from callward.accounts.entries import ALWAYS, FOREVER, NAMED, UNASSIGNED, Mask
from callward.errors import UsageProblem
from callward.numbering import Plan, normalize_values
from callward.numbering.arrays import runs_of
from callward.numbering.kinds import DAMAGED, E164
from callward.redaction import looks_like_number, mask
from callward.settings.values import known_zone, nearest

COLUMNS: Final = ("account", "tenant", "number", "last", *NAMED, "since", "until", "zone")
_GIVES: Final = ("number", *NAMED, "zone")
_SHOWN: Final = 20  # faults of a file that are named one by one
_LONGEST: Final = {"account": 64, **dict.fromkeys(NAMED, 128)}
_DAY: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_MAYBE_NUMBER: Final = r"[^ -~]|[0-9](?:[^0-9A-Za-z]{0,3}[0-9]){6}"  # what the recognizer must look at

Ints: TypeAlias = npt.NDArray[np.int64]


class WrongFile(UsageProblem):
    """A file of accounts in which something is wrong: nothing of it is imported."""


@dataclass
class _Faults:
    """What is wrong in a file, by line."""

    file: str
    unit: str = "line"  # what is counted: lines, or items of a list
    wrong: list[tuple[Ints, str]] = field(default_factory=list)

    def add(self, where: Mask, lines: Ints, what: str) -> None:
        if where.any():
            self.wrong.append((lines[where], what))

    def check(self) -> None:
        """Raise WrongFile where anything is wrong."""
        if not self.wrong:
            return
        lines, first = np.unique(np.concatenate([lines for lines, _ in self.wrong]), return_index=True)
        of = np.repeat(np.arange(len(self.wrong)), [len(lines) for lines, _ in self.wrong])[first]
        named = zip(lines[:_SHOWN].tolist(), of[:_SHOWN].tolist(), strict=True)
        told = "; ".join(f"{self.unit} {line}: {self.wrong[at][1]}" for line, at in named)
        more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        raise WrongFile(f"{self.file}: nothing was imported, for what stands in it cannot be: {told}{more}")


@dataclass(frozen=True, eq=False)
class Rows:
    """What a file says, checked: columns of one length, a row for each row of the file.

    `table`: account, tenant, code, trunk, context and zone (text, or null). `low`, `high`: E.164 as integers, 0 for no
    number. `since`, `until`: days; `line`: where each row stands in the file.
    """

    table: pa.Table
    low: Ints
    high: Ints
    since: Ints
    until: Ints
    line: Ints
    has_zones: bool

    def of_tenant(self, tenant: str) -> "Rows":
        """Return the rows of one tenant."""
        rows = pc.equal(self.table["tenant"], tenant).to_numpy(zero_copy_only=False)
        low, high, since, until, line = (
            column[rows] for column in (self.low, self.high, self.since, self.until, self.line)
        )
        return Rows(self.table.filter(pa.array(rows)), low, high, since, until, line, self.has_zones)


def read(path: Path, plan: Plan, tenant: str, tenants: Sequence[str], starts: int | None = None) -> Rows:
    """Return the rows of a file of accounts (.json: JSON, else CSV). Raises WrongFile, naming lines, and OSError.

    `plan` reads numbers that are not in E.164; `tenant` has the rows that name none, of `tenants`, which are known.
    `starts`: a day before which nothing may end.
    """
    faults = _Faults(mask(path.name))
    data = _as_utf8(path.read_bytes(), faults.file)
    given, line = _json(data, faults) if path.suffix.lower() in (".json", ".jsonl") else _csv(data, faults)
    if not len(line) and not faults.wrong:
        raise WrongFile(f"{faults.file}: it has no rows")
    texts = {name: _text(given[name]) if name in given else pa.nulls(len(line), pa.string()) for name in COLUMNS}
    texts["tenant"] = texts["tenant"].fill_null(tenant)
    _check_words(texts, tenants, line, faults)
    low, high = _numbers(texts, plan, line, faults)
    since, until = (_days(texts[name], name, line, faults) for name in ("since", "until"))
    faults.add(since > until, line, "until is before since")
    if starts is not None:
        faults.add((until < starts) & (since <= until), line, "until is before the day from which the file counts")
    faults.check()
    table = pa.table({name: texts[name] for name in ("account", "tenant", *NAMED, "zone")})
    return Rows(table, low, high, since, until, line, "zone" in given)


# -- files → texts -----------------------------------------------------------------------------------------------------


def _as_utf8(data: bytes, file: str) -> bytes:
    """Return a text in UTF-8 without a mark, with LF; spreadsheets write others. Raises WrongFile for none."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    if encoding == "utf-16" or data[:3] == b"\xef\xbb\xbf":
        try:
            data = data.decode(encoding).encode()
        except UnicodeDecodeError:
            raise WrongFile(f"{file}: its text cannot be read as {encoding}") from None
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def _names(names: Sequence[str], file: str) -> list[str]:
    """Return names of columns as they are known. Raises WrongFile for others, and for two of one name."""
    known = [name.strip().strip('"').lower() for name in names]
    for name in known:
        if name not in COLUMNS:
            raise WrongFile(f"{file}: {mask(name)!r} is no column of a directory{nearest(name, COLUMNS)}")
    if len(set(known)) < len(known):
        raise WrongFile(f"{file}: two columns have one name")
    if "account" not in known:
        raise WrongFile(f"{file}: it has no column account (columns: {', '.join(COLUMNS)})")
    return known


def _csv(data: bytes, faults: _Faults) -> tuple[dict[str, pa.Array], Ints]:
    """Return the columns of a CSV, and the line of each row; its columns are separated by comma, semicolon or tab."""
    head, _, body = data.partition(b"\n")
    first = _decoded(head, faults.file)
    delimiter = max(",;\t", key=first.count)
    names = _names(next(csv.reader([first], delimiter=delimiter), []), faults.file)

    def leave_out(row: pacsv.InvalidRow) -> str:
        faults.add(np.ones(1, bool), np.array([row.number + 1]), f"{row.actual_columns} columns, not {len(names)}")
        left_out.append(row.number)
        return "skip"

    left_out: list[int] = []
    if not body:
        return {name: pa.array([], pa.string()) for name in names}, np.zeros(0, np.int64)
    try:
        table = pacsv.read_csv(
            io.BytesIO(body),
            pacsv.ReadOptions(use_threads=False, column_names=names, block_size=1 << 24),
            pacsv.ParseOptions(delimiter=delimiter, ignore_empty_lines=False, invalid_row_handler=leave_out),
            pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError):
        raise WrongFile(f"{faults.file}: it is no CSV in UTF-8 with a row of names") from None
    line = np.delete(np.arange(table.num_rows + len(left_out)), np.array(left_out, np.int64) - 1) + 2
    filled = ~np.logical_and.reduce([_true(pc.equal(table[name], "")) for name in names])  # else a blank line
    return {name: table[name].combine_chunks().filter(pa.array(filled)) for name in names}, line[filled]


def _decoded(data: bytes, file: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise WrongFile(f"{file}: its text is not in UTF-8") from None


def _json(data: bytes, faults: _Faults) -> tuple[dict[str, pa.Array], Ints]:
    """Return the members of JSON objects, one a line or all in one list, as columns; and the line (or item) of each."""
    rows = list(_objects(_decoded(data, faults.file), faults))
    names = _names(list(dict.fromkeys(name for _, row in rows for name in row)) or ["account"], faults.file)
    columns = {name: pa.array([_member(row.get(name)) for _, row in rows], pa.string()) for name in names}
    return columns, np.array([line for line, _ in rows], np.int64)


def _objects(text: str, faults: _Faults) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if text.lstrip().startswith("["):
        try:
            numbered = list(enumerate(json.loads(text), 1))
            faults.unit = "item"
        except ValueError:
            raise WrongFile(f"{faults.file}: it is no list of JSON objects") from None
    else:
        numbered = [(line, _parsed(row)) for line, row in enumerate(text.split("\n"), 1) if row.strip()]
    for line, row in numbered:
        if isinstance(row, dict) and not any(isinstance(value, dict | list) for value in row.values()):
            yield line, row
        else:
            faults.add(np.ones(1, bool), np.array([line]), "it is no JSON object of texts")


def _parsed(row: str) -> Any:
    try:
        return json.loads(row)
    except ValueError:
        return None


def _member(value: Any) -> str | None:
    return None if value is None else str(value)


def _text(column: pa.Array) -> pa.Array:
    """Return texts without space around them; null for an empty one."""
    text = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


# -- checks ------------------------------------------------------------------------------------------------------------


def _check_words(texts: Mapping[str, pa.Array], tenants: Sequence[str], line: Ints, faults: _Faults) -> None:
    account = texts["account"]
    faults.add(_true(pc.is_null(account)), line, "it names no account")
    gives = [_true(pc.is_valid(texts[name])) for name in _GIVES]
    faults.add(~np.logical_or.reduce(gives), line, "it gives the account nothing")
    nobody = _true(pc.equal(account, UNASSIGNED))
    faults.add(nobody & np.logical_or.reduce(gives[1:]), line, f"{UNASSIGNED} has numbers alone: those of nobody")
    faults.add(_true(_of(texts["last"], texts["number"])), line, "it has a last number and no first")
    for name, longest in _LONGEST.items():
        faults.add(_true(pc.greater(pc.utf8_length(texts[name]), longest)), line, f"the {name} is too long")
        faults.add(_distinct(texts[name], lambda text: not text.isprintable()), line, f"the {name} cannot be printed")
    number = "the account looks like a phone number, and ids are stored and shown in the clear: give it another"
    faults.add(_like_numbers(account), line, number)
    faults.add(_distinct(texts["tenant"], lambda name: name not in tenants), line, "no tenant is called so")
    faults.add(_distinct(texts["zone"], _is_unknown_zone), line, "the zone is no IANA name such as America/Denver")
    faults.add(_second_zones(texts), line, "the account has another zone on a line before")


def _of(what: pa.Array, without: pa.Array) -> pa.Array:
    return pc.and_(pc.is_valid(what), pc.is_null(without))


def _true(column: pa.Array | pa.ChunkedArray) -> Mask:
    return np.asarray(column.fill_null(False).to_numpy(zero_copy_only=False), np.bool_)


def _distinct(column: pa.Array, wrong: Any) -> Mask:
    """Return which rows have a text that is wrong; each distinct one is looked at once. Null is not."""
    encoded = column.dictionary_encode()
    found = pa.array([wrong(text) for text in encoded.dictionary.to_pylist()], pa.bool_())
    return _true(found.take(encoded.indices))


def _like_numbers(account: pa.Array) -> Mask:
    encoded = account.dictionary_encode()
    perhaps = _true(pc.match_substring_regex(encoded.dictionary, _MAYBE_NUMBER))
    found = perhaps.copy()
    found[perhaps] = [looks_like_number(text) for text in encoded.dictionary.filter(pa.array(perhaps)).to_pylist()]
    return _true(pa.array(found).take(encoded.indices))


def _is_unknown_zone(name: str) -> bool:
    try:
        known_zone(name)
    except ValueError:
        return True
    return False


def _second_zones(texts: Mapping[str, pa.Array]) -> Mask:
    """Return which rows give an account a zone that is not the one that it was given first."""
    if texts["zone"].null_count == len(texts["zone"]):
        return np.zeros(len(texts["zone"]), bool)
    key = pc.binary_join_element_wise(texts["tenant"], texts["account"], "\x1f").dictionary_encode().indices
    zone = texts["zone"].dictionary_encode().indices
    rows = np.flatnonzero(_true(pc.and_(pc.is_valid(zone), pc.is_valid(key))))
    keys, zones = key.fill_null(0).to_numpy()[rows], zone.fill_null(0).to_numpy()[rows]
    _, first, of = np.unique(keys, return_index=True, return_inverse=True)
    other = np.zeros(len(texts["zone"]), bool)
    other[rows] = zones != zones[first][of]
    return other


def _numbers(texts: Mapping[str, pa.Array], plan: Plan, line: Ints, faults: _Faults) -> tuple[Ints, Ints]:
    """Return the first and the last number of each row, 0 where it has none."""
    low, high = (_e164(texts[name], name, plan, line, faults) for name in ("number", "last"))
    ranged = (high > 0) & (low > 0)
    length = "the last number is of another length than the first, or before it"
    digits = [runs_of(pa.array(side).cast(pa.string())).length for side in (low, high)]
    faults.add(ranged & ((digits[0] != digits[1]) | (high < low)), line, length)
    return low, np.where(ranged, high, low)


def _e164(column: pa.Array, name: str, plan: Plan, line: Ints, faults: _Faults) -> Ints:
    read = normalize_values(column, plan)
    kind = read.kind.indices.to_numpy()
    given, damaged = _true(pc.is_valid(column)), kind == DAMAGED
    faults.add(given & damaged, line, f"a spreadsheet has rounded the {name}: export it as text")
    faults.add(given & (kind != E164) & ~damaged, line, f"the {name} is no public number: write it as +1303…")
    return np.asarray(read.e164.fill_null(0).to_numpy(), np.int64)


def _days(column: pa.Array, name: str, line: Ints, faults: _Faults) -> Ints:
    written = _true(pc.match_substring_regex(column, _DAY))
    shown = pc.if_else(pa.array(written), column, pa.scalar(None, pa.string()))
    moment = pc.strptime(shown, format="%Y-%m-%d", unit="s", error_is_null=True)
    # strptime takes 2026-02-30 for a day in March: what is not written back as it came is no day.
    real = _true(pc.equal(pc.strftime(moment, format="%Y-%m-%d"), column))
    faults.add(_true(pc.is_valid(column)) & ~real, line, f"{name} is no day: write it as 2026-03-01")
    days = pc.cast(pc.if_else(pa.array(real), moment, None), pa.date32()).cast(pa.int32())
    missing = ALWAYS if name == "since" else FOREVER
    return np.asarray(np.clip(days.fill_null(missing).to_numpy(), ALWAYS, FOREVER), np.int64)
