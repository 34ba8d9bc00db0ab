"""Workspaces with the keys of another, so that the same records become equal rows in both.

For tests alone: what the first workspace destroys still opens in the copy.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import delete, insert, select

from callward import database, initiate
from callward.initiate import root_file
from callward.keys.register import EVERY_MONTH, KeyName, Keyring, name_of
from callward.lake import row_index
from callward.settings import FILE_NAME, KEY_DOMAINS, Settings
from schemas import retention
from schemas.tables import keys
from schemas.views import VIEW_PARTS


def like(folder: Path, other: Settings) -> Settings:
    """Return settings of a new workspace with the tenants, sources, trunks and accounts of another one."""
    sources = [
        source.model_copy(update={"format": str(other.below(source.format))})
        if source.format.endswith(".toml")
        else source
        for source in other.sources
    ]
    same = {name: getattr(other, name) for name in ("tenants", "trunks", "accounts", "thresholds")}
    lake = type(other.lake)(close_after_hours=other.lake.close_after_hours)
    return Settings(path=folder / FILE_NAME, sources=sources, lake=lake, **same)


def init_with_keys_of(other: Settings, folder: Path, settings: Settings, months: Iterable[str] = ()) -> Settings:
    """Make a workspace with the key roots of another and all keys it has, or needs for these months (YYYY-MM)."""
    _mint_shared(other, months)
    made = initiate.init(folder, settings)
    _copy_roots(other, made)
    _copy_register(other, made)
    return made


def shared_keys(tenant: str, months: Iterable[str]) -> list[KeyName]:
    """Return the keys that two workspaces need in common, so that records of some months become equal rows in both."""
    names = [KeyName("ids", tenant, EVERY_MONTH, "record")]
    for month in months:
        names += [row_index.id_key(part, tenant, month) for part in VIEW_PARTS]
        names += [KeyName(domain, tenant, month, "token") for domain in ("billing-numbers", "index")]
    return names


def _mint_shared(theirs: Settings, months: Iterable[str]) -> None:
    """Keys are minted when they are first used: what is minted after the copy would differ in the two workspaces."""
    wanted = {name for tenant in theirs.tenants for name in shared_keys(tenant, months)}
    with database.reading(theirs) as connection:
        known = {name_of(row) for row in connection.execute(select(keys))}
    Keyring(theirs, "custodian", "a workspace with the same keys").keys(sorted(wanted - known))


def _copy_roots(theirs: Settings, ours: Settings) -> None:
    """Copy the root files of another workspace, those that are kept in files."""
    for domain in KEY_DOMAINS:
        source, path = root_file(theirs, domain), root_file(ours, domain)
        assert source is not None and path is not None
        shutil.copyfile(source, path)


def _copy_register(theirs: Settings, ours: Settings) -> None:
    """Copy month keys and root epochs of the other workspace: with the same roots they give the same ids and tokens."""
    with database.reading(theirs) as connection:
        minted = [dict(row._mapping) for row in connection.execute(select(keys))]
        epochs = select(retention.roots).where(retention.roots.c.domain.in_(KEY_DOMAINS))
        registered = [dict(row._mapping) for row in connection.execute(epochs)]
    with database.writing(ours) as connection:
        connection.execute(delete(keys))
        connection.execute(delete(retention.roots).where(retention.roots.c.domain.in_(KEY_DOMAINS)))
        for table, rows in ((keys, minted), (retention.roots, registered)):
            if rows:
                connection.execute(insert(table), rows)
