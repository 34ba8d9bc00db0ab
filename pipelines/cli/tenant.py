"""`callward tenant`: hand a tenant's data back, and close it."""

from pathlib import Path
from typing import Annotated

import typer

from callward import database
from pipelines.cli.command import command
from pipelines.cli.options import Approver, Changing, DryRun, Printed, RecipientKey, key_text
from pipelines.results import Result

app = typer.Typer(no_args_is_help=True, help="Tenants that leave: hand their data back, then destroy it.")

Name = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant, as callward.toml names it.")]


@command(
    app,
    "callward tenant return west --recipient west-public.pem --to west-2026 --person ada --key ada.sign",
    name="return",
)
def return_data(
    tenant: Name,
    recipient: RecipientKey,
    to: Annotated[Path, typer.Option("--to", help="A new folder for it.")],
    approver: Approver,
    options: Changing,
) -> Result:
    """Everything of a tenant in a folder, sealed for the recipient's key, with a signed manifest."""
    from pipelines import tenant as tenants

    today, text = database.now().date(), key_text(recipient)
    who = (approver.person, approver.key)
    return tenants.return_data(options.settings(), tenant, text, to, *who, today, dry_run=options.dry_run)


@command(app, "callward tenant open west-2026 --private-key west.pem --to clear", name="open")
def open_returned(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What was handed over.")],
    private: Annotated[Path, typer.Option("--private-key", help="Your X25519 private key, a PEM file.")],
    to: Annotated[Path, typer.Option("--to", help="A new folder for the files in the clear.")],
    options: Printed,
    signer: Annotated[
        str, typer.Option("--signer", help="Public key (hex) of who must have signed; default: the manifest's own.")
    ] = "",
    dry_run: DryRun = False,
) -> Result:
    """For the recipient: check what was handed over and decrypt it. Needs no workspace."""
    from pipelines import tenant as tenants

    return tenants.open_returned(folder, private, to, signer, dry_run=dry_run)


@command(app, "callward tenant close west --keep-floors --person ada --key ada.sign")
def close(
    tenant: Name,
    approver: Approver,
    options: Changing,
    keep_floors: Annotated[
        bool, typer.Option("--keep-floors", help="Keep exactly what the law requires, and destroy the rest.")
    ] = False,
) -> Result:
    """Destroy what is left of a tenant; two persons each say so with this command. Exit code 3 until the second has."""
    from pipelines import tenant as tenants

    today, who = database.now().date(), (approver.person, approver.key)
    settings, dry_run = options.settings(), options.dry_run
    return tenants.close(settings, tenant, *who, today, keep_floors=keep_floors, dry_run=dry_run)
