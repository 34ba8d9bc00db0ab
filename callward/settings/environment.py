"""Settings from the environment: CALLWARD_DATABASE__URL stands over url in [database] of the file.

A variable of ours with two underscores in it is a setting; any other, such as CALLWARD_CONFIG, is none. What is more
than one value (a list, a table) is JSON. [[sources]], [[trunks]], [[accounts]] and [alerts] stand in the file alone.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

PREFIX: Final = "CALLWARD_"
BETWEEN: Final = "__"
Location = tuple[str, ...]


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are settings, by their names."""
    return {
        name: text
        for name, text in sorted(environment.items())
        if name.startswith(PREFIX) and BETWEEN in name.removeprefix(PREFIX)
    }


def location(name: str) -> Location:
    """Return the keys that lead to the setting of a variable."""
    return tuple(name.removeprefix(PREFIX).lower().split(BETWEEN))


def overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables with others laid over them, key by key."""
    both = {
        name: overlaid(below[name], value) if isinstance(value, dict) and isinstance(below.get(name), dict) else value
        for name, value in above.items()
    }
    return {**below, **both}


def variable_of(place: Iterable[Any], names: Iterable[str]) -> str | None:
    """Return a variable that gave what stands at a place, or within it; None where all of it is from the file."""
    keys = tuple(map(str, place))
    shared = ((name, min(len(keys), len(location(name)))) for name in names)
    return next((name for name, size in shared if size and keys[:size] == location(name)[:size]), None)
