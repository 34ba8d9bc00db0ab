import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.keys import seal
from callward.keys.keys import mint
from callward.keys.seal import SealBroken, Sealer, compact, key_id_of

SEALER = Sealer(mint())


# -- bytes -------------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200), st.binary(max_size=40))
def test_what_was_sealed_opens(data, aad):
    blob = SEALER.seal(data, aad)
    assert SEALER.open(blob, aad) == data
    assert SEALER.open(memoryview(blob), aad) == SEALER.open(pa.py_buffer(blob), aad) == data
    assert key_id_of(blob) == SEALER.key_id
    assert len(set(data)) < 8 or data not in blob


@given(st.binary(max_size=60), st.data())
def test_any_altered_byte_is_noticed(data, draw):
    blob = bytearray(SEALER.seal(data, b"here"))
    blob[draw.draw(st.integers(0, len(blob) - 1))] ^= draw.draw(st.integers(1, 255))
    with pytest.raises(SealBroken):
        SEALER.open(bytes(blob), b"here")


def test_any_truncation_or_addition_is_noticed():
    blob = SEALER.seal(b"some data", b"here")
    for size in range(len(blob)):
        with pytest.raises(SealBroken):
            SEALER.open(blob[:size], b"here")
    with pytest.raises(SealBroken):
        SEALER.open(blob + b"\0", b"here")


@given(st.binary(max_size=8), st.binary(max_size=8))
def test_another_place_does_not_open(aad, other):
    blob = SEALER.seal(b"some data", aad)
    if aad != other:
        with pytest.raises(SealBroken):
            SEALER.open(blob, other)


def test_another_key_says_which_and_a_version_says_so():
    other = Sealer(mint())
    blob = SEALER.seal(b"some data", b"")
    with pytest.raises(SealBroken, match=f"{SEALER.key_id}, not {other.key_id}"):
        other.open(blob, b"")
    with pytest.raises(SealBroken, match="version"):
        SEALER.open(blob[:6] + b"\x02" + blob[7:], b"")
    with pytest.raises(SealBroken, match="not sealed"):
        SEALER.open(b"+12025550100," * 10, b"")


def test_errors_are_one_sentence_without_content():
    blob = SEALER.seal(b"+12025550100", b"here")
    with pytest.raises(SealBroken) as caught:
        SEALER.open(blob, b"+12025550101")
    assert "202555" not in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_sealer_neither_shows_nor_pickles_its_key():
    key = mint()
    sealer = Sealer(key)
    assert repr(key.secret)[2:-1] not in repr(sealer)
    with pytest.raises(TypeError, match="reference"):
        pickle.dumps(sealer)


# -- nonces ------------------------------------------------------------------------------------------------------------


def nonce_of(blob):
    """Salt and counter: together they may occur once per key."""
    return blob[23:51]


def in_child(work):
    """What `work` returns (bytes) in a forked child."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, work())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        result = pipe.read()
    os.waitpid(pid, 0)
    return result


@pytest.mark.parametrize("ids", ["of one container", "of a container each"])
def test_no_nonce_is_used_twice_across_forks(ids, monkeypatch):
    if ids == "of a container each":  # there the parent and its child may both be process 1
        monkeypatch.setattr(os, "getpid", lambda: 1)
    sealer = Sealer(mint())
    used = [nonce_of(sealer.seal(b"", b"")) for _ in range(3)]

    def work():
        mine = b"".join(nonce_of(sealer.seal(b"", b"")) for _ in range(3))
        return mine + in_child(lambda: nonce_of(sealer.seal(b"", b"")))

    for _ in range(2):
        found = in_child(work)
        assert len(found) == 4 * 28
        used += [found[at : at + 28] for at in range(0, len(found), 28)]
        used.append(nonce_of(sealer.seal(b"", b"")))
    assert len(set(used)) == len(used)


def test_no_nonce_is_used_twice_in_threads_or_sealers():
    key = mint()
    sealers = [Sealer(key), Sealer(key)]
    with ThreadPoolExecutor(8) as pool:
        blobs = list(pool.map(lambda i: sealers[i % 2].seal(b"", b""), range(2000)))
    assert len({nonce_of(blob) for blob in blobs}) == 2000


def test_a_salt_is_renewed_before_its_budget_ends(monkeypatch):
    monkeypatch.setattr(seal, "_SEALS_PER_SALT", 3)
    sealer = Sealer(mint())
    blobs = [sealer.seal(b"x", b"") for _ in range(10)]
    assert len({blob[23:39] for blob in blobs}) == 4
    assert len({nonce_of(blob) for blob in blobs}) == 10
    assert all(sealer.open(blob, b"") == b"x" for blob in blobs)


# -- tables ------------------------------------------------------------------------------------------------------------


def big_table():
    names = [f"canary-{i}-of-a-parent-row" for i in range(2000)]
    return pa.table(
        {
            "text": names,
            "words": pa.array(names).dictionary_encode(),
            "view": pa.array(names).cast(pa.string_view()),
            "number": pa.array(range(2000), pa.int64()),
            "id": pa.array([i.to_bytes(16, "big") for i in range(2000)], pa.binary(16)),
        },
        metadata={"a": "b"},
    )


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
@pytest.mark.parametrize("rows", [0, 10, 2000])
def test_tables_open_as_they_were_sealed(compression, rows):
    table = big_table()[100 : 100 + rows]
    opened = SEALER.open_table(SEALER.seal_table(table, b"here", compression=compression), b"here")
    assert opened.schema.equals(table.schema, check_metadata=True)
    assert opened.to_pylist() == table.to_pylist()
    with pytest.raises(SealBroken):
        SEALER.open_table(SEALER.seal_table(table, b"here"), b"there")


def buffers(table):
    for chunk in (chunk for column in table.columns for chunk in column.chunks):
        yield from (b.to_pybytes() for b in chunk.buffers() if b)
        if pa.types.is_dictionary(chunk.type):
            yield from (b.to_pybytes() for b in chunk.dictionary.buffers() if b)


ROWS = st.tuples(st.integers(0, 300), st.integers(0, 300)).map(sorted)
KINDS = [
    pa.string(),
    pa.large_string(),
    pa.binary(),
    pa.string_view(),
    pa.binary_view(),
    pa.dictionary(pa.int8(), pa.string()),
]


def ipc_of(table):
    """The bytes that are sealed, uncompressed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sealer, "seal", lambda self, data, aad: bytes(data))
        return SEALER.seal_table(table, b"", compression=None)


@given(ROWS, st.sampled_from(KINDS))
def test_no_byte_of_a_row_outside_the_slice_is_sealed(rows, kind):
    parent = pa.array([f"<{i:03}>" for i in range(100)]).take(pa.array([i % 100 for i in range(300)]))
    table = pa.table({"a": pa.chunked_array([parent[:200].cast(kind), parent[200:].cast(kind)])})[rows[0] : rows[1]]
    sealed = ipc_of(table)
    inside = {f"<{i % 100:03}>".encode() for i in range(*rows)}
    assert all((f"<{i:03}>".encode() in sealed) == (f"<{i:03}>".encode() in inside) for i in range(100))


@given(ROWS)
def test_no_fixed_width_value_outside_the_slice_is_sealed(rows):
    ids = [b"<%03d>" % i for i in range(300)]
    words = [int.from_bytes(b"[%06d]" % i, "little") for i in range(300)]
    both = pa.table({"a": pa.array(ids, pa.binary(5)), "b": pa.array(words, pa.int64())})[rows[0] : rows[1]]
    sealed = ipc_of(both)
    for i in range(300):
        inside = rows[0] <= i < rows[1]
        assert (ids[i] in sealed) == inside and (b"[%06d]" % i in sealed) == inside


@pytest.mark.parametrize("own", [compact, lambda t: SEALER.open_table(SEALER.seal_table(t, b""), b"")])
def test_a_slice_keeps_no_row_of_its_parent(own):
    part = own(big_table()[700:710])
    held = b"".join(buffers(part))
    assert part.column("text").to_pylist() == [f"canary-{i}-of-a-parent-row" for i in range(700, 710)]
    assert b"canary-705-" in held
    assert b"canary-699-" not in held and b"canary-710-" not in held and b"canary-0-" not in held
    assert len(held) < 5000


def test_a_column_that_would_carry_other_rows_is_refused():
    nested = pa.array([["a"]]).cast(pa.list_(pa.dictionary(pa.int32(), pa.string())))
    for column in (nested, pa.array([["a"]], pa.list_view(pa.string()))):
        with pytest.raises(TypeError, match="filtered out"):
            SEALER.seal_table(pa.table({"n": column}), b"")
