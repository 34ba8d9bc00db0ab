"""Normalize: a call's numbers in E.164 or as dialled, each by its role, and where they belong."""

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import either, few, filled, flat, has_value, is_absent, overlaid, set_column
from callward.numbering import KINDS, Plan, jurisdiction, normalize_values, places_of
from callward.workspace import Workspace
from schemas.cdr import BY_ROLE, BY_ROLE_RAW, CDR
from schemas.codes import Suspense
from transforms.read import SOURCE

# Two digits of originating line information; three or four characters of a carrier, of a country's or the world's list.
_CODES: Final = {"oli": r"^0?(?P<code>[0-9]{2})$", "carrier_id": r"^(?:\+1)?(?P<code>[0-9A-Za-z]{3,4})$"}
_DAMAGED: Final = KINDS.index("damaged")


def _both(calling: pa.Array, called: pa.Array, plan: Plan) -> tuple[pa.Table, pa.Table]:
    """Return what the numbers of both parties are; read together, unless they are written in ways of their own."""
    if plan != plan.of_callers:
        return parties(calling, plan.of_callers), parties(called, plan)
    both = parties(pa.concat_arrays([calling, called]), plan)
    return both.slice(0, len(calling)), both.slice(len(calling))


def parties(raw: pa.Array, plan: Plan) -> pa.Table:
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
    """Return the table (schema PARSED) with a call's numbers, read from the raw ones by the source's plan, and places.

    Sets calling_number, called_number, those of BY_ROLE (rated_number: null where it is the called number),
    calling_presentation where it is null (what the source declared stays) and calling_place; adds calling_prefix,
    called_prefix, destination (never null) and jurisdiction, or replaces them. A called number that is no number of the
    public network belongs where the rated number does. Jurisdiction is of the asserted caller, else the calling number,
    against the LRN, else the called number. A number whose digits a spreadsheet has rounded away is a fault (NUMBER).
    """
    calling, called = _both(flat(table["calling_raw"]), flat(table["called_raw"]), plan)
    roles = _roles(table, plan)
    place = _reached(called, roles.get("rated_number"))
    caller, callee = (_zone(roles.get(name), of) for name, of in (("asserted_number", calling), ("lrn", place)))
    columns = {
        "calling_number": calling["number"],
        "called_number": called["number"],
        **{name: party["number"] for name, party in roles.items()},
        "calling_presentation": either(table["calling_presentation"], calling["presentation"]),
        "calling_prefix": calling["prefix"],
        "called_prefix": place["prefix"],
        "destination": filled(place["destination"], "unknown"),
        "calling_place": calling["destination"],
        "jurisdiction": jurisdiction(caller, callee, plan.country),
    }
    if "rated_number" in roles:
        columns["rated_number"] = _unless_equal(roles["rated_number"]["number"], called["number"])
    columns |= {name: _coded(flat(table[name]), form) for name, form in _CODES.items() if not is_absent(table[name])}
    for name, column in columns.items():
        table = _put(table, name, column)
    for party in (calling, called, *roles.values()):
        if "damaged" in party.column_names:
            table = _without_damaged(table, pc.fill_null(party["damaged"], False))
    return table


def _roles(table: pa.Table, plan: Plan) -> dict[str, pa.Table]:
    """Return what the numbers of those roles are that any record has. None of them is dialled on a telephone."""
    raw = zip(BY_ROLE, BY_ROLE_RAW, strict=True)
    return {name: parties(flat(table[of]), plan.of_callers) for name, of in raw if not is_absent(table[of])}


def _reached(called: pa.Table, rated: pa.Table | None) -> pa.Table:
    """Return where called numbers belong: an extension or short dial where the number belongs that was sent out."""
    if rated is None:
        return called
    dialled = pc.or_(called["prefix"].is_valid(), has_value(called["destination"], "emergency"))
    sent = pc.and_(pc.invert(dialled), rated["prefix"].is_valid())
    if not pc.any(sent, min_count=0).as_py():
        return called
    names = ("prefix", "destination", "zone")
    return pa.table({name: _chosen(sent, rated[name], called[name]) for name in names})


def _chosen(where: pa.ChunkedArray, first: pa.ChunkedArray, second: pa.ChunkedArray) -> pa.DictionaryArray:
    return either(overlaid(first, pc.invert(where), None), overlaid(second, where, None))


def _zone(role: pa.Table | None, party: pa.Table) -> pa.DictionaryArray:
    """Return the zone of the number in a role, else of the party."""
    return few(party["zone"]) if role is None else either(role["zone"], party["zone"])


def _unless_equal(number: pa.ChunkedArray, other: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.fill_null(pc.equal(number, other), False), pa.scalar(None, pa.string()), number)


def _coded(text: pa.Array, form: str) -> pa.Array:
    """Return what a pattern keeps of codes; what is none says nothing."""
    distinct = text.dictionary_encode()
    return pc.struct_field(pc.extract_regex(distinct.dictionary, pattern=form), "code").take(distinct.indices)


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
