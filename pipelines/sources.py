"""sources: what the register knows of each source, and its changes: a name, a new generation, a source that is new."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from callward import audit, database, runs, sources
from callward.errors import Problem, UsageProblem
from callward.settings import Settings
from callward.sources import Declared, RegisteredSource
from callward.workspace import Workspace, WorkspaceRef
from pipelines.results import Part, Result

ROLE = "ops"


@dataclass(frozen=True)
class ListedSource:
    """A source by its name now: its uid, earlier names, generations, and whether its records are in the lake."""

    source: str
    uid: str
    former_names: str
    generation: int
    began_with: str
    in_settings: bool
    has_records: bool


@dataclass(frozen=True)
class SourceChange(Result):
    """What was changed of a source, or would be, in a sentence; and what a person does next."""

    source: str
    change: str
    dry_run: bool
    next_steps: Sequence[str] = ()

    def render(self) -> Iterator[Part]:
        yield f"source {self.source}: {'would be ' if self.dry_run else ''}{self.change}"
        yield from self.next_steps


def listed(settings: Settings) -> list[ListedSource]:
    """Return every source that is registered."""
    present = {source.name for source in settings.sources}
    with database.reading(settings) as connection:
        return [_listed(connection, source, present) for source in sources.every(connection)]


def _listed(connection: Connection, source: RegisteredSource, present: set[str]) -> ListedSource:
    now = source.generations[-1]
    zone = now.generation.zone or "no local times"
    rows = sources.has_rows(connection, source)
    former = ", ".join(source.former_names)
    return ListedSource(source.name, source.uid, former, now.number, zone, source.name in present, rows)


def add(settings: Settings, name: str, *, dry_run: bool = False) -> SourceChange:
    """Register a source of the settings as a new one, beside one that is no longer in them.

    Raises UsageProblem where there is no such source in the settings, or it is registered.
    """
    declared = _declared(settings, name)
    with _changing(settings, [name], dry_run) as connection:
        sources.add(connection, name, declared)
        _record(connection, "source add", name)
    return SourceChange(name, "registered as a source of its own", dry_run)


def accept(settings: Settings, name: str, *, dry_run: bool = False) -> SourceChange:
    """Let new files of a source be read by its declaration and zone as they are now; what is there stays as it is.

    Raises UsageProblem where nothing changed, Problem while files are begun that were not read to their end.
    """
    declared = _declared(settings, name)
    with _changing(settings, [name], dry_run) as connection:
        number = sources.accept(connection, name, declared)
        _record(connection, "source generation", f"{name} {number}")
    later = "records that were read before keep their dates; sent again, they are found there and count once"
    return SourceChange(name, f"read as generation {number} from now on", dry_run, [later])


def rename(settings: Settings, old: str, new: str, *, dry_run: bool = False) -> SourceChange:
    """Give a source another name, before or after it is written in the settings; its landing folder must be empty.

    Raises UsageProblem for names that cannot be, Problem while files of it wait or are begun.
    """
    present = {source.name for source in settings.sources}
    if len({old, new} & present) != 1:
        state = "both" if {old, new} <= present else "neither"
        raise UsageProblem(f"the settings name {state} of {old} and {new}: name one of them, and run this again")
    _require_empty(settings.landing_path / old)
    with _changing(settings, [old, new], dry_run) as connection:
        sources.rename(connection, old, new)
        _record(connection, "source rename", f"{old} {new}")
    if not dry_run:
        _move_folder(settings.landing_path, old, new)
    write = [f"write {new} for {old} in {settings.path.name}, wherever it stands"] if old in present else []
    folder = f"its files are taken from {settings.landing_path / new} from now on"
    return SourceChange(old, f"called {new}", dry_run, [*write, folder])


def _declared(settings: Settings, name: str) -> Declared:
    workspace = Workspace(WorkspaceRef.of(settings, ROLE, "sources"), settings)
    return workspace.generations(settings.source(name))


@contextmanager
def _changing(settings: Settings, names: Sequence[str], dry_run: bool) -> Iterator[Connection]:
    """Open a transaction in which sources change: nothing takes in records of them meanwhile. A dry run leaves none."""
    topics = [topic.name for topic in settings.kafka.topics if set(topic.all_sources) & set(names)]
    leases = [f"source/{name}" for name in names] + [f"kafka/{topic}" for topic in topics]
    with runs.running(settings, "sources", leases) as run_id:
        with database.writing(settings) as connection:
            before = connection.begin_nested()
            yield connection
            before.rollback() if dry_run else before.commit()
        runs.finish(settings, run_id, "done")


def _record(connection: Connection, event: str, subject: str) -> None:
    audit.append(connection, [audit.Entry(ROLE, event, subject, "asked for")])


def _require_empty(folder: Path) -> None:
    if folder.is_dir() and any(path.is_file() for path in folder.rglob("*")):
        raise Problem(f"{folder} still holds files: take them in under that name first ('callward nightly')")


def _move_folder(landing: Path, old: str, new: str) -> None:
    (landing / new).mkdir(parents=True, exist_ok=True, mode=0o750)
    for folder in sorted((landing / old).rglob("*"), reverse=True):
        folder.rmdir()
    if (landing / old).is_dir():
        (landing / old).rmdir()
