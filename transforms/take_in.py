"""Beam's side of Parse, Normalize and Validate."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from callward import ledger
from callward.ledger import Outcome
from callward.workspace import Reference, open_workspace
from schemas.codes import Bucket, Suspense
from schemas.declaration import Shape
from transforms.identify import tenants
from transforms.normalize import normalize, places_of
from transforms.parse import parse
from transforms.read import CONDEMNED, SHAPE, SOURCE
from transforms.suspend import aside
from transforms.validate import validate


@dataclass(eq=False)
class Parse(beam.PTransform):  # type: ignore[misc]
    """PCollection[records table] → PCollection[parsed table]: schema PARSED with lineage, one row per record."""

    reference: Reference

    def expand(self, found: beam.PCollection) -> beam.PCollection:
        return found | "ParseRecords" >> beam.ParDo(_ParseFn(self.reference)).with_output_types(pa.Table)


class _ParseFn(beam.DoFn):  # type: ignore[misc]
    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def setup(self) -> None:
        self._workspace = open_workspace(self._reference)

    def process(self, found: pa.Table) -> Iterator[pa.Table]:
        source = self._workspace.settings.source(found.schema.metadata[SOURCE].decode())
        shape = Shape.from_json(found.schema.metadata[SHAPE].decode())
        raw = found["raw"].combine_chunks() if found["raw"].num_chunks != 1 else found["raw"].chunk(0)
        parsed = parse(raw, self._workspace.declaration(source), shape, source.zone, tenant_column=source.tenant_field or "")
        for name in ("file_no", "block", "was", "was_ms"):
            parsed = parsed.append_column(name, found[name])
        parsed = parsed.set_column(parsed.schema.get_field_index("line"), "line", found["line"])
        parsed = parsed.append_column("carried_ms", parsed["talk_ms"])
        yield tenants(parsed, source).replace_schema_metadata(found.schema.metadata)


@dataclass(eq=False)
class Normalize(beam.PTransform):  # type: ignore[misc]
    """PCollection[parsed table] → the same with numbers in E.164 (or as dialled) and places."""

    reference: Reference

    def expand(self, parsed: beam.PCollection) -> beam.PCollection:
        return parsed | "NormalizeNumbers" >> beam.ParDo(_NormalizeFn(self.reference)).with_output_types(pa.Table)


class _NormalizeFn(beam.DoFn):  # type: ignore[misc]
    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def setup(self) -> None:
        self._workspace = open_workspace(self._reference)

    def process(self, parsed: pa.Table) -> Iterator[pa.Table]:
        plan = self._workspace.plan(self._workspace.settings.source(parsed.schema.metadata[SOURCE].decode()))
        yield places_of(normalize(parsed, plan), plan).replace_schema_metadata(parsed.schema.metadata)


@dataclass(eq=False)
class Validate(beam.PTransform):  # type: ignore[misc]
    """PCollection[normalized table] → good: sound records; suspended: tuple[tenant, SUSPENDED table]; facts: Outcome."""

    reference: Reference
    now_ms: int

    def expand(self, normalized: beam.PCollection) -> Any:
        types = {"suspended": tuple[str, pa.Table], "facts": Outcome}
        work = beam.ParDo(_ValidateFn(self.reference, self.now_ms)).with_output_types(pa.Table, **types)
        return normalized | "ValidateRecords" >> work.with_outputs(*types, main="good")


class _ValidateFn(beam.DoFn):  # type: ignore[misc]
    def __init__(self, reference: Reference, now_ms: int) -> None:
        self._reference, self._now_ms = reference, now_ms

    def setup(self) -> None:
        self._workspace = open_workspace(self._reference)

    def process(self, table: pa.Table) -> Iterator[Any]:
        tagged = beam.pvalue.TaggedOutput
        metadata = table.schema.metadata
        table = validate(table, self._now_ms)
        entries = [ledger.read_entries(table)]
        if table["filter"].null_count < table.num_rows:
            filtered = pc.and_(pc.is_valid(table["filter"]), pc.is_null(table["fault"]))
            left_out = table.filter(filtered)
            entries += ledger.entries(left_out, Bucket.FILTERED, left_out["filter"])
            table = table.filter(pc.invert(filtered))
        yield tagged("facts", Outcome(entries=entries))
        if metadata[CONDEMNED]:
            table = table.set_column(table.schema.get_field_index("fault"), "fault", pc.fill_null(table["fault"], str(Suspense.FILE)))
        if table["fault"].null_count < table.num_rows:
            faulty = pc.is_valid(table["fault"])
            yield from self._aside(table.filter(faulty), metadata)
            table = table.filter(pc.invert(faulty))
        if table.num_rows:
            yield table.replace_schema_metadata(metadata)

    def _aside(self, table: pa.Table, metadata: dict[bytes, bytes]) -> Iterator[Any]:
        source, shape = metadata[SOURCE].decode(), metadata[SHAPE].decode()
        for tenant in table["tenant"].unique().to_pylist():
            mine = table.filter(pc.equal(table["tenant"], tenant))
            yield beam.pvalue.TaggedOutput("suspended", (tenant, aside(mine, tenant, source, shape, self._workspace)))
