"""Restrictions: rows of a person that are kept but not used, until the person says otherwise (GDPR article 18).

The register names a person by a keyed hash of the number or the account. Whoever asks with SQL can open neither that
key nor the numbers' one, so the service marks the rows beforehand: by their ids, or in billing by the account, hashed
anew under a key of the view itself. Which they are, the row index says: no view is read for it. A data file that came
since the last marking is not shown to anyone for a tenant with restrictions; the marking after each commit takes it in.
Restricted rows expire, are held and are purged like others.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, delete, insert, select, update

from callward import audit, database, runs
from callward.keys import tokens
from callward.keys.register import EVERY_MONTH, KeyName, Keyring
from callward.lake import account_sums, row_index
from callward.lake.data_files import DataFiles, open_files
from callward.retention.requests.register import SERVICE, Request, Selector, find
from callward.retention.requests.search import search
from callward.settings import Settings
from callward.workspace import Workspace, WorkspaceRef, open_workspace
from schemas.retention import restrictions
from schemas.tables import billing_usage_daily, lake_files, leases
from schemas.tables import runs as runs_table
from schemas.views import ID_COLUMN, INDEX, STORED, VIEW_OF, VIEW_PARTS

RUN: Final = "restrict"
_REASON: Final = "restrictions"
_NAMING: Final = ("billing", account_sums.DOMAIN)  # key domains under which accounts are named
MARK: Final = "mark"  # stands where a restriction has its request: a row of a view, or an account, that one hides
_PATIENCE_S: Final = 60.0


# -- the register ------------------------------------------------------------------------------------------------------


def restrict(settings: Settings, request: Request) -> None:
    """Restrict whom a request is about, from now on. The same again changes nothing."""
    name = _selector(_workspace(settings), request.tenant, request.selector)
    table = restrictions
    with database.writing(settings) as connection:
        same = (table.c.tenant == request.tenant) & (table.c.selector == name)
        row = connection.execute(select(table).where(same)).first()
        values = {"request_id": request.request_id, "since": database.now(), "until": None, "confidential": False}
        if row is None:
            connection.execute(insert(table).values(tenant=request.tenant, selector=name, **values))
        elif row.until is not None:
            connection.execute(update(table).where(same).values(**values))
        audit.append(connection, [_entry("restrict", request)])


def lift(settings: Settings, request: Request) -> bool:
    """End the restriction of whom a request is about; whether there was one."""
    name, table = _selector(_workspace(settings), request.tenant, request.selector), restrictions
    with database.writing(settings) as connection:
        same = (table.c.tenant == request.tenant) & (table.c.selector == name)
        ended = connection.execute(update(table).where(same, table.c.until.is_(None)).values(until=database.now()))
        if ended.rowcount:
            audit.append(connection, [_entry("restrict-lift", request)])
    return bool(ended.rowcount)


def _selector(workspace: Workspace, tenant: str, whom: Selector) -> str:
    columns = [pa.array([whom.kind]), pa.array([whom.value])]
    return str(tokens.mac(columns, workspace.id_secret(tenant, "restriction"))[0].as_py().hex())


def _entry(event: str, request: Request) -> audit.Entry:
    return audit.Entry(SERVICE, event, f"request {request.request_id}", "restriction of a person's rows")


def _workspace(settings: Settings) -> Workspace:
    return open_workspace(WorkspaceRef.of(settings, SERVICE, _REASON))


def active(connection: Connection) -> dict[str, list[str]]:
    """Return by tenant the requests by which its persons are restricted now."""
    table = restrictions
    rows = connection.execute(
        select(table.c.tenant, table.c.request_id).where(table.c.until.is_(None), table.c.request_id != MARK)
    )
    by_tenant: dict[str, list[str]] = {}
    for row in rows:
        by_tenant.setdefault(row.tenant, []).append(row.request_id)
    return by_tenant


# -- marking -----------------------------------------------------------------------------------------------------------


def mark(settings: Settings, *, everything: bool = False) -> int:
    """Mark the rows that are hidden, in the data files that came since the last time (or all); how many there are.

    Called after each commit that writes data files. Costs nothing for a workspace without restrictions.
    """
    with database.reading(settings) as connection:
        restricted = active(connection)
        marked = _marked_tenants(connection)
        since = None if everything else last_marked(connection)
    if not restricted and not marked:
        return 0
    _await_turn(settings)
    with runs.running(settings, RUN, [RUN]) as run_id:
        files, total = open_files(settings, SERVICE, _REASON, run_id), 0
        for tenant in sorted({*restricted, *marked}):
            whom = [find(settings, request_id).selector for request_id in restricted.get(tenant, [])]
            marks = _marks(files, tenant, whom, since)
            total += _write(settings, tenant, marks, replace=since is None)
        runs.finish(settings, run_id, "done", {"marks": total})
    return total


def _await_turn(settings: Settings) -> None:
    """Two nights may end at once: the second marks after the first. What is not marked yet is not shown."""
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        with database.reading(settings) as connection:
            at_work = connection.execute(select(leases.c.run_id).where(leases.c.name == RUN)).scalar()
            if at_work is None or at_work not in runs.living(connection):
                return
        time.sleep(0.1)


def last_marked(connection: Connection) -> datetime | None:
    """Return the time until which committed data files have been looked at; None before the first run."""
    query = select(runs_table.c.started_at).where(runs_table.c.kind == RUN, runs_table.c.status == "done")
    return connection.execute(query.order_by(runs_table.c.started_at.desc()).limit(1)).scalar()


def _marked_tenants(connection: Connection) -> set[str]:
    query = select(restrictions.c.tenant).where(restrictions.c.request_id == MARK).distinct()
    return set(connection.execute(query).scalars())


def _marks(files: DataFiles, tenant: str, whom: Sequence[Selector], since: datetime | None) -> set[str]:
    """Return the marks that some persons' rows are known by, in the data files that came since."""
    marks: set[str] = set()
    for selector in whom:
        if selector.kind == "account":
            for domain in _NAMING:
                secret = files.workspace.keyring.key(_marking_key(domain, tenant)).secret
                marks.update(_hex(tokens.mac([pa.array([selector.value])], secret)))
        for day in _dates(files.workspace.settings, tenant, since):
            marks.update(_of_date(files, tenant, day, selector))
    return marks


def _dates(settings: Settings, tenant: str, since: datetime | None) -> list[str]:
    f = lake_files.c
    query = select(f.part).where(f.tenant == tenant, f.view.in_(STORED), f.superseded_at.is_(None)).distinct()
    if since is not None:
        query = query.where(f.committed_at >= since)
    with database.reading(settings) as connection:
        return sorted(connection.execute(query).scalars())


def _of_date(files: DataFiles, tenant: str, day: str, whom: Selector) -> Iterator[str]:
    """Yield the marks of a date's rows: ids, of the index and of each part that does not name the account."""
    by_account = whom.kind == "account"
    record_ids = search(files, tenant, day, whom).record_ids
    yield from _hidden_ids(files, INDEX, tenant, record_ids)
    for part in VIEW_PARTS:
        secret = row_index.id_secret(files.workspace, part, tenant, day[:7])
        if secret is not None and not (by_account and "account" in VIEW_PARTS[part].names):
            yield from _hidden_ids(files, part, tenant, tokens.permute(record_ids, secret))


def _hidden_ids(files: DataFiles, part: str, tenant: str, ids: pa.Array) -> list[str]:
    return _hex(tokens.permute(ids, files.workspace.keyring.key(_marking_key(part, tenant)).secret))


def _marking_key(part: str, tenant: str) -> KeyName:
    """Return the name of the key that marks of a part are made with: who reads its view opens it."""
    return KeyName(VIEW_OF.get(part, part), tenant, EVERY_MONTH, "restriction")


def _hex(ids: pa.Array) -> list[str]:
    return [view_id.hex() for view_id in ids.to_pylist()]


def _write(settings: Settings, tenant: str, marks: set[str], *, replace: bool) -> int:
    """Add a tenant's marks, or put them in the place of those that are there; in an order that tells nothing."""
    table = restrictions
    marked = (table.c.tenant == tenant) & (table.c.request_id == MARK)
    with database.writing(settings) as connection:
        if replace:
            connection.execute(delete(table).where(marked))
        known = set(connection.execute(select(table.c.selector).where(table.c.tenant == tenant)).scalars())
        common = {"tenant": tenant, "request_id": MARK, "since": database.now(), "confidential": False}
        rows = [{**common, "selector": selector} for selector in sorted(marks - known)]
        if rows:
            connection.execute(insert(table), rows)
    return len(rows)


# -- what a reader does not see ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hidden:
    """What of one tenant a reader of a view, or of the index, does not see: ids, accounts, and too new files."""

    view: str
    ids: pa.Array
    accounts: tuple[str, ...]
    files: frozenset[str]

    def rows(self, part: str) -> pc.Expression:
        """Return what is true for the rows of a part of the view, or of the index, that are hidden."""
        where = pc.field(ID_COLUMN.get(part, "record_id")).isin(self.ids)
        if VIEW_OF.get(part) != "billing":
            return where
        return where | pc.coalesce(pc.field("account").isin(pa.array(self.accounts, pa.string())), pc.scalar(False))

    def derived(self, table: pa.Table) -> np.ndarray:
        """Return the rows of a derived table that are hidden (bool, shape [rows]): those of an account that is."""
        if "account" in table.column_names:
            return np.asarray(pc.is_in(table["account"], pa.array(self.accounts, pa.string())))
        return np.zeros(table.num_rows, np.bool_)


def hidden(settings: Settings, keyring: Keyring, view: str) -> dict[str, Hidden]:
    """Return by tenant what a reader of a view, or of the index, does not see.

    Where nobody is restricted it is empty, and no key is opened.
    """
    with database.reading(settings) as connection:
        tenants = sorted(active(connection))
        if not tenants:
            return {}
        since = last_marked(connection)
        marks = {tenant: _marks_of(connection, tenant) for tenant in tenants}
        unseen = {tenant: _committed_since(connection, tenant, since) for tenant in tenants}
        named_in = tenants if view == "billing" else []
        accounts = {tenant: _accounts(settings, connection, tenant) for tenant in named_in}
    names = {tenant: _marking_key(view, tenant) for tenant in tenants}
    opened = keyring.existing(names.values())
    result = {}
    for tenant, name in names.items():
        secret = opened[name].secret if name in opened else None
        ids = tokens.unpermute(marks[tenant], secret) if secret else pa.array([], tokens.ID_TYPE)
        named = _restricted(accounts[tenant], marks[tenant], secret) if secret and tenant in accounts else ()
        result[tenant] = Hidden(view, ids, named, unseen[tenant])
    return result


def hides_account(settings: Settings, keyring: Keyring, tenant: str, account: str) -> bool:
    """Return whether a reader of sums by account does not see those of an account."""
    with database.reading(settings) as connection:
        if tenant not in active(connection):
            return False
        marks = _marks_of(connection, tenant)
    name = _marking_key(account_sums.DOMAIN, tenant)
    opened = keyring.existing([name])
    return name in opened and bool(_restricted([account], marks, opened[name].secret))


def _marks_of(connection: Connection, tenant: str) -> pa.Array:
    marked = (restrictions.c.tenant == tenant) & (restrictions.c.request_id == MARK)
    marks = connection.execute(select(restrictions.c.selector).where(marked)).scalars()
    return pa.array([bytes.fromhex(mark) for mark in marks], tokens.ID_TYPE)


def _committed_since(connection: Connection, tenant: str, since: datetime | None) -> frozenset[str]:
    f = lake_files.c
    query = select(f.file_id).where(f.tenant == tenant, f.view.in_(STORED), f.superseded_at.is_(None))
    if since is not None:
        query = query.where(f.committed_at >= since)
    return frozenset(connection.execute(query).scalars())


def _accounts(settings: Settings, connection: Connection, tenant: str) -> list[str]:
    """Return every account that a billing row of the tenant may have: each has its sums in the derived table."""
    used: Any = connection.execute(
        select(billing_usage_daily.c.account).where(billing_usage_daily.c.tenant == tenant).distinct()
    ).scalars()
    return sorted({*used, *(account.id for account in settings.accounts if account.tenant == tenant)})


def _restricted(accounts: Sequence[str], marks: pa.Array, secret: bytes) -> tuple[str, ...]:
    if not accounts:
        return ()
    named = pa.array(accounts, pa.string())
    return tuple(named.filter(pc.is_in(tokens.mac([named], secret), marks)).to_pylist())
