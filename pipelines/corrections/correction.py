"""correction: what some input files brought is withdrawn, and what counts instead is taken in, in one commit.

Backing out takes in again what other files hold of the same records and calls; reprocessing takes in the files
themselves as well, as they are read today. Both are new minus old: whoever reads the lake, the derived tables or the
ledger sees it as it was before, or as it is afterwards.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, func, select, update

from callward import audit, database, sources
from callward.columns import flat, has_value
from callward.disposal import purge
from callward.errors import Problem
from callward.failpoints import point
from callward.ingest.landing import FILE_ID, shown_file
from callward.keys.seal import Sealer
from callward.lake import ledger
from callward.lake.additive import sum_derived
from callward.lake.data_files import DataFiles
from callward.lake.ledger import ENTRIES, Changes, CommitConflict
from callward.retention import holds
from callward.retention.policy import register as policy_register
from callward.settings import Settings, Source
from callward.workspace import Workspace
from pipelines.archived import Archived
from pipelines.corrections.repeated import Repeated
from pipelines.intake import names_sealer, sealed_shape
from pipelines.named_files import WITHDRAWN
from schemas.codes import Bucket, Filter, Suspense
from schemas.declaration import Shape
from schemas.retention import lake_file_inputs
from schemas.tables import billing_usage_daily, blocks, input_files, lake_files, ledger_entries
from schemas.views import HELD, INDEX, TOKENS, VIEW_BITS
from transforms.among import places_of
from transforms.elements import BucketRows, Sharding, TakenIn
from transforms.error_limit import error_limit, over_limit
from transforms.process_bucket import Processed, process_bucket, rewrite_files
from transforms.suspend import suspend
from transforms.take_in import as_work, take_in
from transforms.withdraw import Withdrawn, is_onward, withdraw

ROLE: Final = "billing-run"
_GONE: Final = (str(Filter.ERASED), str(Filter.EXPIRED))  # records that are not taken in again
_NOT_COMPARED: Final = ("record_id", "call_id", "content", "event", "file_no", "block", "line", "parts")
_AS_NUMBERS: Final = dict(zip(TOKENS, ("calling_number", "called_number", "rated_number"), strict=False))

Amount: TypeAlias = npt.NDArray[np.int64]  # rows and talk (ms)
_NONE: Final[Amount] = np.zeros(2, np.int64)
Of = TypeVar("Of")
Made = TypeVar("Made")


@dataclass(frozen=True)
class CorrectedFile:
    """An input file with its records by bucket, as they were and as they are."""

    file_no: int
    file: str
    file_id: str
    source: str
    before: dict[str, int]
    after: dict[str, int]

    @property
    def shown(self) -> str:
        return shown_file(self.file, self.file_id)


@dataclass(frozen=True)
class UsageChange:
    """By how much an account's usage changes."""

    tenant: str
    account: str
    calls: int
    talk_ms: int
    billable_s: int


@dataclass
class Corrected:
    """What a correction changes, or changed; a dry run says as well how many rows there are before and after, and of
    how many records that stay each column says otherwise."""

    files: list[CorrectedFile] = field(default_factory=list)
    others: list[CorrectedFile] = field(default_factory=list)  # of which records were read again
    rows_before: int = 0
    rows_after: int = 0
    columns: Counter[str] = field(default_factory=Counter)
    usage: list[UsageChange] = field(default_factory=list)
    set_aside: list[int] = field(default_factory=list)
    held: int = 0  # versions of records more of which one must be chosen

    def add(self, other: "Corrected") -> None:
        """Add what another commit of the same correction changes."""
        self.files += other.files
        self.others += other.others
        self.rows_before += other.rows_before
        self.rows_after += other.rows_after
        self.columns += other.columns
        self.set_aside += other.set_aside
        self.held += other.held
        sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
        for one in (*self.usage, *other.usage):
            for at, amount in enumerate((one.calls, one.talk_ms, one.billable_s)):
                sums[one.tenant, one.account][at] += amount
        self.usage = [UsageChange(*key, *amounts) for key, amounts in sorted(sums.items()) if any(amounts)]


@dataclass(frozen=True)
class Reading:
    """What is known of files that were read whole: their blocks (schema BLOCKS), which are set aside, their shapes."""

    blocks: list[pa.Table]
    set_aside: set[int]
    shapes: dict[int, Shape]


@dataclass(frozen=True)
class Correcting:
    """A correction at work, each of its commits over some input files. With `anew` they are read again."""

    workspace: Workspace
    run_id: str
    now_ms: int
    anew: bool
    dry_run: bool
    event: str

    @property
    def settings(self) -> Settings:
        return self.workspace.settings

    def commit(self, files: Sequence[Any], wave: int) -> Corrected:
        """Correct input files (rows of input_files), in one commit; a dry run leaves nothing.

        Raises CommitConflict and FileNotFoundError where another run came first, Problem where it may not be.
        """
        base = DataFiles(self.workspace, self.run_id)
        with database.reading(self.settings) as connection:
            require_no_purge(connection)
            held = holds.fingerprint(connection)
            before = _entries(connection, [row.file_no for row in files])
        withdrawn = withdraw(base, [row.file_no for row in files], self._tenants({row.source for row in files}))
        self._require_no_hold(withdrawn, files)
        self._require_purged(withdrawn)
        taken, reading = self._taken(files, withdrawn, before)
        changes = self._entered(Changes.merge([withdrawn.changes, *taken]), files, withdrawn, before)
        passing = _without_passing(changes, withdrawn)
        corrected = self._told(changes, files, withdrawn, before, base)
        corrected.set_aside = sorted(reading.set_aside)
        written = [*passing, *(changes.files if self.dry_run else ())]
        if not self.dry_run:
            self._commit(changes, files, reading, wave, held)
        base.store.remove([file.path for file in written])
        return corrected

    def _tenants(self, names: Collection[str]) -> set[str]:
        chosen = [source for source in self.settings.sources if source.name in names]
        if any(source.has_tenants for source in chosen):
            return set(self.settings.tenants)
        return {source.tenant for source in chosen}

    def _commit(self, changes: Changes, files: Sequence[Any], reading: Reading, wave: int, held: str) -> None:
        changes = ledger.with_sealed_sums(changes, self.settings, self.workspace.keyring)
        numbers, names = [row.file_no for row in files], names_sealer(DataFiles(self.workspace, self.run_id))
        with database.writing(self.settings) as connection:
            require_no_purge(connection)
            if holds.fingerprint(connection) != held:
                raise CommitConflict
            ledger.commit(connection, self.run_id, wave, changes)
            if self.anew:
                _note_read(connection, self.run_id, files, reading, names)
            else:
                for batch in database.batches(numbers):
                    gone = update(input_files).where(input_files.c.file_no.in_(batch))
                    connection.execute(gone.values(status=WITHDRAWN))
            audit.append(connection, [audit.Entry(ROLE, self.event, f"file {n} {self.run_id}", "") for n in numbers])
            point("correction-ready")
        point("correction-committed")

    # -- taken in again ---------------------------------------------------------------------------------------------

    def _taken(self, files: Sequence[Any], withdrawn: Withdrawn, before: pa.Table) -> tuple[list[Changes], Reading]:
        """Take in what counts instead, against the lake without what is withdrawn; return what it wants committed, and
        what is known of the files that were read whole."""
        whole = {row.file_no for row in files} if self.anew else set()
        self._archived(set(withdrawn.again["file_no"].to_pylist()))  # said before anything is read
        if not self.anew:  # read again, what is suspended stays known, and what comes in is known by its id
            self._add_repeated(withdrawn, files)
        again = withdrawn.again
        others = self._archived(set(again["file_no"].to_pylist()))
        blocks_of = {(row["file_no"], row["block"]) for row in again.select(["file_no", "block"]).to_pylist()}
        others.keep(blocks_of)
        records = again.num_rows + sum(row["rows"] for row in before.to_pylist() if row["bucket"] == ledger.IN) * (
            self.anew
        )
        sharding = self._sharding(records)
        parts = self._in_parallel(
            lambda chunk: take_in(as_work(chunk, self.now_ms, sharding.to_json()), self._over(withdrawn), False, again),
            others.chunks(),
        )
        ours, reading = self._read_whole(whole, sharding, withdrawn)
        parts += ours
        return self._processed(parts, sharding, withdrawn), reading

    def _processed(self, parts: Sequence[TakenIn], sharding: Sharding, withdrawn: Withdrawn) -> list[Changes]:
        """Put what was taken in through what a night does once it is shuffled; return what it wants committed."""
        lake, changes = self._over(withdrawn), [_of_reading(part.facts) for part in parts]
        rows, suspended = defaultdict[int, list[pa.Table]](list), defaultdict[str, list[pa.Table]](list)
        for part in parts:
            for bucket, tables in part.rows.items():
                rows[bucket] += tables
            for tenant, table in part.suspended:
                suspended[tenant].append(table)
        processed: list[Processed] = self._in_parallel(
            lambda bucket: process_bucket(
                BucketRows(bucket, rows[bucket]), sharding, self._over(withdrawn), self.now_ms
            ),
            sorted(rows),
        )
        for done in processed:
            changes += done.changes
            for tenant, table in done.suspended:
                suspended[tenant].append(table)
        changes += rewrite_files((wanted for done in processed for wanted in done.rewrites), lake)
        changes += [suspend(tenant, tables, lake, self.now_ms) for tenant, tables in sorted(suspended.items())]
        return changes

    def _add_repeated(self, withdrawn: Withdrawn, files: Sequence[Any]) -> None:
        """Add what repeats records that leave suspense to what is read again."""
        lake = DataFiles(self.workspace, self.run_id)
        repeated = Repeated(lake, {row.source for row in files}, {row.file_no for row in files})
        for tenant, suspended in withdrawn.unread.items():
            more = repeated.of(tenant, suspended, withdrawn.undated[tenant])
            more = more.filter(pc.invert(pc.is_in(places_of(more), places_of(withdrawn.again))))
            withdrawn.again = pa.concat_tables([withdrawn.again, more])

    def _over(self, withdrawn: Withdrawn) -> DataFiles:
        """Return the lake without what is withdrawn: its own for each piece of work, as it keeps what it read."""
        return DataFiles(self.workspace, self.run_id, withdrawn.instead)

    def _in_parallel(self, work: Callable[[Of], Made], over: Iterable[Of]) -> list[Made]:
        with ThreadPoolExecutor(self.settings.engine.workers) as pool:
            return list(pool.map(work, over))

    def _archived(self, file_nos: Collection[int]) -> Archived:
        """Return input files as they lie in the archive. Raises Problem that names those which do not."""
        archived = Archived.of(DataFiles(self.workspace, self.run_id), file_nos, any_generation=True)
        archived.require("what other files hold of the same calls cannot be read again")
        return archived

    def _read_whole(
        self, whole: Collection[int], sharding: Sharding, withdrawn: Withdrawn
    ) -> tuple[list[TakenIn], Reading]:
        """Read input files whole, as a night does; those with too many faults are set aside."""
        archived = Archived.of(DataFiles(self.workspace, self.run_id), whole, any_generation=True)
        archived.require("what is to be read again is not there")
        shapes = archived.as_today()

        def read(chunk: pa.Table) -> TakenIn:
            return take_in(as_work(chunk, self.now_ms, sharding.to_json()), self._over(withdrawn), False)

        chunks = list(archived.chunks())
        parts = self._in_parallel(read, chunks)
        facts = Changes.merge([part.facts for part in parts])
        limits = {n: error_limit(self.settings, source) for n, source in self._sources_of(archived)}
        faulty = over_limit(facts, limits)
        if faulty:
            archived.condemn(faulty)
            parts = self._in_parallel(read, archived.chunks())
            facts = Changes.merge([part.facts for part in parts])
        return parts, Reading(facts.blocks, faulty, shapes)

    def _sources_of(self, archived: Archived) -> Iterator[tuple[int, Source]]:
        for (name, _), pieces in archived.pieces.items():
            for number in {piece["file_no"] for piece in pieces}:
                yield number, self.settings.source(name)

    def _sharding(self, records: int) -> Sharding:
        size, buckets = self.settings.waves.bucket_records, 1
        while buckets * size < records and buckets < 256:
            buckets *= 2
        return Sharding(buckets, dict.fromkeys(self.settings.tenants, buckets.bit_length() - 1) if buckets > 1 else {})

    # -- the ledger ---------------------------------------------------------------------------------------------------

    def _entered(self, changes: Changes, files: Sequence[Any], withdrawn: Withdrawn, before: pa.Table) -> Changes:
        """Add what the ledger must know of the files: what they brought leaves its buckets, and stays accounted for.

        Accepted records that retention has taken since, or an erasure blanked, stay accepted.
        """
        now = ledger.sum_entries(changes.entries).to_pylist()
        went = _accepted(withdrawn)
        for row in files:
            mine = before.filter(pc.equal(before["file_no"], row.file_no))
            read, accepted = (_amount(mine, bucket) for bucket in (ledger.IN, Bucket.ACCEPTED))
            kept = accepted - went.get(row.file_no, _NONE)
            if self.anew:
                changes.entries += [ledger.negated(mine), _kept(row.file_no, kept, now)]
                continue
            out = mine.filter(pc.not_equal(mine["bucket"], ledger.IN))
            stays = (row.file_no, str(Bucket.ACCEPTED), "", *kept.tolist())
            gone = (row.file_no, str(Bucket.WITHDRAWN), "", *(read - kept).tolist())
            changes.entries += [ledger.negated(out), _entry(stays, gone)]
        return changes

    # -- what may not be ----------------------------------------------------------------------------------------------

    def _require_purged(self, withdrawn: Withdrawn) -> None:
        """Raise Problem where something past its window is still there: taken in again, it would go without proof."""
        today = datetime.fromtimestamp(self.now_ms / 1000, UTC).date()
        with database.reading(self.settings) as connection:
            in_force = policy_register.in_force(self.settings, connection)
        rows = withdrawn.rows.filter(has_value(withdrawn.rows["state"], Bucket.ACCEPTED))
        for of in _distinct(rows, ["tenant", "call_date"]):
            day = date.fromisoformat(of["call_date"])
            opened = in_force[of["tenant"]].open_for(day, today, today)
            mine = rows.filter(
                pc.and_(has_value(rows["tenant"], of["tenant"]), pc.equal(rows["call_date"], of["call_date"]))
            )
            bits = int(np.bitwise_or.reduce(mine["parts"].to_numpy(), initial=0))
            shut = sum(bit for view, bit in VIEW_BITS.items() if not getattr(opened, view))
            numbered = any(mine[name].null_count < mine.num_rows for name in TOKENS)
            if bits & shut or (numbered and not opened.numbers):
                raise Problem(
                    f"rows of {of['call_date']} are past their window and not purged yet: run 'callward purge' first"
                )

    def _require_no_hold(self, withdrawn: Withdrawn, files: Sequence[Any]) -> None:
        """Raise Problem where a hold keeps any of what would go."""
        found, days, numbers = holds.opened(self.settings), withdrawn.rows, [row.file_no for row in files]
        for tenant, part in {(row["tenant"], row["call_date"]) for row in _distinct(days, ["tenant", "call_date"])}:
            day = date.fromisoformat(part)
            asked = holds.covering(found, tenant, day, day)
            if asked:
                rows = days.filter(pc.and_(has_value(days["tenant"], tenant), pc.equal(days["call_date"], part)))
                opened = holds.secrets(self.workspace, tenant, part[:7])
                if any(pc.any(holds.matching(INDEX, rows, tenant, day, [hold], opened)).as_py() for hold in asked):
                    raise holds.kept_by(asked)
        kept = (
            self.anew or not Archived.of(DataFiles(self.workspace, self.run_id), numbers, any_generation=True).missing
        )
        for tenant, seen in withdrawn.received.items() if not kept else ():  # the archive has it all
            keeping = [hold for on in seen for hold in holds.receiving(found, tenant, on)]
            if keeping:
                raise holds.kept_by(keeping)
        with database.reading(self.settings) as connection:
            copies = (
                select(func.count())
                .select_from(lake_file_inputs)
                .join(lake_files, lake_files.c.file_id == lake_file_inputs.c.file_id)
            )
            copies = copies.where(lake_files.c.view.like(f"{HELD}%"), lake_files.c.superseded_at.is_(None))
            if connection.execute(copies.where(lake_file_inputs.c.file_no.in_(numbers))).scalar():
                raise holds.kept_by(found)

    # -- what it comes to ----------------------------------------------------------------------------------------------

    def _told(
        self, changes: Changes, files: Sequence[Any], withdrawn: Withdrawn, before: pa.Table, base: DataFiles
    ) -> Corrected:
        """Return what the changes come to, in rows, columns, talk and usage."""
        summed = ledger.sum_entries(changes.entries)
        corrected = Corrected(usage=_usage(changes))
        held = summed.filter(pc.equal(summed["code"], str(Suspense.HELD)))
        corrected.held = max(0, pc.sum(held["rows"]).as_py() or 0)
        numbers = {row.file_no for row in files}
        with database.reading(self.settings) as connection:
            others = sorted(set(withdrawn.again["file_no"].to_pylist()) - numbers)
            known = pa.concat_tables([before, _entries(connection, others)])
            rows = {row.file_no: row for row in _rows(connection, [*numbers, *others])}
        for listed, chosen in ((corrected.files, sorted(numbers)), (corrected.others, others)):
            for number in chosen:
                row, was, change = rows[number], _buckets(known, number), _buckets(summed, number)
                now = {name: was[name] + change[name] for name in {*was, *change} if was[name] + change[name]}
                named = row.file_no, row.name, row.name_id[:FILE_ID], row.source
                listed.append(CorrectedFile(*named, {name: n for name, n in was.items() if n}, now))
        if not self.dry_run:
            return corrected
        old = withdrawn.rows.filter(has_value(withdrawn.rows["state"], Bucket.ACCEPTED))
        new = _new_rows(changes, withdrawn.rows, numbers, base)
        corrected.rows_before, corrected.rows_after = old.num_rows, new.num_rows
        corrected.columns = _columns(old, new)
        return corrected


def require_no_purge(connection: Connection) -> None:
    """Raise Problem while a purge has let files count no more and not ended: they may count again, or must go."""
    if purge.under_way(connection):
        raise Problem("a purge is under way: 'callward purge' brings it to its end, then run this again")


def _rows(connection: Connection, file_nos: Collection[int]) -> Iterator[Any]:
    for batch in database.batches(sorted(file_nos)):
        yield from connection.execute(select(input_files).where(input_files.c.file_no.in_(batch)))


def _entries(connection: Connection, file_nos: Collection[int]) -> pa.Table:
    """Return the ledger's entries of input files, summed (schema ENTRIES)."""
    e, found = ledger_entries.c, []
    sums = func.sum(e.rows).label("rows"), func.sum(e.talk_ms).label("talk_ms")
    query = select(e.file_no, e.bucket, e.code, *sums).group_by(e.file_no, e.bucket, e.code)
    for batch in database.batches(sorted(file_nos)):
        found += [row._asdict() for row in connection.execute(query.where(e.file_no.in_(batch)))]
    rows = [{**row, "rows": int(row["rows"]), "talk_ms": int(row["talk_ms"])} for row in found]
    return pa.Table.from_pylist(rows, schema=ENTRIES)


def _buckets(entries: pa.Table, number: int) -> Counter[str]:
    counts = Counter[str]()
    for row in entries.filter(pc.equal(entries["file_no"], number)).to_pylist():
        if row["bucket"] != ledger.PAIRED:
            counts[row["bucket"]] += row["rows"]
    return counts


def _entry(*rows: tuple[Any, ...]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(ENTRIES.names, row, strict=True)) for row in rows], schema=ENTRIES)


def _amount(entries: pa.Table, bucket: str) -> Amount:
    """Return rows and talk (ms) of a bucket."""
    mine = entries.filter(pc.equal(entries["bucket"], str(bucket)))
    return np.array([pc.sum(mine[name]).as_py() or 0 for name in ("rows", "talk_ms")], np.int64)


def _accepted(withdrawn: Withdrawn) -> dict[int, Amount]:
    """Return rows and talk (ms) of accepted records that went, by input file."""
    rows = withdrawn.rows
    rows = rows.filter(pc.and_(has_value(rows["state"], Bucket.ACCEPTED), pa.array(~is_onward(rows))))
    sums = rows.group_by("file_no").aggregate([("carried_ms", "sum"), ([], "count_all")]).to_pylist()
    return {row["file_no"]: np.array([row["count_all"], row["carried_ms_sum"] or 0], np.int64) for row in sums}


def _kept(file_no: int, kept: Amount, now: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return entries for accepted records that are not in the lake any more: read again, they were left out.

    Raises Problem where some of them were not.
    """
    left, talk_ms = kept.tolist()
    rows = [(file_no, str(Bucket.ACCEPTED), "", left, talk_ms)]
    for entry in now:
        if entry["file_no"] == file_no and entry["bucket"] == Bucket.FILTERED and entry["code"] in _GONE and left:
            part = min(left, entry["rows"])
            rows.append((file_no, entry["bucket"], entry["code"], -part, -talk_ms))
            left, talk_ms = left - part, 0
    if left:
        raise Problem(f"file {file_no}: {left} records of it are past their window and gone, but would come in again")
    return _entry(*rows)


def _of_reading(facts: Changes) -> Changes:
    """Return what is known of records that were read, as far as a correction commits it: their blocks are known, and
    the shares of a night are not told again."""
    return Changes(entries=facts.entries, ends=facts.ends)


def _note_read(connection: Connection, run_id: str, files: Sequence[Any], reading: Reading, key: Sealer) -> None:
    """Note how the blocks of files were read: by whom, under which generation, how many records; and which files are
    set aside."""
    numbers = {row.file_no: sources.number(connection, row.source) for row in files}
    for table in reading.blocks:
        for row in table.select(["file_no", "block", "records"]).to_pylist():
            block = update(blocks).where(blocks.c.file_no == row["file_no"], blocks.c.block == row["block"])
            read = {"records": row["records"], "generation": numbers[row["file_no"]], "committed_by": run_id}
            connection.execute(block.values(**read))
    for number in numbers:
        of_file = update(input_files).where(input_files.c.file_no == number)
        connection.execute(of_file.values(set_aside=number in reading.set_aside))
        if number in reading.shapes:
            connection.execute(of_file.values(shape_sealed=sealed_shape(reading.shapes[number], key)))


def _without_passing(changes: Changes, withdrawn: Withdrawn) -> list[Any]:
    """Leave out data files that were written on the way and replaced again; return them."""
    staged = {file.file_id for file in withdrawn.changes.files}
    passing = staged & changes.superseded.keys()
    unused = [file for file in changes.files if file.file_id in passing]
    changes.files = [file for file in changes.files if file.file_id not in passing]
    changes.superseded = {name: place for name, place in changes.superseded.items() if name not in staged}
    return unused


def _usage(changes: Changes) -> list[UsageChange]:
    parts = changes.derived.get(billing_usage_daily.name)
    if not parts:
        return []
    sums = ["calls", "talk_ms", "billable_s"]
    table = sum_derived(billing_usage_daily, parts).select(["tenant", "account", *sums])
    grouped = table.group_by(["tenant", "account"]).aggregate([(name, "sum") for name in sums]).to_pylist()
    rows = [UsageChange(row["tenant"], row["account"], *(row[f"{name}_sum"] for name in sums)) for row in grouped]
    return sorted((row for row in rows if row.calls or row.talk_ms or row.billable_s), key=lambda row: row.account)


def _distinct(rows: pa.Table, names: list[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rows.group_by(names).aggregate([]).to_pylist()
    return found


def _new_rows(changes: Changes, old: pa.Table, numbers: Collection[int], base: DataFiles) -> pa.Table:
    """Return what the index will say of the records of the files, and of those that stood where others went."""
    places, found = places_of(old), [old.slice(0, 0)]
    for file in (file for file in changes.files if file.view == INDEX):
        rows = base.rows(file)
        rows = rows.filter(has_value(rows["state"], Bucket.ACCEPTED))
        mine = pc.or_(
            pc.is_in(places_of(rows), places), pc.is_in(flat(rows["file_no"]), pa.array(sorted(numbers), pa.int64()))
        )
        rows = rows.filter(mine)
        n = rows.num_rows
        rows = rows.append_column("tenant", pa.repeat(file.tenant, n))
        found.append(rows.append_column("call_date", pa.repeat(file.part, n)))
    return pa.concat_tables(found, promote_options="permissive").select(old.column_names).combine_chunks()


def _columns(old: pa.Table, new: pa.Table) -> Counter[str]:
    """Return how many records say otherwise than they did, by column: those that stand at one place."""
    ours, theirs = (rows.filter(pa.array(~is_onward(rows))).combine_chunks() for rows in (old, new))
    at = pc.index_in(places_of(theirs), places_of(ours))
    before, after = ours.take(at.drop_null()), theirs.filter(at.is_valid())
    counts = Counter[str]()
    same_month = pc.equal(
        pc.utf8_slice_codeunits(before["call_date"], 0, 7), pc.utf8_slice_codeunits(after["call_date"], 0, 7)
    )
    for name in old.column_names:
        if name in _NOT_COMPARED:
            continue
        one, other = before[name], after[name].cast(before[name].type)
        differs = pc.or_(pc.fill_null(pc.not_equal(one, other), False), pc.xor(pc.is_null(one), pc.is_null(other)))
        if name in TOKENS:  # of two months they have nothing in common
            differs = pc.and_(differs, same_month)
        count = pc.sum(differs).as_py() or 0
        if count:
            counts[_AS_NUMBERS.get(name, name)] += count
    return counts
