"""Who asks doctor: a service that runs pipelines, or a person whose roots open a part of the data.

A role is what its key roots open. What a person's role neither needs nor may fix is not looked at for them.
"""

import os
from collections.abc import Sequence
from typing import Final

from callward.initiate import root_file
from callward.keys.keys import KeyDenied, KeyProblem, open_source
from callward.settings import KEY_DOMAINS, Settings

_OF_SERVICES: Final = frozenset({"ids", "index"})  # no person has them (docs/access.md)
_PERSONS: Final = {
    frozenset({"billing"}): "billing",
    frozenset({"billing", "billing-numbers"}): "billing, with a case",
    frozenset({"assurance"}): "assurance",
    frozenset({"hold"}): "legal",
    frozenset({"sla"}): "support",
    frozenset({"archive"}): "receive",
    frozenset[str](): "compliance, ops or analytics (no root opens)",
}


def person(settings: Settings) -> str | None:
    """Return the role of a person, by the roots that open; None for a service, whose roots should all be there.

    Without the roots of services it is a person who has settings of their own (no sources in them), or who may not
    read the roots of others. A service that lost its roots is neither.
    """
    opened = opening(settings)
    if opened & _OF_SERVICES or (settings.sources and not _others(settings)):
        return None
    return _PERSONS.get(opened, f"whoever opens {', '.join(sorted(opened))}")


def opening(settings: Settings) -> frozenset[str]:
    """Return the key domains whose roots open for whoever asks."""
    return frozenset(domain for domain in KEY_DOMAINS if _opens(settings, domain))


def theirs(settings: Settings) -> Sequence[str]:
    """Return the key domains whose roots are the asking person's own: they open, or should."""
    opened = opening(settings)
    return [domain for domain in KEY_DOMAINS if domain in opened or _is_own(settings, domain)]


def _opens(settings: Settings, domain: str) -> bool:
    try:
        open_source(settings.root_uri(domain)).close()
    except KeyProblem:
        return False
    return True


def _others(settings: Settings) -> bool:
    """Return whether a root is there that belongs to somebody else."""
    return any(_is_denied(settings, domain) and not _is_own(settings, domain) for domain in KEY_DOMAINS)


def _is_denied(settings: Settings, domain: str) -> bool:
    try:
        open_source(settings.root_uri(domain)).close()
    except KeyDenied:
        return True
    except KeyProblem:
        return False
    return False


def _is_own(settings: Settings, domain: str) -> bool:
    file = root_file(settings, domain)
    try:
        return file is not None and file.stat().st_uid == os.geteuid()
    except OSError:
        return False
