"""Fitting: which declaration reads a file, by its first bytes, and why another one does not."""

import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from callward.accounts.directory import Directory
from callward.ingest.contents import HEAD
from callward.keys import tokens
from callward.parsing.misfits import misfit
from callward.parsing.records import is_unended, record_end, records
from callward.parsing.text import TextForm
from callward.redaction import looks_like_number
from callward.settings import Settings, Source
from callward.sources import FIRST, Numbered, SourceIdentity
from callward.workspace import Workspace, WorkspaceRef
from pipelines.trial.specimen import Specimen
from schemas.cdr import READ_FIELDS
from schemas.codes import Suspense
from schemas.declaration import TIME_FIELDS, Declaration, Shape, sniff
from transforms.read import PLAIN, as_records
from transforms.read_records import read_records

_DELIMITERS: Final = (",", ";", "\t", "|")
_MONTH_FIRST: Final = ("%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M")
_DAY_FIRST: Final = ("%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M")
_WITH_POINTS: Final = ("%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M")
_SECRET: Final = os.urandom(32)


@dataclass(frozen=True)
class Candidate:
    """A source that a file may belong to: one of the settings, or one that would be new; `changes` to its format."""

    source: Source
    settings: Settings
    known: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def workspace(self) -> "TrialWorkspace":
        """Return what records of the source are read with."""
        return TrialWorkspace.of(self.settings, self.source)

    @property
    def declaration(self) -> Declaration:
        """Return the source's format. Raises UsageProblem for one that is wrong."""
        return self.workspace.declaration(self.source)

    @property
    def zone(self) -> str:
        """Return the zone that local times are read in."""
        return self.workspace.zone(self.source)

    @property
    def context_column(self) -> str:
        """Return the column that is read for the dialplan's context, "" where none is."""
        return self.declaration.tenant_column if not self.source.tenant_field else ""

    def changed(self, changes: Mapping[str, Any]) -> "Candidate":
        """Return the same with changes laid over its format."""
        merged = _merged(self.changes, changes)
        source = self.source.model_copy(update={"declare": _merged(self.source.declare, changes)})
        return Candidate(source, self.settings, self.known, merged)


class TrialWorkspace(Workspace):
    """A workspace of settings alone: it opens no key and asks no database. Its ids are those of no lake."""

    @classmethod
    def of(cls, settings: Settings, source: Source) -> "TrialWorkspace":
        """Return one whose only source is `source`."""
        only = settings.model_copy(update={"sources": [source]})
        return cls(WorkspaceRef(str(settings.path), "ops", "try"), only)

    def declaration(self, source: Source) -> Declaration:
        """Return the source's format, which reads the dialplan's context as well where it has one."""
        declaration = super().declaration(source)
        context = context_column(declaration, source)
        return declaration.model_copy(update={"tenant_column": context}) if context else declaration

    def zone(self, source: Source) -> str:
        """Return the source's zone, UTC where it names none: that is what is to be found out."""
        return source.zone or "UTC"

    def identity(self, source: Source) -> SourceIdentity:
        """Return what the ids of a source that is not registered would be made with."""
        return SourceIdentity(source.name, Numbered(FIRST, self.generations(source)[0]))

    def directory(self, tenant: str) -> Directory:
        """Return who pays by the settings alone: what was imported is sealed."""
        return Directory.of(tenant, self.settings.accounts, self.settings.trunks)

    def open_ids(self, tenants: Sequence[str]) -> None:
        """Open nothing: no key is needed."""

    def id_secret(self, tenant: str, use: str) -> bytes:
        """Return a secret of this process."""
        return tokens.derive(_SECRET, f"{tenant}/{use}")


def context_column(declaration: Declaration, source: Source) -> str:
    """Return the column that holds the dialplan's context; "" where the format has none, or names tenants."""
    if source.tenant_field or declaration.tenant_column or declaration.file.kind == "json":
        return ""
    columns = {column for layout in declaration.shapes for column in layout.columns} or {"dcontext"}
    return next((name for name in ("dcontext", "context") if name in columns), "")


@dataclass(frozen=True)
class Fit:
    """How a candidate reads a file's first records; `why` says why it reads none, "" where it does."""

    candidate: Candidate
    shape: Shape
    text: TextForm
    records: int = 0
    sound: int = 0
    dated: int = 0  # that have a start and a called number, sound or not
    filled: int = 0  # canonical fields that some record has
    columns: int = 0  # that the declaration reads and the file has
    why: str = ""
    faults: Mapping[str, int] = field(default_factory=dict)
    starts: tuple[Any, ...] = ()  # the first and the last
    better: "Fit | None" = None  # by changes to the format of a source that the settings have

    @property
    def rank(self) -> tuple[Any, ...]:
        """Return what the best fit has most of."""
        source = (
            self.candidate.known,
            -len(self.candidate.changes),
            self.candidate.declaration.file.records == "lines",
        )
        return (not self.why, self.sound, self.dated, self.sound - self.records, self.filled, self.columns, *source)

    @property
    def is_whole(self) -> bool:
        """Return whether every record is sound."""
        return not self.why and 0 < self.records == self.sound

    @property
    def is_foreign(self) -> bool:
        """Return whether the file's first records are none of the format, though they have its shape."""
        return self.records > 0 and not self.dated and not self.sound


def newcomer(settings: Settings, form: str, zone: str) -> Candidate:
    """Return a source of a format that would be new: of a declaration by name, or of a person's own file."""
    taken = {source.name for source in settings.sources}
    base = re.sub("[^a-z0-9-]+", "-", Path(form).stem.lower()).strip("-")[:30] or "source"
    base = "source" if looks_like_number(base) else base
    names = (base, *(f"{base}-{number}" for number in range(2, len(taken) + 3)))
    name = next(name for name in names if name not in taken)
    place = str(Path(form).absolute()) if form.endswith(".toml") else form
    return Candidate(Source(name=name, format=place, zone=zone), settings)


def fits(specimen: Specimen, candidates: Sequence[Candidate]) -> list[Fit]:
    """Return how each candidate reads a file, the best first; with the changes to its format that make it read more.

    Raises FileUnreadable where no candidate could, and OSError.
    """
    return sorted((_best(specimen, candidate) for candidate in candidates), key=lambda fit: fit.rank, reverse=True)


def _best(specimen: Specimen, candidate: Candidate) -> Fit:
    """Return how a candidate reads a file; a source of the settings as it is, as a night would read by it."""
    plain = fit(specimen, candidate)
    tried = [plain, *(fit(specimen, changed) for changed in _changes(plain))]
    best = max(tried, key=lambda one: one.rank)
    return replace(plain, better=best) if candidate.known and best is not plain else best


def fit(specimen: Specimen, candidate: Candidate) -> Fit:
    """Return how a candidate reads the first records of a file."""
    declaration = candidate.declaration
    head, text = specimen.head(declaration)
    shape = sniff(head, declaration)
    unlike = misfit(head, declaration, shape)
    if unlike:
        return Fit(candidate, shape, text, why=f"this file {unlike}")
    table = read_block(candidate, _whole(head, declaration, shape), shape, 0)
    faults = Counter(code for code in table["fault"].to_pylist() if code is not None)
    filled = sum(table[f.name].null_count < table.num_rows for f in READ_FIELDS)
    columns = len(set(shape.columns) & declaration.columns())
    sound = pc.sum(pc.and_(pc.is_null(table["fault"]), pc.is_null(table["filter"]))).as_py() or 0
    dated = pc.sum(pc.and_(pc.is_valid(table["start_time"]), pc.is_valid(table["called_raw"]))).as_py() or 0
    starts = tuple(pc.min_max(table["start_time"]).as_py().values())
    return Fit(candidate, shape, text, table.num_rows, sound, dated, filled, columns, "", faults, starts)


def _whole(head: bytes, declaration: Declaration, shape: Shape) -> bytes:
    """Return the first bytes without the lines above the records, and without a record that they cut off."""
    for _ in range(shape.header_lines):
        head = head.partition(b"\n")[2]
    end = record_end(head, declaration)
    return head[:end] if len(head) > HEAD // 2 and end > 0 else head


def read_block(candidate: Candidate, data: bytes, shape: Shape, number: int) -> pa.Table:
    """Return the records of a block of a file, as a night reads them."""
    declaration = candidate.declaration
    cut = records(data, declaration)
    piece = {"kind": PLAIN, "source": candidate.source.name, "shape": shape.to_json(), "condemned": False}
    unended = [len(cut) - 1] if len(cut) and is_unended(data, declaration) else []
    table = as_records([{**piece, "file_no": 1, "block": number}], [cut], unended)
    return read_records(table, candidate.workspace, time.time_ns() // 1_000_000)


# -- changes to a format that may make it fit --------------------------------------------------------------------------


def _changes(found: Fit) -> Iterator[Candidate]:
    """Yield the candidate with another delimiter, encoding or order of days and months, where one of these is wrong."""
    candidate, declaration = found.candidate, found.candidate.declaration
    if "separated" in found.why:
        others = (d for d in _DELIMITERS if d != declaration.file.delimiter)
        yield from (candidate.changed({"file": {"delimiter": delimiter}}) for delimiter in others)
    if found.faults.get(Suspense.ENCODING) and declaration.file.kind == "csv":
        yield candidate.changed({"file": {"encoding": "cp1252"}})
    if found.faults.get(Suspense.TIME):
        for formats in (_DAY_FIRST, _MONTH_FIRST, _WITH_POINTS):
            yield candidate.changed({"fields": _written_so(declaration, formats)})


def _written_so(declaration: Declaration, formats: tuple[str, ...]) -> dict[str, Any]:
    """Return what makes every single local time of a declaration one of these forms."""
    times = {name: declaration.fields[name] for name in TIME_FIELDS if name in declaration.fields}
    form = {"time": "local", "format": list(formats)}
    return {name: form for name, values in times.items() if len(values) == 1 and values[0].time in ("local", "any")}


def is_ambiguous(specimen: Specimen, found: Fit) -> bool:
    """Return whether the first records read as well with days and months the other way round."""
    declaration, fields = found.candidate.declaration, {}
    for name in TIME_FIELDS:
        for value in declaration.fields.get(name, ())[:1]:
            turned = [_turned(form) for form in value.format]
            if turned != list(value.format):
                fields[name] = {"format": turned}
    if not fields:
        return False
    other = fit(specimen, found.candidate.changed({"fields": fields}))
    return other.sound >= found.sound and other.starts != found.starts


def _turned(form: str) -> str:
    """Return a form of dates with the day where the month is."""
    parts = {"%d/%m": "%m/%d", "%m/%d": "%d/%m"}
    return parts.get(form[:5], form[:5]) + form[5:]


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {k: _merged(base[k], v) for k, v in over.items() if isinstance(v, Mapping) and isinstance(base.get(k), dict)}
    return {**base, **over, **both}
