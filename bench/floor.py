"""The floor: pyarrow alone reads the same CSV files with types and writes one encrypted Parquet file.

It reads the next file while it writes the last: nothing that reads these files and keeps what they say encrypted can do
much less, so a night is measured against it. (`--narrow` keeps only the columns that a night reads as well.)
"""

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from bench.encrypted import writer

_WORDS = (
    "accountcode src dst dcontext clid channel dstchannel lastapp lastdata start answer end duration billsec "
    "disposition amaflags uniqueid userfield peeraccount linkedid sequence"
)
_TYPES = {
    **dict.fromkeys(("start", "answer", "end"), pa.timestamp("s")),
    **dict.fromkeys(("duration", "billsec"), pa.int32()),
    "sequence": pa.int64(),
}
_READ_BY_A_NIGHT = (
    "accountcode src dst channel dstchannel start answer end duration billsec disposition uniqueid linkedid sequence"
)
SCHEMA = pa.schema([(name, _TYPES.get(name, pa.string())) for name in _WORDS.split()])


def floor(files: Sequence[Path], target: Path, columns: Sequence[str]) -> int:
    """Writes those columns of all records to `target`; returns how many records there were."""
    schema = pa.schema([SCHEMA.field(name) for name in columns])
    rows = 0
    with writer(str(target), schema) as parquet, ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(_read, files[0], columns)
        for following in [*files[1:], None]:
            table = coming.result()
            if following is not None:
                coming = ahead.submit(_read, following, columns)
            parquet.write_table(table)
            rows += table.num_rows
    return rows


def _read(file: Path, columns: Sequence[str]) -> pa.Table:
    reading = pa_csv.ReadOptions(column_names=SCHEMA.names, block_size=4 << 20)
    types = dict(zip(SCHEMA.names, SCHEMA.types, strict=True))
    return pa_csv.read_csv(
        file, reading, convert_options=pa_csv.ConvertOptions(column_types=types, include_columns=columns)
    )


def main() -> None:
    """Measures from the first byte read to the file closed; prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--narrow", action="store_true", help="only the columns that a night reads")
    options = parser.parse_args()
    columns = _READ_BY_A_NIGHT.split() if options.narrow else SCHEMA.names
    start = time.perf_counter()
    rows = floor(options.files, options.target, columns)
    seconds = time.perf_counter() - start
    print(json.dumps({"rows": rows, "seconds": seconds, "rows_per_second": rows / seconds}))


if __name__ == "__main__":
    main()
