"""release: one table of one period, counted over the lake, noised once, published for good.

Nights, purges and people ask for it here; what reads the lake is in release_batch.py, and is imported (with Beam) only
where something is added up.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import Connection, func, select

from callward import database, extras, runs, workspace_id
from callward.errors import Problem, UsageProblem
from callward.failpoints import point
from callward.keys import exports
from callward.keys.keys import KeyProblem, open_source
from callward.keys.register import keyring
from callward.lake import ledger, readers
from callward.lake.ledger import DataFile
from callward.redaction import mask
from callward.release import budget, declaration, lint, preview, publication
from callward.release.budget import Published, Reservation, Spent
from callward.release.declaration import Period, Release
from callward.release.preview import Volumes
from callward.retention.policy.register import in_force
from callward.retention.policy.rules import ASSURANCE
from callward.retention.purge.due_files import DELETE, PlanItem
from callward.retention.requests import restrictions
from callward.settings import Settings, nearest
from callward.storage.durable import create_folder
from schemas.release import DERIVED_COLUMNS, READ_OF, analytics_cells, releases
from schemas.retention import disposal_items
from schemas.tables import lake_files
from schemas.views import BILLING_NUMBERS, PARTS

ROLE: Final = budget.ROLE
_EXPIRING: Final = "assurance"  # the view whose class knows the action `anonymize`
_BEHIND_DAYS: Final = 35  # a night catches up so far; older periods are released by name, as each has its price
Progress = Callable[[str], None]


# -- declarations ------------------------------------------------------------------------------------------------------


def declarations(settings: Settings) -> list[Path]:
    """Return the files of the settings' folder that declare tables."""
    return [path for path in sorted(settings.releases_path.glob("*.toml")) if not path.name.startswith(".")]


def declared(settings: Settings) -> list[Release]:
    """Return every declaration of the settings' folder, by name. Raises UsageProblem for one wrong or named twice."""
    by_name: dict[str, Release] = {}
    for path in declarations(settings):
        release = declaration.load(path)
        if release.name in by_name:
            raise UsageProblem(f"{mask(path.name)}: another declaration is called {release.name!r} too")
        by_name[release.name] = release
    return [by_name[name] for name in sorted(by_name)]


def named(settings: Settings, name: str) -> Release:
    """Return the declaration of that name. Raises UsageProblem with the nearest right one."""
    known = {release.name: release for release in declared(settings)}
    if name not in known:
        where = f"no release is called {mask(name)!r}"
        if not known:
            raise UsageProblem(
                f"{where}: {settings.releases_path} holds none yet ('callward release example' shows one)"
            )
        raise UsageProblem(f"{where}{nearest(name, known)}")
    return known[name]


def findings(
    settings: Settings, release: Release, others: Sequence[Release] = (), volumes: Volumes | None = None
) -> list[lint.Finding]:
    """Return what is unsafe about a declaration, by the policies in force."""
    with database.reading(settings) as connection:
        roles = {tenant: policies.current.role for tenant, policies in in_force(settings, connection).items()}
    return lint.lint(release, settings, volumes, roles=roles, others=others)


def _check(settings: Settings, release: Release) -> None:
    if release.budget is not None:
        extras.require("opendp")  # before the price is reserved, as what was reserved stays charged
    unsafe = findings(settings, release, declared(settings), preview.expected_volumes(release))
    refused = [finding for finding in unsafe if finding.refuses]
    if refused:
        raise UsageProblem("\n".join(f"release {release.name}: {finding.sentence}" for finding in refused))


# -- one release -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Released:
    """A table of a period that is out; `files`: name → SHA-256, in `folder`. `rho` is in nano-rho."""

    release_id: str
    name: str
    tenant: str
    period: str
    correction_no: int
    kind: str
    audience: str
    status: str
    published_at: datetime
    rho: int
    folder: str
    files: Mapping[str, str]
    cells: Mapping[str, int]  # how many there are, and how many are suppressed

    @classmethod
    def of(cls, settings: Settings, out: Published) -> Self:
        """Return the report of a publication."""
        row = out.row
        return cls(
            release_id=row.release_id,
            name=row.name,
            tenant=row.tenant,
            period=str(Period(row.period_start, row.period_end)),
            correction_no=row.correction_no,
            kind=row.kind,
            audience=row.audience,
            status=row.status,
            published_at=row.published_at,
            rho=row.rho,
            folder=str(settings.released_path / row.path),
            files=out.files,
            cells=out.sheet["cells"],
        )


@dataclass(frozen=True, kw_only=True)
class ReleasePlan:
    """What a release would cost (in nano-rho, by scope what is left before it), and whether it is out already."""

    name: str
    period: str
    dry_run: bool = True
    status: str
    due: str
    cells: int
    rho: int
    left_before: Mapping[str, int]


@dataclass(frozen=True)
class DueRelease:
    """What became of a table of a period that was due: published, no budget or failed, with the reason."""

    name: str
    period: str
    status: str
    reason: str = ""


def run(
    settings: Settings,
    name: str,
    period: str,
    *,
    correct: bool = False,
    progress: Progress = lambda line: None,
) -> Released:
    """Release a table for a period ("2026-11-21" or "2026-11"); what is out already is given back as it is.

    Raises Problem or UsageProblem in one sentence; before the reservation nothing is charged, after it all of it is.
    """
    release, span = _checked(settings, name, period, correct)
    return _release(settings, release, span, correct, progress)


def plan(settings: Settings, name: str, period: str, *, correct: bool = False) -> ReleasePlan:
    """Return what a run would cost, and whether its table is out already. Raises what `run` does for its arguments."""
    release, span = _checked(settings, name, period, correct)
    with database.reading(settings) as connection:
        _check_rows(connection, release, span)
        scopes = budget.scopes(release, span)
        left = {str(scope): budget.cap_of(settings, scope) - budget.charged(connection, scope) for scope in scopes}
        out = budget.is_published(connection, release, span)
    return ReleasePlan(
        name=release.name,
        period=str(span),
        status="published" if out else "not released",
        due=span.due(release.lateness_days).isoformat(),
        cells=release.grid().size,
        rho=release.rho,
        left_before=left,
    )


def _checked(settings: Settings, name: str, period: str, correct: bool) -> tuple[Release, Period]:
    """Return what is asked for. Raises UsageProblem for what is not declared or may not run."""
    workspace_id.check(settings)
    release = named(settings, name)
    span = Period.parse(release.grain, period)
    with database.reading(settings) as connection:
        out = budget.is_published(connection, release, span)
    if correct or not out:  # what is out is given back whatever is declared beside it since
        _check(settings, release)
    return release, span


def _release(settings: Settings, release: Release, span: Period, correct: bool, progress: Progress) -> Released:
    tally: dict[str, Any] = {}
    _prove(settings, release, span)
    with (
        readers.reading(settings),
        runs.running(settings, "release", [f"release/{release.tenant}/{release.name}"]) as run_id,
    ):
        _clear_lost(settings)
        with database.writing(settings) as connection:
            _check_rows(connection, release, span)
            _check_remembered(settings, connection, release, span)
            reserved = budget.reserve(settings, connection, run_id, release, span, correct=correct)
            data = _files(connection, release, span)  # with the versions that were reserved for
        if isinstance(reserved, Published):
            _given_back(settings, release, span, reserved)
        else:
            point("release-reserved")
            reserved, tally = _published(settings, run_id, reserved, data, progress)
        if not exports.has_release(settings, reserved.release_id):
            exports.write(settings, f"release {reserved.release_id}")  # a database put back from before must know it
        # Exact figures are for those who run it, in the run's own summary, and in nothing that is published.
        runs.finish(settings, run_id, "done", {"release": reserved.release_id, "rows": tally})
    return Released.of(settings, reserved)


def _published(
    settings: Settings, run_id: str, reserved: Reservation, data: Sequence[DataFile], progress: Progress
) -> tuple[Published, dict[str, Any]]:
    progress(f"{reserved.release.name} of {reserved.period}: adding up")
    from pipelines import release_batch  # Beam: only where something is added up

    draw, tally = release_batch.summed(settings, run_id, reserved, data)
    point("release-summed")
    progress(f"{reserved.release.name} of {reserved.period}: publishing")
    with database.writing(settings) as connection:
        drawn = draw()
        document = publication.document(
            reserved, drawn.cells, drawn.sigmas, drawn.epsilon, database.now().date().isoformat()
        )
        files = publication.contents(reserved.release, drawn.cells, document)
        point("release-drawn")
        create_folder(settings.released_path / reserved.path, files)
        point("release-written")
        rows = publication.rows(reserved, drawn.cells)
        text, digests = publication.written(document), publication.digests(files)
        budget.publish(connection, run_id, reserved, digests, text, rows, drawn.partition)
    point("release-published")
    with database.reading(settings) as connection:
        row = connection.execute(select(releases).where(releases.c.release_id == reserved.release_id)).one()
    return Published(row), tally


def _given_back(settings: Settings, release: Release, span: Period, out: Published) -> None:
    """Raise Problem where its files were changed; its cells are put back where a restored database lacks them."""
    files = publication.read(settings.released_path / out.row.path, out.files)
    here = select(func.count()).where(analytics_cells.c.release_id == out.release_id)
    with database.writing(settings) as connection:
        if connection.execute(here).scalar():
            return
        row = out.row
        reservation = Reservation(row.release_id, release, span, row.correction_no, row.snapshot, row.path)
        budget.store_cells(
            connection, publication.rows(reservation, publication.of_file(release, files["cells.parquet"]))
        )


def _clear_lost(settings: Settings) -> None:
    """Mark reservations of dead runs as lost; what they may have written of a draw is removed."""
    with database.writing(settings) as connection:
        budget.lose(connection)
        paths = budget.lost_paths(connection)
    for path in paths:
        folder = settings.released_path / path
        for left in (folder, folder.with_name(f"{folder.name}.tmp")):
            shutil.rmtree(left, ignore_errors=True)


# -- the rows ----------------------------------------------------------------------------------------------------------


def _begun_to_go(connection: Connection, release: Release, span: Period) -> bool:
    """Return whether rows of the period went by their window already."""
    p = disposal_items.c
    begun = select(func.count()).where(
        p.view.in_(PARTS[release.view]),
        p.tenant.in_(release.tenants),
        p.part.in_(span.parts),
        p.action == DELETE,
        p.state.not_in(("planned", "kept")),
    )
    return bool(connection.execute(begun).scalar())


def _check_rows(connection: Connection, release: Release, span: Period) -> None:
    """Raise UsageProblem where rows of the period went by their window: a table of the rest would be a wrong one."""
    f = lake_files.c
    without = select(func.count()).where(
        f.view == READ_OF[release.view],
        f.tenant.in_(release.tenants),
        f.part.in_(span.parts),
        f.superseded_at.is_(None),
        f.numbers.is_(False),
    )
    if _begun_to_go(connection, release, span):
        raise UsageProblem(f"rows of {span} are past their window and gone: {release.name} cannot be released for it")
    if needs_numbers(release) and connection.execute(without).scalar():
        raise UsageProblem(
            f"the numbers of {span} are past their window: {release.name} needs them to tell "
            f"{'lines' if release.unit == 'subscriber' else 'areas'} apart"
        )


def _roots(release: Release) -> tuple[str, ...]:
    """Return the roots of what is read for a release: those of numbers only where an area or a line is of one."""
    from transforms.aggregate import needed  # with Beam, as what comes after

    read = READ_OF[release.view]
    return (read,) if set(BILLING_NUMBERS).isdisjoint(needed(release)) else (read, f"{read}-numbers")


def _prove(settings: Settings, release: Release, span: Period) -> None:
    """Raise Problem for what a release would fail over, before anything is paid.

    That is a root or the signing key that is not there, or rows that were not looked at yet.
    """
    exports.check(settings)
    ours = "the release service is what its key roots open"
    for domain in (*_roots(release), "release", "transit"):
        try:
            open_source(settings.root_uri(domain)).close()
        except KeyProblem as problem:
            raise Problem(f"{problem} ({ours})") from None
    unseen = restrictions.hidden(settings, keyring(settings, ROLE, "release"), READ_OF[release.view])
    with database.reading(settings) as connection:
        data = _files(connection, release, span)
    if any(file.tenant in unseen and file.file_id in unseen[file.tenant].files for file in data):
        raise Problem("a night has not looked yet which rows are restricted: run callward nightly first")


def _files(connection: Connection, release: Release, span: Period) -> list[DataFile]:
    """Return the data files of the period that count."""
    of_tenants = (
        ledger.files(connection, view=READ_OF[release.view], tenant=t, parts=span.parts) for t in release.tenants
    )
    return [file for files in of_tenants for file in files]


def _check_remembered(settings: Settings, connection: Connection, release: Release, span: Period) -> None:
    """Raise Problem where files are out that the register does not know: an older database would draw them anew."""
    folder = settings.released_path / release.tenant / release.name / str(span)
    there = {path.name for path in folder.glob("*") if path.suffix != ".tmp"} if folder.is_dir() else set()
    known = connection.execute(select(releases.c.release_id).where(releases.c.release_id.in_(there))).scalars()
    if there - set(known):
        raise Problem(
            f"{release.name} of {span} lies in {folder}, and the register does not know it: the database is older; "
            "restore a newer one, for another draw of a table that is out reveals more than was paid for"
        )


def needs_numbers(release: Release) -> bool:
    """Return whether the billing view's number columns are read: for the subscriber's token, or for an area."""
    derived = DERIVED_COLUMNS[release.view]
    return release.view == "billing" and (
        release.unit == "subscriber" or release.kind == "threshold" or any(c in derived for c in release.columns)
    )


# -- what a night does -------------------------------------------------------------------------------------------------


def due(settings: Settings, progress: Progress = lambda line: None, today: date | None = None) -> list[DueRelease]:
    """Release what is due and not out yet, and return what was done with each; a failure does not end the night."""
    try:
        everyone = declared(settings)
    except Problem as problem:
        return [DueRelease("", "", "failed", str(problem))]
    day = today or database.now().date()
    return [
        _attempt(settings, release, span, progress)
        for release in everyone
        for span in _periods_due(settings, release, day)
    ]


def _attempt(settings: Settings, release: Release, span: Period, progress: Progress) -> DueRelease:
    try:
        _check(settings, release)
        _release(settings, release, span, False, progress)
    except Problem as problem:
        status = "no budget" if isinstance(problem, Spent) else "failed"
        return DueRelease(release.name, str(span), status, "; ".join(str(problem).splitlines()))
    return DueRelease(release.name, str(span), "published")


def _periods_due(settings: Settings, release: Release, today: date) -> list[Period]:
    """Return periods with rows, over, past their lateness and not long so, that are not out."""
    last = today - timedelta(days=1 + release.lateness_days)
    days = [last - timedelta(days=n) for n in range(_BEHIND_DAYS)]
    spans = sorted({Period.holding(release.grain, day) for day in days}, key=lambda span: span.start)
    with database.reading(settings) as connection:
        return [
            span
            for span in spans
            if span.due(release.lateness_days) <= today
            and not budget.is_published(connection, release, span)
            and _files(connection, release, span)
        ]


# -- at expiry ---------------------------------------------------------------------------------------------------------


def before_expiry(settings: Settings, items: Iterable[PlanItem], progress: Progress = lambda line: None) -> list[str]:
    """Release what is declared over rows that a purge is about to delete, where the policy says `anonymize`.

    A purge waits for no release: what cannot be released is gone all the same, with a sentence each.
    """
    going = _anonymized(settings, items)
    if not going:
        return []
    sentences = []
    try:
        everyone = declared(settings)
    except Problem as problem:
        return [f"no table was released before its rows went: {problem}"]
    for release in everyone:
        days = {day for tenant, day in going if tenant in release.tenants} if release.view == _EXPIRING else set()
        for span in sorted({Period.holding(release.grain, day) for day in days}, key=lambda span: span.start):
            sentences += _released_last(settings, release, span, progress)
    return sentences


def _anonymized(settings: Settings, items: Iterable[PlanItem]) -> set[tuple[str, date]]:
    """Return tenants and dates whose rows go under the action `anonymize`."""
    expiring = [item.file for item in items if item.action == DELETE and item.file.view in PARTS[_EXPIRING]]
    if not expiring:
        return set()
    with database.reading(settings) as connection:
        policies = in_force(settings, connection)
    rules = {tenant: every.current.rules.get(ASSURANCE) for tenant, every in policies.items()}
    tenants = {tenant for tenant, rule in rules.items() if rule is not None and rule.at_expiry == "anonymize"}
    return {(file.tenant, date.fromisoformat(file.part)) for file in expiring if file.tenant in tenants}


def _released_last(settings: Settings, release: Release, span: Period, progress: Progress) -> list[str]:
    with database.reading(settings) as connection:
        if budget.is_published(connection, release, span) or _begun_to_go(connection, release, span):
            return []
    attempt = _attempt(settings, release, span, progress)
    if attempt.status == "published":
        return []
    return [f"rows of {span} went without {release.name}, which could not be released: {attempt.reason}"]
