"""`callward suspense`, `callward recycle`: records that were set aside, and those put through again."""

from pathlib import Path
from typing import Annotated

import typer

from callward import database
from pipelines.cli.command import command
from pipelines.cli.options import (
    Approver,
    Changing,
    Codes,
    FileNames,
    Files,
    Limit,
    Reading,
    RecipientKey,
    Sources,
    key_text,
)
from pipelines.results import Result

app = typer.Typer(no_args_is_help=True, help="Records that were set aside: list them, or show some of a file.")
recycle_app = typer.Typer()


@command(app, "callward suspense list --code ACCOUNT --days", name="list")
def list_suspense(
    options: Reading,
    code: Codes = None,
    source: Sources = None,
    file: FileNames = None,
    files: Files = False,
    days: Annotated[bool, typer.Option("--days", help="By the day on which their files came, too.")] = False,
    first: Annotated[
        bool, typer.Option("--first", help="Say which record of its file the first is: needs the suspense root.")
    ] = False,
) -> Result:
    """Open records by source and code, without content: no key is opened."""
    from pipelines.reports.suspense import SuspenseList
    from pipelines.suspense.records import list_open, with_first

    settings = options.settings()
    records = list_open(settings, code or [], source or [], file or [])
    return SuspenseList(with_first(settings, records) if first else records, files, days)


@command(app, "callward suspense show 17 --reason 'a new switch release' --limit 5", name="show")
def show_suspense(
    file_no: Annotated[int, typer.Argument(metavar="FILE_NO", help="The file's number, as 'suspense list' prints it.")],
    reason: Annotated[str, typer.Option("--reason", help="Why you look; recorded in the audit log.")],
    options: Reading,
    code: Codes = None,
    limit: Limit = 20,
) -> Result:
    """Records of one file with their content, in the clear: needs the suspense root and a reason."""
    from pipelines.reports.suspense import SuspenseContent
    from pipelines.suspense.records import open_content

    return SuspenseContent(open_content(options.settings(), file_no, reason, limit, code or []))


@command(app, "callward suspense file kqwmzhxrtb --reason 'it was left alone'", name="file")
def find_file(
    file_id: Annotated[str, typer.Argument(metavar="FILE_ID", help="The id beside a masked name.")],
    reason: Annotated[str, typer.Option("--reason", help="Why you ask; recorded in the audit log.")],
    options: Reading,
) -> Result:
    """The file of an id, by its name in the clear: needs the archive root and a reason."""
    from pipelines.reports.suspense import FilesFound
    from pipelines.suspense.records import find_files

    return FilesFound(find_files(options.settings(), file_id, reason))


@command(app, "callward suspense choose 17 --dry-run", name="choose")
def choose_versions(
    file_no: Annotated[int, typer.Argument(metavar="FILE_NO", help="The file whose versions count, by its number.")],
    options: Changing,
    record: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Only the record of that number in the file, as 'suspense show' has it (repeatable)."),
    ] = None,
) -> Result:
    """Bill held records as a file has them; their other versions stay in suspense as CONFLICT."""
    from pipelines.reports.suspense import ChoiceReport
    from pipelines.suspense.choose import choose

    return ChoiceReport(choose(options.settings(), file_no, record or (), dry_run=options.dry_run))


@command(app, "callward suspense close --code TORN --reason 'the switch lost power' --dry-run", name="close")
def close_records(
    reason: Annotated[str, typer.Option("--reason", help="Why they are given up; recorded in the audit log.")],
    options: Changing,
    code: Codes = None,
    source: Sources = None,
    file: FileNames = None,
) -> Result:
    """Write suspended records off: they stay counted as written off, with who gave them up and why."""
    from pipelines.reports.suspense import ClosingReport
    from pipelines.suspense.close import close

    named = [code or [], source or [], file or []]
    return ClosingReport(close(options.settings(), reason, *named, dry_run=options.dry_run))


@command(
    app,
    "callward suspense export west --code TIME --recipient vendor.pem --to for-vendor --reason 'ticket 7' --person ada "
    "--key ada.sign",
    name="export",
)
def export_records(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Whose records, as callward.toml names the tenant.")],
    recipient: RecipientKey,
    to: Annotated[Path, typer.Option("--to", help="A new folder for it.")],
    reason: Annotated[str, typer.Option("--reason", help="Why they are handed over; recorded in the audit log.")],
    approver: Approver,
    options: Changing,
    code: Codes = None,
    source: Sources = None,
    file: FileNames = None,
) -> Result:
    """Suspended records with their content, sealed for the recipient's key; a registered person answers for it."""
    from pipelines.reports.suspense import ExportReport
    from pipelines.suspense.export import Recipient, export

    exported = export(
        options.settings(),
        tenant,
        Recipient(key_text(recipient), to, reason),
        approver.person,
        approver.key,
        database.now().date(),
        codes=code or [],
        only=source or [],
        named=file or [],
        dry_run=options.dry_run,
    )
    return ExportReport(exported)


@command(recycle_app, "callward recycle --code ACCOUNT --dry-run")
def recycle(
    options: Changing, code: Codes = None, source: Sources = None, file: FileNames = None, files: Files = False
) -> Result:
    """Put suspended records through again, after what was wrong has been fixed; FILE: all of files set aside whole."""
    from pipelines.reports.suspense import RecycleReport
    from pipelines.suspense import recycle as recycling

    named = [code or [], source or [], file or []]
    return RecycleReport(recycling.recycle(options.settings(), *named, dry_run=options.dry_run), files)
