"""How values are written in callward.toml."""

import json
from collections.abc import Mapping
from datetime import date
from typing import Any


def written(value: Any) -> str:
    """Return a value as TOML writes it in one line."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(written(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{written_key(name)} = {written(item)}" for name, item in value.items()) + " }"
    if isinstance(value, date):
        return value.isoformat()
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def written_key(name: str) -> str:
    """Return a key as TOML writes it."""
    return name if name.isascii() and name.replace("_", "").replace("-", "").isalnum() else _quoted(name)


def _quoted(text: str) -> str:
    """Return a TOML string: JSON's, whose escapes know no characters beyond U+FFFF as one, and which lets DEL stand."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
