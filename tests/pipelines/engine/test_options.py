"""Beam's options keep the views that it asks for over and over."""

import copy

from apache_beam.options.pipeline_options import DebugOptions, StandardOptions

from pipelines.engine.options import Options


def test_what_is_set_through_a_view_is_seen_in_all_and_in_no_copy() -> None:
    options = Options(["--streaming", "--experiments=one"])
    view, twin = options.view_as(StandardOptions), copy.deepcopy(options)
    view.streaming = False
    assert options.view_as(StandardOptions) is view
    assert not options.get_all_options()["streaming"]
    assert not options.view_as(DebugOptions).get_all_options()["streaming"]
    assert twin.view_as(StandardOptions).streaming and twin.view_as(DebugOptions).experiments == ["one"]
