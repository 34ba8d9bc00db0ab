"""backout: afterwards all is as though the delivery had never come, in whatever order deliveries came."""

import gzip
import random
import re
import signal
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from callward import database
from callward.errors import Problem
from callward.feeds import generate
from callward.lake.data_files import DataFiles
from callward.settings import Tenant
from pipelines.compact import compact
from pipelines.corrections.run import back_out, reprocess
from schemas.retention_classes import CLASSES
from schemas.tables import audit_log, lake_files
from schemas.views import INDEX
from tests.commands import all_that_is, run, strays
from tests.comparison import verify
from tests.meanwhile import comes_between, commit_another, without_pauses
from tests.retention import CALLED, OTHER, call, copied, feed, hold, night
from tests.test_two_elements import _NOON, MORNING, charged, element, is_sound, usage
from tests.test_two_elements import feed as of_elements

LAST = date(2026, 2, 28)
TORN = "torn,record\n"
_VERSION = re.compile(r"(?s)(?<='kind': 'row', )'payload': .*(?=, 'shape')")
FIRST = feed(*(call(n, LAST) for n in range(4)), call(4, LAST, answered=False), TORN)
SECOND = feed(*(call(n, LAST) for n in range(2, 7)), call(8, LAST + timedelta(1), OTHER, "ac-0007"), TORN, TORN)
POINTS = ("view-written:2", "suspense-written", "commit-half", "correction-ready", "correction-committed")


def without_file(site: Any, name: str) -> dict[str, Any]:
    """All that is in a site, but for what says that a file was ever there. What it brought must all be withdrawn."""
    found = all_that_is(site)
    ledger = {key: amounts for key, amounts in found["ledger"].items() if key[0] == name}
    assert {bucket for _, bucket, _ in ledger} <= {"in", "withdrawn"} and len({*ledger.values()}) <= 1
    found["ledger"] = {key: amounts for key, amounts in found["ledger"].items() if key[0] != name}
    for what in ("files", "blocks"):
        found[what] = [row for row in found[what] if row[0] != name]
    return found


def differing(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """What two workspaces do not have in common. Versions in suspense say which bucket they came from: that differs."""
    both = ({**of, "suspense": [_VERSION.sub("", row) for row in of["suspense"]]} for of in (ours, theirs))
    one, other = both
    return {what: (one[what], other[what]) for what in one if one[what] != other[what]}


def check_sound(site: Any) -> None:
    assert not site.unbalanced() and site.differing() == 0


@pytest.fixture(scope="module")
def delivered(workspace: Callable[..., Any]) -> Any:
    """Two deliveries that share records over a month's end, one of them in two versions; only copied."""
    site = workspace("generic")
    night(site, FIRST, name="first.csv")
    night(site, SECOND, name="second.csv")
    return site


@pytest.fixture(scope="module")
def second_alone(workspace: Callable[..., Any]) -> dict[str, Any]:
    site = workspace("generic")
    night(site, SECOND, name="second.csv")
    return all_that_is(site)


@pytest.fixture
def site(delivered: Any, tmp_path: Path) -> Any:
    return copied(delivered, tmp_path / "copy")


def test_what_other_files_hold_takes_the_place_of_a_delivery_that_is_backed_out(
    site: Any, second_alone: dict[str, Any]
) -> None:
    before = all_that_is(site)
    tried = back_out(site.settings, ["generic/first.csv"], dry_run=True)
    assert all_that_is(site) == before and strays(site) == []
    done = back_out(site.settings, ["generic/first.csv"])
    assert (tried.corrected.rows_before, tried.corrected.rows_after) == (5, 3)
    assert all(getattr(done.corrected, name) == getattr(tried.corrected, name) for name in ("files", "others", "usage"))
    assert [file.after for file in done.corrected.files] == [{"in": 6, "withdrawn": 6}]
    assert [file.file_no for file in done.corrected.others] == [2]
    assert sum(usage.calls for usage in done.corrected.usage) == -2
    check_sound(site)
    assert differing(without_file(site, "generic/first.csv"), second_alone) == {}
    assert [row.event for row in site._rows(audit_log)].count("backout") == 1


def test_repetitions_go_alone_and_need_no_archive(site: Any, workspace: Callable[..., Any]) -> None:
    before = all_that_is(site)
    night(site, feed(*(call(n, LAST) for n in range(4))), name="again.csv")
    _lose_archive(site)
    done = back_out(site.settings, ["3"])
    assert done.corrected.others == [] and done.corrected.usage == []
    assert differing(without_file(site, "generic/again.csv"), before) == {}


def test_a_delivery_is_backed_out_once_and_may_come_again(site: Any, second_alone: dict[str, Any]) -> None:
    before = all_that_is(site)
    back_out(site.settings, ["1"])
    again = back_out(site.settings, ["1"])
    assert again.already == [1] and again.corrected.files == []
    night(site, FIRST, name="first.csv")
    check_sound(site)
    counted = {key: amounts for key, amounts in all_that_is(site)["ledger"].items() if key[1] == "accepted"}
    total = {key: amounts for key, amounts in before["ledger"].items() if key[1] == "accepted"}
    assert sum(rows for rows, _ in counted.values()) == sum(rows for rows, _ in total.values())
    with pytest.raises(Problem, match="no file 99 came in"):
        back_out(site.settings, ["99"])


def test_what_is_under_hold_is_not_backed_out(site: Any) -> None:
    before = all_that_is(site)
    placed = hold(site, accounts=("ac-0007",), numbers=(CALLED,))
    with pytest.raises(Problem, match=rf"under hold \({placed.hold_id}\): nothing was changed"):
        back_out(site.settings, ["1"])
    assert all_that_is(site) == before


def test_a_delivery_stays_where_the_archive_lost_what_would_take_its_place(site: Any) -> None:
    before = all_that_is(site)
    _lose_archive(site)
    with pytest.raises(Problem, match="file 2: the archive does not have them"):
        back_out(site.settings, ["1"])
    assert all_that_is(site) == before


def _lose_archive(site: Any) -> None:
    """As a purge leaves it."""
    with database.writing(site.settings) as connection:
        old = update(lake_files).where(lake_files.c.view == "archive")
        connection.execute(old.values(superseded_at=database.now(), superseded_by="purge"))


def test_a_backout_killed_at_every_named_point_ends_as_one_clean_run(site: Any, second_alone: dict[str, Any]) -> None:
    words = ("backout", "--file", "1", "--config", str(site.folder))
    for where in POINTS:
        ended = run(*words, environment={"CALLWARD_CRASH_AT": where})
        assert ended.code == -signal.SIGKILL, f"{where} was not reached: {ended.err[-300:]}"
    assert run(*words, "--json").check_clean().document["already"] == [1]
    site.night()  # what was superseded leaves the disk
    check_sound(site)
    assert strays(site) == []
    assert differing(without_file(site, "generic/first.csv"), second_alone) == {}


# -- in every order, of every kind of source ---------------------------------------------------------------------------

SOURCES = ("opensips", "cucm", "freeswitch", "generic")
HEADERS = {"cucm": 1, "generic": 1}  # lines at the beginning of each file


Lines = dict[tuple[str, str], list[bytes]]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Lines:
    return cut_feed(tmp_path_factory.mktemp("feed"))


def cut_feed(folder: Path) -> Lines:
    """Records over a month's end, some torn, repeated or contradicted, by source and kind of file: pieces and legs of
    calls, and their quality."""
    found = Lines()
    made = generate(folder, seed=3, day=LAST, calls=80, dirt=0.1, sources=SOURCES)
    for path in made.files:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        head, kind = HEADERS.get(path.parent.name, 0), path.name[:3]
        of_kind = found.setdefault((path.parent.name, kind), data.splitlines(keepends=True)[:head])
        of_kind += [line if line.endswith(b"\n") else line + b"\n" for line in data.splitlines(keepends=True)[head:]]
    return found


def deliveries(lines: Lines, chance: random.Random) -> dict[tuple[str, str], bytes]:
    """Cut files into deliveries that share some of their records, in no order."""
    made = {}
    for (source, kind), of_file in sorted(lines.items()):
        head, body = of_file[: HEADERS.get(source, 0)], of_file[HEADERS.get(source, 0) :]
        for number in range(3):
            part = [line for line in body if chance.random() < 0.5]
            made[source, f"{kind}-{number}.csv"] = b"".join([*head, *(part or body)])
    return made


def check_any_history(workspace: Callable[..., Any], lines: Lines, seed: int) -> None:
    chance = random.Random(seed)
    made = deliveries(lines, chance)
    order, gone = chance.sample(sorted(made), len(made)), chance.sample(sorted(made), 4)
    site, clean = (workspace(*SOURCES, thresholds={"file_errors_pct": 100.0}) for _ in range(2))
    for of_night in (order[::2], order[1::2]):
        for source, name in of_night:
            site.land(source, name, made[source, name])
        site.night()
    back_out(site.settings, [f"{source}/{name}" for source, name in gone[::2]])
    for source, name in gone[1::2]:
        back_out(site.settings, [f"{source}/{name}"])
    stays = [name for name in order if name not in gone]
    reprocess(site.settings, named=["/".join(chance.choice(stays))])  # read again as it was, all is as it was
    for source, name in order:
        if (source, name) not in gone:
            clean.land(source, name, made[source, name])
    clean.night()
    check_sound(site)
    found = verify(site.settings, clean.settings)
    assert [line for line in found.report.splitlines() if not line.startswith("ledger")] == []  # compared by file
    assert _counted(site) == _counted(clean)


def _counted(site: Any) -> dict[str, Any]:
    """Rows and talk by source and bucket, of files that were not backed out."""
    sums: dict[str, Counter[tuple[str, str]]] = {}
    for name, buckets in site.balances().items():
        if "withdrawn" not in buckets:
            for bucket, (rows, talk) in buckets.items():
                counted = sums.setdefault(name.partition("/")[0], Counter())
                counted[bucket, "rows"] += rows
                counted[bucket, "talk_ms"] += talk
    return {name: {key: amount for key, amount in of.items() if amount} for name, of in sums.items()}


@pytest.mark.parametrize(
    "seed", [6, *(pytest.param(seed, marks=pytest.mark.endurance) for seed in (2568743099, 3330524911))]
)
def test_a_lake_ends_as_though_it_never_saw_what_was_backed_out(workspace: Any, lines: Lines, seed: int) -> None:
    """Also where lines that nobody can read stand in several files, and several times in one; and where a version that
    lost came twice in a night."""
    check_any_history(workspace, lines, seed)


@pytest.mark.parametrize("twice", [0, 1])
def test_a_version_that_lost_and_came_twice_in_a_night_is_suspended_once_and_a_repetition_once(
    workspace: Callable[..., Any], twice: int
) -> None:
    """The index says of both what the ledger counts, so what stands against them can be backed out."""
    versions = [call(1, answered=False), call(1, caller=OTHER, answered=False)]
    site = workspace("generic")
    night(site, feed(versions[1 - twice]), name="b.csv")
    site.land("generic", "a.csv", feed(versions[twice]))
    site.land("generic", "c.csv", feed(versions[twice], versions[1 - twice]))
    site.night()
    files = DataFiles(site.opened, "test")
    index = Counter(state for file in site.data_files(INDEX) for state in files.rows(file)["state"].to_pylist())
    ledger = Counter[str]()
    for buckets in site.balances().values():
        ledger.update({bucket: rows for bucket, (rows, _) in buckets.items() if bucket != "in"})
    assert index == +ledger
    for name in "bac":
        back_out(site.settings, [f"generic/{name}.csv"])
        check_sound(site)


@pytest.mark.endurance
def test_many_lakes_end_so(workspace: Any, lines: Lines) -> None:
    for seed in random.sample(range(1 << 32), 60):
        print(f"seed {seed}")
        check_any_history(workspace, lines, seed)


def test_the_record_of_another_element_is_charged_where_the_one_that_counted_goes(
    workspace: Callable[..., Any], feed_source: Callable[..., Any]
) -> None:
    site = workspace(element(feed_source, "core", 1), element(feed_source, "edge", 2))
    for name in ("core", "edge"):
        site.land(name, f"{name}.csv", of_elements(usage(name, _NOON, 60)))
    site.night(MORNING)
    assert charged(site) == ["core"]
    back_out(site.settings, ["core/core.csv"])
    assert charged(site) == ["edge"] and is_sound(site)


def test_closed_dates_of_two_tenants_are_as_though_the_delivery_never_came(
    workspace: Callable[..., Any], feed_source: Callable[..., Any]
) -> None:
    both = ("east", "west")
    source = feed_source("generic", tenant="east", tenant_field="account", tenants={name: name for name in both})
    windows = dict.fromkeys(CLASSES, "99 years")
    tenants = {name: Tenant(retention=windows) for name in both}
    how = {"tenants": tenants, "accounts": [], "waves": {"bucket_records": 4}}
    site, clean = (workspace(source, **how, lake={"close_after_hours": 48.0, "grace_minutes": 0.0}) for _ in range(2))
    made = {
        name: feed(*(call(n, LAST + timedelta(n % 2), account=both[n % 2 if n < 20 else 0]) for n in numbers))
        for name, numbers in (("a.csv", range(24)), ("b.csv", range(12, 36)))
    }
    night(site, made["a.csv"], name="a.csv")
    for of in (site, clean):
        night(of, made["b.csv"], name="b.csv")
        compact(of.settings, now=datetime(2026, 4, 1))
        assert all(file.closed for file in of.data_files("answered"))
    back_out(site.settings, ["1"])
    compact(site.settings, now=datetime(2026, 4, 1))
    check_sound(site)
    assert site.derived() == clean.derived()
    ours, theirs = (sorted(map(_told, of.view("billing").to_pylist())) for of in (site, clean))
    assert len(ours) == 24 and ours == theirs


def _told(row: dict[str, Any]) -> str:
    """What a row of billing says, but for ids and tokens."""
    return repr({name: value for name, value in row.items() if not name.endswith(("_id", "_token"))})


# -- beside others -----------------------------------------------------------------------------------------------------


def test_a_backout_begins_anew_where_another_commit_came_first(
    site: Any, second_alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pauses(monkeypatch)
    passed = comes_between(monkeypatch, "suspense-written", lambda: commit_another(site, LAST.isoformat()))
    back_out(site.settings, ["1"])
    assert passed.count("suspense-written") == 4 and passed.count("correction-ready") == 1
    check_sound(site)
    assert differing(without_file(site, "generic/first.csv"), second_alone) == {}


def test_two_corrections_at_once_are_one_after_the_other(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = []

    def other() -> None:
        with pytest.raises(Problem, match="is being worked on by run") as caught:
            back_out(site.settings, ["2"])
        refused.append(caught.value)

    comes_between(monkeypatch, "suspense-written", other)
    back_out(site.settings, ["1"])
    assert len(refused) == 1
    back_out(site.settings, ["2"])
    assert site.view("billing").num_rows == 0 and not site.unbalanced() and site.differing() == 0
