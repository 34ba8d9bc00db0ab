"""`callward case`: whom a person of support may look at, and why."""

from typing import Annotated

import typer

from pipelines.cli.command import command
from pipelines.cli.options import Changing, Reading
from pipelines.results import Result

app = typer.Typer(no_args_is_help=True, help="Cases: which account support may look at, and for what purpose.")

CaseId = Annotated[str, typer.Argument(metavar="CASE", help="The case's id, as your desk numbers its cases.")]


@command(
    app, "callward case open T-42 --account acct-0001 --purpose quality_complaint --reason 'dropped calls'", name="open"
)
def open_case(
    case_id: CaseId,
    account: Annotated[str, typer.Option("--account", help="The one account that it is of.")],
    purpose: Annotated[str, typer.Option("--purpose", help="What its data is looked at for.")],
    reason: Annotated[str, typer.Option("--reason", help="Why it is opened; recorded.")],
    options: Changing,
    tenant: Annotated[str, typer.Option("--tenant", help="Whose account it is.")] = "default",
    unlisted: Annotated[bool, typer.Option("--unlisted", help="The account need not be in the settings.")] = False,
) -> Result:
    """Open a case of one account: role support sees that account by it, and no other."""
    from callward.access.cases import Case
    from pipelines.reports import case as report

    case = Case(case_id, tenant, account, purpose, reason)
    return report.opened(options.settings(), case, unlisted=unlisted, dry_run=options.dry_run)


@command(app, "callward case close T-42")
def close(case_id: CaseId, options: Changing) -> Result:
    """Close a case: nobody sees anything by it any more."""
    from pipelines.reports import case as report

    return report.closed(options.settings(), case_id, dry_run=options.dry_run)


@command(app, "callward case list --closed", name="list")
def list_cases(
    options: Reading,
    closed: Annotated[bool, typer.Option("--closed", help="Those that are closed as well.")] = False,
) -> Result:
    """Cases that are open, the oldest first."""
    from pipelines.reports import case as report

    return report.listed(options.settings(), closed=closed)
