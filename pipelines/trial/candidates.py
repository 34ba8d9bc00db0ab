"""Candidates: the sources that a file may belong to."""

from pathlib import Path
from typing import Final

from callward.settings import Settings
from pipelines.trial.fitting import Candidate, newcomer
from schemas.declaration import available

_ZONE: Final = "UTC"


def candidates(
    settings: Settings, path: Path, source: str | None, form: str | None, zone: str | None
) -> list[Candidate]:
    """Return the source of that name, or of that format; else the one whose landing folder the path lies in, or all.

    Raises UsageProblem for a source or a format that there is not.
    """
    named = source or (None if form else _landing_source(settings, path))
    if named:
        return [_known(settings, named, zone)]
    if form:
        new = newcomer(settings, form, zone or _ZONE)
        new.declaration  # noqa: B018  (a wrong one is said before any file is read)
        return [new]
    known = [_known(settings, item.name, zone) for item in settings.sources]
    return [*known, *(newcomer(settings, name, zone or _ZONE) for name in available())]


def _known(settings: Settings, name: str, zone: str | None) -> Candidate:
    source = settings.source(name)
    return Candidate(source.model_copy(update={"zone": zone}) if zone else source, settings, known=True)


def _landing_source(settings: Settings, path: Path) -> str | None:
    """Return the source whose landing folder holds the path; None where none does."""
    landing = settings.landing_path.resolve()
    at = path.resolve()
    inside = at.relative_to(landing).parts if at.is_relative_to(landing) else ()
    return inside[0] if inside and inside[0] in {source.name for source in settings.sources} else None
