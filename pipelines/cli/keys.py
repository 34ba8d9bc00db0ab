"""`callward keys`: roots, epochs, exports of the register, copies in escrow, and who may approve."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.command import command
from pipelines.cli.options import Changing, DryRun, Printed, Reading
from pipelines.results import Result

app = typer.Typer(no_args_is_help=True, help="Keys: roots and their epochs, exports of the register, approvers.")
copy_app = typer.Typer(no_args_is_help=True, help="Copies of roots that lie elsewhere: where, and that one is gone.")
approver_app = typer.Typer(no_args_is_help=True, help="Persons whose signature approves policies, purges and releases.")
app.add_typer(copy_app, name="copy")
app.add_typer(approver_app, name="approver")

KeyDomain = Annotated[str, typer.Option("--domain", help="Whose root, such as billing.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; recorded in the audit log.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Lower-case letters, digits, dots, dashes: first.person")]


@command(app, "callward keys list", name="list")
def list_keys(options: Reading) -> Result:
    """Month keys by key domain and state, epochs of the roots, copies of roots. Opens no key."""
    from pipelines.reports import keys as report

    return report.list_keys(options.settings())


@command(app, "callward keys rotate --domain billing --reason 'the operator left'")
def rotate(domain: KeyDomain, options: Changing, reason: Reason = "rotation") -> Result:
    """Give a key domain a new root and destroy the old one; no data file is touched. Ends with a register export.

    Exit code 3 when a copy of the old root lies somewhere, for a person to destroy.
    """
    from pipelines.reports import keys as report

    settings = options.settings()
    if options.dry_run:
        return report.plan_rotation(settings, domain)
    return report.rotate(settings, domain, reason)


@command(app, "callward keys export --reason 'before the move'")
def export(options: Changing, reason: Reason = "asked for") -> Result:
    """Write a signed export of the key register beside the lake, and to keys.export_to."""
    from pipelines.reports import keys as report

    return report.export(options.settings(), reason, dry_run=options.dry_run)


@command(app, "callward keys restore --export register/export-1204.json")
def restore(
    file: Annotated[Path, typer.Option("--export", help="The newest register export.")], options: Changing
) -> Result:
    """Put the register of an export into an older database; exit code 3 when something is still missing."""
    from pipelines.reports import keys as report

    return report.restore(options.settings(), file, dry_run=options.dry_run)


# -- copies of roots ---------------------------------------------------------------------------------------------------


@command(copy_app, "callward keys copy add --domain billing --place 'safe 2, Denver'", name="add")
def copy_add(
    domain: KeyDomain,
    place: Annotated[str, typer.Option("--place", help="Where it lies, such as 'safe 2, Denver'.")],
    options: Changing,
) -> Result:
    """Record where a copy of a key domain's present root lies."""
    from pipelines.reports import keys as report

    return report.add_copy(options.settings(), domain, place, dry_run=options.dry_run)


@command(copy_app, "callward keys copy confirm 3", name="confirm")
def copy_confirm(
    copy_no: Annotated[int, typer.Argument(metavar="COPY_NO", help="As 'keys list' prints it.")], options: Changing
) -> Result:
    """Record that a copy of a root was destroyed where it lay."""
    from pipelines.reports import keys as report

    return report.confirm_copy(options.settings(), copy_no, dry_run=options.dry_run)


# -- approvers ---------------------------------------------------------------------------------------------------------


@command(approver_app, "callward keys approver new ada --out ada.sign", name="new")
def approver_new(
    name: Name,
    out: Annotated[Path, typer.Option("--out", help="A new file, which nobody else may read.")],
    options: Printed,
    dry_run: DryRun = False,
) -> Result:
    """Make a person's own key file, and print its public half for the custodian. Needs no workspace."""
    from pipelines.reports import keys as report

    return report.make_key_file(name, out, dry_run=dry_run)


@command(approver_app, "callward keys approver add ada --public 5f0c...", name="add")
def approver_add(
    name: Name,
    public: Annotated[str, typer.Option("--public", help="The public half, 64 hex digits.")],
    options: Changing,
) -> Result:
    """Register a person, signed with the custodian's key."""
    from pipelines.reports import keys as report

    return report.add_approver(options.settings(), name, public, dry_run=options.dry_run)


@command(approver_app, "callward keys approver revoke ada", name="revoke")
def approver_revoke(name: Name, options: Changing) -> Result:
    """End a person's right to approve. What was decided with it stays decided."""
    from pipelines.reports import keys as report

    return report.revoke_approver(options.settings(), name, dry_run=options.dry_run)


@command(approver_app, "callward keys approver list", name="list")
def approver_list(options: Reading) -> Result:
    """Every person, also those who were revoked, and whether the custodian's signature holds."""
    from pipelines.reports import keys as report

    return report.list_approvers(options.settings())
