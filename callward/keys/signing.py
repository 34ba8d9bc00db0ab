"""Ed25519 signatures: of the services (custodian, retention) by keys that the settings name, and of persons.

A signing key is a file that only its owner may read. Its public half is registered when the workspace is made, so that
a key file that was exchanged later signs nothing that anybody believes.
"""

from pathlib import Path
from typing import Final, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import Connection

from callward import database
from callward.keys import roots
from callward.keys.keys import KeyDenied, KeyProblem, create_secret, local_path, read_secret
from callward.settings import Settings

PUBLIC_BYTES: Final = 32
_TAG: Final = b"callward-signing-1"
_WHAT: Final = "signing key file"
_SCHEME: Final = "ed25519:"


class SigningKey:
    """An open signing key: `public` is the half that may be known; the other never shows and does not pickle."""

    def __init__(self, path: str | Path) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(read_secret(Path(path), _TAG, _WHAT))
        self.path = str(path)
        self.public = self._key.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        """Return 64 bytes that `verify` accepts for this data and this key's public half alone."""
        return self._key.sign(data)

    def __repr__(self) -> str:
        return f"SigningKey({self.path!r}, public {self.public.hex()})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signing key does not pickle: pass its path and open it where it is used")


def create(path: str | Path) -> bytes:
    """Make a new signing key file (mode 0600) and return its public half; raises FileExistsError where one is."""
    path = Path(path).absolute()
    create_secret(path, _TAG)
    return SigningKey(path).public


def verify(public: bytes, signature: bytes, data: bytes) -> bool:
    """Return whether `signature` is that of the key with this public half over `data`.

    Never raises for what it is given.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def signer_file(settings: Settings, signer: str) -> Path:
    """Return the key file of a signer (custodian or retention)."""
    path = local_path(settings.signer_uri(signer))
    if path is None:
        raise KeyProblem(f"the signing key of {signer} is not a local file; only local: is built so far")
    return path


def sign(settings: Settings, signer: str, data: bytes) -> bytes:
    """Sign as the custodian or as retention.

    Raises KeyGone or KeyDenied when the key cannot be used, and KeyDenied when it is not the registered one.
    """
    key = SigningKey(signer_file(settings, signer))
    if key.public != public_key(settings, signer):
        raise KeyDenied(f"the {_WHAT} {key.path} is not the one that is registered for {signer}")
    return key.sign(data)


def public_key(settings: Settings, signer: str) -> bytes:
    """Return the registered public half of a signer's key, 32 bytes; raises KeyProblem when none is registered."""
    with database.reading(settings) as connection:
        public = registered(connection, signer)
    if public is None:
        raise KeyProblem(
            f"no signing key is registered for {signer}; 'callward init --upgrade {settings.folder}' registers it"
        )
    return public


def registered(connection: Connection, signer: str) -> bytes | None:
    """Return the public half that the register holds for a signer."""
    row = roots.registered(connection, signer)
    return bytes.fromhex(row.root_id.removeprefix(_SCHEME)) if row is not None else None


def key_id(public: bytes) -> str:
    """Return a public half as the register names it."""
    return _SCHEME + public.hex()
