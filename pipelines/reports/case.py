"""What the commands of `callward case` say."""

from collections.abc import Iterator
from dataclasses import dataclass

from callward.access import cases
from callward.access.cases import Case
from callward.settings import Settings
from pipelines.results import Part, Result, Rows


@dataclass(frozen=True)
class CaseChanged(Result):
    """A case that was opened or closed, or would be."""

    case_id: str
    account: str
    purpose: str
    state: str
    dry_run: bool

    def render(self) -> Iterator[Part]:
        verb = "would be" if self.dry_run else "is"
        yield f"case {self.case_id} of {self.account} ({self.purpose}) {verb} {self.state}"


def opened(settings: Settings, case: Case, *, unlisted: bool, dry_run: bool) -> CaseChanged:
    """Open a case. Raises UsageProblem for a wrong one."""
    case = cases.open_case(settings, case, unlisted=unlisted, dry_run=dry_run)
    return CaseChanged(case.case_id, case.account, case.purpose, "open", dry_run)


def closed(settings: Settings, case_id: str, *, dry_run: bool) -> CaseChanged:
    """Close a case. Raises UsageProblem for one that is not open."""
    case = cases.close(settings, case_id, dry_run=dry_run)
    return CaseChanged(case.case_id, case.account, case.purpose, "closed", dry_run)


def listed(settings: Settings, *, closed: bool) -> Rows:
    """Return the cases that are open, or all."""
    return Rows(cases.listed(settings, closed=closed), "Cases")
