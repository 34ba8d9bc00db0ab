"""Heads: a reader is kept over Beam's pauses, and opened anew wherever the engine goes back."""

from pathlib import Path
from typing import Any

import pytest

from callward import runs
from callward.streaming import register
from callward.workspace import WorkspaceRef
from pipelines.stream.sources import LandingSource, Mark, MarkCoder
from pipelines.stream.supervisor import sharding_of
from transforms.take_in import FLUSH

HEADER = b"call_id,calling_number,called_number,start_time,answer_time,end_time,disposition\n"
LINE = b"c-%d,+13035550101,+12125550102,2026-03-05T10:00:00Z,2026-03-05T10:00:00Z,2026-03-05T10:01:00Z,answered\n"


@pytest.mark.parametrize("mark", [Mark(), Mark(17), Mark(None, (3, 5), "a/1")])
def test_marks_go_through_their_coder(mark: Mark) -> None:
    assert MarkCoder().decode(MarkCoder().encode(mark)) == mark


@pytest.fixture
def head(workspace: Any) -> LandingSource:
    """The head of a landing folder with one file of several blocks."""
    site = workspace("generic", waves={"block_mebibytes": 0.001}, stream={"poll_seconds": 0.001})
    site.land("generic", "one.csv", HEADER + b"".join(LINE % n for n in range(40)))
    run_id = runs.start(site.settings, register.KIND, ["source/generic"])
    register.begin(site.settings, run_id, ["source/generic"], "by hand")
    reference = WorkspaceRef(str(site.settings.path), "billing-run", "stream")
    return LandingSource(reference, run_id, sharding_of(site.settings).to_json(), ("generic",))


def blocks_of(head: LandingSource, mark: Mark | None) -> tuple[list[int], list[Mark]]:
    """Numbers of the blocks that are handed on behind a mark, and the mark behind each."""
    reader, found, marks = head.create_reader(None, mark), [], []
    while reader.advance():
        work = reader.get_current()
        assert FLUSH not in work.schema.metadata
        found += work["block"].to_pylist()
        marks.append(reader.get_checkpoint_mark())
        reader = head.create_reader(None, marks[-1])  # as Beam does after each bundle
    return found, marks


def test_what_was_lost_behind_a_mark_is_handed_on_again(head: LandingSource) -> None:
    """Also where nothing but the number of works tells two marks apart: a file counts with its last block."""
    all_blocks, marks = blocks_of(head, None)
    assert all_blocks == list(range(len(all_blocks))) and len(marks) > 3
    again, _ = blocks_of(head, marks[1])
    assert set(again) >= set(all_blocks[2:])
    assert blocks_of(head, None)[0] == all_blocks


def test_a_reader_that_goes_on_reads_nothing_twice(head: LandingSource, tmp_path: Path) -> None:
    first, marks = blocks_of(head, None)
    assert blocks_of(head, marks[-1]) == ([], [])
    assert sorted(set(first)) == first
