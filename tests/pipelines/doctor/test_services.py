"""doctor on releases and on the receiver: nothing where none is declared, and a row for each thing that is wrong."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import insert

from callward import database
from pipelines.doctor import checks as doctor
from schemas.release import release_charges
from tests.releases import declare, text

DAY = timedelta(days=1)


def rows(site: Any) -> dict[str, doctor.Finding]:
    return {row.what: row for row in doctor.examine(str(site.folder)) if row.what.startswith(("release", "receive"))}


def test_who_declares_neither_reads_of_neither(workspace: Callable[..., Any]) -> None:
    assert rows(workspace("freeswitch_json")) == {}


# -- releases ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def site(workspace: Callable[..., Any]) -> Any:
    return workspace("generic")


def test_each_declaration_has_a_row(site: Any) -> None:
    declare(site, text(rho="0.001"))
    declare(site, text(name='"inside"', rho=None, more="[suppression]\nk = 5\n"), "inside")
    found = rows(site)
    assert found["release calls"].state == doctor.OK
    assert found["release inside"].bad and "lint" in found["release inside"].fix


@pytest.mark.parametrize("body", ["name = ", text(view='"nowhere"'), text().replace("directions", "nowhere.toml")])
def test_a_declaration_that_cannot_be_read_is_a_row(site: Any, body: str) -> None:
    declare(site, text(rho="0.001"))
    declare(site, body, "broken")
    found = rows(site)
    assert list(found) == ["release broken.toml"] and found["release broken.toml"].bad


def test_a_name_that_is_declared_twice_is_a_row(site: Any) -> None:
    for name in ("one", "two"):
        declare(site, text(rho="0.001"), name)
    assert ["another declaration" in row.seen and row.bad for row in rows(site).values()] == [True]


@pytest.mark.parametrize(("spent", "short"), [(2.4, False), (2.48, True), (2.6, True)])
def test_a_budget_that_does_not_last_a_month_is_a_warning(site: Any, spent: float, short: bool) -> None:
    """2.5 rho are allowed in all, and a table of 0.001 a day takes 0.031 of it in a month."""
    declare(site, text(rho="0.001"))
    charge = {"release_id": "x", "tenant": "default", "unit": "subscriber", "window": "all", "rho": int(spent * 1e9)}
    with database.writing(site.settings) as connection:
        connection.execute(insert(release_charges).values(**charge))
    found = rows(site)["release calls"]
    assert (found.state == doctor.WARNING) == short and ("nearly spent" in found.seen) == short


# -- the receiver ------------------------------------------------------------------------------------------------------


@pytest.fixture
def receiving(workspace: Callable[..., Any]) -> Callable[..., dict[str, doctor.Finding]]:
    """receiving(settings of [receive], settings of its one sender) → doctor's rows about it."""

    def look(given: dict[str, Any] | None = None, **sender: Any) -> dict[str, doctor.Finding]:
        senders = [{"source": "freeswitch_json", **sender}]
        return rows(workspace("freeswitch_json", receive={**(given or {}), "senders": senders}))

    return look


def _pair(folder: Path, ends: timedelta) -> dict[str, str]:
    """A certificate that signs itself and ends so long from now, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(7).not_valid_before(now - 400 * DAY).not_valid_after(now + ends)
    pem = serialization.Encoding.PEM
    form = (pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files = {"certificate_file": folder / "tls.pem", "key_file": folder / "tls.key"}
    files["certificate_file"].write_bytes(made.sign(key, hashes.SHA256()).public_bytes(pem))
    files["key_file"].write_bytes(key.private_bytes(*form))
    files["key_file"].chmod(0o600)
    return {what: str(file) for what, file in files.items()}


@pytest.mark.parametrize(
    ("ends", "state"), [(90 * DAY, doctor.OK), (10 * DAY, doctor.WARNING), (-1 * DAY, doctor.WRONG)]
)
def test_a_certificate_that_ends_is_said_in_time(receiving: Any, tmp_path: Path, ends: timedelta, state: str) -> None:
    found = receiving(_pair(tmp_path, ends))["receive certificate"]
    assert found.state == state and f"{datetime.now(UTC) + ends:%Y-%m-%d}" in found.seen


def _gone(pair: dict[str, str]) -> None:
    os.unlink(pair["certificate_file"])


def _anothers(pair: dict[str, str]) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    Path(pair["key_file"]).write_bytes(other.private_bytes(serialization.Encoding.PEM, *form))


def _no_certificate(pair: dict[str, str]) -> None:
    Path(pair["certificate_file"]).write_text("-----BEGIN NOTHING-----\n")


def _open_to_all(pair: dict[str, str]) -> None:
    os.chmod(pair["key_file"], 0o644)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_gone, "No such file"),
        (_anothers, "are no certificate and its key"),
        (_no_certificate, "is no certificate"),
        (_open_to_all, "everyone may read"),
    ],
)
def test_a_certificate_that_would_not_do_is_a_row(
    receiving: Any, tmp_path: Path, harm: Callable[[dict[str, str]], None], said: str
) -> None:
    pair = _pair(tmp_path, 90 * DAY)
    harm(pair)
    found = receiving(pair)["receive certificate"]
    assert found.bad and said in found.seen and found.fix


def test_a_password_must_be_there_for_its_owner_alone(receiving: Any, tmp_path: Path) -> None:
    file = tmp_path / "password"
    sender = {"username": "switch", "password": f"file:{file}"}
    assert receiving(**sender)["receive freeswitch_json"].bad
    file.write_text("correct horse\n")
    file.chmod(0o644)
    found = receiving(**sender)["receive freeswitch_json"]
    assert found.bad and "everyone may read" in found.seen and "horse" not in found.seen
    file.chmod(0o600)
    assert receiving(**sender)["receive freeswitch_json"].state == doctor.OK


def test_whoever_may_push_without_a_password_is_a_note(receiving: Any) -> None:
    assert receiving()["receive freeswitch_json"].state == doctor.NOTE


def test_listening_beyond_this_machine_in_the_clear_is_no_settings(site: Any) -> None:
    given = site.settings.path.read_text()
    site.settings.path.write_text(given + '[receive]\nlisten = "0.0.0.0:8420"\n')
    (found,) = [row for row in doctor.examine(str(site.folder)) if row.what == "settings"]
    assert found.bad and "certificate_file" in found.seen
