"""accounts: directories of who pays: import a file, see what is in one, what looks wrong, and how it came to be."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc
from sqlalchemy import select

from callward import database, runs
from callward.access import second_person
from callward.access.second_person import Consent
from callward.accounts import changes, lint, reading, register, sealed
from callward.accounts.changes import AccountDifference, Difference
from callward.accounts.entries import FOREVER, KINDS, Entries, Holdings, as_date, joined, shortened
from callward.accounts.lint import Finding
from callward.accounts.reading import Rows
from callward.errors import UsageProblem
from callward.failpoints import point
from callward.keys.register import Keyring, keyring
from callward.numbering import Plan, plan
from callward.redaction import mask
from callward.settings import Settings, nearest
from pipelines import terminal
from pipelines.results import Part, Result
from schemas.tables import billing_usage_daily

_FEW: Final = 20  # accounts and findings that are shown one by one


# -- importing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Imported:
    """What an import makes, or would make, of one tenant's directory."""

    tenant: str
    version: int
    same: bool
    accounts: int
    entries: Sequence[Difference]
    of_accounts: Sequence[AccountDifference]
    findings: Sequence[Finding]


@dataclass(frozen=True)
class ImportReport(Result):
    """What an import changed; exit code 3 where who pays is perhaps not what was meant."""

    tenants: Sequence[Imported]
    dry_run: bool

    @property
    def exit_code(self) -> int:
        return 3 if any(finding.finding in lint.WRONG for one in self.tenants for finding in one.findings) else 0

    def render(self) -> Iterator[Part]:
        for one in self.tenants:
            becomes = "stays" if one.same else "would be" if self.dry_run else "is"
            yield f"the directory of tenant {one.tenant} {becomes} version {one.version}, of {one.accounts} accounts"
            columns = ("entries", "before", "after", "added", "removed", "changed")
            rows = [[d.kind, d.before, d.after, d.added, d.removed, d.changed] for d in one.entries]
            yield terminal.table("", columns, rows)
            yield from _of_accounts(one.of_accounts)
            yield from render_findings(one.findings)


def _of_accounts(differences: Sequence[AccountDifference]) -> Iterator[Part]:
    if differences:
        rows = [[d.account, d.gets, d.loses] for d in differences[:_FEW]]
        yield terminal.table("Accounts with most changes", ("account", "gets", "loses"), rows)
        if len(differences) > _FEW:
            yield f"... and {len(differences) - _FEW} more accounts"


def render_findings(findings: Sequence[Finding]) -> Iterator[Part]:
    """Yield findings as a table, the first of them one by one."""
    if findings:
        columns = ("finding", "kind", "account", "other", "entries", "since", "lines")
        rows = [
            [f.finding, f.kind, f.account, f.other, f.entries, f.since or "", ", ".join(map(str, f.lines))]
            for f in findings[: 2 * _FEW]
        ]
        yield terminal.table("Findings", columns, rows)
        if len(findings) > 2 * _FEW:
            yield f"... and {len(findings) - 2 * _FEW} more findings"


def import_file(
    settings: Settings,
    path: Path,
    tenant: str = "default",
    *,
    country: str = "US",
    start: date | None = None,
    add: bool = False,
    dry_run: bool = False,
    consent: Consent | None = None,
) -> ImportReport:
    """Import a file of accounts: for each tenant that it names a new version of the directory, all in one commit.

    `country` is whose numbering plan numbers are written in that are not E.164; `start` and `add` are as in
    callward.accounts.changes. Raises UsageProblem for a file that cannot be, naming lines: nothing is imported.
    """
    day = None if start is None else shortened(start)[0]
    rows = reading.read(path, _plan(country), _known(settings, tenant), list(settings.tenants), day)
    keys, reason = keyring(settings, register.ROLE, "accounts import"), f"import of {mask(path.name)}"
    tenants = rows.table["tenant"].unique().to_pylist()
    with runs.running(settings, "accounts", [f"accounts/{name}" for name in tenants]) as run_id:
        done = [_prepared(settings, keys, rows.of_tenant(name), name, day, add) for name in tenants]
        if not dry_run:
            _require_second_person(settings, path, [one for one, _ in done], consent, start=start, add=add)
            _commit(settings, keys, run_id, [(one, holdings) for one, holdings in done if not one.same], reason)
            for name in tenants:
                register.remove_old(settings, name)
        runs.finish(settings, run_id, "done")
    return ImportReport([one for one, _ in done], dry_run)


def _require_second_person(
    settings: Settings, path: Path, imported: Sequence[Imported], consent: Consent | None, **how: Any
) -> None:
    size = sum(of.added + of.removed + of.changed for one in imported for of in one.entries)
    plan = {"versions": {one.tenant: one.version for one in imported}, **how}
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    second_person.require(settings, size, consent, what="accounts import", content=content, **plan)


def _commit(
    settings: Settings, keys: Keyring, run_id: str, new: Sequence[tuple[Imported, Holdings]], reason: str
) -> None:
    """Make new versions count, all at once."""
    rows = [register.write(settings, keys, run_id, one.tenant, one.version, holdings) for one, holdings in new]
    with database.writing(settings) as connection:
        for row, (one, _) in zip(rows, new, strict=True):
            register.commit(connection, row, one.entries, reason)
        point("directory-ready")
    point("directory-committed")


def _plan(country: str) -> Plan:
    try:
        return plan(country.upper())
    except ValueError as error:
        raise UsageProblem(f"--country: {error}") from None


def _known(settings: Settings, tenant: str) -> str:
    if tenant not in settings.tenants:
        raise UsageProblem(f"no tenant is called {tenant!r}{nearest(tenant, settings.tenants)}")
    return tenant


def _prepared(
    settings: Settings, keys: Keyring, rows: Rows, tenant: str, start: int | None, add: bool
) -> tuple[Imported, Holdings]:
    """Return what becomes of a tenant's directory, and what is to be reported of it."""
    version, old = _stored(settings, keys, tenant)
    new = changes.holdings_of(rows, sealed.secret(keys, tenant))
    after = changes.changed(old, new, add=add, start=start, zones=rows.has_zones)
    whole = joined(after, _of_settings(settings, tenant))
    lint.refuse_shared_codes(whole)
    _refuse_other_zones(settings, tenant, joined(old, _of_settings(settings, tenant)), whole)
    lines = None if add or start is not None else changes.lines_of(rows)
    findings = lint.lint(joined(new, _of_settings(settings, tenant)) if lines else whole, _trunks(settings), lines)
    entries, of_accounts = changes.differences(old, after)
    same = version > 0 and changes.same_accounts(old, after)
    same &= not any(of.added or of.removed or of.changed for of in entries)
    number = version if same else version + 1
    return Imported(tenant, number, same, len(after.ids), entries, of_accounts, findings), after


def _refuse_other_zones(settings: Settings, tenant: str, old: Holdings, new: Holdings) -> None:
    """Raise UsageProblem where an account with usage gets another billing zone: usage is summed by its days."""
    usual, (before, after) = settings.tenants[tenant].zone, old.beside(new)
    was, now = (zones.fill_null(usual) for zones in (before.zones, after.zones))
    changed = before.ids.filter(pc.not_equal(was, now)).to_pylist()
    usage = billing_usage_daily.c
    with database.reading(settings) as connection:
        for batch in database.batches(changed):
            used = select(usage.account).where(usage.tenant == tenant, usage.account.in_(batch)).limit(1)
            account = connection.execute(used).scalar()
            if account is not None:
                raise UsageProblem(
                    f"account {account!r} would have another billing zone, and its usage is summed by the days of the "
                    "one it has: let its lines stay, with that zone"
                )


def _stored(settings: Settings, keys: Keyring, tenant: str) -> tuple[int, Holdings]:
    """Return a tenant's directory as it is stored, and its version; 0 where there is none."""
    with database.reading(settings) as connection:
        row = register.current(connection, tenant)
    return (0, Holdings.empty()) if row is None else (row.version, register.opened(settings, keys, row)[0])


def _of_settings(settings: Settings, tenant: str) -> Holdings:
    return Holdings.of_settings([account for account in settings.accounts if account.tenant == tenant])


def _trunks(settings: Settings) -> list[str]:
    return [trunk.name for trunk in settings.trunks]


# -- looking -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LintReport(Result):
    """What looks wrong in directories; exit code 3 where anything does."""

    tenants: Mapping[str, Sequence[Finding]]

    @property
    def exit_code(self) -> int:
        return 3 if any(self.tenants.values()) else 0

    def render(self) -> Iterator[Part]:
        for tenant, findings in self.tenants.items():
            yield f"tenant {tenant}: {len(findings) or 'no'} finding{'s' * (len(findings) != 1)}"
            yield from render_findings(findings)


def lint_directories(settings: Settings, tenant: str | None = None) -> LintReport:
    """Return what looks wrong in the directory of a tenant, or of each: imported accounts and those of the settings."""
    keys, found = keyring(settings, register.ROLE, "accounts lint"), {}
    for name in [_known(settings, tenant)] if tenant else settings.tenants:
        whole = joined(_stored(settings, keys, name)[1], _of_settings(settings, name))
        lint.refuse_shared_codes(whole)
        found[name] = lint.lint(whole, _trunks(settings))
    return LintReport(found)


@dataclass(frozen=True)
class ListedAccount:
    """An account, and what leads to it: single numbers, numbers in ranges, names; the first and last day (ISO) of all,
    None where there is none."""

    tenant: str
    account: str
    zone: str
    numbers: int
    in_ranges: int
    codes: int
    trunks: int
    contexts: int
    since: str | None
    until: str | None


def listed(settings: Settings, tenant: str | None, account: str | None, limit: int) -> list[ListedAccount]:
    """Return accounts of a tenant, or of each, in the order of their ids: one of them, or so many at most."""
    keys, found = keyring(settings, register.ROLE, "accounts list"), list[ListedAccount]()
    for name in [_known(settings, tenant)] if tenant else settings.tenants:
        whole = joined(_stored(settings, keys, name)[1], _of_settings(settings, name))
        found += _listed(whole, name, account, limit - len(found))
    return found


def _listed(whole: Holdings, tenant: str, account: str | None, limit: int) -> Iterator[ListedAccount]:
    if account is None:
        chosen = np.argsort(np.asarray(whole.ids.to_numpy(zero_copy_only=False), object))[:limit].tolist()
    else:
        at = whole.ids.index(account).as_py()
        chosen = [at] if at >= 0 else []
    owned = {kind: whole.of_kind(kind) for kind in KINDS}
    for at in chosen:
        yield _account(whole, tenant, at, {kind: entries.take(entries.owner == at) for kind, entries in owned.items()})


def _account(whole: Holdings, tenant: str, at: int, owned: dict[str, Entries]) -> ListedAccount:
    ranges, every = owned["range"], [entries for entries in owned.values() if len(entries)]
    since = min((int(entries.since.min()) for entries in every), default=0)
    until = max((int(entries.until.max()) for entries in every), default=FOREVER)
    return ListedAccount(
        tenant=tenant,
        account=whole.ids[at].as_py(),
        zone=whole.zones[at].as_py() or "",
        numbers=len(owned["number"]),
        in_ranges=int((ranges.second - ranges.first + np.uint64(1)).sum()),
        codes=len(owned["code"]),
        trunks=len(owned["trunk"]),
        contexts=len(owned["context"]),
        since=_day(since),
        until=_day(until),
    )


def _day(day: int) -> str | None:
    known = as_date(day)
    return known.isoformat() if known else None


@dataclass(frozen=True)
class Version:
    """A version of a tenant's directory: who imported it when, what it holds, and what it changed."""

    tenant: str
    version: int
    imported_at: datetime
    imported_by: str
    accounts: int
    numbers: int
    ranges: int
    codes: int
    trunks: int
    contexts: int
    added: int
    removed: int
    changed: int


def history(settings: Settings, tenant: str | None) -> list[Version]:
    """Return versions of a tenant's directory, or of all, the last first; no key is opened."""
    tenants = [_known(settings, tenant)] if tenant else list(settings.tenants)
    with database.reading(settings) as connection:
        rows = register.every(connection, tenants)
    names = Version.__dataclass_fields__
    return [Version(**{name: getattr(row, name) for name in names}) for row in rows]


@dataclass(frozen=True)
class Held:
    """Entries of an account that began and end on the same days; `name` of a trunk or a context, masked."""

    tenant: str
    kind: str
    name: str
    entries: int
    since: str | None
    until: str | None


def history_of(settings: Settings, account: str, tenant: str | None) -> list[Held]:
    """Return what an account had when: entries by kind and days, the earliest first."""
    keys, found = keyring(settings, register.ROLE, "accounts history"), list[Held]()
    for name in [_known(settings, tenant)] if tenant else settings.tenants:
        whole = joined(_stored(settings, keys, name)[1], _of_settings(settings, name))
        at = whole.ids.index(account).as_py()
        found += _held(whole, name, at) if at >= 0 else ()
    return found


def _held(whole: Holdings, tenant: str, at: int) -> Iterator[Held]:
    for kind in KINDS:
        entries = whole.of_kind(kind)
        entries = entries.take(entries.owner == at)
        names = dict(whole.named(kind)) if kind in ("trunk", "context") else {}
        named = np.array([names.get(int(first), "") for first in entries.first], object)
        rows: Any = zip(named.tolist(), entries.since.tolist(), entries.until.tolist(), strict=True)
        counts: dict[tuple[int, int, str], int] = {}
        for name, since, until in rows:
            counts[since, until, name] = counts.get((since, until, name), 0) + 1
        for (since, until, name), count in sorted(counts.items()):
            yield Held(tenant, kind, mask(name), count, _day(since), _day(until))
