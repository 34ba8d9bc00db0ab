"""What an engine shows of its work is what the ledger says was committed, and no value of a record."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.metrics import MetricsFilter
from sqlalchemy import select

from callward import database
from callward.settings import FLINK
from pipelines.engine import flink
from schemas.tables import input_files, ledger_entries
from tests.retention import call, feed
from transforms.counters import NAMESPACE


def counters(results: list[Any]) -> dict[str, int]:
    """Return all counters of ours of some pipelines, over their steps."""
    counted: Counter[str] = Counter()
    for result in results:
        for metric in result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]:
            counted[metric.key.metric.name] += metric.committed
    return dict(counted)


def in_ledger(site: Any) -> dict[str, int]:
    """Return how many records the ledger has put into each bucket, by source and code, under a counter's name."""
    e = ledger_entries.c
    query = select(input_files.c.source, e.bucket, e.code, e.rows).where(e.file_no == input_files.c.file_no, e.rows > 0)
    counted: Counter[str] = Counter()
    with database.reading(site.settings) as connection:
        for row in connection.execute(query):
            counted[".".join(filter(None, (row.bucket, row.source, row.code)))] += row.rows
    return dict(counted)


@pytest.fixture
def pipelines(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Results of the pipelines that run from now on."""
    results: list[Any] = []
    run = beam.Pipeline.run

    def kept(pipeline: beam.Pipeline, *arguments: Any, **options: Any) -> Any:
        results.append(run(pipeline, *arguments, **options))
        return results[-1]

    monkeypatch.setattr(beam.Pipeline, "run", kept)
    return results


def test_counters_are_what_was_committed(workspace: Callable[..., Any], pipelines: list[Any]) -> None:
    site = workspace("generic")
    site.land("generic", "a.csv", feed(call(1), call(2), call(1), "id-9,,,never,,,0,\n"))
    site.land("generic", "b.csv", feed(call(2), call(3, answered=False)))
    site.night()
    counted = counters(pipelines)
    assert counted == in_ledger(site)
    assert (counted["in.generic"], counted["accepted.generic"], counted["duplicate.generic"]) == (6, 3, 2)
    assert counted["suspended.generic.TIME"] == 1
    assert not [name for name in counted if re.search(r"\d", name)]


def test_a_wave_that_is_done_again_is_counted_once(workspace: Callable[..., Any], pipelines: list[Any]) -> None:
    site = workspace("generic")
    site.land("generic", "a.csv", feed(call(1)))
    site.night()
    site.land("generic", "a-again.csv", feed(call(1)))
    site.night()
    assert counters(pipelines) == in_ledger(site) == {"in.generic": 2, "accepted.generic": 1, "duplicate.generic": 1}


@pytest.mark.endurance
def test_flink_shows_them(workspace: Callable[..., Any], pipelines: list[Any], flink_jar: Path) -> None:
    site = workspace("generic", engine={"runner": FLINK, "workers": 1})
    site.land("generic", "a.csv", feed(call(1), call(2), call(1)))
    site.night()
    assert counters(pipelines) == in_ledger(site) != {}
    flink.end_lasting()
