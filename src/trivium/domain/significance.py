"""How sure a mean or a difference of means is, over queries.

Systems are compared on the same queries: a matrix of values has one row a query and one column a
system, and every column is resampled by the same draws, so that differences stay paired. Queries
come sorted; the seed alone then decides the draws, whatever the other columns are.

Sources: bootstrap percentile interval, Efron and Tibshirani 1993, chapter 13; paired randomisation
test, Smucker, Allan and Carterette, CIKM 2007; its p-value (b + 1) / (m + 1), Phipson and Smyth
2010; Holm 1979.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from trivium.foundation import tables
from trivium.foundation.errors import InputError

SEGMENTS = ("all", *tables.SEGMENTS)
Floats = NDArray[np.float64]
_CELLS = 1 << 22


@dataclass(frozen=True)
class Interval:
    """Values with their intervals, one a column; NaN where nothing can be said.

    Attributes:
        value: The estimates, shape (columns,).
        low: Lower ends, shape (columns,).
        high: Upper ends, shape (columns,).
    """

    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Cell:
    """One measure in one segment: the values of all systems on the same queries.

    Attributes:
        segment: `all`, head, torso or tail.
        measure: The measure's name.
        systems: The columns: the baseline first, then the others by name.
        values: Shape (queries, systems), sorted by query_id.
        means: Of resampled queries, shape (resamples, systems).
        p_values: Against the baseline, shape (systems,); the baseline's own is 1.
    """

    segment: str
    measure: str
    systems: tuple[str, ...]
    values: Floats
    means: Floats
    p_values: Floats

    def row(self, system: str) -> dict[str, Any]:
        """The columns that a row about one of the systems begins with."""
        key = {"system": system, "segment": self.segment, "measure": self.measure}
        return key | {"queries": len(self.values)}


def cells(per_query: pl.DataFrame, baseline: str, resamples: int, seed: int) -> Iterator[Cell]:
    """Lay a table of per-query values out as matrices, resampled.

    Args:
        per_query: `tables.PER_QUERY` of all systems on the same queries.
        baseline: The system that the others are compared with.
        resamples: Bootstrap and permutation resamples.
        seed: Decides the resamples.

    Yields:
        A cell for each segment and measure that has queries, in no particular order.

    Raises:
        InputError: If the baseline is not there, or the systems do not cover the same queries.
    """
    found = set(per_query["system"])
    if baseline not in found:
        raise InputError.of(
            "per_query: column 'system'",
            got=f"no '{baseline}' among {', '.join(sorted(found)) or 'none'}",
            expected="the baseline's own rows",
            fix="evaluate the baseline too, or name another one",
        )
    systems = (baseline, *sorted(found - {baseline}))
    for segment in SEGMENTS:
        within = per_query if segment == "all" else per_query.filter(pl.col("segment") == segment)
        for (name,), group in within.group_by("measure"):
            values = _values(group, systems, str(name))
            means = bootstrap_means(values, resamples, seed)
            p_values = randomisation_p_values(values - values[:, :1], resamples, seed)
            yield Cell(segment, str(name), systems, values, means, p_values)


def _values(group: pl.DataFrame, systems: tuple[str, ...], name: str) -> Floats:
    wide = group.pivot(on="system", index="query_id", values="value").sort("query_id")
    for system in systems:
        covered = len(wide) - wide[system].null_count() if system in wide.columns else 0
        if covered < len(wide):
            raise InputError.of(
                f"per_query: system '{system}', measure '{name}'",
                got=f"{covered} of {len(wide)} queries",
                expected="a value for every query that another system has one for",
                fix="score all systems on the same queries and qrels",
            )
    return wide.select(systems).to_numpy()


def bootstrap_means(values: ArrayLike, resamples: int = 2000, seed: int = 0) -> Floats:
    """Means of queries drawn with replacement, the same draws for every column.

    Args:
        values: Shape (queries, columns).
        resamples: How often the queries are drawn.
        seed: Decides the draws.

    Returns:
        Shape (resamples, columns).
    """
    values = _matrix(values)
    queries = len(values)
    rng = np.random.default_rng(seed)
    parts = []
    for rows in _chunks(resamples, queries):
        drawn = rng.integers(0, queries, (rows, queries)) + np.arange(rows)[:, None] * queries
        counts = np.bincount(drawn.ravel(), minlength=rows * queries).reshape(rows, queries)
        parts.append(counts @ values / queries)  # (rows, columns)
    return np.concatenate(parts)


def mean_interval(values: ArrayLike, means: Floats, level: float = 0.95) -> Interval:
    """Means over queries with their percentile intervals.

    Args:
        values: Shape (queries, columns).
        means: What `bootstrap_means` gave for these values.
        level: Share of the resampled means that an interval spans.

    Returns:
        One estimate a column; the interval of a single query is NaN.
    """
    values = _matrix(values)
    return _interval(values.mean(axis=0), means, len(values), level)


def difference_interval(
    values: ArrayLike, means: Floats, baseline: int, level: float = 0.95
) -> Interval:
    """Paired differences of each column's mean from the baseline's, with intervals.

    Args:
        values: Shape (queries, columns).
        means: What `bootstrap_means` gave for these values.
        baseline: The column that the others are compared with.
        level: As in `mean_interval`.
    """
    values = _matrix(values)
    point = values.mean(axis=0)
    return _interval(point - point[baseline], means - means[:, [baseline]], len(values), level)


def relative_interval(
    values: ArrayLike, means: Floats, baseline: int, level: float = 0.95
) -> Interval:
    """Differences as shares of the baseline's mean, both resampled.

    A resample whose baseline is 0 counts as an infinite gain, or as none if the system is 0 too.

    Args:
        values: Shape (queries, columns).
        means: What `bootstrap_means` gave for these values.
        baseline: The column that the others are compared with.
        level: As in `mean_interval`.

    Returns:
        One estimate a column; all NaN where the baseline's mean is 0, and an end that would be
        infinite is NaN.
    """
    values = _matrix(values)
    point = values.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = (point - point[baseline]) / point[baseline]
        gains = (means - means[:, [baseline]]) / means[:, [baseline]]
        gains[means == means[:, [baseline]]] = 0.0
        interval = _interval(gain, gains, len(values), level)
    known = bool(point[baseline] != 0.0)
    return Interval(*(_finite(part, known) for part in (gain, interval.low, interval.high)))


def randomisation_p_values(differences: ArrayLike, resamples: int = 2000, seed: int = 0) -> Floats:
    """Two-sided p-values of the paired randomisation test: signs flipped at random.

    Args:
        differences: Paired differences, shape (queries, columns).
        resamples: How often the signs are drawn, m.
        seed: Decides the signs; the same signs for every column.

    Returns:
        (b + 1) / (m + 1) a column, with b the draws whose mean is at least as far from 0 as the
        observed one; never 0, and 1 where two systems agree on every query.
    """
    differences = _matrix(differences)
    observed = np.abs(differences.sum(axis=0))
    threshold = observed - 1e-9 * np.abs(differences).sum(axis=0)  # sums of floats tie roughly
    rng = np.random.default_rng(seed)
    beaten = np.zeros(differences.shape[1])
    for rows in _chunks(resamples, len(differences)):
        signs = 2.0 * rng.integers(0, 2, (rows, len(differences)), dtype=np.int8) - 1.0
        beaten += (np.abs(signs @ differences) >= threshold).sum(axis=0)
    return (beaten + 1.0) / (resamples + 1.0)


def holm(p_values: ArrayLike) -> Floats:
    """Holm's step-down correction of the p-values of several comparisons.

    Args:
        p_values: One a comparison, shape (comparisons,).

    Returns:
        Corrected p-values in the same order: compare them with the level as it is.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
        [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0)
    return corrected


def _matrix(values: ArrayLike) -> Floats:
    values = np.asarray(values, dtype=np.float64)
    return values[:, None] if values.ndim == 1 else values


def _finite(values: Floats, known: bool) -> Floats:
    return np.where(np.isfinite(values) & known, values, np.nan)


def _chunks(resamples: int, queries: int) -> Iterator[int]:
    """Sizes of batches of resamples that hold a bounded number of draws."""
    size = max(1, _CELLS // max(queries, 1))
    for start in range(0, resamples, size):
        yield min(size, resamples - start)


def _interval(value: Floats, samples: Floats, queries: int, level: float) -> Interval:
    if queries < 2:
        nothing = np.full_like(value, np.nan)
        return Interval(value, nothing, nothing)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(samples, [tail, 1.0 - tail], axis=0)
    return Interval(value, low, high)
