"""Logs of the stream: JSON lines in which no number can stand, whoever logs and whatever is raised."""

import json
import logging
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from callward.errors import Problem
from pipelines.engine import log as stream_log

ROOT = Path(__file__).resolve().parents[3]
NUMBERS = ["+12025550123", "2025550123", "12025550123", "202-555-0123", "(202) 555-0123", "202.555.0123", "5550123"]
PAYLOAD = "SMITH,2025550123,JONES"


def line_of(event, **fields):
    """The line that say() makes of an event."""
    record = logging.LogRecord("callward.stream", logging.INFO, __file__, 1, stream_log._Event(event, fields), (), None)
    return stream_log._line(record, record.msg)


def without_time(line):
    document = json.loads(line)
    document.pop("time")
    return document


# -- fields ------------------------------------------------------------------------------------------------------------


def test_fields_of_the_list_are_told_as_they_are():
    line = line_of(
        "committed", source="denver", topic="cdr-east", rows=1234, seconds=0.5, code="TIME", run="abcdefghij"
    )
    assert without_time(line) == {
        "level": "info",
        "event": "committed",
        "source": "denver",
        "topic": "cdr-east",
        "rows": 1234,
        "seconds": 0.5,
        "code": "TIME",
        "run": "abcdefghij",
    }


ANY = st.one_of(
    st.sampled_from(NUMBERS),
    st.sampled_from([PAYLOAD, PAYLOAD.encode(), [PAYLOAD], {"a": PAYLOAD}, True, float("nan"), float("inf")]),
    st.builds(lambda a, n, b: a + n + b, st.text(max_size=5), st.sampled_from(NUMBERS), st.text(max_size=5)),
    st.integers(2_000_000_000, 9_999_999_999),
    st.floats(1e6, 1e15),
    st.text(),
)
FIELD = st.one_of(st.sampled_from(sorted(stream_log.FIELDS)), st.sampled_from([*NUMBERS, "calling_number", "message"]))


@given(event=st.one_of(st.sampled_from(NUMBERS), st.text()), fields=st.dictionaries(FIELD, ANY, max_size=6))
def test_no_number_gets_into_a_line_by_any_event_field_or_name_of_one(event, fields):
    line = line_of(event, **fields)
    untimed = re.sub(r'^{"time": "[^"]*"', "", line)
    assert re.search(r"\d{7,}|\d{3}[-. )]{1,2}\d{3}[-. ]\d{4}", untimed) is None
    if "reason" not in fields:
        assert "SMITH" not in line
    assert set(without_time(line)) <= {"level", "event", "left_out", *stream_log.FIELDS}


@given(value=st.one_of(st.integers(-(10**12), 10**12), st.floats(-1e12, 1e12)))
def test_figures_keep_four_digits_at_least(value):
    told = json.loads(line_of("x", rows=value))["rows"]
    assert told == pytest.approx(value, rel=6e-4, abs=1e-300)
    if isinstance(value, int) and abs(value) < 1_000_000:
        assert told == value


def test_what_is_left_out_is_named():
    document = json.loads(line_of("committed", rows=5, calling_number="2025550123", source="2025550123"))
    assert document["left_out"] == ["calling_number", "source"]
    assert document["rows"] == 5


# -- errors ------------------------------------------------------------------------------------------------------------


def test_a_problem_says_its_sentence_with_numbers_masked():
    line = line_of("stopped", reason=str(Problem("file 2025550123.csv of 202-555-0123 changed")))
    assert json.loads(line)["reason"] == "file ##########.csv of ###-###-#### changed"


# -- a whole process ---------------------------------------------------------------------------------------------------

PROGRAM = """
import logging, sys, threading, warnings
PAYLOAD = "SMITH,2025550123,JONES"
from pipelines.engine import log as stream_log
library = logging.getLogger("a.library")
stream_log.prepare("supervisor", stream=sys.stderr)
stream_log.prepare("supervisor", "abcdefghijklmn", sys.stderr)
stream_log.say("started", workers=2)
library.warning("could not read %s", PAYLOAD)
library.error(PAYLOAD, extra={"number": PAYLOAD})
logging.getLogger(PAYLOAD).error("x")
try:
    raise ValueError(PAYLOAD)
except ValueError as error:
    library.exception("failed on %r", PAYLOAD, stack_info=True)
    stream_log.failed("flush-failed", error, source="denver")
warnings.warn(PAYLOAD)
library.error("%d %d", PAYLOAD)

class Late(logging.Handler):  # as Beam's worker adds one
    def emit(self, record):
        print(self.format(record), record.exc_info, record.args, file=sys.stderr)

late = Late()
logging.getLogger().addHandler(late)
library.error(PAYLOAD, exc_info=ValueError(PAYLOAD))
logging.getLogger().removeHandler(late)

class Dying:
    def __del__(self):
        raise ValueError(PAYLOAD)

def die():
    raise KeyError(PAYLOAD)

Dying()
thread = threading.Thread(target=die)
thread.start()
thread.join()
raise RuntimeError(PAYLOAD)
"""


@pytest.fixture(scope="module")
def process():
    return subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_a_whole_process_tells_no_word_of_a_payload(process):
    assert process.returncode == 1 and process.stdout == ""
    assert "SMITH" not in process.stderr and "2025550123" not in process.stderr
    assert "Traceback" not in process.stderr


def test_every_line_of_it_is_json_with_its_context(process):
    lines = [json.loads(line) for line in process.stderr.splitlines() if not line.endswith("None ()")]
    assert {(line["role"], line["run"]) for line in lines} == {("supervisor", "abcdefghijklmn")}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in lines)
    events = [line["event"] for line in lines]
    assert events[0] == "started" and events.count("uncaught") == 2 and events.count("unraisable") == 1
    (failed,) = [line for line in lines if line["event"] == "flush-failed"]
    assert (failed["error"], failed["source"], failed["level"]) == ("ValueError", "denver", "error")
    assert {line.get("logger") for line in lines if line["event"] == "library"} == {"a.library", "py.warnings", None}


def test_a_handler_that_a_library_adds_gets_the_finished_line_and_nothing_else(process):
    (late,) = [line for line in process.stderr.splitlines() if line.endswith("None ()")]
    assert json.loads(late.removesuffix("None ()"))["error"] == "ValueError"


# -- a worker, whose lines go to the runner ----------------------------------------------------------------------------

WORKER = """
import logging, sys
PAYLOAD = "SMITH,2025550123,JONES"
from apache_beam.portability.api import endpoints_pb2
from apache_beam.runners.worker.log_handler import FnApiLogRecordHandler
from pipelines.engine import log as stream_log
stream_log.prepare(stream_log.WORKER)
handler = FnApiLogRecordHandler(endpoints_pb2.ApiServiceDescriptor(url=sys.argv[1]))
logging.getLogger().addHandler(handler)
logging.getLogger().setLevel(logging.ERROR)
stream_log.say("flushed", rows=5)
try:
    raise ValueError(PAYLOAD)
except ValueError:
    logging.getLogger("apache_beam").exception("failed on %s", PAYLOAD)
logging.getLogger().error("%s", PAYLOAD, stack_info=True)
handler.close()
"""


@pytest.fixture
def runners_log():
    """(address, entries) of a runner's log service: what workers send to it."""
    entries = []

    class Service(beam_fn_api_pb2_grpc.BeamFnLoggingServicer):
        def Logging(self, sent, _context):
            for batch in sent:
                entries.extend(batch.log_entries)
            return iter(())

    server = grpc.server(ThreadPoolExecutor(2))
    beam_fn_api_pb2_grpc.add_BeamFnLoggingServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", entries
    server.stop(None)


def test_what_a_worker_sends_to_the_runner_has_no_word_of_a_payload(runners_log):
    address, entries = runners_log
    command = [sys.executable, "-c", WORKER, address]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "SMITH" not in str(entries) + done.stderr + done.stdout
    documents = [json.loads(entry.message) for entry in entries]
    assert [document["event"] for document in documents] == ["flushed", "library", "library"]
    assert {document["role"] for document in documents} == {"worker"}
    assert documents[1]["error"] == "ValueError" and not any(entry.trace for entry in entries)
