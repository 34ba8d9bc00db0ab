"""Normalize: both parties' numbers in E.164 or as dialled, and where they belong."""

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import either, filled, flat, set_column
from callward.numbering import KINDS, Plan, jurisdiction, normalize_values, places_of
from callward.workspace import Workspace
from schemas.cdr import CDR
from schemas.codes import Suspense
from transforms.read import SOURCE

_DAMAGED: Final = KINDS.index("damaged")


def _both(calling: pa.Array, called: pa.Array, plan: Plan) -> tuple[pa.Table, pa.Table]:
    """Return what the numbers of both parties are; read together, unless they are written in ways of their own."""
    if plan != plan.of_callers:
        return _parties(calling, plan.of_callers), _parties(called, plan)
    both = _parties(pa.concat_arrays([calling, called]), plan)
    return both.slice(0, len(calling)), both.slice(len(calling))


def _parties(raw: pa.Array, plan: Plan) -> pa.Table:
    """Return what each of some numbers is and where it belongs; each distinct one is read once. Null for null."""
    encoded = raw.dictionary_encode()
    read = normalize_values(encoded.dictionary, plan)
    place = places_of(read)
    told = {"number": read.number, "presentation": read.presentation}
    told |= {"prefix": place.prefix, "destination": place.destination, "zone": place.zone}
    damaged = pc.equal(read.kind.indices, _DAMAGED)
    if pc.any(damaged, min_count=0).as_py():  # hardly ever: else no row pays for it
        told["damaged"] = damaged
    return pa.table(told).take(encoded.indices)


def normalize(table: pa.Table, plan: Plan) -> pa.Table:
    """Return the table (schema PARSED) with both parties' numbers, read from the raw ones by the source's plan, and
    places.

    Sets calling_number, called_number, calling_presentation where it is null (what the source declared stays)
    and calling_place; adds calling_prefix, called_prefix, destination (of the called number, never null) and
    jurisdiction, or replaces them. A number whose digits a spreadsheet has rounded away is a fault (NUMBER).
    """
    calling, called = _both(flat(table["calling_raw"]), flat(table["called_raw"]), plan)
    columns = {
        "calling_number": calling["number"],
        "called_number": called["number"],
        "calling_presentation": either(table["calling_presentation"], calling["presentation"]),
        "calling_prefix": calling["prefix"],
        "called_prefix": called["prefix"],
        "destination": filled(called["destination"], "unknown"),
        "calling_place": calling["destination"],
        "jurisdiction": jurisdiction(flat(calling["zone"]), flat(called["zone"]), plan.country),
    }
    for name, column in columns.items():
        table = _put(table, name, column)
    for party in (calling, called):
        if "damaged" in party.column_names:
            table = _without_damaged(table, pc.fill_null(party["damaged"], False))
    return table


def _without_damaged(table: pa.Table, damaged: pa.ChunkedArray) -> pa.Table:
    wrong = pc.and_(damaged, pc.and_(pc.is_null(table["fault"]), pc.is_null(table["filter"])))
    return set_column(table, "fault", pc.if_else(wrong, str(Suspense.NUMBER), table["fault"]))


def _put(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    if name in table.column_names:
        return set_column(table, name, column)
    return table.append_column(CDR.field(name), column)


def normalize_records(parsed: pa.Table, workspace: Workspace) -> pa.Table:
    """Return one source's parsed records with their numbers read by the source's own plan."""
    plan = workspace.plan(workspace.settings.source(parsed.schema.metadata[SOURCE].decode()))
    return normalize(parsed, plan).replace_schema_metadata(parsed.schema.metadata)
