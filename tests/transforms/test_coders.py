import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import pandas as pd
import pyarrow as pa
import pytest
from apache_beam import coders
from apache_beam.coders import registry
from apache_beam.internal import pickler
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from callward.keys.seal import SealBroken, key_id_of
from tests.altered import altered
from transforms import coders as sealed
from transforms.coders import SealedCoder, Transit, use_transit

ROOT = Path(sealed.__file__).parents[1]
OPENER = """
from callward.keys.keys import Key
from callward.keys.seal import Sealer

def open_transit(reference):
    return Sealer(Key(reference * 16, reference.encode() * 16))

def make():
    return lambda reference: open_transit(reference)
"""


@pytest.fixture
def opener(tmp_path, monkeypatch):
    """A module that this process and others can import."""
    (tmp_path / "transit_opener.py").write_text(OPENER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sealed, "_default", None)
    monkeypatch.setattr(sealed, "_SEALERS", {})
    import transit_opener

    yield transit_opener
    del sys.modules["transit_opener"]


@pytest.fixture
def transit(opener):
    return use_transit("ab", opener.open_transit)


def parent():
    names = [f"canary-{i:04}" for i in range(2000)]
    return pa.table(
        {
            "number": names,
            "coded": pa.array(names).dictionary_encode(),
            "viewed": pa.array([f"long enough for a view: {name}" for name in names]).cast(pa.string_view()),
            "id": pa.array([b"canary-id-%06d" % i for i in range(2000)], pa.binary(16)),
        }
    )


WAYS = {
    "pickle": pickle.dumps,
    "pickle 2": lambda value: pickle.dumps(value, 2),
    "beam's pickler": pickler.dumps,
    "beam's fallback coder": coders.FastPrimitivesCoder().encode,
    "beam's pickling coder": coders.PickleCoder().encode,
    "nested": lambda value: pickle.dumps({"a": [value]}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("of", ["table", "batch", "column", "array", "frame"])
def test_a_slice_leaves_the_process_sealed_and_alone(transit, way, of):
    part = parent()[700:710]
    value = {
        "table": part,
        "batch": part.to_batches()[0],
        "column": part["number"],
        "array": part["number"].chunk(0),
        "frame": part.select(["number"]).to_pandas(),
    }[of]
    dumped = WAYS[way](value)
    assert b"canary" not in dumped and len(dumped) < 6000
    assert of in ("column", "array", "frame") or b"number" not in dumped


@pytest.mark.parametrize("rows", [0, 10])
def test_pickled_batches_come_back(transit, rows):
    part = parent()[700 : 700 + rows]
    table = pickle.loads(pickle.dumps(part))
    batch = part.combine_chunks().to_batches()[0] if rows else pa.RecordBatch.from_pylist([], part.schema)
    assert table.schema == part.schema and table.to_pylist() == part.to_pylist()
    assert pickle.loads(pickle.dumps(batch)).to_pylist() == batch.to_pylist()
    assert isinstance(pickle.loads(pickle.dumps(batch)), pa.RecordBatch)
    for column in part.columns:
        assert pickle.loads(pickle.dumps(column)).to_pylist() == column.to_pylist()
        array = column.combine_chunks()
        back = pickle.loads(pickle.dumps(array))
        assert type(back) is type(array) and back.to_pylist() == array.to_pylist()
    frame = pd.DataFrame({"n": ["a", None]})
    assert pickle.loads(pickle.dumps(frame)).equals(frame)
    assert copy.deepcopy(part).to_pylist() == part.to_pylist()


@pytest.mark.parametrize("kind", [pa.Table, pa.RecordBatch])
def test_the_coder_returns_what_it_was_given(transit, kind):
    value = parent()[700:710] if kind is pa.Table else parent()[700:710].to_batches()[0]
    coder = registry.get_coder(kind)
    assert isinstance(coder, SealedCoder) and coder.to_type_hint() is kind and not coder.is_deterministic()
    encoded = coder.encode(value)
    assert b"canary" not in encoded and len(encoded) < 3000 and key_id_of(encoded) == "ab" * 16
    decoded = coder.decode(encoded)
    assert isinstance(decoded, kind) and decoded.to_pylist() == value.to_pylist()
    assert coder.estimate_size(value) == value.nbytes
    with pytest.raises(SealBroken):
        coder.decode(altered(encoded))


def test_a_coder_pickles_to_a_reference_and_no_key(transit):
    coder = registry.get_coder(pa.Table)
    encoded = coder.encode(parent()[:3])
    dumped = pickle.dumps(coder)
    assert b"ab" * 16 not in dumped and len(dumped) < 300
    assert pickle.loads(dumped) == coder and hash(pickle.loads(dumped)) == hash(coder)
    assert pickle.loads(dumped).decode(encoded).num_rows == 3
    assert coder != SealedCoder(pa.RecordBatch) and coder != SealedCoder(
        pa.Table, Transit("cd", "transit_opener:open_transit")
    )


def test_another_transit_key_does_not_open(transit):
    encoded = SealedCoder().encode(parent()[:3])
    with pytest.raises(SealBroken):
        SealedCoder(pa.Table, Transit("cd", "transit_opener:open_transit")).decode(encoded)


def test_without_a_transit_key_nothing_leaves_the_process(opener):
    for attempt in (lambda: SealedCoder(), lambda: pickle.dumps(parent()), lambda: pickle.dumps(parent()["number"])):
        with pytest.raises(RuntimeError, match="use_transit") as caught:
            attempt()
        assert "canary" not in str(caught.value)


def test_an_opener_that_workers_could_not_import_is_refused(opener):
    for wrong in (lambda reference: None, opener.make()):
        with pytest.raises(ValueError, match="import"):
            use_transit("ab", wrong)
    assert sealed._default is None


def test_another_process_opens_by_the_reference_it_was_handed(transit, tmp_path):
    part = parent()[700:710]
    (tmp_path / "handed").write_bytes(pickle.dumps((SealedCoder(), SealedCoder().encode(part), part)))
    script = (
        "import pickle, sys\n"
        "coder, encoded, part = pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert coder.decode(encoded).to_pylist() == part.to_pylist()\n"
        "assert b'canary' not in pickle.dumps(part) and pickle.loads(pickle.dumps(part)).equals(part)\n"
        "print(part.num_rows)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "handed")],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.stdout == "10\n", run.stderr


# -- in a pipeline -----------------------------------------------------------------------------------------------------


@pytest.fixture
def crossings(monkeypatch):
    """Every byte string that a coder of Beam hands on between stages, and how often ours encoded and decoded."""
    seen = {"bytes": [], "encoded": 0, "decoded": 0}
    encode, decode, dumps = SealedCoder.encode, SealedCoder.decode, pickle.dumps

    def note_encode(self, value):
        seen["encoded"] += 1
        seen["bytes"].append(encode(self, value))
        return seen["bytes"][-1]

    def note_decode(self, encoded):
        seen["decoded"] += 1
        return decode(self, encoded)

    def note_dumps(*args, **more):
        seen["bytes"].append(dumps(*args, **more))
        return seen["bytes"][-1]

    monkeypatch.setattr(SealedCoder, "encode", note_encode)
    monkeypatch.setattr(SealedCoder, "decode", note_decode)
    monkeypatch.setattr(pickle, "dumps", note_dumps)
    return seen


@pytest.fixture
def bundles(monkeypatch):
    """All that the runner buffers between its stages."""
    from apache_beam.runners.portability.fn_api_runner import execution

    held = []
    append = execution.ListBuffer.append

    def note(self, element):
        held.append(bytes(element))
        return append(self, element)

    monkeypatch.setattr(execution.ListBuffer, "append", note)
    grouping = execution.GroupingBuffer.append
    monkeypatch.setattr(
        execution.GroupingBuffer,
        "append",
        lambda self, element: (held.append(bytes(element)), grouping(self, element))[1],
    )
    return held


def slices(number):
    return [(f"key-{at % 2}", parent()[at * 10 : at * 10 + 10]) for at in range(number, number + 4)]


def rows_of(pair):
    return pair[0], sorted(name for table in pair[1] for name in table["number"].to_pylist())


EXPECTED = [
    (f"key-{k}", sorted(f"canary-{row:04}" for at in range(8) if at % 2 == k for row in range(at * 10, at * 10 + 10)))
    for k in range(2)
]


_FOUND: list[tuple[str, list[str]]] = []


def keep(pair):
    """By reference in the pipeline, so that it runs here: assertions in the pipeline would add a shuffle of rows."""
    _FOUND.append(rows_of(pair))


def run(cut):
    _FOUND.clear()
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        _ = pipeline | beam.Create([0, 4]) | "Cut" >> cut | "Group" >> beam.GroupByKey() | "Keep" >> beam.Map(keep)
    return sorted(_FOUND)


def test_a_shuffle_of_typed_batches_uses_the_coder_and_shows_nothing(transit, crossings, bundles):
    cut = beam.FlatMap(slices).with_output_types(tuple[str, pa.Table])
    assert run(cut) == EXPECTED
    assert crossings["encoded"] == 8 and crossings["decoded"] == 8
    # What the runner buffers holds our keys in the clear, which shows that it was looked at, and no row.
    assert any(b"key-0" in element for element in bundles)
    assert not any(b"canary" in element for element in bundles + crossings["bytes"])


def test_a_shuffle_of_untyped_batches_shows_nothing_either(transit, crossings, bundles):
    assert run(beam.FlatMap(slices)) == EXPECTED
    assert crossings["encoded"] == 0
    assert any(b"key-0" in element for element in bundles)
    assert not any(b"canary" in element for element in bundles + crossings["bytes"])
