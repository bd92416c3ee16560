"""How far human raters agree with one another, and whether a judge agrees with them as well.

Two comparisons are like for like, since a judge's agreement with the consensus of all raters is
neither: a consensus has less noise than one rater, and a rater has a hand in it.

| against | a human | a judge |
|---|---|---|
| rater | any two raters of a pair | the judge and any one rater of it |
| consensus | a rater and the consensus of the others | the judge and that same consensus |

Every pair counts once, however many raters it has; pairs of fewer than two raters say nothing. The
consensus of others is their median, halves rounded down.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from trivium.domain import confusion
from trivium.domain.agreement import AGREEMENT_BY, agreement_by
from trivium.domain.confusion import interval, or_none
from trivium.domain.judgments import middle_grade

FEW = 10
"""Most raters for whom figures of each one, and of each two, are given."""

COMPARISON = {
    "against": pl.String,
    "measure": pl.String,
    "human": pl.Float64,
    "human_low": pl.Float64,
    "human_high": pl.Float64,
    "judge": pl.Float64,
    "judge_low": pl.Float64,
    "judge_high": pl.Float64,
    "difference": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "pairs": pl.Int64,
    "queries": pl.Int64,
}

_PAIR = ["query_id", "item_id"]
_SIDES = (("rater", 0, 1), ("consensus", 2, 3))  # against, group of humans, group of the judge


def between_raters(judgments: pl.DataFrame, *, resamples: int, seed: int) -> pl.DataFrame:
    """Measure how far the raters of the same pairs agree.

    Args:
        judgments: Columns query_id, item_id, grade, rater; a rater once a pair.
        resamples: Bootstrap resamples of the queries.
        seed: Seed of the resampling.

    Returns:
        `AGREEMENT_BY` without shares: by "against" the groups `rater` and `consensus` of the
        module's table; and where there are at most `FEW` raters, by "raters" each two of them
        ("a, b") and by "rater" each one against the consensus of the others. No rows where no pair
        has two raters. Kappa between raters is that of both orders pooled, as no rater is the
        reference.
    """
    rated = _rated(judgments)
    if rated.is_empty():
        return pl.DataFrame(schema=AGREEMENT_BY)
    two, one = _two(rated), _others(rated)
    together = pl.concat(
        [
            _graded(two, "rater_grade", "other_grade").with_columns(against=pl.lit("rater")),
            _graded(one, "others", "grade").with_columns(against=pl.lit("consensus")),
        ]
    )
    parts = [agreement_by(together, ["against"], resamples=resamples, seed=seed)]
    if rated["rater"].n_unique() <= FEW:
        named = two.filter(pl.col("rater") < pl.col("other")).with_columns(
            raters=pl.format("{}, {}", "rater", "other"), weight=pl.lit(1.0)
        )
        each = one.with_columns(weight=pl.lit(1.0))
        for table, column, human, judged in (
            (named, "raters", "rater_grade", "other_grade"),
            (each, "rater", "others", "grade"),
        ):
            graded = _graded(table, human, judged, column)
            parts.append(agreement_by(graded, [column], resamples=resamples, seed=seed))
    return pl.concat(parts)


def compare_with_raters(
    judgments: pl.DataFrame, labels: pl.DataFrame, *, resamples: int, seed: int
) -> pl.DataFrame:
    """Compare a judge's agreement with raters to that of the raters, on the same pairs.

    Args:
        judgments: Columns query_id, item_id, grade, rater; a rater once a pair.
        labels: The judge's or cascade's grades: columns query_id, item_id, grade (null or -1 where
            it gave none); a pair once.
        resamples: Bootstrap resamples of the queries, the same for humans and judge.
        seed: Seed of the resampling.

    Returns:
        `COMPARISON`: for each row of the module's table (`against`) and measure (accuracy,
        within_one, kappa) both values and the judge's lead (`difference`), each with its 95%
        interval. The judge agrees at least as well as another human where `ci_low` is at or above
        0. No rows where the judge labelled no pair of two raters.
    """
    given = labels.filter(pl.col("grade") >= 0).select(*_PAIR, label="grade")
    rated = _rated(judgments).join(given, on=_PAIR, how="inner")
    if rated.is_empty():
        return pl.DataFrame(schema=COMPARISON)
    two, one = _two(rated), _others(rated)
    pairs = pl.concat(
        [
            _graded(table, human, judged).with_columns(group=pl.lit(group, pl.Int64))
            for group, (table, human, judged) in enumerate(
                (
                    (two, "rater_grade", "other_grade"),
                    (one, "grade", "label"),
                    (one, "others", "grade"),
                    (one, "others", "label"),
                )
            )
        ]
    )
    return _compared(pairs, rated.select(_PAIR).n_unique(), resamples, seed)


def _compared(graded: pl.DataFrame, pairs: int, resamples: int, seed: int) -> pl.DataFrame:
    queries = graded["query_id"].n_unique()
    counts = confusion.cells(
        confusion.codes(graded["query_id"]),
        graded["group"].to_numpy(),
        graded["human"].cast(pl.Int64).to_numpy(),
        graded["predicted"].cast(pl.Int64).to_numpy(),
        queries=queries,
        groups=4,
        weight=graded["weight"].to_numpy(),
    )
    sums = np.vstack([counts.sum(axis=0), confusion.resampled(counts, resamples, seed)])
    values = confusion.measures(sums.reshape(-1, 25))
    rows = []
    for against, human, judge in _SIDES:
        for name in confusion.MEASURES:
            both = values[name].reshape(-1, 4)  # (1 + resamples, groups), the first as it is
            columns = both[:, human], both[:, judge], both[:, judge] - both[:, human]
            row: list[object] = [against, name]
            for column in columns:
                row += [or_none(column[0]), *interval(column[1:], queries)]
            rows.append([*row, pairs, queries])
    return pl.DataFrame(rows, schema=COMPARISON, orient="row")


def _rated(judgments: pl.DataFrame) -> pl.DataFrame:
    """Grades of pairs that several raters graded: query_id, item_id, rater, grade, raters."""
    if "rater" not in judgments.columns:
        judgments = judgments.with_columns(rater=pl.lit(None, pl.String))
    rated = judgments.select(
        *_PAIR,
        pl.col("rater").fill_null(""),
        pl.col("grade").cast(pl.Int8),
        pl.len().over(_PAIR).alias("raters"),
    )
    return rated.filter(pl.col("raters") > 1).sort(*_PAIR, "rater")


def _two(rated: pl.DataFrame) -> pl.DataFrame:
    """Each two raters of a pair in both orders, together counting 1 a pair."""
    other = rated.select(*_PAIR, other="rater", other_grade="grade")
    return (
        rated.rename({"grade": "rater_grade"})
        .join(other, on=_PAIR, maintain_order="left")
        .filter(pl.col("rater") != pl.col("other"))
        .with_columns(weight=1 / (pl.col("raters") * (pl.col("raters") - 1)))
    )


def _others(rated: pl.DataFrame) -> pl.DataFrame:
    """Each rater of a pair beside the consensus of its others, together counting 1 a pair."""
    key = [*_PAIR, "rater"]
    others = _two(rated).group_by(key).agg(others=middle_grade("other_grade"))
    return rated.join(others, on=key, maintain_order="left").with_columns(
        weight=1 / pl.col("raters")
    )


def _graded(table: pl.DataFrame, human: str, judged: str, *columns: str) -> pl.DataFrame:
    return table.select(
        "query_id",
        pl.col(human).alias("human"),
        pl.col(judged).alias("predicted"),
        "weight",
        *columns,
    )
