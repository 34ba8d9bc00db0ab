"""What doctor says of a workspace."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pipelines import terminal
from pipelines.readiness.finding import OK, Finding
from pipelines.results import Part, Result, to_document


@dataclass(frozen=True)
class Diagnosis(Result):
    """Everything that was looked at."""

    findings: Sequence[Finding]
    well: ClassVar[str] = "all that a night needs is there"

    @property
    def exit_code(self) -> int:
        return 3 if any(finding.bad for finding in self.findings) else 0

    def to_dict(self) -> list[Any]:
        return [to_document(finding) for finding in self.findings]

    def render(self) -> Iterator[Part]:
        """Yield a line to each finding, what is bad with how to fix it below, and a last line that sums up."""
        yield from self._lines()
        bad = sum(finding.bad for finding in self.findings)
        yield f"{terminal.count(bad, 'thing')} to fix" if bad else self.well

    def _lines(self) -> Iterator[str]:
        size = max(len(finding.what) for finding in self.findings)
        for finding in self.findings:
            yield f"{finding.state:8} {finding.what:{size}}  {finding.seen}"
            if finding.fix and finding.state != OK:
                yield f"{'':8} {'':{size}}  -> {finding.fix}"


@dataclass(frozen=True)
class SettingsChecked(Diagnosis):
    """What was looked at of a file of settings; `usage`: it is itself wrong, and not only what it names."""

    usage: bool
    well = "nothing is wrong"

    @property
    def exit_code(self) -> int:
        """Return 2 where the settings are wrong, 3 where what they name is, else 0."""
        return 2 if self.usage else super().exit_code
