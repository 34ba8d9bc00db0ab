"""Normalized values: E.164 where what a switch wrote is certain, as dialled where it is not."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import few_of
from callward.numbering.arrays import Runs, integers, mask, runs_of
from callward.numbering.dialled import international, without_outside_line
from callward.numbering.dressed import is_hidden, undress
from callward.numbering.kinds import (
    ABSENT,
    E164,
    KINDS,
    PRESENTATIONS,
    RESTRICTED,
    UNSAID,
    Saying,
    name_nobody,
    name_short,
    nothing_said,
    say,
)
from callward.numbering.plans import Plan


class Normalized(NamedTuple):
    """One row per value: E.164 or as dialled (null where no party is named); one of PRESENTATIONS or null; KINDS.

    `e164` has the digits of E.164 numbers, 0 for others. What is few-valued is schemas.cdr.FEW.
    """

    number: pa.StringArray
    presentation: pa.DictionaryArray
    kind: pa.DictionaryArray
    e164: pa.Int64Array


def normalize_values(raw: pa.Array, plan: Plan) -> Normalized:
    """Read numbers as a switch wrote them (strings, shape [n]; repetitions cost little).

    Certain numbers become E.164. Everything else stays as dialled (a URI is reduced to its user part, separators
    between digits go), with its kind. Words that name no party ("anonymous", "s", "0") give null with kind `special`;
    null and empty give null with kind `absent`. What a spreadsheet rounded has kind `damaged`. Normalizing a result
    again gives the same number and kind.

    Presentation is `allowed` where a party is named, unless a display name says otherwise; null where nothing is said.
    A SIP user keeps its case: RFC 3261 section 19.1.4 compares user parts case by case.
    """
    text, runs, saying = _read(raw, plan)
    if plan.outside_prefix:
        text, runs = without_outside_line(text, runs, plan)
    kind, presentation, nobody = saying
    number = international(text, runs, plan)
    kind[number > 0] = E164
    name_short(runs, plan, kind)
    name_nobody(runs, kind, presentation, nobody)
    fresh = (kind == E164) & ~(runs.plus & (number == runs.value))
    written = _written(text, np.where(fresh, number, 0), nobody)
    presentations = pa.array(presentation, mask=presentation == UNSAID)
    certain = pa.array(np.where(kind == E164, number, 0))
    return Normalized(written, few_of(presentations, PRESENTATIONS), few_of(kind, KINDS), certain)


def _read(raw: pa.Array, plan: Plan) -> tuple[pa.Array, Runs, Saying]:
    """Return the dialled text of each value, its digits, and what it says apart from digits."""
    runs, valid = runs_of(raw), mask(raw.is_valid())
    saying = nothing_said(len(raw))
    for column, unknown in zip(saying, (ABSENT, UNSAID, True), strict=True):
        column[~valid] = unknown
    dressed = valid & ~runs.plain
    if not dressed.any():
        return raw, runs, saying
    encoded = raw.filter(pa.array(dressed)).dictionary_encode()
    bare, bare_runs, bare_saying = _read_dressed(encoded.dictionary, plan)
    rows = integers(encoded.indices)
    for whole, part in zip((*runs, *saying), (*bare_runs, *bare_saying), strict=True):
        whole[dressed] = part[rows]
    return pc.replace_with_mask(raw, pa.array(dressed), bare.take(encoded.indices)), runs, saying


def _read_dressed(values: pa.Array, plan: Plan) -> tuple[pa.Array, Runs, Saying]:
    """Return what `_read` does, for distinct values that are no plain digits."""
    text = undress(values)
    runs, saying = runs_of(text), nothing_said(len(text))
    words = ~runs.plain
    for whole, part in zip(saying, say(text.filter(pa.array(words)), plan), strict=True):
        whole[words] = part
    saying.presentation[is_hidden(values) & ~saying.nobody] = RESTRICTED
    return text, runs, saying


def _written(text: pa.Array, number: np.ndarray, nobody: np.ndarray) -> pa.Array:
    """Return E.164 where a number is given, null where nobody is named, else the text."""
    fresh = number > 0
    if fresh.any():
        digits = pa.array(number, mask=~fresh).cast(pa.string())
        text = pc.coalesce(pc.binary_join_element_wise("+", digits, ""), text)
    return pc.if_else(pa.array(nobody), pa.scalar(None, pa.string()), text) if nobody.any() else text
