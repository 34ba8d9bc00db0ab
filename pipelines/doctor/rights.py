"""What doctor says of who may read the database: the owner of a file of SQLite, or users of PostgreSQL."""

from collections.abc import Iterator
from typing import Final

from callward import database
from callward.access import grants
from callward.errors import Problem
from callward.redaction import mask
from callward.settings import Settings
from pipelines import terminal
from pipelines.readiness.finding import OK, WARNING, Finding

_WHAT: Final = "rights in the database"
_NAMED: Final = 5


def rights(settings: Settings) -> Iterator[Finding]:
    """Yield a warning for SQLite, which has no users, and for users of PostgreSQL who can read more than one view."""
    if settings.database_file is not None:
        seen = "one file of SQLite is one operating-system user's: whoever may read it reads the sums of every view"
        fix = "where several people ask: PostgreSQL, and 'callward grant ROLE USER' (docs/access.md)"
        yield Finding(_WHAT, WARNING, seen, fix)
        return
    try:
        with database.reading(settings) as connection:
            users = {user: views for user, views in grants.readers_of_views(connection).items() if len(views) > 1}
    except Problem:
        return  # the check of the database says why
    if not users:
        yield Finding(_WHAT, OK, "no user can read the derived tables of two views, but owners and superusers")
        return
    named = [f"{mask(user)} ({', '.join(views)})" for user, views in list(users.items())[:_NAMED]]
    seen = f"{terminal.count(len(users), 'user')} can read the derived tables of two views: {', '.join(named)}"
    fix = (
        "callward grant ROLE USER leaves a user that role's rights; REVOKE what comes from another role or from PUBLIC"
    )
    yield Finding(_WHAT, WARNING, seen, fix)
