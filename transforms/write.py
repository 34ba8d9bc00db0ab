"""Write: rows of the views and of the index → encrypted data files. They count only once a commit names them."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from callward.lake.data_files import DataFiles
from callward.lake.ledger import Changes
from transforms.elements import Rewrite, ViewRows


def write(part: ViewRows, files: DataFiles) -> Changes:
    """Write rows of a view as a data file; of rows that were taken out there is nothing to write."""
    if part.taken or not part.rows.num_rows:
        return Changes()
    place = part.view, part.tenant, part.call_date
    file = files.write_view(*place, part.rows, part.inputs, part.bits, part.shard, part.received_on)
    return Changes(files=[file])


def rewrite(wanted: Rewrite, files: DataFiles) -> Changes:
    """Write a committed data file anew without some rows, or with others in their place."""
    old, rows = wanted.file, files.rows(wanted.file)
    if wanted.changed is not None and len(wanted.change):
        index = np.arange(rows.num_rows)
        index[wanted.change] = rows.num_rows + np.arange(len(wanted.change))
        rows = pa.concat_tables([rows, wanted.changed.cast(rows.schema)]).take(pa.array(index))
    keep = np.ones(rows.num_rows, bool)
    keep[wanted.drop] = False
    changes = Changes(superseded={old.file_id: (old.tenant, old.part)})
    if keep.any():
        inputs = Counter(files.inputs(old))
        inputs.subtract(wanted.dropped)
        place = old.view, old.tenant, old.part
        kept = rows.filter(pa.array(keep))
        changes.files.append(files.write_view(*place, kept, +inputs, old.shard_bits, old.shard, old.received_on))
    return changes


def joined(rewrites: Iterable[Rewrite]) -> Rewrite:
    """Return one rewrite of a data file out of those that several groups asked for: each knows of its own rows only."""
    rewrites = list(rewrites)
    drop, change = (np.concatenate([getattr(wanted, name) for wanted in rewrites]) for name in ("drop", "change"))
    changed = [wanted.changed for wanted in rewrites if wanted.changed is not None]
    dropped: Counter[int] = sum((wanted.dropped for wanted in rewrites), Counter())
    return Rewrite(rewrites[0].file, drop, dropped, change, pa.concat_tables(changed) if changed else None)
