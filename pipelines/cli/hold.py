"""`callward hold`: orders to keep records past their window."""

import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from callward import database
from callward.errors import UsageProblem
from pipelines.cli.command import command
from pipelines.cli.options import AS_GIVEN, Approver, Changing, Reading
from pipelines.results import Result

if TYPE_CHECKING:
    from callward.retention.holds import Hold
    from callward.settings import Settings
    from schemas.retention_classes import Window

app = typer.Typer(no_args_is_help=True, help="Legal holds: orders to keep matching records past their window.")

HoldId = Annotated[str, typer.Argument(metavar="HOLD", help="The hold's id, as 'hold list' prints it."), AS_GIVEN]
Role = Annotated[str, typer.Option("--role", help="compliance, or legal: sees confidential holds as well."), AS_GIVEN]
Expires = Annotated[
    str | None,
    typer.Option("--expires", metavar="DATE", help="When the order ends; 90 days for preservation."),
    AS_GIVEN,
]
Confidential = Annotated[
    str | None,
    typer.Option("--confidential-until", metavar="DATE", help="Through that day only legal sees it."),
    AS_GIVEN,
]
Words = list[str] | None

_ROLES = ("compliance", "legal")
_MOST_NUMBERS = 100_000


@dataclass(frozen=True, kw_only=True)
class Order:
    """Options that say on what a hold rests, and until when."""

    tenant: Annotated[str, typer.Option("--tenant", help="Whose records.")]
    kind: Annotated[str, typer.Option("--kind", help="litigation, preservation, dispute, regulator or traceback.")]
    authority: Annotated[str, typer.Option("--authority", help="Who ordered it, or on what it rests.")]
    case: Annotated[str, typer.Option("--case", help="The case that it is for.")]
    confidential: Confidential = None
    expires: Expires = None
    tail: Annotated[
        str | None,
        typer.Option("--tail", metavar="WINDOW", help="How long it blocks after its release: '3 years'."),
        AS_GIVEN,
    ] = None


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Options that say what a hold keeps: any of the selectors (none: everything), of calls of some days."""

    account: Annotated[Words, typer.Option("--account", help="An account id; may be given again.")] = None
    number: Annotated[Words, typer.Option("--number", help="A number; it stays in your shell's history."), AS_GIVEN] = (
        None
    )
    trunk: Annotated[Words, typer.Option("--trunk", help="A trunk; may be given again.")] = None
    numbers_file: Annotated[
        str | None, typer.Option("--numbers-file", help="One number to a line; - reads standard input."), AS_GIVEN
    ] = None
    country: Annotated[
        str | None,
        typer.Option("--country", help="ISO country that the numbers are written in; default: the sources'."),
    ] = None
    first: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="First day of the calls (UTC)."), AS_GIVEN
    ] = None
    last: Annotated[str | None, typer.Option("--to", metavar="DATE", help="Last day of the calls (UTC)."), AS_GIVEN] = (
        None
    )
    unlisted: Annotated[
        bool, typer.Option("--unlisted", help="Accounts and trunks need not be in the settings (any more).")
    ] = False


@command(
    app,
    "callward hold place --tenant default --kind litigation --authority 'the court' --case 'case A' "
    "--numbers-file - --from 2026-01-01",
)
def place(order: Order, matches: Matches, options: Changing) -> Result:
    """Keep what any selector names (none: everything) of a tenant's calls of some days, whatever their window.

    Exit code 3 when purges have destroyed something of them already: it is printed.
    """
    from pipelines.reports import hold as report

    settings = options.settings()
    hold = _hold(settings, order, matches)
    return report.place(settings, hold, unlisted=matches.unlisted, dry_run=options.dry_run)


def _hold(settings: "Settings", order: Order, matches: Matches) -> "Hold":
    from callward.retention import holds

    numbers = [*(matches.number or []), *_read(matches.numbers_file)]
    return holds.Hold(
        hold_id="",
        tenant=order.tenant,
        kind=order.kind,
        authority=order.authority,
        case=order.case,
        first=_day("--from", matches.first),
        last=_day("--to", matches.last),
        accounts=tuple(matches.account or ()),
        numbers=holds.normalized(settings, order.tenant, numbers, matches.country),
        trunks=tuple(matches.trunk or ()),
        expires_on=_day("--expires", order.expires),
        tail=_window(order.tail),
        confidential_until=_day("--confidential-until", order.confidential),
    )


@command(app, "callward hold list --released", name="list")
def list_holds(
    options: Reading,
    role: Role = "compliance",
    released: Annotated[bool, typer.Option("--released", help="Those that keep nothing any more as well.")] = False,
) -> Result:
    """Holds that the role may know of, the oldest first. Exit code 3 when an order has expired or soon will."""
    from pipelines.reports import hold as report

    return report.list_holds(options.settings(), _role(role), released=released)


@command(app, "callward hold show kqwmzhxrtbvdfy")
def show(hold_id: HoldId, options: Reading, role: Role = "compliance") -> Result:
    """Everything about one hold but its numbers, which are only counted."""
    from pipelines.reports import hold as report

    return report.show(options.settings(), hold_id, _role(role))


@command(app, "callward hold renew kqwmzhxrtbvdfy")
def renew(
    hold_id: HoldId,
    options: Changing,
    expires: Expires = None,
    confidential: Confidential = None,
    role: Role = "compliance",
) -> Result:
    """Extend an order: a preservation order by 90 days (18 U.S.C. 2703(f)), another to the date that is given."""
    from callward.retention import holds
    from pipelines.reports import hold as report

    hold = holds.renew(
        options.settings(),
        hold_id,
        database.now().date(),
        expires_on=_day("--expires", expires),
        confidential_until=_day("--confidential-until", confidential),
        role=_role(role),
        dry_run=options.dry_run,
    )
    return report.renewed(hold, options.dry_run)


@command(app, "callward hold release kqwmzhxrtbvdfy --person ada --key ada.sign")
def release(hold_id: HoldId, approver: Approver, options: Changing, role: Role = "compliance") -> Result:
    """End a hold: what it keeps is due at the next purge, or after its tail."""
    from callward.retention import holds
    from pipelines.reports import hold as report

    hold = holds.release(
        options.settings(),
        hold_id,
        approver.person,
        approver.key,
        database.now().date(),
        role=_role(role),
        dry_run=options.dry_run,
    )
    return report.released(hold, options.dry_run)


def _role(name: str) -> str:
    if name not in _ROLES:
        raise UsageProblem(f"--role is {' or '.join(_ROLES)}")
    return name


def _day(option: str, text: str | None) -> date | None:
    """Return a date as people write it; what is no date may be anything, so it is not repeated."""
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
    """Return numbers of a file or standard input: one to a line; empty lines and those behind # are none."""
    if name is None:
        return []
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageProblem("--numbers-file is not text") from None
    lines = [line.strip() for line in text.splitlines()]
    numbers = [line for line in lines if line and not line.startswith("#")]
    if not numbers:
        raise UsageProblem("--numbers-file has no number: a hold without a selector would keep everything")
    if len(numbers) > _MOST_NUMBERS:
        raise UsageProblem(f"--numbers-file has more than {_MOST_NUMBERS:,} numbers")
    return numbers
