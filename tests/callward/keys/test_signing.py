"""Signing keys: what one key signs verifies for its public half alone, and the secret half never shows."""

import copy
import pickle
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete

from callward import database, initiate
from callward.keys import signing
from callward.keys.keys import KeyDenied, KeyGone, KeyProblem, create_local
from callward.keys.signing import SigningKey, verify
from callward.settings import SIGNERS, Settings
from schemas.retention import roots
from tests.examples import tries


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    path = tmp_path_factory.mktemp("keys") / "one.sign"
    signing.create(path)
    return SigningKey(path)


@pytest.fixture
def settings(workspace: Callable[..., Any]) -> Settings:
    found: Settings = workspace("asterisk").settings
    return found


@tries(50)
@given(data=st.binary(max_size=200), other=st.binary(max_size=200), at=st.integers(0, 511))
def test_a_signature_holds_for_its_data_and_key_and_nothing_else(
    key: SigningKey, data: bytes, other: bytes, at: int
) -> None:
    signature = key.sign(data)
    assert verify(key.public, signature, data)
    assert verify(key.public, signature, other) == (data == other)
    spoilt = bytearray(signature)
    spoilt[at // 8] ^= 1 << at % 8
    assert not verify(key.public, bytes(spoilt), data)


@given(public=st.binary(max_size=40), signature=st.binary(max_size=80), data=st.binary(max_size=9))
def test_verify_answers_whatever_it_is_given(public: bytes, signature: bytes, data: bytes) -> None:
    assert verify(public, signature, data) in (True, False)


def test_a_key_file_is_private_made_once_and_shows_its_public_half_only(tmp_path: Path) -> None:
    path = tmp_path / "p.sign"
    public = signing.create(path)
    with pytest.raises(FileExistsError):
        signing.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    opened, secret = SigningKey(path), path.read_text().split()[1]
    assert opened.public == public
    assert secret not in repr(opened) + str(opened)
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="does not pickle"):
            attempt(opened)


def test_what_is_no_signing_key_of_ours_is_refused_without_its_content(tmp_path: Path) -> None:
    with pytest.raises(KeyGone, match=r"signing key file .*none\.sign does not exist"):
        SigningKey(tmp_path / "none.sign")
    path = tmp_path / "p.sign"
    signing.create(path)
    path.chmod(0o640)
    with pytest.raises(KeyDenied, match="0640"):
        SigningKey(path)
    create_local(tmp_path / "a.root")
    with pytest.raises(KeyProblem, match="is not a signing key file") as caught:
        SigningKey(tmp_path / "a.root")
    assert (tmp_path / "a.root").read_text().split()[1] not in str(caught.value)


@pytest.mark.parametrize("signer", SIGNERS)
def test_a_new_workspace_can_sign_and_be_believed(settings: Settings, signer: str) -> None:
    signature = signing.sign(settings, signer, b"what")
    assert verify(signing.public_key(settings, signer), signature, b"what")
    (other,) = set(SIGNERS) - {signer}
    assert not verify(signing.public_key(settings, other), signature, b"what")


def test_a_key_file_that_was_exchanged_signs_nothing(settings: Settings) -> None:
    before = signing.public_key(settings, "retention")
    file = signing.signer_file(settings, "retention")
    file.unlink()
    with pytest.raises(KeyGone):
        signing.sign(settings, "retention", b"what")
    signing.create(file)
    with pytest.raises(KeyDenied, match="not the one that is registered"):
        signing.sign(settings, "retention", b"what")
    initiate.upgrade(settings)
    assert signing.public_key(settings, "retention") == before


def test_a_signer_that_was_never_registered_says_how_it_is(settings: Settings) -> None:
    with database.writing(settings) as connection:
        connection.execute(delete(roots).where(roots.c.domain == "retention"))
    with pytest.raises(KeyProblem, match="init --upgrade"):
        signing.public_key(settings, "retention")
    initiate.upgrade(settings)
    assert verify(signing.public_key(settings, "retention"), signing.sign(settings, "retention", b"x"), b"x")
