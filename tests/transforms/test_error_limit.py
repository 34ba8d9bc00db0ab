"""When a file is set aside whole: over its share of faults and over the least number, by its own records alone."""

from collections import Counter

import pyarrow as pa
import pytest

from callward.lake import ledger
from callward.lake.ledger import ENTRIES, Changes
from transforms.error_limit import ErrorLimit, error_limit, over_limit


def facts(records: dict[int, int], faults: dict[int, int]) -> Changes:
    """What was read of files, and how many faults it has."""
    empty = dict.fromkeys(ENTRIES.names, 0) | {"code": ""}
    rows = [{**empty, "file_no": no, "bucket": ledger.IN, "rows": count} for no, count in records.items()]
    return Changes(entries=[pa.Table.from_pylist(rows, schema=ENTRIES)], faults=Counter(faults))


@pytest.mark.parametrize(
    ("faults", "records", "exceeded"),
    [(25, 100, False), (26, 100, True), (7, 8, False), (8, 8, True), (8, 32, False), (9, 32, True), (0, 0, False)],
)
def test_a_file_is_over_its_limit_by_share_and_by_number(faults: int, records: int, exceeded: bool) -> None:
    limit = ErrorLimit(share=0.25, least=8)
    assert over_limit(facts({1: records}, {1: faults}), {1: limit}) == ({1} if exceeded else set())


def test_a_sound_file_is_never_over_its_limit_however_strict() -> None:
    assert over_limit(facts({1: 10}, {}), {1: ErrorLimit(share=0.0, least=0)}) == set()


def test_files_are_compared_each_with_its_own_records_and_only_those_asked_for() -> None:
    limit, read = ErrorLimit(share=0.5, least=1), facts({1: 10, 2: 1000, 3: 10}, {1: 9, 2: 9, 3: 9})
    assert over_limit(read, {1: limit, 2: limit}) == {1}


def test_blocks_of_a_file_count_together() -> None:
    parts = [facts({1: 100}, {1: 40}), facts({1: 100}, {1: 5})]
    assert over_limit(parts[0], {1: ErrorLimit(0.25, 8)}) == {1}
    assert over_limit(Changes.merge(parts), {1: ErrorLimit(0.25, 8)}) == set()


def test_a_source_has_its_own_limit_where_it_names_one(workspace, feed_source) -> None:
    own = feed_source("generic", file_errors_pct=1.0)
    settings = workspace(own, "asterisk", thresholds={"file_errors_pct": 20.0, "file_errors_min": 5}).settings
    limits = [error_limit(settings, settings.source(name)) for name in ("generic", "asterisk")]
    assert limits == [ErrorLimit(0.01, 5), ErrorLimit(0.2, 5)]
