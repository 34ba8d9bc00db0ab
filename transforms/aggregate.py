"""Aggregate: data files of a view or the index → what units add to cells of a release, bounded; nothing of who it was.

Files are read once, only the columns that the release needs. A number's area is derived in memory; units are keyed
words that live in sealed batches of this run. Each batch is reduced where it is read (bounding is mergeable), cut by
unit, so that all rows of a unit meet, and reduced again. What comes out is one element per release: the names of the
sealed parts (`gathered`). Whoever commits the release adds them up (`summed`) or partitions them (`Parts`), and draws
noise there: no step here draws any, so a step that is retried gives the same sums.

The figures here are exact. So are those of a `Tally`: they are for the run's own report, and no part of a release.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, zip_longest
from types import NoneType
from typing import Final, NamedTuple

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import PBegin, PCollection

from callward.accounts.entries import UNASSIGNED
from callward.columns import Column, few, flat, has_value
from callward.errors import Problem
from callward.keys import tokens
from callward.keys.register import EVERY_MONTH, KeyName
from callward.lake import row_index
from callward.lake.data_files import DataFiles
from callward.lake.ledger import DataFile
from callward.numbering import places, plan
from callward.release import bounding, measures, suppression
from callward.release.declaration import OUTSIDE, Grid, Release
from callward.retention.requests import restrictions
from callward.storage.store import TRANSIT
from callward.workspace import WorkspaceRef, open_workspace
from schemas.codes import ERASED_ACCOUNT
from schemas.release import DERIVED_COLUMNS, READ_OF
from schemas.views import BILLING_NUMBERS, ID_COLUMN, LINES
from transforms.safe_errors import SafeDoFn
from transforms.spread import Spread

Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

BATCH_ROWS: Final = 1 << 20  # rows of data files that are read by one step, and reduced together
SHARD_ROWS: Final = 2_000_000  # rows whose units meet in one place
_SLAB: Final = 1 << 18  # rows whose columns are worked on at a time: they stay near the processor
_MOST_SHARD_BITS: Final = 10


class Owners(NamedTuple):
    """Whose each row is, as keyed words, and where that is known; uint64 [n] and bool [n] twice."""

    account: Words
    assigned: Mask
    subscriber: Words
    named: Mask

    def known(self, release: Release) -> Mask:
        """Return rows that have the unit of a release; a threshold table counts both."""
        if release.kind == "threshold":
            return self.assigned & self.named
        return self.assigned if release.unit == "account" else self.named


@dataclass(frozen=True)
class Tally:
    """What became of the rows that were read. Exact, so none of it is published.

    `restricted` rows are of persons whose data is not used; `ownerless` ones have no unit, `outside` ones no cell.
    `wrong`: negative values by measure, which add 0.
    """

    rows: int = 0
    restricted: int = 0
    ownerless: int = 0
    outside: int = 0
    wrong: tuple[int, ...] = ()

    def __add__(self, other: "Tally") -> "Tally":
        wrong = [mine + theirs for mine, theirs in zip_longest(self.wrong, other.wrong, fillvalue=0)]
        return Tally(
            self.rows + other.rows,
            self.restricted + other.restricted,
            self.ownerless + other.ownerless,
            self.outside + other.outside,
            tuple(wrong),
        )


@dataclass(frozen=True)
class Aggregated:
    """A release's rows, reduced: names of the sealed parts in the run's own transit folder; no account is in two."""

    parts: tuple[str, ...]
    tally: Tally


@dataclass(frozen=True)
class Task:
    """What to aggregate. `label` keys the draw of cells: the same for a retry, another for another release."""

    release: Release
    files: tuple[DataFile, ...]
    label: str

    @property
    def shard_bits(self) -> int:
        """Return how many leading bits of a unit say its shard; by volume."""
        shards = sum(file.rows for file in self.files) / SHARD_ROWS
        return min(max(int(np.ceil(np.log2(shards))), 0), _MOST_SHARD_BITS) if shards > 1 else 0

    def batches(self) -> list[tuple[DataFile, ...]]:
        """Return the files by tenant and month, about BATCH_ROWS rows together: small ones are read by one step."""
        found = []
        for _, files in groupby(sorted(self.files, key=_place), key=lambda file: (file.tenant, file.part[:7])):
            found += _gathered(list(files))
        return found


def _place(file: DataFile) -> tuple[str, str, str]:
    return file.tenant, file.part, file.file_id


def _gathered(files: list[DataFile]) -> list[tuple[DataFile, ...]]:
    before = np.cumsum([0, *(file.rows for file in files)])[:-1] // BATCH_ROWS
    by_step = groupby(zip(before.tolist(), files, strict=True), key=lambda pair: pair[0])
    return [tuple(file for _, file in pairs) for _, pairs in by_step]


# -- whose a row is ----------------------------------------------------------------------------------------------------


def owners(rows: pa.Table, secret: bytes) -> Owners:
    """Return whose each row of a view is, shape [n].

    The account is who pays. The subscriber of a billing row is the customer's own line: the called number of an
    inbound call, else the calling one; what is no E.164 number (an extension) is a line of its account alone, as many
    accounts have the same. Attempts know no lines: there the account stands for both.
    """
    account, assigned = _by_name(rows["account"], secret)
    if "calling_token" not in rows.column_names:
        return Owners(account, assigned, account, assigned)
    inbound = has_value(rows["direction"], "inbound").to_numpy(zero_copy_only=False)
    line, known = _picked(rows["called_token"], rows["calling_token"], inbound)
    worldwide = np.where(inbound, _is_e164(rows["called_number"]), _is_e164(rows["calling_number"]))
    return Owners(account, assigned, np.where(worldwide, line, line ^ account), known & (assigned | worldwide))


def _by_name(column: Column, secret: bytes) -> tuple[Words, Mask]:
    named = few(column)
    words = np.r_[tokens.as_u64(tokens.mac([named.dictionary], secret))[:, 0], np.uint64(0)]
    nobody = pa.array([UNASSIGNED, ERASED_ACCOUNT], named.dictionary.type)
    assigned = np.r_[_mask(pc.invert(pc.is_in(named.dictionary, nobody))), False]
    at = named.indices.fill_null(len(named.dictionary)).to_numpy(zero_copy_only=False)
    return words[at], assigned[at]


def _picked(where: Column, elsewhere: Column, mask: Mask) -> tuple[Words, Mask]:
    first, second = flat(where), flat(elsewhere)
    words = np.where(mask, tokens.as_u64(first)[:, 0], tokens.as_u64(second)[:, 0])
    return words, np.where(mask, _mask(first.is_valid()), _mask(second.is_valid()))


def _is_e164(numbers: Column) -> Mask:
    return _mask(pc.starts_with(flat(numbers), "+").fill_null(False))


def _mask(column: pa.Array) -> Mask:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.bool_)


# -- which cell a row is in --------------------------------------------------------------------------------------------


def prefixes(numbers: Column) -> pa.DictionaryArray:
    """Country and area of numbers as data files have them (`Places.prefix`); null for those that are no E.164."""
    numbers = flat(numbers)
    certain = pc.if_else(pc.starts_with(numbers, "+"), numbers, pa.scalar(None, numbers.type))
    return few(places(certain, plan("US")).prefix)  # what begins with a plus means the same in every plan


def _columns(release: Release, rows: pa.Table) -> Mapping[str, Column]:
    """Return what dimensions and measures are made of: columns of the rows, and areas of their numbers."""
    derived, there = DERIVED_COLUMNS[release.view], rows.column_names
    return {name: rows[name] if name in there else prefixes(rows[derived[name]]) for name in release.columns}


# -- what rows add -----------------------------------------------------------------------------------------------------


def contributions(release: Release, grid: Grid, rows: pa.Table, secret: bytes) -> tuple[suppression.Rows, Tally]:
    """Return whose rows of a view are, in which cell, and what they add; without those that have no unit or no cell."""
    whose = owners(rows, secret)
    columns = _columns(release, rows)
    cell = grid.index(columns)
    added = measures.values(release.view, [one.name for one in release.measures], columns, rows.num_rows)
    known, inside = whose.known(release), cell != OUTSIDE
    stays = np.flatnonzero(known & inside)
    tally = Tally(
        rows=rows.num_rows,
        ownerless=int(np.count_nonzero(~known)),
        outside=int(np.count_nonzero(known & ~inside)),
        wrong=tuple(added.wrong.tolist()),
    )
    return suppression.Rows(whose.account, whose.subscriber, cell, added.counts).take(stays), tally


def reduced(release: Release, rows: suppression.Rows, secret: bytes) -> suppression.Rows:
    """Fewer rows that come to the same, whatever they are merged with: bounded, or only added up.

    Of a differentially private release the unit alone stays, in both of its columns.
    """
    if release.kind == "threshold":
        return suppression.combine(rows)
    unit = rows.account if release.unit == "account" else rows.subscriber
    if release.bounding.method == "l0":
        kept = bounding.bound_l0(unit, rows.cell, rows.counts, release.bounding.cells, release.caps(), secret)
    else:
        kept = bounding.combine(unit, rows.cell, rows.counts, _once(release))
    return suppression.Rows(kept.unit, kept.unit, kept.cell, kept.counts)


def _once(release: Release) -> npt.NDArray[np.int64]:
    """Limits under clipping: a distinct unit counts once in a cell; nothing else has any but the norm."""
    limits = [1 if release.measure(one.name).distinct else np.iinfo(np.int64).max for one in release.measures]
    return np.array(limits, np.int64)


def totals(release: Release, rows: suppression.Rows) -> tuple[Words, npt.NDArray[np.int64]]:
    """Sums by cell of all rows of their units (`reduced`): whole numbers, or in `bounding.SCALE`-ths under clipping."""
    if release.bounding.method == "l0":
        return bounding.sums(rows.cell, rows.counts)
    return bounding.clip_l2(rows.account, rows.cell, rows.counts, release.clips(), bounding.SCALE)


def scale(release: Release) -> int:
    """Return what sums are multiplied by, and so their sensitivity: divide after the noise is drawn."""
    return bounding.SCALE if release.kind == "dp" and release.bounding.method == "l2" else 1


# -- sealed parts ------------------------------------------------------------------------------------------------------


def _table(words: Sequence[Words], counts: npt.NDArray[np.int64]) -> pa.Table:
    columns = [pa.array(column) for column in (*words, *counts.T)]
    return pa.Table.from_arrays(columns, [str(n) for n in range(len(columns))])


def _words_and_counts(table: pa.Table, words: int) -> tuple[list[Words], npt.NDArray[np.int64]]:
    columns = [flat(column).to_numpy() for column in table.columns]
    return columns[:words], np.stack(columns[words:], axis=1)


def _rows(table: pa.Table) -> suppression.Rows:
    (account, subscriber, cell), counts = _words_and_counts(table, 3)
    return suppression.Rows(account, subscriber, cell, counts)


def _joined(parts: Sequence[suppression.Rows], release: Release) -> suppression.Rows:
    nobody = np.zeros(0, np.uint64)
    none = suppression.Rows(nobody, nobody, nobody, np.zeros((0, len(release.measures)), np.int64))
    account, subscriber, cell, counts = zip(none, *parts, strict=True)
    return suppression.Rows(*map(np.concatenate, (account, subscriber, cell, counts)))


def _shards(rows: suppression.Rows, bits: int) -> Iterator[tuple[int, suppression.Rows]]:
    """Yield each shard that there is, with its rows."""
    if not bits:
        yield 0, rows
        return
    shard = (rows.account >> np.uint64(64 - bits)).astype(np.int64)
    order = np.argsort(shard, kind="stable")
    ends = np.cumsum(np.bincount(shard, minlength=1 << bits))
    for number, at in enumerate(np.split(order, ends[:-1])):
        if len(at):
            yield number, rows.take(at)


@dataclass(frozen=True)
class Parts:
    """The parts of a threshold table, read anew each time they are gone through: one part in memory at a time."""

    files: DataFiles
    names: tuple[str, ...]

    def __iter__(self) -> Iterator[suppression.Rows]:
        return (_rows(self.files.fetch(name)) for name in self.names)


def summed(found: Aggregated, files: DataFiles, release: Release) -> npt.NDArray[np.int64]:
    """Return the whole dense table of a differentially private release, before noise; int64 [cells, measures].

    Its sensitivities are `release.sensitivities()` times `scale(release)`.
    """
    dense = np.zeros((release.grid().size, len(release.measures)), np.int64)
    for name in found.parts:
        (cell,), counts = _words_and_counts(files.fetch(name), 1)
        dense[cell.astype(np.int64)] += counts
    return dense


def figures(stats: suppression.Stats, release: Release) -> npt.NDArray[np.int64]:
    """Return what the groups of a threshold table show; int64 [groups, measures].

    Where a measure is distinct, rows do not add up to it, and the groups' own distinct counts stand.
    """
    shown = stats.counts.copy()
    for at, one in enumerate(release.measures):
        if release.measure(one.name).distinct:
            shown[:, at] = getattr(stats, one.name)  # subscribers, accounts
    return shown


# -- the pipeline ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """A sealed batch by name ("" where there is none), and what there is to tell of how it came about."""

    name: str
    tally: Tally = Tally()


@dataclass(eq=False)
class Aggregate(beam.PTransform[PBegin, PCollection[None]]):
    """The beginning of a pipeline → what `gathered` finds: a runner hands nothing back to who started it.

    The parts stay in the run's transit folder until `Files.clear_spilled`.
    """

    reference: WorkspaceRef
    run_id: str
    task: Task

    def expand(self, begin: PBegin) -> PCollection[None]:
        contribute = _ContributeFn(self.reference, self.run_id, self.task.release, self.task.label)
        contribute.bits = self.task.shard_bits
        reduce = _ReduceFn(self.reference, self.run_id, self.task.release, self.task.label)
        return (
            begin
            | "DataFiles" >> Spread(self.task.batches() or [()], tuple[DataFile, ...])
            | "Contribute" >> beam.ParDo(contribute).with_output_types(tuple[int, Piece])
            | "ByShard" >> beam.GroupByKey()
            | "Reduce" >> beam.ParDo(reduce).with_output_types(tuple[int, Piece])
            | "OneRelease" >> beam.GroupByKey()
            | "Gather"
            >> beam.ParDo(_GatherFn(self.reference, self.run_id, self.task.release, self.task.label)).with_output_types(
                NoneType
            )
        )


def _told(pieces: Iterable[Piece]) -> Tally:
    return sum((piece.tally for piece in pieces), Tally())


class _WorkFn(SafeDoFn):
    def __init__(self, reference: WorkspaceRef, run_id: str, release: Release, label: str) -> None:
        self._reference, self._run_id, self._release, self._label = reference, run_id, release, label

    def setup(self) -> None:
        super().setup()
        self._workspace = open_workspace(self._reference)
        self._files = DataFiles(self._workspace, self._run_id)

    def _secret(self, use: str) -> bytes:
        """Return a secret of this release alone: for the draw of cells, or for words that stand for accounts."""
        name = KeyName("release", "_all", EVERY_MONTH, "bounding")
        return tokens.derive(self._workspace.keyring.key(name).secret, f"{use}|{self._label}")

    def _reduced(self, parts: Sequence[suppression.Rows]) -> suppression.Rows:
        return reduced(self._release, _joined(parts, self._release), self._secret("cells"))


class _ContributeFn(_WorkFn):
    """Data files of one tenant and month → a piece for each shard."""

    bits = 0

    def setup(self) -> None:
        super().setup()
        self._grid = self._release.grid()
        settings, keyring = self._workspace.settings, self._workspace.keyring
        self._hidden = restrictions.hidden(settings, keyring, READ_OF[self._release.view])

    def process(self, files: tuple[DataFile, ...]) -> Iterator[tuple[int, Piece]]:
        parts, tally = [], Tally()
        for file in files:
            for rows, told in self._contributed(file):
                parts.append(rows)
                tally += told
        yield 0, Piece("", tally)
        for shard, rows in _shards(self._reduced(parts), self.bits):
            yield shard, Piece(self._files.spill(_table(rows[:-1], rows.counts)))

    def _contributed(self, file: DataFile) -> Iterator[tuple[suppression.Rows, Tally]]:
        columns = needed(self._release)
        if not (file.numbers or set(BILLING_NUMBERS).isdisjoint(columns)):
            yield _joined([], self._release), Tally(rows=file.rows, ownerless=file.rows)
            return
        rows, restricted = self._unrestricted(file, columns)
        yield _joined([], self._release), Tally(rows=restricted, restricted=restricted)
        secret = self._secret(f"accounts of {file.tenant}")
        for first in range(0, rows.num_rows, _SLAB):
            yield contributions(self._release, self._grid, rows.slice(first, _SLAB), secret)

    def _unrestricted(self, file: DataFile, columns: list[str]) -> tuple[pa.Table, int]:
        """Return rows of a data file that may be used, and how many may not (GDPR article 18)."""
        hidden = self._hidden.get(file.tenant)
        if hidden is None:
            return rows_of(self._release.view, self._files.rows(file, columns)), 0
        if file.file_id in hidden.files:
            raise Problem("a night has not looked yet which of its rows are restricted: run callward nightly first")
        id_column = ID_COLUMN.get(file.view, "record_id")
        read = self._files.rows(file, list(dict.fromkeys((*columns, id_column, "account"))))
        rows = rows_of(self._release.view, read)
        used = rows.filter(~hidden.rows(file.view))
        return used, rows.num_rows - used.num_rows


def needed(release: Release) -> list[str]:
    """Return the columns that are read of a data file: what dimensions and measures are made of, and whose a row is."""
    if release.view == "assurance":
        return list(dict.fromkeys((*release.stored_columns, "account", "state", "parts")))
    lines = ("direction", *LINES) if release.kind == "threshold" or release.unit == "subscriber" else ()
    return list(dict.fromkeys((*release.stored_columns, "account", *lines)))


def rows_of(view: str, rows: pa.Table) -> pa.Table:
    """Return rows as a release names their columns; of the index, where assurance is read, those of the view alone."""
    if view == "billing":
        return rows
    rows = rows.filter(row_index.of_view(rows, "assurance"))
    return rows.rename_columns([_NAMED.get(name, name) for name in rows.column_names])


_NAMED: Final = {stored: name for name, stored in DERIVED_COLUMNS["assurance"].items()}


class _ReduceFn(_WorkFn):
    """The pieces of a shard → its part of the release."""

    def process(self, element: tuple[int, Iterable[Piece]]) -> Iterator[tuple[int, Piece]]:
        pieces = list(element[1])
        rows = self._reduced([_rows(self._files.fetch(piece.name)) for piece in pieces if piece.name])
        if self._release.kind == "threshold":
            part = _table(rows[:-1], rows.counts)
        else:
            cell, sums = totals(self._release, rows)
            part = _table([cell], sums)
        yield 0, Piece(self._files.spill(part), _told(pieces))


class _GatherFn(_WorkFn):
    """All parts of a release → a note of them, under a name of the run's own: the same however often it is written."""

    def process(self, element: tuple[int, Iterable[Piece]]) -> None:
        pieces = list(element[1])
        note = {"parts": sorted(piece.name for piece in pieces), "tally": asdict(_told(pieces))}
        name = _note_name(self._run_id)
        blob = self._files.workspace.transit.seal(json.dumps(note).encode(), name.encode())
        self._files.store.write(f"{TRANSIT}/{name}", blob, lasting=False)


def _note_name(run_id: str) -> str:
    return f"{run_id}-aggregated.seal"


def gathered(files: DataFiles) -> Aggregated:
    """Return what a run's `Aggregate` came to; raises Problem where it has not ended."""
    name = _note_name(files.run_id)
    try:
        blob = files.store.read(f"{TRANSIT}/{name}")
    except FileNotFoundError:
        raise Problem("the batch ended without having added everything up; nothing was released") from None
    note = json.loads(files.workspace.transit.open(blob, name.encode()))
    tally = note["tally"]
    return Aggregated(tuple(note["parts"]), Tally(**{**tally, "wrong": tuple(tally["wrong"])}))
