from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from trivium.domain.measures import measure
from trivium.domain.rerank import RANDOM, can_teach, rerank
from trivium.foundation.errors import InputError
from trivium.foundation.tables import PER_QUERY, validate


def pools(queries: int = 30, most: int = 25, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, most, queries)
    return pl.DataFrame(
        {
            "query_id": np.repeat([f"q{i:03}" for i in range(queries)], sizes).tolist(),
            "item_id": [f"i{i}" for size in sizes for i in rng.permutation(size)],
            "grade": pl.Series(rng.integers(0, 5, sizes.sum()), dtype=pl.Int8),
        }
    )


def plain_ndcg(grades: list[int], cutoff: int, gain: str) -> float:
    def dcg(ordered: list[int]) -> float:
        gains = [2**g - 1 if gain == "exponential" else g for g in ordered[:cutoff]]
        return sum(g / np.log2(rank + 1) for rank, g in enumerate(gains, start=1))

    return dcg(grades) / dcg(sorted(grades, reverse=True))


def noisy(table: pl.DataFrame, noise: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return table["grade"].to_numpy() + rng.normal(0, noise, len(table))


@pytest.mark.parametrize(("cutoff", "gain"), [(10, "exponential"), (3, "linear")])
def test_orders_are_measured_as_a_loop_measures_them(cutoff, gain):
    table = pools()
    rng = np.random.default_rng(1)
    scores = np.round(noisy(table, 1.0, 2))  # with many ties
    scores[rng.random(len(table)) < 0.3] = np.nan
    result = rerank(table, {"judge": scores}, cutoff=cutoff, gain=gain)
    assert validate(result.per_query, PER_QUERY).equals(result.per_query)
    got = dict(
        result.per_query.filter(pl.col("system") == "judge").select("query_id", "value").iter_rows()
    )
    expected, left_out = {}, 0
    for (query,), rows in table.with_columns(score=scores).group_by("query_id"):
        found = [(r["score"], r["item_id"], r["grade"]) for r in rows.to_dicts()]
        if len({grade for *_, grade in found}) == 1:
            left_out += 1
            continue
        order = sorted(found, key=lambda r: (np.isnan(r[0]), 0 if np.isnan(r[0]) else -r[0], r[1]))
        expected[query] = plain_ndcg([grade for *_, grade in order], cutoff, gain)
    assert got == pytest.approx(expected)
    assert result.left_out == left_out
    assert set(result.per_query["measure"]) == {f"nDCG@{cutoff}"}


def test_a_random_order_has_the_mean_of_many_random_orders():
    table = pools(queries=8, most=15, seed=3)
    result = rerank(table, {}, cutoff=5)
    expected = result.per_query.filter(pl.col("system") == RANDOM)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(400):
        run = table.select("query_id", "item_id", rank=rng.permutation(len(table)))
        values = measure(run, table, cutoff=5).filter(pl.col("measure") == "nDCG@5")
        drawn.append(values.join(expected, on="query_id", how="semi")["value"].to_numpy())
    np.testing.assert_allclose(expected["value"], np.mean(drawn, axis=0), atol=0.04)


def test_the_grades_themselves_are_ideal_and_missing_scores_are_last():
    table = pl.DataFrame(
        {"query_id": ["a"] * 4, "item_id": ["w", "x", "y", "z"], "grade": [4, 3, 0, 1]}
    )
    scores = {
        "ideal": table["grade"],
        "missing": pl.Series([None, -5.0, None, -7.0]),  # x, z, then w, y
        "none": np.full(4, np.nan),  # by item_id
    }
    per_query = rerank(table, scores).per_query
    values = dict(per_query.select("system", "value").iter_rows())
    assert values["ideal"] == 1.0
    assert values["missing"] == pytest.approx(plain_ndcg([3, 1, 4, 0], 10, "exponential"))
    assert values["none"] == pytest.approx(plain_ndcg([4, 3, 0, 1], 10, "exponential"))


def test_queries_whose_order_cannot_matter_are_left_out_and_counted():
    table = pl.DataFrame(
        {
            "query_id": ["a", "a", "b", "b", "c", "d", "d"],
            "item_id": list("uvuvuuv"),
            "grade": [0, 0, 3, 3, 4, 1, 0],
        }
    )
    result = rerank(table, {"judge": np.arange(7.0)})
    assert result.per_query["query_id"].unique().to_list() == ["d"]
    assert result.left_out == 3
    with pytest.raises(InputError, match="3 queries, each with items of one grade"):
        rerank(table.filter(pl.col("query_id") != "d"), {})


def test_a_better_judge_can_teach():
    table = pools(queries=80)
    scores = {"judge": noisy(table, 0.5, 1), "tower": noisy(table, 2.0, 2)}
    per_query = rerank(table, scores).per_query
    verdict = can_teach(per_query, "judge", "tower", resamples=500)
    wide = per_query.pivot(on="system", index="query_id", values="value")
    assert verdict.difference == pytest.approx((wide["judge"] - wide["tower"]).mean())
    assert verdict.ranks == "better"
    assert 0 < verdict.ci_low < verdict.difference < verdict.ci_high
    assert verdict.p_value < 0.01
    assert verdict.queries == len(wide)
    assert "'judge' ranks better than 'tower' and can teach it" in verdict.text
    assert f"{wide['judge'].mean():.3f} against {wide['tower'].mean():.3f}" in verdict.text
    other = can_teach(per_query, "tower", "judge", resamples=500)
    assert other.ranks == "worse"
    assert other.difference == pytest.approx(-verdict.difference)
    assert "What would help: more seed labels" in other.text


def test_a_judge_that_is_no_better_is_told_what_would_help():
    table = pools(queries=60)
    scores = {"judge": noisy(table, 1.0, 1), "tower": noisy(table, 1.0, 2)}
    verdict = can_teach(rerank(table, scores).per_query, "judge", "tower", resamples=500)
    assert verdict.ranks == "not shown"
    assert verdict.ci_low < 0 < verdict.ci_high
    assert "It is not shown" in verdict.text
    assert "another catalog" in verdict.text


def test_the_queries_needed_for_a_lead_are_about_those_that_show_it():
    table = pools(queries=25, seed=6)
    scores = {"judge": noisy(table, 1.0, 0), "tower": noisy(table, 1.25, 3)}
    per_query = rerank(table, scores).per_query
    verdict = can_teach(per_query, "judge", "tower")
    wide = per_query.pivot(on="system", index="query_id", values="value")
    leads = (wide["judge"] - wide["tower"]).to_numpy()
    assert verdict.ranks == "not shown"
    assert leads.mean() > 0
    needed = int(verdict.text.split("takes about ")[1].split()[0])
    assert needed > verdict.queries
    rng = np.random.default_rng(0)
    samples = rng.choice(leads, (2000, needed))
    t = samples.mean(axis=1) / (samples.std(axis=1, ddof=1) / np.sqrt(needed))
    assert np.mean(np.abs(t) > 1.96) == pytest.approx(0.8, abs=0.05)


def test_few_queries_show_nothing():
    table = pl.DataFrame(
        {"query_id": ["a", "a", "b", "b"], "item_id": list("uvuv"), "grade": [4, 0, 0, 4]}
    )
    scores = {"judge": table["grade"], "tower": -table["grade"]}
    for some in (table, table.head(2)):
        own = {name: each.head(len(some)) for name, each in scores.items()}
        verdict = can_teach(rerank(some, own).per_query, "judge", "tower", resamples=100)
        assert verdict.ranks == "not shown"
        assert verdict.difference > 0


def test_an_unknown_tower_is_refused():
    table = pools()
    per_query = rerank(table, {"judge": noisy(table, 1.0, 0)}).per_query
    with pytest.raises(InputError, match="no 'tower'"):
        can_teach(per_query, "judge", "tower")


def test_the_order_of_rows_does_not_matter():
    table = pools().with_columns(score=pl.Series(np.arange(len(pools())) % 3, dtype=pl.Float64))
    other = table.sample(fraction=1.0, shuffle=True, seed=1)
    first, second = (rerank(each, {"judge": each["score"]}).per_query for each in (table, other))
    np.testing.assert_allclose(first["value"], second["value"])
    assert first.drop("value").equals(second.drop("value"))
