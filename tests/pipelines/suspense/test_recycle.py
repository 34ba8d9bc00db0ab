"""Recycling: what was suspended and then mended ends as if it had been right from the start."""

from collections.abc import Callable
from typing import Any

import pytest

from callward.errors import Problem
from callward.template import render
from pipelines.suspense.records import list_open
from pipelines.suspense.recycle import recycle

_HEADER = (
    "call_id,carrier_of,direction,calling_number,called_number,start_time,answer_time,end_time,talk_ms,disposition\n"
)


def _calls(count: int, tenant: str) -> str:
    return "".join(
        f"call-{tenant}-{n},{tenant},outbound,1303555{100 + n % 100:04d},1720555{100 + n % 90:04d},"
        f"2026-03-05T10:{n % 60:02d}:00Z,2026-03-05T10:{n % 60:02d}:05Z,2026-03-05T10:{n % 60:02d}:55Z,50000,\n"
        for n in range(count)
    )


@pytest.fixture
def two_tenants(workspace: Callable[..., Any], feed_source: Callable[..., Any]) -> Callable[..., Any]:
    """A workspace with one generic feed whose records name their tenant, of which only those given are known."""

    def make(**tenants: str) -> Any:
        declare = {"filters": [{"code": "LOCAL_LEG", "when": {"direction": ["internal"]}}]}
        source = feed_source("generic", tenant_field="carrier_of", tenants=tenants, declare=declare)
        return workspace(source, thresholds={"file_errors_pct": 60.0, "file_errors_min": 20})

    return make


def _mend(site: Any, **tenants: str) -> None:
    settings = site.settings
    source = settings.sources[0].model_copy(update={"tenants": tenants})
    settings.path.write_text(render(settings.model_copy(update={"sources": [source]})), encoding="utf-8")


def _calls_of(site: Any) -> list[dict[str, Any]]:
    return site.view("billing").to_pylist()


def test_tenants_by_trunk_end_apart_and_one_that_is_added_later_gets_its_records(
    workspace: Callable[..., Any], feed_source: Callable[..., Any]
) -> None:
    header = _HEADER.replace("carrier_of", "ingress_trunk")
    rule = {"tenant_by": "ingress_trunk", "tenant_pattern": "^([a-z]+)", "tenants": {"alpha": "default"}}
    site = workspace(feed_source("generic", **rule), thresholds={"file_errors_pct": 60.0, "file_errors_min": 20})
    site.land("generic", "calls.csv", (header + _calls(30, "alpha-1") + _calls(20, "beta-1")).encode())
    site.night()
    assert site.entries()["suspended", "UNKNOWN_TENANT"][0] == 20
    settings = site.settings
    more = {"tenants": {**settings.tenants, "west": settings.tenants["default"]}}
    source = settings.sources[0].model_copy(update={"tenants": {"alpha": "default", "beta": "west"}})
    settings.path.write_text(render(settings.model_copy(update={**more, "sources": [source]})), encoding="utf-8")
    assert recycle(site.settings, ["UNKNOWN_TENANT"], []).buckets == {"accepted": 20, "suspended": -20}
    files = site.data_files("billing")
    assert {file.tenant: sum(one.rows for one in files if one.tenant == file.tenant) for file in files} == {
        "default": 30,
        "west": 20,
    }
    assert not site.unbalanced()


def test_mended_records_end_as_if_the_settings_had_been_right(two_tenants: Callable[..., Any]) -> None:
    data = (_HEADER + _calls(30, "alpha") + _calls(20, "beta")).encode()
    mended, right = two_tenants(alpha="default"), two_tenants(alpha="default", beta="default")
    for site in (mended, right):
        site.land("generic", "calls.csv", data)
        site.night()
    assert mended.entries()["suspended", "UNKNOWN_TENANT"][0] == 20
    _mend(mended, alpha="default", beta="default")
    done = recycle(mended.settings, ["UNKNOWN_TENANT"], [])
    assert done.taken == 20
    assert done.buckets == {"accepted": 20, "suspended": -20}
    assert not mended.unbalanced()
    assert mended.entries() == right.entries()
    assert _calls_of(mended) == _calls_of(right)
    assert mended.derived() == right.derived()
    assert mended.differing() == 0


def test_a_redelivery_after_recycling_is_only_duplicates(two_tenants: Callable[..., Any]) -> None:
    site = two_tenants(alpha="default")
    data = (_HEADER + _calls(30, "alpha") + _calls(20, "beta")).encode()
    site.land("generic", "calls.csv", data)
    site.night()
    _mend(site, alpha="default", beta="default")
    recycle(site.settings, [], [])
    before = _calls_of(site)
    site.land("generic", "again.csv", data)
    night = site.night()
    assert [(f.rows, f.buckets["duplicate"]) for f in night.files] == [(50, 50)]
    assert _calls_of(site) == before


def test_what_is_still_wrong_stays_and_a_second_run_changes_nothing(two_tenants: Callable[..., Any]) -> None:
    site = two_tenants(alpha="default")
    site.land("generic", "calls.csv", (_HEADER + _calls(30, "alpha") + _calls(20, "beta")).encode())
    site.night()
    before = site.entries()
    assert recycle(site.settings, [], []).taken == 20
    assert site.entries() == before
    assert recycle(site.settings, [], []).buckets == {}
    assert not site.unbalanced()
    assert site.log("suspense")["payload"].null_count == 0


def test_a_file_set_aside_whole_comes_through_but_for_its_faults(two_tenants: Callable[..., Any]) -> None:
    site = two_tenants(alpha="default")
    broken = "".join(f"call-broken-{n},alpha,outbound,13035550100,17205550101,not a time,,,,\n" for n in range(40))
    site.land("generic", "calls.csv", (_HEADER + _calls(20, "alpha") + broken).encode())
    night = site.night()
    assert night.must_look and night.files[0].buckets["suspended"] == 60
    assert not _calls_of(site)
    done = recycle(site.settings, ["FILE"], [])
    assert done.taken == 60 == sum(of.records for of in done.records)
    assert {key: rows for key, (rows, _) in site.entries().items()} == {
        ("in", ""): 60,
        ("accepted", ""): 20,
        ("suspended", "TIME"): 40,
    }
    assert not site.unbalanced() and site.differing() == 0


def test_file_means_all_records_of_files_that_were_set_aside(two_tenants: Callable[..., Any]) -> None:
    """Once the declaration is fixed, no record of such a file needs a second command; other files' are left alone."""
    site = two_tenants(alpha="default")
    lost, other = _calls(20, "beta") + _calls(12, "alpha"), _calls(3, "beta") + _calls(9, "alpha")
    for name, lines in (("lost.csv", lost), ("other.csv", other.replace("call-", "more-"))):
        site.land("generic", name, (_HEADER + lines).encode())
    assert site.night().must_look
    _mend(site, alpha="default", beta="default")
    assert recycle(site.settings, ["FILE"], [], ["generic/other.csv"]).taken == 0
    assert recycle(site.settings, ["FILE"], []).buckets["suspended"] == -32
    left = [(row.file, row.code) for row in list_open(site.settings)]
    assert left == [("generic/other.csv", "UNKNOWN_TENANT")]
    assert recycle(site.settings, [], [], [str(list_open(site.settings)[0].file_no)]).taken == 3
    assert list_open(site.settings) == [] and not site.unbalanced() and site.differing() == 0


_FAULTY = (
    "call-1,{tenant},{direction},13035550100,17205550101,not a time,,,1000,\n",  # TIME, as it is parsed
    "call-2,{tenant},{direction},13035550100,17205550101,,,,1000,\n",  # TIME, as it is validated
    "call-3,{tenant},{direction},13035550100,17205550101,2026-03-05T10:01:00Z,,2026-03-05T10:00:00Z,0,\n",  # ORDER
    "call-4,{tenant},{direction},13035550100,17205550101,2026-03-05T10:01:00Z,,,-1000,\n",  # DURATION
    "call-5,{tenant},{direction},13035550100,17205550101,2026-03-05T10:01:00Z,,,one,\n",  # FIELD
    ",{tenant},{direction},13035550100,17205550101,2026-03-05T10:01:00Z,,,1000,\n",  # IDENTITY
)


def test_a_faulty_record_that_a_rule_leaves_out_is_filtered_once(two_tenants: Callable[..., Any]) -> None:
    site = two_tenants(alpha="default")
    lines = [line.format(tenant="alpha", direction=way) for line in _FAULTY for way in ("internal", "outbound")]
    site.land("generic", "calls.csv", (_HEADER + _calls(30, "alpha") + "".join(lines)).encode())
    site.night()
    assert {key: rows for key, (rows, _) in site.entries().items()} == {
        ("in", ""): 42,
        ("accepted", ""): 30,
        ("filtered", "LOCAL_LEG"): 6,
        **{("suspended", code): 1 for code in ("ORDER", "DURATION", "FIELD", "IDENTITY")},
        ("suspended", "TIME"): 2,
    }
    assert site.log("suspense").num_rows == 6
    assert not site.unbalanced()


def test_a_record_that_a_rule_leaves_out_waits_for_its_tenant_and_is_filtered_then(
    two_tenants: Callable[..., Any],
) -> None:
    site = two_tenants(alpha="default")
    left_out = _FAULTY[3].format(tenant="beta", direction="internal")
    left_out += _calls(1, "beta").replace("outbound", "internal")
    site.land("generic", "calls.csv", (_HEADER + _calls(30, "alpha") + left_out).encode())
    site.night()
    rows = {key: rows for key, (rows, _) in site.entries().items()}
    assert rows == {("in", ""): 32, ("accepted", ""): 30, ("suspended", "UNKNOWN_TENANT"): 2}
    _mend(site, alpha="default", beta="default")
    assert recycle(site.settings, ["UNKNOWN_TENANT"], []).buckets == {"filtered": 2, "suspended": -2}
    rows = {key: rows for key, (rows, _) in site.entries().items()}
    assert rows == {("in", ""): 32, ("accepted", ""): 30, ("filtered", "LOCAL_LEG"): 2}
    assert not site.unbalanced()


def test_a_dry_run_changes_nothing(two_tenants: Callable[..., Any]) -> None:
    site = two_tenants(alpha="default")
    site.land("generic", "calls.csv", (_HEADER + _calls(20, "beta") + _calls(30, "alpha")).encode())
    site.night()
    _mend(site, alpha="default", beta="default")
    before = site.entries()
    assert recycle(site.settings, [], [], dry_run=True).taken == 20
    assert site.entries() == before


def test_conflicts_are_not_recycled(two_tenants: Callable[..., Any]) -> None:
    with pytest.raises(Problem, match="CONFLICT"):
        recycle(two_tenants(alpha="default").settings, ["CONFLICT"], [])


def test_a_record_of_several_lines_is_one_once_quotes_may_hold_them(
    workspace: Callable[..., Any], feed_source: Callable[..., Any]
) -> None:
    broken = '"id-1","13035550101","17205550102","2026-03-05T10:00:00Z","2026-03-05T10:00:50Z",50000,"a\nb, ""c\nd"\n'
    torn = '"id-2","13035550101","17205550102","2026-03-05T10:00:00Z","2026-03-05T10:00:50Z",50000,"e\nf\n'
    names = "call_id,calling_number,called_number,start_time,end_time,talk_ms,note\n"
    sites = [workspace(feed_source("generic"), thresholds={"file_errors_pct": 100.0}) for _ in range(2)]
    multiline = feed_source("generic", declare={"file": {"multiline": True}})
    for site, source in zip(sites, ("as declared", multiline), strict=True):
        if source is multiline:
            _set_source(site, multiline)
        site.land("generic", "calls.csv", (names + broken + torn).encode())
        site.night()
    recycled, right = sites
    _set_source(recycled, multiline)
    assert recycle(recycled.settings, [], []).buckets == {"accepted": 1, "merged": 2, "suspended": -3}
    assert [row["talk_ms"] for row in _calls_of(recycled)] == [row["talk_ms"] for row in _calls_of(right)] == [50_000]
    assert recycle(recycled.settings, [], []).buckets == {}
    assert not recycled.unbalanced()


def _set_source(site: Any, source: Any) -> None:
    site.settings.path.write_text(render(site.settings.model_copy(update={"sources": [source]})), encoding="utf-8")
