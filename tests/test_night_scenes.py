"""Small scenes over several nights: equal calls, pieces that come apart, quality that comes late, local midnights."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import product
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import update

from callward import database
from callward.keys.keys import KeyGone
from callward.keys.register import KeyName, forget, name_of
from callward.lake.data_files import DataFiles
from callward.settings import Account, Tenant
from schemas.retention_classes import CLASSES
from schemas.tables import keys
from schemas.views import STORED

MORNING = 1_772_776_800_000  # 2026-03-06 06:00 UTC
NOON = 1_772_712_000  # 2026-03-05 12:00 UTC, in seconds
HOUR_MS = 3_600_000
CALLING, CALLED = "13035550101", "13035550102"

CDR_HEADER = (
    "cdrRecordType,globalCallID_callManagerId,globalCallID_callId,origLegCallIdentifier,destLegIdentifier,"
    "dateTimeOrigination,dateTimeConnect,dateTimeDisconnect,callingPartyNumber,originalCalledPartyNumber,"
    "origCause_value,destCause_value,duration,pkid,origDeviceName,destDeviceName,globalCallId_ClusterID\n"
)
CMR_HEADER = (
    "cdrRecordType,globalCallID_callManagerId,globalCallID_callId,callIdentifier,dateTimeStamp,numberPacketsReceived,"
    "numberPacketsLost,jitter,pkid,varVQMetrics,globalCallId_ClusterID\n"
)


def asterisk(second: int, talk: int = 30) -> str:
    """A line of Asterisk's 16 columns: without a unique id."""
    start, end = (f"{datetime.fromtimestamp(NOON + s, UTC):%F %T}" for s in (second, second + talk))
    return (
        f'"ac-0001","{CALLING}","{CALLED}","ctx","<{CALLING}>","SIP/desk-01","SIP/northwind-1-02","Dial","x",'
        f'"{start}","{start}","{end}",{talk},{talk},"ANSWERED","DOCUMENTATION"\n'
    )


def invite(call: str, second: int = 0) -> str:
    return f"INVITE|f{call}|t{call}|{call}@192.0.2.30|200|OK|{NOON + second}|*postpaid|{CALLING}|{CALLED}||1:1\n"


def bye(call: str, second: int) -> str:
    return f"BYE|t{call}|f{call}|{call}@192.0.2.30|200|OK|{NOON + second}|||||1:1\n"


def cucm(call: int, talk: int = 60, later: int = 0) -> str:
    """A call; `later`: a version that ends so much later, and is charged the same."""
    pkid = f"00000000-0000-4000-8000-{call:012d}"
    times = f"{NOON},{NOON + 5},{NOON + 5 + talk + later}"
    return f"1,2,{call},{call * 2},{call * 2 + 1},{times},{CALLING},{CALLED},16,0,{talk},{pkid},SEP1,northwind-1,C1\n"


def quality(call: int, leg: int, mos: float, jitter: int, name: int = 0) -> str:
    pkid = f"00000000-0000-4000-9000-{call * 10 + leg + name:012d}"
    return f"2,2,{call},{call * 2 + leg},{NOON + 70},3000,30,{jitter},{pkid},MLQK={mos},C1\n"


def usage(count: int, talk: int, first: int = 0) -> bytes:
    """`count` calls of the generic format, each of `talk` seconds."""
    at = datetime.fromtimestamp(NOON, UTC)
    stamps = f"{at:%FT%TZ},{at:%FT%TZ},{at + timedelta(seconds=talk):%FT%TZ}"
    lines = [f"id-{n},+{CALLING},+{CALLED},{stamps},{talk * 1000}\n" for n in range(first, first + count)]
    return "".join(["id,calling_number,called_number,start_time,answer_time,end_time,talk_ms\n", *lines]).encode()


@pytest.fixture
def site(workspace, feed_source):
    return workspace("cucm", "opensips", "generic", feed_source("plain", format="asterisk", zone="UTC"))


def rows_in(site, bucket: str, code: str = "") -> int:
    return site.entries().get((bucket, code), (0, 0))[0]


def is_sound(site) -> bool:
    return site.differing() == 0 and not site.unbalanced()


def test_equal_calls_of_one_file_stay_and_a_redelivery_adds_nothing(site):
    same, other = asterisk(0), asterisk(7)
    site.land("plain", "a.csv", (same + other + same).encode())
    site.land("plain", "b.csv", same.encode())  # says only what a.csv says
    site.night(MORNING)
    assert site.view("billing").num_rows == site.view("assurance").num_rows == 3
    assert site.balances()["plain/b.csv"]["duplicate"] == (1, 30_000)
    before = site.view("assurance")
    site.land("plain", "again.csv", (same + other + same).encode())
    site.land("plain", "c.csv", (same + same + same).encode())  # the third is one more call
    site.night(MORNING)
    assert site.balances()["plain/again.csv"]["duplicate"][0] == 3
    assert site.balances()["plain/c.csv"]["duplicate"][0] == 2
    assert site.view("assurance").num_rows == before.num_rows + 1
    assert set(before["answered_id"].to_pylist()) < set(site.view("assurance")["answered_id"].to_pylist())
    assert is_sound(site)


def test_a_late_quality_record_amends_the_row_that_is_there(site):
    site.land("cucm", "cdr_1", (CDR_HEADER + cucm(1) + cucm(2)).encode())
    site.land("cucm", "cmr_1", (CMR_HEADER + quality(2, 0, 4.1, 3)).encode())
    site.night(MORNING)
    billing, (file,) = site.view("billing"), site.data_files("assurance")
    assert sorted(site.view("assurance")["mos"].to_pylist(), key=str) == [pytest.approx(4.1), None]
    site.land("cucm", "cmr_2", (CMR_HEADER + quality(1, 0, 3.5, 9) + quality(1, 1, 3.9, 20)).encode())
    site.night(MORNING + 2 * HOUR_MS)
    rows = site.view("assurance").to_pandas().sort_values("mos")
    assert rows["mos"].tolist() == pytest.approx([3.5, 4.1])
    assert rows["jitter_ms"].tolist() == [20, 3]  # the worse of its legs
    assert site.view("billing").equals(billing)
    assert [f.file_id for f in site.data_files("assurance")] != [file.file_id]
    assert not (site.settings.lake_path / file.path).exists()
    assert sum(sums[-1] for sums in site.derived()["assurance_trunk_hourly_mos"].values()) == 4  # two calls, two sides
    assert rows_in(site, "merged") == 3 and is_sound(site)


def test_a_later_version_and_late_quality_of_its_neighbour_in_one_night(site):
    site.land("cucm", "cdr_1", (CDR_HEADER + cucm(1) + cucm(2)).encode())
    site.night(MORNING)
    site.land("cucm", "cdr_2", (CDR_HEADER + cucm(1, later=30)).encode())
    site.land("cucm", "cmr_2", (CMR_HEADER + quality(1, 0, 3.2, 4) + quality(2, 0, 4.4, 1)).encode())
    site.night(MORNING + HOUR_MS)
    assert sorted(site.view("assurance")["mos"].to_pylist()) == pytest.approx([3.2, 4.4])
    assert len(set(site.view("billing")["end"].to_pylist())) == 2
    assert rows_in(site, "suspended", "CONFLICT") == 1 and rows_in(site, "merged") == 2
    assert is_sound(site)


def test_versions_that_are_held_are_known_when_they_come_again(site):
    for name, talk in (("first", 60), ("longer", 90), ("again", 60), ("longer again", 90)):
        site.land("generic", f"{name}.csv", usage(1, talk))
        site.night(MORNING)
    assert rows_in(site, "suspended", "HELD") == 2 and rows_in(site, "duplicate") == 2
    assert site.balances()["generic/first.csv"]["suspended"] == (1, 60_000)
    assert site.balances()["generic/again.csv"]["duplicate"] == (1, 60_000)
    assert site.view("billing").num_rows == 0
    assert is_sound(site)


def test_a_bye_closes_its_call_the_next_night_and_an_invite_too(site):
    site.land("opensips", "n1", (invite("a") + bye("b", 50) + invite("c") + bye("c", 20)).encode())
    site.night(MORNING)
    assert site.view("billing").num_rows == 1 and rows_in(site, "pending") == 2 and is_sound(site)
    site.land("opensips", "n2", (bye("a", 40) + invite("b", 10)).encode())
    site.night(MORNING + 24 * HOUR_MS)
    assert sorted(site.view("billing")["talk_ms"].to_pylist()) == [20_000, 40_000, 40_000]
    assert rows_in(site, "pending") == 0 and rows_in(site, "accepted") == rows_in(site, "merged") == 3
    assert site.entries()["paired", ""] == (0, 100_000)
    assert is_sound(site)
    log = site.log("pending").to_pandas()
    assert log["calling_number"].isna().all() and log["called_number"].isna().all()
    site.land("opensips", "n3", (bye("a", 40) + invite("b", 10)).encode())
    site.night(MORNING + 25 * HOUR_MS)
    assert rows_in(site, "duplicate") == 2 and site.view("billing").num_rows == 3 and is_sound(site)


def test_lone_pieces_become_partial_and_are_closed_all_the_same(site):
    site.land("opensips", "n1", (invite("a") + bye("b", 50)).encode())
    site.land("cucm", "cmr_1", (CMR_HEADER + quality(7, 0, 4.0, 2)).encode())
    site.night(MORNING)
    assert rows_in(site, "pending") == 3
    site.night(MORNING + 23 * HOUR_MS)  # past the horizon of CUCM (6 h), not of SIP (24 h)
    assert rows_in(site, "pending") == 2 and rows_in(site, "suspended", "PARTIAL") == 1 and is_sound(site)
    site.night(MORNING + 25 * HOUR_MS)
    assert rows_in(site, "pending") == 0 and rows_in(site, "suspended", "PARTIAL") == 3 and is_sound(site)
    site.land("opensips", "n2", (bye("a", 40) + invite("b", 10)).encode())
    site.land("cucm", "cdr_2", (CDR_HEADER + cucm(7)).encode())
    site.night(MORNING + 26 * HOUR_MS)
    assert rows_in(site, "suspended", "PARTIAL") == 0
    assert (rows_in(site, "accepted"), rows_in(site, "merged")) == (3, 3)
    assert site.view("assurance").num_rows == 3
    assert [mos for mos in site.view("assurance")["mos"].to_pylist() if mos] == [pytest.approx(4.0)]
    assert is_sound(site)


def test_the_billing_date_is_the_local_date_of_the_answer(workspace):
    """Across midnight and the night on which clocks go forward (2026-03-08 in Denver)."""
    site = workspace("generic", zone="America/Denver")
    first = datetime(2026, 3, 7, 5, tzinfo=UTC)
    answers = [first + timedelta(minutes=20 * n) for n in range(3 * 24 * 3)]
    lines = ["id,calling_number,called_number,start_time,answer_time,end_time,talk_ms"]
    for n, answer in enumerate(answers):
        start, end = answer - timedelta(minutes=7), answer + timedelta(seconds=n)
        lines.append(f"id-{n},+{CALLING},+{CALLED},{start:%FT%TZ},{answer:%FT%TZ},{end:%FT%TZ},{n * 1000}")
    site.land("generic", "u.csv", "\n".join([*lines, ""]).encode())
    site.night(int((first + timedelta(days=3)).timestamp() * 1000))
    local = pd.Series([answer.astimezone(ZoneInfo("America/Denver")).date() for answer in answers]).value_counts()
    found = {key[2]: sums[0] for key, sums in site.derived()["billing_usage_daily"].items()}
    assert site.view("billing").num_rows == len(answers)
    assert found == local.to_dict() and len(found) == 4
    assert found[date(2026, 3, 8)] == 3 * 23  # that day has 23 hours
    assert is_sound(site)


# An ending as the generic format says it: its word, its Q.850 cause and its SIP status.
ENDINGS = {
    "answered": ("", "16", "200"),
    "busy": ("busy", "17", "486"),
    "rejected": ("rejected", "", "603"),
    "network_failure": ("network_failure", "34", ""),
    "unknown": ("odd", "", ""),
}
ZONES = {"default": "America/Denver", "west": "Pacific/Auckland"}


def varied_calls() -> pd.DataFrame:
    """Calls of two tenants over three days that a month's end cuts, of every ending, over several trunks or none."""
    ways = product(range(7), ("northwind-1", "northwind-2", ""), ("northwind-3", ""), ENDINGS, ZONES)
    rows = pd.DataFrame(ways, columns=["n", "ingress", "egress", "ending", "tenant"])
    start = datetime(2026, 2, 27, 3, tzinfo=UTC) + pd.to_timedelta(rows.index * 10.5, unit="m")
    answered = rows.ending == "answered"
    return rows.assign(
        start=start.floor("s"),
        answer=pd.Series(start.floor("s") + timedelta(minutes=8)).where(answered),
        talk_s=(rows.index % 50 + 1) * answered,
        pdd_ms=[None if n % 3 else 10 * n for n in rows.index],
        account=["acct-" + tenant[0] + str(n % 2) for tenant, n in zip(rows.tenant, rows.n, strict=True)],
    )


def _generic(rows: pd.DataFrame) -> bytes:
    lines = [
        "id,carrier_of,calling_number,called_number,start_time,answer_time,end_time,talk_ms,account_code,"
        "ingress_trunk,egress_trunk,disposition,cause_q850,cause_sip,pdd_ms"
    ]
    for n, row in zip(rows.index, rows.itertuples(), strict=True):
        answer = "" if pd.isna(row.answer) else f"{row.answer:%FT%TZ}"
        end = (row.start if pd.isna(row.answer) else row.answer) + timedelta(seconds=int(row.talk_s))
        times = f"{row.start:%FT%TZ},{answer},{end:%FT%TZ},{row.talk_s * 1000}"
        delay = "" if pd.isna(row.pdd_ms) else int(row.pdd_ms)
        ending = ",".join(ENDINGS[row.ending])
        lines.append(
            f"id-{n},{row.tenant},+{CALLING},+{CALLED},{times},{row.account},{row.ingress},{row.egress},{ending},{delay}"
        )
    return "\n".join([*lines, ""]).encode()


def _totals(rows: pd.DataFrame, keys: list[str], sums: list[str]) -> dict[tuple, tuple[int, ...]]:
    grouped = rows.groupby(keys)[sums].sum()
    return {key: tuple(map(int, values)) for key, *values in grouped.itertuples() if any(values)}


def _usage(calls: pd.DataFrame) -> dict[tuple, tuple[int, ...]]:
    """By tenant, account and local date of the answer: calls, answered ones, milliseconds and billable seconds."""
    paid = calls[calls.ending == "answered"]
    zones = [ZoneInfo(ZONES[tenant]) for tenant in paid.tenant]
    local = [answer.astimezone(zone).date() for answer, zone in zip(paid.answer, zones, strict=True)]
    paid = paid.assign(date=local, calls=1, talk_ms=paid.talk_s * 1000)
    return _totals(paid, ["tenant", "account", "date"], ["calls", "calls", "talk_ms", "talk_s"])


def _attempts(calls: pd.DataFrame) -> pd.DataFrame:
    """Per call what the tables of attempts add up."""
    ended = {ending: (calls.ending == ending).astype(int) for ending in ENDINGS}
    return calls.assign(
        **ended,
        hour=calls.start.dt.floor("h").dt.tz_localize(None),
        date=calls.start.dt.date,
        attempts=1,
        seizures=1 - ended["unknown"],
        rescued=0,
        ner_success=ended["answered"] + ended["busy"] + ended["rejected"],
        talk_s=(calls.talk_s + 5) // 6 * 6,
        talk_ms=calls.talk_s * 1000,
        pdd_count=calls.pdd_ms.notna().astype(int),
    )


def _sides(attempts: pd.DataFrame) -> pd.DataFrame:
    """Each call on the trunk that it came in by, known or not, and on the one that it left by, where it did."""
    coming = attempts.assign(side="ingress", trunk=attempts.ingress.replace("", "unknown"))
    going = attempts[attempts.egress != ""]
    return pd.concat([coming, going.assign(side="egress", trunk=going.egress)])


def _causes(sides: pd.DataFrame) -> pd.DataFrame:
    kinds = [
        sides.assign(kind=kind, cause=pd.to_numeric([ENDINGS[ending][at] or None for ending in sides.ending]))
        for at, kind in ((1, "q850"), (2, "sip"))
    ]
    return pd.concat(kinds).dropna(subset="cause")


@pytest.fixture
def tenants_in_zones(workspace, feed_source):
    """A workspace of two tenants in zones of their own, after three nights over the varied calls; the last says all."""
    windows = dict.fromkeys(CLASSES, "99 years")
    site = workspace(
        feed_source("generic", tenant_field="carrier_of", tenants={name: name for name in ZONES}, declare={}),
        tenants={name: Tenant(retention=windows, zone=zone) for name, zone in ZONES.items()},
        accounts=[Account(id=f"acct-{t[0]}{n}", tenant=t, codes=[f"acct-{t[0]}{n}"]) for t in ZONES for n in range(2)],
    )
    calls = varied_calls()
    for name, some in (("first", calls[::2]), ("second", calls[1::3]), ("third", calls)):
        site.land("generic", f"{name}.csv", _generic(some))
        site.night(int(datetime(2026, 3, 2, 6, tzinfo=UTC).timestamp() * 1000))
    return site


def test_the_derived_tables_of_tenants_in_zones_are_what_pandas_makes_of_the_calls_that_came_in(tenants_in_zones):
    derived, calls = tenants_in_zones.derived(), varied_calls()
    attempts = _attempts(calls)
    sides, trunk = _sides(attempts), ["tenant", "hour", "side", "trunk"]
    usage: dict[tuple, np.ndarray] = {}  # over all directions: trunks of either side are among these
    for key, figures in derived["billing_usage_daily"].items():
        usage[key[:3]] = usage.get(key[:3], 0) + np.array(figures)
    assert {key: tuple(figures.tolist()) for key, figures in usage.items()} == _usage(calls)
    sums = ["attempts", "unknown", "seizures", "answered", "ner_success", "rescued", "talk_s", "pdd_ms", "pdd_count"]
    assert derived["assurance_trunk_hourly"] == _totals(sides, trunk, sums)
    causes = _totals(_causes(sides), [*trunk, "kind", "cause"], ["attempts"])
    assert derived["assurance_trunk_hourly_cause"] == causes
    sums = [*(name for name in sums if name not in ("seizures", "rescued", "talk_s")), "talk_ms"]
    assert tenants_in_zones.sums_by_day(*sums) == _totals(attempts, ["tenant", "account", "date"], sums)
    assert is_sound(tenants_in_zones)


def test_groups_that_share_a_data_file_rewrite_it_once(workspace):
    """A tenant that has grown is spread over more shards than the files that it has already."""
    site = workspace("generic")
    site.land("generic", "small.csv", usage(40, 60))
    site.night(MORNING)
    site.set(waves={"bucket_records": 8})
    site.land("generic", "large.csv", usage(30, 90))
    site.land("generic", "new.csv", usage(30, 60, first=40))
    site.night(MORNING)
    assert len(site.data_files("billing")) > 2
    assert site.view("billing")["talk_ms"].to_pylist() == [60_000] * 40
    assert site.view("assurance").num_rows == 40 and len(set(site.view("answered")["answered_id"].to_pylist())) == 40
    assert rows_in(site, "suspended", "HELD") == 60 and is_sound(site)


def test_late_quality_of_two_versions_of_a_call_counts_once(site):
    for name, later in (("cdr_1", 0), ("cdr_2", 30)):
        site.land("cucm", name, (CDR_HEADER + cucm(1, later=later) + cucm(2)).encode())
        site.night(MORNING)
    site.land("cucm", "cmr", (CMR_HEADER + quality(1, 0, 3.2, 4)).encode())
    site.night(MORNING)
    assert sorted(site.view("assurance")["mos"].to_pylist(), key=str) == [pytest.approx(3.2), None]
    assert sum(sums[-1] for sums in site.derived()["assurance_trunk_hourly_mos"].values()) == 2  # coming in, going out
    assert is_sound(site)


def test_both_parties_hang_up_and_the_earlier_bye_comes_the_next_night(site, workspace):
    """The first to hang up ends the call, in whatever order the two are read."""
    site.land("opensips", "n1", (invite("a") + bye("a", 47) + invite("b") + bye("b", 20)).encode())
    site.night(MORNING)
    site.land("opensips", "n2", bye("a", 40).encode())
    site.night(MORNING + HOUR_MS)
    together = workspace("opensips")
    together.land("opensips", "all", (bye("a", 47) + invite("a") + bye("a", 40) + invite("b") + bye("b", 20)).encode())
    together.night(MORNING)
    assert sorted(site.view("billing")["talk_ms"].to_pylist()) == [20_000, 40_000]
    assert all(site.view(view).equals(together.view(view)) for view in ("billing", "assurance"))
    assert site.derived() == together.derived() and site.entries() == together.entries()
    assert is_sound(site)
    site.night(
        MORNING + 48 * HOUR_MS
    )  # what is remembered of closed calls is forgotten; the lake still knows the calls
    site.land("opensips", "again", (invite("a") + bye("a", 40) + bye("a", 47)).encode())
    site.night(MORNING + 49 * HOUR_MS)
    assert rows_in(site, "suspended", "CONFLICT") == 0 and site.view("billing").num_rows == 2 and is_sound(site)


def test_a_bye_whose_clock_is_behind_gives_no_negative_talk(site):
    site.land("opensips", "n1", (invite("a", 10) + bye("a", 8)).encode())
    site.night(MORNING)
    assert site.view("billing")["talk_ms"].to_pylist() == [0] and is_sound(site)


# -- two months, two tenants -------------------------------------------------------------------------------------------

MONTH_END = datetime(2026, 3, 1, tzinfo=UTC)
ACROSS = (-7200, -600, -1, 0, 1, 5400, 7200)  # seconds from the month's end to the start of a call
MONTHS = ("2026-02", "2026-03")


def across(seconds: Iterable[int], carrier: str = "east", talk: int = 30) -> bytes:
    """Calls of the generic format around the month's end, each of which says whose it is."""
    lines = ["id,carrier,calling_number,called_number,start_time,answer_time,end_time,talk_ms"]
    for second in seconds:
        start = MONTH_END + timedelta(seconds=second)
        stamps = f"{start:%FT%TZ},{start + timedelta(seconds=3):%FT%TZ},{start + timedelta(seconds=3 + talk):%FT%TZ}"
        lines.append(f"id-{second},{carrier},+{CALLING},+{CALLED},{stamps},{talk * 1000}")
    return "\n".join([*lines, ""]).encode()


def key_names(site) -> dict[str, KeyName]:
    """Key id → what the key is for."""
    return {row.key_id: name_of(row) for row in site._rows(keys)}


def keys_of_views(site) -> dict[tuple[str, str], set[KeyName]]:
    """(tenant, month of the calls) → the keys that the data files of both views and of the index name."""
    names, opened = key_names(site), defaultdict(set)
    for file in (file for view in STORED for file in site.data_files(view)):
        opened[file.tenant, file.part[:7]] |= {names[key_id] for key_id in file.key_ids.split()}
    return dict(opened)


@contextmanager
def morning_of(day: date) -> Iterator[int]:
    """Set the clock to six in the morning of a day; gives it in ms."""
    at = datetime(day.year, day.month, day.day, 6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "now", lambda: at)
        yield int(at.replace(tzinfo=UTC).timestamp() * 1000)


def amount(rows: int, talk: int = 30) -> tuple[int, int]:
    return rows, rows * talk * 1000


def test_versions_across_a_months_end_are_held_in_their_own_month(site):
    site.land("generic", "both.csv", across(ACROSS))
    site.night(MORNING)
    site.land("generic", "longer.csv", across(ACROSS, talk=40))
    site.night(MORNING)
    assert site.view("billing").num_rows == 0
    assert rows_in(site, "suspended", "HELD") == 2 * len(ACROSS) and is_sound(site)


@pytest.fixture(scope="module")
def two_tenants(workspace, feed_source):
    """Calls of two tenants in both months, taken in by one night; the same calls, but for whose they are."""
    tenants = {"east": "east", "west": "west"}
    windows = dict.fromkeys(CLASSES, "99 years")
    site = workspace(
        feed_source("generic", tenant_field="carrier", tenants=tenants),
        tenants={name: Tenant(retention=windows) for name in ("default", *tenants)},
        accounts=[],
    )
    for tenant in tenants:
        site.land("generic", f"{tenant}.csv", across(ACROSS, tenant) + f"id-x,{tenant},,,not a time,,,0\n".encode())
    with morning_of(date(2026, 3, 1)) as now_ms:
        site.night(now_ms)
    return site


def test_files_lie_under_keys_of_their_own_tenant_and_month(two_tenants):
    opened = keys_of_views(two_tenants)
    assert set(opened) == {(tenant, month) for tenant in ("east", "west") for month in MONTHS}
    for (tenant, month), names in opened.items():
        assert {(name.tenant, name.month) for name in names} == {(tenant, month)}
        assert {name.domain for name in names} == {"billing", "billing-numbers", "assurance", "index"}


def test_two_tenants_of_one_night_have_each_their_own_keys_of_every_kind(two_tenants):
    kinds = defaultdict(set)
    for name in key_names(two_tenants).values():
        kinds[name.tenant].add((name.domain, name.month, name.purpose))
    assert kinds["east"] == kinds["west"]
    assert {domain for domain, _, _ in kinds["east"]} >= {"ids", "billing", "assurance", "suspense"}


def test_nothing_links_the_same_call_or_number_of_two_tenants_or_months(two_tenants):
    billing, whose = DataFiles(two_tenants.opened, "test"), defaultdict(set)
    for file in two_tenants.data_files("billing"):
        rows = billing.rows(file, ["billing_id", "calling_token"])
        whose[file.tenant, file.part[:7]] |= {*rows["billing_id"].to_pylist(), *rows["calling_token"].to_pylist()}
    assert len(whose) == 4
    assert sum(map(len, whose.values())) == len(set().union(*whose.values())) == 2 * len(ACROSS) + 4


def test_what_comes_again_across_a_months_end_is_billed_once(two_tenants):
    """In the month itself one month's calls alone of each tenant, in the next month the whole file: always known."""
    site = two_tenants
    before, derived = {view: site.view(view) for view in ("billing", "assurance")}, site.derived()
    assert [rows.num_rows for rows in before.values()] == [2 * len(ACROSS)] * 2
    february, march = [s for s in ACROSS if s < 0], [s for s in ACROSS if s >= 0]
    nights = {date(2026, 3, 2): {"east": march, "west": february}, date(2026, 4, 2): {"east": ACROSS, "west": ACROSS}}
    for day, seconds in nights.items():
        for tenant in seconds:
            site.land("generic", f"{tenant}-{day}.csv", across(seconds[tenant], tenant))
        with morning_of(day) as now_ms:
            site.night(now_ms)
        for tenant in seconds:
            count = amount(len(seconds[tenant]))
            assert site.balances()[f"generic/{tenant}-{day}.csv"] == {"in": count, "duplicate": count}
    assert all(site.view(view).equals(rows) for view, rows in before.items())
    assert site.derived() == derived and is_sound(site)


@pytest.fixture
def without_west(two_tenants):
    """The site while the keys of the tenant west are destroyed."""
    site, mine = two_tenants, keys.c.tenant == "west"
    rows = [row for row in site._rows(keys) if row.tenant == "west"]
    with database.writing(site.settings) as connection:
        connection.execute(update(keys).where(mine).values(state="destroyed", blob=None))
    forget(row.key_id for row in rows)
    yield site
    with database.writing(site.settings) as connection:
        for row in rows:
            connection.execute(update(keys).where(keys.c.key_id == row.key_id).values(state=row.state, blob=row.blob))


def test_where_one_tenants_keys_are_destroyed_its_files_open_no_more_and_the_others_do(without_west):
    site = without_west
    files = DataFiles(site.opened, "test")
    read = {"billing": files.rows, "answered": files.rows, "suspense": files.read_log, "archive": files.read_archive}
    opened, closed = Counter(), Counter()
    for view, reader in read.items():
        for file in site.data_files(view):
            if file.tenant == "west":
                with pytest.raises(KeyGone):
                    reader(file)
                closed[view] += file.rows
            else:
                reader(file)
                opened[view, file.tenant] += file.rows
    assert closed == {"billing": len(ACROSS), "answered": len(ACROSS), "suspense": 1}
    assert {view: opened[view, "east"] for view in closed} == closed


def test_where_one_tenants_keys_are_destroyed_the_others_records_are_still_known(without_west):
    without_west.land("generic", "once more.csv", across(ACROSS, "east"))
    with morning_of(date(2026, 4, 3)) as now_ms:
        without_west.night(now_ms)
    count = amount(len(ACROSS))
    assert without_west.balances()["generic/once more.csv"] == {"in": count, "duplicate": count}
