"""What can be seen of a disposal afterwards: files absent, keys dead, nothing unnamed, survivors whole, counts footing.

Each check looks at the disk and at the registers, never into a data file, and answers with one sentence. It is checked
before its certificate is issued; `callward purge verify` runs them again, whenever somebody asks.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, func, select

from callward import database
from callward.accounts.register import on_disk
from callward.keys import rotation
from callward.lake import ledger
from callward.settings import Settings
from callward.storage.store import VERSIONS, Store, StoreProblem
from schemas.codes import Bucket
from schemas.retention import disposal_items, lake_file_inputs, row_ends
from schemas.tables import input_files, keys, lake_files, ledger_entries, runs
from schemas.views import HELD, PARTS, VIEW_PARTS, with_sidecar

KEYS_DEAD: Final = "keys dead"
FOOT: Final = "counts foot"
VERSIONLESS: Final = "object versions"
_FOOTED: Final = PARTS["assurance"]  # every accepted record has one row in one of them: their counts foot to the ledger
# How a row can have left the view: what retention took out, what it holds apart, and what an erasure took out.
_LEFT: Final = ("purged", "held", "erased", ledger.NEVER_WRITTEN)
_REMOVED: Final = ("tombstoned", "removed")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: its name, whether it holds, and a sentence that says what was seen."""

    name: str
    ok: bool
    sentence: str


def of_disposal(settings: Settings, disposal_id: str, key_ids: Sequence[str], *, quick: bool = False) -> list[Check]:
    """Return every check of one disposal. `quick` compares the survivors' sizes and leaves their SHA-256 out."""
    with database.reading(settings) as connection:
        removed = removed_files(connection, disposal_id)
        named = _named(connection)
        beside = on_disk(connection)
        unswept = _unswept(connection)
        footed = [foots(connection, disposal_id)]
    store = Store.of(settings)
    there = {file.path: file.size for file in store.list()}
    return [
        _absent(removed, there),
        keys_dead(settings, key_ids),
        _no_orphans([*beside, *(path for row in named for path in with_sidecar(row.path))], there, unswept),
        _survivors(store, named, there, quick),
        *_versionless(store),
        *footed,
    ]


def removed_files(connection: Connection, disposal_id: str) -> list[Any]:
    """Return register rows of the data files that a disposal removed, with the item of its plan that named each."""
    query = (
        select(lake_files, disposal_items.c.retention_class, disposal_items.c.action, disposal_items.c.held)
        .add_columns(disposal_items.c.rows.label("due"))
        .join(disposal_items, disposal_items.c.file_id == lake_files.c.file_id)
        .where(disposal_items.c.disposal_id == disposal_id, disposal_items.c.state.in_(_REMOVED))
        .order_by(disposal_items.c.item)
    )
    return list(connection.execute(query))


def _named(connection: Connection) -> list[Any]:
    """Return the files that the register says are on disk: those that count, and those that may still be read."""
    f = lake_files.c
    query = select(f.file_id, f.view, f.path, f.bytes, f.sha256, f.superseded_at).where(f.removed_at.is_(None))
    return list(connection.execute(query))


def _absent(removed: Sequence[Any], there: Mapping[str, int]) -> Check:
    back = sorted({row.file_id for row in removed if not there.keys().isdisjoint(with_sidecar(row.path))})
    if back:
        return Check("files absent", False, f"{_first(back, 'file')} of this disposal lies in the lake again")
    return Check("files absent", True, f"none of {_count(removed, 'removed file')} is in the lake")


def _versionless(store: Store) -> Iterator[Check]:
    """Check whether a removed object is gone, or lives on as an old version of itself; nothing of a folder."""
    try:
        kept = store.versions()
    except StoreProblem as problem:
        yield Check(VERSIONLESS, False, f"whether the bucket keeps them could not be asked: {problem}")
        return
    if kept == VERSIONS:
        yield Check(VERSIONLESS, False, "the bucket keeps them: what was removed lives on there until its keys die")
    elif kept is not None:
        yield Check(VERSIONLESS, True, f"{kept} by the bucket")


def keys_dead(settings: Settings, key_ids: Sequence[str]) -> Check:
    """Check that each key has its tombstone and no blob, and that the root that wrapped it is gone wherever known."""
    with database.reading(settings) as connection:
        rows = {row.key_id: row for row in _key_rows(connection, key_ids)}
    unknown = [key_id for key_id in key_ids if key_id not in rows]
    if unknown:
        return Check(KEYS_DEAD, False, f"{_first(unknown, 'key')} has no tombstone in the register")
    alive = [key_id for key_id, row in rows.items() if row.state != "destroyed" or row.blob is not None]
    # Whether a root lives is the same for all keys under it: one of them answers for the rest.
    of_root = {(row.domain, row.root_id): row.key_id for row in rows.values()}
    alive = alive or [key_id for key_id in of_root.values() if not rotation.dead(settings, key_id)]
    if alive:
        return Check(KEYS_DEAD, False, f"{_first(alive, 'key')} that was destroyed can be opened again")
    return Check(KEYS_DEAD, True, f"{_count(rows, 'key')}: no wrapped copy in the register, opened by no root")


def _key_rows(connection: Connection, key_ids: Collection[str]) -> Iterator[Any]:
    for batch in database.batches(key_ids):
        yield from connection.execute(select(keys).where(keys.c.key_id.in_(batch)))


def _unswept(connection: Connection) -> set[str]:
    """Return the runs at work, whose files nothing names yet, and killed runs, whose files the next night removes."""
    query = select(runs.c.run_id).where(runs.c.status != "done", runs.c.swept_at.is_(None))
    return set(connection.execute(query).scalars())


def _no_orphans(named: Collection[str], there: Mapping[str, int], unswept: Collection[str]) -> Check:
    orphans = sorted(path for path in there.keys() - set(named) if _run_of(path) not in unswept)
    if orphans:
        return Check("no orphans", False, f"{_first(orphans, 'file')} in the lake is named by no register")
    return Check("no orphans", True, f"each of {_count(there, 'file')} in the lake is named by the register or its run")


def _run_of(path: str) -> str:
    """Return the run that wrote a file: its name begins with it."""
    return Path(path).name.lstrip(".").split("-", 1)[0]


def _survivors(store: Store, named: Sequence[Any], there: Mapping[str, int], quick: bool) -> Check:
    counting = [row for row in named if row.superseded_at is None]
    for row in counting:
        trouble = _trouble(store, row, there, quick)
        if trouble:
            return Check("survivors present", False, f"data file {row.file_id}, which should be there, {trouble}")
    how = "by name and size" if quick else "by name, size and SHA-256"
    return Check("survivors present", True, f"{_count(counting, 'data file')} that should be there checked {how}")


def _trouble(store: Store, row: Any, there: Mapping[str, int], quick: bool) -> str:
    if not there.keys() >= _needed(row):
        return "is missing"
    if there[row.path] != row.bytes or not (quick or _sha256(store, row.path) == row.sha256):
        return "was altered"
    return ""


def _needed(row: Any) -> set[str]:
    """Return the paths of a data file and of what must lie beside it: beside a held copy for which holds it is kept.

    Where a purge was undone half way, a view's own file is held whole, and nothing is beside it.
    """
    copied = row.path.startswith(HELD) and row.view.removeprefix(HELD) in VIEW_PARTS
    return set(with_sidecar(row.path) if copied else [row.path])


def _sha256(store: Store, path: str) -> str:
    with store.answering(), store.stream(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def foots(connection: Connection, disposal_id: str) -> Check:
    """Check every input file of a disposal to the end of life: accepted = present + what retention took out.

    And what retention took out to hold it is there, in held copies, unless its hold was released.
    """
    touched = select(row_ends.c.file_no).where(row_ends.c.disposal_id == disposal_id).distinct()
    file_nos = sorted(connection.execute(touched).scalars())
    counts = _Counts.of(connection, file_nos)
    wrong = [sentence for n in file_nos if (sentence := counts.trouble(n))]
    if wrong:
        return Check(FOOT, False, f"{wrong[0]} ({len(wrong)} of {_count(file_nos, 'input file')} wrong)")
    rows, files = sum(counts.accepted.values()), _count(file_nos, "input file")
    return Check(FOOT, True, f"{rows:,} accepted rows of {files}: each present or accounted for")


def short(connection: Connection) -> list[str]:
    """Return a sentence for each input file of which accepted rows are neither present nor taken out by retention.

    More may have been taken out than are accepted: a row that came past its window is no longer, once held.
    """
    file_nos = connection.execute(select(input_files.c.file_no).order_by(input_files.c.file_no)).scalars().all()
    counts = _Counts.of(connection, file_nos)
    return [counts.accounted(n) for n in file_nos if counts.accepted[n] > counts.present[n] + counts.left[n]]


@dataclass
class _Counts:
    """Rows by input file: what the ledger accepted, and where they are now."""

    accepted: Counter[int] = field(default_factory=Counter)
    present: Counter[int] = field(default_factory=Counter)
    left: Counter[int] = field(default_factory=Counter)
    held: Counter[int] = field(default_factory=Counter)  # taken out to be held, and not released since
    copies: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(cls, connection: Connection, file_nos: Sequence[int]) -> "_Counts":
        """Count some input files."""
        counts = cls()
        for batch in database.batches(file_nos):
            counts._add(connection, batch)
        return counts

    def _add(self, connection: Connection, file_nos: Sequence[int]) -> None:
        accepted = ledger_entries.c.bucket == Bucket.ACCEPTED
        self.accepted.update(_sums(connection, ledger_entries, file_nos, accepted))
        self.present.update(_sums(connection, lake_file_inputs, file_nos, _counting(*_FOOTED)))
        self.copies.update(_sums(connection, lake_file_inputs, file_nos, _counting(*(HELD + part for part in _FOOTED))))
        self.left.update(_sums(connection, row_ends, file_nos, _ended(*_LEFT)))
        self.held.update(_sums(connection, row_ends, file_nos, _ended("held")))
        self.held.subtract(_sums(connection, row_ends, file_nos, _ended("unheld")))

    def accounted(self, n: int) -> str:
        """Return where the rows of an input file are, whose counts do not foot."""
        where = f"{self.present[n]} are present and {self.left[n]} left"
        return f"input file {n}: {self.accepted[n]} rows were accepted, but {where}"

    def trouble(self, n: int) -> str:
        """Return what is wrong with an input file's counts, "" for nothing."""
        if self.accepted[n] != self.present[n] + self.left[n]:
            return self.accounted(n)
        if self.copies[n] < self.held[n]:
            return f"input file {n}: {self.held[n]} rows are held, but {self.copies[n]} copies of them are there"
        return ""


def _counting(*views: str) -> ColumnElement[bool]:
    files = select(lake_files.c.file_id).where(lake_files.c.view.in_(views), lake_files.c.superseded_at.is_(None))
    return lake_file_inputs.c.file_id.in_(files)


def _ended(*ends: str) -> ColumnElement[bool]:
    return and_(row_ends.c.view.in_(("assurance", *_FOOTED)), row_ends.c.end.in_(ends))


def _sums(connection: Connection, table: Any, file_nos: Sequence[int], where: ColumnElement[bool]) -> dict[int, int]:
    """Sum rows by input file."""
    query = select(table.c.file_no, func.sum(table.c.rows).label("rows")).where(table.c.file_no.in_(file_nos), where)
    return {row.file_no: int(row.rows) for row in connection.execute(query.group_by(table.c.file_no))}


def _first(names: Sequence[str], noun: str) -> str:
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"{noun} {names[0]}{more}"


def _count(items: Collection[Any], noun: str) -> str:
    return f"{len(items):,} {noun if len(items) == 1 else noun + 's'}"
