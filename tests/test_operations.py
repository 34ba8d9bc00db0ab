"""docs/operations.md is true: each command in it is run as it stands there, and each mistake is undone by the one
command that it names."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tests.commands import run

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"# exit code (\d)$")
DENVER = timezone(timedelta(hours=-7))
OURS, FORGOTTEN = "3035550101", "3035550177"


def calls(first: int, count: int) -> str:
    """Inbound calls of a minute from 18:30 in Denver on, so of the next day in UTC; every third is for FORGOTTEN."""
    return "".join(f"{_call(n)}\n" for n in range(first, first + count))


def _call(n: int) -> str:
    start = datetime(2026, 3, 5, 18, 30 + n, tzinfo=DENVER)
    clock = [f"{start + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S}" for seconds in (0, 5, 65)]
    uniqueid = f"{start.timestamp():.0f}.{n}"
    channels = [f"PJSIP/northwind-{n:08x}", f"PJSIP/desk-{n:08x}", "Dial", ""]
    called = FORGOTTEN if n % 3 == 2 else OURS
    parties = ["", f"21255501{n:02d}", called, "from-trunk", ""]
    how = ["65", "60", "ANSWERED", "DOCUMENTATION", uniqueid, "", "", uniqueid, str(n)]
    return ",".join(f'"{value}"' for value in [*parties, *channels, *clock, *how])


class Walk:
    """A person who types what stands on the page, in a folder in place of /srv/callward."""

    def __init__(self, folder: Path) -> None:
        self.workspace, self.spool, self.here = folder / "callward", folder / "spool", folder
        self.spool.mkdir()
        self.spool.joinpath("Master.csv").write_text(calls(0, 12))
        self.spool.joinpath("elsewhere.csv").write_text(calls(20, 5))

    def write(self, settings: str) -> None:
        with (self.workspace / "callward.toml").open("a") as file:
            file.write("\n" + settings)

    def type(self, line: str) -> str:
        """Type a line and return what it printed; it ends with the exit code that the page says, else 0."""
        line = line.replace("/srv/callward", str(self.workspace)).replace("/var/spool/switch", str(self.spool))
        if line.startswith("cd "):
            self.here = Path(line[3:])
            return ""
        wanted = int(match[1]) if (match := _CODE.search(line)) else 0
        if not line.startswith("callward "):
            return subprocess.run(line, shell=True, cwd=self.here, check=True, capture_output=True, text=True).stdout
        ended = run(*shlex.split(line, comments=True)[1:], at=self.here)
        assert ended.code == wanted, (line, ended.out, ended.err)
        return ended.out + ended.err

    def usage(self) -> list[list[str]]:
        """Return account, day and calls of the usage that billing sees."""
        query = "SELECT account, billing_date, sum(calls) AS n FROM billing_usage_daily GROUP BY ALL ORDER BY ALL"
        return [line.split() for line in self.type(f'callward sql --role billing "{query}"').splitlines()[1:]]


def _sections() -> Iterator[tuple[str, str, str]]:
    """Yield (heading, language, block) of each block of the page."""
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        for language, block in _BLOCK.findall(section):
            yield section.partition("\n")[0], language, block


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Walk, dict[str, str], dict[str, list[list[str]]]]:
    """Return who typed all of the page, what each section's commands printed, and the usage at each section's end."""
    walk = Walk(tmp_path_factory.mktemp("operations"))
    printed, usage = dict[str, str](), dict[str, list[list[str]]]()
    for heading, language, block in _sections():
        if language == "toml":
            walk.write(block)
            continue
        for line in block.splitlines():
            printed[heading] = printed.get(heading, "") + walk.type(line)
        if int(heading[0]) >= 3:
            usage[heading[0]] = walk.usage()
    return walk, printed, usage


def test_each_mistake_is_undone_by_the_command_that_the_page_names(
    walked: tuple[Walk, object, dict[str, object]],
) -> None:
    _, _, usage = walked
    right = [["acct-0001", "2026-03-06", "8"]]
    assert usage["3"] == [["acct-0001", "2026-03-05", "8"], ["unassigned", "2026-03-05", "4"]]
    assert usage["4"] == [*right, ["unassigned", "2026-03-06", "4"]]
    assert usage["5"] == usage["6"] == usage["7"] == [*right, ["acct-0002", "2026-03-06", "4"]]


def test_what_is_printed_says_what_the_page_says(walked: tuple[Walk, dict[str, str], object]) -> None:
    _, printed, _ = walked
    said = {heading[0]: text for heading, text in printed.items()}
    assert "zone America/New_York looks wrong" in said["2"]
    assert "callward reprocess --source asterisk" in said["3"] and "look:" in said["3"]
    assert "unassigned" in said["3"] and "call_date" in said["4"]
    assert "acct-0002" in said["5"] and "withdrawn" in said["6"] and "nothing to look at" in said["7"]
    numbers = [OURS, FORGOTTEN, "2125550100"]
    assert [number for number in numbers for text in printed.values() if number in text] == []
