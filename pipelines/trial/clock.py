"""Clock: whether the stamps of a source are in the zone that it says, as far as its records tell."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import flat

_EPOCH: Final = r"(?:^|\x1f)(?:[^\s\x1f]+-)?(?P<epoch>1\d{9})\.\d+(?:$|\x1f)"  # as Asterisk begins a uniqueid
_QUARTER_S: Final = 900  # zones differ by quarters of an hour
_NEAR_S: Final = 60
_FARTHEST: Final = 14 * 4  # quarters
_LATE_S: Final = 900
_MOST: Final = 0.9  # of the records that hold an epoch


@dataclass
class Clock:
    """Sums over the records of one source."""

    off: Counter[int] = field(default_factory=Counter)  # by quarters of an hour that starts are after their epoch
    behind: Counter[int] = field(default_factory=Counter)  # by quarters that local stamps are after UTC
    epochs: int = 0
    late: int = 0  # records that start after their file was written

    def add(self, sound: pa.Table, zone: str, modified_s: float) -> None:
        """Add sound records of a file that was last written at `modified_s` (since 1970)."""
        start = flat(sound["start_time"])
        seconds = start.cast(pa.int64()).to_numpy(zero_copy_only=False) / 1000
        self.late += int((seconds > modified_s + _LATE_S).sum())
        identity = flat(sound["identity"]).cast(pa.string())
        epoch = pc.struct_field(pc.extract_regex(identity, _EPOCH), "epoch").cast(pa.int64())
        if epoch.null_count == len(epoch):
            return
        known = epoch.to_numpy(zero_copy_only=False).astype(float)
        local = pc.local_timestamp(start.cast(pa.timestamp("ms", tz=zone))).cast(pa.int64())
        self.epochs += len(epoch) - epoch.null_count
        self.off.update(_quarters(seconds - known))
        self.behind.update(_quarters(local.to_numpy(zero_copy_only=False) / 1000 - known))

    @property
    def is_off(self) -> bool:
        """Return whether nearly all starts are whole quarters of an hour away from what their record says besides."""
        return self.epochs > 0 and self.off.total() - self.off[0] >= _MOST * self.epochs

    @property
    def hours_off(self) -> list[float]:
        """Return by how many hours starts are after their epoch, the most frequent first; a clock change has two."""
        return [quarters / 4 for quarters, count in self.off.most_common(2) if count > 0.02 * self.epochs]

    @property
    def is_utc(self) -> bool:
        """Return whether nearly all local stamps are what UTC showed."""
        return self.epochs > 0 and self.behind[0] >= _MOST * self.epochs


def _quarters(apart_s: npt.NDArray[np.float64]) -> Counter[int]:
    """Return how many stamps are apart by each number of quarters of an hour; others than near one are left out."""
    apart_s = apart_s[np.isfinite(apart_s)]
    whole = np.round(apart_s / _QUARTER_S)
    near = (np.abs(apart_s - whole * _QUARTER_S) <= _NEAR_S) & (np.abs(whole) <= _FARTHEST)
    values, counts = np.unique(whole[near].astype(int), return_counts=True)
    return Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))
