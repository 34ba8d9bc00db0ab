"""What a whole process costs, its children included: wall time, processor time, peak memory."""

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

_SAMPLE_S = 0.2


@dataclass(frozen=True)
class Cost:
    """Of one command: seconds, MiB (highest sum over its processes seen), exit code, what it wrote."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    code: int
    out: str = field(repr=False)
    err: str = field(repr=False)


def measure(command: Sequence[str], *, folder: Path, environment: Mapping[str, str] | None = None) -> Cost:
    """Runs a command to its end, in a session of its own, with `environment` added to ours.

    Processor time and the peak of each single process come from the kernel (wait4, which counts children that were
    waited for, and starts a child's peak at our own size: stay small); the peak over all processes together is
    sampled, each shared page divided among its users.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        with _Sampler(process.pid) as sampler:
            _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = [_read(file) for file in (out, err)]
    peak = max(usage.ru_maxrss / 1024, sampler.peak_mib)
    return Cost(wall, usage.ru_utime + usage.ru_stime, peak, process.returncode, *texts)


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


class _Sampler:
    """Watches the memory of all processes of a session, where the system tells (/proc)."""

    def __init__(self, session: int) -> None:
        self.peak_mib = 0.0
        self._session = session
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            self.peak_mib = max(self.peak_mib, sum(map(_pss_mib, _members(self._session))))


def _members(session: int) -> list[Path]:
    """Folders below /proc of the processes of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The fields after the command's name, which may hold spaces: state, parent, group, session.
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                found.append(folder)
        except (OSError, IndexError, ValueError):
            continue
    return found


def _pss_mib(folder: Path) -> float:
    try:
        lines = (folder / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
