"""The documents say what is so: links lead somewhere, every key and code is explained, examples work."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.main import get_command

from callward import audit, initiate, query, settings
from callward.accounts import sealed
from callward.keys import keys, seal
from callward.keys import register as key_register
from callward.lake import parquet
from pipelines.cli.main import app
from pipelines.monitoring.feeds import KINDS
from schemas import cdr, declaration, suspense, views
from schemas.codes import Filter, Suspense
from schemas.retention_classes import DEMO_WINDOWS, REQUIRED
from transforms.count_shares import LACKS, UNJOINED

ROOT = Path(__file__).resolve().parent.parent
DOCS = sorted([*ROOT.glob("*.md"), *ROOT.joinpath("docs").rglob("*.md")])
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
_TEST_FILE = re.compile(r"\btests/[\w/]+\.py\b")
_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`((?:[^`\n]|\n(?!\n))+)`")
_CALL = re.compile(r"(?:\$ |sudo -u callward |/opt/callward/bin/)?callward ([a-z].*)")
_ANCHOR = re.compile(r"\]\(((?!https?:)[^)#]*)#([^)]+)\)")


def _text(name: str) -> str:
    return ROOT.joinpath(name).read_text(encoding="utf-8")


def _blocks(name: str, language: str) -> list[str]:
    return [body for kind, body in _BLOCK.findall(_text(name)) if kind == language]


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_named_tests_exist(path):
    text = path.read_text(encoding="utf-8")
    wanted = [path.parent / link for link in _LINK.findall(text)] + [ROOT / name for name in _TEST_FILE.findall(text)]
    assert [str(target) for target in wanted if not target.exists()] == []


def _command_lines(text: str) -> list[list[str]]:
    """Return the words after `callward` of each command line in code: blocks, and spans between backquotes."""
    lines = [line for _, body in _BLOCK.findall(text) for line in body.replace("\\\n", " ").splitlines()]
    spans = _SPAN.findall(_BLOCK.sub("\n\n", text))
    found = [_CALL.match(" ".join(code.split())) for code in lines + spans]
    return [_words(match[1]) for match in found if match]


def _words(line: str) -> list[str]:
    """Return the words of a command line; what is optional loses its brackets, and a comment goes."""
    line = line.translate({ord("["): " ", ord("]"): " "})
    try:
        return shlex.split(line, comments=True)
    except ValueError:  # a quoted statement that the document leaves open
        return line.split()


def _unknown(words: list[str]) -> list[str]:
    """Return the command, or the options, that the command line does not know."""
    command = get_command(app)
    for word in words:
        if word.startswith("-") or not hasattr(command, "commands"):
            break
        if word not in command.commands:
            return [word]
        command = command.commands[word]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    return sorted({word.partition("=")[0] for word in words if word.startswith("--")} - known)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_code_exist_with_their_options(path):
    lines = _command_lines(path.read_text(encoding="utf-8"))
    assert [(" ".join(words), unknown) for words in lines if (unknown := _unknown(words))] == []


def test_a_command_or_option_that_does_not_exist_is_found():
    block = "```\n$ callward nigthly  # --json\ncallward sql \\\n --roles x\n```\n"
    text = f"`callward keys  copy\nadd --place X --nowhere` and\n\n{block}"
    assert [_unknown(words) for words in _command_lines(text)] == [["nigthly"], ["--roles"], ["--nowhere"]]


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_headings_that_exist(path):
    wanted = [(path.parent / file if file else path, anchor) for file, anchor in _ANCHOR.findall(path.read_text())]
    assert [(target.name, anchor) for target, anchor in wanted if anchor not in _anchors(target)] == []


def _anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_index():
    index = _text("docs/README.md")
    pages = {path.name for path in ROOT.joinpath("docs").glob("*.md")} - {"README.md"}
    assert [name for name in sorted(pages) if f"({name})" not in index] == []


def test_the_glossary_is_in_alphabetical_order():
    rows = re.findall(r"^\| (?!word|---)([^|]+) \|", _text("docs/glossary.md"), re.MULTILINE)
    assert len(rows) > 40 and rows == sorted(rows, key=str.lower)


def test_every_suspense_code_is_explained():
    assert [code for code in Suspense if f"| {code} |" not in _text("docs/nights.md")] == []


def test_every_warning_is_explained():
    sources = [path.read_text() for path in ROOT.joinpath("pipelines").rglob("*.py")]
    kinds = {kind for text in sources for kind in re.findall(r'\bAlarm\([^,]+, "([a-z ]+)"', text)}
    kinds |= {*LACKS, UNJOINED, *KINDS}
    assert len(kinds) > 20
    assert [kind for kind in sorted(kinds) if f"`{kind}`" not in _text("docs/nights.md")] == []


def test_every_suspense_code_says_what_to_do():
    rows = dict(re.findall(r"^\| ([A-Z_]+) \| [^|]+ \| ([^|]+) \|$", _text("docs/nights.md"), re.MULTILINE))
    assert [code for code in Suspense if not rows.get(str(code), "").strip()] == []


def test_every_retention_class_and_its_demo_window_is_explained():
    rows = [line for line in _text("docs/compliance.md").splitlines() if line.startswith("| `")]
    explained = {row.split("`")[1]: row.split("|")[3].strip() for row in rows}
    assert {name: explained.get(name) for name in REQUIRED} == DEMO_WINDOWS


def test_every_root_is_explained():
    text = _text("docs/compliance.md")
    assert [name for name in settings.KEY_DOMAINS if f"`{name}`" not in text] == []


_SECTIONS = {
    name: field.annotation
    for name, field in settings.Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}
_MODELS = (
    settings.Source,
    declaration.Declaration,
    declaration.File,
    declaration.Layout,
    declaration.Value,
    declaration.Edges,
    declaration.Key,
    declaration.Time,
    declaration.Rule,
    declaration.Pieces,
    declaration.Leave,
)


@pytest.mark.parametrize("model", _MODELS, ids=lambda model: model.__name__)
def test_every_key_of_a_source_and_its_declaration_is_explained(model):
    text = _text("docs/sources.md")
    assert [key for key in model.model_fields if not re.search(rf"[`\s{{]{key}[`\s]", text)] == []


def test_every_field_format_and_filter_is_named():
    text = _text("docs/sources.md")
    assert [field for field in declaration.FIELDS if f"`{field}`" not in text] == []
    assert [name for name in declaration.available() if f"`{name}`" not in text] == []
    assert [code for code in Filter if code not in (Filter.EXPIRED, Filter.ERASED) and code not in text] == []


def test_the_declarations_in_the_walk_through_load(tmp_path):
    wholes = [block for block in _blocks("docs/sources.md", "toml") if "format_version" in block]
    assert len(wholes) == 2
    for number, block in enumerate(wholes):
        path = tmp_path / f"example{number}.toml"
        path.write_text(block)
        assert declaration.load(path).fields


def test_the_line_in_the_walk_through_is_read_as_it_says(tmp_path):
    (line,) = [body for body in _blocks("docs/sources.md", "") if body.startswith("0000001")]
    path = tmp_path / "example.toml"
    path.write_text(next(block for block in _blocks("docs/sources.md", "toml") if "[[shapes]]" in block))
    shape = declaration.sniff(line.encode(), declaration.load(path))
    assert shape.variant == "export"


def test_sources_in_the_walk_through_are_settings():
    for block in _blocks("docs/sources.md", "toml"):
        tables = tomllib.loads(block)
        for source in tables["sources"] if isinstance(tables.get("sources"), list) else []:
            assert settings.Source(**source).format in declaration.available()


def _keys_of_settings(text: str) -> Iterator[tuple[str, str]]:
    """Yield (section, key) of each setting that a page names as `section.key` or shows in TOML."""
    yield from re.findall(rf"`({'|'.join(_SECTIONS)})\.(\w+)", text)
    for kind, body in _BLOCK.findall(text):
        if kind == "toml" and "format_version" not in body:
            tables = {name: keys for name, keys in tomllib.loads(body).items() if name in _SECTIONS}
            yield from ((name, key) for name, keys in tables.items() for key in keys)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_settings_in_the_documents_exist(path):
    named = set(_keys_of_settings(path.read_text(encoding="utf-8")))
    assert {key for key in named if key[1] not in _SECTIONS[key[0]].model_fields} == set()


def test_the_sql_for_billing_runs(tmp_path):
    made = initiate.init(
        tmp_path / "w", settings.Settings(path=tmp_path / "callward.toml", tenants={"default": settings.Tenant()})
    )
    (block,) = _blocks("docs/billing.md", "sql")
    statements = [statement for statement in block.split(";") if statement.strip()]
    assert len(statements) == 3
    for statement in statements:
        query.query(made, "billing", statement)


def test_every_column_of_billing_is_explained():
    text = _text("docs/billing.md")
    assert [name for name in views.BILLING.names if not re.search(rf"[ |`]{name}[ ,|`]", text)] == []


def test_format_versions_are_those_of_the_code():
    versions = {
        "settings,": settings.FORMAT_VERSION,
        "declaration,": declaration.FORMAT_VERSION,
        "canonical CDR": cdr.FORMAT_VERSION,
        "views:": views.FORMAT_VERSION,
        "data file,": parquet.FORMAT_VERSION,
        "suspense and pending,": suspense.FORMAT_VERSION,
        "account directory,": sealed.FORMAT_VERSION,
        "seal: sealed bytes": seal.FORMAT_VERSION,
        "wrapped key": key_register.FORMAT_VERSION,
    }
    rows = [line.strip("| ").split(" | ") for line in _text("docs/formats.md").splitlines() if line.startswith("|")]
    for start, version in versions.items():
        (row,) = [row for row in rows if row[0].startswith(start)]
        assert row[-1] == str(version)
    assert audit._TAG in _text("docs/formats.md")
    assert keys._ROOT_TAG.decode() in _text("docs/formats.md")
    assert seal.MAGIC.decode() in _text("docs/formats.md")


def test_no_document_holds_a_number_that_is_not_fictitious():
    found = [
        match
        for path in DOCS
        for match in re.findall(r"(?<![\w.])\+?1?[2-9]\d{2}[2-9]\d{6}(?![\w.])", path.read_text())
    ]
    assert [number for number in found if not re.search(r"55501\d{2}$", number)] == []
