"""Normalize: both parties' numbers in E.164 or as dialled, and where they belong."""

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import flat, set_column
from callward.numbering import Plan, jurisdiction, normalize_values, places
from callward.workspace import Reference, open_workspace
from schemas.cdr import CDR
from transforms.read import SOURCE


def normalize(table: pa.Table, plan: Plan) -> pa.Table:
    """The table (schema PARSED) with calling_number and called_number read from the raw ones by the source's plan.

    calling_presentation is filled where it is null: what the source declared stays.
    """
    calling = normalize_values(flat(table["calling_raw"]), plan)
    called = normalize_values(flat(table["called_raw"]), plan)
    presentation = pc.coalesce(flat(table["calling_presentation"]), calling.presentation)
    table = set_column(table, "calling_number", calling.number)
    table = set_column(table, "called_number", called.number)
    return set_column(table, "calling_presentation", presentation)


def places_of(table: pa.Table, plan: Plan) -> pa.Table:
    """The table with calling_prefix, called_prefix, destination (of the called number) and jurisdiction.

    Reads calling_number and called_number as `normalize` leaves them; columns that are there already are replaced.
    """
    calling = places(flat(table["calling_number"]), plan)
    called = places(flat(table["called_number"]), plan)
    columns = {
        "calling_prefix": calling.prefix.cast(pa.string()),
        "called_prefix": called.prefix.cast(pa.string()),
        "destination": called.destination.cast(pa.string()),
        "jurisdiction": jurisdiction(calling.zone, called.zone),
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
        yield places_of(normalize(parsed, plan), plan).replace_schema_metadata(parsed.schema.metadata)
