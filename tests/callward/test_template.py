"""The settings file that is written says the same when it is read, and explains every key."""

import tomllib
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from callward import template
from callward.redaction import looks_like_number
from callward.settings import Account, Settings, Source, Tenant, Thresholds, Trunk, load
from schemas.retention_classes import CLASSES
from tests.examples import tries

_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
_WORD = st.from_regex(r"[a-z][a-z0-9_-]{0,10}", fullmatch=True)
_WINDOW = st.builds("{} {}".format, st.integers(1, 999), st.sampled_from(["days", "months", "years"]))
_TENANT = st.builds(Tenant, retention=st.dictionaries(st.sampled_from(sorted(CLASSES)), _WINDOW))
_NAME = _TEXT.filter(lambda text: not looks_like_number(text))  # others are refused
_TRUNK = st.builds(Trunk, name=_NAME, carrier=st.none() | _NAME)
_TEXTS = st.lists(_TEXT, max_size=3, unique=True)
_ACCOUNT = st.builds(Account, id=_WORD, codes=_TEXTS, trunks=_TEXTS)
_DECLARE = st.recursive(
    _TEXT | st.integers(-9, 9) | st.booleans(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_WORD, inner, max_size=2),
    max_leaves=5,
)
_SOURCE = st.builds(
    Source,
    name=_WORD,
    format=_TEXT,
    tenant_field=st.none() | _TEXT,
    declare=st.dictionaries(_WORD, _DECLARE, max_size=3),
)


def _apart(accounts: list[Account]) -> bool:
    """Return whether no code and no trunk is of two accounts."""
    codes, trunks = ([word for account in accounts for word in getattr(account, kind)] for kind in ("codes", "trunks"))
    return len(set(codes)) == len(codes) and len(set(trunks)) == len(trunks)


@tries(40)
@given(
    tenants=st.dictionaries(_TEXT, _TENANT, max_size=2),
    trunks=st.lists(_TRUNK, max_size=3, unique_by=lambda trunk: trunk.name),
    accounts=st.lists(_ACCOUNT, max_size=3, unique_by=lambda account: account.id).filter(_apart),
    sources=st.lists(_SOURCE, max_size=3, unique_by=lambda source: source.name),
    unknown=st.floats(0, 100),
)
def test_what_is_written_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    tenants: dict[str, Tenant],
    trunks: list[Trunk],
    accounts: list[Account],
    sources: list[Source],
    unknown: float,
) -> None:
    path = tmp_path_factory.getbasetemp() / "callward.toml"
    given_settings = Settings(
        path=path,
        tenants={"default": Tenant(), **tenants},
        trunks=trunks,
        accounts=accounts,
        sources=sources,
        thresholds=Thresholds(unknown_share_pct=unknown),
    )
    for written in (template.render(given_settings), template.brief(given_settings)):
        path.write_text(written, encoding="utf-8")
        assert load(path).model_copy(update={"digest": ""}) == given_settings


def _models(model: type[BaseModel]) -> set[type[BaseModel]]:
    found = {model}
    for field in model.model_fields.values():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found |= _models(kind)
    return found


def test_every_key_is_there_with_its_description() -> None:
    text = template.render(Settings(path=Path("callward.toml"), tenants={"default": Tenant()}))
    words = " ".join(text.replace("\n#", "\n").split())
    for model in _models(Settings):
        for name, field in model.model_fields.items():
            if not field.exclude:
                assert name in text
                assert " ".join((field.description or "?").split()) in words, name


def test_examples_are_valid_once_their_comment_signs_are_gone(tmp_path: Path) -> None:
    text = template.render(Settings(path=Path("callward.toml"), tenants={"default": Tenant()}))
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line == "# [tenants.default.retention]")
    active = [line.removeprefix("# ") for line in lines[start:] if line.startswith(("# [", "# # ")) or " = " in line]
    body = "\n".join([*lines[:start], *active]).replace('= ""  #', '= "18 months"  #')
    path = tmp_path / "callward.toml"
    path.write_text(body, encoding="utf-8")
    assert tomllib.loads(body)["sources"]
    found = load(path)
    assert found.missing_windows() == []
    assert (len(found.sources), len(found.trunks), len(found.accounts)) == (1, 1, 1)
