"""Tally: what the records of a source's files are, summed block by block; nothing of a record itself is kept."""

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from callward.accounts.entries import UNASSIGNED
from callward.columns import flat, has_value
from callward.keys import tokens
from callward.numbering import normalize_values
from callward.redaction import mask
from pipelines.trial.clock import Clock
from pipelines.trial.fitting import Candidate
from schemas.cdr import READ_FIELDS
from transforms.elements import Sharding
from transforms.identify import by_bucket

FIELDS: Final = tuple(f.name for f in READ_FIELDS)
_TRUNKS: Final = ("ingress_trunk", "egress_trunk")
_SHOWN_DIGITS: Final = 3  # of a number's shape: enough for a prefix, too few for a number
_LONGEST_SHAPE: Final = 40
_SECOND_MS: Final = 1000
_LONG_TALK_MS: Final = 4 * 3_600_000  # few calls last longer


@dataclass(frozen=True)
class First:
    """Where a suspense code stands first: the file, and the line in it (of a JSON document: its number)."""

    file: str
    line: int


@dataclass
class Tally:
    """Sums over the records of one source."""

    candidate: Candidate
    records: int = 0
    sound: int = 0
    suspended: Counter[str] = field(default_factory=Counter)
    first: dict[str, First] = field(default_factory=dict)
    filtered: Counter[str] = field(default_factory=Counter)
    start: datetime | None = None
    end: datetime | None = None
    nulls: Counter[str] = field(default_factory=Counter)
    trunks: Counter[str] = field(default_factory=Counter)
    accounts: Counter[str] = field(default_factory=Counter)
    contexts: Counter[str] = field(default_factory=Counter)
    unassigned: int = 0
    undirected: int = 0
    shapes: Counter[tuple[str, str]] = field(default_factory=Counter)
    clock: Clock = field(default_factory=Clock)
    answered: int = 0
    talking: int = 0  # records with talk
    too_long: int = 0  # talk longer than from start to end
    thousandfold: int = 0  # of those, by about a thousand
    hours: int = 0  # talk beyond four hours
    instants: int = 0  # talk of less than a second
    ids: list[npt.NDArray[np.uint64]] = field(default_factory=list)

    def add(self, table: pa.Table, modified_s: float) -> None:
        """Add a block's records (as ReadRecords gives them) of a file that was last written at `modified_s`."""
        filtered = pc.and_(pc.is_valid(table["filter"]), pc.is_null(table["fault"]))
        kept = table.filter(pc.invert(filtered))
        sound = kept.filter(pc.is_null(kept["fault"]))
        self.records += table.num_rows
        self.filtered.update(_counts(table["filter"].filter(filtered)))
        self.suspended.update(_counts(kept["fault"]))
        self.sound += sound.num_rows
        self._add_identified(sound)
        self._add_times(sound)
        self._add_names(sound)
        self._add_lengths(kept)
        self.clock.add(sound, self.candidate.zone, modified_s)
        for party in ("calling", "called"):
            self._add_shapes(sound, party)

    def _add_times(self, sound: pa.Table) -> None:
        ends = pc.min_max(sound["start_time"]).as_py()
        given = [at for at in (ends["min"], ends["max"], self.start, self.end) if at is not None]
        self.start, self.end = (min(given), max(given)) if given else (None, None)
        self.answered += pc.sum(has_value(sound["disposition"], "answered")).as_py() or 0
        self.nulls.update({name: sound[name].null_count for name in FIELDS})

    def _add_identified(self, sound: pa.Table) -> None:
        for _, cdrs in by_bucket(sound, Sharding(), self.candidate.workspace):
            self.unassigned += _true(has_value(cdrs["account"], UNASSIGNED))
            self.undirected += _true(has_value(cdrs["direction"], "unknown"))
            whole = cdrs.filter(pc.and_(has_value(cdrs["piece"], "whole"), pc.invert(cdrs["by_content"])))
            self.ids.append(tokens.as_u64(whole["record_id"]))

    @property
    def repeated(self) -> int:
        """Return how many whole records have the identity of one before them."""
        ids = np.concatenate([np.zeros((0, 2), np.uint64), *self.ids])
        return len(ids) - len(np.unique(ids.view(np.dtype((np.void, 16)))))

    def _add_names(self, sound: pa.Table) -> None:
        workspace = self.candidate.workspace
        for name in _TRUNKS:
            self.trunks.update({k: n for k, n in _counts(sound[name]).items() if k not in workspace.trunks})
        tenants = sound["tenant"].unique().to_pylist()
        known = {code for tenant in tenants for code in workspace.directory(tenant).codes.place}
        self.accounts.update({k: n for k, n in _counts(sound["account_code"]).items() if k not in known})
        if self.candidate.context_column:
            self.contexts.update(_counts(sound["tenant_field"]))

    def _add_lengths(self, kept: pa.Table) -> None:
        talk = kept["talk_ms"]
        elapsed = pc.subtract(kept["end_time"], kept["start_time"]).cast(pa.int64())
        longer = pc.greater(talk, pc.add(elapsed, _SECOND_MS))
        ratio = pc.divide(talk.cast(pa.float64()), pc.max_element_wise(elapsed, 1).cast(pa.float64()))
        thousand = pc.and_(longer, pc.and_(pc.greater(ratio, 300.0), pc.less(ratio, 1100.0)))
        self.talking += _true(pc.greater(talk, 0))
        self.too_long += _true(longer)
        self.thousandfold += _true(thousand)
        self.hours += _true(pc.greater(talk, _LONG_TALK_MS))
        self.instants += _true(pc.and_(pc.greater(talk, 0), pc.less(talk, _SECOND_MS)))

    def _add_shapes(self, sound: pa.Table, party: str) -> None:
        number = sound[f"{party}_number"]
        doubtful = pc.and_(pc.is_valid(number), pc.invert(pc.starts_with(pc.fill_null(number, "+"), "+")))
        counted = flat(sound[f"{party}_raw"].filter(doubtful)).value_counts()
        if not len(counted):
            return
        plan = self.candidate.workspace.plan(self.candidate.source)
        plan = plan.of_callers if party == "calling" else plan
        values = counted.field("values")
        special = pc.equal(normalize_values(values, plan).kind.cast(pa.string()), "special")
        texts, counts = (column.filter(special).to_pylist() for column in (values, counted.field("counts")))
        for text, count in zip(texts, counts, strict=True):
            self.shapes[party, shape_of(text)] += count


def shape_of(number: str) -> str:
    """Return a number's shape: its first digits, # for each other one, one `a` for letters, signs as they are."""
    kept = re.match(rf"[^0-9]*[0-9]{{0,{_SHOWN_DIGITS}}}", number)
    begin = kept[0] if kept else ""
    shown = re.sub(r"[^\W\d_]+", "a", begin) + re.sub(r"[^\W\d_]+", "a", re.sub(r"\d", "#", number[len(begin) :]))
    return mask(shown[:_LONGEST_SHAPE])


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    """Return how often each value is there; null is none."""
    counted = pc.value_counts(flat(column).drop_null())
    values, counts = counted.field("values"), counted.field("counts")
    values = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
    return dict(zip(values.to_pylist(), counts.to_pylist(), strict=True))


def _true(mask_: pa.ChunkedArray) -> int:
    return int(pc.sum(pc.fill_null(mask_, False)).as_py() or 0)
