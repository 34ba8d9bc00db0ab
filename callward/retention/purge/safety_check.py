"""The brake: a purge runs unattended only while what is due agrees with what an earlier look at the calendar foresaw.

A forecast counts, for every data file, until when its rows are kept. It is made when a purge ends and when two people
activate a policy, and holds for a year. What was committed or replaced since is added or taken away by the manifest.
So a purge that would take more, or less, than anyone could have known of stops, and a second person looks at its plan.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select

from callward import audit, database
from callward.lake import ledger
from callward.lake.ledger import DataFile
from callward.retention.policy import register as policy_register
from callward.retention.purge.due_files import Governance, expiries
from callward.runs import new_id
from callward.settings import Settings
from schemas.retention import purges
from schemas.tables import lake_files

FORECAST: Final = "forecast"
_REACHES_DAYS: Final = 366

Span = tuple[str, date, date]  # class, the first and the last of its last days


@dataclass(frozen=True)
class Forecast:
    """What was foreseen at a moment: rows by class and by the days that they are kept through."""

    made_at: datetime
    until: date
    rows: Mapping[Span, int]

    def told(self) -> str:
        """As the register keeps it: JSON."""
        rows = sorted([cls, first.isoformat(), last.isoformat(), n] for (cls, first, last), n in self.rows.items())
        return json.dumps({"made_at": self.made_at.isoformat(), "until": self.until.isoformat(), "rows": rows})

    @classmethod
    def read(cls, text: str) -> "Forecast":
        """What `told` wrote."""
        made = json.loads(text)
        day = date.fromisoformat
        rows = {(name, day(first), day(last)): count for name, first, last, count in made["rows"]}
        return cls(datetime.fromisoformat(made["made_at"]), day(made["until"]), rows)


def counted(files: Iterable[DataFile], law: Governance) -> Counter[Span]:
    """Rows of data files by class and by the days that they are kept through."""
    rows: Counter[Span] = Counter()
    for file in files:
        for found in expiries(file, law):
            rows[found.retention_class, found.first, found.last] += found.rows
    return rows


def due(rows: Mapping[Span, int], as_of: date) -> dict[str, tuple[int, int]]:
    """Per class how many rows are due at least and at most: of a log only the span of its days is known."""
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
        made = Forecast(database.now(), today + timedelta(_REACHES_DAYS), counted(ledger.files(connection), law))
        text = made.told()
        connection.execute(delete(purges).where(purges.c.status == FORECAST))
        connection.execute(
            insert(purges).values(
                purge_id=new_id(),
                as_of=today,
                status=FORECAST,
                plan_digest=hashlib.sha256(text.encode()).hexdigest(),
                plan=text,
                started_by=audit.who(),
                created_at=made.made_at,
            )
        )


def forecast(connection: Connection) -> Forecast | None:
    """The newest forecast; None where none was made."""
    text = connection.execute(select(purges.c.plan).where(purges.c.status == FORECAST)).scalar()
    return Forecast.read(text) if text else None


def objections(connection: Connection, law: Governance, as_of: date, brake_pct: float) -> list[str]:
    """Why what is due on `as_of` is not what was foreseen, one sentence per class; nothing where it agrees."""
    foreseen = forecast(connection)
    if foreseen is None:
        return ["no purge has been foreseen so far: this is the first"]
    if as_of > foreseen.until:
        return [f"what was foreseen reaches until {foreseen.until}"]
    expected = due(_brought_up_to_date(connection, foreseen, law), as_of)
    found = due(counted(ledger.files(connection), law), as_of)
    return list(_compared(expected, found, brake_pct / 100))


def _brought_up_to_date(connection: Connection, foreseen: Forecast, law: Governance) -> Counter[Span]:
    """The forecast with what was committed since, and without what was replaced since."""
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
    expected: Mapping[str, tuple[int, int]], found: Mapping[str, tuple[int, int]], share: float
) -> Iterator[str]:
    for cls in sorted(expected.keys() | found.keys()):
        (least, most), (lowest, highest) = expected.get(cls, (0, 0)), found.get(cls, (0, 0))
        if highest > most * (1 + share):
            yield f"{cls}: {highest:,} rows are due, and {most:,} were foreseen"
        elif lowest < least * (1 - share):
            yield f"{cls}: {lowest:,} rows are due, and {least:,} were foreseen"
