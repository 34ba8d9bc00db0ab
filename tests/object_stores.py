"""S3 servers on loopback for the tests: moto's within this process, and what stands before it and misbehaves."""

import http.client
import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from moto.server import ThreadedMotoServer

from callward.settings import Lake

REGION = "us-east-1"
# What any server of the tests takes for credentials; the second is what no message may quote.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "callward-test",
    "AWS_SECRET_ACCESS_KEY": "callward-test-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
}
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class ObjectStore:
    """A server, and a client beside ours that says what is really there."""

    endpoint: str

    @property
    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )

    def lake(self, **changes: Any) -> Lake:
        """Settings of a lake in a bucket of its own, which is made."""
        bucket = f"lake-{next(_NUMBERS)}"
        self.client.create_bucket(Bucket=bucket)
        found = {"uri": f"s3://{bucket}/deep/lake", "endpoint": self.endpoint, "region": REGION, "grace_minutes": 0.0}
        return Lake(**(found | changes))

    def objects(self, lake: Lake) -> dict[str, bytes]:
        """Every object of a lake's bucket but the markers of folders, by its path below the lake's root."""
        bucket, _, prefix = lake.uri.removeprefix("s3://").partition("/")
        client = self.client
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        names = [item["Key"] for page in pages for item in page.get("Contents", ())]
        return {
            name.removeprefix(f"{prefix}/"): client.get_object(Bucket=bucket, Key=name)["Body"].read()
            for name in names
            if not name.endswith("/")
        }


def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the credentials into the environment, and nothing else of the kind."""
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@contextmanager
def s3_server() -> Iterator[ObjectStore]:
    """Run moto's S3 server, with the credentials for it in the environment."""
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        credentials(patch)
        yield ObjectStore(f"http://{host}:{port}")
    server.stop()


# -- a server that misbehaves ------------------------------------------------------------------------------------------

Answer = Callable[[str, str], tuple[int, str] | None]


@contextmanager
def before(endpoint: str, answer: Answer, more: Mapping[str, str] | None = None) -> Iterator[str]:
    """The endpoint of a server that asks `answer(method, path)` first: a status and an S3 error code, or None.

    For None it passes the request on to `endpoint`, and the answer back with `more` headers.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            chunked = self.headers.get("Transfer-Encoding") == "chunked"
            body = b"".join(self._chunks()) if chunked else self.rfile.read(int(self.headers["Content-Length"] or 0))
            said = answer(self.command, self.path)
            if said is None:
                self._pass_on(body)
            else:
                status, code = said
                text = f"<Error><Code>{code}</Code><Message>{CREDENTIALS['AWS_SECRET_ACCESS_KEY']}</Message></Error>"
                self._answer(status, {"Content-Type": "application/xml"}, text.encode())

        def _chunks(self) -> Iterator[bytes]:
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():  # trailers
                pass

        def _pass_on(self, body: bytes) -> None:
            far = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=30)
            hop = ("transfer-encoding", "content-length", "expect", "connection")
            headers = {name: value for name, value in self.headers.items() if name.lower() not in hop}
            far.request(self.command, self.path, body, headers)
            found = far.getresponse()
            headers = {k: v for k, v in found.getheaders() if k.lower() not in ("connection", "transfer-encoding")}
            self._answer(found.status, {**headers, **(more or {})}, found.read())

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() != "content-length" or self.command == "HEAD":
                    self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
