"""Handing data back: files sealed for a recipient's X25519 key, with a signed manifest. Format in docs/tenants.md.

A fresh key of 32 bytes seals every file; it is wrapped under HKDF-SHA256 of the X25519 agreement of a key pair made
for this hand-over with the recipient's public key. Nothing here needs callward's own keys to be opened again.
"""

import base64
import binascii
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from callward.errors import Problem, UsageProblem
from callward.keys import signing

FORMAT_VERSION: Final = 1
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig"
SUFFIX: Final = ".sealed"
_MAGIC: Final = b"CWHB\x01"
_NONCE_BYTES: Final = 12
_WRAP: Final = b"callward-handback-key-1"
_TAG: Final = b"callward/handback/1|"


@dataclass(frozen=True)
class Envelope:
    """The key of one hand-over: for the sender open, for the manifest wrapped."""

    recipient: str  # public key, hex
    ephemeral: str
    wrapped: str  # base64
    key: bytes = field(repr=False)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key does not pickle")

    def to_dict(self) -> dict[str, str]:
        """Return what the recipient needs to open it."""
        return {"recipient": self.recipient, "ephemeral": self.ephemeral, "wrapped": self.wrapped}

    def seal(self, name: str, data: bytes | memoryview) -> bytes:
        """Return a file's content sealed, bound to its name."""
        nonce = os.urandom(_NONCE_BYTES)
        return _MAGIC + nonce + AESGCM(self.key).encrypt(nonce, data, name.encode())


def public_key(text: str) -> bytes:
    """Return an X25519 public key (32 bytes) from PEM or 64 hex digits; raises UsageProblem for anything else."""
    try:
        if text.lstrip().startswith("-----BEGIN"):
            key = serialization.load_pem_public_key(text.encode())
            if isinstance(key, X25519PublicKey):
                return key.public_bytes_raw()
        elif len(text.strip()) == 64:
            return bytes.fromhex(text.strip())
    except ValueError:
        pass
    raise UsageProblem("a recipient's key is an X25519 public key: PEM, or 64 hex digits")


def private_key(path: Path) -> X25519PrivateKey:
    """Return a private key from a PEM file without a passphrase; raises UsageProblem, without the file's content."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise UsageProblem(f"the key file {path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, X25519PrivateKey):
        raise UsageProblem(f"{path} is not an X25519 private key in PEM")
    return key


def envelope(recipient: bytes) -> Envelope:
    """Return a fresh key, wrapped for a recipient; raises UsageProblem for a key that nothing can be wrapped for."""
    key, pair = os.urandom(32), X25519PrivateKey.generate()
    ephemeral = pair.public_key().public_bytes_raw()
    try:
        shared = pair.exchange(X25519PublicKey.from_public_bytes(recipient))
    except ValueError:
        raise UsageProblem("the recipient's key is none that a secret can be agreed with") from None
    wrapped = AESGCM(_wrapping(shared, ephemeral, recipient)).encrypt(bytes(_NONCE_BYTES), key, _WRAP)
    return Envelope(recipient.hex(), ephemeral.hex(), base64.b64encode(wrapped).decode(), key)


def _wrapping(shared: bytes, ephemeral: bytes, recipient: bytes) -> bytes:
    """Return the wrapping key. It wraps one key once, so its nonce may be constant."""
    return HKDF(hashes.SHA256(), 32, None, _WRAP + ephemeral + recipient).derive(shared)


def opened(manifest: dict[str, Any], private: X25519PrivateKey) -> Envelope:
    """Return the envelope of a manifest, by the recipient's private key; raises Problem where it is another's."""
    sealed = manifest["envelope"]
    try:
        ephemeral, wrapped = bytes.fromhex(sealed["ephemeral"]), base64.b64decode(sealed["wrapped"], validate=True)
        shared = private.exchange(X25519PublicKey.from_public_bytes(ephemeral))
        recipient = private.public_key().public_bytes_raw()
        key = AESGCM(_wrapping(shared, ephemeral, recipient)).decrypt(bytes(_NONCE_BYTES), wrapped, _WRAP)
    except (InvalidTag, ValueError, binascii.Error):
        raise Problem("this private key does not open what was handed over: it is sealed for another one") from None
    return Envelope(sealed["recipient"], sealed["ephemeral"], sealed["wrapped"], key)


def unseal(envelope: Envelope, name: str, blob: bytes) -> bytes:
    """Return a file's content; raises Problem where it was altered or belongs elsewhere."""
    body = blob[len(_MAGIC) :]
    if not blob.startswith(_MAGIC):
        raise Problem(f"{name} is not of a format that this release knows")
    try:
        return AESGCM(envelope.key).decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], name.encode())
    except (InvalidTag, ValueError):
        raise Problem(f"{name} was altered") from None


# -- the manifest ------------------------------------------------------------------------------------------------------


def canonical(manifest: dict[str, Any]) -> bytes:
    """Return the bytes that are signed."""
    return json.dumps(manifest, sort_keys=True, separators=(",", ":"), default=str).encode()


def to_sign(manifest: bytes) -> bytes:
    return _TAG + manifest


def read(folder: Path, signer: str = "") -> dict[str, Any]:
    """Return the manifest of a hand-over, after its signature was checked and every file compared with it.

    `signer`: the public key (hex) that it must be signed by; without it the manifest's own is taken, which proves that
    nothing was altered since, not who signed. Raises Problem in one sentence.
    """
    try:
        text, signature = (folder / MANIFEST).read_bytes(), bytes.fromhex((folder / SIGNATURE).read_text().strip())
        manifest = dict(json.loads(text))
        version, public = manifest["format_version"], bytes.fromhex(signer or manifest["signed_by"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise Problem(f"{folder} holds no complete hand-over: its manifest or signature cannot be read") from None
    if version != FORMAT_VERSION:
        raise Problem("the hand-over is of a format version that this release does not know")
    if not signing.verify(public, signature, to_sign(text)):
        raise Problem("the manifest's signature does not hold: it was altered, or another one signed it")
    for item in manifest["files"]:
        check_file(folder, item)
    return manifest


def check_file(folder: Path, item: dict[str, Any]) -> None:
    """Raise Problem unless a file lies in the folder as the manifest says."""
    path = folder / item["name"]
    if not path.resolve().is_relative_to(folder.resolve()):
        raise Problem("the manifest names a file outside its folder")
    if not path.is_file():
        raise Problem(f"{item['name']} is missing")
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != item["sha256"]:
            raise Problem(f"{item['name']} was altered")
