"""callward receive: what is answered 200 is there whatever happens next, and all else is refused and counted."""

import base64
import gzip
import http.client
import json
import os
import re
import resource
import select
import signal
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from callward.feeds import generate
from callward.ingest import segments
from callward.ingest.landing import arrivals
from callward.ingest.senders import hash_password
from callward.sweep.scanner import sweep
from tests.altered import altered
from tests.commands import Running, run, start, strays, waiting

DAY = date(2026, 3, 5)
SOURCE = "freeswitch_json"
NUMBER = "3035550142"
Answer = tuple[int, str, dict[str, str]]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Receiver:
    """A receiver at work in a process of its own."""

    def __init__(self, site: Any, *, tls: ssl.SSLContext | None = None, **surroundings: Any) -> None:
        self.site, self.tls = site, tls
        self.port = int(site.settings.receive.listen.rpartition(":")[2])
        self.running: Running = start("receive", "--json", "--config", str(site.folder), **surroundings)
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self.running.alive(), self.running.wait().err
                time.sleep(0.05)
        raise AssertionError("the receiver does not listen")

    def connect(self) -> http.client.HTTPConnection:
        if self.tls is not None:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(self, path: str, body: Any = b"{}", method: str = "POST", **headers: str) -> Answer:
        connection = self.connect()
        try:
            connection.request(method, path, body, {name.replace("_", "-"): v for name, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read().decode().strip(), dict(answer.headers)
        finally:
            connection.close()

    def stop(self) -> Any:
        """Stop it as a service manager does; what it says at the end."""
        self.running.signal(signal.SIGTERM)
        ended = self.running.wait(40).check_clean([NUMBER])
        assert ended.code == 0
        return ended.document


@pytest.fixture
def receiving(workspace: Callable[..., Any], feed_source: Callable[..., Any]) -> Iterator[Callable[..., Receiver]]:
    """receiving(format=…, site=…, sender={…}, **receive) → a Receiver, ended with the test."""
    made: list[Receiver] = []

    def make(
        format: str = "freeswitch_jsonl",
        sender: dict[str, Any] | None = None,
        site: Any = None,
        tls: ssl.SSLContext | None = None,
        settings: dict[str, Any] | None = None,
        surroundings: dict[str, Any] | None = None,
        **receive: Any,
    ) -> Receiver:
        listen = {"listen": f"127.0.0.1:{free_port()}", "group_milliseconds": 20.0} | receive
        senders = [{"source": SOURCE, **(sender or {})}]
        if site is None:
            site = workspace(
                feed_source(SOURCE, format=format),
                receive={**listen, "senders": senders},
                thresholds={"file_errors_min": 10_000},
                **(settings or {}),
            )
        made.append(Receiver(site, tls=tls, **(surroundings or {})))
        return made[-1]

    yield make
    for receiver in made:
        if receiver.running.alive():
            receiver.running.signal(signal.SIGKILL)
            receiver.running.wait()


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[bytes], list[str]]:
    """A day of a switch that posts: its files, the same records one by one, and the numbers in them."""
    folder = tmp_path_factory.mktemp("posted")
    numbers = folder / "numbers"
    generate(folder, seed=9, day=DAY, calls=2500, dirt=0.05, sources=(SOURCE,), numbers_to=numbers)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != numbers)
    records = [line for path in files for line in path.read_bytes().splitlines() if line.strip()]
    return files, records, numbers.read_text().split()


def post(receiver: Receiver, bodies: list[tuple[bytes, dict[str, str]]]) -> list[int]:
    """Post on one connection that is kept; the statuses."""
    connection, found = receiver.connect(), []
    for body, headers in bodies:
        connection.request("POST", f"/{SOURCE}?uuid=a", body, headers)
        answer = connection.getresponse()
        answer.read()
        found.append(answer.status)
    connection.close()
    return found


def as_switch(record: bytes, n: int) -> tuple[bytes, dict[str, str]]:
    """A record in one of the ways in which a switch may post it."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    if n % 4 == 1 and record.startswith(b"{"):
        escaped = b"".join(b"%%%02X" % c if not chr(c).isalnum() else bytes([c]) for c in record)
        return b"cdr=" + escaped, form
    if n % 4 == 2 and record.startswith(b"{"):
        return b"cdr=" + base64.b64encode(record), {"Content-Type": "application/x-www-form-base64-encoded"}
    if n % 4 == 3:
        return gzip.compress(record), {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    return record, {"Content-Type": "application/json"}


def post_side_by_side(receiver: Receiver, records: list[bytes], threads: int = 8) -> list[bytes]:
    """Post from several connections until all is posted or nobody answers any more; the records acknowledged."""
    taken: list[bytes] = []

    def work(mine: list[bytes]) -> None:
        connection = receiver.connect()
        for n, record in enumerate(mine):
            body, headers = as_switch(record, n)
            try:
                connection.request("POST", f"/{SOURCE}", body, headers)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                return
            if answer.status == 200:
                taken.append(record)

    work_by = [threading.Thread(target=work, args=(records[n::threads],)) for n in range(threads)]
    for thread in work_by:
        thread.start()
    for thread in work_by:
        thread.join()
    return taken


def spool(site: Any) -> list[bytes]:
    """Every record in the segments that wait."""
    settings = site.settings
    found = [a for a in arrivals(settings, settings.source(SOURCE)) if getattr(a, "form", "") == "sealed"]
    return [
        line
        for a in found
        for line in segments.unseal(a.path.read_bytes(), a.path.name, SOURCE, site.opened.keyring).splitlines()
        if line.strip()
    ]


def all_rows(site: Any) -> dict[str, Any]:
    """What came of the records, whichever files they came in."""
    return {
        "billing": site.view("billing").to_pylist(),
        "assurance": site.view("assurance").to_pylist(),
        "derived": site.derived(),
        "entries": site.entries(),
        "suspense": sorted(site.log("suspense")["payload"].to_pylist()),
    }


# -- the same as by file -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", [pytest.param("freeswitch_jsonl", marks=pytest.mark.endurance), "freeswitch_json"])
def test_what_is_posted_comes_to_the_same_as_by_file(
    format: str, receiving: Callable[..., Receiver], feed: Any, workspace: Callable[..., Any], feed_source: Any
) -> None:
    files, records, numbers = feed
    by_file = workspace(feed_source(SOURCE), thresholds={"file_errors_min": 10_000})
    by_file.deliver(files)
    by_file.night()
    receiver = receiving(format)
    taken = post_side_by_side(receiver, records)
    assert sorted(taken) == sorted(records)
    assert receiver.stop()["taken"] == {SOURCE: len(records)}
    site = receiver.site
    assert 0 < len(waiting(site)) < len(records)
    report = sweep([site.folder], numbers, leave_out=[site.settings.path])
    assert report.hits == [] and report.files > len(waiting(site))
    night = site.night()
    found, expected = all_rows(site), all_rows(by_file)
    if format == "freeswitch_json":  # what is no JSON was quoted there
        del found["suspense"], expected["suspense"]
        found["entries"], expected["entries"] = _buckets(found["entries"]), _buckets(expected["entries"])
    assert [what for what in expected if found[what] != expected[what]] == []
    assert expected["entries"] and (waiting(site), strays(site), site.unbalanced()) == ([], [], {})
    assert night.rows == len(records) and not any(SOURCE in item.name for item in night.left_alone)
    assert site.differing() == 0


def _buckets(entries: dict[tuple[str, str], tuple[int, int]]) -> dict[str, int]:
    """Rows by bucket: a record that is no JSON may have another suspense code as a document."""
    found: dict[str, int] = {}
    for (bucket, _), (rows, _) in entries.items():
        found[bucket] = found.get(bucket, 0) + rows
    return found


def test_a_record_that_is_posted_twice_or_also_comes_by_file_counts_once(
    receiving: Callable[..., Receiver], feed: Any
) -> None:
    record = next(line for line in feed[1] if _uuid(line))
    receiver = receiving()
    assert post(receiver, [as_switch(record, 0), as_switch(record, 1)]) == [200, 200]
    receiver.stop()
    receiver.site.land(SOURCE, "err-log.cdr.json", record + b"\n")
    receiver.site.night()
    entries = receiver.site.entries()
    assert entries["in", ""][0] == 3 and entries["accepted", ""][0] == 1


def _uuid(line: bytes) -> str:
    try:
        return str(json.loads(line)["variables"]["uuid"])
    except (ValueError, KeyError):
        return ""


def test_a_night_that_is_killed_takes_segments_in_once(receiving: Callable[..., Receiver], feed: Any) -> None:
    """Blocks of a segment are sealed into the archive as they are cut; a restart cuts just so."""
    sound = [line for line in feed[1] if _uuid(line)]
    waves = {"records": 60, "block_mebibytes": 0.01}
    receiver = receiving(settings={"waves": waves}, group_milliseconds=300.0)
    assert len(post_side_by_side(receiver, sound, threads=32)) == len(sound)
    receiver.stop()
    assert len(waiting(receiver.site)) * 10 < len(sound), "a segment has several blocks"
    site = receiver.site
    for crash in ("archive-written:3", "commit-ready", "before-remove"):
        ended = run("nightly", "--config", str(site.folder), environment={"CALLWARD_CRASH_AT": crash})
        assert ended.code == -signal.SIGKILL, ended.err
    ended = run("nightly", "--config", str(site.folder)).check_clean(feed[2])
    assert (waiting(site), strays(site), site.unbalanced()) == ([], [], {})
    assert site.entries()["accepted", ""][0] == len(sound) == site.view("assurance").num_rows


def test_a_segment_that_was_altered_is_told_and_holds_up_no_other(
    receiving: Callable[..., Receiver], feed: Any
) -> None:
    sound = [line for line in feed[1] if _uuid(line)][:2]
    receiver = receiving()
    for line in sound:
        assert post(receiver, [as_switch(line, 0)]) == [200]
    receiver.stop()
    site = receiver.site
    bad = waiting(site)[0]
    bad.write_bytes(altered(bad.read_bytes()))
    for night in (site.night(), site.night()):
        (told,) = [item for item in night.left_alone if SOURCE in item.name]
        assert told.wrong and "altered" in told.reason
    assert waiting(site) == [bad] and site.entries()["accepted", ""][0] == 1


# -- whatever happens --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "crash",
    [
        "segment-sealed:2",
        "segment-written:1",
        *(pytest.param(crash, marks=pytest.mark.endurance) for crash in ("segment-written:3", "at random")),
    ],
)
def test_a_receiver_that_is_killed_loses_nothing_that_it_acknowledged(
    crash: str, receiving: Callable[..., Receiver], feed: Any
) -> None:
    _, records, numbers = feed
    sound = [line for line in records if _uuid(line)]
    environment = {} if crash == "at random" else {"CALLWARD_CRASH_AT": crash}
    receiver = receiving(surroundings={"environment": environment})
    if crash == "at random":
        threading.Timer(0.3, receiver.running.signal, (signal.SIGKILL,)).start()
    taken = post_side_by_side(receiver, sound)
    assert receiver.running.wait().code == -signal.SIGKILL
    site = receiver.site
    kept = spool(site)
    assert set(taken) <= set(kept) <= set(sound) and len(kept) < len(sound)
    assert sweep([site.folder], numbers, leave_out=[site.settings.path]).hits == []
    again = receiving(site=site)
    rest = [line for line in sound if line not in set(taken)]
    assert sorted(post_side_by_side(again, rest)) == sorted(rest)
    again.stop()
    site.night()
    assert site.entries()["accepted", ""][0] == len(sound)
    assert site.view("assurance").num_rows == len(sound)


def test_a_stop_finishes_what_was_accepted(receiving: Callable[..., Receiver]) -> None:
    receiver = receiving(group_milliseconds=1500.0)
    answers: list[int] = []
    asked = [threading.Thread(target=lambda: answers.append(receiver.ask(f"/{SOURCE}")[0])) for _ in range(3)]
    for thread in asked:
        thread.start()
    time.sleep(0.7)
    done = receiver.stop()
    for thread in asked:
        thread.join()
    assert answers == [200, 200, 200] and done["taken"] == {SOURCE: 3}
    assert spool(receiver.site) == [b"{}"] * 3


def test_a_full_disk_takes_nothing_and_acknowledges_nothing(receiving: Callable[..., Receiver]) -> None:
    """The largest file that the process may write stands for the disk's end."""
    receiver = receiving(surroundings={"limits": {resource.RLIMIT_FSIZE: 2 << 20}}, body_mebibytes=8.0)
    large = json.dumps({"pad": base64.b64encode(os.urandom(3 << 20)).decode()}).encode()
    status, word, headers = receiver.ask(f"/{SOURCE}", large)
    assert (status, word) == (507, "full") and headers["Retry-After"]
    assert waiting(receiver.site) == []
    assert receiver.ask(f"/{SOURCE}", b'{"small":1}')[0] == 200
    done = receiver.stop()
    assert done == {"taken": {SOURCE: 1}, "refused": {f"{SOURCE}: full": 1}}
    assert spool(receiver.site) == [b'{"small":1}']


def test_while_it_is_behind_it_puts_off_and_goes_on_later(receiving: Callable[..., Receiver]) -> None:
    receiver = receiving(group_milliseconds=1500.0, requests=2)
    answers: list[Answer] = []
    asked = [threading.Thread(target=lambda: answers.append(receiver.ask(f"/{SOURCE}"))) for _ in range(5)]
    for thread in asked:
        thread.start()
    for thread in asked:
        thread.join()
    assert sorted(status for status, _, _ in answers) == [200, 200, 503, 503, 503]
    assert all(headers["Retry-After"] for status, _, headers in answers if status == 503)
    assert receiver.ask(f"/{SOURCE}")[0] == 200


def test_more_bytes_than_may_wait_are_put_off(receiving: Callable[..., Receiver]) -> None:
    receiver = receiving(group_milliseconds=1500.0, waiting_mebibytes=1.0, body_mebibytes=1.0)
    large = b'{"pad":"' + b"x" * (700 << 10) + b'"}'
    first = threading.Thread(target=receiver.ask, args=(f"/{SOURCE}", large))
    first.start()
    time.sleep(0.7)
    assert receiver.ask(f"/{SOURCE}", large)[:2] == (503, "behind")
    first.join()
    assert receiver.ask(f"/{SOURCE}", large)[0] == 200


# -- what is refused ---------------------------------------------------------------------------------------------------


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def chunked(size: int) -> Iterator[bytes]:
    for _ in range(size >> 16):
        yield bytes(1 << 16)


def test_all_else_is_refused_and_counted(receiving: Callable[..., Receiver]) -> None:
    metrics = free_port()
    receiver = receiving(body_mebibytes=1.0, body_seconds=1.0, metrics_port=metrics)
    at = f"/{SOURCE}"
    json_type = {"Content_Type": "application/json"}
    asked: list[tuple[Answer, int, str]] = [
        (receiver.ask(f"/{NUMBER}"), 404, "source"),
        (receiver.ask("/"), 404, "source"),
        (receiver.ask(f"{at}/{NUMBER}"), 404, "source"),
        (receiver.ask(at, None, "GET"), 405, "method"),
        (receiver.ask(at, b"{}", "PUT"), 405, "method"),
        (receiver.ask(at, b""), 400, "empty"),
        (receiver.ask(at, b"[]"), 400, "empty"),
        (receiver.ask(at, b"x" * (1 << 20) + b"y"), 413, "size"),
        (receiver.ask(at, chunked(3 << 20)), 413, "size"),
        (receiver.ask(at, gzip.compress(bytes(64 << 20)), Content_Encoding="gzip", **json_type), 413, "size"),
        (receiver.ask(at, b"no gzip", Content_Encoding="gzip"), 400, "damaged"),
        (receiver.ask(at, b"{}", Content_Encoding="br"), 415, "kind"),
        (receiver.ask(at, b"{}", Content_Type="multipart/form-data; boundary=x"), 415, "kind"),
    ]
    assert [(answer[:2], status, word) for answer, status, word in asked if answer[:2] != (status, word)] == []
    assert asked[3][0][2]["Allow"] == "POST"
    assert b" 408 " in raw(receiver, f"POST {at} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{".encode())
    malformed = raw(receiver, f"POST /{NUMBER} NONSENSE\r\n{NUMBER}\r\n\r\n".encode())
    assert b" 400 " in malformed and NUMBER.encode() not in malformed
    assert all(NUMBER not in str(answer) and "aiohttp" not in str(answer) for answer, _, _ in asked)
    figures = urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics").read().decode()
    counted = dict(re.findall(r'refused_total{(?:reason="(\w+)",source="\w*")} (\d+)', figures))
    wanted = {"source": 3, "method": 2, "empty": 2, "size": 3, "damaged": 1, "kind": 2, "slow": 1, "malformed": 1}
    assert {reason: int(float(count)) for reason, count in counted.items()} == wanted
    assert NUMBER not in figures and "requests_under_way 0.0" in figures and "waiting_bytes 0.0" in figures
    assert receiver.stop()["taken"] == {}
    assert waiting(receiver.site) == []


def raw(receiver: Receiver, sent: bytes) -> bytes:
    """What comes back for bytes that no client of ours would send."""
    with socket.create_connection(("127.0.0.1", receiver.port), 10) as connection:
        connection.sendall(sent)
        found = b""
        while part := connection.recv(4096):
            found += part
        return found


def test_a_body_is_not_asked_for_before_its_sender_is_known(receiving: Callable[..., Receiver]) -> None:
    receiver = receiving(sender={"username": "switch", "password_hash": hash_password("right")})
    asked = f"POST /{SOURCE} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n"
    refused = raw(receiver, f"{asked}\r\n".encode())
    assert b" 401 " in refused and b" 100 " not in refused
    taken = raw(receiver, f"{asked}Authorization: {basic('switch', 'right')}\r\n\r\n{{}}".encode())
    assert taken.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")


def test_credentials_and_their_failures(receiving: Callable[..., Receiver]) -> None:
    secrets = {"username": "switch", "password_hash": hash_password("right")}
    receiver = receiving(sender=secrets, failures_per_minute=3)
    at, right = f"/{SOURCE}", basic("switch", "right")
    status, word, headers = receiver.ask(at)
    assert (status, word) == (401, "credentials") and headers["WWW-Authenticate"].startswith("Basic ")
    for _ in range(3):
        assert receiver.ask(at, Authorization=right)[0] == 200
    wrong = [receiver.ask(at, Authorization=basic("switch", "wrong")) for _ in range(5)]
    assert [answer[0] for answer in wrong] == [401, 401, 401, 429, 429] and wrong[-1][2]["Retry-After"]
    assert receiver.ask(at, Authorization=right)[0] == 200, "who is known is not put off by others behind its address"
    assert receiver.stop()["refused"] == {f"{SOURCE}: credentials": 4, f"{SOURCE}: failures": 2}


def test_an_address_that_is_not_listed_is_refused(receiving: Callable[..., Receiver]) -> None:
    receiver = receiving(sender={"addresses": ["192.0.2.0/24"]})
    assert receiver.ask(f"/{SOURCE}", X_Forwarded_For="192.0.2.1")[:2] == (403, "address")


def is_closed(connection: socket.socket) -> bool:
    """Return whether the other end has closed a connection by now."""
    try:
        return connection.recv(10) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("encrypted", [False, True])
def test_connections_beyond_the_limit_are_closed_also_in_a_burst(
    receiving: Callable[..., Receiver], tmp_path: Path, encrypted: bool
) -> None:
    """Half a request, or nothing of a handshake: what is only begun counts as well."""
    pem, key = certificate(tmp_path, "burst")
    more = {"certificate_file": str(pem), "key_file": str(key)} if encrypted else {}
    receiver = receiving(tls=_trusting(pem) if encrypted else None, connections=100, body_seconds=60.0, **more)
    assert receiver.ask(f"/{SOURCE}")[0] == 200
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(180)]
        for connection in held:
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", receiver.port))
        for connection in held:
            select.select([], [connection], [], 10)
            with suppress(OSError):  # it may be closed already
                connection.send(b"" if encrypted else f"POST /{SOURCE} HTTP/1.1\r\nHost: x\r\n".encode())
        closed: set[int] = set()
        until = time.monotonic() + 30
        while len(closed) < 80 and time.monotonic() < until:
            select.select([held[n] for n in range(180) if n not in closed], [], [], 0.1)
            closed |= {n for n in range(180) if n not in closed and is_closed(held[n])}
        assert len(closed) == 80
    answered = 0
    while answered != 200 and time.monotonic() < until:  # until it has seen that they are gone
        with suppress(OSError, http.client.HTTPException):
            answered = receiver.ask(f"/{SOURCE}")[0]
    assert answered == 200
    assert receiver.stop()["refused"]["-: connections"] >= 80


# -- TLS ---------------------------------------------------------------------------------------------------------------


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(named)
        .issuer_name(named)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(1))
        .not_valid_after(now + timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .sign(key, hashes.SHA256())
    )
    pem, private = folder / "tls.pem", folder / "tls.key"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.touch(mode=0o600)
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, private


def _trusting(pem: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(pem))
    context.check_hostname = False  # the tests ask for 127.0.0.1
    return context


def test_https_is_spoken_and_nothing_else_and_a_new_certificate_is_read(
    receiving: Callable[..., Receiver], tmp_path: Path
) -> None:
    pem, key = certificate(tmp_path, "first")
    receiver = receiving(tls=_trusting(pem), certificate_file=str(pem), key_file=str(key))
    assert receiver.ask(f"/{SOURCE}")[0] == 200
    assert b"200" not in raw(receiver, f"POST /{SOURCE} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, OSError)), socket.create_connection(("127.0.0.1", receiver.port)) as connection:
        old.wrap_socket(connection)
    pem, key = certificate(tmp_path, "second")
    receiver.running.signal(signal.SIGHUP)
    receiver.tls, until, status = _trusting(pem), time.monotonic() + 20, 0
    while status != 200 and time.monotonic() < until:
        try:
            status = receiver.ask(f"/{SOURCE}")[0]
        except ssl.SSLError:
            time.sleep(0.05)
    assert status == 200
    assert receiver.stop()["taken"] == {SOURCE: 2}


def test_what_cannot_work_is_said_at_the_start(
    workspace: Callable[..., Any], feed_source: Callable[..., Any], tmp_path: Path
) -> None:
    _, key = certificate(tmp_path, "x")
    listen = f"127.0.0.1:{free_port()}"

    def said(source: str, **receive: Any) -> str:
        named = feed_source(source)
        site = workspace(named, receive={"listen": listen, "senders": [{"source": source}], **receive})
        ended = run("receive", "--config", str(site.folder)).check_clean()
        assert ended.code == 2
        return ended.err

    assert "there is no [[receive.senders]] yet" in said(SOURCE, senders=[])
    assert "is not JSON" in said("asterisk")
    assert "No such file" in said(SOURCE, certificate_file="nowhere.pem", key_file="nowhere.key")
    assert "no certificate and its key" in said(SOURCE, certificate_file=str(key), key_file=str(key))
    key.chmod(0o644)
    assert "everyone may read" in said(SOURCE, certificate_file=str(key), key_file=str(key))


def test_a_hash_for_the_settings_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    from callward.ingest.senders import is_password
    from tests.typed import typing

    with typing(capsys, monkeypatch, "receive") as typed:
        done = typed("--hash", stdin="a password\n")
        assert done.code == 0 and is_password(b"a password", done.out.strip())
        assert typed("--hash", stdin="\n").code == 2
