"""When a file is set aside whole: more of its records have a fault than its source's threshold allows. The one rule."""

from collections.abc import Mapping
from dataclasses import dataclass

from callward.lake import ledger
from callward.lake.ledger import Changes
from callward.settings import Settings, Source


@dataclass(frozen=True)
class ErrorLimit:
    """More than `share` of a file's records have a fault (0 to 1), and at least `least` of them."""

    share: float
    least: int

    def exceeded(self, faults: int, records: int) -> bool:
        return faults >= self.least and faults > self.share * records


def error_limit(settings: Settings, source: Source) -> ErrorLimit:
    """Return the limit of a source: its own, or that of the settings."""
    thresholds = settings.thresholds
    percent = thresholds.file_errors_pct if source.file_errors_pct is None else source.file_errors_pct
    return ErrorLimit(percent / 100, thresholds.file_errors_min)


def over_limit(facts: Changes, limits: Mapping[int, ErrorLimit]) -> set[int]:
    """Return those files of `limits` (by ledger number) that have too many faults among the records that were read.

    Faults count also where the record is in suspense already.
    """
    entries = ledger.sum_entries(facts.entries).to_pylist() if limits and facts.faults else []
    records = {row["file_no"]: row["rows"] for row in entries if row["bucket"] == ledger.IN}
    return {no for no, limit in limits.items() if limit.exceeded(facts.faults[no], records.get(no, 0))}
