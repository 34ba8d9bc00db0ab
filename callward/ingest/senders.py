"""Senders: who may push records of which source: its networks, its user and password.

Comparisons take the same time whatever is given. A password that was found right is remembered as a keyed digest, so
that its slow hash is computed once and not for every request.
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

from callward.ingest.credentials import secret
from callward.settings import Sender, Settings

_COST: Final = (1 << 14, 8, 1)  # scrypt's N, r, p: 16 MiB and some 50 ms
_DIGEST_BYTES: Final = 32
_MINUTE_S: Final = 60.0
_ADDRESSES: Final = 10_000

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, repr=False)
class Known:
    """One sender, with what its password is compared with."""

    networks: tuple[Network, ...]
    username: str
    digest: bytes  # SHA-256 of the password, or b""
    hashed: str  # the settings' hash, or ""


class Gate:
    """Says who may push. Holds secrets: it is neither logged nor pickled."""

    def __init__(self, settings: Settings) -> None:
        self._known = {sender.source: _known(settings, sender) for sender in settings.receive.senders}
        self._key = os.urandom(_DIGEST_BYTES)
        self._right: dict[str, bytes] = {}

    def knows(self, source: str) -> bool:
        """Whether records of the source are received at all."""
        return source in self._known

    def admits(self, source: str, address: str) -> bool:
        """Whether an address may send records of the source; without a list every address may."""
        networks = self._known[source].networks
        found = ip_address(address.partition("%")[0])
        if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return not networks or any(found in network for network in networks)

    def asks(self, source: str) -> bool:
        """Whether the source's sender must say who it is."""
        return bool(self._known[source].username)

    def remembers(self, source: str, authorization: str) -> bool:
        """Whether just these credentials were right before: quick."""
        return hmac.compare_digest(self._right.get(source, b""), self._mark(authorization))

    def accepts(self, source: str, authorization: str) -> bool:
        """Whether an Authorization header is the sender's: slow where the settings hold a hash."""
        username, password = _basic(authorization)
        known = self._known[source]
        right = hmac.compare_digest(_sha(username), _sha(known.username.encode()))
        if known.hashed:
            right &= matches(password, known.hashed)
        else:
            right &= hmac.compare_digest(_sha(password), known.digest)
        if right:
            self._right[source] = self._mark(authorization)
        return right

    def _mark(self, authorization: str) -> bytes:
        return hmac.digest(self._key, authorization.encode("utf-8", "surrogateescape"), "sha256")


def _known(settings: Settings, sender: Sender) -> Known:
    key = f"receive.senders ({sender.source}): password"
    given = secret(settings, key, sender.password) if sender.password else None
    return Known(
        networks=tuple(ip_network(network) for network in sender.addresses),
        username=sender.username,
        digest=_sha(given.encode()) if given is not None else b"",
        hashed=sender.password_hash or "",
    )


def _sha(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def _basic(authorization: str) -> tuple[bytes, bytes]:
    """User and password of HTTP Basic (RFC 7617); empty ones for anything else."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return b"", b""
    try:
        username, _, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return b"", b""
    return username, password


def hashed(password: str) -> str:
    """A password as the settings may hold it: scrypt (RFC 7914) with a salt of its own."""
    salt = os.urandom(16)
    digest = _scrypt(password.encode(), salt, _COST)
    return ":".join(["scrypt", *map(str, _COST), *(base64.b64encode(part).decode() for part in (salt, digest))])


def matches(password: bytes, text: str) -> bool:
    """Whether `text` (of `hashed`) is of that password."""
    _, n, r, p, salt, digest = text.split(":")
    found = _scrypt(password, base64.b64decode(salt), (int(n), int(r), int(p)))
    return hmac.compare_digest(found, base64.b64decode(digest))


def _scrypt(password: bytes, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    n, r, p = cost
    return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=_DIGEST_BYTES)


class Failures:
    """Counts wrong passwords by address, within a minute; remembers no more than some thousand addresses."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._clock = limit, clock
        self._found: dict[str, tuple[float, int]] = {}

    def too_many(self, address: str) -> bool:
        """Whether an address is put off for now."""
        began, count = self._found.get(address, (0.0, 0))
        return count >= self._limit and self._clock() - began < _MINUTE_S

    def add(self, address: str) -> None:
        """Note one more."""
        now = self._clock()
        began, count = self._found.pop(address, (now, 0))
        if now - began >= _MINUTE_S:
            began, count = now, 0
        while len(self._found) >= _ADDRESSES:
            self._found.pop(next(iter(self._found)))  # the one that was wrong longest ago
        self._found[address] = (began, count + 1)
