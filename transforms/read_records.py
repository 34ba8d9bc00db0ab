"""ReadRecords: records as they came, parsed, their numbers read, and checked. Nights, streams and trials read so."""

import pyarrow as pa

from callward.workspace import Workspace
from transforms.normalize import normalize_records
from transforms.parse import parse_records
from transforms.validate import validate


def read_records(records: pa.Table, workspace: Workspace, now_ms: int) -> pa.Table:
    """Return records of one source and shape, as Read gives them, in schema PARSED with lineage, tenant and places.

    `now_ms` is when they were read, in ms since 1970. What is wrong with one is its `fault`.
    """
    table = normalize_records(parse_records(records, workspace), workspace)
    return validate(table, now_ms).replace_schema_metadata(records.schema.metadata)
