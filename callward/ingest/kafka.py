"""The broker: how callward's settings become options of librdkafka, and what a broker says of its topics.

A topic is a copy in the clear that lies outside callward, so it should not outlive the sealed one (the archive window).
What goes wrong is one sentence, which holds neither a secret nor anything of a message.
"""

import os
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]

from callward.credentials import secret
from callward.errors import Problem, UsageProblem
from callward.redaction import mask
from callward.settings import Kafka, Settings, Topic, is_loopback, nearest
from callward.workspace import Workspace
from schemas.declaration import Declaration
from schemas.retention_classes import Window

_PATIENCE_S: Final = 10.0
_CRITICAL: Final = 2  # of librdkafka's own log: its errors are sentences of ours here
_STATE: Final = re.compile(r" \(after \d+ms in state [A-Z_]+.*\)$")

Headers = Sequence[tuple[str, bytes | None]] | None


class BrokerProblem(Problem):
    """A broker cannot be reached or refuses something."""

    code = "broker"


# -- connecting --------------------------------------------------------------------------------------------------------


def client_config(settings: Settings) -> dict[str, Any]:
    """Return options that every client of confluent_kafka needs. Secrets are in it: it is neither logged nor pickled.

    Raises UsageProblem where a secret or a file that the settings name is not there.
    """
    kafka = settings.kafka
    if not kafka.bootstrap:
        raise UsageProblem(f"{settings.path.name}: [kafka] names no bootstrap brokers")
    config: dict[str, Any] = {
        "bootstrap.servers": ",".join(kafka.bootstrap),
        "client.id": "callward",
        "security.protocol": kafka.protocol,
        "log_level": _CRITICAL,
    }
    return config | _tls(settings, kafka) | _sasl(settings, kafka)


def _tls(settings: Settings, kafka: Kafka) -> dict[str, Any]:
    if not kafka.by_tls:
        return {}
    named = {
        "ssl.ca.location": kafka.ca_file,
        "ssl.certificate.location": kafka.certificate_file,
        "ssl.key.location": kafka.key_file,
    }
    config: dict[str, Any] = {name: str(_file(settings, path)) for name, path in named.items() if path}
    if kafka.key_password:
        config["ssl.key.password"] = secret(settings, "kafka.key_password", kafka.key_password)
    # Both are librdkafka's defaults; written here, so that another default to come cannot turn them off.
    return config | {"enable.ssl.certificate.verification": True, "ssl.endpoint.identification.algorithm": "https"}


def _sasl(settings: Settings, kafka: Kafka) -> dict[str, Any]:
    if not kafka.by_sasl:
        return {}
    return {
        "sasl.mechanism": kafka.sasl_mechanism,
        "sasl.username": secret(settings, "kafka.username", kafka.username or ""),
        "sasl.password": secret(settings, "kafka.password", kafka.password or ""),
    }


def _file(settings: Settings, name: str) -> Path:
    path = settings.below(name)
    if not os.access(path, os.R_OK):
        raise UsageProblem(f"{settings.path.name}: [kafka] names {path}, which cannot be read")
    return path


def reason(error: KafkaError | Exception) -> str:
    """Return what went wrong in librdkafka's words, without what it says of places in its code."""
    cause = error.args[0] if isinstance(error, KafkaException) else error
    return _STATE.sub("", str(cause.str())) if isinstance(cause, KafkaError) else "it could not be reached"


class _Admin:
    """An administrator's client for one question, which remembers the last thing that went wrong."""

    def __init__(self, settings: Settings) -> None:
        self._last_error = ""
        config = client_config(settings) | {"error_cb": self._heard, "socket.connection.setup.timeout.ms": 5000}
        try:
            self.client = AdminClient(config)
        except (KafkaException, ValueError) as error:
            raise UsageProblem(f"{settings.path.name}: [kafka]: {_of_config(error)}") from None

    def _heard(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN or not self._last_error:
            self._last_error = reason(error)

    def metadata(self, kafka: Kafka) -> Any:
        """Return the brokers' metadata of all topics; raises BrokerProblem when no broker answers."""
        try:
            metadata = self.client.list_topics(timeout=_PATIENCE_S)
        except KafkaException as error:
            self.client.poll(0)
            raise BrokerProblem(f"no broker answers: {self._last_error or reason(error)}") from None
        _check_near(kafka, [str(broker.host) for broker in metadata.brokers.values()])
        return metadata


def _of_config(error: Exception) -> str:
    """Return a wrong option by its kind alone: its value may be a secret."""
    return reason(error) if isinstance(error, KafkaException) else "an option is wrong"


def _check_near(kafka: Kafka, hosts: Sequence[str]) -> None:
    """Refuse a broker on loopback that sends its clients elsewhere without TLS."""
    far = [host for host in hosts if not is_loopback(host)]
    if far and not kafka.by_tls:
        raise UsageProblem(f"[kafka]: the broker says to go on at {far[0]}, beyond this machine: use ssl or sasl_ssl")


# -- topics ------------------------------------------------------------------------------------------------------------


def topic_partitions(settings: Settings, topic: str) -> list[int]:
    """Return the partitions of a topic as it stands, in order; asked anew each time. Raises BrokerProblem."""
    return _partitions(_Admin(settings).metadata(settings.kafka), topic)


def _partitions(metadata: Any, topic: str) -> list[int]:
    described = metadata.topics.get(topic)
    if described is None:
        raise BrokerProblem(f"the broker has no topic {topic!r}{nearest(topic, sorted(map(mask, metadata.topics)))}")
    if described.error is not None:
        raise BrokerProblem(f"the topic {topic!r}: {reason(described.error)}")
    return sorted(described.partitions)


def _retention(admin: "_Admin", topic: str) -> int | None:
    """Return how long the broker keeps a message of the topic at least, in ms; None where it is kept for ever."""
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    try:
        asked = admin.client.describe_configs([resource], request_timeout=_PATIENCE_S)
        options = asked[resource].result(_PATIENCE_S)
    except KafkaException as error:
        raise BrokerProblem(f"the topic {topic!r}: {reason(error)}") from None
    except TimeoutError:
        raise BrokerProblem(f"the topic {topic!r}: the broker does not answer") from None
    kept = int(options["retention.ms"].value)
    policy = str(options["cleanup.policy"].value)
    return None if kept < 0 or "delete" not in policy else kept


def outlives(settings: Settings, topic: Topic, retention: int | None) -> bool:
    """Return whether the broker keeps a message longer than the archive window of a tenant that it may be of."""
    named = [settings.source(name) for name in topic.all_sources]
    tenants = {tenant for source in named for tenant in source.all_tenants}
    windows = [settings.tenants[tenant].retention.get("archive") for tenant in tenants]
    given = [Window.parse(window) for window in windows if window]
    today = datetime.now(UTC).date()
    if retention is None:
        return bool(given)
    return any(timedelta(milliseconds=retention) > window.last_day(today) - today for window in given)


# -- what a message is -------------------------------------------------------------------------------------------------


def source_of(topic: Topic, headers: Headers) -> str:
    """Return the source of a message: what its header names, or else the topic's own."""
    if not topic.source_header:
        return topic.source
    value = _header(headers, topic.source_header)
    return topic.sources.get(value.decode("utf-8", "replace"), topic.source) if value else topic.source


def message_id_of(topic: Topic, key: bytes | None, headers: Headers) -> bytes | None:
    """Return what tells a message from all others, None where it has nothing such or the settings name nothing."""
    if topic.message_id.startswith("header:"):
        return _header(headers, topic.message_id.removeprefix("header:")) or None
    return (key or None) if topic.message_id == "key" else None


def _header(headers: Headers, name: str) -> bytes | None:
    """Return the last header of that name, which counts with Kafka."""
    return next((value for key, value in reversed(headers or ()) if key == name), None)


def check(settings: Settings, workspace: Workspace) -> None:
    """Raise UsageProblem where a stream could not read the settings' topics rightly; no broker is asked."""
    client_config(settings)
    for topic in settings.kafka.topics:
        for name in topic.all_sources:
            declaration = workspace.declaration(settings.source(name))
            if declaration.file.header == "names":
                raise UsageProblem(
                    f"topic {topic.name}: the format of the source {name} has a row of names, which messages lack; "
                    'lay header = "none" and [[sources.declare.shapes]] over it'
                )
            if not topic.message_id and lacks_id(declaration):
                raise UsageProblem(
                    f"topic {topic.name}: records of the source {name} come without a unique id, so that a "
                    'message that is sent twice is not known; give the topic a message_id ("key" or "header:NAME")'
                )


def lacks_id(declaration: Declaration) -> bool:
    """Return whether every record of the format is named by its content alone, by declaration or in all of its layouts.

    Where only some layouts lack an id, their records are suspended when they come without a message id.
    """
    if declaration.identity.content:
        return True
    if declaration.file.kind == "json" or declaration.identity.unordered or not declaration.shapes:
        return False
    groups = [set(group) for group in declaration.identity.any_of]
    return not any(group <= set(shape.columns) for shape in declaration.shapes for group in groups)


# -- for doctor --------------------------------------------------------------------------------------------------------

Row = tuple[str, str, str, str]  # what was looked at, its state, what was seen, how to fix it


def looked_at(settings: Settings, workspace: Workspace) -> Iterator[Row]:
    """Yield (what, state, seen, fix): whether a stream can read the topics, and how long the broker keeps copies."""
    kafka = settings.kafka
    if not kafka.topics:
        return
    try:
        check(settings, workspace)
        admin = _Admin(settings)
        metadata = admin.metadata(kafka)
    except Problem as problem:
        yield "broker", "wrong", str(problem), "fix [kafka], or start the broker; a night needs neither"
        return
    yield "broker", "ok", f"{', '.join(kafka.bootstrap)}, by {kafka.protocol}", ""
    for topic in kafka.topics:
        yield _topic_row(settings, admin, metadata, topic)


def _topic_row(settings: Settings, admin: "_Admin", metadata: Any, topic: Topic) -> Row:
    what = f"topic {topic.name}"
    try:
        partitions = len(_partitions(metadata, topic.name))
    except BrokerProblem as problem:
        return what, "missing", str(problem), "make the topic, or fix its name under [[kafka.topics]]"
    try:
        kept = _retention(admin, topic.name)
    except BrokerProblem as problem:
        return what, "note", f"how long it keeps messages is not known: {problem}", "allow us DescribeConfigs on it"
    days = "for ever" if kept is None else f"for {kept / 86_400_000:.3g} days"
    seen = f"partitions: {partitions}; the broker keeps messages, which are in the clear, {days}"
    if not outlives(settings, topic, kept):
        return what, "ok", seen, ""
    fix = "set its retention.ms below the archive window: no purge here reaches the broker"
    return what, "warning", f"{seen}, longer than the archive window", fix
