"""demo: a workspace with made-up feeds, two nights, and what ops, billing, analytics and compliance get from them.

Every step is a command that a person could type, run through the command line's own entry point, so what the demo
shows is what those commands do.
"""

import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from callward import extras, initiate, query
from callward.errors import Problem
from callward.feeds.delivery import write_whole
from callward.feeds.generate import SOURCES, Feeds, generate
from callward.feeds.truth import BUCKETS, Truth
from callward.feeds.world import TRUNKS
from callward.settings import Account, Lake, Settings, Source, Tenant, Trunk
from pipelines import terminal
from pipelines.nightly import nightly
from pipelines.results import Failure
from schemas.retention_classes import CLASSES, DEMO_WINDOWS

Progress = Callable[[str], None]
Run = Callable[[Sequence[str]], int]  # runs the words of a command line, and returns the exit code

ACCOUNTS: Final = 200
_ZONE: Final = "America/Denver"
_FORMATS: Final = {
    "asterisk": "asterisk",
    "freeswitch": "freeswitch_csv",
    "freeswitch_json": "freeswitch_jsonl",
    "cucm": "cucm",
    "opensips": "acc_flatstore",
    "generic": "generic_csv",
}

_TRAFFIC: Final = """
    SELECT account, direction, destination, sum(calls) AS calls, sum(billable_s) AS billable_s
    FROM billing_usage_daily GROUP BY ALL ORDER BY billable_s DESC, account LIMIT 8"""
_DETAIL: Final = """
    SELECT start, talk_ms, billable_s, jurisdiction, carrier_out
    FROM billing WHERE account = 'acct-0000' AND destination = 'US' ORDER BY start LIMIT 3"""
_NUMBERS: Final = """
    SELECT start, talk_ms, calling_number, called_number
    FROM billing WHERE account = 'acct-0000' AND destination = 'US' ORDER BY start LIMIT 3"""
_TRUNKS: Final = """
    SELECT side, trunk, sum(attempts) AS attempts, round(100.0 * sum(answered) / sum(seizures), 1) AS asr_pct
    FROM assurance_trunk_hourly GROUP BY ALL ORDER BY attempts DESC LIMIT 6"""
_RELEASED: Final = """
    SELECT time_of_day, calls, calls_error, subscribers, subscribers_error
    FROM calls_by_time ORDER BY time_of_day"""
# Lateness 0: the demo's day has had its late files. What a night releases waits for stragglers.
_TABLE: Final = """format_version = 1
name = "calls_by_time"
title = "Calls and subscribers by time of day"
kind = "dp"
audience = "external"
view = "billing"
unit = "subscriber"
grain = "day"
lateness_days = 0

[bounding]
cells = 6

[budget]
rho = 0.006

[[dimensions]]
name = "time_of_day"
column = "start"
domain = "four_hours"

[[measures]]
name = "calls"
cap = 5

[[measures]]
name = "subscribers"
"""


# -- the demo's workspace ----------------------------------------------------------------------------------------------


def demo_settings(folder: Path) -> Settings:
    """Return settings for the made-up feeds: a source per switch, one tenant with windows, trunks and accounts."""
    return Settings(
        path=folder / "callward.toml",
        tenants={"default": Tenant(zone=_ZONE, retention=DEMO_WINDOWS)},
        trunks=[Trunk(name=name, carrier=name.rpartition("-")[0]) for name in TRUNKS],
        accounts=[Account(id=f"acct-{n:04d}", codes=[f"ac-{n:04d}"]) for n in range(ACCOUNTS)],
        sources=[
            Source(name=feed.name, format=_FORMATS[feed.name], zone=feed.zone, complete="rename") for feed in SOURCES
        ],
    )


# -- a step: a command, who types it, and what must come of it ---------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """A command to run: who types it and why, and the exit codes that are as they must be."""

    who: str
    arguments: Sequence[str]
    why: str
    codes: tuple[int, ...] = (0,)

    @property
    def typed(self) -> str:
        """Return the line as a person types it; what has blanks stands in double quotes: SQL holds single ones."""
        return " ".join(["callward", *(f'"{word}"' if " " in word else word for word in self.arguments)])


@dataclass(frozen=True)
class Step:
    """A command that was run, its exit code, and what it printed on standard output."""

    command: Command
    code: int
    output: str

    @property
    def good(self) -> bool:
        return self.code in self.command.codes

    def to_dict(self) -> dict[str, Any]:
        """Return the step as `callward demo --json` has it: the command's own document where it printed one."""
        try:
            output: Any = json.loads(self.output)
        except ValueError:
            output = self.output
        step = {"who": self.command.who, "command": self.command.typed, "exit_code": self.code}
        return {**step, "good": self.good, "output": output}

    def __str__(self) -> str:
        verdict = "" if self.good else f"\n(it ended with exit code {self.code}, which it should not)"
        asked = f"\n# {self.command.who}: {self.command.why}\n$ {self.command.typed}"
        return f"{asked}\n{self.output.rstrip()}{verdict}"


class _Shell:
    """Types commands in a workspace, through the command line's entry point."""

    def __init__(self, folder: Path, run: Run, as_json: bool, progress: Progress) -> None:
        self._folder, self._run, self._as_json, self._progress = folder, run, as_json, progress

    def run(self, command: Command) -> Step:
        self._progress(f"{command.who}: callward {command.arguments[0]}")
        words = [*command.arguments, *(["--json"] if self._as_json else [])]
        with _workspace(self._folder), redirect_stdout(io.StringIO()) as printed:
            code = self._typed(words)
        return Step(command, code, printed.getvalue())

    def _typed(self, words: Sequence[str]) -> int:
        try:
            return self._run(words)
        except Exception as error:
            failure = Failure.of(error)
            if self._as_json:
                terminal.document(failure.to_dict())
            else:
                terminal.show(*failure.render())
            return failure.exit_code


@contextmanager
def _workspace(folder: Path) -> Iterator[None]:
    """Let commands without --config find this workspace, and see 100 columns."""
    changed = {"CALLWARD_CONFIG": str(folder / "callward.toml"), "COLUMNS": "100"}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


# -- the made-up feeds -------------------------------------------------------------------------------------------------


def demo(
    folder: Path,
    run: Run,
    *,
    calls: int = 100_000,
    seed: int = 1,
    day: date | None = None,
    as_json: bool = False,
    progress: Progress = lambda line: None,
) -> Iterator[Step]:
    """Make a workspace in `folder` (new or empty), `run` two nights over made-up feeds, and let each person ask.

    Yields a step when it is done. Raises UsageProblem for a folder that is not empty, Problem where the nights did
    not come to what the generator knows to be true.
    """
    extras.require("opendp")  # its last steps release a table
    settings = initiate.init(folder.absolute(), demo_settings(folder.absolute()))
    day = day or _day()
    shell = _Shell(settings.folder, run, as_json, progress)
    with tempfile.TemporaryDirectory(prefix="callward-demo-") as temporary:
        progress(f"making feeds of about {calls:,} calls")
        late, numbers = Path(temporary, "late"), Path(temporary, "numbers")
        feeds = _feeds(settings, calls, seed, day, late, numbers)
        first, second, third = _NIGHTS
        yield shell.run(first)
        check_truth(settings, feeds.truth)
        _land(settings, feeds.late, late)
        yield shell.run(second)
        check_truth(settings, feeds.truth_with_late)
        yield shell.run(third)
        _declare(settings)
        for command in _asked(numbers, settings.folder, day):
            yield shell.run(command)


def planned(folder: Path) -> list[Command]:
    """Return what `demo` would run in `folder`. Raises UsageProblem for a folder that is not empty."""
    initiate.init(folder.absolute(), demo_settings(folder.absolute()), dry_run=True)
    return [*_NIGHTS, *_asked(Path("NUMBERS"), folder.absolute(), _day())]


def _day() -> date:
    return datetime.now(UTC).date() - timedelta(days=2)  # over in every zone


def _feeds(settings: Settings, calls: int, seed: int, day: date, late: Path, numbers: Path) -> Feeds:
    """Return the feeds of a day, landed; the late files and the list of numbers lie elsewhere."""
    return generate(
        settings.landing_path, seed=seed, day=day, calls=calls, accounts=ACCOUNTS, late=late, numbers_to=numbers
    )


def _land(settings: Settings, files: Sequence[Path], folder: Path) -> None:
    for file in files:
        write_whole(settings.landing_path / file.relative_to(folder), [file.read_bytes()])


def _declare(settings: Settings) -> None:
    settings.releases_path.mkdir(exist_ok=True)
    (settings.releases_path / "calls_by_time.toml").write_text(_TABLE, encoding="utf-8")


_NIGHTS: Final = (
    Command("ops", ["nightly"], "the first night"),
    Command("ops", ["nightly"], "the second night: files that came late close calls that waited"),
    Command("ops", ["nightly"], "once more: nothing new, nothing changes"),
)


def _asked(numbers: Path, folder: Path, day: date) -> Iterator[Command]:
    """Yield what each person asks once the nights are done."""
    case = ("--purpose", "dispute", "--case", "CASE-1")
    yield Command("ops", ["suspense", "list", "--source", "generic"], "what was set aside, never its content")
    yield Command("ops", ["doctor"], "is all as it should be?", codes=(0, 3))
    yield _sql("billing", _TRAFFIC, "usage, from the derived table")
    yield _sql("billing", _DETAIL, "call detail")
    yield _sql("billing", _NUMBERS, "numbers without a case are refused", codes=(2,))
    yield _sql("billing", _NUMBERS, "numbers for a case: purpose and case are recorded", *case)
    yield _sql("assurance", _TRUNKS, "answer-seizure ratio by trunk: a role without numbers")
    period = ["--period", day.isoformat()]
    yield Command("ops", ["release", "run", "calls_by_time", *period], "a table for analytics: noise is drawn once")
    yield _sql("analytics", _RELEASED, "released cells, each with its error, and nothing else")
    yield Command("analytics", ["release", "budget"], "what it took of the subscribers' privacy")
    yield Command("compliance", ["audit", "verify"], "every opening of a key is in a chain of hashes")
    yield Command("compliance", ["rebuild", "--check"], "the derived tables, computed again from the lake, are equal")
    yield Command("compliance", [*_HOLD, "--account", "acct-0003"], "a legal hold: what it names outlives every window")
    yield Command("compliance", ["purge", "calendar"], "what is kept until when")
    today = datetime.now(UTC).date().isoformat()
    yield Command("compliance", ["purge", "--as-of", today, "--dry-run"], "what would go today")
    sweep = ["sweep", str(folder), "--numbers", str(numbers)]
    yield Command("compliance", sweep, "every byte of the workspace, read for every number of the feeds")


_HOLD: Final = (
    *("hold", "place", "--tenant", "default", "--kind", "litigation"),
    *("--authority", "District Court, order of the day", "--case", "CASE-2"),
)


def _sql(role: str, statement: str, why: str, *case: str, codes: tuple[int, ...] = (0,)) -> Command:
    return Command(role, ["sql", "--role", role, *case, " ".join(statement.split())], why, codes)


def check_truth(settings: Settings, truth: Truth) -> None:
    """Raise Problem unless the ledger says of every source exactly what its generator knows to be true."""
    entries = by_source(settings)
    for name in sorted({file.split("/")[0] for file in truth.files}):
        count = truth.source(name)
        expected = {"in": count.rows, **{bucket: count.buckets[bucket] for bucket in BUCKETS}}
        wrong = [bucket for bucket, rows in expected.items() if entries[name].get(bucket, 0) != rows]
        if wrong:
            differences = ", ".join(
                f"{bucket} {entries[name].get(bucket, 0)} not {expected[bucket]}" for bucket in wrong
            )
            raise Problem(f"the demo's {name} came to {differences}: a defect, please report it")


def by_source(settings: Settings) -> dict[str, dict[str, int]]:
    """Return records by source and bucket over all nights, from the ledger: {source: {bucket: rows}}."""
    sums = """SELECT f.source, e.bucket, sum(e.rows)::BIGINT AS rows
        FROM ledger_entries e JOIN input_files f USING (file_no) GROUP BY ALL"""
    sums_by_source: dict[str, dict[str, int]] = {source.name: {} for source in settings.sources}
    for row in query.query(settings, "compliance", sums).to_pylist():
        sums_by_source[row["source"]][row["bucket"]] = row["rows"]
    return sums_by_source


# -- published samples -------------------------------------------------------------------------------------------------

_ACC: Final = ["method", "from_tag", "to_tag", "callid", "sip_code", "sip_reason", "time"]
# The site's own columns follow acc's seven: what kind of request, both parties, the dialog.
_ACC_SITE: Final = [{"name": "site", "columns": [*_ACC, "kind", "src", "dst", "extra", "dialog"], "shortest": 12}]
# CSV without a row of names: the columns are named in their order, by names that generic_csv knows where it is to read
# them. The longer one writes its start also as the answer and the end; those are no times of the call.
_IMPORT: Final = """format_version = 1
extends = "generic_csv"
name = "{name}"
title = "{name}"

[file]
header = "none"

[[shapes]]
name = "{name}"
columns = {columns}
"""
_IMPORTED: Final = ("caller", "caller_name", "called", "duration", "billsec", "cause")
_TAIL: Final = ("media_ip", "start", "answer_copy", "end_copy", "mduration", "billmsec", "codec", "write_codec")


def _import(name: str, *more: str) -> str:
    return _IMPORT.format(name=name, columns=json.dumps([*_IMPORTED, *more]))


@dataclass(frozen=True)
class Sample:
    """A folder of published samples, and what its SOURCES.md (and its records, read by eye) say it comes to.

    Attributes:
        files: file names in the folder.
        rows: records in; `attempts` the calls among them, `answered` those with talk.
        talk_ms: of the answered calls; None where nothing states it.
        declaration: the text of a declaration of its own, which lies beside callward.toml as <source>.toml.
    """

    source: Source
    folder: str
    files: tuple[str, ...]
    rows: int
    attempts: int
    answered: int
    talk_ms: int | None = None
    declaration: str = ""


def _source(name: str, format: str, zone: str = "UTC", **more: Any) -> Source:
    return Source(name=name, format=format, zone=zone, complete="rename", **more)


SAMPLES: Final = (
    # A call whose two built-in-bridge recording legs are no attempts, its two quality records; and one more of each.
    Sample(
        _source("cucm", "cucm"),
        "cucm",
        ("cucm12_cdr_lab.txt", "cucm12_cmr_lab.txt", "fixture_sample_cdr.txt", "fixture_sample_cmr.txt"),
        rows=7,
        attempts=2,
        answered=2,
    ),
    Sample(
        _source("freeswitch_json", "freeswitch_json", zone="Europe/Berlin", country="DE"),
        "freeswitch_json",
        ("fs_json_cdr_1.json",),
        rows=1,
        attempts=1,
        answered=1,
        talk_ms=67_540,
    ),
    # 8 lines = 4 calls that were answered; 3 lines = 3 that were not. Talk is BYE minus INVITE: 2 + 4 + 4 + 2 s.
    Sample(
        _source("opensips", "acc_flatstore", declare={"shapes": _ACC_SITE}),
        "opensips_flatstore",
        ("fullSuccessfull.psv", "fullMissed.psv"),
        rows=11,
        attempts=7,
        answered=4,
        talk_ms=12_000,
    ),
    Sample(
        _source("import", "import.toml"),
        "generic_import",
        ("import_cdr.txt",),
        rows=5,
        attempts=5,
        answered=5,
        talk_ms=1000 * (11 + 52 + 11 + 33 + 47),
        declaration=_import("import", "direction", "uuid", *_TAIL),
    ),
    # One record talks for -6 seconds: it goes to suspense.
    Sample(
        _source("import100", "import100.toml"),
        "generic_import",
        ("import_cdr_100.txt",),
        rows=100,
        attempts=99,
        answered=99,
        talk_ms=13_842_000,
        declaration=_import("import100", "uuid", "start"),
    ),
)
_KEPT: Final = "99 years"  # the samples are old
_NEVER_H: Final = 24 * 366 * 99.0  # and few: a closed date tells of so few calls no source, by which they are counted


@dataclass(frozen=True)
class SampleResult:
    """What the samples of a source came to, and whether that is what their SOURCES.md says."""

    source: str
    rows: int
    attempts: int
    answered: int
    talk_ms: int
    buckets: dict[str, int]
    as_stated: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, the buckets side by side with them."""
        document = vars(self) | self.buckets
        return {name: value for name, value in document.items() if name != "buckets"}


def present_samples(folder: Path, given: Path) -> list[Sample]:
    """Return the samples that lie in `given` in full, for a workspace `folder` that is to be made.

    Raises Problem when there is none, UsageProblem for a folder that is not empty.
    """
    present = [sample for sample in SAMPLES if all((given / sample.folder / name).is_file() for name in sample.files)]
    if not present:
        raise Problem(f"{given} holds none of the samples (folders {', '.join(s.folder for s in SAMPLES)})")
    initiate.init(folder.absolute(), _samples_settings(folder.absolute(), present), dry_run=True)
    return present


def samples(folder: Path, given: Path, *, progress: Progress = lambda line: None) -> list[SampleResult]:
    """Run a night over a folder of published samples, in a new workspace `folder`; return what came of each source.

    Samples that are not in `given` are left out. Raises Problem when none is there.
    """
    present = present_samples(folder, given)
    settings = initiate.init(folder.absolute(), _samples_settings(folder.absolute(), present))
    for sample in present:
        if sample.declaration:
            (settings.folder / sample.source.format).write_text(sample.declaration)
        landing = settings.landing_path / sample.source.name
        for name in sample.files:
            write_whole(landing / name, [(given / sample.folder / name).read_bytes()])
    nightly(settings, progress=progress)
    return _compared(settings, present)


def _samples_settings(folder: Path, present: Sequence[Sample]) -> Settings:
    tenant = Tenant(retention=dict.fromkeys(CLASSES, _KEPT))
    return Settings(
        path=folder / "callward.toml",
        tenants={"default": tenant},
        sources=[sample.source for sample in present],
        lake=Lake(close_after_hours=_NEVER_H),
    )


def _compared(settings: Settings, present: Sequence[Sample]) -> list[SampleResult]:
    entries = by_source(settings)
    attempts = _counted(settings, "assurance", "count(*) AS attempts")
    calls = _counted(settings, "billing", "count(*) AS answered, sum(talk_ms)::BIGINT AS talk_ms")
    results = []
    for sample in present:
        name = sample.source.name
        figures = {"rows": entries[name].get("in", 0), "attempts": 0, "answered": 0, "talk_ms": 0}
        figures |= attempts.get(name, {}) | calls.get(name, {})
        stated = {key: value for key in figures if (value := getattr(sample, key)) is not None}
        buckets = {bucket: entries[name].get(bucket, 0) for bucket in BUCKETS}
        results.append(SampleResult(name, **figures, buckets=buckets, as_stated=stated.items() <= figures.items()))
    return results


def _counted(settings: Settings, role: str, columns: str) -> dict[str, dict[str, int]]:
    """Return columns per source of the role's view: {source: {column: value}}."""
    rows = query.query(settings, role, f"SELECT source, {columns} FROM {role} GROUP BY source").to_pylist()
    return {row.pop("source"): row for row in rows}
