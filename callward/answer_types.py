"""Types of an answer that Arrow, Parquet or CSV have no form for: DuckDB turns them into text, arrays into lists."""

from typing import Final

from duckdb import DuckDBPyRelation
from duckdb.sqltypes import DuckDBPyType

# Arrow would lose a zone, a sign, bits or nanoseconds of some, and Parquet or CSV cannot hold the others.
_AS_TEXT: Final = {
    *("bignum", "bit", "geometry", "interval", "time with time zone", "time_ns", "timestamp_ns"),
    *("uhugeint", "union", "variant"),
}


def portable(answer: DuckDBPyRelation) -> DuckDBPyRelation:
    """Return an answer in whose columns, however deep, there are no such types."""
    kinds = [(kind, _portable(kind)) for kind in answer.types]
    casts = ["" if of_same == str(kind) else f"::{of_same}" for kind, of_same in kinds]
    if not any(casts):
        return answer
    names = zip(casts, answer.columns, strict=True)
    return answer.project(", ".join(f"#{n}{cast} AS {_quoted(name)}" for n, (cast, name) in enumerate(names, 1)))


def _portable(kind: DuckDBPyType) -> str:
    """Return the type, as SQL writes it, that an answer gives instead of one, or itself."""
    if kind.id in _AS_TEXT:
        return "VARCHAR"
    if kind.id not in ("list", "array", "map", "struct"):
        return str(kind)
    inner = [(name, _portable(child)) for name, child in kind.children if isinstance(child, DuckDBPyType)]
    if kind.id == "map":
        return f"MAP({', '.join(child for _, child in inner)})"
    if kind.id == "struct":
        fields = ", ".join(f"{_quoted(name)} {child}" for name, child in inner)
        return f"STRUCT({fields})" if inner and all(name for name, _ in inner) else "VARCHAR"
    return f"{inner[0][1]}[]"  # of an array too: Parquet spoils those that have nulls beside them


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
