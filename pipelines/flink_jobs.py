"""Jobs on a Flink cluster, by its REST interface: a supervisor that died leaves its job running there."""

import json
import urllib.request
from typing import Any, Final

from callward.errors import Problem
from callward.settings import Settings

_PATIENCE_S: Final = 10.0
_GOING: Final = ("INITIALIZING", "CREATED", "RUNNING", "FAILING", "RESTARTING", "SUSPENDED", "RECONCILING")


def cancel(settings: Settings, name: str) -> int:
    """Cancel the jobs of that name that are going on; how many there were. Raises Problem where no cluster answers."""
    going = [job["jid"] for job in _ask(settings, "/jobs/overview")["jobs"] if _is(job, name)]
    for job_id in going:
        _ask(settings, f"/jobs/{job_id}?mode=cancel", "PATCH")
    return len(going)


def _is(job: dict[str, Any], name: str) -> bool:
    return str(job["name"]).startswith(name) and job["state"] in _GOING


def _ask(settings: Settings, path: str, method: str = "GET") -> dict[str, Any]:
    request = urllib.request.Request(f"http://{settings.engine.flink_master}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:
            found: dict[str, Any] = json.loads(answer.read() or b"{}")
            return found
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise Problem(f"the Flink cluster {settings.engine.flink_master} does not answer ({reason})") from None
