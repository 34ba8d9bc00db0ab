"""Billing zones: the date that a call is billed under is the local one of its answer, in its account's zone."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import Column, few, flat


@dataclass(frozen=True)
class BillingZones:
    """The billing zones (IANA) of a tenant: its own, and those of accounts that have another."""

    usual: str
    of_accounts: Mapping[str, str] = field(default_factory=dict)

    def dates(self, moment: Column, account: Column) -> pa.Array:
        """Return the local dates (date32) of moments (timestamps in UTC), each in the zone of its account."""
        moment = flat(moment)
        if not self.of_accounts:
            return _dates(moment, self.usual)
        account = few(account)
        names = [self.of_accounts.get(name, self.usual) for name in account.dictionary.to_pylist()]
        zones = pa.array([*names, self.usual]).dictionary_encode()
        of = zones.indices.to_numpy()[account.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)]
        dates = pa.nulls(len(moment), pa.date32())
        for at in np.unique(of).tolist():
            rows = pa.array(of == at)
            dates = pc.replace_with_mask(dates, rows, _dates(moment.filter(rows), zones.dictionary[at].as_py()))
        return dates


def _dates(moment: pa.Array, zone: str) -> pa.Array:
    local = moment if zone == "UTC" else pc.local_timestamp(pc.cast(moment, pa.timestamp("ms", tz=zone)))
    return pc.cast(local, pa.date32())
