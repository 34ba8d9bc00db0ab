"""What people read of rights in the database."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from callward import audit
from callward.access import grants
from callward.access.roles import ROLES, Access
from callward.redaction import mask
from callward.settings import Settings
from pipelines import terminal
from pipelines.results import Part, Result


@dataclass(frozen=True)
class Right:
    """One thing that a role may do: with which columns, and with which rows of them; "" stands for all."""

    on: str
    may: str
    columns: str
    rows: str


@dataclass(frozen=True)
class RightsChanged(Result):
    """Rights that were given to a user of the database, or taken away, or would be."""

    role: str
    user: str
    revoked: bool
    dry_run: bool
    rights: Sequence[Right]

    def render(self) -> Iterator[Part]:
        verb = ("would lose" if self.dry_run else "lost") if self.revoked else ("would have" if self.dry_run else "has")
        yield f"{self.user} {verb} what the role {self.role} needs in the database:"
        rows = [[right.on, right.may, _only(right)] for right in self.rights]
        yield terminal.table("", ("on", "may", "only"), rows)


def _only(right: Right) -> str:
    parts = {"columns": right.columns, "rows where": right.rows}
    return "; ".join(f"{what} {which}" for what, which in parts.items() if which)


def change(settings: Settings, role: str, user: str, *, revoke: bool, dry_run: bool) -> RightsChanged:
    """Give a role's rights to a user of the database, or take them away."""
    act = grants.revoke if revoke else grants.grant
    tables = act(settings, role, user, dry_run=dry_run)
    events = f"append to the audit log: {', '.join(ROLES[role].events)}"
    rights = [*map(_right, tables), Right(f"public.{audit.function_of(role)}", events, "", "")]
    return RightsChanged(role, mask(user), revoke, dry_run, rights)


def _right(access: Access) -> Right:
    may = "read, add, change, remove" if access.writes else "read"
    return Right(access.name, may, ", ".join(access.columns), access.rows)
