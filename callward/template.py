"""Writes settings files: one in which every key is explained, from the descriptions that stand in callward/settings,
and one of the keys that are set alone."""

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from callward.settings import Settings, Tenant
from callward.settings.toml import written, written_key
from schemas.retention_classes import CLASSES, REQUIRED


def _comment(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 110, initial_indent="# ", subsequent_indent="# "))


def _is_table(value: Any) -> bool:
    return (
        isinstance(value, BaseModel)
        or (isinstance(value, Mapping) and bool(value))
        or (isinstance(value, list) and bool(value) and isinstance(value[0], BaseModel))
    )


def _item_model(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a list's items, None for any other field."""
    items = get_args(field.annotation) if get_origin(field.annotation) is list else ()
    return items[0] if items and isinstance(items[0], type) and issubclass(items[0], BaseModel) else None


def _plain(model: BaseModel, explain: bool) -> Iterable[str]:
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if (
            field.exclude
            or _is_table(value)
            or _item_model(field)
            or (isinstance(model, Tenant) and name == "retention")
        ):
            continue
        if explain and field.description:
            yield _comment(field.description)
        if value is None or value == [] or value == {}:
            yield f"# {name} = {written(field.examples[0])}" if field.examples else f"# {name} ="
        else:
            yield f"{name} = {written(value)}"


def _tables(model: BaseModel, prefix: str, explain: bool) -> Iterable[str]:
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if not field.exclude and not _is_table(value):
            yield from _empty(f"{prefix}{written_key(name)}", model, name, field)
        if field.exclude or not _is_table(value):
            continue
        yield ""
        if explain and field.description:
            yield _comment(field.description)
        yield from _table(f"{prefix}{written_key(name)}", value, explain)


def _empty(path: str, model: BaseModel, name: str, field: FieldInfo) -> Iterable[str]:
    """Return how a table that is not there yet is written, behind comment signs."""
    if isinstance(model, Tenant) and name == "retention":
        yield from ("", _comment(field.description or ""), f"# [{path}]")
        yield from (f'# {cls} = ""  # {CLASSES[cls].what}' for cls in REQUIRED)
    item = _item_model(field)
    if item is not None:
        yield from ("", _comment(f"{field.description} Written so, as often as there are any:"), f"# [[{path}]]")
        yield from _items(path, item)


def _items(path: str, item: type[BaseModel]) -> Iterable[str]:
    """Return the keys of a list's item, and after them those of the lists in it, behind comment signs."""
    within = {key: model for key, inner in item.model_fields.items() if (model := _item_model(inner))}
    for key, inner in item.model_fields.items():
        if key not in within:
            given = inner.examples[0] if inner.examples else inner.default
            line = f"# {key} = {written(given)}" if given not in (None, [], {}) else f"# # {key} ="
            yield f"{line}  # {inner.description}"
    for key, model in within.items():
        yield f"# [[{path}.{key}]]  # {item.model_fields[key].description}"
        yield from _items(f"{path}.{key}", model)


def _table(path: str, value: Any, explain: bool) -> Iterable[str]:
    if isinstance(value, BaseModel):
        yield f"[{path}]"
        yield from _plain(value, explain)
        yield from _tables(value, path + ".", explain)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield f"[[{path}]]"
            yield from _plain(item, explain and position == 0)
            yield from _tables(item, path + ".", False)
    elif any(isinstance(item, BaseModel) for item in value.values()):
        for position, (name, item) in enumerate(value.items()):
            yield from _table(f"{path}.{written_key(name)}", item, explain and position == 0)
    else:
        yield f"[{path}]"
        yield from (f"{written_key(name)} = {written(item)}" for name, item in value.items())


def render(settings: Settings) -> str:
    """Return the settings as commented TOML; reading it back gives equal settings."""
    lines = [
        "# callward: settings. Relative paths are relative to this file.",
        "# Check them at any time with 'callward doctor'.",
        "",
        *_plain(settings, True),
        *_tables(settings, "", True),
    ]
    return "\n".join(lines) + "\n"


def brief(settings: Settings) -> str:
    """Return only what differs from the defaults as TOML, without comments; reading it back gives equal settings."""
    return "\n".join(_given("", settings.model_dump(exclude_defaults=True))) + "\n"


def _given(path: str, table: Mapping[str, Any]) -> Iterable[str]:
    """Return the lines of a table: its keys, then the tables in it under headings of their own."""
    tables = {key: value for key, value in table.items() if _has_tables(value)}
    given = {key: value for key, value in table.items() if key not in tables and value is not None}
    yield from (f"{written_key(key)} = {written(value)}" for key, value in given.items())
    for key, value in tables.items():
        name = f"{path}{written_key(key)}"
        for item in value if isinstance(value, list) else [value]:
            yield f"[[{name}]]" if isinstance(value, list) else f"[{name}]"
            yield from _given(f"{name}.", item)


def _has_tables(value: Any) -> bool:
    is_list = isinstance(value, list) and bool(value)
    return isinstance(value, Mapping) or (is_list and all(isinstance(item, Mapping) for item in value))
