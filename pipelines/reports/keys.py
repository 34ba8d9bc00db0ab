"""What the custodian sees: month keys by key domain, epochs of the roots, copies of roots, restored registers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, case, func, select

from callward import database
from callward.errors import UsageProblem
from callward.keys import approvers, exports, rotation, signing
from callward.keys.exports import Restored
from callward.keys.roots import ACTIVE, DESTROYED, registered
from callward.redaction import mask
from callward.settings import KEY_DOMAINS, Settings, nearest
from pipelines import terminal
from pipelines.results import Part, Result, Rows
from schemas.retention import root_copies
from schemas.retention import roots as epochs_table
from schemas.tables import keys

ROLE = "custodian"


def check_domain(name: str) -> None:
    """Raise UsageProblem, with the nearest right one, for what is no key domain."""
    if name not in KEY_DOMAINS:
        raise UsageProblem(f"no key domain is called {name!r}{nearest(name, KEY_DOMAINS)}")


# -- what there is -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DomainKeys:
    """A key domain: its active root, and its month keys by state. Months are YYYY-MM."""

    domain: str
    epoch: int | None
    root_id: str | None
    active: int
    retired: int
    destroyed: int
    first_month: str | None
    last_month: str | None


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """A root that a key domain has, or had."""

    domain: str
    epoch: int
    root_id: str
    state: str
    created_at: datetime
    destroyed_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class RootCopy:
    """A copy of a root that somebody recorded, and when it was confirmed destroyed."""

    copy_no: int
    domain: str
    root_id: str
    place: str
    recorded_at: datetime
    recorded_by: str
    destroyed_at: datetime | None
    confirmed_by: str | None


@dataclass(frozen=True)
class KeyList(Result):
    """Month keys by key domain, epochs and recorded copies."""

    domains: Sequence[DomainKeys]
    epochs: Sequence[Epoch]
    copies: Sequence[RootCopy]

    def render(self) -> Iterator[Part]:
        tables = (("Month keys", self.domains), ("Epochs of the roots", self.epochs), ("Copies of roots", self.copies))
        for title, rows in tables:
            yield from Rows(rows, title).render() if rows else (f"{title}: none is recorded",)


def list_keys(settings: Settings) -> KeyList:
    """Return what the register has; opens no key."""
    with database.reading(settings) as connection:
        counts = {row.domain: row for row in connection.execute(_COUNTS)}
        return KeyList(
            domains=[_domain(connection, name, counts.get(name)) for name in KEY_DOMAINS],
            epochs=[Epoch(**row) for row in _rows(connection, epochs_table)],
            copies=[RootCopy(**row) for row in _rows(connection, root_copies)],
        )


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


def _domain(connection: Connection, name: str, counts: Any) -> DomainKeys:
    root = registered(connection, name)
    return DomainKeys(
        domain=name,
        epoch=root.epoch if root else None,
        root_id=root.root_id if root else None,
        active=int(getattr(counts, "active", 0)),
        retired=int(getattr(counts, "retired", 0)),
        destroyed=int(getattr(counts, "destroyed", 0)),
        first_month=getattr(counts, "first_month", None),
        last_month=getattr(counts, "last_month", None),
    )


def _rows(connection: Connection, table: Any) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in connection.execute(select(table).order_by(*table.primary_key))]


# -- rotating ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CopyLeft:
    """A copy of a destroyed root that somebody must still destroy where it lies."""

    copy_no: int
    root_id: str
    place: str


@dataclass(frozen=True)
class Rotated(Result):
    """A key domain with a new root, the register export that it ended with, and copies that a person must destroy."""

    domain: str
    root_id: str
    export: str
    copies_left: Sequence[CopyLeft]

    @property
    def exit_code(self) -> int:
        return 3 if self.copies_left else 0

    def render(self) -> Iterator[Part]:
        yield f"{self.domain} has the root {self.root_id} now; exported to {self.export}"
        if self.copies_left:
            left = "; ".join(f"copy {copy.copy_no} ({copy.place})" for copy in self.copies_left)
            yield f"to be destroyed, then confirmed: {left}"


@dataclass(frozen=True)
class RotationPlan(Result):
    """What a rotation would do: so many keys would be wrapped anew."""

    domain: str
    dry_run: bool
    keys: int

    def render(self) -> Iterator[Part]:
        yield f"{terminal.count(self.keys, 'key')} of {self.domain} would be wrapped by a new root"


def rotate(settings: Settings, domain: str, reason: str) -> Rotated:
    """Begin a new epoch, and say which copies of the old root somebody must still destroy."""
    check_domain(domain)
    root_id = rotation.rotate(settings, domain, role=ROLE, reason=reason)
    export = exports.write(settings, reason)
    with database.reading(settings) as connection:
        left = [copy for copy in dead_copies(connection) if copy.domain == domain]
    return Rotated(domain, root_id, str(export), [CopyLeft(copy.copy_no, copy.root_id, copy.place) for copy in left])


def plan_rotation(settings: Settings, domain: str) -> RotationPlan:
    """Return what a rotation would do."""
    check_domain(domain)
    wrapped = select(func.count()).where(keys.c.domain == domain, keys.c.state != DESTROYED)
    with database.reading(settings) as connection:
        return RotationPlan(domain, True, connection.execute(wrapped).scalar_one())


def dead_copies(connection: Connection) -> list[rotation.Copy]:
    """Copies of roots that are destroyed here, and that nobody confirmed destroyed where they lie."""
    replaced = connection.execute(select(epochs_table.c.root_id).where(epochs_table.c.state != ACTIVE)).scalars().all()
    return [copy for copy in rotation.copies(connection, replaced) if not copy.destroyed]


# -- exports of the register -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tried(Result):
    """What a dry run of a small command says: nothing was changed."""

    sentence: str

    def to_dict(self) -> dict[str, Any]:
        return {"dry_run": True}

    def render(self) -> Iterator[Part]:
        yield self.sentence


@dataclass(frozen=True)
class Exported(Result):
    """The files of a register export: beside the lake, and at the second place."""

    export: str
    second: str | None

    def render(self) -> Iterator[Part]:
        yield self.export + (f", and {self.second}" if self.second else "")


def export(settings: Settings, reason: str, *, dry_run: bool) -> Exported | Tried:
    """Write a signed export. Raises Problem where it could not be written, in a dry run too."""
    if dry_run:
        exports.check(settings)
        return Tried(f"an export would be written to {settings.register_path}")
    rotation.recover(settings)
    path, second = exports.write(settings, reason), settings.export_path
    return Exported(str(path), str(second / path.name) if second else None)


@dataclass(frozen=True, kw_only=True)
class RegisterRestored(Restored, Result):
    """A register that was put back; a person must look where something is still missing."""

    @property
    def exit_code(self) -> int:
        missing = (self.roots_missing, self.files_without_key, self.files_gone, self.files_unknown)
        return 3 if any((*missing, self.audit_entries_lost, self.certificates_lost)) else 0

    def render(self) -> Iterator[Part]:
        counts, verb = self.keys, "would be put" if self.dry_run else "put"
        yield (
            f"the register of {self.created_at} {verb} in place: {counts.added:,} keys added, {counts.changed:,} "
            f"wrapped anew, {counts.destroyed:,} destroyed, {counts.only_here:,} only here; {counts.open:,} open"
        )
        if self.roots_missing:
            yield f"no root file is here for {', '.join(self.roots_missing)}: {counts.closed:,} keys stay closed"
        if self.releases_put_back:
            yield f"{terminal.count(self.releases_put_back, 'release')} {verb} back, with what they cost"
        yield from self._files()
        if self.audit_entries_lost or self.certificates_lost:
            yield (
                f"this older database lacks {terminal.count(self.audit_entries_lost, 'audit entry', 'audit entries')} "
                f"and {terminal.count(self.certificates_lost, 'certificate')} that were there when it was written"
            )

    def _files(self) -> Iterator[str]:
        yield from _data_files("no key opens any more", self.files_without_key)
        yield from _data_files("the lake no longer has", self.files_gone)
        if self.files_unknown:
            yield f"{terminal.count(self.files_unknown, 'file')} in the lake that this older database does not know"


def _data_files(what: str, paths: Sequence[str]) -> Iterator[str]:
    if paths:
        more = f" and {len(paths) - 3:,} more" if len(paths) > 3 else ""
        yield f"{terminal.count(len(paths), 'data file')} that {what}: {', '.join(paths[:3])}{more}"


def restore(settings: Settings, file: Path, *, dry_run: bool) -> RegisterRestored:
    """Put the register of an export into an older database. Raises Problem for an export that does not fit."""
    restored = exports.restore(settings, file, dry_run=dry_run)
    if not dry_run:
        rotation.recover(settings)
    return RegisterRestored(**vars(restored))


# -- copies of roots ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CopyAdded(Result):
    """A copy of a root that was recorded."""

    copy_no: int
    domain: str
    root_id: str
    place: str

    def render(self) -> Iterator[Part]:
        yield f"copy {self.copy_no}: {self.root_id} of {self.domain}, {self.place}"


@dataclass(frozen=True)
class CopyDestroyed(Result):
    """A copy of a root that was recorded as destroyed."""

    copy_no: int
    domain: str
    root_id: str
    destroyed: bool = True

    def render(self) -> Iterator[Part]:
        yield f"copy {self.copy_no} is recorded as destroyed"


def add_copy(settings: Settings, domain: str, place: str, *, dry_run: bool) -> CopyAdded | Tried:
    """Record where a copy of a key domain's present root lies. Raises UsageProblem for what is no key domain."""
    check_domain(domain)
    if dry_run:
        return Tried(f"a copy of the root of {domain} would be recorded")
    copy = rotation.add_copy(settings, domain, place)
    return CopyAdded(copy.copy_no, domain, copy.root_id, place)


def confirm_copy(settings: Settings, copy_no: int, *, dry_run: bool) -> CopyDestroyed | Tried:
    """Record that a copy was destroyed. Raises Problem where none has that number."""
    if dry_run:
        return Tried(f"copy {copy_no} would be recorded as destroyed")
    copy = rotation.confirm_copy(settings, copy_no)
    return CopyDestroyed(copy_no, copy.domain, copy.root_id)


# -- approvers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KeyFileMade(Result):
    """A person's new key file; standard error says what the custodian types next."""

    name: str
    file: str
    public: str  # hex

    def render(self) -> Iterator[Part]:
        yield self.public

    def warnings(self) -> Iterator[str]:
        yield f"{mask(self.file)} is made; the custodian: callward keys approver add {self.name} --public {self.public}"


@dataclass(frozen=True)
class ApproverAdded(Result):
    """A person who may approve now."""

    name: str
    public: str  # hex

    def render(self) -> Iterator[Part]:
        yield f"{self.name} may approve now"


@dataclass(frozen=True)
class ApproverRevoked(Result):
    """A person who may not approve any more."""

    name: str
    revoked: bool = True

    def render(self) -> Iterator[Part]:
        yield f"{self.name} approves nothing any more"


def make_key_file(name: str, file: Path, *, dry_run: bool) -> KeyFileMade | Tried:
    """Make a person's key file, which must be new. Raises UsageProblem for what is no name, FileExistsError."""
    approvers.check_name(name)
    if dry_run:
        return Tried(f"{mask(str(file))} would be made")
    return KeyFileMade(name, str(file), signing.create(file).hex())


def add_approver(settings: Settings, name: str, public: str, *, dry_run: bool) -> ApproverAdded | Tried:
    """Register a person. Raises UsageProblem for what is no name, Problem for a name or key that was given out."""
    if dry_run:
        approvers.check_name(name)
        return Tried(f"{name} would be registered")
    approvers.register(settings, name, public)
    return ApproverAdded(name, public)


def revoke_approver(settings: Settings, name: str, *, dry_run: bool) -> ApproverRevoked | Tried:
    """End a person's right to approve. Raises UsageProblem for a stranger."""
    if dry_run:
        return Tried(f"{name} would be revoked")
    approvers.revoke(settings, name)
    return ApproverRevoked(name)


def list_approvers(settings: Settings) -> Rows:
    """Return every person who was ever registered."""
    return Rows(approvers.list_approvers(settings), "Approvers")
