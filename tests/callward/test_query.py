"""Queries by role: what each sees, what no query can do, and ratios against pandas."""

import hashlib
import os
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sqlalchemy import delete, select, update

from callward import audit, database, query
from callward.errors import Problem, UsageProblem
from callward.initiate import root_file
from callward.lake import row_index
from callward.lake.data_files import DataFiles
from callward.workspace import CUSTOMERS
from schemas.tables import audit_log, keys
from schemas.views import ID_COLUMN, INDEX, NUMBER_COLUMNS, PARTS, UNCHARGED, VIEW_OF, VIEW_PARTS

CASE = {"purpose": "dispute", "case": "CASE-1234"}


@pytest.fixture
def site(finished: Any) -> Any:
    return finished[0]


@pytest.fixture
def copied(finished: Any, tmp_path: Path) -> Any:
    """A copy of the finished workspace that a test may damage."""
    folder = tmp_path / "workspace"
    shutil.copytree(finished[0].folder, folder, ignore=shutil.ignore_patterns("callward.db*"))
    with (
        closing(sqlite3.connect(finished[0].folder / "callward.db")) as old,
        closing(sqlite3.connect(folder / "callward.db")) as new,
    ):
        old.backup(new)
    return type(finished[0])(folder)


def ask(site: Any, role: str, sql: str, **more: Any) -> pa.Table:
    return query.query(site.settings, role, sql, **more)


# -- what each role sees -----------------------------------------------------------------------------------------------


def test_view_is_what_the_lake_holds(site: Any) -> None:
    for part, view in VIEW_OF.items():
        whole = site.view(part)
        hidden = set(NUMBER_COLUMNS[part])
        seen = ask(site, view, f"SELECT * FROM {part}")
        assert seen.column_names == [name for name in whole.column_names if name not in hidden]
        assert seen.num_rows == whole.num_rows > (-1 if part == UNCHARGED else 100)


def test_assurance_is_every_attempt_of_both_parts(site: Any) -> None:
    """Under one id; what a part does not tell is null: no length, ringing or prefix of a call that billing has."""
    seen = ask(site, "assurance", "SELECT * FROM assurance")
    parts = {part: site.view(part) for part in PARTS["assurance"]}
    assert set(seen.column_names) == {"assurance_id", *(name for part in parts for name in VIEW_PARTS[part].names)} - {
        ID_COLUMN[part] for part in parts
    }
    for part, rows in parts.items():
        own = seen.filter(pc.is_in(seen["assurance_id"], rows[ID_COLUMN[part]].combine_chunks()))
        assert own.num_rows == rows.num_rows
        for name in set(seen.column_names) - {"assurance_id"}:
            known = rows[name].null_count if name in rows.column_names else rows.num_rows
            assert own[name].null_count == known, name
    assert seen.num_rows == sum(rows.num_rows for rows in parts.values())


def test_no_table_of_assurance_names_an_account(site: Any) -> None:
    for name in query.tables_of("assurance"):
        columns = ask(site, "assurance", f"SELECT * FROM {name} LIMIT 0").column_names
        assert not [column for column in columns if "account" in column or "token" in column]


def test_numbers_are_seen_with_a_case_and_only_then(site: Any) -> None:
    seen = ask(site, "billing", "SELECT called_number FROM billing", **CASE)["called_number"].to_pylist()
    assert Counter(seen) == Counter(site.view("billing")["called_number"].to_pylist())
    assert sum(number is not None for number in seen) > 100
    for name in NUMBER_COLUMNS["billing"]:
        for sql in (
            f"SELECT {name} FROM billing",
            f"SELECT 1 FROM billing WHERE {name} IS NOT NULL",
            f"SELECT 1 FROM billing ORDER BY {name}",
        ):
            with pytest.raises(UsageProblem, match="not found"):
                ask(site, "billing", sql)
    for half in ({"purpose": "dispute"}, {"case": "CASE-1"}):
        with pytest.raises(UsageProblem, match="both --purpose and --case"):
            ask(site, "billing", "SELECT 1", **half)
    for role in ("assurance", "compliance"):
        with pytest.raises(UsageProblem, match="sees no numbers"):
            ask(site, role, "SELECT 1", **CASE)


def test_a_role_sees_its_own_tables_only(site: Any) -> None:
    every = {name for role in query.ROLES for name in query.tables_of(role)}
    for role in ("billing", "assurance", "compliance"):
        assert set(ask(site, role, "SHOW TABLES")["name"].to_pylist()) == set(query.tables_of(role))
        for name in sorted(every - set(query.tables_of(role)))[::3]:
            with pytest.raises(UsageProblem, match="does not exist"):
                ask(site, role, f"SELECT * FROM {name}")


def test_registers_show_no_sealed_bytes(site: Any) -> None:
    for name in query.tables_of("compliance"):
        kinds = ask(site, "compliance", f"SELECT * FROM {name}").schema.types
        assert not any(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) for kind in kinds)


def test_a_table_named_while_the_query_runs_is_not_empty(site: Any) -> None:
    rows = ask(site, "billing", "SELECT count(*) AS n FROM query_table('bil' || 'ling')")["n"].to_pylist()
    assert rows == [site.view("billing").num_rows]


@pytest.mark.parametrize("role", ["bilin", "legal", "", "BILLING"])
def test_unknown_role_is_refused(site: Any, role: str) -> None:
    with pytest.raises(UsageProblem, match="no role that queries"):
        ask(site, role, "SELECT 1")


def test_analytics_sees_nothing_before_a_release(site: Any) -> None:
    with pytest.raises(Problem, match="nothing has been released"):
        ask(site, "analytics", "SELECT 1")


# -- a role is what its roots open -------------------------------------------------------------------------------------


def _roots(site: Any, domain: str) -> Path:
    file = root_file(site.settings, domain)
    assert file is not None
    return file


@pytest.mark.parametrize(("denied", "role"), [("billing", "billing"), ("assurance", "assurance")])
def test_without_its_root_a_role_fails_and_no_other(copied: Any, denied: str, role: str) -> None:
    _roots(copied, denied).unlink()
    for other in ("billing", "assurance", "compliance"):
        sql = f"SELECT count(*) FROM {query.tables_of(other)[0]}"
        if other == role:
            with pytest.raises(Problem, match=r"does not exist .*a role is what its key roots open"):
                ask(copied, other, sql)
        else:
            assert ask(copied, other, sql).num_rows == 1


def test_a_name_alone_opens_not_even_a_derived_table(copied: Any) -> None:
    _roots(copied, "billing").chmod(0o644)
    with pytest.raises(Problem, match="0600"):
        ask(copied, "billing", "SELECT 1 FROM billing_usage_daily")


def test_without_the_numbers_root_billing_still_reads_all_but_numbers(copied: Any) -> None:
    _roots(copied, "billing-numbers").unlink()
    assert ask(copied, "billing", "SELECT talk_ms FROM billing").num_rows
    with pytest.raises(Problem, match="billing-numbers"):
        ask(copied, "billing", "SELECT called_number FROM billing", **CASE)


def _of(domain: str) -> Any:
    return keys.c.domain == domain


def test_month_whose_numbers_key_was_destroyed_keeps_its_statistics(copied: Any) -> None:
    with database.writing(copied.settings) as connection:
        connection.execute(
            update(keys).where(_of("billing-numbers"), keys.c.purpose == "numbers").values(state="destroyed", blob=None)
        )
    found = ask(
        copied, "billing", "SELECT count(*) n, count(called_number) called, sum(talk_ms)::BIGINT t FROM billing", **CASE
    ).to_pylist()
    talk = sum(ask(copied, "billing", "SELECT talk_ms FROM billing")["talk_ms"].to_pylist())
    assert found[0]["called"] == 0
    assert found[0]["n"] > 100
    assert found[0]["t"] == talk


def test_month_whose_key_was_destroyed_is_gone_for_everyone(copied: Any) -> None:
    with database.writing(copied.settings) as connection:
        connection.execute(
            update(keys).where(_of("billing"), keys.c.purpose == "meta").values(state="destroyed", blob=None)
        )
    assert ask(copied, "billing", "SELECT * FROM billing").num_rows == 0
    assert ask(copied, "assurance", "SELECT * FROM assurance").num_rows > 0


def test_register_older_than_the_lake_is_one_clear_sentence(copied: Any) -> None:
    with database.writing(copied.settings) as connection:
        connection.execute(delete(keys).where(_of("billing"), keys.c.purpose == "meta"))
    with pytest.raises(Problem, match="older than the lake"):
        ask(copied, "billing", "SELECT * FROM billing")


def test_a_missing_data_file_is_one_clear_sentence(copied: Any) -> None:
    (copied.settings.lake_path / copied.data_files("billing")[0].path).unlink()
    with pytest.raises(Problem, match="not in the lake"):
        ask(copied, "billing", "SELECT * FROM billing")


def test_empty_lake_answers_with_no_rows(workspace: Callable[..., Any]) -> None:
    empty = workspace("asterisk")
    for role in ("billing", "assurance"):
        for name in query.tables_of(role):
            assert ask(empty, role, f"SELECT * FROM {name}").num_rows == 0


# -- what no query can do ----------------------------------------------------------------------------------------------

_REFUSED = [
    "COPY billing TO '{out}'",
    "COPY (SELECT 1) TO '{out}' (FORMAT parquet)",
    "SELECT * FROM read_csv('{file}')",
    "SELECT * FROM read_text('{file}')",
    "SELECT * FROM read_blob('{file}')",
    "SELECT * FROM read_parquet('{file}')",
    "SELECT * FROM read_json('{file}')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM sniff_csv('{file}')",
    "SELECT * FROM '{file}'",
    "SELECT * FROM query('COPY billing TO ''{out}''')",
    "ATTACH '{out}' AS other",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{file}'",
    "SET temp_directory = '{folder}'",
    "SET enable_external_access = true",
    "SET memory_limit = '1TB'",
    "RESET lock_configuration",
    "PRAGMA temp_directory = '{folder}'",
    "EXPORT DATABASE '{folder}/export'",
    "CREATE TABLE kept AS SELECT * FROM billing",
    "CREATE SECRET (TYPE s3)",
    "CALL pragma_version()",
    "EXPLAIN SELECT 1",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY billing TO '{out}'",
    "DELETE FROM billing",
    "SELECT * FROM settings",  # a variable of the caller
    "SELECT * FROM schema",
    "",
    "  ;",
    "SELECT",
    "not SQL at all",
]


@pytest.mark.parametrize("sql", _REFUSED)
def test_query_reaches_nothing_but_its_tables(site: Any, tmp_path: Path, sql: str) -> None:
    file = tmp_path / "secret.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(UsageProblem) as refused:
        ask(site, "billing", sql.format(out=tmp_path / "out", file=file, folder=tmp_path), **CASE)
    assert len(str(refused.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


@contextmanager
def _small_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(query, "_CONFIG", {**query._CONFIG, "memory_limit": "40MB", "threads": "1"})
    yield


# Sorts and joins of more than the memory there is: with DuckDB's own settings it would spill them.
_LARGE = """
    SELECT max(b.called_number || n.range::VARCHAR) OVER (ORDER BY hash(n.range, b.called_number)) AS x
    FROM billing b, range(20000) n ORDER BY hash(x) LIMIT 5"""


def test_a_query_too_large_for_memory_fails_and_writes_no_temporary_file(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = set(site.folder.rglob("*"))
    with _small_memory(monkeypatch), pytest.raises(Problem, match="needs more memory"):
        ask(site, "billing", _LARGE, **CASE)
    assert not list(tmp_path.rglob("*"))
    # A data file that was there may have these letters in its id, which is drawn.
    there = set(site.folder.rglob("*")) - before
    assert not [path for path in there if "tmp" in path.name or path.suffix == ".block"]


def test_the_same_query_spills_where_it_may(tmp_path: Path) -> None:
    """The test above can fail: with a temporary directory DuckDB goes on and writes there."""
    config = {"memory_limit": "40MB", "threads": "1", "temp_directory": str(tmp_path / "spill")}
    spilled = []
    with duckdb.connect(":memory:", config=config) as connection:
        made = connection.sql(
            "SELECT hash(range) AS x, repeat('z', 100) AS y FROM range(2000000) ORDER BY x"
        ).to_arrow_reader(1000)
        made.read_next_batch()
        spilled = os.listdir(tmp_path / "spill")
    assert spilled


def test_errors_mask_numbers_that_they_quote(site: Any) -> None:
    number = next(
        value for value in site.view("billing")["called_number"].to_pylist() if value and value.startswith("+1")
    )
    statements = [
        "SELECT called_number::TINYINT FROM billing",
        f"SELECT '{number}'::DATE",
        f"SELECT {number[1:]}::TINYINT",
        f"SELECT error('{number}')",
        f"SELECT error('{number[2:5]}-{number[5:8]}-{number[8:]}')",
        f"SELECT * FROM billing WHERE calld = '{number}'",
        f'SELECT * FROM "{number}"',
    ]
    for sql in statements:
        with pytest.raises(Problem) as refused:
            ask(site, "billing", sql, **CASE)
        assert sum(c.isdigit() for c in str(refused.value)) < 7
        assert refused.value.__cause__ is None


# Each fails on a number, and what the engine says of it quotes the number or what the question has made of it.
FAILING = [
    r"regexp_replace(n, '(\d\d)', '\1x', 'g')::INT",
    "reverse(n)::INT",
    "translate(n, '0123456789', 'abcdefghij')::DATE",
    "hex(n)::INT",
    "n::BIGINT::TINYINT",
    "n::BIGINT * n::BIGINT * n::BIGINT",
    "n::DATE",
    "n::INT[]",
    "n::UUID",
    "n::DECIMAL(3, 1)",
    "n::STRUCT(a INT)",
    "('{' || n)::JSON",
    "json_extract('{' || n, '$.a')",
    "json_extract('1', '$$' || n)",
    "regexp_matches('a', '(' || n)",
    "error(n)",
    "error(n || chr(10) || 'LINE 1: ' || n)",
    """error('{"exception_type": "Parser", "exception_message": "' || n || '", "position": "7"}')""",
    "strptime(n, '%Y')",
    "date_part(n, now()::TIMESTAMP)",
    "now()::TIMESTAMP AT TIME ZONE n",
    "make_date(n::BIGINT, 1, 1)",
    "from_base64(n || 'x')",
    "repeat(n, n::BIGINT)",
    "printf('%d', n)",
]


@pytest.mark.parametrize("failing", FAILING)
def test_an_error_says_the_same_whatever_the_value_is(site: Any, failing: str) -> None:
    sentences = set()
    for offset in (0, 7):
        row = (
            f"SELECT called_number AS n FROM billing WHERE called_number LIKE '+1%' ORDER BY n LIMIT 1 OFFSET {offset}"
        )
        with pytest.raises(UsageProblem) as refused:
            ask(site, "billing", f"SELECT {failing} FROM ({row})", **CASE)
        sentences.add(str(refused.value))
    assert len(sentences) == 1


def test_an_error_quotes_the_question_where_it_came_up(site: Any) -> None:
    sql = "SELECT account,\n       called_number::INT\nFROM billing WHERE called_number LIKE '+1%'"
    with pytest.raises(UsageProblem, match=re.escape("cannot be converted (line 2, column 21: ::INT)")):
        ask(site, "billing", sql, **CASE)


def test_a_question_that_cannot_be_bound_is_refused_before_a_row_is_read(copied: Any) -> None:
    shutil.rmtree(copied.settings.lake_path / "billing")
    for sql in ("SELECT nothing FROM billing", "SELECT * FRM billing", "SELECT * FROM read_csv('/etc/passwd')"):
        with pytest.raises(UsageProblem, match=r"nothing|syntax error|tables only"):
            ask(copied, "billing", sql)
    with pytest.raises(Problem, match="not in the lake"):
        ask(copied, "billing", "SELECT * FROM billing")


# -- the audit log -----------------------------------------------------------------------------------------------------


def test_every_query_is_audited_with_purpose_and_case_and_without_its_numbers(site: Any) -> None:
    sql = "SELECT count(*) FROM billing WHERE called_number = '+13035550142'"
    ask(site, "billing", sql, **CASE)
    with database.reading(site.settings) as connection:
        last = connection.execute(
            select(audit_log).where(audit_log.c.event == "sql").order_by(audit_log.c.seq.desc())
        ).first()
        audit.verify(connection)
    assert (last.role, last.reason) == ("billing", "dispute CASE-1234")
    # A hash of the SQL as it was would give the number away to whoever tries all.
    assert hashlib.sha256(sql.encode()).hexdigest() not in last.subject
    other = sql.replace("0142", "0143")
    ask(site, "billing", other, **CASE)
    with database.reading(site.settings) as connection:
        again = connection.execute(
            select(audit_log).where(audit_log.c.event == "sql").order_by(audit_log.c.seq.desc())
        ).first()
    assert again.subject == last.subject


# -- figures -----------------------------------------------------------------------------------------------------------


def _sides(rows: pd.DataFrame) -> pd.DataFrame:
    """Attempts as each side of a switch counts them (design.md, section 5)."""
    ingress = rows[rows.leg.fillna(0) == 0].assign(side="ingress", trunk=rows.trunk_in.fillna("unknown"))
    egress = rows[rows.trunk_out.notna()].assign(side="egress", trunk=rows.trunk_out)
    both = pd.concat([ingress, egress])
    return both.assign(hour=both.start.dt.tz_localize(None).dt.floor("h").astype("datetime64[us]"))


def _attempts(site: Any) -> pd.DataFrame:
    """Attempts of the assurance view as the index tells them: exact times, and lengths that no row of the view has."""
    files = DataFiles(site.opened, "test")
    rows = pa.concat_tables(files.rows(file) for file in site.data_files(INDEX))
    rows = rows.filter(row_index.of_view(rows, "assurance")).to_pandas()
    assert len(rows) == site.view("assurance").num_rows
    rows[["trunk_in", "trunk_out"]] = rows[["trunk_in", "trunk_out"]].replace("desk", CUSTOMERS)  # a customer's
    return rows.assign(start=rows.start_time, talk_s=np.ceil(rows.talk_ms / 6000) * 6)


def test_trunk_kpi_is_what_pandas_makes_of_the_attempts(site: Any) -> None:
    rows = _sides(_attempts(site))
    success = ["answered", "busy", "no_answer", "abandoned_alerting", "rejected"]
    expected = {}
    for key, part in rows.groupby(["hour", "side", "trunk"]):
        unknown = (part.disposition == "unknown").sum()
        seizures, answered = len(part) - unknown, (part.disposition == "answered").sum()
        known = seizures > 0 and unknown <= 0.05 * len(part)
        expected[key] = {
            "attempts": len(part),
            "unknown": unknown,
            "asr_pct": 100 * answered / seizures if known else np.nan,
            "ner_pct": 100 * part.disposition.isin(success).sum() / seizures if known else np.nan,
            "acd_s": part.talk_s.sum() / answered if answered else np.nan,
            "pdd_mean_ms": part.pdd_ms.mean(),
            "p95": np.nan
            if part.pdd_ms.isna().all()
            else np.sort(part.pdd_ms.dropna())[int(np.ceil(0.95 * part.pdd_ms.count())) - 1],
        }
    found = ask(site, "assurance", "SELECT * FROM trunk_kpi").to_pandas()
    assert len(found) == len(expected) > 20
    for row in found.itertuples():
        wanted = expected[row.hour, row.side, row.trunk]
        assert (row.attempts, row.unknown) == (wanted["attempts"], wanted["unknown"])
        assert row.few_attempts == (wanted["attempts"] < 100)
        for name, near in (("asr_pct", 0.006), ("ner_pct", 0.006), ("acd_s", 0.06), ("pdd_mean_ms", 0.6)):
            assert np.isclose(getattr(row, name), wanted[name], atol=near, rtol=0, equal_nan=True), name
        # Of p95 the histogram knows the bucket: what is told is its upper bound, at most 19 % above.
        if np.isnan(wanted["p95"]):
            assert np.isnan(row.pdd_p95_ms)
        else:
            assert wanted["p95"] - 1 <= row.pdd_p95_ms <= max(2, wanted["p95"] * 1.19 + 1)


def test_monthly_usage_is_what_pandas_makes_of_the_view(site: Any) -> None:
    rows = site.view("billing").to_pandas()
    zone = site.settings.tenants["default"].zone
    month = rows.answer.fillna(rows.start).dt.tz_convert(zone).dt.tz_localize(None).dt.to_period("M")
    expected = rows.groupby([rows.account, month]).agg(
        calls=("talk_ms", "size"), talk_ms=("talk_ms", "sum"), billable_s=("billable_s", "sum")
    )
    found = ask(
        site,
        "billing",
        "SELECT account, billing_month, sum(calls) calls, sum(talk_ms) talk_ms, sum(billable_s) billable_s "
        "FROM billing_usage_monthly GROUP BY ALL",
    )
    table = {
        (row["account"], row["billing_month"].strftime("%Y-%m")): tuple(
            int(row[n]) for n in ("calls", "talk_ms", "billable_s")
        )
        for row in found.to_pylist()
    }
    assert table == {
        (account, str(period)): tuple(map(int, values)) for (account, period), *values in expected.itertuples()
    }


def test_limit_reads_no_further(site: Any) -> None:
    assert ask(site, "billing", "SELECT * FROM billing", limit=3).num_rows == 3
    assert ask(site, "billing", "SELECT * FROM billing WHERE false", limit=3).num_rows == 0
