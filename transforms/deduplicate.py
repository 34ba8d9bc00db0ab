"""Deduplicate: each record once. Duplicates are counted, versions in conflict suspended, in the group and in the lake.

Of two versions of a record the one with the later (number, answered, end, talk, content hash) is the row, whichever
came first; the order is the same in the group and against the lake, so the end state never depends on order. Answered
versions that would be charged differently, of which no number says which counts, are held: none is a row until a person
chooses one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import or_

from callward import database, sources
from callward.columns import flat, has_value, is_absent, ranks, repeated, set_column, words
from callward.keys import tokens
from callward.keys.register import KeyName
from callward.lake import ledger, row_index
from callward.lake.data_files import DataFiles
from callward.lake.ledger import Changes, DataFile
from callward.lake.row_index import Located
from schemas.cdr import CDR, NUMBERS
from schemas.codes import Bucket, Suspense
from schemas.views import FOUND_BY, INDEX, PARTS, ROW_INDEX, TOKENS, UNANSWERED, VIEW_PARTS
from transforms import earlier
from transforms.calls_found import find_calls
from transforms.charges import Charge, charges_of
from transforms.coarsen import coarsen
from transforms.deduplicated import Deduplicated, Gone
from transforms.elements import Group, Rewrite, ViewRows
from transforms.legs import charge_legs, event_ids, leg_order
from transforms.onward import own, put_back, with_onward
from transforms.rate import billable_seconds, billed_seconds
from transforms.split import with_answered
from transforms.suspend import conflicting_versions


def number_occurrences(table: pa.Table) -> pa.Table:
    """Add a record's occurrence number within its file, by position, where the id is of its content.

    Two equal calls in one file both stay; the same file again gives the same ids again.
    """
    counted = flat(table["by_content"]).to_numpy(zero_copy_only=False)
    if not counted.any():
        return table
    ids = tokens.as_u64(table["record_id"]).copy()
    place = [words(table[name]) for name in ("line", "block", "file_no")]
    order = np.lexsort((*place, ids[:, 1], ids[:, 0]))
    order = order[counted[order]]
    same = np.column_stack([ids[order], words(table["file_no"])[order]])
    new_run = np.r_[True, (same[1:] != same[:-1]).any(axis=1)]
    occurrence = ranks(np.cumsum(new_run))
    of_row = np.zeros(table.num_rows, np.uint64)
    of_row[order] = occurrence.astype(np.uint64)
    own_call = (tokens.as_u64(table["call_id"]) == ids).all(axis=1)  # a call that no other record names
    ids[:, 1] ^= of_row << np.uint64(32)
    if own_call[of_row > 0].any():
        call_ids = np.where(own_call[:, None], ids, tokens.as_u64(table["call_id"]))
        table = set_column(table, "call_id", tokens.from_u64(call_ids))
    if not is_absent(table["earlier"]):
        table = set_column(table, "earlier", earlier.numbered(table["earlier"], of_row))
    return set_column(table, "record_id", tokens.from_u64(ids))


def number_legs(table: pa.Table) -> pa.Table:
    """Number legs where the source does not say which record is the caller's call: it is the attempt that was answered,
    else the last (leg 0), as its outcome is what the caller met."""
    if not pc.any(pc.is_null(table["leg"])).as_py():
        return table
    call = tokens.as_u64(table["call_id"])
    leg = np.zeros(len(call), np.int16)
    rows = repeated(call[:, 0])
    if len(rows):
        few = table.take(pa.array(rows))
        role = flat(pc.fill_null(few["role"], 0)).to_numpy()
        start, sequence = (flat(few["start_time"]).view(pa.int64()), flat(pc.fill_null(few["sequence"], -1)))
        record = tokens.as_u64(few["record_id"])[:, 0]
        # Half of a 128-bit id decides here: the records of one call meet, and two calls share it once in 2^64.
        order = leg_order(call[rows, 0], role, _answered(few), start.to_numpy(), sequence.to_numpy(), record)
        leg[rows[order]] = np.minimum(ranks(call[rows[order], 0]), 32_767)
    return set_column(table, "leg", pc.coalesce(table["leg"], pa.array(leg)))


def deduplicate(
    calls: pa.Table,
    amended: pa.Table,
    withdrawn: pa.Table,
    files: DataFiles,
    committed: Sequence[DataFile],
    before: Sequence[DataFile] = (),
    *,
    chosen: bool = False,
) -> Deduplicated:
    """Deduplicate one tenant's whole calls (schema CDR) among themselves and against `committed` files of the index.

    `amended` are committed rows that change, `withdrawn` those that go first; `before` are files of the index that hold
    rows of earlier generations of the calls' sources. `chosen` calls are versions that a person chose of those that
    were set aside: each is the row.
    """
    calls = with_onward(number_occurrences(calls), files.workspace)
    content = tokens.as_u64(flat(calls["content"]))
    keep, duplicate, conflict, held = _among(calls, content)
    deduplicated = Deduplicated(calls)
    if not keep.all():
        deduplicated.repeat(calls.filter(pa.array(duplicate)))
        deduplicated.conflicts = calls.filter(pa.array(conflict))
        deduplicated.held = calls.filter(pa.array(held))
        calls = calls.filter(pa.array(keep))
    if withdrawn.num_rows:
        _withdraw(withdrawn, deduplicated, files, committed)
    if before:
        calls = _against_earlier(calls, deduplicated, files, before)
    # Legs are counted over rows that stay: a repeated record is no further attempt.
    deduplicated.rows = _against_lake(number_legs(calls), deduplicated, files, committed, chosen=chosen)
    if amended.num_rows:
        _amend(amended, deduplicated, files, committed)
    return deduplicated


def _order_words(content: np.ndarray) -> np.ndarray:
    """Return unsigned words as signed ones of the same order."""
    return (content ^ np.uint64(1 << 63)).view(np.int64)


def _versions(calls: pa.Table, content: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """Return what orders the versions of a record, later is greater (shape [n, 6]): their number, whether answered,
    end, talk, content."""
    end = flat(pc.fill_null(flat(calls["end_time"]).view(pa.int64()), -1)).to_numpy()
    talk = flat(pc.fill_null(calls["talk_ms"], -1)).to_numpy()
    return np.column_stack([_numbers(calls), answered.astype(np.int64), end, talk, _order_words(content)])


def _numbers(calls: pa.Table) -> np.ndarray:
    """Return the number of each version, as its source declares it; -1 where it does not."""
    return np.asarray(flat(pc.fill_null(calls["version"], -1)).to_numpy())


def _answered(calls: pa.Table) -> np.ndarray:
    return np.asarray(has_value(calls["disposition"], "answered").to_numpy(zero_copy_only=False))


def _later(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Row by row, whether one version is later than the other (lexicographic)."""
    later, decided = np.zeros(len(ours), bool), np.zeros(len(ours), bool)
    for column in range(ours.shape[1]):
        later |= ~decided & (ours[:, column] > theirs[:, column])
        decided |= ours[:, column] != theirs[:, column]
    return later


def _among(calls: pa.Table, content: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return masks: rows that stay, repetitions, versions that lose to another row of the group, and those held.

    Rows of one id but of other dates are other records, as against the lake: some switches count anew each day. What
    has an earlier version number than another is a repetition: its source says which counts.
    """
    n = calls.num_rows
    keep, duplicate, conflict, held = np.ones(n, bool), *(np.zeros(n, bool) for _ in range(3))
    ids = tokens.as_u64(calls["record_id"])
    rows = repeated(ids[:, 0])
    if not len(rows):
        return keep, duplicate, conflict, held
    few = calls.take(pa.array(rows))
    version = _versions(few, content[rows], _answered(few))
    place = [words(few[name]).astype(np.int64) for name in ("line", "block", "file_no")]
    id_few = np.column_stack([words(few["call_date"].cast(pa.int32())), ids[rows]])
    # Per id the greatest version first, and of equal versions the one that came first.
    backwards = [~version[:, column] for column in reversed(range(version.shape[1]))]
    order = np.lexsort((*place, *backwards, *id_few.T))
    rows, version, id_few = rows[order], version[order], id_few[order]
    new_id = np.r_[True, (id_few[1:] != id_few[:-1]).any(axis=1)]
    run = np.cumsum(new_id) - 1
    superseded = version[:, 0] < version[np.flatnonzero(new_id)[run], 0]
    same_content = np.r_[False, (version[1:, -2:] == version[:-1, -2:]).all(axis=1)] & ~new_id
    lost = ~same_content & ~new_id & ~superseded
    duplicate[rows[same_content | superseded]] = True
    undecided = np.isin(run, _charged_differently(calls, rows, run, lost)) & ~same_content & ~superseded
    conflict[rows[lost & ~undecided]] = True
    held[rows[undecided]] = True
    keep[rows[~new_id | undecided]] = False
    return keep, duplicate, conflict, held


def _charged_differently(calls: pa.Table, rows: np.ndarray, run: np.ndarray, lost: np.ndarray) -> list[int]:
    """Return the runs (versions of one record, `rows` of the calls) with answered versions of different charge."""
    charges: dict[int, set[Charge]] = {}
    several = np.isin(run, run[lost])  # few: a loop over rows is fine
    for number, charge in zip(run[several], charges_of(calls.take(pa.array(rows[several]))), strict=True):
        charges.setdefault(int(number), set()).update([charge] if charge else [])
    return [number for number, different in charges.items() if len(different) > 1]


_CHARGED_BY = ("answer_time", "talk_ms", "account", "direction", "jurisdiction")
_CHARGED_TO = ("calling_token", "called_token", "rated_token")
_VERSION = ("content", "end_time", "talk_ms", "version")


def _against_lake(
    calls: pa.Table, deduplicated: Deduplicated, files: DataFiles, committed: Sequence[DataFile], *, chosen: bool
) -> pa.Table:
    """Return the calls that the lake does not have yet, or has in a version that loses; those rows go."""
    keep, lost, winners = np.ones(calls.num_rows, bool), [], [np.zeros(0, np.int64)]
    found = list(row_index.find(files, committed, calls["record_id"], calls["call_date"]))
    aside = _set_aside(calls, deduplicated, files, [versions for _, versions in found], chosen=chosen)
    known = np.zeros(calls.num_rows, bool)
    for located in (rows for rows, _ in found if len(rows.position)):
        known[located.asked] = True
        located = _still_there(located, deduplicated)
        incoming = calls.take(pa.array(located.asked))
        same, wins, undecided = _judged(incoming, located, aside, files, chosen=chosen)
        deduplicated.repeat(incoming.filter(pa.array(same)))
        loses = incoming.filter(pa.array(~same & ~wins & ~undecided))
        deduplicated.conflicts = pa.concat_tables([deduplicated.conflicts, loses])
        deduplicated.held = pa.concat_tables([deduplicated.held, incoming.filter(pa.array(undecided))])
        keep[located.asked[~wins | undecided]] = False
        leaves = wins | undecided
        if leaves.any():
            lost.append(_leave_index(located.file, located.position[leaves], deduplicated, files))
            winners.append(located.asked[leaves])
    if lost:
        rows, at = pa.concat_tables(lost, promote_options="default"), np.concatenate(winners)
        is_held = ~keep[at]
        _replace(calls.take(pa.array(at)), rows, is_held, deduplicated, files)
        legs = flat(calls["leg"]).to_numpy().copy()
        legs[at] = flat(rows["leg"]).to_numpy()  # the other attempts of its call may be there already
        calls = set_column(calls, "leg", pa.array(legs, pa.int16()))
    if aside and not chosen:
        keep &= _of_held(calls, keep & ~known, aside, deduplicated)
    return calls if keep.all() else calls.filter(pa.array(keep))


def _judged(
    incoming: pa.Table, located: Located, aside: "_SetAside", files: DataFiles, *, chosen: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return of calls and the committed rows of their records: which repeat one, which take its place, and of which
    nobody knows which to charge. `chosen` ones take the place of whatever differs from them."""
    stored = files.columns(located.file, (*_VERSION, "kind")).take(pa.array(located.position))
    content, theirs = (tokens.as_u64(flat(table["content"])) for table in (incoming, stored))
    ours, before = (
        _versions(incoming, content, _answered(incoming)),
        _versions(stored, theirs, _was_answered(stored)),
    )
    same = (content == theirs).all(axis=1) | (ours[:, 0] < before[:, 0])
    wins = ~same & _later(ours, before)
    differs = ~same & (ours[:, 0] == before[:, 0])
    if chosen:
        return same, wins | differs, np.zeros(len(wins), bool)
    if differs.any():
        again = differs.copy()
        again[differs] = aside.isin(incoming.filter(pa.array(differs)))
        same, wins, differs = same | again, wins & ~again, differs & ~again
    undecided = differs & ours[:, 1].astype(bool) & before[:, 1].astype(bool)
    if undecided.any():
        position = pa.array(located.position[undecided])
        undecided[undecided] = _differ_in_charge(incoming.filter(pa.array(undecided)), located.file, position, files)
    return same, wins, undecided


class _SetAside(dict[tuple[bytes, date], dict[bytes, int]]):
    """Versions of records that were set aside: by id and date, the number of each by its content."""

    def isin(self, calls: pa.Table) -> np.ndarray:
        """Return which calls (schema CDR) are such versions."""
        if not self:
            return np.zeros(calls.num_rows, bool)
        return np.array([content in self.get(name, ()) for name, content in _named(calls)], bool)

    def add(self, calls: pa.Table, stored: pa.Table) -> np.ndarray:
        """Add versions of calls (`stored`: content, version), row by row; return which are those calls themselves."""
        own = np.zeros(stored.num_rows, bool)
        versions = zip(_named(calls), stored["content"].to_pylist(), stored["version"].to_pylist(), strict=True)
        for at, ((name, content), before, version) in enumerate(versions):
            self.setdefault(name, {})[before] = -1 if version is None else version
            own[at] = content == before
        return own


def _named(calls: pa.Table) -> Iterator[tuple[tuple[bytes, date], bytes]]:
    columns = (calls[name].to_pylist() for name in ("record_id", "call_date", "content"))
    yield from (((record, day), content) for record, day, content in zip(*columns, strict=True))


def _set_aside(
    calls: pa.Table, deduplicated: Deduplicated, files: DataFiles, found: Iterable[Located], *, chosen: bool
) -> _SetAside:
    """Return versions of the calls that were set aside before; of `chosen` ones the own entry of the index goes."""
    aside = _SetAside()
    for located in (versions for versions in found if len(versions.position)):
        stored = files.columns(located.file, ("content", "version", "file_no")).take(pa.array(located.position))
        own = aside.add(calls.take(pa.array(located.asked)), stored)
        if chosen and own.any():
            deduplicated.gone[located.file].add(located.position[own], stored["file_no"].filter(pa.array(own)))
    return aside


def _of_held(calls: pa.Table, new: np.ndarray, aside: _SetAside, deduplicated: Deduplicated) -> np.ndarray:
    """Hold versions of records of which others are held, unless their number is higher; return which others stay."""
    ids = pa.array([record for record, _ in aside], tokens.ID_TYPE)
    rows = np.flatnonzero(new & pc.is_in(flat(calls["record_id"]), ids).to_numpy(zero_copy_only=False))
    few = calls.take(pa.array(rows))
    again, highest = aside.isin(few), [max(aside.get(name, {None: -2}).values()) for name, _ in _named(few)]
    held = ~again & (_numbers(few) <= np.array(highest, np.int64))
    deduplicated.repeat(few.filter(pa.array(again)))
    deduplicated.held = pa.concat_tables([deduplicated.held, few.filter(pa.array(held))])
    stays = np.ones(calls.num_rows, bool)
    stays[rows[again | held]] = False
    return stays


def _differ_in_charge(incoming: pa.Table, file: DataFile, position: pa.Array, files: DataFiles) -> np.ndarray:
    """Return which answered calls would be charged otherwise than the committed version of their record, each by what
    it says itself: the index tells, and numbers by their tokens while it has these."""
    tokened = _CHARGED_TO if file.numbers else ()
    before = files.columns(file, [*_CHARGED_BY, *tokened]).take(position)
    pairs = [(incoming[name], before[name]) for name in _CHARGED_BY if name != "talk_ms"]
    pairs.append((billable_seconds(incoming["talk_ms"]), billable_seconds(before["talk_ms"])))
    if tokened:
        secret = files.workspace.keyring.key(KeyName(INDEX, file.tenant, file.part[:7], "token")).secret
        pairs += [(tokens.number_token(incoming[FOUND_BY[TOKENS.index(t)]], secret), before[t]) for t in tokened]
    differ = np.zeros(incoming.num_rows, bool)
    for ours, theirs in pairs:  # few: a loop over rows is fine
        differ |= np.array([a != b for a, b in zip(flat(ours).to_pylist(), theirs.to_pylist(), strict=True)], bool)
    return differ


def _was_answered(rows: pa.Table) -> np.ndarray:
    return ~np.asarray(has_value(rows["kind"], *UNANSWERED).to_numpy(zero_copy_only=False))


def _still_there(located: Located, deduplicated: Deduplicated) -> Located:
    """Return located rows without those that go."""
    if located.file not in deduplicated.gone:
        return located
    stays = ~np.isin(located.position, deduplicated.gone[located.file].rows)
    return Located(located.file, located.position[stays], located.asked[stays])


def _withdraw(withdrawn: pa.Table, deduplicated: Deduplicated, files: DataFiles, committed: Sequence[DataFile]) -> None:
    """Take rows that are no records of their own any more out of index and views; they were merged into another.

    Of several versions of a record one has the row, on each date.
    """
    withdrawn = withdrawn.take(pa.array(_first_of_each(withdrawn)))
    for located in row_index.locate(files, committed, withdrawn["record_id"], withdrawn["call_date"]):
        origin = _leave_index(located.file, located.position, deduplicated, files)
        records = withdrawn.take(pa.array(located.asked))
        for name in ("file_no", "block", "line", "carried_ms"):
            records = set_column(records, name, origin[name])
        records = set_column(records, "was_ms", origin["carried_ms"])
        for _ in _leave_views(records, origin, deduplicated, files):
            pass
        deduplicated.entries += ledger.entries(records, Bucket.MERGED)
        deduplicated.withdrawn.append(records)


def _first_of_each(records: pa.Table) -> np.ndarray:
    """Return where each id stands first, of each date."""
    named = np.column_stack([words(records["call_date"].cast(pa.int32())), tokens.as_u64(records["record_id"])])
    return np.sort(np.unique(named, axis=0, return_index=True)[1])


def _leave_views(
    records: pa.Table, origin: pa.Table, deduplicated: Deduplicated, files: DataFiles
) -> Iterator[tuple[Located, pa.Table]]:
    """Take rows of records (schema CDR) out of the views; yield where they were, and the rows.

    `origin`: their rows of the index, which say of which file they came.
    """
    for located in _in_views(records, files):
        rows = files.rows(located.file).take(pa.array(located.position))
        deduplicated.gone[located.file].add(located.position, origin["file_no"].take(pa.array(located.asked)))
        if located.file.view == "billing":
            deduplicated.left["billing"].append(rows)
        yield located, rows


def _against_earlier(
    calls: pa.Table, deduplicated: Deduplicated, files: DataFiles, before: Sequence[DataFile]
) -> pa.Table:
    """Return the calls that are in the lake under no earlier generation of their source; what is there stays.

    Times read in another way say nothing of which version is the later: one whose talk differs is a conflict.
    """
    rows, ids = earlier.unpack(calls["earlier"])
    new = np.ones(calls.num_rows, bool)
    days = pa.array(earlier.days(ids)).cast(pa.date32())
    for located in row_index.locate(files, before, tokens.from_u64(ids[:, :2]), days):
        at, once = np.unique(rows[located.asked], return_index=True)
        stored = files.columns(located.file, ["talk_ms"])["talk_ms"].take(pa.array(located.position[once]))
        again = calls.take(pa.array(at))
        same = flat(pc.equal(pc.fill_null(stored, -1), pc.fill_null(again["talk_ms"], -1)))
        first = pa.array(new[at])  # found under two generations, it is the same call
        deduplicated.repeat(again.filter(pc.and_(same, first)))
        other = again.filter(pc.and_(pc.invert(same), first))
        deduplicated.conflicts = pa.concat_tables([deduplicated.conflicts, other])
        new[at] = False
    return calls if new.all() else calls.filter(pa.array(new))


def _leave_index(file: DataFile, position: np.ndarray, deduplicated: Deduplicated, files: DataFiles) -> pa.Table:
    """Return rows of the index that go; the derived tables of assurance lose them."""
    rows = files.rows(file).take(pa.array(position))
    deduplicated.gone[file].add(position, rows["file_no"])
    deduplicated.left[INDEX].append(rows)
    return rows


def _replace(
    winners: pa.Table, lost: pa.Table, is_held: np.ndarray, deduplicated: Deduplicated, files: DataFiles
) -> None:
    """Take the rows of versions that lost (schema ROW_INDEX) out of the views.

    They go to suspense as CONFLICT or HELD, against the file they came in; those that have a lower number than their
    winner are repetitions.
    """
    paid: dict[int, dict[str, Any]] = {}
    for located, rows in _leave_views(winners, lost, deduplicated, files):
        if located.file.view in PARTS["billing"]:
            paid |= dict(zip(located.asked.tolist(), rows.to_pylist(), strict=True))
    rows = _as_calls(winners, lost, paid)
    superseded = _numbers(rows) < _numbers(winners)
    deduplicated.repeat(rows.filter(pa.array(superseded)))
    conflicts = rows.filter(pa.array(~superseded & ~is_held))
    deduplicated.conflicts = pa.concat_tables([deduplicated.conflicts, conflicts])
    deduplicated.held = pa.concat_tables([deduplicated.held, rows.filter(pa.array(is_held))])


def _in_views(calls: pa.Table, files: DataFiles, parts: Iterable[str] = VIEW_PARTS) -> Iterator[Located]:
    """Yield where rows of one tenant's calls lie in the data files of parts of the views."""
    tenant, days = calls["tenant"][0].as_py(), flat(calls["call_date"])
    for day in pc.unique(days).to_pylist():
        of_day = np.flatnonzero(pc.equal(days, day).to_numpy(zero_copy_only=False))
        for file in (file for part in parts for file in files.committed(part, tenant, [day.isoformat()])):
            asked = of_day[(tokens.shard_bits(calls["call_id"], file.shard_bits) == file.shard)[of_day]]
            of_row = row_index.places(files, file, flat(calls["record_id"]).take(pa.array(asked)))
            position = np.flatnonzero(of_row >= 0)
            if len(position):
                yield Located(file, position, asked[of_row[position]])


# What of a call stands in its billing row alone.
_FROM_BILLING = (
    *NUMBERS,
    *("charged_side", "destination", "calling_presentation"),
)
_FROM_INDEX = tuple(name for name in ROW_INDEX.names if name in CDR.names)


def _as_calls(winners: pa.Table, lost: pa.Table, paid: Mapping[int, dict[str, Any]]) -> pa.Table:
    """Return the rows that lost (schema ROW_INDEX) as CDRs again, with what billing keeps of them (few: a loop over
    rows is fine)."""
    calls, events = [], event_ids(lost["event"]).to_pylist()
    for i, origin in enumerate(lost.to_pylist()):
        winner = winners.slice(i, 1).select(["source", "tenant", "record_id", "call_id", "call_date"]).to_pylist()[0]
        call = {name: origin[name] for name in _FROM_INDEX} | winner | {"event": events[i]}
        call |= {name: paid.get(i, {}).get(name) for name in _FROM_BILLING}
        call |= {"ingress_trunk": origin["trunk_in"], "egress_trunk": origin["trunk_out"]}
        calls.append({**call, "piece": "whole", "was": str(Bucket.ACCEPTED), "was_ms": origin["carried_ms"] or 0})
    return put_back(pa.Table.from_pylist(calls, schema=CDR))


def _amend(amended: pa.Table, deduplicated: Deduplicated, files: DataFiles, committed: Sequence[DataFile]) -> None:
    """Change committed rows that a late quality record describes, or that a late piece makes end otherwise."""
    known = np.zeros(amended.num_rows, bool)
    for located in row_index.locate(files, committed, amended["record_id"], amended["call_date"]):
        known[located.asked] = True
        _amend_file(amended, located, deduplicated, files)
    amended = amended.filter(pa.array(known))
    if not amended.num_rows:
        return
    for located in _in_views(amended, files, PARTS["assurance"]):
        _amend_file(amended, located, deduplicated, files)
    longer = amended.filter(_ends_anew(amended))
    if longer.num_rows:
        for located in _in_views(longer, files, PARTS["billing"]):
            _amend_file(longer, located, deduplicated, files)


def _ends_anew(amended: pa.Table) -> pa.ChunkedArray:
    """Return which changes are of a call that ends otherwise now; of others only the quality is new."""
    return has_value(amended["piece"], "close", "interim")


def _amend_file(amended: pa.Table, located: Located, deduplicated: Deduplicated, files: DataFiles) -> None:
    """Amend rows of one data file."""
    # A row that has just lost to a later version goes: that version has the quality.
    gone = deduplicated.gone.get(located.file, Gone())
    stays = ~np.isin(located.position, gone.rows)
    if not stays.any():
        return
    # Two versions of a call have the same quality: its row changes once.
    view = located.file.view
    position, first = np.unique(located.position[stays], return_index=True)
    old = files.rows(located.file).take(pa.array(position))
    late = amended.take(pa.array(located.asked[stays][first]))
    longer = flat(_ends_anew(late))
    new = _worse(old, late)
    for name, value in _lengthened(view, late, old).items():
        if name in new.column_names:
            new = set_column(new, name, pc.if_else(longer, value, flat(new[name])))
    deduplicated.amended[located.file] = (position, new)
    if view in ("billing", INDEX):
        deduplicated.left[view].append(old)


def _worse(old: pa.Table, late: pa.Table) -> pa.Table:
    """Return rows with the worse of two qualities; what a part does not tell of it, it does not get."""
    for name, worst in (
        ("mos", pc.min_element_wise),
        ("jitter_ms", pc.max_element_wise),
        ("loss_pct", pc.max_element_wise),
    ):
        if name in old.column_names:
            old = set_column(old, name, worst(old[name], late[name]))
    if "mos_method" in old.column_names:
        old = set_column(old, "mos_method", pc.coalesce(old["mos_method"], late["mos_method"]))
    return old


def _lengthened(part: str, late: pa.Table, old: pa.Table) -> dict[str, pa.Array]:
    """Return what becomes of rows whose call ends otherwise now, by column: those that the part has count."""
    if part in PARTS["billing"]:
        return {
            "end": flat(late["end_time"]),
            "end_estimated": flat(has_value(late["piece"], "interim")),
            "talk_ms": flat(late["talk_ms"]),
            "billable_s": flat(billed_seconds(late["talk_ms"], old["direction"], old["charged_side"])),
        }
    names = (*(_VERSION if part == INDEX else ()), "released_by", "cause_q850", "cause_sip", "codec")
    return {name: flat(late[name]) for name in names}


@dataclass
class GroupDeduplicated:
    """A group's rows to write, what the ledger must know, what was suspended (by tenant), rows that leave the derived
    tables, committed rows that go to another part, data files to write anew, and those that the group was compared
    with."""

    group: Group
    changes: list[Changes] = field(default_factory=list)
    suspended: list[tuple[str, pa.Table]] = field(default_factory=list)
    taken: list[ViewRows] = field(default_factory=list)
    moved: list[ViewRows] = field(default_factory=list)
    rewrites: list[Rewrite] = field(default_factory=list)
    compared: set[str] = field(default_factory=set)


def deduplicate_group(group: Group, files: DataFiles) -> GroupDeduplicated:
    """Deduplicate one tenant's records of one bucket among themselves and against the lake."""
    committed, read = _committed(group, files)
    before, tables = _before(group.calls, files), (group.calls, group.amended, group.withdrawn)
    deduplicated = deduplicate(*tables, files, committed, before, chosen=group.chosen)
    found = find_calls(_of_calls(deduplicated, group), group, files)
    charge_legs(deduplicated, group, files, found)
    others = [*group.others, *((str(Bucket.DUPLICATE), records) for records in deduplicated.duplicates)]
    others += [(str(Bucket.MERGED), records) for records in deduplicated.withdrawn]
    answered = coarsen(deduplicated, group, files, found)
    result = GroupDeduplicated(group, moved=deduplicated.moved)
    result.compared = {file.file_id for file in committed} | found.compared
    result.changes += [_changes(deduplicated, read, group), Changes(read=found.read)]
    for code, versions in ((Suspense.CONFLICT, own(deduplicated.conflicts)), (Suspense.HELD, deduplicated.held)):
        if versions.num_rows:
            again = pa.array(_suspended_before(versions, files, committed) | _repeated(versions))
            others.append((str(Bucket.DUPLICATE), versions.filter(again)))
            others.append((str(Bucket.SUSPENDED), versions.filter(pc.invert(again))))
        written = own(versions)
        if written.num_rows:
            aside = conflicting_versions(written, code, group.tenant, files.workspace)
            result.suspended.append((group.tenant, aside))
    result.taken = list(_taken(deduplicated, group))
    result.rewrites = list(_rewrites(deduplicated))
    result.group = replace(group, calls=with_answered(deduplicated.rows, answered), others=others)
    return result


def _suspended_before(versions: pa.Table, files: DataFiles, committed: Sequence[DataFile]) -> np.ndarray:
    """Return which versions stand in the index already, as set aside: the ledger counts them as repeated."""
    aside = _SetAside()
    for _, located in row_index.find(files, committed, versions["record_id"], versions["call_date"]):
        if len(located.position):
            stored = files.columns(located.file, ("content", "version", "file_no")).take(pa.array(located.position))
            aside.add(versions.take(pa.array(located.asked)), stored)
    return aside.isin(versions)


def _repeated(versions: pa.Table) -> np.ndarray:
    """Return which versions are the same as another of them that stands before, by file, block and line: suspense keeps
    the first (transforms/suspend.py), and the ledger counts the others as repeated."""
    ids = np.column_stack([tokens.as_u64(versions["record_id"]), tokens.as_u64(versions["content"])])
    order = np.lexsort((*(words(versions[name]) for name in ("line", "block", "file_no")), *ids.T[::-1]))
    repeated = np.zeros(len(ids), bool)
    repeated[order[1:]] = (ids[order[1:]] == ids[order[:-1]]).all(axis=1)
    return repeated


def _of_calls(deduplicated: Deduplicated, group: Group) -> list[pa.Table]:
    """Return the records that other records of their calls must be looked at for."""
    versions = deduplicated.held, deduplicated.conflicts, *deduplicated.duplicates
    return [deduplicated.rows, *versions, group.amended, group.withdrawn]


def _changes(deduplicated: Deduplicated, read: dict[tuple[str, str], int], group: Group) -> Changes:
    rows = own(deduplicated.rows)
    changes = Changes(entries=[*deduplicated.entries, *ledger.entries(rows, Bucket.ACCEPTED)], read=read)
    changes.shares.update(deduplicated.shares)
    closed = pa.array([date.fromisoformat(day) for day in group.without_assurance], pa.date32())
    unwritten = rows["file_no"].filter(pc.is_in(rows["call_date"], closed))
    if len(unwritten):
        changes.ends.append(ledger.ends(unwritten, "assurance", ledger.NEVER_WRITTEN))
    return changes


def _committed(group: Group, files: DataFiles) -> tuple[list[DataFile], dict[tuple[str, str], int]]:
    """Return files of the index that may have these records, and the versions of their partitions."""
    tables = group.calls, group.amended, group.withdrawn
    dates = pa.chunked_array([chunk for table in tables for chunk in table["call_date"].chunks], pa.date32())
    parts = sorted(day.isoformat() for day in dates.unique().to_pylist())
    with database.reading(files.workspace.settings) as connection:
        read = ledger.versions(connection, group.tenant, parts)
        committed = files.counting(connection, view=INDEX, tenant=group.tenant, parts=parts)
    return [file for file in committed if file.overlaps(group.bits, group.shard)], read


def _before(calls: pa.Table, files: DataFiles) -> list[DataFile]:
    """Return files of the index that may have these records under earlier generations of their sources."""
    rows, ids = earlier.unpack(calls["earlier"])
    if not len(rows):
        return []
    days = np.unique(earlier.days(ids))
    parts = [day.isoformat() for day in pa.array(days[days != earlier.NO_DATE]).cast(pa.date32()).to_pylist()]
    tenant, names = calls["tenant"][0].as_py(), calls["source"].take(pa.array(np.unique(rows))).unique().to_pylist()
    with database.reading(files.workspace.settings) as connection:
        of_sources = [sources.earlier_files(connection, name) for name in names]
        return files.counting(connection, view=INDEX, tenant=tenant, parts=parts, where=or_(*of_sources))


def _taken(deduplicated: Deduplicated, group: Group) -> Iterator[ViewRows]:
    """Yield committed rows that go or change, and what changed ones become: only for the derived tables."""
    for view, tables in deduplicated.left.items():
        for rows in tables:
            yield ViewRows(view, group.tenant, "", group.bits, group.shard, rows, taken=True)


def _rewrites(deduplicated: Deduplicated) -> Iterator[Rewrite]:
    none = np.zeros(0, np.int64)
    for file in {**deduplicated.gone, **deduplicated.amended}:
        gone = deduplicated.gone.get(file, Gone())
        yield Rewrite(file, gone.rows, gone.inputs, *deduplicated.amended.get(file, (none, None)))
