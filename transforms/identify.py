"""Identify: keyed ids, tenant, account and call_date for each record; behind it nothing raw is left."""

import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import NULL_WORD, constant, few, flat, has_value, is_absent, map_few, moved, nulls, words
from callward.keys import tokens
from callward.settings import Source
from callward.sources import SourceIdentity
from callward.workspace import Workspace
from schemas.cdr import BY_ROLE_RAW, CDR, ID
from schemas.declaration import Shape
from schemas.generation import with_keys
from transforms.assign import Assigned, assign
from transforms.earlier import EarlierReading, pack
from transforms.elements import Sharding
from transforms.read import SHAPE, SOURCE

OTHER = "other"


@dataclass(frozen=True)
class IdKeys:
    """Secrets of one tenant and source, derived from the tenant's id key."""

    record: bytes
    call: bytes
    leg: bytes
    content: bytes

    @classmethod
    def open(cls, workspace: Workspace, tenant: str, uid: str, generation: int) -> "IdKeys":
        """Open those of a source's generation. Pieces of two generations never meet: their clocks may differ."""
        record, call, leg = (
            workspace.id_secret(tenant, f"{use}/{uid}/{generation}") for use in ("record", "call", "leg")
        )
        return cls(record, call, leg, workspace.id_secret(tenant, f"content/{uid}"))


def identify(
    table: pa.Table, source: Source, tenant: str, workspace: Workspace, known: SourceIdentity | None = None
) -> pa.Table:
    """Return one tenant's sound records of one source (schema PARSED with tenant, places, lineage) as schema CDR.

    `record_id` is a keyed hash of the raw identity fields; where the source has none, of the whole record as it came,
    and Deduplicate adds the occurrence within the file. `call_id` is what all pieces and legs of a call share. `known`:
    what ids of the source are made with, if it was looked up before.
    """
    known = known or workspace.identity(source)
    keys = IdKeys.open(workspace, tenant, known.uid, known.now.number)
    by_content = pc.is_null(table["identity"])
    identity = table["identity"]
    if pc.any(by_content).as_py():
        identity = pc.coalesce(identity.cast(pa.large_binary()), table["raw"])
    record_id = tokens.mac([identity], keys.record)
    trunk_in = _listed(table["ingress_trunk"], workspace.trunks)
    assigned = assign(table, tenant, workspace)
    made = {
        "source": constant(source.name, table.num_rows),
        "record_id": record_id,
        "call_id": _call_id(table, record_id, keys.call),
        "content": _content(table, keys.content),
        **assigned._asdict(),
        "call_date": pc.cast(table["start_time"], pa.date32()),
        "leg_a": _leg(table["leg_a"], keys.leg),
        "leg_b": _leg(table["leg_b"], keys.leg),
        "event": _leg(table["event"], keys.leg),
        "onward": _onward(table["onward"], assigned.onward_account, keys.leg),
        **_as_reached(table, assigned),
        "by_content": by_content,
        "earlier": _earlier(table, source, known, tenant, workspace),
        "ingress_trunk": trunk_in,
        "egress_trunk": _listed(table["egress_trunk"], workspace.trunks),
    }
    return pa.table([made[name] if name in made else table[name] for name in CDR.names], schema=CDR)


def _as_reached(table: pa.Table, assigned: Assigned) -> dict[str, pa.Array]:
    """Return answer and talk of outbound calls from when the far end was there, as their callers' legs say it; the
    dial plan may have answered before."""
    if is_absent(table["reached"]):
        return {}
    answer, talk, end, reached = (flat(table[name]) for name in ("answer_time", "talk_ms", "end_time", "reached"))
    later = pc.and_(
        has_value(assigned.direction, "outbound"), pc.and_(pc.greater(reached, answer), pc.less_equal(reached, end))
    )
    rest = pc.min_element_wise(talk, pc.subtract(end, reached).cast(pa.int64()), skip_nulls=False)
    later = pc.fill_null(later, False)
    return {"answer_time": pc.if_else(later, reached, answer), "talk_ms": pc.if_else(later, rest, talk)}


def _earlier(
    table: pa.Table, source: Source, known: SourceIdentity, tenant: str, workspace: Workspace
) -> pa.BinaryArray:
    """Return the ids and dates that records had under earlier generations of their source; null where there is none."""
    if not known.earlier or not table.num_rows:
        return nulls(table.num_rows, pa.binary())
    read = EarlierReading(
        with_keys(workspace.declaration(source), known.now.generation),
        Shape.from_json(table.schema.metadata[SHAPE].decode()),
    )
    secrets = (workspace.id_secret(tenant, f"record/{known.uid}/{item.number}") for item in known.earlier)
    return pack([read.ids(table, item.generation, secret) for item, secret in zip(known.earlier, secrets, strict=True)])


def _call_id(table: pa.Table, record_id: pa.Array, secret: bytes) -> pa.Array:
    if table["call"].null_count == table.num_rows:
        return record_id
    call = tokens.mac([table["call"]], secret)
    call = call if is_absent(table["within"]) else _within(call, table["within"], secret)
    return pc.coalesce(call, record_id) if call.null_count else call


def _within(call: pa.Array, named: pa.ChunkedArray, secret: bytes) -> pa.Array:
    """Return ids of calls of which those within what one caller asked for have their first half in common: so they
    meet, and half of an id tells callers' calls apart."""
    first = tokens.mac([named], secret)
    known = pc.and_(pc.is_valid(call), pc.is_valid(first)).to_numpy(zero_copy_only=False)
    halves = np.column_stack([tokens.as_u64(first)[:, 0], tokens.as_u64(call)[:, 1]])
    both = np.where(known[:, None], halves, tokens.as_u64(call))
    return tokens.from_u64(both, pc.is_valid(call).to_numpy(zero_copy_only=False))


def _leg(column: pa.ChunkedArray, secret: bytes) -> pa.Array:
    if column.null_count == len(column):
        return nulls(len(column), ID)
    return tokens.mac([column], secret)


def _onward(column: pa.ChunkedArray, account: pa.DictionaryArray, secret: bytes) -> pa.Array:
    """Return the ids of edge legs that go on from forwarded calls."""
    return (
        nulls(len(column), ID) if is_absent(account) else pc.if_else(pc.is_valid(account), _leg(column, secret), None)
    )


_CONTENT_TIMES = ("start_time", "ring_time", "answer_time", "end_time", "talk_ms", "pdd_ms")
_ROLES = (*BY_ROLE_RAW, "oli", "carrier_id")
_CONTENT_SMALL = ("cause_q850", "cause_sip", "mos", "jitter_ms", "loss_pct")


def _content(table: pa.Table, secret: bytes) -> pa.Array:
    """Return a keyed hash of what the record says, of fields as the switch wrote them: lists of the settings do not
    enter."""
    said = tokens.mac([table["calling_raw"], table["called_raw"], table["account_code"]], secret, null_is_value=True)
    names = _CONTENT_TIMES + _CONTENT_SMALL
    width = len(names) + 2
    blocks = np.zeros((table.num_rows, width + width % 2), np.uint64)
    for at, name in enumerate(names):
        blocks[:, at] = NULL_WORD if is_absent(table[name]) else words(table[name])
    blocks[:, len(names) : width] = tokens.as_u64(said)
    return _with_roles(table, tokens.mac_blocks(blocks, secret), secret)


def _with_roles(table: pa.Table, content: pa.Array, secret: bytes) -> pa.Array:
    """Return content hashes that cover the numbers by role, too; those of records without any stay as they are."""
    columns = [table[name] for name in _ROLES if not is_absent(table[name])]
    if not columns:
        return content
    rows = reduce(pc.or_, (pc.is_valid(column) for column in columns)).to_numpy()
    said = tokens.mac([table[name].filter(pa.array(rows)) for name in _ROLES], secret, null_is_value=True)
    hashes = tokens.as_u64(content).copy()
    blocks = np.column_stack([hashes[rows], tokens.as_u64(said)])
    hashes[rows] = tokens.as_u64(tokens.mac_blocks(blocks, secret))
    return tokens.from_u64(hashes)


def _listed(column: pa.ChunkedArray, known: frozenset[str]) -> pa.Array:
    """Return values that the settings list, others as "other": no free text of a switch can carry a number further."""
    return map_few(column, lambda value: value if value in known else OTHER)


def cut_by_bucket(table: pa.Table, bits: int, buckets: int, offset: int) -> list[tuple[int, pa.Table]]:
    """Cut at (tenant, shard): bucket = (shard + the tenant's offset) modulo the number of buckets."""
    if bits == 0 or buckets == 1:
        return [(offset % buckets, table)] if table.num_rows else []
    shard = tokens.shard_bits(table["call_id"], bits)
    order = np.argsort(shard, kind="stable")
    ordered, bounds = moved(table, order), np.searchsorted(shard[order], np.arange((1 << bits) + 1))
    return [
        ((number + offset) % buckets, ordered.slice(first, last - first))
        for number, (first, last) in enumerate(itertools.pairwise(bounds))
        if last > first
    ]


def by_bucket(table: pa.Table, sharding: Sharding, workspace: Workspace) -> Iterator[tuple[int, pa.Table]]:
    """Yield (bucket, CDR table) of sound records of one source, each table of one tenant and shard."""
    source = workspace.settings.source(table.schema.metadata[SOURCE].decode())
    if not table.num_rows:
        return
    parts = list(_by_tenant(table)) if source.has_tenants else [(source.tenant, table)]
    known = workspace.identity(source)
    workspace.open_ids([tenant for tenant, _ in parts])
    for tenant, mine in parts:
        cdrs = identify(mine, source, tenant, workspace, known)
        offset = zlib.crc32(tenant.encode())
        yield from cut_by_bucket(cdrs, sharding.bits.get(tenant, 0), sharding.buckets, offset)


def _by_tenant(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Yield the records of each tenant, in their order: all are sorted once, however many tenants there are."""
    tenants = few(table["tenant"])
    which = tenants.indices.to_numpy()
    order = np.argsort(which, kind="stable")
    ordered, bounds = moved(table, order), np.searchsorted(which[order], np.arange(len(tenants.dictionary) + 1))
    for tenant, (first, last) in zip(tenants.dictionary.to_pylist(), itertools.pairwise(bounds), strict=True):
        if last > first:
            yield tenant, ordered.slice(first, last - first)
