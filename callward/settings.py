"""callward.toml: one file of settings, checked as a whole; an unknown key is refused with the nearest right one."""

import difflib
import hashlib
import os
import tomllib
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from callward.custody.keys import local_uri
from callward.errors import UsageProblem
from schemas.policy import CLASSES, REQUIRED, Window

FORMAT_VERSION = 1
FILE_NAME = "callward.toml"
CAPABILITIES = (
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


class Section(BaseModel):
    """A table of callward.toml; every key has a description, which `callward init` writes beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Lake(Section):
    uri: str = Field(
        default="file:lake", description="Where data files lie: file:PATH, relative to this file or absolute."
    )
    grace_minutes: float = Field(
        default=60.0, ge=0, description="A data file that was replaced stays so long for queries that have begun."
    )

    @field_validator("uri")
    @classmethod
    def _local(cls, uri: str) -> str:
        if urlsplit(uri).scheme != "file":
            raise ValueError("only file: is built so far, such as file:lake")
        return uri


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
    return {name: f"local:keys/{name}.root" for name in CAPABILITIES}


def _usual_signers() -> dict[str, str]:
    return {name: f"local:keys/{name}.sign" for name in SIGNERS}


class Keys(Section):
    roots: dict[str, str] = Field(
        default=_usual_roots(),
        description="One key root per capability; one that is not named lies where it usually does. Whoever may read a "
        "root's file holds that capability: set the file's owner so.",
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
            if name not in CAPABILITIES:
                raise ValueError(f"no capability is called {name!r}{nearest(name, CAPABILITIES)}")
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
        description="Beam runner. FnApiRunner is embedded: nothing to install, nothing downloaded.",
    )
    workers: int = Field(default=2, ge=1, le=64, description="Workers of the embedded runner.")
    options: list[str] = Field(default=[], description="Further Beam options, passed on as written.")


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


class Tenant(Section):
    zone: str = Field(default="UTC", description="Billing zone: its local date of the answer is the billing date.")
    billing: Billing = Field(default=Billing(), description="What the billing view holds.")
    requests: Requests = Field(default=Requests(), description="Requests of persons about their data.")
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
    thresholds: Thresholds = Field(default=Thresholds(), description="When a person must look.")
    tenants: dict[str, Tenant] = Field(
        default={"default": Tenant()}, description="Data controllers and their policies."
    )
    trunks: list[Trunk] = Field(
        default=[], description="Trunks that may appear; any other becomes 'other', so that none can carry a number."
    )
    accounts: list[Account] = Field(
        default=[], description="Who pays, by account code or trunk; where none matches: unguided."
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
        return self.below(self.lake.uri.removeprefix("file:").removeprefix("//"))

    @property
    def landing_path(self) -> Path:
        return self.below(self.landing.folder)

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

    def root_uri(self, capability: str) -> str:
        """The key root of a capability."""
        return self._absolute(self.keys.roots[capability])

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
        """Classes that a night needs and that have no explicit window, as "tenant: class"."""
        return [
            f"{name}: {cls}" for name, tenant in self.tenants.items() for cls in REQUIRED if cls not in tenant.retention
        ]


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
