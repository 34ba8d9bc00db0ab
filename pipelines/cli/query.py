"""`callward sql`: one question to the lake and the database, as a role."""

import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from pipelines.cli.command import command
from pipelines.cli.options import AS_GIVEN, Reading

app = typer.Typer()


@dataclass(frozen=True, kw_only=True)
class Purpose:
    """Who asks, and why: numbers, and accounts of support, open for a purpose and a case only."""

    role: Annotated[str, typer.Option("--role", help="billing, assurance, compliance, analytics or support.")]
    purpose: Annotated[str, typer.Option("--purpose", help="Why numbers, or an account, are needed; recorded.")] = ""
    case: Annotated[str, typer.Option("--case", help="The case that they are needed for; recorded.")] = ""


@command(app, "callward sql --role billing --format csv 'SELECT * FROM billing_usage_daily'")
def sql(
    statement: Annotated[
        str, typer.Argument(metavar="SELECT", help="One SELECT statement; - reads it from standard input."), AS_GIVEN
    ],
    asked_by: Purpose,
    options: Reading,
    form: Annotated[str, typer.Option("--format", help="table, csv, json, parquet or arrow.")] = "table",
) -> None:
    """Query a view and its derived tables as a role. SHOW TABLES and DESCRIBE say what there is."""
    from callward import query
    from pipelines.reports import query_result

    form = "json" if options.as_json else form
    query_result.check_form(form)
    settings = options.settings()
    text = sys.stdin.read() if statement == "-" else statement
    with query.asking(settings, asked_by.role, text, purpose=asked_by.purpose, case=asked_by.case) as rows:
        query_result.write(rows, form)  # batch by batch: an answer may be larger than memory
