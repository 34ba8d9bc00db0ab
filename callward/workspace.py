"""One opened workspace per process: settings, keys, declarations and numbering plans, found by a reference.

Only the reference is ever pickled into a pipeline: it names the settings file, a role and a reason. Keys are opened
where they are used.
"""

import json
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

from callward import database, sources
from callward import settings as settings_module
from callward.accounts.directory import Directory
from callward.accounts.register import Directories
from callward.accounts.zones import BillingZones
from callward.errors import Problem, UsageProblem
from callward.keys import tokens
from callward.keys.register import EVERY_MONTH, KeyName, Keyring, keyring
from callward.keys.seal import Sealer
from callward.numbering import Plan, plan
from callward.redaction import mask
from callward.settings import Settings, Source
from callward.sources import Numbered, SourceIdentity
from schemas import declaration as declarations
from schemas.declaration import Declaration
from schemas.generation import Generation, older, with_keys

NAMES: Final = KeyName("archive", "_all", EVERY_MONTH, "names")  # of files' names, and of settings' values
CUSTOMERS: Final = "customers"  # the site of customers' trunks whose site the settings do not say


@dataclass(frozen=True)
class WorkspaceRef:
    """How a worker finds the workspace: no key, no secret, no number."""

    config: str
    role: str
    reason: str
    transit_month: str = EVERY_MONTH
    variables: str = ""  # settings of the environment, as JSON: a worker elsewhere has another; "" for its own
    digest: str = ""  # of the settings: what a process opened under others is not used again

    def __str__(self) -> str:
        return "\n".join((self.config, self.role, self.reason, self.transit_month, self.variables, self.digest))

    @classmethod
    def of(cls, settings: Settings, role: str, reason: str, transit_month: str = EVERY_MONTH) -> "WorkspaceRef":
        """Return the reference by which others open the workspace of these settings."""
        variables = json.dumps(settings.variables, sort_keys=True)
        return cls(str(settings.path), role, reason, transit_month, variables, settings.digest)

    @classmethod
    def parse(cls, text: str) -> "WorkspaceRef":
        return cls(*text.split("\n"))


@dataclass
class Workspace:
    """Settings and everything opened from them, for one role and reason."""

    reference: WorkspaceRef
    settings: Settings
    assumed: dict[str, Generation] = field(default_factory=dict)  # of sources: a dry run reads as though it were begun
    _declarations: dict[str, Declaration] = field(default_factory=dict)
    _earlier: dict[tuple[str, int], tuple[Numbered, ...]] = field(default_factory=dict)

    @property
    def keyring(self) -> Keyring:
        return keyring(self.settings, self.reference.role, self.reference.reason)

    @property
    def transit(self) -> Sealer:
        """Seals batches in flight: shuffle, spill, checkpoints."""
        return self.keyring.sealer(KeyName("transit", "_all", self.reference.transit_month, "shuffle"))

    def id_secret(self, tenant: str, use: str) -> bytes:
        """Return the secret of one use of a tenant's id key: equal in every month, so that a re-delivery is known."""
        return tokens.derive(self.keyring.key(_id_key(tenant)).secret, use)

    def open_ids(self, tenants: Sequence[str]) -> None:
        """Open the id keys of many tenants at once: each by itself would be a transaction of its own."""
        self.keyring.keys([_id_key(tenant) for tenant in tenants])

    def declaration(self, source: Source) -> Declaration:
        """Return the source's format, with what the settings lay over it; raises UsageProblem for one that is wrong."""
        if source.name not in self._declarations:
            name = str(self.settings.below(source.format)) if source.format.endswith(".toml") else source.format
            try:
                self._declarations[source.name] = declarations.load(name, source.declare)
            except ValueError as error:
                raise UsageProblem(f"source {source.name}: {mask(str(error))}") from None
        return self._declarations[source.name]

    def zone(self, source: Source) -> str:
        """Return the zone of a source's local stamps; raises UsageProblem where it has some and names none."""
        if source.zone is None and self.declaration(source).has_local_stamps:
            raise UsageProblem(
                f"source {source.name}: its times name no zone; write the one that the switch's clock shows, such as "
                'zone = "America/Denver", or "UTC"'
            )
        return source.zone or "UTC"

    def generations(self, source: Source) -> list[Generation]:
        """Return what decides a source's identity and dates today, and what did in its format's earlier versions.

        Raises UsageProblem for a declaration that is wrong or lacks its zone.
        """
        declaration, zone = self.declaration(source), self.zone(source)
        return [Generation.of(declaration, zone), *(generation for _, generation in older(declaration, zone))]

    def identity(self, source: Source) -> SourceIdentity:
        """Return what the ids of a source's records are made with, as the register says now."""
        with database.reading(self.settings) as connection:
            known = sources.identity(connection, source.name, self.generations(source)[0], self._earlier)
        if source.name not in self.assumed:
            return known
        next_one = Numbered(known.now.number + 1, self.assumed[source.name])
        return replace(known, now=next_one, earlier=(*known.earlier, known.now))

    def enter(self, chosen: Sequence[Source]) -> None:
        """Register sources that are new, before records of them are taken in.

        Raises UsageProblem where what decides identity or date of records in the lake has changed.
        """
        declared = {source.name: self.generations(source) for source in chosen}
        with database.writing(self.settings) as connection:
            sources.enter(connection, [source.name for source in self.settings.sources], declared)

    def declaration_in_force(self, source: Source) -> Declaration:
        """Return the source's format, its records named as the source's generation has it.

        Raises Problem where the settings decide identity or date otherwise by now: a worker that started anew reads
        them again.
        """
        now = self.identity(source).now.generation
        if what := sources.change(now, self.generations(source)):
            raise Problem(f"source {source.name}: {what} changed while its records were read; start again")
        return with_keys(self.declaration(source), now)

    def plan(self, source: Source) -> Plan:
        """Return the numbering plan that the source dials in; raises UsageProblem for one that cannot be."""
        shortest, longest = source.extension_digits
        try:
            return plan(
                source.country,
                international_prefix=source.international_prefix,
                national_prefix=source.national_prefix,
                extension_digits=(shortest, longest),
                e164_without_plus=source.e164_without_plus,
                area_code=source.area_code,
                outside_prefix=source.outside_prefix,
                operators=source.operators,
            )
        except ValueError as error:
            raise UsageProblem(f"source {source.name}: {error}") from None

    def directory(self, tenant: str) -> Directory:
        """Return who pays among a tenant's accounts now; raises Problem for a directory that cannot be read."""
        return self._directories.of(tenant, self.keyring)

    def billing_zones(self, tenant: str) -> BillingZones:
        """Return in which zone's days the calls of a tenant's accounts are billed. Errors as for `directory`."""
        return BillingZones(self.settings.tenants[tenant].zone, self.directory(tenant).own_zones)

    @cached_property
    def _directories(self) -> Directories:
        return Directories(self.settings)

    @cached_property
    def trunks(self) -> frozenset[str]:
        return frozenset(trunk.name for trunk in self.settings.trunks)

    @cached_property
    def sides(self) -> dict[str, str]:
        """Trunk → customer or network, of those that are known to be of a side."""
        paid = {trunk for account in self.settings.accounts for trunk in account.trunks}
        usual = {
            t.name: "customer" if t.account or t.name in paid else "network" if t.carrier else ""
            for t in self.settings.trunks
        }
        said = {trunk.name: trunk.side for trunk in self.settings.trunks if trunk.side}
        return {name: side for name, side in (dict.fromkeys(paid, "customer") | usual | said).items() if side}

    @cached_property
    def sites(self) -> dict[str, str]:
        """Customers' trunks → what assurance shows in their place."""
        said = {trunk.name: trunk.site for trunk in self.settings.trunks if trunk.site}
        customers = dict.fromkeys((name for name, side in self.sides.items() if side == "customer"), CUSTOMERS)
        return customers | said

    @cached_property
    def carriers(self) -> dict[str, str]:
        """Trunk → carrier id."""
        return {trunk.name: trunk.carrier for trunk in self.settings.trunks if trunk.carrier}

    @cached_property
    def carriers_shown(self) -> dict[str, str]:
        """Trunk or site, as assurance shows it → carrier id, where all trunks that are shown so have one."""
        of: dict[str, set[str]] = {}
        for trunk in {*self.trunks, *self.sites}:
            of.setdefault(self.sites.get(trunk, trunk), set()).add(self.carriers.get(trunk, ""))
        return {name: one for name, (one, *more) in of.items() if one and not more}


def _id_key(tenant: str) -> KeyName:
    return KeyName("ids", tenant, EVERY_MONTH, "record")


_OPEN: dict[tuple[str, int], Workspace] = {}
_LOCK = threading.Lock()


def open_workspace(reference: WorkspaceRef) -> Workspace:
    """Return the process's workspace for a reference."""
    name = (str(reference), os.getpid())
    with _LOCK:
        if name not in _OPEN:
            _OPEN[name] = Workspace(reference, _settings(reference))
        return _OPEN[name]


def _settings(reference: WorkspaceRef) -> Settings:
    return settings_module.load(reference.config, json.loads(reference.variables) if reference.variables else None)


def open_transit(reference: str) -> Sealer:
    """Return the transit sealer for a reference in its text form: what a coder on a worker calls."""
    return open_workspace(WorkspaceRef.parse(reference)).transit
