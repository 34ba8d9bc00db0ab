"""The broker: settings that cannot be unsafe, options that keep secrets to themselves, and what real brokers say."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from callward.errors import UsageProblem
from callward.ingest import kafka as broker
from callward.ingest.kafka import BrokerProblem
from callward.settings import Kafka, Settings, Source, Tenant, Topic, load
from callward.workspace import Workspace, WorkspaceRef
from schemas import declaration
from tests import servers

_SOURCES = "[[sources]]\nname = 'denver'\nformat = 'freeswitch_jsonl'\n"
_TOPIC = "[[kafka.topics]]\nname = 'cdr'\nsource = 'denver'\n"
_FAR = "bootstrap = ['kafka.example.net:9093']\n"


def retention_ms(settings: Settings, topic: str) -> int | None:
    """Return how long the broker says that it keeps a message of the topic, in ms."""
    admin = broker._Admin(settings)
    admin.metadata(settings.kafka)
    return broker._retention(admin, topic)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (_FAR, "only ssl or sasl_ssl is spoken"),
        ("bootstrap = ['localhost:9092', '192.0.2.1:9092']", "a broker beyond this machine"),
        (f"{_FAR}protocol = 'sasl_plaintext'", "only ssl or sasl_ssl is spoken"),
        ("bootstrap = ['localhost']", "write HOST:PORT"),
        ("bootstrap = ['localhost:99999']", "write HOST:PORT"),
        (f"{_FAR}protocol = 'sasl_ssl'", "needs sasl_mechanism, username, password"),
        (f"{_FAR}protocol = 'ssl'\npassword = 'env:P'", "password means nothing with the protocol ssl"),
        ("bootstrap = ['localhost:1']\nca_file = 'ca.pem'", "ca_file means nothing"),
        (f"{_FAR}protocol = 'ssl'\nkey_file = 'k.pem'", "certificate_file and key_file go together"),
        ("password = 'hunter2'", "a secret is never written here"),
        ("username = 'hunter2'", "a secret is never written here"),
        ("key_password = 'env:'", "a secret is never written here"),
        ("sasl_mechanism = 'GSSAPI'", "kafka.sasl_mechanism"),
        (_TOPIC, "name some in bootstrap"),
        ("bootstrap = ['localhost:1']\n" + _TOPIC + _TOPIC, "topic 'cdr' is there twice"),
        ("bootstrap = ['localhost:1']\n" + _TOPIC.replace("denver", "denvr"), "did you mean 'denver'?"),
        (
            "bootstrap = ['localhost:1']\n" + _TOPIC + "source_header = 'switch'",
            "source_header and sources go together",
        ),
        ("bootstrap = ['localhost:1']\n" + _TOPIC + "message_id = 'offset'", "message_id"),
        ("bootstrap = ['localhost:1']\n" + _TOPIC + "source_header = 's'\nsources = { a = 'lax' }", "called 'lax'"),
    ],
)
def test_unsafe_or_wrong_settings_do_not_load(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "callward.toml"
    path.write_text(f"{_SOURCES}[kafka]\n{text}")
    with pytest.raises(UsageProblem) as wrong:
        load(path)
    assert told in str(wrong.value) and "hunter2" not in str(wrong.value)


def site(kafka: Kafka, *sources: Source, folder: Path = Path("/w"), **changes: Any) -> Settings:
    named = sources or (Source(name="denver", format="freeswitch_jsonl"),)
    return Settings(path=folder / "callward.toml", sources=list(named), kafka=kafka, **changes)


def local(*topics: Topic, bootstrap: str = "localhost:9092", **changes: Any) -> Kafka:
    return Kafka(bootstrap=[bootstrap], topics=list(topics), **changes)


def workspace_of(settings: Settings) -> Workspace:
    return Workspace(WorkspaceRef(str(settings.path), "ops", "test"), settings)


# -- options -----------------------------------------------------------------------------------------------------------


def _secure(tmp_path: Path) -> Settings:
    for name in ("ca.pem", "own.pem", "own.key", "password"):
        (tmp_path / name).write_text("hunter2\n")
        (tmp_path / name).chmod(0o600)
    kafka = Kafka(
        bootstrap=["kafka.example.net:9093", "[2001:db8::1]:9093"],
        protocol="sasl_ssl",
        ca_file="ca.pem",
        certificate_file="own.pem",
        key_file="own.key",
        sasl_mechanism="SCRAM-SHA-512",
        username="env:KAFKA_USER",
        password="file:password",
    )
    return site(kafka, folder=tmp_path)


def test_options_are_what_the_settings_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_USER", "cdr")
    config = broker.client_config(_secure(tmp_path))
    assert config["bootstrap.servers"] == "kafka.example.net:9093,[2001:db8::1]:9093"
    assert config["security.protocol"] == "sasl_ssl" and config["sasl.mechanism"] == "SCRAM-SHA-512"
    assert (config["sasl.username"], config["sasl.password"]) == ("cdr", "hunter2")
    assert config["ssl.ca.location"] == str(tmp_path / "ca.pem")
    assert config["enable.ssl.certificate.verification"] and config["ssl.endpoint.identification.algorithm"] == "https"


@pytest.mark.parametrize("lost", ["ca.pem", "own.key", "password", "KAFKA_USER"])
def test_what_is_not_there_is_one_sentence_without_a_secret(
    lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _secure(tmp_path)
    monkeypatch.setenv("KAFKA_USER", "" if lost == "KAFKA_USER" else "cdr")
    (tmp_path / lost).unlink(missing_ok=True)
    with pytest.raises(UsageProblem) as wrong:
        broker.client_config(settings)
    assert lost in str(wrong.value) and "hunter2" not in str(wrong.value) and "\n" not in str(wrong.value)


def test_an_option_that_librdkafka_refuses_is_told_without_its_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_USER", "cdr")
    with pytest.raises(UsageProblem) as wrong:
        broker.topic_partitions(_secure(tmp_path), "cdr")  # its certificates are none
    assert "hunter2" not in str(wrong.value) and "\n" not in str(wrong.value)


# -- what a message is -------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from(["switch", "id", "x"]), st.sampled_from([b"d", b"l", b"", b"\xff", None]))),
    st.sampled_from([None, b"", b"k"]),
)
def test_source_and_id_come_from_the_last_header_of_their_name(
    headers: list[tuple[str, bytes | None]], key: bytes | None
) -> None:
    topic = Topic(
        name="t", source="a", source_header="switch", sources={"d": "denver", "l": "lax"}, message_id="header:id"
    )
    last = dict(headers)
    assert broker.source_of(topic, headers) == {b"d": "denver", b"l": "lax"}.get(last.get("switch") or b"", "a")
    assert broker.message_id_of(topic, key, headers) == (last.get("id") or None)
    by_key = Topic(name="t", source="a", message_id="key")
    assert broker.source_of(by_key, headers) == "a"
    assert broker.message_id_of(by_key, key, headers) == (key or None)
    assert broker.message_id_of(Topic(name="t", source="a"), key, headers) is None
    assert broker.source_of(topic, None) == "a"


_WITHOUT_ID = {"identity": {"content": True}}


_NAMED = [name for name in declaration.available() if declaration.load(name).file.header == "names"]


@pytest.mark.parametrize("name", sorted(set(declaration.available()) - set(_NAMED)))
def test_a_source_without_ids_needs_a_message_id(name: str) -> None:
    """Where some layout of a format has an id, records that come without are suspended instead."""
    for declare, needed in (({}, False), (_WITHOUT_ID, True)):
        source = Source(name="denver", format=name, declare=declare)
        without = site(local(Topic(name="cdr", source="denver")), source)
        given_one = site(local(Topic(name="cdr", source="denver", message_id="key")), source)
        broker.check(given_one, workspace_of(given_one))
        if not needed:
            broker.check(without, workspace_of(without))
            continue
        with pytest.raises(UsageProblem, match="message_id"):
            broker.check(without, workspace_of(without))


@pytest.mark.parametrize("name", _NAMED)
def test_a_format_with_a_row_of_names_is_not_read_from_a_topic(name: str) -> None:
    settings = site(local(Topic(name="cdr", source="denver")), Source(name="denver", format=name))
    with pytest.raises(UsageProblem, match="a row of names"):
        broker.check(settings, workspace_of(settings))


def test_every_source_that_a_header_names_is_checked() -> None:
    without_id = Source(name="lax", format="asterisk", declare=_WITHOUT_ID)
    sources = [Source(name="denver", format="freeswitch_jsonl"), without_id]
    topic = Topic(name="cdr", source="denver", source_header="s", sources={"l": "lax"})
    settings = site(local(topic), *sources)
    with pytest.raises(UsageProblem, match="source lax"):
        broker.check(settings, workspace_of(settings))


# -- retention ---------------------------------------------------------------------------------------------------------

_DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("kept_ms", "window", "longer"),
    [
        (7 * _DAY_MS, "92 days", False),
        (92 * _DAY_MS, "92 days", False),
        (92 * _DAY_MS + 1, "92 days", True),
        (None, "7 years", True),
        (None, None, False),
        (27 * _DAY_MS, "1 month", False),
        (32 * _DAY_MS, "1 month", True),
    ],
)
def test_a_topic_that_outlives_the_archive_is_known(kept_ms: int | None, window: str | None, longer: bool) -> None:
    tenant = Tenant(retention={"archive": window} if window else {})
    topic = Topic(name="cdr", source="denver")
    assert broker.outlives(site(local(topic), tenants={"default": tenant}), topic, kept_ms) is longer


def test_a_certificate_names_the_topics_that_no_purge_reaches() -> None:
    from callward.evidence import statement

    assert statement._topics(site(Kafka())) == statement.NONE
    assert "cdr-denver" in statement._topics(site(local(Topic(name="cdr-denver", source="denver"))))
    with pytest.raises(ValidationError, match="looks like a phone number"):
        Topic(name="cdr-3035550142", source="denver")


# -- brokers -----------------------------------------------------------------------------------------------------------


def test_who_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "_PATIENCE_S", 1.0)
    settings = site(local(bootstrap=f"localhost:{servers.free_ports(1)[0]}"))
    for ask in (broker.topic_partitions, retention_ms):
        with pytest.raises(BrokerProblem) as wrong:
            ask(settings, "cdr")
        assert "no broker answers" in str(wrong.value) and "\n" not in str(wrong.value)


def test_nothing_of_the_client_reaches_the_terminal() -> None:
    port = servers.free_ports(1)[0]
    code = (
        "from callward.ingest import kafka as broker; from callward.settings import Kafka, Settings\n"
        "broker._PATIENCE_S = 0.5\n"
        f"s = Settings(path='x', kafka=Kafka(bootstrap=['localhost:{port}']))\n"
        "try: broker.topic_partitions(s, 't')\nexcept broker.BrokerProblem: print('told')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=servers.ENGINE.parent)
    assert (done.stdout, done.stderr) == ("told\n", "")


def test_a_broker_that_sends_its_clients_elsewhere_is_refused() -> None:
    kafka = local()
    broker._check_near(kafka, ["localhost", "127.0.0.1"])
    with pytest.raises(UsageProblem, match=r"kafka-1\.example\.net"):
        broker._check_near(kafka, ["localhost", "kafka-1.example.net"])
    broker._check_near(Kafka(bootstrap=["a.example.net:9093"], protocol="ssl"), ["kafka-1.example.net"])


def test_what_a_broker_says_of_its_topics(kafka: servers.KafkaBroker) -> None:
    kafka.create("looked-at", 3, retention_ms=str(7 * _DAY_MS))
    kafka.create("for-ever", retention_ms="-1")
    kafka.create("compacted", cleanup_policy="compact")
    topics = [Topic(name=name, source="denver") for name in ("looked-at", "for-ever", "compacted", "looked-et")]
    tenants = {"default": Tenant(retention={"archive": "92 days"})}
    settings = site(local(*topics, bootstrap=kafka.bootstrap), tenants=tenants)
    assert broker.topic_partitions(settings, "looked-at") == [0, 1, 2]
    assert retention_ms(settings, "looked-at") == 7 * _DAY_MS
    assert [retention_ms(settings, name) for name in ("for-ever", "compacted")] == [None, None]
    with pytest.raises(BrokerProblem, match="did you mean 'looked-at'"):
        broker.topic_partitions(settings, "looked-et")
    with pytest.raises(BrokerProblem):
        retention_ms(settings, "looked-et")
    kafka.grow("looked-at", 5)
    servers.until(lambda: broker.topic_partitions(settings, "looked-at") == [0, 1, 2, 3, 4], "new partitions show")
    rows = {what: (state, seen) for what, state, seen, _ in broker.looked_at(settings, workspace_of(settings))}
    states = {what: state for what, (state, _) in rows.items()}
    assert states == {
        "broker": "ok",
        "topic looked-at": "ok",
        "topic for-ever": "warning",
        "topic compacted": "warning",
        "topic looked-et": "missing",
    }
    assert "for 7 days" in rows["topic looked-at"][1] and "for ever" in rows["topic for-ever"][1]
    assert "looked-et" not in AdminClient(broker.client_config(settings)).list_topics(timeout=10).topics


# -- TLS and SASL ------------------------------------------------------------------------------------------------------


class Authority:
    """Signs certificates for the broker and its clients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        made = self._sign(self._name, self._key.public_key(), x509.BasicConstraints(ca=True, path_length=None))
        self.file = self._write("ca.pem", made)

    def issue(self, name: str, host: str = "localhost") -> tuple[Path, Path]:
        """Files of a certificate and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._sign(named, key.public_key(), x509.SubjectAlternativeName([x509.DNSName(host)]))
        return self._write(f"{name}.pem", made), self._write(f"{name}.key", key)

    def _sign(self, name: x509.Name, public: Any, extension: Any) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(1))
            .not_valid_after(now + timedelta(1))
            .add_extension(extension, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _write(self, name: str, made: Any) -> Path:
        pem = serialization.Encoding.PEM
        if isinstance(made, x509.Certificate):
            text = made.public_bytes(pem)
        else:
            text = made.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_bytes(text)
        return path


class SecureBroker(servers.KafkaBroker):
    """A broker that also speaks TLS with a client's certificate, and SASL over TLS."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.ssl_port, self.sasl_port = servers.free_ports(2)
        self._authority = authority
        super().__init__(folder)

    def _usual(self) -> dict[str, str]:
        usual = super()._usual()
        more = f",SSL://localhost:{self.ssl_port},SASL_SSL://localhost:{self.sasl_port}"
        certificate, key = self._authority.issue("broker")
        both = self.folder / "broker.pem"
        both.write_bytes(key.read_bytes() + certificate.read_bytes())
        module = "org.apache.kafka.common.security"
        return usual | {
            "listeners": usual["listeners"] + more,
            "advertised.listeners": usual["advertised.listeners"] + more,
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self._authority.file),
            "listener.name.ssl.ssl.client.auth": "required",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": (
                f'{module}.plain.PlainLoginModule required user_cdr="plain word";'
            ),
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f"{module}.scram.ScramLoginModule required;",
        }


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    servers.needs_java()
    servers.needed(servers.KAFKA_LIBS.joinpath(".built").exists(), "Kafka's jars are missing: make engine")
    folder = tmp_path_factory.mktemp("broker")
    made = SecureBroker(folder, Authority(folder))
    try:
        made.start()
        made.create("cdr", 2)
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        user = UserScramCredentialUpsertion("cdr", info, b"scram word")
        for done in made._admin.alter_user_scram_credentials([user]).values():
            done.result(30)
        yield made
    finally:
        made.kill()


def secured(secure: SecureBroker, protocol: str, tmp_path: Path, **changes: Any) -> Settings:
    port = secure.ssl_port if protocol == "ssl" else secure.sasl_port
    kafka = {"bootstrap": [f"localhost:{port}"], "protocol": protocol, "ca_file": str(secure._authority.file)}
    return site(Kafka(**(kafka | changes)), folder=tmp_path)


def sasl(tmp_path: Path, mechanism: str, word: str) -> dict[str, Any]:
    for name, text in (("user", "cdr"), ("password", word)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    return {"sasl_mechanism": mechanism, "username": "file:user", "password": "file:password"}


def test_tls_with_a_certificate_of_our_own(secure: SecureBroker, tmp_path: Path) -> None:
    certificate, key = secure._authority.issue("client")
    own = {"certificate_file": str(certificate), "key_file": str(key)}
    assert broker.topic_partitions(secured(secure, "ssl", tmp_path, **own), "cdr") == [0, 1]


@pytest.mark.parametrize(("mechanism", "word"), [("PLAIN", "plain word"), ("SCRAM-SHA-512", "scram word")])
def test_sasl_over_tls_carries_messages(secure: SecureBroker, tmp_path: Path, mechanism: str, word: str) -> None:
    settings = secured(secure, "sasl_ssl", tmp_path, **sasl(tmp_path, mechanism, word))
    assert retention_ms(settings, "cdr") == 7 * _DAY_MS
    config = broker.client_config(settings)
    producer = Producer(config)
    producer.produce("cdr", mechanism.encode(), partition=0)
    assert producer.flush(30) == 0
    consumer = Consumer(config | {"group.id": f"test-{mechanism}", "auto.offset.reset": "earliest"})
    consumer.subscribe(["cdr"])
    found = servers.until(lambda: [m.value() for m in consumer.consume(5, 1) if m.error() is None], "messages come")
    consumer.close()
    assert set(found) <= {b"PLAIN", b"SCRAM-SHA-512"}


@pytest.mark.parametrize("wrong", ["password", "authority", "host", "no certificate"])
def test_who_is_not_trusted_is_not_spoken_to(
    wrong: str, secure: SecureBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "_PATIENCE_S", 3.0)
    right = sasl(tmp_path, "PLAIN", "plain word")
    settings = {
        "password": lambda: secured(secure, "sasl_ssl", tmp_path, **sasl(tmp_path, "PLAIN", "hunter2")),
        "authority": lambda: secured(secure, "sasl_ssl", tmp_path, **right, ca_file=str(Authority(tmp_path).file)),
        "host": lambda: secured(secure, "sasl_ssl", tmp_path, **right, bootstrap=[f"127.0.0.1:{secure.sasl_port}"]),
        "no certificate": lambda: secured(secure, "ssl", tmp_path),
    }[wrong]()
    with pytest.raises(BrokerProblem) as told:
        broker.topic_partitions(settings, "cdr")
    assert "no broker answers" in str(told.value)
    assert all(word not in str(told.value) for word in ("hunter2", "plain word", "\n"))
