"""What people read of a trial."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from callward.redaction import mask
from pipelines import terminal
from pipelines.results import Part, Result, to_document
from pipelines.trial.findings import better, findings
from pipelines.trial.fitting import Fit
from pipelines.trial.reading import Reading, Trial
from pipelines.trial.suggestion import changes, suggestion
from pipelines.trial.tally import FIELDS

_MOST: Final = 20  # rows of a list for a person
_MOST_LISTED: Final = 200  # names of a kind in the document
_HIDDEN: Final = ("calling_raw", "called_raw")  # the numbers stand beside them


@dataclass(frozen=True)
class TrialReport(Result):
    """How files would be read; `form` is the format as it was named, "" where it was looked for."""

    trial: Trial
    form: str = ""

    @property
    def exit_code(self) -> int:
        """Return 3 when a person must look, else 0."""
        wrong = any(reading.tally.suspended or any(findings(reading)) for reading in self.trial.readings)
        return 3 if wrong or self.trial.unread or not self.trial.readings else 0

    def to_dict(self) -> dict[str, Any]:
        return {
            "readings": [_document(reading, self._toml(reading)) for reading in self.trial.readings],
            "unread": to_document(self.trial.unread),
            "refused": [_fit_document(fit) for fit in self.trial.refused],
        }

    def _toml(self, reading: Reading) -> str:
        return suggestion(reading, self.form or reading.candidate.source.format)

    def render(self) -> Iterator[Part]:
        for reading in self.trial.readings:
            yield from _rendered(reading, self._toml(reading))
        if self.trial.unread:
            rows = [[item.file, item.why] for item in self.trial.unread]
            yield terminal.table("Not read", ["file", "why"], rows)
        if len(self.trial.refused) > 1 and not self.trial.readings:
            yield _fits("Why no format reads it", self.trial.refused)
        for fit in self.trial.refused:
            if fit.better is not None:
                yield better(fit.better)
                yield changes(fit)
        if not self.trial.readings and not self.trial.unread:
            yield "there is no file in this folder"


def _document(reading: Reading, toml: str) -> dict[str, Any]:
    tally, source = reading.tally, reading.candidate.source
    return {
        "source": source.name if reading.candidate.known else None,
        "format": reading.candidate.declaration.name,
        "shapes": reading.shapes,
        "zone": reading.candidate.zone,
        "files": reading.files,
        "bytes": reading.bytes,
        "records": tally.records,
        "sound": tally.sound,
        "answered": tally.answered,
        "repeated": tally.repeated,
        "suspended": _suspended(reading),
        "filtered": dict(tally.filtered),
        "set_aside": reading.set_aside,
        "first_start": tally.start,
        "last_start": tally.end,
        "null_pct": _null_pct(reading),
        "unassigned": tally.unassigned,
        "unlisted": {kind: _listed(names) for kind, names in _unlisted(reading).items()},
        "numbers": [{"party": p, "shape": s, "records": n} for (p, s), n in tally.shapes.most_common(_MOST_LISTED)],
        "findings": list(findings(reading)),
        "toml": toml,
        "rivals": [_fit_document(fit) for fit in reading.rivals],
    }


def _fit_document(fit: Fit) -> dict[str, Any]:
    read = {"format": fit.candidate.declaration.name, "sound": fit.sound, "of": fit.records, "why": fit.why}
    return {**read, "toml": changes(fit)}


def _suspended(reading: Reading) -> list[dict[str, Any]]:
    first = reading.tally.first
    return [
        {"code": code, "records": count, "file": first[code].file, "line": first[code].line}
        if code in first
        else {"code": code, "records": count, "file": None, "line": None}
        for code, count in reading.tally.suspended.most_common()
        if count
    ]


def _null_pct(reading: Reading) -> dict[str, float]:
    sound = reading.tally.sound
    return {name: round(100 * reading.tally.nulls[name] / sound, 1) for name in FIELDS} if sound else {}


def _unlisted(reading: Reading) -> dict[str, Counter[str]]:
    tally = reading.tally
    return {"trunks": tally.trunks, "account_codes": tally.accounts, "contexts": tally.contexts}


def _listed(names: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the most frequent names with their records; those that are masked alike are one."""
    masked: Counter[str] = Counter()
    for name, count in names.items():
        masked[mask(name)] += count
    return [{"name": name, "records": count} for name, count in masked.most_common(_MOST_LISTED)]


# -- for a person ------------------------------------------------------------------------------------------------------


def _rendered(reading: Reading, toml: str) -> Iterator[Part]:
    tally, source = reading.tally, reading.candidate.source
    files = f"{terminal.count(reading.files, 'file')}, {terminal.count(tally.records, 'record')}"
    belongs = f"source {source.name}" if reading.candidate.known else "a new source"
    yield f"{reading.candidate.declaration.title} (format {reading.candidate.declaration.name}), {belongs}: {files}"
    yield f"  shape: {'; '.join(reading.shapes)}"
    yield f"  why: {_why(reading)}"
    if tally.start is not None and tally.end is not None:
        zone = reading.candidate.zone
        yield f"  starts: {_moment(tally.start)} to {_moment(tally.end)} UTC, if local times are in {zone}"
    yield f"  sound {tally.sound:,}, of these answered {tally.answered:,}; without an account {tally.unassigned:,}"
    if tally.filtered:
        yield f"  left out by rule: {', '.join(f'{code} {count:,}' for code, count in tally.filtered.items())}"
    yield from _tables(reading)
    sentences = list(findings(reading))
    if sentences:
        yield "To look at:"
        yield from (f"  {sentence}" for sentence in sentences)
    if toml:
        yield "For callward.toml:"
        yield toml


def _moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S")


def _why(reading: Reading) -> str:
    fit = reading.fit
    rivals = [rival for rival in reading.rivals if not rival.why]
    alike = ", ".join(rival.candidate.source.name for rival in rivals if rival.sound == fit.sound)
    others = f"; {alike} reads as many" if alike else ""
    return f"{fit.sound:,} of the first {fit.records:,} records sound, {fit.filled} fields filled{others}"


def _tables(reading: Reading) -> Iterator[Part]:
    suspended = [[row["code"], row["records"], _place(row)] for row in _suspended(reading)]
    if suspended:
        yield terminal.table("Would be suspended (codes: docs/nights.md)", ["code", "records", "first at"], suspended)
    yield from _shares(reading)
    for kind, names in _unlisted(reading).items():
        rows = [[row["name"], row["records"]] for row in _listed(names)]
        if rows:
            title = f"{kind.replace('_', ' ').capitalize()} that the settings do not list"
            yield terminal.table(title, ["name", "records"], rows[:_MOST])
            if len(rows) > _MOST:
                yield f"and {len(rows) - _MOST:,} more (--json)"
    shapes = [[party, shape, count] for (party, shape), count in reading.tally.shapes.most_common(_MOST)]
    if shapes:
        yield terminal.table("Numbers that are not understood", ["party", "shape", "records"], shapes)


def _shares(reading: Reading) -> Iterator[str]:
    """Yield which fields sound records always, mostly and never have."""
    nulls = {name: pct for name, pct in _null_pct(reading).items() if name not in _HIDDEN}
    shares = {
        "always": [name for name, pct in nulls.items() if pct == 0],
        "missing in": [f"{name} {pct:g} %" for name, pct in nulls.items() if 0 < pct < 100],
        "never": [name for name, pct in nulls.items() if pct == 100],
    }
    yield from (f"  fields, {what}: {', '.join(names)}" for what, names in shares.items() if names)


def _place(row: Mapping[str, Any]) -> str:
    return f"{row['file']}, line {row['line']}" if row["line"] else "the whole file"


def _fits(title: str, fits: list[Fit]) -> terminal.Table:
    rows = [[fit.candidate.source.name, fit.sound, fit.records, fit.why] for fit in fits]
    return terminal.table(title, ["format", "sound", "of", "why"], rows)
