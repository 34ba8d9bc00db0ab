"""doctor on brokers: nothing where no topic is named; where one is, a row that says what is wrong, and no secret."""

from collections.abc import Callable
from typing import Any

import pytest

from callward.ingest import kafka as broker
from pipelines.doctor import checks as doctor
from tests import servers


def rows(site: Any) -> dict[str, doctor.Finding]:
    return {row.what: row for row in doctor.examine(str(site.folder)) if row.what.startswith(("broker", "topic"))}


def kafka(bootstrap: str, **changes: Any) -> dict[str, Any]:
    return {"bootstrap": [bootstrap], "topics": [{"name": "cdr", "source": "freeswitch_json"}], **changes}


def test_who_has_no_topics_needs_no_broker(workspace: Callable[..., Any]) -> None:
    assert rows(workspace("freeswitch_json")) == {}


def test_a_broker_that_is_away_is_a_row(workspace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "_PATIENCE_S", 1.0)
    address = f"localhost:{servers.free_ports(1)[0]}"
    found = rows(workspace("freeswitch_json", kafka=kafka(address)))
    assert list(found) == ["broker"] and found["broker"].bad and address in found["broker"].seen


def test_a_secret_that_is_not_there_is_a_row(workspace: Callable[..., Any]) -> None:
    sasl = {"sasl_mechanism": "PLAIN", "username": "env:NOT_THERE", "password": "file:nowhere"}
    found = rows(workspace("freeswitch_json", kafka=kafka("a.example.net:9093", protocol="sasl_ssl", **sasl)))
    assert found["broker"].bad and "kafka.username" in found["broker"].seen


def test_a_topic_that_outlives_the_archive_is_a_warning(
    workspace: Callable[..., Any], kafka_topic: Callable[..., str]
) -> None:
    bootstrap = kafka_topic(retention_ms=str(100 * 86_400_000))
    windows = {"retention": {"archive": "92 days"}}
    found = rows(workspace("freeswitch_json", kafka=kafka(bootstrap), **windows))
    assert found["broker"].state == "ok" and found["topic cdr"].state == doctor.WARNING
    assert "100 days" in found["topic cdr"].seen


@pytest.fixture
def kafka_topic(request: pytest.FixtureRequest) -> Callable[..., str]:
    """kafka_topic(retention_ms=…) → the broker's address, where the topic cdr is."""

    def make(**config: str) -> str:
        running: servers.KafkaBroker = request.getfixturevalue("kafka")
        running.create("cdr", **config)
        request.addfinalizer(lambda: running.delete("cdr"))
        return running.bootstrap

    return make
