"""sweep: read every byte that callward may have left, and look for numbers in the clear."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa

from callward import database
from callward.errors import Problem, UsageProblem
from callward.ingest.landing import LeftAlone, arrivals
from callward.initiate import root_file
from callward.lake import ledger
from callward.lake.data_files import DataFiles, open_files
from callward.settings import Settings
from callward.storage.store import Store
from callward.sweep.report import Report
from callward.sweep.scanner import Remote
from callward.sweep.scanner import sweep as sweep_paths
from pipelines import intake, terminal
from schemas.cdr import BY_ROLE
from schemas.views import PARTS

ROLE = "billing-run"
_NUMBERS = ["calling_number", "called_number", *BY_ROLE]
_GONE = ("committed", "removed")  # states of a landing file that should not lie there any more


@dataclass(frozen=True)
class Sweep:
    """What was swept for, what was left out and why, and what was found."""

    numbers: int
    report: Report

    @property
    def exit_code(self) -> int:
        """Return 1 on a hit, 3 where something could not be read to its end, else 0."""
        return 1 if self.report.hits else 3 if self.report.unfinished or self.report.unreadable else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the document of `callward sweep --json`; it holds no number."""
        return {**self.report.as_json(), "numbers": self.numbers}


def sweep(
    settings: Settings, paths: Sequence[Path], numbers_file: Path | None, progress: Callable[[str], None]
) -> Sweep:
    """Sweep `paths` (or everything a workspace may touch) for the numbers of a file (or of the lake).

    Landing files that wait for their commit are left out, and so are the key roots and the list of numbers itself.
    Raises Problem when there is no number to look for, UsageProblem for a path that is not there.
    """
    for path in paths:
        if not os.path.lexists(path):
            raise UsageProblem(f"there is no {path}")
    numbers = _listed(numbers_file) if numbers_file else _of_lake(settings)
    if not numbers:
        raise Problem("there is no number to look for: the lake is empty, or the file holds none")
    swept = [path.absolute() for path in paths] or list(everything(settings))
    remote = () if paths else _elsewhere(settings)
    left_out = [*_waiting(settings), *_own(settings), *([numbers_file.absolute()] if numbers_file else [])]

    def read_so_far(files: int, read: int) -> None:
        if files and files % 100 == 0:
            progress(f"{files:,} files, {read / 1e6:,.0f} MB read")

    progress(f"looking for {terminal.count(len(numbers), 'number')}")
    report = sweep_paths(
        swept, numbers, ciphertext=_verified(settings), leave_out=left_out, remote=remote, progress=read_so_far
    )
    return Sweep(len(numbers), report)


# -- what to look for --------------------------------------------------------------------------------------------------


def _listed(path: Path) -> set[str]:
    """Return the numbers of a file, one to a line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise UsageProblem(f"{path} is not a text of one number to a line") from None
    return {line.strip() for line in lines if line.strip()}


def _of_lake(settings: Settings) -> set[str]:
    """Return every number of the billing view and of the calls that wait: in memory only, each opening audited."""
    files = open_files(settings, ROLE, "sweep")
    with database.reading(settings) as connection:
        committed = [file for part in PARTS["billing"] for file in ledger.files(connection, view=part)]
        logs = ledger.files(connection, view="pending")
    numbers: set[str] = set()
    for table in _tables(files, committed, logs):
        for name in _NUMBERS:
            numbers.update(table[name].unique().drop_null().to_pylist())
    return numbers


def _tables(
    files: DataFiles, committed: Iterable[ledger.DataFile], logs: Iterable[ledger.DataFile]
) -> Iterator[pa.Table]:
    for file in committed:
        yield files.rows(file, _NUMBERS)
    for log in logs:
        yield files.read_log(log).select(_NUMBERS)


# -- where to look -----------------------------------------------------------------------------------------------------


def everything(settings: Settings) -> Iterator[Path]:
    """Yield folders and files of the workspace, what its settings keep in others, this user's temporary files.

    None twice.
    """
    places = [settings.folder, *([settings.lake_path] if settings.lake.is_local else []), settings.landing_path]
    if (file := settings.database_file) is not None:
        places += [file, *(file.with_name(file.name + suffix) for suffix in ("-wal", "-shm", "-journal"))]
    places += _temporary()
    given: list[Path] = []
    for path in (path.absolute() for path in places if path.exists()):
        if not any(path == other or other in path.parents for other in given):
            given.append(path)
            yield path


def _elsewhere(settings: Settings) -> Iterator[Remote]:
    """Yield the objects of a lake that is no folder, each read as it comes."""
    if not settings.lake.is_local:
        store = Store.of(settings)
        yield from (Remote(store.named(file.path), partial(store.stream, file.path)) for file in store.list())


def _temporary() -> list[Path]:
    """Return what this user has in the system's temporary folder."""
    entries = []
    for entry in sorted(Path(tempfile.gettempdir()).iterdir()):
        try:
            if entry.lstat().st_uid == os.geteuid() and not entry.is_symlink():
                entries.append(entry)
        except OSError:  # it went away meanwhile
            continue
    return entries


def _waiting(settings: Settings) -> Iterator[Path]:
    """Yield landing files that wait for their commit; one that was committed and lies there still is swept."""
    files = open_files(settings, ROLE, "sweep")
    for source in settings.sources:
        for arrival in arrivals(settings, source):
            if isinstance(arrival, LeftAlone) or arrival.form == "sealed":  # what is sealed is swept wherever it lies
                continue
            if intake.known_status(files, arrival) not in _GONE:
                yield arrival.path
    yield from _unfinished(settings)


def _unfinished(settings: Settings) -> Iterator[Path]:
    """Yield files that are still being written, or were refused: no arrival, and never committed."""
    taken = {
        arrival.path
        for source in settings.sources
        for arrival in arrivals(settings, source)
        if not isinstance(arrival, LeftAlone)
    }
    for folder, _, names in os.walk(settings.landing_path):
        yield from (path for name in names if (path := Path(folder, name)) not in taken)


def _own(settings: Settings) -> Iterator[Path]:
    """Yield the key roots: random bytes in hex."""
    for domain in settings.keys.roots:
        if (file := root_file(settings, domain)) is not None:
            yield file


def _verified(settings: Settings) -> dict[PurePath, str]:
    """Return SHA-256 of every file that the manifest names: short forms within it are chance."""
    store = Store.of(settings)
    with database.reading(settings) as connection:
        return {store.named(file.path): file.sha256 for file in ledger.files(connection)}
