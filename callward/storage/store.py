"""The store: where the lake's files lie, in a folder of a file system or in a bucket of an object store.

Every file has a path below the lake's root, written with "/", and is written once, whole or not at all: on a file
system under a temporary name, synced and renamed; in a bucket by one upload, which shows when it is complete. A bucket
knows no rename and no folders, and needs none: only the manifest makes files count.

What an object store says is never passed on: its answers quote requests. A store that is away, refuses, or has no such
bucket raises StoreProblem, one sentence; a file that is not there raises FileNotFoundError, as on a disk.
"""

import io
import os
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path, PurePath, PurePosixPath
from typing import Final

import pyarrow as pa
import pyarrow.fs as pafs

from callward.errors import Problem
from callward.settings import Lake, Settings
from callward.storage.durable import Bytes, replacing, sync_folder, view_of, write_sealed

MARK: Final = "workspace.id"  # at the lake's root: whose it is; `list` passes it by
TRANSIT: Final = "transit"  # below the lake's root: batches in flight
# What an object store does with a file that was removed.
NO_VERSIONS, VERSIONS, SUSPENDED = "none are kept", "kept", "not kept any more, but those of before may be there"

_ABREAST: Final = 16  # removals under way at once: each is a few requests, and all of it is waiting
_ATTEMPTS: Final = 6  # of one request, the pauses between them doubling: half a minute at most
_CONNECT_S: Final = 5.0
_READ_AHEAD: Final = 8 << 20  # of a stream: each request costs as much as some MiB
_AWS: Final = re.compile(r"AWS Error ([A-Z_]+)(?: \(HTTP status (\d{3})\))?")
_NAMED: Final = re.compile(r"Unable to parse ExceptionName: ([A-Za-z]+)")  # an error that the SDK has no name for
_AWAY: Final = frozenset({"NETWORK_CONNECTION", "REQUEST_TIMEOUT"})
_BUSY: Final = frozenset({"SLOW_DOWN", "SERVICE_UNAVAILABLE", "INTERNAL_FAILURE", "INTERNAL_ERROR", "THROTTLING"})
_REFUSED: Final = re.compile(r"ACCESS_?DENIED|CREDENTIAL|TOKEN|ACCESS_?KEY|SIGNATURE|OPT_IN", re.IGNORECASE)
_FULL: Final = re.compile(r"Full|Quota", re.IGNORECASE)


class StoreProblem(Problem):
    """The object store is away, refuses, or is not as the settings say. One sentence, without what it answered."""

    code = "storage"


@dataclass(frozen=True)
class Stored:
    """A file of the store: its path below the root, its size in bytes, when it was written (seconds since 1970)."""

    path: str
    size: int
    modified: float


class ObjectPath(PurePosixPath):
    """The name of an object as a person writes it, for reports: s3://bucket/key."""

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)


class Store(ABC):
    """The files of one lake. Safe in threads; `of` gives each process its own."""

    _abreast = 1  # how many files `removing` takes at a time

    def __init__(self, filesystem: pafs.FileSystem) -> None:
        self.filesystem = filesystem

    @staticmethod
    def of(settings: Settings) -> "Store":
        """Return the store of these settings, opened once in a process.

        Raises StoreProblem for settings that cannot be.
        """
        name = (settings.lake, settings.folder if settings.lake.is_local else None, os.getpid())
        with _LOCK:
            if name not in _OPEN:
                _OPEN[name] = _Folder(settings.lake_path) if settings.lake.is_local else _Bucket(settings.lake)
            return _OPEN[name]

    # -- where a file lies ------------------------------------------------------------------------------------------

    @abstractmethod
    def full(self, path: str) -> str:
        """Return how `filesystem` calls a file."""

    @abstractmethod
    def named(self, path: str) -> PurePath:
        """Return how a report calls a file."""

    @abstractmethod
    def describe(self) -> str:
        """Return the store, for messages."""

    # -- one file ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Return all of a file."""

    @abstractmethod
    def stream(self, path: str) -> io.BufferedReader:
        """Return a file to read in order, or from any place.

        What fails while it is read is an OSError: see `answering`.
        """

    @abstractmethod
    def write(self, path: str, data: Bytes, *, lasting: bool = True) -> None:
        """Write a file, whole or not at all, and to stay. Not `lasting`: a power cut may take it or leave a part."""

    @abstractmethod
    def size(self, path: str) -> int:
        """Return bytes of a file."""

    def exists(self, path: str) -> bool:
        """Return whether there is such a file."""
        try:
            self.size(path)
        except FileNotFoundError:
            return False
        return True

    # -- many files -------------------------------------------------------------------------------------------------

    @abstractmethod
    def remove(self, paths: Iterable[str]) -> None:
        """Remove files; those that are not there are passed by."""

    def removing(self, paths: Iterable[str]) -> Iterator[Sequence[str]]:
        """Remove files a few at a time, and yield those that are gone now: a run may be killed in between."""
        left = iter(paths)
        while batch := tuple(islice(left, self._abreast)):
            self.remove(batch)
            yield batch

    @abstractmethod
    def settle(self, paths: Iterable[str]) -> None:
        """Make removals of these files last through a power cut."""

    @abstractmethod
    def list(self, folder: str = "") -> Iterator[Stored]:
        """Yield every file at any depth below a folder of the lake, in no order; none where there is no such folder.

        MARK is none of them.
        """

    # -- the whole --------------------------------------------------------------------------------------------------

    @abstractmethod
    def prepare(self) -> None:
        """Make the lake's root where that is a folder. Buckets are made by those who own them."""

    @abstractmethod
    def versions(self) -> str | None:
        """Return what becomes of removed files: VERSIONS, SUSPENDED or NO_VERSIONS of a store; None of a folder.

        It is asked by a file that is written, read and removed: only such an answer says so to every program that may
        write. So this also tries all that a night needs.
        """

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Raise what the store refuses within as StoreProblem. For reads through `filesystem` and `stream`."""
        try:
            yield
        except OSError as error:
            problem = self.problem(str(error))
            if problem is None:
                raise
            raise problem from None

    def problem(self, message: str) -> StoreProblem | None:
        """Return what an error's message comes to when it is the object store's; None for any other."""
        return None


_OPEN: dict[tuple[Lake, Path | None, int], Store] = {}
_LOCK = threading.Lock()


def is_refusal(error: BaseException) -> bool:
    """Return whether an error of Arrow's is an object store's answer, and no matter of what a file holds."""
    return _AWS.search(str(error)) is not None


# -- a folder ----------------------------------------------------------------------------------------------------------


class _Folder(Store):
    """A lake on a file system."""

    def __init__(self, root: Path) -> None:
        super().__init__(pafs.LocalFileSystem())
        self._root = root

    def full(self, path: str) -> str:
        return str(self._root / path)

    def named(self, path: str) -> Path:
        return self._root / path

    def describe(self) -> str:
        return str(self._root)

    def _check_root(self) -> None:
        """Raise StoreProblem where the lake is gone: a new one would be made where a disk is not mounted."""
        if not self._root.is_dir():
            raise StoreProblem(f"there is no lake {self._root}; mount it, or fix lake.uri")

    @contextmanager
    def answering(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            self._check_root()
            raise

    def read(self, path: str) -> bytes:
        with self.answering():
            return (self._root / path).read_bytes()

    def stream(self, path: str) -> io.BufferedReader:
        with self.answering():
            return (self._root / path).open("rb")

    def write(self, path: str, data: Bytes, *, lasting: bool = True) -> None:
        target = self._root / path
        self._check_root()
        try:
            with replacing(target, lasting=lasting) as file:
                file.write(view_of(data))
        except (PermissionError, NotADirectoryError) as error:
            raise StoreProblem(f"the lake {self._root} cannot be written: {error.strerror}") from None

    def size(self, path: str) -> int:
        return (self._root / path).stat().st_size

    def remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            (self._root / path).unlink(missing_ok=True)

    def settle(self, paths: Iterable[str]) -> None:
        for folder in sorted({(self._root / path).parent for path in paths}):
            if folder.is_dir():
                sync_folder(folder)

    def list(self, folder: str = "") -> Iterator[Stored]:
        for place, _, names in os.walk(self._root / folder):
            below = Path(place).relative_to(self._root)
            for name in names:
                if (below / name).as_posix() == MARK:
                    continue
                with suppress(FileNotFoundError):  # it went away meanwhile
                    status = Path(place, name).lstat()
                    yield Stored((below / name).as_posix(), status.st_size, status.st_mtime)

    def prepare(self) -> None:
        try:
            self._root.mkdir(parents=True, exist_ok=True, mode=0o750)
        except OSError as error:
            raise StoreProblem(f"the lake {self._root} cannot be made: {error.strerror}; fix lake.uri") from None

    def versions(self) -> str | None:
        return None


# -- a bucket ----------------------------------------------------------------------------------------------------------


class _Bucket(Store):
    """A lake in a bucket of an object store that speaks S3."""

    _abreast = 8 * _ABREAST

    def __init__(self, lake: Lake) -> None:
        self._uri, self._endpoint = lake.uri, lake.endpoint
        self._base = lake.uri.removeprefix("s3://")
        self._bucket = self._base.partition("/")[0]
        if lake.ca_file is not None and not os.access(lake.ca_file, os.R_OK):
            raise StoreProblem(f"{lake.ca_file} (lake.ca_file) cannot be read")
        super().__init__(_s3(lake))

    def full(self, path: str) -> str:
        return f"{self._base}/{path}"

    def named(self, path: str) -> ObjectPath:
        return ObjectPath(f"{self._uri}/{path}")

    def describe(self) -> str:
        return f"{self._uri} at {self._endpoint}" if self._endpoint else self._uri

    def read(self, path: str) -> bytes:
        with self.answering(), self.filesystem.open_input_file(self.full(path)) as source:
            found: bytes = source.read()
            return found

    def stream(self, path: str) -> io.BufferedReader:
        with self.answering():
            source = self.filesystem.open_input_file(self.full(path))
            if source.size() > _READ_AHEAD:
                return io.BufferedReader(_Reading(source), _READ_AHEAD)
            with source:
                return io.BufferedReader(io.BytesIO(source.read()))

    def write(self, path: str, data: Bytes, *, lasting: bool = True) -> None:
        with self.answering():
            write_sealed(self.full(path), data, self.filesystem)

    def size(self, path: str) -> int:
        with self.answering():
            info = self.filesystem.get_file_info(self.full(path))
            if info.type != pafs.FileType.File:
                raise FileNotFoundError(f"{self.named(path)} is not there")
        return int(info.size)

    def remove(self, paths: Iterable[str]) -> None:
        with ThreadPoolExecutor(_ABREAST, "remove") as pool:
            for _ in pool.map(self._remove, list(paths)):
                pass

    def _remove(self, path: str) -> None:
        with suppress(FileNotFoundError), self.answering():
            self.filesystem.delete_file(self.full(path))

    def settle(self, paths: Iterable[str]) -> None:
        pass  # what was answered lasts

    def list(self, folder: str = "") -> Iterator[Stored]:
        base = f"{self._base}/{folder}".rstrip("/")
        with self.answering():
            infos = self.filesystem.get_file_info(pafs.FileSelector(base, recursive=True, allow_not_found=True))
        if not infos:
            self._check_bucket()
        cut = len(self._base) + 1
        for info in infos:
            if info.type == pafs.FileType.File and info.path[cut:] != MARK:
                yield Stored(info.path[cut:], info.size, _seconds(info.mtime))

    def prepare(self) -> None:
        pass

    def versions(self) -> str | None:
        path = f"{TRANSIT}/probe-{os.urandom(8).hex()}.seal"
        self.write(path, b"")
        try:
            with self.answering(), self.filesystem.open_input_stream(self.full(path)) as source:
                version = (source.metadata() or {}).get("VersionId")
        finally:
            self.remove([path])
        return NO_VERSIONS if version is None else SUSPENDED if version == b"null" else VERSIONS

    @contextmanager
    def answering(self) -> Iterator[None]:
        try:
            with super().answering():
                yield
        except FileNotFoundError:
            self._check_bucket()  # a bucket that is not there says the same of every file
            raise

    def _check_bucket(self) -> None:
        with super().answering():
            if self.filesystem.get_file_info(self._bucket).type == pafs.FileType.NotFound:
                raise StoreProblem(self._without_bucket())

    def _without_bucket(self) -> str:
        return f"there is no bucket {self._bucket!r} for the lake {self.describe()}; make it, or fix lake.uri"

    def problem(self, message: str) -> StoreProblem | None:
        match = _AWS.search(message)
        if match is None:
            return None
        named = _NAMED.search(message)
        return StoreProblem(self._sentence(named[1] if named else match[1], match[2] or ""))

    def _sentence(self, name: str, status: str) -> str:
        where = f"the object store of the lake {self.describe()}"
        if name in _AWAY:
            return f"{where} does not answer"
        if name in ("NO_SUCH_BUCKET", "NoSuchBucket"):
            return self._without_bucket()
        # A token that has expired is a bare 400 where the question was HEAD, whose answer has no words.
        if _REFUSED.search(name) or status in ("401", "403") or (name, status) == ("UNKNOWN", "400"):
            return f"{where} refuses: look at the credentials in the environment, and at what their owner may do there"
        if status in ("301", "307", "400") and "Redirect" in name:
            return f"{where} says that the bucket is in another region; fix lake.region"
        if _FULL.search(name) or status == "507":
            return f"no space left in {where}; make room, and run again"
        if name in _BUSY or status.startswith("5"):
            return f"{where} cannot serve at the moment; run again"
        return f"{where} answers with {name}{f' (status {status})' if status else ''}"


def _seconds(moment: datetime | None) -> float:
    return moment.timestamp() if moment is not None else 0.0


def _s3(lake: Lake) -> pafs.S3FileSystem:
    """Return Arrow's client.

    Credentials come from where the SDK looks: environment, profile, the machine's own role.
    """
    more: Mapping[str, str | None] = {
        "endpoint_override": lake.endpoint,
        "region": lake.region,
        "role_arn": lake.role,
        "tls_ca_file_path": lake.ca_file,
    }
    return pafs.S3FileSystem(
        **{name: value for name, value in more.items() if value is not None},
        force_virtual_addressing=lake.virtual_hosts,
        allow_delayed_open=True,  # a file that fits one part is then one PUT
        background_writes=True,  # otherwise closing after a part that failed completes the upload without that part
        connect_timeout=_CONNECT_S,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
    )


class _Reading(io.RawIOBase):
    """An object of the store as Python's readers want it."""

    def __init__(self, source: pa.NativeFile) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return int(self._source.readinto(buffer))

    def readall(self) -> bytes:
        found: bytes = self._source.read()  # the usual one asks for 8 KiB at a time
        return found

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._source.seek(offset, whence))

    def tell(self) -> int:
        return int(self._source.tell())

    def close(self) -> None:
        if not self.closed:
            self._source.close()
            super().close()
