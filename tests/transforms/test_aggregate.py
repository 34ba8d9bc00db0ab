"""Aggregation against plain pandas: whose rows, which cells, one bound whatever the files, nothing in the clear."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.errors import Problem
from callward.keys import tokens
from callward.lake.data_files import DataFiles
from callward.lake.ledger import DataFile
from callward.numbering import places, plan
from callward.release import bounding, declaration, suppression
from callward.release.declaration import Release
from callward.retention.requests import restrictions
from callward.retention.requests.restrictions import Hidden
from callward.runs import new_id
from callward.workspace import WorkspaceRef, open_workspace
from pipelines.engine import run as engine
from schemas.codes import Bucket
from schemas.views import BILLING, BILLING_NUMBERS, INDEX, ROW_INDEX, VIEW_BITS
from tests.examples import tries
from transforms import aggregate
from transforms.aggregate import (
    Aggregate,
    Aggregated,
    Parts,
    Tally,
    Task,
    contributions,
    figures,
    gathered,
    owners,
    prefixes,
    scale,
    summed,
)

DAY = date(2026, 3, 5)
TOKEN = b"a token secret of thirty-two bytes"
SECRET = b"an account secret of 32 bytes ..."
EVERYTHING = 10_000  # cells of a unit: no bound

_DECLARED = """
format_version = 1
name = "test"
title = "test"
kind = "{kind}"
audience = "internal"
view = "billing"
unit = "{unit}"
grain = "day"
lateness_days = 1
[[dimensions]]
name = "hour"
column = "start"
domain = "four_hours"
[[dimensions]]
name = "direction"
column = "direction"
domain = "directions"
[[measures]]
name = "calls"
cap = {cap}
[[measures]]
name = "talk_s"
cap = {cap}
[[measures]]
name = "{unit}s"
{rest}
"""


def released(
    kind: str = "dp", unit: str = "subscriber", method: str = "l0", cells: int = 16, cap: int = 1000
) -> Release:
    bounds = f'[bounding]\nmethod = "{method}"\ncells = {cells}\n[budget]\nrho = "0.01"\n'
    rest = bounds if kind == "dp" else '[suppression]\nk = 3\nwithin = ["direction"]\n'
    return declaration.parse(_DECLARED.format(kind=kind, unit=unit, cap=cap, rest=rest))


def call(n: int, **changes: Any) -> dict[str, Any]:
    """A billing row of the n-th line: outbound, an hour after the last."""
    start = datetime(2026, 3, 5) + timedelta(hours=n % 24)
    row = {
        "billing_id": n.to_bytes(16, "big"),
        "account": f"acct-{n % 4:04d}",
        "direction": "outbound",
        "start": start,
        "talk_ms": 61_999 * (n % 3),
        "calling_number": f"+1303555{n % 10 + 100:04d}",
        "called_number": "+13035550199",
    }
    return row | changes


def table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    made = pa.Table.from_pylist(list(rows), schema=BILLING)
    for side in ("calling", "called"):
        at = made.schema.get_field_index(f"{side}_token")
        made = made.set_column(at, BILLING.field(at), tokens.number_token(made[f"{side}_number"], TOKEN))
    return made


def own_line(row: dict[str, Any]) -> Any:
    """Who a row is of, in plain words: a number, an extension within its account, or None."""
    number = row["called_number" if row["direction"] == "inbound" else "calling_number"]
    if number is None or number.startswith("+"):
        return number
    return None if row["account"] in (None, "unassigned") else (row["account"], number)


# -- where, and whose --------------------------------------------------------------------------------------------------

numbers = st.one_of(
    st.none(),
    st.integers(2_010_000_000, 9_899_999_999).map(lambda n: f"+1{n}"),
    st.integers(10_000_000, 99_999_999_999_999).map(lambda n: f"+{n}"),
    st.sampled_from(["101", "*72", "911", "+", "", "sip:someone", "3035550101", "+18005550101", "+442079460101"]),
)


@tries(40)
@given(st.lists(numbers, min_size=1, max_size=40))
def test_prefixes_are_those_of_places(listed: list[str | None]) -> None:
    column = pa.array(listed, pa.string())
    certain = pa.array([number if number and number.startswith("+") else None for number in listed], pa.string())
    assert prefixes(column).to_pylist() == places(certain, plan("US")).prefix.to_pylist()


sides = st.one_of(st.none(), st.sampled_from(["101", "+13035550101", "+13035550102", "+13035550103"]))
calls = st.builds(
    dict,
    account=st.sampled_from([None, "unassigned", "acct-0001", "acct-0002"]),
    direction=st.sampled_from([None, "inbound", "outbound", "internal", "of no domain"]),
    calling_number=sides,
    called_number=sides,
    talk_ms=st.one_of(st.none(), st.integers(-5_000, 90_000)),
    start=st.integers(0, 86_399).map(lambda s: datetime(2026, 3, 5) + timedelta(seconds=s)),
)


@tries(40)
@given(st.lists(calls, min_size=1, max_size=40))
def test_two_rows_have_one_subscriber_just_where_they_have_one_line(listed: list[dict[str, Any]]) -> None:
    rows = [call(n, **changes) for n, changes in enumerate(listed)]
    whose, lines = owners(table(rows), SECRET), [own_line(row) for row in rows]
    assert whose.named.tolist() == [line is not None for line in lines]
    assert whose.assigned.tolist() == [row["account"] not in (None, "unassigned") for row in rows]
    for of, told, known in (
        (whose.subscriber, lines, whose.named),
        (whose.account, [r["account"] for r in rows], whose.assigned),
    ):
        pairs = {(told[n], int(of[n])) for n in np.flatnonzero(known)}
        assert len(pairs) == len({one for one, _ in pairs}) == len({word for _, word in pairs})


def plain(release: Release, rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Rows that have a unit, with their cell, in plain pandas."""
    labels = ["inbound", "outbound", "internal", "transit"]
    made = []
    for row in rows:
        line, assigned = own_line(row), row["account"] not in (None, "unassigned")
        unit = row["account"] if release.unit == "account" else line
        if (
            unit is None
            or not (assigned or release.unit == "subscriber")
            or (release.kind == "threshold" and not (assigned and line))
        ):
            continue
        at = labels.index(row["direction"]) if row["direction"] in labels else len(labels)
        made.append(
            {
                "unit": unit,
                "line": (row["account"], line),
                "account": row["account"],
                "cell": row["start"].hour // 4 * 5 + at,
                "calls": 1,
                "talk_s": max(row["talk_ms"] or 0, 0) // 1000,
            }
        )
    return pd.DataFrame(made, columns=["unit", "line", "account", "cell", "calls", "talk_s"])


@pytest.mark.parametrize("unit", ["subscriber", "account"])
@tries(40)
@given(listed=st.lists(calls, min_size=1, max_size=40))
def test_contributions_are_those_of_plain_pandas(unit: str, listed: list[dict[str, Any]]) -> None:
    release = released(unit=unit)
    rows = [call(n, **changes) for n, changes in enumerate(listed)]
    found, tally = contributions(release, release.grid(), table(rows), SECRET)
    expected = plain(release, rows)
    assert Counter(zip(found.cell.tolist(), *found.counts.T.tolist(), strict=True)) == Counter(
        (row.cell, 1, row.talk_s, 1) for row in expected.itertuples()
    )
    negative = sum(1 for row in rows if (row["talk_ms"] or 0) // 1000 < 0)
    assert tally == Tally(len(rows), 0, len(rows) - len(expected), 0, (0, negative, 0))


def test_tallies_add_up() -> None:
    one, two = Tally(5, 1, 2, 0, (1, 0)), Tally(3, 0, 1, 1, (0, 4))
    assert one + two + Tally() == Tally(8, 1, 3, 1, (1, 4))


# -- the pipeline over a lake ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(workspace: Callable[..., Any]) -> Any:
    return workspace("generic")


def put(site: Any, *parts: Sequence[dict[str, Any]]) -> tuple[DataFile, ...]:
    """A data file of each list of billing rows; nothing of it is in the manifest."""
    files = DataFiles(site.opened, new_id())
    return tuple(
        files.write_view("billing", "default", DAY.isoformat(), table(rows), {1: len(rows)}, received_on=DAY)
        for rows in parts
    )


def aggregated(
    site: Any, release: Release, files: Sequence[DataFile], label: str = "x"
) -> tuple[Aggregated, DataFiles]:
    reference = WorkspaceRef(str(site.settings.path), "release-run", "test")
    by = DataFiles(open_workspace(reference), new_id())
    task = Task(release, tuple(files), label)
    engine.run(site.settings, reference, lambda pipeline: pipeline | Aggregate(reference, by.run_id, task))
    return gathered(by), by


def day_of(seed: int, rows: int = 600) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    directions = ["inbound", "outbound", "internal"]
    return [
        call(
            int(n),
            start=datetime(2026, 3, 5) + timedelta(seconds=int(rng.integers(86_400))),
            direction=directions[rng.integers(3)],
            account=f"acct-{line // 3:04d}",
            calling_number=f"+1303555{line:04d}",
            called_number=f"+1720555{line:04d}",
            talk_ms=int(rng.integers(0, 200_000)),
        )
        for n, line in enumerate(rng.integers(100, 160, rows))
    ]


def both(days: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [row for day in days for row in day]


def exact(release: Release, rows: Sequence[dict[str, Any]]) -> np.ndarray:
    """The dense table without any bound."""
    dense = np.zeros((release.grid().size, 3), np.int64)
    for cell, mine in plain(release, rows).groupby("cell"):
        dense[cell] = mine["calls"].sum(), mine["talk_s"].sum(), mine["unit"].nunique()
    return dense


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps and shards of a few rows, so that units are spread over many of them."""
    monkeypatch.setattr(aggregate, "BATCH_ROWS", 250)
    monkeypatch.setattr(aggregate, "SHARD_ROWS", 100)
    monkeypatch.setattr(aggregate, "_SLAB", 64)


@pytest.mark.parametrize("unit", ["subscriber", "account"])
def test_without_a_bound_the_sums_are_the_plain_ones(site: Any, small: None, unit: str) -> None:
    release, days = released(unit=unit, cells=EVERYTHING, cap=10**9), [day_of(1), day_of(2, 90), day_of(3, 7)]
    found, files = aggregated(site, release, put(site, *days))
    assert len(found.parts) > 1
    assert summed(found, files, release).tolist() == exact(release, both(days)).tolist()
    assert found.tally.rows == 697


def test_how_rows_lie_in_files_and_shards_changes_no_bounded_sum(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    release, rows = released(cells=2, cap=3), day_of(4)
    whole = summed(*aggregated(site, release, put(site, rows)), release)
    for name, value in (("BATCH_ROWS", 90), ("SHARD_ROWS", 40), ("_SLAB", 50)):
        monkeypatch.setattr(aggregate, name, value)
    found, files = aggregated(site, release, put(site, rows[400:], rows[:37], rows[37:400]))
    assert len(found.parts) > 4
    assert summed(found, files, release).tolist() == whole.tolist()
    units = plain(release, rows)["unit"].nunique()
    assert whole[:, 2].sum() <= 2 * units < exact(release, rows)[:, 2].sum()
    assert whole[:, 0].max() <= 3 * units


def test_another_release_draws_other_cells_of_a_unit(site: Any) -> None:
    release, listed = released(cells=1, cap=1), put(site, day_of(5))
    one, again, other = (summed(*aggregated(site, release, listed, label), release) for label in ("a", "a", "b"))
    assert one.tolist() == again.tolist() != other.tolist()
    assert one[:, 2].sum() == other[:, 2].sum()


def test_clipped_sums_are_those_of_whole_units(site: Any, small: None) -> None:
    release, days = released(method="l2", cap=60), [day_of(6), day_of(7)]
    dense = summed(*aggregated(site, release, put(site, *days)), release)
    rows = plain(release, both(days))
    unit = pd.factorize(rows["unit"])[0].astype(np.uint64)
    once = bounding.combine(
        unit,
        rows["cell"].to_numpy(np.uint64),
        np.stack([rows["calls"], rows["talk_s"], rows["calls"]], axis=1),
        np.array([10**9, 10**9, 1]),
    )
    cell, sums = bounding.clip_l2(*once, release.clips(), scale(release))
    expected = np.zeros_like(dense)
    expected[cell.astype(int)] = sums
    assert dense.tolist() == expected.tolist()
    assert (scale(release), scale(released())) == (bounding.SCALE, 1)


def test_parts_of_a_threshold_table_are_apart_by_account_and_whole_together(site: Any, small: None) -> None:
    release, days = released(kind="threshold"), [day_of(8), day_of(9)]
    found, files = aggregated(site, release, put(site, *days))
    parts = Parts(files, found.parts)
    seen = [set(part.account.tolist()) for part in parts]
    assert len(seen) > 1
    assert sum(map(len, seen)) == len(set.union(*seen)) == 21
    parents = np.arange(30) % 5
    made = suppression.table(parts, parents, suppression.Rule(3, 0.5, (0, 1)))
    rows = plain(release, both(days)).assign(group=lambda frame: made.group[frame["cell"]])
    shown = figures(made.stats, release)
    for group, mine in rows[rows["group"] >= 0].groupby("group"):
        assert shown[group].tolist() == [mine["calls"].sum(), mine["talk_s"].sum(), mine["line"].nunique()]
    assert len(made.parent) > 10


@pytest.mark.parametrize("kind", ["dp", "threshold"])
def test_an_empty_period_is_a_table_of_nothing(site: Any, kind: str) -> None:
    release = released(kind=kind)
    found, files = aggregated(site, release, ())
    assert found.tally == Tally()
    if kind == "dp":
        assert not summed(found, files, release).any()
    else:
        assert [len(part.cell) for part in Parts(files, found.parts)] == [0]


def test_what_travels_is_sealed_and_goes_with_the_run(site: Any, small: None) -> None:
    rows, release = day_of(10), released(kind="threshold")
    _, files = aggregated(site, release, put(site, rows))
    folder = site.settings.lake_path / "transit"
    left = list(folder.glob(f"{files.run_id}-*"))
    content = b"".join(path.read_bytes() for path in left)
    assert len(left) > 3 and all(path.read_bytes().startswith(b"CWSEAL") for path in left)
    for row in rows[:50]:
        assert row["calling_number"][2:].encode() not in content
    words = np.unique(owners(table(rows), SECRET).subscriber)
    assert not any(word.tobytes() in content for word in words)
    files.clear_spilled()
    assert list(folder.glob(f"{files.run_id}-*")) == []


def test_a_batch_that_did_not_end_is_a_sentence(site: Any) -> None:
    with pytest.raises(Problem, match="nothing was released"):
        gathered(DataFiles(site.opened, new_id()))


def test_rows_whose_numbers_are_gone_have_no_subscriber(site: Any) -> None:
    rows, files = day_of(11, 40), DataFiles(site.opened, new_id())
    made = table(rows).drop_columns(BILLING_NUMBERS)
    gone = files.write_view("billing", "default", DAY.isoformat(), made, {1: 40}, received_on=DAY)
    found, by = aggregated(site, released(), [gone])
    assert (found.tally.ownerless, summed(found, by, released()).any()) == (40, False)
    accounts = released(unit="account", cells=EVERYTHING, cap=10**9)
    assert summed(*aggregated(site, accounts, [gone]), accounts).tolist() == exact(accounts, rows).tolist()


def test_rows_that_may_not_be_used_are_left_out(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, release = day_of(12, 60), released(cells=EVERYTHING, cap=10**9)
    listed = put(site, rows)
    ids = pa.array([row["billing_id"] for row in rows[:11]], tokens.ID_TYPE)
    unseen = {"default": Hidden("billing", ids, ("acct-0040",), frozenset())}
    monkeypatch.setattr(restrictions, "hidden", lambda *_: unseen)
    found, files = aggregated(site, release, listed)
    used = [row for row in rows[11:] if row["account"] != "acct-0040"]
    assert summed(found, files, release).tolist() == exact(release, used).tolist()
    assert found.tally.restricted == 60 - len(used) > 11
    unseen["default"] = Hidden("billing", ids, (), frozenset({listed[0].file_id}))
    with pytest.raises(Problem, match="callward nightly"):
        aggregated(site, release, listed)


_ASSURANCE = """
format_version = 1
name = "quality"
title = "test"
kind = "dp"
audience = "internal"
view = "assurance"
unit = "account"
grain = "day"
lateness_days = 1
[[dimensions]]
name = "hour"
column = "start"
domain = "four_hours"
[[measures]]
name = "attempts"
cap = 1000
[[measures]]
name = "accounts"
[bounding]
cells = 10000
[budget]
rho = "0.01"
"""


def entry(n: int, account: str | None, **changes: Any) -> dict[str, Any]:
    """A row of the index, of the n-th record: an attempt that the assurance view has a row of."""
    row = {
        "record_id": n.to_bytes(16, "big"),
        "state": Bucket.ACCEPTED,
        "parts": VIEW_BITS["assurance"],
        "account": account,
        "start_time": datetime(2026, 3, 5, 9),
    }
    return row | changes


def put_index(site: Any, rows: Sequence[dict[str, Any]]) -> DataFile:
    made = pa.Table.from_pylist(list(rows), schema=ROW_INDEX)
    files = DataFiles(site.opened, new_id())
    return files.write_view(INDEX, "default", DAY.isoformat(), made, {1: len(rows)}, received_on=DAY)


def test_attempts_that_no_account_was_found_for_are_left_out(site: Any) -> None:
    release = declaration.parse(_ASSURANCE)
    named = ["unassigned", "acct-0001", "acct-0002", None, "acct-0001"]
    listed = put_index(site, [entry(n, account) for n, account in enumerate(named)])
    found, by = aggregated(site, release, [listed])
    assert found.tally == Tally(5, 0, 2, 0, (0, 0))
    assert summed(found, by, release)[2].tolist() == [3, 2]


def test_records_that_assurance_has_no_row_of_are_in_no_figure_of_it(site: Any) -> None:
    release = declaration.parse(_ASSURANCE)
    others = [entry(1, "acct-0001", state=Bucket.DUPLICATE), entry(2, "acct-0001", parts=VIEW_BITS["billing"])]
    found, by = aggregated(site, release, [put_index(site, [entry(0, "acct-0001"), *others])])
    assert found.tally.rows == 1
    assert summed(found, by, release)[2].tolist() == [1, 1]


def test_attempts_of_restricted_persons_are_left_out(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are known by their record ids: what the index is marked with is asked for, not what a view is."""
    release, rows = declaration.parse(_ASSURANCE), [entry(n, f"acct-{n:04d}") for n in range(5)]
    ids = pa.array([row["record_id"] for row in rows[:2]], tokens.ID_TYPE)
    unseen = {INDEX: {"default": Hidden(INDEX, ids, (), frozenset())}}
    monkeypatch.setattr(restrictions, "hidden", lambda *asked: unseen.get(asked[-1], {}))
    found, by = aggregated(site, release, [put_index(site, rows)])
    assert (found.tally.rows, found.tally.restricted) == (5, 2)
    assert summed(found, by, release)[2].tolist() == [3, 3]


@tries(50)
@given(st.lists(st.tuples(st.integers(1, 3_000_000), st.sampled_from(["2026-02-28", "2026-03-01"])), max_size=12))
def test_batches_hold_every_file_once_and_none_of_two_months(listed: list[tuple[int, str]]) -> None:
    files = tuple(
        DataFile(f"f{n}", "billing", "default", part, "", rows, 0, "") for n, (rows, part) in enumerate(listed)
    )
    batches = Task(released(), files, "x").batches()
    assert sorted(file.file_id for batch in batches for file in batch) == sorted(file.file_id for file in files)
    for batch in batches:
        assert len({file.part[:7] for file in batch}) == 1
        assert sum(file.rows for file in batch[:-1]) < aggregate.BATCH_ROWS
