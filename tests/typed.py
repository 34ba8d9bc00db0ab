"""Commands typed in this process: their exit code and what they printed, without a process of their own."""

import io
import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from pipelines.cli import main as cli


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@contextmanager
def typing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *first: str, columns: int = 100
) -> Iterator[Run]:
    """typed("list", "--json") → how `callward FIRST … list --json` ended on a terminal of so many columns."""
    monkeypatch.setenv("COLUMNS", str(columns))
    before = signal.getsignal(signal.SIGTERM)

    def typed(*words: object, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "argv", ["callward", *first, *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        code = cli.run()
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return Ran(code, printed.out, printed.err)

    yield typed
    signal.signal(signal.SIGTERM, before)
