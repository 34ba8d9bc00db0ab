"""Senders: only who is listed, from where it is listed, with its password; and settings that cannot be unsafe."""

import base64
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.errors import UsageProblem
from callward.ingest.senders import Failures, Gate, hash_password, is_password
from callward.settings import Receive, Sender, Settings, Source, is_loopback, load
from tests.examples import tries

_SOURCES = [Source(name=name, format="freeswitch_jsonl") for name in ("denver", "lax")]


def gate(**changes):
    sender = Sender(source="denver", **changes)
    return Gate(Settings(path=Path("/w/callward.toml"), sources=_SOURCES, receive=Receive(senders=[sender])))


def basic(username, password, scheme="Basic"):
    return f"{scheme} {base64.b64encode(f'{username}:{password}'.encode()).decode()}"


def test_only_listed_sources_and_addresses_are_allowed():
    known = gate(addresses=["192.0.2.0/28", "2001:db8::/64"])
    assert known.knows("denver") and not known.knows("lax") and not known.knows("")
    allowed = ["192.0.2.15", "::ffff:192.0.2.1", "2001:db8::7", "2001:db8::7%eth0"]
    assert [a for a in allowed if not known.allows("denver", a)] == []
    assert [
        a for a in ["192.0.2.16", "::ffff:198.51.100.1", "2001:db9::7", "127.0.0.1"] if known.allows("denver", a)
    ] == []


@pytest.mark.parametrize("form", ["file", "env", "hash"])
def test_a_password_is_found_where_the_settings_say(form, tmp_path, monkeypatch):
    (tmp_path / "password").write_text("s3cret:word\n")
    (tmp_path / "password").chmod(0o600)
    monkeypatch.setenv("SWITCH", "s3cret:word")
    given_as = {
        "file": {"password": f"file:{tmp_path / 'password'}"},
        "env": {"password": "env:SWITCH"},
        "hash": {"password_hash": hash_password("s3cret:word")},
    }[form]
    known = gate(username="switch", **given_as)
    right = basic("switch", "s3cret:word")
    assert known.needs_credentials("denver") and not known.remembers("denver", right)
    wrong = [
        "",
        "Basic",
        "Basic !!",
        right[:-4],
        basic("switch", ""),
        basic("switch", "s3cret"),
        basic("Switch", "s3cret:word"),
        basic("switch", "s3cret:word", "Bearer"),
    ]
    assert [header for header in wrong if known.accepts("denver", header)] == []
    assert not known.remembers("denver", right), "what was wrong is not remembered as right"
    assert known.accepts("denver", right) and known.accepts("denver", basic("switch", "s3cret:word", "basic"))
    assert known.accepts("denver", right) and known.remembers("denver", right)
    assert [header for header in wrong if known.remembers("denver", header)] == []


@tries(5)
@given(st.text(max_size=20), st.text(max_size=20))
def test_a_hash_matches_its_password_alone_and_never_twice_alike(password, other):
    first, second = hash_password(password), hash_password(password)
    assert first != second
    assert is_password(password.encode(), first) and is_password(password.encode(), second)
    assert is_password(other.encode(), first) == (other == password)
    assert Sender(source="denver", username="u", password_hash=first)


# hash of "s3cret:word" as releases before Argon2id printed it (N=2^10 here: the test is quick)
_SCRYPT = "scrypt:1024:8:1:ABEiM0RVZneImaq7zN3u/w==:gM8xQhe7R5dxhSIux6lWzFI58doMA16C36gkwfHkAcE="


def test_a_scrypt_hash_of_an_earlier_release_still_opens():
    earlier = gate(username="switch", password_hash=_SCRYPT)
    assert earlier.accepts("denver", basic("switch", "s3cret:word"))
    assert not earlier.accepts("denver", basic("switch", "s3cret:Word"))


def test_a_new_hash_is_argon2id_with_a_salt_of_its_own():
    first, second = hash_password("s3cret:word"), hash_password("s3cret:word")
    assert re.fullmatch(r"\$argon2id\$v=19\$m=19456,t=2,p=1\$[^$]{22}\$[^$]{43}", first)
    assert first.split("$")[4] != second.split("$")[4]


@pytest.mark.parametrize("place", ["env:NOT_THERE", "file:nowhere"])
def test_a_secret_that_is_not_there_is_one_sentence(place):
    with pytest.raises(UsageProblem, match="is empty or not there"):
        gate(username="u", password=place)


def test_a_secret_that_everyone_may_read_is_refused(tmp_path):
    (tmp_path / "password").write_text("x")
    (tmp_path / "password").chmod(0o644)
    with pytest.raises(UsageProblem, match="everyone may read it"):
        gate(username="u", password=f"file:{tmp_path / 'password'}")


def test_failures_put_an_address_off_for_a_minute():
    now = [0.0]
    failures = Failures(3, lambda: now[0])
    for _ in range(3):
        assert not failures.too_many("192.0.2.1")
        failures.add("192.0.2.1")
    assert failures.too_many("192.0.2.1") and not failures.too_many("192.0.2.2")
    now[0] = 61.0
    assert not failures.too_many("192.0.2.1")
    failures.add("192.0.2.1")
    assert not failures.too_many("192.0.2.1")


def test_failures_of_many_addresses_take_bounded_memory():
    failures = Failures(1)
    for n in range(30_000):
        failures.add(str(n))
    assert len(failures._failed) == 10_000 and failures.too_many("29999") and not failures.too_many("1")


_FAR = "certificate_file = 'a.pem'\nkey_file = 'a.key'\n"
_SENDER = "[[receive.senders]]\nsource = 'denver'\n"
_WHO = "username = 'u'\npassword = 'env:P'\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("listen = '0.0.0.0:8420'", "takes certificate_file and key_file"),
        ("listen = 'cdr.example.net:8420'", "takes certificate_file and key_file"),
        (f"listen = '[::]:8420'\n{_FAR}{_SENDER}", "takes its addresses, a username"),
        (f"listen = '[::]:8420'\n{_FAR}{_SENDER}{_WHO}", "takes its addresses, a username"),
        (f"listen = '[::]:8420'\n{_FAR}{_SENDER}addresses = ['192.0.2.0/28']", "takes its addresses, a username"),
        ("listen = '8420'", "write HOST:PORT"),
        ("certificate_file = 'a.pem'", "certificate_file and key_file go together"),
        (f"{_SENDER}password = 'hunter2'", "a secret is never written here"),
        (f"{_SENDER}username = 'u'", "go together"),
        (f"{_SENDER}username = 'u'\npassword_hash = 'hunter2'", "callward receive --hash"),
        (f"{_SENDER}username = 'u'\npassword_hash = '$argon2id$v=19$m=1,t=1,p=1$hunter2$hunter2'", "receive --hash"),
        (f"{_SENDER}addresses = ['192.0.2.1/28']", "is no network"),
        ("[[receive.senders]]\nsource = 'denvr'", "did you mean 'denver'?"),
        (_SENDER + _SENDER, "two senders of 'denver'"),
    ],
)
def test_unsafe_settings_do_not_load(tmp_path, text, told):
    path = tmp_path / "callward.toml"
    path.write_text(f"[[sources]]\nname = 'denver'\nformat = 'freeswitch_jsonl'\n[receive]\n{text}")
    with pytest.raises(UsageProblem) as wrong:
        load(path)
    assert told in str(wrong.value) and "hunter2" not in str(wrong.value)


def test_safe_settings_load(tmp_path):
    path = tmp_path / "callward.toml"
    source = "[[sources]]\nname = 'denver'\nformat = 'freeswitch_jsonl'\n"
    far = f"[receive]\nlisten = '[::]:8420'\n{_FAR}{_SENDER}{_WHO}addresses = ['192.0.2.0/28']"
    for text in (f"[receive]\n{_SENDER}", far):
        path.write_text(source + text)
        assert load(path).receive.senders[0].source == "denver"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LOCALHOST."])
def test_loopback_is_known(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "localhost.example.net", "", "loopback"])
def test_all_else_is_beyond_this_machine(host):
    assert not is_loopback(host)
