"""hold: orders to keep records past their window."""

import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callward import database
from callward.errors import UsageProblem
from callward.settings import Settings, load
from pipelines import terminal
from pipelines.cli.options import AsJson, Config, DryRun

if TYPE_CHECKING:
    from callward.retention.holds import Hold
    from schemas.retention_classes import Window

app = typer.Typer(no_args_is_help=True, help="Legal holds: orders to keep matching records past their window.")

HoldId = Annotated[str, typer.Argument(metavar="HOLD", help="The hold's id, as 'hold list' prints it.")]
Role = Annotated[str, typer.Option("--role", help="compliance, or legal: sees confidential holds as well.")]
Words = list[str] | None

_ROLES = ("compliance", "legal")
_MOST_NUMBERS = 100_000
_COLUMNS = ("hold_id", "state", "tenant", "kind", "case", "from", "to", "selects", "age_days", "expires_on")


@app.command()
def place(
    tenant: Annotated[str, typer.Option("--tenant", help="Whose records.")],
    kind: Annotated[str, typer.Option("--kind", help="litigation, preservation, dispute, regulator or traceback.")],
    authority: Annotated[str, typer.Option("--authority", help="Who ordered it, or on what it rests.")],
    case: Annotated[str, typer.Option("--case", help="The case that it is for.")],
    account: Annotated[Words, typer.Option("--account", help="An account id; may be given again.")] = None,
    number: Annotated[Words, typer.Option("--number", help="A number; it stays in your shell's history.")] = None,
    trunk: Annotated[Words, typer.Option("--trunk", help="A trunk; may be given again.")] = None,
    numbers_file: Annotated[
        str | None, typer.Option("--numbers-file", help="One number to a line; - reads standard input.")
    ] = None,
    country: Annotated[
        str | None,
        typer.Option("--country", help="ISO country that the numbers are written in; default: the sources'."),
    ] = None,
    first: Annotated[str | None, typer.Option("--from", metavar="DATE", help="First day of the calls (UTC).")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DATE", help="Last day of the calls (UTC).")] = None,
    confidential: Annotated[
        str | None, typer.Option("--confidential-until", metavar="DATE", help="Through that day only legal sees it.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="DATE", help="When the order ends; 90 days for preservation.")
    ] = None,
    tail: Annotated[
        str | None, typer.Option("--tail", metavar="WINDOW", help="How long it blocks after its release: '3 years'.")
    ] = None,
    unlisted: Annotated[
        bool, typer.Option("--unlisted", help="Accounts and trunks need not be in the settings (any more).")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Keep what any selector names (none: everything) of a tenant's calls of some days, whatever their window.

    Exit code 3 when purges have destroyed something of them already: it is printed.
    """
    from callward.redaction import check_recorded
    from callward.retention import holds

    settings = load(config)
    for option, words in (("--authority", [authority]), ("--case", [case]), ("--account", account), ("--trunk", trunk)):
        for text in words or []:
            check_recorded(option, text)
    wanted = holds.Hold(
        hold_id="",
        tenant=tenant,
        kind=kind,
        authority=authority,
        case=case,
        first=_day("--from", first),
        last=_day("--to", last),
        accounts=tuple(account or ()),
        numbers=holds.normalized(settings, tenant, [*(number or []), *_read(numbers_file)], country),
        trunks=tuple(trunk or ()),
        expires_on=_day("--expires", expires),
        tail=_window(tail),
        confidential_until=_day("--confidential-until", confidential),
    )
    made = holds.place(settings, wanted, _today(), unlisted=unlisted, dry_run=dry_run)
    _tell_placed(settings, made, dry_run, as_json)


def _tell_placed(settings: Settings, made: "Hold", dry_run: bool, as_json: bool) -> None:
    from callward.retention import holds

    with database.reading(settings) as connection:
        gone = holds.gone(connection, made)
    if as_json:
        told = {"hold_id": None if dry_run else made.hold_id, "dry_run": dry_run, "expires_on": made.expires_on}
        terminal.document({**told, "numbers": len(made.numbers), "gone": gone})
    else:
        name = "the hold would be placed" if dry_run else f"hold {made.hold_id} is placed"
        terminal.show(f"{name}{f'; its order expires on {made.expires_on}' if made.expires_on else ''}")
        if gone:
            terminal.show(
                terminal.table(
                    "Destroyed before it was placed, of its tenant and dates",
                    list(gone[0]),
                    [list(row.values()) for row in gone],
                )
            )
    if gone:
        raise typer.Exit(3)


@app.command("list")
def listing(
    role: Role = "compliance",
    released: Annotated[bool, typer.Option("--released", help="Those that keep nothing any more as well.")] = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Holds that the role may know of, the oldest first. Exit code 3 when an order has expired or soon will."""
    from callward.retention import holds

    settings = load(config)
    found = holds.listed(settings, _role(role), _today())
    rows = [row for row in found if released or row["state"] != "released"]
    if as_json:
        terminal.document(rows)
    else:
        brief = [{**row, "selects": _selects(row)} for row in rows]
        terminal.show(terminal.records(brief, _COLUMNS) if rows else "holds: none")
        for row in rows:
            if row["warning"]:
                terminal.say(row["warning"])
    if any(row["warning"] for row in rows):
        raise typer.Exit(3)


@app.command()
def show(hold_id: HoldId, role: Role = "compliance", as_json: AsJson = False, config: Config = None) -> None:
    """Everything about one hold but its numbers, which are only counted."""
    from callward.retention import holds

    row = holds.shown(load(config), hold_id, _role(role), _today())
    if as_json:
        terminal.document(row)
        return
    size = max(map(len, row))
    for name, value in row.items():
        words = ", ".join(value) if isinstance(value, list) else terminal.plain(value)
        terminal.show(f"{name.ljust(size)}  {'' if value is None else words}".rstrip())


@app.command()
def renew(
    hold_id: HoldId,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="DATE", help="The order's new end; 90 days for preservation.")
    ] = None,
    confidential: Annotated[
        str | None, typer.Option("--confidential-until", metavar="DATE", help="It stays confidential so much longer.")
    ] = None,
    role: Role = "compliance",
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Extend an order: a preservation order by 90 days (18 U.S.C. 2703(f)), another to the date that is given."""
    from callward.retention import holds

    made = holds.renew(
        load(config),
        hold_id,
        _today(),
        expires_on=_day("--expires", expires),
        confidential_until=_day("--confidential-until", confidential),
        role=_role(role),
        dry_run=dry_run,
    )
    ends = f"its order expires on {made.expires_on}" if made.expires_on else "its order has no end"
    _tell_changed({"hold_id": made.hold_id, "dry_run": dry_run, "expires_on": made.expires_on}, ends, as_json)


@app.command()
def release(
    hold_id: HoldId,
    person: Annotated[str, typer.Option("--person", help="Who approves: a person that the custodian registered.")],
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="That person's key file.")],
    role: Role = "compliance",
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """End a hold: what it keeps is due at the next purge, or after its tail."""
    from callward.retention import holds

    made = holds.release(load(config), hold_id, person, key, _today(), role=_role(role), dry_run=dry_run)
    through = made.last_day if made.tail else None
    ends = f"it blocks through {through}" if through else "what it kept is due at the next purge"
    _tell_changed({"hold_id": made.hold_id, "dry_run": dry_run, "blocks_through": through}, ends, as_json)


def _tell_changed(told: dict[str, Any], sentence: str, as_json: bool) -> None:
    if as_json:
        terminal.document(told)
    else:
        done = "would be changed" if told["dry_run"] else "is changed"
        terminal.show(f"hold {told['hold_id']} {done}: {sentence}")


def _selects(row: dict[str, Any]) -> str:
    """What a hold selects by, in words; numbers are counted."""
    parts = [terminal.count(len(row[kind]), kind[:-1]) for kind in ("accounts", "trunks") if row[kind]]
    parts += [terminal.count(row["numbers"], "number")] if row["numbers"] else []
    return ", ".join(parts) or "everything"


def _today() -> date:
    return database.now().date()


def _role(name: str) -> str:
    if name not in _ROLES:
        raise UsageProblem(f"--role is {' or '.join(_ROLES)}")
    return name


def _day(option: str, text: str | None) -> date | None:
    """A date as people write it; what is no date may be anything, so it is not repeated."""
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise UsageProblem(f"{option} takes a date such as 2026-03-05") from None


def _window(text: str | None) -> "Window | None":
    from schemas.retention_classes import Window

    try:
        return Window.parse(text) if text else None
    except ValueError:
        raise UsageProblem("--tail takes a window such as '3 years', '18 months' or '92 days'") from None


def _read(name: str | None) -> list[str]:
    """Numbers from a file or standard input: one to a line; empty lines and those behind # are none."""
    if name is None:
        return []
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageProblem("--numbers-file is not text") from None
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise UsageProblem("--numbers-file has no number: a hold without a selector would keep everything")
    if len(found) > _MOST_NUMBERS:
        raise UsageProblem(f"--numbers-file has more than {_MOST_NUMBERS:,} numbers")
    return found
