"""What stands for a class of Beam's in the job server: what paused goes on, after its pause and under few names."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent.parent
SOURCES = sorted(ROOT.glob("engine/flink/src/**/*.java"))
POM = ROOT.joinpath("engine/flink/pom.xml").read_text(encoding="utf-8")
_LEAST_MS = -9223372036854775  # Beam's least time


def test_what_paused_goes_on_in_time_and_under_few_names(flink_jar: Path) -> None:
    command = ["java", "-cp", str(flink_jar), str(Path(__file__).with_name("Paused.java"))]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert sorted(printed) == [
        f"a 250 {_LEAST_MS} true",  # a pause of less than a second; the watermark that its reader reported
        "b 2000 7000 true",  # the least of those reported
        "c 0 5000 true",  # none reported: the element's own time
        "names 3",  # of three elements that paused a hundred times
        "others false",
    ]


def test_what_stands_for_a_class_is_code_of_our_own_and_pinned_to_it() -> None:
    assert SOURCES
    for path in SOURCES:
        assert "Licensed to the Apache Software Foundation" not in path.read_text(encoding="utf-8")
        name = path.relative_to(ROOT / "engine/flink/src/main/java").with_suffix(".class")
        checked = rf"<file>\$\{{pinned\}}/{re.escape(str(name))}</file>\s*<checksum>[0-9a-f]{{64}}</checksum>"
        assert re.search(checked, POM), f"{name} is not compared with what it stands for"
        assert f"<exclude>{str(name).removesuffix('.class')}*.class</exclude>" in POM
