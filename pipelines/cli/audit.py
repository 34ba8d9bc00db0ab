"""`callward audit`: the log of who opened which key."""

import typer

from pipelines.cli.command import command
from pipelines.cli.options import Limit, Reading
from pipelines.results import Result

app = typer.Typer(no_args_is_help=True, help="The audit log: who opened which key, when and why.")


@command(app, "callward audit verify --json")
def verify(options: Reading) -> Result:
    """Check the chain of hashes from its first entry to its head, and the heads that every run has seen."""
    from callward import audit
    from pipelines.reports.audit import AuditChecked

    return AuditChecked(*audit.checked(options.settings()))


@command(app, "callward audit list --limit 100", name="list")
def list_entries(options: Reading, limit: Limit = 20) -> Result:
    """The newest entries, oldest of them first."""
    from callward import audit
    from pipelines.reports.audit import AuditEntries

    return AuditEntries(audit.newest(options.settings(), limit))
