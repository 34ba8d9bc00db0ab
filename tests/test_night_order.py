"""The order in which records come must not matter: any files, any nights, the same rows, ledger and derived tables."""

import csv
import gzip
import io
import random
from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest

from callward.feeds import generate

SOURCES = ("asterisk", "cucm", "opensips", "generic")
MORNING = 1_772_776_800_000  # 2026-03-06 06:00 UTC: nothing waits past its horizon


@pytest.fixture(scope="module")
def records(day, tmp_path_factory) -> dict[tuple[str, bytes], list[bytes]]:
    """Every line of small, dirty feeds with late files, by source and by the header it must stand under."""
    folder = tmp_path_factory.mktemp("feeds")
    found: dict[tuple[str, bytes], list[bytes]] = defaultdict(list)
    for source, calls in zip(SOURCES, (500, 1200, 1200, 800), strict=True):
        feeds = generate(folder / "n", seed=9, day=day, calls=calls, dirt=0.03, late=folder / "l", sources=[source])
        for path in (*feeds.files, *feeds.late):
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            header, lines = cut(source, data.splitlines(keepends=True))
            found[source, header] += lines
    # Versions that neither their end nor their talk puts in order, and a third version of some records.
    (header,) = (key[1] for key in found if key[0] == "generic")
    found["generic", header] += list(more_versions(header, found["generic", header]))
    # Both parties hang up at once, and sessions are refreshed, or are refused to be.
    lines = found["opensips", b""]
    found["opensips", b""] = lines + [later(line, 7) for line in lines[::5] if line.startswith(b"BYE|")]
    answers = [line for line in lines if line.split(b"|")[4:5] == [b"200"] and line.startswith(b"INVITE|")]
    found["opensips", b""] += [later(line, 2) for line in answers[::4]]
    found["opensips", b""] += [later(line, 3, b"491") for line in answers[::3]]
    return found


def later(line: bytes, seconds: int, code: bytes = b"200") -> bytes:
    parts = line.split(b"|")
    return b"|".join([*parts[:4], code, parts[5], str(int(parts[6]) + seconds).encode(), *parts[7:]])


def cut(source: str, lines: list[bytes]) -> tuple[bytes, list[bytes]]:
    rows = {"cucm": 2, "generic": 1}.get(source, 0)
    return b"".join(lines[:rows]), lines[rows:]


def more_versions(header: bytes, lines: list[bytes]) -> Iterator[bytes]:
    names = next(csv.reader([header.decode().strip()]))
    for number, line in enumerate(lines):
        try:
            row = dict(zip(names, next(csv.reader([line.decode()])), strict=True))
        except (ValueError, UnicodeDecodeError):
            continue
        if number % 7 == 0:
            row["called_number"] = "+13035550199"
        elif number % 11 == 0 and row["answer_time"]:
            row["talk_ms"] = str(max(0, int(row["talk_ms"]) - 1))
        else:
            continue
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerow(row.values())
        yield out.getvalue().encode()


def call_of(source: str, line: bytes) -> bytes:
    """What must come in one night: Asterisk does not say which attempt of a call is the last."""
    parts = line.rstrip(b"\n").split(b",")
    return parts[-2] if source == "asterisk" and len(parts) > 3 else line


def deliver(site, records, night_of, shuffle: random.Random, night: int) -> None:
    for number, ((source, header), lines) in enumerate(sorted(records.items())):
        mine = [line for line in lines if night_of[source, call_of(source, line), line] == night]
        shuffle.shuffle(mine)
        for part in range(3):
            chosen = mine[part::3]
            if chosen:
                data = header + b"".join(line.rstrip(b"\n") + b"\n" for line in chosen)
                site.land(source, f"part-{number}-{night}-{part}", data)


def state(site):
    """All that must not depend on order: rows with their ids, entries, derived tables, what waits and is suspended."""
    waiting = Counter((row["call_id"], row["piece"]) for row in site.pending().to_pylist() if row["state"] == 0)
    suspended = site.log("suspense")
    return {
        "billing": site.view("billing"),
        "assurance": site.view("assurance"),
        "entries": site.entries(),
        "derived": site.derived(),
        "waiting": waiting,
        "suspense": Counter(zip(suspended["suspense_id"].to_pylist(), suspended["code"].to_pylist(), strict=True)),
    }


@pytest.fixture(scope="module")
def one_night(workspace, records):
    """All records in one file a source (two where headers differ), in one night."""
    site = workspace(*SOURCES, thresholds={"file_errors_pct": 100.0})
    for number, ((source, header), lines) in enumerate(sorted(records.items())):
        site.land(source, f"all-{number}", header + b"".join(line.rstrip(b"\n") + b"\n" for line in lines))
    night = site.night(MORNING)
    assert not night.left_alone
    return state(site)


def test_the_one_night_has_something_of_everything(one_night):
    codes = {code for _, code in one_night["entries"]}
    buckets = {bucket for bucket, _ in one_night["entries"]}
    assert {"accepted", "merged", "duplicate", "suspended", "filtered", "pending", "paired"} <= buckets
    assert one_night["entries"]["suspended", "HELD"][0] > 10 and {"CONFLICT", "TIME"} <= codes


@pytest.mark.parametrize(
    ("seed", "waves"), [pytest.param(1, {}, marks=pytest.mark.endurance), (2, {"bucket_records": 100, "records": 400})]
)
def test_any_files_and_nights_end_in_the_same_state(workspace, records, one_night, seed, waves):
    """Also spread over many shards, and where a night takes many waves."""
    shuffle, nights = random.Random(seed), 2 if waves else 3
    chosen: dict[tuple[str, bytes], int] = {}
    night_of = {}
    for (source, _), lines in sorted(records.items()):
        for line in lines:
            key = (source, call_of(source, line))
            night_of[*key, line] = chosen.setdefault(key, shuffle.randrange(nights))
    site = workspace(*SOURCES, thresholds={"file_errors_pct": 100.0}, waves=waves)
    for night in range(nights):
        deliver(site, records, night_of, shuffle, night)
        site.night(MORNING)
        assert site.differing() == 0
        assert not site.unbalanced()
    ended = state(site)
    for what in ("entries", "waiting", "suspense", "derived"):
        assert ended[what] == one_night[what], what
    for view in ("billing", "assurance"):
        assert ended[view].equals(one_night[view]), view
