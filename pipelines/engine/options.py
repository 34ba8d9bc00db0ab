"""Beam's options: those of the settings are read once, so that a wrong one is a sentence about a setting."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn, TypeVar

from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

from callward.settings import nearest

View = TypeVar("View", bound=PipelineOptions)

# What settings of [engine] and [stream] decide, and how they are called.
_DECIDED: Final[Mapping[str, str]] = {
    "runner": "engine.runner",
    "direct_num_workers": "engine.workers",
    "direct_running_mode": "engine.workers",
    "sdk_worker_parallelism": "engine.workers",
    "parallelism": "engine.parallelism",
    "max_parallelism": "engine.max_parallelism",
    "flink_master": "engine.flink_master",
    "flink_version": "engine.flink_version",
    "flink_job_server_jar": "engine.jar",
    "environment_type": "engine.environment",
    "environment_config": "engine.worker_command or engine.worker_pool",
    "checkpointing_interval": "engine.checkpoint_seconds",
    "state_backend_storage_path": "engine.checkpoint_uri",
    "job_endpoint": "engine.jar",
    "streaming": "the command",
}


class Options(PipelineOptions):
    """Options of Beam that keep their views: the making of a graph asks for hundreds, and each is parsed anew."""

    def view_as(self, cls: type[View]) -> View:
        views = vars(self).setdefault("_views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_views"}


class _Refused(Exception):
    """An option whose value is of another kind than Beam takes."""


class _Parser(_BeamArgumentParser):
    """Beam's parser, which prints its usage and ends the process otherwise."""

    def error(self, message: str) -> NoReturn:
        raise _Refused(message)


def fault(given: Sequence[str]) -> str | None:
    """Return what is wrong with the words of engine.options, in one sentence; None where Beam takes them.

    An option that Beam does not know, that a setting decides, or whose value is of another kind.
    """
    parser = _Parser(allow_abbrev=False, add_help=False, argument_default=argparse.SUPPRESS)
    for group in dict.fromkeys(PipelineOptions.__subclasses__()):
        group._add_argparse_args(parser)
    names = [word.partition("=")[0] for word in given if word.startswith("-")]
    known = [name for name in parser._option_string_actions if name.startswith("--")]
    for name in names:
        if name not in known:
            return f"Beam has no option {name}{_near(name, known)}"
        if setting := _DECIDED.get(name.removeprefix("--")):
            return f"{name} is decided by {setting}"
    try:
        rest: list[Any] = parser.parse_known_args(list(given))[1]
    except (_Refused, argparse.ArgumentError) as error:
        name = next((name for name in names if name in str(error)), "an option")
        return f"{name} takes another value, written --name=value"
    return "a value belongs to no option: write --name=value" if rest else None


def _near(name: str, known: Sequence[str]) -> str:
    close = nearest(name, known)
    return close if close.startswith("; did") else ""
