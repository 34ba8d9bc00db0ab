"""The safety check: a purge runs unattended only while what is due agrees with what an earlier look foresaw.

A forecast counts, for every data file, until when its rows are kept. It is made when a purge ends and when two people
activate a policy, and holds for a year. What was committed or replaced since is added or taken away by the manifest.
So a purge that would take more, or less, than anyone could have known of stops, and a second person looks at its plan.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select

from callward import database
from callward.lake import ledger
from callward.lake.ledger import DataFile
from callward.retention.policy import register as policy_register
from callward.retention.purge.due_files import Governance, expiries
from callward.settings import Settings
from schemas.retention import purge_forecasts
from schemas.tables import lake_files

_REACHES_DAYS: Final = 366

Span = tuple[str, date, date]  # class, the first and the last of its last days


@dataclass(frozen=True)
class Forecast:
    """What was foreseen at a moment: rows by class and by the days that they are kept through."""

    made_at: datetime
    until: date
    rows: Mapping[Span, int]

    def rows_json(self) -> str:
        """Return the rows as the register keeps them."""
        return json.dumps(
            sorted([cls, first.isoformat(), last.isoformat(), n] for (cls, first, last), n in self.rows.items())
        )

    @classmethod
    def read(cls, made_at: datetime, until: date, rows_json: str) -> "Forecast":
        """Return the forecast that the register keeps."""
        day = date.fromisoformat
        rows = {(name, day(first), day(last)): count for name, first, last, count in json.loads(rows_json)}
        return cls(made_at, until, rows)


def counted(files: Iterable[DataFile], law: Governance) -> Counter[Span]:
    """Return the number of rows of data files by class and by the days that they are kept through."""
    rows: Counter[Span] = Counter()
    for file in files:
        for expiry in expiries(file, law):
            rows[expiry.retention_class, expiry.first, expiry.last] += expiry.rows
    return rows


def due(rows: Mapping[Span, int], as_of: date) -> dict[str, tuple[int, int]]:
    """Return per class how many rows are due at least and at most: of a log only the span of its days is known."""
    least: Counter[str] = Counter()
    most: Counter[str] = Counter()
    for (cls, first, last), count in rows.items():
        least[cls] += count if as_of > last else 0
        most[cls] += count if as_of > first else 0
    return {cls: (least[cls], most[cls]) for cls in most}


def note_forecast(settings: Settings, today: date) -> None:
    """Look at the calendar as it stands, for the purges of the year to come. It takes the place of the one before."""
    with database.writing(settings) as connection:
        law = Governance(policy_register.in_force(settings, connection))
        foreseen = Forecast(database.now(), today + timedelta(_REACHES_DAYS), counted(ledger.files(connection), law))
        connection.execute(delete(purge_forecasts))
        values = {"made_at": foreseen.made_at, "until": foreseen.until, "rows": foreseen.rows_json()}
        connection.execute(insert(purge_forecasts).values(**values))


def forecast(connection: Connection) -> Forecast | None:
    """Return the newest forecast; None where none was made."""
    row = connection.execute(select(purge_forecasts)).first()
    return Forecast.read(row.made_at, row.until, row.rows) if row is not None else None


def objections(connection: Connection, law: Governance, as_of: date, deviation_pct: float) -> list[str]:
    """Say why what is due on `as_of` is not what was foreseen, one sentence per class; nothing where it agrees."""
    foreseen = forecast(connection)
    if foreseen is None:
        return ["no purge has been foreseen so far: this is the first"]
    if as_of > foreseen.until:
        return [f"what was foreseen reaches until {foreseen.until}"]
    expected = due(_brought_up_to_date(connection, foreseen, law), as_of)
    actual = due(counted(ledger.files(connection), law), as_of)
    return list(_compared(expected, actual, deviation_pct / 100))


def _brought_up_to_date(connection: Connection, foreseen: Forecast, law: Governance) -> Counter[Span]:
    """Return the forecast with what was committed since, and without what was replaced since."""
    f = lake_files.c
    rows = Counter(foreseen.rows)
    rows.update(counted(_files(connection, f.committed_at > foreseen.made_at, f.superseded_at.is_(None)), law))
    rows.subtract(
        counted(_files(connection, f.committed_at <= foreseen.made_at, f.superseded_at > foreseen.made_at), law)
    )
    return rows


def _files(connection: Connection, *conditions: Any) -> Iterator[DataFile]:
    for row in connection.execute(select(lake_files).where(*conditions)):
        yield ledger.data_file(row)


def _compared(
    expected: Mapping[str, tuple[int, int]], actual: Mapping[str, tuple[int, int]], share: float
) -> Iterator[str]:
    for cls in sorted(expected.keys() | actual.keys()):
        (least, most), (lowest, highest) = expected.get(cls, (0, 0)), actual.get(cls, (0, 0))
        if highest > most * (1 + share):
            yield f"{cls}: {highest:,} rows are due, and {most:,} were foreseen"
        elif lowest < least * (1 - share):
            yield f"{cls}: {lowest:,} rows are due, and {least:,} were foreseen"
