"""What people read of a workspace: how it stands, and what to do next."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipelines import terminal
from pipelines.monitoring.waiting import SOON_DAYS
from pipelines.results import Part, Result, fields_of
from pipelines.status import LACKS, Status, days, share_text


@dataclass(frozen=True)
class StatusReport(Result):
    """How a workspace stands."""

    status: Status

    @property
    def exit_code(self) -> int:
        """Return 3 where a person must look, else 0."""
        return 3 if self.status.look else 0

    def to_dict(self) -> dict[str, Any]:
        return fields_of(self.status)

    def render(self) -> Iterator[Part]:
        yield from (table for table in self._tables() if table.rows)
        if self.status.calendar is None:
            yield f"what is due and held is not known here: {self.status.reason}"
        yield from (f"look: {sentence}" for sentence in self.status.look)
        if not self.status.look:
            yield "nothing to look at"

    def _tables(self) -> Iterator[terminal.Table]:
        yield from (self._runs(), self._standing(), self._waiting(), self._unknown(), self._data())
        yield from (self._purges(), self._holds(), self._published(), self._budget(), self._keys())

    def _runs(self) -> terminal.Table:
        now = self.status.at
        rows = [[r.kind, r.run_id, r.status, days(now, r.started_at), r.seconds, r.records] for r in self.status.runs]
        return terminal.table("Nights and streams", ["kind", "run", "status", "began, ago", "seconds", "records"], rows)

    def _standing(self) -> terminal.Table:
        rows = [
            [item.alarm.source, item.alarm.kind, days(self.status.at, item.since), item.alarm.must_look]
            for item in self.status.standing
        ]
        return terminal.table("Seen by the last look", ["source", "what", "since", "exit code 3"], rows)

    def _waiting(self) -> terminal.Table:
        now = self.status.at
        rows = [[w.source, w.what, w.records, days(now, w.oldest), w.expires, w.expiring] for w in self.status.waiting]
        columns = ["source", "what", "records", "oldest, age", "first go on", f"gone in {SOON_DAYS} days"]
        return terminal.table("In suspense and pending", columns, rows)

    def _unknown(self) -> terminal.Table:
        of = [unknown for unknown in self.status.unknown if unknown.attempts]
        rows = [[u.source, u.attempts, *(share_text(u, what) for what in LACKS)] for u in of]
        return terminal.table("Not known, of the attempts of the last night", ["source", "attempts", *LACKS], rows)

    def _data(self) -> terminal.Table:
        rows = [[o.tenant, o.view, o.oldest, o.newest, o.rows] for o in self.status.oldest]
        return terminal.table("Data", ["tenant", "view", "oldest", "newest", "rows"], rows)

    def _purges(self) -> terminal.Table:
        rows = [
            [line.tenant, line.class_, line.window, line.overdue, line.held, line.next_expiry, line.due_30_days]
            for line in self.status.calendar or ()
            if line.overdue or line.held or line.due_30_days
        ]
        columns = ["tenant", "class", "window", "overdue", "held", "next", "due in 30 days"]
        return terminal.table("Purges", columns, rows)

    def _holds(self) -> terminal.Table:
        lines = [line for line in self.status.calendar or () if line.open_holds]
        rows = {line.tenant: [line.tenant, line.open_holds, line.oldest_hold_days] for line in lines}
        return terminal.table("Holds", ["tenant", "open", "oldest, days"], [*rows.values()])

    def _published(self) -> terminal.Table:
        return terminal.table("Published", ["table", "times"], [[*row] for row in self.status.releases.items()])

    def _budget(self) -> terminal.Table:
        of = self.status.budget
        rows = [[b.tenant, b.unit, b.window, b.cap, b.spent, b.left] for b in of]
        return terminal.table("Privacy budget (rho)", ["tenant", "unit", "window", "cap", "spent", "left"], rows)

    def _keys(self) -> terminal.Table:
        now = self.status.at
        rows = [[k.domain, days(now, k.root_since), k.month_keys, days(now, k.oldest_key)] for k in self.status.keys]
        return terminal.table("Keys", ["domain", "root, age", "keys", "oldest key, age"], rows)
