"""Normalize: both parties' numbers in E.164 or as dialled, and where they belong."""

import pyarrow as pa

from callward.columns import either, filled, flat, set_column
from callward.numbering import Plan, jurisdiction, normalize_values, places_of
from callward.workspace import Workspace
from schemas.cdr import CDR
from transforms.read import SOURCE


def _parties(raw: pa.Array, plan: Plan) -> pa.Table:
    """Return what each of some numbers is and where it belongs; each distinct one is read once. Null for null."""
    encoded = raw.dictionary_encode()
    read = normalize_values(encoded.dictionary, plan)
    place = places_of(read)
    told = {"number": read.number, "presentation": read.presentation}
    told |= {"prefix": place.prefix, "destination": place.destination, "zone": place.zone}
    return pa.table(told).take(encoded.indices)


def normalize(table: pa.Table, plan: Plan) -> pa.Table:
    """Return the table (schema PARSED) with both parties' numbers, read from the raw ones by the source's plan, and
    places.

    Sets calling_number, called_number, and calling_presentation where it is null (what the source declared stays);
    adds calling_prefix, called_prefix, destination (of the called number, never null) and jurisdiction, or replaces
    them.
    """
    both = _parties(pa.concat_arrays([flat(table["calling_raw"]), flat(table["called_raw"])]), plan)
    calling, called = both.slice(0, table.num_rows), both.slice(table.num_rows)
    columns = {
        "calling_number": calling["number"],
        "called_number": called["number"],
        "calling_presentation": either(table["calling_presentation"], calling["presentation"]),
        "calling_prefix": calling["prefix"],
        "called_prefix": called["prefix"],
        "destination": filled(called["destination"], "unknown"),
        "jurisdiction": jurisdiction(flat(calling["zone"]), flat(called["zone"])),
    }
    for name, column in columns.items():
        table = _put(table, name, column)
    return table


def _put(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    if name in table.column_names:
        return set_column(table, name, column)
    return table.append_column(CDR.field(name), column)


def normalize_records(parsed: pa.Table, workspace: Workspace) -> pa.Table:
    """Return one source's parsed records with their numbers read by the source's own plan."""
    plan = workspace.plan(workspace.settings.source(parsed.schema.metadata[SOURCE].decode()))
    return normalize(parsed, plan).replace_schema_metadata(parsed.schema.metadata)
