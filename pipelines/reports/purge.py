"""What a purge says to a person."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from callward.disposal.record import Status
from callward.retention import holds
from pipelines import terminal


def told(done: Mapping[str, Any]) -> Iterator[Any]:
    """A purge, or what one would do, for a person."""
    would = "would be " if done["dry_run"] or done["status"] == Status.PLANNED else ""
    columns = ("class", "due", "held", f"{would}deleted", "files", f"keys {would}destroyed")
    names = ("class", "due", "held", "deleted", "files", "keys_destroyed")
    if done["classes"]:
        rows = [[row[name] for name in names] for row in done["classes"]]
        yield terminal.table(f"As of {done['as_of']}", columns, rows)
    else:
        yield f"as of {done['as_of']}: nothing is past its window"
    for row in done["held"]:
        why = f"hold {row['hold']}" if row["hold"] else holds.OTHER
        yield f"kept for {why}: {row['rows']:,} of {row['tenant']}, {row['class']}"
    if "effect" in done:
        yield _effect(done["effect"])
    yield from (f"warning: {sentence}" for sentence in done["warnings"])
    yield from _ending(done)


def _effect(rows: Sequence[Mapping[str, Any]]) -> terminal.Table:
    names = ("tenant", "class", "goes", "newly_goes", "stays")
    columns = ("tenant", "class", "would go", "of it newly", "would now stay")
    return terminal.table("Under that policy", columns, [[row[name] for name in names] for row in rows])


def _ending(done: Mapping[str, Any]) -> Iterator[str]:
    """How it ended, and what is to be done now."""
    if done["dry_run"]:
        yield "nothing was changed"
        yield from (f"it would wait for a person: {reason}" for reason in done["safety_check"])
    elif done["status"] == Status.PLANNED:
        yield from (f"it waits for a person: {reason}" for reason in done["safety_check"])
        yield f"nothing was changed; to run it: callward purge --approve {done['plan_id']} --person NAME --key FILE"
    elif done["certificate"]:
        yield f"purge {done['purge_id']} {done['status']}; certificate {done['certificate']}"
    yield from (f"a check failed: {sentence}" for sentence in done["failed_checks"])
    if done["overdue"]:
        yield f"{done['overdue']:,} rows are past their window and still there: run it again"
