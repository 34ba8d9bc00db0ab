"""What doctor says of a workspace."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines import terminal
from pipelines.readiness.finding import OK, Finding
from pipelines.results import Part, Result, to_document


@dataclass(frozen=True)
class Diagnosis(Result):
    """Everything that was looked at."""

    findings: Sequence[Finding]

    @property
    def exit_code(self) -> int:
        return 3 if any(finding.bad for finding in self.findings) else 0

    def to_dict(self) -> list[Any]:
        return [to_document(finding) for finding in self.findings]

    def render(self) -> Iterator[Part]:
        """Yield a line to each finding, what is bad with how to fix it below, and a last line that sums up."""
        size = max(len(finding.what) for finding in self.findings)
        for finding in self.findings:
            yield f"{finding.state:8} {finding.what:{size}}  {finding.seen}"
            if finding.fix and finding.state != OK:
                yield f"{'':8} {'':{size}}  -> {finding.fix}"
        bad = sum(finding.bad for finding in self.findings)
        yield f"{terminal.count(bad, 'thing')} to fix" if bad else "all that a night needs is there"
