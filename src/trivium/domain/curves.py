"""The curves that turn a score into a probability: isotonic and sigmoid ones, and a temperature."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trivium.foundation.tables import GRADES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

# Log-probabilities of zero would be infinite; a float32 softmax resolves no less than this.
SMALLEST = 1e-9
_TEMPERATURES = (0.05, 20.0)
# Labels that each step of a smoothed curve is given. Of 10, 20, 50 and 100, one versus rest had the
# lowest calibration error with 50 (mean of the settings that `calibration` names); any of them was
# better than none.
PSEUDO_LABELS = 50
# Share of the uncalibrated probability kept, so that equal steps of a curve stay in order.
_TIE_BREAK = 1e-3
# Fitted values closer than this belong to one step.
_SAME = 1e-12


@dataclass(frozen=True)
class Curve:
    """A rising, piecewise linear function from a score to a probability.

    Attributes:
        x: Scores at the knots, rising.
        y: Probabilities at the knots, never 0 or 1.
        count: Labels that it rests on.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    count: int

    def __call__(self, scores: Floats) -> Floats:
        """Probabilities of scores; flat beyond the outer knots."""
        return np.interp(scores, self.x, self.y)


@dataclass(frozen=True)
class Sigmoid:
    """A logistic function of a score's log-odds.

    Attributes:
        slope: Weight of the log-odds.
        intercept: Added to them.
        count: Labels that it rests on.
    """

    slope: float
    intercept: float
    count: int

    def __call__(self, scores: Floats) -> Floats:
        """Probabilities of scores in [0, 1]."""
        from scipy.special import expit

        return np.asarray(expit(self.slope * log_odds(scores) + self.intercept))


def log_odds(probabilities: Floats) -> Floats:
    """log(p / (1 - p)), kept finite."""
    p = np.clip(probabilities, SMALLEST, 1.0 - SMALLEST)
    return np.asarray(np.log(p) - np.log1p(-p))


def fit_isotonic(scores: Floats, hits: Flags) -> Curve:
    """Isotonic regression, kept inside the rule of succession's bounds 1 / (n + 2).

    Args:
        scores: (n,).
        hits: What the probability is of, (n,).
    """
    from sklearn.isotonic import IsotonicRegression

    bound = 1.0 / (len(scores) + 2)
    model = IsotonicRegression(y_min=bound, y_max=1.0 - bound)
    model.fit(scores, hits.astype(np.float64))
    return _curve(model.X_thresholds_, model.y_thresholds_, hits)


def fit_smoothed(scores: Floats, hits: Flags, prior: Floats) -> Curve:
    """Isotonic regression whose steps lean on what was believed before.

    A step that rests on few labels says little: each is given `PSEUDO_LABELS` further ones that
    agree with the prior, as the mean of a beta distribution is. Knots lie at the steps' centres,
    so that the curve rises between them (Oron and Flournoy, 2017).

    Args:
        scores: (n,).
        hits: What the probability is of, (n,).
        prior: The probability that each pair had before, (n,).
    """
    right = hits.astype(np.float64)
    steps = _rising(scores, right)
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(steps[order], prepend=-1.0) > _SAME)

    def total(values: Floats) -> Floats:
        return np.asarray(np.add.reduceat(values[order], starts))  # (steps,)

    size = total(np.ones(len(scores)))
    x, before = total(scores) / size, total(prior) / size
    y = (total(right) + PSEUDO_LABELS * before) / (size + PSEUDO_LABELS)
    rising = _rising(x, y, size + PSEUDO_LABELS)
    bound = 1.0 / (len(scores) + 2)
    return _curve(x, np.clip(rising, bound, 1.0 - bound), hits)


def _rising(x: Floats, y: Floats, weights: Floats | None = None) -> Floats:
    from sklearn.isotonic import IsotonicRegression

    return np.asarray(IsotonicRegression().fit(x, y, sample_weight=weights).predict(x))


def _curve(x: Floats, y: Floats, hits: Flags) -> Curve:
    return Curve(tuple(map(float, x)), tuple(map(float, y)), int(hits.sum()))


def fit_sigmoid(scores: Floats, hits: Flags) -> Sigmoid:
    """Platt scaling of the log-odds, with his smoothed targets (Platt, 1999; Lin et al., 2007).

    Args:
        scores: Probabilities, (n,).
        hits: What the probability is of, (n,).
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    positive, negative = int(hits.sum()), int((~hits).sum())
    targets = np.where(hits, (positive + 1) / (positive + 2), 1 / (negative + 2))
    features = np.stack([log_odds(scores), np.ones(len(scores))], axis=1)  # (n, 2)

    def loss(at: Floats) -> tuple[float, Floats]:
        logits = features @ at
        value = (np.logaddexp(0.0, logits) - targets * logits).mean()
        return float(value), features.T @ (expit(logits) - targets) / len(scores)

    slope, intercept = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    return Sigmoid(float(slope), float(intercept), positive)


def fit_temperature(probabilities: Floats, grades: Ints) -> float:
    """Temperature of least negative log-likelihood (Guo et al., ICML 2017).

    Args:
        probabilities: Distributions, (n, 5).
        grades: The true grades, (n,).
    """
    from scipy.optimize import minimize_scalar

    logs = np.log(np.maximum(probabilities, SMALLEST))
    true = np.take_along_axis(logs, grades[:, None], axis=1)[:, 0]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float((np.logaddexp.reduce(logs * scale, axis=1) - true * scale).sum())

    bounds = tuple(np.log(t) for t in _TEMPERATURES)
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def sigmoids_by_grade(
    probabilities: Floats, grades: Ints, rare: Collection[int]
) -> tuple[Sigmoid, ...]:
    """Platt scaling of each grade against the rest.

    Args:
        probabilities: Distributions, (n, 5).
        grades: The true grades, (n,).
        rare: Grades that get the sigmoid of all grades with labels, if they have any.
    """
    hits = grades[:, None] == np.array(GRADES)  # (n, 5)
    seen = [k for k in GRADES if hits[:, k].any()]
    every, any_hit = probabilities[:, seen].ravel(), hits[:, seen].ravel()
    pooled = fit_sigmoid(every, any_hit)
    return tuple(
        pooled if k in rare and k in seen else fit_sigmoid(probabilities[:, k], hits[:, k])
        for k in GRADES
    )


def curves_by_grade(
    probabilities: Floats, grades: Ints, rare: Collection[int]
) -> tuple[Curve, ...]:
    """P(grade | its probability), smoothed towards that probability; as `sigmoids_by_grade`."""
    p, hits = probabilities, grades[:, None] == np.array(GRADES)  # (n, 5)
    every = p.ravel()
    pooled = fit_smoothed(every, hits.ravel(), every)
    return tuple(
        pooled if k in rare and hits[:, k].any() else fit_smoothed(p[:, k], hits[:, k], p[:, k])
        for k in GRADES
    )


def curves_by_prediction(
    probabilities: Floats, grades: Ints, rare: Collection[int]
) -> tuple[Curve, ...]:
    """P(correct | top probability, predicted grade), smoothed towards a sigmoid of the same."""
    top, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    correct = predicted == grades

    def curve(rows: Flags) -> Curve:
        sigmoid = fit_sigmoid(top[rows], correct[rows])
        return fit_smoothed(top[rows], correct[rows], sigmoid(top[rows]))

    pooled = curve(np.ones(len(top), bool))
    return tuple(pooled if k in rare else curve(predicted == k) for k in GRADES)


def expected_grades(probabilities: Floats) -> Floats:
    """Expected grades of distributions, (n,)."""
    return np.asarray(probabilities @ np.array(GRADES, dtype=np.float64))


def tempered(probabilities: Floats, temperature: float) -> Floats:
    """softmax(log p / temperature), (n, 5)."""
    logs = np.log(np.maximum(probabilities, SMALLEST)) / temperature
    return np.asarray(np.exp(logs - np.logaddexp.reduce(logs, axis=1)[:, None]))


def one_vs_rest(raw: Floats, curves: Sequence[Callable[[Floats], Floats]]) -> Floats:
    """Each grade's probability by its own curve, renormalised, (n, 5)."""
    mapped = np.stack([curve(raw[:, k]) for k, curve in enumerate(curves)], axis=1)
    mapped += _TIE_BREAK * raw
    return np.asarray(mapped / mapped.sum(axis=1, keepdims=True))


def around(raw: Floats, curves: Sequence[Curve]) -> tuple[Floats, Ints, Floats]:
    """The distributions around a confidence in their most probable grade.

    Args:
        raw: Distributions, (n, 5).
        curves: From a top probability to the confidence: one, or one a grade.

    Returns:
        The distributions with that confidence in place of their top probability and the others
        scaled to share the rest, (n, 5); the grades, (n,); the confidences, (n,).
    """
    top, grades = raw.max(axis=1), raw.argmax(axis=1)
    by_curve = np.stack([curve(top) for curve in curves], axis=1)  # (n, 1 or 5)
    chosen = by_curve[np.arange(len(raw)), grades if len(curves) > 1 else 0]
    confidence = (1.0 - _TIE_BREAK) * chosen + _TIE_BREAK * top
    whole = raw + SMALLEST  # so that the others can share the rest where they are all 0
    np.put_along_axis(whole, grades[:, None], 0.0, axis=1)
    whole *= ((1.0 - confidence) / whole.sum(axis=1))[:, None]
    np.put_along_axis(whole, grades[:, None], confidence[:, None], axis=1)
    return whole, grades, confidence
