"""Is the night right? Feeds of every switch, whose makers know what must come out, through real nights."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from callward.feeds import SOURCES, Truth, generate, world
from callward.feeds.calls import ENDINGS
from callward.feeds.delivery import Delivery
from callward.feeds.dirt import ACCEPTED
from callward.lake import row_index
from callward.lake.data_files import DataFiles
from callward.workspace import CUSTOMERS
from schemas.cdr import DIRECTIONS, DISPOSITIONS, ROLES
from schemas.codes import Bucket
from schemas.views import INDEX, ROW_INDEX
from tests.conftest import AS_INSTALLED
from transforms.combine import CLOSED

SEED, DIRT = 9, 0.005
# Sources with late files must be larger: few calls end so late that their last record comes the night after.
CALLS = {"asterisk": 2500, "freeswitch": 2500, "freeswitch_json": 2500, "generic": 2500, "cucm": 9000, "opensips": 9000}
SECOND_STAMPS = ("asterisk", "freeswitch", "cucm", "opensips")
# What an ending is called, by how the source says it: by its own word, or by a cause.
ASTERISK_WORDS = {"ANSWERED": "answered", "NO ANSWER": "no_answer", "BUSY": "busy"}


_WHEN = ("record_id", "start_time")


@dataclass(frozen=True)
class Told:
    """Three nights: the day's files, the late ones, and everything once more under other names."""

    site: Any
    truth: Truth
    truth_with_late: Truth
    late: int
    balances: list[dict[str, Any]]
    views: list[dict[str, pa.Table]]
    differing: list[int]
    derived: list[dict[str, Any]]
    index: pa.Table  # what the row index says of each record that has a row in a view, after the last night


@pytest.fixture(scope="module")
def told(workspace, day, tmp_path_factory) -> Told:
    """The nights, run once for all tests of this module."""
    folder = tmp_path_factory.mktemp("feeds")
    made = [
        generate(folder / "night", seed=SEED, day=day, calls=calls, dirt=DIRT, late=folder / "late", sources=[name])
        for name, calls in CALLS.items()
    ]
    files, late = [f for feeds in made for f in feeds.files], [f for feeds in made for f in feeds.late]
    site = workspace(*CALLS, engine=AS_INSTALLED)
    balances, views, differing, derived = [], [], [], []
    for prefix, paths in (("", files), ("", late), ("again-", [*files, *late])):
        site.deliver(paths, prefix)
        night = site.night()
        assert not night.left_alone
        balances.append(site.balances())
        views.append({view: site.view(view) for view in ("billing", "assurance")})
        differing.append(site.differing())
        derived.append(site.derived())
    truth = Truth({name: count for feeds in made for name, count in feeds.truth.files.items()})
    with_late = Truth({name: count for feeds in made for name, count in feeds.truth_with_late.files.items()})
    return Told(site, truth, with_late, len(late), balances, views, differing, derived, index_of(site))


def index_of(site: Any) -> pa.Table:
    files, days = DataFiles(site.opened, "test"), sorted({file.part for file in site.data_files(INDEX)})
    return pa.concat_tables([row_index.rows(files, "default", day, ROW_INDEX.names) for day in days])


def expected(truth: Truth) -> dict[str, dict[str, tuple[int, int]]]:
    """Per file what each bucket must hold (rows, talk_ms), in the shape that the ledger is read in."""
    return {
        name: {
            "in": (count.rows, count.talk_ms["in"]),
            "paired": (0, count.talk_ms_paired),
            **{bucket: (rows, count.talk_ms[bucket]) for bucket, rows in count.buckets.items()},
        }
        for name, count in truth.files.items()
    }


def filled(balances: dict[str, dict[str, tuple[int, int]]]) -> dict[str, dict[str, tuple[int, int]]]:
    """Balances with every bucket named, 0 where it has nothing."""
    empty = dict.fromkeys(("in", "paired", *map(str, Bucket)), (0, 0))
    return {name: empty | buckets for name, buckets in balances.items()}


def test_every_file_comes_to_what_its_maker_knows(told):
    assert filled(told.balances[0]) == expected(told.truth)


def test_the_second_night_closes_what_came_late(told):
    assert told.late == 2  # quality records, and BYEs
    assert filled(told.balances[1]) == expected(told.truth_with_late)
    assert told.balances[0] != {name: told.balances[1][name] for name in told.balances[0]}


def test_everything_again_is_only_duplicates(told):
    again = {name: buckets for name, buckets in told.balances[2].items() if "/again-" in name}
    assert {name: b for name, b in told.balances[2].items() if name not in again} == told.balances[1]
    assert len(again) == len(told.truth_with_late.files)
    for name, buckets in filled(again).items():
        before = told.truth_with_late.files[name.replace("again-", "")]
        assert buckets["in"] == (before.rows, before.talk_ms["in"])
        assert buckets["filtered"][0] == before.buckets["filtered"]
        assert buckets["duplicate"][0] == before.rows - before.buckets["filtered"]
        assert buckets["paired"] == (0, 0)
    assert all(told.views[2][view].equals(told.views[1][view]) for view in told.views[1])
    assert told.derived[2] == told.derived[1]


def test_the_derived_tables_are_what_the_lake_says_after_every_night(told):
    assert told.differing == [0, 0, 0]
    assert not told.site.unbalanced()


def test_what_waits_is_pieces_without_numbers_of_closed_calls(told):
    log = told.site.log("pending")
    frame = log.to_pandas()
    closed = frame["call_id"].isin(frame.loc[frame["state"] == CLOSED, "call_id"])
    words = frame[[field.name for field in log.schema if pa.types.is_string(field.type)]]
    with_digits = words.apply(lambda column: column.str.contains(r"\d{4}", na=False)).any(axis=1)
    assert closed.any() and not with_digits[closed].any()
    assert with_digits[~closed & (frame["piece"] == "open")].all() and (~closed & (frame["piece"] == "open")).any()


# -- rows of the views, from the calls that the feeds were made of ---------------------------------------------------


def delivery(name: str, day) -> Delivery:
    """The records of a source of the feeds, as `generate` makes them."""
    number, source = next((n, s) for n, s in enumerate(SOURCES) if s.name == name)
    midnight = int(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(source.zone)).timestamp()) * 1000
    rng = np.random.default_rng([SEED, number])
    return source.make(rng, parties(), round(CALLS[name] * source.share), midnight, source.zone, DIRT)


def parties() -> world.World:
    return world.build(np.random.default_rng(SEED), 3000, 200)


def truth_frame(name: str, day) -> pd.DataFrame:
    """One row per call that must be there, with what its switch could say of it; times in ms, -1: none."""
    made = delivery(name, day)
    bucket = made.calls["bucket"] if made.late_bucket is None else made.late_bucket
    calls = made.calls[(bucket == ACCEPTED)]
    unit = 1000 if name in SECOND_STAMPS else 1
    start, answer, end = (calls[moment] // unit * unit for moment in ("start", "answer", "end"))
    if name == "opensips":  # a line is written when its transaction ends
        start = np.where(answer > 0, answer, end)
    talk = calls["talk"] if name != "opensips" else np.where(answer > 0, end - answer, 0)
    number = np.array(parties().e164.to_pylist(), object)
    return pd.DataFrame(
        {
            "start": start,
            "answer": np.where(calls["answer"] > 0, answer, -1),
            "end": end,
            "talk": talk,
            "calling": number[calls["caller"]],
            "called": number[calls["called"]],
            "account": [f"acct-{n:04d}" for n in calls["account"]],
            "direction": np.array(DIRECTIONS, object)[calls["direction"]],
            "ending": calls["ending"],
            "leg": calls["leg"],
            "route": calls["linked"],
        }
    )


def ms(column: pd.Series) -> pd.Series:
    return column.astype("datetime64[ms, UTC]").astype("int64").where(column.notna(), -1)


def of_source(table: pa.Table, name: str) -> pd.DataFrame:
    frame = table.to_pandas()
    return frame[frame["source"] == name]


@pytest.mark.parametrize("name", CALLS)
def test_billing_rows_are_the_calls_that_were_made(told, day, name):
    calls = truth_frame(name, day)
    calls = calls[calls["answer"] >= 0]
    if name == "cucm":  # from phone to phone: nobody's edge
        calls = calls[calls["direction"] != "internal"]
    rows = of_source(told.views[1]["billing"], name)
    assert times(rows["start"], rows["answer"], rows["end"], rows["talk_ms"]) == Counter(
        zip(calls["start"], calls["answer"], calls["end"], calls["talk"], strict=True)
    )
    seconds = np.ceil(rows["talk_ms"] / 1000)
    toll_free = (rows["destination"] == "toll_free") & (rows["direction"] == "outbound")
    free = toll_free | (rows["destination"] == "emergency")
    assert (rows["billable_s"] == seconds.where(~free, 0)).all()
    assert set(rows["direction"]) <= {*DIRECTIONS} - {"unknown", "transit"}
    to_someone = calls["called"] != "s"  # that is the switch itself
    numbered = rows[rows["called_number"].notna()]
    assert Counter(numbered["direction"]) == Counter(calls["direction"][to_someone])
    called = (rows["direction"] == "inbound") | (rows["destination"] == "toll_free")
    assert ((rows["charged_side"] == "called") == called).all()
    # Parties with a public number: what a switch dials within the house has no single spelling.
    public = calls[calls["calling"].str.startswith("+") & calls["called"].str.startswith("+")]
    found = rows[
        rows["calling_number"].str.startswith("+", na=False) & rows["called_number"].str.startswith("+", na=False)
    ]
    assert Counter(zip(ms(found["start"]), found["calling_number"], found["called_number"], strict=True)) == Counter(
        zip(public["start"], public["calling"], public["called"], strict=True)
    )
    assert Counter(rows["account"]) == Counter(calls["account"])


def times(start: pd.Series, answer: pd.Series, end: pd.Series, talk: pd.Series) -> Counter:
    return Counter(zip(ms(start), ms(answer), ms(end), talk, strict=True))


def in_answered(calls: pd.DataFrame, name: str) -> pd.Series:
    """Which attempts are of a call that was answered: Asterisk alone writes a record for each route."""
    answered = calls["answer"] >= 0
    return answered.groupby(calls["route"]).transform("any") if name == "asterisk" else answered


def as_told(calls: pd.DataFrame, name: str) -> pd.Series:
    """When assurance says that attempts began: to the hour where the call was answered, else to the minute (ms)."""
    grain = np.where(in_answered(calls, name), 3_600_000, 60_000)
    return calls["start"] // grain * grain


@pytest.mark.parametrize("name", CALLS)
def test_assurance_rows_are_the_attempts_that_were_made(told, day, name):
    calls = truth_frame(name, day)
    rows = of_source(told.views[1]["assurance"], name)
    answered, together = calls["answer"] >= 0, in_answered(calls, name)
    assert Counter(
        zip(ms(rows["start"]), rows["answered_id"].notna(), rows["disposition"] == "answered", strict=True)
    ) == Counter(zip(as_told(calls, name), together, answered, strict=True))
    assert name != "asterisk" or (together & ~answered).any()
    assert set(rows["disposition"]) <= set(DISPOSITIONS)
    words = pd.Series([ENDINGS[n].asterisk for n in calls["ending"]]).map(ASTERISK_WORDS)
    if name == "asterisk":
        assert Counter(words.fillna("network_failure")) == Counter(rows["disposition"])


@pytest.mark.parametrize("name", CALLS)
def test_the_index_says_of_each_attempt_when_it_was_and_how_long(told, day, name):
    calls = truth_frame(name, day)
    rows = of_source(told.index, name)
    assert Counter(
        zip(ms(rows["start_time"]), rows["talk_ms"].fillna(0), rows["disposition"] == "answered", strict=True)
    ) == Counter(zip(calls["start"], calls["talk"], calls["answer"] >= 0, strict=True))


def test_the_last_route_of_a_call_is_the_callers_call(told, day):
    """Route advance writes one more record before the one that counts: exactly one record of each call is leg 0."""
    calls = truth_frame("asterisk", day)
    rows, index = (of_source(table, "asterisk") for table in (told.views[1]["assurance"], told.index))
    last = calls.groupby("route")["leg"].transform("max") == calls["leg"]
    assert (~last).any()
    assert Counter(zip(ms(index["start_time"]), index["leg"] == 0, strict=True)) == Counter(
        zip(calls["start"], last, strict=True)
    )
    assert Counter(zip(ms(rows["start"]), rows["leg"] == 0, strict=True)) == Counter(
        zip(as_told(calls, "asterisk"), last, strict=True)
    )


# -- one view does not lead to the other -----------------------------------------------------------------------------


def words_of(table: pa.Table) -> set[bytes]:
    columns = [column for column in table.columns if pa.types.is_fixed_size_binary(column.type)]
    return {value for column in columns for value in column.to_pylist() if value is not None}


def test_no_id_or_token_of_one_view_is_in_the_other(told):
    billing, assurance = (told.views[2][view] for view in ("billing", "assurance"))
    tokens = [column for column in assurance.schema if pa.types.is_fixed_size_binary(column.type)]
    assert len(tokens) == 2 and words_of(billing) and words_of(assurance)
    assert not words_of(billing) & words_of(assurance)


def test_derived_tables_show_no_id_or_token_and_those_of_assurance_no_account(told):
    words = {value.hex() for view in told.views[2].values() for value in words_of(view)}
    shown = {name: {str(part) for key in rows for part in key} for name, rows in told.derived[2].items()}
    assert not words & set().union(*shown.values())
    accounts = {name for name, parts in shown.items() if any(part.startswith("acct-") for part in parts)}
    assert accounts == {"billing_usage_daily", "sla_account_daily"}


def test_assurance_keeps_minutes_and_hours_in_an_order_of_its_own(told):
    """In each file rows stand by their ids: where billing has them in time, the order of two must not agree."""
    files, grains = DataFiles(told.site.opened, "test"), {"failed": 60_000, "answered": 3_600_000}
    for part, grain in grains.items():
        agree = []
        for file in told.site.data_files(part):
            rows, index = files.rows(file).to_pandas(), row_index.rows(files, file.tenant, file.part, _WHEN)
            assert (ms(rows["start"]) % grain == 0).all()
            assert part == "failed" or (rows["pdd_ms"].dropna() % 100 == 0).all()
            began = index["start_time"].to_numpy()[row_index.places(files, file, index["record_id"])]
            agree += (began[1:] > began[:-1]).tolist()
        assert len(agree) > 200 and 0.4 < np.mean(agree) < 0.6


# -- derived tables, by pandas over what billing and index hold ------------------------------------------------------

NER_SUCCESS = {
    "answered",
    "busy",
    "no_answer",
    "abandoned_alerting",
    "rejected",
}  # ITU-T E.425, as formats.md quotes it
COUNTS = ["attempts", "unknown", "answered", "ner_success", "pdd_count"]
ATTEMPT_SUMS = [*COUNTS[:-1], "talk_s", "pdd_ms", "pdd_count"]
TRUNK = ["hour", "side", "trunk"]


def attempts_frame(table: pa.Table) -> pd.DataFrame:
    """One row per attempt with what every table of attempts adds up."""
    frame = table.rename_columns(["start" if name == "start_time" else name for name in table.column_names]).to_pandas()
    frame["start"] = frame["start"].dt.tz_localize(None)
    if "talk_ms" in frame:
        frame["talk_s"] = np.ceil(frame["talk_ms"] / 6000) * 6
    frame["attempts"] = 1
    frame["unknown"] = (frame["disposition"] == "unknown").astype(int)
    frame["answered"] = (frame["disposition"] == "answered").astype(int)
    frame["ner_success"] = frame["disposition"].isin(NER_SUCCESS).astype(int)
    frame["pdd_count"] = frame["pdd_ms"].notna().astype(int)
    frame["hour"] = frame["start"].dt.floor("h")
    return frame


def sides(table: pa.Table, *, inside: bool = False) -> pd.DataFrame:
    """Attempts as each side counts them: coming in one per caller's call, going out one per route.

    `inside`: with legs inside the switch, and attempts that lost the race to another leg, which no trunk counts.
    """
    frame = attempts_frame(table)
    frame[["trunk_in", "trunk_out"]] = frame[["trunk_in", "trunk_out"]].replace("desk", CUSTOMERS)  # a customer's
    frame["lost"] = False
    if not inside:
        frame = frame[frame["role"] != ROLES.index("internal")]
        given_up = frame["disposition"].str.startswith("abandoned") | (frame["cause_sip"] == 487)
        route = frame["kind"] == "route"
        frame = frame.assign(lost=route & given_up, rescued=route.astype(int))
    coming = frame[frame["leg"] == 0].assign(side="ingress", trunk=lambda f: f["trunk_in"].fillna("unknown"))
    going = frame[frame["trunk_out"].notna() & ~frame["lost"]].assign(side="egress", trunk=lambda f: f["trunk_out"])
    return pd.concat([coming, going])


def summed(frame: pd.DataFrame, keys: list[str], sums: list[str]) -> dict[tuple[Any, ...], tuple[int, ...]]:
    grouped = frame.groupby(keys)[sums].sum().astype("int64")
    rows = {
        ("default", *as_tuple(key)): tuple(int(v) for v in row)
        for key, row in zip(grouped.index, grouped.values, strict=True)
    }
    return {key: row for key, row in rows.items() if any(row)}


def as_tuple(key: Any) -> tuple[Any, ...]:
    parts = key if isinstance(key, tuple) else (key,)
    return tuple(part.to_pydatetime() if isinstance(part, pd.Timestamp) else part for part in parts)


def test_usage_by_day_is_the_sum_of_the_billing_rows(told):
    rows = told.views[1]["billing"].to_pandas()
    rows["billing_date"] = rows["answer"].fillna(rows["start"]).dt.date
    rows["direction"], rows["destination"] = rows["direction"].fillna("unknown"), rows["destination"].fillna("unknown")
    rows["calls"], rows["answered"] = 1, rows["answer"].notna().astype(int)
    keys, sums = ["account", "billing_date", "direction", "destination"], ["calls", "answered", "talk_ms", "billable_s"]
    assert told.derived[1]["billing_usage_daily"] == summed(rows, keys, sums)


def test_trunks_by_hour_are_the_sum_of_the_attempts(told):
    rows = sides(told.index)
    rows["seizures"] = rows["attempts"] - rows["unknown"]
    order = ["attempts", "unknown", "seizures", "answered", "ner_success", "rescued", *ATTEMPT_SUMS[4:]]
    hourly = told.derived[1]["assurance_trunk_hourly"]
    assert hourly == summed(rows, TRUNK, order)
    shown = summed(sides(told.views[1]["assurance"], inside=True), TRUNK, COUNTS)
    assert shown == summed(sides(told.index, inside=True), TRUNK, COUNTS)


def test_causes_and_scores_are_counted_by_hour_and_trunk(told):
    rows = sides(told.index).assign(count=1)
    causes = pd.concat([rows.assign(kind=kind, cause=rows[f"cause_{kind}"]) for kind in ("q850", "sip")]).dropna(
        subset="cause"
    )
    causes["cause"] = causes["cause"].astype(int)
    assert told.derived[1]["assurance_trunk_hourly_cause"] == summed(causes, [*TRUNK, "kind", "cause"], ["count"])
    scored = rows.dropna(subset="mos").assign(
        mos_milli=lambda f: (f["mos"].astype("float64") * 1000).round().astype(int)
    )
    assert told.derived[1]["assurance_trunk_hourly_mos"] == summed(
        scored, [*TRUNK, "mos_method"], ["mos_milli", "count"]
    )


def test_accounts_by_day_are_the_sum_of_the_callers_calls(told):
    rows = attempts_frame(told.index).query("leg == 0")
    rows = rows.assign(call_date=rows["start"].dt.date, talk_ms=rows["talk_ms"].fillna(0))
    sums = [*(name for name in ATTEMPT_SUMS if name != "talk_s"), "talk_ms"]
    assert told.site.sums_by_day(*sums) == summed(rows, ["account", "call_date"], sums)


def test_the_95th_percentile_of_the_delay_lies_in_its_bucket(told):
    """The smallest delay that 95 % of the attempts do not exceed (nearest rank) is where the histogram says."""
    rows = sides(told.index).dropna(subset="pdd_ms")
    histogram: dict[tuple[Any, ...], dict[int, int]] = {}
    for (_, *key, bucket), (count,) in told.derived[1]["assurance_trunk_hourly_pdd"].items():
        histogram.setdefault(tuple(key), {})[bucket] = count
    exact = {as_tuple(key): np.sort(group["pdd_ms"].to_numpy()) for key, group in rows.groupby(TRUNK)}
    assert set(histogram) == set(exact) and len(exact) > 20
    for key, delays in exact.items():
        rank, seen = int(np.ceil(0.95 * len(delays))), 0
        for bucket in sorted(histogram[key]):
            seen += histogram[key][bucket]
            if seen >= rank:
                break
        assert sum(histogram[key].values()) == len(delays)
        assert 2 ** (bucket / 4) * (1 - 1e-9) <= max(delays[rank - 1], 1) < 2 ** ((bucket + 1) / 4) * (1 + 1e-9)
