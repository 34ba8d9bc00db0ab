"""A lake on an object store: the nights, queries, purges and sweeps that files have, with the same results."""

import itertools
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from callward import query
from callward.errors import Problem
from callward.evidence import certificates
from callward.feeds import generate
from callward.lake.data_files import DataFiles
from callward.settings import Lake
from callward.storage.store import Store
from pipelines.doctor import checks as doctor
from pipelines.suspense.recycle import recycle
from pipelines.sweep import sweep
from pipelines.vacuum import remove_orphans
from schemas.tables import keys, lake_files
from schemas.views import HELD, HOLDS_SUFFIX, STORED, UNCHARGED, VIEW_PARTS
from tests import retention
from tests.commands import all_that_is, run, strays, waiting
from tests.object_stores import ObjectStore, before
from tests.postgresql import on_loopback, take_keys

DAY = date(2026, 3, 5)
SOURCES = ("asterisk", "opensips")
# Small waves and blocks, so that there are several of each.
WAVES = {"records": 500, "bucket_records": 300, "block_mebibytes": 0.04}


@pytest.fixture(scope="module")
def feeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two deliveries of a day, calls in whole and in pieces, with dirt; and all their numbers."""
    folder = tmp_path_factory.mktemp("feeds")
    for n, name in enumerate(("first", "second")):
        made = folder / name
        generate(made, seed=31 + n, day=DAY, calls=150, dirt=0.02, sources=SOURCES, numbers_to=folder / f"{n}.numbers")
    for late in sorted((folder / "first" / "opensips").glob("*bye*"))[:3]:  # the calls that they close are pending
        late.rename(folder / "second" / "opensips" / f"late-{late.name}")
    (folder / "second" / "asterisk" / "Master-20260305-18.csv").unlink()  # nothing in it is a record: it would stay
    (folder / "numbers").write_text("".join((folder / f"{n}.numbers").read_text() for n in range(2)))
    return folder


def _deliver(site: Any, feeds: Path, name: str) -> None:
    site.deliver(sorted(p for p in (feeds / name).rglob("*") if p.is_file()), prefix=f"{name}-")


@dataclass(frozen=True)
class Both:
    """Two workspaces with the same keys after the same two nights: one's lake in a bucket, the other's in a folder."""

    bucket: Any
    folder: Any
    lake: Lake
    nights: dict[str, Any]  # what they left in the folder's

    @property
    def sites(self) -> tuple[Any, Any]:
        return self.bucket, self.folder


@pytest.fixture(scope="module")
def both(workspace: Callable[..., Any], object_store: ObjectStore, feeds: Path) -> Both:
    """Their tests change nothing but by recycling, which comes to the same in both."""
    lake = object_store.lake()
    loose = {"file_errors_pct": 100.0}
    sites = [workspace(*SOURCES, waves=WAVES, thresholds=loose, **more) for more in ({"lake": lake}, {})]
    for name in ("first", "second"):
        for site in sites:
            _deliver(site, feeds, name)
            site.night()
    return Both(*sites, lake, all_that_is(sites[1]))


# -- the same as on files ----------------------------------------------------------------------------------------------


def _equal(site: Any, expected: dict[str, Any]) -> None:
    found = all_that_is(site)
    assert [what for what in expected if found[what] != expected[what]] == []


def test_two_nights_leave_the_same_in_a_bucket_as_in_a_folder(both: Both) -> None:
    assert [what for what in both.nights if not both.nights[what]] == [UNCHARGED]  # the feeds have no such call
    _equal(both.bucket, both.nights)
    for site in both.sites:
        assert (strays(site), waiting(site), site.unbalanced(), site.differing()) == ([], [], {}, 0)


def test_nothing_of_the_lake_lies_on_this_machine(both: Both, object_store: ObjectStore) -> None:
    lake = both.bucket.folder / "lake"
    assert not lake.exists() or not any(lake.iterdir())
    objects = object_store.objects(both.lake)
    assert {name.partition("/")[0] for name in objects} == {*STORED, "suspense", "pending", "archive"} - {UNCHARGED}
    assert all(body[:4] == b"PARE" or body[:6] == b"CWSEAL" for body in objects.values())


@pytest.mark.parametrize(
    ("role", "case", "asked"),
    [
        ("billing", "", "SELECT account, sum(talk_ms) AS talk FROM billing GROUP BY ALL ORDER BY ALL"),
        ("billing", "CASE-1", "SELECT calling_number, start FROM billing ORDER BY ALL LIMIT 50"),
        ("billing", "", "SELECT * FROM billing_usage_daily ORDER BY ALL"),
        ("assurance", "", "SELECT disposition, count(*) AS n FROM assurance WHERE leg = 0 GROUP BY ALL ORDER BY 1"),
        ("assurance", "", "SELECT start FROM assurance LIMIT 0"),
    ],
)
def test_sql_answers_the_same(both: Both, role: str, case: str, asked: str) -> None:
    purpose = "dispute" if case else ""
    answers = [query.query(site.settings, role, asked, purpose=purpose, case=case) for site in both.sites]
    assert answers[0].equals(answers[1])
    assert answers[0].num_rows or "LIMIT 0" in asked


def test_a_query_that_stops_early_leaves_nothing_running(both: Both) -> None:
    """In a process of its own, which has to end."""
    asked = ("sql", "--role", "assurance", "--config", str(both.bucket.folder), "SELECT leg FROM assurance LIMIT 1")
    ended = run(*asked).check_clean()
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.endurance
def test_recycling_does_the_same(both: Both) -> None:
    ours, theirs = (recycle(site.settings, [], []) for site in both.sites)
    assert ours.taken == theirs.taken > 0 and ours.buckets == theirs.buckets
    _equal(both.bucket, all_that_is(both.folder))


def test_a_sweep_reads_the_bucket_and_finds_what_is_planted(
    both: Both, feeds: Path, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    bucket, lake = both.bucket, both.lake
    clean = sweep(bucket.settings, [], feeds / "numbers", lambda line: None)
    assert clean.report.hits == []
    size = sum(len(body) for body in object_store.objects(lake).values())
    assert clean.report.bytes > size
    number = (feeds / "numbers").read_text().split()[0]
    store = Store.of(bucket.settings)
    store.write("billing/leak.parquet", b"told: " + number.encode())
    store.write(f"archive/{number[2:]}/x.seal", b"CWSEAL")
    try:
        found = sweep(bucket.settings, [], feeds / "numbers", lambda line: None)
    finally:
        store.remove(["billing/leak.parquet", f"archive/{number[2:]}/x.seal"])
    hits = {(str(hit.file), hit.form.partition("/")[0]) for hit in found.report.hits}
    assert (f"{lake.uri}/billing/leak.parquet", "e164") in hits
    assert {form for _, form in hits} == {"e164", "name"}
    assert number[2:] not in repr(found.to_dict())


# -- retention ---------------------------------------------------------------------------------------------------------

AS_OF = date(2026, 8, 10)  # past the windows of DAY, and within that of billing rows 20 days later


@pytest.fixture
def kept(workspace: Callable[..., Any], object_store: ObjectStore) -> Callable[..., Any]:
    """kept(**settings) → a workspace with rows past every window, some of them held."""

    def make(**more: Any) -> Any:
        site = workspace("generic", retention=retention.WINDOWS, **more)
        rows = [retention.call(n, caller=retention.OTHER if n % 3 == 0 else retention.CALLER) for n in range(12)]
        retention.night(site, retention.feed(*rows))
        later = DAY + timedelta(20)
        rows = [retention.call(30 + n, later) for n in range(3)]
        retention.night(site, retention.feed(*rows), later + timedelta(1), "b.csv")
        retention.hold(site, numbers=(retention.OTHER,))
        return site

    return make


def _left(site: Any) -> dict[str, Any]:
    """What a purge leaves, without ids that are drawn at random."""
    files = DataFiles(site.opened, "test")
    views = [*VIEW_PARTS, *(f"{HELD}{part}" for part in VIEW_PARTS)]
    rows = {v: sorted(repr(row) for f in site.data_files(v) for row in files.rows(f).to_pylist()) for v in views}
    (made,) = certificates.list_certificates(site.settings)
    checks = {c.name: c.ok for c in certificates.verify(site.settings, made.certificate_id)}
    minted = sorted((k.domain, k.month, k.purpose.partition(".")[0], k.state) for k in site._rows(keys))
    named = {row.path for row in site._rows(lake_files) if row.removed_at is None}
    assert {file.path.removesuffix(HOLDS_SUFFIX) for file in Store.of(site.settings).list()} == named
    return {**rows, "entries": site.entries(), "derived": site.derived(), "keys": minted, "checks": checks}


def test_a_purge_does_the_same_and_says_whether_versions_are_kept(
    kept: Callable[..., Any], object_store: ObjectStore
) -> None:
    lake = object_store.lake()
    ours, theirs = kept(lake=lake), kept()
    done = [retention.purged(site, AS_OF) for site in (ours, theirs)]
    assert [d["status"] for d in done] == ["partial", "partial"]
    assert done[0]["classes"] == done[1]["classes"] and done[0]["failed_checks"] == []
    found, expected = _left(ours), _left(theirs)
    assert found["checks"] == expected["checks"] | {"object versions": True}
    assert all(found["checks"].values())
    assert {**found, "checks": 0} == {**expected, "checks": 0}
    assert (len(found["billing"]), len(found["held-billing"])) == (3, 4)
    (made,) = certificates.list_certificates(ours.settings)
    assert made.body["media"]["store"] == lake.uri
    assert made.body["exclusions"]["object_versions"] == "none are kept by the bucket"


def test_a_purge_in_a_bucket_that_keeps_versions_is_not_complete(
    kept: Callable[..., Any], object_store: ObjectStore
) -> None:
    """Promise 5: gone means gone, and what is not is said in the certificate and by doctor."""
    lake = object_store.lake()
    site = kept(lake=lake)
    bucket = lake.uri.removeprefix("s3://").partition("/")[0]
    object_store.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    done = retention.purged(site, AS_OF)
    assert [sentence for sentence in done["failed_checks"] if "lives on" in sentence]
    (made,) = certificates.list_certificates(site.settings)
    assert made.status == "partial" and any("object versions" in why for why in made.body["partial_because"])
    states = {f.what: f.state for f in doctor.examine(str(site.folder))}
    assert (states["lake"], states["lake versions"]) == (doctor.OK, doctor.WARNING)


def test_doctor_says_what_is_wrong_with_a_bucket(workspace: Callable[..., Any], object_store: ObjectStore) -> None:
    lake = object_store.lake()
    site = workspace("generic", lake=lake)
    found = {f.what: f for f in doctor.examine(str(site.folder))}
    assert (found["lake"].state, found["lake versions"].state) == (doctor.OK, doctor.OK)
    assert "lake endpoint" not in found
    site.set(lake={"uri": "s3://nobody-made-this"})
    found = {f.what: f for f in doctor.examine(str(site.folder))}
    assert found["lake"].state == doctor.WRONG and "there is no bucket" in found["lake"].seen


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_a_night_and_a_query_without_their_bucket_are_one_sentence(
    workspace: Callable[..., Any], object_store: ObjectStore, feeds: Path
) -> None:
    """And the night after does what that one did not."""
    lake = object_store.lake()
    site = workspace(*SOURCES, waves=WAVES, thresholds={"file_errors_pct": 100.0}, lake=lake)
    _deliver(site, feeds, "first")
    site.set(lake={"uri": "s3://nobody-made-this"})
    landed = waiting(site)
    ended = run("nightly", "--config", str(site.folder)).check_clean()
    assert ended.code == 1 and "there is no bucket 'nobody-made-this'" in ended.sentences[-1]
    assert len([line for line in ended.sentences if line.startswith("callward:")]) == 1 and waiting(site) == landed
    site.set(lake={"uri": lake.uri})
    site.night()
    assert (strays(site), waiting(site), site.unbalanced()) == ([], [], {})
    store = Store.of(site.settings)
    store.remove(file.path for file in store.list("billing"))
    with pytest.raises(Problem, match="is not in the lake"):
        query.query(site.settings, "billing", "SELECT count(*) FROM billing WHERE talk_ms > 0")


def test_a_query_that_the_store_refuses_is_one_sentence(both: Both, object_store: ObjectStore) -> None:
    """It is not taken for a data file that was altered, wherever it comes: at the first request or at the last."""
    asked = _requests_of_a_query(both, object_store.endpoint, answered=1 << 30)
    assert asked > 5
    for answered in (0, asked // 2, asked - 1):
        with pytest.raises(Problem) as wrong:
            _requests_of_a_query(both, object_store.endpoint, answered)
        assert "refuses: look at the credentials" in str(wrong.value) and "AWS Error" not in str(wrong.value)


def _requests_of_a_query(both: Both, endpoint: str, answered: int) -> int:
    """Ask through a server that answers so many requests and refuses the others; returns how many there were."""
    count, path = itertools.count(), both.bucket.settings.path
    text = path.read_text(encoding="utf-8")
    with before(endpoint, lambda *_: (403, "AccessDenied") if next(count) >= answered else None) as watched:
        path.write_text(text.replace(endpoint, watched), encoding="utf-8")
        try:
            query.query(both.bucket.settings, "billing", "SELECT sum(talk_ms) FROM billing")
        finally:
            path.write_text(text, encoding="utf-8")
    return next(count)


POINTS = ("archive-written", "view-written", "view-written:3", "commit-ready", "committed", "superseded-removed")


@pytest.mark.endurance
def test_a_night_killed_on_a_bucket_ends_as_one_clean_run(
    workspace: Callable[..., Any], object_store: ObjectStore, feeds: Path, both: Both
) -> None:
    site = workspace(*SOURCES, waves=WAVES, thresholds={"file_errors_pct": 100.0}, lake=object_store.lake())
    _deliver(site, feeds, "first")
    for where in (*POINTS, ""):
        if where == "superseded-removed":
            ended = run("nightly", "--config", str(site.folder)).check_clean()
            assert ended.code == 0, ended.err
            _deliver(site, feeds, "second")
        ended = run("nightly", "--config", str(site.folder), environment={"CALLWARD_CRASH_AT": where})
        ended.check_clean()
        assert ended.code == (-signal.SIGKILL if where else 0), f"{where}: {ended.code}, {ended.err[-300:]}"
    assert (strays(site), waiting(site), site.unbalanced(), site.differing()) == ([], [], {}, 0)
    _equal(site, both.nights)


@pytest.mark.endurance
@pytest.mark.parametrize("where", ["purge-tombstoned", "disposal-file-removed", "disposal-files-removed"])
def test_a_purge_killed_on_a_bucket_is_ended_by_the_next(
    kept: Callable[..., Any], object_store: ObjectStore, where: str
) -> None:
    site = kept(lake=object_store.lake())
    arguments = ("purge", "--as-of", AS_OF.isoformat(), "--json", "--config", str(site.folder))
    planned = run(*arguments).check_clean()
    key = retention.person(site)
    approval = ("--approve", planned.document["plan_id"], "--person", "ada", "--key", str(key))
    ended = run(*arguments, *approval, environment={"CALLWARD_CRASH_AT": where})
    assert ended.code == -signal.SIGKILL, ended.err
    ended = run(*arguments).check_clean()
    assert ended.code == 0, ended.err
    assert all(_left(site)["checks"].values())


def test_orphans_of_a_dead_run_leave_the_bucket(workspace: Callable[..., Any], object_store: ObjectStore) -> None:
    lake = object_store.lake()
    site = workspace("generic", lake=lake)
    files = DataFiles(site.opened, "deadrun")
    files.write_archive("default", b"x")
    retention.night(site)
    there = object_store.objects(lake)
    assert remove_orphans(site.settings, over={"deadrun"}) == 1
    assert len(object_store.objects(lake)) == len(there) - 1
    assert strays(site) == []


# -- with PostgreSQL ---------------------------------------------------------------------------------------------------


@pytest.mark.endurance
def test_a_night_with_postgresql_and_a_bucket_is_the_same(
    workspace: Callable[..., Any], object_store: ObjectStore, fresh_url: str, both: Both, feeds: Path
) -> None:
    """Both shared places are servers."""
    more = {"database": on_loopback(fresh_url), "lake": object_store.lake()}
    site = workspace(*SOURCES, waves=WAVES, thresholds={"file_errors_pct": 100.0}, **more)
    take_keys(site, both.folder)
    for delivery in ("first", "second"):
        _deliver(site, feeds, delivery)
        site.night()
    _equal(site, both.nights)
    assert (strays(site), site.unbalanced(), site.differing()) == ([], {}, 0)
