"""Key roots: whether each can be read, is the active one, and opens what it wrapped. No key is opened."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from sqlalchemy import select

from callward import database
from callward.errors import Problem
from callward.keys.keys import KeyProblem, KeySource, open_source
from callward.keys.roots import ACTIVE, root_file
from callward.settings import Settings
from pipelines import terminal
from pipelines.readiness.finding import MISSING, OK, WRONG, Finding
from schemas.retention import roots
from schemas.tables import keys

# The key domains that records are taken in with; whoever has no root of another may run nights all the same.
TAKING_IN: Final = (
    "billing",
    "billing-numbers",
    "assurance",
    "index",
    "suspense",
    "pending",
    "archive",
    "ids",
    "transit",
    "late",  # records that come past their window
)


def opened(settings: Settings, domains: Iterable[str]) -> Iterator[Finding]:
    """Check each root of the settings: can it be read, is it the active one, and does it open what it wrapped?"""
    registered, known = _registered(settings), active(settings)
    for domain in domains:
        what = f"root {domain}"
        try:
            source = open_source(settings.root_uri(domain))
        except KeyProblem as problem:
            yield _unreadable(settings, what, domain, problem)
            continue
        source.close()
        if known.get(domain, source.root_id) != source.root_id:
            yield Finding(
                what,
                WRONG,
                f"it is {source.root_id}, and the register calls {known[domain]} active",
                "put the right root back; where the database is an older copy: callward keys restore",
            )
        elif known and domain not in known:
            yield Finding(what, WRONG, "the register does not know it", f"callward init --upgrade {settings.folder}")
        else:
            yield _opening(what, source, registered.get(domain, []))


def _unreadable(settings: Settings, what: str, domain: str, problem: KeyProblem) -> Finding:
    file = root_file(settings, domain)
    if file is None:
        return Finding(what, WRONG, str(problem))
    if not file.exists():
        return Finding(
            what,
            MISSING,
            str(problem),
            "put the root back from its safe copy, or run this as a role that does not need it",
        )
    return Finding(what, WRONG, str(problem), f"chmod 0600 {file}, as its owner")


def _opening(what: str, source: KeySource, registered: list[Any]) -> Finding:
    """Compare fingerprints: keys name the root that wrapped them, so none needs to be opened."""
    if not registered:
        return Finding(what, OK, "readable; the register has no key of it yet")
    closed = sum(row.root_id != source.root_id for row in registered)
    if closed:
        seen = f"does not open {closed:,} of the register's {len(registered):,} keys"
        return Finding(what, WRONG, seen, "this is another root: put the right one back")
    return Finding(what, OK, f"opens {terminal.count(len(registered), 'key')} of the register")


def active(settings: Settings) -> dict[str, str]:
    """Return the id of the active root, or signing key, by key domain or signer."""
    try:
        with database.reading(settings) as connection:
            rows = connection.execute(select(roots).where(roots.c.state == ACTIVE)).all()
    except Problem:
        return {}  # the check of the database says why
    return {row.domain: row.root_id for row in rows}


def _registered(settings: Settings) -> dict[str, list[Any]]:
    try:
        with database.reading(settings) as connection:
            rows = connection.execute(select(keys).where(keys.c.state != "destroyed")).all()
    except Problem:
        return {}  # the check of the database says why
    by_domain: dict[str, list[Any]] = {}
    for row in rows:
        by_domain.setdefault(row.domain, []).append(row)
    return by_domain
