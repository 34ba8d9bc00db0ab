"""Write: rows of the views → encrypted data files. They count only once a commit names them."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from callward.lake.data_files import DataFiles
from callward.lake.ledger import Changes
from transforms.elements import Rewrite, ViewRows


def write(part: ViewRows, files: DataFiles) -> Changes:
    """Write rows of a view as a data file with its sidecar files; of rows that were taken out there is nothing to
    write."""
    if part.taken or not part.rows.num_rows:
        return Changes()
    file = files.write_view(part.view, part.tenant, part.call_date, part.rows, part.lineage, part.bits, part.shard)
    return Changes(files=[file])


def rewrite(wanted: Rewrite, files: DataFiles) -> Changes:
    """Write a committed data file anew without some rows, or with others in their place."""
    old = wanted.file
    rows, lineage = files.rows(old), files.lineage(old)
    if wanted.changed is not None and len(wanted.change):
        assert wanted.lineage is not None, "changed rows come with their lineage"
        index = np.arange(rows.num_rows)
        index[wanted.change] = rows.num_rows + np.arange(len(wanted.change))
        rows = pa.concat_tables([rows, wanted.changed.cast(rows.schema)]).take(pa.array(index))
        lineage = pa.concat_tables([lineage, wanted.lineage.cast(lineage.schema)]).take(pa.array(index))
    keep = np.ones(rows.num_rows, bool)
    keep[wanted.drop] = False
    changes = Changes(superseded={old.file_id: (old.tenant, old.part)})
    if keep.any():
        kept = pa.array(keep)
        changes.files.append(
            files.write_view(
                old.view,
                old.tenant,
                old.part,
                rows.filter(kept),
                lineage.filter(kept),
                old.shard_bits,
                old.shard,
                old.received_on,
            )
        )
    return changes


def joined(rewrites: Iterable[Rewrite]) -> Rewrite:
    """Return one rewrite of a data file out of those that several groups asked for: each knows of its own rows only."""
    rewrites = list(rewrites)
    drop, change = (np.concatenate([getattr(wanted, name) for wanted in rewrites]) for name in ("drop", "change"))
    changed = [wanted.changed for wanted in rewrites if wanted.changed is not None]
    lineage = [wanted.lineage for wanted in rewrites if wanted.lineage is not None]
    tables = (pa.concat_tables(parts) if parts else None for parts in (changed, lineage))
    return Rewrite(rewrites[0].file, drop, change, *tables)
