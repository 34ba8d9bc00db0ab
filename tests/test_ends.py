"""How calls of a SIP proxy end, told as lines of acc: each once and as long as it was, whatever is read first."""

import random

import pytest

from pipelines.suspense.records import list_open, open_content
from tests.conftest import source
from tests.streams import stream_once

NIGHT = 1_772_755_200  # 2026-03-06 00:00 UTC, in seconds
MORNING = (NIGHT + 6 * 3600) * 1000
HOUR_MS = 3_600_000
CALLING, CALLED = "13035550101", "13035550102"


def acc(method: str, tags: str, call: str, code: int, second: int, swapped: bool = False) -> str:
    """A line of acc; tags "f1 t1" as the request has them; of a request from the callee the numbers are swapped."""
    sender, receiver = [*tags.split(" "), ""][:2]
    numbers = f"{CALLED}|{CALLING}" if swapped else f"{CALLING}|{CALLED}"
    return f"{method}|{sender}|{receiver}|{call}@192.0.2.30|{code}|x|{NIGHT + second}|{numbers}\n"


# What happened, and what it comes to: talk in seconds of billed calls, and attempts that were not answered.
STORIES = {
    "both hang up at once, and a late repeat is unknown": (
        [
            acc("INVITE", "f1 t1", "a", 200, 0),
            acc("BYE", "f1 t1", "a", 200, 30),
            acc("BYE", "t1 f1", "a", 200, 31),
            acc("BYE", "f1 t1", "a", 481, 60),
        ],
        [30],
        0,
    ),
    "a fork that loses, but answers too, and two that do not": (
        [
            acc("INVITE", "f1 t1", "b", 200, 3),
            acc("INVITE", "f1 t2", "b", 200, 4),
            acc("BYE", "f1 t2", "b", 200, 5),
            acc("INVITE", "f1 t3", "b", 487, 3),
            acc("INVITE", "f1", "b", 408, 4),
            acc("BYE", "t1 f1", "b", 200, 33),
        ],
        [30, 1],
        2,
    ),
    "branches that nobody replies to": (
        [acc("INVITE", "f1", "c", 408, 5), acc("INVITE", "f1", "c", 408, 5), acc("INVITE", "f1", "c", 480, 5)],
        [],
        3,
    ),
    "a session that is refreshed across midnight, and refused to be": (
        [
            acc("INVITE", "f1 t1", "d", 407, -602),
            acc("INVITE", "f1 t1", "d", 200, -600),
            acc("INVITE", "f1 t1", "d", 200, 300),
            acc("INVITE", "t1 f1", "d", 491, 600, swapped=True),
            acc("INVITE", "t1 f1", "d", 200, 900, swapped=True),
            acc("INVITE", "t1 f1", "d", 408, 1900, swapped=True),
            acc("BYE", "f1 t1", "d", 407, 1395),
            acc("BYE", "f1 t1", "d", 408, 1400),
        ],
        [2000],
        0,
    ),
    "both refresh the session at once, and both are refused": (
        [
            acc("INVITE", "f1 t1", "g", 200, 0),
            acc("INVITE", "f1 t1", "g", 491, 10),
            acc("INVITE", "t1 f1", "g", 491, 10, swapped=True),
            acc("BYE", "f1 t1", "g", 200, 20),
        ],
        [20],
        0,
    ),
    "routes one after the other, of which the third answers": (
        [
            acc("INVITE", "f1 t1", "h", 486, 1),
            acc("INVITE", "f1 t2", "h", 503, 5),
            acc("INVITE", "f1 t3", "h", 200, 9),
            acc("BYE", "f1 t3", "h", 200, 39),
        ],
        [30],
        2,
    ),
    "a refusal that is logged for the branch, and for the transaction": (
        [acc("INVITE", "f1 t1", "i", 486, 1)] * 2,
        [],
        1,
    ),
    "a call that passes the proxy twice": (
        [
            acc("INVITE", "f1 t1", "j", 200, 0),
            acc("INVITE", "f1 t1", "j", 200, 1),
            *[acc("BYE", "f1 t1", "j", 200, 30)] * 2,
        ],
        [30],
        0,
    ),
    "a busy line, tried again": ([acc("INVITE", "f1 t1", "e", 486, 1), acc("INVITE", "f2 t2", "e", 486, 9)], [], 2),
}
LINES = [line for lines, _, _ in STORIES.values() for line in lines]
# Branches without a tag come in one file: equal lines of two files are one branch that was delivered twice.
WITHOUT_TAG = STORIES["branches that nobody replies to"][0]


@pytest.fixture(scope="module")
def together(workspace):
    site = workspace("opensips")
    site.land("opensips", "all", "".join(LINES).encode())
    site.night(MORNING)
    return site


def test_each_call_is_billed_once_and_as_long_as_it_was(together):
    talk = sorted(ms // 1000 for ms in together.view("billing")["talk_ms"].to_pylist())
    assert talk == sorted(seconds for _, billed, _ in STORIES.values() for seconds in billed)
    dispositions = together.view("assurance")["disposition"].to_pylist()
    assert len(dispositions) - dispositions.count("answered") == sum(failed for _, _, failed in STORIES.values())
    assert not together.unbalanced() and not [code for bucket, code in together.entries() if bucket == "suspended"]


def test_what_is_read_first_changes_no_call(workspace, together):
    site, mixed = workspace("opensips"), random.Random(1)
    nights: dict[int, list[str]] = {night: [] for night in range(3)}
    for line in LINES:
        if line not in WITHOUT_TAG:
            nights[mixed.randrange(3)].append(line)
    nights[mixed.randrange(3)] += WITHOUT_TAG
    for night, lines in nights.items():
        mixed.shuffle(lines)
        site.land("opensips", f"n{night}-a", "".join(lines).encode())
        site.night(MORNING + night * HOUR_MS)
        assert site.differing() == 0 and not site.unbalanced()
    for view in ("billing", "assurance"):
        assert site.view(view).equals(together.view(view)), view
    assert site.derived() == together.derived() and site.entries() == together.entries()
    site.land("opensips", "again", "".join(LINES).encode())
    site.night(MORNING + 4 * HOUR_MS)
    assert site.view("billing").equals(together.view("billing"))
    assert site.balances()["opensips/again"]["duplicate"][0] == len(LINES) - 2  # challenges are left out
    assert not site.unbalanced()


def moments(site, column: str) -> list[int]:
    """Return times of billed calls, in seconds after midnight."""
    return sorted(int(at.timestamp()) - NIGHT for at in site.view("billing")[column].to_pylist())


def test_a_call_whose_end_is_lost_ends_with_its_last_proof_of_life(workspace):
    site, first = workspace("opensips"), [acc("INVITE", "f1 t1", "a", 200, 0), acc("INVITE", "f1 t1", "b", 200, 0)]
    site.land("opensips", "n1", "".join([*first, acc("INVITE", "t1 f1", "a", 200, 1800)]).encode())
    site.night(MORNING)
    site.land("opensips", "n2", acc("INVITE", "t1 f1", "a", 200, 3600).encode())
    site.night(MORNING + 20 * HOUR_MS)
    site.night(MORNING + 25 * HOUR_MS)  # what came at 20 h keeps the call waiting; of the other nothing more is known
    assert site.view("billing").num_rows == 0 and site.entries()["suspended", "PARTIAL"][0] == 1
    site.night(MORNING + 45 * HOUR_MS)
    assert (moments(site, "end"), site.view("billing")["end_estimated"].to_pylist()) == ([3600], [True])
    assert site.entries()["paired", ""] == (0, 3_600_000) and site.differing() == 0 and not site.unbalanced()
    site.land("opensips", "n3", acc("INVITE", "t1 f1", "a", 408, 5400).encode())
    site.night(MORNING + 90 * HOUR_MS)
    assert (moments(site, "end"), site.view("billing")["end_estimated"].to_pylist()) == ([5400], [True])
    site.land("opensips", "n4", (acc("BYE", "f1 t1", "a", 200, 7200) + acc("BYE", "f1 t1", "b", 200, 60)).encode())
    site.night(MORNING + 200 * HOUR_MS)
    assert (moments(site, "end"), site.view("billing")["end_estimated"].to_pylist()) == ([60, 7200], [False, False])
    assert site.differing() == 0 and not site.unbalanced() and ("suspended", "PARTIAL") not in site.entries()
    assert site.entries()["paired", ""] == (0, 7_260_000) == (0, sum(site.view("billing")["talk_ms"].to_pylist()))


def test_an_estimated_end_is_the_same_whatever_was_read_first(workspace):
    site = workspace("opensips")
    lines = [acc("INVITE", "f1 t1", "a", 200, second) for second in (900, 300, -600)]
    lines.insert(1, acc("INVITE", "t1 f1", "a", 491, 700, swapped=True))
    for number, line in enumerate(lines):
        site.land("opensips", f"n{number}", line.encode())
        site.night(MORNING + number * 30 * HOUR_MS)
    site.night(MORNING + 200 * HOUR_MS)
    assert (moments(site, "start"), moments(site, "end")) == ([-600], [900])
    assert site.view("billing")["talk_ms"].to_pylist() == [1_500_000]
    assert site.differing() == 0 and not site.unbalanced()


def test_a_refusal_told_in_two_ways_goes_once_when_its_call_is_known(workspace):
    """Two lines of one second that differ in what the site logs are versions of one refusal."""
    site, line = workspace("opensips"), acc("INVITE", "f1 t1", "a", 491, 10)
    site.land("opensips", "n1", (line + line.replace(CALLED, "13035550103")).encode())
    site.night(MORNING)
    assert site.entries()["suspended", "CONFLICT"][0] == 1
    site.land("opensips", "n2", (acc("INVITE", "f1 t1", "a", 200, 0) + acc("BYE", "f1 t1", "a", 200, 30)).encode())
    site.night(MORNING + HOUR_MS)
    assert {key: rows for key, (rows, _) in site.entries().items() if rows} == {
        ("in", ""): 4, ("accepted", ""): 1, ("merged", ""): 2, ("suspended", "CONFLICT"): 1
    }  # fmt: skip
    assert site.view("assurance").num_rows == 1 and site.differing() == 0 and not site.unbalanced()


# -- a call that was put together is judged as a whole record is -------------------------------------------------------


def suspended(site) -> dict[str, int]:
    """Records in suspense by code."""
    return {code: rows for (bucket, code), (rows, _) in site.entries().items() if bucket == "suspended"}


def test_a_bye_long_before_the_answer_is_suspended_and_its_call_waits_for_another_end(workspace):
    site = workspace("opensips")
    site.land("opensips", "n1", (acc("INVITE", "f1 t1", "a", 200, 600) + acc("BYE", "t1 f1", "a", 200, 0)).encode())
    site.night(MORNING)
    assert site.view("billing").num_rows == 0 and suspended(site) == {"ORDER": 1}
    assert site.balances()["opensips/n1"] == {"in": (2, 0), "pending": (1, 0), "suspended": (1, 0)}
    site.night(MORNING + 30 * HOUR_MS)  # nothing shows that the call went on
    assert site.view("billing").num_rows == 0 and suspended(site) == {"ORDER": 1, "PARTIAL": 1}
    site.land("opensips", "n2", acc("BYE", "f1 t1", "a", 200, 660).encode())
    site.night(MORNING + 60 * HOUR_MS)
    assert (moments(site, "start"), moments(site, "end")) == ([600], [660])
    assert not suspended(site) and not site.unbalanced() and site.differing() == 0


def test_what_contradicts_a_committed_call_is_part_of_it_or_suspended_and_the_call_stays(workspace):
    site = workspace("opensips")
    refreshed = acc("INVITE", "f1 t1", "a", 200, 600) + acc("INVITE", "f1 t1", "a", 200, 900)
    site.land("opensips", "n1", refreshed.encode())
    site.night(MORNING)
    site.night(MORNING + 30 * HOUR_MS)
    assert moments(site, "end") == [900]  # estimated: no BYE came
    site.land("opensips", "n2", acc("BYE", "t1 f1", "a", 200, 0).encode())
    site.night(MORNING + 31 * HOUR_MS)
    assert moments(site, "end") == [900] and suspended(site) == {"ORDER": 1}
    site.land("opensips", "n3", acc("BYE", "f1 t1", "a", 200, 960).encode())
    site.night(MORNING + 32 * HOUR_MS)
    assert moments(site, "end") == [960] and not suspended(site)
    assert site.balances()["opensips/n2"]["merged"] == (1, 0)
    site.land("opensips", "n4", (acc("BYE", "t1 f1", "a", 200, 0) + acc("BYE", "t1 f1", "a", 200, 1)).encode())
    site.night(MORNING + 33 * HOUR_MS)
    assert {"merged": (1, 0), "duplicate": (1, 0)}.items() <= site.balances()["opensips/n4"].items()
    assert moments(site, "end") == [960] and not site.unbalanced() and site.differing() == 0


DAYS = 24 * 3600
CONTRADICTING = [
    *(acc("INVITE", "f1 t1", "a", 200, 600), acc("BYE", "f1 t1", "a", 200, 594)),  # 6 s: no end
    *(acc("INVITE", "f1 t1", "b", 200, 600), acc("BYE", "f1 t1", "b", 200, 0), acc("BYE", "t1 f1", "b", 200, 660)),
    *(acc("INVITE", "f1 t1", "c", 200, 600), acc("BYE", "f1 t1", "c", 200, 300), acc("INVITE", "f1 t1", "c", 200, 0)),
    *(acc("INVITE", "f1 t1", "d", 200, 700), acc("BYE", "f1 t1", "d", 200, 695)),  # 5 s: two clocks differ
    *(acc("INVITE", "f1 t1", "e", 200, 600), acc("INVITE", "t1 f1", "e", 491, 640), acc("BYE", "f1 t1", "e", 200, 10)),
    *(acc("INVITE", "f1 t1", "f", 200, 800), acc("BYE", "f1 t1", "f", 200, 800)),
    *(acc("INVITE", "f1 t1", "g", 200, -40 * DAYS), acc("BYE", "f1 t1", "g", 200, 0)),
]


@pytest.fixture(scope="module")
def judged(workspace):
    site = workspace("opensips")
    site.land("opensips", "all", "".join(CONTRADICTING).encode())
    site.night(MORNING)
    return site


def test_a_call_that_was_put_together_is_judged_as_a_whole_record_is(judged):
    billing = judged.view("billing")
    started, ended = moments(judged, "start"), [int(at.timestamp()) - NIGHT for at in billing["end"].to_pylist()]
    assert (started, ended) == ([0, 600, 700, 800], [300, 660, 700, 800])
    assert billing["talk_ms"].to_pylist() == [300_000, 60_000, 0, 0]
    # A call of 0 s whose stamps agree is answered, and known to the second; a clock that is behind is no such stamp.
    assert judged.view("assurance")["disposition"].to_pylist() == ["answered"] * 4
    assert billing["end_estimated"].to_pylist() == [False, False, True, False]
    assert suspended(judged) == {"ORDER": 2, "DURATION": 1} and judged.entries()["pending", ""][0] == 3
    (file_no,) = {found.file_no for found in list_open(judged.settings)}
    shown = open_content(judged.settings, file_no, "which clock is wrong", 10, ["ORDER"])
    assert [CONTRADICTING[record.record - 1] for record in shown] == [
        acc("BYE", "f1 t1", "a", 200, 594),
        acc("BYE", "f1 t1", "e", 200, 10),
    ]
    ends = [str(record.content["end_time"]) for record in shown if isinstance(record.content, dict)]
    assert ends == ["2026-03-06 00:09:54+00:00", "2026-03-06 00:00:10+00:00"]
    assert not judged.unbalanced() and judged.differing() == 0


def test_contradictions_are_found_in_any_order_of_nights(workspace, judged):
    site, lines = workspace("opensips"), random.Random(5).sample(CONTRADICTING, len(CONTRADICTING))
    for night in range(3):
        site.land("opensips", f"n{night}", "".join(lines[night::3]).encode())
        site.night(MORNING + night * HOUR_MS)
        assert site.differing() == 0 and not site.unbalanced()
    for view in ("billing", "assurance"):
        assert site.view(view).equals(judged.view(view)), view
    assert site.derived() == judged.derived() and site.entries() == judged.entries()


def test_a_stream_judges_calls_as_a_night_does(workspace, judged):
    site = workspace("opensips")
    lines = random.Random(6).sample(CONTRADICTING, len(CONTRADICTING))
    for part in range(4):
        site.land("opensips", f"p{part}", "".join(lines[part::4]).encode())
    stream_once(site.settings, ["opensips"], random.Random(7))
    for view in ("billing", "assurance"):
        assert site.view(view).equals(judged.view(view)), view
    assert site.derived() == judged.derived() and site.entries() == judged.entries()


def test_of_a_local_hour_that_comes_twice_a_bye_is_in_the_one_after_its_answer(workspace):
    site = workspace(source("opensips").model_copy(update={"zone": "America/New_York"}))
    local = {"a": ("01:50:00", "01:10:00"), "b": ("00:50:00", "01:10:00"), "c": ("01:50:00", "01:49:58")}
    for number, at in enumerate((1, 0)):  # the BYE first, and the INVITE in another night
        lines = (
            acc(("INVITE", "BYE")[at], "f1 t1", call, 200, 0).replace(str(NIGHT), f"2025-11-02 {clock[at]}")
            for call, clock in local.items()
        )
        site.land("opensips", f"n{number}", "".join(lines).encode())
        site.night(MORNING + number * HOUR_MS)
    # Seconds before the answer the other proxy's clock is behind: nobody was talking for an hour.
    assert sorted(site.view("billing")["talk_ms"].to_pylist()) == [0, 20 * 60_000, 20 * 60_000]
    assert not site.unbalanced()
