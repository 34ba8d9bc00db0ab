"""Whether two workspaces made from the same keys hold the same, whichever way their records came.

Rows of both views are compared partition by partition, so memory is bounded by the largest of these. Nothing that is
printed holds a value of a row.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from callward import database
from callward.errors import Problem
from callward.lake.data_files import DataFiles
from callward.settings import Settings
from callward.workspace import WorkspaceRef, open_workspace
from pipelines import terminal
from pipelines.results import Part, Result
from tests import comparison
from tests.comparison import OURS, THEIRS, Comparison, Side
from transforms.assemble import fold

ROLE = "billing-run"
Progress = Callable[[str], None]
# A piece of a call is known by these; which file it came in, when, and what it was called before may differ.
_PIECE = ["call_id", "record_id", "content", "piece"]
_OF_ITS_WAY = ("file_no", "block", "line", "seen", "was", "was_ms")


@dataclass(frozen=True)
class Verified(Result):
    """What a comparison came to."""

    comparison: Comparison

    @property
    def equal(self) -> bool:
        return not self.comparison.differing

    def to_dict(self) -> dict[str, Any]:
        first = [asdict(difference) for difference in self.comparison.first]
        return {
            "equal": self.equal,
            "rows": self.comparison.rows,
            "differing": self.comparison.differing,
            "differences": first,
        }

    def render(self) -> Iterator[Part]:
        rows = [[name, counts[OURS], counts[THEIRS]] for name, counts in self.comparison.rows.items()]
        yield terminal.table("Rows compared", ("of", OURS, THEIRS), rows)
        yield from map(str, self.comparison.first)
        left = self.comparison.differing - len(self.comparison.first)
        if left > 0:
            yield f"... and {terminal.count(left, 'more')}"
        yield "equal" if self.equal else f"different: {terminal.count(self.comparison.differing, 'row')}"


def verify(batch: Settings, stream: Settings, *, progress: Progress = lambda line: None) -> Verified:
    """Compare two workspaces: views, derived tables, suspense, pending, and the ledger by source, bucket and code.

    Raises UsageProblem where their keys differ, Problem where a night replaces files of one meanwhile.
    """
    ours, theirs = _side(batch), _side(stream)
    comparison.check_keys(ours, theirs)
    try:
        return Verified(_compared(ours, theirs, progress))
    except FileNotFoundError:
        raise Problem("a run replaced data files that were being compared; verify again when none runs") from None


def _side(settings: Settings) -> Side:
    database.check_version(settings)
    return Side.of(DataFiles(open_workspace(WorkspaceRef(str(settings.path), ROLE, "verify")), "verify"))


def _compared(ours: Side, theirs: Side, progress: Progress) -> Comparison:
    made = Comparison()
    for view, tenant, part in comparison.partitions(ours, theirs):
        progress(f"{view} {tenant} {part}")
        comparison.compare_partition(made, ours, theirs, view, tenant, part)
    for tenant in comparison.tenants(ours, theirs):
        progress(f"derived tables, suspense and pending of {tenant}")
        comparison.compare_derived(made, ours, theirs, tenant)
        comparison.compare_suspense(made, ours, theirs, tenant)
        made.add("pending", tenant, "", _pending(ours, tenant), _pending(theirs, tenant), _PIECE)
    comparison.compare_ledger(made, ours, theirs)
    return made


def _pending(side: Side, tenant: str) -> pa.Table:
    """The pieces of calls that wait or are remembered, as they stand, without the way that they came."""
    log = side.log("pending", tenant)
    return (fold(log) if log.num_rows else log).drop_columns(list(_OF_ITS_WAY))
