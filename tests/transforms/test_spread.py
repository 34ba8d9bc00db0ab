"""Work that is known when the graph is built comes to the workers whole."""

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from transforms.spread import Spread


@pytest.mark.parametrize("items", [[], ["a"], ["a", "b", "b"]])
def test_every_item_comes_once(items: list[str]) -> None:
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        assert_that(pipeline | Spread(items, str), equal_to(items))
