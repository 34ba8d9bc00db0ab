"""No number anywhere, as a search finds it that shares nothing with our own: after nights, a kill, a stream, refusals.

What a command prints for those who may see numbers (`sql` with a case, `suspense show`, `request access`) is not among
what is searched; what it prints when it fails is.
"""

import base64
import bz2
import gzip
import io
import lzma
import random
import shutil
import signal
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from callward.feeds.generate import generate
from pipelines.cli.main import app
from tests import streams
from tests.commands import run, waiting
from tests.raw_search import a_few, forms_of, search
from tests.typed import typing

NUMBER = "+17195550142"
_OFTEN = 2  # commands with which an option that many have is tried by itself
# They serve until they are stopped, or make something that is not refused for the words that they are given.
_NOT_RUN = ("receive", "demo", "init", "stream start", "release attack", "sweep")
_CASE = ("--purpose", "dispute", "--case", "CASE-A")
_FAILING = (
    r"regexp_replace(n, '(\d\d)', '\1x', 'g')::INT",
    "reverse(n)::INT",
    "n::BIGINT * n::BIGINT * n::BIGINT",
    "('{' || n)::JSON",
    "regexp_matches('a', '(' || n)",
    "error(n)",
    "strptime(n, '%Y')",
)


@dataclass
class Used:
    """A workspace that was worked with, where its temporary files went, what was printed, and numbers of its feeds."""

    site: Any
    temporary: Path
    numbers: list[str]
    printed: list[str] = field(default_factory=list)

    def command(self, *words: str, **environment: str) -> int:
        """Run a command in a process of its own, and keep what it prints."""
        given = {"TMPDIR": str(self.temporary), "CALLWARD_CONFIG": str(self.site.folder), **environment}
        ended = run(*words, environment=given)
        self.printed += [ended.out, ended.err]
        return ended.code

    def hits(self) -> list[str]:
        """Search the workspace, the temporary files and all that was printed; landing files that wait are left out."""
        (self.temporary / "printed").write_text("\n".join(self.printed), encoding="utf-8", errors="surrogateescape")
        places = [self.site.folder, self.temporary]
        return search(places, [*self.numbers, NUMBER], leave_out=waiting(self.site))


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory, workspace: Callable[..., Any], day: date) -> Used:
    """A workspace after a killed night, two whole ones, a stream, and what comes between."""
    folder = tmp_path_factory.mktemp("used")
    site = workspace("asterisk", "opensips", thresholds={"file_errors_pct": 100.0}, stream={"buckets": 4})
    feeds = generate(folder / "feed", seed=61, day=day, calls=200, dirt=0.05, sources=("asterisk", "opensips"))
    files = sorted(path for path in (folder / "feed").rglob("*") if path.is_file())
    (folder / "temporary").mkdir()
    used = Used(site, folder / "temporary", a_few(feeds.numbers.to_pylist()))
    site.deliver(files[::2])
    assert used.command("nightly", CALLWARD_CRASH_AT="commit-ready:1") == -signal.SIGKILL
    assert used.command("nightly", "--json") in (0, 3)  # 3: a file without a record stays in landing
    for name in (f"{NUMBER}.csv", "719_555_0142.csv", "calls\x1b[2J.csv"):
        site.land("asterisk", name, f"{NUMBER},broken\n{NUMBER[2:]}\n".encode())
    site.land("asterisk", f"{NUMBER}.csv.gz", gzip.compress(f"{NUMBER}\n".encode())[:-4])
    assert used.command("nightly") in (0, 3)
    site.deliver(files[1::2], prefix="second-")
    streams.stream_once(site.settings, ("asterisk", "opensips"))
    return used


def test_nothing_that_was_worked_with_or_printed_holds_a_number(used: Used) -> None:
    assert used.hits() == []
    assert used.site.view("billing").num_rows > 50


def test_the_search_sees_a_number_that_a_command_was_to_keep(used: Used, tmp_path: Path) -> None:
    """Otherwise the silence above would prove nothing."""
    shutil.copytree(used.site.settings.landing_path, tmp_path / "landing")
    number = next(n for n in used.site.view("billing")["called_number"].to_pylist() if n and n.startswith("+1"))
    (tmp_path / "note").write_text(f"called {number}")
    assert search([tmp_path], [number])


def test_no_refusal_and_no_error_of_any_command_holds_a_number(
    used: Used, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLWARD_CONFIG", str(used.site.folder))
    monkeypatch.chdir(tmp_path)
    number = used.numbers[0]
    content = tmp_path / "content"
    content.write_text(f'[a."{number}"]\n[a."{number}"]\n{number[1:]} = \'{number}\n')
    tried: Counter[str] = Counter()
    with typing(capsys, monkeypatch) as typed:
        for path, command in _commands():
            for words in _wrong_words(command, number, content, tried):
                ended = typed(*path.split(), *words)
                used.printed += [f"{path} {len(words)}", ended.out, ended.err]
        for failing in _FAILING:
            sql = f"SELECT {failing} FROM (SELECT called_number AS n FROM billing WHERE called_number LIKE '+1%')"
            ended = typed("sql", "--role", "billing", *_CASE, sql, "--json")
            assert ended.code == 2, failing
            used.printed += [ended.out, ended.err]
    assert used.hits() == []


def _commands(command: Any = None, path: str = "") -> Iterator[tuple[str, Any]]:
    command = command or get_command(app)
    if not hasattr(command, "commands"):
        if not path.startswith(_NOT_RUN):
            yield path, command
        return
    for name, inner in command.commands.items():
        yield from _commands(inner, f"{path} {name}".strip())


def _wrong_words(command: Any, number: str, content: Path, tried: Counter[str]) -> Iterator[list[str]]:
    """Yield words for a command: none but --json, and a number for each option and argument, in several forms."""
    spelled = [
        number,
        number[2:],
        f"{number[2:5]}_{number[5:8]}_{number[8:]}",
        f"case{number[2:]}",
        " ".join(number[2:]),
    ]
    asked = [p for p in command.params if not getattr(p, "is_flag", False) and p.name not in ("help", "config")]
    values = [
        (str(content), spelled[place % 5])
        if "Path" in str(parameter.type_descriptor.annotation)
        else (spelled[place % 5],)
        for place, parameter in enumerate(asked)
    ]
    if not any(parameter.required for parameter in asked):
        yield ["--json"]
    yield [word for parameter, value in zip(asked, values, strict=True) for word in _given(parameter, value[0])]
    for chosen, value in zip(asked, values, strict=True):
        tried[chosen.opts[0]] += 1
        if chosen.param_type_name == "option" and tried[chosen.opts[0]] > _OFTEN:
            continue
        required = [word for p in asked if p.required and p is not chosen for word in _given(p, "a")]
        yield from ([*required, *_given(chosen, word)] for word in value)


def _given(parameter: Any, value: str) -> list[str]:
    return [value] if parameter.param_type_name == "argument" else [parameter.opts[0], value]


# -- the search itself -------------------------------------------------------------------------------------------------


def _zipped(data: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("calls", data)
    return sink.getvalue()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zip": _zipped,
    "gzip in zip": lambda data: _zipped(gzip.compress(data)),
}


@pytest.mark.parametrize("packed", PACKED)
def test_the_search_finds_every_form_packed_and_plain(packed: str, tmp_path: Path) -> None:
    around = random.Random(3)
    for form, name in forms_of(NUMBER).items():
        (tmp_path / "file").write_bytes(b"head" + PACKED[packed](around.randbytes(50) + form + around.randbytes(50)))
        assert any(hit.endswith(name) for hit in search([tmp_path], [NUMBER])), name


@pytest.mark.parametrize("lead", range(6))
def test_the_search_finds_encoded_text_at_every_alignment(lead: int, tmp_path: Path) -> None:
    text = b"x" * lead + b"to " + NUMBER.encode() + b" from"
    for encode in (base64.b64encode, base64.b32encode):
        (tmp_path / "file").write_bytes(encode(text))
        assert search([tmp_path], [NUMBER])


def test_the_search_looks_at_names_and_behind_links(tmp_path: Path) -> None:
    (tmp_path / f"{NUMBER[2:]}.csv").mkdir()
    (tmp_path / "link").symlink_to("/nowhere/719_555_0142")
    assert len(search([tmp_path], [NUMBER])) == 2
