"""Senders: who may push records of which source: its networks, its user name and password.

Comparisons take the same time whatever is given. A password that was right is remembered as a keyed digest, so that
its slow hash is computed once and not for every request.
"""

import base64
import binascii
import hashlib
import hmac
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from callward.credentials import secret
from callward.settings import Sender, Settings

_MEMORY_KIB: Final = 19 * 1024  # Argon2id's cost, as OWASP's password storage cheat sheet has it: some 40 ms
_PASSES: Final = 2
_LANES: Final = 1
_SALT_BYTES: Final = 16
_DIGEST_BYTES: Final = 32
_MINUTE_S: Final = 60.0
_ADDRESSES: Final = 10_000

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, repr=False)
class _Known:
    """One sender, with what its password is compared with."""

    networks: tuple[Network, ...]
    username: str
    digest: bytes  # SHA-256 of the password, or b""
    password_hash: str  # as the settings have it, or ""


class Gate:
    """Decides who may push. Holds secrets: it is neither logged nor pickled.

    Raises UsageProblem when the settings name a password that is not there, or that everyone may read.
    """

    def __init__(self, settings: Settings) -> None:
        self._known = {sender.source: _known(settings, sender) for sender in settings.receive.senders}
        self._key = os.urandom(_DIGEST_BYTES)
        self._right: dict[str, bytes] = {}

    def knows(self, source: str) -> bool:
        """Return whether records of the source are received at all."""
        return source in self._known

    def allows(self, source: str, address: str) -> bool:
        """Return whether an IP address may send records of the source; without a list every address may."""
        networks = self._known[source].networks
        sender = ip_address(address.partition("%")[0])
        if isinstance(sender, IPv6Address) and sender.ipv4_mapped is not None:
            sender = sender.ipv4_mapped
        return not networks or any(sender in network for network in networks)

    def needs_credentials(self, source: str) -> bool:
        """Return whether the source's sender must give a user name and password."""
        return bool(self._known[source].username)

    def remembers(self, source: str, authorization: str) -> bool:
        """Return whether just these credentials were right before: quick."""
        return hmac.compare_digest(self._right.get(source, b""), self._mark(authorization))

    def accepts(self, source: str, authorization: str) -> bool:
        """Return whether an Authorization header is the sender's: slow where the settings hold a hash."""
        username, password = _basic(authorization)
        known = self._known[source]
        right = hmac.compare_digest(_sha(username), _sha(known.username.encode()))
        if known.password_hash:
            right &= is_password(password, known.password_hash)
        else:
            right &= hmac.compare_digest(_sha(password), known.digest)
        if right:
            self._right[source] = self._mark(authorization)
        return right

    def _mark(self, authorization: str) -> bytes:
        return hmac.digest(self._key, authorization.encode("utf-8", "surrogateescape"), "sha256")


def _known(settings: Settings, sender: Sender) -> _Known:
    key = f"receive.senders ({sender.source}): password"
    password = secret(settings, key, sender.password) if sender.password else None
    return _Known(
        networks=tuple(ip_network(network) for network in sender.addresses),
        username=sender.username,
        digest=_sha(password.encode()) if password is not None else b"",
        password_hash=sender.password_hash or "",
    )


def _sha(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def _basic(authorization: str) -> tuple[bytes, bytes]:
    """Return user name and password of HTTP Basic (RFC 7617); empty ones for anything else."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return b"", b""
    try:
        username, _, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return b"", b""
    return username, password


def hash_password(password: str) -> str:
    """Return a password as the settings may hold it: Argon2id (RFC 9106) as a PHC string, with a salt of its own."""
    salt = os.urandom(_SALT_BYTES)
    function = Argon2id(salt=salt, length=_DIGEST_BYTES, iterations=_PASSES, lanes=_LANES, memory_cost=_MEMORY_KIB)
    return function.derive_phc_encoded(password.encode())


def is_password(password: bytes, text: str) -> bool:
    """Return whether `text` is a hash of that password: an Argon2id PHC string, or an earlier release's scrypt."""
    if text.startswith("scrypt:"):
        return _is_scrypt_of(password, text)
    try:
        Argon2id.verify_phc_encoded(password, text)
    except InvalidKey:
        return False
    return True


def _is_scrypt_of(password: bytes, text: str) -> bool:
    """Return whether `text` (scrypt:N:r:p:salt:digest, the last two in base64) is of that password (RFC 7914)."""
    _, n, r, p, salt, digest = text.split(":")
    cost = {"n": int(n), "r": int(r), "p": int(p), "maxmem": 256 * int(n) * int(r)}
    derived = hashlib.scrypt(password, salt=base64.b64decode(salt), dklen=_DIGEST_BYTES, **cost)
    return hmac.compare_digest(derived, base64.b64decode(digest))


class Failures:
    """Counts wrong passwords by address, within a minute; remembers no more than some thousand addresses."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._clock = limit, clock
        self._failed: dict[str, tuple[float, int]] = {}

    def too_many(self, address: str) -> bool:
        """Return whether an address has failed too often within the minute."""
        began, count = self._failed.get(address, (0.0, 0))
        return count >= self._limit and self._clock() - began < _MINUTE_S

    def add(self, address: str) -> None:
        """Count one more."""
        now = self._clock()
        began, count = self._failed.pop(address, (now, 0))
        if now - began >= _MINUTE_S:
            began, count = now, 0
        while len(self._failed) >= _ADDRESSES:
            self._failed.pop(next(iter(self._failed)))  # the address that failed longest ago
        self._failed[address] = (began, count + 1)
