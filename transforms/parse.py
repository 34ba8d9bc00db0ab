"""Parse: the records of a block, as one canonical batch. A row per record, always; what is wrong is a value in it.

Three steps, each on whole Arrow arrays: `cut` cuts a block into records, the readers put these onto a `sheet` as text
columns (only those that the declaration names), and here text columns turn into the fields of `schemas.cdr.PARSED`.
Loops run over distinct values, or over the few records that the fast readers refuse. Nothing here raises for any bytes.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import (
    constant,
    either,
    few,
    few_of,
    filled,
    flat,
    has_value,
    map_few,
    nulls,
    overlaid,
    ranks,
    set_column,
)
from callward.parsing.csv_lines import CsvLines
from callward.parsing.fields import Fields, blank
from callward.parsing.json_lines import read_json
from callward.parsing.raw_columns import Part, Sheet, Texts, any_true, as_mask, in_utf8, mark_unreadable, one_line_each
from callward.parsing.records import has
from callward.parsing.times import Resolved
from callward.settings import Source
from callward.workspace import Workspace
from schemas.causes import CANCELLED, TIMED_OUT
from schemas.cdr import FEW, PARSED, PRESENTATIONS, READ_FIELDS, ROLES, TIMESTAMP
from schemas.codes import Suspense
from schemas.declaration import TIME_FIELDS, Condition, Declaration, Edges, Key, Rule, Shape, Value
from transforms.read import SHAPE, SOURCE, UNENDED

UNKNOWN_TENANT: Final = "_unknown"
_CLOCKED: Final = 1000  # records of a block whose clock is compared with the epoch that they hold
_TEXT: Final = pa.string()
_JOINT: Final = "\x1f"
_ROUNDED: Final = r"(?:^|\x1f)[0-9](?:[.,][0-9]+)?E\+[0-9]+(?:$|\x1f)"  # by a spreadsheet: many records share it
_OF_ATTEMPTS: Final = ("talk_ms", "pdd_ms", "disposition", "calling_presentation")  # said of no other piece of a call


def _spelled(*words: str) -> pa.Array:
    return pa.array([spelling for word in words for spelling in (word, word.capitalize(), word.upper())])


_RESTRICTED: Final = _spelled("anonymous", "restricted", "private", "withheld", "blocked")
_HIDING: Final = pa.concat_arrays([_RESTRICTED, _spelled("unavailable", "unknown", "asserted", "none")])


def parse(
    found: pa.LargeBinaryArray | pa.ChunkedArray,
    declaration: Declaration,
    shape: Shape,
    zone: str = "UTC",
    *,
    tenant_column: str = "",
    lines: pa.Array | None = None,
    unended: npt.NDArray[np.bool_] | None = None,
) -> pa.Table:
    """Return records of one file as canonical CDRs: `schemas.cdr.PARSED`, row i is record i.

    `zone` is the IANA zone of stamps that name none; `tenant_column` the source column that a tenant rule looks at;
    `lines` the records' lines (int32), if not 0, 1, 2 ...; `unended` the records that end with their file, without a
    line end (bool [n]). A record that cannot be read has its `fault`, one that a rule leaves out its `filter`. Numbers
    are as the switch wrote them: Normalize makes E.164 of them.
    """
    found = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
    found = pa.concat_arrays([found, found[:0]]) if found.offset else found
    unended = np.zeros(len(found), bool) if unended is None else unended
    sheet = _read(found, declaration, shape, declaration.columns(tenant_column), unended)
    tables = [_batch(part, declaration, zone, tenant_column or declaration.tenant_column) for part in sheet.parts]
    table = _in_order(tables, sheet, len(found))
    numbered = lines if lines is not None else pa.array(np.arange(len(found), dtype=np.int32))
    table = table.set_column(PARSED.get_field_index("line"), PARSED.field("line"), numbered)
    return table.set_column(PARSED.get_field_index("raw"), PARSED.field("raw"), found)


def _read(
    found: pa.LargeBinaryArray,
    declaration: Declaration,
    shape: Shape,
    names: set[str],
    unended: npt.NDArray[np.bool_],
) -> Sheet:
    """Return the text columns called `names` of the records `found`, and what is wrong with those that have none."""
    sheet, file = Sheet(np.full(len(found), "", object), unended), shape.file(declaration.file)
    mark_unreadable(sheet, found, file)
    rows = sheet.readable()
    if not len(rows):
        return sheet
    lines = found if len(rows) == len(found) else found.take(pa.array(rows))
    lines = one_line_each(in_utf8(lines, file))
    if file.kind == "json":
        read_json(sheet, rows, lines, file, sorted(names))
    else:
        names = names | {column for layout in declaration.shapes for column in layout.match}
        CsvLines(sheet, rows, lines, file, names).read(shape, declaration.shapes)
    return sheet


def _in_order(tables: list[pa.Table], sheet: Sheet, rows: int) -> pa.Table:
    """Return one row per record: those read, and the unreadable ones with their fault and nothing else."""
    if len(tables) == 1 and tables[0].num_rows == rows and (np.diff(sheet.parts[0].rows) == 1).all():
        return tables[0]
    unreadable = np.flatnonzero(sheet.faults != "")
    order = np.concatenate([*(part.rows for part in sheet.parts), unreadable]).astype(np.int64)
    table = pa.concat_tables([*tables, _unreadable(sheet.faults[unreadable])]).combine_chunks()
    return table.take(pa.array(np.argsort(order, kind="stable")))


def _unreadable(faults: npt.NDArray[np.object_]) -> pa.Table:
    columns = {f.name: pa.nulls(len(faults), f.type) for f in PARSED}
    return pa.table({**columns, "fault": pa.array(faults, pa.string())}, schema=PARSED)


def _batch(part: Part, declaration: Declaration, zone: str, tenant_column: str) -> pa.Table:
    """Return records that were read alike, as canonical rows (without `line` and `raw`)."""
    rows, texts = len(part.rows), part.texts
    fields = Fields(texts, rows, zone, declaration)
    fields.read(declaration.fields)
    kinds = _kinds(texts, rows, declaration)
    for index, rule in enumerate(kinds.rules):
        _apply(rule, pa.array(kinds.which == index), fields)
    settled = fields.complete_times()
    columns = _told(fields, settled, declaration)
    columns |= _names(texts, declaration, kinds)
    columns |= _legs(texts, rows, declaration)
    attempt = kinds.attempts(settled.answered)
    if not attempt.all():
        columns |= {name: blank(columns[name], pa.array(~attempt)) for name in _OF_ATTEMPTS}
    columns |= {"piece": kinds.pieces(), "filter": _filters(texts, rows, declaration, kinds)}
    columns["fault"] = _faults(fields, columns, kinds, declaration, texts)
    columns["tenant_field"] = texts.get(tenant_column)
    columns["silent"] = _silent(fields, columns["disposition"])
    if declaration.epoch and declaration.has_local_stamps:
        columns["ahead_ms"] = _ahead(fields, settled)
    columns["reached"] = _moments(fields, declaration.reached)
    return _table(columns, rows)


def _silent(fields: Fields, disposition: pa.Array) -> pa.Array:
    """Return which records say neither when they were answered nor how long they lasted, nor why they were not."""
    silent = has_value(disposition, "unknown")
    if not any_true(silent):
        return silent
    for given in (fields.timestamps.get("answer_time"), fields.values.get("talk_ms")):
        if given is not None:
            silent = pc.and_(silent, pc.is_null(given if isinstance(given, pa.Array) else given.at))
    return silent


def _ahead(fields: Fields, settled: Resolved) -> pa.Array:
    """Return how far starts are ahead of the epochs in their records, in ms; of the first records alone."""
    few_rows = min(fields.rows, _CLOCKED)
    texts = {name: text.slice(0, few_rows) for name, text in fields.texts.items()}
    held = _moments(Fields(texts, few_rows, fields.zone, fields.declaration), fields.declaration.epoch)
    if held is None:
        return nulls(fields.rows, pa.int64())
    ahead = pc.subtract(settled.start.slice(0, few_rows), held).cast(pa.int64())
    return pa.concat_arrays([ahead, nulls(fields.rows - few_rows, pa.int64())])


def _moments(fields: Fields, values: tuple[Value, ...]) -> pa.Array | None:
    """Return moments that no zone decides, beside the times of records; None where no record has any."""
    if not values:
        return None
    held = Fields(fields.texts, fields.rows, fields.zone, fields.declaration)
    held.read({"start_time": values})
    return held.timestamps["start_time"].at if "start_time" in held.timestamps else None


def _table(columns: Mapping[str, pa.Array | None], rows: int) -> pa.Table:
    def column(f: pa.Field) -> pa.Array:
        given = columns.get(f.name)
        if given is None:
            return nulls(rows, f.type)
        if f.type == FEW:
            return few(given)
        return given if given.type == f.type else given.cast(f.type)

    return pa.Table.from_arrays([column(f) for f in PARSED], schema=PARSED)


@dataclass(frozen=True)
class _Kinds:
    """Which of the declaration's rules each record follows; -1 where none does."""

    rules: tuple[Rule, ...]
    which: npt.NDArray[np.int64]

    def pieces(self) -> pa.Array:
        """Return what part of a call each record is (schemas.cdr.PIECES); null where no rule says."""
        if not self.rules:
            return constant("whole", len(self.which))
        words = pa.array([None if rule.kind == "filter" else rule.kind for rule in self.rules], pa.string())
        return few(words.take(pa.array(self.which, mask=self.which < 0)))

    def attempts(self, answered: pa.Array) -> npt.NDArray[np.bool_]:
        """Return which records are about an attempt, and so have a disposition: also a close that knows the answer."""
        if not self.rules:
            return np.ones(len(self.which), bool)
        whole = self._of_kind("close") & as_mask(answered)
        return whole | ~(self._of_kind("close") | self._of_kind("quality"))

    def _of_kind(self, kind: str) -> npt.NDArray[np.bool_]:
        return np.array([rule.kind == kind for rule in self.rules] + [False])[self.which]

    def identified(self) -> list[tuple[npt.NDArray[np.bool_], Key]]:
        """Return the records that another key than the declaration's identifies, and that key."""
        rules = enumerate(self.rules)
        return [(self.which == index, rule.identity) for index, rule in rules if rule.identity is not None]


def _kinds(texts: Texts, rows: int, declaration: Declaration) -> _Kinds:
    rules = declaration.pieces.rules if declaration.pieces else ()
    which = np.full(rows, -1, np.int64)
    for index in reversed(range(len(rules))):  # the first that matches holds
        which[_meets(texts, rows, rules[index].when)] = index
    return _Kinds(rules, which)


def _apply(rule: Rule, where: pa.Array, fields: Fields) -> None:
    if not (rule.fields or rule.keeps is not None) or not any_true(where):
        return
    fields.read(rule.fields, where)
    if rule.keeps is not None:
        fields.keep_only((*rule.keeps, *rule.fields), where)


# Which rows meet a condition (column, condition), of conditions that were asked of all rows.
Known = dict[tuple[str, Condition], npt.NDArray[np.bool_]]


def _meets(texts: Texts, rows: int, when: Mapping[str, Condition], known: Known | None = None) -> npt.NDArray[np.bool_]:
    """Return which rows meet all conditions; what is `known` is not looked for again, and is added to."""
    known = {} if known is None else known
    meets = np.ones(rows, bool)
    for asked in sorted(when.items(), key=lambda asked: asked not in known):
        if asked in known:
            meets &= known[asked]
            continue
        left = np.flatnonzero(meets)  # a pattern is looked for only where what stands before it holds
        if not len(left):
            break
        column, condition = asked
        text = texts.get(column, pa.nulls(rows, pa.string()))
        meets[left] = as_mask(_holds(text if len(left) == rows else text.take(pa.array(left)), condition))
        if len(left) == rows:
            known[asked] = meets.copy()
    return meets


def _holds(text: pa.Array, condition: Condition) -> pa.Array:
    if isinstance(condition, Edges):
        starts = pc.starts_with(text, pattern=condition.starts)
        return pc.and_(starts, pc.ends_with(text, pattern=condition.ends))
    if isinstance(condition, str):
        return pc.match_substring_regex(text, pattern=condition)  # a look for few distinct values costs more
    listed = pc.is_in(text, pa.array([word for word in condition if word], pa.string()))
    return pc.or_(listed, pc.is_null(text)) if "" in condition else listed


def _told(fields: Fields, settled: Resolved, declaration: Declaration) -> dict[str, pa.Array]:
    """Return the fields of the canonical record."""
    columns = {f.name: fields.values[f.name] for f in READ_FIELDS if f.name in fields.values}
    stamps = dict(zip(TIME_FIELDS, (settled.start, settled.ring, settled.answer, settled.end), strict=True))
    columns |= {name: at.cast(TIMESTAMP) for name, at in stamps.items()}
    columns |= {"talk_ms": settled.talk, "pdd_ms": settled.pdd}
    if settled.end_again is not None:
        columns["end_again"] = settled.end_again.cast(TIMESTAMP)
    columns["disposition"] = _disposition(fields, settled, declaration)
    columns["calling_presentation"] = either(fields.get("calling_presentation"), _presentation(fields))
    if {"rated_raw", "called_raw"} <= set(columns):  # sent out as dialled: one number, in one role
        same = pc.fill_null(pc.equal(columns["rated_raw"], columns["called_raw"]), False)
        columns["rated_raw"] = blank(columns["rated_raw"], same)
    if {"packets_lost", "packets_received"} <= set(fields.values):
        columns.setdefault("loss_pct", _loss(fields.values["packets_lost"], fields.values["packets_received"]))
    if "mos" in columns:
        columns |= _scored(columns)
    return columns


def _disposition(fields: Fields, settled: Resolved, declaration: Declaration) -> pa.Array:
    """Return every attempt's one word: answered if it was; else what its cause says, with the ring time if known."""
    said = fields.get("disposition")
    if {"ring_time"} & set(fields.timestamps) or "pdd_ms" in fields.values:
        rang = pc.or_(pc.is_valid(settled.ring), pc.is_valid(settled.pdd))
        said = overlaid(said, pc.and_(has_value(said, CANCELLED), rang), "abandoned_alerting")
        said = overlaid(said, pc.and_(has_value(said, TIMED_OUT), rang), "no_answer")
        given_up, ran_out = "abandoned_before_alerting", "network_failure"
    else:
        given_up, ran_out = declaration.cancelled_as, declaration.timed_out_as
    final = {CANCELLED: given_up, TIMED_OUT: ran_out}
    said = map_few(said, lambda word: final.get(word, word))
    return overlaid(filled(said, "unknown"), settled.answered, "answered")


def _presentation(fields: Fields) -> pa.Array:
    """Return whether the caller's number was shown, by the words that stand in its place; null where no source says."""
    calling = fields.values.get("calling_raw")
    if calling is None:
        return nulls(fields.rows, FEW)
    anonymous = pc.or_(pc.starts_with(calling, "sip:anonymous@"), pc.starts_with(calling, "anonymous@"))
    word = pc.index_in(calling, value_set=_HIDING)
    restricted = pc.or_(pc.fill_null(pc.less(word, len(_RESTRICTED)), False), pc.fill_null(anonymous, False))
    unavailable = pc.or_(pc.is_valid(word), pc.is_null(calling))
    allowed, hidden, absent = (pa.scalar(at, pa.int32()) for at in range(len(PRESENTATIONS)))
    return few_of(pc.if_else(restricted, hidden, pc.if_else(unavailable, absent, allowed)), PRESENTATIONS)


def _loss(lost: pa.Array, received: pa.Array) -> pa.Array:
    """Percent of packets lost; CUCM writes a negative loss where packets came twice, which is none."""
    lost = pc.max_element_wise(lost, 0.0, skip_nulls=False)
    sent = pc.add(lost, received)
    return pc.if_else(pc.greater(sent, 0.0), pc.multiply(pc.divide(lost, sent), 100.0), None)


def _scored(columns: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    """MOS and its method, null where the score is on no scale of 1 to 5 (0 is written for "not measured")."""
    mos = columns["mos"]
    real = pc.fill_null(pc.and_(pc.greater_equal(mos, 1.0), pc.less_equal(mos, 5.0)), False)
    method = columns.get("mos_method", pa.nulls(len(mos), FEW))
    return {"mos": blank(mos, pc.invert(real)), "mos_method": blank(method, pc.invert(real))}


def _names(texts: Texts, declaration: Declaration, kinds: _Kinds) -> dict[str, pa.Array | None]:
    keys = {name: getattr(declaration, name) for name in ("identity", "call", "leg_a", "leg_b")}
    names = {name: _key(texts, key) for name, key in keys.items()}
    within = declaration.call.within
    names["within"] = _key(texts, Key(any_of=(within,))) if within else None
    for rows, key in kinds.identified() if names["identity"] is not None else ():
        own = _key(texts, key)
        own = nulls(len(rows), pa.string()) if own is None else own
        names["identity"] = pc.if_else(pa.array(rows), own, names["identity"])
    return names


def _legs(texts: Texts, rows: int, declaration: Declaration) -> dict[str, pa.Array]:
    """Return what each record is to its call, which edge leg it is about, and which goes on from it; nothing where no
    leg is declared, or the file has none of the columns that tell legs apart."""
    told_by = {column for leg in declaration.legs for column in leg.when}
    if not declaration.legs or (told_by and declaration.file.kind == "csv" and told_by.isdisjoint(texts)):
        return {}
    legs, known = declaration.legs, Known()
    which = np.full(rows, len(legs), np.int8)
    for index in reversed(range(len(legs))):  # the first that matches holds
        which[_meets(texts, rows, legs[index].when, known)] = index
    roles = np.array([*(ROLES.index(leg.role) for leg in legs), ROLES.index("caller")], np.int8)
    return {
        "role": pa.array(roles[which]),
        "event": _edge_legs(texts, which, [leg.event for leg in legs]),
        "onward": _edge_legs(texts, which, [leg.onward for leg in legs]),
    }


def _edge_legs(texts: Texts, which: npt.NDArray[np.int8], keys: Sequence[Key | None]) -> pa.Array:
    """Return the edge leg that the key of each record's leg names; null where it has no key, or the file no column."""
    named = nulls(len(which), _TEXT)
    for key in dict.fromkeys(key for key in keys if key is not None):
        of = np.array([*(other == key for other in keys), False])[which]
        value = _key(texts, key) if of.any() else None
        if value is not None:
            named = pc.if_else(pa.array(of), value, named)
    return named


def _groups(texts: Texts, key: Key) -> list[tuple[str, ...]]:
    """Return the groups of `key` that the records have the columns of."""
    return [group for group in key.any_of or ((),) if all(column in texts for column in (*group, *key.unordered))]


def _key(texts: Texts, key: Key) -> pa.Array | None:
    """Return what `key` names, joined with \\x1f; null where a column that must not be empty is."""
    groups = _groups(texts, key) if key.any_of or key.unordered else []
    if not groups:
        return None
    joined = [_joint(texts, key, group) for group in (groups if key.fall_back else groups[:1])]
    return joined[0] if len(joined) == 1 else pc.coalesce(*joined)


def _joint(texts: Texts, key: Key, group: Sequence[str]) -> pa.Array:
    def column(name: str) -> pa.Array:
        return pc.fill_null(texts[name], "") if name in key.optional else texts[name]

    parts = [column(name) for name in group] + _sorted_columns([column(name) for name in key.unordered])
    return parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, _JOINT)


def _sorted_columns(columns: list[pa.Array]) -> list[pa.Array]:
    """Columns with the values of each row in order."""
    columns = list(columns)
    for end in range(len(columns) - 1, 0, -1):
        for at in range(end):
            first, second = columns[at], columns[at + 1]
            swap = pc.greater(first, second)
            columns[at], columns[at + 1] = pc.if_else(swap, second, first), pc.if_else(swap, first, second)
    return columns


def _filters(texts: Texts, rows: int, declaration: Declaration, kinds: _Kinds) -> pa.Array:
    """Return the code of the rule that leaves a record out; null for those that stay."""
    left_out = nulls(rows, pa.string())
    if kinds.rules:
        codes = pa.array([rule.filter.value if rule.filter else None for rule in kinds.rules], pa.string())
        left_out = codes.take(pa.array(kinds.which, mask=kinds.which < 0))
    for leave in declaration.filters:
        meets = _meets(texts, rows, leave.when)
        if meets.any():
            code = pc.if_else(pa.array(meets), leave.code.value, pa.scalar(None, pa.string()))
            left_out = pc.coalesce(left_out, code)
    return left_out


def _faults(
    fields: Fields, columns: Mapping[str, pa.Array | None], kinds: _Kinds, declaration: Declaration, texts: Texts
) -> pa.Array:
    """Why a record that was read cannot be taken; the first fault wins, and one left out has none."""
    nothing = pa.scalar(None, pa.string())
    fault = nulls(fields.rows, pa.string())
    identity, unnamed, rounded = columns["identity"], None, None
    if not declaration.identity.content and identity is not None:
        unnamed = pc.is_null(identity)
        for rows, key in kinds.identified():
            unnamed = pc.and_(unnamed, pa.array(~rows)) if key.content else unnamed
        if has(memoryview(identity.buffers()[2] or b""), b"E+"):
            rounded = pc.match_substring_regex(identity, _ROUNDED)
    unruled = pa.array(kinds.which < 0) if kinds.rules else None
    faults = (
        (Suspense.FIELD, unruled),
        (Suspense.TIME, fields.bad_time),
        (Suspense.FIELD, fields.bad_field),
        (Suspense.IDENTITY, unnamed),
        (Suspense.IDENTITY, rounded),
    )
    for code, wrong in faults:
        if wrong is not None and any_true(wrong):
            fault = pc.coalesce(fault, pc.if_else(wrong, code.value, nothing))
    return blank(fault, pc.is_valid(columns["filter"])) if fault.null_count < len(fault) else fault


def _named_by_message(parsed: pa.Table, message_id: pa.ChunkedArray, place: np.ndarray) -> pa.Table:
    """Records without an identity of their own are known by their message and their place in it."""
    ids = flat(message_id).dictionary_encode()
    text = pa.array([name.hex() for name in ids.dictionary.to_pylist()], pa.string())
    named = pc.binary_join_element_wise(text.take(ids.indices), pa.array(place).cast(pa.string()), _JOINT)
    without = pc.is_null(parsed["identity"])
    saved = pc.and_(pc.and_(without, pc.is_valid(named)), has_value(parsed["fault"], str(Suspense.IDENTITY)))
    nameless = pc.and_(without, pc.and_(pc.is_null(named), pc.is_null(parsed["filter"])))
    fault = pc.if_else(saved, pa.scalar(None, pa.string()), parsed["fault"])
    fault = pc.coalesce(fault, pc.if_else(nameless, str(Suspense.IDENTITY), pa.scalar(None, pa.string())))
    parsed = set_column(parsed, "fault", fault)
    return set_column(parsed, "identity", pc.coalesce(parsed["identity"], named))


def tenants(table: pa.Table, source: Source) -> pa.Table:
    """Add `tenant` to a parsed table; a record whose tenant no rule knows gets the fault UNKNOWN_TENANT."""
    if not source.has_tenants:
        return table.append_column("tenant", constant(source.tenant, table.num_rows))
    found = map_few(table[source.tenant_by or "tenant_field"], _tenant_of(source))
    lost = pc.and_(pc.is_null(found), pc.is_null(table["fault"]))
    fault = pc.if_else(lost, str(Suspense.UNKNOWN_TENANT), table["fault"])
    table = table.set_column(table.schema.get_field_index("fault"), "fault", fault)
    return table.append_column("tenant", filled(found, UNKNOWN_TENANT))


def _tenant_of(source: Source) -> Callable[[str], str | None]:
    """Return what gives the tenant that a value of the rule's field means, None where it means none."""
    if source.tenant_pattern is None:
        return source.tenants.get
    search = re.compile(source.tenant_pattern).search
    return lambda value: source.tenants.get(match[1]) if (match := search(value)) else None


def _unended(was: pa.Array, metadata: Mapping[bytes, bytes]) -> npt.NDArray[np.bool_]:
    """Return which records end with their file, without a line end; those that were suspended as such stay so."""
    unended = as_mask(has_value(was, str(Suspense.TORN))).copy()
    unended[[int(row) for row in metadata.get(UNENDED, b"").split()]] = True
    return unended


def parse_records(found: pa.Table, workspace: Workspace) -> pa.Table:
    """Return records as Read gives them, as schema PARSED with tenant and lineage, one row per record."""
    source = workspace.settings.source(found.schema.metadata[SOURCE].decode())
    shape = Shape.from_json(found.schema.metadata[SHAPE].decode())
    raw = found["raw"].combine_chunks() if found["raw"].num_chunks != 1 else found["raw"].chunk(0)
    declaration, tenant_column = workspace.declaration_in_force(source), source.tenant_field or ""
    was = few(found["was"])
    unended = _unended(was, found.schema.metadata)
    parsed = parse(raw, declaration, shape, workspace.zone(source), tenant_column=tenant_column, unended=unended)
    for name in ("file_no", "block", "was_ms"):
        parsed = parsed.append_column(name, found[name])
    parsed = parsed.append_column("was", was)
    parsed = parsed.set_column(parsed.schema.get_field_index("line"), "line", found["line"])
    parsed = parsed.append_column("carried_ms", parsed["talk_ms"])
    if "message_id" in found.column_names:
        parsed = _named_by_message(parsed, found["message_id"], ranks(found["message"].to_numpy()))
    return tenants(parsed, source).replace_schema_metadata(found.schema.metadata)
