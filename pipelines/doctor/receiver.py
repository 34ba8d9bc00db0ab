"""What doctor says of [receive]: its certificate, and its secrets. What cannot load is a row about the settings."""

import ssl
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from cryptography import x509

from callward import extras
from callward.credentials import secret
from callward.errors import UsageProblem
from callward.settings import Receive, Sender, Settings
from pipelines import terminal
from pipelines.readiness.finding import NOTE, OK, WARNING, WRONG, Finding

_SOON_DAYS: Final = 30
_AGAIN: Final = "put its successor in place, and send the receiver SIGHUP"


def receive(settings: Settings) -> Iterator[Finding]:
    """Yield findings about the receiver; none where nothing is declared to be received."""
    if settings.receive.certificate_file is not None:
        yield _certificate(settings, settings.receive)
    if settings.receive.senders:
        extras.require("aiohttp")
    for sender in settings.receive.senders:
        yield _sender(settings, sender)


def _certificate(settings: Settings, given: Receive) -> Finding:
    what, fix = "receive certificate", "name a certificate chain and its key (PEM)"
    file, key = (settings.below(str(name)) for name in (given.certificate_file, given.key_file))
    try:
        ends = x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc
        if key.stat().st_mode & stat.S_IRWXO:
            return Finding(what, WRONG, f"everyone may read its key {key}", f"chmod 0600 {key}, as its owner")
        # The empty password is for a key that asks for one: it is refused then, and asks nobody.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file, key, password="")
    except ssl.SSLError:
        return Finding(what, WRONG, f"{file} and {key} are no certificate and its key", fix)
    except OSError as error:
        return Finding(what, WRONG, f"{error.filename}: {error.strerror}", fix)
    except ValueError:
        return Finding(what, WRONG, f"{file} is no certificate", fix)
    return _validity(what, f"{file}, until {ends:%Y-%m-%d}", (ends - datetime.now(UTC)).days)


def _validity(what: str, seen: str, days: int) -> Finding:
    if days < 0:
        return Finding(what, WRONG, f"{seen}: it has expired", _AGAIN)
    if days < _SOON_DAYS:
        return Finding(what, WARNING, f"{seen}: {terminal.count(days, 'day')} left", _AGAIN)
    return Finding(what, OK, seen)


def _sender(settings: Settings, sender: Sender) -> Finding:
    what = f"receive {sender.source}"
    if not sender.username:
        seen = "whoever is on this machine may push its records"
        return Finding(what, NOTE, seen, "give it a username, and what 'callward receive --hash' prints")
    if sender.password is None:
        return Finding(what, OK, "the settings have its password's hash")
    try:
        secret(settings, f"receive.senders ({sender.source}): password", sender.password)
    except UsageProblem as problem:
        return Finding(what, WRONG, str(problem), "put the password there for its owner alone, or its hash here")
    return Finding(what, OK, "its password is there")
