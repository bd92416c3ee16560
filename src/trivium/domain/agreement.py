"""How far a judge agrees with human grades, with intervals over queries.

Intervals are percentile bootstraps that resample whole queries, because the pairs of a query are
not independent. Every measure but Spearman's is a function of the confusion matrix, so a resample
costs one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.foundation.tables import GRADES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_N = len(GRADES)
_DISTANCE = np.subtract.outer(np.arange(_N), np.arange(_N))  # (human, predicted)
_CHUNK_CELLS = 2_000_000


@dataclass(frozen=True)
class Agreement:
    """Agreement of one judge with human grades.

    Attributes:
        measures: Columns measure, value, ci_low, ci_high, pairs, queries. Measures: accuracy,
            within_one (grade), kappa (quadratic), spearman (of the expected grade), and
            precision_<grade> and recall_<grade>. A value is null where nothing defines it (a grade
            that never occurs); `pairs` is what the value is a share of.
        confusion: Columns human, judged, pairs; all 25 cells.
    """

    measures: pl.DataFrame
    confusion: pl.DataFrame


def agreement(
    query_ids: pl.Series,
    human: Ints,
    predicted: Ints,
    expected: Floats,
    *,
    resamples: int,
    seed: int,
) -> Agreement:
    """Measure a judge against human grades.

    Args:
        query_ids: The query of each pair, (pairs,).
        human: Human grades, (pairs,).
        predicted: The judge's grades, (pairs,).
        expected: The judge's expected grades, (pairs,), for Spearman's correlation.
        resamples: Bootstrap resamples of the queries.
        seed: Seed of the resampling.
    """
    query = query_ids.rank("dense").to_numpy().astype(np.int64) - 1  # (pairs,) from 0
    queries = int(query.max()) + 1
    cells = _cells_by_query(query, human, predicted, queries)  # (queries, 25)
    draws = _draws(queries, resamples, seed)  # (resamples, queries)
    point = _from_confusion(cells.sum(axis=0).reshape(1, _N, _N))
    resampled = _from_confusion((draws @ cells).reshape(-1, _N, _N))
    everything = np.ones((1, queries))
    point["spearman"] = _spearman(query, human, expected, everything)
    resampled["spearman"] = _spearman(query, human, expected, draws)
    total = cells.sum(axis=0).reshape(_N, _N)
    rows = [
        {
            "measure": name,
            "value": _or_none(point[name][0]),
            "ci_low": _quantile(resampled[name], 0.025),
            "ci_high": _quantile(resampled[name], 0.975),
            "pairs": _base(name, total),
            "queries": queries,
        }
        for name in _order()
    ]
    floats = dict.fromkeys(("value", "ci_low", "ci_high"), pl.Float64)
    return Agreement(pl.DataFrame(rows, schema_overrides=floats), _confusion(total))


def _order() -> list[str]:
    by_grade = [f"{kind}_{k}" for kind in ("precision", "recall") for k in GRADES]
    return ["accuracy", "within_one", "kappa", "spearman", *by_grade]


def _cells_by_query(query: Ints, human: Ints, predicted: Ints, queries: int) -> Floats:
    flat = (query * _N + human) * _N + predicted
    return np.bincount(flat, minlength=queries * _N * _N).reshape(queries, -1).astype(np.float64)


def _draws(queries: int, resamples: int, seed: int) -> Floats:
    """How often each query is drawn, (resamples, queries)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(queries, np.full(queries, 1 / queries), size=resamples).astype(
        np.float64
    )


def _from_confusion(confusion: Floats) -> dict[str, Floats]:
    """Measures of confusion matrices, (batch, human, predicted), each of shape (batch,)."""
    total = confusion.sum(axis=(1, 2))
    human, predicted = confusion.sum(axis=2), confusion.sum(axis=1)  # (batch, 5)
    right = np.diagonal(confusion, axis1=1, axis2=2)  # (batch, 5)
    by_chance = human[:, :, None] * predicted[:, None, :] / total[:, None, None]
    squared = _DISTANCE**2
    values = {
        "accuracy": right.sum(axis=1) / total,
        "within_one": (confusion * (np.abs(_DISTANCE) <= 1)).sum(axis=(1, 2)) / total,
        "kappa": 1
        - _divide((confusion * squared).sum(axis=(1, 2)), (by_chance * squared).sum(axis=(1, 2))),
    }
    for k in GRADES:
        values[f"precision_{k}"] = _divide(right[:, k], predicted[:, k])
        values[f"recall_{k}"] = _divide(right[:, k], human[:, k])
    return values


def _spearman(query: Ints, human: Ints, expected: Floats, draws: Floats) -> Floats:
    """Spearman's correlation with pairs weighted by how often their query is drawn, (draws,)."""
    rank_human = _weighted_ranker(human.astype(np.float64))
    rank_expected = _weighted_ranker(expected)
    step = max(1, _CHUNK_CELLS // len(query))
    parts = []
    for start in range(0, len(draws), step):
        weights = draws[start : start + step][:, query]  # (step, pairs)
        parts.append(_correlation(rank_human(weights), rank_expected(weights), weights))
    return np.concatenate(parts)


def _weighted_ranker(values: Floats) -> Callable[[Floats], Floats]:
    """A function from weights (draws, pairs) to the mid-ranks of the values under them."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(values[order]) > 0])
    group = np.unique(values, return_inverse=True)[1]

    def ranks(weights: Floats) -> Floats:
        mass = np.add.reduceat(weights[:, order], starts, axis=1)  # (draws, groups)
        return np.asarray((np.cumsum(mass, axis=1) - mass / 2)[:, group])

    return ranks


def _correlation(a: Floats, b: Floats, weights: Floats) -> Floats:
    total = weights.sum(axis=1, keepdims=True)
    a = a - (weights * a).sum(axis=1, keepdims=True) / total
    b = b - (weights * b).sum(axis=1, keepdims=True) / total
    spread = np.sqrt((weights * a * a).sum(axis=1) * (weights * b * b).sum(axis=1))
    return _divide((weights * a * b).sum(axis=1), spread)


def _divide(top: Floats, bottom: Floats) -> Floats:
    undefined = np.full(len(bottom), np.nan)
    return np.asarray(np.divide(top, bottom, out=undefined, where=bottom > 0))


def _quantile(values: Floats, share: float) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.quantile(finite, share)) if len(finite) else None


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _base(name: str, total: Floats) -> int:
    """Pairs that a measure is a share of."""
    kind, _, grade = name.partition("_")
    if kind == "precision":
        return int(total[:, int(grade)].sum())
    return int(total[int(grade)].sum()) if kind == "recall" else int(total.sum())


def _confusion(total: Floats) -> pl.DataFrame:
    human, judged = np.divmod(np.arange(_N * _N), _N)
    return pl.DataFrame(
        {
            "human": human.astype(np.int8),
            "judged": judged.astype(np.int8),
            "pairs": total.ravel().astype(np.int64),
        }
    )
