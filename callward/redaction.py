"""Redaction: what looks like a telephone number in text from outside, and how it is masked or refused."""

import re
from datetime import datetime

from callward.errors import UsageProblem

_DIGITS = re.compile(r"\d{7,}")


_SEPARATED = re.compile(r"(?<![0-9A-Za-z])\(?\d{3}\)?[-. ]{1,2}\d{3}[-. ]\d{4}(?![0-9A-Za-z])")  # 212-555-0100


_DATE_FORMS = {14: "%Y%m%d%H%M%S", 12: "%Y%m%d%H%M", 10: "%Y%m%d%H", 8: "%Y%m%d"}  # by their digits


def mask(name: str) -> str:
    """Return a file's name with what may be a number masked.

    Seven digits or more that are no date (and time), or 3-3-4.
    """
    name = _SEPARATED.sub(lambda match: re.sub(r"\d", "#", match[0]), name)
    return _DIGITS.sub(lambda match: match[0] if _is_date(match[0]) else "#" * len(match[0]), name)


def _is_date(digits: str) -> bool:
    form = _DATE_FORMS.get(len(digits))  # strptime would also take fields of one digit
    try:
        return form is not None and 1990 <= datetime.strptime(digits, form).year < 2100
    except ValueError:
        return False


# What may be written with a purpose and a case, which the audit log keeps in the clear: no telephone number.
_NUMBER = re.compile(
    r"\+\d{6,}|\d{10,}|(?<![A-Za-z\d])\d{7,9}|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}|(?<!\d)\d{3}[ .-]\d{4}(?!\d)"
)


_LONGEST_WORDS = 100  # of a purpose, a case or a reason


def check_recorded(option: str, text: str) -> None:
    """Raise UsageProblem for words that the audit log cannot keep: too long, or with what looks like a number."""
    if _NUMBER.search(text):
        raise UsageProblem(
            f"{option} holds what looks like a telephone number, and it is recorded in the clear: write it without"
        )
    if len(text) > _LONGEST_WORDS or not text.isprintable():
        raise UsageProblem(f"{option} takes one line of at most {_LONGEST_WORDS} characters")
