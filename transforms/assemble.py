"""Assemble: pieces of a call put together, new ones with those that wait, and quality records joined to their calls.

The result never depends on the order in which pieces came: of all pieces of a call that are known, the earliest opening
is its row, the earliest close after the answer is its end, and a quality record is joined to every row of the call that
has its leg. What a later piece changes takes the place of what was written before. A piece that contradicts its call is
suspended, and the call goes on as though it had not come; it leaves suspense when another piece agrees with it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from callward import database, sources
from callward.columns import flat, has_value, map_distinct, set_column, words
from callward.keys import tokens
from callward.lake import ledger
from callward.lake.data_files import DataFiles
from callward.lake.ledger import Changes
from callward.workspace import Workspace
from schemas.cdr import CDR, NUMBERS
from schemas.codes import Bucket
from schemas.suspense import PENDING
from transforms.combine import (
    CLOSE,
    CLOSED,
    ESTIMATED,
    IMPOSSIBLE,
    QUALITY,
    REFUSED,
    WAITING,
    Calls,
    Combined,
    combine,
    kinds_of,
    moments,
    runs_of_calls,
)
from transforms.elements import BucketRows, Group, Sharding

_LAST = np.iinfo(np.int32).max
# A closed piece is remembered by its ids, times and quality; what else it said is in the lake.
_FORGOTTEN = (*NUMBERS, "account", "calling_prefix", "called_prefix")


@dataclass
class Assembled:
    """Whole calls (schema CDR), what the pending log gains, ledger entries, what changes of rows already committed
    (quality, or another end), rows already committed that go, and pieces that were repeated or are part of a call:
    (ledger bucket, table of schema CDR)."""

    calls: pa.Table
    pending: pa.Table = field(default_factory=PENDING.empty_table)
    entries: list[pa.Table] = field(default_factory=list)
    amended: pa.Table = field(default_factory=lambda: CDR.empty_table())
    withdrawn: pa.Table = field(default_factory=lambda: CDR.empty_table())
    others: list[tuple[str, pa.Table]] = field(default_factory=list)

    def set_apart(self, pieces: pa.Table, bucket: Bucket) -> None:
        """Count pieces that come to no row of their own, and keep them for the index."""
        if pieces.num_rows:
            records = _cdr(pieces)
            self.entries += ledger.entries(records, bucket)
            self.others.append((str(bucket), records))


def assemble(new: pa.Table, waiting: pa.Table, talk_rules: Mapping[str, str], now_ms: int) -> Assembled:
    """Assemble one tenant's records of one bucket (schema CDR) with its folded pending log (schema PENDING).

    `talk_rules` says per source how talk of a call in pieces is known: computed (end - answer), sum, or last.
    """
    alone = _alone(new)
    assembled = Assembled(new.filter(alone))
    pieces = _with_state(new.filter(pc.invert(alone)), now_ms)
    pieces, repeated = _unrepeated(pa.concat_tables([waiting, pieces]))
    assembled.set_apart(repeated, Bucket.DUPLICATE)
    calls, quality = (
        pc.is_in(pieces["piece"], pa.array(["open", "interim", "close", "refused"])),
        pc.equal(pieces["piece"], "quality"),
    )
    _close(pieces.filter(calls), talk_rules, assembled)
    _join_quality(pieces.filter(pc.equal(pieces["piece"], "whole")), pieces.filter(quality), assembled)
    return assembled


def in_pieces(table: pa.Table) -> bool:
    """Return whether any record of a table is a piece of a call, or may be joined by a quality record."""
    return table.num_rows > 0 and not pc.all(_alone(table)).as_py()


def _alone(table: pa.Table) -> pa.ChunkedArray:
    lone = pc.and_(pc.is_null(table["leg_a"]), pc.is_null(table["leg_b"]))
    return pc.and_(lone, has_value(table["piece"], "whole"))


def fold(log: pa.Table) -> pa.Table:
    """Return the pending log as it stands: of several rows for one piece the last."""
    to_go = pc.subtract(pa.scalar(_LAST, pa.int32()), log["turn"])  # not a negation: the order is unsigned
    order = _piece_order(log, to_go)
    ordered = log.take(order)
    return ordered.filter(pa.array(_first_of_run(ordered)))


def _with_state(table: pa.Table, now_ms: int) -> pa.Table:
    state = pa.nulls(table.num_rows, pa.int8())
    seen = pa.repeat(pa.scalar(now_ms, PENDING.field("seen").type), table.num_rows)
    turn = pa.array(np.zeros(table.num_rows, np.int32))
    return pa.table([*table.columns, state, seen, turn], schema=PENDING)


def _piece_order(table: pa.Table, then: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return rows in order of call, kind, id and content, then `then`, then where they came from."""
    call, which = tokens.as_u64(table["call_id"]), _which(table)
    place = [words(table[name]) for name in ("line", "block", "file_no")]
    return np.lexsort((*place, words(then), *which.T, kinds_of(table), call[:, 1], call[:, 0]))


def _which(table: pa.Table) -> np.ndarray:
    """Return what tells the pieces of one kind of a call apart, shape [n, 4]: their ids, as two legs may sound alike,
    and their content, as some sources name every piece alike."""
    return np.column_stack([tokens.as_u64(table["record_id"]), tokens.as_u64(table["content"])])


def _first_of_run(ordered: pa.Table) -> np.ndarray:
    """Return which rows are the first of their (call, kind, id, content) in an ordered table."""
    if not ordered.num_rows:
        return np.zeros(0, bool)
    key = np.column_stack([tokens.as_u64(ordered["call_id"]), _which(ordered), kinds_of(ordered).astype(np.uint64)])
    return np.concatenate([np.ones(1, bool), (key[1:] != key[:-1]).any(axis=1)])


def _unrepeated(pieces: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return each piece once, the one already known first; and the new repetitions."""
    known_first = pc.cast(pc.is_null(pieces["state"]), pa.int64())
    ordered = pieces.take(_piece_order(pieces, known_first))
    first = pa.array(_first_of_run(ordered))
    return ordered.filter(first), _on_date_of_call(ordered).filter(pc.invert(first))


def _on_date_of_call(pieces: pa.Table) -> pa.Table:
    """Return pieces in order of call with the earliest call_date of each call, as its row has it.

    In the index they stand beside that row, and go when it does.
    """
    if not pieces.num_rows:
        return pieces
    starts, call = runs_of_calls(pieces)
    days = flat(pieces["call_date"].cast(pa.int32()).fill_null(_LAST)).to_numpy()
    first = np.minimum.reduceat(days, starts)[call]
    return set_column(pieces, "call_date", pa.array(first, mask=first == _LAST).cast(pa.date32()))


def _close(pieces: pa.Table, talk_rules: Mapping[str, str], assembled: Assembled) -> None:
    """Put pieces of calls together; what cannot be closed yet waits."""
    if not pieces.num_rows:
        return
    calls = Calls.of(pieces)
    opened, stands, fresh = calls.any(calls.opening), calls.stands, calls.fresh
    whole, refused = opened & calls.any(calls.kinds == CLOSE), calls.kinds == REFUSED
    closing, late = whole & ~stands & calls.any(fresh), stands & fresh
    _refuse(calls, opened, assembled)
    if closing.any():
        _combine(calls.filter(closing), talk_rules, assembled, CLOSED)
    if late.any():
        remembered = calls.any(calls.opening & ~fresh)
        _revise(calls.filter(calls.any(late) & remembered), talk_rules, assembled)
        _join(calls.filter(late & ~remembered), assembled)
    _wait(calls.filter(fresh & ~whole & ~stands & ~refused), assembled)


def _wait(pieces: pa.Table, assembled: Assembled) -> None:
    """Have new pieces wait for the rest of their calls."""
    assembled.entries += ledger.entries(_cdr(pieces), Bucket.PENDING)
    _log(assembled, pieces, WAITING, Bucket.PENDING)


def _refuse(calls: Calls, opened: np.ndarray, assembled: Assembled) -> None:
    """Take in refused requests: each is an attempt of its own, unless its call was answered, before or since.

    Refused within a call that stands, it is a piece of that call (RFC 3261, 14.1): no version of it, and no attempt.
    """
    refused, fresh = calls.kinds == REFUSED, calls.fresh
    if not refused.any():
        return
    attempts, opened_before = calls.filter(refused & fresh & ~opened), calls.any(calls.opening & ~fresh)
    rows = set_column(attempts, "piece", pa.repeat("whole", attempts.num_rows))
    assembled.calls = pa.concat_tables([assembled.calls, _cdr(rows)])
    _withdraw(calls.filter(refused & ~fresh & opened & ~opened_before), assembled)
    _log(assembled, attempts, CLOSED)
    waits = ~calls.stands & ~calls.any(calls.kinds == CLOSE)
    _join(_on_date_of_call(calls.pieces).filter(pa.array(refused & fresh & opened & waits)), assembled)


def _join(pieces: pa.Table, assembled: Assembled) -> None:
    """Count pieces of calls that they do not change."""
    assembled.set_apart(pieces, Bucket.MERGED)
    _log(assembled, pieces, CLOSED, Bucket.MERGED)


def _withdraw(rows: pa.Table, assembled: Assembled) -> None:
    """Have committed rows go: what they said is said by another row, or is no attempt."""
    rows = set_column(rows, "was", pa.repeat(str(Bucket.ACCEPTED), rows.num_rows))
    assembled.withdrawn = pa.concat_tables([assembled.withdrawn, _cdr(set_column(rows, "was_ms", rows["carried_ms"]))])


def _combine(pieces: pa.Table, talk_rules: Mapping[str, str], assembled: Assembled, state: np.int8) -> np.ndarray:
    """Close the calls whose opening and closing pieces are here; return which pieces are of calls that have a row now.

    Of the others the openings wait on, as though what contradicts them had not come.
    """
    combined = combine(pieces, talk_rules, known=state == ESTIMATED)
    row = combined.row.filter(pa.array(combined.possible))
    assembled.calls = pa.concat_tables([assembled.calls, _cdr(row)])
    assembled.entries.append(_computed(row, talk_rules))
    calls, has_row = combined.calls, combined.has_row
    refused = calls.kinds == REFUSED
    settles = np.where(refused, calls.fresh, has_row)  # refused ones that are not new were merged when they came
    _settle(combined, settles, combined.opening[combined.possible], assembled)
    _log_row(combined, has_row, state, assembled)
    _log(assembled, calls.filter(~has_row & refused & calls.fresh), CLOSED, Bucket.MERGED)
    _wait(calls.filter(~has_row & calls.fresh & combined.fits & ~refused), assembled)
    return has_row


def _settle(combined: Combined, mask: np.ndarray, rows: np.ndarray, assembled: Assembled) -> None:
    """Count the pieces of a mask that are no `rows` (places) as merged, and suspend those that fit in no way."""
    merged = mask & combined.fits
    merged[rows] = False
    fits, calls = combined.fits, combined.calls
    pieces = _on_date_of_call(calls.pieces if fits.all() else calls.filter(fits))
    assembled.set_apart(pieces.filter(pa.array(merged[fits])), Bucket.MERGED)
    unfit, code = combined.unfit
    if unfit.num_rows:
        code = pc.if_else(has_value(unfit["was"], Bucket.WRITTEN_OFF), str(Bucket.WRITTEN_OFF), code)
        moved = flat(pc.not_equal(unfit["was"], code))
        assembled.entries += ledger.entries(_cdr(unfit.filter(moved)), Bucket.SUSPENDED, code.filter(moved))
        _log(assembled, unfit, IMPOSSIBLE, code)


def _log_row(combined: Combined, mask: np.ndarray, state: np.int8, assembled: Assembled) -> None:
    """Note that the pieces of a mask have made rows: which of them is the row, and which are merged into it."""
    is_row = np.zeros(len(mask), bool)
    is_row[combined.opening] = True
    for own, bucket in ((is_row, Bucket.ACCEPTED), (~is_row, Bucket.MERGED)):
        _log(assembled, combined.calls.filter(mask & combined.fits & own), state, bucket)


def _revise(pieces: pa.Table, talk_rules: Mapping[str, str], assembled: Assembled) -> None:
    """Bring rows of calls up to date that more pieces have come for: they end as if all had come at once.

    A row that another piece opens now is withdrawn, and written anew; another end only changes it. What is changed is
    "close" for the row's piece, or "interim" where the end is still estimated: that tells Deduplicate.
    """
    if not pieces.num_rows:
        return
    fresh = Calls.of(pieces).fresh
    known = combine(pieces.filter(pa.array(~fresh)), talk_rules, known=True, committed=True)
    now = combine(pieces, talk_rules, known=True)
    before, after = known.row, now.row
    anew = np.flatnonzero(~fresh)[known.opening] != now.opening
    differs = (tokens.as_u64(before["content"]) != tokens.as_u64(after["content"])).any(axis=1)
    differs |= ~flat(pc.equal(before["piece"], after["piece"])).to_numpy(zero_copy_only=False)
    _withdraw(before.filter(pa.array(anew)), assembled)
    assembled.calls = pa.concat_tables([assembled.calls, _cdr(after.filter(pa.array(anew)))])
    assembled.entries += [_computed(after, talk_rules), ledger.negated(_computed(before, talk_rules))]
    kind = pc.if_else(pc.equal(after["piece"], "whole"), "close", "interim")
    changed = set_column(after, "piece", kind).filter(pa.array(differs & ~anew))
    assembled.amended = pa.concat_tables([assembled.amended, _cdr(changed)])
    _settle(now, now.calls.state < ESTIMATED, now.opening, assembled)
    ended = now.ended[now.calls.call]
    _log_row(now, ended, CLOSED, assembled)
    _log_row(now, ~ended, ESTIMATED, assembled)


def _computed(row: pa.Table, talk_rules: Mapping[str, str]) -> pa.Table:
    """Return ledger entries for talk that no record carried."""
    sources = pa.array([source for source, rule in talk_rules.items() if rule == "computed"], pa.string())
    own = pc.fill_null(pc.equal(row["talk_ms"], row["carried_ms"]), False)
    return ledger.computed_talk_entries(row.filter(pc.and_(pc.is_in(row["source"], sources), pc.invert(own))))


def _join_quality(wholes: pa.Table, quality: pa.Table, assembled: Assembled) -> None:
    """Join quality records by leg: into new rows at once, to committed rows as amendments."""
    if not wholes.num_rows and not quality.num_rows:
        return
    pairs = _legs(wholes, quality)
    new_whole, new_quality = _is_new(wholes), _is_new(quality)
    assembled.calls = pa.concat_tables(
        [assembled.calls, _cdr(_worst(wholes, quality, pairs)).filter(pa.array(new_whole))]
    )
    _log(assembled, wholes.filter(pa.array(new_whole)), CLOSED)
    whole = np.full(quality.num_rows, -1)
    whole[pairs["quality"]] = pairs["whole"]
    matched = whole >= 0
    late = pairs[~new_whole[pairs["whole"]] & new_quality[pairs["quality"]]]
    if len(late):
        worst = _worst(wholes, quality, pairs).take(pa.array(np.unique(late["whole"]), pa.int64()))
        assembled.amended = pa.concat_tables([assembled.amended, _cdr(worst)])
    open_before = flat(pc.fill_null(pc.less(quality["state"], CLOSED), False)).to_numpy(zero_copy_only=False)
    merged = matched & (new_quality | open_before)
    of_call = flat(wholes["call_date"]).take(pa.array(whole, mask=~matched))
    assembled.set_apart(set_column(quality, "call_date", of_call).filter(pa.array(merged)), Bucket.MERGED)
    _log(assembled, quality.filter(pa.array(merged)), CLOSED)
    _wait(quality.filter(pa.array(~matched & new_quality)), assembled)


def _is_new(table: pa.Table) -> np.ndarray:
    return np.asarray(flat(pc.is_null(table["state"])))


def _leg_frame(table: pa.Table, name: str, position: str) -> pd.DataFrame:
    present = flat(pc.is_valid(table[name])).to_numpy(zero_copy_only=False)
    leg = tokens.as_u64(table[name].filter(pa.array(present)))
    return pd.DataFrame({"high": leg[:, 0], "low": leg[:, 1], position: np.flatnonzero(present)})


def _legs(wholes: pa.Table, quality: pa.Table) -> pd.DataFrame:
    """Return which quality record (row number) describes which whole (row number)."""
    legs = pd.concat([_leg_frame(wholes, "leg_a", "whole"), _leg_frame(wholes, "leg_b", "whole")])
    return legs.merge(_leg_frame(quality, "leg_a", "quality"), on=["high", "low"]).drop_duplicates(["whole", "quality"])


def _worst(wholes: pa.Table, quality: pa.Table, pairs: pd.DataFrame) -> pa.Table:
    """Return the wholes with the worst quality that any of their legs reports: lowest MOS, highest jitter and loss."""
    if pairs.empty:
        return wholes
    heard = quality.take(pa.array(pairs["quality"].to_numpy()))
    frame = pd.DataFrame({name: flat(heard[name]).to_numpy(zero_copy_only=False) for name in QUALITY})
    frame["whole"] = pairs["whole"].to_numpy()
    worst = frame.groupby("whole").agg({"mos": "min", "jitter_ms": "max", "loss_pct": "max"})
    for name in QUALITY:
        values = np.full(wholes.num_rows, np.nan, np.float32)
        values[worst.index] = worst[name]
        joined = pc.if_else(pc.is_nan(pa.array(values)), pa.scalar(None, pa.float32()), pa.array(values))
        pick = pc.min_element_wise if name == "mos" else pc.max_element_wise
        wholes = set_column(wholes, name, pick(wholes[name], joined))
    method = np.full(wholes.num_rows, None, object)
    method[pairs["whole"]] = heard["mos_method"].to_pylist()
    return set_column(wholes, "mos_method", pc.coalesce(wholes["mos_method"], pa.array(method, pa.string())))


def _cdr(pieces: pa.Table) -> pa.Table:
    return pieces.select(CDR.names).cast(CDR)


def _log(assembled: Assembled, pieces: pa.Table, state: np.int8, bucket: Bucket | pa.Array | None = None) -> None:
    """Note how far pieces have come, and in which bucket of the ledger (or with which code) they are, where it is new.

    What has made a row keeps none of its numbers.
    """
    if not pieces.num_rows:
        return
    turn = pc.add(pieces["turn"], pa.scalar(1, pa.int32()))
    pieces = set_column(pieces, "turn", turn)
    pieces = set_column(pieces, "state", pa.repeat(pa.scalar(state, pa.int8()), pieces.num_rows))
    if bucket is not None:
        was = pa.repeat(str(bucket), pieces.num_rows) if isinstance(bucket, Bucket) else bucket
        pieces = set_column(set_column(pieces, "was", was), "was_ms", pieces["carried_ms"])
    if state >= ESTIMATED:
        for name in _FORGOTTEN:
            pieces = set_column(pieces, name, pa.nulls(pieces.num_rows, PENDING.field(name).type))
    assembled.pending = pa.concat_tables([assembled.pending, pieces])


def end_as_known(log: pa.Table, expired: np.ndarray, talk_rules: Mapping[str, str]) -> tuple[Assembled, np.ndarray]:
    """Return the calls of a folded pending log that end, as far as is known, with the last piece that shows that they
    went on; and which pieces of the log are theirs.

    `expired` are pieces that waited in vain. A call without a piece after its answer is no such call, nor is one whose
    pieces contradict each other.
    """
    assembled = Assembled(CDR.empty_table())
    if not expired.any():
        return assembled, expired
    calls = Calls.of(log)
    answer = words(pc.coalesce(log["answer_time"], log["start_time"])).view(np.int64)
    answered = np.minimum.reduceat(np.where(calls.opening, answer, np.iinfo(np.int64).max), calls.starts)[calls.call]
    theirs = calls.any(expired) & calls.any(moments(log) > answered)
    if theirs.any():
        theirs[theirs] = _combine(calls.filter(theirs), talk_rules, assembled, ESTIMATED)
    return assembled, theirs


def in_order(tables: Iterable[pa.Table]) -> pa.Table:
    """Return tables of a group as one, with one dictionary for each FEW column: in the order of the files that they
    came from, which the shuffle does not keep."""
    listed = sorted(tables, key=lambda t: (t["file_no"][0].as_py(), t["block"][0].as_py()))
    return pa.concat_tables(listed).unify_dictionaries()


def pending_log(files: DataFiles, tenant: str) -> tuple[pa.Table, int]:
    """Return a tenant's pending log as it stands, and the version it was read at."""
    with database.reading(files.workspace.settings) as connection:
        version = ledger.versions(connection, tenant, [ledger.PENDING])[tenant, ledger.PENDING]
        logs = files.counting(connection, view="pending", tenant=tenant)
        names = sources.current_names(connection)
    log = pa.concat_tables([PENDING.empty_table(), *(files.read_log(log) for log in logs)])
    if names:  # of sources that were renamed while pieces waited
        log = set_column(log, "source", map_distinct(log["source"], lambda name: names.get(name, name), pa.string()))
    return fold(log), version


def talk_rules(workspace: Workspace) -> dict[str, str]:
    """Source → how talk of its calls in pieces is known, for the sources that write pieces."""
    declared = {source.name: workspace.declaration(source).pieces for source in workspace.settings.sources}
    return {name: pieces.talk for name, pieces in declared.items() if pieces is not None}


def group_of(tenant: str, bits: int, shard: int, of: Assembled) -> Group:
    """Return what was assembled of one shard as the group that goes on."""
    return Group(tenant, bits, shard, of.calls, of.amended, of.others, withdrawn=of.withdrawn)


def assemble_bucket(
    rows: BucketRows, sharding: Sharding, files: DataFiles, talk_rules: Mapping[str, str], now_ms: int
) -> Iterator[tuple[Group, Changes]]:
    """Yield each tenant's whole calls of one bucket, and what its pending log gains."""
    by_tenant: dict[str, list[pa.Table]] = {}
    for table in rows.tables:
        by_tenant.setdefault(table["tenant"][0].as_py(), []).append(table)
    for tenant in sorted(by_tenant):
        new, bits = in_order(by_tenant.pop(tenant)), sharding.bits.get(tenant, 0)
        shard = int(tokens.shard_bits(new["call_id"].slice(0, 1), bits)[0])
        if not in_pieces(new):
            yield Group(tenant, bits, shard, new, CDR.empty_table()), Changes()
            continue
        waiting, version = pending_log(files, tenant)
        mine = tokens.shard_bits(waiting["call_id"], bits) == shard
        assembled = assemble(new, waiting.filter(pa.array(mine)), talk_rules, now_ms)
        changes = Changes(entries=assembled.entries, read={(tenant, ledger.PENDING): version})
        if assembled.pending.num_rows:
            changes.files.append(files.write_log("pending", tenant, assembled.pending))
        yield group_of(tenant, bits, shard, assembled), changes
