"""A night and a stream on one lake: the night leaves the stream's sources alone, and takes in the others."""

from collections.abc import Callable
from typing import Any

import pytest

from callward.errors import Problem
from pipelines.nightly import nightly
from tests.conftest import MORNING
from tests.retention import call, feed
from tests.streams import inline


def test_a_night_leaves_out_what_a_stream_takes_in(
    workspace: Callable[..., Any], feed_source: Callable[..., Any]
) -> None:
    site = workspace("generic", feed_source("other", format="generic_csv"))
    for number, name in enumerate(("generic", "other")):
        site.land(name, "a.csv", feed(*(call(10 * number + n) for n in range(5))))
    said: list[str] = []
    with inline(site.settings, ["generic"]) as work:
        done = nightly(site.settings, now_ms=MORNING, progress=said.append)
        assert [file.source for file in done.files] == ["other"] and "a stream takes in generic" in said
        with pytest.raises(Problem, match="source/generic is being worked on"):
            nightly(site.settings, ["generic"], now_ms=MORNING)
        for block in work.works(work.reader()):
            work.take(block)
        work.flush_all()
    assert site.view("assurance").num_rows == 10 and not site.unbalanced()
    assert [file.source for file in nightly(site.settings, now_ms=MORNING).files] == []
