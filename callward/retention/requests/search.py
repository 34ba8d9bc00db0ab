"""Search: which rows of a date are a person's, in both views. For the services that answer requests alone.

A number is looked for by the month's token, an account by its name and, in the assurance view, by the month's token of
it. The assurance view holds no numbers: its rows of a person's calls are found by the ids of the billing rows, which
only a service that opens both views' id keys can do. Attempts that were not billed cannot be found by a number.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import flat, has_value
from callward.keys import tokens
from callward.keys.register import KeyName
from callward.lake.data_files import DataFiles
from callward.lake.ledger import DataFile
from callward.retention.requests.register import Selector
from callward.workspace import Workspace

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Secrets:
    """What a month's rows are found by; None for a key that was destroyed, or never was."""

    token: bytes | None = field(default=None, repr=False)
    account: bytes | None = field(default=None, repr=False)
    billing_id: bytes | None = field(default=None, repr=False)
    assurance_id: bytes | None = field(default=None, repr=False)

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets do not pickle: open them where they are used")


@dataclass(frozen=True)
class Hit:
    """A data file and which of its rows are a person's (shape [rows]), by the side that the person was on.

    Searched by account, a row is the person's whole: both sides are true.
    """

    file: DataFile
    calling: Mask
    called: Mask

    @property
    def rows(self) -> Mask:
        return self.calling | self.called


@dataclass(frozen=True)
class Found:
    """A person's rows of one date; data files without any are left out."""

    billing: Sequence[Hit]
    assurance: Sequence[Hit]


def secrets(workspace: Workspace, tenant: str, month: str) -> Secrets:
    """Return the secrets of a tenant's month (YYYY-MM). No key is minted for it."""
    names = [
        KeyName("billing-numbers", tenant, month, "token"),
        KeyName("assurance", tenant, month, "account"),
        KeyName("billing", tenant, month, "id"),
        KeyName("assurance", tenant, month, "id"),
    ]
    existing = workspace.keyring.existing(names)
    return Secrets(*(existing[name].secret if name in existing else None for name in names))


def search(
    files: DataFiles,
    tenant: str,
    call_date: str,
    selector: Selector,
    month: Secrets,
    before: datetime | None = None,
    known: pa.Array | None = None,
) -> Found:
    """Return the rows of a tenant's date (ISO) that are of the selector and began before a moment (naive UTC).

    `known`: record ids of which is known already that they are the person's.
    """
    in_billing = [_billed(files, file, selector, month) for file in files.committed("billing", tenant, [call_date])]
    billing = [_earlier(files, hit, before) for hit in in_billing if hit is not None]
    records = record_ids(files, billing, month.billing_id)
    records = records if known is None else pa.concat_arrays([records, known])
    in_assurance = [
        _assured(files, file, selector, records, month) for file in files.committed("assurance", tenant, [call_date])
    ]
    assurance = [_earlier(files, hit, before) for hit in in_assurance if hit is not None]
    return Found([hit for hit in billing if hit.rows.any()], [hit for hit in assurance if hit.rows.any()])


def record_ids(files: DataFiles, hits: Sequence[Hit], id_secret: bytes | None) -> pa.Array:
    """Return the record ids behind rows of one view and month, by the view's id secret."""
    words = [files.ids(hit.file)[hit.rows] for hit in hits]
    if not words or id_secret is None:
        return pa.array([], tokens.ID_TYPE)
    return tokens.unpermute(tokens.from_u64(np.concatenate(words)), id_secret)


def _billed(files: DataFiles, file: DataFile, selector: Selector, month: Secrets) -> Hit | None:
    if selector.kind == "account":
        of_account = _true(has_value(files.rows(file, ["account"])["account"], selector.value))
        return Hit(file, of_account, of_account)
    if month.token is None or not file.numbers:
        return None
    rows = files.rows(file, ["calling_token", "called_token"])
    token = tokens.number_token(pa.array([selector.value]), month.token)[0]
    return Hit(file, _true(pc.equal(rows["calling_token"], token)), _true(pc.equal(rows["called_token"], token)))


def _assured(files: DataFiles, file: DataFile, selector: Selector, records: pa.Array, month: Secrets) -> Hit | None:
    matched: Mask = np.zeros(file.rows, np.bool_)
    if len(records) and month.assurance_id is not None:
        ids = tokens.permute(records, month.assurance_id)
        matched |= _true(pc.is_in(tokens.from_u64(files.ids(file)), ids))
    if selector.kind == "account" and month.account is not None:
        token = tokens.mac([pa.array([selector.value])], month.account)[0]
        matched |= _true(pc.equal(files.rows(file, ["account_token"])["account_token"], token))
    return Hit(file, matched, matched)


def _earlier(files: DataFiles, hit: Hit, before: datetime | None) -> Hit:
    if before is None or not hit.rows.any():
        return hit
    start = files.rows(hit.file, ["start"])["start"]
    early = _true(pc.less(start, pa.scalar(before, pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC"))))
    return Hit(hit.file, hit.calling & early, hit.called & early)


def _true(mask: Any) -> Mask:
    return np.asarray(flat(mask).fill_null(False).to_numpy(zero_copy_only=False), np.bool_)
