"""The row index in a purge: what it says leaves with its class, holds match by it, and nothing goes without it."""

from collections.abc import Callable, Iterable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from callward import database
from callward.disposal import purge as purge_disposal
from callward.errors import Problem
from callward.evidence import certificates
from callward.lake.data_files import DataFiles, open_files
from schemas.tables import lake_files
from schemas.views import PARTS, SERVICE
from tests.retention import (
    ASSURANCE_KEPT,
    BILLING_KEPT,
    CALLER,
    DAY,
    HEADER,
    NUMBERS_KEPT,
    OTHER,
    WINDOWS,
    activate,
    call,
    copied,
    files,
    held,
    hold,
    night,
    on_disk,
    paths,
    policy_text,
    purged,
    release,
)

NEXT = timedelta(days=1)
TRUNKS = ("northwind-1", "bluepeak-1")
TOKENS = ("calling_token", "called_token")


def line(number: int, trunk: str, **facts: Any) -> str:
    return f"{call(number, **facts).rstrip()},{trunk}\n"


def lines() -> list[str]:
    """Six calls by two trunks: the second every third; one that nobody answered, one of another caller with account."""
    usual = [line(n, TRUNKS[n % 3 == 0]) for n in range(4)]
    return [*usual, line(4, TRUNKS[0], answered=False), line(5, TRUNKS[0], caller=OTHER, account="ac-0007")]


def trunked(some: Iterable[str]) -> bytes:
    return (HEADER.rstrip() + ",ingress_trunk\n" + "".join(some)).encode()


@pytest.fixture(scope="module")
def first(workspace: Callable[..., Any]) -> Any:
    """A site with those calls, and with each of them once more as a duplicate; only copied."""
    made = workspace("generic", retention=WINDOWS)
    night(made, trunked(lines()))
    night(made, trunked(lines()), name="again.csv")
    assert made.entries()["duplicate", ""][0] == 6
    return made


@pytest.fixture
def site(first: Any, tmp_path: Path) -> Any:
    return copied(first, tmp_path / "site")


def indexed(site: Any) -> list[dict[str, Any]]:
    """All rows of the index, as those who run retention read them."""
    reader = open_files(site.settings, "retention-run", "test")
    return [row for file in files(site, "index") for row in reader.rows(file).to_pylist()]


def accepted(site: Any) -> list[dict[str, Any]]:
    return [row for row in indexed(site) if row["state"] == "accepted"]


def unchanged_by(site: Any, as_of: date) -> bool:
    """Whether a purge of a day that was purged before has nothing to do."""
    before = paths(site)
    classes = purged(site, as_of)["classes"]  # copies that a hold keeps are counted, and lie where they lay
    return all((row["deleted"], row["files"]) == (0, 0) for row in classes) and paths(site) == before


def unwell(site: Any, done: dict[str, Any]) -> list[str]:
    return [c.sentence for c in certificates.verify(site.settings, done["certificate"]) if not c.ok]


# -- what leaves -------------------------------------------------------------------------------------------------------


def test_what_the_index_says_leaves_with_its_class(site: Any) -> None:
    before = accepted(site)
    assert {row["trunk_in"] for row in before} == set(TRUNKS) and {row["parts"] for row in before} == {2, 3}
    failed = {row["record_id"] for row in before if row["parts"] == 2}
    assert len(failed) == 1 and all(row["called_token"] for row in before)

    done = purged(site, ASSURANCE_KEPT + NEXT)
    of_calls = accepted(site)
    assert not failed & {row["record_id"] for row in of_calls}
    assert [(row["parts"], row["account"] is None) for row in of_calls] == [(1, False)] * 5
    assert {name: row[name] for row in of_calls for name in SERVICE} == dict.fromkeys(SERVICE)
    assert all(row[name] for row in of_calls for name in TOKENS)
    assert unwell(site, done) == [] and unchanged_by(site, ASSURANCE_KEPT + NEXT)

    done = purged(site, NUMBERS_KEPT + NEXT)
    assert len(accepted(site)) == 5 and not {name for row in indexed(site) for name in TOKENS} & set(indexed(site)[0])
    assert not any(file.numbers for file in files(site, "index"))
    assert unwell(site, done) == [] and unchanged_by(site, NUMBERS_KEPT + NEXT)

    done = purged(site, BILLING_KEPT + NEXT)
    assert files(site, "index") == [] and not [path for path in on_disk(site) if path.startswith("index/")]
    assert unwell(site, done) == [] and unchanged_by(site, BILLING_KEPT + NEXT)


def test_no_row_of_the_index_is_counted(site: Any) -> None:
    done = purged(site, BILLING_KEPT + NEXT)
    assert {row["class"]: (row["due"], row["deleted"]) for row in done["classes"]} == {
        "assurance_metrics": (6, 6),
        "billing_transaction": (5, 5),
        "call_detail": (0, 0),  # only its keys
    }
    scope = certificates.read(site.settings, done["certificate"]).body["scope"]
    assert {part["view"]: part["rows"] for part in scope} == {"failed": 1, "answered": 5, "billing": 5, "index": 0}


def test_what_is_billed_still_is_known_once_its_numbers_are_gone(site: Any) -> None:
    purged(site, NUMBERS_KEPT + NEXT)
    night(site, trunked(lines()), NUMBERS_KEPT + NEXT, "once-more.csv")
    assert site.entries()["duplicate", ""][0] == 6 + 5 and site.entries()["filtered", "EXPIRED"][0] == 1
    assert site.view("billing").num_rows == 5


def test_what_comes_late_is_not_indexed_for_a_view_that_is_closed(site: Any) -> None:
    night(site, trunked([line(20, TRUNKS[0])]), ASSURANCE_KEPT + NEXT, "late.csv")
    (row,) = [row for row in accepted(site) if row["trunk_in"] is None]
    assert (row["parts"], row["account"]) == (1, "unassigned")


def test_a_single_accounts_tokens_leave_the_index_with_its_numbers(workspace: Callable[..., Any]) -> None:
    site = workspace("generic", retention=WINDOWS)
    activate(
        site, policy_text({"call_detail": "18 months", "assurance_metrics": "13 months"}, {"acct-0007": "1 month"})
    )
    night(site, trunked(lines()))
    purged(site, NUMBERS_KEPT + NEXT)
    tokens = {row["account"]: {row[name] is None for name in TOKENS} for row in accepted(site)}
    assert tokens == {"acct-0007": {True}, "unassigned": {False}}
    assert unchanged_by(site, NUMBERS_KEPT + NEXT)


def test_where_billing_closes_first_the_account_and_the_service_stay(workspace: Callable[..., Any]) -> None:
    windows = {"call_detail": "10 days", "billing_transaction": "10 days", "assurance_metrics": "4 months"}
    site = workspace("generic", retention=windows)
    night(site, trunked(lines()))
    before = {row["record_id"]: [row[name] for name in ("account", *SERVICE)] for row in accepted(site)}
    as_of = DAY + timedelta(days=100)
    done = purged(site, as_of)
    assert files(site, "billing") == [] and unwell(site, done) == [] and unchanged_by(site, as_of)
    rows = accepted(site)
    assert {row["record_id"]: [row[name] for name in ("account", *SERVICE)] for row in rows} == before
    assert [row["parts"] for row in rows] == [2] * 6 and not set(TOKENS) & set(rows[0])
    assert site.differing() == 0
    hold(site, accounts=("acct-0007",), last=DAY)
    purged(site, BILLING_KEPT + NEXT)
    assert len(held(site, "held-assurance")) == 1


# -- holds by number and by trunk --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selectors", "kept"),
    [
        ({"numbers": (OTHER,)}, 1),
        ({"numbers": (CALLER,)}, 5),
        ({"trunks": (TRUNKS[1],)}, 2),
        ({"trunks": (TRUNKS[1],), "numbers": (OTHER,)}, 3),
        ({"numbers": ("+13035550199",)}, 0),
    ],
    ids=str,
)
def test_a_hold_by_number_or_trunk_keeps_its_assurance_rows_alone(
    site: Any, selectors: dict[str, Any], kept: int
) -> None:
    placed = hold(site, **selectors)
    done = purged(site, ASSURANCE_KEPT + NEXT)
    rows = held(site, "held-assurance")
    assert len(rows) == kept and done["status"] == ("partial" if kept else "done")
    assert {row["hold"]: row["rows"] for row in done["held"]} == ({placed.hold_id: kept} if kept else {})
    if selectors.keys() == {"trunks"}:
        assert {row["trunk_in"] for row in rows} == {TRUNKS[1]}
    assert unwell(site, done) == [] and unchanged_by(site, ASSURANCE_KEPT + NEXT)


def test_a_hold_by_trunk_keeps_all_of_its_dates_once_the_trunks_are_gone(site: Any) -> None:
    purged(site, ASSURANCE_KEPT + NEXT)
    hold(site, trunks=(TRUNKS[1],), first=DAY, last=DAY)
    done = purged(site, BILLING_KEPT + NEXT)
    assert len(held(site, "held-billing")) == 5
    assert {row["hold"] for row in done["held"]} == {""}  # nothing could be matched: no hold is named


@pytest.mark.parametrize("selectors", [{"accounts": ("acct-0007",)}, {"numbers": (CALLER,)}], ids=str)
def test_a_copy_without_account_and_number_is_kept_whole_for_a_hold_that_comes_later(
    site: Any, selectors: dict[str, Any]
) -> None:
    """Which rows the first hold matched is written beside the copies; of the second nobody can say any more."""
    first = hold(site, trunks=(TRUNKS[0],))
    assert {row["hold"]: row["rows"] for row in purged(site, ASSURANCE_KEPT + NEXT)["held"]} == {first.hold_id: 4}
    assert [len(files(site, f"held-{part}")) for part in PARTS["assurance"]] == [1, 1]
    second = hold(site, **selectors)
    release(site, first)
    done = purged(site, ASSURANCE_KEPT + NEXT)
    assert {row["hold"]: row["rows"] for row in done["held"]} == {"": 4}
    assert len(held(site, "held-assurance")) == 4 and unchanged_by(site, ASSURANCE_KEPT + NEXT)
    release(site, second)
    purged(site, ASSURANCE_KEPT + NEXT)
    assert files(site, "held-assurance") == []


@pytest.mark.parametrize("selectors", [{"accounts": ("acct-0007",)}, {"numbers": (OTHER,)}], ids=str)
def test_a_copy_says_for_which_hold_it_is_kept_though_it_has_no_account_and_no_number(
    site: Any, selectors: dict[str, Any]
) -> None:
    placed = hold(site, **selectors)
    for _ in range(2):  # as it is made, and when it is looked at again
        done = purged(site, ASSURANCE_KEPT + NEXT)
        assert {row["hold"]: row["rows"] for row in done["held"]} == {placed.hold_id: 1}


def test_a_held_copy_keeps_its_input_files_when_some_of_it_goes(site: Any) -> None:
    """Its index rows are gone by then: which file each row came in is sealed beside it."""
    first, second = hold(site, numbers=(OTHER,)), hold(site, numbers=(CALLER,))
    purged(site, BILLING_KEPT + NEXT)
    release(site, second)
    done = purged(site, BILLING_KEPT + NEXT)
    assert [row["calling_number"] for row in held(site, "held-billing")] == [OTHER]
    (copy,) = files(site, "held-billing")
    assert sum(DataFiles(site.opened, "test").inputs(copy).values()) == 1 and unwell(site, done) == []
    assert first.hold_id in {row["hold"] for row in done["held"]}


def test_a_copy_whose_holds_are_lost_is_kept_whole_and_missed(site: Any) -> None:
    hold(site, numbers=(OTHER,))
    done = purged(site, BILLING_KEPT + NEXT)
    for file in files(site, "held-billing"):
        (site.settings.lake_path / f"{file.path}.holds").unlink()
    assert any("is missing" in sentence for sentence in unwell(site, done))
    assert len(held(site, "held-billing")) == 1
    purged(site, BILLING_KEPT + NEXT)
    assert len(held(site, "held-billing")) == 1


# -- an index that cannot be relied on ---------------------------------------------------------------------------------


def path_of(site: Any, file: Any) -> Path:
    return Path(site.settings.lake_path / file.path)


def largest(site: Any) -> Any:
    """The index file of the calls, not that of their duplicates."""
    return max(files(site, "index"), key=lambda file: (file.parts, file.bytes))


@pytest.mark.parametrize("selectors", [None, {"numbers": (OTHER,)}], ids=["no hold", "a hold"])
@pytest.mark.parametrize("as_of", [ASSURANCE_KEPT + NEXT, BILLING_KEPT + NEXT], ids=str)
def test_a_purge_stops_where_an_index_file_is_lost_or_cut_short(
    site: Any, as_of: date, selectors: dict[str, Any] | None
) -> None:
    if selectors:
        hold(site, **selectors)
    file = largest(site)
    whole, before = path_of(site, file).read_bytes(), on_disk(site)
    path_of(site, file).write_bytes(whole[:-1])
    with pytest.raises(Problem, match=f"row index file {file.file_id}.* cut short"):
        purged(site, as_of)
    path_of(site, file).unlink()
    with pytest.raises(Problem, match=f"row index file {file.file_id}.*not in the lake"):
        purged(site, as_of)
    path_of(site, file).write_bytes(whole)
    assert on_disk(site) == before and site.view("assurance").num_rows == 6
    assert purged(site, as_of)["failed_checks"] == []


@pytest.mark.parametrize("selectors", [None, {"numbers": (OTHER,)}], ids=["no hold", "a hold"])
def test_a_purge_stops_where_an_index_file_was_forged(site: Any, selectors: dict[str, Any] | None) -> None:
    """The file of other days in its place, and a manifest that says so: each piece names the file that it is of."""
    if selectors:
        hold(site, **selectors)
    night(site, trunked([line(30, TRUNKS[0], day=DAY + NEXT)]), DAY + 2 * NEXT, "other.csv")
    file, other = largest(site), next(file for file in files(site, "index") if file.part != str(DAY))
    path_of(site, file).write_bytes(path_of(site, other).read_bytes())
    with database.writing(site.settings) as connection:
        forged = update(lake_files).where(lake_files.c.file_id == file.file_id)
        connection.execute(forged.values(bytes=other.bytes, sha256=other.sha256))
    with pytest.raises(Problem, match=f"row index file {file.file_id} .*altered"):
        purged(site, ASSURANCE_KEPT + NEXT)
    assert site.view("assurance").num_rows == 7 and files(site, "held-assurance") == []


def test_a_purge_stops_at_rows_that_the_index_does_not_know(site: Any) -> None:
    hold(site, numbers=(OTHER,))
    either = "|".join(file.file_id for file in site.data_files("assurance"))  # whichever is looked at first
    with database.writing(site.settings) as connection:
        dropped = update(lake_files).where(lake_files.c.file_id == largest(site).file_id)
        connection.execute(dropped.values(superseded_at=database.now(), superseded_by="nobody"))
    before = on_disk(site)
    with pytest.raises(Problem, match=f"data file ({either}) has rows that the row index .* does not know"):
        purged(site, ASSURANCE_KEPT + NEXT)
    assert on_disk(site) == before and site.view("assurance").num_rows == 6


# -- a hold that wins over a purge when a night has come between -------------------------------------------------------


def test_where_a_night_came_between_what_a_purge_took_is_held_whole(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The night has written anew what the purge wrote: that stays, with its index, and nothing is lost."""
    night(site, trunked([line(9, TRUNKS[0])]), name="b.csv")  # in files of its own, which the night leaves alone
    begin, came = purge_disposal.begin_removal, []

    def night_and_hold_first(*arguments: Any) -> bool:
        if not came:
            longer = trunked([line(0, TRUNKS[0], talk=90)])
            came.append(night(site, longer, NUMBERS_KEPT + NEXT, "longer.csv"))
            came.append(hold(site, first=DAY, last=DAY))
        return begin(*arguments)

    monkeypatch.setattr(purge_disposal, "begin_removal", night_and_hold_first)
    assert purged(site, NUMBERS_KEPT + NEXT)["status"] == "planned"
    rows = site.view("billing")
    assert rows["talk_ms"].to_pylist() == [60_000] * 5  # both versions of the sixth are held until one is chosen
    assert len(held(site, "held-billing")) == 6 and len(held(site, "held-assurance")) == 7
    assert len({row["record_id"] for row in accepted(site)}) == len(accepted(site)) == 5
    done = purged(site, BILLING_KEPT + NEXT)
    assert done["overdue"] == 0 and files(site, "billing") == files(site, "index") == []
    kept = held(site, "held-billing")
    assert {(row["start"].second, row["talk_ms"]) for row in kept} >= {(n, 60_000) for n in (0, 1, 2, 3, 5, 9)}
    assert unchanged_by(site, BILLING_KEPT + NEXT)
