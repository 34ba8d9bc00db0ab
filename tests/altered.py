"""Change sealed or signed content in a test, so that it surely differs."""


def altered(data: bytes, at: int = -1) -> bytes:
    """Return `data` with one bit of the byte at `at` flipped; a constant put there would be what stood there once in
    256 times."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)
