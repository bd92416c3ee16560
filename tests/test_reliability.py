from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from test_calibration import overconfident
from trivium.domain.calibration import METHODS, Calibration
from trivium.domain.reliability import (
    brier_score,
    compare,
    diagrams,
    errors,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
)


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
    pairs = list(zip(raw, grades, strict=True))
    distances = [sum((p[k] - (k == g)) ** 2 for k in range(5)) for p, g in pairs]
    assert brier_score(raw, grades) == pytest.approx(np.mean(distances))
    likelihood = negative_log_likelihood(raw, grades)
    assert likelihood == pytest.approx(np.mean([-np.log(p[g]) for p, g in pairs]))
    assert negative_log_likelihood(np.eye(5), np.array([1, 2, 3, 4, 0])) == -np.log(1e-9)


def test_reliability_bins_hold_their_edges():
    table = reliability(np.array([0.0, 0.05, 0.99, 1.0]), np.array([False, True, True, True]))
    assert table.rows() == [(0, pytest.approx(0.025), 0.5, 2), (14, pytest.approx(0.995), 1.0, 2)]
    assert reliability(np.empty(0), np.empty(0, bool)).is_empty()


def test_errors_by_predicted_grade_add_up_and_leave_silent_pairs_out():
    raw, grades = overconfident(1000, 1)
    with_holes = raw.copy()
    with_holes[::10] = np.nan
    calibration = Calibration.fit("none", raw, grades, min_count=0)
    table = errors(calibration.apply(with_holes), grades)
    rest = np.arange(1000) % 10 > 0
    assert table.columns == ["grade", "ece", "brier", "nll", "accuracy", "confidence", "pairs"]
    assert table["grade"].to_list() == [None, 0, 1, 2, 3, 4]
    assert table["pairs"][0] == table["pairs"][1:].sum() == 900
    assert table["brier"][0] == pytest.approx(brier_score(raw[rest], grades[rest]))
    four = rest & (raw.argmax(axis=1) == 4)
    alone = table.filter(grade=4)
    ece = expected_calibration_error(raw[four].max(axis=1), grades[four] == 4)
    assert alone["ece"].item() == pytest.approx(ece)
    assert alone["accuracy"].item() == pytest.approx((grades[four] == 4).mean())
    shares = table["pairs"][1:] / 900
    assert (table["nll"][1:] * shares).sum() == pytest.approx(table["nll"][0])


def test_every_method_is_compared_on_pairs_it_was_not_fitted_on():
    fit, test = overconfident(2000, 10), overconfident(2000, 9)
    table = compare(*fit, *test, min_count=10)
    overall = table.filter(pl.col("grade").is_null())
    assert overall["method"].to_list() == list(METHODS)
    assert overall["ece"][0] > 0.15
    assert overall["ece"][1:].max() < overall["ece"][0] / 3
    assert overall["nll"][1:].max() < overall["nll"][0]
    calibration = Calibration.fit("platt", *fit, min_count=10)
    alone = errors(calibration.apply(test[0]), test[1])
    assert table.filter(method="platt").drop("method").equals(alone)
    few = compare(*fit, *test, min_count=10, query_ids=pl.Series(["q"] * 2000))
    assert (
        few.filter(method="predicted")
        .drop("method")
        .equals(few.filter(method="temperature").drop("method"))
    )


def test_diagrams_show_each_predicted_grade_before_and_after():
    raw, grades = overconfident(2000, 9)
    calibration = Calibration.fit("one_vs_rest", *overconfident(2000, 10), min_count=10)
    calibrated = calibration.apply(raw)
    bins = diagrams(raw, calibrated, grades)
    assert bins.columns == ["kind", "predicted", "bin", "confidence", "accuracy", "count"]
    for kind in ("raw", "calibrated"):
        assert bins.filter(kind=kind)["count"].sum() == 2000
    inside = raw[raw.argmax(axis=1) == 3].max(axis=1)
    assert bins.filter(kind="raw", predicted=3)["count"].sum() == len(inside)
    low = bins.filter(kind="raw", predicted=3, bin=7)
    in_bin = inside[(inside * 15).astype(int) == 7]
    assert low["confidence"][0] == pytest.approx(in_bin.mean())
    after = calibrated.confidence[calibrated.grades == 3]
    assert bins.filter(kind="calibrated", predicted=3)["count"].sum() == len(after)
    raw[:1000] = np.nan
    silent = diagrams(raw, calibration.apply(raw), grades)
    assert silent.filter(kind="raw")["count"].sum() == 1000
