"""Assign: the direction of each call, the account that pays for it, and which side of it that is.

Sides come first: who is at the other end of the trunk that a call came in by, and of the one that it left by. What the
record says of them (a context, a device) counts where the settings do not say it of the trunk, and what kind of party
is named where neither does. Outbound, an account code that the switch wrote pays, then the trunk's account, then the
context's; a caller's number only chooses among accounts of these, so a spoofed one never bills another customer.
Inbound, whoever has the called number on that day pays. A toll-free call is paid for by our customer whose number it
is, or by nobody here.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from callward.accounts.directory import Directory, Payers
from callward.accounts.entries import NOBODY, UNASSIGNED, Days
from callward.columns import Column, few, few_of, flat, is_absent
from callward.workspace import Workspace
from schemas.cdr import CHARGED_SIDES, DIRECTIONS, ROLES, SIDES

Mask: TypeAlias = npt.NDArray[np.bool_]
Positions: TypeAlias = npt.NDArray[np.int32]

INBOUND, OUTBOUND, INTERNAL, TRANSIT, UNKNOWN = range(len(DIRECTIONS))
CALLING, CALLED, NONE = range(len(CHARGED_SIDES))
_CUSTOMER, _NETWORK, _UNSAID = range(len(SIDES))  # of schemas.cdr.SIDES
# By the sides of ingress (rows) and egress. What comes in and is not known to leave again ends with us.
_DIRECTION: Final = np.array(
    [[INTERNAL, OUTBOUND, INTERNAL], [INBOUND, TRANSIT, INBOUND], [INBOUND, OUTBOUND, UNKNOWN]], np.int32
)
# What kinds of numbers say of who calls and who is called: classes of callward.numbering.Places.destination.
_CALLERS: Final = {"extension": _CUSTOMER, "sip_user": _CUSTOMER}
_DIALS: Final = {"feature": _CUSTOMER, "emergency": _CUSTOMER, "short_code": _CUSTOMER}
_REACHED: Final = {"extension": _CUSTOMER, "sip_user": _CUSTOMER, "feature": _CUSTOMER, "emergency": _NETWORK}
_INSIDE: Final = tuple(kind for kind, side in _REACHED.items() if side == _CUSTOMER)
_CALLER, _ATTEMPT, _OUTWARD, _EGRESS, _UNREACHED = (
    ROLES.index(role) for role in ("caller", "attempt", "outward", "egress", "unreached")
)


class Assigned(NamedTuple):
    """Columns of a table's records, FEW where nothing else is said."""

    direction: pa.DictionaryArray
    account: pa.DictionaryArray
    charged_side: pa.DictionaryArray
    onward_account: pa.DictionaryArray  # null: no leg goes on from the record that another party pays for
    role: pa.Array  # int8, as declared, or by what is known of the direction


@dataclass(frozen=True, eq=False)
class _Owners:
    """Whose numbers those of both parties are on the day of the call, of the caller the asserted one first; and that of
    whoever forwarded it."""

    calling: Payers
    called: Payers
    redirecting: Payers


def assign(table: pa.Table, tenant: str, workspace: Workspace) -> Assigned:
    """Return who pays for one tenant's records (schema PARSED, with places), and for which side of a call."""
    directory = workspace.directory(tenant)
    days = _days(table["start_time"], workspace.settings.tenants[tenant].zone)
    owners = _owners(table, directory, days)
    place = few(table["destination"])
    direction = _directions(table, owners, place, workspace.sides)
    code = directory.codes.owners(table["account_code"], days)
    forwarded, forwarder = _forwarded(table, direction, owners, code, workspace.sides)
    if forwarded.any():
        direction = np.where(forwarded, np.where(direction == OUTBOUND, INTERNAL, INBOUND), direction)
        owners = replace(owners, called=np.where(forwarded, _first(owners.called, forwarder), owners.called))
    toll_free = _is(place, "toll_free")
    payer = _payers(table, direction, toll_free, owners, code, directory, days)
    return Assigned(
        few_of(direction, DIRECTIONS),
        _accounts(payer, directory),
        few_of(_charged(direction, toll_free, place), CHARGED_SIDES),
        _accounts(forwarder, directory, forwarded),
        _roles(table, direction, place, owners),
    )


def _accounts(payer: Payers, directory: Directory, where: Mask | None = None) -> pa.DictionaryArray:
    """Return accounts by name, UNASSIGNED for nobody; null where `where` is not."""
    payers = pa.array(payer, mask=None if where is None else ~where).dictionary_encode()
    known = pc.if_else(pc.equal(payers.dictionary, NOBODY), None, payers.dictionary)
    return few_of(payers.indices, directory.ids.take(known).fill_null(UNASSIGNED))


def charged_side(direction: str, destination: Column) -> pa.DictionaryArray:
    """Return the side whose account pays for calls of one direction to those destinations (Places.destination)."""
    place = few(destination)
    directions = np.full(len(place), DIRECTIONS.index(direction), np.int32)
    return few_of(_charged(directions, _is(place, "toll_free"), place), CHARGED_SIDES)


def _mapped(column: Column, position: Callable[[str], int], missing: int) -> Positions:
    """Return an integer of each value of a text column of few, `missing` for null."""
    if is_absent(column):
        return np.full(len(column), missing, np.int32)
    column = few(column)
    values = np.array([*map(position, column.dictionary.to_pylist()), missing], np.int32)
    return np.asarray(values[column.indices.fill_null(len(column.dictionary)).to_numpy(zero_copy_only=False)])


def _is(place: pa.DictionaryArray, *names: str) -> Mask:
    return np.asarray(_mapped(place, lambda value: value in names, 0).astype(np.bool_))


def _first(*choices: Positions, but: int = NOBODY) -> Positions:
    """Return row by row the first that is not `but`."""
    chosen = choices[-1]
    for choice in reversed(choices[:-1]):
        chosen = np.where(choice == but, chosen, choice)
    return chosen


def _owners(table: pa.Table, directory: Directory, days: Days) -> _Owners:
    def owners(party: str) -> Payers:
        return directory.numbers.owners(table[f"{party}_number"], days)

    return _Owners(_first(owners("asserted"), owners("calling")), owners("called"), owners("redirecting"))


def _days(start: pa.ChunkedArray, zone: str) -> Days:
    """Return the local dates of calls, as days since 1970; of a record without a start a day that is nobody's."""
    local = start if zone == "UTC" else pc.local_timestamp(pc.cast(start, pa.timestamp("ms", tz=zone)))
    days = flat(pc.cast(local, pa.date32())).view(pa.int32()).cast(pa.int64())
    return np.asarray(days.fill_null(np.iinfo(np.int64).min).to_numpy(zero_copy_only=False))


# -- direction ---------------------------------------------------------------------------------------------------------


def _directions(table: pa.Table, owners: _Owners, called_place: pa.DictionaryArray, sides: dict[str, str]) -> Positions:
    said = _mapped(table["direction"], DIRECTIONS.index, UNKNOWN)
    if (said != UNKNOWN).all():
        return said

    def hinted(place: Column, hints: dict[str, int]) -> Positions:
        return _mapped(place, lambda name: hints.get(name, _UNSAID), _UNSAID)

    ingress = _first(
        *_declared(table, "ingress", sides),
        *(hinted(table["calling_place"], _CALLERS), hinted(called_place, _DIALS), _of_owners(owners.calling)),
        but=_UNSAID,
    )
    egress = _first(
        *_declared(table, "egress", sides), hinted(called_place, _REACHED), _of_owners(owners.called), but=_UNSAID
    )
    called = ~np.asarray(pc.is_null(table["called_number"]).to_numpy())
    egress = np.where((egress == _UNSAID) & (ingress == _CUSTOMER) & called, np.int32(_NETWORK), egress)
    return np.where(said == UNKNOWN, _DIRECTION[ingress, egress], said)


def _declared(table: pa.Table, end: str, sides: dict[str, str]) -> tuple[Positions, Positions]:
    """Return the side of a call's ingress or egress, by the settings of its trunk, and as the record says it."""
    of_trunk = _mapped(table[f"{end}_trunk"], lambda name: SIDES.index(sides.get(name, "unknown")), _UNSAID)
    return of_trunk, _mapped(table[f"{end}_side"], SIDES.index, _UNSAID)


def _of_owners(owner: Payers) -> Positions:
    return np.where(owner == NOBODY, np.int32(_UNSAID), np.int32(_CUSTOMER))


def _roles(table: pa.Table, direction: Positions, place: pa.DictionaryArray, owners: _Owners) -> pa.Array:
    """Return what records are to their calls (schemas.cdr.ROLES), null where the declaration has no legs.

    A caller's leg of no edge leg of its own is "outward" unless the call is known to end with us or to be in transit:
    it is charged as long as the legs talked that it left by. One that reached somebody inside is no such leg. That
    nobody was reached counts where the call was to leave, as it says or names the edge leg: who called from outside
    talked to the switch.
    """
    role = flat(table["role"])
    if is_absent(role):
        return role
    inside = _is(place, *_INSIDE) | (owners.called != NOBODY) | ~_valid(table["called_number"])
    number = role.fill_null(_CALLER).to_numpy()
    out = (direction == OUTBOUND) | ((direction == UNKNOWN) & _valid(table["event"]))
    number = np.where((number == _UNREACHED) & ~out, _CALLER, number)
    left = (number == _CALLER) & np.isin(direction, (OUTBOUND, UNKNOWN)) & ~_valid(table["event"])
    number = np.where(left, _OUTWARD, np.where((number == _EGRESS) & inside, _ATTEMPT, number))
    return pa.array(number.astype(np.int8), mask=~_valid(role))


# -- forwarding --------------------------------------------------------------------------------------------------------


def _forwarded(
    table: pa.Table, direction: Positions, owners: _Owners, code: Payers, sides: dict[str, str]
) -> tuple[Mask, Payers]:
    """Return which records are of calls that one of ours forwarded out to the network again, and who that is.

    A record says it by both of its edge legs (`onward`). What came from the network was forwarded where it names who
    did it, or another number was sent out than was called and this is one of ours, or an account code is there (a code
    alone names a customer whose transit it is). What came from a customer was where he called a number of ours and
    another was sent out.
    """
    nobody = np.full(table.num_rows, NOBODY, np.int32)
    two_edges = _valid(table["onward"])
    if not two_edges.any():
        return two_edges, nobody
    ours = owners.called != NOBODY
    two_edges &= _first(*_declared(table, "egress", sides), but=_UNSAID) == _NETWORK
    from_network = two_edges & np.isin(direction, (INBOUND, TRANSIT))
    another = _valid(table["rated_number"])
    from_network &= _valid(table["redirecting_number"]) | (another & (ours | (code != NOBODY)))
    from_customer = two_edges & (direction == OUTBOUND) & ours & another
    forwarder = np.where(from_network, _first(owners.redirecting, owners.called, code), owners.called)
    return from_network | from_customer, forwarder


def _valid(column: Column) -> Mask:
    return np.asarray(flat(pc.is_valid(column)).to_numpy(zero_copy_only=False), bool)


# -- who pays ----------------------------------------------------------------------------------------------------------


def later_payers(rows: pa.Table, tenant: str, workspace: Workspace) -> Payers:
    """Return who pays, by the directory as it is now, for rows whose direction is known already.

    `rows`: schema PARSED as far as it decides, and `destination`; what a column lacks decides nothing.
    """
    directory = workspace.directory(tenant)
    days = _days(rows["start_time"], workspace.settings.tenants[tenant].zone)
    owners, code = _owners(rows, directory, days), directory.codes.owners(rows["account_code"], days)
    direction = _mapped(rows["direction"], DIRECTIONS.index, UNKNOWN)
    return _payers(rows, direction, _is(few(rows["destination"]), "toll_free"), owners, code, directory, days)


def _payers(
    table: pa.Table,
    direction: Positions,
    toll_free: Mask,
    owners: _Owners,
    code: Payers,
    directory: Directory,
    days: Days,
) -> Payers:
    """Return the account that pays for each record, whatever the call then costs it."""
    came_by, left_by = (directory.trunks.owners(table[f"{end}_trunk"], days) for end in ("ingress", "egress"))
    within = directory.contexts.owners(table["context"], days)
    among_own = directory.trunks.shared_with(table["ingress_trunk"], days, owners.calling)
    among_own |= directory.contexts.shared_with(table["context"], days, owners.calling)
    payer = _first(code, np.where(among_own, owners.calling, _first(came_by, within)))
    inbound = direction == INBOUND
    if inbound.any():
        payer = np.where(inbound, _first(owners.called, code, left_by), payer)
    free_inside = (direction == INTERNAL) & toll_free
    if free_inside.any():
        payer = np.where(free_inside, _first(owners.called, left_by), payer)
    return payer


def _charged(direction: Positions, toll_free: Mask, place: pa.DictionaryArray) -> Positions:
    """Return the side whose account pays: nobody pays for an emergency call, and a premium number's caller always."""
    emergency, premium = _is(place, "emergency"), _is(place, "premium")
    called = toll_free | ((direction == INBOUND) & ~premium)
    return np.where(emergency, np.int32(NONE), np.where(called, np.int32(CALLED), np.int32(CALLING)))
