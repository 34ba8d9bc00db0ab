"""Retention classes that a tenant must give a window for before anything of its data is written.

Windows are words such as "18 months", "7 years" or "92 days" (calendar months and years). The bases are in
docs/compliance.md; there is no default, because silence in a policy is not a window.
"""

import re
from dataclasses import dataclass
from typing import Final

CLASSES: Final = {
    "call_detail": "numbers, times and durations of calls (47 CFR 64.2003(d))",
    "billing_transaction": "amounts and the billing rows without numbers",
    "assurance_metrics": "the service-assurance view and its hourly tables",
    "suspense": "records set aside until they are mended",
    "archive": "sealed copies of the files as they came",
    "audit": "who opened which key, when and why",
}

# What `callward init --demo` writes: the defaults of the published policies, each an explicit choice of the demo.
DEMO_WINDOWS: Final = {
    "call_detail": "18 months",
    "billing_transaction": "7 years",
    "assurance_metrics": "13 months",
    "suspense": "92 days",
    "archive": "92 days",
    "audit": "9 years",
}

_WINDOW = re.compile(r"([1-9]\d{0,3}) (day|month|year)s?")


@dataclass(frozen=True)
class Window:
    """A length of calendar time: `count` of `unit` (day, month or year)."""

    count: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> "Window":
        """Read "18 months"; raises ValueError in words a person can act on."""
        match = _WINDOW.fullmatch(text.strip())
        if not match:
            raise ValueError(f"a window is written like '18 months', '7 years' or '92 days', not {text!r}")
        return cls(int(match[1]), match[2])
