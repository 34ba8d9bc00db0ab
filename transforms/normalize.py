"""Normalize: both parties' numbers in E.164 or as dialled, and where they belong."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import flat, set_column
from callward.numbering import Plan, jurisdiction, normalize_values, places
from callward.workspace import Reference, open_workspace
from schemas.cdr import CDR
from transforms.read import SOURCE

_REMEMBERED = 1 << 16  # distinct values a memory holds before it begins anew


class _Memory:
    """What bulk work found for distinct values: numbers repeat from block to block, so few of a block's are new."""

    def __init__(self, work: Callable[[pa.Array], pa.Table]) -> None:
        self._work = work
        self._known = (pa.array([], pa.string()), work(pa.array([], pa.string())))

    def look_up(self, column: pa.ChunkedArray) -> pa.Table:
        """A row per value of the column, null for null."""
        encoded = flat(column).dictionary_encode()
        values, found = self._known  # one tuple, replaced whole: threads may meet here
        at = pc.index_in(encoded.dictionary, value_set=values)
        if at.null_count:
            new = encoded.dictionary.filter(at.is_null())
            if len(values) + len(new) > _REMEMBERED:
                values, found, new = values[:0], found.slice(0, 0), encoded.dictionary
            values = pa.concat_arrays([values, new])
            found = pa.concat_tables([found, self._work(new)]).combine_chunks()
            self._known = values, found
            at = pc.index_in(encoded.dictionary, value_set=values)
        return found.take(at.take(encoded.indices))


@lru_cache(maxsize=64)
def _parties(plan: Plan) -> _Memory:
    def work(raw: pa.Array) -> pa.Table:
        read = normalize_values(raw, plan)
        place = places(read.number, plan)
        columns = {"prefix": place.prefix, "destination": place.destination, "zone": place.zone}
        told = {name: column.cast(pa.string()) for name, column in columns.items()}
        return pa.table({"number": read.number, "presentation": read.presentation, **told})

    return _Memory(work)


def normalize(table: pa.Table, plan: Plan) -> pa.Table:
    """The table (schema PARSED) with both parties' numbers read from the raw ones by the source's plan, and places.

    Sets calling_number, called_number, and calling_presentation where it is null (what the source declared stays);
    adds calling_prefix, called_prefix, destination (of the called number, never null) and jurisdiction, or replaces
    them.
    """
    calling, called = (_parties(plan).look_up(table[name]) for name in ("calling_raw", "called_raw"))
    columns = {
        "calling_number": calling["number"],
        "called_number": called["number"],
        "calling_presentation": pc.coalesce(table["calling_presentation"], calling["presentation"]),
        "calling_prefix": calling["prefix"],
        "called_prefix": called["prefix"],
        "destination": called["destination"].fill_null("unknown"),
        "jurisdiction": jurisdiction(*(flat(side["zone"]).dictionary_encode() for side in (calling, called))),
    }
    for name, column in columns.items():
        table = _put(table, name, column)
    return table


def _put(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    if name in table.column_names:
        return set_column(table, name, column)
    return table.append_column(CDR.field(name), column)


@dataclass(eq=False)
class Normalize(beam.PTransform):  # type: ignore[misc]
    """PCollection[parsed table] → the same with numbers in E.164 (or as dialled) and places."""

    reference: Reference

    def expand(self, parsed: beam.PCollection) -> beam.PCollection:
        return parsed | "NormalizeNumbers" >> beam.ParDo(_NormalizeFn(self.reference)).with_output_types(pa.Table)


class _NormalizeFn(beam.DoFn):  # type: ignore[misc]
    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def setup(self) -> None:
        self._workspace = open_workspace(self._reference)

    def process(self, parsed: pa.Table) -> Iterator[pa.Table]:
        plan = self._workspace.plan(self._workspace.settings.source(parsed.schema.metadata[SOURCE].decode()))
        yield normalize(parsed, plan).replace_schema_metadata(parsed.schema.metadata)
