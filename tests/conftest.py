"""Workspaces for the tests: nights through the real entry point, and readers of everything that they leave."""

import gc
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import select

from callward import database
from callward.feeds.generate import generate
from callward.feeds.world import TRUNKS
from callward.initiate import init, make_folders
from callward.keys.register import EVERY_MONTH, KeyName, keyring
from callward.lake import account_sums, ledger, row_index
from callward.lake.data_files import DataFiles
from callward.settings import Account, Billing, Lake, Settings, Source, Tenant, Trunk, load
from callward.storage.store import MARK
from callward.template import brief
from callward.workspace import Workspace, WorkspaceRef, open_workspace
from pipelines.nightly import Night, nightly
from pipelines.rebuild import rebuild
from schemas.cdr import CDR
from schemas.retention_classes import CLASSES
from schemas.tables import DERIVED, input_files, key_columns, ledger_entries, sla_account_daily, sum_columns
from schemas.views import HELD, ID_COLUMN, PARTS, VIEW_PARTS
from tests import balance, servers
from tests.examples import register_profiles
from tests.postgresql import new_database, postgresql_server
from tests.statements import share_statements
from transforms.assemble import fold

register_profiles()
share_statements()

ROLE = "billing-run"
DAY = date(2026, 3, 5)
# The morning after DAY: nothing waits past its horizon yet.
MORNING = int(datetime(2026, 3, 6, 6, tzinfo=UTC).timestamp() * 1000)
HOUR_MS = 3_600_000

# The engine of settings that name none: with workers beside each other. Tiny nights have one, as each more makes every
# step of them again.
AS_INSTALLED: dict[str, Any] = {}

# The declared format and zone of each source of the feeds, where they differ from its name and from UTC.
_FORMATS = {
    "freeswitch": "freeswitch_csv",
    "freeswitch_json": "freeswitch_jsonl",
    "opensips": "acc_flatstore",
    "generic": "generic_csv",
}
_ZONES = {"asterisk": "America/Denver", "freeswitch": "America/New_York", "freeswitch_json": "America/New_York"}
_MONTHS = ("2026-02", "2026-03")


def source(name: str, **changes: Any) -> Source:
    """A source of the feeds as settings name it; `changes` overlay it."""
    found = {"format": _FORMATS.get(name, name), "zone": _ZONES.get(name, "UTC"), "complete": "rename"}
    return Source(name=name, **(found | changes))


def demo_settings(sources: Iterable[Source], **changes: Any) -> Settings:
    """Settings of a demo: the feeds' trunks and accounts, one tenant that keeps all but what `retention` says."""
    rows = changes.pop("billing_rows", "answered")
    windows = dict.fromkeys(CLASSES, "99 years") | changes.pop("retention", {})
    tenant = Tenant(retention=windows, zone=changes.pop("zone", "UTC"), billing=Billing(rows=rows))
    usual = {
        "tenants": {"default": tenant},
        "trunks": [
            *(Trunk(name=name, carrier=name.partition("-")[0]) for name in TRUNKS),
            Trunk(name="desk", carrier="desk", side="customer"),
        ],
        "accounts": [Account(id=f"acct-{n:04d}", codes=[f"ac-{n:04d}"]) for n in range(200)],
        "sources": list(sources),
        "engine": {"workers": 1},
        "lake": {"grace_minutes": 0.0},  # what is replaced leaves the disk with the night, so that tests can look
    }
    return Settings(path=Path("callward.toml"), **(usual | changes))


@dataclass
class Site:
    """One workspace, what can be done to it, and what it holds."""

    folder: Path

    @property
    def settings(self) -> Settings:
        return load(self.folder)

    @property
    def opened(self) -> Workspace:
        """The workspace as the pipelines' own role opens it."""
        return open_workspace(WorkspaceRef(str(self.settings.path), ROLE, "test"))

    def set(self, **changes: dict[str, Any]) -> None:
        """Change sections of the settings: set(waves={"records": 100})."""
        now = self.settings
        changed = {name: getattr(now, name).model_copy(update=values) for name, values in changes.items()}
        now.path.write_text(brief(now.model_copy(update=changed)), encoding="utf-8")

    def land(self, source: str, name: str, data: bytes) -> None:
        """Put a file into a source's landing folder, whole from its first moment."""
        target = self.settings.landing_path / source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{name}.part")
        part.write_bytes(data)
        part.replace(target)

    def deliver(self, files: Iterable[Path], prefix: str = "") -> None:
        """Land files that lie in a folder of their source's name, under names of their own where a prefix is given."""
        for path in files:
            self.land(path.parent.name, prefix + path.name, path.read_bytes())

    def night(self, now_ms: int = MORNING, only: Collection[str] = ()) -> Night:
        """Run one night, as if it were `now_ms`."""
        return nightly(self.settings, list(only), now_ms=now_ms)

    # -- what is there ----------------------------------------------------------------------------------------------

    def view(self, view: str) -> pa.Table:
        """All rows of a view, or of a part of one, with their numbers, in order of start and id; of billing those that
        are charged."""
        files = DataFiles(self.opened, "test")
        parts = (view,) if view in VIEW_PARTS else PARTS[view]
        stored = (file for part in parts for file in self.data_files(part))
        tables = [files.rows(file) for file in stored]  # a file may have no number columns any more
        nothing = [VIEW_PARTS[part].empty_table() for part in parts]
        table = pa.concat_tables([*nothing, *tables], promote_options="permissive")
        return table.sort_by([(name, "ascending") for name in ("start", *(ID_COLUMN[part] for part in parts))])

    def data_files(self, view: str) -> list[ledger.DataFile]:
        """Return the data files that count of a view, or of its held copies (all parts), of one part, or any kind."""
        held, kind = HELD * view.startswith(HELD), view.removeprefix(HELD)
        with database.reading(self.settings) as connection:
            parts = (kind,) if kind in VIEW_PARTS else PARTS.get(kind, (kind,))
            return [file for part in parts for file in ledger.files(connection, view=held + part)]

    def entries(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Rows and talk_ms per bucket and code, over all files and nights; what came to nothing is left out."""
        rows: Counter[tuple[str, str]] = Counter()
        talk: Counter[tuple[str, str]] = Counter()
        for entry in self._rows(ledger_entries):
            rows[entry.bucket, entry.code] += entry.rows
            talk[entry.bucket, entry.code] += entry.talk_ms
        return {key: (rows[key], talk[key]) for key in rows if rows[key] or talk[key]}

    def balances(self) -> dict[str, dict[str, tuple[int, int]]]:
        """Per landing file (source/name) its rows and talk_ms by bucket, over all nights."""
        names = {row.file_no: self._name(row) for row in self._rows(input_files)}
        found: dict[str, dict[str, tuple[int, int]]] = {name: {} for name in names.values()}
        for entry in self._rows(ledger_entries):
            rows, talk = found[names[entry.file_no]].get(entry.bucket, (0, 0))
            found[names[entry.file_no]][entry.bucket] = (rows + entry.rows, talk + entry.talk_ms)
        return found

    def derived(self) -> dict[str, dict[tuple[Any, ...], tuple[int, ...]]]:
        """Each derived table as {key: sums}, in the order of its columns, without rows that came to nothing."""
        found: dict[str, dict[tuple[Any, ...], tuple[int, ...]]] = {}
        for table in DERIVED:
            rows = [row._mapping for row in self._rows(table)]
            keyed = {tuple(r[k] for k in key_columns(table)): tuple(r[s] for s in sum_columns(table)) for r in rows}
            found[table.name] = {key: sums for key, sums in keyed.items() if any(sums)}
        found[sla_account_daily.name] = self.account_sums()
        return found

    def account_sums(self) -> dict[tuple[Any, ...], tuple[int, ...]]:
        """Sums by account and day as {key: sums}, from the batches that they lie sealed in."""
        keys, sums = key_columns(sla_account_daily), sum_columns(sla_account_daily)
        rows = account_sums.read(self.settings, self.opened.keyring).to_pylist()
        return {tuple(row[k] for k in keys): tuple(row[s] for s in sums) for row in rows}

    def sums_by_day(self, *names: str) -> dict[tuple[Any, ...], tuple[int, ...]]:
        """Some of the sums by account and day as {(tenant, account, call_date): sums}, over regions and methods."""
        keys = ["tenant", "account", "call_date"]
        rows = account_sums.read(self.settings, self.opened.keyring)
        grouped = rows.group_by(keys, use_threads=False).aggregate([(name, "sum") for name in names]).to_pylist()
        return {tuple(row[k] for k in keys): tuple(row[f"{name}_sum"] for name in names) for row in grouped}

    def log(self, kind: str) -> pa.Table:
        """Every row of the sealed pending or suspense log, as its files hold them."""
        files = DataFiles(self.opened, "test")
        tables = [files.read_log(file) for file in self.data_files(kind)]
        return pa.concat_tables(tables) if tables else pa.table({})

    def pending(self) -> pa.Table:
        """The pending log as it stands: one row per piece."""
        log = self.log("pending")
        return fold(log) if log.num_rows else log

    def differing(self) -> int:
        """How many rows of the derived tables are not what the lake says."""
        return sum(table.differ for table in rebuild(self.settings, write=False))

    def unbalanced(self) -> dict[str, dict[str, tuple[int, int]]]:
        """Files whose buckets do not add up to what was read (there should be none)."""
        return {name: buckets for name, buckets in self.balances().items() if not _adds_up(buckets)}

    def _rows(self, table: Any) -> list[Any]:
        with database.reading(self.settings) as connection:
            return list(connection.execute(select(table)))

    def _name(self, row: Any) -> str:
        sealer = keyring(self.settings, ROLE, "test").sealer(KeyName("archive", "_all", EVERY_MONTH, "names"))
        return sealer.open(row.name_sealed, b"name").decode()


def _adds_up(buckets: dict[str, tuple[int, int]]) -> bool:
    read = buckets.get(ledger.IN, (0, 0))
    rest = [amount for bucket, amount in buckets.items() if bucket not in (ledger.IN, ledger.PAIRED)]
    return read == (sum(rows for rows, _ in rest), sum(talk for _, talk in rest))


@pytest.fixture(scope="session")
def _first_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with keys for the months of the tests: its copies give equal ids, so that they can be compared."""
    folder = tmp_path_factory.mktemp("site") / "first"
    settings = init(folder, demo_settings([source("asterisk")]))
    names = [KeyName("ids", "default", EVERY_MONTH, "record")]
    for month in _MONTHS:
        names += [KeyName(view, "default", month, "meta") for view in PARTS]
        names += [row_index.id_key(part, "default", month) for part in VIEW_PARTS]
        names += [
            KeyName("billing-numbers", "default", month, "token"),
            KeyName("index", "default", month, "meta"),
            KeyName("index", "default", month, "token"),
        ]
    keyring(settings, ROLE, "test").keys(names)
    database.engine(settings).dispose()  # the last connection closed writes the log back into the file
    return folder


@pytest.fixture(scope="session")
def workspace(_first_site: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Site]:
    """workspace("asterisk", source("cucm", …), **settings) → a fresh Site; all of them have the same keys."""

    def make(*sources: str | Source, **changes: Any) -> Site:
        folder = tmp_path_factory.mktemp("site") / "workspace"
        shutil.copytree(_first_site, folder, copy_function=shutil.copyfile)
        for root in (folder / "keys").iterdir():
            os.chmod(root, 0o600)
        named = [source(item) if isinstance(item, str) else item for item in sources]
        # By the clock of this machine all dates of the tests are over for long: those that close say so.
        lake = Lake.model_validate(changes.get("lake", {"grace_minutes": 0.0}))
        changes["lake"] = lake.model_copy(
            update={"close_after_hours": 1e6} if "close_after_hours" not in lake.model_fields_set else {}
        )
        settings = demo_settings(named, **changes).model_copy(update={"path": folder / "callward.toml"})
        settings.path.write_text(brief(settings), encoding="utf-8")
        if "database" in changes or not settings.lake.is_local:
            (folder / "lake" / MARK).unlink()  # a new database makes a new workspace, and the lake is elsewhere
        make_folders(load(folder))
        return Site(folder)

    return make


@pytest.fixture(scope="session")
def day() -> date:
    """The day that the feeds of the tests are about; Site.night() is the morning after."""
    return DAY


@pytest.fixture(scope="session")
def finished(workspace: Callable[..., Site], tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, Path]:
    """A workspace after one night over a small dirty feed, to be read and not changed; and a file of its numbers."""
    folder = tmp_path_factory.mktemp("feed")
    sources, numbers = ("asterisk", "freeswitch", "opensips"), folder / "numbers"
    generate(folder, seed=5, day=DAY, calls=1500, dirt=0.01, sources=sources, numbers_to=numbers)
    site = workspace(*sources)
    site.deliver(path for path in sorted(folder.rglob("*")) if path.is_file() and path != numbers)
    site.night()
    return site, numbers


@pytest.fixture(scope="session")
def feed_source() -> Callable[..., Source]:
    """feed_source("cucm", …) → that source as settings name it, with changes."""
    return source


@pytest.fixture(scope="session")
def cdr_table() -> Callable[..., pa.Table]:
    """cdr_table([{record_id=1, start_time=ms, …}, …]) → schema CDR: ids from small numbers, the rest plain."""
    return _cdr_table


_PLAIN = {
    "source": "asterisk",
    "tenant": "default",
    "account": "unassigned",
    "piece": "whole",
    "by_content": False,
    "disposition": "answered",
    "file_no": 1,
    "block": 0,
    "line": 0,
    "was": "",
}


def _cdr_table(rows: list[dict[str, Any]]) -> pa.Table:
    made = []
    for row in rows:
        full = {**_PLAIN, "call_id": row.get("record_id"), "content": 0, **row}
        start = full.get("start_time")
        full.setdefault("call_date", None if start is None else datetime.fromtimestamp(start / 1000, UTC).date())
        ids = ("record_id", "call_id", "content", "leg_a", "leg_b")
        full.update({n: spread(n, full[n]) for n in ids if full.get(n) is not None})
        made.append(full)
    return pa.Table.from_pylist(made, schema=CDR)


def spread(name: str, number: int) -> bytes:
    """16 bytes that a small number stands for: ids are hashes, so their bits must vary."""
    space = "content" if name == "content" else "leg" if name.startswith("leg") else "id"
    return hashlib.blake2b(f"{space}/{number}".encode(), digest_size=16).digest()


# -- real servers ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def kafka() -> Iterator[servers.KafkaBroker]:
    """A Kafka broker for all tests: topics of one's own, no restarts (for those: servers.kafka_broker())."""
    with servers.kafka_broker() as broker:
        yield broker


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """URL of an empty database on a PostgreSQL server; skips where that is not installed."""
    with postgresql_server() as url:
        yield url


@pytest.fixture
def fresh_url(server_url: str) -> str:
    """URL of a database of its own on that server."""
    return new_database(server_url)


@pytest.fixture(scope="session")
def object_store() -> Iterator[Any]:
    """An S3 server (an object_stores.ObjectStore) for all tests: buckets of one's own."""
    from tests.object_stores import s3_server  # its libraries take a second to import

    with s3_server() as store:
        yield store


@pytest.fixture(scope="session")
def flink_jar() -> Path:
    """The Flink job server's jar, and a Java that runs it."""
    servers.needs_java()
    servers.needed(servers.JOB_SERVER.is_file(), "the Flink job server is missing: make engine")
    return servers.JOB_SERVER


@pytest.fixture(scope="session")
def flink_cluster(flink_jar: Path) -> Iterator[servers.FlinkCluster]:
    """A cluster of two TaskManagers for all tests; whoever kills one of them starts another.

    Its workers have the credentials of the tests' object stores.
    """
    from tests.object_stores import credentials  # its libraries take a second to import

    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            credentials(patch)
            cluster = stack.enter_context(servers.flink_cluster(taskmanagers=2))
        yield cluster


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    balance.longest_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> balance.FileScheduling:
    return balance.FileScheduling(config, log)


def pytest_unconfigure() -> None:
    """What the engine froze is let go, so that libraries that count their objects at the end find none left."""
    gc.unfreeze()
    gc.collect()
