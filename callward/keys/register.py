"""The key register: month keys, each wrapped by the root of its key domain, opened by purpose and audited.

A key is named by (key domain, tenant, month, purpose) and found by an opaque id that data files and sealed headers
carry. A destroyed key leaves its row as a tombstone, so it can be neither opened nor minted again. A key is minted
under the root that the register calls active, asked within the very transaction: a root that was followed by another
while a process had it open wraps nothing more.
"""

import os
import secrets
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from callward import audit, database
from callward.keys.keys import Key, KeyGone, KeyProblem, KeySource, fingerprint
from callward.keys.roots import active, open_root
from callward.keys.seal import Sealer
from callward.settings import Settings
from schemas.tables import keys

FORMAT_VERSION = 1
EVERY_MONTH = "all"


@dataclass(frozen=True, order=True)
class KeyName:
    """What a key is for. `domain` says whose root opens it; `month` is YYYY-MM or "all"."""

    domain: str
    tenant: str
    month: str
    purpose: str

    def __str__(self) -> str:
        return f"{self.domain}/{self.tenant}/{self.month}/{self.purpose}"


class _New(Exception):
    """A key is to be minted, which only one process does at a time."""


class Keyring:
    """Opens keys for one role and reason. Secrets stay in this process; every first opening is audited."""

    def __init__(self, settings: Settings, role: str, reason: str) -> None:
        self._settings = settings
        self._role = role
        self._reason = reason
        self._keys: dict[KeyName, Key] = {}
        self._names: dict[str, KeyName] = {}
        self._sealers: dict[str, Sealer] = {}
        self._sources: dict[str, KeySource] = {}
        self._lock = threading.RLock()

    def key(self, name: KeyName) -> Key:
        """Return the key of that name, minted when it is new; raises KeyGone when it was destroyed."""
        return self.keys([name])[0]

    def keys(self, names: Sequence[KeyName]) -> list[Key]:
        """Return several keys at once, in one transaction."""
        with self._lock:
            missing = sorted({name for name in names if name not in self._keys})
            if missing:
                self._open(missing)
            return [self._keys[name] for name in names]

    def existing(self, names: Iterable[KeyName]) -> dict[KeyName, Key]:
        """Return those of the keys that were minted and not destroyed."""
        wanted = set(names)
        with database.reading(self._settings) as connection:
            rows = connection.execute(
                select(keys).where(keys.c.state != "destroyed", keys.c.month.in_({n.month for n in wanted}))
            )
            found = [name for name in (name_of(row) for row in rows) if name in wanted]
        return dict(zip(found, self.keys(found), strict=True))

    def by_id(self, key_id: str) -> Key:
        """Return the key with that opaque id; raises KeyGone when it was destroyed or never was."""
        with self._lock:
            if key_id not in self._names:
                with database.reading(self._settings) as connection:
                    row = connection.execute(select(keys).where(keys.c.key_id == key_id)).first()
                if row is None:
                    raise KeyGone(f"key {key_id} is not in the register")
                self._names[key_id] = name_of(row)
            return self.key(self._names[key_id])

    def sealer(self, name: KeyName) -> Sealer:
        """Return a sealer under the key of that name, shared within the process."""
        key = self.key(name)
        with self._lock:
            return self._sealers.setdefault(key.key_id, Sealer(key))

    def sealer_by_id(self, key_id: str) -> Sealer:
        """Return the sealer for a header's key id."""
        key = self.by_id(key_id)
        with self._lock:
            return self._sealers.setdefault(key.key_id, Sealer(key))

    def _open(self, names: Sequence[KeyName]) -> None:
        """Open keys, each with its entry in the audit log, and mint those that are new.

        A reader of keys that are there waits for no commit. One by one with commits goes what mints, and what met a
        root that changed meanwhile.
        """
        try:
            with database.appending(self._settings) as connection:
                opened = self._opened(connection, names, mint=False)
        except (_New, KeyProblem):
            with database.writing(self._settings) as connection:
                opened = self._opened(connection, names, mint=True)
        self._keys.update(opened)
        self._names.update({key.key_id: name for name, key in opened.items()})

    def _opened(self, connection: Connection, names: Sequence[KeyName], *, mint: bool) -> dict[KeyName, Key]:
        """Unwrap or mint, and audit, in one transaction: no key is in memory without its entry."""
        opened, entries = {}, []
        for name in names:
            row = connection.execute(select(keys).where(_is(name))).first()
            if row is None and not mint:
                raise _New
            key, event = (self._unwrap(name, row), "open") if row else (self._mint(connection, name), "mint")
            opened[name] = key
            entries.append(audit.Entry(self._role, event, f"{key.key_id} {name}", self._reason))
        audit.append(connection, entries)
        return opened

    def _root(self, domain: str, root_id: str) -> KeySource:
        """Return the root with that id, opened anew when another epoch has begun since."""
        known = self._sources.get(domain)
        if known is None or known.root_id != root_id:
            known = self._sources[domain] = open_root(self._settings, domain, root_id)
        return known

    def _unwrap(self, name: KeyName, row: Row[Any]) -> Key:
        if row.state == "destroyed" or row.blob is None:
            raise KeyGone(f"key {row.key_id} ({name}) was destroyed")
        return unwrapped(row, self._root(name.domain, row.root_id))

    def _mint(self, connection: Connection, name: KeyName) -> Key:
        key = Key(secrets.token_hex(16), secrets.token_bytes(32))
        source = self._root(name.domain, active(connection, self._settings, name.domain).root_id)
        connection.execute(
            insert(keys).values(
                key_id=key.key_id,
                domain=name.domain,
                tenant=name.tenant,
                month=name.month,
                purpose=name.purpose,
                state="active",
                blob=source.wrap(key.secret, binding(key.key_id, name)),
                root_id=source.root_id,
                fingerprint=fingerprint(key),
                created_at=database.now(),
                format_version=FORMAT_VERSION,
            )
        )
        return key

    def forget(self, key_ids: Iterable[str]) -> None:
        """Drop keys from memory, as far as Python lets go of them: a destroyed key opens nothing here any more."""
        gone = set(key_ids)
        with self._lock:
            self._keys = {name: key for name, key in self._keys.items() if key.key_id not in gone}
            for key_id in gone:
                self._sealers.pop(key_id, None)


_SHARED: dict[tuple[str, str, str, str, int], Keyring] = {}
_SHARED_LOCK = threading.Lock()


def keyring(settings: Settings, role: str, reason: str) -> Keyring:
    """Return the process's keyring for a role and reason: workers, threads and waves share what is open."""
    name = (str(settings.path), settings.digest, role, reason, os.getpid())
    with _SHARED_LOCK:
        return _SHARED.setdefault(name, Keyring(settings, role, reason))


def forget(key_ids: Iterable[str]) -> None:
    """Drop keys from every keyring that this process shares."""
    gone = set(key_ids)
    with _SHARED_LOCK:
        for ring in _SHARED.values():
            ring.forget(gone)


def unwrapped(row: Any, source: KeySource) -> Key:
    """Return the key in a row of the register, or in anything with the same names.

    Raises KeyDenied for another root, KeyProblem for another key.
    """
    name = name_of(row)
    key = Key(row.key_id, source.unwrap(row.blob, binding(row.key_id, name)))
    if fingerprint(key) != row.fingerprint:
        raise KeyProblem(f"key {row.key_id} ({name}) is not the one that was registered")
    return key


def binding(key_id: str, name: KeyName) -> bytes:
    """Return what a wrapped key is bound to: a blob that is moved to another row does not open."""
    return f"callward/key/{FORMAT_VERSION}|{key_id}|{name}".encode()


def name_of(row: Any) -> KeyName:
    """Return the name of the key in a row of the register."""
    return KeyName(row.domain, row.tenant, row.month, row.purpose)


def _is(name: KeyName) -> Any:
    return (
        (keys.c.domain == name.domain)
        & (keys.c.tenant == name.tenant)
        & (keys.c.month == name.month)
        & (keys.c.purpose == name.purpose)
    )
