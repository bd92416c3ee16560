from __future__ import annotations

import os
from itertools import permutations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import cohen_kappa_score

from trivium.domain.agreement import AGREEMENT_BY
from trivium.domain.judgments import consensus
from trivium.domain.raters import COMPARISON, FEW, between_raters, compare_with_raters

DATA = os.environ.get("TRIVIUM_DATA", "")
PLAIN = {
    "accuracy": lambda h, p, w: np.average(h == p, weights=w),
    "within_one": lambda h, p, w: np.average(np.abs(h - p) <= 1, weights=w),
    "kappa": lambda h, p, w: cohen_kappa_score(h, p, weights="quadratic", sample_weight=w),
}


def panel(raters: int = 4, pairs: int = 200, queries: int = 20, noise: float = 0.3, seed: int = 0):
    """Judgments of which each pair has 1 to `raters` raters, and the true grades."""
    rng = np.random.default_rng(seed)
    rows, truth = [], []
    for i in range(pairs):
        query, item, true = f"q{i % queries}", f"i{i:03}", int(rng.integers(0, 5))
        truth.append((query, item, true))
        chosen = rng.permutation(raters)[: rng.integers(1, raters + 1)]
        for rater in chosen.tolist():
            wrong = rng.random() < noise
            grade = int(rng.integers(0, 5)) if wrong else true
            rows.append((query, item, f"r{rater}", grade))
    judgments = pl.DataFrame(rows, schema=["query_id", "item_id", "rater", "grade"], orient="row")
    labels = pl.DataFrame(truth, schema=["query_id", "item_id", "grade"], orient="row")
    return judgments.cast({"grade": pl.Int8}), labels.cast({"grade": pl.Int8})


def plainly(judgments: pl.DataFrame, labels: dict[tuple[str, str], int] | None = None):
    """By comparison, the lists (query, human, judged, weight), made pair by pair."""
    found: dict[str, list[tuple[str, int, int, float]]] = {
        "rater": [], "consensus": [], "judge rater": [], "judge consensus": []
    }  # fmt: skip
    for (query, item), rows in judgments.group_by("query_id", "item_id"):
        grades = rows["grade"].to_list()
        k = len(grades)
        if k < 2 or (labels is not None and (query, item) not in labels):
            continue
        for a, b in permutations(range(k), 2):
            found["rater"].append((query, grades[a], grades[b], 1 / (k * (k - 1))))
        for a in range(k):
            others = int(np.floor(np.median(grades[:a] + grades[a + 1 :])))
            found["consensus"].append((query, others, grades[a], 1 / k))
            if labels is not None:
                label = labels[query, item]
                found["judge rater"].append((query, grades[a], label, 1 / k))
                found["judge consensus"].append((query, others, label, 1 / k))
    return found


def value(rows: list[tuple[str, int, int, float]], measure: str, drawn=None) -> float:
    query, human, judged, weight = (np.array(column) for column in zip(*rows, strict=True))
    if drawn is not None:
        weight = weight * np.array([drawn[name] for name in query])
    return float(PLAIN[measure](human, judged, weight))


def draws(queries: list[str], resamples: int, seed: int):
    rng = np.random.default_rng(seed)
    chance = np.full(len(queries), 1 / len(queries))
    for counts in rng.multinomial(len(queries), chance, size=resamples):
        yield dict(zip(queries, counts.tolist(), strict=True))


def test_agreement_between_raters_equals_a_loop_over_pairs():
    judgments, _ = panel()
    table = between_raters(judgments, resamples=40, seed=7)
    assert dict(table.schema) == AGREEMENT_BY
    plain = plainly(judgments)
    queries = sorted({row[0] for row in plain["rater"]})
    rated = judgments.filter(pl.len().over("query_id", "item_id") > 1)
    for row in table.filter(pl.col("by") == "against").to_dicts():
        rows = plain[row["group"]]
        assert row["value"] == pytest.approx(value(rows, row["measure"]))
        samples = [value(rows, row["measure"], drawn) for drawn in draws(queries, 40, 7)]
        assert row["ci_low"] == pytest.approx(np.quantile(samples, 0.025))
        assert row["ci_high"] == pytest.approx(np.quantile(samples, 0.975))
        assert row["pairs"] == rated.select("query_id", "item_id").n_unique()
        assert row["queries"] == len(queries)


def test_each_two_raters_and_each_rater_have_figures():
    judgments, _ = panel(raters=3)
    table = between_raters(judgments, resamples=10, seed=0)
    two = table.filter((pl.col("by") == "raters") & (pl.col("measure") == "kappa"))
    assert two["group"].to_list() == ["r0, r1", "r0, r2", "r1, r2"]
    a, b = (judgments.filter(pl.col("rater") == name) for name in ("r0", "r2"))
    both = a.join(b, on=["query_id", "item_id"])
    kappa = cohen_kappa_score(both["grade"], both["grade_right"], weights="quadratic")
    assert two["value"][1] == pytest.approx(kappa)
    assert two["pairs"][1] == len(both)
    one = table.filter((pl.col("by") == "rater") & (pl.col("measure") == "accuracy"))
    assert one["group"].to_list() == ["r0", "r1", "r2"]
    others = consensus(judgments.filter(pl.col("rater") != "r1"))
    left = judgments.filter(pl.col("rater") == "r1").join(others, on=["query_id", "item_id"])
    assert one["value"][1] == pytest.approx((left["grade"] == left["grade_right"]).mean())
    assert one["pairs"][1] == len(left)


def test_a_crowd_has_no_figures_of_each_one():
    judgments, _ = panel(raters=FEW + 1, pairs=60)
    table = between_raters(judgments, resamples=5, seed=0)
    assert table["by"].unique().to_list() == ["against"]


def test_a_judge_is_compared_on_the_same_pairs_with_the_same_draws():
    judgments, truth = panel(seed=2)
    labels = truth.filter(pl.int_range(pl.len()) % 5 > 0)
    table = compare_with_raters(judgments, labels, resamples=40, seed=3)
    assert dict(table.schema) == COMPARISON
    given = {(query, item): grade for query, item, grade in labels.iter_rows()}
    plain = plainly(judgments, given)
    queries = sorted({row[0] for row in plain["rater"]})
    for row in table.to_dicts():
        human, judge = plain[row["against"]], plain[f"judge {row['against']}"]
        measure = row["measure"]
        assert row["human"] == pytest.approx(value(human, measure))
        assert row["judge"] == pytest.approx(value(judge, measure))
        assert row["difference"] == pytest.approx(row["judge"] - row["human"])
        leads = [
            value(judge, measure, drawn) - value(human, measure, drawn)
            for drawn in draws(queries, 40, 3)
        ]
        assert row["ci_low"] == pytest.approx(np.quantile(leads, 0.025))
        assert row["ci_high"] == pytest.approx(np.quantile(leads, 0.975))
        assert row["pairs"] == round(sum(weight for *_, weight in human))
    assert (table["difference"] > 0).all()  # the truth agrees better than a noisy rater


def test_a_rater_as_the_judge_leads_nobody_and_a_guesser_trails():
    rng = np.random.default_rng(0)
    judgments, truth = panel(raters=3, pairs=600, noise=0.4, seed=4)
    wrong = pl.Series(rng.random(len(truth)) < 0.4)
    guess = pl.Series(rng.integers(0, 5, len(truth)), dtype=pl.Int8)
    as_noisy = truth.with_columns(grade=pl.when(wrong).then(guess).otherwise("grade"))
    another = compare_with_raters(judgments, as_noisy, resamples=400, seed=0)
    assert (another["ci_low"] < 0).all()
    assert (another["ci_high"] > 0).all()
    guesser = compare_with_raters(judgments, truth.with_columns(grade=guess), resamples=400, seed=0)
    assert (guesser.filter(pl.col("measure") == "accuracy")["ci_high"] < 0).all()


def test_without_several_raters_there_is_nothing_to_say():
    judgments, truth = panel(raters=1)
    for alone in (judgments, judgments.drop("rater")):
        assert between_raters(alone, resamples=5, seed=0).is_empty()
        assert compare_with_raters(alone, truth, resamples=5, seed=0).is_empty()
    several, _ = panel()
    nowhere = truth.with_columns(item_id=pl.lit("elsewhere"))
    unanswered = truth.with_columns(grade=pl.lit(None, pl.Int8))
    for labels in (nowhere, unanswered):
        assert compare_with_raters(several, labels, resamples=5, seed=0).is_empty()


def test_the_order_of_rows_does_not_matter():
    judgments, truth = panel()
    other = judgments.sample(fraction=1.0, shuffle=True, seed=1)
    first, second = (between_raters(table, resamples=20, seed=0) for table in (judgments, other))
    assert first.drop("value", "ci_low", "ci_high").equals(
        second.drop("value", "ci_low", "ci_high")
    )
    for column in ("value", "ci_low", "ci_high"):
        np.testing.assert_allclose(first[column], second[column], rtol=1e-9)
    compared = (
        compare_with_raters(table, truth, resamples=20, seed=0) for table in (judgments, other)
    )
    np.testing.assert_allclose(*(table["ci_low"].to_numpy() for table in compared), rtol=1e-9)


@pytest.mark.real_data
@pytest.mark.skipif(
    not DATA or not Path(DATA).is_dir(), reason="TRIVIUM_DATA names no folder of real data"
)
def test_three_real_raters_agree_as_counted_by_hand():
    table = pl.read_parquet(Path(DATA) / "chorus_icecat" / "judgments.parquet")
    agents = [f"agent_{i}_rating" for i in (1, 2, 3)]
    rated = table.drop("grade").drop_nulls(agents)
    judgments = rated.unpivot(
        index=["query_id", "item_id"], on=agents, variable_name="rater", value_name="grade"
    ).with_columns(pl.col("grade").replace_strict([0, 1, 2, 3], [0, 1, 3, 4], return_dtype=pl.Int8))
    figures = between_raters(judgments, resamples=50, seed=0)
    accuracy = figures.filter(pl.col("measure") == "accuracy")
    two = dict(accuracy.filter(pl.col("by") == "raters").select("group", "value").iter_rows())
    assert two[f"{agents[0]}, {agents[1]}"] == pytest.approx(
        (rated[agents[0]] == rated[agents[1]]).mean()
    )
    overall = accuracy.filter(pl.col("group") == "rater")
    assert overall["value"].item() == pytest.approx(np.mean(list(two.values())))
    assert overall["pairs"].item() == len(rated)
