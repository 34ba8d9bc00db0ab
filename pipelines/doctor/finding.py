"""A line of what doctor says of a workspace."""

from dataclasses import dataclass
from typing import Final

OK, MISSING, WRONG, WARNING, NOTE = "ok", "missing", "wrong", "warning", "note"
_BAD: Final = (MISSING, WRONG)


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, what was seen, and how to mend it ("" where nothing is to be done)."""

    what: str
    state: str
    seen: str
    mend: str = ""

    @property
    def bad(self) -> bool:
        return self.state in _BAD
