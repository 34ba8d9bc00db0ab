"""Reassign: billed rows of no account → their account, by the directory as it is now.

Who pays is asked by the numbers of the billing row and the trunks of its row in the index; the account code and the
context are not kept. The rows, the index and the derived tables change in one commit, new minus old.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from callward import database
from callward.accounts.entries import NOBODY, UNASSIGNED
from callward.columns import flat, has_value, nulls, set_column
from callward.lake import ledger, row_index
from callward.lake.data_files import DataFiles
from callward.lake.ledger import Changes, DataFile
from schemas.cdr import PARSED
from schemas.codes import Bucket
from schemas.views import BILLING_NUMBERS, INDEX, VIEW_BITS
from transforms.assign import later_payers
from transforms.elements import Rewrite
from transforms.onward import ONWARD
from transforms.summarize import negative, summarize
from transforms.write import rewrite

_NOTHING: Final = np.zeros(0, np.int64)
_OF_INDEX: Final = {"ingress_trunk": "trunk_in", "egress_trunk": "trunk_out", "start_time": "start_time"}
_PARTIES: Final = ("calling_number", "called_number", "asserted_number")
_OF_BILLING: Final = ("account", "direction", "destination", "talk_ms", *_PARTIES)

Ints = npt.NDArray[np.int64]


class Unassigned(NamedTuple):
    """Billed rows of no account in one data file: where they and their rows in the index are, and what decides who
    pays (schema PARSED as far as it does, with destination and talk)."""

    home: DataFile
    in_index: Ints
    file: DataFile
    position: Ints
    rows: pa.Table


@dataclass
class Reassigned:
    """What is to be committed, and calls and talk (ms) by the account that they get; UNASSIGNED for those that stay."""

    changes: Changes = field(default_factory=Changes)
    calls: Counter[str] = field(default_factory=Counter)
    talk_ms: Counter[str] = field(default_factory=Counter)


def unassigned(files: DataFiles, tenant: str, part: str) -> Iterator[Unassigned]:
    """Yield billed rows of no account of a tenant's date (ISO).

    Raises Problem where the index cannot be read, FileNotFoundError for a file that was replaced meanwhile.
    """
    for home in files.committed(INDEX, tenant, [part]):
        named = [name for name in _OF_INDEX.values() if row_index.has(home, name)]
        with row_index.reading(home):
            table = files.columns(home, ["record_id", "state", "account", "role", "parts", *named])
        billed = pc.greater(pc.bit_wise_and(table["parts"], pa.scalar(VIEW_BITS["billing"], pa.int16())), 0)
        ours = pc.and_(has_value(table["account"], UNASSIGNED), has_value(table["state"], Bucket.ACCEPTED))
        onward = pc.fill_null(pc.equal(table["role"], ONWARD), False)  # whoever forwarded pays: not told by these
        at = np.flatnonzero(flat(pc.and_(pc.and_(ours, billed), pc.invert(onward))).to_numpy(zero_copy_only=False))
        if len(at):
            yield from _rows_of(files, home, at, table.take(pa.array(at)))


def _rows_of(files: DataFiles, home: DataFile, at: Ints, found: pa.Table) -> Iterator[Unassigned]:
    for file, position, asked in row_index.in_view(files, "billing", home.tenant, home.part, flat(found["record_id"])):
        names = [name for name in _OF_BILLING if file.numbers or name not in BILLING_NUMBERS]
        billing = files.columns(file, names).take(pa.array(position))
        index = found.take(pa.array(asked))
        columns = {name: index[of] for name, of in _OF_INDEX.items() if of in index.column_names}
        columns |= {name: billing[name] for name in names if name != "account"}
        absent = (field for field in PARSED if field.name not in columns)
        columns |= {field.name: nulls(len(asked), field.type) for field in absent if not _nested(field.type)}
        yield Unassigned(home, at[asked], file, position, pa.table(columns))


def _nested(kind: pa.DataType) -> bool:
    return bool(kind.num_fields) and not pa.types.is_dictionary(kind)


def reassign(files: DataFiles, tenant: str, part: str) -> Reassigned:
    """Give billed rows of a tenant's date (ISO) that have no account theirs; write data files that do not count yet.

    Errors as for `unassigned`.
    """
    done = Reassigned()
    with database.reading(files.workspace.settings) as connection:
        done.changes.read = ledger.versions(connection, tenant, [part])
    of_index: dict[str, tuple[DataFile, list[Ints], list[list[str]]]] = {}
    of_billing: dict[str, tuple[DataFile, list[Ints], list[list[str]]]] = {}
    for found in unassigned(files, tenant, part):
        accounts = _payers(found.rows, tenant, files)
        talk = found.rows["talk_ms"].fill_null(0).to_pylist()
        for account, ms in zip(accounts, talk, strict=True):
            done.calls[account] += 1
            done.talk_ms[account] += ms
        gets = np.flatnonzero(np.array(accounts, object) != UNASSIGNED)
        if len(gets):
            named = [accounts[row] for row in gets]
            for file, at, of in ((found.home, found.in_index, of_index), (found.file, found.position, of_billing)):
                _, positions, names = of.setdefault(file.file_id, (file, [], []))
                positions.append(at[gets])
                names.append(named)
    for file, positions, names in (*of_billing.values(), *of_index.values()):
        _set(files, file, np.concatenate(positions), [name for each in names for name in each], done.changes)
    return done


def _payers(rows: pa.Table, tenant: str, files: DataFiles) -> list[str]:
    payer, ids = later_payers(rows, tenant, files.workspace), files.workspace.directory(tenant).ids
    return ids.take(pa.array(payer, mask=payer == NOBODY)).fill_null(UNASSIGNED).to_pylist()


def _set(files: DataFiles, file: DataFile, at: Ints, accounts: list[str], changes: Changes) -> None:
    """Write a data file anew with accounts on rows of it; the derived tables follow."""
    order = np.argsort(at)
    before = files.rows(file).take(pa.array(at[order]))
    named = pa.array([accounts[row] for row in order], pa.string()).cast(before.schema.field("account").type)
    after = set_column(before, "account", named)
    written = rewrite(Rewrite(file, _NOTHING, Counter(), at[order], after), files)
    changes.files += written.files
    changes.superseded |= written.superseded
    how = file.tenant, files.workspace.billing_zones(file.tenant), files.workspace.sites
    for derived in (negative(summarize(file.view, before, *how)), summarize(file.view, after, *how)):
        for name, table in derived.items():
            changes.derived.setdefault(name, []).append(table)
