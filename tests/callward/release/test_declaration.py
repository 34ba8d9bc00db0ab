"""A declaration knows its cells before a row is read, and its digest changes with everything that decides a figure."""

import re
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.errors import UsageProblem
from callward.release import declaration, domains
from callward.release.declaration import OUTSIDE, Period
from schemas import release as schema
from schemas.release import DIMENSION_COLUMNS, MEASURES
from schemas.views import STORED
from tests.releases import AREA, DIRECTION, HOUR, made, text

_PREFIXES = st.sampled_from(["+1303", "+1212", "+44", "+1800", None])
_DIRECTIONS = st.sampled_from(["inbound", "outbound", "internal", "transit", "unknown", None])


@given(st.lists(st.tuples(_PREFIXES, _DIRECTIONS, st.integers(0, 23)), min_size=1, max_size=40))
def test_every_row_falls_into_the_cell_of_its_labels(rows: list[tuple[str | None, str | None, int]]) -> None:
    grid = made(dimensions=AREA + DIRECTION + HOUR).grid()
    starts = [datetime(2026, 3, 5, hour, 30, tzinfo=UTC) for _, _, hour in rows]
    columns = {
        "calling_prefix": pa.array([prefix for prefix, _, _ in rows], pa.string()),
        "direction": pa.array([direction for _, direction, _ in rows], pa.string()).dictionary_encode(),
        "start": pa.array(starts, pa.timestamp("ms", tz="UTC")),
    }
    found = list(zip(*(label.to_pylist() for label in grid.labels(grid.index(columns))), strict=True))
    areas = {"+1303": "303", "+1212": "212"}
    assert found == [(areas.get(str(p), "elsewhere"), d or "unknown", f"{h:02}") for p, d, h in rows]


@given(st.data())
def test_cells_and_labels_are_one_to_one(data: st.DataObject) -> None:
    grid = made(dimensions=DIRECTION + HOUR).grid()
    cells = np.array(data.draw(st.lists(st.integers(0, grid.size - 1), unique=True, min_size=1)), np.uint64)
    labels = set(zip(*(label.to_pylist() for label in grid.labels(cells)), strict=True))
    assert len(labels) == len(cells)
    parents = grid.parents(cells, ["direction"])
    assert dict(zip(parents.tolist(), grid.labels(cells)[0].to_pylist(), strict=True)).keys() == set(parents.tolist())


def test_a_value_without_a_label_is_in_no_cell(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        'format_version = 1\nname = "own"\nversion = "1"\nsource = "a list"\ncolumns = ["codec"]\n'
        '[cells]\nG = ["g711"]\n'
    )
    body = text(
        dimensions='[[dimensions]]\nname = "codec"\ncolumn = "codec"\ndomain = "own.toml"\n',
        measures=("attempts",),
        view='"assurance"',
        unit='"account"',
    )
    grid = declaration.parse(body, tmp_path).grid()
    index = grid.index({"codec": pa.array(["g711", "g729", None])})
    assert index.tolist() == [0, int(OUTSIDE), int(OUTSIDE)]


def test_no_shipped_domain_comes_from_the_data_or_hides_a_number() -> None:
    for name in domains.shipped():
        domain = domains.load(name)
        assert domain.source and domain.version
        assert set(domain.columns) <= {c for columns in DIMENSION_COLUMNS.values() for c in columns}
        assert domain.coarser is None or set(domains.load(domain.coarser).columns) >= set(domain.columns)


def test_every_code_of_a_finer_domain_is_in_the_coarser_one() -> None:
    for name in domains.shipped():
        domain = domains.load(name)
        if domain.coarser and domain.read == "text":
            codes = {code for _, listed in domain.cells for code in listed}
            coarse = {code for _, listed in domains.load(domain.coarser).cells for code in listed}
            assert coarse <= codes  # what it leaves out is in its `other`


def test_dimensions_and_measures_are_columns_of_what_is_read() -> None:
    for view, columns in DIMENSION_COLUMNS.items():
        derived, stored = schema.DERIVED_COLUMNS[view], set(STORED[schema.READ_OF[view]].names)
        assert {derived.get(name, name) for name in columns} <= stored
        assert {c for measure in MEASURES[view].values() for c in measure.columns} <= stored


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"dimensions": DIRECTION.replace('column = "direction"', 'column = "carrier_in"')},
            "free text or names somebody",
        ),
        ({"dimensions": DIRECTION.replace('column = "direction"', 'column = "account"')}, "account"),
        ({"dimensions": DIRECTION.replace("directions", "accounts")}, "no public domain"),
        ({"dimensions": DIRECTION + DIRECTION}, "two dimensions"),
        (
            {"dimensions": DIRECTION.replace('domain = "directions"', 'domain = "directions"\nversion = "2020"')},
            "version",
        ),
        ({"measures": ("calls", "calls")}, "two measures"),
        ({"measures": ("charge",)}, "no measure"),
        ({"measures": ("accounts",)}, "only distinct subscribers"),
        ({"view": '"assurance"', "dimensions": HOUR, "measures": ("attempts",)}, "the unit is the account"),
        ({"grain": '"week"'}, "grain"),
        ({"rho": "0"}, "rho"),
        ({"rho": "0.0000000001"}, "nine decimals"),
        ({"rho": None, "kind": '"dp"', "more": ""}, ""),
        ({"lateness_days": "-1"}, "lateness_days"),
        ({"name": '"analytics_cells"'}, "all releases are in"),
        ({"name": '"Calls by area"'}, "name"),
        ({"more": "nonsense = 1\n"}, "nonsense"),
        ({"more": '[suppression]\nwithin = ["area"]\n'}, "no dimension"),
        ({"tenants": '["default", "default"]'}, "two tenants"),
        ({"tenants": "[]"}, "tenants"),
        ({"dimensions": AREA + AREA.replace('"area"', '"to"').replace("calling", "called") + HOUR}, "figures at most"),
    ],
)
def test_an_unsafe_declaration_is_refused_in_one_sentence(change: dict[str, str], said: str) -> None:
    if not said:
        assert made(**change).kind == "threshold"
        return
    with pytest.raises(UsageProblem, match=said) as raised:
        made(**change)
    assert "\n" not in str(raised.value).strip()


@pytest.mark.parametrize(
    "body", ["", "name = ", "[[x]]", 'folder = "x"', "\x00", '[cells]\na = ["1"]', "format_version = 2\n" + text()]
)
def test_text_that_is_no_declaration_is_refused(body: str) -> None:
    with pytest.raises(UsageProblem):
        declaration.parse(body)


@pytest.mark.parametrize("number", ["17195550178", "case5550178", "719_555_0178", "20201231"])
def test_a_number_in_a_declaration_or_a_domain_is_refused_and_not_repeated(tmp_path: Path, number: str) -> None:
    title = text().replace('title = "', f'title = "of {number} ', 1)
    with pytest.raises(UsageProblem, match="title: this looks like a telephone number") as wrong:
        declaration.parse(title)
    assert number not in str(wrong.value)
    domain = 'format_version = 1\nname = "own"\nversion = "1"\nsource = "a list"\ncolumns = ["codec"]\n[cells]\n'
    for cells in (f'"{number}" = ["g711"]', f'G = ["{number}"]'):
        path = tmp_path / "own.toml"
        path.write_text(domain + cells)
        with pytest.raises(UsageProblem, match="looks like a telephone number") as wrong:
            domains.load("own.toml", tmp_path)
        assert number not in str(wrong.value)


def test_a_digest_changes_with_all_that_decides_a_figure_and_with_nothing_else() -> None:
    base = made()
    same = [made(title='"Another title"'), made(more="[expected]\ncalls_per_day = 5\nunits = 2\n")]
    other = [
        made(rho="0.002"),
        made(dimensions=HOUR),
        made(measures=("calls",)),
        made(suppress_below="11"),
        made(more="[bounding]\ncells = 3\n"),
        made(audience='"external"'),
        made(unit='"account"', measures=("calls",)),
        made(tenants='["default", "other"]'),
    ]
    assert {one.spec_digest for one in same} == {base.spec_digest}
    assert len({one.spec_digest for one in (base, *other)}) == 1 + len(other)


def test_a_changed_domain_file_changes_the_domains_digest(tmp_path: Path) -> None:
    domain = 'format_version = 1\nname = "own"\nversion = "1"\nsource = "a list"\ncolumns = ["direction"]\n[cells]\n'
    body = text(dimensions=DIRECTION.replace("directions", "own.toml"))
    digests = set()
    for cells in ('a = ["inbound"]\n', 'a = ["inbound", "outbound"]\n', 'b = ["inbound"]\n'):
        (tmp_path / "own.toml").write_text(domain + cells)
        digests.add(declaration.parse(body, tmp_path).domains_digest)
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("version", "versio"), "unknown key"),
        (('source = "a list"', 'source = " "'), "source is missing"),
        (('["inbound"]', '["inbound", "inbound"]'), "twice"),
        (('["inbound"]', '["+13035550101"]'), "telephone number"),
        (('["inbound"]', "[1]"), "written as text"),
        (('["direction"]', '["trunk_in"]'), "public domain"),
        (("[cells]", "[cell]"), "unknown key"),
        (('a = ["inbound"]', ""), "table of labels"),
    ],
)
def test_a_domain_file_that_is_wrong_is_refused_in_one_sentence(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    good = (
        'format_version = 1\nname = "own"\nversion = "1"\nsource = "a list"\ncolumns = ["direction"]\n[cells]\n'
        'a = ["inbound"]\n'
    )
    domains._parsed(good, "own")
    (tmp_path / "own.toml").write_text(good.replace(*change))
    with pytest.raises(UsageProblem, match=said):
        domains.load("own.toml", tmp_path)
    with pytest.raises(UsageProblem, match="No such file"):
        domains.load("missing.toml", tmp_path)


@given(st.dates(date(2000, 1, 1), date(2099, 12, 31)), st.integers(0, 60))
def test_a_period_is_whole_dates_of_one_month_and_due_after_its_lateness(day: date, lateness: int) -> None:
    for grain in ("day", "month"):
        span = Period.holding(grain, day)
        assert span == Period.parse(grain, str(span)) and span.start <= day <= span.end
        assert {part[:7] for part in span.parts} == {span.month} and day.isoformat() in span.parts
        assert (span.due(lateness) - span.end).days == lateness + 1


@pytest.mark.parametrize(
    "words", ["2026", "2026-3", "2026-02-30", "2026-13", "20260301", "2026-03-01 ", "", "+13035550101"]
)
def test_a_period_that_is_none_is_refused(words: str) -> None:
    for grain in ("day", "month"):
        with pytest.raises(UsageProblem, match="is written like"):
            Period.parse(grain, words)


def test_shares_never_cost_more_than_the_release() -> None:
    release = made(measures=("calls", "answered", "subscribers"), rho="0.001")
    assert sum(release.rhos()) <= release.rho


def test_examples_are_sound() -> None:
    for name in schema.examples():
        assert declaration.parse(schema.example(name)).name == name


def test_every_key_measure_and_domain_is_explained() -> None:
    page = (Path(__file__).parents[3] / "docs" / "analytics.md").read_text(encoding="utf-8")
    words = set(re.findall(r"`([^`\n]+)`", page)) | set(re.findall(r"\[(?:\[)?(\w+)\]", page))
    models = (declaration.Release, declaration.Dimension, declaration.Counted, declaration.Suppression)
    keys = {key for model in models for key in model.model_fields} - {"format_version", "folder", "budget", "bounding"}
    measures = {name for of_view in MEASURES.values() for name in of_view}
    assert (keys | measures | set(domains.shipped()) | set(schema.examples())) - words == set()
