"""Which rows a hold keeps. Where one of its selectors cannot be looked for it keeps all of its tenant and dates."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, or_, select

from callward.columns import has_value
from callward.errors import Problem
from callward.keys import tokens
from callward.keys.register import KeyName
from callward.retention.holds.order import Hold
from callward.workspace import Workspace
from schemas import retention
from schemas.views import FOUND_BY, INDEX, PARTS, TOKENS, VIEW_OF, VIEW_PARTS

OTHER: Final = "other reasons"  # why rows are kept, where the reader may not be told, or nothing could be matched

Mask = npt.NDArray[np.bool_]

_INDEXED: Final = {
    "accounts": ("account",),
    "numbers": TOKENS,
    "trunks": ("trunk_in", "trunk_out"),
}
_CALLS: Final = {
    "accounts": ("account",),
    "numbers": FOUND_BY,
    "trunks": ("ingress_trunk", "egress_trunk"),
}
# The columns that each kind of selector is looked for in: of the rows of views, those of the row index. What is not
# here is matched by tenant and dates alone. Held copies outlive index and token key, and have the numbers themselves.
_COLUMNS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    **dict.fromkeys((INDEX, *VIEW_PARTS), _INDEXED),
    **{f"held-{part}": {"accounts": ("account",), "numbers": FOUND_BY} for part in PARTS["billing"]},
    **{f"held-{part}": {"trunks": ("trunk_in", "trunk_out")} for part in PARTS["assurance"]},
    "late": _CALLS,
    "held-late": _CALLS,
}
_POOLED: Final = frozenset(f"held-{part}" for part in PARTS["assurance"])  # a customer's trunk is not to be seen there
_SELECTORS: Final = ("accounts", "numbers", "trunks")


@dataclass(frozen=True)
class MonthSecrets:
    """What a tenant's numbers become tokens by in the row index of a month; None for a key that is no more.

    Attributes:
        named: trunks that parts of assurance name; None for all. A customer's is pooled there with others of its site.
    """

    token: bytes | None = field(default=None, repr=False)
    named: frozenset[str] | None = None

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets do not pickle: open them where they are used")


def secrets(workspace: Workspace, tenant: str, month: str) -> MonthSecrets:
    """Return the secrets of a tenant's month (YYYY-MM). No key is minted for it."""
    name = KeyName(INDEX, tenant, month, "token")
    existing = workspace.keyring.existing([name])
    return MonthSecrets(
        existing[name].secret if name in existing else None, frozenset(workspace.trunks - workspace.sites.keys())
    )


def covering(holds: Iterable[Hold], tenant: str, first: date, last: date) -> list[Hold]:
    """Return the holds of a tenant's calls of these days, the last one included; of any tenant for data of several."""
    return [hold for hold in holds if hold.concerns(tenant) and hold.covers(first, last)]


def receiving(holds: Iterable[Hold], tenant: str, received_on: date) -> list[Hold]:
    """Return the holds that keep what came in on a day and has no call date (suspense, archive).

    It may speak of any call up to that day, so a hold's last day does not matter.
    """
    return [hold for hold in holds if hold.concerns(tenant) and (hold.first is None or received_on >= hold.first)]


def kept_by(found: Iterable[Hold]) -> Problem:
    """Return what says that holds keep records as they are."""
    ids = ", ".join(sorted({hold.hold_id for hold in found}))
    return Problem(f"records that would change are under hold ({ids}): nothing was changed ('callward hold list')")


def unmatched(view: str, holds: Iterable[Hold]) -> list[Hold]:
    """Return the holds that keep all of their tenant and dates in a view: a selector of theirs is not to be seen there.

    Selectors are alternatives, so one that cannot be looked for is enough.
    """
    columns = _COLUMNS.get(view)
    if columns is None:
        return list(holds)
    return [hold for hold in holds if any(getattr(hold, kind) and kind not in columns for kind in _SELECTORS)]


def columns(view: str, holds: Iterable[Hold]) -> list[str]:
    """Return the columns that `matching` reads for these holds, of the row index where rows of a view are asked for."""
    asked = list(holds)
    read = [
        name
        for kind, names in _COLUMNS.get(view, {}).items()
        if any(getattr(hold, kind) for hold in asked)
        for name in names
    ]
    return ["call_date", *read] if view.endswith("late") else read


def matching(
    view: str, rows: pa.Table, tenant: str, call_date: date | None, holds: Iterable[Hold], secrets: MonthSecrets
) -> pa.BooleanArray:
    """Return the rows of a tenant that a hold keeps (bool, shape [rows]), all of `call_date`; None: see that column.

    `rows` are those of the index, of held copies, or sealed records; a view's own columns are not searched.
    A selector that cannot be looked for (a column that is not there, a token key that was destroyed) keeps every row
    of the hold's dates.
    """
    kept: Mask = np.zeros(rows.num_rows, np.bool_)
    for hold in holds:
        if hold.concerns(tenant):
            kept |= _within(hold, rows, call_date) & _selected(view, hold, rows, secrets)
    return pa.array(kept)


def _within(hold: Hold, rows: pa.Table, call_date: date | None) -> Mask:
    if call_date is not None:
        return np.full(rows.num_rows, hold.covers(call_date, call_date))
    days = rows["call_date"]
    inside = pc.and_(
        pc.greater_equal(days, pa.scalar(hold.first or date.min, pa.date32())),
        pc.less_equal(days, pa.scalar(hold.last or date.max, pa.date32())),
    )
    return _true(inside.fill_null(True))  # a row that does not say its day may be of any


def _selected(view: str, hold: Hold, rows: pa.Table, secrets: MonthSecrets) -> Mask:
    everything: Mask = np.ones(rows.num_rows, np.bool_)
    asked = [kind for kind in _SELECTORS if getattr(hold, kind)]
    if not asked or unmatched(view, [hold]):
        return everything
    selected = ~everything
    if view in _POOLED and secrets.named is not None and not secrets.named.issuperset(hold.trunks):
        return everything
    for kind in asked:
        for name in _COLUMNS[view][kind]:
            values = _as_stored(name, getattr(hold, kind), secrets)
            if values is None or name not in rows.column_names:
                return everything
            selected |= _has(rows[name], values)
    return selected


def _as_stored(column: str, values: Sequence[str], secrets: MonthSecrets) -> pa.Array | None:
    """Return selector values as a column holds them; None when the key to their tokens is gone."""
    plain = pa.array(values, pa.string())
    if column in TOKENS:
        return None if secrets.token is None else tokens.number_token(plain, secrets.token)
    return plain


def _has(column: pa.ChunkedArray, values: pa.Array) -> Mask:
    if pa.types.is_dictionary(column.type):
        return _true(has_value(column, *values.to_pylist()))
    return _true(pc.is_in(column, values.cast(column.type)))


def _true(mask: pa.Array | pa.ChunkedArray) -> Mask:
    return np.asarray(mask.to_numpy(zero_copy_only=False) if isinstance(mask, pa.Array) else mask.to_numpy(), np.bool_)


# -- what a purge was quicker with -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RemovedRows:
    """Rows of the data files of one disposal, class, view and month, of which a hold might have matched some."""

    disposal_id: str
    class_: str
    view: str
    month: str  # "" for a partition without a date
    action: str
    state: str  # removed, or removing
    rows: int


def removed(connection: Connection, hold: Hold) -> list[RemovedRows]:
    """Return what disposals destroyed, or are destroying, of the hold's tenant and dates: it came too late for that."""
    item, disposal = retention.disposal_items, retention.disposals
    ended = or_(item.c.state == "removed", (item.c.state == "tombstoned") & (disposal.c.status == "removing"))
    query = select(item).join(disposal, disposal.c.disposal_id == item.c.disposal_id)
    rows = connection.execute(query.where(ended, item.c.action != "release"))
    sums: dict[tuple[str, str, str, str, str, str], int] = {}
    for row in rows:
        if hold.concerns(row.tenant) and _may_concern(hold, row.view, row.part):
            state = "removed" if row.state == "removed" else "removing"
            view = VIEW_OF.get(row.view, row.view)
            key = (row.disposal_id, row.retention_class, view, _month(row.part), row.action, state)
            sums[key] = sums.get(key, 0) + row.rows - row.held
    return [RemovedRows(*key, total) for key, total in sorted(sums.items()) if total]


def _may_concern(hold: Hold, view: str, part: str) -> bool:
    try:
        day = date.fromisoformat(part)
    except ValueError:
        return True  # a partition without a date
    return bool(receiving([hold], hold.tenant, day)) if view == "archive" else hold.covers(day, day)


def _month(part: str) -> str:
    try:
        return date.fromisoformat(part).isoformat()[:7]
    except ValueError:
        return ""
