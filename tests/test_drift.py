from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import confusion_matrix

from trivium.domain.drift import MEASURED, MEASURES, SHARES, Drift, drift
from trivium.foundation.errors import InputError


def run(
    shares: list[float], queries: range = range(40), each: int = 12, seed: int = 0, **judges: float
) -> pl.DataFrame:
    """Labels of items i0, i1, ... of each query, with grades drawn by these shares."""
    rng = np.random.default_rng(seed)
    n = len(queries) * each
    judges = judges or {"small": 0.8, "large": 0.2}
    return pl.DataFrame(
        {
            "query_id": [f"q{q:03}" for q in queries for _ in range(each)],
            "item_id": [f"i{i}" for _ in queries for i in range(each)],
            "grade": pl.Series(rng.choice(5, n, p=shares), dtype=pl.Int8),
            "judge": rng.choice(list(judges), n, p=list(judges.values())),
        }
    )


EVEN, UP = [0.2] * 5, [0.1, 0.1, 0.2, 0.3, 0.3]


def measured(result: Drift) -> dict[str, dict]:
    return {row["measure"]: row for row in result.measures.to_dicts()}


def test_shares_and_measures_are_those_of_a_plain_count():
    before, after = run(EVEN), run(UP, range(10, 60), seed=1, small=0.5, large=0.3, vote=0.2)
    result = drift(before, after, resamples=30, seed=0)
    assert dict(result.shares.schema) == SHARES
    assert dict(result.measures.schema) == MEASURED
    a, b = (np.array([(t["grade"] == k).mean() for k in range(5)]) for t in (before, after))
    grades = result.shares.filter(pl.col("of") == "grade")
    assert grades["name"].to_list() == list("01234")
    np.testing.assert_allclose(grades["before"], a)
    np.testing.assert_allclose(grades["after"], b)
    np.testing.assert_allclose(grades["difference"], b - a)
    got = measured(result)
    assert tuple(got) == MEASURES
    assert got["total_variation"]["value"] == pytest.approx(np.abs(a - b).sum() / 2)
    assert got["psi"]["value"] == pytest.approx(((a - b) * np.log(a / b)).sum())
    mean = after["grade"].mean() - before["grade"].mean()
    assert got["mean_grade"]["value"] == pytest.approx(mean)
    assert got["mean_grade"]["pairs"] == len(before) + len(after)
    assert got["mean_grade"]["queries"] == 60
    judges = result.shares.filter(pl.col("of") == "judge")
    assert judges["name"].to_list() == ["large", "small", "vote"]
    assert judges["before"][2] == 0.0
    assert judges["after"][2] == pytest.approx((after["judge"] == "vote").mean())


def test_what_changed_is_counted_on_the_pairs_of_both_runs():
    before, after = run(EVEN), run(UP, range(10, 60), seed=1)
    result = drift(before, after.sample(fraction=1.0, shuffle=True, seed=3), resamples=30, seed=0)
    both = before.join(after, on=["query_id", "item_id"])
    changed = measured(result)["changed"]
    assert changed["value"] == pytest.approx((both["grade"] != both["grade_right"]).mean())
    assert (changed["pairs"], changed["queries"]) == (len(both), 30)
    plain = confusion_matrix(both["grade"], both["grade_right"], labels=range(5))
    np.testing.assert_array_equal(result.transitions["pairs"].to_numpy().reshape(5, 5), plain)
    assert result.transitions["before"].to_list()[:6] == [0, 0, 0, 0, 0, 1]


def test_intervals_equal_a_plain_bootstrap_of_queries_of_either_run():
    before, after = run(EVEN), run(UP, range(10, 60), seed=1)
    result = drift(before, after, resamples=60, seed=4)
    names = sorted({*before["query_id"], *after["query_id"]})
    counts = np.random.default_rng(4).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=60
    )
    differences = []
    for drawn in counts:
        often = pl.DataFrame({"query_id": names, "often": drawn})
        shares = []
        for labels in (before, after):
            weight = labels.join(often, on="query_id", maintain_order="left")["often"].to_numpy()
            shares.append(np.average(labels["grade"].to_numpy() == 4, weights=weight))
        differences.append(shares[1] - shares[0])
    row = result.shares.row(
        by_predicate=(pl.col("of") == "grade") & (pl.col("name") == "4"), named=True
    )
    assert row["ci_low"] == pytest.approx(np.quantile(differences, 0.025))
    assert row["ci_high"] == pytest.approx(np.quantile(differences, 0.975))


def test_a_run_does_not_drift_from_itself():
    before = run(EVEN)
    result = drift(before, before, resamples=50)
    got = measured(result)
    assert [got[name]["value"] for name in MEASURES] == [0.0, 0.0, 0.0, 0.0]
    assert got["total_variation"]["p_value"] == 1.0
    np.testing.assert_array_equal(result.shares["ci_low"], 0.0)


@pytest.mark.parametrize("queries", [range(40), range(100, 140)], ids=["same", "others"])
def test_a_shift_is_told_from_chance(queries):
    before = run(EVEN)
    chance = measured(drift(before, run(EVEN, queries, seed=5), resamples=300))
    shift = measured(drift(before, run(UP, queries, seed=5), resamples=300))
    assert chance["total_variation"]["p_value"] > 0.05
    assert shift["total_variation"]["p_value"] < 0.01
    assert shift["mean_grade"]["ci_low"] > 0


def test_p_values_hold_where_the_grades_of_a_query_are_alike():
    rng = np.random.default_rng(0)

    def alike(first: int) -> pl.DataFrame:
        grades = rng.integers(0, 5, 25).repeat(20)  # all 20 pairs of a query share a grade
        table = run(EVEN, range(first, first + 25), 20)
        return table.with_columns(grade=pl.Series(grades, dtype=pl.Int8))

    p_values = [
        measured(drift(alike(0), alike(25), resamples=60, seed=i))["total_variation"]["p_value"]
        for i in range(60)
    ]
    assert np.mean(np.array(p_values) <= 0.1) <= 0.2


def test_runs_without_pairs_in_common_have_no_changes():
    result = drift(run(EVEN), run(EVEN, range(50, 60)), resamples=10)
    changed = measured(result)["changed"]
    assert (changed["value"], changed["pairs"]) == (None, 0)
    assert result.transitions["pairs"].sum() == 0


def test_a_run_without_labels_is_refused():
    with pytest.raises(InputError, match="labels after"):
        drift(run(EVEN), run(EVEN).clear())


def test_a_seed_gives_one_result():
    before, after = run(EVEN), run(UP, seed=1)
    first, second = (drift(before, after, resamples=20, seed=2) for _ in range(2))
    assert first.measures.equals(second.measures)
    assert first.shares.equals(second.shares)
