"""Clock: whether the stamps of a source are in the zone that it says, as far as its records tell."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import flat
from transforms.count_shares import quarters_apart

_LATE_S: Final = 900
_MOST, _FEW = 0.9, 0.02  # of the records whose start is whole quarters of an hour from the epoch that they hold


@dataclass
class Clock:
    """Sums over the records of one source."""

    off: Counter[int] = field(default_factory=Counter)  # by quarters of an hour that starts are after their epoch
    behind: Counter[int] = field(default_factory=Counter)  # by quarters that local stamps are after UTC
    late: int = 0  # records that start after their file was written

    def add(self, sound: pa.Table, zone: str, modified_s: float) -> None:
        """Add sound records of a file that was last written at `modified_s` (since 1970)."""
        start = flat(sound["start_time"])
        seconds = start.cast(pa.int64()).to_numpy(zero_copy_only=False) / 1000
        self.late += int((seconds > modified_s + _LATE_S).sum())
        known = pc.is_valid(sound["ahead_ms"])
        ahead, start = flat(sound["ahead_ms"].filter(known)), flat(sound["start_time"].filter(known))
        local = pc.local_timestamp(start.cast(pa.timestamp("ms", tz=zone))).cast(pa.int64())
        self.off.update(quarters_apart(ahead))
        self.behind.update(quarters_apart(pc.add(ahead, pc.subtract(local, start.cast(pa.int64())))))

    @property
    def is_off(self) -> bool:
        """Return whether nearly all starts are whole quarters of an hour away from what their record says besides."""
        total = self.off.total()
        return total > 0 and total - self.off[0] >= _MOST * total

    @property
    def hours_off(self) -> list[float]:
        """Return by how many hours starts are after their epoch, the most frequent first; a clock change has two."""
        return [quarters / 4 for quarters, count in self.off.most_common(2) if count > _FEW * self.off.total()]

    @property
    def is_utc(self) -> bool:
        """Return whether nearly all local stamps are what UTC showed."""
        return 0 < self.behind[0] >= _MOST * self.behind.total()
