"""tenant: hand a tenant's data back, and close it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from callward import database
from callward.errors import UsageProblem
from callward.settings import load
from pipelines import terminal
from pipelines.cli.options import AsJson, Config, DryRun

app = typer.Typer(no_args_is_help=True, help="Tenants that leave: hand their data back, then destroy it.")

Name = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant, as callward.toml names it.")]
Person = Annotated[str, typer.Option("--person", help="Who answers for it: a registered person.")]
Key = Annotated[Path, typer.Option("--key", help="That person's key file.")]


@app.command("return")
def give_back(
    tenant: Name,
    recipient: Annotated[
        str, typer.Option("--recipient", help="The recipient's X25519 public key: a PEM file, or 64 hex digits.")
    ],
    to: Annotated[Path, typer.Option("--to", help="A new folder for it.")],
    person: Person,
    key: Key,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Everything of a tenant in a folder, sealed for the recipient's key, with a signed manifest."""
    from pipelines import tenant as tenants

    today = database.now().date()
    text = _key_text(recipient)
    _say(tenants.give_back(load(config), tenant, text, to, person, key, today, dry_run=dry_run), as_json)


@app.command("open")
def open_up(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What was handed over.")],
    private: Annotated[Path, typer.Option("--private-key", help="Your X25519 private key, a PEM file.")],
    to: Annotated[Path, typer.Option("--to", help="A new folder for the files in the clear.")],
    signer: Annotated[
        str, typer.Option("--signer", help="Public key (hex) of who must have signed; default: the manifest's own.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """For the recipient: check what was handed over and decrypt it. Needs no workspace."""
    from pipelines import tenant as tenants

    _say(tenants.open_up(folder, private, to, signer), as_json)


@app.command()
def close(
    tenant: Name,
    person: Person,
    key: Key,
    keep_floors: Annotated[
        bool, typer.Option("--keep-floors", help="Keep exactly what the law requires, and destroy the rest.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Destroy what is left of a tenant; two persons each say so with this command. Exit code 3 until the second has."""
    from pipelines import tenant as tenants

    today = database.now().date()
    done = tenants.close(load(config), tenant, person, key, today, keep_floors=keep_floors, dry_run=dry_run)
    _say(done, as_json)
    if done["status"].startswith("waits"):
        raise typer.Exit(3)


def _key_text(recipient: str) -> str:
    path = Path(recipient)
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else recipient
    except (OSError, UnicodeDecodeError):
        raise UsageProblem("--recipient: the file cannot be read as text") from None


def _say(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        terminal.document(told)
        return
    size = max(map(len, told))
    terminal.show(*(f"{name.ljust(size)}  {_plain(value)}" for name, value in told.items() if value not in (None, [])))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return "; ".join(str(_plain(item)) for item in value)
    return "yes" if value is True else "no" if value is False else value
