"""Search: which records of a date are a person's. For the services that answer requests alone.

The row index says it: a number is looked for by the month's token, an account by its name, attempts that were not
billed among them. No view is read; rows of the views follow by their ids. Where the key to a month's tokens is gone,
or the tokens are, nothing of it is found by a number any more.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, reduce
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import flat, has_value
from callward.keys import tokens
from callward.keys.register import KeyName
from callward.lake import row_index
from callward.lake.data_files import DataFiles
from callward.lake.ledger import DataFile
from callward.retention.requests.register import Selector
from callward.workspace import Workspace
from schemas.codes import Bucket
from schemas.views import INDEX, ROW_INDEX, TOKENS

Mask = npt.NDArray[np.bool_]

_OF_CALLER: Final = ("calling_token", "asserted_token", "charge_token")
_ALWAYS: Final = ("record_id", "call_id", "parts", "file_no")  # of a record's row, as long as it is there


@dataclass(frozen=True)
class Hit:
    """A person's records in one data file of the index, and which numbers of them are the person's.

    `rows`: their rows of the index, with the columns that the file still has. `named`: for each of TOKENS a mask (shape
    [rows]). Searched by account, a record is the person's whole: all are true. None is, of a record that is only known
    to have been the person's.
    """

    file: DataFile
    rows: pa.Table
    named: Mapping[str, Mask]

    def only(self, mask: Mask) -> "Hit":
        """Return those of the records where `mask` is true."""
        named = {token: of_person[mask] for token, of_person in self.named.items()}
        return Hit(self.file, self.rows.filter(pa.array(mask)), named)


@dataclass(frozen=True)
class Found:
    """A person's records of one date."""

    hits: Sequence[Hit]

    @cached_property
    def rows(self) -> pa.Table:
        """Their rows of the index, one after the other: the columns that every data file of it has."""
        nothing = ROW_INDEX.empty_table().select(_ALWAYS)
        return pa.concat_tables([nothing, *(hit.rows.select(_ALWAYS) for hit in self.hits)])

    @property
    def record_ids(self) -> pa.Array:
        return flat(self.rows["record_id"])

    @cached_property
    def named(self) -> dict[str, Mask]:
        """Which of the records have the person's number in a role, for each of TOKENS."""
        return {token: _joined([hit.named[token] for hit in self.hits]) for token in TOKENS}

    @cached_property
    def calling(self) -> Mask:
        """Which of the records the person made: by the number that called, that was asserted, or that is to pay."""
        return _any(self.named[token] for token in _OF_CALLER)

    @cached_property
    def called(self) -> Mask:
        """Which of the records reached the person: as dialled, as sent out, or on the way to where it was forwarded."""
        return _any(self.named[token] for token in TOKENS if token not in _OF_CALLER)


def token_secret(workspace: Workspace, tenant: str, month: str) -> bytes | None:
    """Return what numbers of a month (YYYY-MM) are found by in the index; None for a key that is no more."""
    name = KeyName(INDEX, tenant, month, "token")
    existing = workspace.keyring.existing([name])
    return existing[name].secret if name in existing else None


def search(
    files: DataFiles,
    tenant: str,
    call_date: str,
    selector: Selector,
    before: datetime | None = None,
    known: pa.Array | None = None,
) -> Found:
    """Return the records of a tenant's date (ISO) that are of the selector and began before a moment (naive UTC).

    `known`: record ids of which is known already that they are the person's. Raises Problem where the index cannot be
    read, or does not know all rows of the views: what cannot be found is not said to be absent.
    """
    by_number = selector.kind == "number"
    secret = token_secret(files.workspace, tenant, call_date[:7]) if by_number else None
    hits = []
    for file in row_index.complete(files, tenant, call_date):
        with row_index.reading(file):
            hits.append(_earlier(_hit(files, file, selector, secret, known), before))
    return Found(hits)


def _hit(files: DataFiles, file: DataFile, selector: Selector, secret: bytes | None, known: pa.Array | None) -> Hit:
    named = _named(files, file, selector, secret)
    mine = _any(named.values())
    if known is not None and len(known):
        mine |= row_index.match(files.ids(file), tokens.as_u64(known)) >= 0
    if mine.any():
        mine &= _true(has_value(files.columns(file, ["state"])["state"], Bucket.ACCEPTED))
    names = [name for name in ROW_INDEX.names if row_index.has(file, name)]
    rows = files.rows(file, names).filter(pa.array(mine)) if mine.any() else ROW_INDEX.empty_table().select(names)
    return Hit(file, rows, {token: of_person[mine] for token, of_person in named.items()})


def _named(files: DataFiles, file: DataFile, selector: Selector, secret: bytes | None) -> dict[str, Mask]:
    """Return which rows of a data file of the index have the person's number in a role, for each of TOKENS."""
    if selector.kind == "account":
        return dict.fromkeys(TOKENS, _true(has_value(files.columns(file, ["account"])["account"], selector.value)))
    if secret is None or not file.numbers:
        return dict.fromkeys(TOKENS, np.zeros(file.rows, np.bool_))
    rows = files.columns(file, TOKENS)
    token = tokens.number_token(pa.array([selector.value]), secret)[0]
    return {name: _true(pc.equal(rows[name], token)) for name in TOKENS}


def _earlier(hit: Hit, before: datetime | None) -> Hit:
    if before is None or not hit.rows.num_rows:
        return hit
    moment = pa.scalar(before, pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC"))
    return hit.only(_true(pc.less(hit.rows["start_time"].cast(moment.type), moment)))


def _any(masks: Iterable[Mask]) -> Mask:
    return reduce(np.logical_or, masks)


def _joined(masks: Sequence[Mask]) -> Mask:
    return np.concatenate([np.zeros(0, np.bool_), *masks])


def _true(mask: Any) -> Mask:
    return np.asarray(flat(mask).fill_null(False).to_numpy(zero_copy_only=False), np.bool_)
