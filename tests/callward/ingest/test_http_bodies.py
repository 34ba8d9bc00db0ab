"""Bodies: whatever way a switch encodes a record, the record comes out as it was; one line each, nothing lost."""

import base64
import gzip
import json
import zlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.ingest.http_bodies import Damaged, TooLarge, is_packing, is_type, line_of, record_in, unpacked
from callward.parsing.records import records
from schemas.declaration import load

# What switch_url_encode of FreeSWITCH (switch_utils.h, SWITCH_URL_UNSAFE) escapes, beside control and 8-bit bytes.
_UNSAFE = b'\r\n #%&+:;<=>?@[\\]^`{|}"'
DOCUMENTS, LINES = load("freeswitch_json"), load("freeswitch_jsonl")

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
calls = st.dictionaries(st.text(max_size=8), values, min_size=1, max_size=5)


def percent(text: bytes) -> bytes:
    """As switch_url_encode does."""
    return b"".join(b"%%%02X" % c if c in _UNSAFE or c < 32 or c > 126 else bytes([c]) for c in text)


ENCODINGS = {
    "plain": lambda text: text,
    "form": lambda text: b"cdr=" + percent(text),
    "base64": lambda text: b"cdr=" + base64.b64encode(text),
    "base64 in lines": lambda text: b"cdr=" + base64.encodebytes(text),
    "base64 without padding": lambda text: b"cdr=" + base64.b64encode(text).rstrip(b"="),
    "a field among others": lambda text: b"uuid=a&cdr=" + percent(text) + b"&x=",
    "percent-encoded base64": lambda text: b"cdr=" + percent(base64.b64encode(text)),
    "after a byte order mark": lambda text: b"\xef\xbb\xbf\r\n" + text + b"\n",
}


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
@given(call=calls, ascii_only=st.booleans())
def test_a_record_comes_out_as_it_was_encoded(encode, call, ascii_only):
    text = json.dumps(call, ensure_ascii=ascii_only).encode("utf-8", "replace")
    assert record_in(encode(text)) == text


@given(st.lists(calls, min_size=1, max_size=5), st.sampled_from([None, 1, "\t"]))
def test_records_become_lines_that_read_back_one_each(found, indent):
    bodies = [json.dumps(call, indent=indent).encode() for call in found]
    for declaration in (DOCUMENTS, LINES):
        block = b"".join(line_of(record_in(body), declaration is DOCUMENTS) for body in bodies)
        assert [json.loads(text) for text in records(block, declaration).to_pylist()] == found


@given(st.lists(st.binary(max_size=60), max_size=6), calls)
def test_whatever_is_posted_is_one_record_and_spoils_no_other(poison, call):
    good = json.dumps(call).encode()
    kept = [record for record in map(record_in, poison) if record and not _is_json(record)]
    for declaration in (DOCUMENTS, LINES):
        lines = [line_of(record, declaration is DOCUMENTS) for record in [*kept, good]]
        found = records(pa.py_buffer(b"".join(lines)), declaration).to_pylist()
        assert len(found) == len(lines)
        assert json.loads(found[-1]) == call


def _is_json(text):
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


@pytest.mark.parametrize("body", [b"", b" \r\n", b"[]", b"[ ]\n", b"cdr=", b"cdr=%5B%5D", b"\xef\xbb\xbf"])
def test_what_holds_nothing_is_empty(body):
    assert record_in(body) == b""


@pytest.mark.parametrize("body", [b"cdr=%7B%22a", b"cdr=hello", b"<cdr/>", b"{", b"\xff\xfe", b"x=1&y=2"])
def test_what_is_no_record_is_kept(body):
    assert record_in(body)


def test_a_bomb_of_brackets_is_one_record():
    line = line_of(b"[" * 100_000, True)
    assert records(line, DOCUMENTS).to_pylist() == [line[:-1]]


@given(st.binary(max_size=2000))
def test_packed_bodies_unpack(body):
    assert unpacked(gzip.compress(body), "gzip", 2000) == body
    assert unpacked(zlib.compress(body), " Deflate ", 2000) == body
    assert unpacked(body, "", 2000) == body


def test_a_bomb_is_too_large_and_is_never_unpacked_whole():
    with pytest.raises(TooLarge):
        unpacked(gzip.compress(bytes(64 << 20)), "gzip", 1000)


@given(st.binary(min_size=30, max_size=300), st.integers(1, 20))
def test_a_packed_body_that_is_cut_short_or_goes_on_is_damaged(body, cut):
    packed = gzip.compress(body)
    for damaged in (packed[:-cut], packed + b"more"):
        with pytest.raises(Damaged):
            unpacked(damaged, "gzip", 1000)


def test_types_and_packings():
    assert is_type("application/json; charset=utf-8") and is_type("") and is_type("application/x-www-form-urlencoded")
    assert not is_type("multipart/form-data; boundary=x") and not is_type("text/xml")
    assert is_packing("GZIP") and is_packing("identity") and not is_packing("br")
