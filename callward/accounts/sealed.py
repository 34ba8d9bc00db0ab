"""A tenant's directory as one sealed Arrow file: single numbers as tokens, ranges and names in the clear inside.

The table has one row, whose columns are lists: each is read where it lies, whatever its length.
"""

from dataclasses import fields
from typing import Final

import numpy as np
import pyarrow as pa

from callward.accounts.directory import SingleNumbers, count_leading
from callward.accounts.entries import Entries, Holdings
from callward.errors import Problem
from callward.keys import tokens
from callward.keys.register import EVERY_MONTH, KeyName, Keyring
from callward.keys.seal import key_id_of
from callward.storage.durable import Bytes

FORMAT_VERSION: Final = 1
_VERSION: Final = b"callward.directory"
_TEXTS: Final = ("ids", "zones", "labels")
_ENTRIES: Final = ("numbers", "ranges", "names")
_COUNTS: Final = "counts"  # of numbers by the leading bits of their tokens


def key_name(tenant: str) -> KeyName:
    """Return the name of the key that a tenant's directory is sealed under; its tokens are made with it, too."""
    return KeyName("ids", tenant, EVERY_MONTH, "accounts")


def secret(keyring: Keyring, tenant: str) -> bytes:
    """Return what the tokens of a tenant's directory are made with."""
    return tokens.derive(keyring.key(key_name(tenant)).secret, "callward account numbers")


def seal(holdings: Holdings, keyring: Keyring, tenant: str, version: int) -> bytes:
    """Return a version of a tenant's directory, sealed; its entries are in order (Entries.ordered)."""
    columns = {name: getattr(holdings, name) for name in _TEXTS}
    for kind in _ENTRIES:
        entries = getattr(holdings, kind)
        columns |= {f"{kind}.{field.name}": pa.array(getattr(entries, field.name)) for field in fields(Entries)}
    columns[_COUNTS] = pa.array(count_leading(holdings.numbers))
    table = pa.table({name: _listed(column) for name, column in columns.items()})
    table = table.replace_schema_metadata({_VERSION: str(FORMAT_VERSION)})
    return keyring.sealer(key_name(tenant)).seal_table(table, _aad(tenant, version))


def open_sealed(blob: Bytes, keyring: Keyring, tenant: str, version: int) -> tuple[Holdings, SingleNumbers]:
    """Return what `seal` was given, and its numbers to look up. Raises Problem for what is not that."""
    table = keyring.sealer_by_id(key_id_of(blob)).open_table(blob, _aad(tenant, version))
    if (table.schema.metadata or {}).get(_VERSION) != str(FORMAT_VERSION).encode():
        raise Problem("an account directory is of a format version that this release does not know")
    columns = {name: table[name].chunk(0).values for name in table.column_names}
    entries = (Entries(*(columns[f"{kind}.{field.name}"].to_numpy() for field in fields(Entries))) for kind in _ENTRIES)
    holdings = Holdings(*(columns[name] for name in _TEXTS), *entries)
    counts = np.asarray(columns[_COUNTS].to_numpy(), np.uint16)
    return holdings, SingleNumbers.of(holdings.numbers, counts, secret(keyring, tenant))


def _listed(column: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array([0, len(column)], pa.int32()), column)


def _aad(tenant: str, version: int) -> bytes:
    return f"callward/accounts/{FORMAT_VERSION}|{tenant}|{version}".encode()
