"""Results of commands: one type per command, the same from Python, as a JSON document and on the terminal.

A result is a frozen dataclass. Its fields are the document, in their order; a name that Python keeps for itself has an
underscore behind it (`class_`), which the document leaves out.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from pipelines import terminal

Document = dict[str, Any] | list[Any]
Part = str | terminal.Table


class Result(ABC):
    """What a command did, or would do."""

    @property
    def exit_code(self) -> int:
        """Return 0, or 3 where a person must look."""
        return 0

    def to_dict(self) -> Document:
        """Return the JSON document: the fields by name, and what they hold likewise."""
        return _of_fields(self)

    @abstractmethod
    def render(self) -> Iterator[Part]:
        """Yield lines and tables for a person."""

    def warnings(self) -> Iterator[str]:
        """Yield sentences for standard error, beside what is rendered."""
        return iter(())


@dataclass(frozen=True)
class Rows(Result):
    """Rows of one kind: a list of documents, and one table whose columns are the fields of a row.

    Attributes:
        rows: dataclasses of one type, or dictionaries with equal keys.
        title: of the table; "<title>: none" stands for no rows.
    """

    rows: Sequence[Any]
    title: str = ""

    def to_dict(self) -> list[Any]:
        return [to_document(row) for row in self.rows]

    def render(self) -> Iterator[Part]:
        rows = self.to_dict()
        if rows:
            yield terminal.table(self.title, list(rows[0]), [list(row.values()) for row in rows])
        else:
            yield f"{self.title}: none" if self.title else "nothing"


def to_document(value: Any) -> Any:
    """Return a value as dictionaries and lists, with each dataclass in it by its fields."""
    if isinstance(value, Result):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return _of_fields(value)
    if isinstance(value, Mapping):
        return {name: to_document(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_document(inner) for inner in value]
    return value


def _of_fields(value: Any) -> dict[str, Any]:
    return {field.name.rstrip("_"): to_document(getattr(value, field.name)) for field in fields(value)}
