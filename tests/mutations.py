"""Golden files as they come when something went wrong on the way: cut, joined, in another encoding, with columns
swapped or renamed, with other separators or line ends."""

from pathlib import Path

from hypothesis import strategies as st

from schemas.declaration import available

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(
    path.with_name(path.name.removesuffix(".rows.jsonl"))
    for name in available()
    for path in (GOLDEN / name).glob("*.rows.jsonl")
)
FEEDS = [path for path in FILES if path.stat().st_size]
_SEPARATORS = (b",", b";", b"\t", b"|", b"^", b"~", b" ", b"\x1f", b'","', b'";"')
_LINE_ENDS = (b"\n", b"\r\n", b"\r", b"\r\r\n", b"\n\r", b"\x0b", b"\x1e", b"\xc2\x85", b"\xe2\x80\xa8", b"")
_ENCODINGS = ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "cp500", "utf-7")


@st.composite
def mutated_files(draw: st.DrawFn) -> tuple[Path, bytes]:
    """Return a golden file's path, and what one or two changes make of its bytes."""
    path = draw(st.sampled_from(FEEDS))
    data = path.read_bytes()
    for _ in range(draw(st.integers(1, 2))):
        data = _changed(draw, data)
    return path, data


def _changed(draw: st.DrawFn, data: bytes) -> bytes:
    at, other = draw(st.integers(0, len(data))), draw(st.sampled_from(FEEDS)).read_bytes()
    lines = data.split(b"\n")
    changes = (
        data[:at],
        data[at:],
        data + other,
        other + data,
        b"\n".join(lines[1:]),
        data.replace(b",", draw(st.sampled_from(_SEPARATORS))),
        data.replace(b"\n", draw(st.sampled_from(_LINE_ENDS))),
        data.decode("utf-8", "replace").encode(draw(st.sampled_from(_ENCODINGS)), "replace"),
        b"\n".join(b",".join(line.split(b",")[::-1]) for line in lines),
        data.replace(b"start", b"beginning"),
    )
    return draw(st.sampled_from(changes))
