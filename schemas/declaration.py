"""A source's declaration: what a switch's format is, as data. One TOML file each, in schemas/sources/.

A declaration says how records are cut and read (`file`, `shapes`), where each canonical field comes from (`fields`),
how local times resolve (`time`), what names a record and its call (`identity`, `call`, `leg_a`, `leg_b`), and what a
record is (`pieces`, `filters`). Columns that nothing names are never read: numbers hide there (formats.md, 1.9).
"""

import csv
import json
import re
import zoneinfo
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, reduce
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from schemas import toml
from schemas.causes import CAUSE_DECODERS, DISPOSITION_DECODERS, UNDECIDED
from schemas.cdr import BY_ROLE, DIRECTIONS, DISPOSITIONS, PRESENTATIONS, READ_FIELDS, RELEASED_BY, SIDES
from schemas.codes import Filter

FORMAT_VERSION: Final = 1
_SOURCES: Final = Path(__file__).parent / "sources"
_OFFSET: Final = r"^[+-]\d\d:\d\d$"
_SNIFFED_LINES: Final = 20
_BOM: Final = b"\xef\xbb\xbf"

TIME_FIELDS: Final = ("start_time", "ring_time", "answer_time", "end_time")
DURATION_FIELDS: Final = ("talk_ms", "pdd_ms", "duration_ms")
NORMALIZED_FIELDS: Final = ("calling_number", "called_number", *BY_ROLE)  # Normalize sets them, from the raw ones
# Read like fields and used up by Parse: the whole call's length, and what a loss is computed from.
WORKING_FIELDS: Final = ("duration_ms", "packets_lost", "packets_received")
FIELDS: Final = tuple(f.name for f in READ_FIELDS if f.name not in NORMALIZED_FIELDS) + WORKING_FIELDS
_LOCAL: Final = ("local", "excel", "any")  # forms of a time that may name no zone
_UNITS: Final = {f.name: (f.metadata or {}).get(b"unit", b"").decode() for f in READ_FIELDS} | {
    "duration_ms": "ms",
    "packets_lost": "packets",
    "packets_received": "packets",
}
_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "direction": DIRECTIONS,
    "disposition": DISPOSITIONS + UNDECIDED,
    "ingress_side": SIDES,
    "egress_side": SIDES,
    "released_by": RELEASED_BY,
    "calling_presentation": PRESENTATIONS,
}


def _regex(pattern: str) -> str:
    """Return a pattern that both this module and pyarrow (RE2) can use. Raises ValueError for any other."""
    try:
        re.compile(pattern)
        pc.match_substring_regex(pa.array([""]), pattern=pattern)
    except (re.error, pa.ArrowInvalid):
        raise ValueError(f"{pattern!r} is no regular expression that RE2 has too") from None
    return pattern


def _encoding(name: str) -> str:
    """Return an encoding that Python knows and whose line ends are those of ASCII. Raises ValueError for others."""
    try:
        if "\n".encode(name) == b"\n":
            return name
    except LookupError:
        pass
    raise ValueError(f"{name!r} is no encoding of lines of text; a file in UTF-16 or UTF-32 is known by its mark")


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _listed_unless_empty(value: Any) -> Any:
    return () if value == "" else _listed(value)


def _value(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


def _values(value: Any) -> Any:
    return [_value(v) for v in (value if isinstance(value, list) else [value])]


Regex = Annotated[str, AfterValidator(_regex)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class File(_Strict):
    """How the bytes of a file become records, and a record becomes columns."""

    kind: Literal["csv", "json"]
    records: Literal["lines", "file"] = "lines"  # one record a line, or a JSON document (or an array of them) a file
    encoding: Annotated[str, AfterValidator(_encoding)] = "utf-8"
    delimiter: str = ","
    # doubled: "a ""b"" c"; loose: every value is quoted and nothing is escaped; none: quotes are plain characters
    quoting: Literal["doubled", "loose", "none"] = "doubled"
    escape: str = ""
    header: Literal["none", "names", "optional"] = "none"
    names: Regex = ""  # header = "optional": the first value of a names row matches this
    skip: Regex = ""  # the first value of a row above the data that is no record, such as CUCM's row of types
    multiline: bool = False  # quoted values may hold line ends
    trim: bool = False  # blanks around values mean nothing
    url_encoded: bool = False  # values may be percent-encoded

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.header == "optional" and not self.names:
            raise ValueError('header = "optional" needs `names`, to know a header row by')
        if self.records == "file" and self.kind != "json":
            raise ValueError('records = "file" is for kind = "json"')
        if len(self.delimiter) != 1 or len(self.escape) > 1:
            raise ValueError("a delimiter is one character, an escape at most one")
        return self


class Layout(_Strict):
    """One order of columns that a format without a header comes in; `match` distinguishes two of the same length."""

    name: str
    columns: tuple[str, ...] = Field(min_length=1)
    shortest: int = 0  # 0: exactly these columns; else the tail may be missing down to so many
    more: bool = False  # columns beyond these may follow; they are never read
    match: dict[str, Regex] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        for column in self.match:
            if column not in self.columns:
                raise ValueError(f"`match` looks at {column!r}, which is no column of {self.name!r}")
        twice = repeated(column for column in self.columns if column)
        if twice:
            raise ValueError(f"two columns of {self.name!r} are called {twice!r}")
        return self

    def fits(self, count: int) -> bool:
        """Return whether a record of `count` columns can be laid out so."""
        return (self.shortest or len(self.columns)) <= count and (self.more or count <= len(self.columns))

    def laid(self, count: int) -> tuple[str, ...]:
        """Return the names of exactly `count` columns; those beyond the declared ones have the empty name."""
        return self.columns[:count] + ("",) * (count - len(self.columns))


def repeated(names: Iterable[str]) -> str:
    """Return a name that is there twice, "" where none is."""
    return next((name for name, count in Counter(names).items() if count > 1), "")


class Value(_Strict):
    """Where a text comes from: the first of `column` that has a value, then each step that is given, in this order.

    A word that a map without "*" does not have is a fault (FIELD), and so is a number that is none. What `pattern`
    or `decode` finds nothing in is not there.
    """

    column: Texts
    join: str | None = None  # all columns, joined with this, instead of the first that has a value
    absent: Texts = ()  # values that mean "not there"; the empty one always does
    contains: str = ""  # a text without this is not there: looked for in all at once, before `pattern`
    cut: str = ""  # drop everything from the last occurrence of this on
    pattern: Regex = ""  # keep the group called `value`; no match: not there
    decode: str = ""  # a decoder of schemas.causes
    map: dict[str, str] = {}  # words to canonical words; "*" is any other
    const: str = ""  # this, wherever there is a value
    time: Literal["local", "utc", "offset", "any", "epoch_s", "epoch_ms", "epoch_us", "excel"] | None = None
    # strptime's, where a time is not ISO 8601 (%f for fractions of a second): the first that fits.
    format: Annotated[tuple[str, ...], BeforeValidator(_listed_unless_empty)] = ()
    rewrite: tuple[Regex, str] | None = None  # RE2 pattern and replacement, before `format`
    zone: str = ""  # of a local time that is in another zone than the source
    zones: dict[str, Annotated[str, Field(pattern=_OFFSET)]] = {}  # names of zones in a time, and their "+hh:mm"
    # Of a duration; ds is tenths of a second, clock is [hours:]minutes:seconds.
    unit: Literal["s", "ms", "us", "min", "ds", "clock"] = "s"
    decimal: Literal["", ".", ","] = ""  # what stands before a fraction, where digits may be in groups of three

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.column:
            raise ValueError("a value needs a column")
        if self.pattern and "value" not in re.compile(self.pattern).groupindex:
            raise ValueError("a pattern keeps its group called `value`: (?P<value>...)")
        if self.zone and self.zone not in zoneinfo.available_timezones():
            raise ValueError(f"there is no zone {self.zone!r}")
        if self.zones and self.time != "offset":
            raise ValueError('`zones` are for time = "offset"')
        if self.decode and self.decode not in CAUSE_DECODERS | DISPOSITION_DECODERS:
            raise ValueError(f"no decoder is called {self.decode!r}")
        return self

    def words(self) -> set[str]:
        """Return every word that this value can yield by declaration."""
        return set(self.map.values()) | ({self.const} if self.const else set())


def is_local(value: Value) -> bool:
    """Return whether a time may be in the source's zone without saying so."""
    return value.time in _LOCAL and not value.zone


Values = Annotated[tuple[Value, ...], BeforeValidator(_values)]
FieldName = Annotated[str, Field(pattern="^(" + "|".join(FIELDS) + ")$")]


class Edges(_Strict):
    """A text by how it starts and ends: cheap where values are nearly all different."""

    starts: str = ""
    ends: str = ""


Condition = Regex | tuple[str, ...] | Edges  # a regular expression, listed values ("" is "not there"), or edges


class Key(_Strict):
    """Columns that name something: the first of `any_of` whose columns the record's layout has, then `unordered`.

    Unordered columns are sorted (the tags of a SIP dialog swap when the callee hangs up). A column that is empty
    leaves the key empty, unless it is `optional`. `fall_back` tries the next of `any_of` for such a record. Of a call,
    `within` names what the caller asked for, where that may be several calls: dialogs of one SIP request.
    """

    any_of: tuple[tuple[str, ...], ...] = ()
    unordered: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    fall_back: bool = False
    content: bool = False  # no column names it: the record's content does

    def columns(self) -> set[str]:
        """Return every column that the key may look at."""
        return {column for group in (*self.any_of, self.unordered, self.within) for column in group}


class Time(_Strict):
    """How a local time that a clock change repeats or skips is read."""

    ambiguous: Literal["earliest", "latest"] = "earliest"
    nonexistent: Literal["earliest", "latest"] = "latest"


class Rule(_Strict):
    """What a record is, by its columns; the first rule that matches holds."""

    kind: Literal["whole", "open", "interim", "close", "refused", "quality", "filter"]
    when: dict[str, Condition] = {}
    filter: Filter | None = None
    fields: dict[FieldName, Values] = {}  # in place of the declaration's, for these records
    keeps: tuple[FieldName, ...] | None = None  # the only fields such a record speaks of
    identity: Key | None = None  # in place of the declaration's, for these records

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.kind == "filter") != (self.filter is not None):
            raise ValueError('`filter` names the code of a rule of kind = "filter", and of no other')
        return self


class Pieces(_Strict):
    """How a call's records belong together."""

    rules: tuple[Rule, ...] = Field(min_length=1)
    horizon_hours: int = Field(default=24, gt=0)
    talk: Literal["computed", "sum", "last"] = "computed"


class Leg(_Strict):
    """What a record is to its call: the caller's leg, an attempt to go on from there, or internal to the switch; or a
    caller's leg that reached nobody, which is not charged where its call was to leave the switch.

    An attempt is charged where no caller's leg is that was answered. `event` names the edge leg that the record is
    about, where a call has several that are charged each; records of one event are one charge. `onward` names the edge
    leg that goes out, in records that have one at both ends: where the call was forwarded, that leg is charged, too.
    """

    role: Literal["caller", "attempt", "egress", "internal", "unreached"]
    when: dict[str, Condition] = {}
    event: Key | None = None
    onward: Key | None = None

    def edge_legs(self) -> tuple[Key, ...]:
        """Return what names edge legs."""
        return tuple(key for key in (self.event, self.onward) if key is not None)


class Leave(_Strict):
    """Records that are counted and left out."""

    code: Filter
    when: dict[str, Condition] = Field(min_length=1)


class OlderKeys(_Strict):
    """What named a record and its call in an earlier version of a format: sources that began under it keep it."""

    number: int = Field(ge=1)
    identity: Key
    call: Key = Key()
    leg_a: Key = Key()
    leg_b: Key = Key()


class Declaration(_Strict):
    """One source format. See the files in schemas/sources/ for examples, docs for a walk through one."""

    format_version: Literal[1]
    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    title: str
    file: File
    shapes: tuple[Layout, ...] = ()
    time: Time = Time()
    fields: dict[FieldName, Values]
    # What a caller who hung up and a request that ran out of time say where no ring time can be known.
    cancelled_as: Literal["abandoned_alerting", "abandoned_before_alerting", "unknown"] = "abandoned_alerting"
    timed_out_as: Literal["no_answer", "network_failure", "unknown"] = "no_answer"
    identity: Key
    call: Key = Key()
    leg_a: Key = Key()
    leg_b: Key = Key()
    older_identities: tuple[OlderKeys, ...] = ()
    # A moment near the start that no zone decides, where a record holds one: local stamps are compared with it.
    epoch: Values = ()
    # When a caller's leg was connected to the far end: an outbound call is charged from then on, not from an earlier
    # answer of the dial plan.
    reached: Values = ()
    pieces: Pieces | None = None
    legs: tuple[Leg, ...] = ()  # the first that matches says it; a record that none matches is the caller's leg
    filters: tuple[Leave, ...] = ()
    tenant_column: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, values in (("epoch", self.epoch), ("reached", self.reached)):
            if any(value.time in (None, *_LOCAL) for value in values):
                raise ValueError(f'`{name}` is a time that needs no zone, such as time = "epoch_s"')
        for field, values in self._all_fields():
            _check_words(field, values)
        if self.file.kind == "csv" and self.file.header == "none" and not self.shapes:
            raise ValueError("a format without a header needs at least one of `shapes`")
        self._check_paths()
        return self

    def _check_paths(self) -> None:
        columns = self.columns() if self.file.kind == "json" else set()
        parents = {column.rpartition(".")[0] for column in columns}
        if columns & parents:
            raise ValueError(f"{sorted(columns & parents)[0]!r} cannot be a value and hold others")

    def _all_fields(self) -> Iterator[tuple[str, tuple[Value, ...]]]:
        yield from self.fields.items()
        for rule in self.pieces.rules if self.pieces else ():
            yield from rule.fields.items()

    @property
    def has_local_stamps(self) -> bool:
        """Return whether any time of its records may name no zone, so that the source's own decides."""
        return any(is_local(value) for name, values in self._all_fields() if name in TIME_FIELDS for value in values)

    def declared_fields(self) -> set[str]:
        """Return every canonical field that some of its records may have."""
        return {name for name, _ in self._all_fields()}

    def starts(self) -> tuple[Value, ...]:
        """Return every way in which its records say when a call began, each once."""
        values = [value for name, values in self._all_fields() if name == "start_time" for value in values]
        return tuple(value for at, value in enumerate(values) if value not in values[:at])

    def _conditions(self) -> Iterator[dict[str, Condition]]:
        yield from (rule.when for rule in self.pieces.rules) if self.pieces else ()
        yield from (leave.when for leave in self.filters)
        yield from (leg.when for leg in self.legs)

    def identities(self) -> list[Key]:
        """Return what identifies records: the declaration's key, and those of rules that have their own."""
        rules = self.pieces.rules if self.pieces else ()
        return [self.identity, *(rule.identity for rule in rules if rule.identity is not None)]

    def columns(self, tenant_column: str = "") -> set[str]:
        """Return every column of a source that is read: no other ever is."""
        read = {c for _, values in self._all_fields() for value in values for c in value.column}
        read |= {column for when in self._conditions() for column in when}
        read |= {column for value in (*self.epoch, *self.reached) for column in value.column}
        events = (key for leg in self.legs for key in leg.edge_legs())
        for key in (*self.identities(), self.call, self.leg_a, self.leg_b, *events):
            read |= key.columns()
        return (read | {self.tenant_column, tenant_column}) - {""}


def _check_words(field: str, values: tuple[Value, ...]) -> None:
    allowed = _WORDS.get(field)
    wrong = {word for value in values for word in value.words()} - set(allowed) if allowed else set()
    if wrong:
        raise ValueError(f"{field} cannot be {sorted(wrong)[0]!r}; it is one of {', '.join(allowed or ())}")
    if field in TIME_FIELDS and any(value.time is None for value in values):
        raise ValueError(f"{field} needs `time`: how its time is written")


def available() -> list[str]:
    """Return the names of the declarations that come with callward."""
    return sorted(path.stem for path in _SOURCES.glob("*.toml"))


def load(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Declaration:
    """Return the declaration of that name, or of a user's own file; `overrides` are settings laid over its tables.

    Lists and values are replaced, tables are merged. Raises ValueError: one sentence, for a person to fix the file.
    """
    path = _find(name_or_path)
    tables = _tables(path)
    extends = len(tables) > 1
    try:
        declaration = Declaration.model_validate(reduce(_merged, [*tables, overrides or {}]))
    except ValidationError as error:
        raise ValueError(f"the declaration {path.name} is wrong: {_first_error(error)}") from None
    if overrides and "shapes" in overrides:
        declaration = _without(declaration, _missing_columns(declaration), overrides.get("fields", {}))
    missing = [] if extends else _missing_columns(declaration)
    if missing:
        raise ValueError(f"the declaration {path.name} is wrong: no shape has the column {missing[0]!r}")
    return declaration


def _tables(path: Path, extending: tuple[Path, ...] = ()) -> list[Mapping[str, Any]]:
    """Return the tables of the declaration that a file `extends`, if it does, and the file's own last."""
    try:
        tables = _decoded(toml.read(path))
    except toml.NotToml as error:
        raise ValueError(f"the declaration {path.name} is {error}") from None
    base = tables.get("extends")
    if base is None:
        return [tables]
    if path in extending:
        raise ValueError(f"the declaration {path.name} extends itself")
    own = {name: value for name, value in tables.items() if name != "extends"}
    return [*_tables(_find(base, path.parent), (*extending, path)), own]


@lru_cache(maxsize=64)  # each run, and each worker, asks for those of all sources anew
def _decoded(content: bytes) -> Mapping[str, Any]:
    return toml.decode(content)


def _missing_columns(declaration: Declaration) -> list[str]:
    """Return columns that a format of fixed columns names and no shape has; one that extends may leave some unused."""
    known = {column for shape in declaration.shapes for column in shape.columns}
    return sorted(declaration.columns() - known) if known and declaration.file.header == "none" else []


def _without(declaration: Declaration, missing: Collection[str], own: Collection[str]) -> Declaration:
    """Return a declaration without the fields that a site's own shapes have no column for; its `own` fields stay."""
    left = {
        name: tuple(value for value in values if name in own or not set(value.column) & set(missing))
        for name, values in declaration.fields.items()
    }
    return declaration.model_copy(update={"fields": {name: values for name, values in left.items() if values}})


def _find(name_or_path: str | Path, beside: Path = Path()) -> Path:
    text = str(name_or_path)
    path = beside / text if text.endswith(".toml") else _SOURCES / f"{text}.toml"
    if not path.is_file():
        raise ValueError(f"there is no declaration {text!r}; callward has {', '.join(available())}")
    return path


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    tables = [key for key, value in over.items() if isinstance(value, Mapping) and isinstance(base.get(key), Mapping)]
    return {**base, **over, **{key: _merged(base[key], over[key]) for key in tables}}


def _first_error(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]


class Explained(NamedTuple):
    """One line of what a declaration reads: a canonical field, where it comes from, its unit."""

    field: str
    comes_from: str
    unit: str


def explain(declaration: Declaration) -> list[Explained]:
    """Return where each canonical field of a source comes from; the last line, with no field, what is dropped."""
    rows = [Explained(f, _value_text(v), _UNITS[f]) for f, v in declaration.fields.items()]
    for rule in declaration.pieces.rules if declaration.pieces else ():
        rows += [Explained(f, f"{_value_text(v)} (where it is {rule.kind})", _UNITS[f]) for f, v in rule.fields.items()]
        if rule.identity is not None:
            rows.append(Explained("identity", f"{_key_text(rule.identity)} (where it is {rule.kind})", ""))
    for name in ("identity", "call", "leg_a", "leg_b"):
        rows += [Explained(name, _key_text(key), "") for key in (getattr(declaration, name),) if key != Key()]
    for leg in declaration.legs:
        rows.append(Explained(f"leg: {leg.role}", " and ".join(leg.when) or "any other record", ""))
        if leg.event is not None:
            rows.append(Explained("event", f"{_key_text(leg.event)} (of {leg.role})", ""))
        if leg.onward is not None:
            rows.append(Explained("onward", f"{_key_text(leg.onward)} (of {leg.role})", ""))
    return [*rows, Explained("", ", ".join(dropped(declaration)) or "everything else", "dropped")]


def dropped(declaration: Declaration) -> list[str]:
    """Return declared columns that are never read, in order; JSON and header formats drop whatever is not named."""
    read = declaration.columns()
    return list(dict.fromkeys(c for shape in declaration.shapes for c in shape.columns if c not in read))


def _value_text(values: tuple[Value, ...]) -> str:
    def steps(value: Value) -> str:
        parts = [f"time {value.time}" if value.time else "", f"decoded as {value.decode}" if value.decode else ""]
        parts += [f"const {value.const}" if value.const else "", "mapped" if value.map else ""]
        return ", ".join(filter(None, [(" + " if value.join is not None else " or ").join(value.column), *parts]))

    return "; else ".join(steps(value) for value in values)


def _key_text(key: Key) -> str:
    groups = [" + ".join(group + key.unordered) for group in key.any_of] or [" + ".join(key.unordered)]
    return "the record's content" if key.content else "; else ".join(groups)


@dataclass(frozen=True)
class Shape:
    """What one file looks like: the layout's name, its columns in order, how many leading lines are no records.

    `encoding` is that of a file whose mark says another one than its declaration, else "".
    """

    variant: str = ""
    columns: tuple[str, ...] = ()
    header_lines: int = 0
    encoding: str = ""

    def to_json(self) -> str:
        """Return the shape as a JSON object; a header may come from anywhere, so it is kept sealed."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Shape":
        """Return the shape that `to_json` wrote."""
        fields = json.loads(text)
        return cls(**{**fields, "columns": tuple(fields["columns"])})

    def file(self, declared: File) -> File:
        """Return how the bytes of this file become records."""
        return declared.model_copy(update={"encoding": self.encoding}) if self.encoding else declared


def sniff(head: bytes, declaration: Declaration) -> Shape:
    """Return the shape of a file by its first bytes (whole lines are looked at; 64 KiB is plenty). Never raises."""
    if declaration.file.kind == "json":
        return Shape(variant="json")
    shape = Shape(encoding="utf-8" if head.startswith(_BOM) and not is_utf8(declaration.file) else "")
    file = shape.file(declaration.file)
    lines = head_lines(head, file)
    names, data = header(lines, file)
    if names is not None:
        columns = _known_names(split_line(lines[names], file), declaration)
        return replace(shape, variant="header", columns=columns, header_lines=data)
    rows = [split_line(line, file) for line in lines[data : data + _SNIFFED_LINES] if line]
    layout, count = _likeliest(rows, declaration.shapes)
    shape = replace(shape, header_lines=data)
    return replace(shape, variant=layout.name, columns=layout.laid(count)) if layout else shape


def named_today(shape: Shape, declaration: Declaration) -> Shape:
    """Return the shape of a file with a row of names, its columns called as the declaration calls them by now."""
    return replace(shape, columns=_known_names(shape.columns, declaration))


def is_utf8(file: File) -> bool:
    """Return whether the text is declared as UTF-8, or as what UTF-8 reads the same."""
    return file.encoding.lower().replace("-", "").replace("_", "") in ("utf8", "utf8sig", "ascii", "usascii")


def head_lines(head: bytes, file: File) -> list[str]:
    """Return the lines of a file's first bytes, but for one that the end cuts off, unless it is the only one."""
    lines = bytes(head).removeprefix(_BOM).split(b"\n")
    if len(lines) > 1:
        lines.pop()  # empty after the last line end, or a line that the head cuts off
    return [line.rstrip(b"\r").decode(file.encoding, "replace") for line in lines]


def header(lines: Sequence[str], file: File) -> tuple[int | None, int]:
    """Return the index of the row of names (or None), and of the first line of data."""
    at = _first_filled(lines, 0)
    if at < len(lines) and lines[at].strip(' "').casefold() == f"sep={file.delimiter}":  # as Excel writes it
        at = _first_filled(lines, at + 1)
    names = None
    if at < len(lines) and (file.header == "names" or (file.names and _starts(lines[at], file.names, file))):
        names, at = at, at + 1
    while file.skip and at < len(lines) and _starts(lines[at], file.skip, file):
        at += 1
    return names, at if names is not None or at < len(lines) else 0


def _first_filled(lines: Sequence[str], first: int) -> int:
    return next((at for at in range(first, len(lines)) if lines[at].strip()), len(lines))


def _starts(line: str, pattern: str, file: File) -> bool:
    values = split_line(line, file)
    return bool(values) and re.search(pattern, values[0]) is not None


def named_as(shape: Shape, declaration: Declaration) -> Shape:
    """Return the shape of a file with a row of names, its columns as another declaration spells them."""
    return replace(shape, columns=_known_names(shape.columns, declaration))


def _known_names(names: Sequence[str], declaration: Declaration) -> tuple[str, ...]:
    known = {column.casefold(): column for column in declaration.columns()}
    return tuple(known.get(name.strip().casefold(), name.strip()) for name in names)


def split_line(line: str, file: File) -> list[str]:
    """Return the values of one line, for the few that are read one by one. Torn quotes are read as far as they go."""
    if file.quoting == "loose":
        return loose_values(line, file.delimiter)
    try:
        return next(csv.reader([line], **dialect(file)), [])
    except csv.Error:
        return []


def loose_values(line: str, delimiter: str) -> list[str]:
    """Return the values of a line in which every value is quoted and none is escaped; [] where it is not so."""
    body = line.removesuffix(";")
    return body[1:-1].split(f'"{delimiter}"') if len(body) > 1 and body[0] == body[-1] == '"' else []


def dialect(file: File) -> dict[str, Any]:
    """Return the file's quoting, in the words of Python's csv module."""
    quoting = csv.QUOTE_NONE if file.quoting == "none" else csv.QUOTE_MINIMAL
    return {"delimiter": file.delimiter, "quoting": quoting, "escapechar": file.escape or None}


def matches(layout: Layout, values: Sequence[str]) -> bool:
    """Return whether a record's values fit a layout: their number, and each `match`."""
    if not layout.fits(len(values)):
        return False
    named = dict(zip(layout.columns, values, strict=False))
    return all(re.search(pattern, named.get(column, "")) for column, pattern in layout.match.items())


def _likeliest(rows: Sequence[Sequence[str]], layouts: Sequence[Layout]) -> tuple[Layout | None, int]:
    votes: Counter[tuple[int, int]] = Counter()
    for row in rows:
        votes.update([(i, len(row)) for i, layout in enumerate(layouts) if matches(layout, row)][:1])
    if not votes:
        return None, 0
    (index, count), _ = votes.most_common(1)[0]
    return layouts[index], count
