"""Pages to read and to print, from the Jinja2 templates beside this file: every value escaped, nothing loaded.

`base.html` holds the style, the head, the print rules and the narrow screen's; `tables.html` how tables look.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_TEMPLATES: Final = Path(__file__).parent / "templates"
_CODE_FROM: Final = 24  # characters without a space: a digest or an id, set as code


class Table(NamedTuple):
    """Rows under column names, for the macro `table`; columns of whole numbers alone are set to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    @property
    def numeric(self) -> list[bool]:
        """Return, column by column, if every cell of it is a whole number or None."""
        return [all(_is_count(row[i]) for row in self.rows) for i in range(len(self.columns))]


class Mark(NamedTuple):
    """A word in a cell that is printed as good or bad."""

    word: str
    good: bool


def _is_count(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def render(template: str, **values: Any) -> str:
    """Return a page: the template of that file name, with the values that it names.

    Raises jinja2.UndefinedError when the template names a value that is not given.
    """
    return _environment.get_template(template).render(**values)


def fragment(template: str, **values: Any) -> Markup:
    """Return part of a page, as `render` does; it may be a value of another template and is not escaped again."""
    return Markup(render(template, **values))


def _css_string(text: object) -> str:
    """Return text as a CSS string: whatever is no letter, digit or space is escaped (CSS Syntax 3, section 4.3.7)."""
    return '"' + "".join(c if c == " " or (c.isascii() and c.isalnum()) else f"\\{ord(c):06x}" for c in str(text)) + '"'


def _label(name: str) -> str:
    """Return a field's name as a heading: `plan_sha256` is Plan SHA-256."""
    return (name[:1].upper() + name[1:]).replace("_", " ").replace("sha256", "SHA-256")


def _is_code(value: object) -> bool:
    text = str(value)
    return len(text) >= _CODE_FROM and " " not in text


def _make_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # What is no letter is escaped in a CSS string, so it needs no escaping for HTML.
    environment.filters.update(css_string=lambda text: Markup(_css_string(text)), label=_label)
    environment.tests.update(code=_is_code, mark=lambda value: isinstance(value, Mark))
    return environment


_environment: Final = _make_environment()
