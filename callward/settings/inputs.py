"""Where records come from: sources, topics of Kafka, and senders by HTTP."""

import re
from ipaddress import ip_network
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from callward.errors import UsageProblem
from callward.settings.values import (
    OneOrMore,
    Section,
    Words,
    host_port,
    is_loopback,
    known_zone,
    nearest,
    repeated,
    seconds,
    secret_place,
)

_PASSWORD_HASH = re.compile(
    r"\$argon2id\$v=19\$m=[1-9][0-9]{2,5},t=[1-9][0-9]?,p=[1-9]\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}"
    r"|scrypt(:[0-9]{1,8}){3}(:[A-Za-z0-9+/=]{16,128}){2}"  # as earlier releases wrote it
)


_GROUPS = {"sequence": ("number", r"cdr-(\d+)\.csv"), "tenant_pattern": ("part that counts", r"@([a-z-]+)\.example$")}


class Topic(Section):
    name: str = Field(
        description='The topic: letters, digits, ".", "_" and "-".',
        examples=["cdr-denver"],
        pattern=r"^[A-Za-z0-9._-]{1,249}$",
    )
    source: str = Field(
        description="The source of its messages; with source_header, of those whose header names no other.",
        examples=["denver"],
    )
    source_header: str = Field(
        default="", description="A header of each message that names its source.", examples=["switch"]
    )
    sources: dict[str, str] = Field(
        default={},
        description="Values of source_header and the source that each means.",
        examples=[{"den": "denver"}],
    )
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
        """Return every source that a message may be of, the usual one first."""
        return list(dict.fromkeys([self.source, *self.sources.values()]))


class Kafka(Section):
    bootstrap: Words = Field(
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

    _check_secrets = field_validator("key_password", "username", "password")(secret_place)

    @field_validator("bootstrap")
    @classmethod
    def _addresses(cls, bootstrap: Words) -> list[str]:
        for address in bootstrap:
            host_port(address)
        return bootstrap

    @model_validator(mode="after")
    def _safe(self) -> "Kafka":
        if self.topics and not self.bootstrap:
            raise ValueError("topics are read from brokers: name some in bootstrap")
        if (name := repeated([topic.name for topic in self.topics])) is not None:
            raise ValueError(f"topic {name!r} is there twice")
        far = [address for address in self.bootstrap if not is_loopback(host_port(address)[0])]
        if far and not self.by_tls:
            raise ValueError(
                "bootstrap names a broker beyond this machine: there only ssl or sasl_ssl is spoken, as messages hold "
                "numbers"
            )
        self._check_sasl()
        return self

    def _check_sasl(self) -> None:
        parts = {"sasl_mechanism": self.sasl_mechanism, "username": self.username, "password": self.password}
        if self.by_sasl and None in parts.values():
            raise ValueError(f"{self.protocol} needs {', '.join(name for name, value in parts.items() if not value)}")
        unused = [name for name, value in parts.items() if value and not self.by_sasl]
        tls = {"ca_file": self.ca_file, "certificate_file": self.certificate_file, "key_file": self.key_file}
        unused += [name for name, value in tls.items() if value and not self.by_tls]
        if unused:
            raise ValueError(f"{unused[0]} means nothing with the protocol {self.protocol}")
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("certificate_file and key_file go together")

    @property
    def by_tls(self) -> bool:
        return self.protocol in ("ssl", "sasl_ssl")

    @property
    def by_sasl(self) -> bool:
        return self.protocol in ("sasl_plaintext", "sasl_ssl")

    def topic(self, name: str) -> Topic:
        """Return the topic of that name; raises UsageProblem with the nearest right one."""
        for topic in self.topics:
            if topic.name == name:
                return topic
        raise UsageProblem(f"[[kafka.topics]] has no {name!r}{nearest(name, [topic.name for topic in self.topics])}")


class Sender(Section):
    source: str = Field(description="The source that it sends records of, at URL /<source>.", examples=["denver"])
    addresses: Words = Field(
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

    _check_secret = field_validator("password")(secret_place)

    @field_validator("addresses")
    @classmethod
    def _networks(cls, addresses: Words) -> list[str]:
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
        if (name := repeated([sender.source for sender in self.senders])) is not None:
            raise ValueError(f"two senders of {name!r}")
        if not is_loopback(host_port(self.listen)[0]):
            self._check_far()
        return self

    def _check_far(self) -> None:
        """Refuse to listen beyond this machine without a certificate, and addresses and credentials per sender."""
        if self.certificate_file is None:
            raise ValueError("listening beyond this machine takes certificate_file and key_file")
        for sender in self.senders:
            if not sender.username or not sender.addresses:
                raise ValueError(
                    f"sender of {sender.source}: listening beyond this machine takes its addresses, a username, and a "
                    "password or password_hash"
                )


class Source(Section):
    name: str = Field(
        description="Small letters, digits, - and _, 40 at most; also the folder below landing/.",
        pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$",
        examples=["denver"],
    )
    format: str = Field(
        description="A declaration by name (callward nightly --explain lists them) or the path of your own .toml.",
        examples=["asterisk"],
    )
    zone: str | None = Field(
        default=None,
        description="IANA zone of times in the file that name none; needed wherever a format has such times.",
        examples=["America/Denver"],
    )
    country: str = Field(
        default="US", description="ISO country whose numbering plan the switch dials in.", pattern=r"^[A-Z]{2}$"
    )
    international_prefix: OneOrMore | None = Field(
        default=None,
        description="What the switch dials before a country code, if not the country's own: one text or a list.",
        examples=[["011"]],
    )
    national_prefix: OneOrMore | None = Field(
        default=None,
        description='What it dials before a national number, if not the country\'s own: one text or a list; "" for '
        "nothing.",
        examples=[["1"]],
    )
    e164_without_plus: bool = Field(
        default=False, description='Digits that can be a country code and number are one: 44207… is "+44…".'
    )
    area_code: str = Field(
        default="",
        pattern="^[0-9]{0,6}$",
        description="What leads a local number: 303 makes +1303… of a number of seven digits.",
        examples=["303"],
    )
    outside_prefix: str = Field(
        default="",
        pattern="^[0-9]{0,6}$",
        description="What is dialled for an outside line, if the records have it before called numbers.",
        examples=["9"],
    )
    operators: OneOrMore = Field(
        default=[], description="Dialled digits that call an operator: one text or a list.", examples=[["0"]]
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
        default="default",
        description="The tenant of all its records, unless tenant_field or tenant_by says otherwise.",
    )
    tenant_field: str | None = Field(
        default=None, description="Column of the source that names the tenant.", examples=["customer"]
    )
    tenant_by: Literal["account_code", "ingress_trunk", "egress_trunk"] | None = Field(
        default=None,
        description="... or, in its place, the field of the declaration that does, as it is read from the source: "
        "account_code, ingress_trunk or egress_trunk.",
    )
    tenant_pattern: str | None = Field(
        default=None,
        description="A regular expression that finds, as its one group, the part of that value which counts.",
        examples=[r"@([a-z-]+)\.example$"],
    )
    tenants: dict[str, str] = Field(
        default={},
        description="Values of it (with tenant_pattern: what that finds in them) and the tenant that each means.",
        examples=[{"NW": "default"}],
    )
    billing_rank: int | None = Field(
        default=None,
        ge=1,
        description="Where two network elements write records of one call: 1 counts before 2. Of two sources with "
        "ranks, the record of the lower one is held from billing.",
        examples=[1],
    )
    horizon_hours: float | None = Field(
        default=None, gt=0, description="How long a piece of a call waits for the rest, if not as declared."
    )
    file_errors_pct: float | None = Field(default=None, ge=0, le=100, description="This source's own error threshold.")
    expect_every: str | None = Field(
        default=None,
        description="A file, or a record of a topic, comes so often at the least; longer without one is silence.",
        examples=["26 hours"],
    )
    sequence: str | None = Field(
        default=None,
        description="A regular expression that finds the number of a file in its name, as its one group: numbers that "
        "are missing or come again are named.",
        examples=[r"cdr-(\d+)\.csv"],
    )
    sequence_range: list[int] = Field(
        default=[],
        description="The first and the last number, where they begin again after the last.",
        examples=[[1, 9999]],
    )
    declare: dict[str, Any] = Field(
        default={}, description="Laid over the declaration's own tables, such as [sources.declare.fields]."
    )

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str | None) -> str | None:
        return None if zone is None else known_zone(zone)

    @field_validator("international_prefix")
    @classmethod
    def _dialled_abroad(cls, prefixes: list[str] | None) -> list[str] | None:
        if prefixes is not None and not (prefixes and all(re.fullmatch("[0-9]{1,6}", prefix) for prefix in prefixes)):
            raise ValueError('write one to six digits, such as "011" or ["00", "011"]')
        return prefixes

    @field_validator("national_prefix")
    @classmethod
    def _dialled_at_home(cls, prefixes: list[str] | None) -> list[str] | None:
        if prefixes is not None and not (prefixes and all(re.fullmatch("[0-9]{0,6}", prefix) for prefix in prefixes)):
            raise ValueError('write up to six digits, such as "1" or ["1", "0"], or "" for none')
        return prefixes

    @field_validator("operators")
    @classmethod
    def _operators(cls, operators: list[str]) -> list[str]:
        if not all(re.fullmatch("[0-9]{1,6}", operator) for operator in operators):
            raise ValueError('write one to six digits, such as "0" or ["0", "00"]')
        return operators

    @field_validator("expect_every")
    @classmethod
    def _span(cls, span: str | None) -> str | None:
        if span is not None:
            seconds(span)
        return span

    @field_validator("sequence", "tenant_pattern")
    @classmethod
    def _pattern(cls, pattern: str | None, info: ValidationInfo) -> str | None:
        try:
            groups = 1 if pattern is None else re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"no regular expression: {error.msg}") from None
        if groups != 1:
            what, such = _GROUPS[str(info.field_name)]
            raise ValueError(f"put the {what}, and nothing else, into round brackets, such as {such}")
        return pattern

    @field_validator("sequence_range")
    @classmethod
    def _first_and_last(cls, numbers: list[int]) -> list[int]:
        if numbers and (len(numbers) != 2 or not 0 <= numbers[0] < numbers[1]):
            raise ValueError("write the first number and the last, such as [1, 9999]")
        return numbers

    @model_validator(mode="after")
    def _by_field(self) -> "Source":
        if self.sequence_range and not self.sequence:
            raise ValueError("sequence_range means nothing without sequence, which says where the number stands")
        if self.tenant_field and self.tenant_by:
            raise ValueError("write tenant_field, a column of the source, or tenant_by, a field, and not both")
        for name in ("tenants", "tenant_pattern"):
            if getattr(self, name) and not self.has_tenants:
                raise ValueError(
                    f"{name} means nothing without tenant_field or tenant_by, which say whose value it is of"
                )
        return self

    @property
    def has_tenants(self) -> bool:
        """Return whether a rule says of each record whose it is."""
        return bool(self.tenant_field or self.tenant_by)

    @property
    def all_tenants(self) -> list[str]:
        """Return every tenant that its records may be of."""
        return list(dict.fromkeys(self.tenants.values())) if self.has_tenants else [self.tenant]

    @property
    def archive_tenant(self) -> str:
        """Return the tenant of its archive: `_shared` for a feed of many tenants."""
        return "_shared" if self.has_tenants else self.tenant
