"""Spread: work that is known when the graph is built, on whichever workers are free."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PBegin, PCollection


@dataclass(eq=False)
class Spread(beam.PTransform[PBegin, PCollection[Any]]):
    """The beginning of a pipeline → PCollection[kind] of the items; a single one needs no shuffle."""

    items: Sequence[Any]
    kind: Any

    def expand(self, begin: PBegin) -> PCollection[Any]:
        items = begin | "Items" >> beam.Create(self.items, reshuffle=False).with_output_types(self.kind)
        return items | "Reshuffle" >> beam.Reshuffle() if len(self.items) > 1 else items
