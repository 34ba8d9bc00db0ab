"""Fields: text columns, read as the declaration says. Loops run over distinct values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import few, map_few, nulls, overlaid
from callward.parsing.raw_columns import Texts, null_empty
from callward.parsing.records import has
from callward.parsing.times import (
    Resolved,
    Times,
    Timestamps,
    complete_times,
    decimals,
    durations,
    in_utc,
    integers,
    read_times,
)
from schemas.causes import CAUSE_DECODERS, DISPOSITION_DECODERS
from schemas.cdr import FEW, PARSED
from schemas.declaration import DURATION_FIELDS, TIME_FIELDS, WORKING_FIELDS, Declaration, Value

# Codec names that a record may carry on; all else becomes "other", because free text may be a number.
_CODEC_SPELLINGS: Final = {
    "PCMU": ("ULAW", "G711U", "G711ULAW", "G.711U", "G711", "G.711"),
    "PCMA": ("ALAW", "G711A", "G711ALAW", "G.711A"),
    "G722": ("G.722", "G722.1"),
    "G723": ("G.723", "G723.1", "G7231"),
    "G726": ("G.726", "G726-16", "G726-24", "G726-32", "G726-40"),
    "G728": ("G.728",),
    "G729": ("G.729", "G729A", "G729B", "G729AB"),
    "AMR-WB": ("AMRWB", "G722.2"),
    "L16": ("SLIN", "SLIN16"),
    **dict.fromkeys(("AMR", "CODEC2", "EVS", "GSM", "H264", "ILBC", "ISAC", "OPUS", "SILK", "SPEEX", "T38", "VP8"), ()),
}
_LOOKED_AT: Final = 1000  # values of a column that say whether most of it differ
_CODECS: Final = {spelling: codec for codec, spellings in _CODEC_SPELLINGS.items() for spelling in (codec, *spellings)}


@dataclass
class Fields:
    """Fields of a part's records as they are read from the declaration, with what could not be read."""

    texts: Texts
    rows: int
    zone: str
    declaration: Declaration
    values: dict[str, pa.Array] = field(default_factory=dict)
    timestamps: dict[str, Timestamps] = field(default_factory=dict)
    bad_time: pa.Array | None = None
    bad_field: pa.Array | None = None
    seen: dict[str, Timestamps] = field(default_factory=dict)

    def read(self, fields: Mapping[str, tuple[Value, ...]], where: pa.Array | None = None) -> None:
        """Read `fields`; where a mask is given, only for the records it says, leaving others as they are."""
        for name, values in fields.items():
            if name in TIME_FIELDS:
                self._read_time(name, values, where)
            else:
                self._read_value(name, values, where)

    def _read_value(self, name: str, values: tuple[Value, ...], where: pa.Array | None) -> None:
        column, present = None, None
        for value in values:
            if column is not None and not column.null_count:
                break
            text = _text(self.texts, value)
            if text is not None:
                typed = _typed(name, _worded(text, value), value)
                column = typed if column is None else pc.coalesce(column, typed)
                present = text if present is None else pc.coalesce(present, text)
        if column is not None:
            self.bad_field = _worse(self.bad_field, present, column, where)
            self.values[name] = _laid_over(self.values.get(name), column, where)

    def _read_time(self, name: str, values: tuple[Value, ...], where: pa.Array | None) -> None:
        time, present = None, None
        for value in values:
            text = _text(self.texts, value)
            if text is not None:
                read = self._timestamps(text, value)
                time = read if time is None else self._either(time, read)
                present = text if present is None else pc.coalesce(present, text)
        if time is not None:
            self.bad_time = _worse(self.bad_time, present, time.at, where)
            before = self.timestamps.get(name)
            at = _laid_over(before.at if before else None, time.at, where)
            again = time.again
            if again is not None or (before and before.again is not None):
                again = _laid_over(before.second if before else None, time.second, where)
            self.timestamps[name] = Timestamps(at, time.local, again)

    def _timestamps(self, text: pa.Array, value: Value) -> Timestamps:
        key = repr(value)
        if key not in self.seen:
            self.seen[key] = read_times(plain(text), value, self.zone, self.declaration.time)
        return self.seen[key]

    def _either(self, first: Timestamps, second: Timestamps) -> Timestamps:
        if first.local != second.local:
            first, second = (in_utc(s, self.zone, self.declaration.time) for s in (first, second))
        again = first.again
        if first.again is not None or second.again is not None:
            again = pc.if_else(pc.is_valid(first.at), first.second, second.second)
        return Timestamps(pc.coalesce(first.at, second.at), first.local, again)

    def keep_only(self, names: Sequence[str], where: pa.Array) -> None:
        """Blank all fields but `names` in the records of the mask `where`."""
        for name in set(self.values) - set(names):
            self.values[name] = blank(self.values[name], where)
        for name in set(self.timestamps) - set(names):
            time = self.timestamps[name]
            again = None if time.again is None else blank(time.again, where)
            self.timestamps[name] = Timestamps(blank(time.at, where), time.local, again)

    def get(self, name: str) -> pa.Array:
        """Return the field `name`, null throughout where the source has none."""
        return self.values.get(name, nulls(self.rows, PARSED.field(name).type))

    def complete_times(self) -> Resolved:
        """Return the records' times, complete."""
        times = Times(
            *(self.timestamps.get(name) for name in TIME_FIELDS),
            *(self.values.get(name) for name in DURATION_FIELDS),
        )
        return complete_times(times, self.rows, self.zone, self.declaration.time)


def _worse(bad: pa.Array | None, text: pa.Array, read: pa.Array, where: pa.Array | None) -> pa.Array | None:
    """Return `bad`, and the records whose `text` is there but could not be read."""
    if read.null_count == text.null_count:
        return bad
    wrong = pc.and_(pc.is_valid(text), pc.is_null(read))
    wrong = wrong if where is None else pc.and_(wrong, where)
    return wrong if bad is None else pc.or_(bad, wrong)


def _laid_over(before: pa.Array | None, values: pa.Array, where: pa.Array | None) -> pa.Array:
    if where is None:
        return values
    if before is None:
        return blank(values, pc.invert(where))
    return pc.if_else(where, values, before)


def blank(values: pa.Array, where: pa.Array) -> pa.Array:
    """Return `values` with null where the mask `where` says."""
    if values.type == FEW:
        return overlaid(values, where, None)
    return pc.if_else(where, pa.scalar(None, values.type), values)


def _text(texts: Texts, value: Value) -> pa.Array | None:
    """Return the text (string or FEW) that `value` names; None where no record has such a column."""
    given = [_without(texts[column], value.absent) for column in value.column if column in texts]
    if not given or (value.join is not None and len(given) < len(value.column)):
        return None
    text = given[0] if len(given) == 1 else _put_together(given, value.join)
    if value.contains:
        text = _containing(text, value.contains)
    if value.cut:
        text = pc.list_element(pc.split_pattern(text, pattern=value.cut, max_splits=1, reverse=True), 0)
    if value.pattern:
        text = _kept(text, value.pattern)
    return map_few(text, (CAUSE_DECODERS | DISPOSITION_DECODERS)[value.decode]) if value.decode else text


def _without(text: pa.Array, absent: Sequence[str]) -> pa.Array:
    if not absent:
        return text
    return pc.if_else(pc.is_in(text, pa.array(absent, text.type)), pa.scalar(None, text.type), text)


def _put_together(given: Sequence[pa.Array], join: str | None) -> pa.Array:
    return pc.coalesce(*given) if join is None else pc.binary_join_element_wise(*given, join)


def _containing(text: pa.Array, what: str) -> pa.Array:
    """Return the values that contain `what`, null for others; where none does, as mostly, the bytes are read once."""
    written = few(text).dictionary if text.type == FEW else text
    if not has(memoryview(written.buffers()[2] or b""), what.encode()):
        return nulls(len(text), text.type)
    return blank(text, pc.invert(pc.fill_null(pc.match_substring(plain(text), pattern=what), False)))


def _kept(text: pa.Array, pattern: str) -> pa.Array:
    """Return the group `value` of `pattern`, found once per distinct value; null where there is none."""
    if _mostly_different(text):  # and so is what is found
        return _group(text, pattern)
    distinct = few(text)
    named = _group(distinct.dictionary, pattern).dictionary_encode()
    return pa.DictionaryArray.from_arrays(named.indices.take(distinct.indices), named.dictionary)


def _mostly_different(text: pa.Array) -> bool:
    """Return whether the first values of text differ, more of them than not."""
    first = text.slice(0, _LOOKED_AT)
    return bool(text.type != FEW and 2 * pc.count_distinct(first).as_py() > len(first))


def _group(text: pa.Array, pattern: str) -> pa.Array:
    return null_empty(pc.struct_field(pc.extract_regex(text, pattern=pattern), "value"))


def _worded(text: pa.Array, value: Value) -> pa.Array:
    """Return `text` in canonical words: by the value's map, or its constant; null for a word that the map lacks."""
    if value.map:
        other = value.map.get("*")
        text = map_few(text, lambda word: value.map.get(word, other))
    return map_few(text, lambda _: value.const) if value.const else text


def _codec(name: str) -> str:
    return _CODECS.get(name.strip().upper().split("/")[0].split("@")[0], "other")


def _typed(name: str, text: pa.Array, value: Value) -> pa.Array:
    """Return `text` as the field `name` has it; null where it cannot be."""
    if name in DURATION_FIELDS:
        return _of_values(text, lambda distinct: durations(distinct, value.unit, value.decimal))
    if name == "codec":
        return map_few(text, _codec)
    kind = pa.float64() if name in WORKING_FIELDS else PARSED.field(name).type
    if kind == FEW:
        return few(text)
    if pa.types.is_floating(kind):
        return _of_values(text, lambda distinct: decimals(distinct, value.decimal))
    return _of_values(text, lambda distinct: integers(distinct, kind)) if pa.types.is_integer(kind) else plain(text)


def plain(text: pa.Array) -> pa.StringArray:
    """Return text as string, spelled out where it is FEW."""
    return text.cast(pa.string()) if text.type == FEW else text


def _of_values(text: pa.Array, read: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Return what `read` makes of text: of each distinct value once, where they are known."""
    return read(text.dictionary).take(text.indices) if text.type == FEW else read(text)
