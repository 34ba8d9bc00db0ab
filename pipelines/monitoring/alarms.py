"""Alarms: what of a source's night a person must look at, though each of its files was in order."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from sqlalchemy import Connection

from callward.lake import shares
from callward.lake.shares import ATTEMPTS, NO_ACCOUNT, NO_DIRECTION, OTHER_TRUNK, Shares
from callward.settings import Settings, Source
from callward.standing import Alarm
from callward.workspace import Workspace
from pipelines.terminal import percent
from schemas.declaration import Declaration
from transforms.count_shares import (
    CLOCK,
    LACKS,
    NO_CALLED,
    NO_OUTCOME,
    UNJOINED,
)
from transforms.error_limit import error_limit

_NEARLY_ALL: Final = 0.9  # of the records that hold an epoch
_TWICE: Final = "may be charged twice: have the dial plan say whose call it is (docs/legs.md, loopback channels)"
_HINT: Final = "'callward nightly --source {} --explain' says what is read from where"


@dataclass(frozen=True)
class Came:
    """Records of a source that came in, and those of them that were suspended."""

    rows: int = 0
    suspended: int = 0


def alarms(
    workspace: Workspace, connection: Connection, run_id: str, came: Mapping[str, Came], day: date | None = None
) -> Iterator[Alarm]:
    """Yield an alarm for each thing that a person must look at, of what a run took in (on a day of it)."""
    settings, counted = workspace.settings, shares.of_run(connection, run_id, day)
    for source in settings.sources:
        now = counted.get(source.name, Shares())
        yield from _of_errors(settings, source, came.get(source.name, Came()))
        if now:
            earlier = shares.before(connection, source.name, run_id, day)
            yield from _of_lacks(settings, source.name, workspace.declaration(source), now, earlier)
            yield from (Alarm(source.name, "clock", sentence) for sentence in clock(source, now))
            if now[UNJOINED]:
                calls = f"{now[UNJOINED]:,} calls left beyond a channel that names no caller, and {_TWICE}"
                yield Alarm(source.name, UNJOINED, f"{source.name}: {calls}")


def _of_errors(settings: Settings, source: Source, came: Came) -> Iterator[Alarm]:
    if error_limit(settings, source).exceeded(came.suspended, came.rows):
        share = percent(came.suspended, came.rows)
        seen = f"{share} of its records were suspended, over all its files: see 'callward suspense list'"
        yield Alarm(source.name, "errors", f"{source.name}: {seen}")


def _of_lacks(settings: Settings, name: str, declaration: Declaration, now: Shares, earlier: Shares) -> Iterator[Alarm]:
    for what in LACKS:
        usual = earlier[what] / earlier[ATTEMPTS] if earlier[ATTEMPTS] else None
        reason = _why(settings, what, now, usual, _is_declared(what, declaration))
        if reason:
            share = f"{percent(now[what], now[ATTEMPTS])} of its attempts"
            yield Alarm(name, what, f"{name}: {what}: {share}, {reason}; {_HINT.format(name)}")


def _why(settings: Settings, what: str, now: Shares, usual: float | None, declared: bool) -> str:
    """Return why a share is too large; "" where it is not."""
    limits, share = settings.thresholds, now[what] / max(1, now[ATTEMPTS])
    absolute = {
        NO_CALLED: limits.missing_pct if declared else 100.0,
        NO_OUTCOME: limits.missing_pct if declared else 100.0,
        NO_DIRECTION: limits.unknown_direction_pct,
        NO_ACCOUNT: limits.unassigned_pct,
        OTHER_TRUNK: limits.other_trunk_pct,
    }.get(what, 100.0)
    if now[what] >= limits.shares_min and 100 * share > absolute:
        return f"more than {absolute:g} %"
    excess = 0.0 if usual is None else share - usual
    if usual is not None and 100 * excess > limits.rise_points and excess * now[ATTEMPTS] >= limits.shares_min:
        return f"{100 * usual:.0f} % in its last nights"
    return ""


def _is_declared(what: str, declaration: Declaration) -> bool:
    wanted = {"called_raw"} if what == NO_CALLED else {"answer_time", "talk_ms"}
    return bool(wanted & declaration.declared_fields())


def clock(source: Source, now: Shares) -> Iterator[str]:
    """Yield a sentence where nearly all starts are off by the same hours from the epochs in their records."""
    quarters = {int(what.removeprefix(CLOCK)): rows for what, rows in now.items() if what.startswith(CLOCK)}
    if not quarters:
        return
    most = max(quarters, key=lambda quarter: quarters[quarter])
    if most and quarters[most] >= _NEARLY_ALL * sum(quarters.values()):
        off = f"{abs(most) / 4:g} hours {'late' if most > 0 else 'early'}"
        fix = f"correct its zone, then 'callward reprocess --source {source.name}'"
        yield f"{source.name}: its times read as {source.zone} are {off}, by the epochs in its records: {fix}"


def line(counted: Mapping[str, Shares], came: Mapping[str, Came]) -> str:
    """Return the line of shares that a report ends with."""
    total = sum(counted.values(), Shares())
    told = [f"{what} {percent(total[what], total[ATTEMPTS])}" for what in (NO_DIRECTION, NO_ACCOUNT, OTHER_TRUNK)]
    rows, suspended = (sum(getattr(of, name) for of in came.values()) for name in ("rows", "suspended"))
    return f"shares: {', '.join([*told, f'suspended {percent(suspended, rows)}'])}"
