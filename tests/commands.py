"""Commands as a scheduler runs them: the real entry point in a process of its own, which may be killed at any moment.

The processes are forked from a server that has imported everything already, so a command starts in no time.
"""

import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from callward.lake.data_files import DataFiles
from callward.redaction import mask
from callward.storage.store import Store
from schemas.tables import blocks, input_files, ledger_entries
from schemas.views import INDEX, STORED, VIEW_PARTS
from transforms.combine import CLOSED

_ROOT = Path(__file__).resolve().parent.parent
_FORKED = multiprocessing.get_context("forkserver")
_PATIENCE_S = 600
# What no person should ever see: a traceback, or the words for an error that nobody foresaw.
_UGLY = re.compile(
    r"Traceback \(most recent call last\)|^  File \"|a defect|Exception ignored|Fatal Python error", re.MULTILINE
)


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative: the signal that killed it), what it printed, its peak memory."""

    code: int
    out: str
    err: str
    peak_bytes: int

    @property
    def document(self) -> Any:
        """What it printed as JSON."""
        return json.loads(self.out)

    @property
    def sentences(self) -> list[str]:
        """The lines of standard error that callward says itself."""
        return [line for line in self.err.splitlines() if line.strip()]

    def check_clean(self, numbers: Iterable[str] = ()) -> "Ended":
        """Fail on a traceback, on an error that nobody foresaw, and on any of `numbers`; returns itself."""
        ugly = _UGLY.search(self.err + self.out)
        assert ugly is None, f"the command printed {ugly[0]!r}: {self.err[-600:]}"
        said = re.sub(r"[^0-9]+", " ", self.out + self.err).split()
        runs = {run for run in said if len(run) >= 7}
        told = sum(digits in run for digits in _national(numbers) for run in runs)
        assert not told, f"{told} numbers of the feed are in what the command printed"
        return self


def _national(numbers: Iterable[str]) -> set[str]:
    return {number.lstrip("+")[-10:] for number in numbers if len(number) >= 7}


def _start_server() -> None:
    """Start the server that commands are forked from (once). It finds our packages by PYTHONPATH alone."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = _python_path()
    try:
        _FORKED.set_forkserver_preload(["pipelines.cli.main", "pipelines.nightly", "pipelines.reports.night"])
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _python_path() -> str:
    before = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(_ROOT), before] if before else [str(_ROOT)])


class Running:
    """A command at work. Its environment is the test's own of this moment, with `environment` on top."""

    def __init__(
        self,
        arguments: Iterable[str],
        environment: Mapping[str, str],
        limits: Mapping[int, int],
        without: Iterable[str] = (),
        at: Path | None = None,
    ) -> None:
        _start_server()
        self._folder = Path(tempfile.mkdtemp(prefix="command-"))
        surroundings = {**os.environ, "PYTHONPATH": _python_path(), **environment}
        work = (list(arguments), surroundings, dict(limits), list(without), str(self._folder), at)
        self._process = _FORKED.Process(target=_serve, args=work, daemon=True)
        self._process.start()

    def signal(self, number: int) -> None:
        """Send a signal, if the command is still there."""
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, number)

    def join(self, seconds: float) -> None:
        """Wait so long, or until it ends."""
        self._process.join(seconds)

    def alive(self) -> bool:
        return self._process.is_alive()

    def wait(self, seconds: float = _PATIENCE_S) -> Ended:
        """Wait for the end; a command that does not end is killed and fails the test."""
        self._process.join(seconds)
        late = self._process.is_alive()
        if late:
            self._process.kill()
            self._process.join()
        err = self._read("err")
        assert not late, f"the command did not end within {seconds} s: {err[-600:]}"
        peak = int(self._read("peak") or 0)
        ended = Ended(int(self._process.exitcode or 0), self._read("out"), err, peak)
        shutil.rmtree(self._folder)
        return ended

    def _read(self, name: str) -> str:
        path = self._folder / name
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _serve(
    arguments: list[str],
    environment: dict[str, str],
    limits: dict[int, int],
    without: list[str],
    folder: str,
    at: Path | None,
) -> None:
    """In the new process: the entry point with its arguments, its output into files."""
    if at is not None:
        os.chdir(at)
    os.environ.clear()  # it was that of the test which happened to start the server
    os.environ.update(environment)
    sys.modules.update(dict.fromkeys(without))  # type: ignore[arg-type]  # None: Python finds no such module
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for number, name in ((1, "out"), (2, "err")):
        handle = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(handle, number)
    tempfile.tempdir = None  # what the server found before it knew this environment
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115  (it lives as long as the process)
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
    for kind, size in limits.items():
        resource.setrlimit(kind, (size, size))
    sys.argv = ["callward", *arguments]
    from pipelines.cli import main as cli

    try:
        sys.exit(cli.run())
    finally:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        Path(folder, "peak").write_text(str(peak), encoding="utf-8")


def start(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    limits: Mapping[int, int] | None = None,
    without: Iterable[str] = (),
    at: Path | None = None,
) -> Running:
    """Start `callward <arguments>`; `limits` by their number in `resource`, `without` modules as if not installed, `at`
    in that folder."""
    return Running(arguments, environment or {}, limits or {}, without, at)


def run(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    limits: Mapping[int, int] | None = None,
    without: Iterable[str] = (),
    at: Path | None = None,
) -> Ended:
    """Run `callward <arguments>` to its end."""
    return start(*arguments, environment=environment, limits=limits, without=without, at=at).wait()


def killed_after(seconds: float, *arguments: str) -> Ended:
    """Run `callward <arguments>`, and kill it after so long if it has not ended by then."""
    running = start(*arguments)
    running.join(seconds)
    running.signal(signal.SIGKILL)
    return running.wait()


def all_that_is(site: Any) -> dict[str, Any]:
    """All that nights leave in a workspace (a conftest.Site), such that two workspaces with the same keys compare.

    Rows of both views, what the index says of each record, ledger totals per file, bucket and code, derived tables,
    what is set aside and what waits. Left out: when it was, and ids that are drawn at random.
    """
    names = {row.file_no: site._name(row) for row in site._rows(input_files)}
    return {
        **{view: sorted(map(repr, _stored(site, view).to_pylist())) for view in VIEW_PARTS},
        INDEX: _rows(_stored(site, INDEX), names),
        "ledger": _ledger(site, names),
        "derived": site.derived(),
        "suspense": _rows(site.log("suspense"), names),
        "pending": _rows(_without_ways(site.pending()), names),
        "files": sorted((names[row.file_no], row.status, row.set_aside) for row in site._rows(input_files)),
        "blocks": sorted(
            (names[b.file_no], b.first, b.last, b.records, b.digest) for b in site._rows(blocks) if b.committed_by
        ),
    }


def _rows(table: pa.Table, names: Mapping[int, str]) -> list[str]:
    """Rows as text, in an order of their own; a ledger number as the file's name."""
    kept = table.drop_columns([name for name in ("seen",) if name in table.column_names])
    rows = kept.to_pylist()
    return sorted(repr({**row, "file_no": names[row["file_no"]]}) for row in rows)


def _without_ways(pending: pa.Table) -> pa.Table:
    """Pieces of closed calls without the bucket that they were in before, and in how many steps they came there: that
    depends on which wave they met in, and a night that goes on after a kill may cut its waves elsewhere."""
    if not pending.num_rows:
        return pending
    closed = pc.equal(pending["state"], CLOSED)
    for name, empty in (("was", ""), ("was_ms", None), ("turn", 0)):
        column = pc.if_else(closed, pa.scalar(empty, pending[name].type), pending[name])
        pending = pending.set_column(pending.column_names.index(name), name, column)
    return pending


def _stored(site: Any, view: str) -> pa.Table:
    files = DataFiles(site.opened, "test")
    tables = []
    for file in site.data_files(view):
        tables.append(files.rows(file))
        assert tables[-1].num_rows == file.rows == sum(files.inputs(file).values())
    return pa.concat_tables([STORED[view].empty_table(), *tables], promote_options="default")


def _ledger(site: Any, names: Mapping[int, str]) -> dict[tuple[str, str, str], tuple[int, int]]:
    sums: dict[tuple[str, str, str], tuple[int, int]] = {}
    for entry in site._rows(ledger_entries):
        key = (names[entry.file_no], entry.bucket, entry.code)
        rows, talk = sums.get(key, (0, 0))
        sums[key] = (rows + entry.rows, talk + entry.talk_ms)
    return {key: amounts for key, amounts in sums.items() if any(amounts)}


def strays(site: Any) -> list[str]:
    """Files of the lake that no manifest names, and files of the manifest that are not in the lake, masked."""
    there = {file.path for file in Store.of(site.settings).list()}
    named: set[str] = set()
    for view in (*STORED, "pending", "suspense", "archive"):
        named |= {file.path for file in site.data_files(view)}
    return sorted(mask(path) for path in there ^ named)


def waiting(site: Any) -> list[Path]:
    """Files in the landing folder."""
    return sorted(path for path in site.settings.landing_path.rglob("*") if not path.is_dir())
