"""Onward: a call that was forwarded out to the network in one record → a record more, of the leg that goes on.

Such a record names an edge leg at both ends, and two parties pay: for the one that came in, who is paid for as without
the forwarding; and for the one that goes on, whoever forwarded. The second is a record of its own from here on, so that
it is charged, found, held, erased and purged as any other. But no switch wrote it: the ledger does not count it, no
suspense has it, and assurance has its attempt already.
"""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import constant, filled, flat, has_value, is_absent, nulls, set_column
from callward.keys import tokens
from callward.numbering import Plan, jurisdiction
from callward.workspace import Workspace
from schemas.cdr import BY_ROLE, CDR, ROLES
from transforms.assign import charged_side
from transforms.normalize import parties

ONWARD: Final = ROLES.index("onward")
_OTHER_ID: Final = np.array([0x0F0E_0D0C_0B0A_0908, 0x0706_0504_0302_0100], np.uint64)  # a record's id → its second's


def with_onward(calls: pa.Table, workspace: Workspace) -> pa.Table:
    """Return calls (schema CDR) and, after them, the legs that go on from forwarded ones."""
    if is_absent(calls["onward_account"]):
        return calls
    forwarded = calls.filter(pc.is_valid(calls["onward_account"])).combine_chunks()
    legs = []
    for name in forwarded["source"].unique().to_pylist():
        of_source = forwarded.filter(has_value(forwarded["source"], name))
        legs.append(_legs(of_source, workspace.plan(workspace.settings.source(name))))
    # What was sent out is the forwarder's: another customer who called him is not told of it, nor charged by it.
    hidden = pc.and_(pc.is_valid(calls["onward_account"]), has_value(calls["direction"], "internal"))
    if pc.any(hidden).as_py():
        calls = set_column(calls, "rated_number", pc.if_else(hidden, None, calls["rated_number"]))
    return pa.concat_tables([calls, *legs]).unify_dictionaries()


def put_back(records: pa.Table) -> pa.Table:
    """Return records (schema CDR) that were committed, with what they said of the legs that go on (few rows).

    These are among them; the others say again which leg goes on, who pays for it, and what was sent out.
    """
    made = is_onward(records)
    if not made.any():
        return records
    second = tokens.from_u64(tokens.as_u64(flat(records["record_id"])) ^ _OTHER_ID)
    at = pc.index_in(second, flat(records["record_id"]).filter(pa.array(made)))
    legs = records.filter(pa.array(made)).combine_chunks().take(at)
    told = {"onward": legs["event"], "onward_account": legs["account"], "rated_number": legs["called_number"]}
    for name, column in told.items():
        column = pc.if_else(pa.array(made), pa.scalar(None, column.type), column)
        records = set_column(records, name, pc.coalesce(column, records[name]))
    return records


def own(records: pa.Table) -> pa.Table:
    """Return the records (schema CDR) that a switch wrote."""
    made = is_onward(records)
    return records.filter(pa.array(~made)) if made.any() else records


def is_onward(records: pa.Table) -> np.ndarray:
    """Return which records (schema CDR) no switch wrote (shape [n])."""
    return np.asarray(flat(pc.fill_null(records["role"], 0)).to_numpy() == ONWARD)


def _legs(calls: pa.Table, plan: Plan) -> pa.Table:
    """Return the legs that go on: from whoever forwarded, to what was sent out."""
    rows = calls.num_rows
    redirecting, called, rated = (flat(calls[f"{name}_number"]) for name in ("redirecting", "called", "rated"))
    target = pc.coalesce(rated, pc.if_else(pc.is_valid(redirecting), called, pa.scalar(None, pa.string())))
    caller = pc.coalesce(redirecting, called)
    calling, reached = (parties(number, plan.of_callers) for number in (caller, target))
    destination = filled(reached["destination"], "unknown")
    changed = {
        "record_id": tokens.from_u64(tokens.as_u64(flat(calls["record_id"])) ^ _OTHER_ID),
        "account": calls["onward_account"],
        "event": calls["onward"],
        "role": pa.array(np.full(rows, ONWARD, np.int8)),
        "direction": constant("outbound", rows),
        "calling_number": calling["number"],
        "called_number": reached["number"],
        **{name: nulls(rows, pa.string()) for name in BY_ROLE},
        "calling_presentation": constant("allowed", rows),
        "calling_prefix": calling["prefix"],
        "called_prefix": reached["prefix"],
        "destination": destination,
        "jurisdiction": jurisdiction(flat(calling["zone"]), flat(reached["zone"]), plan.country),
        "charged_side": charged_side("outbound", destination),
        "ingress_trunk": nulls(rows, CDR.field("ingress_trunk").type),
        "leg": nulls(rows, pa.int16()),
        **{name: nulls(rows, CDR.field(name).type) for name in ("onward", "onward_account")},
    }
    return pa.table([changed[name] if name in changed else calls[name] for name in CDR.names], schema=CDR)
