"""What people read of suspense: by source and code, a file as an example; every file where it is asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from pipelines import terminal
from pipelines.results import Part, Result, Rows, to_document
from pipelines.suspense.choose import Choice
from pipelines.suspense.close import Closing
from pipelines.suspense.export import Exported
from pipelines.suspense.records import NamedFile, OpenRecord, OpenRecords
from pipelines.suspense.recycle import Recycling

_TITLE = "In suspense"


@dataclass(frozen=True)
class SuspenseList(Result):
    """Open records; `files` asks for every file, `days` for every day on which files came."""

    records: Sequence[OpenRecords]
    files: bool = False
    days: bool = False

    def to_dict(self) -> list[Any]:
        return [to_document(row) for row in self.records]

    def render(self) -> Iterator[Part]:
        if self.files or not self.records:
            yield from Rows(self.records, _TITLE).render()
        else:
            yield by_source_and_code(self.records, _TITLE, days=self.days)


@dataclass(frozen=True)
class SuspenseContent(Result):
    """Records with their content: where each stands and why it is there, then what it says."""

    records: Sequence[OpenRecord]

    def to_dict(self) -> list[Any]:
        return [to_document(record) for record in self.records]

    def render(self) -> Iterator[Part]:
        for record in self.records:
            yield f"file {record.file_no} ({record.source}), record {record.record}: {record.code}"
            if isinstance(record.content, dict):
                yield from (f"    {name}: {_printable(value)}" for name, value in record.content.items())
            else:
                yield f"    {_printable(record.content)}"


@dataclass(frozen=True)
class FilesFound(Result):
    """Files by their names in the clear."""

    files: Sequence[NamedFile]

    def to_dict(self) -> list[Any]:
        return [to_document(file) for file in self.files]

    def render(self) -> Iterator[Part]:
        yield from Rows(self.files).render()


@dataclass(frozen=True)
class RecycleReport(Result):
    """What was put through again; `files` asks for every file."""

    recycling: Recycling
    files: bool = False

    def to_dict(self) -> dict[str, Any]:
        return self.recycling.to_dict()

    def render(self) -> Iterator[Part]:
        yield from self._what()
        taken = self.recycling.taken
        if not taken:
            yield "nothing to put through again"
        elif self.recycling.dry_run:
            yield f"{taken:,} records would be put through again"
        else:
            changes = ", ".join(f"{bucket} {change:+,}" for bucket, change in self.recycling.buckets.items())
            yield (
                f"{taken:,} records put through again: "
                f"{changes or 'nothing moved: they are suspended as before'}; balanced"
            )

    def _what(self) -> Iterator[Part]:
        records = self.recycling.records
        if records and self.recycling.taken:
            title = "To be put through again" if self.recycling.dry_run else "Put through again"
            yield from Rows(records, title).render() if self.files else [by_source_and_code(records, title)]


@dataclass(frozen=True)
class ChoiceReport(Result):
    """What was chosen of the versions that were held."""

    choice: Choice

    def to_dict(self) -> dict[str, Any]:
        return vars(self.choice)

    def render(self) -> Iterator[Part]:
        what = "would be billed" if self.choice.dry_run else "billed"
        yield f"{terminal.count(self.choice.chosen, 'held record')} {what} as in file {self.choice.file_no}"
        if self.choice.several:
            held = terminal.count(self.choice.several, "record")
            yield f"{held} with several versions in that file: held as before; --record chooses one"


@dataclass(frozen=True)
class ClosingReport(Result):
    """What was written off, or would be."""

    closing: Closing

    def to_dict(self) -> dict[str, Any]:
        return self.closing.to_dict()

    def render(self) -> Iterator[Part]:
        records = self.closing.records
        if not records:
            yield "nothing to write off: no such record is open in suspense"
            return
        title = "To be written off" if self.closing.dry_run else "Written off"
        rows = [[of.source, of.code, of.records, of.talk_ms // 1000] for of in records]
        yield terminal.table(title, ["source", "code", "records", "talk, s"], rows)
        count = terminal.count(sum(of.records for of in records), "record")
        if self.closing.dry_run:
            yield f"{count} would be written off"
        else:
            yield f"{count} written off by {self.closing.who}: {self.closing.reason}; balanced"


@dataclass(frozen=True)
class ExportReport(Result):
    """What was handed over of suspense."""

    exported: Exported

    def to_dict(self) -> dict[str, Any]:
        return self.exported.to_dict()

    def render(self) -> Iterator[Part]:
        count = terminal.count(self.exported.records, "record")
        if self.exported.dry_run:
            yield f"{count} of {self.exported.tenant} would be exported"
            return
        yield f"{count} of {self.exported.tenant} sealed in {self.exported.folder}, manifest {self.exported.manifest}"
        yield "the recipient opens it with 'callward tenant open FOLDER --private-key FILE --to FOLDER'"


def by_source_and_code(records: Sequence[OpenRecords], title: str, *, days: bool = False) -> terminal.Table:
    """Return records by source and code, or by day, source and code: how many of how many files, their talk, since
    when, and where the first of them stands."""
    groups: dict[tuple[str, ...], list[OpenRecords]] = {}
    for row in sorted(records, key=lambda row: (row.came_on if days else date.min, row.source)):
        key = (row.source, row.code)
        groups.setdefault((row.came_on.isoformat(), *key) if days else key, []).append(row)
    columns = ["source", "code", "records", "files", "talk, s"]
    if days:
        return terminal.table(title, ["came on", *columns, "first"], [[*key, *_sums(of)] for key, of in groups.items()])
    rows = [[*key, *_sums(of)[:-1], min(row.came_on for row in of), _sums(of)[-1]] for key, of in groups.items()]
    return terminal.table(title, [*columns, "since", "such as"], rows)


def _sums(group: Sequence[OpenRecords]) -> list[Any]:
    """Return records, files and talk (s) of a group, and where its first stands."""
    first = min(group, key=lambda row: (row.came_on, row.file_no))
    record = "" if first.first is None else f" record {first.first}"
    talk_s = sum(row.talk_ms for row in group) // 1000
    files = len({row.file_no for row in group})
    return [sum(row.records for row in group), files, talk_s, f"{first.file_no}{record}: {first.shown}"]


def _printable(text: str) -> str:
    """Return one line without control characters: what a switch wrote must not steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text.rstrip("\r\n"))
