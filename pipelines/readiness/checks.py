"""Readiness: what must be there before records are taken in, checked by building what the settings name.

One list, CHECKS. doctor prints what each of them finds, and a night or a stream ends with it before it begins.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from callward import database, extras, sources, workspace_id
from callward.errors import Problem, UsageProblem
from callward.lake import manifest
from callward.settings import EMBEDDED, Release, Settings, Source
from callward.storage.store import NO_VERSIONS, VERSIONS, Store
from callward.workspace import Workspace, WorkspaceRef
from pipelines.readiness import engine as engines
from pipelines.readiness import roots
from pipelines.readiness.finding import MISSING, NOTE, OK, WARNING, WRONG, Finding, folder_finding, guarded


@dataclass(frozen=True)
class Intake:
    """What is to be taken in: sources of the settings, by night or as a stream."""

    settings: Settings
    sources: Sequence[Source]
    streaming: bool = False

    @property
    def on_flink(self) -> bool:
        return self.streaming or self.settings.engine.runner != EMBEDDED


Check = Callable[[Intake], Iterator[Finding]]


def require(settings: Settings, sources: Sequence[Source], *, streaming: bool = False) -> None:
    """Raise Problem, UsageProblem for what stands wrong in the settings, with the first thing that is not ready."""
    intake = Intake(settings, sources, streaming)
    if settings.database_file is None:
        extras.require("pg8000")  # what is not installed is no fault of the settings
    for check, problem in CHECKS:
        if check is engine and not intake.on_flink:
            continue  # nothing of it can be wrong, and to ask Java takes long
        if check is landing and not streaming:
            continue  # a night takes in what there is of the others, and says so of them (monitoring/feeds.py)
        for finding in guarded(check, intake):
            if finding.bad:
                raise problem(f"{finding.what}: {finding.seen}", hint=finding.fix or "callward doctor looks at all")


# -- what the settings say ---------------------------------------------------------------------------------------------


def windows(intake: Intake) -> Iterator[Finding]:
    """Check that each tenant has its windows: silence is none."""
    lacking = intake.settings.missing_windows()
    for name in intake.settings.tenants:
        missing = [item.split(": ")[1] for item in lacking if item.startswith(f"{name}: ")]
        if missing:
            seen = f"no retention window is given for {', '.join(missing)}"
            fix = (
                f'write each under [tenants.{name}.retention], such as {missing[0]} = "18 months"; there is no default'
            )
            yield Finding(f"windows of {name}", MISSING, seen, fix)
        else:
            yield Finding(f"windows of {name}", OK, "given for every class")


def declarations(intake: Intake) -> Iterator[Finding]:
    """Check that each source's format and numbering plan can be built."""
    if not intake.settings.sources:
        fix = "write a [[sources]] table; 'callward nightly --explain' lists the formats"
        yield Finding("sources", MISSING, "there is no [[sources]] yet", fix)
    workspace = Workspace(WorkspaceRef.of(intake.settings, "ops", "doctor"), intake.settings)
    for source in intake.sources:
        yield _declared(workspace, source)


def _declared(workspace: Workspace, source: Source) -> Finding:
    what = f"source {source.name}"
    try:
        workspace.declaration(source)
    except UsageProblem as problem:
        return Finding(what, WRONG, str(problem), "fix 'format' or 'declare' of that source")
    try:
        workspace.zone(source)
    except UsageProblem as problem:
        return Finding(what, WRONG, str(problem).removeprefix(f"{what}: "), "docs/sources.md, zones and identity")
    try:
        workspace.plan(source)
    except UsageProblem as problem:
        fix = "fix country, international_prefix, national_prefix or extension_digits of that source"
        return Finding(what, WRONG, str(problem), fix)
    return Finding(what, OK, f"declared as {source.format}")


def beam_options(intake: Intake) -> Iterator[Finding]:
    """Check engine.options; Beam is loaded only where there are any."""
    if intake.settings.engine.options:
        from pipelines.engine import options

        fault = options.fault(intake.settings.engine.options)
        fix = "fix engine.options, or take it out: docs/engine.md"
        yield Finding("engine options", WRONG if fault else OK, fault or "Beam takes them", fix if fault else "")


# -- folders -----------------------------------------------------------------------------------------------------------


def landing(intake: Intake) -> Iterator[Finding]:
    """Check that each source's folder can be read, and emptied after the commit."""
    for source in intake.sources:
        yield landing_of(intake.settings, source)


def landing_of(settings: Settings, source: Source) -> Finding:
    """Return how the landing folder of a source is."""
    fix = f"callward init --upgrade {settings.folder}, or fix landing.folder"
    what, folder = f"landing {source.name}", settings.landing_path / source.name
    finding = folder_finding(what, folder, fix, "cannot be read and emptied")
    if not finding.bad and folder.is_symlink():
        seen = f"{folder} is a symbolic link, which is not followed: nothing in it is taken"
        return Finding(what, WRONG, seen, "mount the folder there (mount --bind), or set landing.folder")
    return finding


def lake(intake: Intake) -> Iterator[Finding]:
    """Check that the lake can be written; an object store is tried with an empty object that is removed again."""
    settings = intake.settings
    if settings.lake.is_local:
        fix = f"mount it, or fix lake.uri; for a workspace that is new: callward init --upgrade {settings.folder}"
        yield folder_finding("lake", settings.lake_path, fix, "cannot be written")
        return
    try:
        store = Store.of(settings)
        kept = store.versions()
    except Problem as problem:
        fix = "docs/storage.md, object store, lists what the bucket and its credentials must be like"
        yield Finding("lake", WRONG, str(problem), fix)
        return
    yield Finding("lake", OK, f"{store.describe()}, writable")
    if kept == VERSIONS:
        seen = "the bucket keeps versions of removed objects: until their keys die, nothing that is purged is gone"
        yield Finding("lake versions", WARNING, seen, "use a bucket without versioning, and without object lock")
    else:
        yield Finding("lake versions", OK if kept == NO_VERSIONS else NOTE, str(kept))


def releases(intake: Intake) -> Iterator[Finding]:
    """Check the folders of releases. They may be missing, unless the settings name others than the usual ones."""
    usual, given, settings = Release(), intake.settings.release, intake.settings
    if os.path.lexists(settings.releases_path) or given.folder != usual.folder:
        fix = "make it, or fix release.folder"
        yield folder_finding("folder of releases", settings.releases_path, fix, "cannot be read", writes=False)
    if os.path.lexists(settings.released_path):
        fix = "take it away, or fix release.output"
        yield folder_finding("folder of released tables", settings.released_path, fix, "cannot be written")


# -- services ----------------------------------------------------------------------------------------------------------


def registers(intake: Intake) -> Iterator[Finding]:
    """Check that the database is there, answers, and has this version's tables."""
    try:
        database.check_version(intake.settings)
    except Problem as problem:
        state = MISSING if isinstance(problem, database.DatabaseMissing) else WRONG
        yield Finding("database", state, str(problem), problem.hint or "")
        return
    yield Finding("database", OK, f"{database.describe(intake.settings)}, at this version")


def workspace(intake: Intake) -> Iterator[Finding]:
    """Check that settings, database, lake and exports are of one workspace."""
    settings = intake.settings
    try:
        found = workspace_id.check(settings)
    except workspace_id.WorkspaceProblem as problem:
        yield Finding("workspace", WRONG, str(problem), problem.hint or "")
        return
    except Problem:
        return  # the check of the database, or of the lake, says why
    if settings.workspace_id is None:
        fix = f'write workspace_id = "{found}" at its top, so that no other database is taken for this one'
        yield Finding("workspace", NOTE, f"{settings.path.name} does not name it", fix)
    else:
        yield Finding("workspace", OK, f"{found}, in settings, database, lake and exports")


def data_files(intake: Intake) -> Iterator[Finding]:
    """Check that the manifest names all that rows are counted in: else records would be taken in twice."""
    try:
        with database.reading(intake.settings) as connection:
            unnamed = manifest.unnamed(connection)
    except Problem:
        return  # the check of the database says why
    for file in unnamed:
        yield Finding("manifest", WRONG, str(file), "restore the database from a backup (docs/keys.md)")


def identities(intake: Intake) -> Iterator[Finding]:
    """Check that each source names and dates its records as it did when those in the lake were read."""
    workspace = Workspace(WorkspaceRef.of(intake.settings, "ops", "doctor"), intake.settings)
    try:
        declared = {source.name: workspace.generations(source) for source in intake.sources}
        with database.reading(intake.settings) as connection:
            found = list(sources.problems(connection, [source.name for source in intake.settings.sources], declared))
    except Problem:
        return  # the check of the declarations, or of the database, says why
    for problem in found:
        yield Finding(f"source {problem.name}", WRONG, problem.seen, problem.fix)


def key_roots(intake: Intake) -> Iterator[Finding]:
    """Check the roots of what a night writes."""
    yield from roots.opened(intake.settings, roots.TAKING_IN)


def engine(intake: Intake) -> Iterator[Finding]:
    """Check what Flink needs, and say where it is not there but not needed."""
    yield from engines.engine(intake.settings, needed=intake.on_flink)


# In the order in which a night meets them, each with what it raises there.
CHECKS: Final[Sequence[tuple[Check, type[Problem]]]] = (
    (windows, UsageProblem),
    (declarations, UsageProblem),
    (beam_options, UsageProblem),
    (registers, Problem),
    (workspace, Problem),
    (data_files, Problem),
    (identities, UsageProblem),
    (key_roots, Problem),
    (landing, Problem),
    (lake, Problem),
    (releases, Problem),
    (engine, Problem),
)
