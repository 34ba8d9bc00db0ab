"""What looks wrong in a directory is found, counted and told without a number."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given

from callward.accounts.changes import holdings_of, lines_of
from callward.accounts.entries import Entries
from callward.accounts.lint import GAP, OVERLAP, TIE, lint, refuse_shared_codes
from callward.accounts.reading import read
from callward.errors import UsageProblem
from callward.numbering import plan
from tests.callward.accounts.test_changes import ROWS, Row, holdings
from tests.examples import tries

_HEAD = "account,number,last,code,trunk,since,until"


def linted(folder: Path, *rows: str) -> list[tuple[object, ...]]:
    """Return findings of a file as (finding, kind, account, other, entries, since, lines)."""
    path = folder / "accounts.csv"
    path.write_text("\n".join((_HEAD, *rows)))
    given_rows = read(path, plan("US"), "default", ["default"])
    found = lint(holdings_of(given_rows, b"s" * 32), ["t"], lines_of(given_rows))
    return [(f.finding, f.kind, f.account, f.other, f.entries, f.since, f.lines) for f in found]


@pytest.mark.parametrize(
    ("rows", "finding"),
    [
        (["a,+13035550110,,,,,", "b,+13035550110,,,,,"], ("tie", "number", "a", "b", 1, None, (2, 3))),
        (
            ["b,+13035550110,,,,2026-03-01,", "a,+13035550110,,,,,2026-12-31"],
            ("overlap", "number", "a", "b", 1, "2026-03-01", (3, 2)),
        ),
        (
            ["a,+13035550110,,,,,2026-02-28", "b,+13035550110,,,,2026-03-02,"],
            ("gap", "number", "a", "b", 1, "2026-03-01", (2, 3)),
        ),
        (
            ["a,+13035550110,,,,,", "a,+13035550110,,,,2026-03-01,"],
            ("repeated", "number", "a", "", 1, "2026-03-01", (2, 3)),
        ),
        (
            ["a,+13035550110,+13035550119,,,,", "b,+13035550110,+13035550119,,,,"],
            ("tie", "range", "a", "b", 1, None, (2, 3)),
        ),
        (
            ["a,+13035550110,+13035550119,,,,2026-03-01", "b,+13035550115,+13035550129,,,2026-03-01,"],
            ("crossing", "range", "a", "b", 1, "2026-03-01", (2, 3)),
        ),
        (["a,,,,t,,", "b,,,,t,,"], ("no numbers", "trunk", "a", "b", 1, None, ())),
        (["a,,,,odd,,"], ("unlisted", "trunk", "a", "", 1, None, ())),
    ],
)
def test_what_looks_wrong_is_named_by_accounts_and_lines(
    tmp_path: Path, rows: list[str], finding: tuple[object, ...]
) -> None:
    assert linted(tmp_path, *rows) == [finding]


@pytest.mark.parametrize(
    "rows",
    [
        ["a,+13035550110,,,,,2026-02-28", "b,+13035550110,,,,2026-03-01,"],  # ported
        ["a,+13035550110,+13035550119,,,,", "b,+13035550112,+13035550115,,,,", "c,+13035550113,,,,,"],  # nested
        ["a,+13035550110,+13035550119,,,,2026-02-28", "b,+13035550115,+13035550129,,,2026-03-01,"],
        ["a,+13035550110,,,t,,", "b,+13035550111,,,t,,"],  # told apart by numbers
        ["a,,,ac-a,t,,2026-02-28", "b,,,ac-a,t,2026-03-01,"],
    ],
)
def test_what_is_right_is_not_found(tmp_path: Path, rows: list[str]) -> None:
    assert linted(tmp_path, *rows) == []


def test_findings_of_two_accounts_are_one_with_its_count(tmp_path: Path) -> None:
    rows = [f"{account},+130355501{n},,,,2026-03-0{1 + n % 5}," for n in range(10, 30) for account in "ab"]
    assert linted(tmp_path, *rows) == [("tie", "number", "a", "b", 20, "2026-03-01", (2, 3))]


def test_an_account_that_nothing_leads_to_is_found(tmp_path: Path) -> None:
    path = tmp_path / "accounts.csv"
    path.write_text("account,zone,code\na,UTC,\nb,,ac-b\n")
    found = lint(holdings_of(read(path, plan("US"), "default", ["default"]), b"s" * 32), [])
    assert [(f.finding, f.account, f.entries) for f in found] == [("nothing", "a", 1)]


@pytest.mark.parametrize(("until", "since"), [("", ""), ("2026-03-01", "2026-03-01"), ("", "2026-03-01")])
def test_a_code_of_two_accounts_is_refused(tmp_path: Path, until: str, since: str) -> None:
    path = tmp_path / "accounts.csv"
    path.write_text(f"{_HEAD}\na,,,7195550178,,,{until}\nb,,,7195550178,,{since},\n")
    with pytest.raises(UsageProblem, match="accounts 'a' and 'b' have a code in common") as problem:
        refuse_shared_codes(holdings_of(read(path, plan("US"), "default", ["default"]), b"s" * 32))
    assert "555" not in str(problem.value)


@tries(100)
@given(ROWS)
def test_numbers_are_disputed_and_have_gaps_as_their_days_say(rows: list[Row]) -> None:
    made = holdings(rows)
    found = {finding.finding for finding in lint(replace(made, names=Entries.of()), [])}
    days: dict[int, list[set[str]]] = {}
    for key in {row[0] for row in rows if row[2] <= row[3]}:
        of = [row for row in rows if row[0] == key and row[2] <= row[3]]
        span = range(min(since for *_, since, _ in of), max(since for *_, since, _ in of) + 1)
        days[key] = [{who for _, who, since, until in of if since <= day <= until} for day in (*span, 8)]
    assert (GAP in found) == any(not holders for each in days.values() for holders in each[:-1])
    assert bool(found & {TIE, OVERLAP}) == any(len(holders) > 1 for each in days.values() for holders in each)
