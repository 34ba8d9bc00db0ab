"""Beam's look at the methods of a DoFn, remembered: a tiny night spends an eighth of its time on them otherwise.

The making of a graph reads the signatures of all methods of each DoFn about ten times. They do not change.
"""

from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

from apache_beam.transforms import core

_READ = core.get_function_args_defaults
_of_methods: WeakKeyDictionary[FunctionType, tuple[list[str], list[Any]]] = WeakKeyDictionary()


def remember_signatures() -> None:
    """Let Beam read the signature of a method once in this process."""
    core.get_function_args_defaults = _remembered


def _remembered(function: Any) -> tuple[list[str], list[Any]]:
    method = getattr(function, "__func__", None)
    if method is None:
        return _READ(function)
    if method not in _of_methods:
        _of_methods[method] = _READ(function)
    names, defaults = _of_methods[method]
    return list(names), list(defaults)
