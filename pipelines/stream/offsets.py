"""Topics as the supervisor sees them: where reading starts, what the broker has not kept, and how far it reaches."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from callward import audit, database
from callward.errors import Problem
from callward.ingest import kafka
from callward.ingest.kafka import BrokerProblem
from callward.settings import Settings
from callward.streaming import blocks

_PATIENCE_S: Final = 10.0
Marks = dict[tuple[str, int], tuple[int, int]]


@contextmanager
def _consumer(settings: Settings) -> Iterator[Consumer]:
    config = kafka.client_config(settings) | {"group.id": settings.kafka.group, "enable.auto.commit": False}
    consumer = Consumer(config | {"error_cb": lambda _: None})
    try:
        yield consumer
    except KafkaException as error:
        raise BrokerProblem(f"the broker {settings.kafka.bootstrap[0]}: {kafka.reason(error)}") from None
    finally:
        consumer.close()


def watermarks(settings: Settings, partitions: Mapping[str, list[int]]) -> Callable[[], Marks]:
    """Return what asks the broker for the lowest and the next offset of each partition, {(topic, number): offsets}."""

    def ask() -> Marks:
        with _consumer(settings) as consumer:
            return {
                (topic, number): consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=_PATIENCE_S)
                for topic, numbers in partitions.items()
                for number in numbers
            }

    return ask


def ask_all(settings: Settings) -> Callable[[], Marks] | None:
    """Return the same for all topics of the settings; None when there are none."""
    names = [topic.name for topic in settings.kafka.topics]
    if not names:
        return None
    return lambda: watermarks(settings, {name: kafka.topic_partitions(settings, name) for name in names})()


def starts(
    settings: Settings, partitions: Mapping[str, list[int]], run_id: str, *, skip_lost: bool
) -> dict[tuple[str, int], int]:
    """Return offsets to start at, {(topic, number): offset}, where the broker has not kept what the ledger needs next.

    Raises Problem for such a partition unless `skip_lost`: then what cannot be read again is given up, with an entry in
    the audit log.
    """
    offsets: dict[tuple[str, int], int] = {}
    marks = watermarks(settings, partitions)() if partitions else {}
    for (topic, number), (lowest, _) in sorted(marks.items()):
        with database.reading(settings) as connection:
            where = blocks.position(connection, topic, number)
        if where is None or where >= lowest:
            continue
        if not skip_lost:
            raise Problem(
                f"topic {topic}, partition {number}: the broker has not kept offsets {where} to {lowest}, which are "
                "not committed; have them sent again, and go on behind them with 'callward stream start --skip-lost'"
            )
        with database.writing(settings) as connection:
            lost = blocks.give_up(connection, topic, number, lowest, run_id)
            onward = blocks.position(connection, topic, number)
            reason = f"topic {topic}/{number}: offsets {where} to {lowest} ({lost} blocks begun)"
            audit.append(connection, [audit.Entry("billing-run", "skip-lost", run_id, reason[:255])])
        offsets[topic, number] = max(lowest, onward or lowest)
    return offsets


def commit_offsets(settings: Settings, partitions: Mapping[str, list[int]]) -> None:
    """Commit where the ledger stands at the broker, for those who watch a group's lag; nothing is read from it."""
    with database.reading(settings) as connection:
        at = {
            (topic, number): blocks.position(connection, topic, number)
            for topic, numbers in partitions.items()
            for number in numbers
        }
    offsets = [TopicPartition(*key, offset) for key, offset in at.items() if offset is not None]
    if offsets:
        with _consumer(settings) as consumer:
            consumer.commit(offsets=offsets, asynchronous=False)
