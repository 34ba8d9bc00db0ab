"""What the workspace's own views of a day still reveal: who stands alone, and what content links the two.

Opens billing with its numbers, assurance, the row index, and the keys of all ids, as only services may: the record that
an id was made of is the truth that linkage is counted by. What comes out is shares of rows and persons, and no row.
Rows of persons who restricted the use of their data are not looked at.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import String, select

from callward import database
from callward.columns import flat
from callward.errors import Problem, UsageProblem
from callward.keys import tokens
from callward.keys.tokens import Words
from callward.lake import row_index
from callward.lake.data_files import DataFiles, open_files
from callward.lake.ledger import DataFile
from callward.release import declaration
from callward.release.attack.attacks import Ints
from callward.release.attack.linkage import Table, linked
from callward.release.attack.two_views import ASSURANCE_COLUMNS, BILLING_COLUMNS, Views, linkages, measured
from callward.release.attack.unicity import Unicity, alone
from callward.release.declaration import Release
from callward.retention.requests import restrictions
from callward.retention.requests.restrictions import Hidden
from callward.settings import Settings
from pipelines.attack import counters
from pipelines.release import ROLE, declared
from schemas import release as schema
from schemas.release import READ_OF
from schemas.tables import METADATA
from schemas.views import ID_COLUMN, INDEX, LINES, PARTS, STORED, VIEW_OF, VIEW_PARTS
from transforms.aggregate import contributions, needed, owners, rows_of
from transforms.pool import pool_columns

_SECRET: Final = b"attack on the views"  # distinguishes accounts in memory; not a key of anything
_LINES: Final = ("direction", *LINES)
# Both views, and the index: releases of assurance are made of it, and it knows whose an attempt was.
_COLUMNS: Final = {
    "billing": (*BILLING_COLUMNS, *_LINES),
    "answered": ASSURANCE_COLUMNS,
    "failed": ("start", "called_prefix"),
    INDEX: ("state", "parts", "account", "start_time", *counters.COLUMNS),
}
_COMPARED: Final = ("billing", "answered")  # what both have rows of


class _Read(NamedTuple):
    """Rows of a part or of the index, each one's record as words (shape [n, 2]), and the number of its data file."""

    rows: pa.Table
    records: Words
    file: Ints


def attack_views(settings: Settings, tenant: str, day: date, trials: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return unicity and linkage of a tenant's views of one call date, and unicity at the grain of every release.

    Raises UsageProblem where a view has no rows of that day, or its numbers are past their window.
    """
    files = open_files(settings, ROLE, f"attack on the views of {day}")
    releases = declared(settings) or [declaration.parse(schema.example(name)) for name in schema.examples()]
    read = {view: _read(files, view, tenant, day, releases) for view in _COLUMNS}
    number = _numbers({name: read[name].records for name in (*_COMPARED, INDEX)})
    views = _views(files, read, number)
    counted = _counted(files, read[INDEX].rows, number[INDEX], views)
    links = measured(views, _counters(files, tenant, day, counted))
    return {
        "tenant": tenant,
        "day": day.isoformat(),
        "rows": {part: read[part].rows.num_rows for part in VIEW_PARTS if part in read},
        "linkage": [linkage._asdict() for linkage in linkages(views)],
        "links": {name: [figure._asdict() for figure in figures] for name, figures in links._asdict().items()},
        "before": linked(views.rows, counters.undivided(counted))._asdict(),
        "named": _named(settings, tenant, set(read["billing"].rows["account"].to_pylist()) - {None}),
        "unicity": [unicity._asdict() for unicity in _unicities(read, releases, trials, rng)],
    }


def _named(settings: Settings, tenant: str, accounts: set[str]) -> dict[str, float]:
    """Return the share of the day's accounts that derived tables of each schema name to whoever has the database."""
    words: dict[str, set[str]] = {schema: set() for schema in ("billing", "assurance", "sla")}
    with database.reading(settings) as connection:
        for table in (table for table in METADATA.sorted_tables if table.schema in words):
            for column in (column for column in table.columns if isinstance(column.type, String)):
                query = select(column).where(table.c.tenant == tenant).distinct()
                words[str(table.schema)].update(connection.execute(query).scalars())
    return {schema: len(accounts & named) / max(len(accounts), 1) for schema, named in words.items()}


def _read(files: DataFiles, view: str, tenant: str, day: date, releases: Sequence[Release]) -> _Read:
    stored = PARTS["billing"] if view == "billing" else (view,)  # who opens it sees what is held from it, too
    committed = [file for part in stored for file in files.committed(part, tenant, [day.isoformat()])]
    if not committed and view in _COMPARED:
        raise UsageProblem(f"view {VIEW_OF[view]} of {tenant} has no rows on {day}")
    if view == "billing" and not all(file.numbers for file in committed):
        raise UsageProblem(f"the numbers of {day} are past their window: who stands alone cannot be counted without")
    columns = dict.fromkeys(
        (*_COLUMNS[view], *(name for release in releases if READ_OF[release.view] == view for name in needed(release)))
    )
    hidden = restrictions.hidden(files.workspace.settings, files.workspace.keyring, view).get(tenant)
    secret = row_index.id_secret(files.workspace, view, tenant, day.isoformat()[:7])
    if secret is None and view in _COMPARED:
        raise UsageProblem(f"the keys of {day} are destroyed: which rows are of one call cannot be told any more")
    parts = [_file(files, file, list(columns), hidden, secret) for file in committed]
    nothing = pa.schema([STORED[view].field(name) for name in columns]).empty_table()
    return _Read(
        pa.concat_tables([nothing, *(rows for rows, _ in parts)], promote_options="permissive"),
        np.concatenate([np.zeros((0, 2), np.uint64), *(records for _, records in parts)]),
        np.repeat(np.arange(len(parts)), [part.num_rows for part, _ in parts]),
    )


def _file(
    files: DataFiles, file: DataFile, columns: Sequence[str], hidden: Hidden | None, secret: bytes | None
) -> tuple[pa.Table, Words]:
    id_column = ID_COLUMN.get(file.view, "record_id")
    if hidden is not None and file.file_id in hidden.files:
        raise Problem("a night has not looked yet which of its rows are restricted: run callward nightly first")
    rows = files.rows(file, list(dict.fromkeys((*columns, id_column))))
    if hidden is not None:
        rows = rows.filter(~hidden.rows(file.view))
    ids = flat(rows[id_column])
    records = tokens.as_u64(ids if secret is None else tokens.unpermute(ids, secret))
    return rows.select(list(columns)), records


# -- linkage -----------------------------------------------------------------------------------------------------------


def _views(files: DataFiles, read: Mapping[str, _Read], number: Mapping[str, Ints]) -> Views:
    billing, assurance = read["billing"], read["answered"]
    call = number["billing"], number["answered"]
    return Views.of(billing.rows, assurance.rows, files.workspace.carriers_shown, call, (billing.file, assurance.file))


def _numbers(records: Mapping[str, Words]) -> dict[str, Ints]:
    """Return numbers that name records, shape [n] for each [n, 2]: equal for equal ones."""
    number = np.unique(np.concatenate(list(records.values())), axis=0, return_inverse=True)[1].ravel()
    ends = np.cumsum([len(some) for some in records.values()])
    return dict(zip(records, np.split(number, ends[:-1]), strict=True))


def _counted(files: DataFiles, index: pa.Table, number: Ints, views: Views) -> counters.Counted:
    """Return the rows of the index that assurance has, as its tables count them."""
    rows = np.flatnonzero(flat(row_index.of_view(index, "assurance")).to_numpy(zero_copy_only=False))
    few = index.take(pa.array(rows)).unify_dictionaries()
    few = pool_columns(few, ("trunk_in", "trunk_out"), files.workspace.sites)
    return counters.Counted.of(few, number[rows], views.rows, files.workspace.carriers_shown)


def _counters(files: DataFiles, tenant: str, day: date, counted: counters.Counted) -> list[Table]:
    """Return the counters of the date: those that a date gets when it closes as well, once it has."""
    parts = [file for part in PARTS["assurance"] for file in files.committed(part, tenant, [day.isoformat()])]
    tables = list(counters.live(counted))
    return [*tables, *counters.closed(counted)] if all(file.closed for file in parts) else tables


# -- unicity -----------------------------------------------------------------------------------------------------------


def _unicities(
    read: Mapping[str, _Read], releases: Sequence[Release], trials: int, rng: np.random.Generator
) -> Iterator[Unicity]:
    """Yield the unicity of the views as they are, then of their rows cut to the cells of each release."""
    of_view = {view: rows_of(view, read[READ_OF[view]].rows) for view in READ_OF}
    billing = of_view["billing"]
    lines = owners(billing, _SECRET)
    second = np.asarray(billing["start"].cast(pa.int64())) // 1000
    named = lines.named
    yield _unicity("billing view: second", "subscriber", lines.subscriber[named], second[named], trials, rng)
    who, point = _failed(read["failed"], read[INDEX])
    yield _unicity("failed attempts: minute and area", "account", who, point, trials, rng)
    for release in releases:
        rows, _ = contributions(release, release.grid(), of_view[release.view], _SECRET)
        who = rows.account if release.unit == "account" else rows.subscriber
        what = " × ".join(dimension.name for dimension in release.dimensions)
        yield _unicity(f"release {release.name}: {what}", release.unit, who, rows.cell, trials, rng)


def _failed(failed: _Read, index: _Read) -> tuple[np.ndarray, Ints]:
    """Return whose each row of the part is, as the index alone knows, and its minute and area; shape [known] each."""
    at = row_index.match(index.records, failed.records)
    accounts = owners(index.rows.filter(pa.array(at >= 0)), _SECRET)
    rows = failed.rows.take(pa.array(at[at >= 0]))
    place = _codes(rows["called_prefix"])
    point = np.asarray(rows["start"].cast(pa.int64())) // 60_000 * (place.max(initial=0) + 1) + place
    return accounts.account[accounts.assigned], point[accounts.assigned]


def _unicity(
    what: str, person: str, who: np.ndarray, point: np.ndarray, trials: int, rng: np.random.Generator
) -> Unicity:
    person_of, point_of = (np.unique(column, return_inverse=True)[1] for column in (who, point))
    return alone(what, person, person_of, point_of, trials, rng)


def _codes(column: pa.ChunkedArray) -> Ints:
    """Return values as numbers from 1; null is 0."""
    encoded = pc.dictionary_encode(column.cast(pa.string())).combine_chunks()
    return np.asarray(encoded.indices.cast(pa.int64()).fill_null(-1)) + 1
