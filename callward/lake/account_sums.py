"""Sums by account and day, sealed: no database shows an account's attempts and quality.

Each commit adds a sealed batch for every call date that it changes, under the month's key of the domain `sla`; what a
date has is their sum. Where a commit takes something away, and when a date has many batches, they are put into one:
what came to nothing is in no batch then, so that an account which is erased is in none.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, select, true

from callward import database
from callward.keys.keys import KeyGone
from callward.keys.register import KeyName, Keyring
from callward.lake.additive import sum_derived
from callward.runs import new_id
from callward.settings import Settings
from schemas.tables import key_columns, keys, sla_account_daily, sla_sums, sum_columns

FORMAT_VERSION: Final = 1
DOMAIN: Final = "sla"
FOLDED_AT: Final = 64  # batches of a date: a stream adds one with each commit
SCHEMA: Final = pa.schema(
    [
        *((name, pa.date32() if name == "call_date" else pa.string()) for name in key_columns(sla_account_daily)),
        *((name, pa.int64()) for name in sum_columns(sla_account_daily)),
    ]
)
_s: Final = sla_sums.c


@dataclass(frozen=True)
class Batch:
    """A sealed batch of one call date."""

    tenant: str
    call_date: date
    sums_id: str
    rows: int
    key_id: str
    sealed: bytes


@dataclass(frozen=True)
class Sealed:
    """What a commit writes, and the batches (ids by tenant and call date) whose place it takes."""

    batches: Sequence[Batch]
    folded: dict[tuple[str, date], list[str]]


def key_name(tenant: str, day: date) -> KeyName:
    """Return the name of the key that a call date's sums lie under."""
    return KeyName(DOMAIN, tenant, f"{day:%Y-%m}", "sums")


def sealed(settings: Settings, keyring: Keyring, added: pa.Table) -> Sealed:
    """Return what is to be written so that sums (shape SCHEMA) are added to those that are there.

    What would be added to a month whose key is destroyed is past its window, and left out.
    """
    batches: list[Batch] = []
    folded: dict[tuple[str, date], list[str]] = {}
    for tenant, day, rows in _by_day(added):
        try:
            keyring.key(key_name(tenant, day))
        except KeyGone:
            continue
        there = _stored(settings, _of(tenant, day))
        if _takes_away(rows) or len(there) >= FOLDED_AT:
            rows = _positive(sum_derived(sla_account_daily, [rows, *(_opened(keyring, row) for row in there)]))
            folded[tenant, day] = [row.sums_id for row in there]
        if rows.num_rows:
            batches.append(_batch(keyring, tenant, day, rows))
    return Sealed(batches, folded)


def whole(keyring: Keyring, rows: pa.Table) -> list[Batch]:
    """Return sums (shape SCHEMA) as one batch for each call date."""
    return [_batch(keyring, tenant, day, of_day) for tenant, day, of_day in _by_day(rows)]


def put(connection: Connection, what: Sealed) -> bool:
    """Write what was sealed, in a writing transaction.

    Returns False where a batch that is folded does not count any more, or a key was destroyed: it is to be sealed anew.
    """
    for (tenant, day), ids in what.folded.items():
        for some in database.batches(ids):
            if connection.execute(delete(sla_sums).where(_of(tenant, day), _s.sums_id.in_(some))).rowcount != len(some):
                return False
    return _add(connection, what.batches)


def replace_all(connection: Connection, batches: Sequence[Batch], kept: Sequence[tuple[str, date]]) -> bool:
    """Put batches in the place of all that are there, save those of the call dates `kept`; False as `put`."""
    for tenant, day in connection.execute(select(_s.tenant, _s.call_date).distinct()).all():
        if (tenant, day) not in kept:
            connection.execute(delete(sla_sums).where(_of(tenant, day)))
    return _add(connection, batches)


def read(settings: Settings, keyring: Keyring, where: ColumnElement[bool] = true()) -> pa.Table:
    """Return sums (shape SCHEMA, in order of their key) of the batches that meet a condition on `sla_sums`.

    Raises KeyProblem where the root does not open, SealBroken for a batch that was altered or moved.
    """
    keyring.existing({key_name(tenant, day) for tenant, day in days(settings, where)})
    opened = [_opened(keyring, row) for row in _stored(settings, where)]
    return _positive(sum_derived(sla_account_daily, opened)) if opened else SCHEMA.empty_table()


def of_account(settings: Settings, keyring: Keyring, tenant: str, account: str) -> tuple[pa.Table, set[str]]:
    """Return one account's sums (shape SCHEMA), and the names of all accounts of its tenant that have some.

    Raises as `read`.
    """
    mine, names = [SCHEMA.empty_table()], set[str]()
    for row in _stored(settings, _s.tenant == tenant):
        opened = _opened(keyring, row)
        names.update(pc.unique(opened["account"]).to_pylist())
        mine.append(opened.filter(pc.equal(opened["account"], account)))
    return _positive(sum_derived(sla_account_daily, mine)), names


def days(settings: Settings, where: ColumnElement[bool] = true()) -> list[tuple[str, date]]:
    """Return the call dates (tenant, date) that have sums."""
    with database.reading(settings) as connection:
        return [tuple(row) for row in connection.execute(select(_s.tenant, _s.call_date).where(where).distinct())]


def keys_in_use(connection: Connection) -> set[tuple[str, date, str]]:
    """Return the call dates that have sums, and ids of the keys that these are under."""
    return {tuple(row) for row in connection.execute(select(_s.tenant, _s.call_date, _s.key_id).distinct())}


def _add(connection: Connection, batches: Sequence[Batch]) -> bool:
    used = sorted({batch.key_id for batch in batches})
    alive = select(func.count()).select_from(keys).where(keys.c.key_id.in_(used), keys.c.state != "destroyed")
    if used and connection.execute(alive).scalar() != len(used):
        return False
    if batches:
        connection.execute(insert(sla_sums), [vars(batch) for batch in batches])
    return True


def _of(tenant: str, day: date) -> ColumnElement[bool]:
    return and_(_s.tenant == tenant, _s.call_date == day)


def _stored(settings: Settings, where: ColumnElement[bool]) -> list[Row[Any]]:
    with database.reading(settings) as connection:
        return list(connection.execute(select(sla_sums).where(where)))


def _by_day(rows: pa.Table) -> Iterator[tuple[str, date, pa.Table]]:
    days = rows.select(["tenant", "call_date"]).group_by(["tenant", "call_date"], use_threads=False).aggregate([])
    for of in days.to_pylist():
        mine = pc.and_(pc.equal(rows["tenant"], of["tenant"]), pc.equal(rows["call_date"], of["call_date"]))
        yield of["tenant"], of["call_date"], rows.filter(mine)


def _takes_away(rows: pa.Table) -> bool:
    return any(pc.any(pc.less(rows[name], 0)).as_py() for name in sum_columns(sla_account_daily))


def _positive(rows: pa.Table) -> pa.Table:
    """Return rows that have anything: the name of an account alone would tell that it was there."""
    return rows.filter(reduce(pc.or_, (pc.greater(rows[name], 0) for name in sum_columns(sla_account_daily))))


def _batch(keyring: Keyring, tenant: str, day: date, rows: pa.Table) -> Batch:
    sealer, sums_id = keyring.sealer(key_name(tenant, day)), new_id()
    blob = sealer.seal_table(rows.select(SCHEMA.names).cast(SCHEMA), _aad(tenant, day, sums_id), compression="zstd")
    return Batch(tenant, day, sums_id, rows.num_rows, sealer.key_id, blob)


def _opened(keyring: Keyring, row: Row[Any]) -> pa.Table:
    return keyring.sealer_by_id(row.key_id).open_table(row.sealed, _aad(row.tenant, row.call_date, row.sums_id))


def _aad(tenant: str, day: date, sums_id: str) -> bytes:
    """Return what a batch is bound to: one that is moved to another row does not open."""
    return f"callward/sums/{FORMAT_VERSION}|{tenant}|{day}|{sums_id}".encode()
