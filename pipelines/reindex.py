"""reindex: data files of the row index that are lost or were altered, made again from the archive and the views.

Each date is one transaction: the files made anew are named, and the lost ones count no more. Killed anywhere, what was
written and not named is removed as any run's leftovers are, and the next run finds the same files lost.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
from sqlalchemy import Connection

from callward import audit, database, runs, workspace_id
from callward.columns import has_value
from callward.disposal import purge
from callward.errors import Problem
from callward.failpoints import point
from callward.lake import ledger, row_index
from callward.lake.conflicts import retry_on_conflict
from callward.lake.data_files import DataFiles, open_files
from callward.lake.ledger import Changes, CommitConflict, DataFile
from callward.settings import Settings
from pipelines import terminal
from pipelines.archived import Archived
from pipelines.results import Part, Result, Rows, fields_of
from pipelines.vacuum import remove_orphans
from schemas.views import INDEX, STORED
from transforms.identify import identify
from transforms.in_views import InViews
from transforms.read import read
from transforms.read_records import read_records
from transforms.reindex import Lost, Reindexed, concerning, reindex
from transforms.validate import separate

ROLE: Final = "billing-run"
_REASON: Final = "rebuild --index"
_NAMED: Final = 5  # input files that a sentence names at most
Progress = Callable[[str], None]


@dataclass(frozen=True)
class IndexFile:
    """A data file of the index that cannot be read: how many records it had, and what is done; or why it is not."""

    tenant: str
    call_date: str
    file_id: str
    rows: int
    rebuilt: bool
    why: str


@dataclass
class RebuiltIndex(Result):
    """Data files of the index that could not be read, and which of them were made again, or would be."""

    dry_run: bool
    run_id: str = ""
    checked: int = 0
    files: list[IndexFile] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Return how many files could not be made again."""
        return sum(not file.rebuilt for file in self.files)

    @property
    def exit_code(self) -> int:
        """Return 3 where a file could not be made again, else 0."""
        return 3 if self.left else 0

    def to_dict(self) -> dict[str, Any]:
        return fields_of(self)

    def render(self) -> Iterator[Part]:
        if self.files:
            yield from Rows(self.files, "Would be made again" if self.dry_run else "Made again").render()
        else:
            yield f"all {terminal.count(self.checked, 'data file')} of the row index can be read"

    def warnings(self) -> Iterator[str]:
        if self.left:
            lost = terminal.count(self.left, "data file")
            yield f"{lost} of the row index cannot be made again; put them back from a backup"


def rebuild_index(
    settings: Settings,
    *,
    tenant: str | None = None,
    call_date: str | None = None,
    dry_run: bool = False,
    progress: Progress = lambda line: None,
) -> RebuiltIndex:
    """Read every data file of the row index, of one tenant or date (ISO) where given, and make again what is lost.

    Raises Problem while a purge is under way, or where others commit to a date again and again.
    """
    workspace_id.check(settings)
    done = RebuiltIndex(dry_run)
    if dry_run:
        _rebuild(settings, "read", done, (tenant, call_date), progress)
        return done
    with runs.running(settings, "rebuild", ["index", "purge"]) as run_id:
        done.run_id = run_id
        remove_orphans(settings)
        _rebuild(settings, run_id, done, (tenant, call_date), progress)
        runs.finish(settings, run_id, "done", done.to_dict())
    return done


def _rebuild(
    settings: Settings, run_id: str, done: RebuiltIndex, only: tuple[str | None, str | None], progress: Progress
) -> None:
    with database.reading(settings) as connection:
        _require_no_purge(connection)
        files = ledger.files(connection, view=INDEX, tenant=only[0], parts=only[1] and [only[1]])
    dates = sorted({(file.tenant, file.part) for file in files})
    done.checked = len(files)
    for tenant, part in dates:

        def attempt(_: int, tenant: str = tenant, part: str = part) -> list[IndexFile]:
            return _date(open_files(settings, ROLE, _REASON, run_id), tenant, part, done.dry_run, progress)

        clear = (lambda: None) if done.dry_run else (lambda: remove_orphans(settings, over={run_id}))
        done.files += retry_on_conflict(attempt, also=(FileNotFoundError,), on_conflict=clear)


def _require_no_purge(connection: Connection) -> None:
    """Raise Problem while a purge has let files count no more and not ended: they may count again, or must go."""
    if purge.under_way(connection):
        raise Problem("a purge is under way: 'callward purge' brings it to its end, then run this again")


# -- one date --------------------------------------------------------------------------------------------------------


def _date(files: DataFiles, tenant: str, part: str, dry_run: bool, progress: Progress) -> list[IndexFile]:
    """Make again what a tenant's date has lost. Raises CommitConflict where another changed the date meanwhile."""
    with database.reading(files.workspace.settings) as connection:
        committed = [f for f in ledger.files(connection, tenant=tenant, parts=[part]) if f.view in STORED]
    index = [file for file in committed if file.view == INDEX]
    faults = {file.file_id: fault for file in index if (fault := row_index.fault(files, file))}
    if not faults:
        return []
    progress(f"{tenant} {part}: {len(faults)} of {terminal.count(len(index), 'data file')} of the row index are lost")
    lost = _lost(files, tenant, part, [file for file in index if file.file_id in faults])
    surviving = [file for file in index if file.file_id not in faults]
    archive = _archived(files, index)
    records = list(_records(archive, lost))
    made = reindex(records, lost, surviving, InViews.of(files, committed), files)
    whys = _whys(lost, made, archive)
    if not dry_run and len(whys) < len(lost.files):
        _commit(files, lost, made, committed, leave=whys)
    return [
        IndexFile(tenant, part, file.file_id, file.rows, file.file_id not in whys, whys.get(file.file_id, ""))
        for file in lost.files
    ]


def _lost(files: DataFiles, tenant: str, part: str, lost: Sequence[DataFile]) -> Lost:
    return Lost(tenant, part, lost, {file.file_id: files.inputs(file) for file in lost})


def _whys(lost: Lost, made: Reindexed, archive: Archived) -> dict[str, str]:
    """Return why lost files cannot be made again, by id."""
    whys = {}
    for file_id, numbers in made.differ.items():
        gone = [number for number in numbers if number in archive.missing]
        why = archive.missing[gone[0]] if gone else "their records are read otherwise now"
        named = gone or numbers
        some = ", ".join(map(str, named[:_NAMED])) + ", …" * (len(named) > _NAMED)
        whys[file_id] = f"{terminal.count(len(named), 'input file')} ({some}): {why}"
    if made.unknown and not whys:
        why = f"{terminal.count(made.unknown, 'row')} of the views are of records that the archive does not have so"
        return {file.file_id: why for file in lost.files}
    # What a record of a file that stays lost was, decides what its repetitions in others are.
    stay = [file for file in lost.files if file.file_id in whys]
    for file in lost.files:
        if any(file.overlaps(other.shard_bits, other.shard) for other in stay):
            whys.setdefault(file.file_id, "another file of its shard cannot be made again")
    return whys


def _commit(
    files: DataFiles, lost: Lost, made: Reindexed, committed: Sequence[DataFile], leave: Mapping[str, str]
) -> None:
    """Write and name what was made again in the place of what was lost, in one transaction."""
    changes = Changes()
    for file in (file for file in lost.files if file.file_id not in leave):
        place = INDEX, lost.tenant, lost.part
        rows, inputs = made.rows[file.file_id], lost.inputs[file.file_id]
        changes.files.append(files.write_view(*place, rows, inputs, file.shard_bits, file.shard, file.received_on))
        changes.superseded[file.file_id] = lost.tenant, lost.part
    with database.writing(files.workspace.settings) as connection:
        point("index-begun")
        _require_no_purge(connection)
        now = ledger.files(connection, tenant=lost.tenant, parts=[lost.part])
        if {file.file_id for file in now if file.view in STORED} != {file.file_id for file in committed}:
            raise CommitConflict
        runs.renew(connection, files.run_id)
        ledger.swap_files(connection, files.run_id, changes)
        ledger.raise_versions(connection, [(lost.tenant, lost.part)])  # second records are looked for again
        made_again = terminal.count(len(changes.files), "data file")
        entry = audit.Entry(ROLE, "index-rebuilt", f"{lost.tenant} {lost.part} {files.run_id}", made_again)
        audit.append(connection, [entry])
        point("index-ready")
    point("index-committed")


# -- the archive -----------------------------------------------------------------------------------------------------


def _archived(files: DataFiles, index: Sequence[DataFile]) -> Archived:
    """Return the blocks of all input files of a date's index: a call may have pieces and legs in several."""
    with database.reading(files.workspace.settings) as connection:
        file_nos = ledger.inputs(connection, [file.file_id for file in index])
    return Archived.of(files, file_nos)


def _records(archive: Archived, lost: Lost) -> Iterator[pa.Table]:
    """Yield the records of a lost date (schema CDR) that are read again, block by block."""
    for chunk in archive.chunks():
        rows = _read(archive.files, chunk, lost)
        if rows is not None and rows.num_rows:
            yield rows


def _read(files: DataFiles, chunk: pa.Table, lost: Lost) -> pa.Table | None:
    workspace = files.workspace
    records, _ = read(chunk, files, archive=False)
    if records is None or not records.num_rows:
        return None
    now_ms = int(database.now().timestamp() * 1000)
    sound = separate(read_records(records, workspace, now_ms), workspace).sound
    mine = sound.filter(has_value(sound["tenant"], lost.tenant)).replace_schema_metadata(sound.schema.metadata)
    if not mine.num_rows:
        return None
    source = workspace.settings.source(chunk["source"][0].as_py())
    return concerning(identify(mine, source, lost.tenant, workspace), lost.day)
