"""A night through its real entry point, in a workspace made for it: the one place that knows settings and commands."""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measure import Cost, measure
from callward import database, settings, template
from callward.feeds.world import TRUNKS
from callward.lake import ledger
from schemas.retention_classes import CLASSES

ROOT = Path(__file__).resolve().parent.parent
ACCOUNTS = 200
SOURCE = "asterisk"
CALLWARD = (sys.executable, "-m", "pipelines.cli.main")
_KEPT = "99 years"  # the bench measures no expiry
_OPEN_HOURS = 99 * 8766  # and no closing: its calls, of a day in the past, stand for those of today


class NightError(Exception):
    """A command of the night's did not end well; the message is the last line it wrote."""


@dataclass(frozen=True)
class Night:
    """What `callward nightly --json` said, and what the process cost."""

    report: dict[str, Any]
    cost: Cost


def make_workspace(folder: Path) -> Path:
    """`callward init`, then settings that name one Asterisk source and its accounts; raises NightError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _run("init", str(folder))
    found = settings.load(folder)
    tenant = settings.Tenant(retention=dict.fromkeys(CLASSES, _KEPT))
    changed = found.model_copy(
        update={
            "tenants": {"default": tenant},
            "lake": found.lake.model_copy(update={"close_after_hours": _OPEN_HOURS}),
            "trunks": [settings.Trunk(name=name, carrier=name.partition("-")[0]) for name in TRUNKS],
            "accounts": [settings.Account(id=f"acct-{n:04d}", codes=[f"ac-{n:04d}"]) for n in range(ACCOUNTS)],
            "sources": [settings.Source(name=SOURCE, format=SOURCE, zone="UTC", complete="rename")],
        }
    )
    changed.path.write_text(template.render(changed))
    _run("init", "--upgrade", str(folder))  # makes the source's landing folder
    return folder


def run_night(workspace: Path, files: Sequence[Path]) -> Night:
    """Land copies of files and run one night over them; raises NightError, also when it takes nothing in."""
    landing = workspace / "landing" / SOURCE
    landing.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copyfile(file, landing / file.name)
    cost = _run("nightly", "--json", "--config", str(workspace / "callward.toml"))
    try:
        report = json.loads(cost.out)
    except json.JSONDecodeError:
        raise NightError("callward nightly printed no JSON document") from None
    if not report.get("rows"):
        raise NightError(f"callward nightly took nothing in: {(cost.err.strip().splitlines() or ['no message'])[-1]}")
    return Night(report, cost)


def close(workspace: Path) -> None:
    """Close the dates of a workspace and merge its small files: `callward compact`; raises NightError."""
    found = settings.load(workspace)
    lake = found.lake.model_copy(update={"close_after_hours": 48.0})
    found.path.write_text(template.render(found.model_copy(update={"lake": lake})))
    _run("compact", "--config", str(found.path))


def bytes_on_disk(workspace: Path) -> dict[str, int]:
    """Bytes of the data files that count, by what they are, and of the database."""
    found, sizes = settings.load(workspace), Counter[str]()
    with database.reading(found) as connection:
        for file in ledger.files(connection):
            sizes[file.view] += file.bytes
    assert found.database_file is not None, "a workspace of the bench has its database in a file"
    in_database = sum(file.stat().st_size for file in workspace.glob(f"{found.database_file.name}*"))  # its log as well
    return {**dict(sorted(sizes.items())), "database": in_database}


def _run(*arguments: str) -> Cost:
    cost = measure([*CALLWARD, *arguments], folder=ROOT, environment={"PYTHONPATH": str(ROOT)})
    if cost.code not in (0, 3):  # 3: done, but a person must look
        raise NightError(f"callward {arguments[0]}: {(cost.err.strip().splitlines() or ['no message'])[-1]}")
    return cost
