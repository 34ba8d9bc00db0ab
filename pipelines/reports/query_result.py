"""The answer to a query, in the form that was asked for: a table for a person, text or Arrow for a program."""

import json
import math
import sys
from collections.abc import Callable
from typing import Any, BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from callward import csv_cells
from callward.errors import UsageProblem
from pipelines import terminal

BINARY: Final = ("parquet", "arrow")
_MOST_ROWS: Final = 1000  # of a table: a person reads no more


def check_form(form: str) -> None:
    """Raise UsageProblem for a form that is not known, or a binary one that would go to a terminal."""
    if form not in FORMS:
        raise UsageProblem(f"--format is one of {', '.join(FORMS)}")
    if form in BINARY and sys.stdout.isatty():
        raise UsageProblem(f"--format {form} is binary: send it to a file or a program, such as '> answer.{form}'")


def write(answer: pa.RecordBatchReader, form: str) -> None:
    """Write an answer to standard output, batch by batch. Raises UsageProblem for a time that text has no form for."""
    try:
        FORMS[form](answer)
    except OverflowError:
        raise UsageProblem(
            "a date or time of the answer is not within the years 1 to 9999: turn it into text, such as "
            "CAST(start AS VARCHAR)"
        ) from None
    sys.stdout.flush()


def _table(answer: pa.RecordBatchReader) -> None:
    rows: list[dict[str, Any]] = []
    for batch in answer:
        rows += _named(batch.slice(0, _MOST_ROWS + 1 - len(rows)))
        if len(rows) > _MOST_ROWS:
            break
    terminal.show(terminal.Records(rows[:_MOST_ROWS], answer.schema.names))
    if not rows:
        terminal.say("no rows")
    if len(rows) > _MOST_ROWS:
        terminal.say(f"these are the first {_MOST_ROWS:,} rows; --format csv writes all")


def _named(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return rows as dictionaries; of columns of one name the last counts, as in JSON."""
    columns = [column.to_pylist() for column in batch.columns]
    return [dict(zip(batch.schema.names, values, strict=True)) for values in zip(*columns, strict=True)]


def _json(answer: pa.RecordBatchReader) -> None:
    separator = "["
    for batch in answer:
        for row in _named(batch):
            sys.stdout.write(f"{separator}\n {_as_json(row)}")
            separator = ","
    sys.stdout.write("[]\n" if separator == "[" else "\n]\n")


def _as_json(value: Any) -> str:
    return json.dumps(_finite(value), default=terminal.plain)


def _finite(value: Any) -> Any:
    """Return a value with null for NaN and infinity, however deep: JSON has neither."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _csv(answer: pa.RecordBatchReader) -> None:
    names = csv_cells.safe(pa.array(answer.schema.names, pa.string())).to_pylist()
    schema = pa.schema(list(zip(names, (_text_type(field.type) for field in answer.schema), strict=True)))
    header = True
    for batch in answer:
        _check_times(batch)
        texts = [csv_cells.safe(_as_text(column)) for column in batch.columns]
        _write_csv(pa.RecordBatch.from_arrays(texts, schema=schema), header=header)
        header = False
    if header:
        _write_csv(schema.empty_table(), header=True)


def _write_csv(rows: pa.RecordBatch | pa.Table, *, header: bool) -> None:
    with pa.BufferOutputStream() as body:
        pc_csv.write_csv(rows, body, pc_csv.WriteOptions(include_header=header))
        sys.stdout.write(body.getvalue().to_pybytes().decode())


def _check_times(batch: pa.RecordBatch) -> None:
    """Raise OverflowError for dates and times that Python has none for: Arrow would write others."""
    for column in batch.columns:
        if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
            pc.min_max(column).as_py()


def _text_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return kind.value_type
    return pa.string() if _is_bytes(kind) or pa.types.is_nested(kind) else kind


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _as_text(column: pa.Array) -> pa.Array:
    """Return bytes in hex, nested values as JSON, words of a dictionary as plain ones; the rest as it is."""
    if pa.types.is_nested(column.type):
        return pa.array([None if value is None else _as_json(value) for value in column.to_pylist()], pa.string())
    if not _is_bytes(column.type):
        return column.cast(_text_type(column.type))
    lengths = pc.multiply(pc.fill_null(pc.binary_length(column), 0), 2)
    joined = b"".join(value for value in column.drop_null().to_pylist()).hex().encode()
    offsets = np.concatenate([[0], np.cumsum(lengths.to_numpy(zero_copy_only=False))]).astype(np.int64)
    made = pa.LargeStringArray.from_buffers(len(column), pa.py_buffer(offsets), pa.py_buffer(joined))
    return pc.if_else(column.is_valid(), made, None).cast(pa.string())


def _parquet(answer: pa.RecordBatchReader) -> None:
    with pq.ParquetWriter(pa.PythonFile(_bytes_out(), "w"), answer.schema, compression="zstd") as writer:
        for batch in answer:
            writer.write_batch(batch)


def _arrow(answer: pa.RecordBatchReader) -> None:
    with pa.ipc.new_stream(pa.PythonFile(_bytes_out(), "w"), answer.schema) as writer:
        for batch in answer:
            writer.write_batch(batch)


def _bytes_out() -> BinaryIO:
    sys.stdout.flush()
    return sys.stdout.buffer


FORMS: Final[dict[str, Callable[[pa.RecordBatchReader], None]]] = {
    "table": _table,
    "csv": _csv,
    "json": _json,
    "parquet": _parquet,
    "arrow": _arrow,
}
