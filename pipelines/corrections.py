"""corrections: a wrong delivery backed out, and files read again under the settings of today.

Each commit of a correction is whole: killed anywhere, run again it ends as one clean run.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, func, select

from callward import database, runs, workspace_id
from callward.errors import Problem
from callward.ingest.landing import FILE_ID
from callward.lake.conflicts import retry_on_conflict
from callward.lake.data_files import DataFiles, open_files
from callward.redaction import mask
from callward.retention.requests import restrictions
from callward.settings import Settings
from callward.streaming import blocks as streaming
from pipelines import intake
from pipelines.correction import ROLE, WITHDRAWN, Corrected, Correcting
from pipelines.network_elements import match_all
from pipelines.results import to_document
from pipelines.vacuum import remove_orphans
from schemas.tables import input_files

_LEASE: Final = "correction"
_DONE: Final = ("committed", "removed")


@dataclass
class Correction:
    """What a correction changed, or would change; `already`: numbers of files that had been backed out before."""

    run_id: str
    dry_run: bool
    corrected: Corrected = field(default_factory=Corrected)
    already: list[int] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the document of `callward backout --json` and `callward reprocess --json`."""
        return {"run_id": self.run_id, "dry_run": self.dry_run, "already": self.already, **to_document(self.corrected)}


# -- back out ----------------------------------------------------------------------------------------------------------


def back_out(settings: Settings, named: Sequence[str], *, dry_run: bool = False) -> Correction:
    """Take deliveries out again, all in one commit; what other files hold of the same records takes their place.

    `named`: files by number, id, or name below the landing folder. One that was backed out before stays so. Raises
    Problem where there is no such file, where records are under hold, and where the archive no longer has what would
    take their place.
    """
    workspace_id.check(settings)
    files = open_files(settings, ROLE, "backout")
    rows = _named(files, named)
    wanted = [row for row in rows if row.status != WITHDRAWN]
    already = sorted(row.file_no for row in rows if row.status == WITHDRAWN)
    if not wanted:
        return Correction("", dry_run, already=already)
    with runs.running(settings, "backout", _leases(settings, wanted)) as run_id:
        correction = Correction(run_id, dry_run, already=already)
        work = _Work(settings, "backout", correction, anew=False)
        work.commit(wanted, 0)
        work.end()
    return correction


class _Work:
    """A correction in a run of its own."""

    def __init__(self, settings: Settings, kind: str, correction: Correction, *, anew: bool) -> None:
        self._settings, self._correction, run_id = settings, correction, correction.run_id
        self._files = open_files(settings, ROLE, kind, run_id)
        now_ms = int(time.time() * 1000)
        self.correcting = Correcting(self._files.workspace, run_id, now_ms, anew, correction.dry_run, kind)
        remove_orphans(settings)

    def commit(self, rows: Sequence[Any], wave: int) -> None:
        """Correct some files in one commit, and again where another run came first."""
        done = retry_on_conflict(
            lambda _: self.correcting.commit(rows, wave),
            also=(FileNotFoundError,),
            on_conflict=lambda: remove_orphans(self._settings, over={self._correction.run_id}),
        )
        self._correction.corrected.add(done)

    def end(self) -> None:
        """Look again for second elements' records of what changed, and close the run."""
        run_id = self._correction.run_id
        if not self._correction.dry_run:
            match_all(self._settings, self._files.workspace, run_id)
        runs.finish(self._settings, run_id, "done", {"files": len(self._correction.corrected.files)})
        if not self._correction.dry_run:
            restrictions.mark(self._settings)


def _leases(settings: Settings, rows: Sequence[Any]) -> list[str]:
    """Return what a correction of files holds, so that nothing of their sources is taken in meanwhile."""
    names = {row.source for row in rows}
    topics = [topic.name for topic in settings.kafka.topics if set(topic.all_sources) & names]
    return [_LEASE, *(f"source/{name}" for name in sorted(names)), *(f"kafka/{name}" for name in topics)]


# -- which files -------------------------------------------------------------------------------------------------------


def _named(files: DataFiles, named: Sequence[str]) -> list[Any]:
    """Return rows of input_files by number, id or name, each once. Raises Problem for what is none, or no whole one."""
    with database.reading(files.workspace.settings) as connection:
        rows = {row.file_no: row for name in named for row in [_row(connection, files, name)]}
        _require_whole(connection, list(rows.values()))
    return [rows[number] for number in sorted(rows)]


def _row(connection: Connection, files: DataFiles, name: str) -> Any:
    f = input_files.c
    if name.isdecimal():
        where = f.file_no == int(name) if len(name) < 12 else f.file_no < 0
    elif len(name) == FILE_ID and name.isalpha():
        where = func.substr(f.name_id, 1, FILE_ID) == name
    else:
        where = f.name_id == intake.name_id(files, name)
    rows = connection.execute(select(input_files).where(where).order_by(f.file_no)).all()
    taken = [row for row in rows if row.status in _DONE]
    rows = taken or [row for row in rows if row.status == WITHDRAWN][-1:] or list(rows)
    if not rows:
        raise Problem(
            f"no file {mask(name)} came in; 'callward suspense list --files' and each night's report say the numbers"
        )
    if len(rows) > 1:
        numbers = ", ".join(str(row.file_no) for row in rows)
        raise Problem(f"{mask(name)} came in several times, as files {numbers}: name one of them by its number")
    return rows[0]


def _require_whole(connection: Connection, rows: Sequence[Any]) -> None:
    """Raise Problem for files that are not read to their end, or are none."""
    for row in rows:
        if row.path_form == streaming.TOPIC:
            raise Problem(f"file {row.file_no} is what came through a topic: only files can be corrected")
        if row.status not in (*_DONE, WITHDRAWN):
            raise Problem(f"file {row.file_no} is {row.status}: a night is not through with it, or could not read it")
    open_ones = {row.file_no for row in rows} - set(_complete(connection, [row.file_no for row in rows]))
    if open_ones:
        raise Problem(f"file {min(open_ones)} is not read to its end: run 'callward nightly' first")


def _complete(connection: Connection, file_nos: Collection[int]) -> list[int]:
    return intake.complete(connection, sorted(file_nos))
