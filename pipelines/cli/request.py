"""`callward request`: requests of persons about their data."""

import sys
import unicodedata
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from callward import database
from callward.errors import UsageProblem
from pipelines.cli.command import command
from pipelines.cli.options import AS_GIVEN, Changing, Reading
from pipelines.results import Result

app = typer.Typer(no_args_is_help=True, help="Requests of persons: access, correct, erase, restrict, export.")


def sealed_words(value: str) -> str:
    """Return words that are kept sealed, and so may hold a number, without space around them."""
    return unicodedata.normalize("NFKC", value).strip()


Tenant = Annotated[str, typer.Option("--tenant", help="Whose records the person asks about.")]
Identity = Annotated[
    str,
    typer.Option(
        "--identity",
        callback=sealed_words,
        help="How the identity was verified; without it the request is only recorded.",
    ),
    AS_GIVEN,
]
Person = Annotated[str, typer.Option("--person", help="Who handles it: a registered person.")]
Key = Annotated[Path, typer.Option("--key", help="That person's key file.")]
RequestId = Annotated[
    str, typer.Argument(metavar="REQUEST", help="The request's id, as 'request list' prints it."), AS_GIVEN
]
To = Annotated[Path | None, typer.Option("--to", help="Where the answer goes: a new file (export: a new folder).")]
Note = Annotated[
    str, typer.Option("--note", callback=sealed_words, help="Why; kept sealed with the request."), AS_GIVEN
]


@dataclass(frozen=True, kw_only=True)
class Whom:
    """Options that say whom a request is about: a number, or an account."""

    number: Annotated[
        str | None, typer.Option("--number", help="The person's number; it stays in your shell's history."), AS_GIVEN
    ] = None
    number_file: Annotated[
        str | None,
        typer.Option("--number-file", help="A file with the number alone; - reads standard input."),
        AS_GIVEN,
    ] = None
    account: Annotated[str | None, typer.Option("--account", help="The person's account.")] = None
    country: Annotated[
        str | None, typer.Option("--country", help="ISO country that the number is written in; default: the sources'.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """Options that say how and when a request came in."""

    identity: Identity = ""
    regime: Annotated[
        str | None, typer.Option("--regime", help="pipeda, us or gdpr; default: the tenant's setting.")
    ] = None
    received: Annotated[
        str | None, typer.Option("--received", metavar="DATE", help="When it came in (UTC); default: today."), AS_GIVEN
    ] = None


@dataclass(frozen=True, kw_only=True)
class Handling:
    """Who handles a request."""

    person: Person
    key: Key


@command(app, "callward request access --tenant default --account acct-0001 --person ada --key ada.sign --to a.json")
def access(
    tenant: Tenant, whom: Whom, receipt: Receipt, handling: Handling, options: Changing, to: To = None
) -> Result:
    """What is held of a person, what for and until when, and the calls: one JSON file that only you can read."""
    return _ask("access", tenant, whom, receipt, (handling.person, handling.key, to), options)


@command(app, "callward request export --tenant default --account acct-0001 --person ada --key ada.sign --to answer")
def export(
    tenant: Tenant, whom: Whom, receipt: Receipt, handling: Handling, options: Changing, to: To = None
) -> Result:
    """The same in a portable form: a folder with answer.json and calls.csv."""
    return _ask("export", tenant, whom, receipt, (handling.person, handling.key, to), options)


@command(app, "callward request erase --tenant default --number-file - --person ada --key ada.sign")
def erase(
    whom: Whom,
    receipt: Receipt,
    options: Changing,
    person: Annotated[str | None, typer.Option("--person", help="Who handles it: a registered person.")] = None,
    key: Annotated[Path | None, typer.Option("--key", help="That person's key file.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Whose records the person asks about.")] = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="Go on with erasures that had to leave something; for cron.")
    ] = False,
) -> Result:
    """Take a person's rows out of both views, but for what the law requires or a hold keeps; ends in a certificate."""
    if finish:
        from pipelines import request as requests

        return requests.finish_erasures(options.settings(), _today(), dry_run=options.dry_run)
    if tenant is None or person is None or key is None:
        raise UsageProblem("erase needs --tenant, --person and --key (or --finish alone)")
    return _ask("erase", tenant, whom, receipt, (person, key, None), options)


@command(
    app,
    "callward request correct --tenant default --account acct-0001 --set account=acct-0002 --person ada --key ada.sign",
)
def correct(
    tenant: Tenant,
    whom: Whom,
    receipt: Receipt,
    handling: Handling,
    options: Changing,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="account=ID or direction=WORD; may be given again.")
    ] = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="First day of the calls (UTC)."), AS_GIVEN
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="DATE", help="Last day of the calls (UTC)."), AS_GIVEN
    ] = None,
    statement: Annotated[
        str | None,
        typer.Option("--statement-file", help="The person's statement of disagreement; - reads it."),
        AS_GIVEN,
    ] = None,
) -> Result:
    """Set the account or the direction of a person's calls; or keep a statement where nothing can be changed."""
    if whom.number_file == "-" and statement == "-":
        raise UsageProblem("standard input holds one of them: the number or the statement")
    wants: dict[str, Any] = _settings_of(change or [])
    wants |= {"from": _iso("--from", first), "to": _iso("--to", last)}
    if statement is not None:
        wants["statement"] = _read(statement)
    wants = {name: value for name, value in wants.items() if value is not None}
    return _ask("correct", tenant, whom, receipt, (handling.person, handling.key, None), options, wants)


@command(app, "callward request restrict --tenant default --account acct-0001 --person ada --key ada.sign")
def restrict(
    tenant: Tenant,
    whom: Whom,
    receipt: Receipt,
    handling: Handling,
    options: Changing,
    lift: Annotated[bool, typer.Option("--lift", help="End the restriction.")] = False,
) -> Result:
    """Keep a person's rows, but show them to nobody who asks with SQL."""
    wants = {"lift": True} if lift else {}
    return _ask("restrict", tenant, whom, receipt, (handling.person, handling.key, None), options, wants)


@command(app, "callward request list --all", name="list")
def list_requests(
    options: Reading,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only this tenant's.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Answered ones as well.")] = False,
) -> Result:
    """Requests that wait, with the days left, overdue ones first. Exit code 3 when one is overdue."""
    from pipelines.reports import request as report

    return report.list_requests(options.settings(), tenant, _today(), everything=everything)


@command(app, "callward request extend kqwmzhxrtbvdfy --note 'several years of calls' --person ada --key ada.sign")
def extend(
    request_id: RequestId,
    handling: Handling,
    note: Annotated[
        str,
        typer.Option("--note", callback=sealed_words, help="Why more time is needed; the person is told."),
        AS_GIVEN,
    ],
    options: Changing,
) -> Result:
    """Put an answer off once, as far as the law allows, before it is due."""
    from callward.retention.requests import register as request_register
    from pipelines.reports import request as report

    settings, who, today = options.settings(), (handling.person, handling.key), _today()
    request = request_register.extend(settings, request_id, *who, today, note, dry_run=options.dry_run)
    return report.report(request, today, dry_run=options.dry_run or None)


@command(app, "callward request appeal kqwmzhxrtbvdfy --person ada --key ada.sign")
def appeal(request_id: RequestId, handling: Handling, options: Changing, note: Note = "") -> Result:
    """Take an appeal against an answer; it is due 60 days from now."""
    from callward.retention.requests import register as request_register
    from pipelines.reports import request as report

    settings, who, today = options.settings(), (handling.person, handling.key), _today()
    request = request_register.appeal(settings, request_id, *who, today, note, dry_run=options.dry_run)
    return report.report(request, today, dry_run=options.dry_run or None)


@command(app, "callward request answer kqwmzhxrtbvdfy --identity 'papers seen' --person ada --key ada.sign")
def answer(
    request_id: RequestId,
    handling: Handling,
    options: Changing,
    identity: Identity = "",
    refuse: Annotated[str, typer.Option("--refuse", help="Refuse with this code, such as IDENTITY.")] = "",
    note: Note = "",
    to: To = None,
) -> Result:
    """Answer a request that waits: do what it asks, or refuse it."""
    from pipelines import request as requests

    return requests.answer(
        options.settings(),
        request_id,
        requests.Handler(handling.person, handling.key, to),
        _today(),
        identity=identity,
        refuse=refuse,
        note=note,
        dry_run=options.dry_run,
    )


def _ask(
    kind: str,
    tenant: str,
    whom: Whom,
    receipt: Receipt,
    handler: tuple[str, Path, Path | None],
    options: Changing,
    wants: dict[str, Any] | None = None,
) -> Result:
    from pipelines import request as requests

    settings = options.settings()
    number = whom.number if whom.number_file is None else _read(whom.number_file).strip()
    selected = requests.selector(settings, tenant, number, whom.account, whom.country)
    on = _iso("--received", receipt.received)
    asked = requests.NewRequest(
        tenant, kind, receipt.regime, receipt.identity, date.fromisoformat(on) if on else None, wants or {}
    )
    return requests.ask(settings, asked, selected, requests.Handler(*handler), _today(), dry_run=options.dry_run)


def _settings_of(written: list[str]) -> dict[str, str]:
    values = {}
    for item in written:
        name, separator, value = item.partition("=")
        if not separator or name not in ("account", "direction") or not value:
            raise UsageProblem("--set takes account=ID or direction=WORD; numbers, times and amounts stay as recorded")
        values[name] = value
    return values


def _iso(option: str, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise UsageProblem(f"{option} takes a date such as 2026-03-31") from None


def _read(name: str) -> str:
    """Return text from a file or standard input."""
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageProblem(f"the file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageProblem("the file is not UTF-8 text") from None


def _today() -> date:
    return database.now().date()
