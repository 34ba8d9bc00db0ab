"""What people read of a demo."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from callward.feeds.truth import BUCKETS
from pipelines import terminal
from pipelines.demo import SampleResult, Step
from pipelines.results import Part, Result


@dataclass(frozen=True)
class DemoPlan(Result):
    """The commands, or the sources of samples, that a demo would run."""

    would_run: list[str]

    def render(self) -> Iterator[Part]:
        yield "would run:"
        yield from (f"  {line}" for line in self.would_run)


@dataclass(frozen=True)
class DemoSteps(Result):
    """The commands that were run. For a person each has been printed when it was done."""

    folder: str
    steps: Sequence[Step]

    @property
    def exit_code(self) -> int:
        """Return 1 when a command did not end as it must, else 0."""
        return 0 if all(step.good for step in self.steps) else 1

    def to_dict(self) -> list[Any]:
        return [step.to_dict() for step in self.steps]

    def render(self) -> Iterator[Part]:
        yield f"\nThe workspace stays in {self.folder}: cd {self.folder}, and ask it yourself (callward --help)."


@dataclass(frozen=True)
class SamplesReport(Result):
    """What published samples came to."""

    samples: Sequence[SampleResult]

    @property
    def exit_code(self) -> int:
        """Return 1 when a source is not what its SOURCES.md says, else 0."""
        return 0 if all(sample.as_stated for sample in self.samples) else 1

    def to_dict(self) -> list[Any]:
        return [sample.to_dict() for sample in self.samples]

    def render(self) -> Iterator[Part]:
        rows = [{**row, "as_stated": "yes" if row["as_stated"] else "NO"} for row in self.to_dict()]
        parts = [("source", "rows", "attempts", "answered", "talk_ms", "as_stated"), ("source", *BUCKETS)]
        titles = ["What the samples came to, and whether SOURCES.md says so", "Where their records went"]
        for title, columns in zip(titles, parts, strict=True):
            yield terminal.table(title, columns, [[row[name] for name in columns] for row in rows])
