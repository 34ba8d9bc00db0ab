"""Variables of the environment as tables of settings. Its library takes long to load: only who has variables does."""

import json
from collections.abc import Mapping
from typing import Any, Final, get_origin

from pydantic import BaseModel, create_model
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

from callward.errors import UsageProblem
from callward.settings.environment import BETWEEN, PREFIX, location, overlaid
from callward.settings.sentences import type_at
from callward.settings.values import nearest

_FILE_ALONE: Final = ("alerts",)  # what names a program that is run


def tables(root: type[BaseModel], given: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that variables name, as tables within tables.

    Raises UsageProblem for a variable of a table that no variable can set, or whose value cannot be read.
    """
    given_to = {
        name: field for name, field in root.model_fields.items() if _is_table(field) and name not in _FILE_ALONE
    }
    sections = {name: (field.annotation, field) for name, field in given_to.items()}
    model: type[BaseSettings] = create_model("Variables", __base__=BaseSettings, **sections)  # type: ignore[call-overload]
    merged: dict[str, Any] = {}
    for name, text in given.items():
        section = location(name)[0]
        if section not in sections:
            raise UsageProblem(f"{name}: no variable sets anything in {section!r}{nearest(section, sections)}")
        merged = overlaid(merged, _Variable(model, name, _text(root, name, text)).table())
    return merged


def _is_table(field: FieldInfo) -> bool:
    kind = field.annotation
    return not field.exclude and ((isinstance(kind, type) and issubclass(kind, BaseModel)) or get_origin(kind) is dict)


class _Variable(EnvSettingsSource):
    """One variable, read as pydantic-settings reads it."""

    def __init__(self, model: type[BaseSettings], name: str, value: Any) -> None:
        self._name, self._value = name, value
        super().__init__(model, env_prefix=PREFIX, env_nested_delimiter=BETWEEN, case_sensitive=False)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {self._name.lower(): self._value}

    def table(self) -> dict[str, Any]:
        """Return what the variable says, within the tables that it stands in."""
        try:
            return self()
        except SettingsError:
            raise UsageProblem(f'{self._name}: write JSON, such as ["a", "b"] or {{"a": "b"}}') from None


def _text(root: type[BaseModel], name: str, text: str) -> Any:
    """Return a variable's value: a number or truth value where the setting is one, as callward.toml has it."""
    if type_at(root, location(name)) not in (int, float, bool):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
