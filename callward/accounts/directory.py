"""The account directory of one tenant: who pays, by account code, trunk, or number and day.

Accounts are positions in `ids` (int32), NOBODY where none matches; whole columns are looked up at once.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import flat
from callward.settings import Account, Trunk

Payers: TypeAlias = npt.NDArray[np.int32]
Days: TypeAlias = npt.NDArray[np.int64]  # since 1970-01-01
NOBODY: Final = -1
_EPOCH: Final = date(1970, 1, 1).toordinal()
_PLAIN: Final = r"^\+[0-9]{7,15}$"


@dataclass(frozen=True, eq=False)
class Numbers:
    """Whose number is whose on which day. Between two `starts` next to each other the owners are the same."""

    starts: npt.NDArray[np.int64]  # [s], rising
    owner: Payers  # [k, s]: those who follow each other; NOBODY where there are fewer
    since: Days  # [k, s]
    until: Days  # [k, s]

    @classmethod
    def of(cls, accounts: Sequence[Account]) -> "Numbers":
        """Return the numbers of accounts, by their positions; no number is two accounts' on one day."""
        held = [(*r.bounds, *map(_day, r.days), at) for at, account in enumerate(accounts) for r in account.numbers]
        starts = np.unique(np.array([0, *(low for low, *_ in held), *(high + 1 for _, high, *_ in held)], np.int64))
        within: defaultdict[int, list[tuple[int, int, int]]] = defaultdict(list)
        for low, high, since, until, at in held:
            for segment in range(*np.searchsorted(starts, (low, high + 1))):
                within[segment].append((at, since, until))
        most = max(map(len, within.values()), default=0)
        table = np.full((3, most, len(starts)), NOBODY, np.int64)
        for segment, owners in within.items():
            table[:, : len(owners), segment] = np.array(owners).T
        return cls(starts, table[0].astype(np.int32), table[1], table[2])

    def __bool__(self) -> bool:
        return len(self.owner) > 0

    def owners(self, numbers: pa.Array | pa.ChunkedArray, days: Days) -> Payers:
        """Return who has each number (E.164; others are nobody's) on each day."""
        found = np.full(len(numbers), NOBODY, np.int32)
        if not self:
            return found
        value = _integers(numbers)
        segment = np.searchsorted(self.starts, value, side="right") - 1
        for owner, since, until in zip(self.owner, self.since, self.until, strict=True):
            holds = (owner[segment] != NOBODY) & (since[segment] <= days) & (days <= until[segment])
            found[holds] = owner[segment][holds]
        return found


def _day(of: date) -> int:
    return of.toordinal() - _EPOCH


def _integers(numbers: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return numbers in E.164 as integers; 0 for what is none."""
    numbers = flat(numbers)
    digits = pc.if_else(pc.match_substring_regex(numbers, _PLAIN), pc.utf8_slice_codeunits(numbers, 1), "0")
    return np.asarray(digits.fill_null("0").cast(pa.int64()))


@dataclass(frozen=True, eq=False)
class Directory:
    """Accounts of one tenant, and what each is found by."""

    ids: tuple[str, ...]
    by_code: Mapping[str, int]
    by_trunk: Mapping[str, int]  # who pays where no number chooses
    sharing: Mapping[str, frozenset[int]]  # trunks that several accounts have
    numbers: Numbers = field(repr=False)

    @classmethod
    def of(cls, tenant: str, accounts: Sequence[Account], trunks: Sequence[Trunk]) -> "Directory":
        """Return the directory of a tenant, as the settings have it."""
        mine = [account for account in accounts if account.tenant == tenant]
        places = {account.id: at for at, account in enumerate(mine)}
        having: defaultdict[str, set[int]] = defaultdict(set)
        for at, account in enumerate(mine):
            for trunk in account.trunks:
                having[trunk].add(at)
        first = {trunk.name: places[trunk.account] for trunk in trunks if trunk.account in places}
        for name, at in first.items():
            having[name].add(at)
        sole = {name: min(found) for name, found in having.items() if len(found) == 1}
        return cls(
            tuple(places),
            {code: at for at, account in enumerate(mine) for code in account.codes},
            sole | first,
            {name: frozenset(found) for name, found in having.items() if len(found) > 1},
            Numbers.of(mine),
        )
