"""One sentence to each fault of the settings: the key, what is written there, and an example."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, MaxLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from callward.redaction import mask
from callward.settings.toml import written, written_key
from callward.settings.values import nearest

_OWN: Final = ("value_error", "assertion_error")  # what our own validators raise: it is a sentence already
_SCALARS: Final[Mapping[Any, tuple[str, Any]]] = {  # what each is called, and an example
    bool: ("true or false", True),
    int: ("a whole number", 2),
    float: ("a number", 1.5),
    str: ("a text in quotes", "text"),
}


@dataclass(frozen=True)
class _Place:
    """Where in the settings something stands: the table's model, the field in it, and the type of what is wanted.

    Attributes:
        inside: an item of the field's list, or a value of its table, is meant, and not the whole.
    """

    table: type[BaseModel] | None
    field: FieldInfo | None
    wanted: Any
    inside: bool


def sentence(root: type[BaseModel], error: Mapping[str, Any]) -> str:
    """Return what one of pydantic's errors about `root` says, for a person. It shows no number."""
    location = tuple(error["loc"])
    place, where = _place(root, location), mask(_where(root, location))
    if error["type"] in _OWN:
        message = mask(str(error["msg"]).partition(", ")[2])
        return f"{where}: {message}" if where else message
    if error["type"] == "extra_forbidden":
        known = [name for name, field in place.table.model_fields.items() if not field.exclude] if place.table else []
        return f"unknown key {where}{nearest(str(location[-1]), known)}"
    example = _example(mask(str(_key(location))), place)
    if error["type"] == "missing":
        return f"{where} is missing: write it such as {example}"
    if error["type"] == "string_pattern_mismatch" and place.field is not None:
        return f"{where}: write it such as {example} ({str(place.field.description).partition('. ')[0].rstrip('.')})"
    return f"{where}: write {_described(place, location)}{example and f', such as {example}'}{_close(place, error)}"


def type_at(root: type[BaseModel], location: tuple[Any, ...]) -> Any:
    """Return the type of the setting at a location; Any where there is none."""
    return _place(root, location).wanted


def _place(root: type[BaseModel], location: tuple[Any, ...]) -> _Place:
    """Return what stands at a location: names of keys, places in lists, and names that a user has chosen."""
    table: type[BaseModel] | None = root
    place = _Place(root, None, root, False)
    for step in location:
        if table is None:  # an item of a list, or a value of a table
            place = _Place(place.table, place.field, (get_args(place.wanted) or (Any,))[-1], True)
        else:
            field = table.model_fields.get(str(step))
            place = _Place(table, field, _required(field.annotation) if field else Any, False)
        table = place.wanted if _is_table(place.wanted) else None
    return place


def _required(annotation: Any) -> Any:
    """Return what a key that may be left out is, when it is given."""
    given = [kind for kind in get_args(annotation) if kind is not NoneType]
    kind = given[0] if NoneType in get_args(annotation) else annotation
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _is_table(wanted: Any) -> bool:
    return isinstance(wanted, type) and issubclass(wanted, BaseModel)


def _where(root: type[BaseModel], location: tuple[Any, ...]) -> str:
    """Return a location as a person finds it: engine.workers, or [[sources]] no. 2, zone, or
    [[accounts]] no. 1, numbers no. 2, first."""
    words = ""
    for position, step in enumerate(location):
        if not isinstance(step, int):
            name = written_key(str(step))
            words += f", {name}" if words.startswith("[[") and words[-1].isdigit() else f".{name}" if words else name
        elif _is_table(_place(root, location[: position + 1]).wanted):
            words = f"{words} no. {step + 1}" if words.startswith("[[") else f"[[{words}]] no. {step + 1}"
    return words


def _key(location: tuple[Any, ...]) -> Any:
    return next((step for step in reversed(location) if not isinstance(step, int)), "")


def _described(place: _Place, location: tuple[Any, ...]) -> str:
    """Return what is written at a place, in words."""
    wanted, path = place.wanted, ".".join(str(step) for step in location if not isinstance(step, int))
    if get_origin(wanted) is Literal:
        return " or ".join(written(value) for value in get_args(wanted))
    if get_origin(wanted) is list and _is_table(get_args(wanted)[0]):
        return f"tables that begin with [[{path}]]"
    if get_origin(wanted) is dict:
        return f"a table that begins with [{path}.NAME]" if _is_table(get_args(wanted)[1]) else f"a table [{path}]"
    if _is_table(wanted):
        return f"tables that begin with [[{path}]]" if isinstance(location[-1], int) else f"a table [{path}]"
    if get_origin(wanted) is list or isinstance(location[-1], int):
        return _listed(place)
    return " ".join((_SCALARS.get(wanted, ("another value", None))[0], *_limits(place)))


def _listed(place: _Place) -> str:
    sizes = [limit.max_length for limit in place.field.metadata if isinstance(limit, MaxLen)] if place.field else []
    return f"a list of {sizes[0]} values" if sizes else "a list of texts in quotes"


def _limits(place: _Place) -> Iterator[str]:
    """Yield the limits of a number, in words."""
    limits = place.field.metadata if place.field and not place.inside else []
    for limit in limits:
        match limit:
            case Ge(ge=least):
                yield f"of at least {least:,}"
            case Gt(gt=least):
                yield f"above {least:,}"
            case Le(le=most):
                yield f"and at most {most:,}" if len(limits) > 1 else f"of at most {most:,}"


def _example(key: str, place: _Place) -> str:
    """Return the key as it may be written; "" where a table is wanted."""
    if _is_table(place.wanted) or place.field is None or get_origin(place.wanted) in (dict, Literal):
        return ""
    given = (place.field.examples or [place.field.get_default()])[0]
    if isinstance(given, Mapping):  # of names that a user has chosen
        given = next(iter(given.values()), None)
    if given in (None, [], "", PydanticUndefined) or isinstance(given, BaseModel):
        given = _usual(_required(place.field.annotation) if not place.inside else place.wanted)
    return "" if given is None else f"{written_key(key)} = {written(given)}"


def _usual(wanted: Any) -> Any:
    if get_origin(wanted) is Literal:
        return get_args(wanted)[0]
    if get_origin(wanted) is list:
        item = _usual(get_args(wanted)[0])
        return None if item is None else [item]
    return _SCALARS.get(wanted, ("", None))[1]


def _close(place: _Place, error: Mapping[str, Any]) -> str:
    """Return the end of a sentence that names the value which was meant, where one is near."""
    if get_origin(place.wanted) is not Literal:
        return ""
    words = [str(value) for value in get_args(place.wanted)]
    close = difflib.get_close_matches(str(error["input"]), words, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
