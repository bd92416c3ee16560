from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import (
    cohen_kappa_score,
    confusion_matrix,
    precision_score,
    recall_score,
    root_mean_squared_error,
)

from trivium.domain import confusion
from trivium.domain.agreement import (
    AGREEMENT_BY,
    Agreement,
    agreement,
    agreement_by,
    group_sizes,
    with_groups,
)


def panel(pairs: int = 300, queries: int = 25, seed: int = 0):
    rng = np.random.default_rng(seed)
    query_ids = pl.Series([f"q{i}" for i in rng.integers(0, queries, pairs)])
    human = rng.integers(0, 5, pairs)
    predicted = np.clip(human + rng.integers(-2, 3, pairs), 0, 4)
    expected = np.round(predicted + rng.normal(0, 0.5, pairs), 1)
    return query_ids, human, predicted, expected


def values(result: Agreement, column: str = "value") -> dict[str, float | None]:
    return dict(result.measures.select("measure", column).iter_rows())


def test_measures_equal_the_libraries():
    query_ids, human, predicted, expected = panel()
    result = agreement(query_ids, human, predicted, expected, resamples=10, seed=0)
    got = values(result)
    assert got["accuracy"] == pytest.approx((human == predicted).mean())
    assert got["within_one"] == pytest.approx((np.abs(human - predicted) <= 1).mean())
    kappa = cohen_kappa_score(human, predicted, weights="quadratic")
    assert got["kappa"] == pytest.approx(kappa)
    assert got["spearman"] == pytest.approx(spearmanr(human, expected).statistic)
    assert got["rmse"] == pytest.approx(root_mean_squared_error(human, expected))
    precisions = precision_score(human, predicted, average=None)
    recalls = recall_score(human, predicted, average=None)
    for k in range(5):
        assert got[f"precision_{k}"] == pytest.approx(precisions[k])
        assert got[f"recall_{k}"] == pytest.approx(recalls[k])
    pairs = values(result, "pairs")
    assert pairs["accuracy"] == 300
    assert pairs["precision_2"] == (predicted == 2).sum()
    assert pairs["recall_2"] == (human == 2).sum()
    table = result.confusion["pairs"].to_numpy().reshape(5, 5)
    np.testing.assert_array_equal(table, confusion_matrix(human, predicted, labels=range(5)))


def test_intervals_equal_a_plain_bootstrap_of_whole_queries(monkeypatch):
    query_ids, human, predicted, expected = panel(seed=1)
    monkeypatch.setattr(confusion, "_DRAWN", 7 * len(human))
    result = agreement(query_ids, human, predicted, expected, resamples=60, seed=5)
    names = query_ids.unique().sort().to_list()
    rng = np.random.default_rng(5)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=60)
    by_name = {name: np.flatnonzero((query_ids == name).to_numpy()) for name in names}
    kappas, correlations, errors = [], [], []
    for counts in draws:
        drawn = [np.tile(by_name[n], c) for n, c in zip(names, counts, strict=True) if c]
        rows = np.concatenate(drawn)
        kappas.append(cohen_kappa_score(human[rows], predicted[rows], weights="quadratic"))
        correlations.append(spearmanr(human[rows], expected[rows]).statistic)
        errors.append(root_mean_squared_error(human[rows], expected[rows]))
    low, high = values(result, "ci_low"), values(result, "ci_high")
    for name, plain in (("kappa", kappas), ("spearman", correlations), ("rmse", errors)):
        assert low[name] == pytest.approx(np.quantile(plain, 0.025))
        assert high[name] == pytest.approx(np.quantile(plain, 0.975))
        assert low[name] < values(result)[name] < high[name]


def test_repeated_pairs_of_a_query_do_not_narrow_the_interval():
    query_ids, human, predicted, expected = panel(pairs=40, queries=40, seed=2)
    once = agreement(query_ids, human, predicted, expected, resamples=500, seed=0)
    ten = agreement(
        pl.concat([query_ids] * 10),
        np.tile(human, 10),
        np.tile(predicted, 10),
        np.tile(expected, 10),
        resamples=500,
        seed=0,
    )
    assert values(ten, "ci_low")["accuracy"] == values(once, "ci_low")["accuracy"]
    assert values(ten, "ci_high")["accuracy"] == values(once, "ci_high")["accuracy"]


def test_what_nothing_defines_is_null():
    query_ids = pl.Series(["a", "a", "b"])
    same = np.array([3, 3, 3])
    result = agreement(query_ids, same, same, same.astype(float), resamples=20, seed=0)
    got = values(result)
    assert got["accuracy"] == 1.0
    assert got["kappa"] is None
    assert got["spearman"] is None
    assert got["precision_0"] is None
    assert values(result, "ci_low")["precision_0"] is None
    assert values(result, "queries")["accuracy"] == 2


def test_a_seed_gives_one_result_and_the_order_of_rows_does_not_matter():
    query_ids, human, predicted, expected = panel(seed=3)
    first = agreement(query_ids, human, predicted, expected, resamples=50, seed=1)
    order = np.random.default_rng(0).permutation(len(human))
    second = agreement(
        query_ids[order.tolist()], human[order], predicted[order], expected[order],
        resamples=50, seed=1,
    )  # fmt: skip
    other = agreement(query_ids, human, predicted, expected, resamples=50, seed=2)
    for column in ("value", "ci_low", "ci_high"):
        np.testing.assert_allclose(
            first.measures[column].to_numpy(), second.measures[column].to_numpy(), rtol=1e-9
        )
    assert not first.measures["ci_low"].equals(other.measures["ci_low"])


def test_pairs_without_an_answer_are_left_out_and_counted():
    query_ids, human, predicted, expected = panel(seed=4)
    silent = np.arange(len(human)) % 7 == 0
    some = agreement(
        query_ids, human, np.where(silent, -1, predicted), np.where(silent, np.nan, expected),
        resamples=20, seed=0,
    )  # fmt: skip
    rest = ~silent
    answered = agreement(
        query_ids.filter(pl.Series(rest)), human[rest], predicted[rest], expected[rest],
        resamples=20, seed=0,
    )  # fmt: skip
    assert some.measures.equals(answered.measures)
    assert values(some, "pairs")["accuracy"] == rest.sum()


def test_no_pair_at_all_gives_nulls():
    nothing = np.empty(0, np.int64)
    result = agreement(
        pl.Series([], dtype=pl.String), nothing, nothing, nothing.astype(float),
        resamples=20, seed=0,
    )  # fmt: skip
    assert result.measures["value"].null_count() == result.measures.height
    assert result.measures["pairs"].sum() == 0
    assert result.confusion["pairs"].to_list() == [0] * 25


def test_a_single_query_has_no_interval():
    _, human, predicted, expected = panel(pairs=40)
    result = agreement(pl.Series(["q"] * 40), human, predicted, expected, resamples=20, seed=0)
    assert values(result)["accuracy"] == pytest.approx((human == predicted).mean())
    assert result.measures["ci_low"].null_count() == result.measures.height


def grouped(pairs: int = 400, seed: int = 5) -> pl.DataFrame:
    query_ids, human, predicted, _ = panel(pairs, 30, seed)
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "query_id": query_ids,
            "human": human,
            "predicted": predicted,
            "judge": rng.choice(["small", "large", "vote"], pairs, p=[0.7, 0.25, 0.05]),
            "tfidf_band": pl.Series(rng.choice([0, 1], pairs)).cast(pl.String),
        }
    )


def test_groups_are_measured_as_a_plain_bootstrap_measures_them(monkeypatch):
    pairs = grouped()
    monkeypatch.setattr(confusion, "_DRAWN", 100)
    table = agreement_by(pairs, ["judge"], resamples=50, seed=3)
    names = pairs["query_id"].unique().sort().to_list()
    rng = np.random.default_rng(3)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=50)
    for judge in ("small", "large"):
        own = pairs.filter(pl.col("judge") == judge)
        human, predicted = own["human"].to_numpy(), own["predicted"].to_numpy()
        at = own["query_id"].replace_strict(names, range(len(names))).to_numpy()
        rows = table.filter(pl.col("group") == judge)
        assert set(rows["pairs"]) == {len(own)}
        assert set(rows["queries"]) == {own["query_id"].n_unique()}
        got = {row["measure"]: row for row in rows.to_dicts()}
        for measure, plain in (
            ("accuracy", lambda h, p: (h == p).mean()),
            ("within_one", lambda h, p: (abs(h - p) <= 1).mean()),
            ("kappa", lambda h, p: cohen_kappa_score(h, p, weights="quadratic")),
        ):
            drawn = [np.repeat(np.arange(len(own)), counts[at]) for counts in draws]
            samples = [plain(human[rows], predicted[rows]) for rows in drawn]
            assert got[measure]["value"] == pytest.approx(plain(human, predicted))
            assert got[measure]["ci_low"] == pytest.approx(np.quantile(samples, 0.025))
            assert got[measure]["ci_high"] == pytest.approx(np.quantile(samples, 0.975))


def test_groups_without_human_grades_are_named_with_their_share():
    pairs = grouped().filter(pl.col("judge") != "vote")
    shards = [
        pl.DataFrame({"judge": ["small"] * 6 + ["vote"] * 2}),
        pl.DataFrame({"judge": ["small"] * 4 + ["vote"] * 7 + [None]}),
    ]
    population = pl.concat([group_sizes(shard, ["judge"]) for shard in shards])
    table = agreement_by(pairs, ["judge"], population=population, resamples=10, seed=0)
    assert dict(table.schema) == AGREEMENT_BY
    rows = {row["group"]: row for row in table.filter(pl.col("measure") == "accuracy").to_dicts()}
    assert list(rows) == ["large", "none", "small", "vote"]
    assert rows["vote"]["share"] == pytest.approx(9 / 20)
    assert (rows["vote"]["pairs"], rows["vote"]["queries"], rows["vote"]["value"]) == (0, 0, None)
    assert rows["none"]["share"] == pytest.approx(1 / 20)
    assert rows["small"]["share"] == pytest.approx(0.5)
    assert rows["small"]["pairs"] > 0
    assert rows["large"]["share"] == 0.0
    assert table.filter(pl.col("group") == "vote")["measure"].to_list() == [*confusion.MEASURES]


def test_columns_come_in_order_and_each_adds_up_to_all_pairs():
    pairs = grouped()
    silent = pl.when(pl.int_range(pl.len()) < 20).then(-1).otherwise(pl.col("predicted"))
    for told in (pairs, pairs.with_columns(predicted=silent)):
        table = agreement_by(told, ["tfidf_band", "judge"], resamples=10, seed=0)
        assert table["by"].unique(maintain_order=True).to_list() == ["tfidf_band", "judge"]
        accuracy = table.filter(pl.col("measure") == "accuracy")
        answered = (told["predicted"] >= 0).sum()
        for _, rows in accuracy.group_by("by"):
            assert rows["pairs"].sum() == answered
            right = (rows["pairs"] * rows["value"]).sum()
            assert right == pytest.approx((told["human"] == told["predicted"]).sum())
        assert table["share"].null_count() == table.height
    assert agreement_by(pairs.clear(), ["judge"], resamples=10, seed=0).is_empty()


def test_the_order_of_rows_does_not_matter_to_groups():
    pairs = grouped()
    first = agreement_by(pairs, ["judge"], resamples=30, seed=1)
    assert first.equals(
        agreement_by(pairs.sample(fraction=1.0, shuffle=True, seed=2), ["judge"],
                     resamples=30, seed=1)
    )  # fmt: skip


def test_candidates_are_grouped_by_how_they_were_found():
    candidates = pl.DataFrame(
        {
            "query_id": ["q"] * 5,
            "item_id": list("abcde"),
            "rank_bm25": [7, None, 100, None, 11],
            "score_bm25": [1.0] * 5,
            "rank_dense": [60, 400, None, None, 50],
            "score_dense": [1.0] * 5,
            "channels": [2, 1, 1, 0, 2],
            "tfidf": [0.1, 0.2, 0.6, 0.61, None],
        }
    )
    groups = with_groups(candidates, (0.2, 0.6))
    assert groups["found_by"].to_list() == ["bm25+dense", "dense", "bm25", "none", "bm25+dense"]
    assert groups["rank_band"].to_list() == ["001-010", "over 100", "051-100", None, "011-050"]
    bands = ["below 0.2", "0.2 to 0.6", "0.2 to 0.6", "over 0.6", None]
    assert groups["tfidf_band"].to_list() == bands
