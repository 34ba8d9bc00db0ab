"""Register exports: an old database gets back what it lacks, and never a key that was destroyed."""

import json
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, update

from callward import audit, database, initiate
from callward.errors import Problem
from callward.keys import approvers, exports, rotation, signing
from callward.keys.keys import Key, KeyDenied, KeyGone, create_local
from callward.keys.register import KeyName, Keyring
from callward.keys.roots import root_file
from callward.settings import Settings
from schemas.release import LOST, PUBLISHED, RESERVED, release_charges, releases
from schemas.retention import roots as epochs_table
from schemas.tables import keys, lake_files
from tests.examples import tries

NAMES = [KeyName("billing", "default", f"2030-0{n}", "meta") for n in range(1, 6)]


@pytest.fixture
def settings(workspace: Callable[..., Any]) -> Settings:
    found: Settings = workspace("asterisk").settings
    return found


def ring(settings: Settings) -> Keyring:
    return Keyring(settings, "billing-run", "test")


def mint(settings: Settings, names: list[KeyName]) -> dict[KeyName, Key]:
    return dict(zip(names, ring(settings).keys(names), strict=True))


def destroy(settings: Settings, *found: Key) -> None:
    rotation.destroy(settings, [key.key_id for key in found], role="retention-run", reason="test")


def kept(settings: Settings, place: Path) -> Path:
    """A copy of the database as it is now."""
    database.engine(settings).dispose()
    return Path(shutil.copyfile(settings.folder / "callward.db", place))


def put_back(settings: Settings, copy: Path) -> None:
    """The old database in the place of the one that was lost."""
    database.engine(settings).dispose()
    for file in settings.folder.glob("callward.db*"):
        file.unlink()
    shutil.copyfile(copy, settings.folder / "callward.db")


def newest(settings: Settings) -> Path:
    return exports.list_exports(settings.register_path)[0]


def opens(settings: Settings, found: dict[KeyName, Key]) -> set[KeyName]:
    """Names of the keys that open, each as it was."""
    able = set()
    for name, key in found.items():
        try:
            assert ring(settings).by_id(key.key_id) == key
            able.add(name)
        except (KeyGone, KeyDenied):
            continue
    return able


def state(settings: Settings) -> Any:
    with database.reading(settings) as connection:
        return [
            list(connection.execute(select(table).order_by(*table.primary_key))) for table in (keys, epochs_table)
        ], audit.head(connection)


# -- writing -----------------------------------------------------------------------------------------------------------


def test_an_export_is_private_signed_and_has_every_key_and_tombstone(settings: Settings) -> None:
    found = mint(settings, NAMES)
    destroy(settings, found[NAMES[0]])
    path = exports.write(settings, "why")
    body = exports.read(settings, path)
    rows, (seq, head) = state(settings)
    assert {row["key_id"]: row["state"] for row in body["keys"]} == {row.key_id: row.state for row in rows[0]}
    assert [row["root_id"] for row in body["roots"]] == [row.root_id for row in rows[1]]
    assert (body["audit"]["seq"], body["audit"]["hash"]) == (seq, head)
    assert (path.name, body["reason"]) == (f"export-{seq}.json", "why")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    text = path.read_text()
    for key in found.values():
        assert key.secret.hex() not in text
        assert key.secret not in path.read_bytes()


def test_only_exports_that_open_something_are_kept(settings: Settings) -> None:
    found = mint(settings, NAMES)
    for _ in range(5):
        exports.write(settings, "again")
    assert 1 < len(exports.list_exports(settings.register_path)) < 5
    destroy(settings, found[NAMES[0]])
    exports.write(settings, "after")
    left = exports.list_exports(settings.register_path)
    with database.reading(settings) as connection:
        alive = set(
            connection.execute(select(epochs_table.c.root_id).where(epochs_table.c.state == "active")).scalars()
        )
    for path in left:
        active = {row["root_id"] for row in json.loads(path.read_text())["body"]["roots"] if row["state"] == "active"}
        assert active <= alive


@pytest.mark.parametrize("change", ["body", "signature", "key", "version", "cut", "other"])
def test_an_export_that_was_altered_changes_nothing(settings: Settings, tmp_path: Path, change: str) -> None:
    mint(settings, NAMES)
    path = exports.write(settings, "why")
    document = json.loads(path.read_text())
    if change == "body":
        document["body"]["keys"][0]["state"] = "retired"
    elif change == "signature":
        document["signature"] = "00" * 64
    elif change == "key":  # signed by somebody else
        signing.create(tmp_path / "eve.sign")
        own = signing.SigningKey(tmp_path / "eve.sign").sign(exports._TAG + exports._canonical(document["body"]))
        document |= {"signature": own.hex(), "public_key": signing.SigningKey(tmp_path / "eve.sign").public.hex()}
    elif change == "version":
        document["body"]["format_version"] = 9
    text = "[]" if change == "other" else json.dumps(document)
    path.write_text(text[:-9] if change == "cut" else text)
    before = state(settings)
    with pytest.raises(Problem, match=r"altered|damaged|does not know"):
        exports.restore(settings, path)
    assert state(settings) == before


# -- restoring ---------------------------------------------------------------------------------------------------------


def test_an_old_database_with_the_newest_export_opens_what_is_alive(settings: Settings, tmp_path: Path) -> None:
    found = mint(settings, NAMES[:3])
    old = kept(settings, tmp_path / "old.db")
    found |= mint(settings, NAMES[3:])
    destroy(settings, found[NAMES[0]], found[NAMES[3]])
    exports.write(settings, "the last")
    put_back(settings, old)
    assert opens(settings, found) == set(), "the old database opens nothing by itself"
    before = state(settings)
    tried = exports.restore(settings, newest(settings), dry_run=True)
    assert state(settings) == before
    done = exports.restore(settings, newest(settings))
    assert opens(settings, found) == {NAMES[1], NAMES[2], NAMES[4]}
    assert done == replace(tried, dry_run=False)
    billing = sum(row.domain == "billing" for row in before[0][0])
    counted = {"added": 2, "changed": billing - 1, "destroyed": 1, "only_here": 0, "closed": 0}
    assert counted.items() <= vars(done.keys).items()
    assert done.audit_entries_lost > 0
    for name in (NAMES[0], NAMES[3]):
        assert rotation.dead(settings, found[name].key_id)
        with pytest.raises(KeyGone):
            ring(settings).key(name)
    with database.reading(settings) as connection:
        audit.verify(connection)


def test_without_any_database_the_export_gives_the_keys_back(settings: Settings) -> None:
    found = mint(settings, NAMES)
    destroy(settings, found[NAMES[0]])
    persons_before = signing.public_key(settings, "custodian")
    database.engine(settings).dispose()
    for file in settings.folder.glob("callward.db*"):
        file.unlink()
    initiate.upgrade(settings, lost=True)
    exports.restore(settings, newest(settings))
    assert opens(settings, found) == set(NAMES[1:])
    assert signing.public_key(settings, "custodian") == persons_before
    assert approvers.list_approvers(settings) == []
    rotation.recover(settings)
    destroy(settings, found[NAMES[1]])
    assert opens(settings, found) == set(NAMES[2:])


@pytest.mark.parametrize("what", ["destroyed since", "rotated since"])
@pytest.mark.parametrize("root", ["new", "old"])
def test_an_older_export_brings_nothing_back(settings: Settings, tmp_path: Path, what: str, root: str) -> None:
    """Not even where somebody kept a copy of the old root, and put that back as well."""
    found, file = mint(settings, NAMES), root_file(settings, "billing")
    assert file is not None
    older = Path(shutil.copyfile(exports.write(settings, "older"), tmp_path / "export-1.json"))
    old_root = file.read_bytes()
    if what == "destroyed since":
        destroy(settings, found[NAMES[0]])
    else:
        rotation.rotate(settings, "billing", role="custodian", reason="test")
    if root == "old":
        file.write_bytes(old_root)
    before = state(settings)
    with pytest.raises(Problem, match="newest export"):
        exports.restore(settings, older)
    assert state(settings) == before


def test_an_old_export_on_an_old_database_meets_a_newer_root(settings: Settings, tmp_path: Path) -> None:
    found = mint(settings, NAMES)
    older = Path(shutil.copyfile(exports.write(settings, "older"), tmp_path / "export-1.json"))
    old = kept(settings, tmp_path / "old.db")
    destroy(settings, found[NAMES[0]])
    put_back(settings, old)
    with pytest.raises(Problem, match="does not fit the root of billing"):
        exports.restore(settings, older)
    assert opens(settings, found) == set()


def test_the_export_of_another_workspace_is_refused(settings: Settings, workspace: Callable[..., Any]) -> None:
    """It has the same keys and roots and even the same signer, but another history."""
    other = workspace("asterisk").settings
    mint(other, NAMES[:2])
    mint(settings, NAMES[:1])
    path = exports.write(other, "other")
    before = state(settings)
    with pytest.raises(Problem, match=r"another|history|of its own"):
        exports.restore(settings, path)
    assert state(settings) == before


def test_a_lost_root_is_said_and_the_others_open(settings: Settings) -> None:
    found = mint(settings, [*NAMES[:2], KeyName("hold", "default", "all", "register")])
    path = exports.write(settings, "why")
    file = root_file(settings, "hold")
    assert file is not None
    file.unlink()
    done = exports.restore(settings, path)
    assert done.roots_missing == ["hold"]
    assert done.keys.closed == 1
    assert opens(settings, found) == set(NAMES[:2])
    create_local(file)
    with pytest.raises(Problem, match="does not fit the root of hold"):
        exports.restore(settings, path)


def test_it_says_which_data_files_are_lost_and_unknown(workspace: Callable[..., Any], tmp_path: Path) -> None:
    site = workspace("asterisk")
    site.land("asterisk", "Master.csv", _CALL)
    site.night()
    settings = site.settings
    old = kept(settings, tmp_path / "old.db")
    with database.reading(settings) as connection:
        files = connection.execute(select(lake_files).where(lake_files.c.superseded_at.is_(None))).all()
        wanted = select(keys).where(keys.c.domain == "billing", keys.c.purpose == "meta")
        used = [row for row in connection.execute(wanted) if any(row.key_id in file.key_ids for file in files)]
    assert len(used) == 1
    rotation.destroy(settings, [used[0].key_id], role="retention-run", reason="test")
    exports.write(settings, "after")
    (archived,) = [file.path for file in files if file.view == "archive"]
    (settings.lake_path / archived).unlink()
    (settings.lake_path / "answered" / "later.parquet").write_bytes(b"PARE")
    put_back(settings, old)
    done = exports.restore(settings, newest(settings))
    assert done.files_without_key == sorted(file.path for file in files if file.view == "billing")
    assert done.files_gone == [archived]
    assert done.files_unknown == 1


_CALL = (
    b'"","3035550100","7205550111","default","","SIP/a-1","","Dial","","2026-03-05 10:00:00","2026-03-05 10:00:05",'
    b'"2026-03-05 10:00:25",25,20,"ANSWERED","DOCUMENTATION","1772730000.1",""\n'
)

_STEP = st.sampled_from(["mint", "destroy", "rotate", "export", "backup"])


@tries(12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_STEP, max_size=9), pick=st.randoms(use_true_random=False))
def test_whatever_happened_a_restore_never_brings_a_destroyed_key_back(
    workspace: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, steps: list[str], pick: Any
) -> None:
    """Old database and newest export: exactly the keys that the export had alive open; and every other pair is refused
    or opens none that was destroyed."""
    settings, aside = workspace("asterisk").settings, tmp_path_factory.mktemp("aside")
    alive: dict[KeyName, Key] = {}
    gone: dict[KeyName, Key] = {}
    backups, exported = [kept(settings, aside / "first.db")], dict(alive)
    taken: list[Path] = []
    taken.append(Path(shutil.copyfile(exports.write(settings, "first"), aside / "first.json")))
    for number, step in enumerate(steps):
        if step == "mint":
            alive |= mint(settings, [KeyName("billing", "default", f"2040-{number:02d}", "meta")])
        elif step == "destroy" and alive:
            name = pick.choice(sorted(alive))
            destroy(settings, alive[name])
            gone[name] = alive.pop(name)
            exported = dict(alive)
        elif step == "rotate":
            rotation.rotate(settings, "billing", role="custodian", reason="test")
            exported = dict(alive)
        elif step == "export":
            exports.write(settings, "test")
            exported = dict(alive)
        elif step == "backup":
            backups.append(kept(settings, aside / f"{number}.db"))
        if step != "backup":
            latest = newest(settings)
            taken.append(Path(shutil.copyfile(latest, aside / f"{number}-{latest.name}")))
    last = Path(shutil.copyfile(newest(settings), aside / "newest.json"))
    put_back(settings, pick.choice(backups))
    with suppress(Problem):
        exports.restore(settings, pick.choice(taken))
    assert opens(settings, gone) == set()
    put_back(settings, pick.choice(backups[:1]))
    exports.restore(settings, last)
    assert opens(settings, alive) >= set(exported)
    assert opens(settings, gone) == set()


def test_a_database_that_minted_on_its_own_is_not_mixed_up(settings: Settings, tmp_path: Path) -> None:
    old = kept(settings, tmp_path / "old.db")
    mint(settings, NAMES)
    path = exports.write(settings, "why")
    put_back(settings, old)
    mint(settings, NAMES[:1])
    before = state(settings)
    with pytest.raises(Problem, match=r"a key of its own|history"):
        exports.restore(settings, path)
    assert state(settings) == before


# -- what was released -------------------------------------------------------------------------------------------------


def _release(connection: Any, number: int, status: str, attempt: int = 1, day: int = 5) -> str:
    """A release of a day, and its charge of `number` nano-rho."""
    release_id = "abcdefgh"[number] * 32
    out = {"published_at": datetime(2030, 1, 9), "files": "{}", "sheet": "{}", "partition": b"sealed"}
    row = dict.fromkeys(("view", "kind", "audience", "unit", "spec_digest", "domains_digest", "snapshot"), "x")
    row |= {"tenant": "default", "name": "calls", "path": f"x/{release_id}", "run_id": "gone", "status": status}
    row |= {"period_start": date(2030, 1, day), "period_end": date(2030, 1, day), "correction_no": 0}
    row |= {"attempt": attempt, "rho": number, "reserved_at": datetime(2030, 1, 9, 1, 2, 3)}
    connection.execute(insert(releases).values(release_id=release_id, **row, **(out if status == PUBLISHED else {})))
    charge = {"tenant": "default", "unit": "subscriber", "window": "all", "rho": number}
    connection.execute(insert(release_charges).values(release_id=release_id, **charge))
    return release_id


def _released(settings: Settings) -> tuple[list[Any], list[Any]]:
    with database.reading(settings) as connection:
        return (
            list(connection.execute(select(releases).order_by(releases.c.rho))),
            list(connection.execute(select(release_charges).order_by(release_charges.c.rho))),
        )


def test_an_older_database_gets_back_what_was_released_and_every_charge(settings: Settings, tmp_path: Path) -> None:
    with database.writing(settings) as connection:
        _release(connection, 1, RESERVED, day=5)
    old = kept(settings, tmp_path / "old.db")
    with database.writing(settings) as connection:
        connection.execute(update(releases).values(status=PUBLISHED, files="{}", partition=b"sealed"))
        _release(connection, 2, LOST, day=6)
        _release(connection, 3, PUBLISHED, attempt=2, day=6)
        under_way = _release(connection, 4, RESERVED, day=7)
    exports.write(settings, "the last")
    rows, charges = _released(settings)
    put_back(settings, old)
    tried = exports.restore(settings, newest(settings), dry_run=True)
    assert len(_released(settings)[0]) == 1
    assert exports.restore(settings, newest(settings)) == replace(tried, dry_run=False)
    assert tried.releases_put_back == 3
    assert _released(settings) == ([row for row in rows if row.release_id != under_way], charges)
    assert [exports.has_release(settings, row.release_id) for row in rows] == [True, False, True, False]


def test_a_restore_takes_no_release_away(settings: Settings, tmp_path: Path) -> None:
    """Not even where this database has released the same period by itself: both are out, and both were paid."""
    old = kept(settings, tmp_path / "old.db")
    with database.writing(settings) as connection:
        _release(connection, 1, PUBLISHED)
    path = exports.write(settings, "the last")
    put_back(settings, old)
    with database.writing(settings) as connection:
        _release(connection, 2, PUBLISHED)
    exports.restore(settings, path)
    rows, charges = _released(settings)
    assert [(row.rho, row.attempt, row.status) for row in rows] == [(1, 2, PUBLISHED), (2, 1, PUBLISHED)]
    assert [charge.rho for charge in charges] == [1, 2]


def test_an_export_from_before_there_were_releases_still_restores(settings: Settings) -> None:
    body = exports.read(settings, exports.write(settings, "older"))
    older = {name: rows for name, rows in body.items() if name not in ("releases", "release_charges")}
    with database.writing(settings) as connection:
        _release(connection, 1, PUBLISHED)
        exports._put(connection, older)
    assert [row.rho for row in _released(settings)[1]] == [1]


def test_signers_of_an_empty_register_say_what_to_do(settings: Settings) -> None:
    path = exports.write(settings, "why")
    with database.writing(settings) as connection:
        connection.execute(delete(epochs_table))
    with pytest.raises(Problem, match="init --upgrade"):
        exports.restore(settings, path)
