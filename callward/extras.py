"""Libraries that only a part of callward needs: each comes with an extra of the package, and may not be there."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

from callward.errors import UsageProblem


class ExtraMissing(UsageProblem):
    """A library that only a part of callward needs is not installed, and that part was asked for."""

    code = "extra"


@dataclass(frozen=True)
class _Extra:
    name: str  # as setup.py has it
    part: str  # what needs it, as the sentence begins


_EXTRAS: Final = {  # by the module that is imported
    "opendp": _Extra("release", "a differentially private release"),
    "confluent_kafka": _Extra("kafka", "a stream"),
    "aiohttp": _Extra("receive", "receiving by HTTP"),
    "pg8000": _Extra("postgresql", "a database on PostgreSQL"),
}


def require(module: str) -> None:
    """Raise ExtraMissing where a module of an extra is not installed; for what must not fail half-way."""
    if find_spec(module) is None:
        raise _missing(module)


def missing(error: ModuleNotFoundError) -> ExtraMissing | None:
    """Return the sentence for an import that failed; None where no extra brings that module."""
    module = (error.name or "").partition(".")[0]
    return _missing(module) if module in _EXTRAS else None


def _missing(module: str) -> ExtraMissing:
    extra = _EXTRAS[module]
    package = f"callward[{extra.name}]"
    return ExtraMissing(f"{extra.part} needs {package}: pip install '{package}'")
