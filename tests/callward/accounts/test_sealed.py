"""A tenant's directory as it is stored: what comes out is what went in, and nothing of a number stands in it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from callward.accounts import sealed
from callward.accounts.directory import Directory
from callward.accounts.entries import ALWAYS, FOREVER, Entries, Holdings, label
from callward.errors import Problem
from callward.keys import tokens
from callward.keys.register import Keyring
from callward.keys.seal import SealBroken, Sealer
from tests.altered import altered

_NUMBER, _LOW, _HIGH = 13035550110, 13035550120, 13035550129


@pytest.fixture(scope="module")
def keys(workspace: Callable[..., Any]) -> Keyring:
    ring: Keyring = workspace("asterisk").opened.keyring
    return ring


@pytest.fixture
def holdings(keys: Keyring) -> Holdings:
    words = tokens.integer_token(np.array([_NUMBER, _NUMBER]), sealed.secret(keys, "default"))
    return Holdings(
        *(pa.array(["a", "b"]), pa.array([None, "America/Denver"]), pa.array([label("code", "ac-b")])),
        Entries.of(*words.T, [0, 1], [ALWAYS, 20_000], [FOREVER, FOREVER]).ordered(),
        *(Entries.of([_LOW], [_HIGH], [1], [ALWAYS], [20_000]), Entries.of([0], [0], [1], [ALWAYS], [FOREVER])),
    )


def test_a_directory_is_read_as_it_was_sealed(keys: Keyring, holdings: Holdings) -> None:
    stored, singles = sealed.open_sealed(sealed.seal(holdings, keys, "default", 7), keys, "default", 7)
    directory = Directory.of("default", [], [], stored.without_numbers(), singles)
    assert (directory.ids.to_pylist(), directory.zones.to_pylist()) == (["a", "b"], [None, "America/Denver"])
    asked = pa.array([f"+{_NUMBER}", f"+{_NUMBER}", f"+{_LOW}", f"+{_HIGH + 1}"])
    assert directory.numbers.owners(asked, np.array([19_999, 20_000, 20_000, 20_000])).tolist() == [0, 1, 1, -1]
    assert directory.codes.owners(pa.array(["ac-b"]), np.array([1])).tolist() == [1]


def test_another_version_or_tenant_and_altered_bytes_are_refused(keys: Keyring, holdings: Holdings) -> None:
    blob = sealed.seal(holdings, keys, "default", 7)
    for tenant, version, data in (("default", 8, blob), ("other", 7, blob), ("default", 7, altered(blob))):
        with pytest.raises(SealBroken):
            sealed.open_sealed(data, keys, tenant, version)


def test_a_format_version_to_come_is_refused(
    keys: Keyring, holdings: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed, "_VERSION", b"callward.another")
    blob = sealed.seal(holdings, keys, "default", 7)
    monkeypatch.undo()
    with pytest.raises(Problem, match="format version"):
        sealed.open_sealed(blob, keys, "default", 7)


def test_single_numbers_are_tokens_inside_the_seal_too(
    keys: Keyring, holdings: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside: list[pa.Table] = []
    monkeypatch.setattr(Sealer, "seal_table", lambda self, table, aad: inside.append(table))
    sealed.seal(holdings, keys, "default", 7)
    held = b"".join(buffer for column in inside[0].columns for buffer in column.chunk(0).buffers() if buffer)
    assert _LOW.to_bytes(8, "little") in held  # a range is under the seal alone
    assert _NUMBER.to_bytes(8, "little") not in held
    assert str(_NUMBER).encode() not in held
