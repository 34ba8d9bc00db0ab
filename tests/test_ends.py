"""How calls of a SIP proxy end, told as lines of acc: each once and as long as it was, whatever is read first."""

import random

import pytest

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
