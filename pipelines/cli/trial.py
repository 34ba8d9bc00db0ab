"""`callward try`: how a file would be read, before it belongs to a source."""

import errno
import os
from pathlib import Path
from typing import Annotated

import typer

from callward.errors import UsageProblem
from callward.redaction import mask
from callward.settings import Settings, find, load
from callward.settings.values import known_zone
from pipelines.cli.command import command
from pipelines.cli.options import AS_GIVEN, Reading
from pipelines.results import Result

app = typer.Typer()


@command(app, "callward try Master.csv --format asterisk --zone America/Denver", name="try")
def try_(
    path: Annotated[Path, typer.Argument(metavar="FILE|FOLDER", help="What to try; nothing is written.")],
    options: Reading,
    source: Annotated[str | None, typer.Option("--source", help="As files of this source of the settings.")] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="As this format: a declaration's name, or the path of your own .toml."),
        AS_GIVEN,
    ] = None,
    zone: Annotated[
        str | None, typer.Option("--zone", help="IANA zone of local times, if not the source's (default: UTC).")
    ] = None,
) -> Result:
    """Say how a file would be read: which format fits it, what would be suspended, what looks wrong; exit code 3 when
    something does."""
    from pipelines.reports.trial import TrialReport
    from pipelines.trial.candidates import candidates
    from pipelines.trial.reading import trial
    from pipelines.trial.specimen import specimens

    if source and form:
        raise UsageProblem("give --source or --format: a source has its format")
    _require(path)
    settings = _settings(options.config, source)
    chosen = candidates(settings, path, source, form, _zone(zone))
    found = list(specimens(path, tuple(settings.landing.temporary_suffixes)))
    with options.progress() as progress:
        return TrialReport(trial(found, chosen, progress), form or "")


def _require(path: Path) -> None:
    """Raise UsageProblem where there is nothing at a path, and PermissionError where it may not be read."""
    if not path.exists():
        raise UsageProblem(f"{mask(str(path))}: there is no such file or folder")
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _settings(config: str | None, source: str | None) -> Settings:
    """Return the settings of the workspace, or default ones where there is none and none is needed."""
    if config is None and source is None and "CALLWARD_CONFIG" not in os.environ:
        try:
            find()
        except UsageProblem:
            return Settings(path=Path("callward.toml").absolute())
    return load(config)


def _zone(zone: str | None) -> str | None:
    """Return the zone; raises UsageProblem for one that there is not."""
    try:
        return None if zone is None else known_zone(zone)
    except ValueError as error:
        raise UsageProblem(str(error)) from None
