"""settings check: all that is wrong with a file of settings, and all that can be looked at without running a night."""

import os

from callward.errors import UsageProblem
from callward.settings import Settings, find, load
from callward.settings.lines import line_of
from callward.settings.loading import SettingsWrong
from pipelines.doctor.checks import OF_SETTINGS
from pipelines.doctor.finding import SettingsChecked
from pipelines.readiness import checks as readiness
from pipelines.readiness.checks import CHECKS, Intake
from pipelines.readiness.finding import OK, WRONG, Finding, guarded
from schemas import toml


def check(config: str | os.PathLike[str] | None) -> SettingsChecked:
    """Look at a file of settings and at what it names. Raises UsageProblem where there is no such file."""
    path = find(config)
    try:
        settings = load(path)
    except SettingsWrong as problem:
        text = toml.read(path).decode()
        faults = [(fault, line_of(text, fault.location)) for fault in problem.faults]
        lines = sorted(faults, key=lambda found: found[1] or 0)
        return SettingsChecked(
            [Finding(f"{f.within}{f', line {n}' * bool(n)}", WRONG, f.sentence) for f, n in lines], True
        )
    except UsageProblem as problem:
        return SettingsChecked([Finding("settings", WRONG, line) for line in str(problem).splitlines()], True)
    return _of(settings)


def _of(settings: Settings) -> SettingsChecked:
    intake = Intake(settings, settings.sources, streaming=bool(settings.kafka.topics))
    findings, usage = [Finding("settings", OK, str(settings.path))], False
    for look, problem in CHECKS:
        if look is readiness.engine and not intake.on_flink:
            continue
        found = list(guarded(look, intake))
        usage |= problem is UsageProblem and any(finding.bad for finding in found)
        findings += found
    for each in OF_SETTINGS:
        findings += guarded(each, settings)
    return SettingsChecked(findings, usage)
