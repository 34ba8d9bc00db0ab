"""Files of accounts: read in every spelling, and what is wrong is named by file and line, never by a number."""

from datetime import date
from pathlib import Path

import pytest

from callward.accounts.entries import ALWAYS, FOREVER, shortened
from callward.accounts.reading import Rows, WrongFile, read
from callward.numbering import plan

_US = plan("US")
_NUMBER = 13035550110


def given(folder: Path, text: str | bytes, name: str = "accounts.csv", starts: int | None = None) -> Rows:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path, _US, "default", ["default", "north"], starts)


@pytest.mark.parametrize(
    "spelled",
    [
        *("+13035550110", "13035550110", "3035550110", "(303) 555-0110", "303.555.0110", "1-303-555-0110"),
        *("'+13035550110", '="3035550110"', "tel:+1-303-555-0110", "sip:+13035550110@pbx.example", " 3035550110 "),
        *("011 1 303 555 0110", "+1 303 555 0110"),
    ],
)
def test_a_number_is_read_in_every_spelling(tmp_path: Path, spelled: str) -> None:
    quoted = spelled.replace('"', '""')
    assert given(tmp_path, f'account,number\na,"{quoted}"\n').low.tolist() == [_NUMBER]


@pytest.mark.parametrize("spelled", ["1.30356E+10", "5550110", "303555011", "1001", "anonymous", "+1303555011x", "911"])
def test_what_is_no_public_number_is_named_by_its_line_alone(tmp_path: Path, spelled: str) -> None:
    with pytest.raises(WrongFile, match=r"^accounts\.csv: nothing was imported.*: line 3: ") as problem:
        given(tmp_path, f"account,number\na,+13035550110\nb,{spelled}\n")
    assert spelled not in str(problem.value)


_FORMS = {
    "comma": "account,number,last,since\na,+13035550110,+13035550119,2026-03-01\n",
    "semicolon": "account;number;last;since\na;+13035550110;+13035550119;2026-03-01\n",
    "tab": "account\tnumber\tlast\tsince\na\t+13035550110\t+13035550119\t2026-03-01\n",
    "crlf": "Account,Number,Last,Since\r\na,+13035550110,+13035550119,2026-03-01\r\n",
    "cr": "account,number,last,since\ra,+13035550110,+13035550119,2026-03-01",
    "json": '[{"account": "a", "number": 13035550110, "last": "+13035550119", "since": "2026-03-01"}]',
    "jsonl": '\n{"account": "a", "number": "+13035550110", "last": "+13035550119", "since": "2026-03-01"}\n',
}


@pytest.mark.parametrize("form", [*_FORMS, "utf-8-sig", "utf-16"])
def test_each_form_of_a_file_says_the_same(tmp_path: Path, form: str) -> None:
    text = _FORMS["comma"].encode(form) if form not in _FORMS else _FORMS[form]
    rows = given(tmp_path, text, f"accounts.{form if form.startswith('json') else 'csv'}")
    assert (rows.low.tolist(), rows.high.tolist()) == ([_NUMBER], [_NUMBER + 9])
    assert (rows.since.tolist(), rows.until.tolist()) == ([shortened(date(2026, 3, 1))[0]], [FOREVER])
    assert rows.table.to_pylist() == [
        {"account": "a", "tenant": "default", "code": None, "trunk": None, "context": None, "zone": None}
    ]


def test_blank_lines_are_counted_and_say_nothing(tmp_path: Path) -> None:
    rows = given(tmp_path, "account,code,tenant\na,ac-a,\n\n,,\nb,ac-b,north\n")
    assert rows.line.tolist() == [2, 5]
    assert rows.of_tenant("north").table["account"].to_pylist() == ["b"]
    assert rows.since.tolist() == [ALWAYS] * 2


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (",+13035550110,,,,,,", "it names no account"),
        ("a,,,,,,,", "it gives the account nothing"),
        ("a,,+13035550119,,,,,", "it gives the account nothing"),
        ("a,,+13035550119,ac-a,,,,", "it has a last number and no first"),
        ("a,+13035550110,+13035550100,,,,,", "the last number is of another length than the first, or before it"),
        ("a,+13035550110,+442079460123,,,,,", "the last number is of another length than the first, or before it"),
        ("a,+13035550110,,,,2026-02-30,,", "since is no day"),
        ("a,+13035550110,,,,3/1/2026,,", "since is no day"),
        ("a,+13035550110,,,,2026-03-02,2026-03-01,", "until is before since"),
        ("a,+13035550110,,,,,2026-01-31,", "until is before the day from which the file counts"),
        ("a,,,,,,,Mars/Phobos", "the zone is no IANA name"),
        ("b,,,,,,,UTC", "the account has another zone on a line before"),
        ("a,,,ac-a,south,,,", "no tenant is called so"),
        ("unassigned,,,ac-a,,,,", "unassigned has numbers alone"),
        ("c-7195550178,,,ac-a,,,,", "the account looks like a phone number"),
        ("a\x07,,,ac-a,,,,", "the account cannot be printed"),
        (f"{'a' * 65},,,ac-a,,,,", "the account is too long"),
        ("a,+13035550110", "2 columns, not 8"),
        ("a,+13035550110,,,,,,,", "9 columns, not 8"),
    ],
)
def test_what_a_row_cannot_say_is_named_by_its_line(tmp_path: Path, row: str, told: str) -> None:
    text = f"account,number,last,code,tenant,since,until,zone\nb,,,ac-b,,,,America/Denver\n{row}\n"
    with pytest.raises(WrongFile) as problem:
        given(tmp_path, text, starts=shortened(date(2026, 2, 1))[0])
    assert f"line 3: {told}" in str(problem.value)
    assert "555" not in str(problem.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("account,nomber\na,1\n", "'nomber' is no column of a directory; did you mean 'number'"),
        ("account,code,code\na,b,c\n", "two columns have one name"),
        ("number\n+13035550110\n", "it has no column account"),
        ("+13035550110,a\n", r"'\+#{11}' is no column"),
        ("account,number\n", "it has no rows"),
        ("", "is no column|it has no column account"),
        (b"account,code\n\xe9,ac\n", "no CSV in UTF-8"),
        (b"\xff\xfea", "cannot be read as utf-16"),
    ],
)
def test_a_file_that_is_no_directory_is_refused_in_a_sentence(tmp_path: Path, text: str | bytes, told: str) -> None:
    with pytest.raises(WrongFile, match=told):
        given(tmp_path, text)


def test_an_item_of_a_list_that_is_wrong_is_named_by_its_place(tmp_path: Path) -> None:
    with pytest.raises(
        WrongFile, match=r"item 2: it gives the account nothing; item 3: it is no JSON object of texts$"
    ):
        given(tmp_path, '[{"account": "a", "code": "x"}, {"account": "b"}, ["c"]]', "accounts.json")


def test_one_wrong_line_of_very_many_is_named(tmp_path: Path) -> None:
    lines = [f"acct-{n % 7},+1303{2_200_000 + n}" for n in range(50_000)]
    lines[40_000] += "x"
    with pytest.raises(WrongFile, match=r"cannot be: line 40002: the number is no public number: [^;]*$"):
        given(tmp_path, "\n".join(["account,number", *lines]))


def test_so_many_wrong_lines_are_named_and_the_others_counted(tmp_path: Path) -> None:
    with pytest.raises(WrongFile, match=r"line 2: .*; line 21: [^;]*; and 80 more$"):
        given(tmp_path, "account,number\n" + "a,nobody\n" * 100)
