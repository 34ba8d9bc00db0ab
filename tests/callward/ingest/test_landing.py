"""The landing folder: what is complete, what is left alone, and names that may hold a number."""

import gzip
import os
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from callward.ingest.landing import (
    Arrival,
    FileChanged,
    LeftAlone,
    arrivals,
    decompressed,
    open_landed,
    read_range,
    remove,
    strangers,
    unchanged,
)

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


def test_a_file_with_a_second_name_is_left_alone_until_it_has_one(landed, tmp_path):
    site, folder = landed("rename")
    (tmp_path / "elsewhere.csv").write_text("x")
    os.link(tmp_path / "elsewhere.csv", folder / "a.csv")
    taken, left = listed(site)
    assert taken == [] and left["asterisk/a.csv"].wrong and "hard link" in left["asterisk/a.csv"].reason
    (tmp_path / "elsewhere.csv").unlink()
    assert listed(site)[0] == ["a.csv"]


def test_a_source_folder_that_is_a_link_is_wrong(landed, tmp_path):
    site, folder = landed("rename")
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    (folder / "a.csv").write_text("x")
    taken, left = listed(site)
    assert taken == [] and left["asterisk"].wrong


def twin(path, of):
    """Write a file of another content that has the size and time of `of`."""
    path.write_text("y")
    os.utime(path, ns=(of.modified_ns, of.modified_ns))
    return path


def as_link(path, arrival, aside):
    path.unlink()
    path.symlink_to(twin(aside / "victim.csv", arrival))


def as_second_name(path, arrival, aside):
    os.link(path, aside / "victim.csv")


def as_another_file(path, arrival, aside):
    twin(aside / "victim.csv", arrival).replace(path)
    (aside / "victim.csv").touch()


def as_linked_folder(path, arrival, aside):
    path.parent.rename(aside / "deep-before")
    (aside / "deep").mkdir()
    twin(aside / "deep" / path.name, arrival)
    path.parent.symlink_to(aside / "deep")
    (aside / "victim.csv").touch()


def as_pipe(path, arrival, aside):
    path.unlink()
    os.mkfifo(path)
    (aside / "victim.csv").touch()


def as_folder(path, arrival, aside):
    path.unlink()
    (path / "victim.csv").mkdir(parents=True)
    (aside / "victim.csv").touch()


def as_socket(path, arrival, aside):
    path.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    (aside / "victim.csv").touch()


def as_longer_file(path, arrival, aside):
    path.write_text("x and more")
    os.utime(path, ns=(arrival.modified_ns, arrival.modified_ns))
    (aside / "victim.csv").touch()


@pytest.mark.parametrize(
    "swap",
    [as_link, as_second_name, as_another_file, as_linked_folder, as_pipe, as_folder, as_socket, as_longer_file],
)
def test_what_took_the_place_of_a_listed_file_is_neither_read_nor_removed(landed, tmp_path, monkeypatch, swap):
    site, folder = landed("rename")
    (folder / "deep").mkdir()
    monkeypatch.chdir(folder)  # a socket's path is short
    path = Path("deep/a.csv")
    path.write_text("x")
    (arrival,) = arrivals(site.settings, site.settings.source("asterisk"))
    with open_landed(arrival) as file:
        assert file.read() == b"x" and unchanged(arrival)
    swap(path, arrival, tmp_path)
    there = sorted(tmp_path.rglob("*.csv"))
    for read in (open_landed, lambda arrival: read_range(arrival, 0, 1)):
        with pytest.raises(FileChanged):
            read(arrival)
    assert not unchanged(arrival) and not remove(arrival, "rename")
    assert os.path.lexists(path) and sorted(tmp_path.rglob("*.csv")) == there


def test_a_file_that_grows_while_it_is_read_is_not_taken(landed):
    site, folder = landed("rename")
    (folder / "a.csv").write_text("x")
    (arrival,) = arrivals(site.settings, site.settings.source("asterisk"))
    grown = replace(arrival, size=2)
    with pytest.raises(FileChanged):
        read_range(grown, 0, 2)
    with pytest.raises(FileChanged):
        read_range(arrival, 0, 2)


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
    found = path.stat()
    arrival = Arrival("s", tmp_path, path.name, found.st_size, found.st_mtime_ns, found.st_ino)
    assert arrival.form == form
    beneath = open_landed(arrival)
    with decompressed(beneath, form) as stream:
        assert stream.read() == b"line\n" * 9
    assert beneath.closed
