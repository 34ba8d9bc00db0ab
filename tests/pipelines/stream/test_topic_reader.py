"""Topics read from a real broker: each range exactly as it was registered, whatever lies in the topic."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from callward import audit, database
from callward.errors import Problem
from callward.feeds import asterisk_files
from callward.ingest import kafka as broker
from callward.runs import new_id
from callward.streaming import blocks, register
from pipelines.stream import offsets, supervisor, topic_reader
from pipelines.stream.topic_reader import TopicReader
from tests.commands import run
from tests.servers import KafkaBroker, until
from tests.streams import Inline, begin, let_go
from transforms.read import BLOCK, FILE_NO, SOURCE
from transforms.take_in import FLUSH

QUICK = {"block_seconds": 0.2, "block_mebibytes": 0.002, "metrics": ""}
Block = tuple[str, int, int, list[bytes | None]]  # source, file_no, block, values


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Sound records of a source that has ids of its own."""
    (path,) = asterisk_files(tmp_path_factory.mktemp("feed"), seed=3, rows=200, files=1, day=date(2026, 3, 5))
    found = path.read_bytes().splitlines()
    assert len(set(found)) == 200
    return found


@dataclass
class Topic:
    """A topic of the broker's, a workspace that reads it, and what is sent there."""

    broker: KafkaBroker
    name: str
    site: Any
    works: list[Inline] = field(default_factory=list)

    @property
    def settings(self) -> Any:
        return self.site.settings

    def send(self, values: Sequence[Any], partition: int = 0, **more: Any) -> None:
        """Send values, or (value, key, headers)."""
        producer = Producer({"bootstrap.servers": self.broker.bootstrap, "message.max.bytes": 20 << 20, **more})
        for each in values:
            value, key, headers = each if isinstance(each, tuple) else (each, None, None)
            producer.produce(self.name, value, key=key, headers=headers, partition=partition)
        assert producer.flush(60) == 0

    def stream(self) -> Inline:
        """A stream that reads this topic; one that was there before is given up."""
        for work in self.works[-1:]:
            let_go(work.settings, work.run_id)
        settings = self.settings
        self.works.append(Inline(settings, begin(settings, [f"kafka/{self.name}"]), []))
        return self.works[-1]

    def delete_before(self, offset: int) -> None:
        """What the broker does with what is past its retention."""
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap})
        for done in admin.delete_records([TopicPartition(self.name, 0, offset)]).values():
            done.result(30)

    def waiting(self) -> int:
        with database.reading(self.settings) as connection:
            return blocks.waiting(connection, [], [self.name])

    def position(self) -> int | None:
        with database.reading(self.settings) as connection:
            return blocks.position(connection, self.name, 0)


@pytest.fixture
def topic(kafka: KafkaBroker, workspace: Callable[..., Any], feed_source: Any) -> Iterator[Callable[..., Topic]]:
    """topic(**settings of the topic) → a fresh topic and a workspace that reads it."""
    made: list[Topic] = []

    def make(partitions: int = 1, config: dict[str, str] | None = None, stream: Any = None, **more: Any) -> Topic:
        name = f"cdr-{new_id()}"
        kafka.create(name, partitions, **(config or {}))
        sources = [
            "asterisk",
            "opensips",
            feed_source("plain", format="generic_jsonl", declare={"identity": {"content": True}}),
            feed_source("usual", format="generic_jsonl"),
        ]
        declared = {"name": name, "source": "asterisk", **more}
        site = workspace(
            *sources, kafka={"bootstrap": [kafka.bootstrap], "topics": [declared]}, stream={**QUICK, **(stream or {})}
        )
        made.append(Topic(kafka, name, site))
        return made[-1]

    yield make
    for each in made:
        for work in each.works[-1:]:
            let_go(work.settings, work.run_id)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few messages make many blocks."""
    monkeypatch.setattr(topic_reader, "_BATCH", 7)


def next_block(reader: TopicReader, seconds: float = 60) -> pa.Table:
    found = until(lambda: [work for work in [reader.next()] if work is not None], "a block", seconds)
    return found[0]


def values_of(work: pa.Table) -> list[bytes | None]:
    return work["value"].to_pylist()


def block_of(work: pa.Table) -> Block:
    metadata = work.schema.metadata
    return metadata[SOURCE].decode(), int(metadata[FILE_NO]), int(metadata[BLOCK]), values_of(work)


def read(reader: TopicReader, messages: int) -> tuple[list[pa.Table], list[int | None]]:
    """Blocks until so many messages were handed on, and the mark behind each."""
    works, marks = [], []
    while sum(work.num_rows for work in works) < messages:
        works.append(next_block(reader))
        marks.append(reader.mark)
    return works, marks


def take_all(work: Inline, topic: str, messages: int, partition: int = 0) -> None:
    """Read, take in and commit so many messages."""
    reader = work.topic_reader(topic, partition)
    for found in read(reader, messages)[0]:
        work.take(found)
    reader.close()
    work.flush_all()


def is_quiet(reader: TopicReader, seconds: float = 1.5) -> bool:
    """Whether a reader hands on nothing for a while."""
    end = time.monotonic() + seconds
    return all(reader.next() is None for _ in iter(lambda: time.monotonic() < end, False))


# -- ranges ------------------------------------------------------------------------------------------------------------


def test_registered_ranges_are_cut_so_again_from_any_mark(topic: Callable[..., Topic], lines: list[bytes]) -> None:
    here = topic()
    here.send(lines[:90])
    work = here.stream()
    reader = work.topic_reader(here.name)
    works, marks = read(reader, 90)
    reader.close()
    made = [block_of(found) for found in works]
    assert [value for *_, values in made for value in values] == lines[:90]
    assert len(made) > 5
    here.send(lines[90:120])  # what comes meanwhile changes nothing in what was cut
    for at in (0, 1, len(made) // 2, len(made) - 1):
        again = work.topic_reader(here.name, start=marks[at])
        left = sum(len(values) for *_, values in made[at + 1 :])
        if left:
            assert [block_of(found) for found in read(again, left)[0]] == made[at + 1 :]
        assert values_of(next_block(again))[0] == lines[90]
        again.close()
        work = here.stream()  # a new run goes on with the same ranges
    first = work.topic_reader(here.name)
    assert [block_of(found) for found in read(first, 90)[0]] == made
    first.close()


def test_a_start_goes_on_at_the_oldest_block_that_is_not_complete(
    topic: Callable[..., Topic], lines: list[bytes]
) -> None:
    here = topic()
    here.send(lines[:60])
    work = here.stream()
    reader = work.topic_reader(here.name)
    works, _ = read(reader, 60)
    reader.close()
    for found in (*works[:2], works[3]):
        work.take(found)
    work.flush_all()
    again = here.stream().topic_reader(here.name)
    left = [block_of(found) for found in (works[2], *works[4:])]
    assert [block_of(found) for found in read(again, sum(len(values) for *_, values in left))[0]] == left
    again.close()


def test_a_stream_gets_what_one_night_would(topic: Callable[..., Topic], lines: list[bytes]) -> None:
    here = topic(partitions=2)
    here.send([*lines[:70], b"no call"], 0)
    here.send([*lines[50:], b"no call"], 1)  # some come twice
    work = here.stream()
    take_all(work, here.name, 71, 0)
    take_all(work, here.name, 151, 1)
    assert here.waiting() == 0
    found = {key: rows for key, (rows, _) in here.site.entries().items()}
    assert found["in", ""] == 222
    assert sum(rows for (bucket, _), rows in found.items() if bucket == "duplicate") == 21
    assert sum(rows for (bucket, _), rows in found.items() if bucket == "suspended") == 1
    assert here.site.unbalanced() == {}


def test_one_topic_of_several_sources(topic: Callable[..., Topic], lines: list[bytes]) -> None:
    here = topic(source_header="switch", sources={"east": "opensips"})
    values = [(b"INVITE|%d" % n, None, [("switch", b"east")]) for n in range(20)]
    values += [(line, None, [("switch", b"elsewhere")]) for line in lines[:20]]
    values += [(line, None, None) for line in lines[20:40]]
    mixed = [values[n % 3 * 20 + n // 3] for n in range(60)]
    here.send(mixed)
    work = here.stream()
    reader = work.topic_reader(here.name)
    works, marks = read(reader, 60)
    reader.close()
    made = [block_of(found) for found in works]
    assert {source for source, *_ in made} == {"asterisk", "opensips"}
    assert sorted(v for s, _, _, vs in made for v in vs if s == "opensips") == sorted(v for v, *_ in values[:20])
    for at, mark in enumerate(marks):  # a mark within a range goes back to its beginning
        again = work.topic_reader(here.name, start=mark)
        rest, found = made[at + 1 :], []
        while any(block not in found for block in rest):
            found.append(block_of(next_block(again)))
        assert [block for block in found if block not in made] == []
        again.close()
    for found in works:
        work.take(found)
    work.flush_all()
    assert here.waiting() == 0
    assert here.site.unbalanced() == {}


# -- what may lie in a topic -------------------------------------------------------------------------------------------


def test_messages_without_records_are_blocks_too(topic: Callable[..., Topic], lines: list[bytes]) -> None:
    here = topic()
    here.send([None, b"", b"\n", lines[0], b"\r\n", None, lines[1] + b"\n" + lines[2] + b"\r\n"])
    work = here.stream()
    take_all(work, here.name, 7)
    here.send([None, None])
    take_all(work, here.name, 2)
    assert here.waiting() == 0
    assert here.site.entries()["in", ""][0] == 3
    assert here.position() == 9


POISON = (
    b"\xff\xfe\x00\x01" * 50,
    b'"' * 999,
    b"," * 5000,
    b"\x00",
    b'{"a":' * 3000,
    "٣".encode() * 40,
)


def test_a_poison_message_spoils_only_itself(topic: Callable[..., Topic], lines: list[bytes]) -> None:
    here = topic()
    here.send([each for n, poison in enumerate(POISON) for each in (lines[2 * n], poison, lines[2 * n + 1])])
    work = here.stream()
    take_all(work, here.name, 3 * len(POISON))
    entries = here.site.entries()
    assert entries["in", ""][0] == 3 * len(POISON)
    assert sum(rows for (bucket, _), (rows, _) in entries.items() if bucket == "suspended") == len(POISON)
    assert here.waiting() == 0


def test_a_message_of_10_megabytes(topic: Callable[..., Topic], lines: list[bytes]) -> None:
    here = topic(config={"max_message_bytes": str(16 << 20)}, stream={"block_mebibytes": 1.0})
    here.send([lines[0], b"x" * 10_000_000, lines[1]])
    take_all(here.stream(), here.name, 3)
    entries = here.site.entries()
    assert entries["in", ""][0] == 3
    assert sum(rows for (bucket, _), (rows, _) in entries.items() if bucket == "suspended") == 1
    assert here.waiting() == 0


def test_a_block_of_records_in_one_message(topic: Callable[..., Topic], lines: list[bytes]) -> None:
    here = topic(config={"max_message_bytes": str(16 << 20)})
    here.send([b"\n".join(lines), lines[0]])
    take_all(here.stream(), here.name, 2)
    assert here.site.entries()["in", ""][0] == 201


@pytest.mark.parametrize("source", ["plain", "usual"])
def test_records_without_ids_are_told_apart_by_their_messages(topic: Callable[..., Topic], source: str) -> None:
    here = topic(source=source, message_id="key")
    call = {"calling_number": "+13035550101", "called_number": "+12125550102", "start_time": "2026-03-05T10:00:00Z"}
    value = json.dumps(call | {"answer_time": call["start_time"], "end_time": "2026-03-05T10:01:00Z"}).encode()
    here.send([(value, b"one", None), (value, b"two", None), (value, b"one", None)])
    work = here.stream()
    take_all(work, here.name, 3)
    here.send([(value, b"two", None)])
    take_all(work, here.name, 1)
    entries = here.site.entries()
    assert (entries["accepted", ""][0], entries["duplicate", ""][0]) == (2, 2)


def test_a_message_without_the_id_that_was_promised_is_suspended(topic: Callable[..., Topic]) -> None:
    here = topic(source="plain", message_id="header:id")
    call = {"calling_number": "+13035550101", "called_number": "+12125550102", "start_time": "2026-03-05T10:00:00Z"}
    values = [json.dumps(call | {"account_code": f"ac-000{n}"}).encode() for n in range(3)]
    headers = [[("id", b"one")], None, [("other", b"x")]]
    here.send([(value, None, header) for value, header in zip(values, headers, strict=True)])
    take_all(here.stream(), here.name, 3)
    entries = here.site.entries()
    assert sum(rows for (bucket, _), (rows, _) in entries.items() if bucket == "suspended") == 2, entries
    assert here.waiting() == 0


@pytest.mark.parametrize("together", [True, False])
def test_what_is_no_record_and_comes_again_is_a_duplicate(
    together: bool, topic: Callable[..., Topic], lines: list[bytes]
) -> None:
    """Whether the broker's second delivery is committed with the first or later is chance, and must not matter."""
    here = topic()
    work = here.stream()
    for _ in range(2):
        here.send([lines[0], b"no call at all"])
        if not together:
            take_all(work, here.name, 2)
    if together:
        take_all(work, here.name, 4)
    rows = [(bucket, rows) for (bucket, _), (rows, _) in here.site.entries().items()]
    assert sum(n for bucket, n in rows if bucket == "suspended") == 1
    assert sum(n for bucket, n in rows if bucket == "duplicate") == 2


def test_transactions_that_were_aborted_are_not_seen(topic: Callable[..., Topic], lines: list[bytes]) -> None:
    """Aborted messages and the marks of transactions are gaps in the offsets."""
    here = topic()
    producer = Producer({"bootstrap.servers": here.broker.bootstrap, "transactional.id": here.name})
    producer.init_transactions(60)
    for number in range(12):
        producer.begin_transaction()
        for line in lines[10 * number : 10 * number + 10]:
            producer.produce(here.name, line, partition=0)
        (producer.abort_transaction if number % 3 == 1 else producer.commit_transaction)(60)
    wanted = [line for n, line in enumerate(lines[:120]) if n // 10 % 3 != 1]
    work = here.stream()
    reader = work.topic_reader(here.name)
    works, marks = read(reader, len(wanted))
    reader.close()
    assert [value for found in works for value in values_of(found)] == wanted
    for at in (0, len(works) // 2):
        again = work.topic_reader(here.name, start=marks[at])
        left = [block_of(found) for found in works[at + 1 :]]
        assert [block_of(found) for found in read(again, sum(len(values) for *_, values in left))[0]] == left
        again.close()
    for found in works:
        work.take(found)
    work.flush_all()
    assert here.waiting() == 0
    more = here.stream().topic_reader(here.name)
    assert is_quiet(more)
    more.close()


def test_a_trickle_is_handed_on_in_time(topic: Callable[..., Topic], lines: list[bytes]) -> None:
    """Messages that keep coming, each sooner than a reader waits for one, must not keep a block open."""
    here = topic(stream={"block_mebibytes": 16.0, "block_seconds": 0.5})
    reader = here.stream().topic_reader(here.name)
    for line in [*lines, *lines]:
        here.send([line])
        if reader.next() is not None:
            break
    else:
        pytest.fail("400 messages came and none was handed on")
    reader.close()


# -- what the broker has not kept --------------------------------------------------------------------------------------


@pytest.mark.parametrize("within", [False, True])
def test_messages_that_are_gone_are_said_and_skipped_only_when_asked(
    within: bool, topic: Callable[..., Topic], lines: list[bytes]
) -> None:
    """Also where what is left begins within a block that was registered."""
    here = topic()
    here.send(lines[:60])
    work = here.stream()
    reader = work.topic_reader(here.name)
    works, marks = read(reader, 60)
    reader.close()
    work.take(works[0])
    work.flush_all()
    (lowest,) = (mark for mark in marks[3:4] if mark is not None)
    lowest += 2 if within else 0
    here.delete_before(lowest)
    run_id = here.stream().run_id
    partitions = {here.name: [0]}
    with pytest.raises(Problem, match=rf"offsets {marks[0]} to {lowest}.*--skip-lost") as caught:
        offsets.starts(here.settings, partitions, run_id, skip_lost=False)
    assert "\n" not in str(caught.value)
    starts = offsets.starts(here.settings, partitions, run_id, skip_lost=True)
    here.send(lines[60:70])
    again = here.works[-1].topic_reader(here.name, start=starts.get((here.name, 0)))
    found = read(again, 70 - lowest)[0]
    again.close()
    assert [value for one in found for value in values_of(one)] == lines[lowest:70]
    for one in found:
        here.works[-1].take(one)
    here.works[-1].flush_all()
    assert here.waiting() == 0
    assert here.position() == 70
    assert here.site.unbalanced() == {}
    with database.reading(here.settings) as connection:
        assert audit.verify(connection) > 0
    assert offsets.starts(here.settings, partitions, run_id, skip_lost=False) == {}


def test_messages_that_go_while_they_are_read_end_the_stream_in_a_sentence(
    topic: Callable[..., Topic], lines: list[bytes]
) -> None:
    here = topic()
    here.send(lines[:60])
    here.delete_before(30)
    reader = here.stream().topic_reader(here.name, start=10)  # as where reading stood when they went
    with pytest.raises(Problem, match="has not kept the messages from offset 10 on") as caught:
        next_block(reader)
    assert "\n" not in str(caught.value)
    reader.close()


def test_a_topic_whose_beginning_is_gone_is_read_from_what_is_there(
    topic: Callable[..., Topic], lines: list[bytes]
) -> None:
    here = topic()
    here.send(lines[:20])
    here.delete_before(5)
    reader = here.stream().topic_reader(here.name)
    assert [value for found in read(reader, 15)[0] for value in values_of(found)] == lines[5:20]
    reader.close()


# -- who reads ---------------------------------------------------------------------------------------------------------


def test_a_start_reads_the_partitions_that_a_topic_has_by_then(
    topic: Callable[..., Topic], lines: list[bytes], kafka: KafkaBroker
) -> None:
    here = topic()
    feed = partial(supervisor._feed, here.settings, (), here.settings.kafka.topics)
    assert feed().partitions == {here.name: [0]}
    kafka.grow(here.name, 3)
    until(lambda: feed().partitions == {here.name: [0, 1, 2]}, "three partitions")
    here.send(lines[:10], 2)
    take_all(here.stream(), here.name, 10, 2)
    assert here.site.entries()["in", ""][0] == 10


def test_a_run_that_lost_its_lease_registers_nothing_more(topic: Callable[..., Topic], lines: list[bytes]) -> None:
    here = topic()
    first = here.stream()
    zombie = first.topic_reader(here.name)
    here.send(lines[:10])
    work = here.stream()
    assert FLUSH in next_block(zombie).schema.metadata
    assert is_quiet(zombie)
    zombie.close()
    with (
        pytest.raises(Problem, match="is over or lost its lease"),
        database.writing(here.settings) as connection,
    ):
        part = blocks.Part("asterisk", 1, database.now())
        blocks.register(connection, first.run_id, here.name, 0, (0, 10), [part], "{}", lambda name: (name, b""))
    assert here.waiting() == 0
    take_all(work, here.name, 10)


def test_two_readers_of_one_run_cut_the_same_ranges(topic: Callable[..., Topic], lines: list[bytes]) -> None:
    """An engine may go on with a new reader while one that it gave up still reads."""
    here = topic()
    work = here.stream()
    given_up, reader = work.topic_reader(here.name), work.topic_reader(here.name)
    here.send(lines[:30])
    theirs = [block_of(found) for found in read(given_up, 30)[0]]
    assert [block_of(found) for found in read(reader, 30)[0]] == theirs
    here.send(lines[30:40])
    ours = [block_of(found) for found in read(reader, 10)[0]]
    assert [block_of(found) for found in read(given_up, 10)[0]] == ours
    for each in (given_up, reader):
        each.close()


def test_a_reader_waits_for_the_commits_and_holds_no_more_than_a_block(
    topic: Callable[..., Topic], lines: list[bytes]
) -> None:
    here = topic(stream={"blocks_ahead": 2})
    here.send(lines)
    work = here.stream()
    reader = work.topic_reader(here.name)
    first = [next_block(reader), next_block(reader)]
    assert is_quiet(reader)
    assert reader._held.bytes < 4096 + max(map(len, lines)) * 200
    assert here.waiting() == 2
    for found in first:
        work.take(found)
    work.flush_all()
    third = next_block(reader)
    assert values_of(third)[0] == lines[sum(found.num_rows for found in first)]
    reader.close()


def test_a_reader_that_is_asked_to_stop_registers_nothing_more(topic: Callable[..., Topic], lines: list[bytes]) -> None:
    here = topic(stream={"block_seconds": 3600.0, "block_mebibytes": 16.0})
    here.send(lines[:30])
    work = here.stream()
    reader = work.topic_reader(here.name)
    until(lambda: reader.next() is None and len(reader._held.messages) == 30, "30 messages are held")
    with database.writing(here.settings) as connection:
        register.mark_stop(connection, [work.run_id])
    reader._register()
    assert here.waiting() == 0
    assert FLUSH in next_block(reader).schema.metadata
    assert is_quiet(reader)
    reader.close()


def test_two_streams_of_one_topic_are_refused_in_one_sentence(topic: Callable[..., Topic]) -> None:
    here = topic()
    work = here.stream()
    ended = run("stream", "start", "--config", str(here.site.folder)).check_clean()
    assert ended.code == 1
    (sentence,) = ended.sentences
    assert f"kafka/{here.name} is being worked on by run {work.run_id}" in sentence


def test_a_topic_that_is_not_there_is_one_sentence(topic: Callable[..., Topic], tmp_path: Path) -> None:
    here = topic()
    here.broker.delete(here.name)
    until(lambda: here.name not in here.broker._admin.list_topics(timeout=5).topics, "it is gone")
    ended = run("stream", "start", "--config", str(here.site.folder)).check_clean()
    assert ended.code in (1, 2)
    assert here.name in ended.sentences[-1]


def test_the_broker_is_told_where_the_ledger_stands(topic: Callable[..., Topic], lines: list[bytes]) -> None:
    here = topic()
    here.send(lines[:20])
    take_all(here.stream(), here.name, 20)
    offsets.commit_offsets(here.settings, {here.name: [0]})
    with offsets._consumer(here.settings) as consumer:
        (told,) = consumer.committed([TopicPartition(here.name, 0)], timeout=30)
    assert told.offset == here.position() == 20
    assert broker.topic_partitions(here.settings, here.name) == [0]
