"""The batch of a release: the lake is added up under seal, and what comes of it is drawn or partitioned here.

Noise is drawn in this process alone, in the very transaction that publishes. A step that a runner may repeat would
draw twice, and the mean of two draws is nearer to the truth than was paid for.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import apache_beam as beam
import numpy as np

from callward import database
from callward.errors import Problem
from callward.keys.register import EVERY_MONTH, KeyName
from callward.keys.seal import Sealer
from callward.lake.data_files import DataFiles, open_files
from callward.lake.ledger import DataFile
from callward.release import budget, mechanisms, publication, suppression
from callward.release.budget import Reservation
from callward.release.declaration import Release
from callward.release.publication import Cells
from callward.settings import Settings
from pipelines.engine import run as engine
from schemas.release import NANO
from transforms import aggregate

ROLE: Final = budget.ROLE


@dataclass(frozen=True)
class Drawn:
    """A table as it will be published. `epsilon` and `sigmas` are empty for a threshold table."""

    cells: Cells
    sigmas: Sequence[float] = ()
    epsilon: float | None = None
    partition: bytes | None = None  # of a threshold table, sealed


Draw = Callable[[], Drawn]


def summed(
    settings: Settings, run_id: str, reserved: Reservation, data: Sequence[DataFile]
) -> tuple[Draw, dict[str, Any]]:
    """Add up data files; return what draws the table (once!), and what became of the rows, for the run's own log."""
    files = open_files(settings, ROLE, f"release, run {run_id}", run_id)
    reference = files.workspace.reference
    task = aggregate.Task(reserved.release, tuple(data), reserved.release_id)

    def build(pipeline: beam.Pipeline) -> None:
        _ = pipeline | "Aggregate" >> aggregate.Aggregate(reference, run_id, task)

    try:
        engine.run(settings, reference, build)
        aggregated = aggregate.gathered(files)
        draw = _partitioned if reserved.release.kind == "threshold" else _noised
        return draw(settings, files, reserved, aggregated), asdict(aggregated.tally)
    finally:
        files.clear_spilled()


def _noised(settings: Settings, files: DataFiles, reserved: Reservation, aggregated: aggregate.Aggregated) -> Draw:
    release = reserved.release
    sums, scale = aggregate.summed(aggregated, files, release), aggregate.scale(release)

    def draw() -> Drawn:
        drawn = [
            mechanisms.gaussian(sums[:, at], sensitivity * scale, rho / NANO)
            for at, (sensitivity, rho) in enumerate(zip(release.sensitivities(), release.rhos(), strict=True))
        ]
        noisy = np.stack([_unscaled(values, scale) for values, _ in drawn], axis=1)
        sigmas = [sigma / scale for _, sigma in drawn]
        assert release.budget is not None
        epsilon = mechanisms.epsilon_of(release.rho / NANO, release.budget.delta)
        return Drawn(publication.of_noise(release, noisy, sigmas), sigmas, epsilon)

    return draw


def _unscaled(values: np.ndarray, scale: int) -> np.ndarray:
    """Return fixed-point figures as whole numbers, rounded half up: after the noise, so it reveals nothing."""
    return np.asarray((values + scale // 2) // scale, np.int64)


def _partitioned(settings: Settings, files: DataFiles, reserved: Reservation, aggregated: aggregate.Aggregated) -> Draw:
    """Return the partition of a threshold table; there is nothing to draw."""
    release, rule = reserved.release, reserved.release.suppression
    grid = release.grid()
    parents = grid.parents(np.arange(grid.size, dtype=np.uint64), rule.within).astype(np.int64)
    columns = tuple(range(len(release.measures)))
    finer = _finer(settings, files, reserved) if rule.coarsens else None
    parts = aggregate.Parts(files, aggregated.parts)
    partition = suppression.table(parts, parents, suppression.Rule(rule.k, rule.dominance, columns), finer)
    cells = publication.of_groups(
        release, partition.parent, partition.cell, aggregate.figures(partition.stats, release)
    )
    sealed = _sealer(files, release).seal(_packed(partition), _about(reserved.release_id))
    return lambda: Drawn(cells, partition=sealed)


# Which cells a threshold table joined is no part of it: whoever knows learns which cells are small.


def _sealer(files: DataFiles, release: Release) -> Sealer:
    return files.workspace.keyring.sealer(KeyName("release", release.tenant, EVERY_MONTH, "partition"))


def _about(release_id: str) -> bytes:
    return f"partition|{release_id}".encode()


def _packed(partition: suppression.Partition) -> bytes:
    packed = io.BytesIO()
    np.savez_compressed(packed, group=partition.group, parent=partition.parent, cell=partition.cell)
    return packed.getvalue()


def _finer(settings: Settings, files: DataFiles, reserved: Reservation) -> suppression.Partition:
    """Return the partition of the table that is out, whose cells this one may only join."""
    release, span = reserved.release, reserved.period
    with database.reading(settings) as connection:
        out = [
            row
            for row in budget.published(connection, release.suppression.coarsens)
            if row.tenant == release.tenant and row.period_start == span.start and row.period_end == span.end
        ]
    if not out:
        raise Problem(f"{release.suppression.coarsens} is not released for {span}")
    packed = np.load(io.BytesIO(_sealer(files, release).open(out[-1].partition, _about(out[-1].release_id))))
    group, parent, cell = (packed[name].astype(np.int64) for name in ("group", "parent", "cell"))
    if len(group) != release.grid().size:
        raise Problem(f"{release.suppression.coarsens} has other cells than {release.name}: it cannot be made coarser")
    none = np.zeros(0, np.int64)
    return suppression.Partition(group, parent, cell, suppression.Stats(none, none, none, none, none))
