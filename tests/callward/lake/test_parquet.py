import hashlib
import os
import pickle
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from callward.keys.keys import Key, KeyDenied, mint
from callward.keys.seal import SealBroken
from callward.lake import parquet
from callward.lake.parquet import LakeFile, open_dataset, read_parquet, write_parquet
from tests.altered import altered
from tests.examples import tries

META, NUMBERS, OTHER_META, OTHER_NUMBERS = mint(), mint(), mint(), mint()
BOTH = {META.key_id: META, NUMBERS.key_id: NUMBERS}
ALL = BOTH | {OTHER_META.key_id: OTHER_META, OTHER_NUMBERS.key_id: OTHER_NUMBERS}
NO_NUMBERS = {META.key_id: META}
NUMBER_COLUMNS = ("called_token", "called_number")


def calls(rows=500, first=0):
    which = range(first, first + rows)
    return pa.table(
        {
            "billing_id": pa.array([b"idcanary%08d" % i for i in which], pa.binary(16)),
            "account": [f"account-canary-{i % 7}" for i in which],
            "start": pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * rows, pa.timestamp("ms", "UTC")),
            "talk_ms": pa.array([i * 1000 for i in which], pa.int64()),
            "mos": pa.array([4.25 if i % 2 else None for i in which], pa.float32()),
            "charge": pa.array([None if i % 3 else i for i in which], pa.int32()).cast(pa.decimal128(18, 6)),
            "called_token": pa.array([b"tocanary%08d" % i for i in which], pa.binary(16)),
            "called_number": [f"+1202555{i % 100:04}" for i in which],
        }
    )


SCHEMA = calls(1).schema
LIMITED = pa.schema([field for field in SCHEMA if field.name not in NUMBER_COLUMNS])


def write(path, table=None, file_id="file-1", meta=META, numbers=NUMBERS, number_columns=NUMBER_COLUMNS):
    table = calls() if table is None else table
    return write_parquet(table, str(path), file_id=file_id, meta=meta, numbers=numbers, number_columns=number_columns)


def read(path, keys=BOTH, file_id="file-1", **more):
    return read_parquet(str(path), file_id=file_id, keys=keys, **more)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "billing" / "tenant=t" / "file-1.parquet"


# -- one file ----------------------------------------------------------------------------------------------------------


def test_a_table_reads_as_it_was_written(path):
    written = write(path)
    content = path.read_bytes()
    assert (written.path, written.rows, written.bytes) == (str(path), 500, len(content))
    assert written.sha256 == hashlib.sha256(content).hexdigest()
    table = read(path, sha256=written.sha256)
    assert table.equals(calls()) and table.schema.equals(SCHEMA, check_metadata=True)
    assert read(path, columns=["talk_ms", "account"]).equals(calls().select(["talk_ms", "account"]))
    assert [p.name for p in path.parent.iterdir()] == ["file-1.parquet"]


def test_an_empty_table_and_fields_facts_survive(path):
    schema = pa.schema([pa.field("a", pa.string(), metadata={"cpni": "call_detail"})])
    write(path, schema.empty_table())
    assert read(path).schema.equals(schema, check_metadata=True)


def test_other_file_systems_hold_data_files_too(tmp_path):
    remote = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    write_parquet(calls(), "x.parquet", file_id="file-1", meta=META, filesystem=remote)
    assert read_parquet("x.parquet", file_id="file-1", keys=NO_NUMBERS, filesystem=remote).equals(calls())
    dataset = open_dataset([LakeFile("x.parquet", "file-1", META.key_id)], NO_NUMBERS, SCHEMA, remote)
    assert dataset.to_table().equals(calls())


@pytest.mark.parametrize("numbers", [NUMBERS, None])
def test_nothing_shows_in_the_file(path, numbers):
    table = calls().replace_schema_metadata({"note": "metadata-canary"})
    write(path, table, numbers=numbers, number_columns=NUMBER_COLUMNS if numbers else (), file_id="file-id-canary")
    content = path.read_bytes()
    assert content[:4] == content[-4:] == b"PARE"
    for name in SCHEMA.names:
        assert name.encode() not in content, name
    for value in (b"canary", b"2025550", b"+1202", (499_000).to_bytes(8, "little"), np.float32(4.25).tobytes() * 2):
        assert value not in content, value


def test_data_keys_have_256_bits_and_every_column_its_own(path, monkeypatch):
    wrapped = []
    wrap = parquet._Kms.wrap_key
    monkeypatch.setattr(
        parquet._Kms, "wrap_key", lambda self, key, kid: (wrapped.append((kid, key)), wrap(self, key, kid))[1]
    )
    write(path)
    assert {len(key) for _, key in wrapped} == {32}
    kinds = [kid for kid, _ in wrapped]
    assert kinds.count(NUMBERS.key_id) == len(NUMBER_COLUMNS)
    assert kinds.count(META.key_id) == len(SCHEMA) - len(NUMBER_COLUMNS) + 1
    assert len({key for _, key in wrapped}) == len(wrapped)


def encoded(table):
    """The same with its accounts encoded, in chunks with different dictionaries."""
    parts = [table.slice(0, 100), table.slice(100)]
    chunks = [part["account"].combine_chunks().take(np.arange(len(part))[::-1]).dictionary_encode() for part in parts]
    chunks = [chunk.take(np.arange(len(chunk))[::-1]) for chunk in chunks]
    return table.set_column(1, "account", pa.chunked_array(chunks))


def test_encoded_text_reads_as_text(path):
    write(path, encoded(calls()))
    assert read(path).equals(calls())
    dataset = open_dataset([LakeFile(str(path), "file-1", META.key_id, NUMBERS.key_id)], BOTH, SCHEMA)
    assert dataset.to_table().equals(calls())


def test_no_value_of_rows_that_were_cut_away_is_in_a_file(path):
    table = encoded(calls()).filter(pa.array([i % 7 in (2, 3) for i in range(500)]))
    assert len(table["account"].chunk(0).dictionary) == 7
    write(path, table)
    keys = parquet._decryption(BOTH)
    with pq.ParquetFile(path, decryption_properties=keys, read_dictionary=["account"]) as file:
        pages = file.read(["account"])["account"].chunks
    assert all(set(page.dictionary.to_pylist()) == {"account-canary-2", "account-canary-3"} for page in pages)


def test_ids_tokens_and_named_columns_have_no_dictionary(path):
    write_parquet(calls(), str(path), file_id="file-1", meta=META, encodings={"called_number": "plain"})
    with pq.ParquetFile(path, decryption_properties=parquet._decryption(NO_NUMBERS)) as file:
        group = file.metadata.row_group(0)
        coded = {
            group.column(i).path_in_schema for i in range(len(SCHEMA)) if "RLE_DICTIONARY" in group.column(i).encodings
        }
    assert "account" in coded and coded.isdisjoint({"billing_id", "called_token", "start", "mos", "called_number"})


@pytest.mark.parametrize(
    ("table", "numbers", "reason"),
    [
        (calls().select(SCHEMA.names[::-1]), NUMBERS, "last"),
        (calls(), None, "key of their own"),
        (calls(), META, "key of their own"),
        (calls().add_column(0, "nested", pa.array([["x"]] * 500)), NUMBERS, "nested"),
    ],
)
def test_numbers_are_never_written_where_others_could_read_them(path, table, numbers, reason):
    with pytest.raises(ValueError, match=reason):
        write(path, table, numbers=numbers)
    assert not path.exists()


def test_without_their_key_numbers_are_not_seen_and_the_rest_is(path):
    write(path)
    assert read(path, NO_NUMBERS).equals(calls().select(LIMITED.names))
    with pytest.raises(KeyDenied, match="numbers"):
        read(path, NO_NUMBERS, columns=["account", "called_number"])
    with pytest.raises(ValueError, match="no column nonsense"):
        read(path, columns=["nonsense"])


def test_the_numbers_key_alone_opens_nothing(path):
    write(path)
    with pytest.raises(KeyDenied):
        read(path, {NUMBERS.key_id: NUMBERS})


def test_a_key_taken_away_opens_nothing_afterwards_in_the_same_process(path):
    write(path)
    read(path)
    for _ in range(2):
        with pytest.raises(KeyDenied):
            read(path, {})
        with pytest.raises(KeyDenied):
            read(path, NO_NUMBERS, columns=["called_number"])
        with pytest.raises(KeyDenied):
            open_dataset([LakeFile(str(path), "file-1", META.key_id, NUMBERS.key_id)], NO_NUMBERS, SCHEMA)


def test_another_key_under_the_same_id_does_not_open(path):
    write(path)
    with pytest.raises(SealBroken):
        read(path, {META.key_id: Key(META.key_id, os.urandom(32)), NUMBERS.key_id: NUMBERS})


def test_a_missing_file_is_a_missing_file(path):
    with pytest.raises(FileNotFoundError):
        read(path)


# -- attacks -----------------------------------------------------------------------------------------------------------


def test_a_file_in_place_of_another_is_noticed_under_the_same_keys(path):
    write(path, file_id="file-2")
    with pytest.raises(SealBroken, match="replaced by another"):
        read(path)
    with pytest.raises(SealBroken, match="replaced by another"):
        open_dataset([LakeFile(str(path), "file-1", META.key_id, NUMBERS.key_id)], BOTH, SCHEMA)


def test_a_file_of_another_month_is_denied_even_to_who_holds_both_keys(path):
    write(path, meta=OTHER_META, numbers=OTHER_NUMBERS)
    with pytest.raises(KeyDenied):
        read(path, BOTH)
    with pytest.raises(KeyDenied):
        open_dataset([LakeFile(str(path), "file-1", META.key_id, NUMBERS.key_id)], ALL, SCHEMA)


def test_plaintext_in_place_of_a_file_is_refused(path):
    path.parent.mkdir(parents=True)
    forged = {"callward.file": "file-1", "callward.format": "1", "callward.numbers": "null"}
    pq.write_table(calls().replace_schema_metadata(forged), path)
    with pytest.raises(SealBroken, match="plaintext"):
        read(path)
    with pytest.raises(SealBroken, match="plaintext"):
        open_dataset([LakeFile(str(path), "file-1", META.key_id)], BOTH, SCHEMA)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample") / "file"
    written = write(path)
    return path.read_bytes(), written.sha256


@tries(150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_altered_byte_is_noticed(data, sample, tmp_path):
    content, _ = sample
    altered = bytearray(content)
    altered[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (tmp_path / "altered").write_bytes(altered)
    try:
        table = read(tmp_path / "altered")
    except (SealBroken, KeyDenied):
        return
    assert table.equals(calls())  # a byte that carries nothing, such as a key's unused description


@tries(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_with_the_manifests_hash_any_other_byte_is_noticed(data, sample, tmp_path):
    content, sha256 = sample
    size = data.draw(st.integers(0, len(content)))
    for other in (content[:size], content[:size] + b"\0" + content[size:]):
        (tmp_path / "altered").write_bytes(other)
        if other != content:
            with pytest.raises(SealBroken, match="manifest"):
                read(tmp_path / "altered", sha256=sha256)


def test_a_file_cut_short_is_noticed(sample, tmp_path):
    content, _ = sample
    for size in (0, 3, 4, 8, 100, len(content) // 2, len(content) - 5, len(content) - 1):
        for cut in (content[:size], content[:size] + b"PARE"):
            (tmp_path / "cut").write_bytes(cut)
            with pytest.raises(SealBroken):
                read(tmp_path / "cut")
            with pytest.raises(SealBroken):
                open_dataset([LakeFile(str(tmp_path / "cut"), "file-1", META.key_id, NUMBERS.key_id)], BOTH, SCHEMA)


def test_another_format_version_says_so(path, monkeypatch):
    monkeypatch.setattr(parquet, "FORMAT_VERSION", 2)
    write(path)
    monkeypatch.undo()
    with pytest.raises(SealBroken, match="version"):
        read(path)


# -- many files --------------------------------------------------------------------------------------------------------


@pytest.fixture
def months(tmp_path):
    """Two months of two files each."""
    files = []
    for at, (meta, numbers) in enumerate([(META, NUMBERS)] * 2 + [(OTHER_META, OTHER_NUMBERS)] * 2):
        path = tmp_path / f"{at}.parquet"
        write(path, calls(100, 100 * at), f"file-{at}", meta, numbers)
        files.append(LakeFile(str(path), f"file-{at}", meta.key_id, numbers.key_id))
    return files


def without_numbers(file):
    return LakeFile(file.path, file.file_id, file.meta, None)


def expected(gone_from=400):
    table = calls(400)
    keep = pa.array([i < gone_from for i in range(400)])
    for name in NUMBER_COLUMNS:
        at = SCHEMA.get_field_index(name)
        table = table.set_column(
            at, SCHEMA.field(at), pc.if_else(keep, table[name], pa.scalar(None, SCHEMA.field(at).type))
        )
    return table


def test_a_dataset_reads_months_under_their_keys(months):
    dataset = open_dataset(months, ALL, SCHEMA)
    assert isinstance(dataset, ds.Dataset)
    assert dataset.to_table().sort_by("billing_id").equals(calls(400))
    found = dataset.to_table(columns=["talk_ms"], filter=pc.field("called_number") == "+12025550007")
    assert sorted(found["talk_ms"].to_pylist()) == [7_000, 107_000, 207_000, 307_000]


def test_a_dataset_of_no_files_is_empty():
    dataset = open_dataset([], {}, SCHEMA)
    assert dataset.schema == SCHEMA and dataset.count_rows() == 0


def test_who_may_not_see_numbers_does_not_see_the_columns(months):
    keys = {META.key_id: META, OTHER_META.key_id: OTHER_META}
    dataset = open_dataset(months, keys, LIMITED)
    assert dataset.schema.names == LIMITED.names
    assert dataset.to_table().sort_by("billing_id").equals(calls(400).select(LIMITED.names))
    with pytest.raises(pa.ArrowInvalid, match="called_number"):
        dataset.to_table(filter=pc.field("called_number") == "+12025550007")
    with pytest.raises(KeyDenied):
        open_dataset(months, keys, SCHEMA)


def test_who_lacks_a_months_key_is_told_before_any_scan(months):
    with pytest.raises(KeyDenied):
        open_dataset(months, BOTH, LIMITED)


@pytest.mark.parametrize("gone", [2, 0])
def test_numbers_whose_key_is_gone_are_null_and_the_rest_stays(months, gone):
    files = months[:gone] + [without_numbers(file) for file in months[gone:]]
    keys = {k: v for k, v in ALL.items() if (gone and k != OTHER_NUMBERS.key_id) or v in (META, OTHER_META)}
    dataset, table = open_dataset(files, keys, SCHEMA), expected(100 * gone)
    assert isinstance(dataset, ds.Dataset) and dataset.schema == SCHEMA
    assert dataset.to_table().sort_by("billing_id").equals(table)
    assert dataset.count_rows() == 400 and dataset.head(7).num_rows == 7
    for predicate in (
        pc.field("called_number") == "+12025550007",
        pc.field("called_number").is_null(),
        pc.field("talk_ms") < 50_000,
        (pc.field("talk_ms") < 250_000) & ~pc.field("called_number").is_valid(),
    ):
        for columns in (None, ["billing_id", "called_number"], ["called_number", "billing_id"]):
            found = dataset.to_table(columns=columns, filter=predicate).sort_by("billing_id")
            assert found.equals(table.filter(predicate).select(columns or SCHEMA.names))
        assert dataset.count_rows(filter=predicate) == table.filter(predicate).num_rows
    renamed = {"n": pc.field("called_number"), "id": pc.field("billing_id")}
    found = dataset.to_table(columns=renamed).sort_by("id")
    assert found["n"].to_pylist() == table["called_number"].to_pylist()


def test_what_a_dataset_cannot_answer_it_refuses(months):
    dataset = open_dataset(months, ALL, SCHEMA)
    for attempt in (
        lambda: dataset.filter(pc.field("talk_ms") > 0),
        lambda: dataset.get_fragments(),
        lambda: dataset.sort_by("start"),
        lambda: pickle.dumps(dataset),
    ):
        with pytest.raises(NotImplementedError):
            attempt()


@tries(40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(low=st.integers(-10, 410), span=st.integers(0, 200), gone=st.integers(0, 4), numbers=st.booleans())
def test_a_scan_equals_the_same_rows_in_memory(months, low, span, gone, numbers):
    files = months[:gone] + [without_numbers(file) for file in months[gone:]]
    dataset, table = open_dataset(files, ALL, SCHEMA), expected(100 * gone)
    predicate = (pc.field("talk_ms") >= 1000 * low) & (pc.field("talk_ms") < 1000 * (low + span))
    if numbers:
        predicate = predicate & (pc.field("called_number").is_null() | (pc.field("mos") > 4))
    wanted = table.filter(predicate)
    assert dataset.to_table(filter=predicate).equals(wanted)
    assert dataset.count_rows(filter=predicate) == wanted.num_rows
    assert dataset.head(3, filter=predicate).equals(wanted[:3])
    assert dataset.scanner(["mos"], predicate).to_reader().read_all().equals(wanted.select(["mos"]))


def test_row_groups_that_cannot_match_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_ROW_GROUP_ROWS", 100)
    write(tmp_path / "file")
    dataset = open_dataset([LakeFile(str(tmp_path / "file"), "file-1", META.key_id, NUMBERS.key_id)], BOTH, SCHEMA)
    read = []
    original = parquet.LakeScanner._read
    monkeypatch.setattr(
        parquet.LakeScanner, "_read", lambda self, part, group: (read.append(group), original(self, part, group))[1]
    )
    assert dataset.to_table(filter=pc.field("talk_ms") == 250_000).num_rows == 1
    assert [[group.id for group in fragment.row_groups] for fragment in read] == [[2]]


def test_a_file_altered_after_it_was_opened_is_noticed(months):
    dataset = open_dataset(months, ALL, SCHEMA)
    path = Path(months[1].path)
    path.write_bytes(altered(path.read_bytes(), 100))
    with pytest.raises(SealBroken, match="file-1"):
        dataset.to_table()


HIDDEN_IDS = pc.field("billing_id").isin(calls(400)["billing_id"].combine_chunks()[3:390:9])
HIDDEN_ACCOUNT = pc.field("account") == "account-canary-2"
# Which rows of each file of `months` are hidden.
HIDDEN = (HIDDEN_IDS, HIDDEN_ACCOUNT, HIDDEN_IDS | HIDDEN_ACCOUNT, None)


def hiding(files):
    """The files of `months`, some of their rows hidden."""
    return [
        LakeFile(file.path, file.file_id, file.meta, file.numbers, rows)
        for file, rows in zip(files, HIDDEN, strict=True)
    ]


def unhidden(table):
    """The rows of all `months` without those that are hidden, in memory."""
    parts = [(table[100 * at : 100 * (at + 1)], rows) for at, rows in enumerate(HIDDEN)]
    return pa.concat_tables([part if rows is None else part.filter(~rows) for part, rows in parts])


@pytest.mark.parametrize("gone", [4, 1, 0])
def test_hidden_rows_are_in_no_scan_head_or_count(months, gone):
    dataset = open_dataset(hiding(months[:gone] + [without_numbers(file) for file in months[gone:]]), ALL, SCHEMA)
    table = unhidden(expected(100 * gone))
    assert 300 < table.num_rows < 400
    for predicate in (
        None,
        pc.field("talk_ms") >= 0,
        pc.field("talk_ms") < 150_000,
        HIDDEN_ACCOUNT,
        HIDDEN_IDS,
        ~HIDDEN_ACCOUNT,
        HIDDEN_IDS | (pc.field("mos") > 4),
        pc.field("called_number").is_null() | HIDDEN_ACCOUNT,
        pc.field("called_number") == "+12025550009",
        pc.scalar(True),
    ):
        left = table if predicate is None else table.filter(predicate)
        assert dataset.count_rows(filter=predicate) == left.num_rows
        for columns in (SCHEMA.names, ["talk_ms"], ["called_number"], {"paid": pc.field("charge")}):
            found = left.select(columns) if isinstance(columns, list) else left.select(["charge"])
            found = found.rename_columns(list(columns))
            assert dataset.to_table(columns=columns, filter=predicate).equals(found)
            assert pa.Table.from_batches(dataset.to_batches(columns=columns, filter=predicate), found.schema) == found
            for limit in (1, 5, 400):
                assert dataset.head(limit, columns=columns, filter=predicate).equals(found[:limit])


@pytest.mark.parametrize("gone", [4, 2, 0])
def test_duckdb_answers_the_same_over_every_dataset(months, gone):
    files = months[:gone] + [without_numbers(file) for file in months[gone:]]
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.register("scanned", open_dataset(files, ALL, SCHEMA))
        connection.register("held", expected(100 * gone))
        for query in (
            "SELECT count(*), count(called_number), sum(talk_ms) FROM {}",
            "SELECT account, count(*), max(called_number) FROM {} WHERE called_number IS NULL GROUP BY ALL ORDER BY 1",
            "SELECT billing_id FROM {} WHERE called_number = '+12025550007' ORDER BY 1",
            "SELECT billing_id FROM {} WHERE talk_ms BETWEEN 99000 AND 201000 AND called_number IS NOT NULL ORDER BY 1",
        ):
            scanned, held = (connection.execute(query.format(name)).fetchall() for name in ("scanned", "held"))
            assert scanned == held


def test_columns_unify_by_name_over_older_files(tmp_path):
    write(tmp_path / "old", calls().drop_columns(["mos"]))
    dataset = open_dataset([LakeFile(str(tmp_path / "old"), "file-1", META.key_id, NUMBERS.key_id)], BOTH, SCHEMA)
    table = dataset.to_table()
    assert table.schema == SCHEMA and table["mos"].null_count == 500
    assert table.drop_columns(["mos"]).equals(calls().drop_columns(["mos"]))


def in_a_process(script):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=Path(parquet.__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_nothing_that_is_asked_without_the_numbers_key_ends_or_hangs_the_process(months):
    """Arrow itself aborts or hangs on some of these when it is allowed to try: so in a process of its own."""
    keys = {key.key_id: key.secret.hex() for key in (META, OTHER_META)}
    script = f"""
    import pyarrow.compute as pc
    from callward.keys.keys import Key, KeyDenied
    from callward.lake.parquet import LakeFile, open_dataset, read_parquet
    import pyarrow as pa
    keys = {{i: Key(i, bytes.fromhex(s)) for i, s in {keys!r}.items()}}
    files = [LakeFile(*f) for f in {[(f.path, f.file_id, f.meta, f.numbers) for f in months]!r}]
    types = {{"account": pa.string(), "talk_ms": pa.int64(), "called_number": pa.string()}}
    number = pc.field("called_number") == "+12025550007"
    limited = open_dataset(files, keys, pa.schema([("account", pa.string()), ("talk_ms", pa.int64())]))
    gone = open_dataset([LakeFile(f.path, f.file_id, f.meta) for f in files], keys, pa.schema(list(types.items())))
    for ask in (lambda: limited.to_table(filter=number), lambda: limited.head(5, columns=["called_number"]),
                lambda: limited.count_rows(filter=number)):
        try: ask()
        except pa.ArrowInvalid: pass
        else: raise AssertionError
    assert limited.head(5).num_rows == 5
    assert gone.to_table(filter=number).num_rows == 0 and gone.count_rows(filter=number) == 0
    assert gone.head(5, filter=~number).num_rows == 0 and gone.head(5).num_rows == 5
    for f in files:
        try: read_parquet(f.path, file_id=f.file_id, keys=keys, columns=["called_number"])
        except KeyDenied: pass
        else: raise AssertionError
    print("survived")
    """
    run = in_a_process(script)
    assert run.stdout == "survived\n" and run.returncode == 0, run.stderr


@pytest.fixture(scope="module")
def many_groups(tmp_path_factory):
    """Twelve files of 40 row groups each; the numbers of every other file are gone."""
    folder, table = tmp_path_factory.mktemp("many"), calls(8000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "_ROW_GROUP_ROWS", 200)
        for at in range(12):
            write(folder / f"{at}", table, f"file-{at}")
    return [(str(folder / f"{at}"), f"file-{at}", META.key_id, NUMBERS.key_id if at % 2 else None) for at in range(12)]


@pytest.mark.parametrize(
    "stop",
    [
        "dataset.head(3)",
        "reader = dataset.scanner().to_reader(); reader.read_next_batch()",
        "next(dataset.to_batches(filter=pc.field('called_number').is_valid()))",
        "connection.execute('SELECT * FROM calls LIMIT 3').fetchall()",
        "result = connection.execute('SELECT * FROM calls'); result.fetchone()",
    ],
)
def test_a_query_that_stops_early_lets_the_process_end(many_groups, stop):
    """Arrow's own dataset hangs or aborts here: threads that read ahead call for keys in an interpreter that ended."""
    script = f"""
    import duckdb
    import pyarrow as pa, pyarrow.compute as pc
    from callward.keys.keys import Key
    from callward.lake.parquet import LakeFile, open_dataset
    keys = {{i: Key(i, s) for i, s in {[(key.key_id, key.secret) for key in (META, NUMBERS)]!r}}}
    schema = pa.ipc.read_schema(pa.py_buffer({SCHEMA.serialize().to_pybytes()!r}))
    dataset = open_dataset([LakeFile(*f) for f in {many_groups!r}], keys, schema)
    connection = duckdb.connect()
    connection.register("calls", dataset)
    {stop}
    print("stopped", flush=True)
    """
    run = in_a_process(script)
    assert run.stdout == "stopped\n" and run.returncode == 0, run.stderr[-2000:]
