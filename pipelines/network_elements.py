"""Match records of two network elements, partition by partition, each in a commit of its own; and list what was found.

A partition is looked at when it is no longer as it was at the last look, and with it those of the days beside it, as a
call may lie on two sides of midnight: whatever came, in whatever order and by night or stream, is matched once. Killed
anywhere, the next run goes on with what is not looked at.
"""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from itertools import count
from typing import Final

from sqlalchemy import select, update

from callward import database
from callward.columns import has_value
from callward.failpoints import point
from callward.lake import ledger, row_index
from callward.lake.conflicts import ConflictsPersist, retry_on_conflict
from callward.lake.data_files import DataFiles, open_files
from callward.settings import Settings
from callward.workspace import Workspace
from schemas.tables import input_files, lake_files, partitions
from schemas.views import INDEX, SECOND
from transforms.match_elements import LISTED, match_elements

_ROLE: Final = "billing-run"
_DAY: Final = timedelta(days=1)
_TRIES: Final = 5  # a partition can wait for the next run
_WAVE: Final = -1_000_000  # of the ledger's: no other work of a run counts so far down


def match_all(settings: Settings, workspace: Workspace, run_id: str) -> Counter[str]:
    """Match every partition that changed; return how many second records were found, by source.

    A partition that others commit to all the time stays as it is until the next run.
    """
    ranks = {source.name: source.billing_rank for source in settings.sources if source.billing_rank is not None}
    found = Counter[str]()
    if len(set(ranks.values())) < 2:
        return found
    looked, numbers = set[tuple[str, str]](), count()
    for tenant, part, version in _changed(settings):
        hold, day = settings.tenants[tenant].billing.second_elements == "hold", date.fromisoformat(part)
        # The days beside it come first: what is noted as looked at has none left that waits for it.
        for of, of_version in ((day - _DAY, None), (day + _DAY, None), (day, version)):
            if of_version is None and (tenant, of.isoformat()) in looked:
                continue
            wave = _WAVE - next(numbers)
            look = partial(_look, workspace, run_id, wave, tenant, of, ranks, hold, of_version)
            with suppress(ConflictsPersist):
                found += retry_on_conflict(look, tries=_TRIES, also=(FileNotFoundError,))
                looked.add((tenant, of.isoformat()))
    return found


def _changed(settings: Settings) -> list[tuple[str, str, int]]:
    """Return (tenant, call_date, version) of partitions that changed since they were looked at."""
    p, f = partitions.c, lake_files.c
    indexed = select(f.tenant, f.part).where(f.view == INDEX, f.superseded_at.is_(None)).distinct().subquery()
    query = select(p.tenant, p.part, p.version)
    query = query.join(indexed, (p.tenant == indexed.c.tenant) & (p.part == indexed.c.part))
    with database.reading(settings) as connection:
        rows = connection.execute(query.where(p.version != p.matched).order_by(p.tenant, p.part)).all()
    return [tuple(row) for row in rows if row.tenant in settings.tenants]


def _look(
    workspace: Workspace,
    run_id: str,
    wave: int,
    tenant: str,
    day: date,
    ranks: Mapping[str, int],
    hold: bool,
    since: int | None,
    _: int,
) -> Counter[str]:
    """Match a partition, and note that it was looked at as it is then, where it is as it was at version `since`.

    Without `since` only what it does to the partition itself is noted. Raises CommitConflict.
    """
    part = day.isoformat()
    matched = match_elements(DataFiles(workspace, run_id), tenant, day, ranks, hold=hold)
    mine, before = (partitions.c.tenant == tenant) & (partitions.c.part == part), matched.changes.read[tenant, part]
    changes = ledger.with_sealed_sums(matched.changes, workspace.settings, workspace.keyring)
    with database.writing(workspace.settings) as connection:
        after = before
        if changes.superseded:
            ledger.commit(connection, run_id, wave, changes)
            after = ledger.versions(connection, tenant, [part])[tenant, part]
        as_seen = mine if since == before else mine & (partitions.c.matched == before)
        connection.execute(update(partitions).where(as_seen).values(matched=after))
    point("elements-matched")
    return matched.second


@dataclass(frozen=True)
class SecondRecords:
    """Records of a source's date of which another element's are charged; of those that are listed alone, both are."""

    source: str
    tenant: str
    call_date: str
    records: int
    talk_ms: int
    held: bool


def second_records(settings: Settings) -> list[SecondRecords]:
    """Return second records by source and date; raises Problem for a data file of the index that cannot be read."""
    files = open_files(settings, _ROLE, "second records of calls", "list")
    with database.reading(settings) as connection:
        homes = ledger.files(connection, view=INDEX)
        named = connection.execute(select(input_files.c.file_no, input_files.c.source)).all()
    sources = {row.file_no: row.source for row in named}
    counted: dict[tuple[str, str, str, bool], Counter[str]] = {}
    for home in homes:
        with row_index.reading(home):
            table = files.columns(home, ["kind", "file_no", "talk_ms"])
        rows = table.filter(has_value(table["kind"], SECOND, LISTED))
        held = has_value(rows["kind"], SECOND).to_pylist()
        for file_no, talk, is_held in zip(rows["file_no"].to_pylist(), rows["talk_ms"].to_pylist(), held, strict=True):
            key = sources.get(file_no, ""), home.tenant, home.part, is_held
            counted.setdefault(key, Counter()).update(records=1, talk_ms=talk)
    return [SecondRecords(*key[:3], of["records"], of["talk_ms"], key[3]) for key, of in sorted(counted.items())]
