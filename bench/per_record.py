"""The rival: the same night written the usual way in Beam, one Python dict per record, and written fairly.

The csv module, one HMAC token and one AES-GCM ciphertext per number, duplicates removed by GroupByKey on the
uniqueid, two views as encrypted Parquet, two aggregates by CombinePerKey, on the embedded FnApiRunner.
"""

import argparse
import csv
import hashlib
import hmac
import itertools
import json
import os
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench.encrypted import writer
from bench.floor import SCHEMA

Record = dict[str, Any]

_ASSURANCE = ("uniqueid", "trunk", "start", "duration", "billsec", "disposition")
_BATCH = (10_000, 50_000)  # records per written table


class _Read(beam.DoFn):
    """(file, first record, how many) → dicts."""

    def process(self, part: tuple[str, int, int]) -> Iterator[Record]:
        path, first, count = part
        with open(path, newline="", encoding="utf-8") as file:
            for values in itertools.islice(csv.reader(file), first, first + count):
                yield dict(zip(SCHEMA.names, values, strict=True))


def _type(record: Record) -> Record:
    """Times and integers; the trunk out of the channel's name."""
    typed = dict(record)
    for name in ("start", "answer", "end"):
        typed[name] = datetime.fromisoformat(record[name]) if record[name] else None
    for name in ("duration", "billsec", "sequence"):
        typed[name] = int(record[name])
    typed["trunk"] = record["channel"].rpartition("-")[0].partition("/")[2]
    return typed


class _Protect(beam.DoFn):
    """Each number gets a token (HMAC-SHA256) and a ciphertext (AES-256-GCM); the clear columns go."""

    _CLEAR = ("src", "dst", "clid", "lastdata", "channel", "dstchannel")

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def setup(self) -> None:
        self._cipher = AESGCM(self._secret)

    def process(self, record: Record) -> Iterator[Record]:
        safe = {name: value for name, value in record.items() if name not in self._CLEAR}
        for side in ("src", "dst"):
            number = record[side].encode()
            nonce = os.urandom(12)
            safe[f"{side}_token"] = hmac.digest(self._secret, number, hashlib.sha256)[:16]
            safe[f"{side}_sealed"] = nonce + self._cipher.encrypt(nonce, number, None)
        yield safe


def _first(item: tuple[str, Iterable[Record]]) -> Record:
    """Of records that share an identity, the first."""
    return next(iter(item[1]))


class _Write(beam.DoFn):
    """A batch of dicts → one encrypted Parquet file."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def process(self, records: list[Record]) -> Iterator[int]:
        table = pa.Table.from_pylist(records)
        with writer(f"{self._folder}/{os.urandom(8).hex()}.parquet", table.schema) as parquet:
            parquet.write_table(table)
        yield table.num_rows


class _Totals(beam.CombineFn):
    """Attempts, answered attempts and seconds of talk."""

    def create_accumulator(self) -> tuple[int, int, int]:
        return 0, 0, 0

    def add_input(self, total: tuple[int, int, int], record: Record) -> tuple[int, int, int]:
        return total[0] + 1, total[1] + (record["answer"] is not None), total[2] + record["billsec"]

    def merge_accumulators(self, totals: Iterable[tuple[int, int, int]]) -> tuple[int, int, int]:
        attempts, answered, seconds = (sum(column) for column in zip(*totals, strict=True))
        return attempts, answered, seconds

    def extract_output(self, total: tuple[int, int, int]) -> tuple[int, int, int]:
        return total


def _view(records: beam.pvalue.PCollection, name: str, folder: Path) -> None:
    (folder / name).mkdir(parents=True)
    batches = records | f"Batch{name}" >> beam.BatchElements(min_batch_size=_BATCH[0], max_batch_size=_BATCH[1])
    batches | f"Write{name}" >> beam.ParDo(_Write(str(folder / name)))


def _sum(records: beam.pvalue.PCollection, name: str, key: Any, folder: Path) -> None:
    totals = records | f"Key{name}" >> beam.Map(lambda record: (key(record), record))
    totals = totals | f"Sum{name}" >> beam.CombinePerKey(_Totals())
    lines = totals | f"Format{name}" >> beam.Map(repr)
    lines | f"Write{name}" >> beam.io.WriteToText(str(folder / name))


def run(parts: list[tuple[str, int, int]], folder: Path) -> None:
    """The whole pipeline over parts of files, into `folder`."""
    with beam.Pipeline(FnApiRunner(), options=PipelineOptions([])) as pipeline:
        records = (
            pipeline
            | "Parts" >> beam.Create(parts)
            | "Read" >> beam.ParDo(_Read())
            | "Type" >> beam.Map(_type)
            | "Protect" >> beam.ParDo(_Protect(AESGCM.generate_key(256)))
            | "KeyByIdentity" >> beam.Map(lambda record: (record["uniqueid"], record))
            | "GroupByIdentity" >> beam.GroupByKey()
            | "Unrepeat" >> beam.Map(_first)
        )
        answered = records | "Answered" >> beam.Filter(lambda record: record["answer"] is not None)
        _view(answered, "Billing", folder)
        attempts = records | "Project" >> beam.Map(lambda record: {name: record[name] for name in _ASSURANCE})
        _view(attempts, "Assurance", folder)
        _sum(records, "Usage", lambda record: (record["accountcode"], record["start"].date().isoformat()), folder)
        _sum(records, "Trunks", lambda record: (record["trunk"], record["start"].hour), folder)


def _parts(files: list[Path], rows: int) -> list[tuple[str, int, int]]:
    """The first `rows` records of the files, an equal part of each."""
    share = -(-rows // len(files))
    return [(str(file), 0, min(share, rows - n * share)) for n, file in enumerate(files) if rows > n * share]


def main() -> None:
    """Measures the pipeline from its making to its end; prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--rows", type=int, default=200_000)
    options = parser.parse_args()
    start = time.perf_counter()
    run(_parts(options.files, options.rows), options.target)
    seconds = time.perf_counter() - start
    print(json.dumps({"rows": options.rows, "seconds": seconds, "rows_per_second": options.rows / seconds}))


if __name__ == "__main__":
    main()
