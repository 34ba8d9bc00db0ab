"""Reading: files read from the first byte to the last as a night would, and nothing written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import flat
from callward.ingest.contents import FileUnreadable, blocks_of, skip_lines
from pipelines.terminal import Progress
from pipelines.trial.fitting import Candidate, Fit, fit, fits, is_ambiguous, read_block
from pipelines.trial.specimen import Specimen, Unread
from pipelines.trial.tally import First, Tally
from schemas.codes import Suspense
from schemas.declaration import Shape
from transforms.error_limit import error_limit

_BLOCK: Final = 16 << 20  # bytes
_GENERAL: Final = "generic_csv"


@dataclass
class Reading:
    """Files that one source would take, and what their records are."""

    fit: Fit  # of the first file
    tally: Tally
    shapes: list[str] = field(default_factory=list)
    files: int = 0
    bytes: int = 0
    set_aside: list[str] = field(default_factory=list)  # over their error threshold, masked
    rivals: list[Fit] = field(default_factory=list)  # other fits of the first file
    ambiguous: bool = True  # in every file days and months read as well the other way round

    @property
    def candidate(self) -> Candidate:
        return self.fit.candidate


@dataclass
class Trial:
    """All that was read, by source, and what was not."""

    readings: list[Reading] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    refused: list[Fit] = field(default_factory=list)  # of the first file that no candidate reads


def trial(found: Sequence[Specimen | Unread], candidates: Sequence[Candidate], progress: Progress) -> Trial:
    """Read files, each by the candidate that fits it best. Raises UsageProblem for a declaration that is wrong."""
    result = Trial()
    for number, specimen in enumerate(found, 1):
        if isinstance(specimen, Unread):
            result.unread.append(specimen)
            continue
        progress(f"trying {specimen.name} ({number} of {len(found)})")
        try:
            _try(specimen, candidates, result)
        except FileUnreadable as problem:
            result.unread.append(Unread(specimen.name, str(problem)))
        except OSError as error:
            result.unread.append(Unread(specimen.name, (error.strerror or "unreadable").lower()))
    return result


def _try(specimen: Specimen, candidates: Sequence[Candidate], result: Trial) -> None:
    best, *rivals = _fits(specimen, candidates, result)
    if best.why or (rivals and best.is_foreign):
        refused = [_explained(one) for one in (best, *rivals)]
        result.unread.append(Unread(specimen.name, _nearest(refused).why))
        result.refused = result.refused or refused
        return
    reading = _reading_of(best, rivals, result)
    reading.ambiguous = reading.ambiguous and is_ambiguous(specimen, best)
    shape = _described(best.shape)
    if shape not in reading.shapes:
        reading.shapes.append(shape)
    _read(specimen, best, reading)


def _fits(specimen: Specimen, candidates: Sequence[Candidate], result: Trial) -> list[Fit]:
    """Return how candidates read a file, the best first; only the one of files before it where that reads all of it."""
    for reading in result.readings if len(candidates) > 1 else ():
        like_before = fit(specimen, reading.candidate)
        if like_before.is_whole:
            return [like_before]
    return fits(specimen, candidates)


def _nearest(refused: Sequence[Fit]) -> Fit:
    """Return of fits that read nothing the one that cut records, or else that of the format that takes any names."""
    best = refused[0]
    general = (one for one in refused if one.candidate.source.format == _GENERAL)
    return best if best.records or len(refused) == 1 else next(general, best)


def _explained(found: Fit) -> Fit:
    """Return a fit with the reason why it reads no record, where only the codes of the records say it."""
    codes = ", ".join(f"{code} {count}" for code, count in found.faults.items()) or "all are left out by rule"
    return found if found.why else replace(found, why=f"none of its first records can be read: {codes}")


def _reading_of(best: Fit, rivals: Sequence[Fit], result: Trial) -> Reading:
    """Return the reading that files of this source and form belong to, a new one where there is none."""
    for reading in result.readings:
        if reading.candidate.source == best.candidate.source:
            return reading
    reading = Reading(best, Tally(best.candidate), rivals=list(rivals))
    result.readings.append(reading)
    return reading


def _described(shape: Shape) -> str:
    """Return a shape in words: its layout, and how many columns."""
    columns = f", {len(shape.columns)} columns" if shape.columns else ""
    return f"{'a row of names' if shape.variant == 'header' else shape.variant}{columns}"


def _read(specimen: Specimen, found: Fit, reading: Reading) -> None:
    """Add a whole file to a reading; one that is over its error threshold is set aside whole, as a night does."""
    candidate = reading.candidate
    before = reading.tally.suspended.total(), reading.tally.records, reading.tally.sound
    lines = found.shape.header_lines
    for number, data in enumerate(_blocks(specimen, found)):
        table = read_block(candidate, data, found.shape, number)
        _note_first(table, data, lines, specimen, reading.tally, found)
        reading.tally.add(table, specimen.modified_s)
        lines += data.count(b"\n")
        reading.bytes += len(data)
    reading.files += 1
    faults = reading.tally.suspended.total() - before[0]
    if error_limit(candidate.settings, candidate.source).exceeded(faults, reading.tally.records - before[1]):
        reading.set_aside.append(specimen.name)
        reading.tally.suspended[Suspense.FILE] += reading.tally.sound - before[2]


def _blocks(specimen: Specimen, found: Fit) -> Iterator[bytes]:
    most = found.candidate.settings.waves.file_gibibytes
    with specimen.text(found.text) as stream:
        skip_lines(stream, found.shape.header_lines)
        setting = f"{most:g} GiB (waves.file_gibibytes)"
        limit = (1 << 62) if specimen.is_plain else int(most * (1 << 30))
        yield from blocks_of(stream, found.candidate.declaration, _BLOCK, limit, setting)


def _note_first(table: pa.Table, data: bytes, above: int, specimen: Specimen, tally: Tally, found: Fit) -> None:
    """Note where codes stand that no record had before; `above`: lines of the file before the block."""
    if table["fault"].null_count == table.num_rows:
        return
    faults = flat(table["fault"])
    fresh = [code for code in faults.unique().to_pylist() if code is not None and code not in tally.first]
    for code in fresh:
        at = int(pc.index(faults, code).as_py())
        tally.first[code] = First(specimen.name, _line(data, table, at, above, found))


def _line(data: bytes, table: pa.Table, record: int, above: int, found: Fit) -> int:
    """Return the line of a file, counted from 1, on which a record of a block begins."""
    file = found.candidate.declaration.file
    if file.records == "file":
        return record + 1
    if file.multiline:
        before: list[bytes] = table["raw"].slice(0, record).to_pylist()
        return above + 1 + sum(1 + raw.count(b"\n") for raw in before)
    filled = (number for number, line in enumerate(data.split(b"\n"), 1) if line.strip(b"\r"))
    return above + next(number for at, number in enumerate(filled) if at == record)
