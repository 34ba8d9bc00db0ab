"""Alerts go out once for what stands, to a real program and a real server; none holds a number or fails a night."""

import json
import os
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from callward import database, runs, standing
from callward.errors import Problem, UsageProblem
from callward.initiate import root_file
from callward.settings import Settings, load
from callward.settings.engine import Alerts
from callward.standing import Alarm
from pipelines.monitoring import alerts
from pipelines.nightly import nightly

NOW = datetime(2026, 3, 31, 6)
NUMBER = "+1 303 555 0101"
SILENT = Alarm("asterisk", "silent", f"asterisk: nothing came for 3 days; the last was {NUMBER}")


@pytest.fixture(scope="module")
def made(workspace: Callable[..., Any]) -> Any:
    return workspace("asterisk", "generic")


@pytest.fixture
def site(made: Any) -> Any:
    with database.writing(made.settings) as connection:
        standing.put(connection, ["", "asterisk", "generic", "gone"], [], NOW)
    return made


def program(site: Any, name: str, text: str) -> list[str]:
    """Write a program that sees standard input as `told`; return how it is run."""
    path = site.folder / name
    path.write_text(f"import os, sys, time\ntold = sys.stdin.read()\n{text}\n")
    return [sys.executable, str(path), "a word; touch x"]


def settings(site: Any, **given: Any) -> Settings:
    return site.settings.model_copy(update={"alerts": Alerts(**given)})


class _Hook(BaseHTTPRequestHandler):
    posted: list[tuple[str, dict[str, Any]]]
    answer: Callable[[], int]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.posted.append((self.path, json.loads(body)))
        status = type(self).answer()
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hook() -> Iterator[Any]:
    """A server on loopback: hook.posted, hook.answer, hook.url."""
    handler = type("Hook", (_Hook,), {"posted": [], "answer": staticmethod(lambda: 204)})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    handler.server = server  # type: ignore[attr-defined]
    handler.url = f"http://127.0.0.1:{server.server_port}/hook?to=ops"  # type: ignore[attr-defined]
    yield handler
    server.shutdown()
    server.server_close()


def stand(now: Settings, *alarms: Alarm, at: datetime = NOW) -> list[str]:
    return alerts.stand(now, ["", "asterisk", "generic"], alarms, at)


def test_a_program_is_told_what_stands_without_a_number(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLWARD_SECRET", "s3cret")
    command = program(site, "told.py", "open('told.json', 'w').write(told); open('env', 'w').write(repr(os.environ))")
    assert stand(settings(site, command=command), SILENT) == []
    told = json.loads((site.folder / "told.json").read_text())
    assert told == {
        "format_version": 1,
        "workspace": "",
        "source": "asterisk",
        "kind": "silent",
        "sentence": "asterisk: nothing came for 3 days; the last was +# ### ### ####",
        "must_look": True,
        "since": "2026-03-31T06:00:00Z",
    }
    assert "s3cret" not in (site.folder / "env").read_text() and not (site.folder / "x").exists()  # no shell


def test_a_webhook_is_posted_the_same(site: Any, hook: Any) -> None:
    assert stand(settings(site, webhook=hook.url), SILENT) == []
    ((path, told),) = hook.posted
    assert path == "/hook?to=ops" and told["kind"] == "silent" and "555" not in json.dumps(told)


def test_an_alert_goes_out_once_and_again_while_it_stands(site: Any, hook: Any) -> None:
    now = settings(site, webhook=hook.url)
    other = Alarm("generic", "gap", "generic: 1 file is missing", must_look=False)
    for hours in (0, 1, 19):
        stand(now, SILENT, at=NOW + timedelta(hours=hours))
    assert len(hook.posted) == 1
    stand(now, SILENT, other, at=NOW + timedelta(hours=20))
    assert [told["source"] for _, told in hook.posted] == ["asterisk", "asterisk", "generic"]
    assert hook.posted[1][1]["since"] == "2026-03-31T06:00:00Z"
    stand(now, at=NOW + timedelta(hours=21))
    stand(now, SILENT, at=NOW + timedelta(hours=22))  # it was fixed, and came back
    assert hook.posted[-1][1]["since"] == "2026-04-01T04:00:00Z"


def test_what_failed_is_said_and_tried_again_and_the_rest_does_not_wait(site: Any, hook: Any) -> None:
    now = settings(site, webhook=hook.url)
    hook.answer = staticmethod(lambda: 503)
    other = Alarm("generic", "gap", "generic: 1 file is missing")
    (said,) = stand(now, SILENT, other)
    assert "the webhook answered 503; 2 of 2 were not sent" in said and len(hook.posted) == 1
    hook.answer = staticmethod(lambda: 200)
    assert stand(now, SILENT, other) == [] and len(hook.posted) == 3


def test_a_night_that_fails_is_told_once_and_one_that_ends_clears_it(site: Any, hook: Any) -> None:
    now = settings(site, webhook=hook.url)
    now_ms = int(NOW.replace(tzinfo=UTC).timestamp() * 1000)
    root = root_file(site.settings, "archive")
    root.rename(root.with_suffix(".away"))
    stand(now, Alarm("", "release", "not released: week"))
    for hours in (0, 1):
        with pytest.raises(Problem):
            nightly(now, now_ms=now_ms + hours * 3_600_000)
    assert [told["kind"] for _, told in hook.posted] == ["release", "failed"]
    assert "archive" in hook.posted[1][1]["sentence"] and hook.posted[1][1]["must_look"]
    root.with_suffix(".away").rename(root)
    assert nightly(now, now_ms=now_ms).unsent == []
    with database.reading(now) as connection:
        assert [item.alarm.kind for item in standing.every(connection)] == []


def test_a_night_whose_database_is_away_is_told(site: Any, hook: Any) -> None:
    away = settings(site, webhook=hook.url).model_copy(
        update={
            "database": site.settings.database.model_copy(
                update={"url": "postgresql://nobody@127.0.0.1:1/none", "patience_seconds": 0.1}
            )
        }
    )
    with pytest.raises(Problem):
        nightly(away)
    assert [told["kind"] for _, told in hook.posted] == ["failed"]


def test_no_redirect_is_followed(site: Any, hook: Any) -> None:
    hook.answer = staticmethod(lambda: 307)
    assert "answered 307" in stand(settings(site, webhook=hook.url), SILENT)[0] and len(hook.posted) == 1


def test_a_server_that_does_not_answer_is_left_in_time(site: Any, hook: Any) -> None:
    over = threading.Event()
    hook.answer = staticmethod(lambda: (over.wait(20) and 200) or 200)
    began = time.monotonic()
    assert "did not answer within 0.2 s" in stand(settings(site, webhook=hook.url, timeout_seconds=0.2), SILENT)[0]
    assert time.monotonic() - began < 10
    over.set()


@pytest.mark.parametrize(
    ("text", "said"),
    [("sys.exit(9)", "ended with 9"), ("time.sleep(60)", "did not end within 0.5 s"), ("os._exit(0)", "")],
)
def test_a_program_that_fails_or_hangs_is_a_sentence(site: Any, text: str, said: str) -> None:
    command = program(site, "fails.py", text)
    sentences = stand(settings(site, command=command, timeout_seconds=0.5 if "sleep" in text else 30), SILENT)
    assert [said in sentence for sentence in sentences] == ([True] if said else [])


def test_what_a_program_leaves_behind_is_ended_with_it(site: Any) -> None:
    child = "import subprocess; p = subprocess.Popen(['sleep', '600']); open('pid', 'w').write(str(p.pid))"
    stand(settings(site, command=program(site, "leaves.py", child), timeout_seconds=30), SILENT)
    pid, until = int((site.folder / "pid").read_text()), time.monotonic() + 30
    while runs.process_start(pid) and time.monotonic() < until:  # a signal takes a moment
        time.sleep(0.01)
    assert runs.process_start(pid) == ""


def test_a_program_that_is_not_there_is_a_sentence(site: Any) -> None:
    assert "alerts.command cannot be run" in stand(settings(site, command=["/no/such/program"]), SILENT)[0]


def test_where_a_webhook_is_found_is_read_each_time_and_never_said(site: Any, hook: Any) -> None:
    place = site.folder / "hook-url"
    now = settings(site, webhook=f"file:{place}")
    assert "is empty or not there" in stand(now, SILENT)[0]
    place.write_text("http://198.51.100.7/s3cret")
    place.chmod(0o600)
    (said,) = stand(now, SILENT)
    assert "beyond this machine is https" in said and "s3cret" not in said
    place.write_text(hook.url)
    assert stand(now, SILENT) == [] and len(hook.posted) == 1


def test_a_server_whose_certificate_nobody_signed_is_not_told(site: Any, hook: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(site.folder))
    hook.server.socket = context.wrap_socket(hook.server.socket, server_side=True)
    said = stand(settings(site, webhook=hook.url.replace("http:", "https:")), SILENT)
    assert "could not be reached: SSLCertVerificationError" in said[0] and hook.posted == []


def self_signed(folder: Path) -> Path:
    """Return a file with a key and a certificate of its own for 127.0.0.1."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hook")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(datetime(2020, 1, 1)).not_valid_after(datetime(2099, 1, 1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    path = folder / "hook.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    return path


def test_what_stands_of_a_source_that_is_gone_leaves(site: Any) -> None:
    with database.writing(site.settings) as connection:
        standing.put(connection, ["gone"], [Alarm("gone", "silent", "gone: nothing came")], NOW)
    stand(site.settings, SILENT)
    with database.reading(site.settings) as connection:
        assert [item.alarm.source for item in standing.every(connection)] == ["asterisk"]


@pytest.mark.parametrize(
    "webhook", ["http://example.com/x", "ftp://example.com", "https://ada:pw@example.com", "https:///x", "x"]
)
def test_a_webhook_is_https_or_on_this_machine(webhook: str) -> None:
    with pytest.raises(ValueError, match="webhook") as problem:
        Alerts(webhook=webhook)
    assert "pw@" not in str(problem.value).partition("[type=")[0]


def test_no_variable_of_the_environment_names_a_program(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLWARD_ALERTS__COMMAND", '["touch", "x"]')
    with pytest.raises(UsageProblem, match="no variable sets anything in 'alerts'"):
        load(site.folder)


def test_a_night_whose_alert_fails_is_done_and_says_so(workspace: Callable[..., Any], tmp_path: Path) -> None:
    site = workspace("asterisk")
    site.set(alerts={"command": ["/no/such/program"]})
    (site.settings.landing_path / "asterisk").rmdir()
    night = site.night()
    assert night.status == "done" and len(night.alarms) == 1
    assert len(night.warnings) == 1 and "1 of 1 were not sent" in night.warnings[0]
    assert os.listdir(site.settings.landing_path) == []
