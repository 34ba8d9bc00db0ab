"""`callward purge calendar | verify | certificates`: evidence of retention. Sub-commands of `callward purge`."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.command import command
from pipelines.cli.options import AS_GIVEN, AsOf, Changing, Reading
from pipelines.results import Result

app = typer.Typer()
certificates_app = typer.Typer(no_args_is_help=True, help="Certificates of destruction: list, show, html.")
app.add_typer(certificates_app, name="certificates")

CertificateId = Annotated[str, typer.Argument(metavar="ID", help="As 'certificates list' shows it.")]


@command(app, "callward purge calendar --as-of 2027-01-31")
def calendar(options: Reading, as_of: AsOf = None) -> Result:
    """What is kept per tenant and class: the oldest record, the next expiry, rows due, holds, and what is overdue."""
    from pipelines.reports import evidence as report

    return report.calendar(options.settings(), as_of.date() if as_of else None)


@command(app, "callward purge verify kqwmzhxrtbvdfy")
def verify(
    certificate: Annotated[str, typer.Argument(metavar="CERT", help="A certificate's file, or its id."), AS_GIVEN],
    options: Reading,
    quick: Annotated[bool, typer.Option("--quick", help="Compare sizes of the data files, not their SHA-256.")] = False,
) -> Result:
    """Check a certificate, and look again at what it certifies: files absent, keys dead, counts footing. Or exit 1."""
    from pipelines.reports import evidence as report

    return report.verify(options.settings(), certificate, quick=quick)


@command(certificates_app, "callward purge certificates list", name="list")
def list_certificates(options: Reading) -> Result:
    """Every certificate, oldest first."""
    from pipelines.reports import evidence as report

    return report.list_certificates(options.settings())


@command(certificates_app, "callward purge certificates show kqwmzhxrtbvdfy --json")
def show(certificate: CertificateId, options: Reading) -> Result:
    """One certificate; with --json the signed document itself, byte for byte."""
    from pipelines.reports import evidence as report

    return report.show_certificate(options.settings(), certificate)


@command(certificates_app, "callward purge certificates html kqwmzhxrtbvdfy --to page.html")
def html(
    certificate: CertificateId,
    options: Changing,
    to: Annotated[Path | None, typer.Option("--to", help="A new file; else certificates/ID.html.")] = None,
) -> Result:
    """Write a certificate's page to print, and say where it lies."""
    from pipelines.reports import evidence as report

    return report.write_page(options.settings(), certificate, to, dry_run=options.dry_run)
