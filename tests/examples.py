"""How many examples properties are tried with: few in `make test`, twenty times as many in `make endurance`."""

from typing import Any, Final

from hypothesis import settings

FEW, MANY = "few", "many"  # names of hypothesis profiles; --hypothesis-profile=many chooses the second
_USUAL: Final = 20
_TIMES: Final = 20


def register_profiles() -> None:
    """Register both profiles, and load the one for `make test`; an option of pytest's may load the other after it."""
    settings.register_profile(FEW, max_examples=_USUAL, deadline=None)
    settings.register_profile(MANY, max_examples=_USUAL * _TIMES, deadline=None)
    settings.load_profile(FEW)


def tries(count: int, **more: Any) -> settings:
    """Return settings of a property that takes longer or less long than most (which have 40): half of `count` examples
    in `make test`, ten times `count` in `make endurance`."""
    many = settings.get_current_profile_name() == MANY
    return settings(max_examples=count * _TIMES // 2 if many else max(2, count // 2), **more)
