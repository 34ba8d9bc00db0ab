"""Combine: the pieces of each call → its row, judged by the rules that a whole record is judged by.

A call's row is its first opening and end that contradict nothing. Which these are hangs on the pieces alone, never on
the order in which they came, and two that agree always do, whatever else comes: so a row that was committed is changed
or replaced by a later piece, never taken away. A piece that fits in no way has the code of what it contradicts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import flat, has_value, is_absent, set_column, words
from callward.keys import tokens
from schemas.codes import Bucket, Suspense
from schemas.suspense import PENDING_STATES
from transforms.validate import contradictions

# Clocks of two elements that follow NTP differ by less than a second, and each stamp loses up to one more where it has
# whole seconds; a clock that is further behind is wrong. Nothing that is billed is as short (6 s at least).
SKEW_MS: Final = 5000

WAITING, PARTIAL, IMPOSSIBLE, ESTIMATED, CLOSED = map(np.int8, range(len(PENDING_STATES)))
KINDS: Final = ("open", "interim", "close", "whole", "quality", "refused")  # a kind as a number is its place here
OPEN, INTERIM, CLOSE, REFUSED = (KINDS.index(kind) for kind in ("open", "interim", "close", "refused"))
QUALITY: Final = ("mos", "jitter_ms", "loss_pct")
_CODES: Final = (None, str(Suspense.ORDER), str(Suspense.DURATION))
_LOOKED_AT: Final = 64  # openings, and ends, of a call whose first ones contradict each other
_JUDGED: Final = ("source", "piece", "start_time", "answer_time", "end_time", "end_again", "talk_ms", "pdd_ms")

Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]


def kinds_of(pieces: pa.Table) -> np.ndarray:
    """Return the kind of each piece as its place in KINDS."""
    return np.asarray(flat(pc.index_in(pieces["piece"], pa.array(list(KINDS)))))


def runs_of_calls(pieces: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """First row of each call in an ordered table, and each row's call number."""
    call = tokens.as_u64(pieces["call_id"])
    starts = np.r_[True, (call[1:] != call[:-1]).any(axis=1)]
    return np.flatnonzero(starts), np.cumsum(starts) - 1


@dataclass(frozen=True)
class Calls:
    """Ordered pieces of calls, a run of rows each: their kinds, how far they have come (-1: new), their calls."""

    pieces: pa.Table
    kinds: np.ndarray
    state: np.ndarray
    starts: np.ndarray
    call: np.ndarray

    @classmethod
    def of(cls, pieces: pa.Table) -> "Calls":
        """Return pieces that are in order of call."""
        state = flat(pc.fill_null(pieces["state"], -1)).to_numpy()
        return cls(pieces, kinds_of(pieces), state, *runs_of_calls(pieces))

    def any(self, mask: np.ndarray) -> np.ndarray:
        """Return for each piece whether any piece of its call is of the mask."""
        return np.asarray(np.maximum.reduceat(mask, self.starts)[self.call])

    def filter(self, mask: np.ndarray) -> pa.Table:
        """Return the pieces of a mask."""
        return self.pieces.filter(pa.array(mask))

    def first(self, *keys: np.ndarray) -> Places:
        """Return where each call's first piece stands by some keys, the last of them first (shape [calls])."""
        return np.asarray(np.lexsort((*keys, self.call))[self.starts])

    def was(self, bucket: Bucket) -> Mask:
        """Return which pieces are in a bucket of the ledger already."""
        return np.asarray(has_value(self.pieces["was"], str(bucket)).to_numpy(zero_copy_only=False))

    @property
    def fresh(self) -> np.ndarray:
        return np.asarray(self.state == -1)

    @property
    def stands(self) -> np.ndarray:
        """Return which pieces are of calls that have a row already."""
        return self.any((self.state >= ESTIMATED) & (self.kinds != REFUSED))

    @property
    def opening(self) -> np.ndarray:
        """Return which pieces open a call: also a close that knows when it was answered, a whole call by itself."""
        answered = flat(pc.is_valid(self.pieces["answer_time"])).to_numpy(zero_copy_only=False)
        return (self.kinds == OPEN) | ((self.kinds == CLOSE) & np.asarray(answered))


@dataclass(frozen=True)
class Combined:
    """Calls, and the row of each in the place of its opening piece.

    Attributes:
        row: schema PENDING, one per call; of no meaning where the call is not `possible`.
        opening: where each call's opening stands among the pieces.
        possible: which calls have an opening and an end that contradict nothing.
        ended: which calls end with a close, not with the last piece that shows that they went on.
        fault: of each piece that fits in no way, the place in _CODES of what it contradicts; else 0.
    """

    calls: Calls
    row: pa.Table
    opening: Places
    possible: Mask
    ended: Mask
    fault: npt.NDArray[np.int8]

    @property
    def has_row(self) -> Mask:
        """Return which pieces are of calls that are possible."""
        return self.possible[self.calls.call]

    @property
    def fits(self) -> Mask:
        """Return which pieces contradict nothing."""
        return np.asarray(self.fault == 0, bool)

    @property
    def unfit(self) -> tuple[pa.Table, pa.Array]:
        """Return the pieces that fit in no way, and their codes."""
        code = pa.array(_CODES, pa.string()).take(pa.array(self.fault[~self.fits]))
        return self.calls.filter(~self.fits), code


def combine(pieces: pa.Table, talk_rules: Mapping[str, str], *, known: bool, committed: bool = False) -> Combined:
    """Combine ordered pieces of calls (schema PENDING), of which each call has one that opens it.

    With `known` a call that no close ends may end with the last piece that shows that it went on. With `committed` the
    rows are those that the lake has.
    """
    calls = Calls.of(pieces)
    may_open = calls.opening & ~calls.was(Bucket.MERGED)
    opening = _opening(calls, may_open, calls.was(Bucket.ACCEPTED) if committed else np.zeros(len(calls.call), bool))
    closing = _closing(calls, opening)
    code = contradictions(_ended(pieces.select(_JUDGED), opening, closing, talk_rules))
    fault = np.zeros(pieces.num_rows, np.int8)
    possible = flat(pc.is_null(code)).to_numpy(zero_copy_only=False).copy()
    if not possible.all():
        if committed:
            may_open &= calls.was(Bucket.ACCEPTED)
        of_call = flat(pc.index_in(code, pa.array(_CODES, pa.string()))).to_numpy()[calls.call]
        opening, closing, possible = _other_pairs(calls, (opening, closing), possible, may_open, talk_rules, known)
        fault = np.where(_unfit(calls, opening, closing, possible, may_open), of_call, 0).astype(np.int8)
    row = _told(calls, opening, closing, talk_rules)
    row, parts = _with_parts(calls, row, (opening, closing), possible, talk_rules)
    fault[(calls.kinds == INTERIM) & ~parts & possible[calls.call]] = _CODES.index(Suspense.DURATION)
    used = parts.copy()
    used[opening] = used[closing] = True
    content = np.where(used[:, None], tokens.as_u64(pieces["content"]), np.uint64(0))
    row = set_column(row, "content", tokens.from_u64(np.bitwise_xor.reduceat(content, calls.starts, axis=0)))
    return Combined(calls, row, opening, possible, calls.kinds[closing] == CLOSE, fault)


def moments(pieces: pa.Table) -> np.ndarray:
    """Return when each piece was, in ms: a close or an interim record at its end, others at their start."""
    return words(pc.coalesce(pieces["end_time"], pieces["start_time"])).view(np.int64)


def _moments_after(pieces: pa.Table, answer: np.ndarray) -> np.ndarray:
    """Return when each piece was: of a local hour that comes twice, the first such moment after an answer."""
    moment = moments(pieces)
    if is_absent(pieces["end_again"]):
        return moment
    again = words(pc.coalesce(pieces["end_again"], pieces["end_time"], pieces["start_time"])).view(np.int64)
    return np.where(moment < answer - SKEW_MS, again, moment)


def _answers(pieces: pa.Table) -> np.ndarray:
    """Return from when on each piece's call may have ended, were it the one that opens it."""
    return words(pc.coalesce(pieces["answer_time"], pieces["start_time"], pieces["end_time"])).view(np.int64)


def _starts(calls: Calls, whole: np.ndarray) -> np.ndarray:
    """Return the order of openings in time: of closes that are whole calls by their end."""
    start = words(pc.coalesce(calls.pieces["start_time"], calls.pieces["end_time"])).view(np.int64)
    return np.where(whole, moments(calls.pieces), start)


def _opening(calls: Calls, may_open: Mask, committed: Mask) -> Places:
    """Return where each call's opening stands: a close that is a whole call, else the earliest that opens."""
    whole = may_open & (calls.kinds == CLOSE)
    rank = np.where(committed, -1, np.where(whole, 0, np.where(may_open, 1, 2)))
    return calls.first(_starts(calls, whole), rank)


def _closing(calls: Calls, opening: Places) -> Places:
    """Return where each call's end stands: the earliest close after the answer, else the close that is nearest to it;
    where there is none, the last piece that shows that the call went on. A whole call is its own."""
    answer = _answers(calls.pieces)[opening][calls.call]
    moment, closes = _moments_after(calls.pieces, answer), calls.kinds == CLOSE
    rank = np.where(closes & (moment >= answer), 0, np.where(closes, 1, 2))
    closing = calls.first(np.where(rank == 0, moment, -moment), rank)
    return np.where(calls.kinds[opening] == CLOSE, opening, closing)


def _ended(pieces: pa.Table, opening: Places, closing: Places, talk_rules: Mapping[str, str]) -> pa.Table:
    """Return opening pieces with the end and the talk that a closing piece gives to each.

    An end within the skew of two clocks before the answer is the answer; then nobody knows the end, and it is marked.
    """
    row, last = pieces.take(pa.array(opening)), pieces.take(pa.array(closing))
    answer = _answers(row)
    end = _moments_after(last, answer)
    clamped = (end < answer) & (end >= answer - SKEW_MS)
    end = np.where(clamped, answer, end)
    row = set_column(row, "talk_ms", _talk(row, last, opening == closing, end - answer, talk_rules))
    row = set_column(row, "end_time", pa.array(end).cast(row.schema.field("end_time").type))
    is_known = has_value(last["piece"], "close").to_numpy(zero_copy_only=False) & ~clamped
    return set_column(row, "piece", pa.array(np.where(is_known, "whole", "estimated"), pa.string()))


def _talk(row: pa.Table, last: pa.Table, alone: Mask, apart_ms: np.ndarray, talk_rules: Mapping[str, str]) -> pa.Array:
    """Return talk in ms of each call by its source's rule; of a close that is a whole call, its own."""
    computed, rule = pa.array(np.maximum(apart_ms, 0)), _rules(row, talk_rules)
    own, further = pc.fill_null(row["talk_ms"], 0), pc.fill_null(last["talk_ms"], 0)
    summed = pc.add(own, pc.if_else(pa.array(alone), 0, further))
    talk = pc.if_else(pc.equal(rule, "sum"), summed, pc.coalesce(last["talk_ms"], computed))
    talk = pc.if_else(pc.equal(rule, "computed"), computed, talk)
    return flat(pc.if_else(_by_itself(row), row["talk_ms"], talk))


def _rules(row: pa.Table, talk_rules: Mapping[str, str]) -> pa.Array:
    distinct = row["source"].unique()
    rules = pa.array([talk_rules.get(source, "computed") for source in distinct.to_pylist()], pa.string())
    return rules.take(flat(pc.index_in(row["source"], distinct)))


def _by_itself(row: pa.Table) -> pa.ChunkedArray:
    return pc.and_(pc.equal(row["piece"], "close"), pc.is_valid(row["talk_ms"]))


def _told(calls: Calls, opening: Places, closing: Places, talk_rules: Mapping[str, str]) -> pa.Table:
    """Return the row of each call: what its opening says, with its end and what only the end tells."""
    row, last = _ended(calls.pieces, opening, closing, talk_rules), calls.pieces.take(pa.array(closing))
    for name in ("released_by", "cause_q850", "cause_sip", *QUALITY, "mos_method", "codec"):
        row = set_column(row, name, pc.coalesce(last[name], row[name]))
    return row


def _with_parts(
    calls: Calls, row: pa.Table, pair: tuple[Places, Places], possible: Mask, talk_rules: Mapping[str, str]
) -> tuple[pa.Table, Mask]:
    """Return rows with the talk of the parts in between, where it is summed, and which parts are of their calls.

    Where parts come to more than their call, the longest is none of it, and so on until the rest fits.
    """
    parts = calls.kinds == INTERIM
    opening, closing = pair
    spoken = flat(pc.is_valid(calls.pieces["talk_ms"])).to_numpy(zero_copy_only=False)
    itself = ((calls.kinds == CLOSE) & spoken)[opening]
    sums = flat(pc.equal(_rules(row, talk_rules), "sum")).to_numpy(zero_copy_only=False) & ~itself
    between = parts & sums[calls.call]
    between[closing] = False
    if not between.any():
        return row, parts
    lengths, alone = flat(pc.fill_null(calls.pieces["talk_ms"], 0)).to_numpy(), row["talk_ms"]
    while True:
        added = np.add.reduceat(np.where(between, lengths, 0), calls.starts)
        row = set_column(row, "talk_ms", pc.add(alone, pa.array(added)))
        wrong = flat(pc.is_valid(contradictions(row.select(_JUDGED)))).to_numpy(zero_copy_only=False) & possible
        if not (wrong & (added > 0)).any():
            return row, parts
        longest = calls.first(np.where(between, -lengths, 1))[wrong & (added > 0)]
        between[longest] = parts[longest] = False


def _other_pairs(
    calls: Calls,
    pair: tuple[Places, Places],
    possible: Mask,
    may_open: Mask,
    talk_rules: Mapping[str, str],
    known: bool,
) -> tuple[Places, Places, Mask]:
    """Return openings and ends with others for calls that are not possible as they are, where any two agree.

    Ends that a close knows come first, then the earlier openings, then the ends as `_closing` has them.
    """
    opening, closing, possible = pair[0].copy(), pair[1].copy(), possible.copy()
    pairs = _pairs(calls, ~possible, may_open, known)
    if len(pairs):
        first, last = pairs["opening"].to_numpy(), pairs["closing"].to_numpy()
        made = _ended(calls.pieces.select(_JUDGED), first, last, talk_rules)
        agree = flat(pc.is_null(contradictions(made))).to_numpy(zero_copy_only=False)
        best = pairs[agree].drop_duplicates("call")
        opening[best["call"]], closing[best["call"]], possible[best["call"]] = best["opening"], best["closing"], True
    return opening, closing, possible


def _pairs(calls: Calls, impossible: Mask, may_open: Mask, known: bool) -> pd.DataFrame:
    """Return openings and ends (places among the pieces) of calls that could go together by their order in time."""
    of_call, closes = impossible[calls.call], calls.kinds == CLOSE
    openings = _listed(calls, "opening", of_call & may_open, _preferred(calls, may_open))
    ends = _listed(calls, "closing", of_call & (closes | known), moments(calls.pieces))
    pairs = openings.merge(ends, on="call")
    first, last = pairs["opening"].to_numpy(), pairs["closing"].to_numpy()
    answer = _answers(calls.pieces)[first]
    moment, ends_it = _moments_after(calls.pieces.select(_JUDGED).take(pa.array(last)), answer), closes[last]
    could = np.where(ends_it, moment >= answer - SKEW_MS, moment > answer) & (~closes[first] | (first == last))
    after = ends_it & (moment >= answer)
    order = np.lexsort((last, np.where(after, moment, -moment), ~after, _preferred(calls, may_open)[first], ~ends_it))
    return pairs.iloc[order[could[order]]]


def _listed(calls: Calls, name: str, mask: Mask, order: np.ndarray) -> pd.DataFrame:
    """Return the first pieces of a mask of each call."""
    places = np.flatnonzero(mask)
    places = places[np.lexsort((places, order[places], calls.call[places]))]
    frame = pd.DataFrame({"call": calls.call[places], name: places})
    return frame.groupby("call").head(_LOOKED_AT)


def _preferred(calls: Calls, may_open: Mask) -> Places:
    """Return the place of each piece in the order in which the pieces of its call open it."""
    whole = may_open & (calls.kinds == CLOSE)
    rank = np.where(whole, 0, np.where(may_open, 1, 2))
    places = np.zeros(len(whole), np.int64)
    places[np.lexsort((_starts(calls, whole), rank))] = np.arange(len(whole))
    return places


def _unfit(calls: Calls, opening: Places, closing: Places, possible: Mask, may_open: Mask) -> Mask:
    """Return the pieces that fit in no way: openings before the one that has an end, and closes that end nothing."""
    preferred = _preferred(calls, may_open)
    no_end = may_open & possible[calls.call] & (preferred < preferred[opening][calls.call])
    is_close = calls.kinds == CLOSE
    return np.asarray(no_end | (is_close & ~(possible & is_close[closing])[calls.call]))
