"""One test, or a few, per promise of the design (section 1: 1 to 8)."""

import base64
import bz2
import json
import math
import random
import re
import shutil
import signal
import sqlite3
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from callward import audit, database
from callward.errors import Problem
from callward.evidence import certificates
from callward.feeds import asterisk_files, generate
from callward.feeds.generate import SOURCE_NAMES
from callward.lake import ledger
from callward.lake.data_files import DataFiles
from callward.lake.ledger import ENTRIES, Changes, Unbalanced
from callward.redaction import mask
from callward.release import mechanisms
from callward.runs import new_id
from callward.settings import ReleaseCaps
from callward.sweep.report import Report
from callward.sweep.scanner import sweep
from callward.template import render
from callward.workspace import WorkspaceRef, open_workspace
from pipelines import wave as waves
from pipelines.engine import run as engine
from schemas.codes import Bucket
from schemas.release import NANO
from schemas.tables import ledger_entries
from schemas.views import PARTS, VIEW_PARTS
from tests import releases, retention, streams
from tests.commands import Ended, all_that_is, run, strays, waiting
from tests.comparison import verify
from transforms import aggregate
from transforms.aggregate import Aggregate
from transforms.commit import CommitAttempt
from transforms.elements import CHUNK, Sharding

DAY = date(2026, 3, 5)
WAVES = {"records": 500, "bucket_records": 300, "block_mebibytes": 0.05}


@dataclass
class Told:
    """A workspace, how its last command ended, where its temporary files went, and the numbers of its feeds."""

    site: Any
    ended: Ended
    temporary: Path
    numbers: list[str]
    truth: Any

    def swept(self, *more: Path) -> Report:
        """Everything that commands could have left, read for the numbers; landing files that wait are left out."""
        output = self.temporary / "output.txt"
        output.write_text(self.ended.out + self.ended.err)
        return sweep([self.site.folder, self.temporary, *more], self.numbers, leave_out=waiting(self.site))


def _night(folder: Path, make: Callable[..., Any], *, crash_at: str = "", seed: int = 21) -> Told:
    site = make(*SOURCE_NAMES, waves=WAVES, thresholds={"file_errors_pct": 100.0})
    feeds = generate(site.settings.landing_path, seed=seed, day=DAY, calls=900, dirt=0.01)
    temporary = folder / "temporary"
    temporary.mkdir()
    surroundings = {"TMPDIR": str(temporary), "CALLWARD_CRASH_AT": crash_at}
    ended = run("nightly", "--json", "--config", str(site.folder), environment=surroundings)
    return Told(site, ended, temporary, feeds.numbers.to_pylist(), feeds.truth)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory, workspace: Callable[..., Any]) -> Told:
    """A whole night over every source of the feeds."""
    told = _night(tmp_path_factory.mktemp("night"), workspace)
    assert told.ended.code == 0, told.ended.err
    return told


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, workspace: Callable[..., Any]) -> Told:
    """The same night, killed inside the transaction of its second commit, and not run again yet."""
    told = _night(tmp_path_factory.mktemp("killed"), workspace, crash_at="commit-ready:2")
    assert told.ended.code == -signal.SIGKILL
    return told


# -- 1. Balanced --------------------


def test_1_rows_and_talk_of_every_file_add_up_and_are_the_records_that_were_written(night: Told) -> None:
    files = {file["file"]: file for file in night.ended.document["files"]}
    written = {mask(name): count.rows for name, count in night.truth.files.items()}
    assert files.keys() == written.keys()
    for name, file in files.items():
        assert file["rows"] == sum(file[bucket] for bucket in Bucket) == written[name], name
        assert file["talk_ms"]["in"] == sum(file["talk_ms"][bucket] for bucket in Bucket), name


def test_1_the_views_hold_what_the_ledger_says_was_accepted(night: Told) -> None:
    accepted = night.site.entries()["accepted", ""][0]
    assert night.site.view("assurance").num_rows == accepted


def test_1_a_run_that_does_not_balance_commits_nothing(workspace: Callable[..., Any]) -> None:
    site = workspace("asterisk")
    rows = pa.table([[1, 1], ["in", "accepted"], ["", ""], [5, 4], [0, 0]], schema=ENTRIES)
    from callward import runs

    with runs.running(site.settings, "nightly", ["source/asterisk"]) as run_id:
        with pytest.raises(Unbalanced), database.writing(site.settings) as connection:
            ledger.commit(connection, run_id, 0, Changes(entries=[rows]))
        with pytest.raises(Unbalanced), database.writing(site.settings) as connection:
            talk = rows.set_column(3, "rows", pa.array([5, 5], pa.int64())).set_column(
                4, "talk_ms", pa.array([7, 8], pa.int64())
            )
            ledger.commit(connection, run_id, 0, Changes(entries=[talk.cast(ENTRIES)]))
        runs.finish(site.settings, run_id, "done")
    assert site._rows(ledger_entries) == []


# -- 2. Once (every named point and random moments: test_kills.py) --------------------


def test_2_a_killed_night_run_again_equals_one_clean_run(
    night: Told, workspace: Callable[..., Any], tmp_path: Path
) -> None:
    told = _night(tmp_path, workspace, crash_at="commit-ready:2")
    assert told.ended.code == -signal.SIGKILL
    ended = run("nightly", "--config", str(told.site.folder)).check_clean(told.numbers)
    assert ended.code == 0
    found, expected = all_that_is(told.site), all_that_is(night.site)
    assert [what for what in expected if found[what] != expected[what]] == []
    assert (strays(told.site), waiting(told.site)) == ([], [])


# -- 3. No number in the clear, ever --------------------


def test_3_after_a_night_no_number_lies_anywhere(night: Told) -> None:
    report = night.swept()
    assert [(str(hit.file), hit.form) for hit in report.hits] == []
    assert (report.unreadable, report.unfinished, report.left_out) == ([], [], 0)
    assert report.files > 50
    assert report.expected_chance_hits < 0.05


def test_3_after_a_kill_only_landing_files_that_wait_hold_numbers(killed: Told) -> None:
    report = killed.swept()
    assert [(str(hit.file), hit.form) for hit in report.hits] == []
    assert report.left_out == len(waiting(killed.site)) > 0
    assert list(killed.site.folder.glob("*.db-wal")), "a killed run leaves a write-ahead log, which was to be swept too"


def _plain_parquet(told: Told, number: str) -> Path:
    path = told.site.settings.lake_path / "billing" / "leak.parquet"
    pq.write_table(pa.table({"calling_number": [number] * 9}), path, compression="none", use_dictionary=False)
    return path


def _a_log(told: Told, number: str) -> Path:
    path = told.temporary / "beam.log"
    path.write_text(f"ValueError: invalid record {{'src': '{number[2:]}'}}\n")
    return path


def _sealed_by_name_only(told: Told, number: str) -> Path:
    path = told.site.settings.lake_path / "suspense" / "leak.seal"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zlib.compress(b"x")[:0] + bz2.compress(f"caller {number}".encode()))
    return path


def _database(told: Told, number: str) -> Path:
    path = told.site.folder / "leak.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (note TEXT)")
        connection.execute("INSERT INTO t VALUES (?)", (f"called {number[1:]}",))
        connection.commit()
    return path


def _a_name(told: Told, number: str) -> Path:
    path = told.site.settings.lake_path / "archive" / f"{number[2:]}.csv"
    path.write_bytes(b"")
    return path


def _a_pickle(told: Told, number: str) -> Path:
    path = told.temporary / "pickled"
    path.write_bytes(b"\x80\x04" + base64.b64encode(f"{{'number': '{number[1:]}'}}".encode()))
    return path


@pytest.mark.parametrize("plant", [_plain_parquet, _a_log, _sealed_by_name_only, _database, _a_name, _a_pickle])
def test_3_a_planted_leak_is_found(plant: Callable[[Told, str], Path], night: Told) -> None:
    number = next(number for number in night.numbers if number.startswith("+1") and number[5:10] == "55501")
    path = plant(night, number)
    try:
        hits = night.swept().hits
    finally:
        path.unlink()
    assert hits
    assert {hit.file.parent for hit in hits} == {path.parent}


@pytest.mark.parametrize("told", ["night", "killed"])
def test_3_no_command_prints_a_number_or_a_traceback(told: str, request: pytest.FixtureRequest) -> None:
    found: Told = request.getfixturevalue(told)
    found.ended.check_clean(found.numbers)


def test_3_an_error_in_a_worker_says_where_and_never_what(
    workspace: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = workspace("asterisk")
    (path,) = asterisk_files(site.settings.landing_path / "asterisk", seed=5, rows=50, files=1, day=DAY)

    def fails(parsed: pa.Table, *_: Any) -> pa.Table:
        raise ValueError(f"cannot normalize {parsed['calling_raw'].to_pylist()}")

    monkeypatch.setattr("transforms.normalize.normalize", fails)
    with pytest.raises(Problem) as caught:
        site.night()
    said = "".join([str(caught.value), *map(str, caught.value.args), *capfd.readouterr(), caplog.text])
    assert "ValueError" in str(caught.value)
    assert re.search(r"\d{7,}", said) is None
    assert "cannot normalize" not in said
    assert caught.value.__cause__ is None
    assert path.exists()


def _told_by(pipeline: beam.Pipeline, folder: Path) -> Path:
    """A file with what a runner is given of a pipeline: its graph, and what is pickled in it, unpacked."""
    proto = pipeline.to_runner_api().SerializeToString()
    found = [proto]
    for packed in re.findall(rb"[A-Za-z0-9+/]{40,}={0,2}", proto):
        for start in range(4):  # a length byte before it may look like base64
            found += _unpacked(packed[start:])
    path = folder / "pipeline"
    path.write_bytes(b"\n".join(found))
    return path


def _unpacked(packed: bytes) -> Iterator[bytes]:
    data = base64.b64decode(packed[: len(packed) // 4 * 4])
    yield data
    for unpack in (zlib.decompress, bz2.decompress):
        try:
            yield unpack(data)
        except (ValueError, OSError, zlib.error):
            continue


def _wave(site: Any, path: str) -> tuple[WorkspaceRef, waves.Wave]:
    piece = {
        "kind": "plain",
        "source": "asterisk",
        "shape": "{}",
        "path": path,
        "file_no": 1,
        "block": 0,
        "first": 0,
        "last": 9,
    }
    chunk = pa.Table.from_pylist(
        [{**piece, "size": 9, "modified_ns": 1, "meant": None, "condemned": False}], schema=CHUNK
    )
    reference = WorkspaceRef(str(site.settings.path), "billing-run", "test", "2026-03")
    return reference, waves.Wave(CommitAttempt("a", 0, 1), [chunk], {}, Sharding(), 0, True)


def test_3_a_pipeline_as_a_runner_gets_it_holds_no_number_not_even_of_a_path(
    workspace: Callable[..., Any], tmp_path: Path
) -> None:
    from callward.workspace import open_transit
    from transforms.coders import use_transit

    site = workspace("asterisk")
    reference, wave = _wave(site, str(site.folder / "landing" / "asterisk" / "2125550147.csv"))
    use_transit(str(reference), open_transit)
    pipeline = beam.Pipeline()
    waves.night(pipeline, reference, wave)
    assert sweep([_told_by(pipeline, tmp_path)], ["+12125550147"]).hits == []
    leaking = beam.Pipeline()
    leaking | beam.Create(["landing/2125550147.csv"])
    assert sweep([_told_by(leaking, tmp_path)], ["+12125550147"]).hits != []


# -- 4. Split (what times and durations link: pipelines/test_attack.py, callward/release/test_linking.py) --------------


def test_4_no_id_or_token_of_one_view_is_in_the_other(night: Told) -> None:
    billing, assurance = _ids(night.site.view("billing")), _ids(night.site.view("assurance"))
    assert len(billing) > 500
    assert len(assurance) > 500
    assert billing.isdisjoint(assurance)


def _ids(table: pa.Table) -> set[bytes]:
    columns = [table[field.name] for field in table.schema if pa.types.is_fixed_size_binary(field.type)]
    return {value for column in columns for value in pc.drop_null(column).to_pylist()}


def test_4_no_number_is_a_column_of_assurance() -> None:
    names = {name for part in PARTS["assurance"] for name in VIEW_PARTS[part].names}
    assert not {name for name in names if "number" in name or name.endswith(("_raw", "_token")) or name == "account"}


@pytest.mark.parametrize(("role", "other"), [("billing", "assurance"), ("assurance", "billing")])
def test_4_a_role_opens_its_view_with_its_roots_alone_and_never_the_other(
    role: str, other: str, night: Told, tmp_path: Path
) -> None:
    """The files of a workspace with one role's roots: all that a person of that role may read."""
    folder = tmp_path / "theirs"
    shutil.copytree(night.site.folder, folder)
    theirs = {"billing": {"billing.root"}, "assurance": {"assurance.root"}}[role]
    for root in (folder / "keys").iterdir():
        if root.name not in theirs:
            root.unlink()
    mine = run(
        "sql", "--role", role, "--format", "json", f"SELECT count(*) AS n FROM {role}", "--config", str(folder)
    ).check_clean(night.numbers)
    assert mine.code == 0, mine.err
    assert mine.document[0]["n"] == night.site.view(role).num_rows
    not_mine = run("sql", "--role", role, f"SELECT * FROM {other}", "--config", str(folder)).check_clean(night.numbers)
    as_other = run("sql", "--role", other, f"SELECT * FROM {other}", "--config", str(folder)).check_clean(night.numbers)
    assert not_mine.code == 2
    assert as_other.code == 1


def test_4_what_times_and_durations_still_link_is_printed_as_it_was_measured() -> None:
    """The threat model's figure is that of the attack on the demo's own views, which anybody can run again."""
    docs = Path(__file__).parent.parent / "docs"
    links = json.loads((docs / "attacks" / "demo.json").read_text(encoding="utf-8"))["views"]["links"]
    (verdict,) = links["verdicts"]
    told = re.sub(r"\s+", " ", (docs / "threat-model.md").read_text(encoding="utf-8"))
    share = f"{verdict['rows']:.2%}".replace("%", " %")
    assert f"In the demo both together link {share} of billing rows and no account" in told
    assert verdict["holds"] and verdict["rows"] < 0.02 and verdict["accounts"] == 0


# -- 5: gone means gone ------------------------------------------------------------------------------------------------


def test_5_past_its_window_data_and_keys_are_gone_and_what_is_held_stays(workspace: Callable[..., Any]) -> None:
    """For any policy, calendar, holds and arrivals: tests/test_retention_property.py."""
    site = workspace("generic", retention=retention.WINDOWS)
    retention.night(site)
    retention.hold(site, accounts=("acct-0007",))
    done = retention.purged(site, date(2026, 9, 2))
    assert (site.view("billing").num_rows, site.view("assurance").num_rows) == (0, 0)
    assert [row["account"] for row in retention.held(site, "held-billing")] == ["acct-0007"]
    # A month's sums by account are kept whole while one of its accounts is under a hold.
    kept = ("hold/", "sla/")
    dead = {state for name, state in retention.states(site).items() if not name.startswith(kept)}
    assert dead == {"destroyed"}
    assert [check.sentence for check in certificates.verify(site.settings, done["certificate"]) if not check.ok] == []
    assert done["status"] == "partial"
    assert done["overdue"] == 0


def test_5_nothing_is_purged_while_the_holds_cannot_be_read(workspace: Callable[..., Any]) -> None:
    site = workspace("generic", retention=retention.WINDOWS)
    retention.night(site)
    retention.hold(site, accounts=("acct-0007",))
    rows = site.view("billing")
    (site.folder / "keys" / "hold.root").unlink()
    with pytest.raises(Problem):
        retention.purged(site, date(2026, 9, 2))
    assert site.view("billing").equals(rows)


# -- 6. Anonymous means tested (attacks: callward/release/attack/test_suite.py; the ledger: pipelines/test_release.py) -


VICTIM = "+13035550177"
PUBLISHED = ("--period", retention.DAY.isoformat(), "--json")


def _lines(calls: int = 480) -> list[str]:
    """Calls of sixty lines and their accounts, over the hours from noon."""
    return [retention.call(n * 80, caller=f"+130355501{n % 60:02d}", account=f"ac-{n % 60:04d}") for n in range(calls)]


@pytest.fixture(scope="module")
def counted(workspace: Callable[..., Any]) -> Any:
    """A workspace with a day of calls; then one file with those of one line more, who calls all afternoon."""
    site = workspace("generic")
    tenant = site.settings.tenants["default"].model_copy(update={"release": ReleaseCaps(rho_month=100, rho_all=100)})
    site.settings.path.write_text(render(site.settings.model_copy(update={"tenants": {"default": tenant}})))
    retention.night(site, retention.feed(*_lines()))
    more = [retention.call(n * 140 + 1, caller=VICTIM, account="ac-0077", talk=900) for n in range(300)]
    retention.night(site, retention.feed(*more), name="b.csv")
    return site


def _released(site: Any, name: str, *options: str) -> Ended:
    return run("release", "run", name, *PUBLISHED, *options, "--config", str(site.folder)).check_clean([VICTIM])


def _bytes(done: dict[str, Any]) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(done["folder"]).iterdir()}


@pytest.mark.parametrize("unit", ["subscriber", "account"])
@pytest.mark.parametrize("method", ["l0", "l2"])
def test_6_a_person_moves_no_sum_by_more_than_the_noise_is_made_for(counted: Any, unit: str, method: str) -> None:
    """Differential privacy from the data files to σ: the same period with and without all calls of one customer."""
    more = f'[bounding]\nmethod = "{method}"\ncells = 3\n'
    release = releases.made(
        dimensions=releases.HOUR, measures=("calls", "talk_s", f"{unit}s"), unit=f'"{unit}"', more=more
    )
    data_files = sorted(counted.data_files("billing"), key=lambda file: -file.rows)
    assert [file.rows for file in data_files] == [480, 300]
    tables = []
    for listed in (data_files, data_files[:1]):
        reference = WorkspaceRef(str(counted.settings.path), "release-run", "test")
        files = DataFiles(open_workspace(reference), new_id())
        task = aggregate.Task(release, tuple(listed), "the same")
        engine.run(counted.settings, reference, lambda p, made=(reference, files.run_id, task): p | Aggregate(*made))
        tables.append(aggregate.summed(aggregate.gathered(files), files, release))
        files.clear_spilled()
    moved = tables[0] - tables[1]
    for at, (sensitivity, rho) in enumerate(zip(release.sensitivities(), release.rhos(), strict=True)):
        most = sensitivity * aggregate.scale(release)
        assert 0.3 * most < np.linalg.norm(moved[:, at]) <= most  # near the bound: the victim calls all afternoon
        _, sigma = mechanisms.gaussian(tables[0][:, at], most, rho / NANO)
        assert sigma >= most / math.sqrt(2 * rho / NANO)
    assert sum(release.rhos()) <= release.rho


def test_6_a_release_that_is_run_again_or_killed_gives_no_second_draw(counted: Any) -> None:
    releases.declare(counted, releases.text(name='"again"', rho="0.05"), "again")
    first = _released(counted, "again").document
    before = _bytes(first)
    assert [_bytes(_released(counted, "again").document) for _ in range(3)] == [before] * 3
    releases.declare(counted, releases.text(name='"struck"', rho="0.05"), "struck")
    point = {"CALLWARD_CRASH_AT": "release-written:1"}
    struck = run("release", "run", "struck", *PUBLISHED, "--config", str(counted.folder), environment=point)
    assert struck.code == -signal.SIGKILL
    spent = releases.charged(counted)
    after = _released(counted, "struck").document
    assert releases.charged(counted) == spent + 50_000_000  # the draw that nobody saw is paid for, and gone
    folders = [path for path in counted.settings.released_path.rglob("cells.csv") if "struck" in str(path)]
    assert [path.parent for path in folders] == [Path(after["folder"])]


def test_6_another_declaration_over_what_is_out_is_refused(counted: Any) -> None:
    releases.declare(counted, releases.text(name='"other"', rho="0.05"), "other")
    assert _released(counted, "other").code == 0
    releases.declare(counted, releases.text(name='"other"', rho="0.05", dimensions=releases.HOUR), "other")
    refused = _released(counted, "other")
    assert (refused.code, "another declaration" in refused.err) == (2, True)


def test_6_figures_are_suppressed_by_their_noisy_values_and_the_threshold_is_printed(counted: Any) -> None:
    body = releases.text(
        name='"few"', rho="2", dimensions=releases.HOUR, measures=("subscribers",), suppress_below="11"
    )
    releases.declare(counted, body, "few")
    done = _released(counted, "few").document
    sheet = json.loads(_bytes(done)["sheet.json"])
    sigma = sheet["measures"][0]["sigma"]
    shown = [value for value in releases.cells(counted, "subscribers", "few").values() if value is not None]
    assert len(shown) < 24  # hours of the night have nobody
    assert shown and min(shown) >= 11 + 3 * sigma


def test_6_thresholds_are_called_suppressed_and_stay_inside_unless_the_tenant_says_so(counted: Any) -> None:
    body = releases.text(name='"inside"', rho=None, measures=("calls", "subscribers"))
    releases.declare(counted, body, "inside")
    made = _bytes(_released(counted, "inside").document)
    told = made["sheet.json"].decode().lower()
    assert "suppress" in told
    assert not re.search(r"(?<!not )anonym", told)
    assert min(int(row.rsplit(b",", 3)[1]) for row in made["cells.csv"].splitlines()[1:]) >= 11
    outside = releases.text(name='"outside"', rho=None, audience='"external"', more="[suppression]\nk = 15\n")
    releases.declare(counted, outside, "outside")
    refused = _released(counted, "outside")
    assert refused.code == 2
    assert "suppressed, not anonymous, and stays inside" in refused.err


# -- 7. Fast --------------------


@contextmanager
def _counted() -> Iterator[Counter[str]]:
    """Counts calls of functions, Python's and C's, in every thread that starts meanwhile, and in this one."""
    made: Counter[str] = Counter()

    def count(frame: Any, event: str, _: Any) -> None:
        if event in ("call", "c_call"):
            made[frame.f_code.co_filename.rpartition("/")[2]] += 1

    threading.setprofile(count)
    sys.setprofile(count)
    try:
        yield made
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]


def test_7_ten_times_the_records_are_hardly_more_calls(workspace: Callable[..., Any]) -> None:
    """An element is a batch: 18,000 records more may cost new distinct numbers, but no call per record."""
    made: dict[int, Counter[str]] = {}
    for rows in (20_000, 2_000, 20_000):  # the first only warms up, and is made anew
        site = workspace("asterisk", engine={"workers": 1})
        asterisk_files(
            site.settings.landing_path / "asterisk", seed=5, rows=rows, files=1, day=DAY, subscribers=500, accounts=100
        )
        with _counted() as calls:
            site.night()
        assert site.view("assurance").num_rows == rows
        made[rows] = calls
    more = made[20_000].total() - made[2_000].total()
    assert more < 0.5 * 18_000, (made[20_000] - made[2_000]).most_common(5)


def test_7_a_loop_over_records_would_be_seen(workspace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from transforms import normalize

    usual = normalize.normalize

    def slow(parsed: pa.Table, plan: Any) -> pa.Table:
        for value in parsed["calling_raw"].to_pylist():
            str.strip(value or "")
        return usual(parsed, plan)

    monkeypatch.setattr(normalize, "normalize", slow)
    made = []
    for rows in (1_000, 5_000):
        site = workspace("asterisk", engine={"workers": 1})
        asterisk_files(
            site.settings.landing_path / "asterisk", seed=5, rows=rows, files=1, day=DAY, subscribers=500, accounts=100
        )
        with _counted() as calls:
            site.night()
        made.append(calls.total())
    assert made[1] - made[0] >= 0.9 * 4_000


# -- the audit log holds after all that --------------------


# -- 8. Same answer both ways --------------------
# Here without servers; tests/pipelines/stream/test_stream.py does it through the real commands on Kafka and Flink,
# whatever is killed meanwhile, and test_inline.py beside it with everything that an engine may do.


def _landed(workspace: Callable[..., Any], feed: Path, seed: int) -> Any:
    """A workspace where the files of a feed wait, under names that give them another order."""
    sources = ("asterisk", "opensips", "cucm")
    site = workspace(*sources, thresholds={"file_errors_pct": 100.0}, stream={"buckets": 4})
    files = sorted(path for path in feed.rglob("*") if path.is_file())
    for number, path in enumerate(random.Random(seed).sample(files, len(files))):
        site.deliver([path], prefix=f"{number:03d}-")
    return site


def test_8_what_came_by_stream_and_what_came_by_batch_are_the_same_rows(
    workspace: Callable[..., Any], tmp_path: Path
) -> None:
    sources = ("asterisk", "opensips", "cucm")
    generate(tmp_path, seed=31, day=DAY, calls=400, dirt=0.02, sources=sources)
    by_batch, by_stream = (_landed(workspace, tmp_path, seed) for seed in (1, 2))
    by_batch.night(int(time.time() * 1000))
    streams.stream_once(by_stream.settings, sources, random.Random(3))
    compared = verify(by_batch.settings, by_stream.settings)
    assert compared.equal, compared.report
    assert by_stream.view("billing").num_rows > 100
    assert by_stream.unbalanced() == {}


def test_8_a_difference_is_seen(workspace: Callable[..., Any], tmp_path: Path) -> None:
    """Otherwise the comparison above would prove nothing."""
    generate(tmp_path, seed=31, day=DAY, calls=60, dirt=0.0, sources=("asterisk",))
    one, other = (_landed(workspace, tmp_path, seed) for seed in (1, 2))
    waiting(other)[0].unlink()
    one.night(int(time.time() * 1000))
    streams.stream_once(other.settings, ("asterisk",))
    assert not verify(one.settings, other.settings).equal


def test_the_audit_log_is_unbroken_after_nights_and_kills(night: Told, killed: Told) -> None:
    for told in (night, killed):
        with database.reading(told.site.settings) as connection:
            assert audit.verify(connection) > 20


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE audit_log SET reason = 'other' WHERE seq = 5",
        "UPDATE audit_log SET who = 'someone' WHERE seq = 1",
        "DELETE FROM audit_log WHERE seq = 7",
        "UPDATE audit_log SET seq = 1000 WHERE seq = 3",
    ],
)
def test_a_tampered_audit_entry_is_found(edit: str, killed: Told, tmp_path: Path) -> None:
    shutil.copytree(killed.site.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("landing", "lake"))
    with closing(sqlite3.connect(tmp_path / "copy" / "callward.db")) as connection:
        assert connection.execute(edit).rowcount == 1
        connection.commit()
    ended = run("audit", "verify", "--config", str(tmp_path / "copy")).check_clean()
    assert ended.code == 1
    assert "audit log is broken" in ended.err
