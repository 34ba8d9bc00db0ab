import copy
import grp
import os
import pickle
import pwd
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.keys.keys import Key, KeyDenied, KeyGone, KeyProblem, create_local, fingerprint, mint, open_source
from callward.settings import local_uri
from tests.altered import altered


@pytest.fixture
def root(tmp_path):
    return tmp_path / "a root, 100% #1?.key"


def test_a_wrapped_key_opens_under_its_root_and_name_only(root, tmp_path):
    source, other = open_source(create_local(root)), open_source(create_local(tmp_path / "other"))
    blob = source.wrap(b"k" * 32, b"name")
    assert b"k" * 8 not in blob
    assert source.unwrap(blob, b"name") == b"k" * 32
    assert open_source(local_uri(root)).unwrap(blob, b"name") == b"k" * 32
    with pytest.raises(KeyDenied):
        source.unwrap(blob, b"another name")
    with pytest.raises(KeyDenied):
        other.unwrap(blob, b"name")
    assert source.root_id != other.root_id


def test_an_altered_or_cut_blob_is_denied(root):
    source = open_source(create_local(root))
    blob = source.wrap(b"k" * 32, b"name")
    for at in range(len(blob)):
        with pytest.raises(KeyDenied):
            source.unwrap(altered(blob, at), b"name")
        with pytest.raises(KeyDenied):
            source.unwrap(blob[:at], b"name")


def test_wrapping_twice_gives_two_blobs(root):
    source = open_source(create_local(root))
    assert source.wrap(b"k" * 32, b"name") != source.wrap(b"k" * 32, b"name")


def test_a_new_root_is_private_and_never_overwrites(root):
    create_local(root)
    before = root.read_bytes()
    assert stat.S_IMODE(root.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        create_local(root)
    assert root.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o601, 0o777])
def test_a_root_that_others_may_touch_is_refused(root, mode):
    uri = create_local(root)
    root.chmod(mode)
    with pytest.raises(KeyDenied, match=f"{mode:04o}"):
        open_source(uri)


def test_a_root_of_another_user_is_refused(root, monkeypatch):
    uri = create_local(root)
    monkeypatch.setattr(os, "geteuid", lambda: root.stat().st_uid + 1)
    with pytest.raises(KeyDenied, match="another user"):
        open_source(uri)


def test_a_root_that_does_not_exist_is_gone(root):
    uri = create_local(root)
    root.unlink()
    with pytest.raises(KeyGone, match="a root, 100% #1"):
        open_source(uri)


def test_what_is_no_regular_file_is_refused_and_does_not_block(root):
    os.mkfifo(root, 0o600)
    with pytest.raises(KeyDenied):
        open_source(local_uri(root))
    with pytest.raises(KeyProblem):
        open_source(local_uri(root.parent))


@pytest.mark.parametrize(
    "damage", [b"", b"callward-root-1 AAAA\n", b"callward-root-1 %%%\n", b"callward-root-9 ", b"\xff\x00"]
)
def test_a_damaged_root_file_says_so_and_nothing_of_its_content(root, damage):
    create_local(root)
    root.write_bytes(damage)
    with pytest.raises(KeyProblem) as caught:
        open_source(local_uri(root))
    assert "AAAA" not in str(caught.value) and root.name in str(caught.value)


def test_messages_never_hold_key_bytes(root):
    uri = create_local(root)
    secret = root.read_text().split()[1]
    source = open_source(uri)
    assert secret not in repr(source) + source.root_id
    root.chmod(0o644)
    with pytest.raises(KeyDenied) as caught:
        open_source(uri)
    assert secret not in str(caught.value)


def test_a_closed_root_opens_nothing(root):
    source = open_source(create_local(root))
    source.close()
    with pytest.raises(KeyDenied, match="closed"):
        source.wrap(b"k" * 32, b"name")


@pytest.mark.parametrize("uri", ["vault://host/key?token=hunter2", "", "/etc/root.key", "http://x/hunter2"])
def test_an_unknown_scheme_names_the_known_ones_and_not_the_uri(uri):
    with pytest.raises(KeyProblem, match="local:") as caught:
        open_source(uri)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("uri", ["local://env/VARIABLE", "local:", "local:///x?kdf=scrypt", "local:///x#y"])
def test_a_local_root_takes_a_path_and_nothing_else(uri):
    with pytest.raises(KeyProblem, match="local:///path"):
        open_source(uri)


@given(st.binary(min_size=32, max_size=32))
def test_a_key_shows_its_id_and_never_its_secret(secret):
    key = Key("0123456789abcdef" * 2, secret)
    for shown in (repr(key), str(key), f"{key}", repr([key]), repr({"k": key})):
        assert key.key_id in shown
        assert repr(secret)[2:-1] not in shown and secret.hex() not in shown


@pytest.mark.parametrize("attempt", [pickle.dumps, copy.copy, copy.deepcopy])
def test_keys_and_roots_do_not_pickle(root, attempt):
    for secret in (mint(), open_source(create_local(root))):
        with pytest.raises(TypeError, match="does not pickle"):
            attempt(secret)


@pytest.mark.parametrize(
    ("key_id", "secret"),
    [("ab", b"k" * 32), ("A" * 32, b"k" * 32), ("a" * 32, b"k" * 16), ("tenant-1/2026-01".ljust(32), b"k" * 32)],
)
def test_a_key_has_an_opaque_id_and_256_bits(key_id, secret):
    with pytest.raises(ValueError) as caught:
        Key(key_id, secret)
    assert "kkkk" not in str(caught.value)


def test_a_fingerprint_is_of_the_secret_alone_and_fits_a_tombstone():
    first, second = mint(), mint()
    assert fingerprint(first) == fingerprint(Key(second.key_id, first.secret)) != fingerprint(second)
    assert len(bytes.fromhex(fingerprint(first))) == 16


def test_minted_keys_differ():
    keys = [mint() for _ in range(100)]
    assert len({key.key_id for key in keys}) == len({key.secret for key in keys}) == 100


# -- as Kubernetes gives them ------------------------------------------------------------------------------------------

_POD_USER, _POD_GROUP = 61_234, 61_235  # of no user of this system


@pytest.fixture
def secret() -> Iterator[Path]:
    """A root in a Secret's folder: links to `..data`, itself a link to a folder, in which the file is root's."""
    if os.geteuid() != 0:
        pytest.skip("only root makes a file of another user's")
    folder = Path(tempfile.mkdtemp())
    written = folder / "..2026_03_05"
    written.mkdir(mode=0o755)
    create_local(written / "billing.root")
    (folder / "..data").symlink_to(written.name)
    (folder / "billing.root").symlink_to("..data/billing.root")
    for place in (folder, written):
        place.chmod(0o755)
    yield folder / "billing.root"
    shutil.rmtree(folder)


def _as_user(user: int, group: int, groups: list[int], call: Callable[[], object]) -> str:
    """Return what a call comes to in a process of another user's: "" or the name of its error."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        answer = "no answer"
        try:
            os.setgroups(groups)
            os.setgid(group)
            os.setuid(user)
            call()
            answer = ""
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        finally:
            os.write(writing, answer.encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        answer = file.read()
    os.waitpid(child, 0)
    return answer


@pytest.mark.parametrize("mode", [0o440, 0o040])
def test_a_secret_that_the_pods_group_alone_reads_is_opened(secret: Path, mode: int) -> None:
    os.chown(secret.resolve(), 0, _POD_GROUP)
    secret.resolve().chmod(mode)
    for group, groups in ((_POD_USER, [_POD_GROUP]), (_POD_GROUP, [])):
        assert _as_user(_POD_USER, group, groups, lambda: open_source(local_uri(secret))) == ""


@pytest.mark.parametrize("mode", [0o444, 0o644, 0o660, 0o460, 0o441, 0o450])
def test_a_secret_that_others_touch_too_is_denied(secret: Path, mode: int) -> None:
    os.chown(secret.resolve(), 0, _POD_GROUP)
    secret.resolve().chmod(mode)
    told = _as_user(_POD_USER, _POD_USER, [_POD_GROUP], lambda: open_source(local_uri(secret)))
    assert told.startswith("KeyDenied") and f"mode {mode:04o}" in told


def test_a_secret_of_a_group_with_other_members_is_denied(secret: Path) -> None:
    """Whoever is in the group reads the file, too."""
    shared = next(user for user in pwd.getpwall() if user.pw_uid not in (0, _POD_USER))
    os.chown(secret.resolve(), 0, shared.pw_gid)
    secret.resolve().chmod(0o440)
    told = _as_user(_POD_USER, _POD_USER, [shared.pw_gid], lambda: open_source(local_uri(secret)))
    assert told.startswith("KeyDenied") and grp.getgrgid(shared.pw_gid)


def test_a_secret_of_another_users_is_denied(secret: Path) -> None:
    os.chown(secret.resolve(), _POD_USER + 7, _POD_GROUP)
    secret.resolve().chmod(0o440)
    told = _as_user(_POD_USER, _POD_USER, [_POD_GROUP], lambda: open_source(local_uri(secret)))
    assert told.startswith("KeyDenied")
