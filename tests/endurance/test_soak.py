"""Half an hour of a stream under a steady load, on a real broker and Flink: nothing grows. By `make endurance`.

CALLWARD_SOAK_S and CALLWARD_SOAK_RATE make it shorter, longer or heavier.
"""

import json
import os
import sys
from pathlib import Path

import pytest

from bench.measure import measure
from bench.night import ROOT
from tests.servers import KAFKA_LIBS, needed, needs_java

SECONDS = float(os.environ.get("CALLWARD_SOAK_S", "1800"))
RATE = int(os.environ.get("CALLWARD_SOAK_RATE", "20000"))
# Memory that is taken at the beginning (caches, arenas, Java's heap) is in the first third alone.
GROWTH = 1.15

pytestmark = pytest.mark.endurance


@pytest.mark.skipif(sys.platform != "linux", reason="memory of processes is read from /proc")
def test_a_stream_under_a_steady_load_takes_no_more_memory(tmp_path: Path) -> None:
    needs_java()
    needed(KAFKA_LIBS.joinpath(".built").exists(), "Kafka's jars are missing: make engine")
    command = [sys.executable, "-m", "bench.stream", "--only", "fresh", "--folder", str(tmp_path)]
    load = ["--rate", str(RATE), "--seconds", str(SECONDS)]
    cost = measure([*command, *load], folder=ROOT, environment={"PYTHONPATH": str(ROOT)})
    assert cost.code == 0, cost.err[-500:]
    found = json.loads(cost.out)["fresh"]
    print(json.dumps(found))
    assert found["committed"] == found["sent"]
    _, middle, last = found["memory_mib"]["thirds"]
    assert last <= middle * GROWTH, found["memory_mib"]
    first, *later = found["checkpoint_bytes_idle"]
    assert max(later) <= max(2 << 20, 2 * first), "checkpoints grow while nothing comes"
