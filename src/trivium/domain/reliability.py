"""How well calibrated a judge is: calibration errors, and the tables of reliability diagrams."""

from __future__ import annotations

import numpy as np
import polars as pl

from trivium.domain.calibration import METHODS, Calibrated, Calibration
from trivium.domain.curves import SMALLEST, Flags, Floats, Ints
from trivium.foundation.tables import GRADES

BINS = 15


def expected_calibration_error(confidence: Floats, correct: Flags, bins: int = BINS) -> float:
    """Mean |accuracy - confidence| over equal-width bins, weighted by count (Guo et al., 2017)."""
    table = reliability(confidence, correct, bins)
    gap = (table["accuracy"] - table["confidence"]).abs() * table["count"]
    return float(gap.sum() / max(len(confidence), 1))


def brier_score(probabilities: Floats, grades: Ints) -> float:
    """Mean squared distance between distribution and one-hot truth, 0 to 2 (Brier, 1950)."""
    truth = grades[:, None] == np.array(GRADES)
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())


def negative_log_likelihood(probabilities: Floats, grades: Ints) -> float:
    """Mean -log P(true grade), in nats; a probability counts as 1e-9 at least."""
    true = np.take_along_axis(probabilities, grades[:, None], axis=1)
    return float(-np.log(np.maximum(true, SMALLEST)).mean())


def reliability(confidence: Floats, correct: Flags, bins: int = BINS) -> pl.DataFrame:
    """Table of a reliability diagram.

    Args:
        confidence: Stated probabilities of being right, (n,).
        correct: Whether each was right, (n,).
        bins: Equal-width bins on [0, 1].

    Returns:
        Columns bin (from 0), confidence and accuracy (means), count; bins without pairs left out.
    """
    at = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    frame = pl.DataFrame({"bin": at, "confidence": confidence, "accuracy": correct})
    return (
        frame.group_by("bin")
        .agg(
            pl.col("confidence").mean(),
            pl.col("accuracy").cast(pl.Float64).mean(),
            pl.len().cast(pl.Int64).alias("count"),
        )
        .sort("bin")
    )


def compare(
    fit_probabilities: Floats,
    fit_grades: Ints,
    probabilities: Floats,
    grades: Ints,
    *,
    min_count: int,
    query_ids: pl.Series | None = None,
) -> pl.DataFrame:
    """Fit every method on some pairs of a judge and measure it on others.

    Args:
        fit_probabilities: The judge's probabilities of the pairs to fit on, (n, 5).
        fit_grades: Their human grades, (n,).
        probabilities: Its probabilities of the pairs to measure on, (m, 5).
        grades: Their human grades, (m,).
        min_count: As in `Calibration.fit`.
        query_ids: Of the pairs to fit on, as in `Calibration.fit`.

    Returns:
        The columns of `errors`, after a column method: the one asked for, even where the labels
        were too few for it.
    """
    tables = []
    for method in METHODS:
        calibration = Calibration.fit(
            method,
            fit_probabilities,
            fit_grades,
            min_count=min_count,
            query_ids=query_ids,
        )
        table = errors(calibration.apply(probabilities), grades)
        tables.append(table.select(pl.lit(method).alias("method"), pl.all()))
    return pl.concat(tables)


def errors(calibrated: Calibrated, grades: Ints) -> pl.DataFrame:
    """Calibration errors, overall and where each grade is predicted.

    Args:
        calibrated: What a judge says of pairs; those without an answer are left out.
        grades: Their human grades, (n,).

    Returns:
        Columns grade (the predicted one; null = all), ece, brier, nll, accuracy and confidence
        (means), pairs; grades that are never predicted are left out.
    """
    answered = calibrated.grades >= 0
    chosen: list[tuple[int | None, Flags]] = [(None, answered)]
    chosen += [(k, calibrated.grades == k) for k in GRADES if (calibrated.grades == k).any()]
    rows = [{"grade": grade, **_errors(calibrated, grades, mask)} for grade, mask in chosen]
    return pl.DataFrame(rows, schema_overrides={"grade": pl.Int8})


def diagrams(raw: Floats, calibrated: Calibrated, grades: Ints) -> pl.DataFrame:
    """Tables of the reliability diagrams before and after calibration, by predicted grade.

    Args:
        raw: The judge's probabilities, (n, 5); rows of NaN are left out.
        calibrated: The same, calibrated.
        grades: The human grades, (n,).

    Returns:
        Columns kind (raw, calibrated), predicted, and those of `reliability`.
    """
    none = Calibration.fit("none", raw, grades, min_count=0).apply(raw)
    return pl.concat([_diagram("raw", none, grades), _diagram("calibrated", calibrated, grades)])


def _errors(calibrated: Calibrated, grades: Ints, mask: Flags) -> dict[str, float | int]:
    confidence, whole = calibrated.confidence[mask], calibrated.probabilities[mask]
    truth = grades[mask]
    correct = calibrated.grades[mask] == truth
    return {
        "ece": expected_calibration_error(confidence, correct),
        "brier": brier_score(whole, truth),
        "nll": negative_log_likelihood(whole, truth),
        "accuracy": float(correct.mean()),
        "confidence": float(confidence.mean()),
        "pairs": int(mask.sum()),
    }


def _diagram(kind: str, stated: Calibrated, grades: Ints) -> pl.DataFrame:
    tables = [
        reliability(stated.confidence[mask], grades[mask] == k).select(
            pl.lit(kind).alias("kind"), pl.lit(k, dtype=pl.Int8).alias("predicted"), pl.all()
        )
        for k in GRADES
        if (mask := stated.grades == k).any()
    ]
    return pl.concat(tables)
