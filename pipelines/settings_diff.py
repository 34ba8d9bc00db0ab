"""settings diff: what changed between the settings that records were read under and those of today.

A change of what decides how records are read leaves committed rows as they are: it is named with the sources whose rows
it would alter, how many of their files and records, and the command that reads these again.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path as File
from typing import Any, Final

from sqlalchemy import Connection, func, select

from callward import database, in_force, sources
from callward.errors import UsageProblem
from callward.in_force import HASHED, Content, parsed
from callward.redaction import mask
from callward.settings import Settings, load
from callward.settings.effects import DECLARATION, ITEMS, Effect, Path, effect
from callward.settings.toml import written
from callward.standing import Alarm
from callward.streaming.blocks import TOPIC
from callward.workspace import Workspace, WorkspaceRef, open_workspace
from pipelines import terminal
from pipelines.corrections.correction import ROLE
from pipelines.named_files import WITHDRAWN
from schemas.retention import lake_file_inputs
from schemas.tables import blocks, input_files, lake_files, runs, settings_in_force
from schemas.views import INDEX

_WITH_ROWS: Final = (INDEX, "pending", "suspense")
_EACH: Final = 3  # more items of one kind that changed alike are counted
_NOT_THERE: Final = object()
Change = tuple[Any, Any]  # before, now

TAKES_EFFECT: Final[Mapping[Effect, str]] = {
    Effect.ROWS: "with the next night; there are no rows that it would alter",
    Effect.SET_ASIDE: "with the next night; no file was set aside",
    Effect.NEXT: "with the next night, purge or command; for a stream at its next start",
    Effect.RESTART: "at the next start of the stream, or of callward receive",
    Effect.PLACE: "at once; what lies at the former place is not moved",
}


@dataclass(frozen=True)
class RowChange:
    """A setting that rows of a source were written under otherwise than it is now, and how many files came in so.

    `before` and `now` are as TOML has them; "" where they are not shown.
    """

    source: str
    setting: str
    before: str
    now: str
    files: int
    records: int
    first: date
    last: date


@dataclass(frozen=True)
class OtherChange:
    """A setting that changed and alters no row."""

    setting: str
    before: str
    now: str
    takes_effect: str


@dataclass(frozen=True)
class Differences:
    """What changed since a run: what committed rows would be otherwise by, with the commands that read them again."""

    run_id: str = ""  # whose settings those of today are compared with; "" where none has read records
    read_at: datetime | None = None
    code_version: str = ""
    rows: list[RowChange] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    others: list[OtherChange] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Read:
    """Files of a source with rows in the lake that were read alike: under which settings, set aside, by a topic."""

    source: str
    settings_id: str
    topic: bool
    set_aside: bool
    files: int
    records: int
    first: datetime
    last: datetime


def diff(settings: Settings, other: File | None = None, since: str | None = None) -> Differences:
    """Return what changed between the settings that records were read under and those of today.

    `other`: a file of settings that is looked at in their place. `since`: a run; what was read before it is left out.
    Raises UsageProblem for a run that read nothing, and for settings or declarations that are wrong.
    """
    workspace = open_workspace(WorkspaceRef.of(settings, ROLE, "settings diff"))
    wanted = settings if other is None else load(other).model_copy(update={"path": settings.path})
    with database.reading(settings) as connection:
        run = _run(connection, since)
        if run is None:
            return Differences()
        renamed = sources.current_names(connection)
        then = _content(connection, run.settings_id, renamed)
        now = in_force.content(Workspace(workspace.reference, wanted), workspace.keyring)
        changes = _altered(connection, now, renamed, run.started_at if since else None)
        found = list(_rows(changes))
        said = {path for paths in changes.values() for path in paths}
        others = [(path, change) for path, change in _changed(then, now).items() if path not in said]
        commands = list(_commands(connection, Workspace(workspace.reference, wanted), changes))
    notes = list(_notes(changes))
    told = [OtherChange(_words(path), *_shown(change), TAKES_EFFECT[effect(path)]) for path, change in others]
    return Differences(run.run_id, run.started_at, run.code_version, found, commands, told, notes)


def since_last(workspace: Workspace, connection: Connection, run_id: str) -> Iterator[Alarm]:
    """Yield an alarm where settings that changed since the last night or stream would alter committed rows."""
    r = runs.c
    mine = connection.execute(select(runs).where(r.run_id == run_id)).one()
    earlier = select(r.settings_id).where(r.settings_id.is_not(None), r.started_at < mine.started_at)
    last = connection.execute(earlier.order_by(r.started_at.desc(), r.run_id).limit(1)).scalar()
    if last in (None, mine.settings_id):
        return
    renamed = sources.current_names(connection)
    then, now = (_content(connection, settings_id, renamed) for settings_id in (last, mine.settings_id))
    fresh = _changed(then, now).keys()
    changes = _altered(connection, now, renamed, None)
    names = sorted({read.source for read, paths in changes.items() if fresh & paths.keys()})
    if names:
        records = sum(read.records for read, paths in changes.items() if fresh & paths.keys())
        seen = f"settings changed, and {terminal.count(records, 'record')} that came before would be read otherwise"
        yield Alarm("", "settings", f"{', '.join(names)}: {seen}: see 'callward settings diff'", must_look=False)


# -- what was read under which settings --------------------------------------------------------------------------------


def _run(connection: Connection, since: str | None) -> Any:
    """Return the run whose settings those of today are compared with: the last that read records, or `since`."""
    r = runs.c
    query = select(runs).where(r.settings_id.is_not(None))
    if since is None:
        return connection.execute(query.order_by(r.started_at.desc(), r.run_id).limit(1)).first()
    row = connection.execute(query.where(r.run_id == since)).first()
    if row is None:
        raise UsageProblem(f"no run {mask(since)} has read records: 'callward status' lists nights and streams")
    return row


def _content(connection: Connection, settings_id: str, renamed: Mapping[str, str]) -> dict[Path, Any]:
    """Return settings as they were kept, each source under its name of today."""
    s = settings_in_force.c
    text = connection.execute(select(s.content).where(s.settings_id == settings_id)).scalar_one()
    return {_under_name(path, renamed): value for path, value in parsed(text).items()}


def _under_name(path: Path, renamed: Mapping[str, str]) -> Path:
    if path[0] != "sources" or path[1] not in renamed:
        return path
    return (path[0], renamed[path[1]], *path[2:])


def _read(connection: Connection, since: datetime | None) -> Iterator[_Read]:
    """Yield what has rows in the lake by source and settings; `since` leaves out what earlier runs read."""
    i, b, f, r = input_files.c, blocks.c, lake_files.c, runs.c
    counted = select(lake_file_inputs.c.file_no).join(lake_files, f.file_id == lake_file_inputs.c.file_id)
    counted = counted.where(f.superseded_at.is_(None), f.view.in_(_WITH_ROWS), lake_file_inputs.c.rows > 0)
    kinds = (i.source, r.settings_id, i.path_form, i.set_aside)
    sums = (func.count(i.file_no.distinct()), func.sum(b.records), func.min(i.seen_at), func.max(i.seen_at))
    query = select(*kinds, *sums).join(blocks, b.file_no == i.file_no).join(runs, r.run_id == b.committed_by)
    query = query.where(i.file_no.in_(counted), i.status != WITHDRAWN, r.settings_id.is_not(None))
    if since is not None:
        query = query.where(r.started_at >= since)
    for source, settings_id, form, set_aside, files, records, first, last in connection.execute(query.group_by(*kinds)):
        yield _Read(source, settings_id, form == TOPIC, set_aside, int(files), int(records or 0), first, last)


def _altered(
    connection: Connection, now: Content, renamed: Mapping[str, str], since: datetime | None
) -> dict[_Read, dict[Path, Change]]:
    """Return what was read under other settings, with the changes that would alter its rows (none for the rest)."""
    every = list(_read(connection, since))
    before = {of: _content(connection, of, renamed) for of in {read.settings_id for read in every}}
    changes = {of: _changed(then, now) for of, then in before.items()}
    return {
        read: {
            path: change
            for path, change in changes[read.settings_id].items()
            if _alters(path, read) and _concerns(path, read.source, before[read.settings_id], now)
        }
        for read in every
        if ("sources", read.source, "name") in now
    }


def _alters(path: Path, read: _Read) -> bool:
    does = effect(path)
    return does is Effect.ROWS or (does is Effect.SET_ASIDE and read.set_aside)


def _concerns(path: Path, source: str, before: Content, now: Content) -> bool:
    """Return whether a setting decides anything of a source's records."""
    if path[0] == "sources":
        return path[1] == source
    if path[0] not in ("tenants", "accounts"):
        return True
    tenants = {of.get(("sources", source, "tenant")) for of in (before, now)}
    rules = ("tenant_field", "tenant_by")
    several = any(of.get(("sources", source, rule)) for of in (before, now) for rule in rules)
    return several or path[1] in tenants


def _changed(before: Content, now: Content) -> dict[Path, Change]:
    """Return the settings that differ; a source, trunk, account or tenant that is new or gone is one of them."""
    items = [{_item(path) for path in of} for of in (before, now)]
    changes: dict[Path, Change] = {}
    for path in [*before, *(path for path in now if path not in before)]:
        item, change = _item(path), (before.get(path, _NOT_THERE), now.get(path, _NOT_THERE))
        if item is not None and (item in items[0]) != (item in items[1]):
            changes[item] = (_NOT_THERE, item[-1]) if item in items[1] else (item[-1], _NOT_THERE)
        elif change[0] != change[1]:
            changes[path] = change
    return changes


def _item(path: Path) -> Path | None:
    size = ITEMS.get(path[0])
    return None if size is None else path[:size]


# -- as a person reads it ----------------------------------------------------------------------------------------------


def _rows(changes: Mapping[_Read, Mapping[Path, Change]]) -> Iterator[RowChange]:
    """Yield each change with what was read under it, by source; where many of one kind changed alike, their number."""
    reads: dict[tuple[str, str, str, str], list[_Read]] = defaultdict(list)
    for read, paths in changes.items():
        for line in _lines(paths):
            reads[read.source, *line].append(read)
    for (source, setting, before, now), every in sorted(reads.items(), key=lambda item: item[0]):
        files, records = sum(read.files for read in every), sum(read.records for read in every)
        first, last = min(read.first for read in every).date(), max(read.last for read in every).date()
        yield RowChange(source, setting, before, now, files, records, first, last)


def _lines(paths: Mapping[Path, Change]) -> Iterator[tuple[str, str, str]]:
    """Yield (setting, before, now) for changes; more than a few of one kind in one line."""
    kinds: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        kinds[_kind(path)].append(path)
    for same in kinds.values():
        if len(same) <= _EACH:
            yield from ((_words(path), *_shown(paths[path])) for path in same)
        else:
            yield f"{_words(same[0])} and {len(same) - 1:,} more like it", "", ""


def _kind(path: Path) -> Path:
    if path[0] == "sources" and DECLARATION in path[2:3]:
        return path[:3]
    size = ITEMS.get(path[0])
    return path if size is None or path[0] == "sources" else (path[0], *path[size:])


def _words(path: Path) -> str:
    """Return where a setting stands as a person finds it."""
    if path[0] == "tenants" or path[0] not in ITEMS:
        return ".".join(path)
    size = ITEMS[path[0]]
    name = f"[[{path[0]}]] {path[-1] if len(path) < size else path[size - 1]}"
    rest = path[size:]
    if rest[:1] == (DECLARATION,):
        return f"{name}, declaration {'.'.join(rest[1:])}"
    return f"{name}, {'.'.join(rest)}" if rest else name


def _shown(change: Change) -> tuple[str, str]:
    before, now = (_text(value) for value in change)
    return before, now


def _text(value: Any) -> str:
    if value is _NOT_THERE or value is None:
        return "-"
    if isinstance(value, str) and value.startswith(HASHED):
        return ""
    return written(value) if isinstance(value, bool | int | float) else mask(written(value))


# -- what reads it again -----------------------------------------------------------------------------------------------


def _commands(
    connection: Connection, wanted: Workspace, changes: Mapping[_Read, Mapping[Path, Change]]
) -> Iterator[str]:
    """Yield a command for each source: of all its files, or of the days on which those came in that it concerns."""
    for name in sorted({read.source for read, paths in changes.items() if paths}):
        mine = {read: paths for read, paths in changes.items() if read.source == name and not read.topic}
        old = [read for read, paths in mine.items() if paths]
        if old:
            whole = len(old) == len(mine) or _decides_identity(connection, wanted, name)
            yield f"callward reprocess --source {name}{'' if whole else _days(old)}"


def _decides_identity(connection: Connection, wanted: Workspace, name: str) -> bool:
    """Return whether what changed decides identity or date of a source's records: then all are read again."""
    known, source = sources.find(connection, name), wanted.settings.source(name)
    return known is not None and bool(sources.change(known.generations[-1].generation, wanted.generations(source)))


def _days(reads: Iterable[_Read]) -> str:
    every = list(reads)
    return f" --from {min(read.first for read in every).date()} --to {max(read.last for read in every).date()}"


def _notes(changes: Mapping[_Read, Mapping[Path, Change]]) -> Iterator[str]:
    topics: Sequence[str] = sorted({read.source for read, paths in changes.items() if paths and read.topic})
    for name in topics:
        yield f"{name}: what came through a topic cannot be read again: only files are kept in the archive"
