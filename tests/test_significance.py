import itertools

import numpy as np
import polars as pl
import pytest

from trivium.domain.significance import (
    bootstrap_means,
    cells,
    difference_interval,
    holm,
    mean_interval,
    randomisation_p_values,
    relative_interval,
)
from trivium.foundation.errors import InputError


def test_bootstrap_means_have_the_spread_of_a_mean():
    values = np.random.default_rng(0).normal(size=(200, 3)) * [1.0, 2.0, 0.0] + 5.0
    means = bootstrap_means(values, resamples=4000, seed=1)
    assert means.shape == (4000, 3)
    np.testing.assert_allclose(means.mean(axis=0), values.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(means.std(axis=0), values.std(axis=0) / np.sqrt(200), rtol=0.05)


def test_a_column_is_resampled_the_same_whatever_stands_beside_it():
    values = np.random.default_rng(0).random((50, 4))
    together = bootstrap_means(values, resamples=100, seed=3)
    alone = bootstrap_means(values[:, 2], resamples=100, seed=3)
    np.testing.assert_allclose(together[:, [2]], alone)
    assert not np.allclose(alone, bootstrap_means(values[:, 2], resamples=100, seed=4))


def test_batches_cover_every_resample(monkeypatch):
    values = np.random.default_rng(0).random((50, 2))
    monkeypatch.setattr("trivium.domain.significance._CELLS", 50 * 7)
    assert bootstrap_means(values, resamples=100).shape == (100, 2)
    assert len(np.unique(bootstrap_means(values, resamples=100)[:, 0])) == 100
    p = randomisation_p_values(values - 0.5, resamples=100)
    assert np.all((p >= 1 / 101) & (p <= 1.0))


@pytest.mark.parametrize("draw", ["normal", "binary"])
def test_intervals_cover_the_truth(draw):
    rng = np.random.default_rng(7)
    trials, queries = 400, 100
    covered = np.zeros(2)
    for trial in range(trials):
        if draw == "normal":
            baseline = rng.normal(0.5, 0.2, queries)
            system = baseline + rng.normal(0.05, 0.1, queries)
            truth = (0.55, 0.05)
        else:
            baseline = (rng.random(queries) < 0.3).astype(float)
            system = (rng.random(queries) < 0.4).astype(float)
            truth = (0.4, 0.1)
        values = np.column_stack([baseline, system])
        means = bootstrap_means(values, resamples=500, seed=trial)
        intervals = mean_interval(values, means), difference_interval(values, means, baseline=0)
        covered += [i.low[1] <= t <= i.high[1] for i, t in zip(intervals, truth, strict=True)]
    assert np.all(np.abs(covered / trials - 0.95) < 0.035)


def test_differences_are_paired():
    rng = np.random.default_rng(0)
    baseline = rng.random(100)
    values = np.column_stack([baseline, baseline + 0.01])
    means = bootstrap_means(values, resamples=500)
    difference = difference_interval(values, means, baseline=0)
    np.testing.assert_allclose([difference.low[1], difference.high[1]], 0.01)
    alone = mean_interval(values, means)
    assert alone.high[1] - alone.low[1] > 0.05
    np.testing.assert_allclose([difference.value[0], difference.low[0], difference.high[0]], 0.0)


def test_relative_gain_resamples_the_baseline_too():
    rng = np.random.default_rng(0)
    baseline = rng.uniform(0.2, 0.8, 200)
    values = np.column_stack([baseline, 1.1 * baseline, np.zeros(200)])
    means = bootstrap_means(values, resamples=500)
    relative = relative_interval(values, means, baseline=0)
    np.testing.assert_allclose([relative.value[1], relative.low[1], relative.high[1]], 0.1)
    assert relative.value[2] == -1.0
    against_zero = relative_interval(values, means, baseline=2)
    assert np.isnan(against_zero.value).all()
    assert np.isnan(against_zero.low).all()


def test_relative_gain_survives_a_resample_whose_baseline_is_zero():
    values = np.column_stack([np.eye(8)[0] + np.eye(8)[1], np.ones(8)])
    means = bootstrap_means(values, resamples=500)
    zero = np.mean(means[:, 0] == 0)
    assert 0.05 < zero < 0.2
    relative = relative_interval(values, means, baseline=0)
    assert relative.value[1] == pytest.approx(3.0)
    assert np.isfinite(relative.low[1])
    assert np.isnan(relative.high[1])
    assert relative.low[0] == relative.high[0] == 0.0
    narrow = relative_interval(values, means, baseline=0, level=0.5)
    assert narrow.low[1] <= 3.0 <= narrow.high[1] < np.inf


def test_one_query_has_no_interval():
    means = bootstrap_means([[0.3, 0.4]], resamples=10)
    interval = mean_interval([[0.3, 0.4]], means)
    assert interval.value.tolist() == [0.3, 0.4]
    assert np.isnan(interval.low).all()
    assert np.isnan(interval.high).all()


def test_randomisation_equals_the_exact_test_of_all_signs():
    differences = np.array([0.3, -0.1, 0.2, 0.4, 0.0, 0.25, -0.05, 0.1, 0.2, 0.3])
    signs = np.array(list(itertools.product([-1, 1], repeat=len(differences))))
    exact = np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12)
    p = randomisation_p_values(differences, resamples=40_000, seed=1)
    assert 0.001 < exact < 0.1
    assert p[0] == pytest.approx(exact, abs=4 * np.sqrt(exact / 40_000))


def test_randomisation_is_two_sided_and_never_zero():
    strong = np.full(60, 0.2)
    p = randomisation_p_values(np.column_stack([strong, -strong, 0 * strong]), resamples=999)
    np.testing.assert_allclose(p, [0.001, 0.001, 1.0])


def test_equal_sums_count_as_ties_despite_rounding():
    tenths = np.array([1, 2, 3, -6, 1, 4, -2, 3])
    signs = np.array(list(itertools.product([-1, 1], repeat=len(tenths))))
    exact = np.mean(np.abs(signs @ tenths) >= abs(tenths.sum()))
    whole = randomisation_p_values(tenths, resamples=5000, seed=2)
    assert whole[0] == pytest.approx(exact, abs=0.03)
    assert randomisation_p_values(tenths / 10, resamples=5000, seed=2) == whole


@pytest.mark.parametrize("shape", ["normal", "sparse"])
def test_randomisation_rejects_a_true_null_at_its_level(shape):
    rng = np.random.default_rng(5)
    columns, queries = 2000, 60
    if shape == "normal":
        baseline, system = rng.normal(size=(2, queries, columns))
        differences = system - baseline
    else:
        changed = rng.random((queries, columns)) < 0.5
        differences = changed * rng.choice([-0.5, -0.1, 0.1, 0.5], size=(queries, columns))
    p = randomisation_p_values(differences, resamples=1000, seed=9)
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.015)
    assert np.mean(p <= 0.5) == pytest.approx(0.5, abs=0.05)


def test_randomisation_finds_a_real_difference():
    rng = np.random.default_rng(5)
    differences = rng.normal(0.5, 1.0, size=(60, 200))
    assert np.mean(randomisation_p_values(differences, resamples=500) <= 0.05) > 0.9


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.2]), [0.2])
    np.testing.assert_allclose(holm([0.6, 0.5]), [1.0, 1.0])
    assert holm([]).size == 0


def test_cells_pair_the_queries_of_all_systems():
    per_query = pl.DataFrame(
        {
            "system": ["b", "a", "a", "b", "c", "c"],
            "query_id": ["q1", "q2", "q1", "q2", "q1", "q2"],
            "segment": ["head", "tail", "head", "tail", "head", "tail"],
            "measure": ["P@1"] * 6,
            "value": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        }
    )
    by_segment = {cell.segment: cell for cell in cells(per_query, "b", resamples=10, seed=0)}
    assert by_segment.keys() == {"all", "head", "tail"}
    assert by_segment["all"].systems == ("b", "a", "c")
    assert by_segment["all"].values.tolist() == [[0.1, 0.3, 0.5], [0.4, 0.2, 0.6]]
    assert by_segment["tail"].values.tolist() == [[0.4, 0.2, 0.6]]
    with pytest.raises(InputError, match="no 'z' among a, b, c"):
        list(cells(per_query, "z", resamples=10, seed=0))
    with pytest.raises(InputError, match="1 of 2 queries"):
        list(cells(per_query.head(5), "b", resamples=10, seed=0))
