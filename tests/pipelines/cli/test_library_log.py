"""What a library logs, and what fails beside a command, is shown by its place and never in its words."""

import subprocess
import sys

NUMBER = "7195550142"
PROGRAM = f"""
import logging, threading
from pipelines.cli import library_log
library_log.prepare()
log = logging.getLogger("some.library")
log.warning("no answer from %s\\x1b[31m", "{NUMBER}")
try:
    int("{NUMBER}x")
except ValueError:
    log.exception("{NUMBER}")
thread = threading.Thread(target=int, args=("{NUMBER}x",))
thread.start()
thread.join()
class Lost:
    def __del__(self):
        int("{NUMBER}x")
Lost()
"""


def test_no_word_of_a_library_is_shown() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert NUMBER not in ended.stderr and "\x1b" not in ended.stderr
    assert [line.split(" (")[0] for line in ended.stderr.splitlines()] == [
        "callward: warning of some.library",
        "callward: error of some.library",
        "callward: something failed beside this command",
        "callward: something failed beside this command",
    ]
    assert ended.stderr.count("ValueError") == 3
