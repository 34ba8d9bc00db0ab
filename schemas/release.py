"""Releases: what may be counted and by what, the write-once register, and the cells that analysts read.

Privacy has a price in zero-concentrated differential privacy (zCDP, Bun and Steinke 2016), written rho. It is stored
and summed as whole billionths (nano-rho), so that a budget never drifts by rounding.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from schemas.cdr import DISPOSITIONS
from schemas.tables import METADATA, derived, required
from schemas.views import INDEX

NANO: Final = 1_000_000_000  # nano-rho in one rho
_EXAMPLES: Final = Path(__file__).parent / "releases"
DIMENSIONS: Final = 6  # most dimensions of one release
POOL: Final = "_pool"  # stands for the tenant where a release is over several, which it does not name

# Customers nest: an account may have many subscribers, and what protects an account protects each of them.
UNITS: Final = ("subscriber", "account")

# -- what rows can be counted by: columns of closed vocabularies, by view ----------------------------------------------
# `calling_prefix` and `called_prefix` of the billing view are no columns: a release derives them from the numbers, in
# memory only. Every other text column names somebody (account, trunk, carrier, source) or is free.

DIMENSION_COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "billing": (
        "start",
        "direction",
        "charged_side",
        "calling_presentation",
        "jurisdiction",
        "destination",
        "calling_prefix",
        "called_prefix",
    ),
    "assurance": (
        "start",
        "disposition",
        "released_by",
        "cause_q850",
        "cause_sip",
        "codec",
        "mos_method",
        "calling_prefix",
        "called_prefix",
    ),
}
DERIVED_COLUMNS: Final[dict[str, dict[str, str]]] = {
    "billing": {"calling_prefix": "calling_number", "called_prefix": "called_number"},
    "assurance": {"start": "start_time"},
}
# Where the rows of a view are read: assurance itself knows no account.
READ_OF: Final = {"billing": "billing", "assurance": INDEX}
# The units that a view's rows name: the account, and in billing the customer's own line (transforms.aggregate.owners).
VIEW_UNITS: Final[dict[str, tuple[str, ...]]] = {"billing": UNITS, "assurance": ("account",)}


# -- what can be summed ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measure:
    """A figure that adds up over rows. `distinct`: each unit counts once per cell, whatever its rows.

    `columns` are read for it; `cap` is what one unit may add to one cell where a declaration says nothing.
    """

    what: str
    columns: tuple[str, ...] = ()
    cap: int = 1
    distinct: bool = False


_SUBSCRIBERS: Final = Measure("distinct subscribers: own lines of the customers whose calls they are", distinct=True)
_ACCOUNTS: Final = Measure("distinct accounts", distinct=True)

MEASURES: Final[dict[str, dict[str, Measure]]] = {
    "billing": {
        "calls": Measure("calls, answered or not, as the view holds them", cap=20),
        "answered": Measure("calls with an answer time", ("answer",), 20),
        "talk_s": Measure("talk time in whole seconds, each call's rounded down", ("talk_ms",), 3_600),
        "billable_s": Measure("billable seconds", ("billable_s",), 3_600),
        "subscribers": _SUBSCRIBERS,
        "accounts": _ACCOUNTS,
    },
    "assurance": {
        "calls": Measure("callers' calls: attempts of leg 0", ("leg",), 50),
        "attempts": Measure("route attempts", (), 50),
        "unknown": Measure("attempts whose disposition is not known", ("disposition",), 50),
        "seizures": Measure("attempts whose disposition is known: denominator of ASR and NER", ("disposition",), 50),
        "answered": Measure("attempts that were answered: numerator of ASR", ("disposition",), 50),
        "ner_success": Measure("numerator of NER (ITU-T E.425)", ("disposition",), 50),
        "talk_s": Measure("talk time in whole seconds, each call's rounded down", ("talk_ms",), 9_000),
        "pdd_ms": Measure("post-dial delay, summed: numerator of its mean", ("pdd_ms",), 250_000),
        "pdd_count": Measure("attempts whose post-dial delay is known", ("pdd_ms",), 50),
        "mos_milli": Measure("mean opinion score in thousandths, summed: numerator of its mean", ("mos",), 200_000),
        "mos_count": Measure("attempts with a mean opinion score", ("mos",), 50),
        "accounts": _ACCOUNTS,
    },
}
DISTINCT: Final = {"subscriber": "subscribers", "account": "accounts"}
NER_SUCCESS: Final = ("answered", "busy", "no_answer", "abandoned_alerting", "rejected")
assert set(NER_SUCCESS) <= set(DISPOSITIONS)

# -- the register ------------------------------------------------------------------------------------------------------

RESERVED, PUBLISHED, LOST = "reserved", "published", "lost"

releases = Table(
    "releases",
    METADATA,
    required("release_id", 32, primary_key=True),  # of tenant, name, period, parameters, input, correction and attempt
    required("tenant"),  # POOL for several
    required("name"),
    Column("period_start", Date, nullable=False),
    Column("period_end", Date, nullable=False),  # the last day
    Column("correction_no", Integer, nullable=False),  # 0 is the first publication
    Column("attempt", Integer, nullable=False),  # a reservation whose run died is lost, and paid for
    required("view", 16),
    required("kind", 16),  # dp or threshold
    required("audience", 16),
    required("unit", 16),
    required("spec_digest", 64),
    required("domains_digest", 64),
    required("snapshot", 64),  # of the versions of the partitions it read
    Column("rho", BigInteger, nullable=False),  # nano-rho
    required("status", 16),  # reserved, published, lost
    required("run_id", 32),
    Column("reserved_at", DateTime, nullable=False),
    Column("published_at", DateTime),
    required("path", 255),  # of its folder, below the releases' own
    Column("files", Text),  # JSON: name → SHA-256
    Column("sheet", Text),  # the data sheet (JSON)
    Column("partition", LargeBinary),  # of a threshold table: which cells it joined, sealed under the release root
    UniqueConstraint("tenant", "name", "period_start", "correction_no", "attempt"),
)

# What each release took from whom: a line per tenant, unit and window ("2026-11", or "all").
release_charges = Table(
    "release_charges",
    METADATA,
    required("release_id", 32, primary_key=True),
    required("tenant", primary_key=True),
    required("unit", 16, primary_key=True),
    required("window", 8, primary_key=True),
    Column("rho", BigInteger, nullable=False),
)

# The cap that was in force when a scope was last charged: what settings say later is compared with it, and recorded.
release_budgets = Table(
    "release_budgets",
    METADATA,
    required("tenant", primary_key=True),
    required("unit", 16, primary_key=True),
    required("window", 8, primary_key=True),
    Column("cap", BigInteger, nullable=False),
    Column("changed_at", DateTime, nullable=False),
)

# What a role may read of all this: cells that are out. One row per cell and measure.
analytics_cells = derived(
    "analytics",
    "analytics_cells",
    required("release_id", 32, primary_key=True),
    Column("cell", BigInteger, primary_key=True, autoincrement=False),
    required("measure", 32, primary_key=True),
    required("name"),
    required("tenant"),
    Column("period_start", Date, nullable=False),
    Column("period_end", Date, nullable=False),
    Column("correction_no", Integer, nullable=False),
    required("kind", 16),
    required("audience", 16),
    *(Column(f"d{n}", String(64)) for n in range(1, DIMENSIONS + 1)),
    Column("value", BigInteger),  # signed: noise goes both ways; null where suppressed
    Column("error", BigInteger, nullable=False),  # ± of 95 draws of noise in 100; 0 for a threshold table
    Column("suppressed", Boolean, nullable=False),
)

RELEASE: Final = (releases, release_charges, release_budgets, analytics_cells)


def examples() -> list[str]:
    """Return the names of the example declarations that come with callward."""
    return sorted(path.stem for path in _EXAMPLES.glob("*.toml"))


def example(name: str) -> str:
    """Return the text (TOML) of an example declaration. Raises KeyError where there is none of that name."""
    if name not in examples():
        raise KeyError(name)
    return (_EXAMPLES / f"{name}.toml").read_text(encoding="utf-8")
