"""Counters that an engine shows of its work, as Flink's page does: records committed, by bucket, source and code.

They are counted by commit, so each record once, whatever the engine repeats; there is no value of a record in them.
"""

from collections.abc import Mapping
from typing import Final

from apache_beam.metrics.metric import Metrics

from callward.lake.ledger import Counted

NAMESPACE: Final = "callward"


def count_records(counted: Mapping[Counted, int]) -> None:
    """Add to the counters `bucket.source` and, where there is a code, `bucket.source.code` of the step that runs."""
    for key, rows in counted.items():
        Metrics.counter(NAMESPACE, ".".join(filter(None, (key.bucket, key.source, key.code)))).inc(rows)
