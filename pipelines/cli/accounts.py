"""`callward accounts`: who pays for calls, by number, code, trunk or context, and since when."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.command import command
from pipelines.cli.options import AS_GIVEN, Changing, Consenting, Limit, Reading
from pipelines.results import Result, Rows

app = typer.Typer(no_args_is_help=True, help="The account directory: who pays for which calls, and since when.")

File = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="CSV or JSON (.json, .jsonl): docs/accounts.md has its columns."),
    AS_GIVEN,
]
OfTenant = Annotated[str | None, typer.Option("--tenant", help="Only this tenant.")]
From = Annotated[
    datetime | None,
    typer.Option(
        "--from", formats=["%Y-%m-%d"], help="The file says who has what from that day on; before, nothing changes."
    ),
]


@command(app, "callward accounts import numbers.csv --from 2026-04-01 --dry-run", name="import")
def import_file(
    file: File,
    options: Changing,
    second: Consenting,
    tenant: Annotated[str, typer.Option("--tenant", help="The tenant of rows that name none.")] = "default",
    start: From = None,
    add: Annotated[
        bool, typer.Option("--add", help="The file is not the whole directory: what it does not name stays as it is.")
    ] = False,
    country: Annotated[
        str, typer.Option("--country", help="ISO country in whose way numbers are written that are not E.164.")
    ] = "US",
) -> Result:
    """Import accounts: the file is the whole directory, unless --from or --add say otherwise. All of it, or nothing."""
    from pipelines import accounts

    day = start.date() if start else None
    return accounts.import_file(
        options.settings(),
        file,
        tenant,
        country=country,
        start=day,
        add=add,
        dry_run=options.dry_run,
        consent=second.consent(),
    )


@command(app, "callward accounts list --limit 10", name="list")
def list_accounts(
    options: Reading,
    tenant: OfTenant = None,
    account: Annotated[str | None, typer.Option("--account", help="Only this account.")] = None,
    limit: Limit = 50,
) -> Result:
    """Accounts and how many numbers, codes, trunks and contexts lead to each: no number is shown."""
    from pipelines import accounts

    return Rows(accounts.listed(options.settings(), tenant, account, limit), "Accounts")


@command(app, "callward accounts lint --json")
def lint(options: Reading, tenant: OfTenant = None) -> Result:
    """Ties, overlaps, gaps, and what leads nowhere; exit code 3 where there is any."""
    from pipelines import accounts

    return accounts.lint_directories(options.settings(), tenant)


@command(app, "callward accounts history acct-0001")
def history(
    options: Reading,
    account: Annotated[
        str | None, typer.Argument(metavar="[ACCOUNT]", help="What this account had when; else every import.")
    ] = None,
    tenant: OfTenant = None,
) -> Result:
    """Every import of a directory: who, when, and what changed; or what one account had since when."""
    from pipelines import accounts

    if account is not None:
        return Rows(accounts.history_of(options.settings(), account, tenant), f"Account {account}")
    return Rows(accounts.history(options.settings(), tenant), "Imports")


Since = Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="Only calls from that date on.")]
Until = Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Only calls up to that date.")]


@command(app, "callward accounts unassigned --from 2026-03-01 --json")
def unassigned(options: Reading, tenant: OfTenant = None, start: Since = None, end: Until = None) -> Result:
    """Billed calls of no account, by direction, trunk and the masked shape of the number that would tell whose."""
    from pipelines import assigning

    days = (day.date() if day else None for day in (start, end))
    return Rows(assigning.listed(options.settings(), tenant, *days), "Unassigned calls")


@command(app, "callward accounts assign --dry-run")
def assign(
    options: Changing, second: Consenting, tenant: OfTenant = None, start: Since = None, end: Until = None
) -> Result:
    """Give billed calls of no account theirs, by the directory as it is now; usage follows."""
    from pipelines import assigning

    days = (day.date() if day else None for day in (start, end))
    return assigning.assign(options.settings(), tenant, *days, dry_run=options.dry_run, consent=second.consent())
