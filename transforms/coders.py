"""Arrow batches are sealed whenever they leave a worker's memory: shuffle, spill, checkpoint, pickle.

Importing this module makes `SealedCoder` the coder of `pa.Table` and `pa.RecordBatch`, and teaches pickle itself to
seal them and the columns they are made of. The second half closes what the first leaves open: a step without type
hints falls back to Beam's pickling coder, which would carry a slice's parent rows along in the clear.

What is pickled is a `Transit`: the reference of a key and the name of the function that opens it, never a key.
"""

import copyreg
import importlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import pyarrow as pa
from apache_beam import coders
from apache_beam.coders.typecoders import registry

from callward.keys.seal import Sealer, compact

__all__ = ["SealedCoder", "Transit", "compact", "use_transit"]

Batch: TypeAlias = pa.Table | pa.RecordBatch
Opener: TypeAlias = Callable[[str], Sealer]

_AAD: Final = b"callward transit 1"


@dataclass(frozen=True)
class Transit:
    """How any process finds the transit key: `opener` ("module:function") is called with `reference`."""

    reference: str
    opener: str

    def sealer(self) -> Sealer:
        """Return the sealer, opened once per process."""
        with _LOCK:
            if self not in _SEALERS:
                _SEALERS[self] = _imported(self.opener)(self.reference)
            return _SEALERS[self]

    def __reduce__(self) -> tuple[Any, ...]:
        return _handed, (self.reference, self.opener)


_SEALERS: dict[Transit, Sealer] = {}
_LOCK = threading.RLock()
os.register_at_fork(after_in_child=lambda: globals().update(_LOCK=threading.RLock()))  # its holder may not exist there

_default: Transit | None = None


def use_transit(reference: str, opener: Opener) -> Transit:
    """Seal under the key of `reference` from now on, in every pipeline that this process builds.

    `opener` turns the reference into a `Sealer`, here and on other processes, so it is a function that a worker can
    import: ValueError for a lambda, a nested function or one of `__main__`.
    """
    global _default
    name = f"{opener.__module__}:{opener.__qualname__}"
    if opener.__module__ == "__main__" or "<" in name or _imported(name) is not opener:
        raise ValueError("a transit opener is a function that other processes can import")
    _default = Transit(reference, name)
    return _default


def _handed(reference: str, opener: str) -> Transit:
    """A transit that came from another process: a worker that was told nothing else seals under it too."""
    global _default
    transit = Transit(reference, opener)
    _default = _default or transit
    return transit


def _imported(name: str) -> Opener:
    module, _, attribute = name.partition(":")
    found: Opener = getattr(importlib.import_module(module), attribute)
    return found


def _transit() -> Transit:
    if _default is None:
        raise RuntimeError("a batch would leave this process, but no transit key was named: call use_transit first")
    return _default


class SealedCoder(coders.Coder):
    """Arrow IPC (lz4), sealed under a transit key. One coder object carries tables or record batches, not both.

    Without a `transit` it takes the process's own (`use_transit`) when it is made. Encoding the same batch twice gives
    different bytes, so batches are never keys.
    """

    def __init__(self, kind: type = pa.Table, transit: Transit | None = None) -> None:
        self._kind = kind
        self._transit = transit or _transit()

    @classmethod
    def from_type_hint(cls, typehint: Any, registry: Any) -> Any:
        return cls(typehint)

    def encode(self, value: Batch) -> bytes:
        return _seal(value, self._transit)

    def decode(self, encoded: bytes) -> Batch:
        return _load(self._kind, self._transit, encoded)

    def estimate_size(self, value: Batch) -> int:
        """Bytes of the batch's own rows: without it Beam would encode each batch to measure it."""
        return int(value.nbytes)

    def is_deterministic(self) -> bool:
        return False

    def to_type_hint(self) -> type:
        return self._kind

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SealedCoder) and (self._kind, self._transit) == (other._kind, other._transit)

    def __hash__(self) -> int:
        return hash((self._kind, self._transit))

    def __repr__(self) -> str:
        return f"SealedCoder({self._kind.__name__})"


def _seal(batch: Batch, transit: Transit) -> bytes:
    table = batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
    return transit.sealer().seal_table(table, _AAD)


def _load(kind: type, transit: Transit, encoded: bytes) -> Batch:
    table = transit.sealer().open_table(encoded, _AAD)
    return table if kind is pa.Table else _one_batch(table)


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)


# -- pickle ------------------------------------------------------------------------------------------------------------


def _reduce_batch(batch: Batch) -> tuple[Any, ...]:
    transit = _transit()
    return _load, (type(batch), transit, _seal(batch, transit))


def _reduce_column(column: pa.Array | pa.ChunkedArray) -> tuple[Any, ...]:
    transit = _transit()
    sealed = _seal(pa.table({"": column}), transit)
    return _load_column, (isinstance(column, pa.ChunkedArray), transit, sealed)


def _load_column(chunked: bool, transit: Transit, encoded: bytes) -> pa.Array | pa.ChunkedArray:
    column = transit.sealer().open_table(encoded, _AAD).column(0)
    return column if chunked else pa.concat_arrays(column.chunks or [pa.array([], column.type)])


def _array_types(base: Any = pa.Array) -> Iterator[type]:
    kind: type
    for kind in base.__subclasses__():
        yield kind
        yield from _array_types(kind)


def _close_pickle() -> None:
    """Pickle, cloudpickle and Beam's fallback coder all look here before a type's own way of pickling."""
    for batch in (pa.Table, pa.RecordBatch):
        registry.register_coder(batch, SealedCoder)
        copyreg.pickle(batch, _reduce_batch)
    for column in (pa.ChunkedArray, *_array_types()):
        copyreg.pickle(column, _reduce_column)


_close_pickle()
