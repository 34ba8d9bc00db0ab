"""Jobs on a Flink cluster, which go on there until someone ends them."""

import time
from typing import Any, Final

from callward.errors import Problem
from callward.settings import Settings
from pipelines.engine import flink

_PATIENCE_S: Final = 60.0
_GOING: Final = ("INITIALIZING", "CREATED", "RUNNING", "FAILING", "RESTARTING", "CANCELLING", "SUSPENDED")


def cancel(settings: Settings, name: str) -> None:
    """Cancel the jobs of that name and wait until they are over. Raises Problem where no cluster answers, or one stays.

    Beam's own cancel returns at once, and a job server that ends then takes the word with it.
    """
    until = time.monotonic() + _PATIENCE_S
    while going := _going(settings, name):
        if time.monotonic() > until:
            raise Problem(
                f"the Flink cluster {settings.engine.flink_master} does not end the job {name}; cancel it there"
            )
        for job in going:
            if job["state"] != "CANCELLING":
                flink.ask(settings, f"/jobs/{job['jid']}?mode=cancel", "PATCH")
        time.sleep(0.5)


def _going(settings: Settings, name: str) -> list[dict[str, Any]]:
    return [job for job in flink.ask(settings, "/jobs/overview")["jobs"] if _is(job, name)]


def _is(job: dict[str, Any], name: str) -> bool:
    return str(job["name"]).startswith(name) and job["state"] in _GOING
