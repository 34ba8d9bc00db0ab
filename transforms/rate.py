"""Rate: what is charged for a call. Until rate plans exist, seconds are known and money is not."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import PCollection

from transforms.elements import Group


def billable_seconds(talk_ms: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Talk rounded up to the whole second (increment 1/1; formats.md section 5); 0 where there was no talk."""
    talk = pc.fill_null(talk_ms, 0)
    return pc.divide(pc.add(talk, 999), 1000)


def rate(calls: pa.Table) -> pa.Table:
    """Add `billable_s` to settled calls (schema CDR); `charge` stays null, which is not zero."""
    return calls.append_column("billable_s", billable_seconds(calls["talk_ms"]))


@dataclass(eq=False)
class Rate(beam.PTransform[PCollection[Group], PCollection[Group]]):
    """PCollection[Group] → PCollection[Group] with billable_s."""

    def expand(self, groups: PCollection[Group]) -> PCollection[Group]:
        return groups | "RateCalls" >> beam.ParDo(_RateFn())


class _RateFn(beam.DoFn):
    def process(self, group: Group) -> Iterator[Group]:
        yield replace(group, calls=rate(group.calls))
