"""Deduplicate: each record once. Duplicates are counted, versions in conflict suspended, in the group and in the lake.

Of two versions of a record the one with the later (end, talk, content hash) is the row, whichever came first; the
order is the same in the group and against the lake, so the end state never depends on order.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward import database
from callward.columns import flat, ranks, repeated, set_column, words
from callward.keys import tokens
from callward.keys.register import KeyName
from callward.lake import ledger
from callward.lake.data_files import DataFiles
from callward.lake.ledger import Changes, DataFile
from schemas.cdr import CDR
from schemas.codes import Bucket
from transforms.elements import Group, Rewrite, ViewRows
from transforms.rate import billable_seconds
from transforms.split import talk_steps
from transforms.suspend import conflicting_versions


@dataclass(frozen=True)
class Found:
    """A committed row: the data file, its position there, and which incoming row asked for it."""

    file: DataFile
    position: np.ndarray
    asked: np.ndarray


@dataclass
class Deduplicated:
    """Rows to write (schema CDR), conflicting versions (schema CDR), committed rows that go or change, and entries."""

    rows: pa.Table
    conflicts: pa.Table = field(default_factory=lambda: CDR.empty_table())
    removed: dict[str, dict[DataFile, np.ndarray]] = field(default_factory=lambda: {"assurance": {}, "billing": {}})
    removed_rows: dict[str, list[pa.Table]] = field(default_factory=lambda: defaultdict(list))
    # Positions, rows and lineage of the rows that change in a data file.
    amended: dict[DataFile, tuple[np.ndarray, pa.Table, pa.Table]] = field(default_factory=dict)
    entries: list[pa.Table] = field(default_factory=list)


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
    ids[order, 1] ^= occurrence.astype(np.uint64) << np.uint64(32)
    return set_column(table, "record_id", tokens.from_u64(ids))


def number_legs(table: pa.Table) -> pa.Table:
    """Number legs where the source does not say which record is the caller's call: the last attempt is (leg 0).

    Route advance writes a record per attempt; the last one's outcome is what the caller met.
    """
    if not pc.any(pc.is_null(table["leg"])).as_py():
        return table
    call = tokens.as_u64(table["call_id"])
    leg = np.zeros(len(call), np.int16)
    rows = repeated(call[:, 0])
    if len(rows):
        few = table.take(pa.array(rows))
        latest = [~words(few[name]).view(np.int64) for name in ("start_time", "sequence")]
        # Half of a 128-bit id decides here: the records of one call meet, and two calls share it once in 2^64.
        order = np.lexsort((tokens.as_u64(few["record_id"])[:, 0], *latest, call[rows, 0]))
        leg[rows[order]] = np.minimum(ranks(call[rows[order], 0]), 32_767)
    return set_column(table, "leg", pc.coalesce(table["leg"], pa.array(leg)))


def deduplicate(
    calls: pa.Table, amended: pa.Table, files: DataFiles, committed: Sequence[DataFile], view: str = "assurance"
) -> Deduplicated:
    """Deduplicate one tenant's whole calls (schema CDR) among themselves and against `committed` data files of a view.

    The assurance view has every attempt. Where its window is past, the billing view is what is left to compare with.
    """
    calls = number_occurrences(calls)
    content = _version_content(calls, files, view)
    keep, duplicate, conflict = _among(calls, content)
    deduplicated = Deduplicated(calls)
    if not keep.all():
        deduplicated.entries += ledger.entries(calls.filter(pa.array(duplicate)), Bucket.DUPLICATE)
        deduplicated.conflicts = calls.filter(pa.array(conflict))
        calls, content = calls.filter(pa.array(keep)), content[keep]
    # Legs are counted over rows that stay: a repeated record is no further attempt.
    deduplicated.rows = _against_lake(number_legs(calls), content, deduplicated, files, committed, view)
    if amended.num_rows:
        _amend(amended, deduplicated, files, committed)
    return deduplicated


def months_of(table: pa.Table) -> list[tuple[str, np.ndarray]]:
    """(YYYY-MM, row numbers) of a table's call_date column."""
    dates = flat(table["call_date"]).dictionary_encode()
    months = np.array([day.strftime("%Y-%m") for day in dates.dictionary.to_pylist()])
    if len(set(months)) == 1:
        return [(str(months[0]), np.arange(table.num_rows))]
    of_row = months[dates.indices.to_numpy()] if len(months) else months
    return [(str(month), np.flatnonzero(of_row == month)) for month in np.unique(months)]


def view_ids(table: pa.Table, column: str, files: DataFiles, tenant: str, view: str, purpose: str) -> np.ndarray:
    """Return a CDR column of ids under the view's month keys, as words (shape [n, 2])."""
    ids, months = flat(table[column]), months_of(table)
    secrets = [files.workspace.keyring.key(KeyName(view, tenant, month, purpose)).secret for month, _ in months]
    if len(months) == 1:
        return tokens.as_u64(tokens.permute(ids, secrets[0]))
    result = np.empty((table.num_rows, 2), np.uint64)
    for (_, rows), secret in zip(months, secrets, strict=True):
        result[rows] = tokens.as_u64(tokens.permute(ids.take(pa.array(rows)), secret))
    return result


def _version_content(calls: pa.Table, files: DataFiles, view: str) -> np.ndarray:
    if not calls.num_rows:
        return np.zeros((0, 2), np.uint64)
    return view_ids(calls, "content", files, calls["tenant"][0].as_py(), view, "content")


def _order_words(content: np.ndarray) -> np.ndarray:
    """Return unsigned words as signed ones of the same order."""
    return (content ^ np.uint64(1 << 63)).view(np.int64)


def _versions(calls: pa.Table, content: np.ndarray) -> np.ndarray:
    """Return what orders the versions of a record, later is greater: (end, talk, content), shape [n, 4]."""
    end = flat(pc.fill_null(flat(calls["end_time"]).view(pa.int64()), -1)).to_numpy()
    talk = flat(pc.fill_null(calls["talk_ms"], -1)).to_numpy()
    return np.column_stack([end, talk, _order_words(content)])


def _later(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Row by row, whether one version is later than the other (lexicographic)."""
    later, decided = np.zeros(len(ours), bool), np.zeros(len(ours), bool)
    for column in range(ours.shape[1]):
        later |= ~decided & (ours[:, column] > theirs[:, column])
        decided |= ours[:, column] != theirs[:, column]
    return later


def _among(calls: pa.Table, content: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return masks: rows that stay, repetitions, and versions that lose to another row of the group.

    Rows of one id but of other dates are other records, as against the lake: some switches count anew each day.
    """
    n = calls.num_rows
    keep, duplicate, conflict = np.ones(n, bool), np.zeros(n, bool), np.zeros(n, bool)
    ids = tokens.as_u64(calls["record_id"])
    rows = repeated(ids[:, 0])
    if not len(rows):
        return keep, duplicate, conflict
    few = calls.take(pa.array(rows))
    version = _versions(few, content[rows])
    place = [words(few[name]).astype(np.int64) for name in ("line", "block", "file_no")]
    id_few = np.column_stack([words(few["call_date"].cast(pa.int32())), ids[rows]])
    # Per id the greatest version first, and of equal versions the one that came first.
    backwards = [~version[:, column] for column in (3, 2, 1, 0)]
    order = np.lexsort((*place, *backwards, *id_few.T))
    rows, version, id_few = rows[order], version[order], id_few[order]
    new_id = np.r_[True, (id_few[1:] != id_few[:-1]).any(axis=1)]
    same_content = np.r_[False, (version[1:, 2:] == version[:-1, 2:]).all(axis=1)] & ~new_id
    duplicate[rows[same_content]] = True
    conflict[rows[~same_content & ~new_id]] = True
    keep[rows[~new_id]] = False
    return keep, duplicate, conflict


def find(calls: pa.Table, view: str, files: DataFiles, committed: Sequence[DataFile]) -> list[Found]:
    """Return where rows of the calls' record ids lie in a view's data files: filters first, then ids of the few hit."""
    if not calls.num_rows or not committed:
        return []
    ids = view_ids(calls, "record_id", files, calls["tenant"][0].as_py(), view, "id")
    dates = flat(calls["call_date"]).cast(pa.int32()).to_numpy()
    found = []
    for file in committed:
        asked = np.flatnonzero(dates == (date.fromisoformat(file.part) - date(1970, 1, 1)).days)
        if not len(asked):
            continue
        asked = asked[files.id_filter(file).might_have(tokens.from_u64(ids[asked]))]
        if len(asked):
            position = _positions(files.ids(file), ids[asked])
            if (position >= 0).any():
                found.append(Found(file, position[position >= 0], asked[position >= 0]))
    return found


def _positions(stored: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return where each id stands among the stored ones (both shape [n, 2]), or -1."""
    order = np.argsort(stored[:, 0])
    at = np.searchsorted(stored[order, 0], ids[:, 0])
    hit = np.minimum(at, len(order) - 1)
    position = order[hit]
    # Two ids equal in their first half differ in the second once in 2^64: such a pair would only be taken as new.
    return np.where((stored[position] == ids).all(axis=1), position, -1)


def _against_lake(
    calls: pa.Table,
    content: np.ndarray,
    deduplicated: Deduplicated,
    files: DataFiles,
    committed: Sequence[DataFile],
    view: str,
) -> pa.Table:
    keep = np.ones(calls.num_rows, bool)
    legs = flat(calls["leg"]).to_numpy()
    for found in find(calls, view, files, committed):
        lineage = files.lineage(found.file).take(pa.array(found.position))
        stored_content = tokens.as_u64(lineage["content"])
        incoming = calls.take(pa.array(found.asked))
        same = (stored_content == content[found.asked]).all(axis=1)
        wins = ~same & _later(_versions(incoming, content[found.asked]), _stored_versions(lineage, stored_content))
        deduplicated.entries += ledger.entries(incoming.filter(pa.array(same)), Bucket.DUPLICATE)
        deduplicated.conflicts = pa.concat_tables([deduplicated.conflicts, incoming.filter(pa.array(~same & ~wins))])
        keep[found.asked[~wins]] = False
        if wins.any():
            gone = _remove(incoming.filter(pa.array(wins)), found.file, found.position[wins], deduplicated, files)
            if "leg" in gone.column_names:  # the other attempts of its call may be there already
                legs = legs.copy()
                legs[found.asked[wins]] = flat(gone["leg"]).to_numpy()
                calls = set_column(calls, "leg", pa.array(legs, pa.int16()))
    return calls if keep.all() else calls.filter(pa.array(keep))


def _stored_versions(lineage: pa.Table, content: np.ndarray) -> np.ndarray:
    columns = [flat(pc.fill_null(lineage[name], -1)).to_numpy() for name in ("end_ms", "talk_ms")]
    return np.column_stack([*columns, _order_words(content)])


def _remove(
    winners: pa.Table, file: DataFile, position: np.ndarray, deduplicated: Deduplicated, files: DataFiles
) -> pa.Table:
    """Take committed rows out of their views; they go to suspense as CONFLICT against the file they came in."""
    gone = _take_out(file, position, deduplicated, files)
    lineage = files.lineage(file).take(pa.array(position))
    secret = files.workspace.keyring.key(KeyName(file.view, file.tenant, file.part[:7], "content")).secret
    lineage = set_column(lineage, "content", tokens.unpermute(lineage["content"], secret))
    if file.view == "billing":  # the assurance row is gone already
        rows: list[dict[str, Any]] = [{} for _ in range(gone.num_rows)]
        billed = {i: gone.slice(i, 1) for i in range(gone.num_rows)}
    else:
        rows, billed = gone.to_pylist(), {}
        for found in find(winners, "billing", files, files.committed("billing", file.tenant, [file.part])):
            taken = _take_out(found.file, found.position, deduplicated, files)
            billed.update({int(asked): taken.slice(i, 1) for i, asked in enumerate(found.asked)})
    deduplicated.conflicts = pa.concat_tables([deduplicated.conflicts, _as_calls(winners, rows, lineage, billed)])
    return gone


def _take_out(file: DataFile, position: np.ndarray, deduplicated: Deduplicated, files: DataFiles) -> pa.Table:
    """Mark rows of a data file as removed; returns them."""
    before = deduplicated.removed[file.view].get(file, np.zeros(0, np.int64))
    deduplicated.removed[file.view][file] = np.r_[before, position]
    gone = files.rows(file).take(pa.array(position))
    deduplicated.removed_rows[file.view].append(gone)
    return gone


_FROM_BILLING = {
    "calling_number": "calling_number",
    "called_number": "called_number",
    "account": "account",
    "direction": "direction",
    "start_time": "start",
    "answer_time": "answer",
    "talk_ms": "talk_ms",
    "destination": "destination",
}
_FROM_ASSURANCE = (
    "leg",
    "pdd_ms",
    "disposition",
    "cause_q850",
    "cause_sip",
    "released_by",
    "codec",
    "mos",
    "mos_method",
    "jitter_ms",
    "loss_pct",
)


def _as_calls(
    winners: pa.Table, rows: Sequence[dict[str, Any]], lineage: pa.Table, billed: dict[int, pa.Table]
) -> pa.Table:
    """Return the rows that lost, as CDRs again, from what the views keep of them (few: a loop over rows is fine)."""
    calls = []
    for i, (row, origin) in enumerate(zip(rows, lineage.to_pylist(), strict=True)):
        winner = winners.slice(i, 1).select(["source", "tenant", "record_id", "call_id", "call_date"]).to_pylist()[0]
        call = {**winner, **{name: row.get(name) for name in _FROM_ASSURANCE}}
        call |= {"start_time": row.get("start"), "end_time": origin["end_ms"]}
        if i in billed:
            paid = billed[i].to_pylist()[0]
            call |= {ours: paid.get(theirs) for ours, theirs in _FROM_BILLING.items()}
        call |= {name: origin[name] for name in ("content", "file_no", "block", "line", "carried_ms")}
        calls.append({**call, "piece": "whole", "was": str(Bucket.ACCEPTED), "was_ms": origin["carried_ms"] or 0})
    return pa.Table.from_pylist(calls, schema=CDR)


def _amend(amended: pa.Table, deduplicated: Deduplicated, files: DataFiles, committed: Sequence[DataFile]) -> None:
    """Committed rows that a late quality record describes, or that a late closing piece makes longer."""
    for found in find(amended, "assurance", files, committed):
        _amend_file(amended, found, deduplicated, files)
    longer = amended.filter(pc.equal(amended["piece"], "close"))
    if longer.num_rows:
        parts = [day.isoformat() for day in longer["call_date"].unique().to_pylist()]
        for found in find(longer, "billing", files, files.committed("billing", longer["tenant"][0].as_py(), parts)):
            _amend_file(longer, found, deduplicated, files)


def _amend_file(amended: pa.Table, found: Found, deduplicated: Deduplicated, files: DataFiles) -> None:
    """Amend rows of one data file."""
    # A row that has just lost to a later version goes: that version has the quality.
    view = found.file.view
    stays = ~np.isin(found.position, deduplicated.removed[view].get(found.file, found.position[:0]))
    if not stays.any():
        return
    # Two versions of a call have the same quality: its row changes once.
    position, first = np.unique(found.position[stays], return_index=True)
    at = pa.array(position)
    old, lineage = files.rows(found.file).take(at), files.lineage(found.file).take(at)
    late = amended.take(pa.array(found.asked[stays][first]))
    longer = flat(pc.equal(late["piece"], "close"))
    new = _worse(old, late) if view == "assurance" else old
    for name, value in _LENGTHENED[view](late).items():
        new = set_column(new, name, pc.if_else(longer, value, flat(new[name])))
    deduplicated.amended[found.file] = (position, new, _lengthened(lineage, late, longer, view, files))
    deduplicated.removed_rows[view].append(old)


def _worse(old: pa.Table, late: pa.Table) -> pa.Table:
    for name, worst in (
        ("mos", pc.min_element_wise),
        ("jitter_ms", pc.max_element_wise),
        ("loss_pct", pc.max_element_wise),
    ):
        old = set_column(old, name, worst(old[name], late[name]))
    return set_column(old, "mos_method", pc.coalesce(old["mos_method"], late["mos_method"]))


_LENGTHENED: dict[str, Callable[[pa.Table], dict[str, pa.Array]]] = {
    "assurance": lambda late: {
        "talk_s": flat(talk_steps(late["talk_ms"])),
        **{name: flat(late[name]) for name in ("released_by", "cause_q850", "cause_sip", "codec")},
    },
    "billing": lambda late: {
        "end": flat(late["end_time"]),
        "talk_ms": flat(late["talk_ms"]),
        "billable_s": flat(billable_seconds(late["talk_ms"])),
    },
}


def _lengthened(lineage: pa.Table, late: pa.Table, longer: pa.Array, view: str, files: DataFiles) -> pa.Table:
    content = view_ids(late, "content", files, late["tenant"][0].as_py(), view, "content")
    end_ms = flat(late["end_time"]).view(pa.int64())
    made = {"content": tokens.from_u64(content), "end_ms": end_ms, "talk_ms": flat(late["talk_ms"])}
    for name, value in made.items():
        lineage = set_column(lineage, name, pc.if_else(longer, value, flat(lineage[name])))
    return lineage


@dataclass
class GroupDeduplicated:
    """A group's rows to write, what the ledger must know, what was suspended (by tenant), rows that leave the derived
    tables, data files to write anew, and the data files that the group was compared with."""

    group: Group
    changes: list[Changes] = field(default_factory=list)
    suspended: list[tuple[str, pa.Table]] = field(default_factory=list)
    taken: list[ViewRows] = field(default_factory=list)
    rewrites: list[Rewrite] = field(default_factory=list)
    compared: set[str] = field(default_factory=set)


def deduplicate_group(group: Group, files: DataFiles) -> GroupDeduplicated:
    """Deduplicate one tenant's records of one bucket among themselves and against the lake."""
    result, rows = GroupDeduplicated(group), []
    for view, calls, amended in _by_view(group):
        committed, read = _committed(group, calls, amended, view, files)
        deduplicated = deduplicate(calls, amended, files, committed, view)
        rows.append(deduplicated.rows)
        result.compared |= {file.file_id for file in committed}
        result.changes.append(_changes(deduplicated, read, view))
        if deduplicated.conflicts.num_rows:
            versions = conflicting_versions(deduplicated.conflicts, group.tenant, files.workspace)
            result.suspended.append((group.tenant, versions))
        result.taken += _taken(deduplicated, group)
        result.rewrites += _rewrites(deduplicated)
    result.group = replace(group, calls=pa.concat_tables(rows))
    return result


def _changes(deduplicated: Deduplicated, read: dict[tuple[str, str], int], view: str) -> Changes:
    rows = deduplicated.rows
    changes = Changes(entries=[*deduplicated.entries, *ledger.entries(rows, Bucket.ACCEPTED)], read=read)
    if view == "billing" and rows.num_rows:
        changes.ends.append(ledger.ends(rows["file_no"], "assurance", ledger.NEVER_WRITTEN))
    return changes


def _committed(
    group: Group, calls: pa.Table, amended: pa.Table, view: str, files: DataFiles
) -> tuple[list[DataFile], dict[tuple[str, str], int]]:
    """Return files of a view that may hold these rows, and the versions of their partitions."""
    dates = pa.chunked_array([*calls["call_date"].chunks, *amended["call_date"].chunks], pa.date32())
    parts = sorted(day.isoformat() for day in dates.unique().to_pylist())
    with database.reading(files.workspace.settings) as connection:
        read = ledger.versions(connection, group.tenant, parts)
        committed = ledger.files(connection, view=view, tenant=group.tenant, parts=parts)
    return [file for file in committed if file.overlaps(group.bits, group.shard)], read


def _by_view(group: Group) -> Iterator[tuple[str, pa.Table, pa.Table]]:
    """Yield a group's calls and amendments by the view that they are compared with: where one is closed, the other."""
    if not group.without_assurance:
        yield "assurance", group.calls, group.amended
        return
    days = pa.array([date.fromisoformat(day) for day in group.without_assurance], pa.date32())
    closed = pc.is_in(group.calls["call_date"], days)
    yield "assurance", group.calls.filter(pc.invert(closed)), group.amended
    yield "billing", group.calls.filter(closed), group.amended.slice(0, 0)


def _taken(deduplicated: Deduplicated, group: Group) -> Iterator[ViewRows]:
    """Yield committed rows that go or change, and what changed ones become: only for the derived tables."""
    for view, tables in deduplicated.removed_rows.items():
        for rows in tables:
            yield ViewRows(view, group.tenant, "", group.bits, group.shard, rows, None, taken=True)


def _rewrites(deduplicated: Deduplicated) -> Iterator[Rewrite]:
    none = np.zeros(0, np.int64)
    for file in {**deduplicated.removed["billing"], **deduplicated.removed["assurance"], **deduplicated.amended}:
        change = deduplicated.amended.get(file, (none, None, None))
        yield Rewrite(file, deduplicated.removed[file.view].get(file, none), *change)
