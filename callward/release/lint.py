"""What is unsafe, or useless, about a declaration, before a row is read and before anything is paid."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from callward.release import budget
from callward.release.declaration import Period, Release
from callward.release.preview import Volumes, coarser, useful_share
from callward.release.suppression import DOMINANCE, USUAL_K
from callward.settings import Settings, Tenant

LEAST_POOL: Final = 3  # processors' customers that a table is over, at least, so that none is told by it
USEFUL_SHARE: Final = 0.8  # of all contributions: so many lie in cells above ten sigma
_DAYS: Final = 31  # releases of a month by day, at most


@dataclass(frozen=True)
class Finding:
    """One thing about a declaration. `refuses`: it may not run so."""

    code: str
    sentence: str
    refuses: bool = True


def lint(
    release: Release,
    settings: Settings,
    volumes: Volumes | None = None,
    *,
    roles: Mapping[str, str] | None = None,
    others: Sequence[Release] = (),
) -> list[Finding]:
    """Return what is wrong with a declaration.

    `volumes`: how full its cells would be, from made-up or public figures, never from the data. `roles`: tenant →
    "controller" or "processor", by the policies in force. `others`: the declarations beside it, it among them.
    """
    findings = [*_tenants(release, settings, roles or {}), *_outside(release, settings), *_thresholds(release, others)]
    findings += _budget(release, settings, [other for other in others if other.name != release.name])
    if volumes is not None and release.kind == "dp":
        findings += _grain(release, volumes)
    return findings


def _tenants(release: Release, settings: Settings, roles: Mapping[str, str]) -> Iterable[Finding]:
    for tenant in release.tenants:
        if tenant not in settings.tenants:
            yield Finding("tenant", f"no tenant is called {tenant!r} in the settings")
    processors = [tenant for tenant in release.tenants if roles.get(tenant) == "processor"]
    if processors and len(release.tenants) < LEAST_POOL:
        yield Finding(
            "processor",
            f"{processors[0]!r} is a customer whose processor we are: a table of its calls alone shows that it is one "
            f"and how it calls; pool it with others ({LEAST_POOL} tenants at least, which the table does not name)",
        )


def _outside(release: Release, settings: Settings) -> Iterable[Finding]:
    if release.kind != "threshold" or release.audience == "internal":
        return
    closed = [name for name in release.tenants if not settings.tenants.get(name, Tenant()).release.threshold_outside]
    if closed:
        yield Finding(
            "outside",
            "a threshold table is suppressed, not anonymous, and stays inside: declare kind = 'dp', or let tenant "
            f"{closed[0]!r} decide otherwise (release.threshold_outside)",
        )
    if release.suppression.coarsens is None:
        yield Finding(
            "coarsens",
            "a threshold table for outside joins cells of the one inside (suppression.coarsens): "
            "two partitions of the same calls have differences",
            refuses=False,
        )


def _thresholds(release: Release, others: Sequence[Release]) -> Iterable[Finding]:
    if release.kind != "threshold":
        return
    least, rule = USUAL_K[release.audience], release.suppression
    if rule.k < least:
        yield Finding("k", f"suppression.k is {rule.k}: {least} at least for a table that is {release.audience}")
    if rule.dominance > DOMINANCE:
        yield Finding("dominance", f"suppression.dominance is {rule.dominance}: {DOMINANCE} at most")
    for other in others:
        if other.name != release.name and _same_rows(release, other) and not _joined(release, other):
            yield Finding(
                "partition",
                f"{other.name} is a threshold table over the same calls: the difference of two shows what each "
                "suppresses; one of them must join cells of the other (suppression.coarsens, same dimensions)",
            )
    finer = [other for other in others if other.name == rule.coarsens]
    if rule.coarsens is not None and others and not finer:
        yield Finding("coarsens", f"suppression.coarsens names {rule.coarsens!r}, which is not declared")


def _same_rows(release: Release, other: Release) -> bool:
    return other.kind == "threshold" and other.view == release.view and bool({*release.tenants} & {*other.tenants})


def _joined(release: Release, other: Release) -> bool:
    """Return whether one of the two is a coarser partition of the other."""
    coarse, fine = (release, other) if release.suppression.coarsens == other.name else (other, release)
    if coarse.suppression.coarsens != fine.name:
        return False
    cells = ("dimensions", "grain", "tenants", "view")
    same = all(getattr(coarse, name) == getattr(fine, name) for name in cells)
    return same and coarse.suppression.within == fine.suppression.within and coarse.suppression.k >= fine.suppression.k


# -- the budget --------------------------------------------------------------------------------------------------------


def monthly(release: Release) -> int:
    """Return nano-rho that all periods of a month take."""
    return release.rho * (_DAYS if release.grain == "day" else 1)


def _budget(release: Release, settings: Settings, others: Sequence[Release]) -> Iterable[Finding]:
    if not release.rho:
        return
    month = Period.parse("month", "2000-01")
    for scope in budget.scopes(release, month):
        if scope.window == budget.EVER:
            continue
        sharing = [other for other in others if other.rho and _charges(other, scope.tenant, scope.unit)]
        takes, cap = monthly(release) + sum(map(monthly, sharing)), budget.cap_of(settings, scope)
        if takes > cap:
            with_them = f" together with {', '.join(other.name for other in sharing)}" if sharing else ""
            yield Finding(
                "budget",
                f"a month of it{with_them} takes {budget.rho_text(takes)} rho of each {scope.unit} of {scope.tenant}, "
                f"and {budget.rho_text(cap)} is allowed (tenants.{scope.tenant}.release.rho_month): "
                f"at most {budget.rho_text(_fitting(release, cap, sharing))} rho fit per {release.grain}",
            )


def _charges(release: Release, tenant: str, unit: str) -> bool:
    return tenant in release.tenants and (unit == "subscriber" or release.unit == "account")


def _fitting(release: Release, cap: int, sharing: Sequence[Release]) -> int:
    return max(cap - sum(map(monthly, sharing)), 0) // (_DAYS if release.grain == "day" else 1)


# -- the grain ---------------------------------------------------------------------------------------------------------


def _grain(release: Release, volumes: Volumes) -> Iterable[Finding]:
    """Yield a finding where most cells lie under ten sigma: they show noise, and a coarser grain would show calls."""
    share, sigma = useful_share(release, volumes), release.sigmas()[0]
    if share >= USEFUL_SHARE:
        return
    sentence = (
        f"the grain is too fine: {share:.0%} of what is counted lies in cells above ten sigma ({10 * sigma:,.0f}), "
        f"and {USEFUL_SHARE:.0%} should"
    )
    better = coarser(release, volumes, USEFUL_SHARE)
    if better is None:
        yield Finding("grain", f"{sentence}; no coarser grain reaches that: it takes more budget, or more calls")
        return
    yield Finding("grain", f"{sentence}; {better.words} gives {better.share:.0%} in {better.cells:,} cells")
