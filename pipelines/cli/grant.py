"""`callward grant`: the rights of a role, given to a user of the database."""

from typing import Annotated

import typer

from pipelines.cli.command import command
from pipelines.cli.options import AS_GIVEN, Changing
from pipelines.results import Result

app = typer.Typer()


@command(app, "callward grant billing ada_of_billing")
def grant(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="billing, assurance, compliance, analytics or support.")],
    user: Annotated[str, typer.Argument(metavar="USER", help="A user of the PostgreSQL server."), AS_GIVEN],
    options: Changing,
    revoke: Annotated[bool, typer.Option("--revoke", help="Take the role's rights away again.")] = False,
) -> Result:
    """Give a user of PostgreSQL what a role reads and writes in the database, and nothing else.

    Run it as the user who owns the database. SQLite has no users.
    """
    from pipelines.reports import grant as report

    return report.change(options.settings(), role, user, revoke=revoke, dry_run=options.dry_run)
