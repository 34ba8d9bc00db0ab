"""The store: a folder and a bucket do the same, and what an object store refuses is one sentence."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from callward import failpoints
from callward.settings import Lake, Settings
from callward.storage import store as store_module
from callward.storage.store import NO_VERSIONS, SUSPENDED, VERSIONS, Store, StoreProblem
from tests.examples import tries
from tests.object_stores import CREDENTIALS, REGION, ObjectStore, before


def _opened(lake: Lake, folder: Path = Path("/nowhere")) -> Store:
    opened = Store.of(Settings(path=folder / "callward.toml", lake=lake))
    opened.prepare()
    return opened


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """One of each kind, empty."""
    if request.param == "file":
        return _opened(Lake(), tmp_path)
    return _opened(request.getfixturevalue("object_store").lake())


# -- one file ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lasting", [True, False])
@pytest.mark.parametrize("size", [0, 1, 100_000, 12_000_000])  # the last is more than one part of an upload
def test_what_is_written_is_read(store: Store, size: int, lasting: bool) -> None:
    data = os.urandom(size)
    store.write("a/b=1/file.seal", data, lasting=lasting)
    assert store.read("a/b=1/file.seal") == data
    assert store.size("a/b=1/file.seal") == size
    with store.stream("a/b=1/file.seal") as stream:
        assert stream.read() == data
        stream.seek(size // 2)
        assert stream.read(1000) == data[size // 2 :][:1000]
    with store.filesystem.open_input_file(store.full("a/b=1/file.seal")) as source:
        assert source.read() == data


@pytest.mark.parametrize("lasting", [True, False])
def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path, lasting: bool) -> None:
    store, elsewhere = _opened(Lake(), tmp_path), tmp_path / "elsewhere"
    store.write("a/other", b"x")
    store.named("a/file").symlink_to(elsewhere)
    store.write("a/file", b"sealed", lasting=lasting)
    assert store.read("a/file") == b"sealed" and not elsewhere.exists()


def test_a_file_that_is_not_there_is_not_found(store: Store) -> None:
    store.write("a/file", b"x")
    assert store.exists("a/file")
    for path in ("b", "a/other"):
        assert not store.exists(path)
        for way in (store.read, store.stream, store.size):
            with pytest.raises(FileNotFoundError):
                way(path)


def test_a_store_opens_once_in_a_process_and_again_in_a_child(store: Store, tmp_path: Path) -> None:
    store.write("a", b"ours")
    child = os.fork()
    if not child:
        signal.alarm(20)  # a client that waits for threads of its parent would never end
        os._exit(0 if store.read("a") == b"ours" else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_settings_that_are_equal_share_a_store(tmp_path: Path) -> None:
    assert _opened(Lake(), tmp_path) is _opened(Lake(), tmp_path)
    assert _opened(Lake(), tmp_path) is not _opened(Lake(), tmp_path / "other")
    assert _opened(Lake(), tmp_path).describe() == str(tmp_path / "lake")


# -- many files --------------------------------------------------------------------------------------------------------

_NAMES = st.sampled_from(["a", "a/x", "b=1/c", "b=1/d e", "b=1/c2/.x.tmp", "transit/r1-a.seal", "z.parquet.ids"])
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), _NAMES, st.binary(max_size=20)),
        st.tuples(st.just("remove"), st.lists(_NAMES, max_size=4), st.none()),
        st.tuples(st.just("look"), st.sampled_from(["", "a", "b=1", "b=1/c2", "transit", "nothing"]), st.none()),
    ),
    max_size=12,
)


@tries(20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_STEPS)
def test_a_folder_and_a_bucket_do_the_same(
    steps: list[Any], object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """After any steps both hold what a dictionary holds, and say so in the same words."""
    folder = _opened(Lake(), tmp_path_factory.mktemp("store"))
    bucket = _opened(object_store.lake())
    model: dict[str, bytes] = {}
    for kind, what, data in steps:
        if kind == "write" and not _in_the_way(what, model):
            model[what] = data
        for store in (folder, bucket):
            if kind == "write" and model.get(what) == data:
                store.write(what, data)
            elif kind == "remove":
                store.remove(path for path in what if not _in_the_way(path, model))
        if kind == "remove":
            model = {path: body for path, body in model.items() if path not in what}
        under = what + "/" if kind == "look" and what else ""
        expected = {path: len(body) for path, body in model.items() if path.startswith(under)}
        for store in (folder, bucket):
            assert {f.path: f.size for f in store.list(under.rstrip("/"))} == expected
            assert {path: store.read(path) for path in model} == model


def _in_the_way(path: str, model: dict[str, bytes]) -> bool:
    """A file system cannot have a file and a folder of one name, and no lake does."""
    return any(path.startswith(f"{other}/") or other.startswith(f"{path}/") for other in (*model, "a/x"))


def test_removing_says_what_is_gone_and_passes_by_what_is_not_there(store: Store) -> None:
    paths = [f"f/{n}" for n in range(150)]
    for path in paths[::10]:
        store.write(path, b"x", lasting=False)
    seen: list[str] = []
    for some in store.removing(paths):
        seen += some
        assert not {file.path for file in store.list()} & set(seen)
    assert seen == paths
    store.settle(paths)
    assert list(store.list()) == []


def test_files_say_when_they_were_written(store: Store, tmp_path: Path) -> None:
    (tmp_path / "now").touch()
    now = (tmp_path / "now").stat().st_mtime
    store.write("a", b"x")
    (file,) = store.list()
    assert abs(file.modified - now) < 5


def test_a_bucket_holds_the_files_below_its_prefix_and_nothing_of_its_neighbours(object_store: ObjectStore) -> None:
    lake = object_store.lake()
    ours, theirs = _opened(lake), _opened(lake.model_copy(update={"uri": lake.uri + "2"}))
    ours.write("a", b"ours")
    theirs.write("a", b"theirs")
    assert (ours.read("a"), [file.path for file in ours.list()]) == (b"ours", ["a"])
    ours.remove(["a"])
    assert theirs.read("a") == b"theirs"
    assert str(theirs.named("a")) == f"{lake.uri}2/a"


# -- whole or not at all -----------------------------------------------------------------------------------------------


def test_one_upload_shows_when_it_is_complete(object_store: ObjectStore) -> None:
    """Readers of an object that is written again and again see one of its versions, never a part."""
    store = _opened(object_store.lake())
    bodies = [bytes([n]) * 11_000_000 for n in range(3)]
    store.write("a", bodies[0])
    over = threading.Event()
    found: list[bytes] = []

    def look() -> None:
        while not over.is_set():
            found.append(store.read("a"))

    reader = threading.Thread(target=look)
    reader.start()
    for body in bodies:
        store.write("a", body)
    over.set()
    reader.join()
    assert found and all(body in bodies for body in found)


def test_a_part_that_is_refused_leaves_no_object(object_store: ObjectStore) -> None:
    refused = threading.Event()

    def answer(method: str, path: str) -> tuple[int, str] | None:
        if method == "PUT" and "partNumber=2" in path:
            refused.set()
            return 403, "AccessDenied"
        return None

    lake = object_store.lake()
    with before(object_store.endpoint, answer) as endpoint, pytest.raises(StoreProblem, match="refuses"):
        _opened(lake.model_copy(update={"endpoint": endpoint})).write("a", os.urandom(25_000_000))
    assert refused.is_set()
    assert object_store.objects(lake) == {}


# -- what an object store says -----------------------------------------------------------------------------------------


def _ways(store: Store) -> dict[str, Callable[[], Any]]:
    return {
        "read": lambda: store.read("a"),
        "stream": lambda: store.stream("a"),
        "write": lambda: store.write("a", b"x"),
        "size": lambda: store.size("a"),
        "exists": lambda: store.exists("a"),
        "remove": lambda: store.remove(["a"]),
        "list": lambda: list(store.list()),
        "versions": store.versions,
    }


def _check_sentence(problem: StoreProblem, words: str) -> None:
    said = str(problem)
    assert words in said and said.count("\n") == 0
    assert "AWS Error" not in said and not any(secret in said for secret in list(CREDENTIALS.values())[:2])


@pytest.mark.parametrize("way", ["read", "stream", "write", "size", "exists", "remove", "list", "versions"])
@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "AccessDenied", "refuses"),
        (403, "SignatureDoesNotMatch", "refuses"),
        (400, "ExpiredToken", "refuses"),
        (404, "NoSuchBucket", "there is no bucket"),
        (301, "PermanentRedirect", ""),
        (507, "XMinioStorageFull", "no space left"),
        (418, "Teapot", "answers"),
    ],
)
def test_a_refusal_is_one_sentence_without_secrets(
    object_store: ObjectStore, way: str, status: int, code: str, words: str
) -> None:
    if status == 507 and way != "write":
        pytest.skip("only a write needs space")
    with before(object_store.endpoint, lambda *_: (status, code)) as endpoint:
        store = _opened(Lake(uri="s3://some-bucket/lake", endpoint=endpoint, region=REGION))
        with pytest.raises(StoreProblem) as wrong:
            _ways(store)[way]()
    _check_sentence(wrong.value, words)


def test_a_bucket_that_is_not_there_is_said_by_every_way(object_store: ObjectStore) -> None:
    store = _opened(Lake(uri="s3://no-such-bucket/lake", endpoint=object_store.endpoint, region=REGION))
    for name, way in _ways(store).items():
        with pytest.raises(StoreProblem) as wrong:
            way()
            pytest.fail(f"{name} did not say so")
        _check_sentence(wrong.value, "there is no bucket 'no-such-bucket'")


def test_a_store_that_is_away_is_one_sentence(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_ATTEMPTS", 2)
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # bound, and nobody listens
        endpoint = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        store = _opened(Lake(uri="s3://some-bucket/lake", endpoint=endpoint, region=REGION))
        with pytest.raises(StoreProblem) as wrong:
            store.read("a")
    _check_sentence(wrong.value, "does not answer")


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (503, "ServiceUnavailable")])
def test_what_passes_by_itself_is_asked_again(object_store: ObjectStore, status: int, code: str) -> None:
    """Each request is refused twice; so many retries are invisible, but for the time."""
    lake, asked, data = object_store.lake(), dict[tuple[str, str], int](), os.urandom(1000)

    def answer(method: str, path: str) -> tuple[int, str] | None:
        asked[method, path] = asked.get((method, path), 0) + 1
        return (status, code) if asked[method, path] <= 2 else None

    with before(object_store.endpoint, answer) as endpoint:
        store = _opened(lake.model_copy(update={"endpoint": endpoint}))
        store.write("a", data)
        assert store.read("a") == data
    assert object_store.objects(lake) == {"a": data}
    assert min(asked.values()) == 3


def test_a_certificate_file_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(StoreProblem, match="ca_file"):
        _opened(Lake(uri="s3://some-bucket", endpoint="https://127.0.0.1:1", ca_file="/nonexistent/ca.pem"))


# -- versions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "found"), [(None, NO_VERSIONS), ("Enabled", VERSIONS)])
def test_a_bucket_that_keeps_what_is_removed_is_found_out(
    object_store: ObjectStore, state: str | None, found: str
) -> None:
    lake = object_store.lake()
    if state:
        bucket = lake.uri.removeprefix("s3://").partition("/")[0]
        object_store.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": state})
    assert _opened(lake).versions() == found
    assert object_store.objects(lake) == {}
    assert _opened(Lake()).versions() is None


def test_a_bucket_whose_versions_were_switched_off_is_found_out_where_the_store_says_so(
    object_store: ObjectStore,
) -> None:
    """Amazon's says "null" of an object without a version in a bucket that had some."""
    with before(object_store.endpoint, lambda *_: None, {"x-amz-version-id": "null"}) as endpoint:
        assert _opened(object_store.lake(endpoint=endpoint)).versions() == SUSPENDED


@pytest.fixture(autouse=True)
def _no_crash_point(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CALLWARD_CRASH_AT", raising=False)
    yield
    failpoints._PASSED.clear()
