"""Retention as data: the classes a policy must speak of, calendar windows, and the examples that come with callward.

A window is words such as "18 months", "7 years" or "92 days": calendar months and years, whole UTC days. Nothing has a
default window, because silence in a policy is not a window; docs/policy.md says what each class, clock and action is.
"""

import calendar
import re
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Final

_WINDOW: Final = re.compile(r"([1-9]\d{0,3}) (day|month|year)s?")
_EXAMPLES: Final = Path(__file__).parent / "policies"


@dataclass(frozen=True)
class Window:
    """A length of calendar time: `count` of `unit` (day, month or year)."""

    count: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> "Window":
        """Return the window written as "18 months". Raises ValueError in words a person can act on."""
        match = _WINDOW.fullmatch(text.strip())
        if not match:
            shown = re.sub(r"\d", "#", text)  # of what is no window any digit may be a number's
            raise ValueError(f"a window is written like '18 months', '7 years' or '92 days', not {shown!r}")
        return cls(int(match[1]), match[2])

    def __str__(self) -> str:
        return f"{self.count} {self.unit}{'' if self.count == 1 else 's'}"

    @property
    def months(self) -> int | None:
        """Return calendar months, None for a window in days."""
        return None if self.unit == "day" else self.count * (12 if self.unit == "year" else 1)

    def last_day(self, start: date) -> date:
        """Return the last day that something whose clock began on `start` is kept; date.max beyond the calendar.

        The day of the same number so many months on, or that month's last day: 31 January and a month is 28 February.
        """
        if self.months is None:
            end = start.toordinal() + self.count
            return date.fromordinal(end) if end <= date.max.toordinal() else date.max
        year, month = divmod(start.year * 12 + start.month - 1 + self.months, 12)
        if year > date.max.year:
            return date.max
        return date(year, month + 1, min(start.day, calendar.monthrange(year, month + 1)[1]))

    def may_end_before(self, other: "Window") -> bool:
        """Return whether there is a day from which this window ends before the other: 30 days may, before a month."""
        if (self.months is None) == (other.months is None):
            return (self.months or self.count) < (other.months or other.count)
        return _days(self)[0] < _days(other)[1]


@cache
def _days(window: Window) -> tuple[int, int]:
    """Return the fewest and the most days that a window takes, over the 400 years after which the calendar repeats."""
    if window.months is None:
        return window.count, window.count
    # From a first to a first. One that a month's end cuts short runs from the end of a month to that of another, which
    # is as long as from the first after the one to the first after the other.
    firsts = [date(2000 + n // 12, n % 12 + 1, 1) for n in range(400 * 12)]
    lengths = [window.last_day(first).toordinal() - first.toordinal() for first in firsts]
    return min(lengths), max(lengths)


CLOCKS: Final = {
    "call_end": "the call's UTC date plus the longest call allowed (31 days), so that a date expires whole",
    "invoice_date": "the invoice's date; until there is one, call end, and no row before `uninvoiced_days` have passed",
    "ingest": "the UTC day it came in",
    "event": "the day of the entry",
    "revocation": "the day the approval was revoked or lapsed",
    "disclosure": "the day it was disclosed",
    "determination": "the day the breach was determined",
    "answer": "the day the request was answered",
    "creation": "the day it was made",
    "job_end": "the day the run that made it ended",
    "activation": "the day the key was minted",
    "issue": "the day it was issued",
}

ACTIONS: Final = {
    "purge": "rows are deleted, and the month's key is destroyed when its last row goes",
    "drop_columns": "the number columns leave the row, and their key is destroyed; the row and its amounts stay",
    "anonymize": "tables declared over the rows are released; these go as by purge, the hourly table by trunk stays",
    "archive": "nothing is deleted: what is due is listed, for a person to put away",
}


@dataclass(frozen=True)
class RetentionClass:
    """What a policy says of one kind of data. The first of `clocks` is taken where settings name none.

    `floor` is the shortest window that the law allows whatever the policy says. `keyed`: its data lies under month
    keys, whose own lifetime counts. `required`: nightly refuses to run while settings give it no window.
    """

    what: str
    clocks: tuple[str, ...]
    actions: tuple[str, ...]
    floor: Window | None = None
    keyed: bool = False
    required: bool = False

    @property
    def clock(self) -> str:
        return self.clocks[0]

    @property
    def default_action(self) -> str:
        return self.actions[0]


_YEAR: Final = Window(1, "year")

CLASSES: Final[dict[str, RetentionClass]] = {
    "call_detail": RetentionClass(
        "numbers, times and durations of calls (47 CFR 64.2003(d))",
        ("call_end",),
        ("drop_columns",),
        keyed=True,
        required=True,
    ),
    "billing_transaction": RetentionClass(
        "amounts and the billing rows without numbers",
        ("invoice_date", "call_end"),
        ("purge",),
        keyed=True,
        required=True,
    ),
    "assurance_metrics": RetentionClass(
        "the service-assurance view and its tables",
        ("call_end",),
        ("anonymize", "purge"),
        keyed=True,
        required=True,
    ),
    "suspense": RetentionClass(
        "records set aside until they are fixed", ("ingest",), ("purge",), keyed=True, required=True
    ),
    "archive": RetentionClass(
        "sealed copies of the files as they came", ("ingest",), ("purge",), keyed=True, required=True
    ),
    "audit": RetentionClass("who opened which key, when and why", ("event",), ("archive",), required=True),
    # 47 CFR 64.2007(a)(3) and 64.2008(a)(2): records of approval and notice, at least one year.
    "consent": RetentionClass("consents, approvals and notices", ("revocation",), ("purge",), floor=_YEAR),
    # 47 CFR 64.2009(c): every disclosure to a third party, at least one year.
    "disclosure_log": RetentionClass(
        "who was given what, and on what ground", ("disclosure",), ("purge",), floor=_YEAR, keyed=True
    ),
    # 47 CFR 64.2011 (text of 2007): two years.
    "breach_record": RetentionClass(
        "breaches: scope, notices, dates", ("determination",), ("archive", "purge"), floor=Window(2, "year")
    ),
    # California privacy regulations, section 7101: 24 months.
    "requests": RetentionClass(
        "requests of persons, and their answers", ("answer",), ("purge",), floor=Window(24, "month"), keyed=True
    ),
    "aggregates": RetentionClass(
        "cells that were not released; what is released is anonymous and stays", ("creation",), ("purge",)
    ),
    "temp": RetentionClass("batches in flight, and the keys that they are under", ("job_end",), ("purge",)),
    "transcripts": RetentionClass("transcripts of calls; none is taken in so far", ("creation",), ("purge",)),
    "keys": RetentionClass(
        "how long one month key may open data before it is sealed anew", ("activation",), ("purge",)
    ),
    "certificates": RetentionClass("certificates of destruction, and the register of holds", ("issue",), ("archive",)),
}

REQUIRED: Final = tuple(name for name, retention in CLASSES.items() if retention.required)

# What `callward init --demo` writes: the defaults of the published policies, each an explicit choice of the demo.
DEMO_WINDOWS: Final = {
    "call_detail": "18 months",
    "billing_transaction": "7 years",
    "assurance_metrics": "13 months",
    "suspense": "92 days",
    "archive": "92 days",
    "audit": "9 years",
}


def examples() -> list[str]:
    """Return the names of the example policies that come with callward."""
    return sorted(path.stem for path in _EXAMPLES.glob("*.toml"))


def example(name: str) -> str:
    """Return the text (TOML) of an example policy. Raises KeyError where there is none of that name."""
    if name not in examples():
        raise KeyError(name)
    return (_EXAMPLES / f"{name}.toml").read_text(encoding="utf-8")
