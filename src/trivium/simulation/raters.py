"""Simulated people and judges: a true grade goes in, a confusion matrix decides what comes out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trivium.foundation.errors import ConfigError
from trivium.foundation.tables import GRADES
from trivium.simulation.grading import Grades

# Rows are true grades 0-4. A stated assumption, not a measurement: ends are clearer than the
# middle, errors fall on neighbours, and the mean of the diagonal, 0.87, is near the 0.89 at which
# two trained annotators agree (arXiv 2606.23911).
HUMAN_CONFUSION: NDArray[np.float64] = np.array(
    [
        [0.900, 0.080, 0.015, 0.004, 0.001],
        [0.060, 0.860, 0.065, 0.012, 0.003],
        [0.010, 0.065, 0.850, 0.065, 0.010],
        [0.003, 0.012, 0.065, 0.850, 0.070],
        [0.001, 0.004, 0.015, 0.080, 0.900],
    ]
)
HUMAN_CONFUSION.setflags(write=False)
_DECAY = 0.2


def confusion(agreement: float) -> NDArray[np.float64]:
    """Confusion matrix of a judge that gives the true grade with this probability.

    Every row has the same diagonal, so the expected agreement is exactly `agreement` whatever
    grades are asked about; the rest falls off fivefold with every further grade.

    Args:
        agreement: Probability of the true grade, 0-1.

    Returns:
        Rows of true grades summing to 1, float64 of shape (5, 5).

    Raises:
        ConfigError: If the agreement is not between 0 and 1.
    """
    if not 0.0 <= agreement <= 1.0:
        raise ConfigError.of(
            "agreement", got=str(agreement), expected="a share between 0 and 1", fix="correct it"
        )
    grades = np.array(GRADES)
    weights = _DECAY ** np.abs(grades[:, None] - grades[None, :]).astype(np.float64)  # (5, 5)
    np.fill_diagonal(weights, 0.0)
    matrix: NDArray[np.float64] = (1 - agreement) * weights / weights.sum(axis=1, keepdims=True)
    np.fill_diagonal(matrix, agreement)
    return matrix


def check_confusion(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the matrix as float64 if it is a confusion matrix.

    Raises:
        ConfigError: If it is not (5, 5) with rows of probabilities that sum to 1.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    size = len(GRADES)
    right = matrix.shape == (size, size) and bool(np.all(matrix >= 0))
    if not (right and np.allclose(matrix.sum(axis=1), 1.0)):
        raise ConfigError.of(
            "confusion",
            got=f"shape {matrix.shape}, row sums {np.round(matrix.sum(axis=-1), 3)}",
            expected="5 rows of 5 probabilities, each row summing to 1",
            fix="state the probability of every given grade for every true grade",
        )
    return matrix


def draw_grades(truth: Grades, matrix: NDArray[np.float64], rng: np.random.Generator) -> Grades:
    """Draw one rating for each true grade, independently.

    Args:
        truth: True grades, (pairs,).
        matrix: Confusion matrix, rows of true grades.
        rng: Source of randomness.

    Returns:
        Given grades, int8 of shape (pairs,).
    """
    upper = np.cumsum(check_confusion(matrix), axis=1)[truth]  # (pairs, 5)
    upper[:, -1] = 1.0
    drawn: Grades = (rng.random(len(truth))[:, None] >= upper).sum(axis=1).astype(np.int8)
    return drawn
