"""No process of ours outlives the one that it serves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pipelines.engine.child_process import die_with_parent

ROOT = Path(__file__).resolve().parents[3]

_TETHERING = "import subprocess, sys; from pipelines.engine.child_process import die_with_parent; \
child = subprocess.Popen(die_with_parent([sys.executable, '-c', 'import time; time.sleep(60)'])); \
print(child.pid, flush=True); child.wait()"
_FOLLOWING = "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', \
'from pipelines.engine.child_process import follow_parent; import time; follow_parent(); print(1, flush=True); \
time.sleep(60)']); \
print(child.pid, flush=True); child.wait()"


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def gone(pid: int, seconds: float = 20) -> bool:
    late = time.monotonic() + seconds
    while not ended(pid) and time.monotonic() < late:
        time.sleep(0.02)
    return ended(pid)


def started(program: str, lines: int) -> tuple[subprocess.Popen[str], int]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    return parent, max(int(parent.stdout.readline()) for _ in range(lines))


def test_a_tethered_program_dies_with_the_one_that_started_it() -> None:
    parent, child = started(_TETHERING, 1)
    assert not ended(child)
    parent.kill()
    parent.wait()
    assert gone(child)


def test_who_follows_its_parent_dies_with_it() -> None:
    parent, child = started(_FOLLOWING, 2)  # its pid, and its word that it watches
    assert not ended(child)
    parent.kill()
    parent.wait()
    assert gone(child)


def test_a_tethered_program_gets_its_arguments_and_its_exit_code_is_told() -> None:
    program = [sys.executable, "-c", "import sys; sys.exit(len(sys.argv))", "a", "b c"]
    assert subprocess.run(die_with_parent(program)).returncode == 3


def test_a_program_whose_parent_died_before_is_not_begun() -> None:
    command = die_with_parent([sys.executable, "-c", "print('begun')"])
    command[4] = "1"  # another parent than the one that starts it
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")


def test_a_signal_reaches_the_program_itself() -> None:
    child = subprocess.Popen(
        die_with_parent([sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"]),
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(signal.SIGTERM)
    assert child.wait(20) == -signal.SIGTERM
