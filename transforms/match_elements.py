"""MatchElements: two network elements' records of one call → that of the lower rank is held from billing.

A source has a billing rank or none; 1 counts before 2. Two answered records of sources of different ranks are of one
call where their parties are equal, their answers at most 2 s and their talk at most 1 s apart. Parties are compared by
the tokens of the row index, so nothing is opened that says a number, but for the few calls on both sides of a month's
last midnight: tokens of two months have nothing in common. A record that is held stays accepted, in assurance
and in the index, whose `kind` says it; its billing row goes over to the part that nobody is charged for, and out of the
derived tables. It comes back when the other record is none of its call any more: what is held hangs on what is in the
lake alone, never on what came first.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import select

from callward import database
from callward.columns import flat, has_value, repeated, set_column
from callward.keys import tokens
from callward.keys.register import KeyName
from callward.lake import ledger, row_index
from callward.lake.data_files import DataFiles, inputs_of
from callward.lake.ledger import Changes, DataFile
from schemas.codes import Bucket
from schemas.tables import input_files
from schemas.views import INDEX, SECOND, UNANSWERED, UNCHARGED, UNREACHED, VIEW_BITS
from transforms.elements import Rewrite, ViewRows
from transforms.summarize import negative, summarize
from transforms.write import rewrite, write

LISTED: Final = "listed"  # of the row index's `kind`: as SECOND, but charged all the same
ANSWER_APART_MS: Final = 2000
TALK_APART_MS: Final = 1000
_NOTHING: Final = np.zeros(0, np.int64)
_FOUND: Final = (SECOND, LISTED)
_BILLED: Final = VIEW_BITS["billing"]
_COLUMNS: Final = ("state", "kind", "role", "parts", "answer_time", "end_time", "talk_ms", "file_no")

Mask: TypeAlias = npt.NDArray[np.bool_]
Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass
class Matched:
    """What matching wants committed, and how many records of each source were newly found to be second ones."""

    changes: Changes = field(default_factory=Changes)
    second: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Records:
    """Records of ranked sources that are charged, or were held: where each is, what it is compared by (shape [n])."""

    file: Ints  # a position in the list of data files
    position: Ints
    parties: npt.NDArray[np.uint64]  # [n, 4]: tokens of caller and called
    answer: Ints
    talk: Ints
    rank: Ints
    kind: npt.NDArray[np.object_]
    leg: Mask  # whether other records of the call may say how long it was charged
    source: npt.NDArray[np.object_]

    def take(self, rows: Mask) -> "_Records":
        return _Records(*(of[rows] for of in vars(self).values()))


def match_elements(files: DataFiles, tenant: str, day: date, ranks: Mapping[str, int], *, hold: bool) -> Matched:
    """Find which of a tenant's records of a date are second ones; write data files that do not count yet.

    They are compared with those of the dates beside it, too. `ranks`: of sources, by name. Without `hold` they are only
    listed, and stay billed. Raises FileNotFoundError for a data file that was replaced meanwhile.
    """
    matched, marked, parts = Matched(), list[pa.Table](), [(day + timedelta(n)).isoformat() for n in (-1, 0, 1)]
    with database.reading(files.workspace.settings) as connection:
        matched.changes.read = ledger.versions(connection, tenant, parts)
        homes = [f for f in ledger.files(connection, view=INDEX, tenant=tenant, parts=parts) if f.numbers]
    of_day = np.array([home.part == day.isoformat() for home in homes], bool)
    records = _records(files, homes, ranks, day.isoformat()) if of_day.any() else None
    if records is None:
        return matched
    second = _second(records)
    kind = np.where(second, SECOND if hold else LISTED, np.where(np.isin(records.kind, _FOUND), "call", records.kind))
    changed = of_day[records.file] & (kind != records.kind)
    matched.second = Counter(records.source[changed & second & ~np.isin(records.kind, _FOUND)].tolist())
    for number in np.unique(records.file[changed]):
        mine = np.flatnonzero(changed & (records.file == number))
        mine = mine[np.argsort(records.position[mine])]
        marked.append(_mark(files, homes[number], records.position[mine], kind[mine], matched.changes))
    if marked:
        _move(files, tenant, day.isoformat(), pa.concat_tables(marked).unify_dictionaries(), matched.changes)
    return matched


def _records(files: DataFiles, homes: Sequence[DataFile], ranks: Mapping[str, int], day: str) -> _Records | None:
    """Return records that may be of one call, their parties by the tokens of one date's month; None where there are
    none."""
    month = day[:7]
    found = [part for n, home in enumerate(homes) if (part := _of_file(files, home, n, ranks)) is not None]
    found = [_as_charged(files, homes[part.file[0]], part) for part in found]
    mine = [part for part in found if homes[part.file[0]].part[:7] == month]
    if not mine:
        return None
    answers = np.sort(np.concatenate([part.answer for part in mine]))
    for part in found:
        home = homes[part.file[0]]
        if home.part[:7] != month:
            near = _near(part.answer, answers)
            if near.any():
                mine.append(_in_tokens_of(month, files, home, part.take(near)))
    return _Records(*map(np.concatenate, zip(*(vars(part).values() for part in mine), strict=True)))


def _as_charged(files: DataFiles, home: DataFile, records: _Records) -> _Records:
    """Return records with answer and talk of the charge, where that may be of several legs (transforms/legs.py)."""
    legs = np.flatnonzero(records.leg)
    if not len(legs):
        return records
    answer, talk = records.answer.copy(), records.talk.copy()
    for position, asked, table in _billing_of(files, home, records.position[legs], ["answer", "talk_ms"]):
        charged, own = flat(table["answer"]).take(position), pa.array(answer[legs[asked]])
        answer[legs[asked]] = pc.coalesce(charged.view(pa.int64()), own).to_numpy()
        talk[legs[asked]] = flat(table["talk_ms"]).take(position).to_numpy()
    return replace(records, answer=answer, talk=talk)


def _billing_of(
    files: DataFiles, home: DataFile, position: Ints, columns: list[str]
) -> Iterator[tuple[pa.Array, Ints, pa.Table]]:
    """Yield columns of the billing files that have rows of records of an index file: where, and of which record."""
    ids = flat(files.columns(home, ["record_id"])["record_id"]).take(pa.array(position))
    for file, at, asked in row_index.in_view(files, "billing", home.tenant, home.part, ids):
        yield pa.array(at), asked, files.columns(file, columns)


def _near(answer: Ints, ascending: Ints) -> Mask:
    """Return which answers are near enough to one of others."""
    at = np.minimum(np.searchsorted(ascending, answer - ANSWER_APART_MS), len(ascending) - 1)
    return np.asarray(np.abs(ascending[at] - answer) <= ANSWER_APART_MS)


def _in_tokens_of(month: str, files: DataFiles, home: DataFile, records: _Records) -> _Records:
    """Return records of another month with the tokens that their numbers have in `month`."""
    secret = files.workspace.keyring.key(KeyName(INDEX, home.tenant, month, "token")).secret
    parties = np.zeros_like(records.parties)
    for position, asked, table in _billing_of(files, home, records.position, ["calling_number", "called_number"]):
        numbers = table.take(position).columns
        parties[asked] = np.column_stack([_words(tokens.number_token(number, secret)) for number in numbers])
    return replace(records, parties=parties)


def _of_file(files: DataFiles, home: DataFile, number: int, ranks: Mapping[str, int]) -> _Records | None:
    """Return records of a data file of the index that may be one of two; None where none is."""
    table = files.columns(home, [*_COLUMNS, *row_index.NUMBERS])
    source = _sources(files, table["file_no"])
    rank = np.array([ranks.get(name, 0) for name in source], np.int64)
    called, has_row = _mask(pc.is_valid(table["called_token"])), flat(table["parts"]).to_numpy() & _BILLED > 0
    answered = ~_mask(has_value(table["kind"], *UNANSWERED, UNREACHED))
    accepted = _mask(has_value(table["state"], Bucket.ACCEPTED)) & answered & has_row
    at = np.flatnonzero((rank > 0) & accepted & called & _mask(pc.is_valid(table["talk_ms"])))
    if not len(at):
        return None
    few = table.take(pa.array(at))
    talk = flat(few["talk_ms"]).to_numpy()
    ended = pc.subtract(flat(few["end_time"]).view(pa.int64()), flat(few["talk_ms"]))
    answer = pc.coalesce(flat(few["answer_time"]).view(pa.int64()), ended, pa.scalar(0, pa.int64()))
    parties = [_words(few[f"{side}_token"]) for side in ("calling", "called")]
    return _Records(
        *(np.full(len(at), number), at, np.column_stack(parties), np.asarray(answer), talk),
        rank[at],
        np.asarray(few["kind"].to_numpy(zero_copy_only=False), np.object_),
        *(_mask(pc.is_valid(few["role"])), source[at]),
    )


def _mask(column: pa.Array | pa.ChunkedArray) -> Mask:
    return np.asarray(flat(column).to_numpy(zero_copy_only=False), np.bool_)


def _words(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """Return tokens as words; those of nobody are equal."""
    words = tokens.as_u64(flat(column)).copy()
    words[~_mask(pc.is_valid(column))] = 0
    return words


def _sources(files: DataFiles, file_no: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    """Return the name of the source of each row."""
    encoded = flat(file_no).dictionary_encode()
    numbers: list[int] = encoded.dictionary.to_pylist()
    names: dict[int, str] = {}
    with database.reading(files.workspace.settings) as connection:
        for batch in database.batches(numbers):
            query = select(input_files.c.file_no, input_files.c.source).where(input_files.c.file_no.in_(batch))
            names |= {row.file_no: row.source for row in connection.execute(query)}
    return np.array([names.get(number, "") for number in numbers], np.object_)[encoded.indices.to_numpy()]


def _second(records: _Records) -> Mask:
    """Return which records are of a call that a source of a higher rank (a lower number) has a record of."""
    second = np.zeros(len(records.rank), bool)
    twice = repeated(records.parties[:, 2] ^ (records.parties[:, 0] * np.uint64(3)))
    order = twice[np.lexsort((records.answer[twice], *records.parties[twice].T))]
    parties, answer, talk, rank = (of[order] for of in (records.parties, records.answer, records.talk, records.rank))
    for ahead in range(1, len(order)):
        near = (parties[ahead:] == parties[:-ahead]).all(axis=1) & (answer[ahead:] - answer[:-ahead] <= ANSWER_APART_MS)
        if not near.any():
            break
        alike = near & (np.abs(talk[ahead:] - talk[:-ahead]) <= TALK_APART_MS)
        second[order[ahead:][alike & (rank[ahead:] > rank[:-ahead])]] = True
        second[order[:-ahead][alike & (rank[ahead:] < rank[:-ahead])]] = True
    return second


def _mark(
    files: DataFiles, home: DataFile, position: Ints, kind: npt.NDArray[np.object_], changes: Changes
) -> pa.Table:
    """Have the index say of which kind some records (positions in order) are; return what it says of them."""
    rows = files.rows(home).take(pa.array(position))
    marked = set_column(rows, "kind", pa.array(kind, pa.string()).cast(rows.schema.field("kind").type))
    _add(changes, rewrite(Rewrite(home, _NOTHING, Counter(), position, marked), files))
    return marked.select(["record_id", "file_no", "kind"])


def _move(files: DataFiles, tenant: str, part: str, records: pa.Table, changes: Changes) -> None:
    """Have billing rows of a date's records that are held go over to UNCHARGED, and those of others come back from
    there; the derived tables follow."""
    held, zones = _mask(has_value(records["kind"], SECOND)), files.workspace.billing_zones(tenant)
    for file, at, of in row_index.in_view(files, "billing", tenant, part, flat(records["record_id"])):
        goes = held[of] != (file.view == UNCHARGED)
        if not goes.any():
            continue
        inputs = Counter(inputs_of(records["file_no"].take(pa.array(of[goes]))))
        rows, to = files.rows(file).take(pa.array(at[goes])), UNCHARGED if file.view == "billing" else "billing"
        place = to, tenant, part, file.shard_bits, file.shard
        _add(changes, rewrite(Rewrite(file, at[goes], inputs, _NOTHING, None), files))
        _add(changes, write(ViewRows(*place, rows, inputs, received_on=file.received_on), files))
        derived = summarize("billing", rows, tenant, zones, files.workspace.sites)
        for name, table in (derived if to == "billing" else negative(derived)).items():
            changes.derived.setdefault(name, []).append(table)


def _add(changes: Changes, written: Changes) -> None:
    changes.files += written.files
    changes.superseded |= written.superseded
