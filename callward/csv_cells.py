"""Cells of CSV that a spreadsheet may open: none is a formula there, none steers a terminal.

A text that begins as a formula does (= + - @, their fullwidth forms, a tab) gets an apostrophe before it, as OWASP's
page on CSV injection advises. A text that is a plain number, such as one in E.164, stays as it is: to a spreadsheet
it is a value and nothing else, and to a program it is what was recorded. Columns of numbers are no text.
"""

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

_FORMULA: Final = r"^[=+\-@\t＝＋－＠]"
_NUMBER: Final = r"^[+-]?[0-9][0-9.,]*$"
_CONTROL: Final = r"[^\P{C}\n\t]"  # C0, C1, what turns the direction of writing; a line end may stand in a cell


def safe_table(table: pa.Table) -> pa.Table:
    """Return a table whose texts, and names of columns, may be opened in a spreadsheet."""
    names = safe(pa.array(table.column_names, pa.string())).to_pylist()
    return pa.table([safe(column) for column in table.columns], names=names)


def safe(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return a column as it may be opened in a spreadsheet; one that is no text as it is."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return column
    text = pc.replace_substring_regex(column.cast(kind), _CONTROL, "\N{REPLACEMENT CHARACTER}")
    formula = pc.and_not(pc.match_substring_regex(text, _FORMULA), pc.match_substring_regex(text, _NUMBER))
    return pc.if_else(formula, pc.binary_join_element_wise("'", text, ""), text)
