"""All of callward.toml."""

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from callward.errors import UsageProblem
from callward.settings.database import Database
from callward.settings.engine import Alerts, Engine, Stream, Thresholds, Waves
from callward.settings.inputs import Kafka, Receive, Source
from callward.settings.storage import Keys, Lake, Landing
from callward.settings.tenants import Account, NumberRange, Release, Tenant, Trunk
from callward.settings.values import Section, local_uri, nearest, repeated
from schemas import toml
from schemas.retention_classes import REQUIRED

FORMAT_VERSION = 1


class Settings(Section):
    """All of callward.toml. `path` is the file it was read from; relative paths in it are relative to its folder."""

    path: Path = Field(exclude=True, strict=False)
    digest: str = Field(default="", exclude=True)
    variables: dict[str, str] = Field(default={}, exclude=True)  # of the environment, which stood over the file
    format_version: Literal[1] = Field(default=1, description="Version of this file's format.")
    workspace_id: str | None = Field(
        default=None,
        pattern=r"^[a-z]{14}$",
        description="This workspace, as 'callward init' named it. Database, lake and exports have the same id; "
        "another's are refused.",
    )
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
    alerts: Alerts = Field(default=Alerts(), description="Who is told when a person must look.")
    release: Release = Field(default=Release(), description="Anonymized aggregates.")
    tenants: dict[str, Tenant] = Field(
        default={"default": Tenant()}, description="Data controllers and their policies."
    )
    trunks: list[Trunk] = Field(
        default=[], description="Trunks that may appear; any other becomes 'other', so that none can carry a number."
    )
    accounts: list[Account] = Field(
        default=[], description="Who pays, by account code, trunk or number; where none matches: unassigned."
    )
    sources: list[Source] = Field(default=[], description="Switches and feeds.")

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        """Refuse what does not fit together: each fault is a line of its own."""
        checks = (self._not_once(), self._payers(), self._no_tenants(), self._sites(), self._no_sources())
        if faults := list(islice(chain.from_iterable(checks), toml.FAULTS)):
            raise ValueError("\n".join(faults))
        return self

    def _not_once(self) -> Iterator[str]:
        """Yield what may stand in a list once and stands there twice: one of two would not be heard."""
        for what, names in (
            ("sources", [source.name for source in self.sources]),
            ("trunks", [trunk.name for trunk in self.trunks]),
        ):
            if (twice := repeated(names)) is not None:
                yield f"two {what} are called {twice!r}; write it once"
        if (pair := repeated([(account.tenant, account.id) for account in self.accounts])) is not None:
            yield f"two accounts of tenant {pair[0]} have the id {pair[1]!r}; write it once"

    def _payers(self) -> Iterator[str]:
        """Yield what leaves open which of a tenant's accounts pays for a call."""
        codes = [(account.tenant, code) for account in self.accounts for code in account.codes]
        if (pair := repeated(codes)) is not None:
            yield f"two accounts of tenant {pair[0]} have the code {pair[1]!r}; one account pays for it"
        led = {trunk.name for trunk in self.trunks if trunk.account is not None}
        bare = [(a.tenant, trunk) for a in self.accounts if not a.numbers for trunk in a.trunks if trunk not in led]
        if (pair := repeated(bare)) is not None:
            yield (
                f"two accounts of tenant {pair[0]} have the trunk {pair[1]!r}, and no numbers tell which of them pays; "
                "say it with the trunk's account"
            )
        of_tenant: dict[str, list[Account]] = {}
        for account in self.accounts:
            of_tenant.setdefault(account.tenant, []).append(account)
        for accounts in of_tenant.values():
            yield from _in_common(accounts)

    def _no_tenants(self) -> Iterator[str]:
        """Yield names of tenants and accounts that are none."""
        named = [(f"source {source.name}", tenant) for source in self.sources for tenant in source.all_tenants]
        named += [(f"account {account.id}", account.tenant) for account in self.accounts]
        named += [("stream.spread", tenant) for tenant in self.stream.spread]
        ids = {account.id for account in self.accounts}
        for trunk in self.trunks:
            if trunk.account is not None and trunk.account not in ids:
                yield f"trunk {trunk.name}: no account has the id {trunk.account!r}{nearest(trunk.account, ids)}"
        for who, tenant in named:
            if tenant not in self.tenants:
                yield f"{who}: no tenant is called {tenant!r}{nearest(tenant, self.tenants)}"

    def _sites(self) -> Iterator[str]:
        """Yield sites that a reader would take for a trunk, and those of trunks that are not a customer's."""
        names = {trunk.name for trunk in self.trunks}
        for trunk in self.trunks:
            if trunk.site in names:
                yield f"trunk {trunk.name}: its site {trunk.site!r} is a trunk's name; call it otherwise"
            if trunk.site is not None and trunk.side == "network":
                yield f"trunk {trunk.name}: only a customer's trunk is shown by its site"

    def _no_sources(self) -> Iterator[str]:
        """Yield topics and senders of a source that is not there."""
        names = [source.name for source in self.sources]
        for topic in self.kafka.topics:
            for name in topic.all_sources:
                if name not in names:
                    yield f"topic {topic.name}: no source is called {name!r}{nearest(name, names)}"
        for sender in self.receive.senders:
            if sender.source not in names:
                yield f"receive: no source is called {sender.source!r}{nearest(sender.source, names)}"

    @property
    def folder(self) -> Path:
        return self.path.parent

    def below(self, path: str) -> Path:
        """Return `path`, as written in the settings, made absolute."""
        return (self.folder / path).absolute()

    @property
    def lake_path(self) -> Path:
        """Return the lake's folder; raises UsageProblem for one on an object store (storage.store knows both)."""
        if not self.lake.is_local:
            raise UsageProblem(f"the lake {self.lake.uri} is no folder")
        return self.below(self.lake.uri.removeprefix("file:").removeprefix("//"))

    @property
    def landing_path(self) -> Path:
        return self.below(self.landing.folder)

    @property
    def releases_path(self) -> Path:
        """Return the folder of the releases' declarations."""
        return self.below(self.release.folder)

    @property
    def released_path(self) -> Path:
        """Return the folder of released tables."""
        return self.below(self.release.output)

    @property
    def database_file(self) -> Path | None:
        """Return the database's file, None for one on a server."""
        return self.below(self.database.file) if self.database.file is not None else None

    @property
    def register_path(self) -> Path:
        """Return the folder of signed exports of the key register."""
        return self.folder / "register"

    @property
    def export_path(self) -> Path | None:
        """Return the second folder of those exports, None without one."""
        return self.below(self.keys.export_to) if self.keys.export_to else None

    def root_uri(self, domain: str) -> str:
        """Return the URI of the key root of a key domain."""
        return self._absolute(self.keys.roots[domain])

    def signer_uri(self, signer: str) -> str:
        """Return the URI of the signing key of a signer."""
        return self._absolute(self.keys.signers[signer])

    def _absolute(self, uri: str) -> str:
        scheme, _, rest = uri.partition(":")
        return local_uri(self.below(rest)) if scheme == "local" and not rest.startswith("//") else uri

    def source(self, name: str) -> Source:
        """Return the source of that name; raises UsageProblem with the nearest right one."""
        for source in self.sources:
            if source.name == name:
                return source
        raise UsageProblem(f"no source is called {name!r}{nearest(name, [s.name for s in self.sources])}")

    def missing_windows(self) -> list[str]:
        """Return the classes that ingest needs and that have no explicit window, as "tenant: class"."""
        return [
            f"{name}: {cls}" for name, tenant in self.tenants.items() for cls in REQUIRED if cls not in tenant.retention
        ]


def _in_common(accounts: list[Account]) -> Iterator[str]:
    """Yield pairs of a tenant's accounts to which two ranges of one length give a number on one day; else the shorter
    range has it."""
    reaching: list[tuple[NumberRange, str]] = []  # ranges that go on to the one that is looked at
    for numbers, account in sorted(((r, a.id) for a in accounts for r in a.numbers), key=lambda held: held[0].bounds):
        reaching = [(other, name) for other, name in reaching if other.bounds[1] >= numbers.bounds[0]]
        alike = (name for other, name in reaching if other.length == numbers.length and numbers.overlaps(other))
        twice = next(alike, None)
        if twice is not None:
            yield f"accounts {twice!r} and {account!r} have a number in common on one day; one pays for it"
        reaching.append((numbers, account))
