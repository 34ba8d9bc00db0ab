"""The register of sources: each one's uid for life, its names, and its generations by number.

A record's id is made of its raw identity, the uid of its source and the number of the source's generation; so neither
a new name nor a corrected zone gives an old record a new id unseen.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, exists, insert, select, update

from callward import database
from callward.errors import Problem, UsageProblem
from schemas.generation import Generation
from schemas.retention import lake_file_inputs, suppressions
from schemas.tables import (
    blocks,
    feed_states,
    input_files,
    lake_files,
    source_generations,
    source_names,
    source_shares,
    sources,
    standing_alarms,
)
from schemas.views import INDEX

FIRST: Final = 1  # the number of a source's first generation

Declared = Sequence[Generation]  # as a source's declaration says today, then as its earlier versions did


@dataclass(frozen=True)
class Numbered:
    """A generation and its number."""

    number: int
    generation: Generation


@dataclass(frozen=True)
class SourceIdentity:
    """What the ids of a source's records are made with, and the earlier generations whose rows may be in the lake."""

    uid: str
    now: Numbered
    earlier: tuple[Numbered, ...] = ()


@dataclass(frozen=True)
class RegisteredSource:
    """A source as the register knows it."""

    uid: str
    name: str
    former_names: tuple[str, ...]
    generations: tuple[Numbered, ...]


@dataclass(frozen=True)
class SourceProblem:
    """Why records of a source may not be taken in, and what to do."""

    name: str
    seen: str
    fix: str


# -- what the register says ------------------------------------------------------------------------------------------


def find(connection: Connection, name: str) -> RegisteredSource | None:
    """Return the source that has or had a name; None for one that is new."""
    uid = select(source_names.c.uid).where(source_names.c.name == name).scalar_subquery()
    row = connection.execute(select(sources).where(sources.c.uid == uid)).first()
    return None if row is None else _registered(connection, row)


def every(connection: Connection) -> list[RegisteredSource]:
    """Return all sources, by name."""
    rows = connection.execute(select(sources).order_by(sources.c.name)).all()
    return [_registered(connection, row) for row in rows]


def _registered(connection: Connection, row: Any) -> RegisteredSource:
    names = select(source_names.c.name).where(source_names.c.uid == row.uid).order_by(source_names.c.name)
    former = tuple(name for name in connection.execute(names).scalars() if name != row.name)
    return RegisteredSource(row.uid, row.name, former, _generations(connection, row.uid))


def _generations(connection: Connection, uid: str) -> tuple[Numbered, ...]:
    g = source_generations.c
    rows = connection.execute(select(g.number, g.rule).where(g.uid == uid).order_by(g.number))
    return tuple(Numbered(row.number, Generation.model_validate_json(row.rule)) for row in rows)


def identity(
    connection: Connection, name: str, today: Generation, searched: dict[tuple[str, int], tuple[Numbered, ...]]
) -> SourceIdentity:
    """Return what a source's ids are made with; of one that is not registered yet, what they will be.

    `searched` remembers earlier generations by uid and number: none of them gains rows any more.
    """
    known = find(connection, name)
    if known is None:
        return SourceIdentity(name, Numbered(FIRST, today))
    now = known.generations[-1]
    key = known.uid, now.number
    if key not in searched:
        searched[key] = _with_rows(connection, known)
    return SourceIdentity(known.uid, now, searched[key])


def _with_rows(connection: Connection, known: RegisteredSource) -> tuple[Numbered, ...]:
    """Return the earlier generations from the first that has rows on; all of them where persons had records erased.

    A record that was suspended under one generation may have come into the lake under any later one.
    """
    before = known.generations[:-1]
    if before and connection.execute(select(suppressions.c.record).limit(1)).first() is not None:
        return before
    first = next((at for at, item in enumerate(before) if has_rows(connection, known, item.number)), len(before))
    return before[first:]


def number(connection: Connection, name: str) -> int:
    """Return the number of a source's generation now."""
    known = find(connection, name)
    return FIRST if known is None else known.generations[-1].number


def names_of(connection: Connection, name: str) -> list[str]:
    """Return every name that a source has or had."""
    known = find(connection, name)
    return [name] if known is None else [known.name, *known.former_names]


def current_names(connection: Connection) -> dict[str, str]:
    """Return former name → present name, of sources that were renamed."""
    s, n = sources.c, source_names.c
    rows = connection.execute(select(n.name, s.name.label("now")).join(sources, s.uid == n.uid).where(n.name != s.name))
    return {row.name: row.now for row in rows}


def has_rows(connection: Connection, source: RegisteredSource, number: int | None = None) -> bool:
    """Return whether records of a source (that came in under one generation of it) are in the lake, or wait there."""
    i, f, b = lake_file_inputs.c, lake_files.c, blocks.c
    rows = select(f.file_id).join(lake_file_inputs, i.file_id == f.file_id)
    rows = rows.join(input_files, input_files.c.file_no == i.file_no).where(
        f.superseded_at.is_(None), f.view.in_((INDEX, "pending")), i.rows > 0, input_files.c.source == source.name
    )
    if number is not None:
        of_generation = (b.file_no == i.file_no) & (b.generation == number) & b.committed_by.is_not(None)
        rows = rows.where(exists(select(b.block).where(of_generation)))
    return connection.execute(rows.limit(1)).first() is not None


def has_begun(connection: Connection, source: RegisteredSource) -> bool:
    """Return whether files of a source were begun by a run and are not read to their end."""
    b, other = blocks.c, blocks.alias()
    sibling = exists(select(other.c.block).where(other.c.file_no == b.file_no, other.c.committed_by.is_not(None)))
    open_ones = select(b.block).join(input_files, input_files.c.file_no == b.file_no)
    open_ones = open_ones.where(input_files.c.source == source.name, input_files.c.status == "reading")
    open_ones = open_ones.where(b.committed_by.is_(None), b.registered_at.is_not(None) | sibling)
    return connection.execute(open_ones.limit(1)).first() is not None


def earlier_files(connection: Connection, name: str) -> ColumnElement[bool]:
    """Return the condition of data files (lake_files) with rows of a source that came in under another generation."""
    i, b = lake_file_inputs.c, blocks.c
    before: Select[Any] = select(i.file_id).join(input_files, input_files.c.file_no == i.file_no)
    before = before.join(blocks, b.file_no == i.file_no).where(
        input_files.c.source == name, b.generation < number(connection, name)
    )
    return lake_files.c.file_id.in_(before)


# -- what may be taken in ----------------------------------------------------------------------------------------------


def problems(
    connection: Connection, present: Sequence[str], declared: Mapping[str, Declared]
) -> Iterator[SourceProblem]:
    """Yield why records of sources may not be taken in.

    `present`: the names in the settings; `declared`: of the sources that are asked for.
    """
    for name, generations in declared.items():
        known = find(connection, name)
        problem = (
            _of_new(connection, present, name) if known is None else _of_known(connection, known, name, generations)
        )
        if problem is not None:
            yield problem


def _of_new(connection: Connection, present: Sequence[str], name: str) -> SourceProblem | None:
    gone = [source.name for source in every(connection) if source.name not in present and has_rows(connection, source)]
    if not gone:
        return None
    seen = f"it is new, and {gone[0]}, whose records are in the lake, is no longer in the settings"
    rename, add = f"callward sources rename {gone[0]} {name}", f"callward sources add {name}"
    return SourceProblem(name, seen, f"if it is the same source: {rename}; if it is another: {add}")


def _of_known(
    connection: Connection, known: RegisteredSource, name: str, generations: Declared
) -> SourceProblem | None:
    if known.name != name:
        fix = f"write {known.name} in the settings, and give a new source a name that none had"
        return SourceProblem(name, f"this source is called {known.name} now", fix)
    what = _change(known, generations)
    if not what or not (has_rows(connection, known) or has_begun(connection, known)):
        return None
    seen = f"{what} changed, and records that were read before are in the lake: sent again, they would count twice"
    return SourceProblem(
        name,
        seen,
        f"put it back, have all of them read again so: callward reprocess --source {name}, "
        f"or new files alone: callward sources accept {name} --from-now",
    )


def _change(known: RegisteredSource, generations: Declared) -> str:
    return change(known.generations[-1].generation, generations)


def change(now: Generation, generations: Declared) -> str:
    """Return what of a source decides otherwise than its generation `now`; "" where one of those declared is equal."""
    differences = [generation.difference(now) for generation in generations]
    return differences[0] if all(differences) else ""


def enter(connection: Connection, present: Sequence[str], declared: Mapping[str, Declared]) -> None:
    """Register sources that are new, and generations of those that have no records yet, before records are taken in.

    Raises UsageProblem with the first thing that must not be.
    """
    for problem in problems(connection, present, declared):
        raise UsageProblem(f"source {problem.name}: {problem.seen}", hint=problem.fix)
    for name, generations in declared.items():
        known = find(connection, name)
        if known is None:
            add(connection, name, generations)
        elif _change(known, generations):
            _begin(connection, known, generations[0])


def add(connection: Connection, name: str, declared: Declared) -> None:
    """Register a source that is new. Raises UsageProblem for a name that one has or had."""
    known = find(connection, name)
    if known is not None:
        raise UsageProblem(
            f"source {known.name} is registered already{f', and was called {name}' * (known.name != name)}"
        )
    connection.execute(insert(sources).values(uid=name, name=name, registered_at=database.now()))
    connection.execute(insert(source_names).values(name=name, uid=name))
    _insert(connection, name, FIRST, declared[0])


def accept(connection: Connection, name: str, declared: Declared) -> int:
    """Let a source's new files be read as its declaration and zone say now; return the number of its new generation.

    Raises UsageProblem where nothing changed, Problem while files are begun that were not read to their end.
    """
    known = require(connection, name)
    if not _change(known, declared):
        raise UsageProblem(f"source {name}: nothing that decides a record's identity or date has changed")
    _require_ended(connection, known)
    return _begin(connection, known, declared[0])


def rename(connection: Connection, old: str, new: str) -> None:
    """Give a source another name.

    Raises UsageProblem where there is no such source or the name is another's, Problem while files are begun.
    """
    known = require(connection, old)
    taken = find(connection, new)
    if taken is not None and taken.uid != known.uid:
        raise UsageProblem(f"{new} is or was the name of source {taken.name}: choose one that none had")
    _require_ended(connection, known)
    connection.execute(update(sources).where(sources.c.uid == known.uid).values(name=new))
    if taken is None:
        connection.execute(insert(source_names).values(name=new, uid=known.uid))
    for table in (input_files, source_shares, feed_states, standing_alarms):
        connection.execute(update(table).where(table.c.source == old).values(source=new))


def require(connection: Connection, name: str) -> RegisteredSource:
    """Return the source of a name. Raises UsageProblem where none is registered under it, or it has another by now."""
    known = find(connection, name)
    if known is None:
        raise UsageProblem(f"no source {name!r} is registered: one is with its first night ('callward sources list')")
    if known.name != name:
        raise UsageProblem(f"source {name} is called {known.name} now")
    return known


def _require_ended(connection: Connection, known: RegisteredSource) -> None:
    if has_begun(connection, known):
        fix = "with the settings as they were, run 'callward nightly' (or the stream) until they are"
        raise Problem(f"source {known.name}: files that a run has begun are not read to their end", hint=fix)


def _begin(connection: Connection, known: RegisteredSource, generation: Generation) -> int:
    number = known.generations[-1].number + 1
    _insert(connection, known.uid, number, generation)
    return number


def _insert(connection: Connection, uid: str, number: int, generation: Generation) -> None:
    row = {"uid": uid, "number": number, "rule": generation.model_dump_json(), "began_at": database.now()}
    connection.execute(insert(source_generations).values(**row))
