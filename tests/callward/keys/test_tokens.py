"""The bulk functions against one-value-at-a-time references, written from the definitions."""

import hashlib
import hmac

import numpy as np
import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from callward.keys import tokens
from tests.examples import tries

SECRET = bytes(range(32))
VALUES = st.one_of(
    st.binary(max_size=40), st.binary(max_size=300), st.text("+0123456789\0", max_size=18).map(str.encode)
)
IDS = st.lists(st.one_of(st.none(), st.binary(min_size=16, max_size=16)), max_size=50)


def hkdf(secret, label):
    """RFC 5869 with SHA-256, no salt, 32 bytes."""
    extracted = hmac.digest(bytes(32), secret, "sha256")
    return hmac.digest(extracted, label.encode() + b"\x01", "sha256")


def aes(key, block):
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block)


def cbc_mac(key, message):
    """The last block of AES-CBC with a zero IV."""
    return Cipher(algorithms.AES(key), modes.CBC(bytes(16))).encryptor().update(message)[-16:]


def one_mac(values, secret):
    data = values[0] if len(values) == 1 else b"".join(len(v).to_bytes(4, "little") for v in values) + b"".join(values)
    for width in (32, 64, 128, 256):
        if len(data) <= width:
            first = len(data).to_bytes(8, "little") + len(values).to_bytes(8, "little")
            return cbc_mac(hkdf(secret, f"callward mac of {width} bytes"), first + data.ljust(width, b"\0"))
    key = hkdf(secret, "callward long mac")
    return hashlib.blake2b(len(values).to_bytes(8, "little") + data, key=key, digest_size=16).digest()


def one_token(value, secret):
    if len(value) > 16 or value.endswith(b"\0"):
        return one_mac([value], hkdf(secret, "callward long number token"))
    block = value.ljust(16, b"\0")
    return bytes(a ^ b for a, b in zip(aes(hkdf(secret, "callward number token"), block), block, strict=True))


def test_derive_is_hkdf_sha256():
    assert tokens.derive(SECRET, "a label") == hkdf(SECRET, "a label") != tokens.derive(SECRET, "another")


@given(st.lists(st.one_of(st.none(), VALUES), max_size=30))
@tries(60)
def test_mac_of_one_column_equals_its_definition(values):
    expected = [None if v is None else one_mac([v], SECRET) for v in values]
    assert tokens.mac([pa.array(values, pa.binary())], SECRET).to_pylist() == expected


@given(
    st.integers(1, 4).flatmap(
        lambda k: st.lists(st.tuples(*[st.one_of(st.none(), VALUES)] * k), min_size=1, max_size=20)
    )
)
@tries(60)
def test_mac_of_several_columns_equals_its_definition(rows):
    columns = [pa.array(column, pa.binary()) for column in zip(*rows, strict=True)]
    expected = [None if None in row else one_mac(list(row), SECRET) for row in rows]
    assert tokens.mac(columns, SECRET).to_pylist() == expected


@given(st.lists(st.one_of(st.none(), VALUES), max_size=30))
@tries(60)
def test_number_token_equals_its_definition(values):
    expected = [None if v is None else one_token(v, SECRET) for v in values]
    assert tokens.number_token(pa.array(values, pa.binary()), SECRET).to_pylist() == expected


@given(st.lists(st.one_of(st.none(), st.text(max_size=90)), min_size=1, max_size=20), st.data())
@tries(60)
def test_ids_do_not_depend_on_batch_slice_chunks_or_type(values, data):
    start, end = sorted(data.draw(st.tuples(st.integers(0, len(values)), st.integers(0, len(values)))))
    plain = pa.array(values, pa.string())
    forms = [
        plain.slice(start, end - start),
        pa.chunked_array([plain[start:end][:1], plain[start:end][1:]], pa.string()),
        plain[start:end].cast(pa.large_string()),
        plain[start:end].cast(pa.string_view()),
        plain[start:end].cast(pa.binary()),
        plain.dictionary_encode()[start:end],
        pa.chunked_array([plain.dictionary_encode()[start:end]]),
    ]
    for bulk in (lambda c: tokens.mac([c], SECRET), lambda c: tokens.number_token(c, SECRET)):
        expected = bulk(plain).to_pylist()[start:end]
        for form in forms:
            assert bulk(form).to_pylist() == expected
    pairs = tokens.mac([plain, plain], SECRET).to_pylist()[start:end]
    for form in forms:
        assert tokens.mac([form, plain[start:end]], SECRET).to_pylist() == pairs


@given(st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=20))
def test_different_rows_get_different_ids(rows):
    ids = tokens.mac([pa.array(c, pa.binary()) for c in zip(*rows, strict=True)], SECRET)
    assert len(set(ids.to_pylist())) == len(set(rows))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([b"ab", b"c"], [b"a", b"bc"]),
        ([b"", b"a"], [b"a", b""]),
        ([b"a"], [b"a\0"]),
        ([b""], [b"\0"]),
        ([b"\0" * 31], [b"\0" * 32]),
        ([b"a" * 32], [b"a" * 32 + b"\0"]),
        ([b"\x01\0\0\0a"], [b"a"]),
        ([b"a\x1fb"], [b"a", b"b"]),
        ([b"a"], [b"a", b""]),
    ],
)
def test_padding_and_joining_are_unambiguous(one, other):
    first, second = (tokens.mac([pa.array([v]) for v in values], SECRET).to_pylist() for values in (one, other))
    assert first != second


def test_padding_does_not_make_two_numbers_one():
    values = [b"", b"\0", b"1", b"1\0", b"1".ljust(16, b"\0"), b"1".ljust(17, b"\0")]
    assert len(set(tokens.number_token(pa.array(values), SECRET).to_pylist())) == len(values)


def test_null_as_a_value_differs_from_empty():
    columns = [pa.array(["", None, "x"]), pa.array([None, "", "y"])]
    ids = tokens.mac(columns, SECRET, null_is_value=True)
    assert ids.null_count == 0 and len(set(ids.to_pylist())) == 3
    assert tokens.mac(columns, SECRET).to_pylist()[2] == ids.to_pylist()[2]
    alone = tokens.mac([pa.array(["", None])], SECRET, null_is_value=True).to_pylist()
    assert None not in alone and alone[0] != alone[1]


@pytest.mark.parametrize("columns", [[], [pa.array(["a"]), pa.array(["a", "b"])]])
def test_an_id_needs_columns_of_one_length(columns):
    with pytest.raises(ValueError):
        tokens.mac(columns, SECRET)


@given(st.integers(1, 5), st.integers(0, 40), st.randoms(use_true_random=False))
@tries(40)
def test_mac_blocks_equals_its_definition(k, n, random):
    blocks = np.array([[random.getrandbits(64) for _ in range(2 * k)] for _ in range(n)], np.uint64).reshape(n, 2 * k)
    key = hkdf(SECRET, f"callward mac of {2 * k} words")
    first = (16 * k).to_bytes(8, "little") + bytes(8)
    expected = [cbc_mac(key, first + row.astype("<u8").tobytes()) for row in blocks]
    assert tokens.mac_blocks(blocks, SECRET).to_pylist() == expected
    assert tokens.mac_blocks(np.asfortranarray(blocks), SECRET).to_pylist() == expected


def test_a_mac_crosses_its_passes_unchanged():
    values = [f"call-{i}" for i in range(40_000)]
    ids = tokens.mac([pa.array(values)], SECRET).to_pylist()
    for at in (0, 16_383, 16_384, 32_768, 39_999):
        assert ids[at] == one_mac([values[at].encode()], SECRET)


@pytest.mark.parametrize("blocks", [np.zeros((2, 3), np.uint64), np.zeros(4, np.uint64), np.zeros((2, 2), np.int64)])
def test_mac_blocks_refuses_other_shapes(blocks):
    with pytest.raises(ValueError):
        tokens.mac_blocks(blocks, SECRET)


@given(IDS, st.integers(0, 10))
def test_permute_is_aes_of_each_id_and_unpermute_undoes_it(values, start):
    ids = pa.array(values, pa.binary(16))[start:]
    key = hkdf(SECRET, "callward permute")
    permuted = tokens.permute(ids, SECRET)
    assert permuted.to_pylist() == [None if v is None else aes(key, v) for v in values[start:]]
    assert tokens.unpermute(permuted, SECRET).equals(ids)


def test_secrets_and_uses_separate():
    ids = pa.array([bytes(16), b"1".ljust(16, b"\0")], pa.binary(16))
    text = pa.array(["", "1"])
    made = [
        *tokens.permute(ids, SECRET).to_pylist(),
        *tokens.permute(ids, b"s" * 32).to_pylist(),
        *tokens.number_token(text, SECRET).to_pylist(),
        *tokens.number_token(text, b"s" * 32).to_pylist(),
        *tokens.mac([text], SECRET).to_pylist(),
        *tokens.mac([text], b"s" * 32).to_pylist(),
    ]
    assert len(set(made)) == len(made)


@given(IDS, st.integers(0, 10))
def test_words_round_trip_and_respect_offsets(values, start):
    ids = pa.array(values, pa.binary(16))[start:]
    words = tokens.as_u64(ids)
    assert [w.tobytes() for w in words.astype("<u8")] == [v or bytes(16) for v in values[start:]]
    assert tokens.from_u64(words, np.array([v is not None for v in values[start:]], np.bool_)).equals(ids)
    assert np.array_equal(tokens.as_u64(pa.chunked_array([ids[:1], ids[1:]], pa.binary(16))), words)


def test_words_are_the_ids_own_memory():
    ids = tokens.from_u64(np.arange(20, dtype=np.uint64).reshape(10, 2))
    assert np.shares_memory(tokens.as_u64(ids), tokens.as_u64(ids[3:]))
    with pytest.raises(TypeError):
        tokens.as_u64(pa.array(["x"]))


@given(st.lists(st.binary(min_size=16, max_size=16), max_size=30), st.integers(0, 32))
def test_shard_is_the_leading_bits(values, bits):
    shards = tokens.shard_bits(pa.array(values, pa.binary(16)), bits)
    assert shards.dtype == np.uint32
    assert shards.tolist() == [int.from_bytes(v, "big") >> (128 - bits) for v in values]


def test_a_null_belongs_to_no_shard():
    with pytest.raises(ValueError):
        tokens.shard_bits(pa.array([None], pa.binary(16)), 4)
    with pytest.raises(ValueError):
        tokens.shard_bits(pa.array([], pa.binary(16)), 33)
