"""Shuffle: a batch arrives as it was sent, and carries nothing of rows that it does not have."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from callward.keys.keys import mint
from callward.keys.seal import Sealer
from schemas.cdr import CDR
from tests.examples import tries
from transforms.shuffle import carried, whole

SEALER = Sealer(mint())
PRESENT = {
    "tenant": st.sampled_from(["default", "other-tenant"]),
    "account": st.sampled_from([None, "acct-1", "acct-2", "acct-3"]),
    "ingress_trunk": st.none(),
    "talk_ms": st.one_of(st.none(), st.integers(0, 9)),
    "leg_a": st.one_of(st.none(), st.binary(min_size=16, max_size=16)),
    "calling_number": st.sampled_from([None, "+13035550101"]),
}
batches = st.lists(st.fixed_dictionaries(PRESENT), max_size=20).map(lambda rows: pa.Table.from_pylist(rows, schema=CDR))


@tries(40)
@given(batches)
def test_a_batch_arrives_as_it_was_sent(batch: pa.Table) -> None:
    arrived = whole(SEALER.open_table(SEALER.seal_table(carried(batch), b""), b""))
    assert arrived.schema.equals(CDR)
    assert arrived.to_pylist() == batch.to_pylist()


@tries(40)
@given(batches)
def test_what_no_row_has_does_not_travel(batch: pa.Table) -> None:
    assert set(carried(batch).column_names) == {
        name for name in CDR.names if any(value is not None for value in batch[name].to_pylist())
    }


@tries(40)
@given(batches)
def test_no_value_of_another_tenant_travels_along(batch: pa.Table) -> None:
    mine = np.array([tenant == "default" for tenant in batch["tenant"].to_pylist()], bool)
    part = batch.filter(pa.array(mine, pa.bool_()))
    arrived = SEALER.open_table(SEALER.seal_table(carried(part), b""), b"")
    for name in {"tenant", "account"} & set(arrived.column_names):
        for chunk in arrived[name].chunks:
            assert set(chunk.dictionary.to_pylist()) <= set(part[name].to_pylist())
