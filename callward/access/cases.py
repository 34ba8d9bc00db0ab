"""The case register: whom a person of support may look at, why, and since when.

A case is of one account of a tenant, for one purpose. It is opened by compliance (who runs the service's commands), and
opens nothing itself: the role's root does. While it is open, a question that names it sees its account and no other.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, insert, select, update

from callward import audit, database
from callward.accounts import register
from callward.errors import Problem, UsageProblem
from callward.identity import who
from callward.redaction import recorded
from callward.settings import Settings, nearest
from schemas.tables import cases

ROLE: Final = "compliance"
_LONGEST: Final = {"case_id": 64, "account": 64, "purpose": 64, "reason": 255}


@dataclass(frozen=True)
class Case:
    """A case as the register has it. Times are UTC; `closed_at` is None while it is open."""

    case_id: str
    tenant: str
    account: str
    purpose: str
    reason: str
    opened_by: str = ""
    opened_at: datetime | None = None
    closed_at: datetime | None = None


def open_case(settings: Settings, case: Case, *, unlisted: bool = False, dry_run: bool = False) -> Case:
    """Open a case and return it as it is registered. `unlisted`: its account need not be in the settings (any more).

    Raises UsageProblem for words that look like a number, a tenant or account that the settings do not list, and for
    an id that was used before.
    """
    case = _checked(settings, case, unlisted)
    with database.writing(settings) as connection:
        if _find(connection, case.case_id) is not None:
            raise UsageProblem(f"there is a case {case.case_id} already: an id is used once")
        opened = replace(case, opened_by=who(), opened_at=database.now().replace(microsecond=0))
        if not dry_run:
            connection.execute(insert(cases), asdict(opened))
            _record(connection, "case-open", opened, f"{opened.purpose}: {opened.reason}")
    return opened


def close(settings: Settings, case_id: str, *, dry_run: bool = False) -> Case:
    """Close a case, so that no question sees anything by it any more. Raises UsageProblem for one that is not open."""
    with database.writing(settings) as connection:
        case = _find(connection, recorded("CASE", case_id))
        if case is None or case.closed_at is not None:
            raise UsageProblem(f"no case {recorded('CASE', case_id)} is open")
        closed = replace(case, closed_at=database.now().replace(microsecond=0))
        if not dry_run:
            connection.execute(update(cases).where(cases.c.case_id == case.case_id).values(closed_at=closed.closed_at))
            _record(connection, "case-close", closed, "closed")
    return closed


def listed(settings: Settings, *, closed: bool = False) -> Sequence[Case]:
    """Return the cases that are open, or all of them, the oldest first."""
    query = select(cases).order_by(cases.c.opened_at, cases.c.case_id)
    with database.reading(settings) as connection:
        rows = connection.execute(query if closed else query.where(cases.c.closed_at.is_(None))).all()
    return [Case(**row._mapping) for row in rows]


def in_force(settings: Settings, case_id: str, purpose: str) -> Case:
    """Return the open case of an id and a purpose. Raises Problem where there is none."""
    with database.reading(settings) as connection:
        case = _find(connection, case_id, only_open=True)
    if case is None:
        raise Problem(
            f"no case {case_id} is open", hint="compliance opens one: callward case open ID --account A --purpose P"
        )
    if case.purpose != purpose:
        raise Problem(f"case {case_id} is open for another purpose than {purpose}")
    return case


def _checked(settings: Settings, case: Case, unlisted: bool) -> Case:
    words = {name: recorded(f"--{name}", getattr(case, name)) for name in _LONGEST}
    for name, longest in _LONGEST.items():
        if not 0 < len(words[name]) <= longest:
            raise UsageProblem(f"a case has {'an' if name == 'account' else 'a'} {name} of 1 to {longest} characters")
    if case.tenant not in settings.tenants:
        raise UsageProblem(f"no tenant is called {case.tenant!r}{nearest(case.tenant, settings.tenants)}")
    known = register.known(settings, case.tenant)
    if not unlisted and words["account"] not in known:
        raise UsageProblem(
            f"no account of {case.tenant} is called {words['account']!r}{nearest(words['account'], known)}",
            hint="--unlisted, if it is not in the settings and no usage is left of it",
        )
    case_id, account, purpose, reason = (words[name] for name in _LONGEST)
    return replace(case, case_id=case_id, account=account, purpose=purpose, reason=reason)


def _find(connection: Connection, case_id: str, *, only_open: bool = False) -> Case | None:
    query = select(cases).where(cases.c.case_id == case_id)
    row = connection.execute(query.where(cases.c.closed_at.is_(None)) if only_open else query).first()
    return Case(**row._mapping) if row else None


def _record(connection: Connection, event: str, case: Case, why: str) -> None:
    subject = f"case {case.case_id}, account {case.account} of {case.tenant}"
    audit.append(connection, [audit.Entry(ROLE, event, subject, why)])
