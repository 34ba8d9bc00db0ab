"""Measures count what rows say: nothing negative, nothing guessed."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from callward.release.measures import values
from schemas.cdr import DISPOSITIONS, FEW
from schemas.release import MEASURES

_WHOLE = st.none() | st.integers(-(10**9), 10**9)


@given(st.lists(_WHOLE, min_size=1), st.lists(_WHOLE, min_size=1))
def test_missing_adds_nothing_and_negative_is_counted_as_wrong(
    talk: list[int | None], billed: list[int | None]
) -> None:
    size = min(len(talk), len(billed))
    rows = {"talk_ms": pa.array(talk[:size], pa.int64()), "billable_s": pa.array(billed[:size], pa.int64())}
    found = values("billing", ["talk_s", "billable_s"], rows, size)
    assert found.counts[:, 0].tolist() == [max(value or 0, 0) // 1000 for value in talk[:size]]
    assert found.counts[:, 1].tolist() == [max(value or 0, 0) for value in billed[:size]]
    assert found.wrong.tolist() == [
        sum(value is not None and value < 0 for value in column) for column in (talk[:size], billed[:size])
    ]


@given(st.lists(st.sampled_from([*DISPOSITIONS, None]), min_size=1))
def test_seizures_and_unknown_are_all_attempts_and_answers_are_among_them(words: list[str | None]) -> None:
    names = ["attempts", "unknown", "seizures", "answered", "ner_success"]
    rows = {"disposition": pa.array(words, pa.string()).cast(FEW)}
    counts = values("assurance", names, rows, len(words)).counts
    attempts, unknown, seizures, answered, ner = counts.T
    assert (unknown + seizures == attempts).all()
    assert (answered <= ner).all() and answered.sum() == words.count("answered")


def test_scores_are_thousandths_and_what_is_no_score_is_missing() -> None:
    rows = {"mos": pa.array([4.2, None, float("nan"), -1.0], pa.float32())}
    found = values("assurance", ["mos_milli", "mos_count"], rows, 4)
    assert found.counts.tolist() == [[4200, 1], [0, 0], [0, 0], [0, 1]]
    assert found.wrong.tolist() == [1, 0]


def test_every_measure_can_be_counted() -> None:
    moment = datetime(2026, 3, 5, tzinfo=UTC)
    for view, measures in MEASURES.items():
        kinds = {"answer": pa.timestamp("ms", tz="UTC"), "disposition": pa.string(), "mos": pa.float32()}
        usual = {"answer": moment, "disposition": "answered", "mos": 4.0, "leg": 0}
        for name, measure in measures.items():
            rows = {c: pa.array([usual.get(c, 5), None], kinds.get(c, pa.int64())) for c in measure.columns}
            found = values(view, [name], rows, 2)
            assert found.counts.shape == (2, 1) and not np.any(found.wrong)
