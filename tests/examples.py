"""How many examples properties are tried with: few in `make test`, ten times as many in `make endurance`."""

from typing import Any, Final

from hypothesis import settings

FEW, MANY = "few", "many"  # names of hypothesis profiles; --hypothesis-profile=many chooses the second
_TIMES: Final = 10


def register_profiles() -> None:
    """Register both profiles, and load the one for `make test`; an option of pytest's may load the other after it."""
    settings.register_profile(FEW, max_examples=40, deadline=None)
    settings.register_profile(MANY, max_examples=40 * _TIMES, deadline=None)
    settings.load_profile(FEW)


def tries(count: int, **more: Any) -> settings:
    """Return the settings of a property that takes longer or less long than most: `count` examples in `make test`."""
    times = _TIMES if settings.get_current_profile_name() == MANY else 1
    return settings(max_examples=count * times, **more)
