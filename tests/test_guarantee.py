"""Bounds against plain references, and promises against simulated judges whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

from trivium.domain.cascade import NEVER
from trivium.domain.guarantee import (
    Replies,
    certify_each,
    certify_path,
    common_path,
    decreasing,
    enough,
    lowest_certified,
    proven,
    split_budget,
)
from trivium.domain.promises import simulate_promises

BOUNDS = ("binomial", "betting")


def counts(draws: int, queries: int, accuracy: float, spread: float, seed: int):
    """Pairs right and pairs of each query, whose accuracy varies from query to query."""
    rng = np.random.default_rng(seed)
    size = rng.integers(0, 9, (draws, queries))
    if not spread:
        return rng.binomial(size, accuracy).astype(float), size.astype(float)
    own = rng.beta(accuracy / spread, (1 - accuracy) / spread, (draws, queries))
    return rng.binomial(size, own).astype(float), size.astype(float)


def bet_slowly(right, accepted, target):
    """The largest wealth on the way."""
    most = accepted.max()
    wealth = highest = 1.0
    gains, squares = 0.0, 0.0125
    for k, n in zip(right, accepted, strict=True):
        gain = (k - target * n) / (most * target)
        wealth *= 1.0 + min(max(gains / squares, 0.0), 0.9) * gain
        gains, squares = gains + gain, squares + gain**2
        highest = max(highest, wealth)
    return highest


def test_the_betting_bound_is_a_bet_on_one_query_after_another():
    right, accepted = counts(40, 80, 0.93, 0.3, 1)
    for delta in (0.3, 0.1, 0.01):
        got = proven(right, accepted, target=0.85, delta=delta, bound="betting")
        slow = [bet_slowly(r, a, 0.85) >= 1 / delta for r, a in zip(right, accepted, strict=True)]
        assert got.tolist() == slow
        assert 0 < sum(slow) < 40


def test_the_binomial_bound_is_clopper_and_pearsons():
    right, accepted = counts(60, 30, 0.9, 0.0, 2)
    k, n = right.sum(axis=1), accepted.sum(axis=1)
    lowest = beta.ppf(0.1, k, n - k + 1)
    got = proven(right, accepted, target=0.88, delta=0.1, bound="binomial")
    assert got.tolist() == (lowest >= 0.88).tolist()
    assert 0 < got.sum() < 60


@pytest.mark.parametrize("bound", BOUNDS)
def test_nothing_is_proven_by_no_pairs_or_for_a_share_of_one(bound):
    nothing, five = np.zeros((2, 3)), np.full((2, 3), 5.0)
    assert not proven(nothing, nothing, target=0.5, delta=0.1, bound=bound).any()
    assert not proven(five, five, target=1.0, delta=0.1, bound=bound).any()


def test_large_queries_count_for_no_more_than_they_may():
    right, accepted = counts(20, 60, 0.95, 0.2, 3)
    scale = np.minimum(1.0, 3.0 / np.maximum(accepted, 1.0))
    got = proven(right, accepted, target=0.8, delta=0.05, bound="betting", most=3)
    same = proven(right * scale, accepted * scale, target=0.8, delta=0.05, bound="betting", most=3)
    assert got.tolist() == same.tolist()


@pytest.mark.parametrize(("bound", "spread"), [("binomial", 0.0), ("betting", 0.0), ("betting", 1)])
@pytest.mark.parametrize("delta", [0.1, 0.3])
def test_a_test_at_the_very_edge_errs_no_more_often_than_stated(bound, spread, delta):
    right, accepted = counts(3000, 150, 0.8, spread, 4)
    errs = proven(right, accepted, target=0.8, delta=delta, bound=bound).mean()
    assert errs <= delta + 3 * np.sqrt(delta * (1 - delta) / 3000)
    assert errs > 0.0


def test_the_exact_bound_errs_too_often_where_pairs_of_a_query_are_alike():
    right, accepted = counts(3000, 150, 0.8, 1, 5)
    assert proven(right, accepted, target=0.8, delta=0.1, bound="binomial").mean() > 0.18


def test_thresholds_fall_in_even_steps_to_all_pairs():
    confidence = np.random.default_rng(0).random(1000)
    grid = decreasing(np.append(confidence, np.nan))
    assert np.all(np.diff(grid) < 0)
    accepted = (confidence[None] >= grid[:, None]).sum(axis=1)
    np.testing.assert_allclose(accepted, np.arange(1, 21) * 50, atol=2)
    assert grid[-1] == confidence.min()
    assert decreasing(np.full(3, np.nan)).size == 0
    assert decreasing(np.full(7, 0.4)).tolist() == [0.4]


def lowest_slowly(confidence, correct, query, *, target, delta, bound):
    found = None
    grid = decreasing(confidence)
    for step, threshold in enumerate(grid):
        inside = confidence >= threshold
        if inside.sum() < enough(target, delta, bound) and step < len(grid) - 1:
            continue
        queries = range(query.max() + 1)
        right = [[(inside & correct & (query == q)).sum() for q in queries]]
        accepted = [[(inside & (query == q)).sum() for q in queries]]
        arrays = np.array(right, float), np.array(accepted, float)
        if not proven(*arrays, target=target, delta=delta, bound=bound)[0]:
            return found
        found = threshold
    return found


@pytest.mark.parametrize("bound", BOUNDS)
def test_the_lowest_threshold_is_found_as_by_testing_one_after_another(bound):
    found = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        n = 900
        confidence = rng.random(n).round(2)
        correct = rng.random(n) < 0.5 + 0.5 * confidence
        confidence[rng.random(n) < 0.02] = np.nan
        query = rng.integers(0, 120, n)
        rule = {"target": 0.8, "delta": 0.2, "bound": bound}
        got = lowest_certified(confidence, correct, query, **rule)
        known = ~np.isnan(confidence)
        assert got == lowest_slowly(confidence[known], correct[known], query[known], **rule)
        found.add(got)
    assert len(found - {None}) > 3


def test_nothing_is_certified_without_pairs_or_by_a_judge_that_guesses():
    rule = {"target": 0.8, "delta": 0.1, "bound": "betting"}
    none = np.empty(0)
    assert lowest_certified(none, none.astype(bool), none.astype(np.int64), **rule) is None
    rng = np.random.default_rng(0)
    confidence, query = rng.random(2000), np.arange(2000) // 8
    assert lowest_certified(confidence, rng.random(2000) < 0.3, query, **rule) is None


def test_more_pairs_are_needed_for_more_certainty():
    assert enough(0.8, 0.01, "binomial") > enough(0.8, 0.1, "binomial") > 10
    assert enough(0.8, 0.1, "betting") > enough(0.8, 0.1, "binomial")
    assert split_budget(0.1, 15) * 15 == pytest.approx(0.1)


def replies(queries: int, seed: int) -> Replies:
    rng = np.random.default_rng(seed)
    n = queries * 8
    confidence = rng.random((2, n))
    human = rng.integers(0, 5, n)
    right = rng.random((2, n)) < confidence**0.3
    return Replies(np.where(right, human, (human + 2) % 5), confidence, human, np.arange(n) // 8)


def test_each_judge_is_tested_on_what_reaches_it_in_queries_of_its_own():
    told = replies(2000, 0)
    rule = {"target": 0.8, "delta": 0.2, "bound": "binomial", "seed": 3}
    levels = certify_each(told, **rule)
    assert (levels[0] < 1).all()
    np.testing.assert_array_equal(levels, certify_each(told, **rule))
    owner = np.random.default_rng(3).permutation(2000)[told.query] % 2
    wrong = np.where(owner == 1, 4 - told.human, told.human)  # spoil the second judge's queries
    spoiled = Replies(told.grades, told.confidence, wrong, told.query)
    again = certify_each(spoiled, **rule)
    np.testing.assert_array_equal(again[0], levels[0])
    # Grade 2 alone is the same after spoiling.
    assert (again[1, [0, 1, 3, 4]] == NEVER).all()


@pytest.mark.parametrize("over", ["accepted", "labelled"])
def test_a_path_is_followed_until_it_fails(over):
    told = replies(1500, 1)
    path = common_path(told.confidence)
    assert path.shape[1:] == (2, 5)
    assert (np.diff(path, axis=0) < 0).all()
    rule = {"over": over, "ties": "confidence", "delta": 0.1, "bound": "betting", "seed": 0}
    found = [certify_path(told, path, target=target, **rule) for target in (0.75, 0.85, 0.9)]
    levels = [NEVER if one is None else float(one[0, 0]) for one in found]
    assert levels == sorted(levels)
    assert levels[0] < levels[1]
    assert certify_path(told, path, target=0.999, **rule) is None


LAX = 3 * np.sqrt(0.1 * 0.9 / 80)


@pytest.mark.parametrize(
    ("kind", "bound", "clustering", "target"),
    [
        ("accepted", "binomial", 0.0, 0.85),
        ("accepted", "betting", 0.0, 0.85),
        ("accepted", "betting", 1.0, 0.85),
        ("labelled", "betting", 1.0, 0.72),
        ("each", "binomial", 0.0, 0.8),
        ("each", "betting", 1.0, 0.8),
    ],
)
def test_promises_are_broken_no_more_often_than_stated(kind, bound, clustering, target):
    kept = simulate_promises(
        kind=kind,
        bound=bound,
        clustering=clustering,
        target=target,
        queries=600 if kind == "each" else 200,
        replications=80 if kind != "each" else 40,
    )
    assert kept.broken <= kept.stated + LAX
    assert kept.stated == 0.1
    assert kept.certified > 0.5
    assert kept.accepted > 0.1


def test_a_promise_is_broken_too_often_where_alike_pairs_are_taken_for_independent():
    rule = {"kind": "labelled", "clustering": 2.0, "target": 0.7, "queries": 200}
    wrongly = simulate_promises(bound="binomial", replications=80, **rule)
    rightly = simulate_promises(bound="betting", replications=80, **rule)
    assert wrongly.broken > 0.15
    assert rightly.broken <= 0.1
