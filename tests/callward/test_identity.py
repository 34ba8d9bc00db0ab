"""Who acts is what the kernel says, whatever the environment says."""

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from callward import database, identity
from callward.retention.holds import sealed
from schemas.retention import approvers, disposals
from schemas.tables import audit_log, runs
from tests import retention
from tests.commands import run

ROOT = Path(__file__).resolve().parents[2]
CLAIMS = dict.fromkeys(("LOGNAME", "USER", "LNAME", "USERNAME", "SUDO_USER"), "head.of.compliance") | {
    "SUDO_UID": "4321",
    "HOSTNAME": "elsewhere",
    "HOME": "/home/head.of.compliance",
}
NAMELESS = 1_000_650_000  # such as OpenShift gives a container


@pytest.fixture(scope="module")
def claimed(workspace: Callable[..., Any]) -> Any:
    """A workspace in which somebody who claims to be another ran a night, placed a hold and started a purge."""
    site = workspace("generic", retention=retention.WINDOWS)
    site.land("generic", "a.csv", retention.FEED)
    where = ("--json", "--config", str(site.folder))
    order = ("--tenant", "default", "--kind", "litigation", "--authority", "the court", "--case", "case A")
    asked = [("nightly",), ("hold", "place", *order), ("purge", "--as-of", "2026-09-02")]
    ended = [run(*words, *where, environment=CLAIMS) for words in asked]
    key = retention.person(site)
    approval = ("--approve", ended[-1].document["plan_id"], "--person", "ada", "--key", str(key))
    ended.append(run("purge", *approval, *where, environment=CLAIMS))
    assert {each.code for each in ended} <= {0, 3}, ended
    return site


def test_every_register_names_the_kernels_user_whatever_the_environment_says(claimed: Any) -> None:
    columns = (audit_log.c.who, runs.c.started_by, disposals.c.started_by, approvers.c.registered_by)
    with database.reading(claimed.settings) as connection:
        named = [set(connection.execute(select(column)).scalars()) for column in columns]
    assert named == [{identity.who()}] * len(columns)
    assert {hold.placed_by for hold in sealed.opened(claimed.settings)} == {identity.who()}


def test_a_certificate_names_the_kernels_user_and_the_person_who_signed(claimed: Any) -> None:
    (text,) = (path.read_text() for path in claimed.folder.rglob("certificates/*.json"))
    body = json.loads(text)["body"]
    performed, verified, approved = (body[name] for name in ("performed_by", "verified_by", "approved_by"))
    assert {performed["os_user"], performed["started_by"], verified["os_user"]} == {identity.who()}
    assert (performed["location"], approved["person"]) == (os.uname().nodename, "ada")
    assert "head.of.compliance" not in text


def test_who_acts_is_written_as_name_and_id(claimed: Any) -> None:
    user = pwd.getpwuid(os.getuid()).pw_name
    assert identity.who() == f"{user} (uid-{os.getuid()})@{os.uname().nodename}"
    listed = run("audit", "list", "--json", "--config", str(claimed.folder)).check_clean()
    assert identity.who() in {entry["who"] for entry in listed.document}


def whoever(real: int, effective: int) -> str:
    """Return what `who` says in a process of these users."""
    become = f"import os; os.setresuid({real}, {effective}, {real})"
    program = f"from callward import identity; {become}; print(identity.who())"
    environment = {**os.environ, **CLAIMS, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    return done.stdout.strip().partition("@")[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_user_without_a_name_is_shown_by_id_and_a_set_uid_program_shows_both() -> None:
    assert whoever(NAMELESS, NAMELESS) == f"uid-{NAMELESS}"
    assert whoever(0, NAMELESS) == f"root (uid-0) as uid-{NAMELESS}"
