"""Results of commands: one type per command, the same from Python, as a JSON document and on the terminal.

A result is a frozen dataclass. Its fields are the document, in their order; a name that Python keeps for itself has an
underscore behind it (`class_`), which the document leaves out.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final

from callward import extras
from callward.error_text import error_text
from callward.errors import Problem
from callward.redaction import mask
from pipelines import terminal

_NEXT_STEP: Final = re.compile(r"; ([^;]*\bcallward [a-z][^;]*)$")
Document = dict[str, Any] | list[Any]
Part = str | terminal.Table | terminal.Records | terminal.Published


class Result(ABC):
    """What a command did, or would do."""

    @property
    def exit_code(self) -> int:
        """Return 0, or 3 where a person must look."""
        return 0

    def to_dict(self) -> Document:
        """Return the JSON document: the fields by name, and what they hold likewise."""
        return fields_of(self)

    @abstractmethod
    def render(self) -> Iterator[Part]:
        """Yield lines and tables for a person."""

    def print_document(self) -> None:
        """Print the JSON document on standard output."""
        terminal.document(self.to_dict())

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


@dataclass(frozen=True)
class Text(Result):
    """One value under one name: in a document {name: text}, else the text alone, for a shell to take."""

    name: str
    text: str

    def to_dict(self) -> dict[str, Any]:
        return {self.name: self.text}

    def render(self) -> Iterator[Part]:
        yield self.text


@dataclass(frozen=True)
class Verbatim(Result):
    """A text that was published or signed: printed byte for byte, and as the document too where it is one."""

    text: str

    def to_dict(self) -> Document:
        document: Document = json.loads(self.text)
        return document

    def print_document(self) -> None:
        terminal.show(self._published())

    def render(self) -> Iterator[Part]:
        yield self._published()

    def _published(self) -> terminal.Published:
        return terminal.Published(self.text.removesuffix("\n"))


@dataclass(frozen=True)
class Failure(Result):
    """What went wrong: a sentence, one word for programs, and the next step where the sentence does not say it."""

    error: str
    code: str
    hint: str | None
    ends_with: int = 1

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        """Return what is said of an error: never its values, nor a traceback."""
        if isinstance(error, ModuleNotFoundError):
            error = extras.missing(error) or error
        if isinstance(error, Problem):
            return cls(str(error), error.code, error.hint or _next_step(str(error)), error.exit_code)
        if isinstance(error, OSError):
            where = f"{mask(str(error.filename))}: " if error.filename else ""
            return cls(f"{where}{error.strerror or type(error).__name__}", "io", None)
        if is_usage(error):
            context = getattr(error, "ctx", None)
            hint = f"{context.command_path} --help" if context else None
            return cls(mask(error.format_message()), "usage", hint, int(error.exit_code))  # type: ignore[attr-defined]
        return cls(f"a defect ({error_text(error).at})", "defect", "please report it")

    @property
    def exit_code(self) -> int:
        return self.ends_with

    def to_dict(self) -> dict[str, Any]:
        return {"error": self.error, "code": self.code, "hint": self.hint}

    def render(self) -> Iterator[Part]:
        hint = f"; {self.hint}" if self.hint and self.hint not in self.error else ""
        yield f"callward: {self.error}{hint}"


def _next_step(sentence: str) -> str | None:
    """Return the last part of a sentence where it names a command of ours: what comes next."""
    return match[1] if (match := _NEXT_STEP.search(sentence)) else None


def is_usage(error: Exception) -> bool:
    """Return whether an error is one of click's own: the arguments of a command are wrong."""
    return hasattr(error, "format_message") and hasattr(error, "show")


def to_document(value: Any) -> Any:
    """Return a value as dictionaries and lists, with each dataclass in it by its fields."""
    if isinstance(value, Result):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return fields_of(value)
    if isinstance(value, Mapping):
        return {name: to_document(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_document(inner) for inner in value]
    return value


def fields_of(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass by name, as documents."""
    return {field.name.rstrip("_"): to_document(getattr(value, field.name)) for field in fields(value)}
