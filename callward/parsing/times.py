"""Times and durations of a batch: read them as they were written, resolve local ones, and fill in what follows.

Everything here works on whole Arrow arrays. A value that cannot be read becomes null, and is told apart from a value
that is not there by whoever asks (`read` is null where `text` is not). No exception leaves this module with content.
"""

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import map_few
from schemas.cdr import TIMESTAMP
from schemas.declaration import Time, Value

_NAIVE: Final = pa.timestamp("ms")
# What a text must look like to be cast at all. The casts decide; they alone would also take "0x10", "inf" and "1e5".
_TIMESTAMP_FORM: Final = r"^\s*\d{4}-\d\d-\d\d"
_ZONED: Final = r"[ T].*(Z|[+-]\d\d(:?\d\d)?)$"
_INTEGER: Final = r"^-?\d{1,19}$"
_DECIMAL: Final = r"^-?(\d{1,18}(\.\d{0,15})?|\.\d{1,15})$"
_CLOCK: Final = r"^(?:(?P<hours>\d{1,6}):)?(?P<minutes>\d{1,6}):(?P<seconds>[0-5]\d(?:\.\d{1,9})?)$"
_WHOLE_CLOCK: Final = r"^(?P<hours>\d{1,6}):(?P<minutes>[0-5]\d):(?P<seconds>[0-5]\d(?:\.\d{1,9})?)$"
_GROUPED: Final = {
    ".": r"^-?(\d+|\d{1,3}([, '’\x{a0}]\d{3})+)(\.\d*)?$",
    ",": r"^-?(\d+|\d{1,3}([. '’\x{a0}]\d{3})+)(,\d*)?$",
}
_ZONE_AT_THE_END: Final = r"^(?P<rest>.*?)\s*(?P<zone>Z|z|UTC|GMT|UT|[+-]\d\d:?\d\d)(?:\s*\([^)]*\))?$"
_UTC_NAMES: Final = ("Z", "z", "UTC", "GMT", "UT")
_EXCEL_DAY_0: Final = -2_209_161_600_000  # 1899-12-30, in ms since 1970
_DAY_MS: Final = 86_400_000
_MS_SINCE: Final = 1e11  # an epoch with more is in ms (in seconds it would be the year 5138)
_US_SINCE: Final = 1e14
_COMPACT_PARTS: Final = r"^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)$"
_COMPACT: Final = r"^(19|20)\d{2}(0[1-9]|1[0-2])([0-2]\d|3[01])([01]\d|2[0-3])[0-5]\d[0-5]\d$"  # YYYYMMDDhhmmss
_LONGEST_MS: Final = 1e15  # some 30,000 years
_EPOCH_MS: Final = {"epoch_s": 1000.0, "epoch_ms": 1.0, "epoch_us": 0.001}
_UNIT_MS: Final = {"s": 1000.0, "ms": 1.0, "us": 0.001, "min": 60_000.0, "ds": 100.0}
_HALF_PRECISION_MS: Final = 0.0005  # floats of epoch seconds are exact to a microsecond: never floor 0.999 below its ms
_AGREE_MS: Final = 1000  # times and durations that a switch truncates apart may differ by a second


def _cast(text: pa.Array, kind: pa.DataType, looks: str) -> pa.Array:
    """Return `text` cast to `kind`, where it matches `looks`; null where it cannot be: each value by itself."""
    likely = pc.if_else(pc.match_substring_regex(text, looks), text, pa.scalar(None, text.type))
    return _cast_by_halves(likely, kind)


def _cast_by_halves(text: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return pc.cast(text, kind)
    except pa.ArrowInvalid:
        if len(text) == 1:
            return pa.nulls(1, kind)
        half = len(text) // 2
        return pa.concat_arrays([_cast_by_halves(text[:half], kind), _cast_by_halves(text[half:], kind)])


def _digits(text: pa.Array) -> pa.Array | None:
    """Return `text` as int64 if every value is digits alone (the fast way); else None."""
    if not pc.all(pc.ascii_is_decimal(text), min_count=0).as_py():
        return None
    try:
        return pc.cast(text, pa.int64())
    except pa.ArrowInvalid:
        return None


def integers(text: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return whole numbers of `text` as `kind`; null where a text is none or does not fit."""
    whole = _digits(text)
    wide = whole if whole is not None else _cast(text, pa.int64(), _INTEGER)
    info = np.iinfo(kind.to_pandas_dtype())
    fits = pc.and_(pc.greater_equal(wide, info.min), pc.less_equal(wide, info.max))
    return pc.if_else(fits, wide, None).cast(kind)


def decimals(text: pa.Array, decimal: str = "") -> pa.Array:
    """Return numbers of `text` as float64; null where a text is none. `decimal`: see Value.decimal."""
    return _cast(_ungrouped(text, decimal), pa.float64(), _DECIMAL)


def durations(text: pa.Array, unit: str, decimal: str = "") -> pa.Array:
    """Return durations of `text`, written in `unit` (see Value.unit), as whole milliseconds (int64).

    Hours, minutes and seconds with colons between are read in every unit, as they can mean nothing else.
    """
    if unit == "clock":
        return _clock(text, _CLOCK)
    read = _milliseconds(_ungrouped(text, decimal), _UNIT_MS[unit])
    return read if read.null_count == text.null_count else pc.coalesce(read, _clock(text, _WHOLE_CLOCK))


def _clock(text: pa.Array, pattern: str) -> pa.Array:
    """Return durations of text such as 1:02:03 or 02:03.5 as milliseconds; null where a text is none."""
    parts = pc.extract_regex(text, pattern)
    hours, minutes = (_cast(pc.struct_field(parts, name), pa.int64(), _INTEGER) for name in ("hours", "minutes"))
    seconds = _milliseconds(pc.struct_field(parts, "seconds"), 1000.0)
    whole = pc.add(pc.multiply(pc.fill_null(hours, 0), 60), minutes)
    return pc.add(pc.multiply(whole, 60_000), seconds)


def _ungrouped(text: pa.Array, decimal: str) -> pa.Array:
    """Return numbers without what groups their digits, and with a point; null where one is not written so."""
    if not decimal:
        return text
    well = pc.match_substring_regex(text, _GROUPED[decimal])
    plain = pc.replace_substring_regex(pc.if_else(well, text, pa.scalar(None, text.type)), f"[^-0-9{decimal}]", "")
    return pc.replace_substring(plain, ",", ".")


def _milliseconds(text: pa.Array, factor: float) -> pa.Array:
    """Return numbers of `text` x `factor` as int64, toward minus infinity; null beyond what any clock shows."""
    whole = _digits(text)
    if whole is not None and factor >= 1 and (pc.max(whole).as_py() or 0) * factor < _LONGEST_MS:
        return pc.multiply(whole, int(factor))
    numbers = decimals(text) if whole is None else whole.cast(pa.float64(), safe=False)
    scaled = pc.floor(pc.add(pc.multiply(numbers, factor), _HALF_PRECISION_MS))
    return pc.if_else(pc.less(pc.abs(scaled), _LONGEST_MS), scaled, None).cast(pa.int64())


@dataclass(frozen=True)
class Timestamps:
    """Times of one kind: `at` is timestamp[ms], naive where `local`, else UTC without saying so.

    `again` is the second moment (UTC) of a local time that came twice, where `at` is the first; None: none did.
    """

    at: pa.Array
    local: bool
    again: pa.Array | None = None

    @property
    def second(self) -> pa.Array:
        """Return `again`, null throughout where no time came twice."""
        return pa.nulls(len(self.at), _NAIVE) if self.again is None else self.again


def read_times(text: pa.Array, value: Value, zone: str, time: Time) -> Timestamps:
    """Return times of `text` as `value` declares them; null where one cannot be read or is no date."""
    if value.time in _EPOCH_MS:
        return Timestamps(_milliseconds(text, _EPOCH_MS[value.time]).cast(_NAIVE), local=False)
    if value.rewrite:
        text = pc.replace_substring_regex(text, pattern=value.rewrite[0], replacement=value.rewrite[1])
    if value.time == "offset":
        return Timestamps(_offset_time(text, value), local=False)
    if value.time == "any":
        return _any_time(text, value.zone or zone, time)
    read = _excel(text) if value.time == "excel" else _written(text, value.format)
    written = Timestamps(read, local=value.time != "utc")
    return in_utc(written, value.zone, time) if value.zone else written


def _written(text: pa.Array, patterns: Sequence[str]) -> pa.Array:
    return pc.coalesce(*(_by_format(text, pattern) for pattern in patterns)) if patterns else _iso(text)


def _excel(text: pa.Array) -> pa.Array:
    """Return times that a spreadsheet wrote as days since 1899-12-30; no day before 1990 is one of a call."""
    at = pc.add(pc.round(pc.multiply(decimals(text), float(_DAY_MS))), _EXCEL_DAY_0)
    return pc.if_else(pc.less(pc.abs(at), _LONGEST_MS), at, None).cast(pa.int64()).cast(_NAIVE)


def _offset_time(text: pa.Array, value: Value) -> pa.Array:
    """Return times that name their zone, by an offset or by one of the value's `zones`."""
    if not value.format and not value.zones:
        return _with_offset(text)
    at = pa.nulls(len(text), _NAIVE)
    names = "|".join(re.escape(name) for name in sorted(value.zones, key=len, reverse=True))
    patterns = [_ZONE_AT_THE_END, *([rf"^(?P<rest>.*?)\b(?P<zone>{names})\b(?P<after>.*)$"] if names else [])]
    for pattern in patterns:
        found = pc.extract_regex(text, pattern)
        rest = [pc.struct_field(found, name) for name in ("rest", "after") if f"<{name}>" in pattern]
        rest = rest[0] if len(rest) == 1 else pc.binary_join_element_wise(*rest, "")
        rest = pc.utf8_trim_whitespace(pc.replace_substring_regex(rest, r"\s+", " "))
        apart = map_few(pc.struct_field(found, "zone"), lambda name: _offset_ms(value.zones.get(name, name)))
        ahead = apart.cast(pa.string()).cast(pa.int64()).cast(pa.duration("ms"))
        at = pc.coalesce(at, pc.subtract(_written(rest, value.format), ahead))
    return at


def _offset_ms(offset: str) -> str | None:
    """Return how far a zone is ahead of UTC, in ms as text; None where its name is none."""
    if offset in _UTC_NAMES:
        return "0"
    if not re.fullmatch(r"[+-]\d\d:?\d\d", offset):
        return None
    ms = (int(offset[1:3]) * 60 + int(offset[-2:])) * 60_000
    return str(-ms if offset[0] == "-" else ms)


def _iso(text: pa.Array) -> pa.Array:
    try:
        return pc.cast(text, _NAIVE)
    except pa.ArrowInvalid:
        read = _cast(text, _NAIVE, _TIMESTAMP_FORM)
    # More than three decimals do not cast to ms; nine fit ns.
    finer = pc.if_else(pc.is_null(read), text, pa.scalar(None, text.type))
    return pc.coalesce(read, _cast(finer, pa.timestamp("ns"), _TIMESTAMP_FORM).cast(_NAIVE, safe=False))


def _with_offset(text: pa.Array) -> pa.Array:
    kind = pa.timestamp("us", tz="UTC")
    try:
        read = pc.cast(text, kind)
    except pa.ArrowInvalid:
        read = _cast(pc.replace_substring_regex(text, r"(\.\d{6})\d+", r"\1"), kind, _ZONED)
    return read.cast(pa.timestamp("us")).cast(_NAIVE, safe=False)


def _any_time(text: pa.Array, zone: str, time: Time) -> Timestamps:
    """Return epoch seconds, ISO 8601 with an offset, or ISO 8601 without one (then local), each row by itself."""
    whole = _digits(text)
    if whole is not None and (pc.max(whole).as_py() or 0) < _MS_SINCE:
        return Timestamps(_milliseconds(text, 1000.0).cast(_NAIVE), local=False)
    with contextlib.suppress(pa.ArrowInvalid):
        absolute = pc.cast(text, pa.timestamp("us", tz="UTC"))
        return Timestamps(absolute.cast(pa.timestamp("us")).cast(_NAIVE, safe=False), local=False)
    return _each_time(text, zone, time)


def _each_time(text: pa.Array, zone: str, time: Time) -> Timestamps:
    nothing = pa.scalar(None, text.type)
    compact = pc.match_substring_regex(text, _COMPACT)
    text = pc.if_else(compact, pc.replace_substring_regex(text, _COMPACT_PARTS, r"\1-\2-\3 \4:\5:\6"), text)
    text = pc.replace_substring_regex(text, r"^(\d{4})/(\d\d)/(\d\d)", r"\1-\2-\3")
    number, zoned = pc.match_substring_regex(text, _DECIMAL), pc.match_substring_regex(text, _ZONED)
    epochs = _epochs(pc.if_else(number, text, nothing))
    absolute = _with_offset(pc.if_else(zoned, text, nothing))
    local = _iso(pc.if_else(pc.or_(number, zoned), nothing, text))
    own = in_utc(Timestamps(local, local=True), zone, time)
    return Timestamps(pc.coalesce(epochs, absolute, own.at), local=False, again=own.again)


def _epochs(text: pa.Array) -> pa.Array:
    """Return times since 1970, in seconds, ms or us by their size."""
    number = decimals(text)
    factor = pc.if_else(pc.less(number, _MS_SINCE), 1000.0, pc.if_else(pc.less(number, _US_SINCE), 1.0, 0.001))
    scaled = pc.floor(pc.add(pc.multiply(number, factor), _HALF_PRECISION_MS))
    return pc.if_else(pc.less(pc.abs(scaled), _LONGEST_MS), scaled, None).cast(pa.int64()).cast(_NAIVE)


def _by_format(text: pa.Array, pattern: str) -> pa.Array:
    """Return times in strptime's words. strptime takes 30 February for 2 March, so the day is read a second time."""
    whole, fraction = text, None
    if ".%f" in pattern:
        place = "$" if pattern.endswith(".%f") else r"\b"
        before, pattern = ("" if place == "$" else r":\d\d"), pattern.replace(".%f", "", 1)
        whole = pc.replace_substring_regex(text, rf"({before})\.\d+{place}", r"\1")
        decimal = pc.struct_field(pc.extract_regex(text, rf"{before}(?P<decimal>\.\d+){place}"), "decimal")
        fraction = decimals(pc.binary_join_element_wise("0", pc.coalesce(decimal, ""), ""))
    read = pc.strptime(whole, format=pattern, unit="ms", error_is_null=True)
    read = _no_overflow(read, whole, pattern)
    if fraction is None:
        return read
    return _later(read, pc.floor(pc.multiply(fraction, 1000.0)).cast(pa.int64()))


def _no_overflow(read: pa.Array, text: pa.Array, pattern: str) -> pa.Array:
    early = pc.fill_null(pc.less_equal(pc.day(read), 3), False)
    rows = np.flatnonzero(early.to_numpy(zero_copy_only=False))
    if "%d" not in pattern or not len(rows):
        return read
    days = pc.struct_field(pc.extract_regex(text.take(pa.array(rows)), pattern=_day_of(pattern)), "day")
    wrong = pc.not_equal(integers(days, pa.int64()), pc.day(read.take(pa.array(rows))))
    overflow = np.zeros(len(read), bool)
    overflow[rows] = pc.fill_null(wrong, True).to_numpy(zero_copy_only=False)
    return pc.if_else(pa.array(overflow), pa.scalar(None, read.type), read)


def _day_of(pattern: str) -> str:
    """Return a regular expression that finds the day of the month in what strptime's `pattern` reads."""
    fields = {"Y": "[0-9]{4}", "d": "(?P<day>[0-9]{1,2})", "%": "%"} | dict.fromkeys("mHMSyIe", "[0-9]{1,2}")
    parts = re.split(r"%([a-zA-Z%])", pattern)
    return "^" + "".join(fields.get(p, ".+?") if i % 2 else re.escape(p) for i, p in enumerate(parts)) + "$"


def _to_utc(local: pa.Array, zone: str, ambiguous: str, nonexistent: str) -> pa.Array:
    if zone == "UTC":
        return local
    absolute = pc.assume_timezone(local, zone, ambiguous=ambiguous, nonexistent=nonexistent)
    return absolute.cast(TIMESTAMP).cast(_NAIVE)


@dataclass(frozen=True)
class Times:
    """The times of a batch as a source gave them; None where it has no such field. Durations are ms (int64)."""

    start: Timestamps | None = None
    ring: Timestamps | None = None
    answer: Timestamps | None = None
    end: Timestamps | None = None
    talk: pa.Array | None = None
    pdd: pa.Array | None = None
    duration: pa.Array | None = None


@dataclass(frozen=True)
class Resolved:
    """The times of a batch, complete: timestamp[ms] in UTC (without a zone), ms, and whether it was answered."""

    start: pa.Array
    ring: pa.Array
    answer: pa.Array
    end: pa.Array
    talk: pa.Array
    pdd: pa.Array
    answered: pa.Array
    end_again: pa.Array | None = None  # where no start says which of an end's two moments it is: the second


def complete_times(times: Times, rows: int, zone: str, time: Time) -> Resolved:
    """Return times of `rows` records in UTC, with what follows from the others filled in.

    Answered means an answer time or talk time, never a cause. Local times resolve once, at the start: the others are
    as far from it as the switch says, so that a clock change within a call bends no duration.
    """
    utc = _resolved(times, zone, time)
    start, ring, answer, end = (_column(s, rows) for s in (utc.start, utc.ring, utc.answer, utc.end))
    talk = _talk(times, answer, end, rows)
    answered = pc.or_(pc.is_valid(answer), pc.fill_null(pc.greater(talk, 0), False))
    end = _coalesced(end, _later(start, times.duration), _later(answer, talk))
    answer = pc.if_else(answered, _coalesced(answer, _earlier(end, talk)), pa.scalar(None, _NAIVE))
    if times.talk is not None:
        talk = pc.if_else(pc.or_(answered, pc.is_valid(talk)), talk, 0)
    pdd = _coalesced(times.pdd if times.pdd is not None else pa.nulls(rows, pa.int64()), _between(start, ring))
    again = None if utc.end is None else utc.end.again
    return Resolved(start, ring, answer, end, talk, pdd, answered, again)


def _column(given: Timestamps | None, rows: int) -> pa.Array:
    return pa.nulls(rows, _NAIVE) if given is None else given.at


def _talk(times: Times, answer: pa.Array, end: pa.Array, rows: int) -> pa.Array:
    """Return the declared talk time; where there is none, from answer to end, unless both are local alone."""
    talk = times.talk if times.talk is not None else pa.nulls(rows, pa.int64())
    both = (times.answer, times.end)
    absolute = all(s is not None and not s.local for s in both)
    return _coalesced(talk, _between(answer, end)) if absolute else talk


def _resolved(times: Times, zone: str, time: Time) -> Times:
    """Return every time in UTC. `times.start`'s clock decides; without a start each stands for itself.

    An end of which only the local hour is known, where that comes twice, is where the switch's own duration says, else
    the first such moment after the answer (where there is none, after the start).
    """
    begins = None if times.start is None else in_utc(times.start, zone, time)
    clock, start, talk = _Clock(zone, time, times.start, begins), None if begins is None else begins.at, times.talk
    ring = clock.later(times.ring, times.pdd, start, _later(start, times.pdd))
    to_answer = _minus(times.duration, talk)
    answer = clock.later(times.answer, to_answer, start, _later(start, to_answer))
    answered = None if answer is None else answer.at
    expected = _first_of(_later(start, times.duration), _later(answered, talk))
    end = clock.later(times.end, times.duration, _first_of(answered, start), expected)
    return replace(times, start=begins, ring=ring, answer=answer, end=end)


@dataclass(frozen=True)
class _Clock:
    """A switch's clock: its zone, and when calls started by it, as written and in UTC."""

    zone: str
    time: Time
    written: Timestamps | None
    start: Timestamps | None

    def later(
        self, given: Timestamps | None, length: pa.Array | None, after: pa.Array | None, expected: pa.Array | None
    ) -> Timestamps | None:
        """Return a later time in UTC: as far after the start as on the clock, unless `length` says otherwise.

        Where no length is known it is in its own hour; where that comes twice, nearest to `expected`, if known, else
        the first that is not before `after`. Nulls of these are not known.
        """
        if given is None:
            return None
        moved = self._moved(given, length)
        if moved is not None and not moved.null_count:
            return Timestamps(moved, local=False)
        own = _chosen(in_utc(given, self.zone, self.time), after, expected)
        if moved is None:
            return own
        again = None if own.again is None else pc.if_else(pc.is_valid(moved), None, own.again)
        return Timestamps(pc.coalesce(moved, own.at), local=False, again=again)

    def _moved(self, given: Timestamps, length: pa.Array | None) -> pa.Array | None:
        """Return times that a length vouches for: their distance from the start is it, or the clock's if both agree."""
        if self.start is None or self.written is None or length is None or not (self.written.local and given.local):
            return None
        apart = _between(self.written.at, given.at)
        agrees = pc.less_equal(pc.abs(pc.subtract(apart, length)), _AGREE_MS)
        return _later(self.start.at, pc.if_else(pc.and_(agrees, pc.is_valid(apart)), apart, length))


def _chosen(read: Timestamps, after: pa.Array | None, expected: pa.Array | None) -> Timestamps:
    """Return times of which one that came twice is the one nearest to `expected`, or else not before `after`.

    Those that neither is known of keep both moments.
    """
    if read.again is None:
        return read
    unknown = pa.nulls(len(read.at), _NAIVE)
    after, expected = (unknown if known is None else known for known in (after, expected))
    off = [pc.abs(_between(expected, moment)) for moment in (read.at, read.again)]
    second = pc.coalesce(pc.less(off[1], off[0]), pc.less(read.at, after), False)
    at = pc.if_else(pc.and_(second, pc.is_valid(read.again)), read.again, read.at)
    open_still = pc.and_(pc.is_null(after), pc.is_null(expected))
    return Timestamps(at, local=False, again=pc.if_else(open_still, read.again, None))


def in_utc(given: Timestamps, zone: str, time: Time) -> Timestamps:
    """Return times by themselves, in UTC: a clock change is resolved as `time` says."""
    if not given.local:
        return given
    if zone == "UTC":
        return Timestamps(given.at, local=False)
    if time.ambiguous == "earliest":
        with contextlib.suppress(pa.ArrowInvalid):  # no time came twice, as nearly always
            return Timestamps(_to_utc(given.at, zone, "raise", time.nonexistent), local=False)
    first = _to_utc(given.at, zone, time.ambiguous, time.nonexistent)
    latest = _to_utc(given.at, zone, "latest", time.nonexistent)
    again = pc.if_else(pc.equal(first, latest), pa.scalar(None, _NAIVE), latest)
    return Timestamps(first, local=False, again=again if again.null_count < len(again) else None)


def _first_of(*known: pa.Array | None) -> pa.Array | None:
    given = [times for times in known if times is not None]
    return pc.coalesce(*given) if given else None


def _coalesced(first: pa.Array, *others: pa.Array | None) -> pa.Array:
    given = [other for other in others if other is not None]
    return pc.coalesce(first, *given) if given and first.null_count else first


def _minus(length: pa.Array | None, part: pa.Array | None) -> pa.Array | None:
    return None if length is None or part is None else pc.subtract(length, part)


def _later(at: pa.Array | None, length: pa.Array | None) -> pa.Array | None:
    return None if at is None or length is None else pc.add(at, length.cast(pa.duration("ms")))


def _earlier(at: pa.Array, length: pa.Array | None) -> pa.Array | None:
    return None if length is None else pc.subtract(at, length.cast(pa.duration("ms")))


def _between(first: pa.Array, last: pa.Array) -> pa.Array:
    return pc.subtract(last, first).cast(pa.int64())
