"""`callward purge calendar | verify | certificates`: evidence of retention. Sub-commands of `callward purge`."""

from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer

from callward.settings import load
from pipelines import terminal
from pipelines.cli.options import AsJson, Config

certificates = typer.Typer(no_args_is_help=True, help="Certificates of destruction: list, show, html.")

CertificateId = Annotated[str, typer.Argument(metavar="ID", help="As 'certificates list' shows it.")]


def attach(app: typer.Typer) -> None:
    """Add these commands to the app of `callward purge`."""
    app.command()(calendar)
    app.command()(verify)
    app.add_typer(certificates, name="certificates")


def _today() -> date:
    from callward import database

    return database.now().date()


def calendar(
    as_of: Annotated[
        datetime | None, typer.Option("--as-of", formats=["%Y-%m-%d"], help="As it would be on that day (UTC).")
    ] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """What is kept per tenant and class: the oldest record, the next expiry, rows due, holds, and what is overdue."""
    from pipelines.reports import evidence as evidence_report

    evidence_report.show_calendar(load(config), _today(), as_of.date() if as_of else None, as_json)


def verify(
    certificate: Annotated[str, typer.Argument(metavar="CERT", help="A certificate's file, or its id.")],
    quick: Annotated[bool, typer.Option("--quick", help="Compare sizes of the data files, not their SHA-256.")] = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Check a certificate, and look again at what it certifies: files absent, keys dead, counts footing. Or exit 1."""
    from pipelines.reports import evidence as evidence_report

    if not evidence_report.show_verify(load(config), certificate, quick, as_json):
        raise typer.Exit(1)


@certificates.command("list")
def list_all(as_json: AsJson = False, config: Config = None) -> None:
    """Every certificate, oldest first."""
    from pipelines.reports import evidence as evidence_report

    evidence_report.show_certificates(load(config), as_json)


@certificates.command()
def show(certificate: CertificateId, as_json: AsJson = False, config: Config = None) -> None:
    """One certificate; with --json the signed document itself, byte for byte."""
    from pipelines.reports import evidence as evidence_report

    evidence_report.show_certificate(load(config), certificate, as_json)


@certificates.command()
def html(
    certificate: CertificateId,
    to: Annotated[Path | None, typer.Option("--to", help="A new file; else certificates/ID.html.")] = None,
    config: Config = None,
) -> None:
    """Write a certificate's page to print, and say where it lies."""
    from pipelines.reports import evidence as evidence_report

    terminal.show(evidence_report.write_page(load(config), certificate, to))
