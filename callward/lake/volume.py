"""How much came in of a source, against its own history: the median of the same weekdays of its last eight weeks.

A night is compared with nights, so that a day is not called small before it is over: the first, second … night of a
day with as many of a day before. A stream is compared by whole days. Days are UTC, by the start of the run.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import median
from typing import Final

from sqlalchemy import Connection, select

from callward.lake.shares import RECORDS
from schemas.tables import runs, source_shares

NIGHT: Final = "nightly"
_TAKE_IN: Final = (NIGHT, "stream")  # whoever corrects what came in is no part of what comes in
WEEKS: Final = 8


@dataclass(frozen=True)
class Volume:
    """Records that came in on a day, and on as many of the same weekdays as there are before it."""

    day: date
    rows: int
    earlier: Sequence[int] = ()

    @property
    def usual(self) -> float:
        """Return the median of the same weekdays."""
        return float(median(self.earlier)) if self.earlier else 0.0

    def is_strange(self, factor: float, nights: int, least: int) -> bool:
        """Return whether there are too many or too few: more than `factor` times apart from the usual."""
        small, large = sorted((float(self.rows), self.usual))
        return factor > 0 and nights <= len(self.earlier) and least <= large and small * factor < large


def of_nights(connection: Connection, source: str, run_id: str) -> Volume:
    """Return the records of a day's nights so far, this run being the last of them."""
    day = connection.execute(select(runs.c.started_at).where(runs.c.run_id == run_id)).scalar_one().date()
    days = _days(connection, source, day, nights=True)
    nights = len(days.get(day, ()))
    return _compared(days, day, nights)


def of_day(connection: Connection, source: str, day: date) -> Volume | None:
    """Return the records of a day that is over; None where no run looked at the source on it."""
    days = _days(connection, source, day)
    return _compared(days, day, len(days[day])) if day in days else None


def _compared(days: Mapping[date, Sequence[int]], day: date, nights: int) -> Volume:
    same = (day - timedelta(weeks=week) for week in range(1, WEEKS + 1))
    earlier = [sum(days[other][:nights]) for other in same if other in days]
    return Volume(day, sum(days.get(day, ())), earlier)


def _days(connection: Connection, source: str, last: date, *, nights: bool = False) -> dict[date, list[int]]:
    """Return by day the records that each run took in, in the order of their starts; a stream's are one figure.

    `nights`: of nights alone.
    """
    s, first = source_shares.c, last - timedelta(weeks=WEEKS)
    query = select(s.day, s.run_id, s.rows, runs.c.kind, runs.c.started_at).join(runs, runs.c.run_id == s.run_id)
    query = query.where(runs.c.kind.in_((NIGHT,) if nights else _TAKE_IN))
    query = query.where(s.source == source, s.measure == RECORDS, s.day >= first, s.day <= last + timedelta(1))
    by_run: dict[tuple[date, str], int] = defaultdict(int)
    for row in connection.execute(query.order_by(runs.c.started_at, s.run_id)):
        night = row.kind == NIGHT
        by_run[row.started_at.date() if night else row.day, row.run_id if night else ""] += int(row.rows)
    days: dict[date, list[int]] = defaultdict(list)
    for (day, _), rows in by_run.items():
        days[day].append(rows)
    return days
