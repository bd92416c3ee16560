"""Confusion matrices of grades, a query at a time, and their measures under resampling of queries.

The pairs of a query are not independent, so whole queries are drawn with replacement (the cluster
bootstrap; Davison and Hinkley 1997, section 3.8). Most measures of agreement are functions of the
confusion matrix alone, so that a resample costs one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.foundation.tables import GRADES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MEASURES = ("accuracy", "within_one", "kappa")
"""The measures that `measures` gives of all pairs, whatever their grade."""

_N = len(GRADES)
_DISTANCE = np.abs(np.subtract.outer(np.arange(_N), np.arange(_N)))  # (human, judged)
_DRAWN = 2_000_000


def codes(values: pl.Series) -> Ints:
    """Numbers from 0 in the order of the values, (rows,)."""
    return values.rank("dense").to_numpy().astype(np.int64) - 1


def cells(
    query: Ints,
    group: Ints,
    human: Ints,
    judged: Ints,
    *,
    queries: int,
    groups: int,
    weight: Floats | None = None,
) -> Floats:
    """Count, in each query and group, the pairs of each human and judged grade.

    Args:
        query: The query of each pair, from 0, (pairs,).
        group: The group of each pair, from 0, (pairs,).
        human: Human grades, (pairs,).
        judged: Grades to compare with them, (pairs,).
        queries: Number of queries.
        groups: Number of groups.
        weight: What each pair counts, (pairs,); 1 when absent.

    Returns:
        Shape (queries, groups * 25).
    """
    flat = ((query * groups + group) * _N + human) * _N + judged
    counts = np.bincount(flat, weight, minlength=queries * groups * _N * _N)
    return counts.reshape(queries, groups * _N * _N).astype(np.float64)


def draws(queries: int, resamples: int, seed: int, width: int = 0) -> Iterator[Floats]:
    """Draw queries with replacement.

    Args:
        queries: Number of queries, at least 1.
        resamples: How often they are drawn.
        seed: Decides the draws, whatever the width.
        width: Numbers that are made of one draw, where those are more than the queries.

    Yields:
        How often each query is drawn, (some resamples, queries), of bounded size.
    """
    rng = np.random.default_rng(seed)
    chance = np.full(queries, 1 / queries)
    step = max(1, _DRAWN // max(queries, width))
    for start in range(0, resamples, step):
        drawn = rng.multinomial(queries, chance, size=min(step, resamples - start))
        yield drawn.astype(np.float64)


def resampled(counts: Floats, resamples: int, seed: int) -> Floats:
    """Sums of the rows of drawn queries, the same draws for every column.

    Args:
        counts: Shape (queries, columns).
        resamples: How often the queries are drawn.
        seed: Decides the draws.

    Returns:
        Shape (resamples, columns).
    """
    return np.concatenate([drawn @ counts for drawn in draws(len(counts), resamples, seed)])


def measures(confusion: Floats) -> dict[str, Floats]:
    """Measure agreement in confusion matrices; NaN where nothing defines a value.

    Args:
        confusion: Shape (batch, 25) or (batch, 5, 5): human grade, then judged grade.

    Returns:
        `MEASURES` (kappa with quadratic weights, Cohen 1968), then precision_<grade> and
        recall_<grade>, each of shape (batch,).
    """
    confusion = confusion.reshape(-1, _N, _N)
    total = confusion.sum(axis=(1, 2))
    human, judged = confusion.sum(axis=2), confusion.sum(axis=1)  # (batch, 5)
    right = np.diagonal(confusion, axis1=1, axis2=2)  # (batch, 5)
    squared = _DISTANCE**2
    by_chance = np.einsum("bi,ij,bj->b", human, squared, judged)
    values = {
        "accuracy": divide(right.sum(axis=1), total),
        "within_one": divide((confusion * (_DISTANCE <= 1)).sum(axis=(1, 2)), total),
        "kappa": 1 - divide((confusion * squared).sum(axis=(1, 2)) * total, by_chance),
    }
    values |= {f"precision_{k}": divide(right[:, k], judged[:, k]) for k in GRADES}
    return values | {f"recall_{k}": divide(right[:, k], human[:, k]) for k in GRADES}


def divide(top: Floats, bottom: Floats) -> Floats:
    """Quotients, NaN where the divisor is not above 0."""
    undefined = np.full(len(bottom), np.nan)
    return np.asarray(np.divide(top, bottom, out=undefined, where=bottom > 0))


def interval(values: Floats, queries: int) -> tuple[float | None, float | None]:
    """The 95% percentile interval of resampled values, (resamples,).

    Resamples that leave a value undefined do not count; (None, None) where all do, or where there
    are fewer than two queries to draw from.
    """
    finite = values[np.isfinite(values)]
    if queries < 2 or not len(finite):
        return None, None
    low, high = np.quantile(finite, [0.025, 0.975])
    return float(low), float(high)


def or_none(value: float) -> float | None:
    """The value, None where it is undefined."""
    return float(value) if np.isfinite(value) else None
