"""Calibration: from what a judge states to how often it is right.

"Per-class isotonic" has two readings in use, and both are methods here: `one_vs_rest` (Zadrozny and
Elkan, KDD 2002), each grade's probability mapped to the share of pairs that have the grade, then
renormalised, a whole distribution; and `predicted`, P(correct | top probability, predicted grade),
a confidence in the judge's own top grade. Two departures from the textbook make them the better:
the steps of their curves lean on Platt's sigmoids (`curves.fit_smoothed`), and `one_vs_rest` starts
from the distribution that Platt scaling gives.

Measured on trees, overfitted trees, a perceptron and a cross-encoder on CrowdFlower (20 and 43
queries to calibrate, 39 pairs each) and the first three on Home Depot (50 to 3,312 queries, 6 pairs
each), against unseen queries, mean of 20 settings with 5 to 20 random splits each:

                 none  temperature  platt  isotonic  one_vs_rest  predicted
    ECE         0.132        0.045  0.037     0.038        0.034      0.038
    by grade    0.142        0.078  0.047     0.070        0.044      0.044
    Brier       0.685        0.648  0.634     0.662        0.633      0.654
    accuracy    0.480        0.480  0.506     0.480        0.505      0.480

("By grade" is the ECE within each predicted grade, weighted.) So `one_vs_rest` is recommended. The
textbook's had an ECE of 0.041 in 15 of the settings, where `isotonic` had 0.041, `platt` 0.038 and
this one 0.034. With 43 CrowdFlower queries `isotonic` has the lower ECE, 0.053 to 0.059, though
0.093 to 0.070 by grade.

Few labels overfit. With 20 Home Depot queries (126 pairs) `one_vs_rest` has a Brier score of 0.690
and is right on 42.7% of pairs, temperature 0.685 and 43.5%; with 50 (315 pairs) 0.682 and 44.3%
against 0.684 and 43.5%. With 10 CrowdFlower queries the two have the same ECE within 0.003 and with
20 it is 0.064 against 0.074. With 18 Chorus queries (639 pairs), where the judges had learned from
other shops, `one_vs_rest` takes the ECE, a mean of six judges, from 0.217 to 0.095 and the accuracy
from 0.47 to 0.68, which temperature does not. Below either floor temperature is used.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import polars as pl

from trivium.domain.curves import (
    Curve,
    Floats,
    Ints,
    Sigmoid,
    around,
    curves_by_grade,
    curves_by_prediction,
    fit_isotonic,
    fit_temperature,
    one_vs_rest,
    sigmoids_by_grade,
    tempered,
)
from trivium.foundation.errors import ConfigError, Fault, InputError
from trivium.foundation.tables import GRADES

Method: TypeAlias = Literal["none", "temperature", "platt", "isotonic", "one_vs_rest", "predicted"]
Few: TypeAlias = Literal["fall_back", "refuse"]

METHODS: tuple[Method, ...] = get_args(Method)
FEWEST_QUERIES = 10
FEWEST_PAIRS = 200
_FEWEST = f"{FEWEST_PAIRS} of {FEWEST_QUERIES} queries"
_ISOTONIC = ("isotonic", "one_vs_rest", "predicted")
_BY_GRADE = ("platt", "one_vs_rest", "predicted")


@dataclass(frozen=True)
class Calibrated:
    """What a judge says of some pairs, calibrated.

    Attributes:
        probabilities: Of the five grades, rows summing to 1, (n, 5); NaN where it gave no answer.
        grades: The predicted grade, (n,); -1 where it gave no answer.
        confidence: Probability that the predicted grade is right, (n,); NaN where no answer.
    """

    probabilities: Floats
    grades: Ints
    confidence: Floats


@dataclass(frozen=True)
class Calibration:
    """A calibration of one judge, fitted on held-out human labels.

    Attributes:
        method: The method that was asked for.
        method_used: The method that the labels were enough for.
        why: Why another one was used; empty where none was.
        temperature: Of `temperature`; 1 for the other methods.
        sigmoids: Of `platt` and `one_vs_rest`, one a grade.
        curves: Of `isotonic` one; of `one_vs_rest` and `predicted` one a grade.
        fallbacks: Grades with too few labels (`predicted`: predictions) for a curve of their own.
        pairs: Pairs that it was fitted on.
    """

    method: str
    method_used: str
    why: str
    temperature: float
    sigmoids: tuple[Sigmoid, ...]
    curves: tuple[Curve, ...]
    fallbacks: tuple[int, ...]
    pairs: int

    @classmethod
    def fit(
        cls,
        method: str,
        probabilities: Floats,
        grades: Ints,
        *,
        min_count: int,
        few: Few = "fall_back",
        query_ids: pl.Series | None = None,
    ) -> Calibration:
        """Fit a calibration.

        A grade with fewer than `min_count` labels gets the curve of all grades pooled; one without
        any keeps a curve of its own, near zero.

        Args:
            method: One of `METHODS`.
            probabilities: A judge's probabilities, (n, 5); rows of NaN are left out.
            grades: The human grades of the same pairs, (n,).
            min_count: Labels (`predicted`: predictions) that a grade needs for its own curve.
            few: What to do where there are too few: `fall_back` on the pooled curve, or on
                `temperature` below `FEWEST_QUERIES` queries or `FEWEST_PAIRS` pairs; or `refuse`.
            query_ids: The queries of the pairs, (n,); without them neither of the two is checked.

        Raises:
            ConfigError: If there is no such method.
            InputError: If no pair was answered, or if there are too few and `few` is "refuse".
        """
        if method not in METHODS:
            raise ConfigError.of(
                "calibration", got=repr(method), expected=f"one of {METHODS}", fix="correct it"
            )
        labelled = _labelled(probabilities, grades, query_ids)
        why = _too_few(method, labelled)
        rare = {} if why and few == "fall_back" else _rare(method, labelled, min_count)
        if few == "refuse" and (why or rare):
            raise _refusal(method, why, rare, min_count)
        used = "temperature" if why else method
        answers = labelled.probabilities, labelled.grades
        scaled = used in ("platt", "one_vs_rest")
        sigmoids = sigmoids_by_grade(*answers, rare) if scaled else ()
        return cls(
            method=method,
            method_used=used,
            why=why,
            temperature=fit_temperature(*answers) if used == "temperature" else 1.0,
            sigmoids=sigmoids,
            curves=_curves(used, labelled, sigmoids, rare),
            fallbacks=tuple(rare),
            pairs=len(labelled.grades),
        )

    def apply(self, probabilities: Floats) -> Calibrated:
        """Calibrate what the judge says of pairs.

        `isotonic` and `predicted` give a confidence in the judge's own most probable grade, which
        therefore stays the predicted one, even where another grade's probability ends up higher:
        the distribution is the judge's, with that confidence in place of its top probability and
        the others scaled to share the rest. The other methods give a distribution, whose most
        probable grade is predicted.

        Args:
            probabilities: The judge's probabilities, (n, 5); a row of NaN is no answer.
        """
        raw = np.asarray(probabilities, dtype=np.float64)
        answered = ~np.isnan(raw).any(axis=1)
        n = len(raw)
        whole, grades, confidence = np.full(raw.shape, np.nan), np.full(n, -1), np.full(n, np.nan)
        some = self._apply(raw[answered])
        whole[answered], grades[answered], confidence[answered] = some
        return Calibrated(whole, grades, confidence)

    def _apply(self, raw: Floats) -> tuple[Floats, Ints, Floats]:
        if self.method_used in ("isotonic", "predicted"):
            return around(raw, self.curves)
        whole = raw
        if self.method_used == "temperature":
            whole = tempered(raw, self.temperature)
        for curves in (self.sigmoids, self.curves):
            whole = one_vs_rest(whole, curves) if curves else whole
        return whole, whole.argmax(axis=1), whole.max(axis=1)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; floats come back exactly."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Calibration:
        """Read back what `as_dict` wrote."""
        curves = tuple(Curve(tuple(c["x"]), tuple(c["y"]), c["count"]) for c in raw["curves"])
        sigmoids = tuple(Sigmoid(**sigmoid) for sigmoid in raw["sigmoids"])
        read = {"curves": curves, "sigmoids": sigmoids, "fallbacks": tuple(raw["fallbacks"])}
        return cls(**{**raw, **read})


@dataclass(frozen=True)
class _Labelled:
    """The pairs that were answered: (n, 5), (n,), and how many queries have any."""

    probabilities: Floats
    grades: Ints
    queries: int | None


def _labelled(probabilities: Floats, grades: Ints, query_ids: pl.Series | None) -> _Labelled:
    raw = np.asarray(probabilities, dtype=np.float64)
    usable = ~np.isnan(raw).any(axis=1)
    if not usable.any():
        raise InputError.of(
            "calibration",
            got=f"no answer of the judge to any of {len(raw)} labelled pairs",
            expected="some answers",
            fix="see what the judge says with `trivium judge test`",
        )
    queries = None if query_ids is None else query_ids.filter(pl.Series(usable)).n_unique()
    return _Labelled(raw[usable], grades[usable].astype(np.int64), queries)


def _too_few(method: str, labelled: _Labelled) -> str:
    queries, pairs = labelled.queries, len(labelled.grades)
    if method not in _ISOTONIC or queries is None:
        return ""
    if queries >= FEWEST_QUERIES and pairs >= FEWEST_PAIRS:
        return ""
    return f"{pairs} labels of {queries} queries, where curves need {_FEWEST}"


def _rare(method: str, labelled: _Labelled, min_count: int) -> dict[int, int]:
    """Grades without enough pairs for a curve of their own, and how many they have."""
    if method not in _BY_GRADE:
        return {}
    predicted = method == "predicted"
    counted = labelled.probabilities.argmax(axis=1) if predicted else labelled.grades
    counts = np.bincount(counted, minlength=len(GRADES)).tolist()
    return {k: counts[k] for k in GRADES if counts[k] < min_count}


def _refusal(method: str, why: str, rare: Mapping[int, int], min_count: int) -> InputError:
    where, what = f"calibration '{method}'", "predictions" if method == "predicted" else "labels"
    fix = "judge more queries, or let the calibration fall back"
    queries = [Fault(where, why, f"at least {_FEWEST}", fix)] if why else []
    counts = [
        Fault(f"{where}: grade {grade}", f"{count} {what}", f"at least {min_count}", fix)
        for grade, count in rare.items()
    ]
    return InputError(*queries, *counts)


def _curves(
    method: str, labelled: _Labelled, sigmoids: Sequence[Sigmoid], rare: Collection[int]
) -> tuple[Curve, ...]:
    p, grades = labelled.probabilities, labelled.grades
    match method:
        case "isotonic":
            return (fit_isotonic(p.max(axis=1), p.argmax(axis=1) == grades),)
        case "predicted":
            return curves_by_prediction(p, grades, rare)
        case "one_vs_rest":
            return curves_by_grade(one_vs_rest(p, sigmoids), grades, rare)
    return ()
