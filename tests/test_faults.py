"""Bad input and bad surroundings, through the real entry point: a suspense code or one clear sentence, the right exit
code, never a traceback, never a number in what is printed, and nothing lost."""

import gzip
import os
import random
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import zstandard

from callward import audit, database
from callward.feeds import asterisk_files
from callward.template import render
from schemas.views import VIEW_PARTS
from tests.commands import Ended, all_that_is, run, start, strays, waiting
from tests.conftest import AS_INSTALLED

DAY = date(2026, 3, 5)
NUMBERS = [f"+1{area}55501{line:02d}" for area in ("212", "303") for line in range(100)]
_COLUMNS = [
    "accountcode",
    "src",
    "dst",
    "dcontext",
    "clid",
    "channel",
    "dstchannel",
    "lastapp",
    "lastdata",
    "start",
    "answer",
    "end",
    "duration",
    "billsec",
    "disposition",
    "amaflags",
    "uniqueid",
    "userfield",
    "peeraccount",
    "linkedid",
    "sequence",
]
_serial = iter(range(1, 1 << 30))


def call(**changes: str) -> bytes:
    """One sound line of an Asterisk Master.csv with all columns, with some of them changed."""
    n = next(_serial)
    fields = {
        "accountcode": "ac-0001",
        "src": f"30355501{n % 100:02d}",
        "dst": f"21255501{(n * 7) % 100:02d}",
        "dcontext": "from-internal",
        "clid": "desk",
        "channel": f"PJSIP/northwind-1-{n:08x}",
        "dstchannel": f"PJSIP/bluepeak-1-{n:08x}",
        "lastapp": "Dial",
        "lastdata": "",
        "start": "2026-03-05 10:00:00",
        "answer": "2026-03-05 10:00:05",
        "end": "2026-03-05 10:01:05",
        "duration": "65",
        "billsec": "60",
        "disposition": "ANSWERED",
        "amaflags": "DOCUMENTATION",
        "uniqueid": f"1772730000.{n}",
        "userfield": "",
        "peeraccount": "",
        "linkedid": f"1772730000.{n}",
        "sequence": str(n),
    } | changes
    return ",".join(f'"{fields[name]}"' for name in _COLUMNS).encode() + b"\n"


def calls(count: int) -> bytes:
    return b"".join(call() for _ in range(count))


def usage(count: int) -> bytes:
    """Lines of the format with a row of names, without that row."""
    rows = (f"{next(_serial)},2026-03-05 10:00:00,2026-03-05 10:00:05,2026-03-05 10:01:05,60" for _ in range(count))
    return "".join(f"{row},3035550101,2125550102\n" for row in rows).encode()


def _misfit(**changes: str) -> bytes:
    """Two sound lines with one between that is not."""
    return call() + call(**changes) + call()


SPOILT = {"accepted": 2, "ENCODING": 1}
# File name → its bytes, and what each record comes to: ledger buckets, or suspense codes.
RECORDS: dict[str, tuple[bytes, dict[str, int]]] = {
    "bom.csv": (b"\xef\xbb\xbf" + calls(3), {"accepted": 3}),
    "crlf.csv": (calls(3).replace(b"\n", b"\r\n"), {"accepted": 3}),
    "no-last-line-end.csv": (calls(3)[:-1], {"accepted": 3}),
    "blank-lines.csv": (b"\n" + calls(1) + b"\n\n" + calls(1) + b"\n", {"accepted": 2}),
    "empty.csv": (b"", {}),
    "only-line-ends.csv": (b"\n\n\n", {}),
    "latin.csv": (_misfit(clid="Jos?").replace(b"Jos?", b"Jos\xe9"), {"accepted": 2, "ENCODING": 1}),
    "nul.csv": (_misfit(userfield="?").replace(b'"?"', b'"\0"'), {"accepted": 2, "ENCODING": 1}),
    "columns.csv": (calls(1) + b"a,b,c\n" + b",".join([b"x"] * 40) + b"\n" + calls(1), {"accepted": 2, "COLUMNS": 2}),
    "no-such-day.csv": (_misfit(start="2026-02-30 10:00:00"), {"accepted": 2, "TIME": 1}),
    "no-such-hour.csv": (_misfit(start="2026-03-05 25:61:00"), {"accepted": 2, "TIME": 1}),
    "year-nought.csv": (_misfit(start="0000-00-00 00:00:00"), {"accepted": 2, "TIME": 1}),
    "no-start.csv": (_misfit(start=""), {"accepted": 2, "TIME": 1}),
    "ends-first.csv": (_misfit(end="2026-03-04 09:00:00", duration="", answer=""), {"accepted": 2, "ORDER": 1}),
    "negative.csv": (_misfit(billsec="-5"), {"accepted": 2, "DURATION": 1}),
    "no-number.csv": (_misfit(billsec="sixty"), {"accepted": 2, "FIELD": 1}),
    "endless-talk.csv": (_misfit(billsec="99999999"), {"accepted": 2, "DURATION|ORDER": 1}),
    "too-large.csv": (_misfit(billsec="9" * 30), {"accepted": 2, "FIELD": 1}),
    "future.csv": (
        _misfit(start="2199-01-01 00:00:00", answer="", end="2199-01-01 00:01:00"),
        {"accepted": 2, "FUTURE": 1},
    ),
    "forty-digits.csv": (_misfit(dst="2125550147" * 4), {"accepted": 2, "NUMBER": 1}),
    "torn.csv": (calls(2) + call()[:60] + b"\n", {"accepted": 2, "COLUMNS|QUOTING": 1}),
    # Valid traffic: an hour that clocks skip, and one that they pass twice; talk is what the switch counted.
    "gap.csv": (call(start="2026-03-08 02:30:00", answer="", end="", billsec="60") * 1, {"accepted": 1}),
    "repeated-hour.csv": (
        call(start="2025-11-02 01:59:50", answer="2025-11-02 01:59:55", end="2025-11-02 01:00:55"),
        {"accepted": 1},
    ),
    # What a spreadsheet makes of numbers and durations.
    "rounded.csv": (_misfit(dst="1.71956E+10"), {"accepted": 2, "NUMBER": 1}),
    "rounded-id.csv": (_misfit(uniqueid="1.79E+09"), {"accepted": 2, "IDENTITY": 1}),
    "guarded.csv": (_misfit(dst="'2125550147", src="2125550147#", billsec="00:01:00"), {"accepted": 3}),
    "comma.csv": (_misfit(billsec="1,830"), {"accepted": 2, "FIELD": 1}),
    # Line ends and encodings other than the declared ones.
    "cr.csv": (calls(3).replace(b"\n", b"\r"), {"accepted": 3}),
    "cr-and-no-last-end.csv": (calls(3).replace(b"\n", b"\r")[:-1], {"accepted": 3}),
    "mixed-ends.csv": (
        b"".join(call()[:-1] + end for end in (b"\n", b"\r\n", b"\r", b"\r", b"\r\r\n")),
        {"accepted": 5},
    ),
    "cr-after-64-KiB.csv": (calls(240) + calls(3).replace(b"\n", b"\r") + calls(1), {"accepted": 244}),
    "cr-in-quotes.csv": (_misfit(clid="Jo\rAnn"), {"accepted": 3}),
    "cr.csv.gz": (gzip.compress(calls(3).replace(b"\n", b"\r")), {"accepted": 3}),
    **{
        f"{encoding}.csv": (calls(4).decode().encode(encoding), {"accepted": 4})
        for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig")
    },
    "utf-16-and-cr.csv": (calls(3).decode().replace("\n", "\r").encode("utf-16"), {"accepted": 3}),
    "utf-16-spoilt.csv": (_misfit(clid="?").decode().encode("utf-16").replace(b"?\0", b"\0\xd8"), SPOILT),
    "utf-16-cut.csv": (calls(2).decode().encode("utf-16")[:-3], {"accepted": 1, "ENCODING": 1}),
    # What is torn fits another shape of the format, of fewer columns.
    "torn-at-the-end.csv": (calls(2) + b",".join(call().split(b",")[:16]), {"accepted": 2, "TORN": 1}),
    "end-of-file-mark.csv": (calls(2) + b"\x1a", {"accepted": 2, "TORN": 1}),
    "members.csv.gz": (gzip.compress(calls(2)) + gzip.compress(calls(2)), {"accepted": 4}),
    "frames.csv.zst": (zstandard.compress(calls(2)) + zstandard.compress(calls(2)), {"accepted": 4}),
    "empty.csv.gz": (gzip.compress(b""), {}),
}
_NOISE = random.Random(5).randbytes(40_000)
# File name → bytes that no one can unpack, or that are no records of the format, and words that say why.
UNREADABLE: dict[str, tuple[bytes, str]] = {
    "cut.csv.gz": (gzip.compress(calls(400) + _NOISE)[:-3000], "cut short"),
    "cut.csv.zst": (zstandard.compress(calls(400) + _NOISE)[:-3000], "cut short"),
    "spoilt.csv.gz": (gzip.compress(calls(400))[:200] + b"\0" * 400 + gzip.compress(calls(400))[600:], "damaged"),
    "no-gzip.csv.gz": (calls(3), "not packed by gzip, as its name says"),
    "no-zstd.csv.zst": (calls(3), "not packed by zstd, as its name says"),
    "gzip.csv": (gzip.compress(calls(3)), "packed by gzip: name it .gz"),
    "twice.csv.gz": (gzip.compress(gzip.compress(calls(3))), "packed by gzip"),
    "xml.csv": (b'<?xml version="1.0"?>\n<calls>\n<call/>\n</calls>\n', "looks like XML"),
    "json.csv": (b'{"src": "3035550101"}\n' * 3, "looks like JSON"),
    "semicolons.csv": (calls(3).replace(b'","', b'";"'), 'columns separated by ";"'),
    "columns-25.csv": (calls(3).replace(b"\n", b",1,2,3,4\n"), "25 columns"),
    "fixed.csv": (b"".join(b"3035550101 2125550102 20260305 %06d\n" % n for n in range(3)), "fixed width"),
    "noise.csv": (_NOISE, "binary"),
    "ama.csv": (b"\0\x54\0\0\xaa\0\x50\x0c" + bytes(range(80)), "BAF (AMA records)"),
    "nul-only.csv": (b"\0" * 5000, "only NUL"),
    "next-line.csv": (calls(3).replace(b"\n", b"\xc2\x85"), "no line ends"),
    "bomb.csv.gz": (gzip.compress(b"\n" * (24 << 20)), "unpacks to more than"),
    "bomb.csv.zst": (zstandard.compress(b"\n" * (24 << 20)), "unpacks to more than"),
}
NAMES = b"record_id,start_time,answer_time,end_time,billsec,calling_number,called_number\n"
# The same for a format with a row of names.
UNNAMED: dict[str, tuple[bytes, str]] = {
    "unnamed.csv": (usage(3), "no row of names: its first value is a number"),
    "unnamed-date.csv": (b"2026-03-05 10:00:00,3035550101,2125550102,60\n" * 3, "its first value is a date"),
    "names-semicolons.csv": ((NAMES + usage(3)).replace(b",", b";"), 'columns separated by ";"'),
    "names-tabs.csv": ((NAMES + usage(3)).replace(b",", b"\t"), "columns separated by tabs"),
    "names-other.csv": (b"a,b,c\n1,2,3\n", "3 names and none that is declared"),
    "names-twice.csv": (NAMES.replace(b"end_time", b"Start_Time") + usage(3), "two columns called start_time"),
    "names-below.csv": (b"Calls of March\n\n" + NAMES + usage(3), "2 lines above its row of names"),
    "names-fewer.csv": (NAMES + b"1;2026-03-05\n" * 3, "7 names and 1 columns"),
    "no-called.csv": (NAMES.replace(b"called_number", b"destination") + usage(3), "no column for called_raw"),
    "names-no-start.csv": (NAMES.replace(b"start_time", b"setup") + usage(3), "no column for start_time"),
    "no-talk.csv": (
        NAMES.replace(b"answer_time", b"up").replace(b"billsec", b"seconds") + usage(3),
        "no column for answer_time or talk_ms",
    ),
    "line-separators.csv": ((NAMES + usage(3)).replace(b"\n", "\u2028".encode()), "seem to end in U+2028"),
    "excel.xlsx": (b"PK\x03\x04" + b"\0" * 26 + b"xl/workbook.xml" + b"\0" * 60, "Excel workbook"),
    "table.parquet": (b"PAR1" + bytes(200) + b"PAR1", "Parquet"),
    "records.ber": (bytes.fromhex("3012800101810d") + b"\x13\x00\x55\x55\x01\xf0" * 2 + b"\x01", "BER (ASN.1)"),
}
NAMED: dict[str, bytes] = {
    "names.csv": NAMES,
    "cr-names.csv": (NAMES + usage(3)).replace(b"\n", b"\r"),
    "names-utf-16.csv": (NAMES + usage(3)).decode().encode("utf-16"),
    "sep.csv": b"sep=,\r\n" + (NAMES + usage(3)).replace(b"\n", b"\r\n"),
    "sep-quoted.csv": b'"sep=,"\n' + NAMES + usage(3),
}
LENIENT = {"file_errors_pct": 100.0}
SMALL = {"file_gibibytes": 16 / 1024}


def nightly(site: Any, *more: str, **how: Any) -> Ended:
    return run("nightly", *more, "--config", str(site.folder), **how).check_clean(NUMBERS)


def reasons(ended: Ended) -> dict[str, str]:
    """File (without its source) → why it was left alone."""
    return {item["file"].partition("/")[2] or item["file"]: item["reason"] for item in ended.document["left_alone"]}


def codes_of(site: Any) -> dict[str, dict[str, int]]:
    """File → rows per bucket, or per code where they are suspended."""
    found: dict[str, dict[str, int]] = {}
    for (name, bucket, code), (rows, _) in all_that_is(site)["ledger"].items():
        if bucket not in ("in", "paired"):
            counts = found.setdefault(name.partition("/")[2], {})
            counts[code if bucket == "suspended" else bucket] = rows
    return found


@pytest.fixture(scope="module")
def bad_night(workspace: Callable[..., Any], feed_source: Callable[..., Any]) -> tuple[Any, Ended]:
    """One night over every kind of bad file, and how it ended."""
    site = workspace(feed_source("asterisk"), feed_source("generic"), waves=SMALL, thresholds=LENIENT)
    for name, (data, _) in (RECORDS | UNREADABLE).items():
        site.land("asterisk", name, data)
    for name, data in ({name: data for name, (data, _) in UNNAMED.items()} | NAMED).items():
        site.land("generic", name, data)
    site.land("generic", "header-only.csv", b"start,from,to,talk_s\n")
    landing = site.settings.landing_path
    outside = site.folder / "elsewhere.csv"
    outside.write_bytes(calls(2))
    (landing / "asterisk" / "link.csv").symlink_to(outside)
    (landing / "asterisk" / "linked").symlink_to(site.folder)
    os.mkfifo(landing / "asterisk" / "pipe.csv")
    os.link(site.folder / "keys" / "billing.root", landing / "asterisk" / "second.csv")
    os.mknod(landing / "asterisk" / "socket.csv", stat.S_IFSOCK | 0o600)
    (landing / "asterisk" / "folder.csv").mkdir()
    (landing / "asterisk" / "folder.csv" / "inner.csv").write_bytes(calls(1))
    (landing / "asterisk" / os.fsdecode(b"\xff\xfe.csv")).write_bytes(calls(1))
    (landing / "asterisk" / "2125550147.csv").write_bytes(calls(1))
    (landing / "asterisk" / "212-555-0147.csv").write_bytes(calls(1))
    (landing / "unknown").mkdir()
    (landing / "unknown" / "file.csv").write_bytes(calls(1))
    return site, nightly(site, "--json")


@pytest.fixture(scope="module")
def bad_codes(bad_night: tuple[Any, Ended]) -> dict[str, dict[str, int]]:
    """What that night made of each file."""
    return codes_of(bad_night[0])


@pytest.mark.parametrize("name", RECORDS)
def test_each_bad_record_gets_its_code_and_the_others_go_on(name: str, bad_codes: dict[str, dict[str, int]]) -> None:
    expected = RECORDS[name][1]
    found = bad_codes.get(name, {})
    for code in [code for code in expected if "|" in code]:
        expected = {**expected, next((c for c in code.split("|") if c in found), code): expected[code]}
        del expected[code]
    assert found == expected


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_unpacked_stays_and_says_why(
    name: str, bad_night: tuple[Any, Ended], bad_codes: dict[str, dict[str, int]]
) -> None:
    site, ended = bad_night
    assert UNREADABLE[name][1] in reasons(ended)[name]
    assert (site.settings.landing_path / "asterisk" / name).exists()
    assert name not in bad_codes


@pytest.mark.parametrize("name", UNNAMED)
def test_a_file_without_the_declared_names_stays_and_says_what_it_holds(
    name: str, bad_night: tuple[Any, Ended], bad_codes: dict[str, dict[str, int]]
) -> None:
    site, ended = bad_night
    assert UNNAMED[name][1] in reasons(ended)[name]
    assert (site.settings.landing_path / "generic" / name).exists()
    assert name not in bad_codes


@pytest.mark.parametrize("name", NAMED)
def test_a_file_with_the_declared_names_is_read_whatever_its_line_ends(name: str, bad_night: tuple[Any, Ended]) -> None:
    expected = {} if name == "names.csv" else {"accepted": 3}
    in_generic = [f for f in bad_night[1].document["files"] if f["file"] == f"generic/{name}"]
    assert [{bucket: file[bucket] for bucket in ("accepted",) if file[bucket]} for file in in_generic] == [expected]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("link.csv", "symbolic link"),
        ("linked", "symbolic link"),
        ("pipe.csv", "not a file"),
        ("socket.csv", "not a file"),
        ("second.csv", "hard link"),
        ("\\xff\\xfe.csv", "not UTF-8"),
        ("unknown", "no source of that name"),
    ],
)
def test_what_is_no_file_of_a_source_is_left_alone(name: str, reason: str, bad_night: tuple[Any, Ended]) -> None:
    assert reason in reasons(bad_night[1])[name]


def test_a_bad_night_ends_with_exit_code_3_balanced_and_tidy(bad_night: tuple[Any, Ended]) -> None:
    site, ended = bad_night
    assert ended.code == 3
    assert ended.document["status"] == "done"
    assert site.unbalanced() == {}
    assert site.differing() == 0
    assert strays(site) == []
    no_files = {"link.csv", "pipe.csv", "second.csv", "socket.csv", "linked"}
    kept = {*UNREADABLE, *UNNAMED, *no_files, os.fsdecode(b"\xff\xfe.csv"), "file.csv"}
    assert {path.name for path in waiting(site)} | {"linked"} == kept


def test_a_file_whose_name_is_a_number_is_named_masked(bad_night: tuple[Any, Ended]) -> None:
    shown = {file["file"] for file in bad_night[1].document["files"]}
    assert shown >= {"asterisk/##########.csv", "asterisk/###-###-####.csv"}


def test_a_second_bad_night_says_the_same_and_reads_nothing_twice(bad_night: tuple[Any, Ended]) -> None:
    site, first = bad_night
    before = all_that_is(site)
    again = nightly(site, "--json")
    assert again.code == 3
    assert set(reasons(again)) == set(reasons(first))
    assert all_that_is(site) == before


def test_skipped_and_repeated_local_hours_do_not_change_talk(bad_night: tuple[Any, Ended]) -> None:
    site, _ = bad_night
    ledger = all_that_is(site)["ledger"]
    assert ledger["asterisk/gap.csv", "accepted", ""] == (1, 60_000)
    assert ledger["asterisk/repeated-hour.csv", "accepted", ""] == (1, 60_000)


# -- one line too long, one file too bad --------------------


def test_a_line_of_100_mb_is_suspended_in_bounded_memory(workspace: Callable[..., Any]) -> None:
    site = workspace("asterisk", thresholds=LENIENT)
    plain, packed = (b'"' + digit * (100 << 20) + b'"\n' for digit in (b"7", b"8"))
    site.land("asterisk", "long.csv", calls(2) + plain + calls(2))
    site.land("asterisk", "long.csv.gz", gzip.compress(calls(2) + packed + calls(2), 1))
    ended = nightly(site, "--json")
    assert codes_of(site) == {name: {"accepted": 4, "TOO_LONG": 1} for name in ("long.csv", "long.csv.gz")}
    assert site.unbalanced() == {}
    assert ended.peak_bytes < 3 << 30


def test_a_file_over_its_error_threshold_is_set_aside_whole_and_the_others_go_on(workspace: Callable[..., Any]) -> None:
    site = workspace("asterisk")
    site.land("asterisk", "bad.csv", calls(60) + b"a,b,c\n" * 40)
    site.land("asterisk", "good.csv", calls(30))
    ended = nightly(site, "--json")
    assert ended.code == 3
    assert codes_of(site) == {"bad.csv": {"FILE": 60, "COLUMNS": 40}, "good.csv": {"accepted": 30}}
    assert {f["file"]: f["set_aside"] for f in ended.document["files"]} == {
        "asterisk/bad.csv": True,
        "asterisk/good.csv": False,
    }
    assert site.unbalanced() == {}
    assert strays(site) == []
    assert waiting(site) == []


def test_a_file_larger_than_a_wave_is_judged_as_a_whole(workspace: Callable[..., Any]) -> None:
    """Errors that lie close together are many of one wave's records, and few of the file's: also where they are in its
    first block."""
    small = {"records": 100, "block_mebibytes": 0.01}
    site = workspace("asterisk", waves=small)
    site.land("asterisk", "few.csv", calls(150) + b"a,b,c\n" * 25 + calls(100))
    site.land("asterisk", "first.csv", calls(5) + b"d,e,f\n" * 25 + calls(255))
    site.land("asterisk", "many.csv", calls(60) + b"x,y,z\n" * 60)
    ended = nightly(site, "--json")
    found = codes_of(site)
    assert found["few.csv"] == {"accepted": 250, "COLUMNS": 25}
    assert found["first.csv"] == {"accepted": 260, "COLUMNS": 25}
    assert found["many.csv"] == {"FILE": 60, "COLUMNS": 60}
    assert ended.code == 3 and not any("larger than a wave" in sentence for sentence in ended.document["alarms"])
    assert ended.document["waves"] > 2
    assert strays(site) == []


def test_a_large_file_that_proves_worse_than_its_sample_counts_and_can_be_backed_out(
    workspace: Callable[..., Any],
) -> None:
    site = workspace("asterisk", waves={"records": 100, "block_mebibytes": 0.01})
    site.land("asterisk", "good.csv", calls(150))
    site.land("asterisk", "worse.csv", calls(150) + b"a,b,c\n" * 60 + calls(150))
    ended = nightly(site, "--json")
    assert codes_of(site) == {"good.csv": {"accepted": 150}, "worse.csv": {"accepted": 300, "COLUMNS": 60}}
    (sentence,) = [alarm for alarm in ended.document["alarms"] if "larger than a wave" in alarm]
    (file,) = [file for file in ended.document["files"] if file["file"] == "asterisk/worse.csv"]
    assert ended.code == 3 and f"'callward backout --file {file['file_no']}'" in sentence
    assert run("backout", "--file", str(file["file_no"]), "--config", str(site.folder)).code == 0
    assert codes_of(site) == {"good.csv": {"accepted": 150}, "worse.csv": {"withdrawn": 360}}
    assert len(all_that_is(site)["billing"]) == 150 and site.unbalanced() == {}


# -- files that could not be read, and now can --------------------


def test_what_was_left_alone_is_read_once_its_source_is_corrected(
    workspace: Callable[..., Any], feed_source: Callable[..., Any]
) -> None:
    site = workspace(feed_source("plain", format="generic_csv"), feed_source("asterisk"))
    site.land("plain", "tabs.csv", (NAMES + usage(3)).replace(b",", b"\t"))
    site.land("asterisk", "torn.csv", call()[:-1].replace(b'"2026-03-05 10:00:00"', b'"2026-03-05 25:00:00"') + b"\n")
    planned = {item["source"]: item["would"] for item in nightly(site, "--dry-run", "--json").document}
    assert planned["asterisk"] == "be taken in" and "separated by tabs" in planned["plain"]
    ended = nightly(site, "--json")
    assert ended.code == 3
    assert ended.document["unread"] == ["asterisk"]
    assert codes_of(site) == {"torn.csv": {"TIME": 1}}
    corrected = feed_source("plain", format="generic_csv", declare={"file": {"delimiter": "\t"}})
    settings = site.settings.model_copy(update={"sources": [corrected, site.settings.source("asterisk")]})
    settings.path.write_text(render(settings), encoding="utf-8")
    assert nightly(site, "--source", "plain").code == 0
    assert codes_of(site)["tabs.csv"] == {"accepted": 3}
    assert waiting(site) == [] and site.unbalanced() == {}


def test_a_rewritten_file_of_several_waves_goes_on_after_a_kill(workspace: Callable[..., Any]) -> None:
    site = workspace("asterisk", waves={"records": 100, "block_mebibytes": 0.02})
    site.land("asterisk", "long.csv", calls(200).decode().replace("\n", "\r").encode("utf-16"))
    running = start("nightly", "--config", str(site.folder))
    _when(running, lambda: bool(site.data_files("assurance")))
    running.signal(signal.SIGKILL)
    running.wait()
    assert nightly(site).code == 0
    assert codes_of(site) == {"long.csv": {"accepted": 200}}
    assert len(all_that_is(site)["billing"]) == 200
    assert site.unbalanced() == {} and strays(site) == [] and waiting(site) == []


# -- files that change --------------------


def test_a_file_that_changes_while_it_is_read_is_left_and_taken_the_next_night(workspace: Callable[..., Any]) -> None:
    site = workspace("asterisk", waves={"records": 50, "block_mebibytes": 0.01})
    site.land("asterisk", "changing.csv", calls(180))
    site.land("asterisk", "other.csv", calls(10))
    path = site.settings.landing_path / "asterisk" / "changing.csv"
    running = start("nightly", "--json", "--config", str(site.folder))
    _when(running, lambda: bool(site.data_files("assurance")))
    with path.open("ab") as file:
        file.write(calls(5))
    ended = running.wait().check_clean(NUMBERS)
    assert ended.code == 3
    assert [reason for name, reason in reasons(ended).items() if name == "changing.csv" and "changed" in reason]
    assert len(ended.document["left_alone"]) == 1
    assert path.exists()
    assert codes_of(site)["other.csv"] == {"accepted": 10}
    assert site.unbalanced() == {}
    assert nightly(site).code == 0
    assert len(all_that_is(site)["billing"]) == 195
    assert site.unbalanced() == {}
    assert strays(site) == []
    assert waiting(site) == []


def test_what_is_appended_after_the_last_block_was_read_is_not_lost(workspace: Callable[..., Any]) -> None:
    """The file is in the lake, then it grows, then the night is about to remove it."""
    site = workspace("asterisk")
    site.land("asterisk", "growing.csv", calls(20))
    killed = run("nightly", "--config", str(site.folder), environment={"CALLWARD_CRASH_AT": "before-remove"})
    assert killed.code == -signal.SIGKILL
    with (site.settings.landing_path / "asterisk" / "growing.csv").open("ab") as file:
        file.write(calls(3))
    assert nightly(site).code == 0
    assert len(all_that_is(site)["billing"]) == 23
    assert waiting(site) == []


def test_a_file_that_grows_between_commit_and_removal_stays(
    workspace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same within one night: what is about to be removed is not what was committed."""
    site = workspace("asterisk")
    site.land("asterisk", "growing.csv", calls(20))
    path = site.settings.landing_path / "asterisk" / "growing.csv"

    def grow(where: str) -> None:
        if where == "before-remove":
            with path.open("ab") as file:
                file.write(calls(3))

    with monkeypatch.context() as patched:
        patched.setattr("pipelines.intake.point", grow)
        night = site.night()
    assert (night.must_look, path.exists()) == (True, True)
    site.night()
    assert site.view("billing").num_rows == 23
    assert site.unbalanced() == {}
    assert waiting(site) == []


def _when(running: Any, happened: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while running.alive() and time.monotonic() < until and not happened():
        time.sleep(0.02)


# -- surroundings --------------------


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB (a tmpfs; needs the right to mount)."""
    place = tmp_path / "tiny"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "callward-test", str(place)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("no right to mount a small tmpfs here; the limit on a file's size below covers the same sentence")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


def test_no_disk_space_is_one_sentence_and_the_night_goes_on_when_there_is_some(
    workspace: Callable[..., Any], tiny_disk: Path
) -> None:
    site = workspace("asterisk", lake={"uri": f"file:{tiny_disk}/lake"})
    (day,) = asterisk_files(
        site.settings.landing_path / "asterisk", seed=3, rows=25_000, files=1, day=DAY, zone="America/Denver"
    )
    ended = nightly(site)
    assert ended.code == 1
    assert "no space left" in ended.sentences[-1].lower()
    assert day.exists()
    assert all_that_is(site)["ledger"] == {}
    subprocess.run(["mount", "-o", "remount,size=200m", str(tiny_disk)], check=True)
    assert nightly(site).code == 0
    assert site.unbalanced() == {}
    assert strays(site) == []
    assert sum(rows for (_, bucket, _), (rows, _) in all_that_is(site)["ledger"].items() if bucket == "in") == 25_000


def test_a_limit_on_a_files_size_is_one_sentence(workspace: Callable[..., Any]) -> None:
    site = workspace("asterisk")
    asterisk_files(
        site.settings.landing_path / "asterisk", seed=3, rows=25_000, files=1, day=DAY, zone="America/Denver"
    )
    ended = nightly(site, limits={resource.RLIMIT_FSIZE: 600 << 10})
    assert ended.code == 1
    assert "File too large" in ended.sentences[-1]
    assert site.unbalanced() == {}
    assert nightly(site).code == 0
    assert strays(site) == []


def test_a_locked_database_is_one_sentence(workspace: Callable[..., Any]) -> None:
    site = workspace("asterisk", database={"patience_seconds": 1.0})
    site.land("asterisk", "a.csv", calls(3))
    holder = sqlite3.connect(site.folder / "callward.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        ended = nightly(site)
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    assert ended.code == 1
    assert "database" in ended.sentences[-1]
    assert "locked" in ended.sentences[-1]
    assert nightly(site).code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_night_says_so_at_once_and_goes_on_later(number: int, workspace: Callable[..., Any]) -> None:
    site = workspace("asterisk", waves={"records": 100, "block_mebibytes": 0.01})
    for n in range(4):
        site.land("asterisk", f"{n}.csv", calls(60))
    running = start("nightly", "--config", str(site.folder))
    _when(running, lambda: bool(site.data_files("assurance")))
    running.signal(number)
    ended = running.wait(30).check_clean(NUMBERS)
    assert ended.code == 1
    assert "interrupted" in ended.sentences[-1]
    assert site.unbalanced() == {}
    assert nightly(site).code == 0
    assert codes_of(site) == {f"{n}.csv": {"accepted": 60} for n in range(4)}
    assert strays(site) == []
    assert waiting(site) == []


def test_an_empty_night_is_done(workspace: Callable[..., Any]) -> None:
    site = workspace("asterisk")
    ended = nightly(site, "--json")
    assert ended.code == 0
    assert (ended.document["rows"], ended.document["files"]) == (0, [])


def test_a_night_without_its_landing_folder_is_no_empty_one(workspace: Callable[..., Any]) -> None:
    site = workspace("asterisk")
    shutil.rmtree(site.settings.landing_path)
    ended = nightly(site).check_clean()
    assert (ended.code, "there is no folder" in ended.out) == (3, True)


# -- settings, keys and arguments --------------------


def _rewritten(site: Any, old: str, new: str) -> None:
    text = site.settings.path.read_text()
    assert old in text
    (site.folder / "callward.toml").write_text(text.replace(old, new))


def _without_windows(site: Any) -> None:
    _rewritten(site, 'call_detail = "99 years"', "")


def _unknown_key(site: Any) -> None:
    _rewritten(site, "[lake]", "[waves]\nrecord = 3\n[lake]")


def _broken_toml(site: Any) -> None:
    _rewritten(site, "[lake]", "[lake")


def _no_root(site: Any) -> None:
    (site.folder / "keys" / "archive.root").unlink()


def _no_root_of_assurance(site: Any) -> None:
    (site.folder / "keys" / "assurance.root").unlink()


def _no_root_of_the_index(site: Any) -> None:
    (site.folder / "keys" / "index.root").unlink()


def _open_root(site: Any) -> None:
    (site.folder / "keys" / "archive.root").chmod(0o644)


def _cut_root(site: Any) -> None:
    path = site.folder / "keys" / "archive.root"
    path.write_bytes(path.read_bytes()[:10])


def _other_root(site: Any) -> None:
    shutil.copyfile(site.folder / "keys" / "billing.root", site.folder / "keys" / "ids.root")


def _no_database(site: Any) -> None:
    for path in site.folder.glob("callward.db*"):
        path.unlink()


def _no_settings(site: Any) -> None:
    (site.folder / "callward.toml").unlink()


def _no_source_format(site: Any) -> None:
    _rewritten(site, 'format = "asterisk"', 'format = "asterix"')


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (_without_windows, 2, ("windows of default", "retention window is given for call_detail")),
        (_unknown_key, 2, ("waves.record", "did you mean 'records'")),
        (_broken_toml, 2, ("not TOML",)),
        (_no_root, 1, ("archive.root",)),
        (_no_root_of_assurance, 1, ("assurance.root",)),
        (_no_root_of_the_index, 1, ("index.root",)),
        (_open_root, 1, ("archive.root", "600")),
        (_cut_root, 1, ("archive.root",)),
        (_other_root, 1, ("ids",)),
        (_no_database, 1, ("there is no database", "restore it")),
        (_no_settings, 2, ("no settings file",)),
        (_no_source_format, 2, ("asterix",)),
    ],
)
def test_what_is_wrong_with_a_workspace_is_one_sentence(
    spoil: Callable[[Any], None], code: int, words: tuple[str, ...], workspace: Callable[..., Any]
) -> None:
    site = workspace("asterisk")
    site.land("asterisk", "a.csv", calls(3))
    landed = waiting(site)
    spoil(site)
    ended = nightly(site, "--json")
    assert (ended.code, len(ended.sentences)) == (code, 1), ended.err
    assert [word for word in words if word not in ended.err] == []
    assert all(path.exists() for path in landed)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nightly", "--source", "asterix"), "did you mean 'asterisk'"),
        (("nightly", "--sauce", "asterisk"), "--sauce"),
        (("nightly", "extra"), "extra"),
        (("nightle",), "nightle"),
    ],
)
def test_wrong_arguments_are_exit_code_2(arguments: tuple[str, ...], words: str, workspace: Callable[..., Any]) -> None:
    site = workspace("asterisk")
    ended = run(*arguments, environment={"CALLWARD_CONFIG": str(site.folder)}).check_clean()
    assert ended.code == 2
    assert words in ended.err


def test_init_refuses_a_folder_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    ended = run("init", str(tmp_path)).check_clean()
    assert ended.code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


# -- two at once --------------------


def test_two_nights_of_one_source_are_refused_in_one_sentence(workspace: Callable[..., Any]) -> None:
    site = workspace("asterisk", waves={"records": 100})
    for n in range(3):
        site.land("asterisk", f"{n}.csv", calls(60))
    first = start("nightly", "--config", str(site.folder))
    _when(first, lambda: bool(site.data_files("archive")))
    second = nightly(site)
    assert (second.code, len(second.sentences)) == (1, 1)
    assert "being worked on" in second.err
    assert first.wait().check_clean(NUMBERS).code == 0
    assert codes_of(site) == {f"{n}.csv": {"accepted": 60} for n in range(3)}


def test_nights_of_two_sources_at_once_come_to_what_one_night_comes_to(
    workspace: Callable[..., Any], feed_source: Callable[..., Any]
) -> None:
    named = [feed_source(name, format="asterisk", zone="America/Denver") for name in ("asterisk", "other")]
    files = {name: [calls(50) + b"a,b\n" for _ in range(6)] for name in ("asterisk", "other")}
    together, one = (workspace(*named, waves={"records": 110}, engine=AS_INSTALLED) for _ in range(2))
    for site in (together, one):
        for name, contents in files.items():
            for n, content in enumerate(contents):
                site.land(name, f"{n}.csv", content)
    nights = [start("nightly", "--json", "--source", name, "--config", str(together.folder)) for name in files]
    ended = [night.wait().check_clean(NUMBERS) for night in nights]
    assert [night.code for night in ended] == [0, 0], [night.err for night in ended]
    assert nightly(one).code == 0
    found, expected = all_that_is(together), all_that_is(one)
    assert _without_file_numbers(found) == _without_file_numbers(expected)
    assert together.unbalanced() == {}
    assert together.differing() == 0
    assert nightly(together).code == 0  # what a run that was at work might still have read is removed by the next
    assert strays(together) == []
    with database.reading(together.settings) as connection:
        refused = connection.exec_driver_sql("SELECT count(*) FROM waves WHERE status = 'refused'").scalar()
        assert audit.verify(connection) > 0
    assert refused, "the two nights never met: this test shows nothing"


def _without_file_numbers(found: dict[str, Any]) -> dict[str, Any]:
    return {what: found[what] for what in (*VIEW_PARTS, "ledger", "derived", "suspense", "blocks")}
