from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score, confusion_matrix, precision_score, recall_score

from trivium.domain import agreement as module
from trivium.domain.agreement import Agreement, agreement


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
    monkeypatch.setattr(module, "_CHUNK_CELLS", 7 * len(human))
    result = agreement(query_ids, human, predicted, expected, resamples=60, seed=5)
    names = query_ids.unique().sort().to_list()
    rng = np.random.default_rng(5)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=60)
    by_name = {name: np.flatnonzero((query_ids == name).to_numpy()) for name in names}
    kappas, correlations = [], []
    for counts in draws:
        drawn = [np.tile(by_name[n], c) for n, c in zip(names, counts, strict=True) if c]
        rows = np.concatenate(drawn)
        kappas.append(cohen_kappa_score(human[rows], predicted[rows], weights="quadratic"))
        correlations.append(spearmanr(human[rows], expected[rows]).statistic)
    low, high = values(result, "ci_low"), values(result, "ci_high")
    for name, plain in (("kappa", kappas), ("spearman", correlations)):
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
