"""Keys, and the roots that wrap them.

A *root* (`KeySource`) wraps and unwraps other keys and does nothing else. A `Key` is what comes out: an opaque id and
32 secret bytes that never show in a repr, a pickle or a message. The associated data of a wrapped key is the key's
name, so a blob that is moved to another row of the register does not open.
"""

import base64
import binascii
import grp
import hashlib
import os
import pwd
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from callward import core_dumps
from callward.errors import Problem
from callward.redaction import in_letters
from callward.settings import local_uri
from callward.storage.durable import create

KEY_BYTES: Final = 32
ID_BYTES: Final = 16

_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_ROOT_TAG: Final = b"callward-root-1"
_FILE_LIMIT: Final = 4096


class KeyProblem(Problem):
    """A key cannot be used. The message names the key or the file, never key bytes."""

    code = "key"


class KeyGone(KeyProblem):
    """The key was destroyed, or the root that wraps it no longer exists."""

    code = "destroyed"


class KeyDenied(KeyProblem):
    """The key exists, but whoever asks may not open it, or what was given is not what that root wrapped."""

    code = "denied"


@dataclass(frozen=True)
class Key:
    """One secret: `key_id` is 32 hex digits that mean nothing, `secret` is 32 bytes.

    Raises ValueError for another form of either. Does not pickle: workers open keys from a reference.
    """

    key_id: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ValueError(f"a secret has {KEY_BYTES} bytes")
        if not _is_key_id(self.key_id):
            raise ValueError(f"a key id has {2 * ID_BYTES} lower-case hex digits")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key does not pickle: pass a reference and open it on the worker")


def _is_key_id(text: str) -> bool:
    return len(text) == 2 * ID_BYTES and set(text) <= set("0123456789abcdef")


def mint() -> Key:
    """Return a new random key with a new random id."""
    return Key(os.urandom(ID_BYTES).hex(), os.urandom(KEY_BYTES))


def fingerprint(key: Key) -> str:
    """Return 32 hex digits that stay in a tombstone: they tell two keys apart and reveal neither."""
    return hashlib.blake2b(key.secret, digest_size=16, person=b"kekfp").hexdigest()


class KeySource(Protocol):
    """A root: wraps keys for storage and unwraps them; what it is made of never leaves it."""

    root_id: str

    def wrap(self, key: bytes, aad: bytes) -> bytes:
        """Encrypt `key`, bound to `aad` (the key's name)."""

    def unwrap(self, blob: bytes, aad: bytes) -> bytes:
        """Return the key inside `blob`. Raises KeyDenied when the blob, the name or the root is another one."""

    def close(self) -> None:
        """Forget the root; every later call raises KeyDenied."""


class LocalRoot:
    """A root in a file that only its owner may read (`local:///path`). AES-256-GCM, random nonces, 60-byte blobs."""

    def __init__(self, path: str | Path) -> None:
        raw = read_secret(Path(path), _ROOT_TAG, "root key file")
        self.path = str(path)
        self.root_id = "local:" + in_letters(hashlib.blake2b(raw, digest_size=8, person=b"rootfp").digest())
        self._cipher: AESGCM | None = AESGCM(raw)

    def wrap(self, key: bytes, aad: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._opened().encrypt(nonce, key, aad)

    def unwrap(self, blob: bytes, aad: bytes) -> bytes:
        cipher = self._opened()
        if len(blob) < _NONCE_BYTES + _TAG_BYTES:
            raise KeyDenied(f"a wrapped key is too short for the root key file {self.path}")
        try:
            return cipher.decrypt(blob[:_NONCE_BYTES], blob[_NONCE_BYTES:], aad)
        except InvalidTag:
            raise KeyDenied(
                f"the root key file {self.path} does not open this wrapped key: it is another root's, "
                "another key's, or was altered"
            ) from None

    def close(self) -> None:
        self._cipher = None

    def _opened(self) -> AESGCM:
        if self._cipher is None:
            raise KeyDenied(f"the root key file {self.path} was closed")
        return self._cipher

    def __repr__(self) -> str:
        return f"LocalRoot({self.path!r}, {self.root_id})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a root does not pickle: pass its URI and open it on the worker")


def read_secret(path: Path, tag: bytes, what: str) -> bytes:
    """Return the 32 bytes in a key file, after its owner and mode were checked on the very file that is read.

    `tag` is the file's first word, `what` names its kind in messages. Raises KeyGone when there is none, KeyDenied
    when others may touch it, KeyProblem for any other content.
    """
    core_dumps.forbid()
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise KeyGone(f"the {what} {path} does not exist") from None
    except OSError as problem:
        raise KeyDenied(f"the {what} {path} cannot be opened: {problem.strerror}") from None
    try:
        _check_mode(path, os.fstat(handle), what)
        return _decode(path, os.read(handle, _FILE_LIMIT), tag, what)
    finally:
        os.close(handle)


def _check_mode(path: Path, found: os.stat_result, what: str) -> None:
    """Raise KeyDenied for a file that is not ours alone, or that the system did not give to this process alone."""
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode):
        raise KeyDenied(f"the {what} {path} is not a regular file")
    if _is_mounted_secret(found):
        return
    if mode & 0o077:
        raise KeyDenied(f"the {what} {path} has mode {mode:04o}; it must be 0600")
    if found.st_uid != os.geteuid():
        raise KeyDenied(f"the {what} {path} belongs to another user")


def _is_mounted_secret(found: os.stat_result) -> bool:
    """Return whether a file is as Kubernetes gives a Secret to a pod: root's, and for our group alone.

    Its mode is 0440 or 0040 then. A group that other users of this system are in, too, does not count.
    """
    ours = found.st_gid in (os.getegid(), *os.getgroups())
    read_by_group = stat.S_IMODE(found.st_mode) in (0o440, 0o040)
    return found.st_uid == 0 and read_by_group and ours and not _others_in(found.st_gid)


def _others_in(group: int) -> bool:
    """Return whether users other than this process's are in a group, by the system's lists."""
    users = {user.pw_name: user for user in pwd.getpwall()}
    names = {name for name, user in users.items() if user.pw_gid == group}
    with suppress(KeyError):  # a group that has no name here, such as a pod's
        names |= set(grp.getgrgid(group).gr_mem)
    return any(name not in users or users[name].pw_uid not in (0, os.geteuid()) for name in names)


def _decode(path: Path, text: bytes, tag: bytes, what: str) -> bytes:
    word, _, encoded = text.strip().partition(b" ")
    if word != tag:
        raise KeyProblem(f"{path} is not a {what} of a version that this release knows")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != KEY_BYTES:
        raise KeyProblem(f"the {what} {path} is damaged")
    return raw


def create_secret(path: Path, tag: bytes) -> None:
    """Make a key file of 32 new random bytes (mode 0600, on disk when this returns).

    Raises FileExistsError rather than touch a file that is there: a root overwritten is every key lost.
    """
    text = tag + b" " + base64.b64encode(os.urandom(KEY_BYTES)) + b"\n"
    create(path, text)


def create_local(path: str | Path) -> str:
    """Make a new root key file and return its URI; raises FileExistsError where one is."""
    path = Path(path).absolute()
    create_secret(path, _ROOT_TAG)
    return local_uri(path)


def local_path(uri: str) -> Path | None:
    """Return the file that a local URI names; None for a root that is kept elsewhere."""
    return Path(unquote(urlsplit(uri).path)) if uri.startswith("local:///") else None


def _open_local(uri: SplitResult) -> KeySource:
    if uri.netloc or uri.query or uri.fragment or not uri.path:
        raise KeyProblem("a local root is written local:///path, and takes nothing else")
    return LocalRoot(unquote(uri.path))


# Each back end is one entry: a function from the split URI to an open root.
SCHEMES: Final[dict[str, Callable[[SplitResult], KeySource]]] = {"local": _open_local}


def open_source(uri: str) -> KeySource:
    """Open the root that `uri` names, for instance `local:///etc/callward/billing.root`.

    Raises KeyProblem for a scheme nobody registered in `SCHEMES`, KeyGone when the root no longer exists, KeyDenied
    when it may not be used. Messages never repeat the whole URI, which may carry a credential.
    """
    split = urlsplit(uri)
    opener = SCHEMES.get(split.scheme)
    if opener is None:
        known = ", ".join(f"{scheme}:" for scheme in sorted(SCHEMES))
        raise KeyProblem(f"no key source for the scheme {split.scheme!r}; this installation knows {known}")
    return opener(split)
