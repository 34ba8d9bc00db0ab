"""What tests of retention share: small feeds of calls, persons who approve, policies with windows of the test's own."""

import re
import shutil
import time
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from callward import database
from callward.access.second_person import Consent
from callward.keys import approvers, signing
from callward.lake.data_files import open_files
from callward.retention import holds
from callward.retention.holds import Hold
from callward.retention.policy import register as policy_register
from callward.settings import Settings
from callward.storage.store import Store
from pipelines import purge as purges
from pipelines.reports.purge import PurgeReport
from schemas.cdr import LONGEST_CALL_DAYS
from schemas.retention_classes import example
from schemas.tables import keys, lake_files

DAY = date(2026, 3, 5)
CALLER, OTHER, CALLED = "+13035550101", "+13035550155", "+13035550102"
HEADER = "id,calling_number,called_number,start_time,answer_time,end_time,talk_ms,account\n"
# A call date's clock begins 31 days after it: the assurance row is kept through 15 April, the numbers through 5 May,
# the billing row through 5 August (of 5 March).
WINDOWS = {"assurance_metrics": "10 days", "call_detail": "1 month", "billing_transaction": "4 months"}
ASSURANCE_KEPT, NUMBERS_KEPT, BILLING_KEPT = date(2026, 4, 15), date(2026, 5, 5), date(2026, 8, 5)


def clock(day: date) -> date:
    """When the clock of a call date begins."""
    return day + timedelta(days=LONGEST_CALL_DAYS)


def call(
    number: int,
    day: date = DAY,
    caller: str = CALLER,
    account: str = "",
    *,
    called: str = CALLED,
    answered: bool = True,
    talk: int = 60,
) -> str:
    """A line of the generic feed: a call of some seconds, or one that nobody answered."""
    start = datetime(day.year, day.month, day.day, 12, tzinfo=UTC) + timedelta(seconds=number)
    end = start + timedelta(seconds=talk if answered else 20)
    stamps = f"{start:%FT%TZ},{f'{start:%FT%TZ}' if answered else ''},{end:%FT%TZ}"
    return f"id-{number},{caller},{called},{stamps},{talk * 1000 if answered else 0},{account}\n"


def feed(*lines: str) -> bytes:
    return (HEADER + "".join(lines)).encode()


FEED = feed(*(call(n) for n in range(4)), call(4, answered=False), call(5, caller=OTHER, account="ac-0007"))


def night(site: Any, data: bytes = FEED, on: date = DAY + timedelta(1), name: str = "a.csv") -> Any:
    """Take in a file as on the morning of a day."""
    site.land("generic", name, data)
    done = site.night(int(datetime(on.year, on.month, on.day, 6, tzinfo=UTC).timestamp() * 1000))
    assert not site.unbalanced()
    return done


def person(site: Any, name: str = "ada") -> Path:
    """The key file of a person who is registered in the site."""
    key = Path(site.folder.parent, f"{name}.sign")
    if not key.exists():
        approvers.register(site.settings, name, signing.create(key).hex())
    return key


def copied(site: Any, folder: Path) -> Any:
    """A copy of a site in a folder that is not there yet, with the same ids and keys, and with ada's key file."""
    key_file = person(site)
    database.engine(site.settings).dispose()  # the last connection closed writes the log back into the file
    shutil.copytree(site.folder, folder / "workspace")
    shutil.copy2(key_file, folder)
    return type(site)(folder / "workspace")


def purge(settings: Settings, as_of: date, **options: Any) -> dict[str, Any]:
    """Purge, and return the document of it."""
    return purges.purge(settings, as_of, **options).to_dict()


def purged_report(site: Any, as_of: date, **options: Any) -> PurgeReport:
    """Purge to the end; where the plan waits for a person, ada approves it."""
    report = purges.purge(site.settings, as_of, **options)
    if report.status == "planned":
        consent = Consent.of(report.plan_id, "ada", person(site))
        report = purges.purge(site.settings, as_of, consent=consent, **options)
    return report


def purged(site: Any, as_of: date, **options: Any) -> dict[str, Any]:
    """Purge to the end as `purged_report` does, and return the document of it."""
    return purged_report(site, as_of, **options).to_dict()


def place(site: Any, **selectors: Any) -> Hold:
    """Place a hold of the default tenant."""
    usual: dict[str, Any] = {"tenant": "default", "kind": "litigation", "authority": "a court", "case": "case 1"}
    return holds.place(site.settings, Hold(hold_id="", **(usual | selectors)), date.today(), unlisted=True)


def hold(site: Any, **selectors: Any) -> Hold:
    """Place a hold as `place` does, and wait until it is surely older than what follows."""
    placed = place(site, **selectors)
    time.sleep(1.01 - time.time() % 1)  # within its second nobody can say whether it came before a purge
    return placed


def release(site: Any, placed: Hold) -> None:
    holds.release(site.settings, placed.hold_id, "ada", person(site), date.today(), role=holds.LEGAL)


def policy_text(windows: dict[str, str], subscribers: dict[str, str] | None = None, at_expiry: str = "") -> str:
    """A policy with these windows and no bounds; `at_expiry` of assurance_metrics."""
    text = re.sub(r"^(floor|ceiling) = .*\n", "", example("business-processor"), flags=re.MULTILINE)
    for cls, window in windows.items():
        text = re.sub(rf'(\[classes\.{cls}\]\n(?:.*\n)*?window = )".*?"', rf'\g<1>"{window}"', text)
    if at_expiry:
        text = re.sub(r'(\[classes\.assurance_metrics\]\n(?:.*\n)*?at_expiry = )".*?"', rf'\g<1>"{at_expiry}"', text)
    text = re.sub(r"\n\[subscribers\]\n(?:.+\n)*", "\n", text)
    listed = "".join(f'"{account}" = "{window}"\n' for account, window in (subscribers or {}).items())
    return text + (f"\n[subscribers]\n{listed}" if listed else "")


def activate(site: Any, text: str, reference: str | None = None) -> policy_register.Policy:
    """Put a policy of the default tenant in force: proposed by one person, activated by another."""
    version, _ = policy_register.propose(site.settings, "default", text, "ada", person(site), reference)
    return policy_register.activate(site.settings, "default", version, "ben", person(site, "ben"))


def files(site: Any, view: str) -> list[Any]:
    return list(site.data_files(view))


def held(site: Any, view: str) -> Any:
    """All rows of a held view, read by those who run retention."""
    reader = open_files(site.settings, "retention-run", "test")
    return [row for file in files(site, view) for row in reader.rows(file).to_pylist()]


def on_disk(site: Any) -> set[str]:
    """Every file of the lake, by its path there."""
    return {file.path for file in Store.of(site.settings).list()}


def states(site: Any, months: Iterable[str] = ("2026-03",)) -> dict[str, str]:
    """Month keys of the views and logs by name, and their state."""
    with database.reading(site.settings) as connection:
        rows = connection.execute(select(keys).where(keys.c.month.in_(list(months)))).all()
    return {f"{k.domain}/{k.purpose}": k.state for k in rows if k.domain != "transit"}


def paths(site: Any) -> dict[str, Any]:
    """Every row of the manifest by file id."""
    with database.reading(site.settings) as connection:
        return {row.file_id: row for row in connection.execute(select(lake_files))}
