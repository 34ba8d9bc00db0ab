"""The register of directories: each tenant's versions, and the sealed file of each, which lies in the lake's store."""

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, select, update

from callward import audit, database, identity
from callward.accounts import sealed
from callward.accounts.changes import Difference
from callward.accounts.directory import Directory, SingleNumbers
from callward.accounts.entries import KINDS, UNASSIGNED, Holdings
from callward.errors import Problem
from callward.failpoints import point
from callward.keys.register import Keyring
from callward.keys.seal import key_id_of
from callward.runs import new_id
from callward.settings import Settings
from callward.storage.store import Store
from schemas.tables import account_directories as versions
from schemas.tables import billing_usage_daily

ROLE: Final = "billing-run"  # whose root opens directories
IMPORT: Final = "accounts import"


def current(connection: Connection, tenant: str) -> Row[Any] | None:
    """Return the version of a tenant's directory that counts; None where it has none."""
    last = select(func.max(versions.c.version)).where(versions.c.tenant == tenant).scalar_subquery()
    return connection.execute(select(versions).where(versions.c.tenant == tenant, versions.c.version == last)).first()


def every(connection: Connection, tenants: Sequence[str]) -> list[Row[Any]]:
    """Return every version of tenants' directories, the last first."""
    query = select(versions).where(versions.c.tenant.in_(tenants))
    return list(connection.execute(query.order_by(versions.c.tenant, versions.c.version.desc())))


def on_disk(connection: Connection) -> list[str]:
    """Return the paths of all directories' files that were not removed."""
    return list(connection.execute(select(versions.c.path).where(versions.c.removed_at.is_(None))).scalars())


def opened(settings: Settings, keyring: Keyring, row: Row[Any]) -> tuple[Holdings, SingleNumbers]:
    """Return what a version holds, and its numbers to look up.

    Raises Problem for a file that is damaged, FileNotFoundError for one that was removed.
    """
    blob = Store.of(settings).read(row.path)
    return sealed.open_sealed(blob, keyring, row.tenant, row.version)


def known(settings: Settings, tenant: str) -> set[str]:
    """Return accounts of a tenant that the settings name or that have usage, also those that were imported: ids that a
    person may have meant. No key is opened."""
    usage = select(billing_usage_daily.c.account).where(billing_usage_daily.c.tenant == tenant).distinct()
    with database.reading(settings) as connection:
        used = set(connection.execute(usage).scalars())
    return {account.id for account in settings.accounts if account.tenant == tenant} | used - {UNASSIGNED}


class Directories:
    """The directories of a process, each as the register has it now: a stream that runs for years knows each import."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: dict[str, tuple[int, Directory]] = {}

    def of(self, tenant: str, keyring: Keyring) -> Directory:
        """Return a tenant's directory: what is imported, and what the settings say.

        Raises Problem for a file that is damaged or not there, and for a code that two accounts have.
        """
        row = self._current(tenant)
        version = row.version if row else 0
        known = self._known.get(tenant)
        if known is None or known[0] != version:
            known = self._known[tenant] = version, self._opened(tenant, row, keyring)
        return known[1]

    def _current(self, tenant: str) -> Row[Any] | None:
        with database.reading(self._settings) as connection:
            return current(connection, tenant)

    def _opened(self, tenant: str, row: Row[Any] | None, keyring: Keyring) -> Directory:
        stored, singles = None, None
        if row is not None:
            stored, singles = self._read(row, keyring)
            stored = stored.without_numbers()
        return Directory.of(
            tenant, self._settings.accounts, self._settings.trunks, stored, singles if row and row.numbers else None
        )

    def _read(self, row: Row[Any], keyring: Keyring) -> tuple[Holdings, SingleNumbers]:
        try:
            return opened(self._settings, keyring, row)
        except FileNotFoundError:
            raise Problem(
                f"version {row.version} of the account directory of tenant {row.tenant} is not in the lake; import its "
                "file again"
            ) from None


def write(
    settings: Settings, keyring: Keyring, run_id: str, tenant: str, version: int, holdings: Holdings
) -> dict[str, Any]:
    """Write a version's sealed file for a run, and return its row; nothing counts until `commit`."""
    path = f"accounts/tenant={tenant}/{run_id}-{new_id()}.seal"
    blob = sealed.seal(holdings, keyring, tenant, version)
    Store.of(settings).write(path, blob)
    point("directory-written")
    return {
        "tenant": tenant,
        "version": version,
        "path": path,
        "bytes": len(blob),
        "sha256": hashlib.sha256(blob).hexdigest(),
        "key_id": key_id_of(blob),
        "accounts": len(holdings.ids),
        **{f"{kind}s": len(holdings.of_kind(kind)) for kind in KINDS},
        "format_version": sealed.FORMAT_VERSION,
    }


def commit(connection: Connection, row: dict[str, Any], differences: Sequence[Difference], reason: str) -> None:
    """Make a version count, with its entry in the audit log. Raises Problem where another was committed meanwhile."""
    last = current(connection, row["tenant"])
    if row["version"] != (last.version if last else 0) + 1:
        raise Problem(f"the account directory of tenant {row['tenant']} was changed meanwhile: import the file again")
    counts = {name: sum(getattr(one, name) for one in differences) for name in ("added", "removed", "changed")}
    by = {"imported_by": identity.who(), "imported_at": database.now()}
    connection.execute(insert(versions).values(**row, **counts, **by))
    subject = f"tenant {row['tenant']} version {row['version']} sha256 {row['sha256']}"
    audit.append(connection, [audit.Entry(ROLE, IMPORT, subject, reason)])


def remove_old(settings: Settings, tenant: str) -> None:
    """Remove the files of versions that were followed long enough ago: who had begun to read one is done."""
    before = database.now() - timedelta(minutes=settings.lake.grace_minutes)
    with database.reading(settings) as connection:
        rows = every(connection, [tenant])
    old = [row for later, row in pairwise(rows) if later.imported_at <= before and row.removed_at is None]
    if old:
        Store.of(settings).remove(row.path for row in old)
        these = (versions.c.tenant == tenant) & versions.c.version.in_([row.version for row in old])
        with database.writing(settings) as connection:
            connection.execute(update(versions).where(these).values(removed_at=database.now()))
