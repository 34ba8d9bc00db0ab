"""doctor: what a workspace is missing, and how to fix it. Nothing is changed and no key is opened.

(A lake on an object store is tried with an empty object, which is removed again.)
"""

import os
import platform
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import select

from callward import core_dumps, database, extras
from callward.errors import Problem, UsageProblem
from callward.ingest.landing import strangers
from callward.initiate import root_file
from callward.keys import exports, rotation, signing
from callward.keys.keys import KeyProblem, KeySource, open_source
from callward.keys.roots import ACTIVE
from callward.retention.policy import register as policy_register
from callward.settings import KEY_DOMAINS, SIGNERS, Settings, load
from callward.storage.store import NO_VERSIONS, VERSIONS, Store
from callward.workspace import Workspace, WorkspaceRef
from pipelines import terminal
from pipelines.doctor import receiver as receiver_checks
from pipelines.doctor import release as release_checks
from pipelines.doctor.finding import MISSING, NOTE, OK, WARNING, WRONG, Finding
from pipelines.engine import flink
from pipelines.reports import keys as keys_report
from schemas.retention import roots
from schemas.retention_classes import CLASSES
from schemas.tables import keys

_SHORT_OF_SPACE: Final = 5 << 30
_OLDEST_PYTHON: Final = (3, 11)
_JAVA, _FLINK = "17", "1.19"
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
    checks = (
        _settings,
        _windows,
        _policies,
        _sources,
        _landing,
        _lists,
        _folders,
        _roots,
        _signers,
        _places_of_roots,
        _epochs,
        _exports,
        _database,
        _lake,
        _space,
        _memory,
        _engine,
        _broker,
        receiver_checks.receive,
        release_checks.releases,
    )
    return [*(finding for check in checks for finding in _guarded(check, settings)), *installation]


def _guarded(check: Callable[[Settings], Iterator[Finding]], settings: Settings) -> Iterator[Finding]:
    """Yield the findings of a check; one that fails is a finding, too."""
    try:
        yield from check(settings)
    except Problem as problem:
        yield Finding(check.__name__.strip("_"), WRONG, str(problem), problem.hint or "")
    except OSError as error:
        yield Finding(check.__name__.strip("_"), WRONG, f"{error.filename or ''}: {error.strerror}".lstrip(": "))


# -- settings ----------------------------------------------------------------------------------------------------------


def _settings(settings: Settings) -> Iterator[Finding]:
    yield Finding("settings", OK, str(settings.path))


def _windows(settings: Settings) -> Iterator[Finding]:
    for name in settings.tenants:
        missing = [item.split(": ")[1] for item in settings.missing_windows() if item.startswith(f"{name}: ")]
        if missing:
            fix = (
                f'write each under [tenants.{name}.retention], such as {missing[0]} = "18 months"; there is no default'
            )
            yield Finding(f"windows of {name}", MISSING, f"none for {', '.join(missing)}", fix)
        else:
            yield Finding(f"windows of {name}", OK, "given for every class")


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


def _sources(settings: Settings) -> Iterator[Finding]:
    if not settings.sources:
        fix = "write a [[sources]] table; 'callward nightly --explain' lists the formats"
        yield Finding("sources", MISSING, "there is none yet", fix)
    workspace = Workspace(WorkspaceRef.of(settings, "ops", "doctor"), settings)
    for source in settings.sources:
        try:
            workspace.declaration(source)
            yield Finding(f"source {source.name}", OK, f"declared as {source.format}")
        except UsageProblem as problem:
            yield Finding(f"source {source.name}", WRONG, str(problem), "fix 'format' or 'declare' of that source")


def _landing(settings: Settings) -> Iterator[Finding]:
    for source in settings.sources:
        folder = settings.landing_path / source.name
        if not folder.is_dir():
            yield Finding(
                f"landing {source.name}", MISSING, f"no folder {folder}", f"callward init --upgrade {settings.folder}"
            )
        elif folder.is_symlink():
            yield Finding(
                f"landing {source.name}",
                WRONG,
                f"{folder} is a symbolic link, which is not followed: nothing in it is taken",
                "mount the folder there (mount --bind), or set landing.folder",
            )
        elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            yield Finding(
                f"landing {source.name}",
                WRONG,
                f"{folder} cannot be read and emptied",
                f"chmod u+rwx {folder}, as its owner",
            )
        else:
            yield Finding(f"landing {source.name}", OK, str(folder))
    for stranger in strangers(settings):
        yield Finding(
            f"landing {stranger.name}", WRONG, stranger.reason, "add the source, or take it away: it is never read"
        )


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
    folders = {settings.folder, *(file.parent for name in KEY_DOMAINS if (file := _root_file(settings, name)))}
    for folder in sorted(folders):
        if not folder.is_dir():
            yield Finding("folder", MISSING, f"no folder {folder}")
            continue
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & 0o077:
            yield Finding("folder", WRONG, f"{folder} has mode {mode:04o}", f"chmod 0700 {folder}")
        else:
            yield Finding("folder", OK, f"{folder} has mode {mode:04o}")


def _root_file(settings: Settings, domain: str) -> Path | None:
    return root_file(settings, domain)


def _roots(settings: Settings) -> Iterator[Finding]:
    """Check each root of the settings: can it be read, is it the active one, and does it open what it wrapped?"""
    registered, active = _registered(settings), _active(settings)
    for domain in KEY_DOMAINS:
        what = f"root {domain}"
        try:
            source = open_source(settings.root_uri(domain))
        except KeyProblem as problem:
            yield _unreadable(settings, what, domain, problem)
            continue
        source.close()
        if active.get(domain, source.root_id) != source.root_id:
            yield Finding(
                what,
                WRONG,
                f"it is {source.root_id}, and the register calls {active[domain]} active",
                "put the right root back; where the database is an older copy: callward keys restore",
            )
        elif active and domain not in active:
            yield Finding(what, WRONG, "the register does not know it", f"callward init --upgrade {settings.folder}")
        else:
            yield _opening(what, source, registered.get(domain, []))


def _unreadable(settings: Settings, what: str, domain: str, problem: KeyProblem) -> Finding:
    file = _root_file(settings, domain)
    if file is None:
        return Finding(what, WRONG, str(problem))
    if not file.exists():
        return Finding(
            what,
            MISSING,
            str(problem),
            "put the root back from its safe copy, or run this as a role that does not need it",
        )
    return Finding(what, WRONG, str(problem), f"chmod 0600 {file}, as its owner")


def _opening(what: str, source: KeySource, registered: list[Any]) -> Finding:
    """Compare fingerprints: keys name the root that wrapped them, so none needs to be opened."""
    if not registered:
        return Finding(what, OK, "readable; the register has no key of it yet")
    closed = sum(row.root_id != source.root_id for row in registered)
    if closed:
        seen = f"does not open {closed:,} of the register's {len(registered):,} keys"
        return Finding(what, WRONG, seen, "this is another root: put the right one back")
    return Finding(what, OK, f"opens {terminal.count(len(registered), 'key')} of the register")


def _active(settings: Settings) -> dict[str, str]:
    """Return the id of the active root, or signing key, by key domain or signer."""
    try:
        with database.reading(settings) as connection:
            rows = connection.execute(select(roots).where(roots.c.state == ACTIVE)).all()
    except Problem:
        return {}  # the check of the database says why
    return {row.domain: row.root_id for row in rows}


def _signers(settings: Settings) -> Iterator[Finding]:
    """Check the keys that sign; only the custodian and the service that runs purges need theirs."""
    active = _active(settings)
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
    files = (_root_file(settings, name) for name in KEY_DOMAINS)
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
    if settings.export_path is None:
        seen = "keys.export_to names no second place for it"
        yield Finding("register export", NOTE, seen, "name a folder on another disk or host")


def _registered(settings: Settings) -> dict[str, list[Any]]:
    try:
        with database.reading(settings) as connection:
            rows = connection.execute(select(keys).where(keys.c.state != "destroyed")).all()
    except Problem:
        return {}  # the check of the database says why
    by_domain: dict[str, list[Any]] = {}
    for row in rows:
        by_domain.setdefault(row.domain, []).append(row)
    return by_domain


# -- where things are kept ---------------------------------------------------------------------------------------------


def _database(settings: Settings) -> Iterator[Finding]:
    try:
        database.check_version(settings)
    except Problem as problem:
        state = MISSING if isinstance(problem, database.DatabaseMissing) else WRONG
        yield Finding("database", state, str(problem), problem.hint or "")
        return
    file = settings.database_file
    if file is not None and stat.S_IMODE(file.stat().st_mode) & 0o077:
        yield Finding("database", WRONG, f"{file} can be read by others", f"chmod 0600 {file}*")
    else:
        yield Finding("database", OK, f"{database.describe(settings)}, at this version")


def _lake(settings: Settings) -> Iterator[Finding]:
    """Check that the lake can be written; an object store is tried with an empty object that is removed again."""
    if not settings.lake.is_local:
        yield from _bucket(settings)
        return
    lake = settings.lake_path
    if not lake.is_dir():
        yield Finding("lake", MISSING, f"no folder {lake}", f"callward init --upgrade {settings.folder}")
    elif not os.access(lake, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("lake", WRONG, f"{lake} cannot be written", f"chmod u+rwx {lake}, as its owner")
    else:
        yield Finding("lake", OK, f"{lake}, writable")


def _bucket(settings: Settings) -> Iterator[Finding]:
    try:
        store = Store.of(settings)
        kept = store.versions()
    except Problem as problem:
        fix = "docs/storage.md, object store, lists what the bucket and its credentials must be like"
        yield Finding("lake", WRONG, str(problem), fix)
        return
    yield Finding("lake", OK, f"{store.describe()}, writable")
    if kept == VERSIONS:
        seen = "the bucket keeps versions of removed objects: until their keys die, nothing that is purged is gone"
        yield Finding("lake versions", WARNING, seen, "use a bucket without versioning, and without object lock")
    else:
        yield Finding("lake versions", OK if kept == NO_VERSIONS else NOTE, str(kept))
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


def _engine(settings: Settings) -> Iterator[Finding]:
    """Check Java and the job server where the settings need them; else only that they are not there."""
    needed = settings.engine.runner == flink.RUNNER or bool(settings.kafka.topics)
    absent = MISSING if needed else NOTE
    why = "" if needed else "; only the stream, and nights on Flink, need it"
    yield _java(absent, why)
    try:
        yield Finding("job server", OK, str(flink.jar(settings)))
    except Problem as problem:
        sentence, _, fix = str(problem).partition("; ")
        yield Finding("job server", absent, f"{sentence}{why}", fix)
        if shutil.which("mvn") is None:
            yield Finding("maven", NOTE, "not found; it builds the job server", "install maven")
    if needed and not flink.is_local(settings):
        yield from _cluster(settings)


def _java(absent: str, why: str) -> Finding:
    try:
        program = flink.java()
    except Problem as problem:
        sentence, _, fix = str(problem).partition(": ")
        return Finding("java", absent, f"{sentence}{why}", fix)
    asked = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    match = re.search(r'version "([\d._]+)"', asked.stderr + asked.stdout)
    version = match[1] if match else "of an unknown version"
    if version.split(".")[0] == _JAVA:
        return Finding("java", OK, version)
    return Finding("java", WARNING, version, f"Flink {_FLINK} was tested with Java {_JAVA}")


def _cluster(settings: Settings) -> Iterator[Finding]:
    """Check a Flink cluster by its own report. Workers compare versions when they start, and report differences."""
    master = settings.engine.flink_master
    try:
        seen, config = (flink.ask(settings, path) for path in ("/overview", "/jobmanager/config"))
        environment = flink.ask(settings, "/jobmanager/environment")
    except Problem as problem:
        yield Finding("flink", WRONG, str(problem), "start it, or fix engine.flink_master")
        return
    slots, wanted = seen["slots-total"], settings.engine.parallelism or settings.engine.workers
    cluster = f"{master}: Flink {seen['flink-version']}, {terminal.count(seen['taskmanagers'], 'TaskManager')}"
    if slots < wanted:
        fix = f"start TaskManagers: engine.parallelism asks for {wanted}"
        yield Finding("flink", WRONG, f"{cluster}, {terminal.count(slots, 'task slot')}", fix)
    elif not seen["flink-version"].startswith(f"{settings.engine.flink_version}."):
        yield Finding("flink", WARNING, cluster, f"the job server is made for Flink {settings.engine.flink_version}")
    else:
        yield Finding("flink", OK, f"{cluster}, {terminal.count(slots, 'task slot')}")
    yield _beam_of_cluster(config, environment)


def _beam_of_cluster(config: Any, environment: Any) -> Finding:
    """Check where Beam's classes lie: those that each job brings anew are never freed, and fill the memory."""
    orders = [item["value"] for item in config if item["key"] == "classloader.resolve-order"]
    there = any("job-server-cluster" in jar for jar in environment["classpath"])
    if there and orders == ["parent-first"]:
        return Finding("beam in flink", OK, "in the cluster's lib folder")
    fix = "put job-server-cluster.jar into the cluster's lib, and set classloader.resolve-order: parent-first"
    return Finding("beam in flink", WARNING, "each job brings it anew, and TaskManagers do not let go of it", fix)


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
