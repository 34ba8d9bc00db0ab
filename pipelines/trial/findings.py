"""Findings: what of a trial a person must look at, in sentences with the next step."""

from collections.abc import Iterator
from typing import Final

from pipelines import terminal
from pipelines.trial.clock import Clock
from pipelines.trial.fitting import Fit
from pipelines.trial.reading import Reading
from schemas.declaration import Declaration

_MOST: Final = 0.5  # of the records that have a value
_MONTH_FIRST, _DAY_FIRST = "%m/%d", "%d/%m"


def findings(reading: Reading) -> Iterator[str]:
    """Yield a sentence to each thing in a reading that looks wrong; without any value of a record."""
    if reading.candidate.changes:
        yield "it is read with the changes under [sources.declare], below"
    if reading.fit.better is not None:
        yield better(reading.fit.better)
    yield from _of_lengths(reading)
    yield from _of_clock(reading.tally.clock, reading.candidate.zone)
    yield from _of_dates(reading)
    tally = reading.tally
    if tally.sound and not tally.answered:
        yield "no record is answered: check where answer_time and talk_ms come from"
    for name in ("calling_raw", "called_raw", "start_time"):
        if tally.sound and tally.nulls[name] == tally.sound:
            yield f"no record has {name}: name its column under [sources.declare.fields]"
    if reading.set_aside:
        files = ", ".join(reading.set_aside[:3])
        yield f"over the error threshold, a night would set it aside whole: {files}"
    if tally.repeated:
        repeated = terminal.count(tally.repeated, "record")
        yield f"{repeated} with the identity of one before: a night takes each identity once"


def better(fit: Fit) -> str:
    """Return what changes to a source's format would do."""
    return f"with the changes below, {fit.sound:,} of the first {fit.records:,} records could be read"


def _of_lengths(reading: Reading) -> Iterator[str]:
    tally, unit = reading.tally, _talk_unit(reading.fit)
    if tally.too_long:
        as_ms = tally.thousandfold > _MOST * tally.too_long and unit != "ms"
        step = '; about a thousand times, so they look like milliseconds: unit = "ms"' if as_ms else ""
        yield f"talk is longer than from start to end in {terminal.count(tally.too_long, 'record')}{step}"
    elif unit != "ms" and tally.talking and tally.hours > _MOST * tally.talking:
        yield 'most calls talk for more than four hours: seconds that look like milliseconds (unit = "ms")'
    elif unit == "ms" and tally.talking and tally.instants > _MOST * tally.talking:
        yield 'most calls talk for less than a second: milliseconds that look like seconds (unit = "s")'


def _talk_unit(fit: Fit) -> str:
    """Return the unit in which a file's talk is declared, "" where it has none."""
    values = fit.candidate.declaration.fields.get("talk_ms", ())
    there = [value for value in values if set(value.column) & set(fit.shape.columns)] or values
    return there[0].unit if there else ""


def _of_clock(clock: Clock, zone: str) -> Iterator[str]:
    if clock.is_off:
        hours = " or ".join(f"{abs(hours):g} h {'after' if hours > 0 else 'before'}" for hours in clock.hours_off)
        looks = "its local times look like UTC" if clock.is_utc else "its clock shows another zone"
        yield f"zone {zone} looks wrong: starts are {hours} the moment in their record's id; {looks}"
    elif clock.late:
        late = terminal.count(clock.late, "record")
        yield f"{late} starting after the file was written: the times may be UTC, or another zone's"


def _of_dates(reading: Reading) -> Iterator[str]:
    """Yield that days and months cannot be told apart, where the other order reads as much."""
    formats = _formats(reading.candidate.declaration)
    used = {order for order in (_MONTH_FIRST, _DAY_FIRST) if any(form.startswith(order) for form in formats)}
    if used and reading.ambiguous:
        order = "the month" if _MONTH_FIRST in used else "the day"
        yield f"no date has a day above 12: {order} is taken to come first; if not, set `format` of start_time"


def _formats(declaration: Declaration) -> tuple[str, ...]:
    return tuple(form for value in declaration.fields.get("start_time", ()) for form in value.format)
