"""Ids and tokens in bulk: AES over whole Arrow columns, with no loop over rows.

Equal values give equal ids whatever batch they are in and whatever Arrow type carries them (string, large_string,
binary, dictionary, chunked). Every function derives a key of its own from the secret it is given, so one secret may
serve several of them.

AES runs in ECB mode throughout. That is right here and nearly nowhere else: each block is a value of its own, there is
no order between blocks to hide, and "equal in, equal out" is what an id or a token must be.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ID_BYTES: Final = 16
ID_TYPE: Final = pa.binary(ID_BYTES)

# Data bytes of a MAC's fixed widths. A value takes the first that holds it, so its width depends on itself alone.
WIDTHS: Final = (32, 64, 128, 256)

# Rows per pass: the state and the block of that many rows stay in the processor's cache.
_PASS_ROWS: Final = 1 << 14
_NULL_LENGTH: Final = 0xFFFFFFFF

Column: TypeAlias = pa.Array | pa.ChunkedArray
Words: TypeAlias = npt.NDArray[np.uint64]
Mask: TypeAlias = npt.NDArray[np.bool_]


def derive(secret: bytes, label: str) -> bytes:
    """Return a 32-byte key for one use, named by `label`: HKDF-SHA256 (RFC 5869), no salt, the label as info."""
    return HKDF(hashes.SHA256(), 32, None, label.encode()).derive(secret)


# -- ids as arrays of numbers ------------------------------------------------------------------------------------------


def as_u64(ids: Column) -> Words:
    """Return ids as an array [n, 2] of little-endian words: the same memory for an Array, a copy for several chunks.

    Rows under a null hold whatever the buffer holds.
    """
    array = _one_array(ids)
    if array.type != ID_TYPE:
        raise TypeError(f"ids are {ID_TYPE}, not {array.type}")
    if len(array) == 0:
        return np.empty((0, 2), np.uint64)
    words = np.frombuffer(array.buffers()[1], "<u8", count=2 * len(array), offset=array.offset * ID_BYTES)
    return words.reshape(-1, 2)


def from_u64(words: Words, valid: Mask | None = None) -> pa.FixedSizeBinaryArray:
    """Return ids from an array [n, 2] of little-endian words, over the same memory; null where `valid` is false."""
    words = np.ascontiguousarray(words, "<u8")
    bitmap = None if valid is None or valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.FixedSizeBinaryArray.from_buffers(ID_TYPE, len(words), [bitmap, pa.py_buffer(words)])


def shard_bits(ids: Column, bits: int) -> npt.NDArray[np.uint32]:
    """Return the leading `bits` (0 to 32) of each id, as a number.

    Raises ValueError for nulls: they belong to no shard.
    """
    if not 0 <= bits <= 32:
        raise ValueError("a shard has 0 to 32 bits")
    if ids.null_count:
        raise ValueError("a null id belongs to no shard")
    # Leading means the first bytes of the id, which are the low ones of a little-endian word.
    lead = as_u64(ids)[:, 0].astype(np.uint32).byteswap()
    return lead >> np.uint32(32 - bits) if bits else np.zeros(len(lead), np.uint32)


# -- one block per value -----------------------------------------------------------------------------------------------


def permute(ids: Column, secret: bytes) -> pa.FixedSizeBinaryArray:
    """Return view ids: each 16-byte id under AES-256. A bijection, undone by `unpermute` with the same secret."""
    cipher = _cipher(secret, "callward permute")
    return from_u64(_through(cipher.encryptor(), as_u64(ids)), _valid(ids))


def unpermute(ids: Column, secret: bytes) -> pa.FixedSizeBinaryArray:
    """Return the ids that `permute` was given."""
    cipher = _cipher(secret, "callward permute")
    return from_u64(_through(cipher.decryptor(), as_u64(ids)), _valid(ids))


def number_token(numbers: Column, secret: bytes) -> pa.FixedSizeBinaryArray:
    """Return tokens of numbers: AES-256(x) XOR x over the value padded with zero bytes to one block; null stays null.

    Davies-Meyer: one-way even for a holder of the secret, who can only try all numbers. There are few numbers, so a
    token is a pseudonym only while the secret is secret. An E.164 number with its plus sign has at most 16 characters;
    a longer value, or one that ends with a zero byte (which padding would hide), is tokenized by `mac`.
    """
    column = _as_binary(numbers)
    odd = _true(pc.or_(pc.greater(pc.binary_length(column), ID_BYTES), pc.ends_with(column, "\0")))
    words = _padded(pc.if_else(pa.array(odd), b"", column) if odd.any() else column, ID_BYTES)
    tokens = _one_way(words, secret, "callward number token")
    if odd.any():
        longer = column.filter(pa.array(odd))
        tokens[odd] = as_u64(mac([longer], derive(secret, "callward long number token")))
    return from_u64(tokens, _valid(column))


def integer_token(numbers: npt.NDArray[np.int64], secret: bytes) -> Words:
    """Return tokens of integers (shape [n]) as words, shape [n, 2]: one-way as `number_token`, and none of its own."""
    words = np.zeros((len(numbers), 2), np.uint64)
    words[:, 0] = numbers
    return _one_way(words, secret, "callward integer token")


def _one_way(words: Words, secret: bytes, label: str) -> Words:
    tokens = _through(_cipher(secret, label).encryptor(), words)
    tokens ^= words
    return tokens


def _cipher(secret: bytes, label: str) -> Cipher[modes.ECB]:
    return Cipher(algorithms.AES(derive(secret, label)), modes.ECB())


def _through(context: CipherContext, words: Words) -> Words:
    """Return `words` [n, 2k], each 16 bytes through one AES context, in a new array."""
    source = np.ascontiguousarray(words)
    out = np.empty(source.size + 2, np.uint64)  # update_into asks for one block more than it fills
    context.update_into(source.reshape(-1).view(np.uint8).data, out.view(np.uint8).data)
    return out[: source.size].reshape(source.shape)


# -- MACs --------------------------------------------------------------------------------------------------------------


def mac(columns: Sequence[Column], secret: bytes, *, null_is_value: bool = False) -> pa.FixedSizeBinaryArray:
    """Return a keyed 128-bit id of each row of `columns` (strings or binary, all of one length).

    AES-256 CBC-MAC over a first block (length, number of columns) and the joined values, zero-padded to the first of
    `WIDTHS` that holds them, with a key for each width: CBC-MAC is sound for one width per key. Values longer than
    the widest go one by one through keyed BLAKE2b. Several columns are joined after the length of each, so that
    ("ab", "c") and ("a", "bc") differ.

    A row with a null in any column is null; with `null_is_value` it gets an id, in which null differs from "".
    Raises ValueError for no columns or columns of several lengths.
    """
    rows, valid = _joined([_as_binary(column) for column in columns], null_is_value)
    sizes = pc.binary_length(rows).to_numpy(zero_copy_only=False)
    words = np.empty((len(rows), 2), np.uint64)
    for width, where in _width_classes(sizes):
        part = rows if where is None else rows.take(pa.array(where))
        ids = _mac_long(part, len(columns), secret) if width is None else _mac_width(part, len(columns), secret, width)
        words[slice(None) if where is None else where] = ids
    return from_u64(words, valid)


def mac_blocks(blocks: Words, secret: bytes) -> pa.FixedSizeBinaryArray:
    """Return a keyed 128-bit id of each row of numbers [n, 2k]: the same CBC-MAC, with a key for each k."""
    if blocks.ndim != 2 or blocks.shape[1] % 2 or blocks.dtype != np.uint64:
        raise ValueError("blocks are an array [n, 2k] of uint64")
    first = np.broadcast_to(np.array([8 * blocks.shape[1], 0], np.uint64), (len(blocks), 2))
    key = derive(secret, f"callward mac of {blocks.shape[1]} words")
    return from_u64(_cbc_mac(first, np.ascontiguousarray(blocks, "<u8"), key))


def _joined(columns: list[pa.LargeBinaryArray], null_is_value: bool) -> tuple[pa.LargeBinaryArray, Mask]:
    """Return one binary value per row, without nulls, and which rows have an id."""
    if not columns:
        raise ValueError("an id needs at least one column")
    if len({len(column) for column in columns}) != 1:
        raise ValueError("the columns of an id have one length")
    present = np.column_stack([_valid(column) for column in columns])
    filled = [column.fill_null(b"") if column.null_count else column for column in columns]
    valid: Mask = np.ones(len(present), np.bool_) if null_is_value else np.all(present, axis=1)
    if len(columns) == 1 and not null_is_value:
        return filled[0], valid
    return _prefixed(filled, present), valid


def _prefixed(columns: list[pa.LargeBinaryArray], present: Mask) -> pa.LargeBinaryArray:
    """Return the columns joined, behind the length of each as four bytes."""
    sizes = np.column_stack([pc.binary_length(column).to_numpy(zero_copy_only=False) for column in columns])
    lengths = np.ascontiguousarray(np.where(present, sizes, _NULL_LENGTH), "<u4")
    kind = pa.binary(4 * len(columns))
    prefix = pa.FixedSizeBinaryArray.from_buffers(kind, len(lengths), [None, pa.py_buffer(lengths)])
    separator = pa.scalar(b"", pa.large_binary())
    return pc.binary_join_element_wise(prefix.cast(pa.large_binary()), *columns, separator)


def _width_classes(sizes: npt.NDArray[np.int64]) -> Iterator[tuple[int | None, npt.NDArray[np.int64] | None]]:
    """Yield each width that occurs (None: longer than all), with the rows that take it (None: all rows)."""
    classes = np.searchsorted(WIDTHS, sizes)
    present = np.flatnonzero(np.bincount(classes))
    for number in present:
        width = WIDTHS[number] if number < len(WIDTHS) else None
        yield width, None if len(present) == 1 else np.flatnonzero(classes == number)


def _mac_width(values: pa.LargeBinaryArray, columns: int, secret: bytes, width: int) -> Words:
    first = np.empty((len(values), 2), np.uint64)
    first[:, 0] = pc.binary_length(values).to_numpy(zero_copy_only=False)
    first[:, 1] = columns
    return _cbc_mac(first, _padded(values, width), derive(secret, f"callward mac of {width} bytes"))


def _mac_long(values: pa.LargeBinaryArray, columns: int, secret: bytes) -> Words:
    """Return keyed BLAKE2b: a loop over rows, for the few values that no width holds."""
    base = hashlib.blake2b(columns.to_bytes(8, "little"), key=derive(secret, "callward long mac"), digest_size=ID_BYTES)
    digests = bytearray()
    for value in values:
        state = base.copy()
        state.update(value.as_buffer())
        digests += state.digest()
    return np.frombuffer(digests, "<u8").reshape(-1, 2)


def _cbc_mac(first: Words, blocks: Words, key: bytes) -> Words:
    """Return CBC-MAC of each row: `first` [n, 2], then `blocks` [n, 2k] two words at a time."""
    cipher = Cipher(algorithms.AES(key), modes.ECB())
    out = np.empty((len(blocks), 2), np.uint64)
    for start in range(0, len(blocks), _PASS_ROWS):
        rows = slice(start, start + _PASS_ROWS)
        state = _through(cipher.encryptor(), first[rows])
        for at in range(0, blocks.shape[1], 2):
            state ^= blocks[rows, at : at + 2]
            state = _through(cipher.encryptor(), state)
        out[rows] = state
    return out


# -- columns -----------------------------------------------------------------------------------------------------------


def _one_array(column: Column) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _as_binary(column: Column) -> pa.LargeBinaryArray:
    """Return the column's bytes in one array; large, because chunks together may pass 2 GiB."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return _one_array(column.cast(pa.large_binary()))


def _valid(column: Column) -> Mask:
    if not column.null_count:
        return np.ones(len(column), np.bool_)
    return _true(column.is_valid())


def _true(mask: Column) -> Mask:
    return np.asarray(mask.fill_null(False).to_numpy(zero_copy_only=False), np.bool_)


def _padded(values: pa.LargeBinaryArray, width: int) -> Words:
    """Return values of at most `width` bytes (null as empty), zero-padded to it: an array [n, width / 8]."""
    values = values.fill_null(b"") if values.null_count else values
    if len(values) == 0:
        return np.empty((0, width // 8), np.uint64)
    # The ascii kernel counts bytes, the utf8 one would count characters; the bytes need not be text.
    text = pa.Array.from_buffers(pa.large_string(), len(values), values.buffers(), 0, values.offset)
    data = pc.ascii_rpad(text, width, "\0").buffers()[2]
    return np.frombuffer(data, "<u8", count=len(values) * (width // 8)).reshape(len(values), -1)
