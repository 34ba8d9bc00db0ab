"""Identify: keyed ids that settings do not change, and nothing of a switch's free text behind it."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.accounts.entries import UNASSIGNED
from callward.settings import Tenant
from schemas.cdr import BY_ROLE_RAW, CDR, PARSED
from schemas.codes import Suspense
from tests.examples import tries
from transforms.elements import Sharding
from transforms.identify import OTHER, by_bucket, cut_by_bucket, identify
from transforms.normalize import normalize
from transforms.parse import tenants
from transforms.read import SOURCE

T0 = 1_772_712_000_000
SECRET = "3035550142"  # stands where only words of the settings may pass


@pytest.fixture(scope="module")
def site(workspace):
    return workspace("asterisk", "generic")


def parsed(site, rows):
    """Rows of schema PARSED, with tenant, places and lineage, as they come to Identify."""
    usual = {"raw": b"raw", "identity": "u", "start_time": T0, "piece": "whole", "line": 0}
    table = pa.Table.from_pylist([{**usual, **row} for row in rows], schema=PARSED)
    for name, value in (
        ("file_no", 1),
        ("block", 0),
        ("was", ""),
        ("was_ms", None),
        ("carried_ms", None),
        ("tenant", "default"),
    ):
        kind = CDR.field(name).type
        table = table.append_column(name, pa.array([value] * len(rows), kind))
    return normalize(table, site.opened.plan(site.settings.sources[0]))


def ids(site, rows, source="asterisk", tenant="default"):
    return identify(parsed(site, rows), site.settings.source(source), tenant, site.opened)


def test_equal_identity_is_an_equal_id_whatever_else_the_record_says(site):
    made = ids(site, [{"identity": "a"}, {"identity": "a", "talk_ms": 5, "raw": b"x"}, {"identity": "b"}])
    first, again, other = made["record_id"].to_pylist()
    assert first == again != other
    assert made["content"][0] != made["content"][1]


def test_ids_of_two_sources_are_apart(site):
    one, two = (ids(site, [{"identity": "a", "call": "c", "leg_a": "l"}], source) for source in ("asterisk", "generic"))
    for name in ("record_id", "call_id", "leg_a", "content"):
        assert one[name].to_pylist() != two[name].to_pylist()
    kinds = [one[name][0].as_py() for name in ("record_id", "call_id", "leg_a", "content")]
    assert len(set(kinds)) == len(kinds)


def test_without_identity_the_id_is_of_the_whole_record(site):
    made = ids(
        site,
        [
            {"identity": None, "raw": b"x"},
            {"identity": None, "raw": b"x"},
            {"identity": None, "raw": b"y"},
            {"identity": "x"},
        ],
    )
    x, again, y, named = made["record_id"].to_pylist()
    assert x == again and len({x, y}) == 2
    assert made["by_content"].to_pylist() == [True, True, True, False]
    assert named == ids(site, [{"identity": "x"}])["record_id"][0].as_py()


CHANGES = {
    "talk_ms": 7,
    "start_time": T0 + 1,
    "answer_time": T0 + 1,
    "end_time": T0 + 1,
    "cause_q850": 17,
    "cause_sip": 486,
    "mos": 2.5,
    "jitter_ms": 1.0,
    "loss_pct": 0.5,
    "calling_raw": SECRET,
    "called_raw": SECRET,
    "account_code": "x",
}


@pytest.mark.parametrize("field", CHANGES)
def test_content_tells_any_two_versions_apart(site, field):
    made = ids(site, [{}, {field: CHANGES[field]}])
    assert made["content"][0] != made["content"][1]


def test_what_settings_list_does_not_enter_the_content(site, workspace):
    rows = [{"account_code": "ac-0001", "ingress_trunk": "northwind-1", "calling_raw": SECRET}]
    poor = workspace("asterisk", trunks=[], accounts=[])
    assert ids(site, rows)["content"].to_pylist() == ids(poor, rows)["content"].to_pylist()
    assert ids(site, rows)["account"].to_pylist() == ["acct-0001"] and ids(poor, rows)["account"].to_pylist() == [
        UNASSIGNED
    ]


FREE_TEXT = (
    *("ingress_trunk", "egress_trunk", "account_code", "calling_raw"),
    *("called_raw", "call", "leg_a", "tenant_field"),
)


def test_only_listed_words_pass(site):
    made = ids(
        site,
        [dict.fromkeys(FREE_TEXT, SECRET)],
    )
    assert made["ingress_trunk"].to_pylist() == made["egress_trunk"].to_pylist() == [OTHER]
    assert made["account"].to_pylist() == [UNASSIGNED]
    said = made.drop_columns(["calling_number", "called_number"])  # these are numbers, and sealed as such
    assert SECRET not in str(said.to_pydict()) and SECRET.encode() not in made["record_id"][0].as_py()


def test_a_record_of_an_unknown_tenant_is_at_fault(site, feed_source):
    source = feed_source("generic", tenant_field="t", tenants={"A": "default"})
    table = pa.Table.from_pylist(
        [{"tenant_field": "A"}, {"tenant_field": "B"}, {}, {"tenant_field": "B", "fault": "TIME"}], schema=PARSED
    )
    made = tenants(table, source)
    assert made["tenant"][0].as_py() == "default"
    assert made["fault"].to_pylist() == [None, Suspense.UNKNOWN_TENANT, Suspense.UNKNOWN_TENANT, "TIME"]


@pytest.mark.parametrize("field", ["ingress_trunk", "egress_trunk", "account_code", "tenant_field"])
def test_a_tenant_is_what_a_pattern_finds_in_a_declared_field(feed_source, field):
    rule = {"tenant_field": "t"} if field == "tenant_field" else {"tenant_by": field}
    rule |= {"tenants": {"west": "default"}, "tenant_pattern": r"@([a-z]+)\.example$"}
    texts = ["pbx@west.example", "pbx@east.example", "west", None, "other@west.example"]
    table = pa.Table.from_pylist([{field: text} for text in texts], schema=PARSED)
    made = tenants(table, feed_source("generic", **rule))
    assert made["fault"].to_pylist() == [None, *[Suspense.UNKNOWN_TENANT] * 3, None]
    assert [tenant == "default" for tenant in made["tenant"].to_pylist()] == [True, False, False, False, True]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"tenants": {"a": "default"}}, "tenants means nothing"),
        ({"tenant_pattern": "(a)"}, "tenant_pattern means nothing"),
        ({"tenant_field": "t", "tenant_by": "account_code"}, "not both"),
        ({"tenant_field": "t", "tenant_pattern": "a"}, "round brackets"),
        ({"tenant_field": "t", "tenant_pattern": "(a"}, "no regular expression"),
    ],
)
def test_a_rule_that_means_nothing_is_refused(feed_source, rule, words):
    with pytest.raises(ValueError, match=words):
        feed_source("generic", **rule)


@given(calls=st.lists(st.integers(0, 40), max_size=60), bits=st.integers(0, 4), offset=st.integers(0, 2**32 - 1))
@tries(60)
def test_all_records_of_a_call_meet_in_one_bucket_and_none_is_lost(cdr_table, calls, bits, offset):
    table = cdr_table([{"record_id": n, "call_id": call, "start_time": T0, "line": n} for n, call in enumerate(calls)])
    buckets = 1 << bits
    parts = cut_by_bucket(table, bits, buckets, offset)
    assert sorted(line for _, part in parts for line in part["line"].to_pylist()) == list(range(len(calls)))
    seen: dict[bytes, set[int]] = {}
    for bucket, part in parts:
        assert part.num_rows and 0 <= bucket < buckets
        for call in pc.unique(part["call_id"]).to_pylist():
            seen.setdefault(call, set()).add(bucket)
    assert all(len(found) == 1 for found in seen.values())


ROLE_NUMBERS = {name: f"303555016{n}" for n, name in enumerate(BY_ROLE_RAW)} | {"oli": "62", "carrier_id": "0288"}


def test_numbers_by_role_are_part_of_the_content_of_those_records_alone_that_have_any(site):
    plain, *with_one = ids(site, [{}, *({name: value} for name, value in ROLE_NUMBERS.items())])["content"].to_pylist()
    assert plain == ids(site, [{}])["content"][0].as_py()
    assert len({plain, *with_one}) == 1 + len(ROLE_NUMBERS)
    for (name, value), content in zip(ROLE_NUMBERS.items(), with_one, strict=True):
        assert ids(site, [{name: value}])["content"][0].as_py() == content


def test_no_raw_number_goes_beyond_identify(site):
    assert not [name for name in CDR.names if name.endswith("_raw")]
    row = ids(site, [ROLE_NUMBERS])
    assert row["redirecting_number"].to_pylist() == ["+13035550161"] and row["oli"].to_pylist() == ["62"]


@pytest.mark.parametrize(
    ("direction", "reached", "talk", "becomes"),
    [
        ("outbound", 5, 60, (5, 55)),
        ("outbound", 60, 60, (60, 0)),  # there at the end: no talk
        ("outbound", 61, 60, (0, 60)),  # said to be there after the end: not believed
        ("outbound", 0, 60, (0, 60)),
        ("outbound", -5, 60, (0, 60)),  # there before the dial plan answered: it was no early answer
        ("outbound", None, 60, (0, 60)),
        ("outbound", 5, 20, (5, 20)),  # held, so the switch counts less than there is between: it stays the switch's
        ("inbound", 5, 60, (0, 60)),  # who called in talks to the switch
    ],
)
def test_an_outbound_call_is_answered_when_its_far_end_is_there(site, direction, reached, talk, becomes):
    """`reached` and `becomes` in seconds after the dial plan answered; the call ends a minute after that."""
    row = {"direction": direction, "answer_time": T0, "end_time": T0 + 60_000, "talk_ms": talk * 1000}
    row["reached"] = None if reached is None else T0 + reached * 1000
    made = ids(
        site, [row, {**row, "reached": T0 + 1}]
    )  # the other has one in any case, as a column of none is passed over
    answer, talked = (made[name].cast(pa.int64())[0].as_py() for name in ("answer_time", "talk_ms"))
    assert ((answer - T0) // 1000, talked // 1000) == becomes


def test_records_of_many_tenants_get_the_ids_that_each_gets_by_itself(workspace, feed_source):
    """Sorted once and cut, they are what a filter for each tenant gives: rows, order and ids."""
    names = [f"t{letter}" for letter in "abcdefgh"]
    rule = {"tenant_field": "t", "tenants": {name: name for name in names}}
    site = workspace(feed_source("generic", **rule), tenants=dict.fromkeys([*names, "default"], Tenant()))
    source = site.settings.sources[0]
    rows = [
        {"tenant_field": names[n * 7 % 8], "identity": f"u{n}", "call": f"c{n // 2}", "start_time": T0, "line": n}
        for n in range(60)
    ]
    table = parsed(site, rows).drop_columns(["tenant"])
    table = tenants(table, source).replace_schema_metadata({SOURCE: b"generic"})
    found = {}
    for _, part in by_bucket(table, Sharding(), site.opened):
        found[part["tenant"][0].as_py()] = part
    for name in names:
        alone = identify(table.filter(pc.equal(table["tenant"], name)), source, name, site.opened)
        assert alone.num_rows and found[name].to_pylist() == alone.to_pylist()
