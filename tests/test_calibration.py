from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from trivium.domain.calibration import (
    Calibration,
    assess,
    brier_score,
    expected_calibration_error,
    reliability,
)
from trivium.domain.cascade import settle


def overconfident(count: int, seed: int, sharpness: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a judge that overstates what it knows, and grades drawn from the truth."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, 5)) + np.array([-1.0, -0.5, 0.0, 0.5, 0.5])
    truth = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    stated = truth**sharpness / (truth**sharpness).sum(axis=1, keepdims=True)
    grades = (truth.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)
    return stated, np.minimum(grades, 4)


def test_calibration_makes_stated_confidence_true_on_pairs_it_has_not_seen():
    calibration = Calibration.fit(*overconfident(4000, 0), min_count=10)
    raw, grades = overconfident(4000, 1)
    calibrated = calibration.apply(raw)
    correct = calibrated.argmax(axis=1) == grades
    before = expected_calibration_error(raw.max(axis=1), raw.argmax(axis=1) == grades)
    assert before > 0.15
    assert expected_calibration_error(calibrated.max(axis=1), correct) < 0.05
    assert (
        expected_calibration_error(calibration.confidence(raw), raw.argmax(axis=1) == grades) < 0.03
    )
    assert brier_score(calibrated, grades) < brier_score(raw, grades) - 0.05


def test_distributions_are_whole_and_never_certain():
    raw, grades = overconfident(500, 2)
    calibration = Calibration.fit(raw, grades, min_count=10)
    extreme = np.concatenate([raw, np.eye(5), np.full((1, 5), 0.2)])
    calibrated = calibration.apply(extreme)
    np.testing.assert_allclose(calibrated.sum(axis=1), 1.0, atol=1e-12)
    assert calibrated.min() > 0.0
    assert calibrated.max() < 1.0
    confidence = calibration.confidence(extreme)
    assert confidence.min() > 0.0
    assert confidence.max() < 1.0


def test_curves_equal_isotonic_regression_and_keep_unequal_scores_apart():
    from sklearn.isotonic import IsotonicRegression

    raw, grades = overconfident(800, 3)
    calibration = Calibration.fit(raw, grades, min_count=10)
    scores = np.linspace(0.0, 1.0, 301)
    bound = 1 / 802
    for grade, curve in enumerate(calibration.grades):
        plain = IsotonicRegression(y_min=bound, y_max=1 - bound, out_of_bounds="clip")
        plain.fit(raw[:, grade], grades == grade)
        np.testing.assert_allclose(curve(scores), plain.predict(scores), atol=1e-9)
        assert (np.diff(curve(scores)) >= -1e-12).all()
    # Where a curve is level, the judge's own order decides.
    curve = calibration.grades[4]
    level = int(np.flatnonzero((np.diff(curve.y) == 0) & (np.diff(curve.x) > 0.01))[0])
    ends = np.full((2, 5), 0.1)
    ends[:, 4] = curve.x[level : level + 2]
    assert np.ptp(curve(ends[:, 4])) == 0.0
    assert np.diff(calibration.apply(ends)[:, 4]) > 0.0


def test_a_rare_grade_falls_back_on_the_curve_of_all_grades():
    raw, grades = overconfident(600, 4)
    keep = (grades != 0) | (np.cumsum(grades == 0) <= 5)
    calibration = Calibration.fit(raw[keep], grades[keep], min_count=10)
    assert calibration.fallbacks == (0,)
    hits = (grades[keep][:, None] == np.arange(5)).ravel()
    assert calibration.grades[0].count == hits.sum()
    assert calibration.grades[1].count == (grades[keep] == 1).sum()
    everything = Calibration.fit(raw, grades, min_count=10_000)
    assert everything.fallbacks == (0, 1, 2, 3, 4)
    assert everything.predicted_fallbacks == (0, 1, 2, 3, 4)
    assert len(set(everything.grades)) == 1


def test_pool_pairs_alone_unlearn_grade_0_and_background_pairs_keep_it():
    rng = np.random.default_rng(5)
    pool, pool_grades = overconfident(1000, 6)
    keep = pool_grades > 0
    pool, pool_grades = pool[keep], pool_grades[keep]
    background = np.column_stack([rng.uniform(0.6, 0.99, 300), *rng.uniform(0, 0.1, (4, 300))])
    background /= background.sum(axis=1, keepdims=True)
    alone = Calibration.fit(pool, pool_grades, min_count=10)
    both = Calibration.fit(
        np.concatenate([pool, background]),
        np.concatenate([pool_grades, np.zeros(300, np.int64)]),
        min_count=10,
    )
    assert (both.apply(background).argmax(axis=1) == 0).mean() > 0.9
    assert alone.apply(background)[:, 0].mean() < both.apply(background)[:, 0].mean() - 0.2


def test_json_gives_back_the_same_calibration():
    raw, grades = overconfident(300, 7)
    calibration = Calibration.fit(raw, grades, min_count=10)
    again = Calibration.from_dict(json.loads(json.dumps(calibration.as_dict())))
    assert again == calibration
    np.testing.assert_array_equal(again.apply(raw), calibration.apply(raw))


def test_errors_equal_plain_loops():
    raw, grades = overconfident(400, 8)
    confidence, correct = raw.max(axis=1), raw.argmax(axis=1) == grades
    error = 0.0
    for k in range(15):
        inside = [i for i, c in enumerate(confidence) if min(int(c * 15), 14) == k]
        if inside:
            gap = np.mean(correct[inside]) - np.mean(confidence[inside])
            error += abs(gap) * len(inside) / len(confidence)
    assert expected_calibration_error(confidence, correct) == pytest.approx(error)
    distances = [
        sum((p[k] - (k == g)) ** 2 for k in range(5)) for p, g in zip(raw, grades, strict=True)
    ]
    assert brier_score(raw, grades) == pytest.approx(np.mean(distances))
    table = reliability(np.array([0.0, 0.05, 0.99, 1.0]), np.array([False, True, True, True]))
    assert table.rows() == [(0, pytest.approx(0.025), 0.5, 2), (14, pytest.approx(0.995), 1.0, 2)]


def test_assessment_compares_before_and_after_on_every_predicted_grade():
    raw, grades = overconfident(2000, 9)
    calibration = Calibration.fit(*overconfident(2000, 10), min_count=10)
    errors, bins = assess(calibration, raw, grades)
    overall = errors.filter(pl.col("grade").is_null())
    assert overall["method"].to_list() == ["uncalibrated", "one_vs_rest", "predicted"]
    assert overall["brier"][0] == pytest.approx(brier_score(raw, grades))
    assert overall["ece"][1:].max() < overall["ece"][0] / 3
    assert overall["brier"].is_null().to_list() == [False, False, True]
    by_grade = errors.filter((pl.col("method") == "uncalibrated") & pl.col("grade").is_not_null())
    assert by_grade["grade"].to_list() == np.unique(raw.argmax(axis=1)).tolist()
    assert by_grade["pairs"].sum() == overall["pairs"][0] == 2000
    for kind in ("raw", "calibrated"):
        assert bins.filter(kind=kind)["count"].sum() == 2000
    inside = raw[raw.argmax(axis=1) == 3].max(axis=1)
    assert bins.filter(kind="raw", predicted=3)["count"].sum() == len(inside)
    low = bins.filter(kind="raw", predicted=3, bin=7)
    in_bin = inside[(inside * 15).astype(int) == 7]
    assert low["confidence"][0] == pytest.approx(in_bin.mean())


def test_the_surest_judge_settles_a_pair():
    a = np.array([[0.9, 0.1, 0, 0, 0], [0.1, 0.4, 0.3, 0.2, 0], [0, 0, 0.5, 0.5, 0]])
    b = np.array([[0, 0, 0, 0.2, 0.8], [0, 0, 0, 0.3, 0.7], [0.5, 0.2, 0.1, 0.1, 0.1]])
    settled = settle({"a": a, "b": b})
    assert settled["grade"].to_list() == [0, 4, 2]
    assert settled["judge"].to_list() == ["a", "b", "a"]
    np.testing.assert_allclose(settled["confidence"], [0.9, 0.7, 0.5], rtol=1e-6)
    assert settle({"a": a})["grade"].to_list() == [0, 1, 2]
    assert settle({"a": a[:0]}).is_empty()
