"""What people read of a sweep."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from callward.sweep.report import NOT_FOUND
from pipelines import terminal
from pipelines.results import Part, Result
from pipelines.sweep import Sweep


@dataclass(frozen=True)
class SweepReport(Result):
    """Hits by place and form, beside how many chance would give."""

    sweep: Sweep

    @property
    def exit_code(self) -> int:
        return self.sweep.exit_code

    def to_dict(self) -> dict[str, Any]:
        return self.sweep.to_dict()

    def render(self) -> Iterator[Part]:
        report = self.sweep.report
        yield from (f"in the clear: {hit.file} at {hit.offset}: {hit.form}" for hit in report.hits)
        yield from (f"could not be read: {path}" for path in report.unreadable)
        yield from (f"not read to the end: {path}" for path in report.unfinished)
        numbers = terminal.count(self.sweep.numbers, "number")
        yield f"{terminal.count(report.files, 'file')}, {report.bytes:,} bytes read for {numbers}"
        if report.short_numbers:
            yield f"{report.short_numbers:,} of them are too short to look for"
        if report.left_out:
            left = terminal.count(report.left_out, "file")
            yield f"{left} left out: landing files before their commit, key roots, the list itself"
        yield "Not found, wherever it stands: " + "; ".join(NOT_FOUND)
        yield f"{terminal.count(len(report.hits), 'hit')}; chance alone would give {report.expected_chance_hits:.2g}"
