"""The SQL of docs/assurance.md: each block is run over a made feed, and says what pandas says of the same attempts."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from callward import initiate, query
from callward.access import cases
from callward.access.cases import Case
from callward.lake.cells import LEAST
from pipelines.compact import compact
from tests.postgresql import new_database, on_loopback

PAGE = Path(__file__).parent.parent / "docs" / "assurance.md"
QUESTIONS = {
    int(number): re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    for number, text in re.findall(r"^## (\d+)\.(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
}
OF_SUPPORT = 7
FIRST, LAST = pd.Timestamp("2026-02-23"), pd.Timestamp("2026-03-05")
TODAY, CLOSED = pd.Timestamp("2026-03-05"), pd.Timestamp("2026-03-04")
NOW = datetime(2026, 3, 7, 12, tzinfo=UTC)  # the last date that is closed then is CLOSED
TRUNKS = ("northwind-1", "northwind-2", "bluepeak-1")
AREAS = {"+1303": "+13035550", "+1720": "+17205550", "+1416": "+14165550"}
# disposition: as the feed says it, Q.850, SIP, who released it
ENDINGS = {
    "answered": ("", 16, 200, "calling"),
    "busy": ("busy", 17, 486, "called"),
    "no_answer": ("no_answer", 19, 480, "network"),
    "network_failure": ("network_failure", 34, 503, "network"),
    "abandoned_alerting": ("abandoned_alerting", 16, 487, "calling"),
}
FAILS_OVER = ("network_failure", "busy")


def attempts() -> pd.DataFrame:
    """One row per attempt: calls of one route, and calls that go on to another where the first failed."""
    rng, rows = np.random.default_rng(7), []
    for day in pd.date_range(FIRST, LAST):
        for number in range({CLOSED: 900, TODAY: 400}.get(day, 40)):
            call = f"{day:%d}-{number}"
            busy = number % 3 == 0 and day == TODAY
            second = int(rng.integers(*((51_900, 53_000) if busy else (30_000, 70_000))))
            start = day + pd.Timedelta(seconds=second)
            out = list(rng.permutation(TRUNKS)[: 1 + int(rng.random() < 0.3)])
            ends = [str(rng.choice(FAILS_OVER)) for _ in out[1:]]
            ends.append(str(rng.choice(list(ENDINGS), p=[0.55, 0.1, 0.1, 0.15, 0.1])))
            area = [str(name) for name in rng.choice(list(AREAS), 2)] if number % 9 else ["+1303", "+1720"]
            for at, (trunk, ending) in enumerate(zip(out, ends, strict=True)):
                rows.append((call, at, len(out) - 1 - at, start + pd.Timedelta(seconds=2 * at), trunk, ending, *area))
    names = ["call", "at", "leg", "start", "trunk_out", "disposition", "calling_prefix", "called_prefix"]
    frame = pd.DataFrame(rows, columns=names)
    size, answered = len(frame), frame.disposition == "answered"
    talk = rng.choice([2, 3, 5, 60, 61, 90, 300, 1800], size)
    talk[(frame.trunk_out == "northwind-1") & (rng.random(size) < 0.7)] = 2  # it answers falsely
    return frame.assign(
        trunk_in=np.where(frame.call.str[-1].astype(int) < 5, "tidewater-1", "tidewater-2"),
        talk_s=np.where(answered, talk, 0),
        ring_s=np.where(frame.disposition.isin(["answered", "no_answer", "abandoned_alerting"]), 4, 0),
        pdd_ms=rng.integers(200, 6000, size),
        codec=rng.choice(["PCMU", "G729"], size),
        account=np.where(frame.call.str[-1].astype(int) % 2, "ac-0001", "ac-0002"),
        mos=np.where(answered, np.round(rng.uniform(2, 4.4, size), 1), np.nan),
        route=answered.groupby(frame.call).transform("any") & ~answered,
        failed=~answered.groupby(frame.call).transform("any"),
    )


HEADER = (
    "record_id,call_id,leg,calling_number,called_number,start_time,ring_time,answer_time,end_time,talk_ms,"
    "ingress_trunk,egress_trunk,disposition,cause_q850,cause_sip,released_by,codec,mos,pdd_ms,"
    "account_code"
)


def feed(frame: pd.DataFrame) -> bytes:
    return "\n".join([HEADER, *map(line, frame.itertuples()), ""]).encode()


def line(row: Any) -> str:
    ring = row.start + pd.Timedelta(seconds=1)
    answer = ring + pd.Timedelta(seconds=row.ring_s)
    end = answer + pd.Timedelta(seconds=row.talk_s)
    known = [(row.start, True), (ring, row.ring_s), (answer, row.disposition == "answered"), (end, True)]
    times = [f"{moment:%FT%TZ}" if said else "" for moment, said in known]
    word, *causes = ENDINGS[row.disposition]
    who = [f"{AREAS[area]}{100 + row.Index % 99}" for area in (row.calling_prefix, row.called_prefix)]
    sound = [row.codec, "" if pd.isna(row.mos) else row.mos, row.pdd_ms, row.account]
    values = [f"{row.call}-{row.at}", row.call, row.leg, *who, *times, row.talk_s * 1000]
    return ",".join(map(str, [*values, row.trunk_in, row.trunk_out, word, *causes, *sound]))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def ask(request, workspace, feed_source) -> Callable[..., list[tuple[Any, ...]]]:
    """ask(sql) → the rows that the role assurance gets, of a lake whose dates up to CLOSED are closed.

    ask(sql, role="support", case=…, purpose=…) asks as another.
    """
    on = {}
    if request.param == "postgresql":
        on["database"] = on_loopback(new_database(request.getfixturevalue("server_url")))
    site = workspace(feed_source("generic", declare={}), **on)
    initiate.upgrade(site.settings)
    site.land("generic", "calls.csv", feed(attempts()))
    site.night(int(NOW.timestamp() * 1000))
    site.set(lake={"close_after_hours": 48.0})
    closed = compact(site.settings, now=NOW.replace(tzinfo=None)).closed
    assert max(one.part for one in closed) == CLOSED.date().isoformat()
    cases.open_case(site.settings, Case("T-42", "default", "acct-0001", "quality_complaint", "dropped calls"))

    def ask(sql: str, role: str = "assurance", **case: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in query.query(site.settings, role, sql, **case).to_pylist()]

    return ask


def test_every_question_has_sql():
    assert sorted(QUESTIONS) == list(range(1, 11))
    assert [number for number, blocks in QUESTIONS.items() if len(blocks) != 1] == []


def test_a_customers_month_is_told_to_support_by_a_case(ask):
    got = ask(QUESTIONS[OF_SUPPORT][0], "support", purpose="quality_complaint", case="T-42")
    calls = attempts()[lambda f: (f.leg == 0) & (f.account == "ac-0001") & (f.start >= "2026-03-01")]
    assert {row[0] for row in got} == set(AREAS)
    for region, count, asr, ner, acd_s, pdd_ms, mos in got:
        mine = calls[calls.called_prefix == region]
        answered = mine.disposition == "answered"
        connected = mine.disposition.isin(["answered", "busy", "no_answer", "abandoned_alerting", "rejected"])
        assert (count, asr, ner) == (len(mine), pct(answered.sum(), len(mine)), pct(connected.sum(), len(mine)))
        assert abs(acd_s - mine.talk_s.sum() / answered.sum()) <= 0.0501
        assert abs(pdd_ms - mine.pdd_ms.mean()) <= 0.51 and abs(mos - mine.mos.mean()) <= 0.0051
    assert [row[1] for row in got] == sorted((row[1] for row in got), reverse=True)


def pct(part: float, whole: float) -> float:
    return float(np.floor(1000.0 * part / whole + 0.5) / 10)


def of(frame: pd.DataFrame, since: str, until: str) -> pd.DataFrame:
    return frame[(frame.start >= since) & (frame.start < until)]


def which_trunk_fails(frame):
    quarter = of(frame[frame.failed & (frame.disposition == "network_failure")], "2026-03-05 14:30", "2026-03-05 14:45")
    hour, rows = of(frame, "2026-03-05 14:00", "2026-03-05 15:00"), []
    for side, trunk in (("egress", "trunk_out"), ("ingress", "trunk_in")):
        counted = (lambda f: f[f.leg == 0]) if side == "ingress" else (lambda f: f)
        for name, few in counted(quarter).groupby(trunk):
            of_trunk = counted(hour)[lambda f, trunk=trunk, name=name: f[trunk] == name]
            answered = (of_trunk.disposition == "answered").sum()
            rows.append((side, name, len(few), len(of_trunk), pct(answered, len(of_trunk))))
    return sorted(rows, key=lambda row: (-row[2], row[1], row[0]))


def which_destination(frame):
    since = frame[frame.failed & (frame.start >= "2026-03-05 14:00")]
    found = [
        (prefix, trunk, len(few), int((few.disposition == "network_failure").sum()) or None)
        for (prefix, trunk), few in since.groupby(["called_prefix", "trunk_out"])
    ]
    return sorted(found, key=lambda row: (-row[2], row[0], row[1]))[:10]


def erlangs(frame):
    calls, hours = frame[frame.disposition == "answered"], []
    for row in calls.itertuples():
        began = row.start + pd.Timedelta(seconds=1 + row.ring_s)
        ends = began + pd.Timedelta(seconds=row.talk_s)
        for hour in pd.date_range(began.floor("h"), ends.ceil("h") - pd.Timedelta(hours=1), freq="h"):
            clipped = min(ends, hour + pd.Timedelta(hours=1)) - max(began, hour)
            hours.append((row.start.date(), hour, row.trunk_out, clipped.total_seconds()))
    pieces = pd.DataFrame(hours, columns=["date", "hour", "trunk", "talk_s"])
    size = pieces.groupby(["date", "hour", "trunk"]).talk_s.transform("size")
    pieces["trunk"] = pieces.trunk.where(size >= LEAST, "pooled")
    cells = pieces.groupby(["date", "hour", "trunk"]).talk_s.sum().apply(lambda s: int(s + 30) // 60).reset_index()
    day = cells[(cells.hour >= CLOSED) & (cells.hour < TODAY)]
    summed = day.groupby(["hour", "trunk"]).talk_s.sum()
    return [(hour.to_pydatetime(), trunk, minutes / 60.0) for (hour, trunk), minutes in summed.items()]


def sound(frame):
    rows = of(frame[~frame.failed], "2026-03-05", "2026-03-06").assign(method=lambda f: f.mos.notna())
    found = []
    for (trunk, codec, scored), few in rows.groupby(["trunk_out", "codec", "method"]):
        steps = np.sort(few.pdd_ms.to_numpy() // 100 * 100)
        mos = few.mos.astype("float32").astype("float64").mean() if scored else None
        p95 = int(steps[int(np.ceil(0.95 * len(steps))) - 1])
        found.append((trunk, codec, "source" if scored else None, len(few), p95, mos))
    return found


def rescued(frame):
    found = []
    for trunk, few in of(frame, "2026-03-05", "2026-03-06").groupby("trunk_out"):
        failed, saved = int((few.disposition != "answered").sum()), int(few.route.sum())
        found.append((trunk, failed, saved, pct(saved, failed)))
    return sorted(found, key=lambda row: (-row[1], row[0]))


def causes(frame):
    rows = of(frame[frame.failed & (frame.trunk_out == "northwind-2")], "2026-03-05", "2026-03-06")
    found = [(ENDINGS[end][3], end, *ENDINGS[end][1:3], len(few)) for end, few in rows.groupby("disposition")]
    return sorted(found, key=lambda row: (-row[-1], *row[:-1]))


def weeks(frame):
    rows = frame[frame.trunk_out.str.startswith("northwind-")]
    found = []
    for week, few in rows.groupby(rows.start.dt.to_period("W").dt.start_time.dt.date):
        answered = (few.disposition == "answered").sum()
        success = few.disposition.isin(["answered", "busy", "no_answer", "abandoned_alerting"]).sum()
        found.append((week, len(few), pct(answered, len(few)), pct(success, len(few)), round(few.pdd_ms.mean())))
    return found


def one_call(frame):
    minute = frame.start.dt.floor("min")
    near = (minute >= "2026-03-05 14:31") & (minute <= "2026-03-05 14:33")
    rows = frame[frame.failed & near & (frame.calling_prefix == "+1303") & (frame.called_prefix == "+1720")]
    found = []
    for row in rows.assign(minute=minute).sort_values(["minute", "leg"]).itertuples():
        _, q850, sip, who = ENDINGS[row.disposition]
        ring = row.ring_s if row.ring_s else None
        found.append((row.minute.to_pydatetime(), row.trunk_in, row.trunk_out, ring, row.disposition, q850, sip, who))
    return found


ANSWERS = {1: which_trunk_fails, 2: which_destination, 5: erlangs, 6: rescued, 8: causes, 9: weeks, 10: one_call}


@pytest.mark.parametrize("number", ANSWERS)
def test_the_answer_is_that_of_pandas(ask, number):
    expected = ANSWERS[number](attempts())
    assert expected, "the feed has nothing to ask for"
    got = ask(QUESTIONS[number][0])
    assert [tuple(map(plain, row)) for row in got] == [tuple(map(plain, row)) for row in expected]


def plain(value: Any) -> Any:
    """Whole numbers as such: sums come as decimals from one database and as integers from the other."""
    if isinstance(value, datetime) and value.tzinfo:
        return value.astimezone(UTC).replace(tzinfo=None)
    if isinstance(value, str | date) or value is None:
        return value
    return round(float(value), 6)


def test_delay_and_sound_are_those_of_attempts_of_answered_calls(ask):
    got, expected = ask(QUESTIONS[4][0]), sorted(sound(attempts()), key=lambda row: (*row[:2], row[2] or "~"))
    assert len(expected) > 6 and [row[:5] for row in got] == [row[:5] for row in expected]
    for ours, theirs in zip(got, expected, strict=True):
        assert (ours[5] is None) == (theirs[5] is None) and abs((ours[5] or 0) - (theirs[5] or 0)) <= 0.0051


def test_bounds_of_short_calls_hold_what_there_is_and_the_mean_is_exact(ask):
    calls = attempts()[lambda f: (f.start.dt.date == CLOSED.date()) & (f.disposition == "answered")]
    got = ask(QUESTIONS[3][0])
    assert {row[0] for row in got} == set(TRUNKS)
    for trunk, answered, low, high, acd_s in got:
        talk = calls[calls.trunk_out == trunk].talk_s
        assert answered == len(talk) >= 2 * LEAST
        assert low - 0.05 <= 100 * (talk < 6).mean() <= high + 0.05
        assert abs(acd_s - talk.mean()) <= 0.0501
    assert got[0][0] == "northwind-1" and got[0][2] > 50
