from __future__ import annotations

from statistics import median

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.domain.calibration import Calibrated
from trivium.domain.cascade import VOTE, Cascade, Settling
from trivium.domain.judgments import consensus
from trivium.domain.labels import replayed, settled
from trivium.foundation.tables import PROBABILITIES, labels_schema, validate

COLUMNS = ["query_id", "item_id", "grade"]
COLUMNS += ["p_relevant", "p_irrelevant", "expected_grade", "confidence"]


def labels_of(judges: tuple[str, ...], rows: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    settling = rng.integers(0, len(judges), rows)
    columns = {
        "query_id": [f"q{k % 3}" for k in range(rows)],
        "item_id": [f"i{k}" for k in range(rows)],
        "grade": rng.integers(0, 5, rows),
        "confidence": rng.random(rows, dtype=np.float32),
        "judge": [judges[k] for k in settling],
        "settled": ["accepted"] * rows,
        "tokens": rng.integers(5, 40, rows),
        "cost_usd": rng.random(rows),
    }
    for number, judge in enumerate(judges):  # a judge after the settling one was not asked
        asked = rng.dirichlet(np.ones(5), rows).astype(np.float32)
        values = [
            row if number <= s else None for row, s in zip(asked.tolist(), settling, strict=True)
        ]
        columns[f"p_{judge}"] = pl.Series(values, dtype=PROBABILITIES)
    return validate(pl.DataFrame(columns), labels_schema(judges))


@pytest.mark.parametrize("judges", [("small",), ("small", "middle"), ("a", "b", "c")])
def test_the_settling_judge_has_the_word(judges):
    labels = labels_of(judges, rows=40, seed=len(judges))
    got = settled(labels)
    assert got.columns == COLUMNS
    for row, label in zip(got.to_dicts(), labels.to_dicts(), strict=True):
        p = np.array(label[f"p_{label['judge']}"], dtype=np.float32)
        assert {row[c] == label[c] for c in ("query_id", "item_id", "grade")} == {True}
        assert row["p_relevant"] == p[3] + p[4]
        assert row["p_irrelevant"] == p[0] + p[1]
        assert row["expected_grade"] == pytest.approx(p @ np.arange(5), abs=1e-5)
        assert row["confidence"] == label["confidence"]


def test_judges_that_voted_share_the_word():
    rows = [[0.1, 0.2, 0.3, 0.2, 0.2], [0.5, 0.1, 0.0, 0.1, 0.3], [0.0, 0.0, 0.0, 0.0, 1.0]]
    labels = labels_of(("a", "b", "c"), rows=2, seed=5).with_columns(
        judge=pl.lit(VOTE),
        p_a=pl.Series([rows[0], rows[0]], dtype=PROBABILITIES),
        p_b=pl.Series([rows[1], None], dtype=PROBABILITIES),
        p_c=pl.Series([rows[2], rows[2]], dtype=PROBABILITIES),
    )
    got = settled(labels)
    assert got["p_relevant"].to_list() == pytest.approx([(0.4 + 0.4 + 1.0) / 3, (0.4 + 1.0) / 2])
    assert got["p_irrelevant"].to_list() == pytest.approx([(0.3 + 0.6 + 0.0) / 3, 0.3 / 2])
    assert got.schema["p_relevant"] == got.schema["p_irrelevant"] == pl.Float32


def test_a_replayed_cascade_says_what_its_labels_would():
    """By three judges who differ: accepted, voted on, answered by one alone, and unanswered."""
    rng = np.random.default_rng(3)
    cascade = Cascade(("a", "b"), dict.fromkeys("ab", (0.7,) * 5))
    p = rng.dirichlet(np.full(5, 0.5), (2, 60))
    p[1, :15] = np.nan
    p[0, 10:20] = np.nan
    settling = Settling(cascade, 60)
    for name, rows in zip("ab", p, strict=True):
        answered = ~np.isnan(rows).any(axis=1)
        grades = np.where(answered, np.nan_to_num(rows, nan=-1.0).argmax(axis=1), -1)
        said = Calibrated(rows, grades, rows.max(axis=1))
        settling.hear(name, np.arange(60), said)
    table, ids = settling.table(), [f"i{k:02}" for k in range(60)]
    assert set(table["settled"]) == {"accepted", "vote", "unsure", "unanswered"}
    pairs = pl.DataFrame({"query_id": ["q"] * 60, "item_id": ids})
    columns = {
        f"p_{name}": [None if np.isnan(r).any() else r.tolist() for r in rows]
        for name, rows in zip("ab", p, strict=True)
    }
    schema = dict.fromkeys(columns, PROBABILITIES)
    labels = pl.concat([pairs, table, pl.DataFrame(columns, schema=schema)], how="horizontal")
    expected = settled(labels.filter(pl.col("grade").is_not_null()))
    got = replayed(pairs, table)
    assert got.columns == COLUMNS
    assert got.height == 60 - (table["settled"] == "unanswered").sum()
    assert got.select(COLUMNS[:3]).equals(expected.select(COLUMNS[:3]))
    said, wanted = (table.select(COLUMNS[3:]).to_numpy() for table in (got, expected))
    assert said == pytest.approx(wanted, abs=1e-6)


def test_no_labels_settle_to_nothing():
    got = settled(labels_of(("small",), rows=1, seed=0).clear())
    assert got.height == 0
    assert got.schema["p_relevant"] == pl.Float32


VOTES = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 4)), max_size=30
)


@given(VOTES)
def test_consensus_is_the_median_rounded_down(votes):
    frame = pl.DataFrame(
        [(q, i, g, f"r{k}") for k, (q, i, g) in enumerate(votes)],
        schema={"query_id": pl.String, "item_id": pl.String, "grade": pl.Int8, "rater": pl.String},
        orient="row",
    )
    grades: dict[tuple[str, str], list[int]] = {}
    for query, item, grade in votes:
        grades.setdefault((query, item), []).append(grade)
    expected = [(q, i, int(median(g))) for (q, i), g in sorted(grades.items())]
    got = consensus(frame)
    assert got.rows() == expected
    assert got.schema["grade"] == pl.Int8
