"""Legs: which records of a call are charged, over all of its legs that are known: new ones, and those in the lake.

A declaration says what each record is to its call (schemas.cdr.ROLES) and which edge leg it is about. The answered
records of one edge leg are one charge; where none is named, those of the call are, and of these the ones of the first
role alone. The union of their times is charged once, and the first of them in a total order (role, start, sequence,
record id) has the billing row. Of a call that left the switch, the times are those of the legs it left by, where any is
known: the caller's own leg may have been answered before anybody was reached. Where such legs were tried and nobody was
reached, its row waits in the part `uncharged`. So it does not matter in which order they come, and no leg waits. What a
leg changes of rows committed before goes into the same commit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import NULL_WORD, flat, has_value, is_absent, ranks, repeated, set_column, words
from callward.keys import tokens
from callward.lake import row_index
from callward.lake.data_files import DataFiles
from callward.lake.ledger import DataFile
from schemas.cdr import ID, ROLES, TIMESTAMP
from schemas.codes import Bucket
from schemas.views import PARTS, SECOND, UNANSWERED, UNCHARGED, UNREACHED, VIEW_BITS
from transforms.calls_found import CallsFound
from transforms.count_shares import UNJOINED
from transforms.deduplicated import Deduplicated
from transforms.elements import Group
from transforms.rate import billed_seconds

_INTERNAL, _OUTWARD, _EGRESS, _UNREACHED = (
    ROLES.index(role) for role in ("internal", "outward", "egress", "unreached")
)
_RANK: Final = np.array([0, 1, 2, 3, 0, 1, 0], np.int8)  # of ROLES: the caller's legs are first, those beyond it second
_BILLED: Final = VIEW_BITS["billing"]
_FROM_INDEX: Final = (
    *("record_id", "call_id", "state", "kind", "leg", "role", "event", "sequence"),
    *("start_time", "answer_time", "end_time", "talk_ms", "parts", "file_no"),
)
_NULL: Final = NULL_WORD.astype(np.int64)
_SPREAD: Final = 1 << 34  # ms: more than lies between any two legs of a call


@dataclass
class Legs:
    """Legs of calls, a row each (shape [n], ids [n, 2]).

    `event`: the number of an edge leg within its call, 0 where the call as a whole is meant. `row`: its place among the
    new rows, or -1; `file` and `position`: its place in the lake. One that is not `accepted` is held, until a person
    chooses what it is. One that is `billed` has a row in the billing view; that of an `unreached` or a `second` one is
    in the part that nobody is charged for.
    """

    call: np.ndarray
    event: np.ndarray
    role: np.ndarray
    start: np.ndarray
    sequence: np.ndarray
    record: np.ndarray
    answered: np.ndarray
    answer: np.ndarray
    end: np.ndarray
    talk: np.ndarray
    leg: np.ndarray
    accepted: np.ndarray
    billed: np.ndarray
    unreached: np.ndarray
    second: np.ndarray
    row: np.ndarray
    file: np.ndarray
    position: np.ndarray

    @classmethod
    def of(cls, table: pa.Table, **more: np.ndarray) -> "Legs":
        """Return legs of a table of schema CDR, or of index rows."""
        zeros = np.zeros(table.num_rows, np.int64)
        kept = dict.fromkeys(("billed", "unreached", "second"), zeros.astype(bool))
        kept |= dict.fromkeys(("row", "file", "position"), zeros - 1)
        if "kind" in table.column_names:
            answered = ~_mask(has_value(table["kind"], *UNANSWERED))
        else:
            answered = _mask(has_value(table["disposition"], "answered"))
        return cls(
            call=tokens.as_u64(table["call_id"]),
            event=events(table["event"]),
            role=flat(pc.fill_null(table["role"], 0)).to_numpy(),
            start=words(table["start_time"]).view(np.int64),
            sequence=flat(pc.fill_null(table["sequence"], -1)).to_numpy(),
            record=tokens.as_u64(table["record_id"]),
            answered=answered,
            answer=words(table["answer_time"]).view(np.int64),
            end=words(pc.coalesce(table["end_time"], table["start_time"])).view(np.int64),
            talk=flat(pc.fill_null(table["talk_ms"], 0)).to_numpy(),
            leg=flat(pc.fill_null(table["leg"], 0)).to_numpy(),
            **{**kept, **more},
        )

    def take(self, rows: np.ndarray) -> "Legs":
        return Legs(**{name: column[rows] for name, column in vars(self).items()})

    @classmethod
    def joined(cls, parts: Sequence["Legs"]) -> "Legs":
        return cls(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])})


@dataclass
class _Decided:
    """Which legs are charged, or would be if somebody had been reached, and of these the talk, answer and end of their
    edge leg (ms; shape [n])."""

    charged: np.ndarray
    unreached: np.ndarray
    talk: np.ndarray
    answer: np.ndarray
    end: np.ndarray
    several: np.ndarray  # whether the edge leg has several records that count, or others say how long

    def times(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.talk, self.answer, self.end


def _mask(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    return np.asarray(flat(column).to_numpy(zero_copy_only=False), bool)


def _known_ms(moments: np.ndarray) -> pa.Array:
    """Return milliseconds as `words` has them (int64 [n]), with its word for null as null."""
    return pa.array(moments, mask=moments == _NULL)


def _times(moments: np.ndarray) -> pa.Array:
    return _known_ms(moments).view(TIMESTAMP)


def events(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return numbers of edge legs, of their ids or as the index has them (uint64 [n]); 0 for null.

    Half of an id tells the few edge legs of one call apart.
    """
    array = flat(column)
    number = tokens.as_u64(array)[:, 0] if array.type == ID else flat(array.fill_null(0)).to_numpy().view(np.uint64)
    return np.where(_mask(pc.is_valid(array)), number, np.uint64(0)) if array.null_count else number


def event_ids(numbers: pa.Array | pa.ChunkedArray) -> pa.FixedSizeBinaryArray:
    """Return ids (ID) that `events` gives those numbers of, as the index has them (int64); null for null."""
    number = events(numbers)
    return tokens.from_u64(np.column_stack([number, np.zeros_like(number)]), _mask(pc.is_valid(flat(numbers))))


# -- which legs are charged --------------------------------------------------------------------------------------------


def decide(legs: Legs) -> _Decided:
    """Decide which of all known legs of some calls are charged."""
    n = len(legs.role)
    none = np.zeros((3, n), bool)
    decided = _Decided(none[0], none[1], legs.talk.copy(), legs.answer.copy(), legs.end.copy(), none[2])
    rows = np.flatnonzero(legs.answered & (legs.role != _INTERNAL) & ~_settled(legs))
    if not len(rows):
        return decided
    few = legs.take(rows)
    names = np.column_stack([few.call, few.event])
    # It tells the records of a call apart; of those of an edge leg one that reached nobody counts for nothing.
    rank = np.where(few.event > 0, few.role == _UNREACHED, _RANK[few.role])
    order = np.lexsort((few.record[:, 1], few.record[:, 0], few.sequence, few.start, rank, *names.T[::-1]))
    rows, few, names, rank = rows[order], few.take(order), names[order], rank[order]
    first = np.r_[True, (names[1:] != names[:-1]).any(axis=1)]
    run = np.cumsum(first) - 1
    left = few.accepted & (few.role == _EGRESS)
    by_others = (
        np.isin(few.role[first], (_OUTWARD, _UNREACHED)) & (np.bincount(run[left], minlength=run[-1] + 1) > 0)
    )[run]
    counts = np.where(by_others, left, few.accepted & (rank == rank[first][run]))
    beyond = (rank > 0) & (few.event == 0)
    reached = (np.bincount(run[beyond], minlength=run[-1] + 1) > 0)[run]
    tried = np.isin(few.call[:, 0], legs.call[legs.accepted & (legs.role == _EGRESS), 0])
    unreached = ((few.role == _UNREACHED) | ((few.role == _OUTWARD) & tried)) & ~reached
    decided.charged[rows[first & few.accepted & ~unreached]] = True
    decided.unreached[rows[first & few.accepted & unreached]] = True
    shared = np.flatnonzero(counts & (by_others | (np.bincount(run[counts], minlength=run[-1] + 1) > 1)[run]))
    if len(shared):
        talk, answer, end = _union(few.take(shared), run[shared])
        at = np.searchsorted(np.unique(run[shared]), run)
        several = np.isin(run, run[shared])
        decided.talk[rows[several]], decided.end[rows[several]] = talk[at[several]], end[at[several]]
        decided.several[rows[several]] = True
        decided.answer[rows[by_others]] = answer[at[by_others]]
    return decided


def _settled(legs: Legs) -> np.ndarray:
    """Return which legs are versions that were set aside of a record that has its row."""
    aside = np.flatnonzero(~legs.accepted)
    settled = np.zeros(len(legs.role), bool)
    if len(aside):
        whole = np.ascontiguousarray(legs.record).view("V16").ravel()
        settled[aside] = np.isin(whole[aside], whole[legs.accepted])
    return settled


def _union(legs: Legs, run: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how long legs talked, when the first was answered and the last ended, per run (ascending): times that
    overlap count once (ms)."""
    began = legs.end - legs.talk
    order = np.lexsort((began, run))
    run, began, answer, end = run[order], began[order], legs.answer[order], legs.end[order]
    first = np.r_[True, run[1:] != run[:-1]]
    starts, number = np.flatnonzero(first), np.cumsum(first) - 1
    offset = number * _SPREAD - began[starts][number]
    until = np.maximum.accumulate(end + offset)
    before = np.where(first, began + offset, np.r_[0, until[:-1]])
    talk = np.maximum(0, end + offset - np.maximum(before, began + offset))
    return np.add.reduceat(talk, starts), np.minimum.reduceat(answer, starts), np.maximum.reduceat(end, starts)


def leg_order(
    call: np.ndarray, role: np.ndarray, answered: np.ndarray, start: np.ndarray, sequence: np.ndarray, by: np.ndarray
) -> np.ndarray:
    """Return rows in order of call, that one first that says what the caller met: of the first role, answered, the last
    to start, the last in sequence (shape [n] each), and at last `by` an id."""
    return np.lexsort((by, ~sequence, ~start, ~answered, _RANK[role], call))


def _numbered(legs: Legs) -> np.ndarray:
    """Return the legs' numbers (int16): 0 is the caller's call, which says what the caller met."""
    number = legs.leg.copy()
    rows = np.flatnonzero(legs.accepted)
    few = legs.take(rows)
    order = leg_order(few.call[:, 0], few.role, few.answered, few.start, few.sequence, few.record[:, 0])
    number[rows[order]] = np.minimum(ranks(few.call[order, 0]), 32_767)
    return number


# -- against the lake --------------------------------------------------------------------------------------------------


def charge_legs(deduplicated: Deduplicated, group: Group, files: DataFiles, found: CallsFound) -> None:
    """Decide who is charged for the calls of a group's deduplicated records, and change committed rows accordingly.

    The rows get `charged`, and where other records say how long, `event_ms`, `event_answer` and `event_end`.
    """
    rows = deduplicated.rows
    charged, touched = may_be_charged(rows), list(_with_roles(deduplicated, group))
    legs, homes = _known(deduplicated, files, touched, found) if touched else (None, [])
    if legs is None:
        deduplicated.rows = rows.append_column("charged", pa.array(charged))
        return
    decided = decide(legs)
    _count_unjoined(legs, decided, deduplicated)
    new = np.flatnonzero((legs.row >= 0) & legs.accepted)
    charged[legs.row[new]] = decided.charged[new]
    rows = rows.append_column("charged", pa.array(charged))
    if decided.unreached[new].any():
        unreached = np.zeros(rows.num_rows, bool)
        unreached[legs.row[new]] = decided.unreached[new]
        rows = rows.append_column(UNREACHED, pa.array(unreached))
    rows = _with_events(rows, legs.row[new], decided, new)
    deduplicated.rows = _renumber(legs, rows, touched, homes, deduplicated, group, files)
    _change_committed(legs, decided, homes, deduplicated, group, files)


def _count_unjoined(legs: Legs, decided: _Decided, deduplicated: Deduplicated) -> None:
    """Count calls that are charged by the leg they left by, beyond an internal channel, where no caller's leg names
    them: the caller's call may be charged as well, under a name of its own."""
    calls = legs.call[:, 0]
    heads = decided.charged & (legs.role == _EGRESS) & (legs.event == 0)
    heads &= np.isin(calls, calls[legs.accepted & (legs.role == _INTERNAL)])
    if heads.any():
        of_row = tokens.as_u64(deduplicated.rows["call_id"])[:, 0]
        at = np.flatnonzero(np.isin(of_row, calls[heads]))
        at = at[np.unique(of_row[at], return_index=True)[1]]  # a call counts once
        sources = deduplicated.rows["source"].take(pa.array(at)).to_pylist()
        deduplicated.shares.update((name, UNJOINED) for name in sources)


def may_be_charged(records: pa.Table) -> np.ndarray:
    """Return which records (schema CDR) are charged if no other of their call is (shape [n])."""
    answered = _mask(has_value(records["disposition"], "answered"))
    role = records["role"]
    return answered if is_absent(role) else answered & (flat(pc.fill_null(role, 0)).to_numpy() != _INTERNAL)


def _with_roles(deduplicated: Deduplicated, group: Group) -> Iterator[pa.Table]:
    """Yield the records that may change who is charged (schema CDR), of sources that declare legs."""
    ends = group.amended.filter(has_value(group.amended["piece"], "close", "interim"))  # quality alone charges nobody
    for table in (deduplicated.rows, deduplicated.held, ends, group.withdrawn):
        if table.num_rows and table["role"].null_count < table.num_rows:
            yield table if not table["role"].null_count else table.filter(pc.is_valid(table["role"]))


def _known(
    deduplicated: Deduplicated, files: DataFiles, touched: Sequence[pa.Table], found: CallsFound
) -> tuple[Legs | None, list[DataFile]]:
    """Return the legs of calls of which several are known, or one in the lake; None where there is no such call; and
    the data files that legs of the lake are in."""
    homes: list[DataFile] = []
    stored: list[Legs] = []
    for file, position in found.of(touched):
        position = deduplicated.staying(file, position)
        if len(position):
            stored.append(_stored(file, position, len(homes), deduplicated, files))
            homes.append(file)
    new = [(table, _of_roles(table)) for table in (deduplicated.rows, deduplicated.held)]
    calls = [tokens.as_u64(table["call_id"])[rows, 0] for table, rows in new]
    all_calls = np.concatenate(calls)
    several = np.zeros(len(all_calls), bool)
    several[repeated(all_calls)] = True
    roles = [flat(table["role"]).take(pa.array(rows)).to_numpy() for table, rows in new]
    several |= np.concatenate(roles) == _UNREACHED  # it is decided alone, too
    if stored:
        several |= np.isin(all_calls, np.concatenate([legs.call[:, 0] for legs in stored]))
    if not several.any() and not stored:
        return None, []
    of_new = zip(new, np.split(several, [len(calls[0])]), (True, False), strict=True)
    return Legs.joined([*(_new(table, rows[few], accepted) for (table, rows), few, accepted in of_new), *stored]), homes


def _of_roles(table: pa.Table) -> np.ndarray:
    return np.flatnonzero(_mask(pc.is_valid(table["role"])))


def _new(table: pa.Table, rows: np.ndarray, accepted: bool) -> Legs:
    few = table.take(pa.array(rows)) if len(rows) < table.num_rows else table
    return Legs.of(few, row=rows if accepted else rows * 0 - 1, accepted=np.full(len(rows), accepted))


def _stored(file: DataFile, position: np.ndarray, home: int, deduplicated: Deduplicated, files: DataFiles) -> Legs:
    """Return legs of a data file of the index, as they are after what this commit changes of them."""
    table = deduplicated.now(file, position, files, _FROM_INDEX)
    return Legs.of(
        table,
        accepted=_mask(has_value(table["state"], Bucket.ACCEPTED)),
        billed=flat(table["parts"]).to_numpy() & _BILLED > 0,
        unreached=_mask(has_value(table["kind"], UNREACHED)),
        second=_mask(has_value(table["kind"], SECOND)),
        file=np.full(len(position), home),
        position=position,
    )


def _with_events(rows: pa.Table, at: np.ndarray, decided: _Decided, new: np.ndarray) -> pa.Table:
    """Return rows with the talk, answer and end of their edge legs, where any of these has several records."""
    if not decided.several[new].any():
        return rows
    some = new[decided.several[new]]
    where = at[decided.several[new]]
    talk, answer, end = np.full((3, rows.num_rows), _NULL)
    talk[where], answer[where], end[where] = (of[some] for of in decided.times())
    of_event = {
        "event_ms": ("talk_ms", _known_ms(talk)),
        "event_answer": ("answer_time", _times(answer)),
        "event_end": ("end_time", _times(end)),
    }
    for name, (own, of) in of_event.items():
        rows = rows.append_column(name, pc.coalesce(of, rows[own]))
    return rows


def _change_committed(
    legs: Legs,
    decided: _Decided,
    homes: Sequence[DataFile],
    deduplicated: Deduplicated,
    group: Group,
    files: DataFiles,
) -> None:
    """Take away billing rows of committed legs that are not charged any more; change those of other talk, and move
    those between the parts of the view whose call reached somebody now, or nobody."""
    there = (legs.file >= 0) & legs.accepted & legs.answered & legs.billed
    leaves = np.flatnonzero(there & ~decided.charged & ~decided.unreached)
    left = np.concatenate([tokens.as_u64(t["call_id"]) for t in (deduplicated.held, group.withdrawn)])
    fewer = np.isin(legs.call[:, 0], left[:, 0])
    moves = there & (decided.charged | decided.unreached) & (decided.unreached != legs.unreached)
    changes = np.flatnonzero(moves | (there & decided.charged & (decided.several | fewer)))
    for number, file in enumerate(homes):
        gone = leaves[legs.file[leaves] == number]
        if len(gone):
            _leave_billing(file, legs.take(gone), deduplicated, group, files)
        stays = changes[legs.file[changes] == number]
        if len(stays):
            few, unreached = legs.take(stays), decided.unreached[stays]
            times = [of[stays] for of in decided.times()]
            _amend_billing(file, few, times, unreached | few.second, deduplicated, group, files)
            _restate(file, few.take(moves[stays]), unreached[moves[stays]], deduplicated, files)


def _renumber(
    legs: Legs,
    rows: pa.Table,
    touched: Sequence[pa.Table],
    homes: Sequence[DataFile],
    deduplicated: Deduplicated,
    group: Group,
    files: DataFiles,
) -> pa.Table:
    """Return the rows with the numbers of their legs among all that are known; committed ones that have another number
    now change. Of sources alone that do not say the number themselves."""
    sources = files.workspace.settings.sources
    silent = [s.name for s in sources if "leg" not in files.workspace.declaration(s).declared_fields()]
    numbered = [tokens.as_u64(t["call_id"].filter(has_value(t["source"], *silent)))[:, 0] for t in touched]
    mine = np.flatnonzero(np.isin(legs.call[:, 0], np.concatenate(numbered)))
    if not len(mine):
        return rows
    few = legs.take(mine)
    number = _numbered(few)
    new = few.row >= 0
    leg = flat(rows["leg"]).to_numpy().copy()
    leg[few.row[new]] = number[new]
    moved = (few.file >= 0) & few.accepted & (number != few.leg)
    for home, file in enumerate(homes):
        at = np.flatnonzero(moved & (few.file == home))
        if len(at):
            _move(file, few.take(at), number[at], deduplicated, group, files)
    return set_column(rows, "leg", pa.array(leg))


def _move(
    home: DataFile, legs: Legs, number: np.ndarray, deduplicated: Deduplicated, group: Group, files: DataFiles
) -> None:
    """Give committed legs other numbers."""
    order = np.argsort(legs.position)
    position, number = legs.position[order], number[order].astype(np.int16)
    rows = deduplicated.now(home, position, files)
    deduplicated.change(home, position, set_column(rows, "leg", pa.array(number)), files)
    for file, at, of in _rows_of_view("assurance", home, legs.record[order], group, files):
        rows = deduplicated.now(file, at, files)
        deduplicated.change(file, at, set_column(rows, "leg", pa.array(number[of])), files)


def _leave_billing(home: DataFile, legs: Legs, deduplicated: Deduplicated, group: Group, files: DataFiles) -> None:
    order = np.argsort(legs.position)
    position, record = legs.position[order], legs.record[order]
    rows = deduplicated.now(home, position, files)
    file_no = rows["file_no"]
    for file, at, of in _rows_of_view("billing", home, record, group, files):
        deduplicated.leave(file, at, file_no.take(pa.array(of)), files)
    parts = pc.subtract(rows["parts"], pa.scalar(_BILLED, pa.int16()))
    changed = set_column(rows, "parts", parts)
    kind = pa.repeat("leg", rows.num_rows).cast(rows.schema.field("kind").type)
    deduplicated.change(home, position, set_column(changed, "kind", kind), files)


def _amend_billing(
    home: DataFile,
    legs: Legs,
    times: Sequence[np.ndarray],
    uncharged: np.ndarray,
    deduplicated: Deduplicated,
    group: Group,
    files: DataFiles,
) -> None:
    """Give committed legs the times of their edge legs, in the part of billing that their rows belong to."""
    file_no = deduplicated.now(home, legs.position, files, ["file_no"])["file_no"]
    for file, at, of in _rows_of_view("billing", home, legs.record, group, files):
        rows = deduplicated.now(file, at, files)
        talk, answer, end = (time[of] for time in times)
        before = {name: words(rows[name]).view(np.int64) for name in ("talk_ms", "answer", "end")}
        answer = np.where(answer == _NULL, before["answer"], answer)  # not every record says when
        now = {"talk_ms": pa.array(talk), "answer": _times(answer), "end": _times(end)}
        differs = (before["talk_ms"] != talk) | (before["answer"] != answer) | (before["end"] != end)
        now["billable_s"] = billed_seconds(now["talk_ms"], rows["direction"], rows["charged_side"])
        for name, column in now.items():
            rows = set_column(rows, name, column)
        goes = uncharged[of] != (file.view == UNCHARGED)
        stays = differs & ~goes
        if stays.any():
            deduplicated.change(file, at[stays], rows.filter(pa.array(stays)), files)
        if goes.any():
            of_rows, part = file_no.take(pa.array(of[goes])), "billing" if file.view == UNCHARGED else UNCHARGED
            deduplicated.leave(file, at[goes], of_rows, files)
            deduplicated.move(file, rows.filter(pa.array(goes)), of_rows, part)


def _restate(home: DataFile, legs: Legs, unreached: np.ndarray, deduplicated: Deduplicated, files: DataFiles) -> None:
    """Have the index say of committed legs whether their call reached nobody."""
    if not len(unreached):
        return
    order = np.argsort(legs.position)
    rows = deduplicated.now(home, legs.position[order], files)
    kind = pa.array(np.where(unreached[order], UNREACHED, "call")).cast(rows.schema.field("kind").type)
    deduplicated.change(home, legs.position[order], set_column(rows, "kind", kind), files)


def _rows_of_view(
    view: str, home: DataFile, record: np.ndarray, group: Group, files: DataFiles
) -> Iterator[tuple[DataFile, np.ndarray, np.ndarray]]:
    """Yield where rows of records of an index file lie in a view: file, positions, and of which record each is."""
    for file in (file for part in PARTS[view] for file in files.committed(part, home.tenant, [home.part])):
        if file.overlaps(group.bits, group.shard):
            of_row = row_index.places(files, file, tokens.from_u64(record))
            at = np.flatnonzero(of_row >= 0)
            if len(at):
                yield file, at, of_row[at]
