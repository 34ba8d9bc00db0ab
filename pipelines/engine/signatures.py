"""Beam's look at the methods of a DoFn, remembered: a tiny night spends a quarter of its time on them otherwise.

The making of a graph reads the signatures of all methods of each DoFn about ten times, and looks for state and timers
in them; each worker that opens a step does so again. They do not change.
"""

from types import FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

from apache_beam.transforms import core, userstate

_READ = core.get_function_args_defaults
_SPECS = userstate.get_dofn_specs
_of_methods: WeakKeyDictionary[FunctionType, tuple[list[str], list[Any]]] = WeakKeyDictionary()
_of_classes: WeakKeyDictionary[type, tuple[set[Any], set[Any]]] = WeakKeyDictionary()


def remember_signatures() -> None:
    """Let Beam read the signature of a method, and the state and timers of a DoFn's class, once in this process."""
    core.get_function_args_defaults = _remembered  # type: ignore[assignment]
    userstate.get_dofn_specs = _specs


def _remembered(function: Any) -> tuple[list[str], list[Any]]:
    method = getattr(function, "__func__", None)
    if method is None:
        return _READ(function)
    if method not in _of_methods:
        _of_methods[method] = _READ(function)
    names, defaults = _of_methods[method]
    return list(names), list(defaults)


def _specs(dofn: core.DoFn) -> tuple[set[Any], set[Any]]:
    if isinstance(dofn, core.CallableWrapperDoFn) and isinstance(dofn.process, MethodType):
        return _SPECS(dofn)  # what it processes with is a method of another object
    if type(dofn) not in _of_classes:
        _of_classes[type(dofn)] = _SPECS(dofn)
    states, timers = _of_classes[type(dofn)]
    return set(states), set(timers)
