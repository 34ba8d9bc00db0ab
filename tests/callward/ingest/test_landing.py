"""The landing folder: what is complete, what is left alone, and names that may hold a number."""

import gzip
import os
import time

import pytest
import zstandard

from callward.ingest.landing import Arrival, LeftAlone, arrivals, open_plain, remove, strangers

NUMBER = "13035550142"


@pytest.fixture
def landed(workspace, feed_source):
    """A factory: how a source says that a file is complete → (site, its folder)."""

    def make(complete, **changes):
        site = workspace(feed_source("asterisk", complete=complete), **changes)
        return site, site.settings.landing_path / "asterisk"

    return make


def listed(site):
    found = list(arrivals(site.settings, site.settings.source("asterisk")))
    taken = [item.path.name for item in found if isinstance(item, Arrival)]
    return taken, {item.name: item for item in found if isinstance(item, LeftAlone)}


def test_a_rename_makes_a_file_complete(landed):
    site, folder = landed("rename")
    for name in ("b.csv", "a.csv", ".a.csv", "c.csv.tmp", "d.part", "e.writing"):
        (folder / name).write_text("x")
    (folder / "deep").mkdir()
    (folder / "deep" / "f.csv").write_text("x")
    taken, left = listed(site)
    assert taken == ["a.csv", "b.csv", "f.csv"]
    assert len(left) == 4 and not any(item.wrong for item in left.values())


def test_a_marker_makes_a_file_complete_and_goes_with_it(landed):
    site, folder = landed("marker")
    for name in ("a.csv", "a.csv.done", "b.csv"):
        (folder / name).write_text("x")
    taken, left = listed(site)
    assert taken == ["a.csv"] and "marker" in left["asterisk/b.csv"].reason
    (arrival,) = [a for a in arrivals(site.settings, site.settings.source("asterisk")) if isinstance(a, Arrival)]
    assert remove(arrival, "marker")
    assert sorted(os.listdir(folder)) == ["b.csv"]


def test_a_file_that_rests_is_complete(landed):
    site, folder = landed("stable", landing={"stable_seconds": 30.0})
    (folder / "a.csv").write_text("x")
    assert listed(site)[0] == []
    site, folder = landed("stable", landing={"stable_seconds": 0.0})
    (folder / "a.csv").write_text("x")
    time.sleep(0.01)
    assert listed(site)[0] == ["a.csv"]


def test_links_are_wrong_and_not_followed(landed, tmp_path):
    site, folder = landed("rename")
    (tmp_path / "outside.csv").write_text("x")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "inner.csv").write_text("x")
    (folder / "link.csv").symlink_to(tmp_path / "outside.csv")
    (folder / "tree").symlink_to(tmp_path / "tree")
    (folder / "gone.csv").symlink_to(tmp_path / "nothing")
    os.mkfifo(folder / "pipe")
    taken, left = listed(site)
    assert taken == [] and {"asterisk/link.csv", "asterisk/gone.csv", "asterisk/pipe"} <= set(left)
    assert all(item.wrong for item in left.values())


def test_a_file_that_changed_since_it_was_listed_stays(landed):
    site, folder = landed("rename")
    (folder / "a.csv").write_text("x")
    (arrival,) = arrivals(site.settings, site.settings.source("asterisk"))
    (folder / "a.csv").write_text("more")
    assert not remove(arrival, "rename") and (folder / "a.csv").exists()
    (arrival,) = arrivals(site.settings, site.settings.source("asterisk"))
    assert remove(arrival, "rename") and not (folder / "a.csv").exists()
    assert remove(arrival, "rename"), "gone is gone"


def test_folders_of_no_source_are_told(landed):
    site, _ = landed("rename")
    (site.settings.landing_path / f"switch-{NUMBER}").mkdir()
    (item,) = strangers(site.settings)
    assert item.wrong and NUMBER not in item.name


@pytest.mark.parametrize(("suffix", "form"), [("", "plain"), (".gz", "gzip"), (".zst", "zstd"), (".GZ", "gzip")])
def test_packed_files_are_known_by_name_and_read_alike(tmp_path, suffix, form):
    packed = {"plain": bytes, "gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}[form](b"line\n" * 9)
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(packed)
    assert Arrival("s", path, path.name, 1, 1).form == form
    with open_plain(path, form) as stream:
        assert stream.read() == b"line\n" * 9
