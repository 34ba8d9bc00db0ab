"""No plain hash of input is in the database: what has few possible values is found by trying them all."""

import hashlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import MetaData, select

from callward import database

_LINE = (
    '"","{number}","2125550100","outbound","""A"" <{number}>","PJSIP/northwind-1-0000001f","PJSIP/pbx-7-00000020",'
    '"Dial","PJSIP/2125550100","2026-03-05 10:00:00","2026-03-05 10:00:05","2026-03-05 10:01:00",60,55,"ANSWERED",'
    '"DOCUMENTATION","1772726400.17",""\n'
)
_NUMBER = "7195550178"


def plain_hashes(text: bytes) -> Iterator[bytes]:
    """Yield what every function without a key makes of a text: as bytes, in hex, and as numbers."""
    for name in sorted(hashlib.algorithms_guaranteed):
        digest = hashlib.new(name, text)
        raw = digest.digest(32) if name.startswith("shake") else digest.digest()  # type: ignore[call-arg]
        yield from (raw[:length] for length in {8, 16, 20, 32, len(raw)} if length <= len(raw))
    for size in (8, 16, 32):
        yield hashlib.blake2b(text, digest_size=size).digest()
    for check in (zlib.crc32(text), zlib.adler32(text)):
        yield check.to_bytes(4, "big")


def values(site: Any) -> Iterator[tuple[str, bytes]]:
    """Yield every value of the database as (table.column, bytes)."""
    tables = MetaData()
    with database.reading(site.settings) as connection:
        tables.reflect(connection)
        for table in tables.sorted_tables:
            for row in connection.execute(select(table)):
                for column, value in row._mapping.items():
                    if value is not None:
                        yield f"{table.name}.{column}", value if isinstance(value, bytes) else str(value).encode()


@pytest.mark.parametrize("after_commit", ["delete", "archive"])
def test_no_plain_hash_of_a_file_or_its_name_is_kept(workspace: Callable[..., Any], after_commit: str) -> None:
    site = workspace("asterisk", landing={"after_commit": after_commit})
    content, name = _LINE.format(number=_NUMBER).encode(), f"{_NUMBER}.csv"
    site.land("asterisk", name, content)
    night = site.night()
    assert night.rows == 1
    inputs = (
        content,
        content.rstrip(),
        name.encode(),
        f"asterisk/{name}".encode(),
        _NUMBER.encode(),
        b"+1" + _NUMBER.encode(),
    )
    known = {form for text in inputs for raw in plain_hashes(text) for form in (raw, raw.hex().encode())}
    known |= {str(int.from_bytes(raw, "big")).encode() for raw in known if len(raw) == 4}
    seen = list(values(site))
    assert [
        where for where, value in seen if any(form in value for form in known if len(form) > 4) or value in known
    ] == []
    assert after_commit == "archive" or any(where == "blocks.digest" for where, _ in seen)
