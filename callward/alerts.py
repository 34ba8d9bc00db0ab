"""Alerts: a program is run, or an address is posted to, for what a person must look at.

What is sent is a small JSON document of a kind, a source and a sentence, each masked: no number leaves this way. The
program is not run by a shell, and finds none of our variables (they may hold credentials).
"""

import http.client
import json
import os
import signal
import ssl
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from callward.credentials import secret
from callward.errors import Problem
from callward.redaction import mask
from callward.settings import Settings
from callward.settings.engine import webhook_url

_KEPT: Final = ("PATH", "HOME", "LANG", "TZ")  # of the environment, for the program
_JSON: Final = {"Content-Type": "application/json", "User-Agent": "callward"}


class AlertFailed(Exception):
    """An alert did not go out, and why."""


def is_set(settings: Settings) -> bool:
    """Return whether anybody is told."""
    return bool(settings.alerts.command or settings.alerts.webhook)


def send(settings: Settings, document: Mapping[str, Any]) -> None:
    """Tell whom the settings name. Raises AlertFailed with what went wrong, after all of them were tried."""
    body = json.dumps({name: mask(value) if isinstance(value, str) else value for name, value in document.items()})
    failures = []
    for wanted, tell in ((settings.alerts.command, _run), (settings.alerts.webhook, _post)):
        try:
            if wanted:
                tell(settings, body.encode())
        except AlertFailed as failure:
            failures.append(str(failure))
    if failures:
        raise AlertFailed("; ".join(failures))


def _run(settings: Settings, body: bytes) -> None:
    limit = settings.alerts.timeout_seconds
    try:
        process = subprocess.Popen(
            settings.alerts.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=settings.folder,
            env={name: os.environ[name] for name in _KEPT if name in os.environ},
            start_new_session=True,
        )
    except OSError as error:
        raise AlertFailed(f"alerts.command cannot be run: {error.strerror or type(error).__name__}") from None
    try:
        process.communicate(body, timeout=limit)
    except subprocess.TimeoutExpired:
        raise AlertFailed(f"alerts.command did not end within {limit:g} s") from None
    finally:
        with suppress(ProcessLookupError, PermissionError):  # also what it began and left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        raise AlertFailed(f"alerts.command ended with {process.returncode}")


def _post(settings: Settings, body: bytes) -> None:
    """Post within the time that there is, however slowly the other side answers; no redirect is followed."""
    limit = settings.alerts.timeout_seconds
    ended: list[AlertFailed | None] = []
    worker = threading.Thread(
        target=lambda: ended.append(_outcome(lambda: _posted(settings, body), limit)), daemon=True
    )
    worker.start()
    worker.join(limit)
    failure = ended[0] if ended else _late(limit)
    if failure is not None:
        raise failure


def _late(limit: float) -> AlertFailed:
    return AlertFailed(f"the webhook did not answer within {limit:g} s")


def _outcome(work: Callable[[], None], limit: float) -> AlertFailed | None:
    try:
        work()
    except TimeoutError:  # of one read, before the time for all of it is over
        return _late(limit)
    except AlertFailed as failure:
        return failure
    except Problem as problem:
        return AlertFailed(str(problem))
    except (OSError, http.client.HTTPException) as error:
        return AlertFailed(f"the webhook could not be reached: {type(error).__name__}")
    return None


def _posted(settings: Settings, body: bytes) -> None:
    url = _url(settings)
    limit, port = settings.alerts.timeout_seconds, url.port
    host = url.hostname or ""
    connection = (
        http.client.HTTPSConnection(host, port, timeout=limit, context=ssl.create_default_context())
        if url.scheme == "https"
        else http.client.HTTPConnection(host, port, timeout=limit)
    )
    try:
        connection.request("POST", f"{url.path or '/'}{'?' if url.query else ''}{url.query}", body, _JSON)
        status = connection.getresponse().status
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise AlertFailed(f"the webhook answered {status}")


def _url(settings: Settings) -> Any:
    place = settings.alerts.webhook or ""
    try:
        found = secret(settings, "alerts.webhook", place) if place.startswith(("env:", "file:")) else place
        return urlsplit(webhook_url(found))
    except ValueError as error:
        raise AlertFailed(f"alerts.webhook: {error}") from None
