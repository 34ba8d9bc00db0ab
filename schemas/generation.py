"""A generation of a source: what of it decides a record's identity and its date, as it was from one day on.

It is kept whole, as JSON, so that the ids and the date that a record had under it can be made again.
"""

from collections.abc import Iterator
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from schemas.declaration import (
    Condition,
    Declaration,
    Key,
    Layout,
    Pieces,
    Rule,
    Shape,
    Time,
    Value,
    is_local,
    named_as,
    sniff,
)

_KEYS: Final = ("identity", "call", "leg_a", "leg_b")
_WHAT: Final = {
    "zone": "its zone",
    "time": "how a repeated or skipped local hour is read",
    "starts": "how its start times are read",
    "identity": "which columns name a record",
    "rules": "which columns name a record",
    **dict.fromkeys(("call", "leg_a", "leg_b"), "which columns name a call and its legs"),
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Named(_Strict):
    """Records that match a rule, and no earlier one: what names them, if not what names all others."""

    when: dict[str, Condition]
    identity: Key | None


class Generation(_Strict):
    """What decides a record's identity and date. Without local starts no zone does, and `zone` is ""."""

    format_version: Literal[1] = 1
    zone: str
    time: Time
    starts: tuple[Value, ...]
    identity: Key
    call: Key
    leg_a: Key
    leg_b: Key
    rules: tuple[Named, ...] = ()  # up to the last one that names its records by columns of its own
    shapes: tuple[Layout, ...]

    @classmethod
    def of(cls, declaration: Declaration, zone: str) -> "Generation":
        """Return what a declaration, in a zone, decides identity and date by."""
        starts = declaration.starts()
        local = any(map(is_local, starts))
        keys = {name: getattr(declaration, name) for name in _KEYS}
        time = declaration.time if local else Time()
        rules, shapes = tuple(_named(declaration)), declaration.shapes
        return cls(zone=zone if local else "", time=time, starts=starts, rules=rules, shapes=shapes, **keys)

    @property
    def keys(self) -> dict[str, Key]:
        """Return what names a record, its call and its legs, by name."""
        return {name: getattr(self, name) for name in _KEYS}

    def difference(self, other: "Generation") -> str:
        """Return in words the first thing in which another one decides otherwise; "" where none does.

        A layout that only one of them has decides nothing: nothing was read in it under the other.
        """
        for name, what in _WHAT.items():
            if getattr(self, name) != getattr(other, name):
                return what
        return self._moved(other)

    def names_otherwise(self, other: "Generation") -> bool:
        """Return whether another one names records by other columns, or reads these at other places."""
        keys = self.keys != other.keys or self.rules != other.rules
        return keys or bool(self._moved(other))

    def _moved(self, other: "Generation") -> str:
        mine, theirs = ({layout.name: layout for layout in of.shapes} for of in (self, other))
        both = mine.keys() & theirs.keys()
        moved = any(_places(mine[name], self.columns()) != _places(theirs[name], self.columns()) for name in both)
        return "the order of its columns" if moved else ""

    def columns(self) -> list[str]:
        """Return every column that a record's identity and date are read from."""
        keys = [*self.keys.values(), *(rule.identity for rule in self.rules if rule.identity is not None)]
        named = {column for key in keys for column in key.columns()} | {c for rule in self.rules for c in rule.when}
        return sorted(named | {column for value in self.starts for column in value.column})

    def declaration(self, today: Declaration) -> Declaration:
        """Return a declaration that reads identity and start alone, as this generation did, from today's files."""
        more = {"fields": {"start_time": self.starts}, "time": self.time, "shapes": self.shapes or today.shapes}
        rules = [Rule(kind="whole", when=rule.when, identity=rule.identity) for rule in self.rules]
        pieces = Pieces(rules=(*rules, Rule(kind="whole"))) if rules else None
        return today.model_copy(update={**self.keys, **more, "pieces": pieces, "filters": (), "epoch": ()})

    def shape(self, shape: Shape, head: bytes, today: Declaration) -> Shape:
        """Return what a file looked like to this generation; `shape` is what it looks like now, `head` its records."""
        declaration = self.declaration(today)
        if shape.variant == "header":
            return named_as(shape, declaration)
        return shape if declaration.shapes == today.shapes else sniff(head, declaration)


def _named(declaration: Declaration) -> Iterator[Named]:
    rules = declaration.pieces.rules if declaration.pieces else ()
    last = max((at for at, rule in enumerate(rules) if rule.identity is not None), default=-1)
    yield from (Named(when=rule.when, identity=rule.identity) for rule in rules[: last + 1])


def _places(layout: Layout, columns: list[str]) -> list[int]:
    return [layout.columns.index(column) if column in layout.columns else -1 for column in columns]


def with_keys(declaration: Declaration, generation: Generation) -> Declaration:
    """Return a declaration that names records as a generation does: of a format that names them otherwise by now."""
    keys: dict[str, Any] = {name: key for name, key in generation.keys.items() if getattr(declaration, name) != key}
    return declaration.model_copy(update=keys) if keys else declaration


def older(declaration: Declaration, zone: str) -> Iterator[tuple[int, Generation]]:
    """Yield by number what a declaration named records by in its earlier versions, the newest first."""
    for keys in sorted(declaration.older_identities, key=lambda keys: -keys.number):
        named = declaration.model_copy(update={name: getattr(keys, name) for name in _KEYS})
        yield keys.number, Generation.of(named, zone)
