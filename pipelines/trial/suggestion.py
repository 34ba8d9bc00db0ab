"""Suggestion: what a person may paste into callward.toml for a source that was tried."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from callward.redaction import looks_like_number
from callward.settings.toml import written, written_key
from pipelines.trial.fitting import Candidate, Fit
from pipelines.trial.reading import Reading

_MOST_TRUNKS: Final = 30
_UNFILLED: Final = 0.5  # share of records without a direction from which on the contexts are shown


def suggestion(reading: Reading, form: str) -> str:
    """Return TOML of a source that would read these files, and of its trunks; of one that the settings have, changes.

    `form` is the format as it was named. Nothing that looks like a number is in it.
    """
    if reading.candidate.known:
        return changes(reading.fit)
    return "\n".join([*_source(reading.candidate, form), *_direction(reading), *_trunks(reading)]) + "\n"


def changes(fit: Fit) -> str:
    """Return TOML of changes that make a source of the settings read more; "" where there are none."""
    if fit.better is None:
        return ""
    name = fit.candidate.source.name
    return "\n".join([f"# of the source {name}, after its own keys:", *_declare(fit.better.candidate)]) + "\n"


def _source(candidate: Candidate, form: str) -> Iterator[str]:
    source = candidate.source
    yield "[[sources]]"
    yield f"name = {written(source.name)}"
    yield f"format = {written(form)}"
    yield f"zone = {written(candidate.zone)}  # that the switch's clock shows"
    yield f"country = {written(source.country)}"
    yield from _declare(candidate)


def _declare(candidate: Candidate) -> Iterator[str]:
    return _tables("sources.declare", candidate.changes)


def _tables(path: str, changes: Mapping[str, Any]) -> Iterator[str]:
    """Yield tables within tables as TOML, the values of each before the tables in it."""
    values = {name: value for name, value in changes.items() if not isinstance(value, Mapping)}
    if values:
        yield f"[{path}]"
        yield from (f"{written_key(name)} = {written(value)}" for name, value in values.items())
    for name, value in changes.items():
        if isinstance(value, Mapping):
            yield from _tables(f"{path}.{written_key(name)}", value)


def _direction(reading: Reading) -> Iterator[str]:
    """Yield how contexts may tell the direction, behind comment signs, where most records have none."""
    tally = reading.tally
    names = [name for name, _ in tally.contexts.most_common(10) if not looks_like_number(name)]
    if names and tally.undirected > _UNFILLED * tally.sound:
        meanings = {**dict.fromkeys(names, "unknown"), "*": "unknown"}
        yield "# say whose calls a context has, a customer's or the network's:"
        yield f"# [sources.declare.fields.ingress_side]\n# column = {written(reading.candidate.context_column)}"
        yield f"# map = {written(meanings)}"


def _trunks(reading: Reading) -> Iterator[str]:
    names = [name for name, _ in reading.tally.trunks.most_common(_MOST_TRUNKS)]
    shown = [n for n in names if re.search("[A-Za-z]", n) and n.isprintable() and not looks_like_number(n)]
    if shown:
        yield "\n# Keep those that are trunks:"
        yield from (f"[[trunks]]\nname = {written(name)}" for name in shown)
