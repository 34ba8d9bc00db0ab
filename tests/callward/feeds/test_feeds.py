"""The feeds are what they say they are: every count of the truth is found again by naive readers of our own."""

import csv
import gzip
import hashlib
import json
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import phonenumbers
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.feeds import SOURCES, Feeds, asterisk_files, generate, text
from callward.feeds.truth import BUCKETS, Count
from tests.examples import tries

DAY = date(2026, 3, 5)
NAMES = [source.name for source in SOURCES]

# What a number column may hold: NPA-555-01xx in three forms, ranges set aside abroad, and no number at all.
NANP = re.compile(r"(?:\+?1)?[2-9]\d\d55501\d\d")
ABROAD = re.compile(r"(?:\+|011)(?:44207946\d{4}|441632960\d{3}|3319900\d{4}|493023125\d{3}|6125550\d{4})")
NO_NUMBER = re.compile(r"911|411|\*\d\d|s|1[01]\d\d|lobby-\d+|anonymous|Restricted|unavailable|b00\d{9}|")


class Night(NamedTuple):
    feeds: Feeds
    folder: Path
    late: Path


class Read(NamedTuple):
    """A record as a naive reader sees it."""

    identity: tuple[str, ...]
    version: tuple[int, int]  # end and talk: the larger version is the row
    talk_ms: int
    numbers: tuple[str, ...]


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    root = tmp_path_factory.mktemp("feeds")
    feeds = generate(root / "landing", seed=11, day=DAY, calls=12_000, late=root / "late", dirt=0.004)
    return Night(feeds, root / "landing", root / "late")


def lines_of(path: Path) -> list[bytes]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return data.splitlines()


def digest(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()
    }


def seconds(stamp: str) -> int:
    return int(datetime.fromisoformat(stamp).timestamp())


# -- naive readers: a record, or None for a line that cannot be one --------------------------------------------------


def read_asterisk(line: bytes) -> Read | None:
    try:
        row = next(csv.reader([line.decode()], strict=True))
        if len(row) != 21:
            return None
        version = (seconds(row[11]), int(row[13]))
        seconds(row[9])
    except (UnicodeDecodeError, ValueError, csv.Error):
        return None
    return Read((row[16], row[20]), version, int(row[13]) * 1000, (row[1], row[2]))


def read_freeswitch(line: bytes) -> Read | None:
    try:
        row = line.decode().removeprefix('"').removesuffix('"').split('","')
        if len(row) != 15:
            return None
        version = (seconds(row[6]), int(row[8]))
        seconds(row[4])
    except (UnicodeDecodeError, ValueError):
        return None
    return Read((row[10],), version, int(row[8]) * 1000, (row[1], row[2]))


def read_json(line: bytes) -> Read | None:
    try:
        variables = json.loads(line)["variables"]
    except ValueError:
        return None
    talk = int(variables["billmsec"])
    return Read((variables["uuid"],), (int(variables["end_uepoch"]), talk), talk, ())


def read_generic(line: bytes) -> Read | None:
    try:
        row = next(csv.reader([line.decode()], strict=True))
        if len(row) != 18:
            return None
        end = datetime.fromisoformat(row[10]).timestamp() * 1000
        datetime.fromisoformat(row[7])
    except (UnicodeDecodeError, ValueError, csv.Error):
        return None
    return Read((row[0],), (round(end), int(row[11])), int(row[11]), (row[3], row[4]))


READERS = {
    "asterisk": read_asterisk,
    "freeswitch": read_freeswitch,
    "freeswitch_json": read_json,
    "generic": read_generic,
}


def records(folder: Path, source: str) -> Iterator[bytes]:
    for path in sorted((folder / source).iterdir()):
        yield from lines_of(path)[1 if source == "generic" else 0 :]


def recount(source: str, lines: Iterable[bytes]) -> tuple[dict[str, int], dict[str, int]]:
    """Rows and talk per bucket of a source whose records are whole calls, by the words of the design alone."""
    rows, talk = dict.fromkeys(BUCKETS, 0), dict.fromkeys(BUCKETS, 0)
    versions: dict[tuple[str, ...], Counter[tuple[tuple[int, int], int]]] = defaultdict(Counter)
    for line in lines:
        read = READERS[source](line)
        if read is None:
            rows["suspended"] += 1
        elif b'"Local/' in line and b';2",""' in line:
            rows["filtered"] += 1
            talk["filtered"] += read.talk_ms
        else:
            versions[read.identity][read.version, read.talk_ms] += 1
    for found in versions.values():
        for n, ((_, talk_ms), times) in enumerate(sorted(found.items(), reverse=True)):
            for bucket, count in (("suspended" if n else "accepted", 1), ("duplicate", times - 1)):
                rows[bucket] += count
                talk[bucket] += count * talk_ms
    return rows, talk


@pytest.mark.parametrize("source", READERS)
def test_truth_is_what_a_naive_reader_finds(night: Night, source: str) -> None:
    truth = night.feeds.truth.source(source)
    rows, talk = recount(source, records(night.folder, source))
    assert truth.buckets == rows
    assert {name: truth.talk_ms[name] for name in BUCKETS} == talk
    assert sum(truth.dirt.values()) == rows["suspended"] > 0


def acc_count(lines: Iterable[bytes]) -> tuple[dict[str, int], int]:
    """Buckets, and the talk that pairing finds, of accounting lines: halves joined on Call-ID and both tags."""
    rows, paired = dict.fromkeys(BUCKETS, 0), 0
    pieces: dict[tuple[str, frozenset[str]], Counter[tuple[str, str, int]]] = defaultdict(Counter)
    for line in lines:
        row = line.decode().split("|")
        if len(row) != 14:
            rows["suspended"] += 1
        elif row[0] == "MESSAGE" or row[4] == "407":
            rows["filtered"] += 1
        else:
            pieces[row[3], frozenset(row[1:3])][row[0], row[4], int(row[6])] += 1
    for found in pieces.values():
        rows["duplicate"] += sum(found.values()) - len(found)
        times = {method: time for method, _, time in found}
        failed = any(code != "200" for _, code, _ in found)
        if len(times) == 2:
            rows["accepted"] += 1
            rows["merged"] += 1
            paired += (times["BYE"] - times["INVITE"]) * 1000
        else:
            rows["accepted" if failed else "pending"] += 1
    return rows, paired


def test_accounting_pairs_tonight_and_after_the_late_files(night: Night) -> None:
    tonight = list(records(night.folder, "opensips"))
    late = list(records(night.late, "opensips"))
    for truth, lines in ((night.feeds.truth, tonight), (night.feeds.truth_with_late, tonight + late)):
        count = truth.source("opensips")
        assert (count.buckets, count.talk_ms_paired) == acc_count(lines)
    moved = night.feeds.truth.source("opensips").buckets["pending"]
    assert 0 < night.feeds.truth_with_late.source("opensips").buckets["pending"] < moved


def test_accounting_is_out_of_order(night: Night) -> None:
    path = max((night.folder / "opensips").iterdir(), key=lambda p: p.stat().st_size)
    times = [int(line.split(b"|")[6]) for line in lines_of(path) if line.count(b"|") == 13]
    assert times != sorted(times)


def cucm_rows(folder: Path, kind: str) -> list[dict[str, str] | None]:
    found: list[dict[str, str] | None] = []
    for path in sorted((folder / "cucm").glob(f"{kind}_*")):
        names, _, *rows = csv.reader(line.decode() for line in lines_of(path))
        found += [dict(zip(names, row, strict=True)) if len(row) == len(names) else None for row in rows]
    return found


def test_quality_records_find_their_calls(night: Night) -> None:
    calls, quality = cucm_rows(night.folder, "cdr"), cucm_rows(night.folder, "cmr")
    sound = [row for row in calls if row is not None]
    recordings = [row for row in sound if row["origCalledPartyRedirectOnBehalfOf"] == "27"]
    unique = {row["pkid"]: row for row in sound if row not in recordings}
    legs = {
        (r["globalCallID_callId"], r[leg])
        for r in unique.values()
        for leg in ("origLegCallIdentifier", "destLegIdentifier")
    }
    matched = [(row["globalCallID_callId"], row["callIdentifier"]) in legs for row in quality if row is not None]
    count = night.feeds.truth.source("cucm")
    assert count.buckets == {
        "accepted": len(unique),
        "merged": sum(matched),
        "duplicate": len(sound) - len(recordings) - len(unique),
        "suspended": len(calls) - len(sound),
        "filtered": len(recordings),
        "pending": len(matched) - sum(matched),
        "withdrawn": 0,
        "written_off": 0,
    }
    assert count.talk_ms["accepted"] == sum(int(row["duration"]) for row in unique.values()) * 1000
    assert [bucket for bucket, rows in count.buckets.items() if rows == 0] == ["withdrawn", "written_off"]


def test_cisco_rows_say_one_thing(night: Night) -> None:
    for row in filter(None, cucm_rows(night.folder, "cdr")):
        connect, end = int(row["dateTimeConnect"]), int(row["dateTimeDisconnect"])
        assert int(row["duration"]) == (end - connect if connect else 0)
        assert "0" in (row["origCause_value"], row["destCause_value"])


# -- balance, seeds, files -------------------------------------------------------------------------------------------


def balanced(count: Count) -> bool:
    talk = sum(count.talk_ms[name] for name in BUCKETS)
    return count.rows == sum(count.buckets.values()) and count.talk_ms["in"] == talk


@tries(8)
@given(seed=st.integers(0, 2**31), calls=st.integers(0, 400), dirt=st.sampled_from([0.0, 0.002, 0.05]))
def test_any_seed_and_size_balances(
    tmp_path_factory: pytest.TempPathFactory, seed: int, calls: int, dirt: float
) -> None:
    folder = tmp_path_factory.mktemp("any")
    feeds = generate(folder, seed=seed, day=DAY, calls=calls, dirt=dirt)
    assert all(balanced(count) for count in feeds.truth_with_late.files.values())
    headers = {"generic": 1, "cucm": 2}
    for path in feeds.files:
        source = path.parent.name
        assert feeds.truth.files[f"{source}/{path.name}"].rows == len(lines_of(path)) - headers.get(source, 0)
    if dirt == 0:
        assert feeds.truth.total().buckets["suspended"] == 0


def test_files_on_disk_are_those_of_the_truth(night: Night) -> None:
    tonight, late = digest(night.folder), digest(night.late)
    assert set(tonight) == set(night.feeds.truth.files) == {f"{p.parent.name}/{p.name}" for p in night.feeds.files}
    assert set(tonight) | set(late) == set(night.feeds.truth_with_late.files)
    assert late


def test_a_seed_gives_the_same_bytes_and_another_gives_others(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        generate(tmp_path / name, seed=seed, day=DAY, calls=1500)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert not set(digest(tmp_path / "a").values()) & set(digest(tmp_path / "c").values())


@pytest.mark.parametrize("source", NAMES)
def test_a_source_is_the_same_without_the_others(tmp_path: Path, night: Night, source: str) -> None:
    generate(tmp_path, seed=11, day=DAY, calls=12_000, dirt=0.004, sources=[source])
    assert digest(tmp_path / source) == digest(night.folder / source)


def test_a_file_is_delivered_twice(night: Night) -> None:
    (again,) = (night.folder / "asterisk").glob("*_resent.csv")
    assert again.read_bytes() == again.with_name(again.name.replace("_resent", "")).read_bytes()
    assert night.feeds.truth.files[f"asterisk/{again.name}"].buckets["duplicate"] == len(lines_of(again))


# -- numbers ---------------------------------------------------------------------------------------------------------


def number_columns(night: Night) -> Iterator[str]:
    for source in ("asterisk", "freeswitch", "generic"):
        for line in records(night.folder, source):
            if read := READERS[source](line):
                yield from read.numbers
    for line in [*records(night.folder, "opensips"), *records(night.late, "opensips")]:
        yield from line.decode().split("|")[8:10]
    for line in records(night.folder, "freeswitch_json"):
        for name in (b"sip_from_user", b"destination_number"):
            if found := re.search(rb'"' + name + rb'":"([^"\xff]*)"', line):
                yield found[1].decode().replace("%2B", "+").replace("%2A", "*")
    for row in filter(None, [*cucm_rows(night.folder, "cdr"), *cucm_rows(night.late, "cmr")]):
        yield from (
            row[name] for name in ("callingPartyNumber", "finalCalledPartyNumber", "directoryNum") if name in row
        )


def e164(number: str) -> str:
    if NANP.fullmatch(number):
        return f"+1{number[-10:]}"
    return "+" + number.removeprefix("011").removeprefix("+")


def test_every_number_is_fictitious_and_listed(night: Night) -> None:
    listed = set(night.feeds.numbers.to_pylist())
    seen = {number for number in number_columns(night) if not NO_NUMBER.fullmatch(number)}
    assert all(NANP.fullmatch(number) or ABROAD.fullmatch(number) or number.endswith("8005550199") for number in seen)
    assert {e164(number) for number in seen} <= listed
    assert len(listed) - len({e164(number) for number in seen}) < len(listed) * 0.01  # only of spoilt lines
    assert all(phonenumbers.is_possible_number(phonenumbers.parse(number)) for number in listed)


def test_no_other_long_number_hides_in_a_line(night: Night) -> None:
    for line in filter(read_asterisk, records(night.folder, "asterisk")):
        for value in line.decode().split('","')[:9]:
            without_serial = re.sub(r"-[0-9a-f]{8}(;2)?$", "", value)
            for digits in re.findall(r"\+?\d{7,}", without_serial):
                assert NANP.fullmatch(digits) or ABROAD.fullmatch(digits) or digits.endswith("8005550199")


def test_numbers_are_written_for_their_owner_only(tmp_path: Path) -> None:
    target = tmp_path / "numbers"
    feeds = generate(tmp_path / "a", seed=1, day=DAY, calls=200, numbers_to=target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert target.read_text().split() == feeds.numbers.to_pylist()
    with pytest.raises(FileExistsError):
        generate(tmp_path / "b", seed=1, day=DAY, calls=200, numbers_to=target)


def test_nothing_printable_holds_a_number(night: Night) -> None:
    said = repr(night.feeds) + json.dumps(night.feeds.truth.as_json())
    assert not any(number.lstrip("+") in said for number in night.feeds.numbers.to_pylist())


def test_the_directory_names_one_account_per_subscriber(night: Night) -> None:
    numbers = night.feeds.directory["number"].to_pylist()
    assert len(set(numbers)) == len(numbers) == 3000
    assert len(night.feeds.directory["account"].unique()) == 200


# -- believable ------------------------------------------------------------------------------------------------------


def test_a_day_has_a_curve_repeat_callers_and_failures(night: Night) -> None:
    rows = [
        row
        for line in records(night.folder, "asterisk")
        if len(row := next(csv.reader([line.decode("latin-1")]))) == 21
    ]
    hours = Counter(row[9][11:13] for row in rows)
    assert max(hours.values()) > 5 * min(hours.values())
    answered = sum(row[14] == "ANSWERED" for row in rows) / len(rows)
    assert 0.5 < answered < 0.7
    assert {row[14] for row in rows} == {"ANSWERED", "NO ANSWER", "BUSY", "FAILED", "CONGESTION"}
    callers = Counter(e164(row[1]) for row in rows if NANP.fullmatch(row[1]))
    assert callers.most_common(1)[0][1] > 10 * sum(callers.values()) / len(callers)


# -- the bench's files -----------------------------------------------------------------------------------------------


def test_bench_files_are_clean_and_as_many_as_asked(tmp_path: Path) -> None:
    paths = asterisk_files(tmp_path / "a", seed=3, rows=5003, files=3, day=DAY, subscribers=500, accounts=20)
    again = asterisk_files(tmp_path / "b", seed=3, rows=5003, files=3, day=DAY, subscribers=500, accounts=20)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert [path.name for path in paths] == [path.name for path in again] == sorted(path.name for path in paths)
    rows = [row for path in paths for row in csv.reader(path.open(newline=""), strict=True)]
    assert len(rows) == 5003
    assert {len(row) for row in rows} == {21}
    assert len({row[16] for row in rows}) == len(rows)
    starts = [row[9] for row in rows]
    assert starts == sorted(starts)
    assert starts[0].startswith(DAY.isoformat())
    assert starts[-1].startswith(DAY.isoformat())
    for row in rows:
        assert bool(row[10]) == (row[14] == "ANSWERED")
        assert int(row[13]) <= (seconds(row[11]) - seconds(row[10]) if row[10] else 0)


def test_strings_are_quoted_and_numbers_bare(tmp_path: Path) -> None:
    (path,) = asterisk_files(tmp_path, seed=3, rows=400, files=1, day=DAY)
    pattern = re.compile(rb'(?:"(?:[^"]|"")*",){10}(?:"[^"]*")?,"[^"]*",\d+,\d+,(?:"[^"]*",){6}\d+')
    assert all(pattern.fullmatch(line) for line in lines_of(path))


# -- text ------------------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.text(st.characters(exclude_characters="\r\n\0", codec="utf-8")), st.integers(0, 99)), min_size=1
    )
)
def test_csv_lines_come_back_from_the_csv_module(rows: list[tuple[str, int]]) -> None:
    table = pa.table({"word": [word for word, _ in rows], "number": [number for _, number in rows]})
    lines = text.csv_lines(table).to_pylist()
    assert [next(csv.reader([line], strict=True)) for line in lines] == [[word, str(number)] for word, number in rows]


@given(st.integers(0, 2**40), st.lists(st.integers(0, 2**40), unique=True, min_size=1))
def test_ids_are_unique_and_shaped_as_uuids(seed: int, serials: list[int]) -> None:
    ids = text.uuids(seed, np.array(serials)).to_pylist()
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}", i) for i in ids)


@given(
    st.lists(st.integers(1, 2_100_000_000_000), min_size=1), st.sampled_from(["UTC", "America/Denver", "Asia/Kolkata"])
)
def test_stamps_are_local_times_cut_to_the_second(times: list[int], zone: str) -> None:
    expected = [datetime.fromtimestamp(t // 1000, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S") for t in times]
    assert text.stamps(np.array(times), zone).to_pylist() == expected
