"""How far a judge agrees with human grades, overall and by group, with intervals over queries.

Intervals are percentile bootstraps that resample whole queries; see `trivium.domain.confusion`.
Pairs that the judge did not answer (grade -1) have nothing to agree with and are left out: `pairs`
counts the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from trivium.domain import confusion
from trivium.domain.confusion import Floats, Ints, divide, interval, or_none
from trivium.foundation.tables import GRADES, channels_of

NO_GROUP = "none"
GROUP_COLUMNS = ("found_by", "rank_band", "tfidf_band")
AGREEMENT_BY = {
    "by": pl.String,
    "group": pl.String,
    "share": pl.Float64,
    "measure": pl.String,
    "value": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "pairs": pl.Int64,
    "queries": pl.Int64,
}
_N = len(GRADES)


@dataclass(frozen=True)
class Agreement:
    """Agreement of one judge with human grades.

    Attributes:
        measures: Columns measure, value, ci_low, ci_high, pairs, queries. Measures: accuracy,
            within_one (grade), kappa (quadratic), spearman and rmse (of the expected grade; rmse in
            grades), and precision_<grade> and recall_<grade>. A value is null where nothing defines
            it (a grade that never occurs); `pairs` is what the value is a share of.
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
        predicted: The judge's grades, (pairs,); -1 where it gave no answer.
        expected: The judge's expected grades, (pairs,), for Spearman's correlation and RMSE.
        resamples: Bootstrap resamples of the queries.
        seed: Seed of the resampling.
    """
    answered = predicted >= 0
    human, predicted, expected = human[answered], predicted[answered], expected[answered]
    query = confusion.codes(query_ids.filter(pl.Series(answered)))
    queries = int(query.max(initial=-1)) + 1
    counts = confusion.cells(query, query * 0, human, predicted, queries=queries, groups=1)
    total = counts.sum(axis=0).reshape(_N, _N)
    measured = _Expected(query, human, expected, queries)
    point = confusion.measures(total) | measured.under(np.ones((1, queries)))
    samples = _samples(counts, measured, resamples, seed)
    rows = []
    for name in _order():
        low, high = interval(samples[name], queries)
        value = {"value": or_none(point[name][0]), "ci_low": low, "ci_high": high}
        rows.append({"measure": name, **value, "pairs": _base(name, total), "queries": queries})
    floats = dict.fromkeys(("value", "ci_low", "ci_high"), pl.Float64)
    return Agreement(pl.DataFrame(rows, schema_overrides=floats), _table(total))


def agreement_by(
    pairs: pl.DataFrame,
    columns: Sequence[str],
    *,
    population: pl.DataFrame | None = None,
    resamples: int,
    seed: int,
) -> pl.DataFrame:
    """Measure a judge in each group of the pairs, and name the groups that no human graded.

    Args:
        pairs: Columns query_id, human, predicted (null or -1 where the judge gave no answer), those
            named, and weight where a pair does not count 1. A null group is `NO_GROUP`.
        columns: Columns of which every value makes a group, such as `GROUP_COLUMNS` or judge.
        population: `group_sizes` of all that the judge labels, the parts of several shards one
            below the other; its groups without human grades get rows with 0 pairs.
        resamples: Bootstrap resamples of the queries, the same for every group.
        seed: Seed of the resampling.

    Returns:
        `AGREEMENT_BY`: for each column (`by`), group and measure (accuracy, within_one, kappa) the
        value with its interval, and the group's share of the population (null where there is none,
        0 where it lacks the group); by in the order of the columns, groups by name.
    """
    answered = pairs.filter(pl.col("predicted") >= 0)
    known = None if population is None else _shares(population)
    parts = [_by(answered, column, known, resamples, seed) for column in columns]
    return pl.concat([pl.DataFrame(schema=AGREEMENT_BY), *parts])


def group_sizes(table: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Count the rows of each group: columns by, group, pairs, in the order of `agreement_by`."""
    parts = [
        table.group_by(group=_group(column))
        .agg(pl.len().cast(pl.Int64).alias("pairs"))
        .sort("group")
        .select(pl.lit(column).alias("by"), "group", "pairs")
        for column in columns
    ]
    return pl.concat(parts)


def with_groups(candidates: pl.DataFrame, tfidf_band: tuple[float, float]) -> pl.DataFrame:
    """Say of each candidate how it was found.

    Args:
        candidates: A candidates table.
        tfidf_band: Ends of the band of token-similar negatives.

    Returns:
        query_id, item_id and `GROUP_COLUMNS`: the channels that found it, joined by "+"; the band
        of its best rank; the band of its TF-IDF cosine, null where that is unknown.
    """
    ranks = {name: pl.col(f"rank_{name}") for name in channels_of(candidates)}
    found = [pl.when(rank.is_not_null()).then(pl.lit(name)) for name, rank in ranks.items()]
    low, high = tfidf_band
    tfidf = pl.when(pl.col("tfidf").is_not_null())
    return candidates.select(
        "query_id",
        "item_id",
        pl.concat_str(found, separator="+", ignore_nulls=True)
        .replace("", NO_GROUP)
        .alias("found_by"),
        _rank_band(pl.min_horizontal(*ranks.values())).alias("rank_band"),
        tfidf.then(
            pl.when(pl.col("tfidf") < low)
            .then(pl.lit(f"below {low:g}"))
            .when(pl.col("tfidf") <= high)
            .then(pl.lit(f"{low:g} to {high:g}"))
            .otherwise(pl.lit(f"over {high:g}"))
        ).alias("tfidf_band"),
    )


def _rank_band(best: pl.Expr) -> pl.Expr:
    return (
        pl.when(best <= 10)
        .then(pl.lit("001-010"))
        .when(best <= 50)
        .then(pl.lit("011-050"))
        .when(best <= 100)
        .then(pl.lit("051-100"))
        .when(best > 100)
        .then(pl.lit("over 100"))
    )


def _group(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.String).fill_null(NO_GROUP)


def _shares(population: pl.DataFrame) -> pl.DataFrame:
    sizes = population.group_by("by", "group").agg(pl.col("pairs").sum())
    share = (pl.col("pairs") / pl.col("pairs").sum().over("by")).alias("share")
    return sizes.select("by", "group", share)


def _by(
    pairs: pl.DataFrame, column: str, known: pl.DataFrame | None, resamples: int, seed: int
) -> pl.DataFrame:
    own = pairs.with_columns(group=_group(column))
    measured = _measured(own, resamples, seed)
    if known is None:
        measured = measured.with_columns(share=pl.lit(None, pl.Float64))
    else:
        shares = known.filter(pl.col("by") == column).select("group", "share")
        grid = shares.join(pl.DataFrame({"measure": confusion.MEASURES}), how="cross")
        measured = measured.join(grid, on=["group", "measure"], how="full", coalesce=True)
    order = pl.col("measure").cast(pl.Enum(confusion.MEASURES))
    whole = measured.with_columns(
        pl.col("pairs", "queries").fill_null(0),
        by=pl.lit(column),
        share=pl.col("share") if known is None else pl.col("share").fill_null(0.0),
    )
    return whole.sort("group", order).select(
        pl.col(name).cast(dtype) for name, dtype in AGREEMENT_BY.items()
    )


def _measured(pairs: pl.DataFrame, resamples: int, seed: int) -> pl.DataFrame:
    """Columns group, measure, value, ci_low, ci_high, pairs, queries."""
    names = pairs["group"].unique().sort().to_list()
    queries = pairs["query_id"].n_unique()
    counts = confusion.cells(
        confusion.codes(pairs["query_id"]),
        confusion.codes(pairs["group"]),
        pairs["human"].cast(pl.Int64).to_numpy(),
        pairs["predicted"].cast(pl.Int64).to_numpy(),
        queries=queries,
        groups=len(names),
        weight=pairs["weight"].to_numpy() if "weight" in pairs.columns else None,
    )
    samples = confusion.resampled(counts, resamples, seed) if names else counts
    rows: list[tuple[object, ...]] = []
    for at, name in enumerate(names):
        own = slice(at * _N * _N, (at + 1) * _N * _N)
        rows += [(name, *row) for row in _rows(counts[:, own], samples[:, own])]
    kept = ("group", "measure", "value", "ci_low", "ci_high", "pairs", "queries")
    schema = {column: AGREEMENT_BY[column] for column in kept}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _rows(counts: Floats, samples: Floats) -> Iterator[tuple[object, ...]]:
    """Measure, value, ends of the interval, pairs and queries of one group."""
    sizes = counts.sum(axis=1)
    pairs, queries = round(sizes.sum()), int((sizes > 0).sum())
    point, drawn = confusion.measures(counts.sum(axis=0)), confusion.measures(samples)
    for name in confusion.MEASURES:
        yield (name, or_none(point[name][0]), *interval(drawn[name], queries), pairs, queries)


def _order() -> list[str]:
    by_grade = [f"{kind}_{k}" for kind in ("precision", "recall") for k in GRADES]
    return [*confusion.MEASURES, "spearman", "rmse", *by_grade]


def _samples(counts: Floats, measured: _Expected, resamples: int, seed: int) -> dict[str, Floats]:
    """Every measure under every draw of the queries, each of shape (resamples,)."""
    if not len(counts):
        return dict.fromkeys(_order(), np.empty(0))
    parts = [
        confusion.measures(drawn @ counts) | measured.under(drawn)
        for drawn in confusion.draws(len(counts), resamples, seed, measured.pairs)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in _order()}


class _Expected:
    """Measures of the expected grade, which a confusion matrix does not hold."""

    def __init__(self, query: Ints, human: Ints, expected: Floats, queries: int) -> None:
        self.pairs = len(query)
        self._query = query
        self._rankers = [_weighted_ranker(each) for each in (human.astype(np.float64), expected)]
        self._sizes = np.bincount(query, minlength=queries)
        self._squares = np.bincount(query, (human - expected) ** 2, minlength=queries)

    def under(self, drawn: Floats) -> dict[str, Floats]:
        """Spearman and rmse with queries drawn so often, (draws, queries); each (draws,)."""
        weights = drawn[:, self._query]  # (draws, pairs)
        human, expected = (ranks(weights) for ranks in self._rankers)
        return {
            "spearman": _correlation(human, expected, weights),
            "rmse": np.sqrt(divide(drawn @ self._squares, drawn @ self._sizes)),
        }


def _weighted_ranker(values: Floats) -> Callable[[Floats], Floats]:
    """A function from weights (draws, pairs) to the mid-ranks of the values under them."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=-np.inf) > 0)
    group = np.unique(values, return_inverse=True)[1]

    def ranks(weights: Floats) -> Floats:
        mass = np.add.reduceat(weights[:, order], starts, axis=1)  # (draws, groups)
        return np.asarray((np.cumsum(mass, axis=1) - mass / 2)[:, group])

    return ranks


def _correlation(a: Floats, b: Floats, weights: Floats) -> Floats:
    total = weights.sum(axis=1, keepdims=True)
    a = a - (weights * a).sum(axis=1, keepdims=True) / np.maximum(total, 1)
    b = b - (weights * b).sum(axis=1, keepdims=True) / np.maximum(total, 1)
    spread = np.sqrt((weights * a * a).sum(axis=1) * (weights * b * b).sum(axis=1))
    return divide((weights * a * b).sum(axis=1), spread)


def _base(name: str, total: Floats) -> int:
    """Pairs that a measure is a share of."""
    kind, _, grade = name.partition("_")
    if kind == "precision":
        return int(total[:, int(grade)].sum())
    return int(total[int(grade)].sum()) if kind == "recall" else int(total.sum())


def _table(total: Floats) -> pl.DataFrame:
    human, judged = np.divmod(np.arange(_N * _N), _N)
    return pl.DataFrame(
        {
            "human": human.astype(np.int8),
            "judged": judged.astype(np.int8),
            "pairs": total.ravel().astype(np.int64),
        }
    )
