"""The attack suite's figures as tables, and as a page in a file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callward.errors import UsageProblem
from callward.release.attack.attacks import ELIGIBLE_CALLS
from callward.release.attack.suite import DP
from callward.release.attack.unicity import POINTS
from callward.storage.durable import create
from pipelines import terminal
from pipelines.attack.run import Attacked
from pipelines.reports import attack_page
from pipelines.results import Part, Result

Document = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class AttackReport(Attacked, Result):
    """What an attacker gets; exit code 3 where something is not as promised."""

    @property
    def exit_code(self) -> int:
        return 3 if self.broken else 0

    def render(self) -> Iterator[Part]:
        yield (
            f"{self.traffic['calls']:,} made-up calls of {self.traffic['subscribers']:,} subscribers "
            f"(seed {self.seed}); epsilon {self.privacy['epsilon']:g}, delta {self.privacy['delta']:g} a release"
        )
        rows = [[run["title"], *map(_value, run["figures"]), _most(run)] for run in self.attacks]
        yield terminal.table("What an attacker gets", ["attack", *attack_page.KINDS, "dp at most"], rows)
        yield ""
        rows = [[c["mechanism"], _value(c), f"{c['most']:.3f}", _verdict(c)] for c in self.controls]
        yield terminal.table("Broken on purpose", ["mechanism", "gives", "at most", ""], rows)
        yield ""
        yield from _tables("made-up traffic", vars(self))
        if self.views:
            yield from _tables(f"views of {self.views['tenant']}, {self.views['day']}", self.views)
            yield from _links(self.views["links"], self.views["before"])
            named = ", ".join(f"of {schema} {share:.3f}" for schema, share in self.views["named"].items())
            yield f"share of accounts that derived tables name to whoever has the database alone: {named}"
        yield f"a person counts for unicity who makes at most {ELIGIBLE_CALLS} calls a day"

    def warnings(self) -> Iterator[str]:
        return (f"callward: {sentence}" for sentence in self.broken)


def _tables(whose: str, document: Document) -> Iterator[Part]:
    alone = [[rows["what"], rows["person"], *map(_share, rows["shares"])] for rows in document["unicity"]]
    head = ["rows known", "of a", *(f"{many} points" if many > 1 else "1 point" for many in POINTS)]
    yield terminal.table(f"Alone with so many points: {whose}", head, alone)
    yield ""
    linked = [
        [rows["compared"], f"{rows['linked']:.3f}", f"{rows['candidates']:.1f}", f"{rows['accounts']:.3f}"]
        for rows in document["linkage"]
    ]
    head = ["compared", "rows linked", "rows that fit", "accounts linked"]
    yield terminal.table(f"Billing rows found in assurance: {whose}", head, linked)
    yield ""


def _links(links: Document, before: Document) -> Iterator[Part]:
    rows = [
        [alone["compared"], *_figures(alone), *_figures(joint), f"{joint['accounts']:.3f}"]
        for alone, joint in zip(links["alone"], links["jointly"], strict=True)
    ]
    head = ["table", "linked", "paired", "of it luck", "linked jointly", "paired", "of it luck", "accounts"]
    yield terminal.table("What content links of billing", head, rows)
    yield from map(attack_page.sentence, links["verdicts"])
    yield attack_page.undivided(before)
    yield ""


def _figures(link: Document) -> list[str]:
    return [f"{link[key]:.3f}" for key in ("linked", "matched", "chance")]


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"


def _value(figure: Document) -> str:
    return f"{figure['value']:.3f}"


def _verdict(control: Document) -> str:
    return "caught" if control["caught"] else "MISSED"


def _most(run: Document) -> str:
    (most,) = [figure["most"] for figure in run["figures"] if figure["mechanism"] == DP]
    return f"{most:.3f}"


def write_page(attacked: Attacked, to: Path) -> None:
    """Write the page to a new file; raises UsageProblem where one is there."""
    try:
        create(to, attack_page.page(vars(attacked)).encode(), 0o666)
    except FileExistsError:
        raise UsageProblem(f"{to} is there already, and is not overwritten") from None
