"""What tests of releases share: declarations in a few words, and a workspace to put them into."""

from pathlib import Path
from typing import Any

from sqlalchemy import select

from callward import database
from callward.release import declaration
from callward.release.declaration import Release
from schemas.release import analytics_cells, release_charges, releases

DIRECTION = '[[dimensions]]\nname = "direction"\ncolumn = "direction"\ndomain = "directions"\n'
HOUR = '[[dimensions]]\nname = "hour"\ncolumn = "start"\ndomain = "hours"\n'
AREA = '[[dimensions]]\nname = "area"\ncolumn = "calling_prefix"\ndomain = "nanp_areas"\n'
_USUAL = {
    "format_version": "1",
    "name": '"calls"',
    "title": '"Calls"',
    "kind": '"dp"',
    "audience": '"internal"',
    "view": '"billing"',
    "unit": '"subscriber"',
    "grain": '"day"',
    "lateness_days": "3",
    "suppress_below": "0",
}


def text(
    *,
    dimensions: str = DIRECTION,
    measures: tuple[str, ...] = ("calls", "subscribers"),
    rho: str | None = "0.001",
    more: str = "",
    **keys: str,
) -> str:
    """A declaration; `keys` are top-level ones as TOML writes them, `more` is appended. Without rho: thresholds."""
    top = _USUAL | keys | ({} if rho else {"kind": '"threshold"'})
    lines = "".join(f"{key} = {value}\n" for key, value in top.items() if value)
    counted = "".join(f'[[measures]]\nname = "{name}"\n' for name in measures)
    price = f"[budget]\nrho = {rho}\n" if rho else ""
    return f"{lines}{dimensions}{counted}{price}{more}"


def made(**keys: Any) -> Release:
    """The declaration of `text`."""
    return declaration.parse(text(**keys))


def declare(site: Any, body: str, name: str = "calls") -> None:
    """Put a declaration into a workspace's folder."""
    folder: Path = site.settings.releases_path
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.toml").write_text(body, encoding="utf-8")


def register(site: Any) -> list[Any]:
    """Every row of the register of releases, in the order of their reservation."""
    with database.reading(site.settings) as connection:
        return list(connection.execute(select(releases).order_by(releases.c.reserved_at, releases.c.attempt)))


def charged(site: Any, window: str = "all", unit: str = "subscriber") -> int:
    """nano-rho that the default tenant was charged."""
    c = release_charges.c
    with database.reading(site.settings) as connection:
        mine = select(c.rho).where(c.tenant == "default", c.window == window, c.unit == unit)
        return sum(connection.execute(mine).scalars())


def cells(site: Any, measure: str, name: str = "calls") -> dict[tuple[Any, ...], int | None]:
    """Published figures of the newest table of that name, by their labels."""
    c = analytics_cells.c
    newest = max((row for row in register(site) if row.name == name and row.published_at), key=lambda r: r.published_at)
    with database.reading(site.settings) as connection:
        mine = select(analytics_cells).where(c.release_id == newest.release_id, c.measure == measure)
        rows = connection.execute(mine.order_by(c.cell)).all()
    return {tuple(label for label in (row.d1, row.d2, row.d3) if label is not None): row.value for row in rows}
