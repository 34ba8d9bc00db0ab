"""A night and a purge on a real object store: MinIO, built from its source and run on loopback. By `make endurance`.

MinIO is under the AGPL: it is a server that only this test runs, and no part of callward. CALLWARD_MINIO names a
program that is there already; else Go builds it once (some minutes) and keeps it in the user's cache.
"""

import os
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from callward import query
from callward.evidence import certificates
from callward.feeds import generate
from callward.storage.store import NO_VERSIONS, VERSIONS, Store
from pipelines.engine.child_process import die_with_parent
from pipelines.sweep import sweep
from tests import retention
from tests.commands import all_that_is, killed_after, run, strays, waiting
from tests.object_stores import CREDENTIALS, ObjectStore, credentials
from tests.servers import free_ports, needed, until

VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
SOURCES = ("asterisk", "opensips", "cucm")
DAY = date(2026, 3, 5)
LOOSE = {"file_errors_pct": 100.0}

pytestmark = pytest.mark.endurance


def _program() -> str:
    """MinIO's server program, built where it is not there yet."""
    if named := os.environ.get("CALLWARD_MINIO"):
        return named
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "callward" / f"minio-{VERSION}"
    if not (cache / "minio").exists():
        go = shutil.which("go")
        needed(go is not None, "Go is missing, and MinIO is built from its source: apt-get install golang-go")
        built = [str(go), "install", f"github.com/minio/minio@{VERSION}"]
        subprocess.run(built, check=True, env={**os.environ, "GOBIN": str(cache)}, capture_output=True)
    return str(cache / "minio")


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A MinIO server with an empty folder, and the credentials for it in the environment."""
    program, folder, (port, console) = _program(), tmp_path_factory.mktemp("minio"), free_ports(2)
    user, secret = CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
    own = {"MINIO_ROOT_USER": user, "MINIO_ROOT_PASSWORD": secret}
    command = [program, "server", str(folder), f"--address=127.0.0.1:{port}", f"--console-address=127.0.0.1:{console}"]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(die_with_parent(command), env={**os.environ, **own}, stdout=subprocess.DEVNULL) as server:
        try:
            until(lambda: urllib.request.urlopen(f"{url}/minio/health/ready", timeout=2), "MinIO to be ready")
            with pytest.MonkeyPatch.context() as patch:
                credentials(patch)
                yield ObjectStore(url)
        finally:
            server.terminate()


def test_nights_on_minio_leave_what_they_leave_in_a_folder(
    workspace: Callable[..., Any], minio: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when each was killed at random moments before; and a sweep of its objects finds no number."""
    numbers = tmp_path / "numbers"
    generate(tmp_path / "feeds", seed=41, day=DAY, calls=4000, dirt=0.01, sources=SOURCES, numbers_to=numbers)
    files = sorted(path for path in (tmp_path / "feeds").rglob("*") if path.is_file())
    waves = {"records": 2000, "bucket_records": 1000, "block_mebibytes": 0.2}
    ours = workspace(*SOURCES, waves=waves, thresholds=LOOSE, lake=minio.lake())
    theirs = workspace(*SOURCES, waves=waves, thresholds=LOOSE)
    for site in (ours, theirs):
        site.deliver(files)
    for seconds in (0.5, 1.5, 3.0):
        killed_after(seconds, "nightly", "--config", str(ours.folder)).check_clean()
    for site in (ours, theirs):
        ended = run("nightly", "--config", str(site.folder)).check_clean()
        assert ended.code == 0, ended.err
    assert (strays(ours), waiting(ours), ours.unbalanced(), ours.differing()) == ([], [], {}, 0)
    found, expected = all_that_is(ours), all_that_is(theirs)
    assert [what for what in expected if found[what] != expected[what]] == []
    asked = "SELECT account, count(*) AS n, sum(talk_ms) AS talk FROM billing GROUP BY ALL ORDER BY ALL"
    answers = [query.query(site.settings, "billing", asked) for site in (ours, theirs)]
    assert answers[0].num_rows and answers[0].equals(answers[1])
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    assert sweep(ours.settings, [], numbers, lambda line: None).report.hits == []


def test_a_purge_on_minio_is_certified(workspace: Callable[..., Any], minio: ObjectStore) -> None:
    """Complete where the bucket keeps no versions, partial where it does."""
    for versioned in (False, True):
        lake = minio.lake()
        bucket = lake.uri.removeprefix("s3://").partition("/")[0]
        site = workspace("generic", retention=retention.WINDOWS, lake=lake)
        retention.night(site)
        if versioned:
            minio.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        assert Store.of(site.settings).versions() == (VERSIONS if versioned else NO_VERSIONS)
        done = retention.purged(site, date(2026, 9, 2))
        assert done["status"] == ("partial" if versioned else "done")
        checks = {c.name: c.ok for c in certificates.verify(site.settings, done["certificate"])}
        assert {name for name, ok in checks.items() if not ok} == ({"object versions"} if versioned else set())
        assert (site.view("billing").num_rows, site.view("assurance").num_rows) == (0, 0)
