"""Durable writes: whole or not at all, on disk before the name, and the only place that makes files last."""

import os
import stat
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from callward.storage.durable import create, create_folder, overwrite, promote, replacing, write_sealed

ROOT = Path(__file__).resolve().parents[3]
BY_HAND = ("os.fsync", "os.replace", "O_EXCL", "os.rename")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done to the disk, in order."""
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(handle: int) -> None:
        done.append("sync folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "sync file")
        fsync(handle)

    def note_replace(draft: Path, path: Path) -> None:
        done.append("rename")
        replace(draft, path)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    return done


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    write_sealed(path, b"first")
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"half")
        file.flush()
        assert path.read_bytes() == b"first"
        raise RuntimeError
    assert names(path.parent) == ["file"]
    write_sealed(path, pa.py_buffer(b"second"))
    assert path.read_bytes() == b"second" and names(path.parent) == ["file"]


def test_a_file_is_synced_before_it_is_named_and_the_folder_after(tmp_path: Path, steps: list[str]) -> None:
    write_sealed(tmp_path / "file", b"x")
    assert steps == ["sync file", "rename", "sync folder"]


def test_a_name_that_cannot_be_taken_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError), replacing(tmp_path / "file") as file:
        file.write(b"x")
    assert names(tmp_path) == ["file"]


def test_a_draft_that_cannot_be_promoted_is_kept(tmp_path: Path) -> None:
    """It may be the only copy of a new root key."""
    (tmp_path / "file").mkdir()
    draft = create(tmp_path / "file.next", b"new")
    with pytest.raises(IsADirectoryError):
        promote(draft, tmp_path / "file")
    assert draft.read_bytes() == b"new"


def test_a_file_that_need_not_last_is_whole_all_the_same(tmp_path: Path, steps: list[str]) -> None:
    with replacing(tmp_path / "file", lasting=False) as file:
        file.write(b"x")
        assert not (tmp_path / "file").exists()
    assert (tmp_path / "file").read_bytes() == b"x" and steps == ["rename"]


def test_a_file_goes_to_other_file_systems_too(tmp_path: Path) -> None:
    remote = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    write_sealed("file", b"x", remote)
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_new_file_is_its_owners_alone_and_on_disk(tmp_path: Path, steps: list[str]) -> None:
    create(tmp_path / "key", b"secret")
    assert mode(tmp_path / "key") == 0o600
    assert steps == ["sync file", "sync folder"]


def test_a_new_file_touches_none_that_is_there(tmp_path: Path) -> None:
    create(tmp_path / "key", b"first")
    with pytest.raises(FileExistsError):
        create(tmp_path / "key", b"second")
    assert (tmp_path / "key").read_bytes() == b"first"


@pytest.mark.parametrize("there", [True, False])
def test_what_is_written_follows_no_link_that_lies_there(tmp_path: Path, there: bool) -> None:
    elsewhere, link = tmp_path / "elsewhere", tmp_path / "file"
    if there:
        elsewhere.write_bytes(b"somebody's")
    link.symlink_to(elsewhere)
    with pytest.raises(FileExistsError):
        create(link, b"key")
    with replacing(link) as file:
        file.write(b"data")
    assert (link.read_bytes(), link.is_symlink()) == (b"data", False)
    assert elsewhere.exists() == there and (not there or elsewhere.read_bytes() == b"somebody's")


def test_a_new_folder_appears_whole_and_takes_nothing_from_a_killed_try(tmp_path: Path, steps: list[str]) -> None:
    draft = tmp_path / "release.tmp"
    draft.mkdir()
    (draft / "half").write_bytes(b"left by a killed run")
    create_folder(tmp_path / "release", {"cells.csv": b"1", "sheet.json": b"2"})
    assert names(tmp_path) == ["release"] and names(tmp_path / "release") == ["cells.csv", "sheet.json"]
    assert steps.count("sync file") == 2 and steps[-1] == "sync folder"


def test_overwritten_bytes_are_gone_and_the_file_as_long(tmp_path: Path, steps: list[str]) -> None:
    path = create(tmp_path / "key", b"secret" * 20)
    steps.clear()
    overwrite(path)
    assert b"secret" not in path.read_bytes() and path.stat().st_size == 120
    assert steps == ["sync file"]


def test_nothing_else_makes_files_last() -> None:
    """One durable write: who needs another kind changes this one, so that a power cut is thought of once."""
    for layer in ("schemas", "callward", "transforms", "pipelines"):
        for path in (ROOT / layer).rglob("*.py"):
            if path != ROOT / "callward/storage/durable.py":
                text = path.read_text(encoding="utf-8")
                assert [call for call in BY_HAND if call in text] == [], path
