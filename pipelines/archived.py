"""archived: blocks of input files as they lie in the sealed archive, as pieces of work; or why some are not there."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pyarrow as pa
from sqlalchemy import Column, Connection, Row, Table, select

from callward import database, sources
from callward.errors import Problem
from callward.lake.data_files import DataFiles
from pipelines.intake import shape_of
from schemas.declaration import Declaration, Shape, named_today, sniff
from schemas.tables import blocks, input_files, lake_files
from transforms.elements import CHUNK
from transforms.read import ARCHIVED

_NAMED: Final = 5  # files that a sentence names at most
_HEAD_BYTES: Final = 64 << 10  # of a file, which its shape is told by
_CHUNK_BYTES: Final = 16 << 20  # of blocks that are read together
_END: Final = 1 << 62  # of a data file, however long it is

_Spans = dict[tuple[int, int], tuple[str, int, int]]  # (file_no, block): data file of the archive, first, last


@dataclass
class Archived:
    """Blocks of input files in the archive, as pieces of work (schema CHUNK) by source and shape; and why the records
    of an input file are not there, by its number."""

    files: DataFiles
    pieces: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    missing: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, files: DataFiles, file_nos: Collection[int], *, any_generation: bool = False) -> "Archived":
        """Find the blocks of input files. Those of an earlier generation of their source are missing, unless any will
        do."""
        archive, by_file = cls(files), defaultdict[int, list[Row[Any]]](list)
        with database.reading(files.workspace.settings) as connection:
            rows = _where(connection, input_files, input_files.c.file_no, sorted(file_nos))
            for block in _where(connection, blocks, blocks.c.file_no, sorted(file_nos)):
                if block.records:
                    by_file[block.file_no].append(block)
            in_archive = {block.archive_file for of_file in by_file.values() for block in of_file} - {None}
            spans = _spans(connection, sorted(in_archive))
            numbers = {source: sources.number(connection, source) for source in {row.source for row in rows}}
        for row in rows:
            of_file, generation = by_file[row.file_no], numbers[row.source]
            if not any_generation and any(block.generation != generation for block in of_file):
                archive.missing[row.file_no] = "they were read under an earlier generation of their source"
            else:
                archive._add(row, of_file, spans)
        return archive

    def _add(self, row: Row[Any], of_file: Sequence[Row[Any]], spans: _Spans) -> None:
        """Note the blocks of an input file, or why they cannot be read."""
        settings, places = self.files.workspace.settings, [(block.file_no, block.block) for block in of_file]
        if row.source not in {source.name for source in settings.sources}:
            self.missing[row.file_no] = f"source {row.source} is not in the settings"
        elif not spans.keys() >= set(places):
            self.missing[row.file_no] = "the archive does not have them"
        else:
            shape, common = shape_of(self.files, row), {"kind": ARCHIVED, "source": row.source, "condemned": False}
            for file_no, number in places:
                path, first, last = spans[file_no, number]
                piece = {"path": path, "file_no": file_no, "block": number, "first": first, "last": last, **common}
                of_block = shape.to_json() if shape else self._sniffed(piece)
                self.pieces[row.source, of_block].append({**piece, "shape": of_block})

    def _sniffed(self, piece: Mapping[str, Any]) -> str:
        """Return how the columns of messages are known: from themselves."""
        workspace = self.files.workspace
        declaration = workspace.declaration(workspace.settings.source(piece["source"]))
        return sniff(self.files.read_archived(piece["path"], piece["first"], piece["last"]), declaration).to_json()

    def require(self, sentence: str) -> None:
        """Raise Problem, with a sentence that goes on with the files' numbers, where some are not there."""
        some = sorted(self.missing.items())
        if some:
            named = "; ".join(f"file {number}: {why}" for number, why in some[:_NAMED])
            raise Problem(f"{sentence}: {named}" + f" (and {len(some) - _NAMED} more)" * (len(some) > _NAMED))

    def as_today(self) -> dict[int, Shape]:
        """Have the columns of files known as their declarations of today know them; return their shapes by file."""
        shapes: dict[int, Shape] = {}
        whole, self.pieces = self.pieces, defaultdict(list)
        for (source, _), pieces in sorted(whole.items()):
            declaration = self.files.workspace.declaration(self.files.workspace.settings.source(source))
            for piece in sorted(pieces, key=lambda piece: (piece["file_no"], piece["block"])):
                if piece["file_no"] not in shapes:
                    shapes[piece["file_no"]] = self._shape(piece, declaration)
                text = shapes[piece["file_no"]].to_json()
                self.pieces[source, text].append({**piece, "shape": text})
        return shapes

    def _shape(self, first: Mapping[str, Any], declaration: Declaration) -> Shape:
        """Return the shape of a file by its row of names, else by its first block."""
        shape = Shape.from_json(first["shape"])
        if shape.variant == "header":
            return named_today(shape, declaration)
        last = min(first["last"], first["first"] + _HEAD_BYTES)
        sniffed = sniff(self.files.read_archived(first["path"], first["first"], last), declaration)
        return replace(sniffed, encoding=sniffed.encoding or shape.encoding)

    def keep(self, places: Collection[tuple[int, int]]) -> None:
        """Leave out all blocks but some (file_no, block)."""
        for name, pieces in self.pieces.items():
            self.pieces[name] = [piece for piece in pieces if (piece["file_no"], piece["block"]) in places]

    def condemn(self, file_nos: Collection[int]) -> None:
        """Have input files set aside whole."""
        whole, self.pieces = self.pieces, defaultdict(list)
        for (source, shape), pieces in whole.items():
            for piece in pieces:
                condemned = piece["file_no"] in file_nos
                self.pieces[source, shape + " " * condemned].append({**piece, "condemned": condemned})

    def chunks(self) -> Iterator[pa.Table]:
        """Yield the blocks as works of a limited size, each of one source and shape (schema CHUNK)."""
        for _, pieces in sorted(self.pieces.items()):
            yield from chunks(sorted(pieces, key=lambda piece: (piece["file_no"], piece["block"])))


def chunks(pieces: Sequence[dict[str, Any]]) -> Iterator[pa.Table]:
    """Yield pieces in works of a limited size (schema CHUNK)."""
    part: list[dict[str, Any]] = []
    size = 0
    for piece in pieces:
        more = min(piece["last"] - piece["first"], _CHUNK_BYTES)
        if part and size + more > _CHUNK_BYTES:
            yield pa.Table.from_pylist(part, schema=CHUNK)
            part, size = [], 0
        part.append(piece)
        size += more
    if part:
        yield pa.Table.from_pylist(part, schema=CHUNK)


def _spans(connection: Connection, file_ids: Sequence[str]) -> _Spans:
    """Return where the blocks in data files of the archive that count begin and end: each at the next one, in order."""
    counting = {row.file_id for row in _where(connection, lake_files, lake_files.c.file_id, file_ids)}
    rows = [row for row in _where(connection, blocks, blocks.c.archive_file, sorted(counting)) if row.records]
    rows.sort(key=lambda row: (row.archive_file, row.archive_first))
    spans = {}
    for row, behind in zip(rows, [*rows, None][1:], strict=True):
        more = behind is not None and behind.archive_file == row.archive_file
        last = behind.archive_first if behind is not None and more else _END
        spans[row.file_no, row.block] = row.archive_file, row.archive_first, last
    return spans


def _where(connection: Connection, table: Table, column: Column[Any], values: Sequence[Any]) -> list[Row[Any]]:
    """Return rows of a table by the values of a column; of data files those that count."""
    query = select(table)
    if table is lake_files:
        query = query.where(lake_files.c.superseded_at.is_(None))
    return [row for few in database.batches(values) for row in connection.execute(query.where(column.in_(few)))]
