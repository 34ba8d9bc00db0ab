"""Promises of the sweep: what is planted is found where it stands, clean bytes stay clean, no report holds a number."""

import base64
import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import random
import re
import sqlite3
import struct
import urllib.parse
import zipfile
import zlib
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from callward.sweep import bcd, forms, scanner, streams, unpackers
from callward.sweep.report import NOT_FOUND, Report
from callward.sweep.scanner import sweep
from tests.examples import some, tries

NATIONAL = "2125550147"
NUMBER = "+1" + NATIONAL
BODY = 4096  # the body of a step while these tests run, so that borders are met often

Plant = Callable[[bytes], tuple[bytes, int]]  # national digits to planted bytes, and where the first digit stands


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_BODY_BYTES", BODY)
    monkeypatch.setattr(scanner, "READ_BYTES", 2 * BODY)
    monkeypatch.setattr(unpackers, "READ_BYTES", 2 * BODY)


def _bcd(digits: str, *, swapped: bool) -> bytes:
    """Two digits an octet, F where a digit is missing: written from the definition, one octet at a time."""
    digits += "F" * (len(digits) % 2)
    pairs = (digits[place : place + 2] for place in range(0, len(digits), 2))
    return b"".join(bytes.fromhex(pair[::-1] if swapped else pair) for pair in pairs)


def _each(escape: str) -> bytes:
    """Each digit as an escape."""
    return "".join(escape.format(ord(digit)) for digit in NATIONAL).encode()


def _in_script(text: str, nought: int) -> str:
    """The digits of a text in the script whose nought is given."""
    return "".join(chr(nought + int(c)) if c.isdigit() else c for c in text)


FORMS: dict[str, tuple[bytes, int, str]] = {
    "e164": (b"<+12125550147>", 3, "e164"),
    "digits": (b"<12125550147>", 2, "digits"),
    "international prefix": (b"<01112125550147>", 5, "digits"),
    "national": (b"<2125550147>", 1, "national"),
    "packed strings": (b"202555010021255501472025550102", 10, "national"),
    "dashes": (b"<212-555-0147>", 1, "separated/national"),
    "brackets": (b"<+1 (212) 555-0147>", 5, "separated/e164"),
    "dots": (b"<1.212.555.0147>", 3, "separated/digits"),
    "no-break spaces": ("<212\u00a0555\u20110147>".encode(), 1, "separated/national"),
    "utf-16le": ("<2125550147>".encode("utf-16-le"), 2, "utf-16/national"),
    "utf-16be": ("<+12125550147>".encode("utf-16-be"), 7, "utf-16/e164"),
    "utf-16 separated": ("<(212) 555-0147>".encode("utf-16-le"), 4, "utf-16/separated/national"),
    "utf-32": ("<2125550147>".encode("utf-32-le"), 4, "utf-32/national"),
    "url": (b"?to=%2B12125550147&", 8, "url/e164"),
    "url separated": (b"?to=%28212%29%20555-0147&", 7, "url/separated/national"),
    "url every byte": (b"".join(b"%%%02x" % octet for octet in b"2125550147"), 0, "url/national"),
    "tbcd": (b"\x91" + _bcd("12125550147", swapped=True), 1, "bcd-swapped"),
    "bcd": (b"\x91" + _bcd("12125550147", swapped=False), 1, "bcd"),
    "bcd with length": (b"\x05" + _bcd(NATIONAL, swapped=False), 1, "bcd"),
    "int64": (struct.pack("<q", 12125550147), 0, "binary"),
    "int64 national": (struct.pack("<q", 2125550147), 0, "binary"),
    "int64 big-endian": (struct.pack(">q", 12125550147), 0, "binary"),
    "float64 big-endian": (struct.pack(">d", 2125550147), 0, "binary"),
    "float64": (struct.pack("<d", 12125550147), 0, "binary"),
    "underscores": (b"<212_555_0147>", 1, "separated/national"),
    "commas": (b"<2,1,2,5,5,5,0,1,4,7>", 1, "separated/national"),
    "colons": (b"<+1:212:555:0147>", 4, "separated/e164"),
    "lines": (b"<212\r\n555\r\n0147>", 1, "separated/national"),
    "a digit a line": (("<" + "\n".join(NATIONAL) + ">").encode(), 1, "separated/national"),
    "tabs": (b"<212\t555\t0147>", 1, "separated/national"),
    "reversed": (b"<7410555212>", 1, "reversed"),
    "reversed and separated": (b"<7410-555-212 1+>", 1, "separated/reversed"),
    "hex": (b"<" + NATIONAL.encode().hex().encode() + b">", 1, "hex/national"),
    "hex octet by octet": (b"<" + NUMBER.encode().hex(":").encode() + b">", 7, "hex/e164"),
    "hex with separators": (b"<" + b"(212) 555-0147".hex().encode() + b">", 3, "hex/separated/national"),
    "hex of utf-16": (b"<" + NATIONAL.encode("utf-16-le").hex().upper().encode() + b">", 1, "hex/utf-16/national"),
    "json": (_each("\\u{:04x}"), 0, "json/national"),
    "json of fullwidth": ("".join(f"\\uff1{digit}" for digit in NATIONAL).encode(), 0, "json/national"),
    "escapes of octets": (_each("\\x{:02x}"), 0, "escape/national"),
    "html": (_each("&#{};"), 0, "html/national"),
    "html in hex": (_each("&#x{:X};"), 0, "html/national"),
    "html with noughts": (_each("&#0{};"), 0, "html/national"),
    "fullwidth": (_in_script("212-555-0147", 0xFF10).encode(), 0, "script/separated/national"),
    "arabic-indic": (_in_script(NATIONAL, 0x660).encode(), 0, "script/national"),
    "devanagari": (_in_script(NATIONAL, 0x966).encode(), 0, "script/national"),
    "mathematical": (_in_script(NATIONAL, 0x1D7D8).encode(), 0, "script/national"),
    "fullwidth utf-16le": (_in_script(NATIONAL, 0xFF10).encode("utf-16-le"), 0, "script/utf-16/national"),
    "thai utf-16be": (_in_script("212-555-0147", 0xE50).encode("utf-16-be"), 0, "script/utf-16/separated/national"),
}


def _swept(folder: Path, data: bytes, numbers: Iterable[str] = (NUMBER,), **named: object) -> Report:
    path = folder / "bytes"
    path.write_bytes(data)
    return sweep([path], numbers, **named)  # type: ignore[arg-type]


def _found(report: Report) -> set[tuple[int, str]]:
    return {(hit.offset, hit.form) for hit in report.hits}


def _random_bytes(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def _text_bytes(seed: int, size: int) -> bytes:
    """Lines as a switch writes them, with no number of the list in them."""
    rng = random.Random(seed)
    lines = io.BytesIO()
    while lines.tell() < size:
        lines.write(
            b"%d,2026-11-22 06:21:%02d,Oak,+1202555%04d,16\n" % (rng.getrandbits(40), seed % 60, rng.randrange(100))
        )
    return lines.getvalue()[:size]


around = st.builds(
    lambda make, seed, size: make(seed, size),
    st.sampled_from([_random_bytes, _text_bytes, lambda seed, size: b"\0" * size]),
    st.integers(0, 999),
    st.integers(0, 300) | st.integers(BODY - 700, BODY + 700) | st.integers(2 * BODY - 150, 2 * BODY + 150),
)
quick = tries(12, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("name", FORMS)
@given(before=around, after=around)
@quick
def test_every_form_is_found_where_it_stands(tmp_path: Path, name: str, before: bytes, after: bytes) -> None:
    planted, place, form = FORMS[name]
    fence = b"\x7f~~~~~~~\x7f"  # what happens to stand beside the plant must not change its meaning
    data = before + fence + planted + fence + after
    assert (len(before) + len(fence) + place, form) in _found(_swept(tmp_path, data))


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_found_once_and_named_alike_on_every_side_of_a_border(tmp_path: Path, name: str) -> None:
    planted, place, form = FORMS[name]
    data, expected = bytearray(b"~" * BODY * 70), set()
    for border in range(1, 67):
        start = border * (BODY - 1) - 600  # each step ends elsewhere within the plant, whatever the overlap
        for at in (start, start + 300, start + 2000):
            data[at : at + len(planted)] = planted
            expected.add((at + place, form))
    assert _found(_swept(tmp_path, bytes(data))) == expected


# A digit before the number would make it another, longer one.
not_digits = st.binary(max_size=3).filter(lambda lead: not any(octet in b"0123456789" for octet in lead))


@given(before=around, lead=not_digits, url_safe=st.booleans(), after=around)
@quick
def test_base64_is_found_at_every_alignment(
    tmp_path: Path, before: bytes, lead: bytes, url_safe: bool, after: bytes
) -> None:
    encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
    data = before + b"|" + encode(lead + b":" + NATIONAL.encode() + b":") + b"|" + after
    place = len(before) + 1 + (len(lead) + 1) * 8 // 6
    assert (place, "base64/national") in _found(_swept(tmp_path, data))


@pytest.mark.parametrize("lower", [False, True])
@given(before=around, lead=st.binary(max_size=7), text=st.sampled_from([NATIONAL, "212-555-0147"]), after=around)
@quick
def test_base32_is_found_at_every_alignment(
    tmp_path: Path, lower: bool, before: bytes, lead: bytes, text: str, after: bytes
) -> None:
    encoded = base64.b32encode(lead + b"*" + text.encode() + b"*")
    data = before + b"|" + (encoded.lower() if lower else encoded) + b"|" + after
    assert {form.split("/")[0] for _, form in _found(_swept(tmp_path, data))} == {"base32"}


@given(st.text("0123456789,:_\n\t", max_size=400))
@quick
def test_a_short_number_counts_only_where_nothing_goes_on(tmp_path: Path, text: str) -> None:
    data = "9" + text + "\n5,5,5,0,1,2,3,9~"
    assert not _swept(tmp_path, data.encode(), ["5550123"]).hits or "5550123" in re.split(r"\D", data)
    assert _swept(tmp_path, b"~5,5,5,0,1,2,3~", ["5550123"]).hits


@pytest.mark.parametrize("lead", range(80))
def test_base64_is_found_across_wrapped_lines(tmp_path: Path, lead: int) -> None:
    text = b"x" * lead + NUMBER.encode() + b"y" * 30
    for end in (b"\n", b"\r\n"):
        forms = {hit.form for hit in _swept(tmp_path, base64.encodebytes(text).replace(b"\n", end)).hits}
        assert "base64/e164" in forms


def test_what_only_looks_like_base64_is_not_decoded(tmp_path: Path) -> None:
    text = base64.b64encode(NATIONAL.encode("utf-16-le"))
    assert _swept(tmp_path, text).hits
    assert not _swept(tmp_path, text.replace(b"A", b"~")).hits


@pytest.mark.parametrize("text", ["+1 (212) 555-0147", "<2125550147>"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "ascii"])
def test_base64_of_other_forms_is_found(tmp_path: Path, text: str, encoding: str) -> None:
    report = _swept(tmp_path, b"Authorization: " + base64.b64encode(b"ab" + text.encode(encoding) + b"cd") + b"\n")
    assert [hit.form.split("/")[0] for hit in report.hits] == ["base64"]


def test_a_number_in_bcd_is_found_with_a_filler_or_an_odd_start(tmp_path: Path) -> None:
    even = b"\xaa" + _bcd(NATIONAL, swapped=True) + b"\xff\xaa"
    odd = b"\xaa" + _bcd("F12125550147", swapped=False) + b"\xaa"
    assert _found(_swept(tmp_path, even)) == {(1, "bcd-swapped")}
    assert _found(_swept(tmp_path, odd)) == {(2, "bcd")}


def test_bcd_without_framing_counts_from_eight_octets_on(tmp_path: Path) -> None:
    assert not _swept(tmp_path, b"\xaa\xaa" + _bcd(NATIONAL, swapped=False) + b"\xaa").hits
    assert _swept(tmp_path, b"\xaa\xaa" + _bcd("4420555010123456", swapped=False) + b"\xaa", ["4420555010123456"]).hits


# ---------------------------------------------------------------- against a naive search


@given(
    st.lists(st.text("2501", min_size=10, max_size=10), min_size=1, max_size=8, unique=True),
    st.lists(st.text("25012501250x,", min_size=1, max_size=400), max_size=8),
)
@quick
def test_written_digits_agree_with_a_naive_search(tmp_path: Path, numbers: list[str], pieces: list[str]) -> None:
    text = "".join(piece + number for piece, number in zip(pieces, numbers * 8, strict=False)) + "".join(pieces)
    report = _swept(tmp_path, text.encode(), numbers)
    naive = {place for place in range(len(text) - 9) if text[place : place + 10] in numbers}
    assert {place for place, form in _found(report) if form in ("digits", "national", "e164")} == naive


@given(st.integers(0, 10**6), st.sampled_from([_random_bytes, _text_bytes]))
@quick
def test_clean_bytes_give_no_hit(tmp_path: Path, seed: int, make: Callable[[int, int], bytes]) -> None:
    assert _swept(tmp_path, make(seed, 3 * BODY)).hits == []


def test_a_date_with_an_hour_is_not_a_number(tmp_path: Path) -> None:
    assert not _swept(tmp_path, b"x,2026-11-22 06:21,y\n", ["+12026112206"]).hits
    assert _swept(tmp_path, b"x,202-611-2206,2026-11-22 06:21\n", ["+12026112206"]).hits
    assert _swept(tmp_path, b"2026-11-22 2125550147 dialled\n").hits


def test_numbers_of_other_plans_are_found_whole_national_and_with_a_trunk_prefix(tmp_path: Path) -> None:
    for text, form in (
        (b"<+31205550123>", "e164"),
        (b"<31205550123>", "digits"),
        (b"<0205550123>", "digits"),
        (b"<205550123>", "national"),
        (b"<020-555 0123>", "separated/digits"),
    ):
        assert form in {hit.form for hit in _swept(tmp_path, text, ["+31205550123"]).hits}
        assert form in {hit.form for hit in _swept(tmp_path, text, ["01131205550123"]).hits}


def test_a_form_under_ten_digits_counts_only_by_itself(tmp_path: Path) -> None:
    assert _swept(tmp_path, b"at 06:21:59 5550123 dialled", ["5550123"]).hits
    assert not _swept(tmp_path, b"id=915550123", ["5550123"]).hits


def test_extensions_are_counted_and_not_looked_for(tmp_path: Path) -> None:
    report = _swept(tmp_path, b"4021 4021", ["4021", "911", NUMBER])
    assert (report.hits, report.short_numbers) == ([], 2)


# ---------------------------------------------------------------- compressed members


def _zip(data: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("entry.csv", data)
    return sink.getvalue()


def _zstd_stream(data: bytes) -> bytes:
    inner = zstandard.ZstdCompressor().compressobj()
    return inner.compress(data) + inner.flush()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "zlib of level 9": lambda data: zlib.compress(data, 9),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zip": _zip,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": _zstd_stream,
    "lz4": lambda data: pa.compress(data, codec="lz4", asbytes=True),
}


def _layer(kind: str) -> str:
    return f"{kind.split()[0]}/"


squeezable = (b"nothing here, " * 700) + b"to=" + NUMBER.encode() + b";" + (b"nor here, " * 900)


@pytest.mark.parametrize("kind", PACKERS)
@given(before=around, after=around)
@quick
def test_a_compressed_member_is_found_anywhere(tmp_path: Path, kind: str, before: bytes, after: bytes) -> None:
    data = before + PACKERS[kind](squeezable) + after
    assert (len(before), f"{_layer(kind)}e164") in _found(_swept(tmp_path, data))


@pytest.mark.parametrize("kind", PACKERS)
def test_a_member_is_found_whose_magic_is_cut_by_a_read(tmp_path: Path, kind: str) -> None:
    for cut in range(8):
        data = b"~" * (2 * BODY - cut) + PACKERS[kind](squeezable)
        assert (2 * BODY - cut, f"{_layer(kind)}e164") in _found(_swept(tmp_path, data))


@pytest.mark.parametrize("kind", some(PACKERS, of=3))
def test_every_packed_form_is_found_within_a_member(tmp_path: Path, kind: str) -> None:
    for planted, _, form in FORMS.values():
        data = PACKERS[kind](_random_bytes(1, 9000) + b"\x7f~~~\x7f" + planted + b"\x7f~~~\x7f" + bytes(BODY))
        assert (0, f"{_layer(kind)}{form}") in _found(_swept(tmp_path, data))


@pytest.mark.parametrize("inner", PACKERS)
@pytest.mark.parametrize("outer", PACKERS)
def test_a_member_within_a_member_is_found(tmp_path: Path, outer: str, inner: str) -> None:
    data = b"head" + PACKERS[outer](b"tar" + PACKERS[inner](squeezable))
    assert (4, f"{_layer(outer)}{_layer(inner)}e164") in _found(_swept(tmp_path, data))


@pytest.mark.parametrize("kind", ["gzip", "zip", "zstd", "lz4", "xz"])
def test_a_torn_member_gives_what_it_holds(tmp_path: Path, kind: str) -> None:
    whole = PACKERS[kind](b"to=" + NUMBER.encode() + b";" + b"filler " * 20000 + _random_bytes(2, 400_000))
    assert (0, f"{kind}/e164") in _found(_swept(tmp_path, whole[:300_000]))


@pytest.mark.parametrize("codec", ["lz4", "zstd", None])
def test_a_number_column_of_an_arrow_file_is_found(tmp_path: Path, codec: str | None) -> None:
    numbers = [f"{area}55501{last:02d}" for area in range(200, 240) for last in range(100)]
    batch = pa.record_batch({"called": pa.array(numbers), "talk_ms": pa.array(range(len(numbers)))})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write_batch(batch)
    assert _swept(tmp_path, sink.getvalue().to_pybytes()).hits


def test_a_member_that_inflates_too_far_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "INFLATED_BYTES", 1 << 20)
    for kind, pack in PACKERS.items():
        path = tmp_path / kind
        path.write_bytes(pack(bytes(8 << 20)))
        assert sweep([path], [NUMBER]).unfinished == [path], kind


# ---------------------------------------------------------------- ciphertext


CIPHERTEXT = {
    "parquet": lambda body: b"PARE" + body + b"PARE",
    "seal": lambda body: b"CWSEAL" + body,
}
framed = b"\x91" + _bcd("12125550147", swapped=True)


@pytest.mark.parametrize("kind", CIPHERTEXT)
def test_short_forms_in_ciphertext_do_not_count_and_long_ones_do(tmp_path: Path, kind: str) -> None:
    noise = _random_bytes(3, 500)
    assert _swept(tmp_path, noise + framed + noise).hits
    assert not _swept(tmp_path, CIPHERTEXT[kind](noise + framed + noise)).hits
    assert _swept(tmp_path, CIPHERTEXT[kind](noise + NATIONAL.encode() + noise)).hits


def test_ciphertext_is_what_its_sha256_says(tmp_path: Path) -> None:
    data = _random_bytes(4, 500) + framed
    path = tmp_path / "bytes"
    right, wrong = hashlib.sha256(data).hexdigest(), hashlib.sha256(b"").hexdigest()
    assert not _swept(tmp_path, data, ciphertext={path: right}).hits
    assert _swept(tmp_path, data, ciphertext={path: wrong}).hits
    assert _swept(tmp_path, data, ciphertext={tmp_path / "other": right}).hits
    assert not _swept(tmp_path, data, ciphertext=lambda asked, head: asked == path and data.startswith(head)).hits


@pytest.mark.parametrize("separator", ["", pytest.param(",", marks=pytest.mark.endurance)])
def test_expected_chance_hits_are_those_that_chance_gives(tmp_path: Path, separator: str) -> None:
    rng = random.Random(5)
    numbers = [f"{rng.randrange(10**10):010d}" for _ in range(200_000)]
    report = _swept(tmp_path, separator.join(rng.choices("0123456789", k=1_000_000)).encode(), numbers)
    found = sum(
        hit.form.removeprefix("separated/") in ("national", "digits", "e164", "reversed") for hit in report.hits
    )
    assert 0.6 * found < report.expected_chance_hits < 1.7 * found  # 40 are expected, half of them reversed: Poisson


def test_the_share_of_random_windows_that_look_framed_is_as_stated() -> None:
    octets = np.frombuffer(_random_bytes(7, 60_000), np.uint8)
    starts = random.Random(8).sample(range(100, 119_000), 20_000)
    framed = sum(
        any(bcd.framed(octets, begin, first + 9, False) for begin in bcd.with_prefix(octets, first, 1, False))
        for first in starts
    )
    assert 0.75 * bcd.FRAMED_SHARE < framed / len(starts) < 1.3 * bcd.FRAMED_SHARE


def test_ciphertext_adds_no_chance_hits(tmp_path: Path) -> None:
    noise = _random_bytes(9, 1 << 16)
    numbers = [f"{number:010d}" for number in range(10_000)]
    assert _swept(tmp_path, b"CWSEAL" + noise, numbers).expected_chance_hits < 1e-6
    assert _swept(tmp_path, noise, numbers).expected_chance_hits > 1e-6


# ---------------------------------------------------------------- files, folders, and what a report holds


def test_folders_are_read_links_are_not_and_odd_files_are_reported(tmp_path: Path) -> None:
    inside, outside = tmp_path / "workspace", tmp_path / "outside"
    (inside / "deep" / "er").mkdir(parents=True)
    outside.mkdir()
    (outside / "leak").write_text(NUMBER)
    (inside / "deep" / "er" / "leak.log").write_text(NUMBER)
    (inside / "empty").write_bytes(b"")
    (inside / "link").symlink_to(outside / "leak")
    (inside / "folder").symlink_to(outside)
    os.mkfifo(inside / "pipe")
    with (inside / "sparse").open("wb") as sparse:
        sparse.truncate(3 << 20)
    report = sweep([inside, tmp_path / "gone", inside / "empty"], [NUMBER])
    assert [hit.file for hit in report.hits] == [inside / "deep" / "er" / "leak.log"]
    assert (report.files, report.bytes) == (3, (3 << 20) + len(NUMBER))
    assert report.unreadable == [tmp_path / "gone"]


def test_a_file_that_vanishes_is_reported(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    for name in names:
        (tmp_path / name).write_text(NUMBER)
    report = sweep([tmp_path], [NUMBER], progress=lambda files, size: (tmp_path / "b").unlink(missing_ok=True))
    assert [hit.file.name for hit in report.hits] == ["a", "c"]
    assert report.unreadable == [tmp_path / "b"]


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    landing = tmp_path / "landing" / "cucm"
    landing.mkdir(parents=True)
    for name in ("one", "two", "three"):
        (landing / name).write_text(NUMBER)
    report = sweep([tmp_path], [NUMBER], leave_out=[landing / "one", landing / "two"])
    assert (report.left_out, [hit.file.name for hit in report.hits]) == (2, ["three"])
    assert sweep([tmp_path], [NUMBER], leave_out=[tmp_path / "landing"]).left_out == 3


def test_a_name_that_holds_a_number_is_a_hit_and_is_masked(tmp_path: Path) -> None:
    folder = tmp_path / f"calls of {NUMBER}"
    folder.mkdir()
    (folder / "212-555-0147.wav").write_text(NUMBER)
    report = sweep([tmp_path, tmp_path / f"{NATIONAL}.gone"], [NUMBER])
    assert {hit.form for hit in report.hits} == {"name/e164", "name/separated/national", "e164"}
    _assert_without_number(report)


def test_names_of_links_and_what_they_point_to_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / f"{NATIONAL}.csv").symlink_to("nowhere")
    (tmp_path / "newest").symlink_to(f"calls/{_in_script(NATIONAL, 0xFF10)}.csv")
    os.mkfifo(tmp_path / f"pipe {NATIONAL[::-1]}")
    (tmp_path / f"empty {base64.b32encode(NUMBER.encode()).decode()}").mkdir()
    report = sweep([tmp_path], [NUMBER])
    assert {hit.form for hit in report.hits} == {
        "name/national",
        "link/script/national",
        "name/reversed",
        "name/base32/e164",
    }
    _assert_without_number(report)


def _parquet(data: bytes) -> bytes:
    """Parquet whose metadata hold the bytes, as base64 of a schema does and as they are."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"rows": [1]}).replace_schema_metadata({"note": b"~" + data + b"~"}), sink)
    return sink.getvalue().to_pybytes()


def _sqlite(data: bytes) -> bytes:
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE notes (note BLOB)")
        database.execute("INSERT INTO notes VALUES (?)", (b"~" + data + b"~",))
        database.commit()
        return database.serialize()


CONTAINERS = {
    "file": lambda data: data,
    "gzip": gzip.compress,
    "zip": lambda data: _zip(data),
    "parquet": _parquet,
    "sqlite": _sqlite,
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_form_is_found_in_every_container(tmp_path: Path, container: str) -> None:
    for name, (planted, _, form) in FORMS.items():
        data = CONTAINERS[container](
            _random_bytes(1, 300) + b"\x7f~~~\x7f" + planted + b"\x7f~~~\x7f" + _text_bytes(2, 300)
        )
        assert any(found.endswith(form) for _, found in _found(_swept(tmp_path, data))), name


def test_what_is_not_found_is_in_the_report_and_in_the_threat_model() -> None:
    page = (Path(__file__).parents[3] / "docs" / "threat-model.md").read_text(encoding="utf-8")
    assert sweep([], [NUMBER]).as_json()["not_found"] == list(NOT_FOUND)
    for line in NOT_FOUND:
        assert f"- {line}\n" in page


def test_a_report_holds_no_number(tmp_path: Path) -> None:
    data = b"".join(b"\x7f~~~~\x7f" + planted + b"\x7f~~~~\x7f" for planted, _, _ in FORMS.values()) + gzip.compress(
        squeezable
    )
    report = _swept(tmp_path, data)
    assert len({hit.form for hit in report.hits}) >= len({form for _, _, form in FORMS.values()})
    _assert_without_number(report)


def _assert_without_number(report: Report) -> None:
    shown = repr(report) + str(report) + json.dumps(report.as_json())
    digits = "".join(character for character in urllib.parse.unquote(shown) if character.isdigit())
    assert NATIONAL not in digits
    assert NATIONAL[3:] not in digits


def test_a_file_full_of_numbers_is_left_and_said(tmp_path: Path) -> None:
    report = _swept(tmp_path, (NUMBER + "\n").encode() * 50_000)
    assert report.unfinished == [tmp_path / "bytes"]
    assert forms.HITS_PER_FILE <= len(report.hits) < 50_000


@pytest.mark.parametrize("value", [NUMBER, int(NUMBER), float(NUMBER)])
def test_a_number_in_a_database_or_its_log_is_found(tmp_path: Path, value: object) -> None:
    path = tmp_path / "callward.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE runs (name TEXT, value)")
        database.execute("INSERT INTO runs VALUES ('one', ?)", (value,))
        database.commit()
        assert {hit.file.name for hit in sweep([tmp_path], [NUMBER]).hits} == {"callward.db-wal"}
    assert {hit.file.name for hit in sweep([tmp_path], [NUMBER]).hits} == {"callward.db"}


def test_no_numbers_and_no_paths_find_nothing(tmp_path: Path) -> None:
    assert _swept(tmp_path, b"2125550147", []).hits == []
    assert sweep([], [NUMBER]).files == 0


@given(
    st.lists(
        st.sampled_from([b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18\x40", b"PK\x03\x04", b"BZh9"])
        | st.binary(max_size=60),
        max_size=60,
    )
)
@quick
def test_broken_members_hide_nothing_and_raise_nothing(tmp_path: Path, pieces: list[bytes]) -> None:
    data = b"".join(pieces) + b"<" + NUMBER.encode() + b">"
    assert (len(data) - 11, "e164") in _found(_swept(tmp_path, data))
