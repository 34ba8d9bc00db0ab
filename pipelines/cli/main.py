"""The command line.

Exit codes: 0 done, 1 failed (nothing or not all committed), 2 wrong usage, 3 done but a person must look.
"""

import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from pipelines.engine import process

process.prepare()  # before the large libraries are imported
# isort: split
from callward.settings import Settings, Tenant, load  # noqa: E402
from pipelines import terminal  # noqa: E402
from pipelines.cli import hold, keys, lake, policy, purge, receive, release, request, stream, tenant, verify  # noqa: E402
from pipelines.cli.command import fail, wants_json  # noqa: E402
from pipelines.cli.options import AsJson, Config, DryRun  # noqa: E402

app = typer.Typer(
    name="callward",
    help="CPNI-compliant pipeline for call-detail records: encrypted views, a balanced ledger, proof.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Codes = Annotated[
    list[str] | None, typer.Option("--code", help="Only records with this suspense code; may be given again.")
]


def main() -> None:
    """Entry point. Leaves at once: taking the interpreter apart would look at every object for half a second."""
    code = run()
    logging.shutdown()
    os._exit(code)


def run() -> int:
    """One command, to its exit code: every error is one sentence, never a traceback."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(message)s")
    logging.getLogger().addFilter(lambda record: "apitools" not in record.getMessage())
    warnings.filterwarnings("ignore")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        return _command()
    except Exception as error:
        return fail(error, wants_json(sys.argv[1:]))


def _command() -> int:
    try:
        code = app(standalone_mode=False, prog_name="callward") or 0  # an Exit comes back as its code
    except typer.Exit as done:
        code = done.exit_code
    sys.stdout.flush()
    return int(code)


def _interrupt(*_: object) -> None:
    """Ctrl-C or SIGTERM: stop here and now, as a kill would, which changes nothing that was committed.

    An exception would be lost where Python swallows one (in a finalizer), and workers are threads in the middle of a
    block. Written by hand, as the interruption may have come in the middle of a print.
    """
    cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a spinner had hidden it
    sentence = "callward: interrupted; what was committed stays, and running again goes on from there\n"
    os.write(2, (cursor + sentence).encode())
    os._exit(1)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is new or empty.")],
    demo: Annotated[
        bool, typer.Option("--demo", help="With the demo's sources, tenant policy, trunks and accounts.")
    ] = False,
    keys_of: Annotated[
        Path | None,
        typer.Option(
            "--keys-of",
            metavar="OTHER",
            help="With copies of the keys of another workspace, and its tenants and sources, to compare the two with "
            "'callward verify'. For tests and pilots: what OTHER destroys later still opens here.",
        ),
    ] = None,
    month: Annotated[
        list[str] | None,
        typer.Option(
            "--month",
            metavar="YYYY-MM",
            help="With --keys-of: a month to have equal ids in both; may be given again. Default: those that OTHER has "
            "keys for, last month, this one and the next.",
        ),
    ] = None,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Bring an existing workspace's database and folders to this version.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make a workspace: callward.toml, landing folders, key roots, database."""
    from callward import initiate
    from pipelines.demo import demo_settings

    if upgrade:
        made, next_steps = load(folder), ["callward doctor"]
        if not dry_run:
            initiate.upgrade(made)
    else:
        other = load(keys_of) if keys_of else None
        if demo:
            settings = demo_settings(folder)
        elif other:
            settings = initiate.like(folder, other)
        else:
            settings = Settings(path=folder / "callward.toml", tenants={"default": Tenant()})
        months = initiate.checked_months(month or [], other)
        made = initiate.init(folder, settings, other, months=months, dry_run=dry_run)
        next_steps = initiate.next_steps(made)
    if as_json:
        terminal.document({"settings": str(made.path), "dry_run": dry_run, "next": next_steps})
        return
    done = "would be" if dry_run else "is"
    terminal.show(
        f"{made.path}: {f'its database {done} at this version' if upgrade else f'a workspace {done} made'}; next:"
    )
    terminal.show(*(f"  {number}. {step}" for number, step in enumerate(next_steps, 1)))


@app.command()
def nightly(
    source: Annotated[list[str] | None, typer.Option("--source", help="Only this source; may be given again.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print what the sources' declarations map and drop, and stop.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Take in every complete file of the landing folders, and commit it."""
    from pipelines import nightly as night
    from pipelines.reports import night as night_report

    settings = load(config)
    if explain:
        terminal.out(night_report.explained(settings, source or []), as_json)
        return
    if dry_run:
        terminal.out(night_report.arrived(settings, source or []), as_json)
        return
    with terminal.progress(as_json) as progress:
        done = night.nightly(settings, source or [], progress=progress)
    if as_json:
        terminal.document(done.document())
    else:
        terminal.show(*night_report.of_night(settings, done))
    if done.must_look:
        raise typer.Exit(3)


@app.command()
def doctor(as_json: AsJson = False, config: Config = None) -> None:
    """Say what is missing or wrong, and how to mend it; exit code 3 when something is."""
    from pipelines.doctor import checks as doctors

    found = doctors.examine(config)
    if as_json:
        terminal.document(doctors.documents(found))
    else:
        terminal.show(*doctors.told(found))
    if any(finding.bad for finding in found):
        raise typer.Exit(3)


@app.command()
def sql(
    statement: Annotated[
        str, typer.Argument(metavar="SELECT", help="One SELECT statement; - reads it from standard input.")
    ],
    role: Annotated[str, typer.Option("--role", help="billing, assurance or compliance: each sees its own tables.")],
    purpose: Annotated[str, typer.Option("--purpose", help="Why numbers are needed; recorded.")] = "",
    case: Annotated[str, typer.Option("--case", help="The case that numbers are needed for; recorded.")] = "",
    form: Annotated[str, typer.Option("--format", help="table, csv, json, parquet or arrow.")] = "table",
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Query a view and its derived tables as a role. SHOW TABLES and DESCRIBE say what there is."""
    from callward import query
    from pipelines.reports import query_result

    form = "json" if as_json else form
    query_result.check_form(form)
    settings = load(config)
    text = sys.stdin.read() if statement == "-" else statement
    with query.asking(settings, role, text, purpose=purpose, case=case) as rows:
        query_result.write(rows, form)


app.add_typer(policy.app, name="policy")
app.add_typer(hold.app, name="hold")
app.add_typer(keys.app, name="keys")
app.add_typer(purge.app, name="purge")
app.add_typer(release.app, name="release")
app.add_typer(stream.app, name="stream")
app.add_typer(request.app, name="request")
app.add_typer(tenant.app, name="tenant")
receive.attach(app)
app.command()(verify.verify)
app.command()(lake.compact)
suspense_app = typer.Typer(no_args_is_help=True, help="Records that were set aside: list them, or show some of a file.")
app.add_typer(suspense_app, name="suspense")


@suspense_app.command("list")
def suspense_list(
    code: Codes = None,
    source: Annotated[str | None, typer.Option("--source", help="Only of this source.")] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Open records by file and code, without content: no key is opened."""
    from pipelines import suspense

    terminal.out(suspense.listed(load(config), code or [], source), as_json, "In suspense")


@suspense_app.command("show")
def suspense_show(
    file_no: Annotated[int, typer.Argument(metavar="FILE_NO", help="The file's number, as 'suspense list' prints it.")],
    reason: Annotated[str, typer.Option("--reason", help="Why you look; recorded in the audit log.")],
    code: Codes = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="So many records at most.")] = 20,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Records of one file with their content, in the clear: needs the suspense root and a reason."""
    from pipelines import suspense

    rows = suspense.shown(load(config), file_no, reason, limit, code or [])
    if as_json:
        terminal.document(rows)
    else:
        terminal.show(*suspense.told(rows))


@app.command()
def rebuild(
    check: Annotated[bool, typer.Option("--check", help="Compare only; exit code 3 when something differs.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Compute the derived tables once more from the lake, and put them in place of those that are there."""
    from pipelines import rebuild as rebuilds

    rows = rebuilds.rebuild(
        load(config), write=not check and not dry_run, reason="rebuild --check" if check else "rebuild"
    )
    terminal.out(rows, as_json)
    differ = sum(row["differ"] for row in rows)
    if not as_json:
        terminal.say(rebuilds.verdict(differ, check, dry_run))
    if check and differ:
        raise typer.Exit(3)


@app.command()
def sweep(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help="Default: the workspace, its database, your temporary files."),
    ] = None,
    numbers: Annotated[
        Path | None, typer.Option("--numbers", help="One number to a line; default: those in the lake.")
    ] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Read every byte, and look for numbers in the clear: exit code 1 when there is one, 3 when not all was read."""
    from pipelines import sweep as sweeps
    from pipelines.reports import sweep as sweep_report

    settings = load(config)
    with terminal.progress(as_json) as progress:
        swept = sweeps.sweep(settings, paths or [], numbers, progress)
    if as_json:
        terminal.document(swept.document())
    else:
        terminal.show(*sweep_report.told(swept))
    if swept.exit_code:
        raise typer.Exit(swept.exit_code)


audit_app = typer.Typer(no_args_is_help=True, help="The audit log: who opened which key, when and why.")
app.add_typer(audit_app, name="audit")


@audit_app.command("verify")
def audit_verify(as_json: AsJson = False, config: Config = None) -> None:
    """Check the chain of hashes from its first entry to its head, and the heads that every run has seen."""
    from callward import audit

    entries, head = audit.checked(load(config))
    if as_json:
        terminal.document({"entries": entries, "head": head})
    else:
        terminal.show(f"{terminal.count(entries, 'entry', 'entries')}, unbroken; head {head}")


@audit_app.command("list")
def audit_list(
    limit: Annotated[int, typer.Option("--limit", min=1, help="So many of the newest.")] = 20,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """The newest entries, oldest of them first."""
    from callward import audit

    rows = audit.newest(load(config), limit)
    terminal.out(rows if as_json else [audit.short(row) for row in rows], as_json)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is new or empty.")] = Path(
        "demo-workspace"
    ),
    samples: Annotated[
        Path | None, typer.Option("--samples", help="Run on published samples in this folder instead.")
    ] = None,
    calls: Annotated[int, typer.Option("--calls", min=100, help="About how many calls to make up.")] = 100_000,
    seed: Annotated[int, typer.Option("--seed", help="Another seed makes other calls.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Make a workspace with made-up feeds, run two nights, and show what each person gets."""
    from pipelines import demo as demos

    progress = (lambda line: None) if as_json else terminal.say  # no spinner: it would mix with what is shown
    if samples is not None:
        code = demos.show_samples(demos.samples(folder, samples, progress=progress), as_json)
    else:
        steps = demos.demo(folder, calls=calls, seed=seed, as_json=as_json, progress=progress)
        code = demos.show_steps(steps, folder, as_json)
    if code:
        raise typer.Exit(code)


@app.command()
def recycle(
    code: Annotated[
        list[str] | None, typer.Option("--code", help="Only this suspense code; may be given again.")
    ] = None,
    source: Annotated[list[str] | None, typer.Option("--source", help="Only this source; may be given again.")] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Put suspended records through again, after what was wrong has been mended."""
    from pipelines.recycle import recycle as put_through

    done = put_through(load(config), code or [], source or [], dry_run=dry_run)
    if as_json:
        terminal.document(done)
    elif dry_run or not done["taken"]:
        terminal.show(
            f"{done['taken']:,} records would be put through again" if done["taken"] else "nothing to put through again"
        )
    else:
        moves = (
            ", ".join(f"{bucket} {change:+,}" for bucket, change in done["buckets"].items())
            or "nothing moved: they are suspended as before"
        )
        terminal.show(f"{done['taken']:,} records put through again: {moves}; balanced")


if __name__ == "__main__":
    main()
