"""What doctor says of releases: each declaration, and whether its budget lasts."""

from collections.abc import Iterator
from datetime import date
from typing import Final

from callward import database, extras
from callward.errors import Problem, UsageProblem
from callward.redaction import mask
from callward.release import budget, declaration, preview
from callward.release.declaration import Period, Release
from callward.settings import Settings
from pipelines import release as releasing
from pipelines import terminal
from pipelines.readiness.finding import NOTE, OK, WARNING, WRONG, Finding

_FIX: Final = "callward release lint; nothing is released under it until it is fixed"
_SHORT: Final = "raise its cap in [tenants.NAME.release] (who answers for privacy decides), or take tables away"


def releases(settings: Settings) -> Iterator[Finding]:
    """Yield a finding per declaration that is wrong, unsafe, or nearly out of budget; else one per sound table."""
    wrong = list(_wrong(settings))
    if wrong:
        yield from wrong
        return
    declared = releasing.declared(settings)
    if any(release.budget for release in declared):
        extras.require("opendp")
    for release in declared:
        yield from _looked_at(settings, release)


def _wrong(settings: Settings) -> Iterator[Finding]:
    """Yield declarations that cannot be read; then no other can be released either."""
    for path in releasing.declarations(settings):
        try:
            declaration.load(path)
        except UsageProblem as problem:
            yield Finding(f"release {mask(path.name)}", WRONG, "; ".join(str(problem).splitlines()), _FIX)


def _looked_at(settings: Settings, release: Release) -> Iterator[Finding]:
    what = f"release {release.name}"
    try:
        unsafe = releasing.findings(settings, release, releasing.declared(settings), preview.expected_volumes(release))
        short = _short_of_budget(settings, release, database.now().date())
    except Problem:
        return  # the checks of the database and the policies say why
    for finding in unsafe:
        yield Finding(what, WRONG if finding.refuses else NOTE, finding.sentence, _FIX if finding.refuses else "")
    if short:
        yield Finding(what, WARNING, short, _SHORT)
    if not unsafe and not short:
        yield Finding(what, OK, f"declared for {', '.join(release.tenants)}, by {release.grain}")


def _short_of_budget(settings: Settings, release: Release, today: date) -> str:
    """Return the scope that does not last another period in this month, or another month; "" where all do."""
    period = Period.holding(release.grain, today)
    month = 31 if release.grain == "day" else 1
    with database.reading(settings) as connection:
        left = budget.periods_left(settings, connection, release, period)
    for scope, periods in left.items():
        if periods < (month if scope.window == budget.EVER else 1):
            return f"the privacy budget of {scope} is nearly spent: {terminal.count(periods, 'period')} of it are left"
    return ""
