"""Can a judge teach a tower? Whether it reranks the judged pools of queries better than the tower.

A judge that orders the pools no better than the tower that it is to teach has nothing to teach.
Everything is graded nDCG as `trivium.domain.measures` computes it, of each scorer's order of the
same judged items: no item is unjudged, and the ideal is that of the pool.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.domain import significance
from trivium.domain.measures import Gain, measure, measure_names
from trivium.foundation.errors import InputError
from trivium.foundation.tables import PER_QUERY

RANDOM = "random order"
HELP = (
    "more seed labels, labels of another catalog with the same grades, a larger judge, or a "
    "stacked judge that reads the tower's cosine too"
)

Scores = NDArray[np.floating] | pl.Series
_LEVEL = 0.05
_Z = (
    1.959964 + 0.841621
)  # of a two-sided test at that level that finds a difference in 80% of cases


@dataclass(frozen=True)
class Reranked:
    """How well several scorers order the judged items of queries.

    Attributes:
        per_query: `tables.PER_QUERY` of every scorer and of `RANDOM`, the expected value of an
            order by lot; the segment is null. Sorted by system and query_id.
        left_out: Queries whose order cannot matter, as all their items have one grade.
    """

    per_query: pl.DataFrame
    left_out: int


@dataclass(frozen=True)
class Verdict:
    """Whether a judge can teach a tower.

    Attributes:
        ranks: better or worse, where the whole interval lies above or below 0 and the p-value below
            0.05 (a bootstrap of few queries alone is too sure); else not shown.
        text: The figures, and what would help.
        difference: Mean of the judge's nDCG less the tower's.
        ci_low: Lower end of its 95% bootstrap interval over queries; NaN of a single query.
        ci_high: Upper end.
        p_value: Of the two-sided paired randomisation test.
        queries: Queries compared.
    """

    ranks: Literal["better", "worse", "not shown"]
    text: str
    difference: float
    ci_low: float
    ci_high: float
    p_value: float
    queries: int


def rerank(
    pools: pl.DataFrame,
    scores: Mapping[str, Scores],
    *,
    cutoff: int = 10,
    gain: Gain = "exponential",
) -> Reranked:
    """Order the judged items of each query by each scorer, and measure the orders.

    Args:
        pools: Judged pairs: columns query_id, item_id, grade; a pair once.
        scores: By name of the scorer, the score of each pair, (pairs,), in the order of the pools;
            a pair without one (null or NaN), such as one that a channel did not retrieve, comes
            after those that have one. Ties are broken by item_id.
        cutoff: Ranks that count.
        gain: `exponential`, 2^grade - 1, or `linear`, the grade.

    Raises:
        InputError: If every query has items of one grade alone.
    """
    pairs = pools.select("query_id", "item_id", "grade").with_columns(
        pl.Series(name, each, dtype=pl.Float64).fill_nan(None).alias(_column(name))
        for name, each in scores.items()
    )
    telling = pairs.filter(pl.col("grade").n_unique().over("query_id") > 1)
    left_out = pairs["query_id"].n_unique() - telling["query_id"].n_unique()
    if telling.is_empty():
        raise InputError.of(
            "judgments: column 'grade'",
            got=f"{left_out} queries, each with items of one grade alone",
            expected="queries with items of different grades, so that their order matters",
            fix="judge items of different relevance for the same query",
        )
    tables = [_by_lot(telling, cutoff, gain)]
    tables += [_ordered(telling, name, cutoff, gain) for name in scores]
    return Reranked(pl.concat(tables).sort("system", "query_id"), left_out)


def can_teach(
    per_query: pl.DataFrame, judge: str, tower: str, *, resamples: int = 2000, seed: int = 0
) -> Verdict:
    """Compare a judge's order of the pools with the tower's, query by query.

    Args:
        per_query: What `rerank` gave.
        judge: The judge's name there.
        tower: The tower's name there.
        resamples: Bootstrap and permutation resamples of the queries.
        seed: Seed of the resampling.

    Raises:
        InputError: If the tower is not among the systems, or the two have other queries.
    """
    both = per_query.filter(pl.col("system").is_in([judge, tower]))
    cell = next(significance.cells(both, tower, resamples, seed))
    gain = significance.difference_interval(cell.values, cell.means, baseline=0)
    difference, low, high = (float(part[-1]) for part in (gain.value, gain.low, gain.high))
    p_value = float(cell.p_values[-1])
    ranks: Literal["better", "worse", "not shown"] = "not shown"
    if p_value < _LEVEL and (low > 0 or high < 0):
        ranks = "better" if low > 0 else "worse"
    means = cell.values.mean(axis=0)
    figures = (
        f"{cell.measure} {means[-1]:.3f} against {means[0]:.3f}: {difference:+.3f} "
        f"[{low:+.3f}, {high:+.3f}], p = {p_value:.4f}, {len(cell.values)} queries"
    )
    text = _text(ranks, judge, tower, figures, _needed(cell.values[:, -1] - cell.values[:, 0]))
    return Verdict(ranks, text, difference, low, high, p_value, len(cell.values))


def _text(ranks: str, judge: str, tower: str, figures: str, needed: int | None) -> str:
    if ranks == "better":
        return f"'{judge}' ranks better than '{tower}' and can teach it ({figures})."
    if ranks == "worse":
        return (
            f"'{judge}' ranks worse than '{tower}' and cannot teach it ({figures}). "
            f"What would help: {HELP}."
        )
    more = f" To show a lead of this size takes about {needed} judged queries." if needed else ""
    return (
        f"It is not shown that '{judge}' ranks better than '{tower}', so it may have nothing to "
        f"teach it ({figures}).{more} What would help: {HELP}."
    )


def _needed(differences: NDArray[np.float64]) -> int | None:
    """Queries that show a lead of this size in 80% of cases at p < 0.05; None without a lead."""
    lead = float(differences.mean())
    if len(differences) < 2 or lead <= 0:
        return None
    return math.ceil((_Z * float(differences.std(ddof=1)) / lead) ** 2)


def _column(name: str) -> str:
    return f"score of {name}"


def _ordered(pairs: pl.DataFrame, name: str, cutoff: int, gain: Gain) -> pl.DataFrame:
    place = pl.int_range(1, pl.len() + 1).over("query_id").alias("rank")
    run = pairs.sort(
        "query_id", _column(name), "item_id", descending=[False, True, False], nulls_last=True
    ).select("query_id", "item_id", place)
    wanted = measure_names(cutoff)[0]
    measured = measure(run, pairs, cutoff=cutoff, gain=gain)
    return _per_query(measured.filter(pl.col("measure") == wanted), name, wanted)


def _by_lot(pairs: pl.DataFrame, cutoff: int, gain: Gain) -> pl.DataFrame:
    """The expected nDCG of a random order: every rank then holds the mean gain of the pool."""
    grade = pl.col("grade").cast(pl.Float64)
    gains = 2.0**grade - 1.0 if gain == "exponential" else grade
    discount = 1 / (pl.int_range(2, pl.len() + 2).cast(pl.Float64)).log(2.0)
    best = pl.col("gain").sort(descending=True)
    ideal = (best * pl.col("discount")).head(cutoff).sum()
    measured = (
        pairs.select("query_id", gain=gains)
        .with_columns(discount=discount.over("query_id"))
        .group_by("query_id")
        .agg(value=pl.col("gain").mean() * pl.col("discount").head(cutoff).sum() / ideal)
    )
    return _per_query(measured, RANDOM, measure_names(cutoff)[0])


def _per_query(measured: pl.DataFrame, system: str, name: str) -> pl.DataFrame:
    named = measured.with_columns(
        system=pl.lit(system), segment=pl.lit(None, pl.String), measure=pl.lit(name)
    )
    return named.select(list(PER_QUERY.columns))
