"""What a purge costs: one month of a 24-month lake, small and ten times larger, side by side; and rewriting, in rows/s.

A night of so many days would take hours, so the lake is made: one data file per view, of the row index, and month is
written with real rows and keys. In the month that is purged each day has a copy of it, real bytes on the disk; on the
days of the other months, which a purge only counts, it has a hard link. The registers are filled as nights would have:
manifest, keys, rows by input file (ten times the input files in the large lake), derived rows by account, trunk and
hour. The purge is the real command in a process of its own; where all views of a date close at once, as here, it opens
no data file, and that is the promise.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import insert

from bench.measure import Cost, measure
from bench.night import CALLWARD, ROOT, NightError, make_workspace
from callward import database, settings, template
from callward.columns import flat, set_column
from callward.keys import approvers, signing, tokens
from callward.keys.register import KeyName
from callward.lake import account_sums, ledger, row_index
from callward.lake.data_files import DataFiles, open_files
from callward.lake.ledger import DataFile
from callward.retention import holds
from callward.retention.holds import Hold
from callward.retention.policy.register import in_force
from callward.retention.policy.rules import call_clock
from callward.retention.purge.due_files import REWRITE, Governance, PlanItem
from callward.retention.purge.due_rows import Judge
from callward.settings import Settings
from schemas.cdr import TIMESTAMP
from schemas.retention_classes import CLASSES, Window
from schemas.tables import (
    assurance_trunk_hourly,
    billing_usage_daily,
    key_columns,
    ledger_entries,
    sla_account_daily,
    sum_columns,
)
from schemas.views import BILLING, INDEX, PARTS, ROW_INDEX, STORED, VIEW_BITS, VIEW_PARTS
from transforms.expire import expire, without_numbers

TENANT = "default"
_MONTHS = 24
_WINDOW = Window(22, "month")  # with the 31 days of the longest call, the oldest of 24 months is past it
_ACCOUNTS, _TRUNKS = 200, 20
_WORDS = {"source": "asterisk", "direction": "outbound", "destination": "US", "disposition": "answered"}
Result = dict[str, Any]


# -- rows --------------------------------------------------------------------------------------------------------------


def _rows(schema: pa.Schema, rows: int, day: date, seed: int) -> pa.Table:
    """Rows of a view: ids, times, numbers and accounts at random, words as they usually are."""
    rng = np.random.default_rng(seed)
    start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
    made = {}
    for field in schema:
        made[field.name] = _column(field, rows, start, rng)
    return pa.table(made, schema=schema)


def _column(field: pa.Field, rows: int, start: int, rng: np.random.Generator) -> pa.Array:
    if field.type == TIMESTAMP:
        return pa.array(start + np.sort(rng.integers(0, 86_400_000, rows)), pa.int64()).view(TIMESTAMP)
    if pa.types.is_fixed_size_binary(field.type):
        return pa.FixedSizeBinaryArray.from_buffers(field.type, rows, [None, pa.py_buffer(rng.bytes(16 * rows))])
    if field.name.endswith("_number"):
        digits = rng.integers(2_000_000_000, 9_999_999_999, rows)
        return pa.array(np.char.add("+1", digits.astype("U10")))
    if field.name == "account":
        return pa.array([f"acct-{n:04d}" for n in range(_ACCOUNTS)]).take(pa.array(rng.integers(0, _ACCOUNTS, rows)))
    if pa.types.is_integer(field.type):
        return pa.array(rng.integers(0, 600, rows), field.type)
    if pa.types.is_floating(field.type):
        return pa.array(rng.random(rows) * 4 + 1, field.type)
    if pa.types.is_decimal(field.type):
        return pa.nulls(rows, field.type)
    return pa.repeat(_WORDS.get(field.name, "other"), rows)


def _inputs(rows: int, inputs: int) -> dict[int, int]:
    """Rows by input file, as even as may be."""
    return {number + 1: (rows - number - 1) // inputs + 1 for number in range(min(rows, inputs))}


def _indexed(rows: int, day: date, inputs: int, seed: int) -> pa.Table:
    """Rows of the index: accepted records in order, with a row in each view, from input files in turn."""
    table = _rows(ROW_INDEX, rows, day, seed)
    order = np.lexsort(tokens.as_u64(table["record_id"]).T[::-1])
    said = {
        "record_id": flat(table["record_id"]).take(pa.array(order)),
        "state": pa.repeat("accepted", rows),
        "parts": pa.repeat(pa.scalar(sum(VIEW_BITS.values()), pa.int16()), rows),
        "file_no": pa.array(np.arange(rows) % inputs + 1),
    }
    for name, column in said.items():
        table = set_column(table, name, column)
    return table


# -- a lake of two years -----------------------------------------------------------------------------------------------


def months(today: date) -> list[str]:
    """The 24 months before this one, the oldest first."""
    first = today.year * 12 + today.month - 1 - _MONTHS
    return [f"{n // 12}-{n % 12 + 1:02d}" for n in range(first, first + _MONTHS)]


def _days(month: str) -> Iterator[date]:
    day = date.fromisoformat(f"{month}-01")
    while day.isoformat()[:7] == month:
        yield day
        day += timedelta(1)


def make_lake(folder: Path, rows_a_day: int, inputs: int, today: date) -> Settings:
    """A workspace whose lake has so many rows on each day of 24 months."""
    make_workspace(folder)
    found = settings.load(folder)
    tenant = settings.Tenant(retention=dict.fromkeys(CLASSES, str(_WINDOW)))
    changed = found.model_copy(update={"tenants": {TENANT: tenant}})
    changed.path.write_text(template.render(changed))
    made = settings.load(folder)
    listed = months(today)
    files = open_files(made, "billing-run", "bench", "bench")
    known = [file for month in listed for file in _month(files, month, rows_a_day, inputs, real=month == listed[0])]
    with database.writing(made) as connection:
        ledger.add_files(connection, "bench", known, database.now())
        connection.execute(insert(ledger_entries), list(_accepted(known)))
    _fill_derived(made, [day for month in listed for day in _days(month)])
    return made


def _accepted(known: list[DataFile]) -> Iterator[dict[str, Any]]:
    """What the ledger would say of the input files, so that the certificate's counts foot."""
    rows = Counter[int]()
    for file in known:
        if file.view in PARTS["assurance"]:
            rows.update(file.inputs)
    for file_no, count in rows.items():
        yield {
            "run_id": "bench",
            "wave": 0,
            "file_no": file_no,
            "bucket": "accepted",
            "code": "",
            "rows": count,
            "talk_ms": 0,
        }


def _month(files: DataFiles, month: str, rows: int, inputs: int, *, real: bool) -> Iterator[DataFile]:
    files.workspace.keyring.keys(
        [row_index.id_key(part, TENANT, month) for part in VIEW_PARTS]
        + [KeyName(domain, TENANT, month, "token") for domain in ("billing-numbers", INDEX)]
    )
    for view, schema in STORED.items():
        first, *others = _days(month)
        count = rows // 2 if view in PARTS["assurance"] else rows  # a record is in one of its parts
        table = _indexed(rows, first, inputs, 7) if view == INDEX else _rows(schema, count, first, 7)
        made = files.write_view(view, TENANT, first.isoformat(), table, _inputs(count, inputs), received_on=first)
        yield made
        for day in others:
            yield _again(files, made, day, real)


def _again(files: DataFiles, made: DataFile, day: date, real: bool) -> DataFile:
    """The same file once more on another day: a copy, or a link."""
    file_id = files.new_file_id()
    path = f"{made.view}/tenant={TENANT}/call_date={day}/{file_id}.parquet"
    target = files.workspace.settings.lake_path / path
    target.parent.mkdir(parents=True, exist_ok=True)
    (shutil.copyfile if real else os.link)(files.path(made), target)
    return replace(made, file_id=file_id, path=path, part=day.isoformat(), received_on=day)


def _fill_derived(made: Settings, days: list[date]) -> None:
    """Sums by account and day, and by trunk and hour."""
    usage = ({"account": f"acct-{n:04d}", "billing_date": day, "direction": "outbound", "destination": "US"}
             for day in days for n in range(_ACCOUNTS))  # fmt: skip
    accounts = ({"account": f"acct-{n:04d}", "call_date": day} for day in days for n in range(_ACCOUNTS))
    hours = ({"hour": datetime(day.year, day.month, day.day, hour), "side": "egress", "trunk": f"trunk-{n}"}
             for day in days for hour in range(24) for n in range(_TRUNKS))  # fmt: skip
    for table, keyed in (
        (billing_usage_daily, usage),
        (assurance_trunk_hourly, hours),
    ):
        common = {"tenant": TENANT, **dict.fromkeys(sum_columns(table), 1)}
        rows = [common | row for row in keyed]
        assert set(rows[0]) == {*key_columns(table), *sum_columns(table)}
        with database.writing(made) as connection:
            connection.execute(insert(table), rows)
    common = {"tenant": TENANT, **dict.fromkeys(sum_columns(sla_account_daily), 1)}
    sums = pa.Table.from_pylist([common | row for row in accounts], schema=account_sums.SCHEMA)
    batches = account_sums.whole(open_files(made, "billing-run", "bench").workspace.keyring, sums)
    with database.writing(made) as connection:
        account_sums.put(connection, account_sums.Sealed(batches, {}))


# -- measured ----------------------------------------------------------------------------------------------------------


def one_month(folder: Path, rows_a_day: int, inputs: int) -> Result:
    """`callward purge` of the oldest month of a lake, approved by a person; raises NightError."""
    today = database.now().date()
    made = make_lake(folder, rows_a_day, inputs, today)
    *_, last = _days(months(today)[0])
    as_of = _WINDOW.last_day(call_clock(last)) + timedelta(1)
    key = folder.parent / f"{folder.name}.sign"
    approvers.register(made, "bench", signing.create(key).hex())
    planned = _purge(made, "--as-of", as_of.isoformat())
    plan = json.loads(planned.out)
    done = _purge(made, "--approve", plan["plan_id"], "--person", "bench", "--key", str(key))
    document = json.loads(done.out)
    return {
        "rows": 2 * rows_a_day * sum(1 for month in months(today) for _ in _days(month)),
        "rows_purged": sum(row["deleted"] for row in document["classes"]),
        "status": document["status"],
        "plan_s": round(planned.wall_s, 2),
        "wall_s": round(done.wall_s, 2),
        "cpu_s": round(done.cpu_s, 2),
    }


def _purge(made: Settings, *arguments: str) -> Cost:
    command = [*CALLWARD, "purge", *arguments, "--json", "--config", str(made.path)]
    cost = measure(command, folder=ROOT, environment={"PYTHONPATH": str(ROOT)})
    if cost.code not in (0, 3) or not cost.out:
        raise NightError(f"callward purge: {(cost.err.strip().splitlines() or ['no message'])[-1]}")
    return cost


def rewriting(folder: Path, rows: int) -> Result:
    """Rows per second of one worker: numbers dropped; the same with a hundredth of the rows copied for a hold."""
    today = database.now().date()
    made = settings.load(make_workspace(folder))
    files = open_files(made, "retention-run", "bench", "bench")
    day = date.fromisoformat(f"{months(today)[0]}-01")
    secret = files.workspace.keyring.key(row_index.id_key("billing", TENANT, f"{day:%Y-%m}")).secret
    index, table = _indexed(rows, day, 8, 11), _rows(BILLING, rows, day, 11)
    table = set_column(table, "billing_id", tokens.permute(flat(index["record_id"]), secret))
    known = [
        files.write_view(view, TENANT, day.isoformat(), written, _inputs(rows, 8), received_on=day)
        for view, written in (("billing", table), (INDEX, index))
    ]
    with database.writing(made) as connection:
        ledger.add_files(connection, "bench", known, database.now())
    file = known[0]
    order = Hold(
        hold_id="",
        tenant=TENANT,
        kind="litigation",
        authority="bench",
        case="bench",
        accounts=("acct-0001", "acct-0002"),
    )
    holds.place(made, order, today, unlisted=True)
    with database.reading(made) as connection:
        law = Governance(in_force(made, connection))
    judge = Judge(files, law, holds.opened(made, today=today), today, today)
    held = PlanItem(file, "call_detail", REWRITE, rows=rows, held=rows // 100)
    return {
        "rows": rows,
        "numbers_dropped": _rate(rows, lambda: without_numbers(file, files)),
        "held_rows_copied_and_numbers_dropped": _rate(rows, lambda: expire(held, judge, "benchbenchbenc")),
        "looked_at_for_a_hold": _rate(rows, lambda: judge.judged(held)),
    }


def _rate(rows: int, work: Callable[[], object]) -> Result:
    """The best of three: what else the machine does is not ours."""
    found = []
    for _ in range(3):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        found.append((time.perf_counter() - wall, time.process_time() - cpu))
    wall, cpu = min(found)
    return {"rows_per_second": round(rows / wall), "cpu_us_per_row": round(cpu / rows * 1e6, 3)}


def measured(scratch: Path, rows_a_day: int, rows: int) -> Result:
    """Both lakes side by side, and rewriting."""
    small = one_month(scratch / "small", rows_a_day, 5)
    large = one_month(scratch / "large", 10 * rows_a_day, 50)
    return {
        "small": small,
        "large": large,
        "large_to_small": round(large["wall_s"] / small["wall_s"], 3),
        "rewriting": rewriting(scratch / "rewriting", rows),
    }


def main() -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows-a-day", type=int, default=7_000, help="of each view, in the small lake")
    parser.add_argument("--rows", type=int, default=500_000, help="rows of the data file that is rewritten")
    parser.add_argument("--folder", type=Path, help="where the lakes are made (links need one file system)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="callward-bench-", dir=options.folder) as name:
        print(json.dumps(measured(Path(name), options.rows_a_day, options.rows), indent=1))


if __name__ == "__main__":
    main()
