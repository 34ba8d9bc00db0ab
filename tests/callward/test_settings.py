"""callward.toml: what is wrong in it is named, with the nearest right word, and nothing is taken silently."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from callward.errors import UsageProblem
from callward.settings import KEY_DOMAINS, Account, Settings, Source, Tenant, find, load
from schemas.retention_classes import CLASSES, REQUIRED
from tests.examples import tries


def _load(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "callward.toml"
    path.write_text(text, encoding="utf-8")
    return load(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[lak]\nuri = 'file:x'", "unknown key lak; did you mean 'lake'?"),
        ("[lake]\nurl = 'file:x'", "unknown key lake.url; did you mean 'uri'?"),
        ("[waves]\nrecord = 1", "unknown key waves.record; did you mean 'records'?"),
        ("[tenants.default.retention]\ncall_detial = '1 year'", "did you mean 'call_detail'?"),
        ("[tenants.default.billing]\nrow = 'answered'", "did you mean 'rows'?"),
        ("[[sources]]\nname = 'a'\nformat = 'asterisk'\nzon = 'UTC'", "did you mean 'zone'?"),
        ("[[sources]]\nname = 'a'\nformat = 'asterisk'\ntenant = 'defalt'", "did you mean 'default'?"),
        ("[[sources]]\nname = 'a'\nformat = 'x'\n[[sources]]\nname = 'a'\nformat = 'x'", "two sources are called 'a'"),
        ("[[sources]]\nname = '../a'\nformat = 'x'", "name"),
        ("[[sources]]\nname = 'a'", "format"),
        ("[keys.roots]\nbiling = 'local:x'", "did you mean 'billing'?"),
        ("[keys.signers]\nretentoin = 'local:x'", "did you mean 'retention'?"),
        ("[keys.signers]\nretention = 'vault:x'", "only local: is built so far"),
        ("[lake]\nuri = 'gs://bucket/lake'", "only file: and s3: are built so far"),
        ("[lake]\nuri = 's3://Bucket_1/lake'", "a bucket is written"),
        ("[lake]\nuri = 's3://bucket/../lake'", "a bucket is written"),
        ("[lake]\nuri = 's3://me:hush-hush@bucket/lake'", "credentials and options do not belong in the uri"),
        ("[lake]\nuri = 's3://bucket/lake?secret_key=hush-hush'", "credentials and options do not belong in the uri"),
        ("[lake]\nendpoint = 'https://me:hush-hush@objects.example'", "lake.endpoint: write https://host:port"),
        ("[lake]\nendpoint = 'objects.example:9000'", "lake.endpoint: write https://host:port"),
        ("[lake]\naccess_key = 'hush-hush'", "access_key does not belong here: credentials come from the environment"),
        ("[lake]\nAWS_SECRET_ACCESS_KEY = 'hush-hush'", "AWS_SECRET_ACCESS_KEY does not belong here"),
        ("[lake]\nsession_token = 'hush-hush'", "session_token does not belong here"),
        ("[lake]\nendpiont = 'https://objects.example'", "unknown key lake.endpiont; did you mean 'endpoint'?"),
        ("[tenants.default]\nzone = 'America/Denvr'", "no time zone is called 'America/Denvr'"),
        ("[tenants.default.retention]\ncall_detail = 'forever'", "a window is written like '18 months'"),
        ("[tenants.default.retention]\ncall_detail = '0 days'", "a window is written like"),
        ("[engine]\nrunner = 'FlnkRunner'", 'write "FnApiRunner" or "FlinkRunner"; did you mean \'FlinkRunner\'?'),
        ("[engine]\nrunner = 'DataflowRunner'", 'engine.runner: write "FnApiRunner" or "FlinkRunner"'),
        ("[engine]\nworkers = 'two'", "engine.workers: write a whole number of at least 1 and at most 64, such as"),
        ("[engine]\nworkers = true", "such as workers = 2"),
        ("[stream]\nspread = ['defalt']", "stream.spread: no tenant is called 'defalt'; did you mean 'default'?"),
        ("[[sources]]\nname = 'a'\nformat = 'x'\ntenants = {A = 'default'}", "nothing without tenant_field"),
        ("sources = 5", "sources: write tables that begin with [[sources]]"),
        ("[sources]\nname = 'a'", "sources: write tables that begin with [[sources]]"),
        ("format_version = 2", "format_version"),
        ("path = 'x'", "unknown key path"),
        ("digest = 'x'", "unknown key digest"),
        ("[waves]\nrecords = 0", "waves.records"),
        ("[engine", "not TOML"),
    ],
)
def test_a_wrong_key_is_named_with_the_nearest_right_one(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageProblem) as wrong:
        _load(tmp_path, text)
    assert told in str(wrong.value)
    assert str(wrong.value).count("\n") == 0
    assert "hush" not in str(wrong.value)


_TWO = "[[sources]]\nname = 'a'\nformat = 'x'\n"
_ACCOUNTS = "[[accounts]]\nid = 'a'\n{0}\n[[accounts]]\nid = 'b'\n{0}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (_TWO * 2, "two sources are called 'a'"),
        ("[[trunks]]\nname = 'a'\ncarrier = 'x'\n[[trunks]]\nname = 'a'\ncarrier = 'y'", "two trunks are called 'a'"),
        ("[[accounts]]\nid = 'a'\n[[accounts]]\nid = 'a'", "two accounts of tenant default have the id 'a'"),
        (_ACCOUNTS.format("codes = ['c']"), "two accounts of tenant default have the code 'c'"),
        (_ACCOUNTS.format("trunks = ['t']"), "two accounts of tenant default have the trunk 't'"),
        ("[[accounts]]\nid = 'a'\ncodes = ['c', 'c']", "[[accounts]] no. 1, codes: 'c' is there twice"),
        ("[[accounts]]\nid = 'a'\ntrunks = ['t', 't']", "trunks: 't' is there twice"),
        ("[landing]\ntemporary_suffixes = ['.a', '.a']", "'.a' is there twice"),
        ("[kafka]\nbootstrap = ['localhost:1', 'localhost:1']", "'localhost:1' is there twice"),
        ("[stream]\nspread = ['default', 'default']", "'default' is there twice"),
        (_TWO + "international_prefix = ['00', '00']", "'00' is there twice"),
    ],
)
def test_what_stands_in_a_list_twice_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageProblem, match=re.escape(told)):
        _load(tmp_path, text)


def test_one_code_may_be_of_accounts_of_two_tenants(tmp_path: Path) -> None:
    other = "[tenants.default]\n[tenants.b]\n" + _ACCOUNTS.format("codes = ['c']") + "\ntenant = 'b'"
    assert len(_load(tmp_path, other).accounts) == 2


@pytest.mark.parametrize("given", ['"1"', '["1"]'])
def test_both_prefixes_take_a_text_or_a_list(tmp_path: Path, given: str) -> None:
    source = _load(tmp_path, f"{_TWO}national_prefix = {given}\ninternational_prefix = {given}").sources[0]
    assert source.national_prefix == source.international_prefix == ["1"]


@pytest.mark.parametrize("key", ["national_prefix", "international_prefix"])
@pytest.mark.parametrize("given", ["1", "true", '["+1"]', '"x"', "[1]", "[]", '["1", 2]', '"12x"'])
def test_a_wrong_prefix_is_answered_with_an_example(tmp_path: Path, key: str, given: str) -> None:
    with pytest.raises(UsageProblem) as wrong:
        _load(tmp_path, f"{_TWO}{key} = {given}")
    assert re.search(rf"no\. 1, {key}: write .*(\[\"|such as \")", str(wrong.value))


# -- every key and every wrong type ------------------------------------------------------------------------------------

_JARGON = re.compile(r"Input|valid|type=|pattern|dictionary|instance|pydantic|_", re.IGNORECASE)
_WRONG = ("1.5", "true", "7", '"no such"', "[]", "[[]]", "[true]", "{}", "{ nosuch = 1 }", "1979-05-27", "nan", "inf")


def _keys(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield every key of the settings; of tables with names of their own, of one called \"own\"."""
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        yield (*path, name)
        kinds = [field.annotation, *get_args(field.annotation)]
        item = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if item is not None:
            own = ("own",) if get_origin(field.annotation) is dict else ()
            yield from _keys(item, (*path, name, *own))
        elif get_origin(field.annotation) is dict:
            yield (*path, name, "own")


_LISTS = ("sources", "trunks", "accounts", "topics", "senders")


def _written(key: tuple[str, ...], value: str) -> str:
    """Return the settings file that gives a key a value, in tables that stand around it."""
    tables, path = [], ""
    for step in key[:-1]:
        path = f"{path}.{step}" if path else step
        tables.append(f"[[{path}]]" if step in _LISTS else f"[{path}]")
    return "\n".join([*tables, f"{key[-1]} = {value}"])


@pytest.mark.parametrize("key", list(_keys(Settings)), ids=".".join)
def test_a_wrong_type_is_one_sentence_with_the_key_and_how_to_write_it(tmp_path: Path, key: tuple[str, ...]) -> None:
    refused = 0
    for value in _WRONG:
        try:
            _load(tmp_path, _written(key, value))
        except UsageProblem as wrong:
            lines = [line for line in str(wrong).splitlines() if " is missing: write" not in line]
            refused += bool(lines)
            for line in lines:
                words = line.removeprefix("callward.toml: ")
                assert not _JARGON.search(re.sub(r"[\w.]*_[\w.]*|'[^']*'|\"[^\"]*\"", "", words)), line
    assert refused or "declare" in key  # which the declaration checks


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem) as wrong:
        _load(tmp_path, "[lake]\nurl = 'x'\n[waves]\nrecord = 1")
    assert len(str(wrong.value).splitlines()) == 2


def test_bytes_that_are_no_text_are_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "callward.toml"
    path.write_bytes(b"\xff\xfe\0")
    with pytest.raises(UsageProblem, match="not TOML"):
        load(path)


def test_settings_are_found_by_option_then_environment_then_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("option", "environment", "here"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "callward.toml").write_text("")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("CALLWARD_CONFIG", raising=False)
    assert find().parent.name == "here"
    monkeypatch.setenv("CALLWARD_CONFIG", str(tmp_path / "environment"))
    assert find().parent.name == "environment"
    assert find(tmp_path / "option").parent.name == "option"
    with pytest.raises(UsageProblem, match="callward init"):
        find(tmp_path / "nowhere")


def test_silence_is_not_a_window() -> None:
    bare = Settings(
        path=Path("callward.toml"), tenants={"a": Tenant(), "b": Tenant(retention=dict.fromkeys(CLASSES, "1 year"))}
    )
    assert bare.missing_windows() == [f"a: {name}" for name in REQUIRED]


@tries(50)
@given(st.from_regex(r"\+?[0-9]{7,15}", fullmatch=True))
def test_an_account_is_never_a_number(number: str) -> None:
    for name in (number, f"acct{number}", f"{number[:3]}_{number[3:]}"):
        with pytest.raises(ValueError, match="looks like a phone number"):
            Account(id=name)


@pytest.mark.parametrize("number", ["17195550178", "case5550178", "719-555-0178", "719_555_0178", "20201231"])
@pytest.mark.parametrize(
    "text",
    [
        "[[trunks]]\nname = '{}'",
        "[[trunks]]\nname = 'northwind-1'\ncarrier = '{}'",
        "[[accounts]]\nid = '{}'",
        "[[accounts]]\nid = 'acct-1'\ntrunks = ['pbx-7', '{}']",
        "[[sources]]\nname = '{}'\nformat = 'asterisk'",
        "[[sources]]\nname = 'a'\nformat = 'asterisk'\ntenant = '{}'",
        "[[sources]]\nname = 'a'\nformat = 'asterisk'\ntenant_field = 'f'\ntenants = {{ x = '{}' }}",
        "[[sources]]\nname = 'a'\nformat = 'asterisk'\nzone = '{}'",
        "[tenants.'{}']\nzone = 'UTC'",
        "[tenants.'{}']\nzone = 'no zone'",
        "[tenants.default.retention]\ncall_detail = '{}'",
        "[tenants.default.retention]\n'{}' = '1 year'",
        "[[kafka.topics]]\nname = '{}'\nsource = 'a'",
        "[kafka]\ngroup = '{}'",
        "[[receive.senders]]\nsource = '{}'",
        "[stream]\nspread = ['{}']",
        "[engine]\nrunner = '{}'",
        "'{}' = 1",
        "[lake]\n'{}' = 1",
        "[kafka]\nbootstrap = ['{}']",
        "[receive]\nlisten = '{}'",
        "[[receive.senders]]\nsource = 'a'\naddresses = ['{}']",
    ],
)
def test_no_name_in_the_settings_looks_like_a_number_and_no_sentence_repeats_one(
    tmp_path: Path, text: str, number: str
) -> None:
    with pytest.raises(UsageProblem) as wrong:
        _load(tmp_path, text.format(number))
    assert number not in str(wrong.value) and "5550178" not in str(wrong.value).replace("-", "").replace("_", "")


def test_a_trunk_may_be_an_internet_address_and_an_account_code_a_number(tmp_path: Path) -> None:
    text = "[[trunks]]\nname = '203.0.113.250'\n[[accounts]]\nid = 'acct-1'\ncodes = ['17195550178']\n"
    text += "[lake]\nuri = 's3://b-1/lake'\nrole = 'arn:aws:iam::123456789012:role/lake'"
    found = _load(tmp_path, text)
    assert (found.trunks[0].name, found.accounts[0].codes) == ("203.0.113.250", ["17195550178"])


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    found = _load(tmp_path, "[lake]\nuri = 'file:deep/lake'\n[database]\nurl = 'sqlite:///x.db'")
    assert found.lake_path == tmp_path / "deep/lake"
    assert found.database_file == tmp_path / "x.db"
    assert found.root_uri("billing") == f"local://{tmp_path}/keys/billing.root"
    absolute = _load(tmp_path, "[lake]\nuri = 'file:///srv/lake'\n[database]\nurl = 'sqlite:////srv/x.db'")
    assert str(absolute.lake_path) == "/srv/lake"
    assert absolute.database_file == Path("/srv/x.db")


def test_a_lake_on_an_object_store_is_no_folder(tmp_path: Path) -> None:
    text = "[lake]\nuri = 's3://bucket-1/deep/lake/'\nendpoint = 'https://[::1]:9000'"
    found = _load(tmp_path, text)
    assert (found.lake.uri, found.lake.is_local) == ("s3://bucket-1/deep/lake", False)
    with pytest.raises(UsageProblem, match="is no folder"):
        _ = found.lake_path


def test_every_key_domain_has_a_root_of_its_own() -> None:
    roots = Settings(path=Path("/w/callward.toml")).keys.roots
    assert set(roots) == set(KEY_DOMAINS)
    assert len(set(roots.values())) == len(KEY_DOMAINS)


def test_a_root_or_signer_that_is_not_named_lies_where_it_usually_does(tmp_path: Path) -> None:
    found = _load(tmp_path, "[keys.roots]\nbilling = 'local:/srv/b'\n[keys.signers]\nretention = 'local:r.sign'")
    assert found.root_uri("billing") == "local:///srv/b"
    assert found.root_uri("late") == f"local://{tmp_path}/keys/late.root"
    assert found.signer_uri("retention") == f"local://{tmp_path}/r.sign"
    assert found.signer_uri("custodian") == f"local://{tmp_path}/keys/custodian.sign"
    assert found.export_path is None
    assert _load(tmp_path, "[keys]\nexport_to = 'safe'").export_path == tmp_path / "safe"


def test_a_missing_source_is_answered_with_the_nearest() -> None:
    found = Settings(path=Path("callward.toml"), sources=[Source(name="denver", format="asterisk")])
    with pytest.raises(UsageProblem, match="did you mean 'denver'"):
        found.source("dever")


def test_settings_that_change_are_read_anew(tmp_path: Path) -> None:
    sizes = [_load(tmp_path, f"[waves]\nrecords = {size}\n").waves.records for size in (1000, 2000, 1000)]
    assert sizes == [1000, 2000, 1000]


def test_a_feed_of_many_tenants_needs_none_of_its_own(tmp_path: Path) -> None:
    made = Settings(
        path=tmp_path / "callward.toml",
        tenants={"west": Tenant()},
        sources=[{"name": "feed", "format": "asterisk", "tenant_by": "account_code", "tenants": {"W": "west"}}],
    )
    assert made.sources[0].all_tenants == ["west"]


def test_an_unknown_name_among_thousands_lists_a_few(tmp_path: Path) -> None:
    tenants = {f"t{'abcdefghij'[n % 10]}{n // 10}": Tenant() for n in range(2000)}
    with pytest.raises(ValueError, match=r"no tenant is called 'west' \(known: .* and 1,960 more\)"):
        Settings(
            path=tmp_path / "callward.toml",
            tenants=tenants,
            sources=[{"name": "feed", "format": "asterisk", "tenant": "west"}],
        )
