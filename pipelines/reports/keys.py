"""What the custodian sees: month keys by key domain, epochs of the roots, copies of roots, restored registers."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, case, func, select

from callward import database
from callward.errors import UsageProblem
from callward.keys import exports, rotation
from callward.keys.roots import ACTIVE, DESTROYED, registered
from callward.settings import KEY_DOMAINS, Settings, nearest
from pipelines import terminal
from schemas.retention import root_copies
from schemas.retention import roots as epochs_table
from schemas.tables import keys

ROLE = "custodian"


def check_domain(name: str) -> None:
    """Raise UsageProblem, with the nearest right one, for what is no key domain."""
    if name not in KEY_DOMAINS:
        raise UsageProblem(f"no key domain is called {name!r}{nearest(name, KEY_DOMAINS)}")


# -- what there is -----------------------------------------------------------------------------------------------------


def overview(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """Month keys by key domain, epochs and recorded copies; opens no key."""
    with database.reading(settings) as connection:
        counted = {row.domain: row for row in connection.execute(_COUNTS)}
        return {
            "domains": [_domain(connection, name, counted.get(name)) for name in KEY_DOMAINS],
            "epochs": _rows(connection, epochs_table),
            "copies": _rows(connection, root_copies),
        }


def _number(state: str) -> Any:
    return func.sum(case((keys.c.state == state, 1), else_=0)).label(state)


_COUNTS = select(
    keys.c.domain,
    _number("active"),
    _number("retired"),
    _number("destroyed"),
    func.min(case((keys.c.month != "all", keys.c.month))).label("first_month"),
    func.max(case((keys.c.month != "all", keys.c.month))).label("last_month"),
).group_by(keys.c.domain)


def _domain(connection: Connection, name: str, counted: Any) -> dict[str, Any]:
    root = registered(connection, name)
    columns = ("active", "retired", "destroyed", "first_month", "last_month")
    counts = {column: getattr(counted, column, None) for column in columns}
    return {
        "domain": name,
        "epoch": root.epoch if root else None,
        "root_id": root.root_id if root else None,
        **{column: int(value or 0) if column in columns[:3] else value for column, value in counts.items()},
    }


def _rows(connection: Connection, table: Any) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in connection.execute(select(table).order_by(*table.primary_key))]


def told(seen: dict[str, list[dict[str, Any]]]) -> Iterator[Any]:
    """The overview for a person."""
    for title, rows in zip(("Month keys", "Epochs of the roots", "Copies of roots"), seen.values(), strict=True):
        if rows:
            columns = list(rows[0])
            yield terminal.table(title, columns, [[row[column] for column in columns] for row in rows])
        else:
            yield f"{title}: none is recorded"


# -- rotating ----------------------------------------------------------------------------------------------------------


def rotated(settings: Settings, domain: str, reason: str) -> dict[str, Any]:
    """Begin a new epoch, and say which copies of the old root somebody must still destroy."""
    check_domain(domain)
    root_id = rotation.rotate(settings, domain, role=ROLE, reason=reason)
    export = exports.write(settings, reason)
    with database.reading(settings) as connection:
        left = [copy for copy in dead_copies(connection) if copy.domain == domain]
    return {
        "domain": domain,
        "root_id": root_id,
        "export": str(export),
        "copies_left": [{"copy_no": copy.copy_no, "root_id": copy.root_id, "place": copy.place} for copy in left],
    }


def would_rotate(settings: Settings, domain: str) -> dict[str, Any]:
    """What a rotation would do: how many keys it would wrap anew."""
    check_domain(domain)
    with database.reading(settings) as connection:
        count = connection.execute(
            select(func.count()).where(keys.c.domain == domain, keys.c.state != DESTROYED)
        ).scalar()
    return {"domain": domain, "dry_run": True, "keys": count}


def dead_copies(connection: Connection) -> list[rotation.Copy]:
    """Copies of roots that are destroyed here, and that nobody confirmed destroyed where they lie."""
    replaced = connection.execute(select(epochs_table.c.root_id).where(epochs_table.c.state != ACTIVE)).scalars().all()
    return [copy for copy in rotation.copies(connection, replaced) if not copy.destroyed]


# -- restoring ---------------------------------------------------------------------------------------------------------

_LOST = ("roots_missing", "files_without_key", "files_gone", "files_unknown", "audit_entries_lost", "certificates_lost")


def must_look(done: dict[str, Any]) -> bool:
    """Whether a restored register leaves something that a person must see to."""
    return any(done[name] for name in _LOST)


def told_restore(done: dict[str, Any]) -> Iterator[str]:
    """A restore for a person."""
    counts = done["keys"]
    verb = "would be put" if done["dry_run"] else "put"
    yield (
        f"the register of {done['created_at']} {verb} in place: {counts['added']:,} keys added, {counts['changed']:,} "
        f"wrapped anew, {counts['destroyed']:,} destroyed, {counts['only_here']:,} only here; {counts['open']:,} open"
    )
    if done["roots_missing"]:
        yield f"no root file is here for {', '.join(done['roots_missing'])}: {counts['closed']:,} keys stay closed"
    if done["releases_put_back"]:
        yield f"{terminal.count(done['releases_put_back'], 'release')} {verb} back, with what they cost"
    yield from _told_files("no key opens any more", done["files_without_key"])
    yield from _told_files("the lake no longer has", done["files_gone"])
    if done["files_unknown"]:
        yield f"{terminal.count(done['files_unknown'], 'file')} in the lake that this older database does not know"
    if done["audit_entries_lost"] or done["certificates_lost"]:
        yield (
            f"this older database lacks {terminal.count(done['audit_entries_lost'], 'audit entry', 'audit entries')} "
            f"and {terminal.count(done['certificates_lost'], 'certificate')} that were there when it was written"
        )


def _told_files(what: str, paths: list[str]) -> Iterator[str]:
    if paths:
        more = f" and {len(paths) - 3:,} more" if len(paths) > 3 else ""
        yield f"{terminal.count(len(paths), 'data file')} that {what}: {', '.join(paths[:3])}{more}"
