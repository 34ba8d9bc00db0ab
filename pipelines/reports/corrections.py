"""What people read of a correction: each file before and after, what else was read again, and what it comes to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines import terminal
from pipelines.corrections.correction import CorrectedFile
from pipelines.corrections.run import Correction
from pipelines.results import Part, Result, Rows


@dataclass(frozen=True)
class CorrectionReport(Result):
    """What a correction changed, or would change."""

    correction: Correction
    done: str  # backed out, or read again

    @property
    def exit_code(self) -> int:
        """Return 3 where a file is set aside now, or one of several versions must be chosen; else 0."""
        return 3 if self.correction.corrected.set_aside or self.correction.corrected.held else 0

    def to_dict(self) -> dict[str, Any]:
        return self.correction.to_dict()

    def render(self) -> Iterator[Part]:
        corrected, would = self.correction.corrected, "would be " * self.correction.dry_run
        for number in self.correction.already:
            yield f"file {number} was backed out before: nothing to do"
        if not corrected.files:
            return
        yield _table(f"Files that {would or 'were '}{self.done}", corrected.files)
        if corrected.others:
            yield _table("Files with records of the same calls, taken in again", corrected.others)
        if self.correction.dry_run:
            yield f"accepted records that change: {corrected.rows_before:,} before, {corrected.rows_after:,} after"
        if corrected.columns:
            rows = [[name, count] for name, count in sorted(corrected.columns.items())]
            yield terminal.table("Columns that change", ("column", "records"), rows)
        if corrected.usage:
            yield from Rows(corrected.usage, "Change of usage by account").render()
        else:
            yield "usage by account stays as it is"

    def warnings(self) -> Iterator[str]:
        for number in self.correction.corrected.set_aside:
            yield f"file {number} has too many records that cannot be read: it is set aside whole"
        if held := self.correction.corrected.held:
            yield f"{held:,} versions of records are held from billing: choose with 'callward suspense choose'"


def _table(title: str, files: Sequence[CorrectedFile]) -> terminal.Table:
    rows = [[file.file_no, file.shown, file.source, _said(file.before), _said(file.after)] for file in files]
    return terminal.table(title, ("file_no", "file", "source", "before", "after"), rows)


def _said(buckets: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(buckets.items()) if name != "in") or "nothing"
