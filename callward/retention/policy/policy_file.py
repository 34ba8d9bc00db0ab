"""A policy as a person writes it (TOML), read into a Policy; what cannot stand is refused, with its line and key.

`read` takes the form alone, as for a version that was in force before. `parse` refuses what may not be activated:
silence on a class, a window under its floor or over its ceiling, an action or clock that a class cannot have. `lint`
adds notes: what may stand and should be known. Messages repeat no word that could be a telephone number.
"""

import difflib
import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from callward.errors import UsageProblem
from callward.redaction import looks_like_number, mask
from callward.retention.policy.rules import BILLING, NUMBERS, PURPOSES, UNINVOICED_DAYS, Policy, Rule
from schemas import toml
from schemas.retention_classes import ACTIONS, CLASSES, CLOCKS, Window

FORMAT_VERSION: Final = 1
_HEADER: Final = re.compile(r"\s*\[([^\[\]]+)\]")
_KEY: Final = re.compile(r"\s*([\w.\"'-]+)\s*=")
_OPEN_FOR_YEARS: Final = Window(5, "year")  # NIST SP 800-57: two years to encrypt, three more to decrypt
_AFTER_KEYS: Final = Window(2, "year")
_WITH_NUMBERS: Final = ("suspense", "archive")

_Window = Annotated[Window, BeforeValidator(lambda text: Window.parse(text if isinstance(text, str) else str(text)))]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class _Clause(_Table):
    """A [classes.NAME] table."""

    window: _Window
    clock: str
    at_expiry: str
    basis: str = Field(min_length=1)
    floor: _Window | None = None
    ceiling: _Window | None = None


class _File(_Table):
    """A whole policy file."""

    format_version: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    role: Literal["controller", "processor"]
    purposes: list[str] = Field(default=list(PURPOSES), min_length=1)
    uninvoiced_days: int = Field(default=UNINVOICED_DAYS, ge=0, le=3660)
    classes: dict[str, _Clause]
    subscribers: dict[str, _Window] = {}


_Fault = tuple[tuple[str, ...], str]  # where, and what is wrong there


def load(path: Path, tenant: str) -> Policy:
    """Parse a file; raises UsageProblem whose lines begin with the file's name."""
    try:
        text = toml.read(path).decode()
    except OSError as error:
        raise UsageProblem(f"{mask(str(path))}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageProblem(f"{mask(str(path))}: not UTF-8 text") from None
    except toml.NotToml as error:
        raise UsageProblem(f"{mask(str(path))}: {error}") from None
    try:
        return parse(text, tenant)
    except UsageProblem as problem:
        raise UsageProblem("\n".join(f"{mask(path.name)}: {line}" for line in str(problem).splitlines())) from None


def parse(text: str, tenant: str) -> Policy:
    """Return a policy that may be proposed; raises UsageProblem with a line for everything that is refused in it."""
    policy = read(text, tenant)
    faults = [*_silence(policy), *_clauses(policy), *_purposes(policy), *_subscribers(policy)]
    sentences = [*_numbers(policy), *(_sentence(text, fault) for fault in faults)]
    if sentences:
        raise UsageProblem("\n".join(sentences))
    return policy


@lru_cache(maxsize=256)
def read(text: str, tenant: str) -> Policy:
    """Return the policy that a text says, as to its form alone; raises UsageProblem naming line and key."""
    try:
        file = _File.model_validate(toml.parse(text))
    except toml.NotToml as error:
        raise UsageProblem(str(error)) from None
    except ValidationError as error:
        raise UsageProblem(
            "\n".join(_sentence(text, _form(fault)) for fault in error.errors()[: toml.FAULTS])
        ) from None
    return Policy(
        tenant=tenant,
        version=0,
        name=file.name,
        role=file.role,
        digest=hashlib.sha256(text.encode()).hexdigest(),
        rules={name: Rule(**dict(clause)) for name, clause in file.classes.items()},
        uninvoiced_days=file.uninvoiced_days,
        text=text,
        purposes=frozenset(file.purposes),
        subscribers=file.subscribers,
    )


def lint(policy: Policy) -> list[str]:
    """Return what may stand in a policy and should be known: one sentence each."""
    return [*_key_lifetimes(policy), *_outlasting(policy), *_audit_too_short(policy)]


# -- what is refused ---------------------------------------------------------------------------------------------------


def _silence(policy: Policy) -> Iterator[_Fault]:
    for name, retention in CLASSES.items():
        if name not in policy.rules:
            yield ("classes", name), f"is missing ({retention.what}): silence is not a window"


def _clauses(policy: Policy) -> Iterator[_Fault]:
    for name, rule in policy.rules.items():
        where = ("classes", name)
        if name not in CLASSES:
            yield where, f"no retention class is called so{_nearest(name, CLASSES)}"
            continue
        yield from ((where + fault[0], fault[1]) for fault in (*_words(name, rule), *_bounds(name, rule)))


def _words(name: str, rule: Rule) -> Iterator[_Fault]:
    """Yield the faults in what a clause chooses from lists."""
    retention = CLASSES[name]
    if rule.clock not in retention.clocks:
        known = "" if rule.clock in CLOCKS else _nearest(rule.clock, CLOCKS)
        yield ("clock",), f"{name} counts from {_either(retention.clocks)}, not from {_quoted(rule.clock)}{known}"
    if rule.at_expiry == "anonymize" and rule.at_expiry not in retention.actions:
        yield (
            ("at_expiry",),
            f"{name} cannot be anonymized: its rows would have to be blanked, and that is not anonymizing; "
            f"write {_either(retention.actions)}",
        )
    elif rule.at_expiry not in retention.actions:
        known = "" if rule.at_expiry in ACTIONS else _nearest(rule.at_expiry, ACTIONS)
        yield ("at_expiry",), f"{name} ends by {_either(retention.actions)}, not by {_quoted(rule.at_expiry)}{known}"


def _bounds(name: str, rule: Rule) -> Iterator[_Fault]:
    """Yield the faults in windows: each comparison holds for every day on which the clock may begin."""
    window, floor, ceiling, least = rule.window, rule.floor, rule.ceiling, CLASSES[name].floor
    if floor and window.may_end_before(floor):
        yield ("window",), f"{window} is under the floor of {floor}"
    if least and window.may_end_before(least):
        yield ("window",), f"{window} is under {least}, which {name} is kept by law"
    if ceiling and ceiling.may_end_before(window):
        yield ("window",), f"{window} is over the ceiling of {ceiling}"
    if floor and ceiling and ceiling.may_end_before(floor):
        yield ("floor",), f"the floor of {floor} is over the ceiling of {ceiling}"


def _purposes(policy: Policy) -> Iterator[_Fault]:
    for purpose in sorted(policy.purposes):
        if not re.fullmatch(r"[a-z][a-z_]{1,39}", purpose):
            yield ("purposes",), "a purpose is a word of small letters and underscores, such as service_assurance"


def _subscribers(policy: Policy) -> Iterator[_Fault]:
    """Yield a fault for an account's own window that is longer than its class's, or shorter than the floor."""
    rule = policy.rules.get(NUMBERS)
    for account, window in policy.subscribers.items():
        where = ("subscribers", account)
        if looks_like_number(account):
            yield where, "an account id of seven or more digits looks like a phone number"
        elif rule and rule.window.may_end_before(window):
            yield where, f"{window} is longer than call_detail's {rule.window}: the window of the class is the longest"
        elif rule and rule.floor and window.may_end_before(rule.floor):
            yield where, f"{window} is under the floor of {rule.floor}"


def _numbers(policy: Policy) -> Iterator[str]:
    """Yield a fault for each number in the text, also in a comment: the register keeps it in the clear."""
    for number, line in enumerate(policy.text.splitlines(), 1):
        for account in policy.subscribers:
            line = line.replace(account, "")
        if looks_like_number(line):
            yield f"line {number}: holds what looks like a telephone number, and a policy is kept in the clear"


# -- what is noted -----------------------------------------------------------------------------------------------------


def _key_lifetimes(policy: Policy) -> Iterator[str]:
    keys = policy.rules.get("keys")
    if keys is None:
        return
    if _OPEN_FOR_YEARS.may_end_before(keys.window):
        yield f"keys may open data for {keys.window}, over the {_OPEN_FOR_YEARS} of NIST SP 800-57"
    for name, rule in policy.rules.items():
        if CLASSES[name].keyed and keys.window.may_end_before(rule.window):
            yield f"{name} is kept {rule.window}, its keys {keys.window}: seal it anew by then (NIST SP 800-57)"


def _outlasting(policy: Policy) -> Iterator[str]:
    numbers, billing = policy.rules.get(NUMBERS), policy.rules.get(BILLING)
    if numbers is None or billing is None:
        return
    if billing.window.may_end_before(numbers.window):
        yield f"{NUMBERS} is kept {numbers.window}, but numbers go with their row, after {billing.window}"
    for name in _WITH_NUMBERS:
        if name in policy.rules and numbers.window.may_end_before(policy.rules[name].window):
            yield f"{name} holds numbers for {policy.rules[name].window}, longer than {NUMBERS} keeps them"


def _audit_too_short(policy: Policy) -> Iterator[str]:
    """Yield a sentence where who opened a key is not known for two years after the key is gone."""
    audit = policy.rules.get("audit")
    longest = [r.window for name, r in policy.rules.items() if CLASSES[name].keyed]
    for window in longest if audit else ():
        if audit and _together(window, _AFTER_KEYS) > _together(audit.window):
            yield f"audit is kept {audit.window}: shorter than {window} of data and two years after its keys are gone"
            return


def _together(*windows: Window) -> float:
    """Return about how many days windows last: good enough for a note."""
    return sum(w.count if w.months is None else w.months * 30.44 for w in windows)


# -- words of a message ------------------------------------------------------------------------------------------------


def _form(error: Any) -> _Fault:
    """Return a fault that the model found, in our words."""
    where, kind = tuple(str(part) for part in error["loc"]), error["type"]
    if kind == "extra_forbidden":
        known = _Clause.model_fields if where[0] == "classes" else _File.model_fields
        return where, f"unknown key{_nearest(where[-1], known)}"
    if kind == "missing":
        return where, "is missing: silence is not a value"
    return where, str(error["msg"]).removeprefix("Value error, ")


def _sentence(text: str, fault: _Fault) -> str:
    where, message = fault
    line = next((n for size in range(len(where), 0, -1) if (n := _line_of(text, where[:size]))), None)
    return f"{f'line {line}: ' if line else ''}{mask('.'.join(where))}: {message}"


def _line_of(text: str, where: tuple[str, ...]) -> int | None:
    """Return the line of a key, or of its table's header."""
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _parts(header[1])
            if table == where:
                return number
        elif (key := _KEY.match(line)) and (*table, *_parts(key[1])) == where:
            return number
    return None


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def _nearest(word: str, words: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f" (known: {', '.join(words)})"


def _either(words: tuple[str, ...]) -> str:
    return " or ".join(words)


def _quoted(word: str) -> str:
    return repr(mask(word))
