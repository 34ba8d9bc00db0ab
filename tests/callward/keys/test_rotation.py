"""Root epochs: a destroyed key is dead in every copy, a survivor is never lost, whenever the work is killed."""

import base64
import errno
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from sqlalchemy import select, update

from callward import audit, database
from callward.errors import Problem
from callward.keys import exports, roots, rotation
from callward.keys import register as key_register
from callward.keys.keys import Key, KeyGone, KeyProblem, KeySource, create_local, fingerprint, open_source
from callward.keys.register import KeyName, Keyring
from callward.keys.roots import next_file
from callward.settings import Settings, load
from schemas.retention import roots as epochs_table
from schemas.tables import audit_log, keys
from tests.examples import tries

KEY_DOMAINS = ("billing", "assurance")
MONTHS = ("2030-01", "2030-02", "2030-03")
NAMES = [KeyName(domain, "default", month, "meta") for domain in KEY_DOMAINS for month in MONTHS]
DOOMED = [name for name in NAMES if name.month == "2030-01"]
POINTS = (
    "epoch-root-written",
    "epoch-rewrapped",
    "epoch-switched",
    "epoch-export-written",
    "epoch-exported",
    "epoch-overwritten",
    "epoch-promoted",
    "epoch-destroyed",
    "epoch-scrubbed",
)
# The same points the second time, when the first key domain is done: those that are passed once per key domain.
SECOND = tuple(
    f"{name}:2" for name in POINTS if name not in ("epoch-export-written", "epoch-exported", "epoch-scrubbed")
)


@pytest.fixture
def settings(workspace: Callable[..., Any]) -> Settings:
    found: Settings = workspace("asterisk").settings
    return found


@pytest.fixture
def minted(settings: Settings) -> dict[KeyName, Key]:
    """The keys of the tests, and an export that has them."""
    made = dict(zip(NAMES, ring(settings).keys(NAMES), strict=True))
    exports.write(settings, "before")
    return made


def ring(settings: Settings) -> Keyring:
    """A keyring that has nothing open yet."""
    return Keyring(settings, "billing-run", "test")


def destroy(
    settings: Settings, found: dict[KeyName, Key], names: Iterable[KeyName] = DOOMED
) -> list[rotation.Tombstone]:
    return rotation.destroy(settings, [found[name].key_id for name in names], role="retention-run", reason="test")


def killed(settings: Settings, work: Callable[[], Any], where: str) -> bool:
    """Do the work in a process of its own that dies at a named point; whether it got there."""
    child = os.fork()
    if not child:
        os.environ["CALLWARD_CRASH_AT"] = where
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def survivors_open(settings: Settings, found: dict[KeyName, Key], doomed: Iterable[KeyName] = DOOMED) -> None:
    """Every key that stays opens as it was, in a process that has nothing open; a doomed one as it was, or not."""
    for name, key in found.items():
        try:
            assert ring(settings).key(name) == key
        except KeyGone:
            assert name in doomed


def all_dead(settings: Settings, found: dict[KeyName, Key], doomed: Iterable[KeyName] = DOOMED) -> None:
    survivors_open(settings, found, doomed)
    for name in doomed:
        assert rotation.dead(settings, found[name].key_id)
        with pytest.raises(KeyGone):
            ring(settings).key(name)
        with pytest.raises(KeyGone):
            ring(settings).by_id(found[name].key_id)
    assert rotation.pending(settings) == []
    assert not list((settings.folder / "keys").glob("*.next"))
    assert not list(settings.register_path.glob(".*"))
    with database.reading(settings) as connection:
        audit.verify(connection)
        states = connection.execute(select(epochs_table.c.domain, epochs_table.c.state)).all()
    assert {state for _, state in states} <= {"active", "destroyed"}
    actives = [domain for domain, state in states if state == "active"]
    assert len(actives) == len(set(actives))


def blobs(settings: Settings, names: Iterable[KeyName]) -> list[bytes]:
    wanted = {str(name) for name in names}
    with database.reading(settings) as connection:
        return [row.blob for row in connection.execute(select(keys)) if str(key_register.name_of(row)) in wanted]


def every_root(*folders: Path) -> Iterator[KeySource]:
    """Every root that any file below the folders holds."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                with_mode = path.stat().st_mode
                path.chmod(0o600)
                try:
                    yield open_source(f"local://{path}")
                except KeyProblem:
                    continue
                finally:
                    path.chmod(with_mode)


# -- destroying --------------------------------------------------------------------------------------------------------


def test_destroyed_keys_are_dead_and_survivors_open(settings: Settings, minted: dict[KeyName, Key]) -> None:
    before = {name: open_source(settings.root_uri(name)).root_id for name in KEY_DOMAINS}
    tombstones = destroy(settings, minted)
    assert [(t.key_id, t.name, t.fingerprint) for t in tombstones] == [
        (minted[name].key_id, name, fingerprint(minted[name])) for name in DOOMED
    ]
    assert {t.domain: t.root_id for t in tombstones} == before
    all_dead(settings, minted)
    assert not any(rotation.dead(settings, key.key_id) for name, key in minted.items() if name not in DOOMED)
    with database.reading(settings) as connection:
        events = connection.execute(select(audit_log.c.event, audit_log.c.role)).all()
    assert events.count(("destroy", "retention-run")) == len(DOOMED)
    assert events.count(("root", "retention-run")) == len(KEY_DOMAINS)


def test_destroying_again_changes_no_epoch(settings: Settings, minted: dict[KeyName, Key]) -> None:
    first = destroy(settings, minted)
    after = {name: open_source(settings.root_uri(name)).root_id for name in KEY_DOMAINS}
    assert destroy(settings, minted) == first
    assert {name: open_source(settings.root_uri(name)).root_id for name in KEY_DOMAINS} == after


def test_a_key_that_never_was_destroys_nothing(settings: Settings, minted: dict[KeyName, Key]) -> None:
    with pytest.raises(KeyGone, match="not in the register"):
        rotation.destroy(settings, [minted[DOOMED[0]].key_id, "0" * 32], role="retention-run", reason="test")
    with pytest.raises(KeyGone, match="not in the register"):
        rotation.dead(settings, "0" * 32)
    assert {name: ring(settings).key(name) for name in NAMES} == minted


def test_a_process_that_shares_a_keyring_forgets_what_it_destroyed(settings: Settings) -> None:
    shared = key_register.keyring(settings, "retention-run", "test")
    key = shared.key(NAMES[0])
    sealed = shared.sealer(NAMES[0]).seal(b"what", b"")
    destroy(settings, {NAMES[0]: key}, [NAMES[0]])
    for attempt in (lambda: shared.key(NAMES[0]), lambda: shared.sealer_by_id(key.key_id).open(sealed, b"")):
        with pytest.raises(KeyGone):
            attempt()


def test_a_rotation_rewraps_and_destroys_nothing(settings: Settings, minted: dict[KeyName, Key]) -> None:
    old = open_source(settings.root_uri("billing"))
    wrapped = blobs(settings, minted)
    new = rotation.rotate(settings, "billing", role="custodian", reason="test")
    assert open_source(settings.root_uri("billing")).root_id == new != old.root_id
    assert {name: ring(settings).key(name) for name in NAMES} == minted
    all_dead(settings, minted, [])
    assert len(set(wrapped) & set(blobs(settings, minted))) == len(MONTHS), "those of the other key domain"


def test_a_survivor_that_does_not_open_stops_everything(settings: Settings, minted: dict[KeyName, Key]) -> None:
    """Its blob may be mended from an export, but only as long as the old root is there."""
    broken = minted[KeyName("billing", "default", "2030-03", "meta")]
    with database.writing(settings) as connection:
        good = connection.execute(select(keys.c.blob).where(keys.c.key_id == broken.key_id)).scalar()
        connection.execute(update(keys).where(keys.c.key_id == broken.key_id).values(blob=b"x" * 60))
    with pytest.raises(KeyProblem, match="newest register export") as caught:
        destroy(settings, minted, [KeyName("billing", "default", "2030-01", "meta")])
    assert broken.secret.hex() not in str(caught.value)
    with database.writing(settings) as connection:
        connection.execute(update(keys).where(keys.c.key_id == broken.key_id).values(blob=good))
    assert {name: ring(settings).key(name) for name in NAMES} == minted
    destroy(settings, minted)
    all_dead(settings, minted)


def test_a_second_place_that_is_away_destroys_nothing(settings: Settings, minted: dict[KeyName, Key]) -> None:
    away = settings.model_copy(update={"keys": settings.keys.model_copy(update={"export_to": "away"})})
    with pytest.raises(Problem, match="is that disk mounted"):
        destroy(away, minted)
    assert {name: ring(settings).key(name) for name in NAMES} == minted
    (settings.folder / "away").mkdir()
    destroy(away, minted)
    all_dead(settings, minted)
    (first,), (second,) = exports.list_exports(settings.register_path), exports.list_exports(settings.folder / "away")
    assert first.read_bytes() == second.read_bytes()


def test_the_bytes_of_the_old_root_are_overwritten_where_they_lay(
    settings: Settings, minted: dict[KeyName, Key], tmp_path: Path
) -> None:
    """Seen through another name of the same file; and a root behind a link is replaced where the link leads."""
    path = roots.root_file(settings, "billing")
    assert path is not None
    (elsewhere := tmp_path / "elsewhere").mkdir()
    path.rename(elsewhere / "billing.root")
    path.symlink_to(elsewhere / "billing.root")
    os.link(elsewhere / "billing.root", tmp_path / "same")
    before = (tmp_path / "same").read_bytes()
    destroy(settings, minted)
    all_dead(settings, minted)
    assert path.is_symlink()
    assert [found.name for found in elsewhere.iterdir()] == ["billing.root"]
    assert not set(before.split()) & set((tmp_path / "same").read_bytes().split())


@pytest.mark.parametrize("step", ["create_local", "_rewrap", "_begin_epoch", "overwrite", "promote"])
def test_a_full_disk_loses_nothing_and_the_next_call_ends_it(
    settings: Settings, minted: dict[KeyName, Key], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rotation, step, full)
    ends_at_the_next_call(settings, minted, monkeypatch)


def test_a_new_root_whose_name_was_not_synced_loses_nothing_and_the_next_call_ends_it(
    settings: Settings, minted: dict[KeyName, Key], monkeypatch: pytest.MonkeyPatch
) -> None:
    def promoted(draft: Path, path: Path) -> None:
        draft.replace(path)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rotation, "promote", promoted)
    ends_at_the_next_call(settings, minted, monkeypatch)


def ends_at_the_next_call(settings: Settings, minted: dict[KeyName, Key], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="No space"):
        destroy(settings, minted)
    monkeypatch.undo()
    survivors_open(settings, minted)
    destroy(settings, minted)
    all_dead(settings, minted)


# -- killed at any moment ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [*POINTS, *SECOND])
def test_killed_anywhere_and_called_again_it_ends_the_same(
    settings: Settings, minted: dict[KeyName, Key], where: str, tmp_path: Path
) -> None:
    assert killed(settings, lambda: destroy(settings, minted), where), f"{where} was not reached"
    survivors_open(settings, minted)
    late = ring(settings).key(KeyName("billing", "default", "2031-01", "meta"))
    destroy(settings, minted)
    all_dead(settings, minted)
    assert ring(settings).by_id(late.key_id) == late


@pytest.mark.parametrize("where", [*POINTS, *SECOND])
def test_whatever_uses_the_keys_next_may_finish_it(settings: Settings, minted: dict[KeyName, Key], where: str) -> None:
    assert killed(settings, lambda: destroy(settings, minted), where)
    rotation.recover(settings)
    assert rotation.pending(settings) == []
    survivors_open(settings, minted)


@pytest.mark.parametrize("where", [*POINTS, *SECOND])
def test_a_database_lost_in_the_middle_loses_no_key(
    settings: Settings, minted: dict[KeyName, Key], where: str, tmp_path: Path
) -> None:
    """Old database, newest export, and the key files that are there: at each moment they fit."""
    database.engine(settings).dispose()
    old = tmp_path / "old.db"
    shutil.copyfile(settings.folder / "callward.db", old)
    assert killed(settings, lambda: destroy(settings, minted), where)
    for file in settings.folder.glob("callward.db*"):
        file.unlink()
    shutil.copyfile(old, settings.folder / "callward.db")
    exports.restore(settings, exports.list_exports(settings.register_path)[0])
    survivors_open(settings, minted)
    destroy(settings, minted)
    all_dead(settings, minted)


@tries(12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    doomed=st.lists(st.sampled_from(NAMES), min_size=1, unique=True),
    kills=st.lists(st.sampled_from([*POINTS, *SECOND]), max_size=4),
)
def test_any_keys_and_any_kills(workspace: Callable[..., Any], doomed: list[KeyName], kills: list[str]) -> None:
    settings = workspace("asterisk").settings
    found = dict(zip(NAMES, ring(settings).keys(NAMES), strict=True))
    for where in kills:
        killed(settings, lambda: destroy(settings, found, doomed), where)
        survivors_open(settings, found, doomed)
    destroy(settings, found, doomed)
    all_dead(settings, found, doomed)


def test_every_point_is_killed_at() -> None:
    """A point that is added to the code must be added here."""
    root = Path(rotation.__file__).parent
    text = "".join(path.read_text() for path in root.glob("*.py"))
    named = {name for name in text.split('"') if name.startswith("epoch-") and f'point("{name}")' in text}
    assert named == set(POINTS)


def test_a_root_that_nobody_registered_is_taken_away(settings: Settings, minted: dict[KeyName, Key]) -> None:
    path = roots.root_file(settings, "billing")
    assert path is not None
    create_local(next_file(path))
    assert rotation.pending(settings) == ["billing"]
    rotation.recover(settings)
    all_dead(settings, minted, [])


def test_a_root_that_only_the_export_knows_is_kept(
    settings: Settings, minted: dict[KeyName, Key], tmp_path: Path
) -> None:
    """An older database was put back in the middle of a switch: the new root is all that opens the export."""
    database.engine(settings).dispose()
    shutil.copyfile(settings.folder / "callward.db", tmp_path / "old.db")
    assert killed(settings, lambda: destroy(settings, minted), "epoch-exported")
    for file in settings.folder.glob("callward.db*"):
        file.unlink()
    shutil.copyfile(tmp_path / "old.db", settings.folder / "callward.db")
    with pytest.raises(Problem, match="this database is older"):
        rotation.recover(settings)
    exports.restore(settings, exports.list_exports(settings.register_path)[0])
    rotation.recover(settings)
    all_dead(settings, minted)


# -- at the same time --------------------------------------------------------------------------------------------------


def _mint_on(config: str, started: Any, stop: Any, found: Any) -> None:
    """A worker that keeps its keyring, and so the old root, open while epochs change."""
    opened, made = ring(load(config)), []
    while not stop.is_set():
        made.append(opened.key(KeyName("billing", "default", "2032-01", f"meta.{len(made)}")))
        started.set()
    found.put([(key.key_id, fingerprint(key)) for key in made])


def test_a_worker_cannot_mint_under_a_root_that_is_replaced(settings: Settings, minted: dict[KeyName, Key]) -> None:
    context = multiprocessing.get_context("spawn")
    started, stop, found = context.Event(), context.Event(), context.Queue()
    worker = context.Process(target=_mint_on, args=(str(settings.path), started, stop, found))
    worker.start()
    try:
        assert started.wait(60)
        for name in NAMES[:3]:
            destroy(settings, minted, [name])
    finally:
        stop.set()
    made = found.get(timeout=60)
    worker.join(60)
    with database.reading(settings) as connection:
        under = connection.execute(select(keys.c.root_id).where(keys.c.month == "2032-01").distinct()).scalars().all()
    assert under == [open_source(settings.root_uri("billing")).root_id]
    opened = ring(settings)
    assert [(key_id, fingerprint(opened.by_id(key_id))) for key_id, _ in made] == made
    all_dead(settings, minted, NAMES[:3])


def test_a_keyring_that_was_open_before_goes_on_after(settings: Settings, minted: dict[KeyName, Key]) -> None:
    opened = ring(settings)
    opened.key(NAMES[1])
    destroy(settings, minted)
    other = KeyName("billing", "default", "2033-01", "meta")
    assert ring(settings).key(other) == opened.key(other)
    assert opened.key(NAMES[2]) == minted[NAMES[2]]


@contextmanager
def _somebody_reads(settings: Settings) -> Iterator[None]:
    with database.reading(settings) as connection:
        connection.execute(select(keys)).all()
        yield


def test_a_reader_that_does_not_end_is_said_and_called_again_it_ends(
    settings: Settings, minted: dict[KeyName, Key], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "_READERS_S", 0.2)
    (doomed,) = blobs(settings, [DOOMED[0]])
    with _somebody_reads(settings), pytest.raises(Problem, match="somebody reads the database"):
        destroy(settings, minted)
    destroy(settings, minted)
    all_dead(settings, minted)
    assert doomed not in b"".join(path.read_bytes() for path in settings.folder.glob("callward.db*"))


# -- copies from before ------------------------------------------------------------------------------------------------


def test_no_byte_of_a_destroyed_key_stays(settings: Settings, minted: dict[KeyName, Key]) -> None:
    wrapped = blobs(settings, DOOMED)
    forms = [form for blob in wrapped for form in (blob, blob.hex().encode(), base64.b64encode(blob))]

    def held() -> set[str]:
        files = [path for path in settings.folder.rglob("*") if path.is_file()]
        return {path.name for path in files for form in forms if form in path.read_bytes()}

    assert held(), "they are found where they are"
    destroy(settings, minted)
    assert held() == set()


def test_a_backup_opens_no_destroyed_month_and_a_copied_lake_opens_the_others(
    workspace: Callable[..., Any], tmp_path: Path
) -> None:
    """Copies of everything but the keys from before, and everything that exists afterwards."""
    site = workspace("asterisk")
    for month in ("02", "03"):
        site.land("asterisk", f"Master-{month}.csv", "".join(_calls(month)).encode())
    site.night()
    settings = site.settings
    before = {row.key_id: row for row in _rows(settings) if row.month == "2026-02" and row.blob}
    rows = site.view("billing").num_rows
    secrets = {key_id: ring(settings).by_id(key_id).secret for key_id in before}
    backup = tmp_path / "backup"
    shutil.copytree(settings.folder, backup, ignore=shutil.ignore_patterns("keys"))
    rotation.destroy(settings, list(before), role="retention-run", reason="test")
    found = list(every_root(settings.folder, backup))
    assert len(found) >= 11
    for row in before.values():
        for source in found:
            with pytest.raises(KeyProblem):
                key_register.unwrapped(row, source)
    held = b"".join(path.read_bytes() for path in settings.folder.rglob("*") if path.is_file())
    assert not any(secret in held for secret in secrets.values())
    shutil.rmtree(settings.lake_path)
    shutil.copytree(backup / "lake", settings.lake_path)
    opened = ring(settings)
    assert 0 < _readable(site, opened) < rows


def _rows(settings: Settings) -> list[Any]:
    with database.reading(settings) as connection:
        return list(connection.execute(select(keys)))


def _readable(site: Any, opened: Keyring) -> int:
    """Rows of the billing files whose keys open; each file's keys all open, or none does."""
    from callward.lake.data_files import DataFiles

    count = 0
    for file in site.data_files("billing"):
        try:
            for key_id in file.key_ids.split():
                opened.by_id(key_id)
        except KeyGone:
            assert file.part.startswith("2026-02")
            continue
        assert file.part.startswith("2026-03")
        count += DataFiles(site.opened, "test").rows(file).num_rows
    return count


def _calls(month: str) -> Iterator[str]:
    for n in range(20):
        at = f"2026-{month}-05 10:{n:02d}"
        yield (
            f'"","303555010{n % 10}","720555011{n % 10}","default","","SIP/a-{n}","","Dial","","{at}:00","{at}:05",'
            f'"{at}:25",25,20,"ANSWERED","DOCUMENTATION","{month}.{n}",""\n'
        )
