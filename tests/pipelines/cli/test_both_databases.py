"""Every command says the same on SQLite and on PostgreSQL, for a person and for a program."""

import re
import shlex
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from callward.keys import exports
from tests import releases, retention
from tests.pipelines.cli.test_every_command import _commands
from tests.postgresql import on_loopback, take_keys
from tests.typed import Ran, Run, typing

AS_OF = "2026-09-02"
WHO = "--person ada --key {keys}/ada.sign"
ABOUT = "--tenant default --number +13035550101 --country US --regime gdpr"
# Typed in this order, each in both forms: {n} is another word each time, {hold} and its like are asked for.
SCRIPT = f"""
nightly --explain
nightly --dry-run
nightly
nightly --files
doctor
sql --role billing "SELECT account, sum(calls) AS calls FROM billing_usage_daily GROUP BY account ORDER BY account"
sql --role assurance "SELECT * FROM trunk_kpi ORDER BY ALL"
sql --role compliance "SELECT kind, status FROM runs ORDER BY ALL"
suspense list
suspense show {{file_no}} --reason look
suspense file {{file_id}} --reason look
suspense choose {{file_no}}
accounts import {{keys}}/accounts.csv --dry-run
accounts import {{keys}}/accounts.csv --add --from {{year}}-01-01
accounts list --limit 3
accounts lint
accounts history
accounts history acct-one
accounts unassigned
accounts assign --dry-run
accounts assign
settings check
settings diff
sources list
sources second
sources accept generic --from-now
sources rename generic generic-{{n}} --dry-run
sources add generic-{{n}} --dry-run
recycle --dry-run
recycle
reprocess --source generic --dry-run
reprocess --file {{file_no}}
backout --file {{file_no}} --dry-run
suspense export default --recipient {{keys}}/recipient.pem --to {{keys}}/suspense-{{n}} --reason look {WHO}
suspense close --source generic --reason "not worth it {{n}}" --dry-run
suspense close --source generic --reason "not worth it {{n}}"
rebuild --check
rebuild
compact --dry-run
compact
sweep {{keys}}
stream status
status
case open T-{{n}} --account acct-0007 --purpose quality_complaint --reason "dropped calls" --unlisted
case list
case close T-{{n}}
hold place --tenant default --kind litigation --authority "a court" --case "case {{n}}" --account acct-0007 --unlisted
hold list
hold show {{hold}}
hold renew {{hold}} --expires {{year}}-01-01
hold release {{hold}} {WHO} --role legal
release example
release lint
release preview calls --calls 1000 --units 100
release run calls --period 2026-03-05 --dry-run
release run calls --period 2026-03-05
release list
release show calls --period 2026-03-05
release budget
request access {ABOUT} --identity seen {WHO} --to {{keys}}/{{n}}.json
request export {ABOUT} --identity seen {WHO} --to {{keys}}/{{n}}
request restrict {ABOUT} --identity seen {WHO}
request correct {ABOUT} --identity seen {WHO} --set account=acct-0008 --dry-run
request erase {ABOUT} --identity seen {WHO} --dry-run
request access {ABOUT} {WHO}
request extend {{open}} {WHO} --note later
request answer {{open}} {WHO} --refuse IDENTITY --note "no papers"
request appeal {{refused}} {WHO} --note again
request list --all
policy lint {{keys}}/policy.toml
policy example
policy propose {{keys}}/policy.toml --tenant default {WHO}
policy activate --tenant default --version {{version}} --person ben --key {{keys}}/ben.sign
policy list
policy show
purge calendar
purge --as-of {AS_OF} --dry-run
purge --as-of {AS_OF}
purge certificates list
purge certificates show {{certificate}}
purge certificates html {{certificate}} --to {{keys}}/{{n}}.html
purge verify {{certificate}}
tenant return default --recipient {{keys}}/recipient.pem --to {{keys}}/return-{{n}} {WHO}
tenant close default {WHO} --dry-run
keys list
keys approver new {{n}} --out {{keys}}/{{n}}.sign
keys approver add {{n}} --public {{public}}
keys approver list
keys approver revoke {{n}}
keys rotate --domain late
keys copy add --domain late --place "safe {{n}}"
keys copy confirm {{copy}}
keys export
keys restore --export {{export}} --dry-run
audit verify
audit list --limit 5
"""
# The file has no held version; the source is as it was, and settings name no new one; no stream runs; records of the
# tenant still come in.
ENDS = {
    "suspense choose": 1,
    "sources accept": 2,
    "sources add": 2,
    "stream status": 1,
    "tenant close": 2,
}
# These ask no database, need servers of their own, or are refused on SQLite (grant): tests of theirs run them on
# PostgreSQL.
LEFT_OUT = {"init", "demo", "try", "receive", "grant", "stream start", "stream stop", "tenant open", "release attack"}


_ACCOUNTS = "account,number,code\nacct-one,+13035550190,\nacct-one,,code-one\nacct-two,+13035550191,\n"
# How often a line is typed decides what it names.
PROGRAM = {"n": "one", "year": "2035", "public": "ab" * 32}
PERSON = {"n": "two", "year": "2036", "public": "cd" * 32}
ASKED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "file_no": ("suspense list --files", lambda rows: rows[0]["file_no"]),
    "file_id": ("suspense list --files", lambda rows: rows[0]["file_id"]),
    "version": ("policy list", lambda rows: max(row["version"] for row in rows)),
    "hold": ("hold list", lambda rows: min((row["case"], row["hold_id"]) for row in rows)[1]),
    "open": ("request list --all", lambda rows: _first(rows, "open")),
    "refused": ("request list --all", lambda rows: _first(rows, "refused")),
    "certificate": ("purge certificates list", lambda rows: rows[0]["certificate"]),
    "copy": ("keys list", lambda found: max(copy["copy_no"] for copy in found["copies"])),
}
# Letters of a run or a file, hexadecimal digits of a hash or a key.
_IDS = (
    r"\b(?:[a-z]{14}|[a-z]{16}|[a-z]{32}|(?=[0-9a-f]*[0-9])[0-9a-f]{12,})\b"
    r"|(?<=\()[a-z]{10}(?=\))|(?<=\"file_id\": \")[a-z]{10}|(?m:^)[a-z]{10}(?= +\d)"
)


def test_every_command_is_in_the_script() -> None:
    lines = [" ".join(shlex.split(line)) for line in SCRIPT.strip().splitlines()]
    there = {path for path, _ in _commands() if any(f"{line} ".startswith(f"{path} ") for line in lines)}
    assert {path for path, _ in _commands()} - there == LEFT_OUT


def test_every_command_says_the_same_on_both_databases(
    capsys: pytest.CaptureFixture[str],
    workspace: Callable[..., Any],
    fresh_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = workspace("generic")
    server = workspace("generic", database=on_loopback(fresh_url))
    take_keys(server, file)
    with typing(capsys, monkeypatch, columns=400) as run:  # so wide that nothing is folded
        typed = [_typed(run, site, tmp_path / site.folder.parent.name, monkeypatch) for site in (file, server)]
    for line, of_file, of_server in zip(_lines(), *typed, strict=True):
        if line not in ("doctor", "settings check"):  # they name the database
            assert of_file - of_server == of_server - of_file == Counter(), line


def _lines() -> list[str]:
    """Return the script with each line twice: as a program asks, and as a person does."""
    return [line for line in SCRIPT.strip().splitlines() for _ in range(2)]


def _typed(run: Run, site: Any, keys: Path, monkeypatch: pytest.MonkeyPatch) -> list[Counter[str]]:
    """Type the script; return exit codes and lines printed (rows of one second have no order)."""
    monkeypatch.setenv("CALLWARD_CONFIG", str(site.folder))
    _prepare(site, keys)
    said = []
    for number, line in enumerate(_lines()):
        as_json = number % 2 == 0
        words = {"keys": str(keys)} | (PROGRAM if as_json else PERSON)
        _land(site, words["n"], line)
        words |= _asked(run, site, line)
        ran = run(*shlex.split(line.format(**words)), *(["--json"] if as_json else []))
        _check(ran, line)
        said.append(Counter([f"exit code {ran.code}", *_plain(ran.out, site, keys), *_plain(ran.err, site, keys)]))
    return said


def _check(ran: Ran, line: str) -> None:
    assert "a defect" not in ran.err, (line, ran.err)
    expected = next((code for path, code in ENDS.items() if line.startswith(path)), None)
    assert ran.code == expected if expected else ran.code in (0, 3), (line, ran.code, ran.err)


def _prepare(site: Any, keys: Path) -> None:
    """Make what the script names: persons, a policy, a declaration of a release, a recipient."""
    keys.mkdir()
    for name in ("ada", "ben"):
        shutil.copy2(retention.person(site, name), keys / f"{name}.sign")
    (keys / "accounts.csv").write_text(_ACCOUNTS)
    (keys / "policy.toml").write_text(retention.policy_text(retention.WINDOWS))
    releases.declare(site, releases.text(lateness_days="0"))
    private = X25519PrivateKey.generate()
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (keys / "recipient.pem").write_bytes(public)


def _land(site: Any, name: str, line: str) -> None:
    """Put a file into the landing folder before each night, one of its records torn."""
    if line.startswith("nightly"):
        first = 0 if name == "one" else 20
        lines = [retention.call(n, caller=f"+1303555{n + 100:04d}", account="ac-0007") for n in range(first, first + 9)]
        site.land("generic", f"{name}-{line[8:].strip('-')}.csv", retention.feed(*lines, "torn,record\n"))


def _asked(run: Run, site: Any, line: str) -> dict[str, str]:
    """Return the ids that a line names, as other commands say them."""
    found = {
        name: str(choose(run(*shlex.split(command), "--json").json))
        for name, (command, choose) in ASKED.items()
        if f"{{{name}}}" in line
    }
    if "{export}" in line:
        found["export"] = str(exports.list_exports(site.settings.register_path)[0])
    return found


def _first(rows: list[dict[str, Any]], status: str) -> Any:
    """Return the id of a request of that status, one that was not extended before others."""
    return min((row["extended"], row["request_id"]) for row in rows if row["status"] == status)[1]


def _plain(text: str, site: Any, keys: Path) -> list[str]:
    """Return lines without what differs from one run to the next."""
    text = text.replace(str(site.folder), "SITE").replace(str(keys), "KEYS")
    text = re.sub(r"postgresql(\+pg8000)?|sqlite", "DATABASE", text)
    ages = r"\d+ (seconds|minutes|hours)\b"
    signs = (
        (ages, "9 AGO"),
        (r"\d+(\.\d+(e[-+]?\d+)?|e[-+]?\d+)", "9"),
        (_IDS, "ID"),
        (r"\d[\d,]*", "9"),
        (r"[ -]{2,}", " "),
    )
    for pattern, sign in signs:
        text = re.sub(pattern, sign, text)
    return text.splitlines()
