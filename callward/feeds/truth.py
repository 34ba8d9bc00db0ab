"""What must come out of the feeds: exact counts per file, known because the generator made every record."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

import numpy as np

from callward.feeds.calls import Calls
from callward.feeds.dirt import KINDS
from schemas.codes import Bucket

BUCKETS: Final = tuple(bucket.value for bucket in Bucket)


@dataclass(frozen=True)
class Count:
    """What one file, or several, must come to.

    Attributes:
        rows: records in (blank lines and header lines are none).
        buckets: records per bucket of schemas.codes.Bucket.
        talk_ms: talk time that records state, in ms, per bucket and as "in".
        talk_ms_paired: talk time that pairing must compute, counted at the piece that opens the call.
        dirt: suspended records per kind of dirt (dirt.KINDS), and "conflict".
    """

    rows: int = 0
    buckets: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(BUCKETS, 0))
    talk_ms: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(("in", *BUCKETS), 0))
    talk_ms_paired: int = 0
    dirt: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: "Count") -> "Count":
        return Count(
            self.rows + other.rows,
            {name: self.buckets[name] + other.buckets[name] for name in self.buckets},
            {name: self.talk_ms[name] + other.talk_ms[name] for name in self.talk_ms},
            self.talk_ms_paired + other.talk_ms_paired,
            dict(Counter(self.dirt) + Counter(other.dirt)),
        )

    @classmethod
    def of(cls, calls: Calls, paired_ms: int = 0) -> Self:
        """Return the count of a file's records, each with its bucket."""
        rows = np.bincount(calls["bucket"], minlength=len(BUCKETS)).tolist()
        talk = [int(calls["talk"][calls["bucket"] == n].sum()) for n in range(len(BUCKETS))]
        kinds = np.bincount(calls["dirt"], minlength=len(KINDS)).tolist()
        return cls(
            len(calls),
            dict(zip(BUCKETS, rows, strict=True)),
            {"in": sum(talk), **dict(zip(BUCKETS, talk, strict=True))},
            paired_ms,
            {kind: n for kind, n in zip(KINDS[1:], kinds[1:], strict=True) if n},
        )


@dataclass(frozen=True)
class Truth:
    """Counts per file, named `source/file`.

    Per source they are exact. Per file they hold where files are read in the order of their names, and where a
    call in pieces counts as accepted at the piece that opens it and as merged at the others.
    """

    files: Mapping[str, Count]

    def source(self, name: str) -> Count:
        """Return what a source's files come to."""
        return total(count for file, count in self.files.items() if file.split("/")[0] == name)

    def total(self) -> Count:
        """Return what all files come to."""
        return total(self.files.values())

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON; holds no number of any party."""
        return {"files": {name: asdict(count) for name, count in self.files.items()}, "total": asdict(self.total())}


def total(counts: Iterable[Count]) -> Count:
    """Return the sum of counts."""
    return sum(counts, Count())
