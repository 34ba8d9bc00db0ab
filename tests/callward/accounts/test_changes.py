"""What an import makes of a directory, and how that is told: by who has what on each day."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from callward.accounts.changes import changed, differences, holdings_of, same_accounts
from callward.accounts.entries import ALWAYS, FOREVER, Entries, Holdings, label
from callward.accounts.reading import read
from callward.numbering import plan
from tests.examples import tries

_DAYS = range(1, 9)
ROWS = st.lists(
    st.tuples(
        st.integers(0, 3), st.sampled_from("abc"), st.sampled_from([ALWAYS, 2, 4, 6]), st.sampled_from([3, 5, FOREVER])
    ),
    max_size=8,
)
Row = tuple[int, str, int, int]


def holdings(rows: list[Row]) -> Holdings:
    """Return a directory of numbers (by key), and of the same as trunks: its accounts and labels as they come."""
    rows = [row for row in rows if row[2] <= row[3]]
    ids = list(dict.fromkeys(account for _, account, *_ in rows))
    names = list(dict.fromkeys(key for key, *_ in rows))
    held = [[ids.index(account) for _, account, *_ in rows], *([row[at] for row in rows] for at in (2, 3))]
    keys, zeros = [key for key, *_ in rows], [0] * len(rows)
    labels = pa.array([label("trunk", f"t{key}") for key in names], pa.string())
    named = Entries.of([names.index(key) for key in keys], zeros, *held)
    return Holdings(
        pa.array(ids, pa.string()),
        pa.nulls(len(ids), pa.string()),
        labels,
        Entries.of(keys, zeros, *held),
        Entries.of(),
        named,
    )


def rows_of(of: Holdings) -> list[Row]:
    entries = of.numbers
    owners = [of.ids[int(at)].as_py() for at in entries.owner]
    return [*zip(entries.first.tolist(), owners, entries.since.tolist(), entries.until.tolist(), strict=True)]


def names_of(of: Holdings) -> list[Row]:
    entries, names = of.names, dict(of.named("trunk"))
    owners = [of.ids[int(at)].as_py() for at in entries.owner]
    keys = [int(names[int(at)][1:]) for at in entries.first]
    return [*zip(keys, owners, entries.since.tolist(), entries.until.tolist(), strict=True)]


def cells(rows: list[Row]) -> set[tuple[int, str, int]]:
    return {(key, who, day) for key, who, since, until in rows for day in _DAYS if since <= day <= until}


@tries(100)
@given(ROWS, ROWS, st.sampled_from([None, 2, 4, 5]), st.booleans())
def test_an_import_says_who_has_what_from_its_day_on_and_not_before(
    old: list[Row], new: list[Row], start: int | None, add: bool
) -> None:
    before, after = holdings(old), holdings(new)
    old, new = rows_of(before), rows_of(after)
    result = changed(before, after, add=add, start=start)
    if start is not None:
        named = {key for key, *_ in new}
        kept = {(key, who, day) for key, who, day in cells(old) if day < start or (add and key not in named)}
        expected = kept | {cell for cell in cells(new) if cell[2] >= start}
    elif add:
        again = {row[:3] for row in new}
        expected = cells([row for row in old if row[:3] not in again] + new)
    else:
        expected = cells(new)
    assert cells(rows_of(result)) == cells(names_of(result)) == expected
    assert rows_of(result) == [*dict.fromkeys(rows_of(result))]  # no entry is there twice


@tries(60)
@given(ROWS, st.sampled_from([2, 4, 5]), st.booleans())
def test_importing_what_is_there_changes_nothing(rows: list[Row], start: int, add: bool) -> None:
    before = changed(
        Holdings.empty(), holdings([row for at, row in enumerate(rows) if row[0] not in {r[0] for r in rows[:at]}])
    )
    for result in (
        changed(before, before),
        changed(before, before, add=True),
        changed(before, before, add=add, start=start),
    ):
        assert rows_of(result) == rows_of(before)
        assert same_accounts(before, result)
        told, accounts = differences(before, result)
        assert not accounts
        assert not any((one.added, one.removed, one.changed) != (0, 0, 0) for one in told)


@tries(60)
@given(ROWS, ROWS)
def test_differences_are_those_of_the_rows(old: list[Row], new: list[Row]) -> None:
    before, after = (changed(Holdings.empty(), holdings(rows)) for rows in (old, new))
    was, now = set(rows_of(before)), set(rows_of(after))
    gone, fresh = was - now, now - was
    # Of entries that are the same but for their last day one goes with one, as far as there are both.
    moved = sum((Counter(row[:3] for row in gone) & Counter(row[:3] for row in fresh)).values())
    told, accounts = differences(before, after)
    numbers = told[0]
    assert (numbers.kind, numbers.before, numbers.after) == ("number", len(was), len(now))
    assert (numbers.added + numbers.changed, numbers.removed + numbers.changed) == (len(fresh), len(gone))
    assert numbers.changed <= moved
    assert (numbers.changed > 0) == (moved > 0)
    gets, loses = Counter(row[1] for row in fresh), Counter(row[1] for row in gone)
    assert {one.account: (one.gets, one.loses) for one in accounts} == {
        who: (2 * gets[who], 2 * loses[who])
        for who in gets.keys() | loses.keys()  # as numbers and as trunks
    }


def test_zones_of_the_whole_are_the_files_and_stay_where_it_has_none() -> None:
    def zoned(*zones: str | None) -> Holdings:
        rows = [(at, name, ALWAYS, FOREVER) for at, name in zip(range(3), "abc", strict=False)][: len(zones)]
        made = holdings(rows)
        return Holdings(made.ids, pa.array(zones, pa.string()), made.labels, made.numbers, made.ranges, made.names)

    old, new = zoned("UTC", "America/Denver"), zoned(None, "America/Chicago", None)
    assert changed(old, new).zones.to_pylist() == [None, "America/Chicago", None]
    assert changed(old, new, zones=False).zones.to_pylist() == ["UTC", "America/Chicago", None]
    assert changed(old, new, add=True).zones.to_pylist() == ["UTC", "America/Chicago", None]


def test_rows_become_entries_of_their_kinds(tmp_path: Path) -> None:
    path = tmp_path / "accounts.csv"
    path.write_text(
        "account,number,last,code,trunk,context,zone\na,+13035550110,,ac-a,,,UTC\nunassigned,+13035550115,,,,,\n"
        "b,+13035550110,+13035550119,,t,inside,\na,,,,t,,\n"
    )
    made = holdings_of(read(path, plan("US"), "default", ["default"]), b"s" * 32)
    assert (made.ids.to_pylist(), made.zones.to_pylist()) == (["a", "b"], ["UTC", None])
    assert made.numbers.owner.tolist() == [0, -1]
    assert [column.tolist() for column in made.ranges.columns[:3]] == [[13035550110], [13035550119], [1]]
    assert {kind: [*dict(made.named(kind)).values()] for kind in ("code", "trunk", "context")} == {
        "code": ["ac-a"],
        "trunk": ["t"],
        "context": ["inside"],
    }
    assert made.of_kind("trunk").owner.tolist() == [1, 0]
    assert 13035550110 not in np.concatenate([made.numbers.first, made.numbers.second])
