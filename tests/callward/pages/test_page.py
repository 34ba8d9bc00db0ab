"""Pages: every value is escaped wherever it stands, nothing is loaded, and a missing value is an error."""

import re

import jinja2
import pytest
from jinja2 import DictLoader

from callward.pages import page
from callward.pages.page import Mark, Table, fragment, render

HOSTILE = "</style><script>alert('&\"')</script>"


@pytest.fixture
def write(monkeypatch):
    """Adds templates of a test's own to those that are shipped."""

    def write_templates(**templates):
        shipped = page._environment.loader
        sources = {f"{name}.html": text for name, text in templates.items()}
        monkeypatch.setattr(page._environment, "loader", jinja2.ChoiceLoader([DictLoader(sources), shipped]))

    return write_templates


@pytest.fixture
def based(write):
    """A page that fills every block of the base with one value."""
    blocks = "".join(
        f"{{% block {name} %}}{{{{ value }}}}{{% endblock %}}" for name in ("status", "lead", "content", "footer")
    )
    write(based='{% extends "base.html" %}' + blocks)
    return lambda value: render("based.html", title=value, heading=value, printed_id=value, value=value)


def test_a_page_escapes_every_value_also_in_its_style(based):
    text = based(HOSTILE)
    assert "<script" not in text and text.count("</style>") == 1
    assert text.count("&lt;script&gt;") == 6


def test_a_page_says_its_language_and_title_and_loads_nothing(based):
    text = based("Statement")
    assert text.startswith('<!doctype html>\n<html lang="en">') and "<title>Statement</title>" in text
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|@import|url\(|<script|<link|<img|\bsrc=", text)


def test_a_printed_page_bears_its_id_and_number(based):
    text = based('id "7" \\ é')
    assert r'@bottom-left { content: "id \0000227\000022 \00005c \0000e9"; }' in text
    assert 'counter(page) " of " counter(pages)' in text


def test_a_value_that_is_not_given_is_an_error_and_not_a_gap(write):
    write(gap="{{ missing }}")
    with pytest.raises(jinja2.UndefinedError, match="missing"):
        render("gap.html")


def test_a_fragment_is_escaped_once(write):
    write(inner="<b>{{ value }}</b>", outer="{{ inner }}")
    assert render("outer.html", inner=fragment("inner.html", value="a & b")) == "<b>a &amp; b</b>"


@pytest.fixture
def tables(write):
    """The macros alone: a table of the content, or facts of the values."""
    macros = '{% from "tables.html" import table, facts %}'
    write(tables_only=macros + "{{ table(content) if content else facts(values, skip) }}")

    def rendered(content=None, values=None, skip=()):
        return render("tables_only.html", content=content, values=values, skip=skip)

    return rendered


def test_a_table_escapes_its_cells_and_sets_figures_to_the_right(tables):
    text = tables(Table(["Name", "Rows"], [[HOSTILE, 1234], ["none", None]]))
    assert "<script" not in text and '<td class="n" data-label="Rows"><span>1,234</span></td>' in text
    assert '<th scope="col">Name</th><th scope="col" class="n">Rows</th>' in text
    assert '<td class="n" data-label="Rows"></td>' in text


def test_a_table_without_rows_is_left_out(tables):
    assert tables(Table(["Name"], [])).strip() == ""


def test_marks_digests_and_lists_are_told_apart(tables):
    digest = "ab" * 32
    text = tables(Table(["", "Seen"], [[Mark("fail", False), [digest, "two words"]], [Mark("pass", True), True]]))
    assert '<span class="bad">fail</span>' in text and '<span class="good">pass</span>' in text
    assert f"<code>{digest}</code><br>two words" in text and "<span>yes</span>" in text


def test_facts_leave_out_what_is_unknown(tables):
    text = tables(values={"plan_sha256": "ab", "files": 0, "none": None, "empty": [], "hidden": 1}, skip=("hidden",))
    assert re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td>', text) == [("Plan SHA-256", "ab"), ("Files", "0")]
