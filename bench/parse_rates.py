"""How fast each format is parsed: records of clean feeds in memory → canonical batches, one thread, no Beam."""

import argparse
import gzip
import json
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from callward.feeds import SOURCES, Source, generate
from callward.parsing.records import records
from schemas import declaration as declarations
from transforms.parse import parse

_DAY = date(2026, 3, 5)
# Where source and declaration differ in name.
_FORMATS = {
    "freeswitch": "freeswitch_csv",
    "freeswitch_json": "freeswitch_jsonl",
    "generic": "generic_csv",
    "opensips": "acc_flatstore",
}


def rates(rows: int) -> dict[str, float | str]:
    """Records per second by source; or, where a format cannot be read, why."""
    with tempfile.TemporaryDirectory() as folder:
        return {source.name: _rate(source, rows, Path(folder)) for source in SOURCES}


def _rate(source: Source, rows: int, folder: Path) -> float | str:
    calls = round(rows / source.share)
    feeds = generate(folder, seed=1, day=_DAY, calls=calls, dirt=0, sources=[source.name])
    try:
        declaration = declarations.load(_FORMATS.get(source.name, source.name))
        inputs = list(_inputs([*feeds.files], declaration))
        start = time.perf_counter()
        read = sum(parse(found, declaration, shape, source.zone).num_rows for found, shape in inputs)
    except Exception as error:  # a format that is not there yet must not stop the bench
        return f"not measured: {type(error).__name__}"
    return read / (time.perf_counter() - start)


def _inputs(files: list[Path], declaration: Any) -> Iterator[tuple[Any, Any]]:
    """Each file's records and shape, its header cut off."""
    for file in files:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        shape = declarations.sniff(data[:65_536], declaration)
        body = data.split(b"\n", shape.header_lines)[-1]
        yield records(body, declaration), shape


def main() -> None:
    """Prints one JSON document: records per second by source."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    print(json.dumps(rates(parser.parse_args().rows)))


if __name__ == "__main__":
    main()
