"""Which tests one process runs one after the other, and in which order, so that all processes work to the end.

A file's tests share workspaces, and some files a server: they stay together. What takes longest comes first, so that
only short files are left when the first process has nothing more to do.
"""

from typing import Any, Final

import pytest
from xdist.scheduler import LoadScopeScheduling

_KAFKA: Final = (
    "pipelines/stream/test_stream.py",
    "pipelines/stream/test_topic_reader.py",
    "callward/ingest/test_kafka.py",
    "pipelines/doctor/test_broker.py",
)
_LONGEST: Final = (
    *_KAFKA,
    "pipelines/stream/test_inline.py",
    "pipelines/test_purge.py",
    "test_kills_request.py",
    "pipelines/test_compact.py",
    "pipelines/test_request.py",
    "test_promises.py",
    "test_legs.py",
    "test_kills_purge.py",
    "pipelines/test_reindex.py",
    "test_faults.py",
    "pipelines/cli/test_both_databases.py",
    "test_two_elements.py",
    "pipelines/engine/test_flink_night.py",
    "pipelines/stream/test_http_receiver.py",
    "test_kills.py",
    "pipelines/test_trial.py",
    "test_object_store.py",
    "pipelines/corrections/test_backout.py",
    "pipelines/suspense/test_close.py",
    "test_night_scenes.py",
    "pipelines/cli/test_commands.py",
    "test_raw_search.py",
    "pipelines/corrections/test_reprocess.py",
    "pipelines/test_purge_index.py",
    "test_ends.py",
    "callward/keys/test_rotation.py",
    "test_bench.py",
    "pipelines/test_postgresql.py",
    "pipelines/test_release.py",
    "callward/sweep/test_scanner.py",
    "test_held_versions.py",
    "pipelines/test_closing.py",
    "callward/access/test_grants.py",
    "test_assurance_page.py",
    "callward/release/attack/test_suite.py",
    "pipelines/test_rebuild.py",
    "callward/lake/test_parquet.py",
    "test_night_truth.py",
    "test_night_order.py",
    "test_random_calls.py",
    "pipelines/attack/test_run.py",
)


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0].removeprefix("tests/")


def longest_first(items: list[pytest.Item]) -> None:
    """Sort tests by file: those that take longest first, the others as they were."""
    rank = {name: number for number, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(_file(item.nodeid), len(rank)))


class FileScheduling(LoadScopeScheduling):
    """Gives a process a file at a time, and all files that use the session's Kafka broker as one."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        config.option.loadscopereorder = False  # else files of few tests come last, which are the longest
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return "kafka" if _file(nodeid) in _KAFKA else _file(nodeid)
