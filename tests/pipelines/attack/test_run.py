"""`callward release attack` as a person runs it: figures, tables, a page by itself, and what breaks a bound."""

import json
import re
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from callward import audit, initiate
from callward.errors import UsageProblem
from callward.release.attack import broken_controls
from callward.release.attack.mechanisms_under_test import Privacy
from callward.release.attack.suite import AttackSuite, Effort
from callward.retention.requests.restrictions import Hidden
from callward.settings import Settings, Tenant
from pipelines.attack import run as attacks
from pipelines.attack.views import attack_views
from pipelines.cli.main import app
from pipelines.reports import attack_page, plots
from pipelines.reports.attack import AttackReport
from schemas.views import VIEW_PARTS

EFFORT = Effort(trials=3000, draws=3, days=(1, 3), days_draws=8_000)


@pytest.fixture(scope="module")
def document():
    return json.loads(json.dumps(vars(attacks.attack(seed=2, calls=25_000, effort=EFFORT))))


class _Reader(HTMLParser):
    """Tags that are open at the end, every attribute that could load something, and the text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.loads, self.text, self.tags = [], [], [], set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href", "data", "xlink:href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_every_bound_holds_and_every_broken_mechanism_is_caught(document):
    assert document["broken"] == []
    assert len(document["attacks"]) == 6 and len(document["controls"]) == 9


def test_what_holds_is_said_for_each_figure(document):
    figures = [figure for one in document["attacks"] for figure in one["figures"]]
    assert {figure["mechanism"] for figure in figures} == {"raw", "threshold", "dp"}
    assert all(figure["holds"] for figure in figures)


def test_a_bound_that_breaks_is_a_sentence_and_so_is_an_attack_that_is_none(document):
    broken = json.loads(json.dumps(document))
    broken["attacks"][0]["figures"][2]["holds"] = False
    broken["attacks"][1]["figures"][0]["value"] = 0.1
    broken["controls"][0]["caught"] = False
    assert len(attacks.broken(broken["attacks"], broken["controls"])) == 3


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_is_whole_and_loads_nothing(document):
    page = attack_page.page(document)
    read = _Reader(page)
    assert read.open == [] and read.loads == []
    assert "script" not in read.tags and "svg" in read.tags and "url(" not in page and "@import" not in page


def test_the_page_shows_every_figure(document):
    text = re.sub(r"\s+", " ", " ".join(_Reader(attack_page.page(document)).text))
    for one in document["attacks"]:
        assert one["title"] in text
        assert all(plots.share(figure["value"]) in text for figure in one["figures"])
    assert all(one["mechanism"] in text for one in document["controls"])
    assert all(one["what"] in text for one in document["unicity"])
    assert all(one["compared"] in text for one in document["linkage"])
    assert "HOLDS" in text and "nan" not in text.lower().split()


def test_a_page_of_what_breaks_says_so(document):
    text = " ".join(_Reader(attack_page.page({**document, "broken": ["<b>Membership</b> breaks"]})).text)
    assert "BROKEN" in text and "<b>Membership</b> breaks" in text


def test_labels_of_lines_that_end_together_lie_apart():
    lines = [plots.Line(name, "#000", [(0, 0), (1, 1)]) for name in ("one", "two", "three")]
    drawn = plots.lines("t", "x", "y", plots.SHARES, plots.SHARES, lines)
    heights = sorted(float(y) for y in re.findall(r'<text x="478\.0" y="([\d.]+)"', drawn))
    assert len(heights) == 3 and min(np.diff(heights)) >= 15


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0, "0 %"),
        (1e-6, "< 0.1 %"),
        (0.0123, "1.2 %"),
        (0.5, "50 %"),
        (0.998, "99.8 %"),
        (0.9999, "> 99.9 %"),
        (1, "100 %"),
    ],
)
def test_a_share_is_never_rounded_to_nothing_or_to_all(value, told):
    assert plots.share(value) == told


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch, document):
    monkeypatch.setattr(attacks, "attack", lambda **asked: attacks.Attacked(**document))


def run(*arguments):
    return app(["release", "attack", *arguments], standalone_mode=False) or 0


def test_it_prints_one_document_and_writes_a_page_once(quick, tmp_path, capsys):
    to = tmp_path / "page.html"
    assert run("--json", "--page", str(to)) == 0
    assert json.loads(capsys.readouterr().out)["broken"] == []
    assert to.read_text().startswith("<!doctype html>")
    with pytest.raises(UsageProblem, match="is there already"):
        run("--page", str(to))


def test_it_prints_tables_for_a_person(quick, capsys):
    assert run() == 0
    shown = capsys.readouterr().out
    assert "What an attacker gets" in shown and "Broken on purpose" in shown and "MISSED" not in shown


def test_a_broken_bound_is_for_a_person_to_look_at(document, monkeypatch, capsys):
    found = attacks.Attacked(**{**document, "broken": ["a bound breaks"]})
    monkeypatch.setattr(attacks, "attack", lambda **asked: found)
    assert run() == 3
    assert "a bound breaks" in capsys.readouterr().err
    assert run("--json") == 3
    assert json.loads(capsys.readouterr().out)["broken"] == ["a bound breaks"]


def test_too_few_calls_are_refused():
    with pytest.raises(UsageProblem, match="20,000 calls or more"):
        attacks.attack(calls=500)


def test_a_mechanism_that_is_broken_breaks_the_whole_run(monkeypatch):
    monkeypatch.setattr(AttackSuite, "attacks", lambda self: iter([self.presence()]))
    monkeypatch.setattr(AttackSuite, "controls", lambda self: iter(()))
    monkeypatch.setattr(Privacy, "noise", property(lambda self: broken_controls.noise_for_one_cell(self.rho)))
    (sentence,) = attacks.attack(seed=2, calls=20_000, effort=EFFORT).broken
    assert sentence.startswith("Membership: dp gives")


# -- the workspace's own views -----------------------------------------------------------------------------------------


def test_a_day_without_rows_is_refused(tmp_path):
    made = initiate.init(tmp_path / "w", Settings(path=tmp_path / "callward.toml", tenants={"default": Tenant()}))
    with pytest.raises(UsageProblem, match="has no rows on 2026-01-01"):
        attack_views(made, "default", date(2026, 1, 1), 100, np.random.default_rng(1))


@pytest.fixture(scope="module")
def own(finished, day):
    """What the views of a finished night tell, and the numbers of its feed."""
    site, numbers = finished
    found = attack_views(site.settings, "default", day, 200, np.random.default_rng(1))
    return found, numbers.read_text().split()


def test_who_stands_alone_in_the_lake_is_told_of_each_view(own):
    found, _ = own
    assert all(share is None or 0 <= share <= 1 for one in found["unicity"] for share in one["shares"])
    by_what = {one["what"]: one["shares"] for one in found["unicity"]}
    assert by_what["billing view: second"][-1] > 0.9
    assert by_what["failed attempts: minute and area"][0] > 0.5
    assert any(what.startswith("release ") for what in by_what)


def test_rows_are_counted_by_part(own, finished, day):
    site, _ = finished
    files = {part: [file for file in site.data_files(part) if file.part == day.isoformat()] for part in VIEW_PARTS}
    assert own[0]["rows"] == {part: sum(file.rows for file in listed) for part, listed in files.items() if listed}


def test_each_thing_compared_links_more_and_a_day_less(own):
    hour, places, day = (one["linked"] for one in own[0]["linkage"])
    assert hour < places and day < places


def test_rows_and_counters_of_the_lake_are_held_against_billing(own):
    """The finished night is one commit of few calls: trunks and hours name some of them, and the verdict says so."""
    links = own[0]["links"]
    (verdict,) = links["verdicts"]
    rows = {one["compared"]: one["linked"] for one in links["jointly"]}
    finest, *counters = rows.values()
    grains = ["trunk {} × hour", "failed, trunk {} × 5 minutes", "failed, trunk {} × destination × hour"]
    sides = [f"counters: {grain.format(side)}" for side in ("in", "out") for grain in grains]
    assert list(rows) == ["rows: hour, source, carriers", *sides]
    assert all(linked == 0 for what, linked in rows.items() if "failed" in what), "billing has none of them"
    assert verdict["role"] == "assurance" and 0.02 < finest <= verdict["rows"] < 0.5
    assert not verdict["holds"]
    assert max(counters) <= finest


def test_what_one_view_told_before_it_had_parts_is_measured_beside(document, own):
    """Most of these calls are alone in their minute, with their length and prefix."""
    found = own[0]
    assert found["before"]["linked"] > 0.9
    assert found["links"]["verdicts"][0]["rows"] < 0.5
    assert found["before"]["accounts"] > 0.9
    said = attack_page.undivided(found["before"])
    attacked = {**document, "views": found}
    assert said in " ".join(_Reader(attack_page.page(attacked)).text)
    assert said in "".join(map(str, AttackReport(**attacked).render()))


def test_of_derived_tables_those_of_billing_alone_name_accounts(own):
    assert own[0]["named"] == {"billing": 1.0, "assurance": 0.0, "sla": 0.0}


def test_the_verdict_stands_on_the_page_and_in_the_tables(document, own):
    attacked = {**document, "views": own[0]}
    (sentence,) = map(attack_page.sentence, own[0]["links"]["verdicts"])
    assert "above the bound" in sentence
    assert sentence in " ".join(_Reader(attack_page.page(attacked)).text)
    assert sentence in "".join(map(str, AttackReport(**attacked).render()))


def test_what_is_told_of_the_lake_holds_no_number_and_no_account(own):
    found, numbers = own
    told = json.dumps(found)
    assert "acct" not in told and not any(number.lstrip("+") in told for number in numbers)


def test_rows_of_restricted_persons_are_not_looked_at(finished, day, own, monkeypatch):
    site, _ = finished
    ids = site.view("billing")["billing_id"].slice(0, 40).combine_chunks()
    hidden = {"default": Hidden("billing", ids, (), frozenset())}
    monkeypatch.setattr(
        "pipelines.attack.views.restrictions.hidden", lambda *asked: hidden if asked[-1] == "billing" else {}
    )
    found = attack_views(site.settings, "default", day, 50, np.random.default_rng(1))
    assert found["rows"]["billing"] == own[0]["rows"]["billing"] - 40


def test_openings_for_an_attack_are_audited(own, finished):
    site, _ = finished
    openings = [entry for entry in audit.newest(site.settings, 200) if "attack on the views" in entry.reason]
    assert openings and {entry.role for entry in openings} == {"release-run"}


# -- the document ------------------------------------------------------------------------------------------------------

DOCS = Path(__file__).resolve().parents[3] / "docs"


def rows_of(heading: str) -> dict[str, list[str]]:
    """The table under a heading of docs/attack.md, by its first column."""
    text = (DOCS / "attack.md").read_text(encoding="utf-8")
    lines = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0].splitlines()
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {name: cells for name, *cells in found[2:]}


@pytest.fixture(scope="module")
def printed():
    return json.loads((DOCS / "attacks" / "demo.json").read_text(encoding="utf-8"))


def test_figures_of_the_document_are_those_of_the_page(printed):
    attacked = {
        one["title"]: [*(plots.share(f["value"]) for f in one["figures"]), plots.share(one["figures"][-1]["most"])]
        for one in printed["attacks"]
    }
    assert rows_of("Six attacks") == attacked
    gives = {one["mechanism"]: (one["value"], one["most"]) for one in printed["controls"]}
    broken = {mechanism: [attack_page.small(value) for value in pair] for mechanism, pair in gives.items()}
    assert rows_of("Broken on purpose") == broken
    alone = {one["what"]: [plots.share(one["shares"][-1])] for one in printed["views"]["unicity"]}
    assert rows_of("Who stands alone") == alone


def test_what_still_links_is_said_as_it_was_measured(printed):
    both = zip(printed["views"]["linkage"], printed["linkage"], strict=True)
    told = {
        own["compared"]: [f"{plots.share(own[key])} ({plots.share(made[key])})" for key in ("linked", "accounts")]
        for own, made in both
    }
    assert rows_of("What times and places still link") == told


def test_what_was_linked_before_is_said_as_it_was_measured(printed):
    rows, accounts = (plots.share(printed["views"]["before"][key]) for key in ("linked", "accounts"))
    assert f"{rows} of rows and {accounts} of accounts by minute" in (DOCS / "attack.md").read_text(encoding="utf-8")
    assert f"({rows} and all, before" in (DOCS / "threat-model.md").read_text(encoding="utf-8")


def test_the_page_in_the_documents_is_of_its_figures(printed):
    assert (DOCS / "attacks" / "demo.html").read_text(encoding="utf-8") == attack_page.page(printed)
    assert printed["broken"] == [] and printed["views"]


def test_what_content_links_is_said_as_it_was_measured(printed):
    links, small = printed["views"]["links"], attack_page.small
    measured = {
        alone["compared"]: [
            small(alone["linked"]),
            small(joint["linked"]),
            f"{small(joint['matched'])} ({small(joint['chance'])})",
            small(joint["accounts"]),
        ]
        for alone, joint in zip(links["alone"], links["jointly"], strict=True)
    }
    assert rows_of("What content links, table by table") == measured
    text = re.sub(r"\s+", " ", (DOCS / "attack.md").read_text(encoding="utf-8"))
    assert all(attack_page.sentence(verdict) in text for verdict in links["verdicts"])
