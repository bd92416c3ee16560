from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from trivium.domain.calibration import FEWEST_PAIRS, FEWEST_QUERIES, METHODS, Calibration
from trivium.domain.curves import (
    PSEUDO_LABELS,
    fit_isotonic,
    fit_sigmoid,
    fit_smoothed,
    fit_temperature,
    log_odds,
    tempered,
)
from trivium.domain.reliability import (
    brier_score,
    errors,
    expected_calibration_error,
    negative_log_likelihood,
)
from trivium.foundation.errors import ConfigError, InputError


def overconfident(count: int, seed: int, sharpness: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a judge that overstates what it knows, and grades drawn from the truth."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, 5)) + np.array([-1.0, -0.5, 0.0, 0.5, 0.5])
    truth = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    stated = truth**sharpness / (truth**sharpness).sum(axis=1, keepdims=True)
    grades = (truth.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)
    return stated, np.minimum(grades, 4)


def fitted(method: str, count: int = 800, seed: int = 3, **settings: object) -> Calibration:
    return Calibration.fit(method, *overconfident(count, seed), **{"min_count": 10, **settings})


@pytest.mark.parametrize("method", METHODS[1:])
def test_stated_confidence_comes_true_on_unseen_pairs(method):
    raw, grades = overconfident(4000, 1)
    calibrated = fitted(method, 4000).apply(raw)
    correct = calibrated.grades == grades
    assert expected_calibration_error(raw.max(axis=1), raw.argmax(axis=1) == grades) > 0.15
    assert expected_calibration_error(calibrated.confidence, correct) < 0.03
    assert brier_score(calibrated.probabilities, grades) < brier_score(raw, grades) - 0.05


@pytest.mark.parametrize("method", METHODS)
def test_distributions_are_whole_and_hold_the_confidence(method):
    extreme = np.concatenate([overconfident(200, 2)[0], np.eye(5), np.full((1, 5), 0.2)])
    got = fitted(method).apply(extreme)
    np.testing.assert_allclose(got.probabilities.sum(axis=1), 1.0, atol=1e-12)
    at = np.arange(len(extreme))
    np.testing.assert_allclose(got.probabilities[at, got.grades], got.confidence, atol=1e-15)
    if method in ("isotonic", "predicted", "none"):
        np.testing.assert_array_equal(got.grades, extreme.argmax(axis=1))
    if method in ("isotonic", "predicted"):
        apart = extreme[:200]  # where the judge is not certain, the others keep their proportions
        others = np.delete(apart[0], apart[0].argmax())
        shares = np.delete(got.probabilities[0], apart[0].argmax())
        np.testing.assert_allclose(shares / shares.sum(), others / others.sum(), rtol=1e-3)
    else:
        np.testing.assert_array_equal(got.grades, got.probabilities.argmax(axis=1))
    if method != "none":
        assert got.probabilities.min() > 0.0
        assert got.confidence.max() < 1.0


@pytest.mark.parametrize("method", METHODS)
def test_pairs_without_an_answer_stay_without_and_teach_nothing(method):
    raw, grades = overconfident(300, 4)
    holes = np.concatenate([raw, np.full((40, 5), np.nan)])
    order = np.random.default_rng(0).permutation(340)
    whole = Calibration.fit(method, raw, grades, min_count=10)
    ids = pl.Series([f"q{k}" for k in range(340)])
    some = Calibration.fit(
        method, holes, np.concatenate([grades, np.zeros(40, int)]), min_count=10, query_ids=ids
    )
    assert some == whole
    got, want = some.apply(holes[order]), whole.apply(raw)
    silent = order >= 300
    assert np.isnan(got.probabilities[silent]).all()
    assert np.isnan(got.confidence[silent]).all()
    assert (got.grades[silent] == -1).all()
    np.testing.assert_array_equal(got.probabilities[~silent], want.probabilities[order[~silent]])
    np.testing.assert_array_equal(got.grades[~silent], want.grades[order[~silent]])
    with pytest.raises(InputError, match="no answer"):
        Calibration.fit(method, np.full((3, 5), np.nan), np.zeros(3, int), min_count=1)


@pytest.mark.parametrize("method", METHODS)
def test_json_gives_back_the_same(method):
    raw, grades = overconfident(500, 5)
    fitted_ = Calibration.fit(method, raw, grades, min_count=1)
    again = Calibration.from_dict(json.loads(json.dumps(fitted_.as_dict())))
    assert again == fitted_
    np.testing.assert_array_equal(again.apply(raw).probabilities, fitted_.apply(raw).probabilities)


def test_temperature_and_sigmoids_are_the_likeliest_of_a_fine_grid():
    raw, grades = overconfident(600, 6)
    found = fit_temperature(raw, grades)
    losses = {
        t: negative_log_likelihood(tempered(raw, t), grades) for t in np.linspace(0.5, 6, 500)
    }
    assert found == pytest.approx(min(losses, key=losses.__getitem__), abs=0.02)
    assert 2.5 < found < 3.6  # the judge's exponent is 3
    np.testing.assert_allclose(tempered(raw, 1.0), raw, atol=1e-12)

    hits = grades == 4
    sigmoid = fit_sigmoid(raw[:, 4], hits)
    targets = np.where(hits, (hits.sum() + 1) / (hits.sum() + 2), 1 / ((~hits).sum() + 2))

    def loss(slope: float, intercept: float) -> float:
        p = 1 / (1 + np.exp(-(slope * log_odds(raw[:, 4]) + intercept)))
        return float(-(targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean())

    best = loss(sigmoid.slope, sigmoid.intercept)
    for slope in np.linspace(-0.2, 0.2, 9):
        for intercept in np.linspace(-0.2, 0.2, 9):
            assert best <= loss(sigmoid.slope + slope, sigmoid.intercept + intercept) + 1e-9


def test_plain_curve_is_isotonic_regression_and_ties_follow_the_judge():
    from sklearn.isotonic import IsotonicRegression

    raw, grades = overconfident(800, 3)
    calibration = fitted("isotonic")
    top, correct = raw.max(axis=1), raw.argmax(axis=1) == grades
    plain = IsotonicRegression(y_min=1 / 802, y_max=801 / 802, out_of_bounds="clip")
    scores = np.linspace(0.0, 1.0, 301)
    (curve,) = calibration.curves
    np.testing.assert_allclose(curve(scores), plain.fit(top, correct).predict(scores), atol=1e-9)
    assert curve.count == correct.sum()
    assert curve == fit_isotonic(top, correct)
    # Where the curve is level, the judge's own order decides.
    level = int(np.flatnonzero((np.diff(curve.y) == 0) & (np.diff(curve.x) > 0.003))[0])
    ends = np.zeros((2, 5))
    ends[:, 4] = curve.x[level : level + 2]
    ends[:, :4] = (1 - ends[:, 4:]) / 4
    assert np.ptp(curve(ends[:, 4])) == 0.0
    assert np.diff(calibration.apply(ends).confidence) > 0.0


def test_smoothed_steps_equal_a_plain_loop():
    rng = np.random.default_rng(8)
    scores = rng.choice(np.linspace(0, 1, 60), 400)
    hits = rng.random(400) < scores**2
    prior = scores**1.5
    curve = fit_smoothed(scores, hits, prior)
    blocks = [
        [i for i in range(400) if scores[i] == s] for s in sorted(set(scores.tolist()))
    ]  # pool adjacent violators, by hand

    def mean(block: list[int], values: np.ndarray) -> float:
        return float(values[block].mean())

    merged: list[list[int]] = []
    for block in blocks:
        merged.append(block)
        while len(merged) > 1 and mean(merged[-2], hits) >= mean(merged[-1], hits):
            merged[-2:] = [merged[-2] + merged[-1]]
    assert len(curve.x) == len(merged) > 5
    np.testing.assert_allclose(curve.x, [mean(b, scores) for b in merged])
    plain = []
    for block in merged:
        size = len(block)
        plain.append(
            (size * mean(block, hits) + PSEUDO_LABELS * mean(block, prior)) / (size + PSEUDO_LABELS)
        )
    assert (np.diff(plain) > 0).all()  # otherwise they would be pooled again
    np.testing.assert_allclose(curve.y, plain)
    flat = fit_smoothed(scores, np.zeros(400, bool), prior)
    assert len(flat.x) == 1
    assert fit_smoothed(scores[:1], hits[:1], prior[:1]).count == int(hits[0])


def test_one_versus_rest_starts_from_platt_and_bends_where_labels_say_so():
    rng = np.random.default_rng(9)
    # Grade 3's stated probability says nothing above 0.5: no sigmoid can follow that.
    stated = rng.uniform(0.05, 0.95, 20_000)
    true = np.minimum(stated, 0.5) * 0.8
    is_three = rng.random(20_000) < true
    raw = np.full((20_000, 5), 1e-6)
    raw[:, 3], raw[:, 1] = stated, 1 - stated
    raw /= raw.sum(axis=1, keepdims=True)
    grades = np.where(is_three, 3, 1)
    fit, test = slice(0, 10_000), slice(10_000, None)
    off = {}
    for method in ("platt", "one_vs_rest"):
        got = Calibration.fit(method, raw[fit], grades[fit], min_count=10).apply(raw[test])
        off[method] = np.abs(got.probabilities[:, 3] - true[test]).mean()
    assert off["one_vs_rest"] < off["platt"] / 2
    few = Calibration.fit("one_vs_rest", raw[:60], grades[:60], min_count=10).apply(raw[test])
    platt = Calibration.fit("platt", raw[:60], grades[:60], min_count=10).apply(raw[test])
    assert np.abs(few.probabilities - platt.probabilities).mean() < 0.05


def test_a_judge_is_calibrated_differently_by_the_grade_it_predicts():
    rng = np.random.default_rng(10)
    raw = np.full((4000, 5), 0.05)
    predicted = rng.choice([1, 4], 4000)
    raw[np.arange(4000), predicted] = 0.8
    right = rng.random(4000) < np.where(predicted == 4, 0.9, 0.5)
    grades = np.where(right, predicted, 2)
    per_class = Calibration.fit("predicted", raw, grades, min_count=10).apply(raw)
    pooled = Calibration.fit("isotonic", raw, grades, min_count=10).apply(raw)
    for grade, accuracy in ((1, 0.5), (4, 0.9)):
        assert per_class.confidence[predicted == grade][0] == pytest.approx(accuracy, abs=0.03)
        assert pooled.confidence[predicted == grade][0] == pytest.approx(0.7, abs=0.03)
    by_grade = {"predicted": errors(per_class, grades), "isotonic": errors(pooled, grades)}
    overall = {name: table["ece"][0] for name, table in by_grade.items()}
    assert overall["isotonic"] < 0.03  # blind to what a grade gets wrong
    assert by_grade["isotonic"].filter(grade=4)["ece"][0] > 0.15
    assert by_grade["predicted"].filter(grade=4)["ece"][0] < 0.03


@pytest.mark.parametrize("method", ["platt", "one_vs_rest"])
def test_a_rare_grade_falls_back_on_the_curve_of_all_grades(method):
    raw, grades = overconfident(600, 4)
    keep = (grades != 0) | (np.cumsum(grades == 0) <= 5)
    calibration = Calibration.fit(method, raw[keep], grades[keep], min_count=10)
    assert calibration.fallbacks == (0,)
    assert calibration.method_used == method
    for curves in (calibration.sigmoids, calibration.curves):
        if curves:
            assert curves[0].count == keep.sum()
            assert curves[1].count == (grades[keep] == 1).sum()
    everything = Calibration.fit(method, raw, grades, min_count=10_000)
    assert everything.fallbacks == (0, 1, 2, 3, 4)
    assert len(set(everything.sigmoids)) == 1


def test_a_grade_without_labels_keeps_a_probability_near_zero():
    raw, grades = overconfident(1000, 11)
    seen = grades != 2
    for method in ("platt", "one_vs_rest"):
        calibration = Calibration.fit(method, raw[seen], grades[seen], min_count=10)
        got = calibration.apply(raw)
        assert calibration.fallbacks == (2,)
        assert 0 < got.probabilities[:, 2].max() < 0.05
        assert (got.grades != 2).all()


def test_rare_predictions_fall_back_on_the_curve_of_all_predictions():
    raw, grades = overconfident(600, 12)
    predicted = raw.argmax(axis=1)
    keep = (predicted != 0) | (np.cumsum(predicted == 0) <= 5)
    calibration = Calibration.fit("predicted", raw[keep], grades[keep], min_count=10)
    assert calibration.fallbacks == (0,)
    assert calibration.curves[0].count == (predicted == grades)[keep].sum()


def test_refusal_names_each_class_what_it_has_and_what_it_needs():
    raw, grades = overconfident(600, 13)
    keep = (grades > 1) | (np.cumsum(grades == 1) <= 4) & (grades == 1)
    ids = pl.Series([f"q{k % 7}" for k in range(int(keep.sum()))])
    with pytest.raises(InputError) as refused:
        Calibration.fit(
            "one_vs_rest", raw[keep], grades[keep], min_count=25, few="refuse", query_ids=ids
        )
    text = str(refused.value)
    assert len(refused.value.faults) == 3
    assert " labels of 7 queries" in text
    assert f"at least {FEWEST_PAIRS} of {FEWEST_QUERIES} queries" in text
    assert [(f.where, f.got, f.expected) for f in refused.value.faults[1:]] == [
        ("calibration 'one_vs_rest': grade 0", "0 labels", "at least 25"),
        ("calibration 'one_vs_rest': grade 1", "4 labels", "at least 25"),
    ]
    for method in ("none", "temperature", "isotonic"):
        assert Calibration.fit(method, raw[keep], grades[keep], min_count=25, few="refuse")
    with pytest.raises(ConfigError, match="one of"):
        Calibration.fit("histogram", raw, grades, min_count=1)


def test_too_few_queries_fall_back_on_temperature_and_say_why():
    raw, grades = overconfident(600, 14)
    few = pl.Series([f"q{k % (FEWEST_QUERIES - 1)}" for k in range(600)])
    enough = pl.Series([f"q{k % FEWEST_QUERIES}" for k in range(600)])
    temperature = fitted("temperature", 600, 14)
    for method in ("isotonic", "one_vs_rest", "predicted"):
        calibration = Calibration.fit(method, raw, grades, min_count=10, query_ids=few)
        assert (calibration.method, calibration.method_used) == (method, "temperature")
        assert f"{FEWEST_QUERIES - 1} queries" in calibration.why
        assert calibration.fallbacks == ()
        np.testing.assert_array_equal(
            calibration.apply(raw).probabilities, temperature.apply(raw).probabilities
        )
        used = Calibration.fit(method, raw, grades, min_count=10, query_ids=enough)
        assert (used.method_used, used.why) == (method, "")
    assert Calibration.fit("platt", raw, grades, min_count=10, query_ids=few).why == ""
    for pairs, want in ((FEWEST_PAIRS - 1, "temperature"), (FEWEST_PAIRS, "one_vs_rest")):
        calibration = Calibration.fit(
            "one_vs_rest", raw[:pairs], grades[:pairs], min_count=10, query_ids=enough[:pairs]
        )
        assert calibration.method_used == want


def test_pool_pairs_alone_unlearn_grade_0_and_background_pairs_keep_it():
    rng = np.random.default_rng(5)
    pool, pool_grades = overconfident(1000, 6)
    keep = pool_grades > 0
    pool, pool_grades = pool[keep], pool_grades[keep]
    background = np.column_stack([rng.uniform(0.6, 0.99, 300), *rng.uniform(0, 0.1, (4, 300))])
    background /= background.sum(axis=1, keepdims=True)
    alone = Calibration.fit("one_vs_rest", pool, pool_grades, min_count=10)
    both = Calibration.fit(
        "one_vs_rest",
        np.concatenate([pool, background]),
        np.concatenate([pool_grades, np.zeros(300, np.int64)]),
        min_count=10,
    )
    assert (both.apply(background).grades == 0).mean() > 0.9
    lost = alone.apply(background).probabilities[:, 0].mean()
    assert lost < both.apply(background).probabilities[:, 0].mean() - 0.2
