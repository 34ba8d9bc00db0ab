"""A policy file: what cannot stand is refused with its line and key, what should be known is noted."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.errors import UsageProblem
from callward.retention.policy import policy_file
from schemas.retention_classes import ACTIONS, CLASSES, CLOCKS, Window, example, examples
from tests.examples import tries

CARRIER = example("global-carrier")
SUBSCRIBERS = example("per-subscriber")


def clause(text: str, name: str) -> str:
    """The [classes.NAME] table of a policy, without what comes before and after."""
    found = re.search(rf"^\[classes\.{name}\]\n(?:\w.*\n)*", text, re.MULTILINE)
    assert found
    return found[0]


def changed(name: str, text: str = CARRIER, **keys: str | None) -> str:
    """A policy in which keys of one class have other values; None leaves a key out."""
    old = new = clause(text, name)
    for key, value in keys.items():
        line = "" if value is None else f'{key} = "{value}"\n'
        new = re.sub(rf"^{key} = .*\n", line, new, flags=re.MULTILINE) if f"\n{key} = " in new else new + line
    return text.replace(old, new)


def refusals(text: str) -> list[str]:
    with pytest.raises(UsageProblem) as raised:
        policy_file.parse(text, "default")
    return str(raised.value).splitlines()


def line_of(text: str, piece: str) -> int:
    return text[: text.index(piece)].count("\n") + 1


@pytest.mark.parametrize("name", examples())
def test_every_example_is_sound_and_speaks_of_every_class(name: str) -> None:
    policy = policy_file.parse(example(name), "default")
    assert (policy.name, set(policy.rules), policy.tenant) == (name, set(CLASSES), "default")
    assert all(rule.basis for rule in policy.rules.values())
    assert policy.role == ("processor" if name in ("business-processor", "controller-instructed") else "controller")


def test_a_subscriber_has_a_window_of_its_own() -> None:
    found = policy_file.parse(SUBSCRIBERS, "default").subscribers
    assert found == {"acct-example-1": Window(12, "month"), "acct-example-2": Window(90, "day")}


@pytest.mark.parametrize("name", CLASSES)
def test_silence_on_a_class_is_refused(name: str) -> None:
    assert refusals(CARRIER.replace(clause(CARRIER, name), "")) == [
        f"classes.{name}: is missing ({CLASSES[name].what}): silence is not a window"
    ]


@pytest.mark.parametrize("key", ["window", "clock", "at_expiry", "basis"])
def test_silence_in_a_class_is_refused_with_its_line(key: str) -> None:
    text = changed("archive", **{key: None})
    line = line_of(text, "[classes.archive]")
    assert refusals(text) == [f"line {line}: classes.archive.{key}: is missing: silence is not a value"]


@pytest.mark.parametrize(
    ("name", "keys", "told"),
    [
        ("call_detail", {"window": "17 months"}, "17 months is under the floor of 18 months"),
        ("call_detail", {"window": "1097 days"}, "1097 days is over the ceiling of 3 years"),
        ("call_detail", {"window": "547 days"}, "547 days is under the floor of 18 months"),
        ("call_detail", {"window": "37 months"}, "37 months is over the ceiling of 3 years"),
        (
            "disclosure_log",
            {"window": "364 days", "floor": None},
            "is under 1 year, which disclosure_log is kept by law",
        ),
        ("breach_record", {"window": "23 months"}, "is under 2 years, which breach_record is kept by law"),
        ("archive", {"window": "3 weeks"}, "a window is written like"),
        ("archive", {"window": "2027-01-01"}, "a window is written like"),
        ("archive", {"window": ""}, "a window is written like"),
        ("archive", {"clock": "call_end"}, "archive counts from ingest, not from 'call_end'"),
        ("billing_transaction", {"clock": "invoice"}, "did you mean 'invoice_date'?"),
        ("archive", {"at_expiry": "archive"}, "archive ends by purge, not by 'archive'"),
        ("audit", {"at_expiry": "purge"}, "audit ends by archive, not by 'purge'"),
        ("call_detail", {"at_expiry": "drop"}, "did you mean 'drop_columns'?"),
        ("call_detail", {"at_expiry": "anonymize"}, "would have to be blanked, and that is not anonymizing"),
        ("billing_transaction", {"at_expiry": "anonymize"}, "would have to be blanked, and that is not anonymizing"),
        ("archive", {"cieling": "1 year"}, "unknown key; did you mean 'ceiling'?"),
    ],
)
def test_what_cannot_stand_is_refused(name: str, keys: dict[str, str | None], told: str) -> None:
    (line,) = refusals(changed(name, **keys))
    assert f"classes.{name}.{next(iter(keys))}: " in line
    assert told in line


def test_a_floor_over_its_ceiling_is_refused() -> None:
    found = refusals(changed("call_detail", floor="37 months"))
    assert any("the floor of 37 months is over the ceiling of 3 years" in line for line in found)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[classes.temp]", "[classes.tmp]", "no retention class is called so; did you mean 'temp'?"),
        ('role = "controller"', 'role = "both"', "role: Input should be 'controller' or 'processor'"),
        ('role = "controller"', 'roll = "controller"', "roll: unknown key; did you mean 'role'?"),
        ("format_version = 1", "format_version = 2", "format_version: Input should be 1"),
        ("uninvoiced_days = 92", "uninvoiced_days = -1", "uninvoiced_days: Input should be greater than"),
        ('purposes = ["billing",', 'purposes = ["Our Needs",', "purposes: a purpose is a word of small letters"),
        ("[classes.temp]", "[classes.temp", "not TOML"),
    ],
)
def test_what_a_policy_cannot_say_is_refused(old: str, new: str, told: str) -> None:
    assert any(told in line for line in refusals(CARRIER.replace(old, new)))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            'acct-7 = "19 months"',
            "19 months is longer than call_detail's 18 months: the window of the class is the longest",
        ),
        ('acct-7 = "548 days"', "548 days is longer than call_detail's 18 months"),
        ('acct-7 = "29 days"', "29 days is under the floor of 30 days"),
        ('acct-7 = "a while"', "a window is written like"),
    ],
)
def test_a_subscribers_window_stays_within_its_class(line: str, told: str) -> None:
    text = SUBSCRIBERS + line + "\n"
    (found,) = refusals(text)
    assert found.startswith(f"line {len(text.splitlines())}: subscribers.acct-7: ")
    assert told in found


def test_every_refusal_names_the_line_of_its_key() -> None:
    text = changed("temp", changed("audit", at_expiry="purge"), window="1 week")
    text = text.replace('window = "1 week"', 'window = "8 days"').replace('clock = "job_end"', 'clock = "answer"')
    assert [line.split(":")[0] for line in refusals(text)] == [
        f"line {line_of(text, clause(text, 'audit')) + 3}",
        f"line {line_of(text, clause(text, 'temp')) + 2}",
    ]


NUMBERS = st.sampled_from(["+1303555{:04}", "303-555-{:04}", "(303) 555-{:04}", "1303555{:04}", "303.555.{:04}"])


@tries(60)
@given(NUMBERS, st.integers(100, 199), st.sampled_from(["# {}", '"{}" = "30 days"', 'x = "{}"', "[classes.{}]", "{}"]))
def test_no_number_is_taken_in_or_told(form: str, last: int, place: str) -> None:
    number = form.format(last)
    for line in refusals(SUBSCRIBERS + place.format(number) + "\n"):
        assert number not in line
        assert not re.search(r"555\D{0,2}01\d\d", line)


def test_a_file_that_cannot_be_read_is_told_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    with pytest.raises(UsageProblem, match=r"mine\.toml: No such file"):
        policy_file.load(path, "default")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageProblem, match=r"mine\.toml: not UTF-8"):
        policy_file.load(path, "default")
    path.write_text(changed("audit", at_expiry="purge"))
    with pytest.raises(UsageProblem, match=r"^mine\.toml: line \d+: classes\.audit\.at_expiry"):
        policy_file.load(path, "default")


# -- notes -------------------------------------------------------------------------------------------------------------


def notes(text: str) -> list[str]:
    return policy_file.lint(policy_file.parse(text, "default"))


def test_data_that_outlives_its_keys_is_noted_and_not_refused() -> None:
    assert notes(CARRIER) == [
        "billing_transaction is kept 7 years, its keys 5 years: seal it anew by then (NIST SP 800-57)"
    ]
    assert notes(changed("billing_transaction", window="5 years")) == []


@pytest.mark.parametrize(
    ("name", "keys", "told"),
    [
        ("keys", {"window": "6 years", "ceiling": None}, "over the 5 years of NIST SP 800-57"),
        ("billing_transaction", {"window": "12 months"}, "numbers go with their row, after 12 months"),
        ("archive", {"window": "2 years"}, "archive holds numbers for 2 years, longer than call_detail keeps them"),
        ("audit", {"window": "8 years"}, "audit is kept 8 years: shorter than 7 years of data and two years after"),
    ],
)
def test_what_should_be_known_is_noted(name: str, keys: dict[str, str | None], told: str) -> None:
    assert any(told in note for note in notes(changed(name, **keys)))


# -- docs --------------------------------------------------------------------------------------------------------------

DOC = Path(__file__).resolve().parents[4].joinpath("docs/policy.md").read_text(encoding="utf-8")


def rows(heading: str) -> dict[str, list[str]]:
    """The table below a heading of the document: first cell → cells."""
    (section,) = [part for part in DOC.split("\n## ") if part.startswith(heading)]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return {line.split("`")[1]: [cell.strip() for cell in line.strip("|").split("|")] for line in lines}


def test_the_document_explains_every_class_clock_and_action() -> None:
    assert {name: cells[2:] for name, cells in rows("Classes").items()} == {
        name: [
            ", ".join(f"`{clock}`" for clock in retention.clocks),
            ", ".join(f"`{action}`" for action in retention.actions),
            str(retention.floor or ""),
        ]
        for name, retention in CLASSES.items()
    }
    assert rows("Clocks").keys() == CLOCKS.keys()
    assert rows("What happens").keys() == ACTIONS.keys()


def test_the_document_explains_every_key_and_names_every_example() -> None:
    assert rows("The file").keys() == {*policy_file._File.model_fields, *policy_file._Clause.model_fields}
    assert [name for name in examples() if f"| `{name}` |" not in DOC] == []


def test_what_the_document_shows_is_sound() -> None:
    head, call_detail, subscribers = re.findall(r"^```toml\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)
    policy_file.parse(head + CARRIER[CARRIER.index("[classes.") :], "default")
    policy_file.parse(CARRIER.replace(clause(CARRIER, "call_detail"), call_detail), "default")
    policy_file.parse(SUBSCRIBERS[: SUBSCRIBERS.index("[subscribers]")] + subscribers, "default")
