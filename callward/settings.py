"""callward.toml: one file of settings, checked as a whole; an unknown key is refused with the nearest right one."""

import difflib
import hashlib
import os
import re
import tomllib
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from callward.errors import UsageProblem
from schemas.retention_classes import CLASSES, REQUIRED, Window

FORMAT_VERSION = 1
FILE_NAME = "callward.toml"
KEY_DOMAINS = (
    "billing",
    "billing-numbers",
    "assurance",
    "lineage",
    "suspense",
    "pending",
    "archive",
    "ids",
    "transit",
    "hold",
    "late",
    "release",
)
# What an unknown key of [lake] is called when it holds a credential.
_CREDENTIAL = re.compile(r"key|secret|token|password|credential|passwd|user", re.IGNORECASE)
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/(?!\.{1,2}(?:/|$))[\w.=-]+)*/?", re.ASCII)
_ENDPOINT = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::\d{1,5})?")
_PASSWORD_HASH = re.compile(
    r"\$argon2id\$v=19\$m=[1-9][0-9]{2,5},t=[1-9][0-9]?,p=[1-9]\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}"
    r"|scrypt(:[0-9]{1,8}){3}(:[A-Za-z0-9+/=]{16,128}){2}"  # as earlier releases wrote it
)
SIGNERS = ("custodian", "retention")  # who signs: registrations of persons; certificates and register exports


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"no time zone is called {name!r} (write an IANA name such as America/Denver or UTC)"
        ) from error
    return name


def is_loopback(host: str) -> bool:
    """Whether an address is of this very machine; a name is asked of no server, only localhost is known."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def host_port(address: str) -> tuple[str, int]:
    """HOST:PORT as its parts; an IPv6 address stands in brackets. Raises ValueError."""
    host, _, port = address.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536 or "/" in host:
        raise ValueError(f"write HOST:PORT, not {address!r}")
    return host, int(port)


def _secret(place: str | None) -> str | None:
    """Where a secret is found; what is no place is not repeated, as it may be the secret itself."""
    if place is not None and not re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+", place):
        raise ValueError("a secret is never written here: name where it is found, as env:NAME or file:PATH")
    return place


class Section(BaseModel):
    """A table of callward.toml; every key has a description, which `callward init` writes beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Lake(Section):
    uri: str = Field(
        default="file:lake",
        description="Where data files lie: file:PATH, relative to this file or absolute, or s3://BUCKET/PREFIX.",
    )
    endpoint: str | None = Field(
        default=None,
        description="URL of an object store that is not Amazon's.",
        examples=["https://objects.example:9000"],
    )
    region: str | None = Field(
        default=None, description="Region of the bucket, if not the environment's.", examples=["us-west-2"]
    )
    role: str | None = Field(
        default=None,
        description="ARN of a role to take on for the bucket. Credentials come from the environment or the machine's "
        "own role, and never stand here.",
        examples=["arn:aws:iam::000000000000:role/callward"],
    )
    ca_file: str | None = Field(
        default=None,
        description="Certificates (PEM) that the endpoint's own must rest on, if not the system's.",
        examples=["/etc/ssl/objects.pem"],
    )
    virtual_hosts: bool = Field(
        default=False, description="The endpoint takes the bucket's name in its host name, and not in the path."
    )
    grace_minutes: float = Field(
        default=60.0, ge=0, description="A data file that was replaced stays so long for queries that have begun."
    )
    compact_mebibytes: float = Field(
        default=128.0,
        gt=0,
        le=1024,
        description="Data files smaller than so many MiB are merged into ones of that size ...",
    )
    compact_files: int = Field(
        default=8, ge=2, description="... when there are at least so many of one day that belong together."
    )

    @model_validator(mode="before")
    @classmethod
    def _without_credentials(cls, given: Any) -> Any:
        found = [name for name in given if name not in cls.model_fields and _CREDENTIAL.search(str(name))]
        if isinstance(given, dict) and found:
            raise ValueError(
                f"{found[0]} does not belong here: credentials come from the environment (AWS_ACCESS_KEY_ID ...) or "
                "from the machine's own role; take it out, and replace it if others could read this file"
            )
        return given

    @field_validator("uri")
    @classmethod
    def _known_store(cls, uri: str) -> str:
        scheme = urlsplit(uri).scheme
        if scheme == "file":
            return uri
        if scheme != "s3":
            raise ValueError("only file: and s3: are built so far, such as file:lake or s3://bucket/prefix")
        if "@" in uri or "?" in uri:
            raise ValueError("credentials and options do not belong in the uri: write s3://bucket/prefix")
        if not _BUCKET.fullmatch(uri):
            raise ValueError("a bucket is written s3://bucket/prefix, the prefix of letters, digits and -_.= alone")
        return uri.rstrip("/")

    @field_validator("endpoint")
    @classmethod
    def _url(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not _ENDPOINT.fullmatch(endpoint):
            raise ValueError("write https://host:port (http:// for tests), without credentials, path or options")
        return endpoint

    @property
    def is_local(self) -> bool:
        """Whether the lake is a folder of a file system, and not an object store."""
        return self.uri.startswith("file:")


class Database(Section):
    url: str = Field(
        default="sqlite:///callward.db",
        description="SQLAlchemy URL. SQLite for one machine; "
        "postgresql+pg8000://user@host/name when several people query.",
    )


class Landing(Section):
    folder: str = Field(default="landing", description="Switches write into FOLDER/<source>/.")
    after_commit: Literal["archive", "delete"] = Field(
        default="archive",
        description="What becomes of a landing file after its commit: archive (sealed copy kept) or delete.",
    )
    stable_seconds: float = Field(
        default=60.0,
        ge=0,
        description="A source that promises neither rename nor marker is taken "
        "when size and time have not changed for so long.",
    )
    temporary_suffixes: list[str] = Field(
        default=[".tmp", ".part", ".filepart", ".writing"],
        description="Names that end so, or begin with a dot, are still being written.",
    )


def _usual_roots() -> dict[str, str]:
    return {name: f"local:keys/{name}.root" for name in KEY_DOMAINS}


def _usual_signers() -> dict[str, str]:
    return {name: f"local:keys/{name}.sign" for name in SIGNERS}


class Keys(Section):
    roots: dict[str, str] = Field(
        default=_usual_roots(),
        description="One key root per key domain; one that is not named lies where it usually does. Whoever may read a "
        "root's file holds that key domain: set the file's owner so.",
    )
    signers: dict[str, str] = Field(
        default=_usual_signers(),
        description="Ed25519 keys that sign: custodian (who is a person), retention (certificates, register exports).",
    )
    export_to: str | None = Field(
        default=None,
        description="A second folder, on another disk or host, for signed exports of the key register.",
        examples=["/mnt/escrow/callward"],
    )

    @field_validator("roots")
    @classmethod
    def _known(cls, roots: dict[str, str]) -> dict[str, str]:
        for name in roots:
            if name not in KEY_DOMAINS:
                raise ValueError(f"no key domain is called {name!r}{nearest(name, KEY_DOMAINS)}")
        return _usual_roots() | roots

    @field_validator("signers")
    @classmethod
    def _local_signers(cls, signers: dict[str, str]) -> dict[str, str]:
        for name, uri in signers.items():
            if name not in SIGNERS:
                raise ValueError(f"no signer is called {name!r}{nearest(name, SIGNERS)}")
            if not uri.startswith("local:"):
                raise ValueError(f"only local: is built so far, such as local:keys/{name}.sign")
        return _usual_signers() | signers


class Engine(Section):
    runner: str = Field(
        default="FnApiRunner",
        description="What runs nights and purges: FnApiRunner (embedded: nothing to install, nothing downloaded), "
        "FlinkRunner, or another Beam runner by name. The stream runs on Flink unless another is named here.",
    )
    workers: int = Field(
        default=2, ge=1, le=64, description="Workers of the embedded runner; on Flink worker processes a TaskManager."
    )
    options: list[str] = Field(default=[], description="Further Beam options, passed on as written.")
    flink_master: str = Field(
        default="[local]",
        description="[local] is a Flink inside the job server that callward starts; a cluster is its REST HOST:PORT.",
        pattern=r"^(\[local\]|[^\s/:\[\]]+:\d{1,5})$",
    )
    environment: Literal["PROCESS", "EXTERNAL", "LOOPBACK"] = Field(
        default="PROCESS",
        description="Where Python work is done on Flink: in processes that each TaskManager starts (PROCESS), in a "
        "worker pool beside it (EXTERNAL), or in the command's own process (LOOPBACK, only for [local]).",
    )
    worker_command: str = Field(
        default="",
        description="The callward-worker program as it is called on every TaskManager; empty: this installation's own.",
        examples=["/opt/callward/bin/callward-worker"],
    )
    worker_pool: str = Field(default="localhost:50000", description="HOST:PORT of the worker pool, for EXTERNAL.")
    parallelism: int = Field(default=0, ge=0, le=4096, description="Subtasks of each step on Flink; 0: as `workers`.")
    max_parallelism: int = Field(
        default=128, ge=1, le=32768, description="Upper limit of parallelism; as a running stream's state is cut by it."
    )
    checkpoint_seconds: float = Field(
        default=10.0, gt=0, description="How often Flink keeps the stream's state, to go on from after a failure."
    )
    checkpoint_uri: str = Field(
        default="",
        description="Where it keeps it, as a URI that every TaskManager reaches; empty: engine/ below this folder.",
        examples=["file:///shared/checkpoints"],
    )
    jar: str = Field(
        default="",
        description="Flink job server of Beam, as one jar; empty: the one that `make engine` builds.",
        examples=["/opt/callward/job-server.jar"],
    )
    java_options: list[str] = Field(default=["-Xmx1g"], description="Options of the Java that runs the job server.")
    flink_version: str = Field(default="1.19", description="The Flink that the jar is made for.")


class Waves(Section):
    records: int = Field(
        default=4_000_000, ge=1, description="A wave is committed by itself: so many records at most ..."
    )
    mebibytes: int = Field(default=1536, ge=1, description="... or so many MiB of decompressed input.")
    block_mebibytes: float = Field(
        default=16.0, gt=0, le=64, description="Input is cut at record ends into blocks of about so many MiB."
    )
    bucket_records: int = Field(
        default=700_000, ge=1, description="Groups of the shuffle are planned to be about so many records."
    )
    file_gibibytes: float = Field(
        default=64.0, gt=0, description="A compressed file that unpacks to more than this is not read (a gzip bomb)."
    )


class Stream(Section):
    flush_seconds: float = Field(
        default=30.0, gt=0, le=3600, description="What was read is committed after so long at the latest ..."
    )
    flush_mebibytes: float = Field(
        default=64.0, gt=0, description="... or when so many MiB (sealed) of one bucket have gathered."
    )
    block_seconds: float = Field(
        default=2.0, gt=0, description="Messages of a partition are gathered into blocks for so long at most ..."
    )
    block_mebibytes: float = Field(default=16.0, gt=0, le=64, description="... or until they are about so many MiB.")
    buckets: int = Field(
        default=2, ge=1, le=256, description="Records are settled in so many groups side by side (a power of two)."
    )
    spread: list[str] = Field(
        default=[],
        description="Tenants so large that their records are spread over all buckets; if there is one tenant, it is.",
    )
    blocks_ahead: int = Field(
        default=64, ge=1, description="A reader waits when so many of its blocks are read and not committed."
    )
    poll_seconds: float = Field(default=1.0, gt=0, description="How often landing folders are looked into.")
    house_minutes: float = Field(
        default=5.0, gt=0, description="How often pending pieces are looked through and small files are merged."
    )
    stop_seconds: float = Field(
        default=300.0, gt=0, description="How long a stop waits for what was read to be committed."
    )

    metrics: str = Field(
        default="127.0.0.1:9404",
        description="HOST:PORT where Prometheus finds the stream's figures, and others /healthz and /readyz; empty: "
        "nowhere. Whoever reaches it may read it, so keep it on this machine or in a network of your own.",
    )
    fresh_seconds: float = Field(
        default=180.0, gt=0, description="A stream whose oldest uncommitted record waits longer is behind."
    )

    @field_validator("metrics")
    @classmethod
    def _address(cls, metrics: str) -> str:
        if metrics:
            host_port(metrics)
        return metrics

    @field_validator("buckets")
    @classmethod
    def _power(cls, buckets: int) -> int:
        if buckets & (buckets - 1):
            raise ValueError("write a power of two")
        return buckets


class Topic(Section):
    name: str = Field(description="The topic.", examples=["cdr-denver"], pattern=r"^[A-Za-z0-9._-]{1,249}$")
    source: str = Field(
        description="The source of its messages; with source_header, of those whose header names no other.",
        examples=["denver"],
    )
    source_header: str = Field(default="", description="A header of each message that names its source.")
    sources: dict[str, str] = Field(default={}, description="Values of source_header and the source that each means.")
    message_id: str = Field(
        default="",
        description='What tells one message from another where records have no unique id: "key" or "header:NAME". '
        "A record that is sent twice must have the same one.",
        pattern=r"^(key|header:.+)?$",
    )

    @model_validator(mode="after")
    def _together(self) -> "Topic":
        if bool(self.source_header) != bool(self.sources):
            raise ValueError(f"topic {self.name}: source_header and sources go together")
        return self

    @property
    def all_sources(self) -> list[str]:
        """Every source that a message may be of, the usual one first."""
        return list(dict.fromkeys([self.source, *self.sources.values()]))


class Kafka(Section):
    bootstrap: list[str] = Field(
        default=[], description="Brokers to begin with, as HOST:PORT.", examples=[["localhost:9092"]]
    )
    group: str = Field(default="callward", description="Consumer group; its offsets are for lag monitoring only.")
    protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = Field(
        default="plaintext",
        description="plaintext and sasl_plaintext speak to brokers on this machine only; ssl and sasl_ssl to any.",
    )
    ca_file: str | None = Field(
        default=None,
        description="Certificates (PEM) that the brokers' are checked against, if not the system's.",
        examples=["/etc/callward/kafka-ca.pem"],
    )
    certificate_file: str | None = Field(
        default=None, description="Our own certificate (PEM), where brokers ask for one, ..."
    )
    key_file: str | None = Field(default=None, description="... and its private key (PEM).")
    key_password: str | None = Field(
        default=None, description="Password of key_file, as env:NAME or file:PATH.", examples=["env:KAFKA_KEY_PASSWORD"]
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.", examples=["SCRAM-SHA-512"]
    )
    username: str | None = Field(
        default=None, description="User for SASL, as env:NAME or file:PATH.", examples=["env:KAFKA_USER"]
    )
    password: str | None = Field(
        default=None,
        description="Its password, as env:NAME or file:PATH; never written here.",
        examples=["file:/run/secrets/kafka"],
    )
    topics: list[Topic] = Field(default=[], description="Topics that `callward stream` reads.")

    _check_secrets = field_validator("key_password", "username", "password")(_secret)

    @field_validator("bootstrap")
    @classmethod
    def _addresses(cls, bootstrap: list[str]) -> list[str]:
        for address in bootstrap:
            host_port(address)
        return bootstrap

    @model_validator(mode="after")
    def _safe(self) -> "Kafka":
        if self.topics and not self.bootstrap:
            raise ValueError("topics are read from brokers: name some in bootstrap")
        names = [topic.name for topic in self.topics]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"topic {name!r} is there twice")
        far = [address for address in self.bootstrap if not is_loopback(host_port(address)[0])]
        if far and not self.by_tls:
            raise ValueError(
                f"{far[0]} is beyond this machine: there only ssl or sasl_ssl is spoken, as messages hold numbers"
            )
        self._check_sasl()
        return self

    def _check_sasl(self) -> None:
        parts = {"sasl_mechanism": self.sasl_mechanism, "username": self.username, "password": self.password}
        if self.by_sasl and None in parts.values():
            raise ValueError(f"{self.protocol} needs {', '.join(name for name, value in parts.items() if not value)}")
        given = [name for name, value in parts.items() if value and not self.by_sasl]
        tls = {"ca_file": self.ca_file, "certificate_file": self.certificate_file, "key_file": self.key_file}
        given += [name for name, value in tls.items() if value and not self.by_tls]
        if given:
            raise ValueError(f"{given[0]} means nothing with the protocol {self.protocol}")
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("certificate_file and key_file go together")

    @property
    def by_tls(self) -> bool:
        return self.protocol in ("ssl", "sasl_ssl")

    @property
    def by_sasl(self) -> bool:
        return self.protocol in ("sasl_plaintext", "sasl_ssl")

    def topic(self, name: str) -> Topic:
        """The topic of that name; raises UsageProblem with the nearest right one."""
        for topic in self.topics:
            if topic.name == name:
                return topic
        raise UsageProblem(f"[[kafka.topics]] has no {name!r}{nearest(name, [topic.name for topic in self.topics])}")


class Sender(Section):
    source: str = Field(description="The source that it sends records of, at URL /<source>.", examples=["denver"])
    addresses: list[str] = Field(
        default=[], description="Networks that it may send from (CIDR).", examples=[["192.0.2.0/28"]]
    )
    username: str = Field(default="", description="Its user name (HTTP Basic).", examples=["switch-denver"])
    password: str | None = Field(
        default=None,
        description="Its password, as env:NAME or file:PATH, ...",
        examples=["file:/run/secrets/switch-denver"],
    )
    password_hash: str | None = Field(
        default=None, description="... or the hash of it that 'callward receive --hash' prints."
    )

    _check_secret = field_validator("password")(_secret)

    @field_validator("addresses")
    @classmethod
    def _networks(cls, addresses: list[str]) -> list[str]:
        for network in addresses:
            try:
                ip_network(network)
            except ValueError:
                raise ValueError(f"{network!r} is no network such as 192.0.2.0/28 or 2001:db8::/64") from None
        return addresses

    @field_validator("password_hash")
    @classmethod
    def _hashed(cls, text: str | None) -> str | None:
        if text is not None and not _PASSWORD_HASH.fullmatch(text):
            raise ValueError("write what 'callward receive --hash' prints")
        return text

    @model_validator(mode="after")
    def _whole(self) -> "Sender":
        if self.password and self.password_hash:
            raise ValueError(f"sender of {self.source}: password or password_hash, not both")
        if bool(self.username) != bool(self.password or self.password_hash):
            raise ValueError(f"sender of {self.source}: username and password (or password_hash) go together")
        return self


class Receive(Section):
    listen: str = Field(
        default="127.0.0.1:8420",
        description="HOST:PORT. Beyond this machine only with a certificate, and credentials and addresses per sender.",
    )
    certificate_file: str | None = Field(
        default=None, description="Certificate chain (PEM): then HTTPS is spoken.", examples=["/etc/callward/tls.pem"]
    )
    key_file: str | None = Field(default=None, description="Its private key (PEM).", examples=["/etc/callward/tls.key"])
    metrics_port: int = Field(
        default=0, ge=0, le=65535, description="Figures for Prometheus at this port of 127.0.0.1; 0 for none."
    )
    group_milliseconds: float = Field(
        default=50.0, ge=0, le=5000, description="Records are gathered so long, then written and acknowledged together."
    )
    body_mebibytes: float = Field(
        default=4.0, gt=0, le=256, description="A request with more than this, unpacked, is refused."
    )
    waiting_mebibytes: float = Field(
        default=64.0, gt=0, description="While more than this waits to be written, requests are put off (503)."
    )
    requests: int = Field(default=512, ge=1, description="... and while so many requests are under way.")
    connections: int = Field(default=1024, ge=1, description="Connections beyond so many are closed at once.")
    body_seconds: float = Field(default=10.0, gt=0, description="A request that takes longer to arrive is dropped.")
    stop_seconds: float = Field(default=30.0, gt=0, description="How long a stop waits for requests under way.")
    failures_per_minute: int = Field(
        default=20, ge=1, description="Wrong passwords from one address, after which it is put off (429)."
    )
    senders: list[Sender] = Field(default=[], description="Sources whose records are received, and from whom.")

    @field_validator("listen")
    @classmethod
    def _address(cls, listen: str) -> str:
        host_port(listen)
        return listen

    @model_validator(mode="after")
    def _safe(self) -> "Receive":
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("certificate_file and key_file go together")
        named = [sender.source for sender in self.senders]
        for name in named:
            if named.count(name) > 1:
                raise ValueError(f"two senders of {name!r}")
        if not is_loopback(host_port(self.listen)[0]):
            self._check_far()
        return self

    def _check_far(self) -> None:
        """What it takes to listen beyond this machine."""
        if self.certificate_file is None:
            raise ValueError("listening beyond this machine takes certificate_file and key_file")
        for sender in self.senders:
            if not sender.username or not sender.addresses:
                raise ValueError(
                    f"sender of {sender.source}: listening beyond this machine takes its addresses, a username, and a "
                    "password or password_hash"
                )


class Thresholds(Section):
    file_errors_pct: float = Field(
        default=10.0, ge=0, le=100, description="A file with a larger share of suspended records is set aside whole."
    )
    file_errors_min: int = Field(default=20, ge=1, description="... but only when it has at least so many of them.")
    unknown_share_pct: float = Field(
        default=5.0, ge=0, le=100, description="ASR and NER are null where more dispositions than this are unknown."
    )
    few_attempts: int = Field(default=100, ge=0, description="Ratios over fewer attempts are marked as not meaningful.")
    purge_brake_pct: float = Field(
        default=10.0, ge=0, description="A purge that would take so much more or less than foreseen waits for a person."
    )


class Billing(Section):
    rows: Literal["answered", "attempts"] = Field(
        default="answered", description="The billing view holds answered calls, or all attempts at 0."
    )


class Requests(Section):
    regime: Literal["pipeda", "us", "gdpr"] | None = Field(
        default=None,
        description="Whose clocks a person's request runs by: pipeda, us (state laws) or gdpr.",
        examples=["us"],
    )
    other_numbers: Literal["shown", "hidden"] = Field(
        default="shown", description="Whether an answer to a person shows the other parties' numbers, as a bill does."
    )


class ReleaseCaps(Section):
    rho_month: float = Field(
        default=0.21,
        ge=0,
        le=100,
        description="What released tables about one calendar month may cost a customer's privacy in all, in zCDP "
        "(0.21 is epsilon 4.4 at delta 1e-9).",
    )
    rho_all: float = Field(
        default=2.5, ge=0, le=1000, description="... and what all released tables may cost, of whatever month."
    )
    threshold_outside: bool = Field(
        default=False,
        description="Whether tables by threshold, which are suppressed and not anonymous, may leave the house (k of 15 "
        "at least).",
    )


class Tenant(Section):
    zone: str = Field(default="UTC", description="Billing zone: its local date of the answer is the billing date.")
    billing: Billing = Field(default=Billing(), description="What the billing view holds.")
    requests: Requests = Field(default=Requests(), description="Requests of persons about their data.")
    release: ReleaseCaps = Field(default=ReleaseCaps(), description="What may be released about its customers.")
    retention: dict[str, str] = Field(
        default={},
        description='Windows per class of data, such as "18 months"; nightly refuses to run while one is missing.',
    )

    _check_zone = field_validator("zone")(_zone)

    @field_validator("retention")
    @classmethod
    def _windows(cls, retention: dict[str, str]) -> dict[str, str]:
        for name, window in retention.items():
            if name not in CLASSES:
                raise ValueError(f"no retention class is called {name!r}{nearest(name, CLASSES)}")
            Window.parse(window)
        return retention


class Release(Section):
    folder: str = Field(
        default="releases", description="Declarations of the tables that are released, one TOML file each."
    )
    output: str = Field(default="released", description="Where released tables are written, a folder for each.")


class Trunk(Section):
    name: str = Field(
        description="As the switch writes it, once the declaration has cut it out of a channel or address.",
        examples=["northwind-1"],
    )
    carrier: str | None = Field(
        default=None, description="Carrier id that the billing view shows instead of the trunk.", examples=["northwind"]
    )


class Account(Section):
    id: str = Field(description="Opaque account id; never a phone number.", examples=["acct-0001"])
    tenant: str = Field(default="default", description="Tenant the account belongs to.")
    codes: list[str] = Field(default=[], description="Account codes that switches write.", examples=[["ac-0001"]])
    trunks: list[str] = Field(default=[], description="Trunks whose calls this account pays for.", examples=[["pbx-7"]])

    @field_validator("id")
    @classmethod
    def _opaque(cls, value: str) -> str:
        if sum(c.isdigit() for c in value) >= 7 and not any(c.isalpha() for c in value):
            raise ValueError("an account id of seven or more digits alone looks like a phone number; give it a letter")
        return value


class Source(Section):
    name: str = Field(
        description="Also the folder below landing/.", pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$", examples=["denver"]
    )
    format: str = Field(
        description="A declaration by name (callward nightly --explain lists them) or the path of your own .toml.",
        examples=["asterisk"],
    )
    zone: str = Field(default="UTC", description="IANA zone of local times in the file.")
    country: str = Field(
        default="US", description="ISO country whose numbering plan the switch dials in.", pattern=r"^[A-Z]{2}$"
    )
    international_prefix: list[str] = Field(
        default=[], description="What the switch dials before a country code, if not the country's own (011, 00)."
    )
    national_prefix: str | None = Field(
        default=None, description="What it dials before a national number, if not the country's own."
    )
    extension_digits: list[int] = Field(
        default=[2, 6], min_length=2, max_length=2, description="Shortest and longest extension."
    )
    complete: Literal["rename", "marker", "stable"] = Field(
        default="stable",
        description="How a file says it is complete: renamed from a temporary "
        "name, a FILE.done beside it, or unchanged for stable_seconds.",
    )
    tenant: str = Field(
        default="default", description="The tenant of all its records, unless tenant_field says otherwise."
    )
    tenant_field: str | None = Field(default=None, description="Column of the source that names the tenant.")
    tenants: dict[str, str] = Field(default={}, description="Values of tenant_field and the tenant that each means.")
    horizon_hours: float | None = Field(
        default=None, gt=0, description="How long a piece of a call waits for the rest, if not as declared."
    )
    file_errors_pct: float | None = Field(default=None, ge=0, le=100, description="This source's own error threshold.")
    declare: dict[str, Any] = Field(
        default={}, description="Laid over the declaration's own tables, such as [sources.declare.fields]."
    )

    _check_zone = field_validator("zone")(_zone)

    @property
    def archive_tenant(self) -> str:
        """Whose archive its records as they came belong to: a feed of many tenants is kept under `_shared`."""
        return "_shared" if self.tenant_field else self.tenant


class Settings(Section):
    """All of callward.toml. `path` is the file it was read from; relative paths in it are relative to its folder."""

    path: Path = Field(exclude=True)
    digest: str = Field(default="", exclude=True)
    format_version: Literal[1] = Field(default=1, description="Version of this file's format.")
    lake: Lake = Field(default=Lake(), description="The encrypted data files.")
    database: Database = Field(default=Database(), description="Registers and derived tables.")
    landing: Landing = Field(default=Landing(), description="Where files arrive.")
    keys: Keys = Field(default=Keys(), description="Key roots.")
    engine: Engine = Field(default=Engine(), description="What runs the work.")
    waves: Waves = Field(default=Waves(), description="How much is taken at a time.")
    stream: Stream = Field(default=Stream(), description="How `callward stream` gathers and commits.")
    kafka: Kafka = Field(default=Kafka(), description="The broker that `callward stream` reads.")
    receive: Receive = Field(default=Receive(), description="What `callward receive` takes by HTTP.")
    thresholds: Thresholds = Field(default=Thresholds(), description="When a person must look.")
    release: Release = Field(default=Release(), description="Anonymized aggregates.")
    tenants: dict[str, Tenant] = Field(
        default={"default": Tenant()}, description="Data controllers and their policies."
    )
    trunks: list[Trunk] = Field(
        default=[], description="Trunks that may appear; any other becomes 'other', so that none can carry a number."
    )
    accounts: list[Account] = Field(
        default=[], description="Who pays, by account code or trunk; where none matches: unassigned."
    )
    sources: list[Source] = Field(default=[], description="Switches and feeds.")

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        names = [source.name for source in self.sources]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two sources are called {name!r}")
        for source in self.sources:
            for tenant in {source.tenant, *source.tenants.values()}:
                if tenant not in self.tenants:
                    raise ValueError(
                        f"source {source.name}: no tenant is called {tenant!r}{nearest(tenant, self.tenants)}"
                    )
        for topic in self.kafka.topics:
            for source_name in topic.all_sources:
                if source_name not in names:
                    raise ValueError(
                        f"topic {topic.name}: no source is called {source_name!r}{nearest(source_name, names)}"
                    )
        for sender in self.receive.senders:
            if sender.source not in names:
                raise ValueError(f"receive: no source is called {sender.source!r}{nearest(sender.source, names)}")
        for account in self.accounts:
            if account.tenant not in self.tenants:
                raise ValueError(f"account {account.id}: no tenant is called {account.tenant!r}")
        return self

    @property
    def folder(self) -> Path:
        return self.path.parent

    def below(self, path: str) -> Path:
        """`path` as written in the settings, made absolute."""
        return (self.folder / path).absolute()

    @property
    def lake_path(self) -> Path:
        """The lake's folder; raises UsageProblem for one on an object store (callward.storage.store knows both)."""
        if not self.lake.is_local:
            raise UsageProblem(f"the lake {self.lake.uri} is no folder")
        return self.below(self.lake.uri.removeprefix("file:").removeprefix("//"))

    @property
    def landing_path(self) -> Path:
        return self.below(self.landing.folder)

    @property
    def releases_path(self) -> Path:
        """The folder of the releases' declarations."""
        return self.below(self.release.folder)

    @property
    def released_path(self) -> Path:
        """Where what was released lies."""
        return self.below(self.release.output)

    @property
    def database_url(self) -> str:
        """The database's URL, with a relative SQLite file made absolute."""
        prefix = "sqlite:///"
        if self.database.url.startswith(prefix) and not self.database.url.startswith(prefix + "/"):
            return prefix + str(self.below(self.database.url.removeprefix(prefix)))
        return self.database.url

    @property
    def register_path(self) -> Path:
        """Where signed exports of the key register are kept."""
        return self.folder / "register"

    @property
    def export_path(self) -> Path | None:
        """The second place for them."""
        return self.below(self.keys.export_to) if self.keys.export_to else None

    def root_uri(self, domain: str) -> str:
        """The key root of a key domain."""
        return self._absolute(self.keys.roots[domain])

    def signer_uri(self, signer: str) -> str:
        """The signing key of a signer."""
        return self._absolute(self.keys.signers[signer])

    def _absolute(self, uri: str) -> str:
        scheme, _, rest = uri.partition(":")
        return local_uri(self.below(rest)) if scheme == "local" and not rest.startswith("//") else uri

    def source(self, name: str) -> Source:
        """The source of that name; raises UsageProblem with the nearest right one."""
        for source in self.sources:
            if source.name == name:
                return source
        raise UsageProblem(f"no source is called {name!r}{nearest(name, [s.name for s in self.sources])}")

    def missing_windows(self) -> list[str]:
        """Classes that whoever takes records in needs and that have no explicit window, as "tenant: class"."""
        return [
            f"{name}: {cls}" for name, tenant in self.tenants.items() for cls in REQUIRED if cls not in tenant.retention
        ]

    def require_windows(self) -> None:
        """Raise UsageProblem where records would be taken in for a class that has no explicit window."""
        if missing := self.missing_windows():
            raise UsageProblem(
                f"{self.path.name}: no retention window is given for {', '.join(missing)}; write each under "
                "[tenants.<tenant>.retention] (there is no default: silence is not a window)"
            )


def nearest(word: str, words: Any) -> str:
    """The end of a sentence about an unknown word: the known one that is nearest, else all of them."""
    close = difflib.get_close_matches(str(word), [str(w) for w in words], n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f" (known: {', '.join(map(str, words))})"


def _section_at(location: tuple[Any, ...]) -> type[BaseModel] | None:
    """The model that holds the key at `location`, following lists and tables of tables."""
    model: type[BaseModel] | None = Settings
    for step in location[:-1]:
        if isinstance(step, int) or model is None:
            continue
        field = model.model_fields.get(str(step))
        if field is None:
            continue  # a name chosen by the user, such as a tenant's
        kinds = [field.annotation, *get_args(field.annotation)]
        model = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
    return model


def _sentence(error: Any) -> str:
    location = tuple(error["loc"])
    where = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden":
        section = _section_at(location)
        known = [n for n in section.model_fields if n not in ("path", "digest")] if section else []
        return f"unknown key {where}{nearest(str(location[-1]), known)}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def find(config: str | os.PathLike[str] | None = None) -> Path:
    """The settings file: --config, then CALLWARD_CONFIG, then callward.toml here; raises UsageProblem."""
    path = Path(config or os.environ.get("CALLWARD_CONFIG") or FILE_NAME).absolute()
    if path.is_dir():
        path /= FILE_NAME
    if not path.is_file():
        raise UsageProblem(
            f"no settings file {path}; make a workspace with 'callward init DIR', or name one with --config"
        )
    return path


def load(config: str | os.PathLike[str] | None = None) -> Settings:
    """Read and check the settings; raises UsageProblem naming the file, the key and the nearest right one."""
    path = find(config)
    try:
        text = path.read_bytes()
        data = tomllib.loads(text.decode())
    except OSError as error:
        raise UsageProblem(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageProblem(f"{path}: not TOML: {error}") from None
    for name in ("path", "digest"):
        if name in data:
            raise UsageProblem(f"{path}: unknown key {name}")
    try:
        return Settings(**data, path=path, digest=hashlib.sha256(text).hexdigest())
    except ValidationError as error:
        raise UsageProblem("\n".join(f"{path.name}: {_sentence(e)}" for e in error.errors())) from None


def local_uri(path: str | Path) -> str:
    """The URI of a root key file; characters that mean something in a URI are quoted."""
    return "local://" + quote(str(Path(path).absolute()))
