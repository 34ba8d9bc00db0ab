"""What is archived: how long it is, told without reading it."""

import random

import zstandard
from hypothesis import given
from hypothesis import strategies as st

from callward.lake.data_files import content_length
from tests.examples import tries

CONTENTS = st.builds(
    lambda kind, seed, size: {
        "random": random.Random(seed).randbytes(size),  # zstd keeps it as it is
        "one byte": bytes([seed]) * size,
        "lines": b"".join(b"2026-11-22,%d\n" % (seed * n) for n in range(size // 16)),
    }[kind],
    st.sampled_from(["random", "one byte", "lines"]),
    st.integers(0, 255),
    st.sampled_from([0, 1, 255, 256, 65_791, 65_792, 131_072, 131_073, 400_000]),
)


@given(contents=st.lists(CONTENTS, max_size=4), level=st.sampled_from([-1, 1, 3]), checksum=st.booleans())
@tries(90)
def test_compressed_blocks_say_how_long_they_are(contents: list[bytes], level: int, checksum: bool) -> None:
    packer = zstandard.ZstdCompressor(level=level, write_checksum=checksum)
    assert content_length(b"".join(map(packer.compress, contents))) == sum(map(len, contents))
