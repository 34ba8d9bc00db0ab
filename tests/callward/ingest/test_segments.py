"""Segments: what was pushed lies sealed, opens only where it belongs, and its key stays while it waits."""

import os
import time
from datetime import UTC, date, datetime

import pytest

from callward import database
from callward.ingest import segments
from callward.ingest.landing import Arrival, LeftAlone, arrivals
from callward.keys.seal import SealBroken
from callward.lake.data_files import DataFiles
from callward.retention.purge import plan as purge_plan
from tests.altered import altered

LINE = b'{"variables":{"uuid":"a","caller_id_number":"+12125550147"}}\n'


@pytest.fixture
def site(workspace, feed_source):
    return workspace(feed_source("freeswitch_json"), feed_source("other", format="freeswitch_jsonl"))


def written(site, data=LINE, source="freeswitch_json"):
    settings = site.settings
    return segments.write(settings, settings.source(source), site.opened.keyring, data)


@pytest.mark.parametrize("data", [b"", LINE, LINE * 5000])
def test_a_segment_reads_back_and_shows_nothing(site, data):
    path = written(site, data)
    assert segments.unseal(path.read_bytes(), path.name, "freeswitch_json", site.opened.keyring) == data
    assert b"2125550147" not in path.read_bytes()
    assert os.listdir(path.parent) == [path.name] and path.stat().st_mode & 0o007 == 0


def test_a_segment_opens_only_under_its_name_and_source_and_unaltered(site):
    path = written(site)
    keyring = site.opened.keyring
    moved = path.with_name("push-other.seal")
    moved.write_bytes(path.read_bytes())
    for found, source in ((moved, "freeswitch_json"), (path, "other")):
        with pytest.raises(SealBroken):
            segments.unseal(found.read_bytes(), found.name, source, keyring)
    path.write_bytes(altered(path.read_bytes()))
    with pytest.raises(SealBroken):
        segments.unseal(path.read_bytes(), path.name, "freeswitch_json", keyring)
    path.write_bytes(b"not sealed at all")
    with pytest.raises(SealBroken):
        segments.unseal(path.read_bytes(), path.name, "freeswitch_json", keyring)


@pytest.mark.parametrize("complete", ["rename", "marker", "stable"])
def test_a_segment_is_complete_however_its_source_says_so(workspace, feed_source, complete):
    site = workspace(feed_source("freeswitch_json", complete=complete), landing={"stable_seconds": 999.0})
    path = written(site)
    settings = site.settings
    (found,) = arrivals(settings, settings.source("freeswitch_json"))
    assert isinstance(found, Arrival) and found.form == "sealed" and found.path == path


def test_a_pipe_or_a_link_among_segments_does_not_make_a_purge_wait(site, tmp_path):
    path = written(site)
    in_use = segments.keys_in_use(site.settings)
    os.mkfifo(path.with_name("push-pipe.seal"))
    path.with_name("push-link.seal").symlink_to(path.rename(tmp_path / path.name))
    path.with_name(".push-gone.seal.x.tmp").symlink_to(tmp_path / "nothing")
    assert len(in_use) == 1 and segments.keys_in_use(site.settings) == set()
    assert segments.remove_drafts(site.settings, site.settings.source("freeswitch_json")) == 0


def test_drafts_are_left_alone_and_removed_when_they_are_old(site):
    settings = site.settings
    folder = written(site).parent
    young, old = folder / ".push-a.seal.00ff.tmp", folder / ".push-b.seal.00fe.tmp"
    for draft in (young, old):
        draft.write_bytes(b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    left = [found for found in arrivals(settings, settings.source("freeswitch_json")) if isinstance(found, LeftAlone)]
    assert len(left) == 2 and not any(item.wrong for item in left)
    assert segments.remove_drafts(settings, settings.source("freeswitch_json")) == 1
    assert young.exists() and not old.exists()


def test_a_feed_of_many_tenants_is_sealed_as_it_is_archived(workspace, feed_source):
    site = workspace(feed_source("freeswitch_json", tenant_field="variables.domain", tenants={"a": "default"}))
    assert segments.sealing_key(site.settings.sources[0]).tenant == "_shared"


def test_the_last_hour_of_a_month_is_under_the_next_ones_key(site, monkeypatch):
    source = site.settings.sources[0]
    for moment, month in (((2026, 3, 31, 22, 59), "2026-03"), ((2026, 3, 31, 23, 1), "2026-04")):
        monkeypatch.setattr(database, "now", lambda moment=moment: datetime(*moment))
        assert segments.sealing_key(source).month == month


def test_a_purge_leaves_the_key_of_what_waits(site, monkeypatch):
    """A month that is over loses its keys under which no data file lies: one that is pushed and not taken in stays."""
    now = database.now()
    monkeypatch.setattr(database, "now", lambda: datetime(2026, 3, 10))
    waiting = written(site)
    taken = segments.write(site.settings, site.settings.source("other"), site.opened.keyring, LINE)
    assert segments.keys_in_use(site.settings) and taken.unlink() is None
    monkeypatch.setattr(database, "now", lambda: now)
    today = datetime.now(UTC).date()

    def doomed():
        plan, _, _ = purge_plan.make(site.settings, DataFiles(site.opened, "test"), date(2026, 4, 2), today)
        return [str(key.purpose) for key, _ in plan.keys if key.domain == "archive"]

    assert doomed() == []
    waiting.unlink()
    assert doomed() == ["push"]
