"""The Beam batch of a purge: what takes the place of data files that do not go whole."""

from datetime import date

import apache_beam as beam

from callward.disposal.purge import Written
from callward.errors import Problem
from callward.retention.purge.due_files import PlanItem
from callward.retention.purge.plan import Plan
from callward.settings import Settings
from callward.workspace import WorkspaceRef
from pipelines.engine import run as engine
from transforms.expire import Expire, prepared
from transforms.spread import Spread


def write(
    settings: Settings, reference: WorkspaceRef, plan: Plan, run_id: str, purge_id: str, attempt: int, today: date
) -> Written:
    """Write anew what a plan does not delete whole; nothing of it counts yet. Raises Problem in one sentence."""

    def build(pipeline: beam.Pipeline) -> None:
        (
            pipeline
            | "Plan" >> Spread(plan.written, PlanItem)
            | "Expire" >> Expire(reference, run_id, purge_id, attempt, plan.as_of, today)
        )

    engine.run(settings, reference, build)
    written_by_file = prepared(settings, run_id)
    if written_by_file.keys() != {item.file.file_id for item in plan.written}:
        raise Problem("the batch ended without having written everything; nothing was purged")
    rewrites = list(written_by_file.values())
    return Written(
        {rewrite.file_id: rewrite.files for rewrite in rewrites},
        [entry for rewrite in rewrites for entry in rewrite.entries],
        [end for rewrite in rewrites for end in rewrite.ends],
    )
