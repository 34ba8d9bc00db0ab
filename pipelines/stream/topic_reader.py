"""One partition of a topic, read as blocks of messages: each registered in the ledger before it is handed on."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Final, cast

import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from callward import database
from callward.database import DatabaseAway
from callward.errors import Problem
from callward.failpoints import point
from callward.ingest import kafka
from callward.ingest.kafka import BrokerProblem
from callward.lake.data_files import DataFiles
from callward.settings import Settings, Topic
from callward.streaming import blocks, register
from callward.streaming.blocks import Part, Range, RegisteredAlready
from pipelines.intake import naming
from transforms.read import BLOCK, FILE_NO, MESSAGES, SOURCE
from transforms.take_in import FLUSH, NOW, SHARDING

_BATCH: Final = 10_000  # messages asked for at a time
_WAIT_S: Final = 0.1
_STOP_CHECK_S: Final = 1.0
_PREFETCHED_KB: Final = 16_384
_OUT_OF_RANGE: Final = (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET)


def flush_now() -> pa.Table:
    """Return work that makes every bucket flush: the last that a reader hands on."""
    return MESSAGES.empty_table().replace_schema_metadata({FLUSH: b"1"})


@dataclass
class _Held:
    """Messages that were read and are not registered yet."""

    messages: list[Message] = field(default_factory=list)
    bytes: int = 0
    since: float = 0.0

    def add(self, messages: Sequence[Message]) -> None:
        if not self.messages:
            self.since = time.monotonic()
        self.messages += messages
        self.bytes += sum(map(len, messages))  # of the values

    @property
    def span(self) -> tuple[int, int]:
        return _offset(self.messages[0]), _offset(self.messages[-1]) + 1


class TopicReader:
    """Blocks of a partition from `start` on (an offset; None: where the ledger says that reading goes on)."""

    def __init__(self, files: DataFiles, topic: Topic, partition: int, start: int | None, sharding: str) -> None:
        self._files, self._topic, self._partition, self._sharding = files, topic, partition, sharding
        self._settings: Settings = files.workspace.settings
        self._naming = naming(files)
        self._ready: deque[tuple[pa.Table, int | None]] = deque()  # works, and where reading goes on behind each
        self._held = _Held()
        self._stopped, self._looked = False, 0.0
        with database.reading(self._settings) as connection:
            where = blocks.position(connection, topic.name, partition) if start is None else start
            known = [] if where is None else blocks.ranges(connection, topic.name, partition, where)
        self._again = deque(_spans(known))
        self._position = where  # of the next message that the consumer gives
        self._onward = where  # where the next block begins
        self.mark: int | None = where  # where reading goes on behind what was handed on
        self._consumer = self._open(where)

    def next(self) -> pa.Table | None:
        """Return the next block (a work table), or None when there is none yet; hardly waits. Raises Problem."""
        if self._ready:
            return self._pop()
        if self._again:
            return self._reread()
        if self._stopped:
            return None
        if self._stop_requested():
            self._stopped = True
            return flush_now()
        self._gather()
        if self._is_ripe():
            self._register()
        return self._pop()

    def _pop(self) -> pa.Table | None:
        if not self._ready:
            return None
        work, self.mark = self._ready.popleft()
        return work

    def close(self) -> None:
        self._consumer.close()

    # -- reading ----------------------------------------------------------------------------------------------------

    def _open(self, where: int | None) -> Consumer:
        config = kafka.client_config(self._settings) | {
            "group.id": self._settings.kafka.group,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",  # what is gone from the broker is an error, not jumped over
            "isolation.level": "read_committed",
            "enable.partition.eof": False,
            "queued.max.messages.kbytes": _PREFETCHED_KB,
            "fetch.message.max.bytes": 64 << 20,
            "receive.message.max.bytes": 256 << 20,
            "error_cb": lambda _: None,  # a broker that is away is waited for
        }
        consumer = Consumer(config)
        try:
            if where is None:
                where = consumer.get_watermark_offsets(TopicPartition(self._topic.name, self._partition), timeout=30)[0]
                self._position = self._onward = where
            consumer.assign([TopicPartition(self._topic.name, self._partition, where)])
        except Exception as error:
            consumer.close()
            raise BrokerProblem(f"topic {self._topic.name}: {kafka.reason(error)}") from None
        return consumer

    def _read(self) -> list[Message]:
        messages = self._consumer.consume(_BATCH, timeout=_WAIT_S)
        errors = [error for message in messages if (error := message.error())]
        if messages:
            self._position = None if errors else _offset(messages[-1]) + 1
        for error in errors:
            if error.code() in _OUT_OF_RANGE:
                raise Problem(
                    f"topic {self._topic.name}, partition {self._partition}: the broker has not kept the messages from "
                    f"offset {self._onward} on, which were not read; what is lost must be sent again, and "
                    "'callward stream start --skip-lost' goes on behind it"
                )
        return [message for message in messages if not message.error()]  # the broker is away: it comes back

    def _gather(self) -> None:
        if not self._held.messages:
            self._seek(self._onward)
        while not self._is_ripe():
            messages = self._read()
            self._held.add(messages)
            if len(messages) < _BATCH:  # what comes later is for the next time: others wait for this thread
                return

    def _is_ripe(self) -> bool:
        stream, held = self._settings.stream, self._held
        full = held.bytes >= int(stream.block_mebibytes * (1 << 20))
        return bool(held.messages) and (full or time.monotonic() - held.since >= stream.block_seconds)

    def _stop_requested(self) -> bool:
        if time.monotonic() - self._looked < _STOP_CHECK_S:
            return False
        self._looked = time.monotonic()
        try:
            with database.reading(self._settings) as connection:
                return register.stopping(connection, self._files.run_id)
        except DatabaseAway:
            return False

    # -- registering ------------------------------------------------------------------------------------------------

    def _register(self) -> None:
        """Enter what is held in the ledger, unless too much is ahead of the commits, or the database is away."""
        by_source, span = self._by_source(self._held.messages), self._held.span
        parts = [Part(name, _size(messages), _oldest(messages)) for name, messages in by_source.items()]
        try:
            with database.writing(self._settings) as connection:
                if register.stopping(connection, self._files.run_id):
                    return
                if blocks.ahead(connection, self._topic.name, self._partition) >= self._settings.stream.blocks_ahead:
                    return
                registered = blocks.register(
                    connection,
                    self._files.run_id,
                    self._topic.name,
                    self._partition,
                    span,
                    parts,
                    self._sharding,
                    self._naming,
                )
        except DatabaseAway:
            return
        except RegisteredAlready:
            self._take_up()
            return
        point("block-registered")
        self._onward = span[1]
        self._hand_on([self._work(entry, by_source[entry.source]) for entry in registered], span)
        self._held = _Held()

    def _take_up(self) -> None:
        """Queue the ranges, as they were cut, of an earlier reader that went on after the engine had given it up."""
        with database.reading(self._settings) as connection:
            self._again.extend(_spans(blocks.ranges(connection, self._topic.name, self._partition, self._onward or 0)))
        self._held = _Held()

    def _reread(self) -> pa.Table | None:
        """Return the next registered range that is not complete, exactly as it was cut; None when there is none yet."""
        span, entries = self._again[0]
        if not entries:
            self._again.popleft()
            self._onward = span[1]
            return None
        if not self._held.messages:
            self._seek(span[0])
        self._held.add([message for message in self._read() if _offset(message) < span[1]])
        if not self._has_all(span[1]):
            return None
        by_source = self._by_source(self._held.messages)
        self._hand_on([self._work(entry, by_source.get(entry.source, [])) for entry in entries], span)
        self._held = _Held()
        self._again.popleft()
        self._onward = span[1]
        return self._pop()

    def _hand_on(self, works: list[pa.Table], span: tuple[int, int]) -> None:
        """Queue the works of a range: it is behind the reader with the last of them."""
        marks = [*[span[0]] * (len(works) - 1), span[1]]
        self._ready.extend(zip(works, marks, strict=True))

    def _has_all(self, last: int) -> bool:
        """Return whether all messages before an offset are held. The last may be a transaction's hidden mark."""
        if self._held.messages and self._held.span[1] >= last:
            return True
        here = self._consumer.position([TopicPartition(self._topic.name, self._partition)])[0].offset
        return bool(here >= last)

    def _seek(self, to: int | None) -> None:
        if to is not None and to != self._position:
            self._consumer.assign([TopicPartition(self._topic.name, self._partition, to)])
            self._position = to

    # -- what is handed on ------------------------------------------------------------------------------------------

    def _by_source(self, messages: Sequence[Message]) -> dict[str, list[Message]]:
        if not self._topic.source_header:
            return {self._topic.source: list(messages)}
        by_source: dict[str, list[Message]] = {}
        for message in messages:
            by_source.setdefault(kafka.source_of(self._topic, _headers(message)), []).append(message)
        return by_source

    def _work(self, entry: Range, messages: Sequence[Message]) -> pa.Table:
        ids: list[bytes | None] = [None] * len(messages)
        if self._topic.message_id:
            ids = [kafka.message_id_of(self._topic, message.key(), _headers(message)) for message in messages]
        metadata = {
            SOURCE: entry.source,
            FILE_NO: str(entry.file_no),
            BLOCK: str(entry.block),
            NOW: str(entry.now_ms),
            SHARDING: entry.sharding,
        }
        columns = [pa.array([m.value() for m in messages], pa.large_binary()), pa.array(ids, pa.binary())]
        return pa.table(columns, schema=MESSAGES).replace_schema_metadata(metadata)


def _spans(known: Sequence[Range]) -> Iterator[tuple[tuple[int, int], list[Range]]]:
    """Yield registered ranges in order, each with its blocks that are not complete."""
    for span, entries in groupby(known, key=lambda entry: (entry.first, entry.last)):
        yield span, [entry for entry in entries if not entry.complete]


def _offset(message: Message) -> int:
    offset = message.offset()
    assert offset is not None, "a message from a broker has an offset"
    return offset


def _headers(message: Message) -> kafka.Headers:
    return cast(kafka.Headers, message.headers())  # from a broker they come as a list, and their values as bytes


def _size(messages: Sequence[Message]) -> int:
    return sum(map(len, messages))


def _oldest(messages: Sequence[Message]) -> datetime:
    """Return when the first message came to the broker, by its clock; now, where it does not say."""
    kind, moment = messages[0].timestamp()
    at = moment / 1000 if kind else time.time()
    return datetime.fromtimestamp(min(at, time.time()), UTC).replace(tzinfo=None)
