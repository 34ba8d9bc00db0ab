"""What records of a source lacked, night by night: a night is what one run took in on one day."""

from collections import Counter, defaultdict
from datetime import date
from typing import Final

from sqlalchemy import Connection, func, select, tuple_

from schemas.tables import source_shares

ATTEMPTS: Final = "attempts"  # what the others are shares of: records that are about an attempt
NO_DIRECTION, NO_ACCOUNT, OTHER_TRUNK = "unknown direction", "unassigned", "other trunk"
RECORDS: Final = "records"  # that came in, whatever became of them; 0 where a night found none
_NIGHTS: Final = 7  # what a night is compared with: the last ones of its source

_SHARES: Final = source_shares.c.measure != RECORDS

Night = tuple[str, date]  # run, day
Shares = Counter[str]  # records by what they lack (transforms/count_shares.py)


def of_run(connection: Connection, run_id: str, day: date | None = None) -> dict[str, Shares]:
    """Return what a run counted, by source; of one day alone where that is given."""
    s = source_shares.c
    query = select(s.source, s.measure, func.sum(s.rows).label("rows")).where(s.run_id == run_id, _SHARES)
    query = query if day is None else query.where(s.day == day)
    shares: dict[str, Shares] = defaultdict(Counter)
    for row in connection.execute(query.group_by(s.source, s.measure)):
        shares[row.source][row.measure] = int(row.rows)
    return dict(shares)


def last_day(connection: Connection, run_id: str) -> date | None:
    """Return the last day on which a run counted anything."""
    counted = (source_shares.c.run_id == run_id) & _SHARES
    return connection.execute(select(func.max(source_shares.c.day)).where(counted)).scalar()


def before(connection: Connection, source: str, run_id: str, day: date | None = None) -> Shares:
    """Return the sums of a source's last nights before a run, or before a day of it."""
    s = source_shares.c
    mine = (s.run_id == run_id) if day is None else (s.run_id == run_id) & (s.day == day)
    nights = (
        select(s.run_id, s.day)
        .where(s.source == source, _SHARES, ~mine)
        .distinct()
        .order_by(s.day.desc())
        .limit(_NIGHTS)
    )
    keys = [(row.run_id, row.day) for row in connection.execute(nights)]
    return _sums(connection, source, keys)


def newest(connection: Connection, source: str) -> Shares:
    """Return what the last night of a source counted."""
    s = source_shares.c
    last = select(s.run_id, s.day).where(s.source == source, _SHARES).order_by(s.day.desc()).limit(1)
    return _sums(connection, source, [(row.run_id, row.day) for row in connection.execute(last)])


def _sums(connection: Connection, source: str, nights: list[Night]) -> Shares:
    s = source_shares.c
    query = select(s.measure, func.sum(s.rows).label("rows")).where(s.source == source, _SHARES)
    if not nights:
        return Counter()
    chosen = query.where(tuple_(s.run_id, s.day).in_(nights)).group_by(s.measure)
    return Counter({row.measure: int(row.rows) for row in connection.execute(chosen)})
