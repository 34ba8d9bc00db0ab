"""What compliance does for a person or a tenant, killed at any named point and run again, ends as if nobody had."""

import copy
import json
import random
import re
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import select

from callward import database
from callward.keys import approvers, signing
from callward.retention.requests import register as request_register
from callward.settings import Tenant
from callward.template import render
from schemas.retention import certificates, disposals
from schemas.retention_classes import CLASSES
from schemas.tables import keys
from tests.commands import killed_after, run, strays
from tests.retention import CALLED, CALLER, OTHER, call, feed

LAST_WEEK = database.now().date() - timedelta(7)
POINTS = [
    "view-written:3",
    "view-written",
    "commit-begun",
    "commit-half",
    "commit-ready",
    "request-committed",
    "disposal-file-removed",
    "disposal-file-removed:4",
    "disposal-files-removed",
    "disposal-keys-destroyed",
    "certificate-issued",
    "disposal-certified",
    "disposal-finished",
]
CLOSING = ["tenant-decided", "purge-tombstoned", "purge-begun", "tenant-purged", "tenant-begun", "epoch-rewrapped"]
CLOSING += ["epoch-overwritten"]
# The second time that each is passed: the first is the purge of the tenant alone.
CLOSING += [f"disposal-{step}:2" for step in ("files-removed", "keys-destroyed", "certified", "finished")]
WHOM = ["--tenant", "default", "--number", CALLER, "--identity", "seen", "--regime", "gdpr"]


class Scene:
    """Calls of a person, and of somebody else, and two persons who handle requests."""

    def __init__(self, site: Any, folder: Path) -> None:
        self.site, self.folder = site, folder
        folder.mkdir(exist_ok=True)
        for name in ("ada", "ben"):
            approvers.register(site.settings, name, signing.create(folder / name).hex())
        lines = [call(1, LAST_WEEK), call(2, LAST_WEEK, OTHER), call(3, LAST_WEEK - timedelta(1))]
        site.land("generic", "first.csv", feed(*lines))
        site.night(now_ms=int(database.now().timestamp() * 1000) + 86_400_000)
        database.engine(site.settings).dispose()

    def copied(self, folder: Path) -> "Scene":
        """Return the same scene in a workspace of its own below `folder`, with the same keys."""
        scene = copy.copy(self)
        scene.site, scene.folder = type(self.site)(folder / "workspace"), folder / "persons"
        shutil.copytree(self.site.folder, scene.site.folder)
        shutil.copytree(self.folder, scene.folder)
        return scene

    def command(self, *words: str, by: str = "ada", crash: str = "") -> Any:
        config = ["--config", str(self.site.settings.path), "--person", by, "--key", str(self.folder / by)]
        return run(*words, *config, environment={"CALLWARD_CRASH_AT": crash} if crash else {})

    def erase(self, crash: str = "") -> Any:
        return self.command("request", "erase", *WHOM, crash=crash)

    def go_on(self) -> None:
        """What the clerk does after a crash: answer what still waits, and finish what was begun."""
        for request in request_register.list_requests(self.site.settings):
            assert self.command("request", "answer", request.request_id).check_clean([CALLER]).code == 0
        finish = ["request", "erase", "--finish", "--config", str(self.site.settings.path)]
        assert run(*finish).check_clean([CALLER]).code == 0

    def check_erased(self) -> None:
        site = self.site
        assert site.view("billing")["calling_number"].to_pylist() == [OTHER]
        assert site.view("assurance").num_rows == 1
        assert site.differing() == 0 and site.unbalanced() == {}
        assert [row.status for row in site._rows(disposals)] == ["done"]
        assert [row.status for row in site._rows(certificates)] == ["complete"]
        assert request_register.list_requests(site.settings) == []
        site.night(now_ms=int(database.now().timestamp() * 1000) + 86_400_000)
        assert strays(site) == []


@pytest.fixture(scope="module")
def first_scene(workspace: Callable[..., Any], feed_source: Callable[..., Any], tmp_path_factory: Any) -> Scene:
    return Scene(workspace(feed_source("generic", country="US")), tmp_path_factory.mktemp("persons"))


@pytest.fixture
def scene(first_scene: Scene, tmp_path: Path) -> Scene:
    """A scene of one's own: what nobody has changed yet, copied."""
    return first_scene.copied(tmp_path)


@pytest.mark.parametrize("point", POINTS)
def test_an_erasure_killed_at_a_point_ends_the_same(scene, point):
    assert scene.erase(crash=point).code == -9
    scene.go_on()
    scene.check_erased()


@pytest.mark.endurance
@pytest.mark.parametrize("seed", range(30))
def test_an_erasure_killed_at_random_ends_the_same(scene, seed):
    settings = scene.site.settings
    person = ["--config", str(settings.path), "--person", "ada", "--key", str(scene.folder / "ada")]
    killed_after(random.Random(seed).uniform(0.1, 1.5), "request", "erase", *WHOM, *person)
    if not request_register.list_requests(settings, everything=True):
        assert scene.erase().code == 0
    scene.go_on()
    scene.check_erased()


def test_what_an_erasure_prints_names_nobody(scene):
    ended = scene.erase().check_clean([CALLER, OTHER, CALLED])
    assert ended.code == 0 and "erased" not in ended.err
    told = scene.command("request", "restrict", "--tenant", "default", "--number", "123")
    assert told.code == 2 and len(told.sentences) == 1


@pytest.mark.parametrize("point", CLOSING)
def test_a_closing_killed_at_a_point_ends_the_same(workspace, feed_source, tmp_path, point):
    kept = dict.fromkeys(CLASSES, "99 years")
    tenants = {"default": Tenant(retention=kept), "west": Tenant(retention=kept)}
    site = workspace(feed_source("generic", country="US", tenant="west"), tenants=tenants, accounts=[])
    scene = Scene(site, tmp_path / "persons")
    site.settings.path.write_text(render(site.settings.model_copy(update={"sources": []})), encoding="utf-8")
    assert scene.command("tenant", "close", "west").check_clean([CALLER]).code == 3
    assert scene.command("tenant", "close", "west", by="ben", crash=point).code == -9
    done = scene.command("tenant", "close", "west", "--json", by="ben").check_clean([CALLER])
    assert done.code == 0 and json.loads(done.out)["status"] == "closed"
    with database.reading(site.settings) as connection:
        living = connection.execute(select(keys.c.key_id).where(keys.c.tenant == "west", keys.c.state != "destroyed"))
        assert living.all() == []
    assert strays(site) == [] and site.view("billing").num_rows == 0
    assert {row.status for row in site._rows(disposals)} <= {"done", "abandoned"}
    assert {row.status for row in site._rows(certificates)} == {"complete"}


def test_an_export_killed_before_it_is_noted_is_given_again(scene, tmp_path):
    assert scene.command("request", "export", *WHOM, "--to", str(tmp_path / "a"), crash="request-written").code == -9
    (request,) = request_register.list_requests(scene.site.settings)
    to = tmp_path / "b"
    done = scene.command("request", "answer", request.request_id, "--to", str(to), "--json").check_clean([CALLER])
    assert done.code == 0, done.err
    for name in ("answer.json", "calls.csv"):
        assert (to / name).read_bytes() == (tmp_path / "a" / name).read_bytes()
    assert request_register.list_requests(scene.site.settings) == []


@pytest.mark.parametrize("lift", [False, True])
def test_a_restriction_killed_before_its_rows_are_marked_holds_when_it_is_answered(scene, lift):
    def seen() -> int:
        asked = "SELECT count(*) AS calls FROM billing", "--role", "billing", "--json"
        told = run("sql", *asked, "--config", str(scene.site.settings.path)).check_clean([CALLER])
        return int(re.findall(r"\d+", told.out)[-1])

    before = seen()
    if lift:
        assert scene.command("request", "restrict", *WHOM).code == 0
    more = ["--lift"] if lift else []
    assert scene.command("request", "restrict", *WHOM, *more, crash="request-restricted").code == -9
    scene.go_on()
    assert seen() == (before if lift else 1)


def test_a_handing_back_killed_between_two_files_has_no_manifest_and_is_made_again(scene, tmp_path):
    private = X25519PrivateKey.generate()
    recipient = private.public_key().public_bytes_raw().hex()
    words = ["tenant", "return", "default", "--recipient", recipient]
    half, whole = tmp_path / "half", tmp_path / "whole"
    assert scene.command(*words, "--to", str(half), crash="return-written:2").code == -9
    pem = tmp_path / "recipient.pem"
    pem.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    opened = run("tenant", "open", str(half), "--private-key", str(pem), "--to", str(tmp_path / "none"))
    assert opened.code != 0 and len(opened.sentences) == 1
    assert scene.command(*words, "--to", str(whole)).check_clean([CALLER]).code == 0
    assert run("tenant", "open", str(whole), "--private-key", str(pem), "--to", str(tmp_path / "clear")).code == 0
