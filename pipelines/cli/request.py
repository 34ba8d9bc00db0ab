"""request: requests of persons about their data."""

import sys
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from callward import database
from callward.errors import UsageProblem
from callward.settings import load
from pipelines import terminal
from pipelines.cli.options import AsJson, Config, DryRun

app = typer.Typer(no_args_is_help=True, help="Requests of persons: access, correct, erase, restrict, export.")

Tenant = Annotated[str, typer.Option("--tenant", help="Whose records the person asks about.")]
Number = Annotated[str | None, typer.Option("--number", help="The person's number; it stays in your shell's history.")]
NumberFile = Annotated[
    str | None, typer.Option("--number-file", help="A file with the number alone; - reads standard input.")
]
Account = Annotated[str | None, typer.Option("--account", help="The person's account.")]
Country = Annotated[
    str | None, typer.Option("--country", help="ISO country that the number is written in; default: the sources'.")
]
Identity = Annotated[
    str, typer.Option("--identity", help="How the identity was verified; without it the request is only recorded.")
]
Regime = Annotated[str | None, typer.Option("--regime", help="pipeda, us or gdpr; default: the tenant's setting.")]
Received = Annotated[
    str | None, typer.Option("--received", metavar="DATE", help="When it came in (UTC); default: today.")
]
Person = Annotated[str, typer.Option("--person", help="Who handles it: a registered person.")]
Key = Annotated[Path, typer.Option("--key", help="That person's key file.")]
RequestId = Annotated[str, typer.Argument(metavar="REQUEST", help="The request's id, as 'request list' prints it.")]
To = Annotated[Path | None, typer.Option("--to", help="Where the answer goes: a new file (export: a new folder).")]
Note = Annotated[str, typer.Option("--note", help="Why; kept sealed with the request.")]

_COLUMNS = ("request_id", "tenant", "kind", "status", "received", "due", "days_left", "verified", "answered", "refusal")


@app.command()
def access(
    tenant: Tenant,
    person: Person,
    key: Key,
    number: Number = None,
    number_file: NumberFile = None,
    account: Account = None,
    country: Country = None,
    identity: Identity = "",
    regime: Regime = None,
    received: Received = None,
    to: To = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """What is held of a person, what for and until when, and the calls: one JSON file that only you can read."""
    whom = (number, number_file, account, country)
    _ask("access", tenant, whom, identity, regime, received, {}, (person, key, to), dry_run, as_json, config)


@app.command()
def export(
    tenant: Tenant,
    person: Person,
    key: Key,
    number: Number = None,
    number_file: NumberFile = None,
    account: Account = None,
    country: Country = None,
    identity: Identity = "",
    regime: Regime = None,
    received: Received = None,
    to: To = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """The same in a portable form: a folder with answer.json and calls.csv."""
    whom = (number, number_file, account, country)
    _ask("export", tenant, whom, identity, regime, received, {}, (person, key, to), dry_run, as_json, config)


@app.command()
def erase(
    person: Annotated[str | None, typer.Option("--person", help="Who handles it: a registered person.")] = None,
    key: Annotated[Path | None, typer.Option("--key", help="That person's key file.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Whose records the person asks about.")] = None,
    number: Number = None,
    number_file: NumberFile = None,
    account: Account = None,
    country: Country = None,
    identity: Identity = "",
    regime: Regime = None,
    received: Received = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="Go on with erasures that had to leave something; for cron.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Take a person's rows out of both views, but for what the law requires or a hold keeps; ends in a certificate."""
    if finish:
        from pipelines import request as requests

        _say_all(requests.finish_erasures(load(config), _today()), as_json)
        return
    if tenant is None or person is None or key is None:
        raise UsageProblem("erase needs --tenant, --person and --key (or --finish alone)")
    whom = (number, number_file, account, country)
    _ask("erase", tenant, whom, identity, regime, received, {}, (person, key, None), dry_run, as_json, config)


@app.command()
def correct(
    tenant: Tenant,
    person: Person,
    key: Key,
    number: Number = None,
    number_file: NumberFile = None,
    account: Account = None,
    country: Country = None,
    identity: Identity = "",
    regime: Regime = None,
    received: Received = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="account=ID or direction=WORD; may be given again.")
    ] = None,
    first: Annotated[str | None, typer.Option("--from", metavar="DATE", help="First day of the calls (UTC).")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DATE", help="Last day of the calls (UTC).")] = None,
    statement: Annotated[
        str | None, typer.Option("--statement-file", help="The person's statement of disagreement; - reads it.")
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Set the account or the direction of a person's calls; or keep a statement where nothing can be changed."""
    if number_file == "-" and statement == "-":
        raise UsageProblem("standard input holds one of them: the number or the statement")
    wants: dict[str, Any] = _settings_of(change or [])
    wants |= {"from": _iso("--from", first), "to": _iso("--to", last)}
    if statement is not None:
        wants["statement"] = _read(statement)
    wants = {name: value for name, value in wants.items() if value is not None}
    whom = (number, number_file, account, country)
    _ask("correct", tenant, whom, identity, regime, received, wants, (person, key, None), dry_run, as_json, config)


@app.command()
def restrict(
    tenant: Tenant,
    person: Person,
    key: Key,
    number: Number = None,
    number_file: NumberFile = None,
    account: Account = None,
    country: Country = None,
    identity: Identity = "",
    regime: Regime = None,
    received: Received = None,
    lift: Annotated[bool, typer.Option("--lift", help="End the restriction.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Keep a person's rows, but show them to nobody who asks with SQL."""
    wants = {"lift": True} if lift else {}
    whom = (number, number_file, account, country)
    _ask("restrict", tenant, whom, identity, regime, received, wants, (person, key, None), dry_run, as_json, config)


@app.command("list")
def listing(
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only this tenant's.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Answered ones as well.")] = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Requests that wait, with the days left, overdue ones first. Exit code 3 when one is overdue."""
    from callward.retention.requests import register as request_register

    found = request_register.listed(load(config), tenant=tenant, everything=everything)
    rows = [request.document(_today()) for request in found]
    if as_json:
        terminal.document(rows)
    else:
        terminal.show(terminal.records(rows, _COLUMNS) if rows else "requests: none")
    if any((row["days_left"] or 0) < 0 for row in rows):
        raise typer.Exit(3)


@app.command()
def extend(
    request_id: RequestId,
    person: Person,
    key: Key,
    note: Annotated[str, typer.Option("--note", help="Why more time is needed; the person is told.")],
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Put an answer off once, as far as the law allows, before it is due."""
    from callward.retention.requests import register as request_register

    made = request_register.extend(load(config), request_id, person, key, _today(), note)
    _say(made.document(_today()), as_json)


@app.command()
def appeal(
    request_id: RequestId, person: Person, key: Key, note: Note = "", as_json: AsJson = False, config: Config = None
) -> None:
    """Take an appeal against an answer; it is due 60 days from now."""
    from callward.retention.requests import register as request_register

    made = request_register.appeal(load(config), request_id, person, key, _today(), note)
    _say(made.document(_today()), as_json)


@app.command()
def answer(
    request_id: RequestId,
    person: Person,
    key: Key,
    identity: Identity = "",
    refuse: Annotated[str, typer.Option("--refuse", help="Refuse with this code, such as IDENTITY.")] = "",
    note: Note = "",
    to: To = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Answer a request that waits: do what it asks, or refuse it."""
    from pipelines import request as requests

    settings, hand = load(config), requests.Handler(person, key, to)
    _say(requests.answer(settings, request_id, hand, _today(), identity=identity, refuse=refuse, note=note), as_json)


def _ask(
    kind: str,
    tenant: str,
    whom: tuple[str | None, str | None, str | None, str | None],
    identity: str,
    regime: str | None,
    received: str | None,
    wants: dict[str, Any],
    hand: tuple[str, Path, Path | None],
    dry_run: bool,
    as_json: bool,
    config: str | None,
) -> None:
    from pipelines import request as requests

    settings = load(config)
    number, number_file, account, country = whom
    if number_file is not None:
        number = _read(number_file).strip()
    selected = requests.selector(settings, tenant, number, account, country)
    on = _iso("--received", received)
    asked = requests.NewRequest(tenant, kind, regime, identity, date.fromisoformat(on) if on else None, wants)
    _say(requests.ask(settings, asked, selected, requests.Handler(*hand), _today(), dry_run=dry_run), as_json)


def _say(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        terminal.document(told)
        return
    size = max(map(len, told))
    terminal.show(*(f"{name.ljust(size)}  {_plain(value)}" for name, value in told.items() if value is not None))


def _say_all(told: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        terminal.document(told)
        return
    if not told:
        terminal.show("no erasure had to leave anything")
    for one in told:
        _say(one, False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return "; ".join(str(_plain(item)) for item in value)
    return "yes" if value is True else "no" if value is False else value


def _settings_of(written: list[str]) -> dict[str, str]:
    found = {}
    for item in written:
        name, separator, value = item.partition("=")
        if not separator or name not in ("account", "direction") or not value:
            raise UsageProblem("--set takes account=ID or direction=WORD; numbers, times and amounts stay as recorded")
        found[name] = value
    return found


def _iso(option: str, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise UsageProblem(f"{option} takes a date such as 2026-03-31") from None


def _read(name: str) -> str:
    """Text from a file or standard input."""
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageProblem(f"the file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageProblem("the file is not UTF-8 text") from None


def _today() -> date:
    return database.now().date()
