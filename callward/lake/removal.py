"""The removal of data files from the disk, each with what lies beside it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from callward.settings import Settings
from callward.storage.store import Store
from schemas.views import with_sidecar


class FileOnDisk(NamedTuple):
    """A data file that lies in the lake: its id, and its path below the root."""

    file_id: str
    path: str


def removing(settings: Settings, paths: Sequence[str], others: Sequence[str] = ()) -> Iterator[None]:
    """Remove data files with what lies beside them, and other files of the lake; yield after every few of them.

    All are off the disk, also after a power cut, when the iteration has ended. Those that are not there are passed by.
    """
    store = Store.of(settings)
    for _ in store.removing([name for path in paths for name in with_sidecar(path)] + list(others)):
        yield
    store.settle([*paths, *others])
