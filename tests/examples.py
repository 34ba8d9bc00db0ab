"""How many examples properties and tests are tried with: few in `make test`, many in `make endurance`."""

from collections.abc import Iterable
from typing import Any, Final

import pytest
from hypothesis import settings

FEW, MANY = "few", "many"  # names of hypothesis profiles; --hypothesis-profile=many chooses the second
_USUAL: Final = 14
_TIMES: Final = 28


def register_profiles() -> None:
    """Register both profiles, and load the one for `make test`; an option of pytest's may load the other after it."""
    settings.register_profile(FEW, max_examples=_USUAL, deadline=None)
    settings.register_profile(MANY, max_examples=_USUAL * _TIMES, deadline=None)
    settings.load_profile(FEW)


def tries(count: int, **more: Any) -> settings:
    """Return settings of a property that takes longer or less long than most (which have 40): a third of `count`
    examples in `make test`, ten times `count` in `make endurance`."""
    many = settings.get_current_profile_name() == MANY
    return settings(max_examples=10 * count if many else max(2, count // 3), **more)


def some(cases: Iterable[Any], of: int = 1) -> list[Any]:
    """Return parameters of a test: the first `of` cases for `make test`, the others for `make endurance` alone."""
    given = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*case, marks=pytest.mark.endurance if at >= of else ()) for at, case in enumerate(given)]
