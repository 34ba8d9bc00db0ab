"""No process that opens keys writes a core dump: commands, workers of an engine, and programs that use the packages."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIMIT = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"


def limit_after(code: str, *arguments: str) -> str:
    """Return the limit of a process, which may write dumps of any size at first, after it ran some code."""
    unlimited = resource.getrlimit(resource.RLIMIT_CORE)[1]
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {LIMIT}", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (unlimited, unlimited)),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_worker_of_an_engine_writes_none() -> None:
    assert limit_after("import pipelines.engine.worker") == "(0, 0)"


def test_whoever_opens_a_key_writes_none(workspace: Callable[..., Any]) -> None:
    root = workspace("asterisk").settings.root_uri("billing")
    open_it = "import sys; from callward.keys.keys import open_source; open_source(sys.argv[1])"
    assert limit_after(open_it, root) == "(0, 0)"
