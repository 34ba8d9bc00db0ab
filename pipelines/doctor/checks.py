"""doctor: what a workspace is missing, and how to fix it. Nothing is changed and no key is opened.

(A lake on an object store is tried with an empty object, which is removed again.)
"""

import os
import platform
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sqlalchemy import select

from callward import core_dumps, database, extras
from callward.errors import Problem, UsageProblem
from callward.ingest.landing import strangers
from callward.initiate import root_file
from callward.keys import exports, rotation, signing
from callward.keys.keys import KeyProblem
from callward.lake import shares
from callward.retention.policy import register as policy_register
from callward.settings import KEY_DOMAINS, SIGNERS, Settings, load
from callward.workspace import Workspace, WorkspaceRef
from pipelines import terminal
from pipelines.doctor import receiver as receiver_checks
from pipelines.doctor import release as release_checks
from pipelines.doctor import rights as rights_checks
from pipelines.doctor import who
from pipelines.monitoring.alarms import clock
from pipelines.readiness import roots
from pipelines.readiness.checks import CHECKS, Intake, registers, workspace
from pipelines.readiness.finding import MISSING, NOTE, OK, WARNING, WRONG, Finding, folder_finding, guarded
from pipelines.reports import keys as keys_report
from schemas.retention_classes import CLASSES
from schemas.tables import keys

_SHORT_OF_SPACE: Final = 5 << 30
_OLDEST_PYTHON: Final = (3, 11)
_PACKAGES: Final = {"apache-beam": "2.77", "pyarrow": "25.0", "duckdb": "2.0", "sqlalchemy": "2.1"}


def examine(config: str | None) -> list[Finding]:
    """Look at everything that a night needs, and return the findings. Never raises for what it sees."""
    installation = list(_installation())
    try:
        settings = load(config)
    except UsageProblem as problem:
        lines = str(problem).splitlines()
        return [
            Finding(
                "settings",
                MISSING if "no settings file" in lines[0] else WRONG,
                lines[0],
                "fix that key, and look again",
            ),
            *installation,
        ]
    first = list(_settings(settings))
    if (role := who.person(settings)) is not None:
        return [*first, *_of_person(settings, role), *installation]
    intake = Intake(settings, settings.sources, streaming=bool(settings.kafka.topics))
    ready = [finding for check, _ in CHECKS for finding in guarded(check, intake)]
    looked_at = [finding for check in _CHECKS for finding in guarded(check, settings)]
    return [*first, *ready, *looked_at, *installation]


def _of_person(settings: Settings, role: str) -> Iterator[Finding]:
    """Look at what a person needs, and may fix or ask for."""
    yield Finding("role", OK, f"{role}; what only the services need and may fix is not looked at")
    yield from roots.opened(settings, who.theirs(settings))
    intake = Intake(settings, ())
    for check in (registers, workspace):
        yield from guarded(check, intake)
    if settings.lake.is_local:
        fix = "have its owner let you (docs/access.md), or fix lake.uri"
        yield folder_finding("lake", settings.lake_path, fix, "cannot be read", writes=False)
    yield from guarded(_memory, settings)


# -- settings ----------------------------------------------------------------------------------------------------------


def _settings(settings: Settings) -> Iterator[Finding]:
    yield Finding("settings", OK, str(settings.path))
    if settings.variables:
        yield Finding("settings", NOTE, f"set by the environment: {', '.join(settings.variables)}")


def _policies(settings: Settings) -> Iterator[Finding]:
    """Check who stands behind each tenant's windows, and whether one is shorter than it may be."""
    try:
        with database.reading(settings) as connection:
            governed = policy_register.in_force(settings, connection)
            policy_register.check_history(connection)
    except policy_register.PolicyProblem as problem:
        yield Finding("policies", WRONG, str(problem), "restore the register; nothing is purged until it holds")
        return
    except Problem:
        return  # the check of the database says why
    for tenant, policies in sorted(governed.items()):
        yield _policy(tenant, policies.current)


def _policy(tenant: str, current: policy_register.Policy) -> Finding:
    short = [
        name
        for name, rule in current.rules.items()
        if any(floor and rule.window.may_end_before(floor) for floor in (rule.floor, CLASSES[name].floor))
    ]
    seen = f"{current.name}, version {current.version}" if current.version else current.name
    if short:
        fix = "'callward policy lint' names the floors; propose a policy with longer windows"
        return Finding(f"policy of {tenant}", WARNING, f"{seen}: under its floor: {', '.join(short)}", fix)
    if not current.two_people:
        fix = f"callward policy propose FILE --tenant {tenant} ...: without two people no purge runs unattended"
        return Finding(f"policy of {tenant}", NOTE, f"{seen}: two people do not stand behind it", fix)
    return Finding(f"policy of {tenant}", OK, f"{seen}, activated by two people")


def _strangers(settings: Settings) -> Iterator[Finding]:
    for stranger in strangers(settings):
        yield Finding(
            f"landing {stranger.name}", WRONG, stranger.reason, "add the source, or take it away: it is never read"
        )


def _clocks(settings: Settings) -> Iterator[Finding]:
    """Check each source's zone by the epochs in the records of its last night."""
    try:
        with database.reading(settings) as connection:
            last = {source.name: shares.newest(connection, source.name) for source in settings.sources}
    except Problem:
        return  # the check of the database says why
    for source in settings.sources:
        for sentence in clock(source, last[source.name]):
            seen, _, fix = sentence.removeprefix(f"{source.name}: ").partition(": ")
            yield Finding(f"zone of {source.name}", WARNING, seen, fix)


def _lists(settings: Settings) -> Iterator[Finding]:
    for name, listed, without in (
        ("trunks", settings.trunks, "every trunk becomes 'other', and reports by trunk say little"),
        ("accounts", settings.accounts, "every call stays 'unassigned', and usage by account says little"),
    ):
        if listed:
            yield Finding(name, OK, f"{len(listed):,} listed")
        else:
            yield Finding(name, WARNING, "none listed", f"write [[{name}]]: without, {without}")


# -- keys --------------------------------------------------------------------------------------------------------------


def _folders(settings: Settings) -> Iterator[Finding]:
    """Check folders that only the owner should enter; those of the landing files are the switches' too."""
    folders = {settings.folder, *(file.parent for name in KEY_DOMAINS if (file := root_file(settings, name)))}
    for folder in sorted(folders):
        if not folder.is_dir():
            yield Finding("folder", MISSING, f"no folder {folder}")
            continue
        mode = stat.S_IMODE(folder.stat().st_mode)
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            yield Finding("folder", OK, f"{folder} is mounted read-only, as a Secret is")
        elif mode & 0o077:
            yield Finding("folder", WRONG, f"{folder} has mode {mode:04o}", f"chmod 0700 {folder}")
        else:
            yield Finding("folder", OK, f"{folder} has mode {mode:04o}")


def _other_roots(settings: Settings) -> Iterator[Finding]:
    """Check the roots that no night needs."""
    yield from roots.opened(settings, [name for name in KEY_DOMAINS if name not in roots.TAKING_IN])


def _signers(settings: Settings) -> Iterator[Finding]:
    """Check the keys that sign; only the custodian and the service that runs purges need theirs."""
    active = roots.active(settings)
    for signer in SIGNERS if active else ():
        what, file = f"signing key {signer}", signing.signer_file(settings, signer)
        try:
            key_id = signing.key_id(signing.SigningKey(file).public)
        except KeyProblem as problem:
            yield Finding(what, WARNING, str(problem), "put it back from its safe copy, unless another role has it")
            continue
        if signer not in active:
            fix = f"callward init --upgrade {settings.folder}"
            yield Finding(what, WRONG, "the register does not know it", fix)
        elif active[signer] != key_id:
            yield Finding(what, WRONG, "it is not the registered one, and signs nothing", "put the right one back")
        else:
            yield Finding(what, OK, "the registered one")


def _places_of_roots(settings: Settings) -> Iterator[Finding]:
    """Check that no folder holds roots and what they open: a copy of it opens itself, and no purge reaches a backup."""
    data = {"the lake": settings.lake_path.resolve()} if settings.lake.is_local else {}
    if (file := settings.database_file) is not None:
        data["the database"] = file.resolve()
    files = (root_file(settings, name) for name in KEY_DOMAINS)
    for folder in sorted({file.resolve().parent for file in files if file is not None}):
        beside = sorted(name for name, path in data.items() if _share_a_folder(folder, path))
        if beside:
            seen = f"{folder} lies in one folder with {' and '.join(beside)}: a backup of it would open itself"
            yield Finding("place of roots", WARNING, seen, "move the roots elsewhere, and say so under [keys.roots]")
        else:
            yield Finding("place of roots", OK, f"{folder}, apart from database and lake")


def _share_a_folder(roots_in: Path, data: Path) -> bool:
    """Return whether the roots lie below the folder that the data lies in, or the data below that of the roots."""
    return roots_in.is_relative_to(data.parent) or data.is_relative_to(roots_in)


def _epochs(settings: Settings) -> Iterator[Finding]:
    """Check for root changes that were not ended, and copies of roots that outlived them."""
    try:
        pending = rotation.pending(settings)
        with database.reading(settings) as connection:
            copies = keys_report.dead_copies(connection)
    except Problem:
        return  # the check of the database says why
    if pending:
        seen = f"a switch was interrupted: {', '.join(pending)}"
        yield Finding("epochs", WARNING, seen, "callward keys export; it ends the switch first")
    for copy in copies:
        seen = f"copy {copy.copy_no} of a root of {copy.domain} that is destroyed here: {copy.place}"
        yield Finding(
            "copy of a root", WARNING, seen, f"destroy it there, then: callward keys copy confirm {copy.copy_no}"
        )


def _exports(settings: Settings) -> Iterator[Finding]:
    """Check whether the newest register export would bring every key back."""
    try:
        with database.reading(settings) as connection:
            wrapped = connection.execute(select(keys.c.key_id, keys.c.root_id).where(keys.c.blob.is_not(None))).all()
    except Problem:
        return  # the check of the database says why
    body, fix = exports.newest(settings), "callward keys export, as often as the database is backed up"
    if body is None:
        if wrapped:
            yield Finding("register export", WARNING, "there is none: a lost database would be lost data", fix)
        return
    there = {row["key_id"]: row["root_id"] for row in body["keys"] if row["blob"]}
    lacking = sum(there.get(row.key_id) != row.root_id for row in wrapped)
    if lacking:
        seen = f"the newest, of {body['created_at'][:16]}, lacks {terminal.count(lacking, 'key')}"
        yield Finding("register export", WARNING, seen, fix)
    else:
        yield Finding("register export", OK, f"of {body['created_at'][:16]}, with every key")


def _second_place(settings: Settings) -> Iterator[Finding]:
    """Check the second folder of those exports."""
    if settings.export_path is None:
        seen = "keys.export_to names no second place for it"
        yield Finding("register export", NOTE, seen, "name a folder on another disk or host")
    else:
        fix = "mount it, make it, or fix keys.export_to"
        yield folder_finding("keys.export_to", settings.export_path, fix, "cannot be written")


# -- where things are kept ---------------------------------------------------------------------------------------------


def _database_mode(settings: Settings) -> Iterator[Finding]:
    file = settings.database_file
    if file is not None and file.exists() and stat.S_IMODE(file.stat().st_mode) & 0o077:
        yield Finding("database", WRONG, f"{file} can be read by others", f"chmod 0600 {file}*")


def _endpoint(settings: Settings) -> Iterator[Finding]:
    if settings.lake.endpoint and not _is_private(settings.lake.endpoint):
        seen = "the endpoint is http: anybody on the way sees what is asked for and could hold answers back"
        yield Finding("lake endpoint", WARNING, seen, "write https:// and, for a certificate of your own, lake.ca_file")


def _is_private(endpoint: str) -> bool:
    """Return whether nobody sees what goes to an endpoint: encrypted, or within this machine."""
    host = urlsplit(endpoint).hostname
    return endpoint.startswith("https:") or host in ("localhost", "127.0.0.1", "::1")


def _space(settings: Settings) -> Iterator[Finding]:
    free = shutil.disk_usage(settings.folder).free
    seen = f"{free / (1 << 30):.1f} GiB free"
    if free < _SHORT_OF_SPACE:
        yield Finding("disk", WARNING, seen, "make room: a night needs about the size of its files again")
    else:
        yield Finding("disk", OK, seen)


# -- this machine ------------------------------------------------------------------------------------------------------


def _memory(settings: Settings) -> Iterator[Finding]:
    """Check what writes memory to a disk: secrets live in memory."""
    program = core_dumps.receiver()
    if program is None:
        yield Finding("core dumps", OK, "off")
    else:
        yield Finding(
            "core dumps",
            WARNING,
            f"the kernel gives them to {program}, which may write keys to a disk",
            "sysctl kernel.core_pattern=core",
        )
    plain = _plain_swaps()
    if plain:
        yield Finding(
            "swap", WARNING, f"{', '.join(plain)} may lie in the clear", "swapoff -a, or put swap on dm-crypt"
        )
    else:
        yield Finding("swap", OK, "off, or encrypted")


def _plain_swaps() -> list[str]:
    """Return swap devices that are neither compressed memory nor a dm-crypt mapping, as far as the kernel shows."""
    try:
        lines = Path("/proc/swaps").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return []
    return [name for name in (line.split()[0] for line in lines if line.strip()) if not _is_safe_swap(Path(name))]


def _is_safe_swap(device: Path) -> bool:
    name = device.resolve().name
    if name.startswith("zram"):
        return True
    try:
        return Path(f"/sys/block/{name}/dm/uuid").read_text(encoding="ascii").startswith("CRYPT-")
    except OSError:
        return False


def _broker(settings: Settings) -> Iterator[Finding]:
    if not settings.kafka.topics:
        return
    extras.require("confluent_kafka")
    from callward.ingest import kafka  # the broker's client is loaded for those who have one

    workspace = Workspace(WorkspaceRef.of(settings, "ops", "doctor"), settings)
    yield from (Finding(*row) for row in kafka.looked_at(settings, workspace))


def _installation() -> Iterator[Finding]:
    seen = platform.python_version()
    if sys.version_info[:2] >= _OLDEST_PYTHON:
        yield Finding("python", OK, seen)
    else:
        yield Finding("python", WRONG, seen, "callward needs 3.11 or newer")
    for package, wanted in _PACKAGES.items():
        try:
            installed = metadata.version(package)
        except metadata.PackageNotFoundError:
            yield Finding(package, MISSING, "not installed", "install from requirements/")
            continue
        fits = installed == wanted or installed.startswith(f"{wanted}.")
        yield Finding(
            package,
            OK if fits else WARNING,
            installed,
            "" if fits else f"tested with {wanted}: install from requirements/",
        )


# What settings say and name, beside what a night needs ('callward settings check').
OF_SETTINGS: Final[Sequence[Callable[[Settings], Iterator[Finding]]]] = (
    _strangers,
    _clocks,
    _lists,
    _places_of_roots,
    _second_place,
    _endpoint,
    receiver_checks.receive,
    release_checks.releases,
)

# Beside what a night needs, which is in pipelines/readiness/checks.py.
_CHECKS: Final[Sequence[Callable[[Settings], Iterator[Finding]]]] = (
    _policies,
    _strangers,
    _clocks,
    _lists,
    _folders,
    _other_roots,
    _signers,
    _places_of_roots,
    _epochs,
    _exports,
    _second_place,
    _database_mode,
    rights_checks.rights,
    _endpoint,
    _space,
    _memory,
    _broker,
    receiver_checks.receive,
    release_checks.releases,
)
