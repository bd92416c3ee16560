"""What channels found for the same queries, side by side, and how much of it they share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import polars as pl

from trivium.foundation.errors import InputError
from trivium.foundation.tables import candidates_schema

OVERLAP_SCHEMA = {
    "depth": pl.Int64,
    "a": pl.String,
    "b": pl.String,
    "overlap": pl.Float64,
    "jaccard": pl.Float64,
    "queries": pl.Int64,
}


def merge_runs(runs: pl.DataFrame, channels: Sequence[str]) -> pl.DataFrame:
    """Put what every channel found for a pair into one row.

    Args:
        runs: A runs table (`tables.RUNS`).
        channels: The channels that were searched; one that found nothing has columns of nulls.

    Returns:
        A candidates table (`tables.candidates_schema`), sorted by query_id and item_id; tfidf is
        null.

    Raises:
        InputError: If the runs hold a channel that is not among those named.
    """
    _refuse_unknown(runs, channels)
    columns = []
    for channel in channels:
        own = pl.col("channel") == channel
        columns.append(pl.col("rank").filter(own).first().alias(f"rank_{channel}"))
        columns.append(pl.col("score").filter(own).first().alias(f"score_{channel}"))
    ranks = [pl.col(f"rank_{channel}").is_not_null().cast(pl.Int8) for channel in channels]
    merged = runs.group_by("query_id", "item_id").agg(columns)
    schema = candidates_schema(tuple(channels))
    return (
        merged.with_columns(channels=pl.sum_horizontal(ranks), tfidf=pl.lit(None, dtype=pl.Float32))
        .select(pl.col(name).cast(dtype) for name, dtype in schema.columns.items())
        .sort("query_id", "item_id")
    )


def overlap(
    candidates: pl.DataFrame, channels: Sequence[str], depths: Sequence[int] = (10, 100, 500)
) -> pl.DataFrame:
    """Measure how much of their first results two channels share.

    `overlap` is the overlap coefficient |A and B| / min(|A|, |B|), averaged over queries. When
    both channels fill the depth it is the share of one list that the other has too, which is how
    pairwise overlap of top-k sets is usually stated; when one finds less, as lexical channels do
    for rare words, it does not take the missing results for disagreement. `jaccard` is
    |A and B| / |A or B|, which does. Queries for which either channel found nothing have neither;
    `queries` says how many remain.

    Args:
        candidates: A candidates table.
        channels: The channels to compare.
        depths: Ranks down to which results count.

    Returns:
        Columns depth, a, b, overlap, jaccard (null where no query remains), queries.
    """
    parts = [pl.DataFrame(schema=OVERLAP_SCHEMA)]
    for depth in depths:
        for a, b in combinations(channels, 2):
            parts.append(_overlap(candidates, a, b, depth))
    return pl.concat(parts)


def found_by(candidates: pl.DataFrame, channels: Sequence[str]) -> pl.DataFrame:
    """Count the pairs that each set of channels found and no other channel did.

    Args:
        candidates: A candidates table.
        channels: The channels.

    Returns:
        A Boolean column for each channel, and `pairs`, most pairs first; sets without pairs are
        left out.
    """
    found = candidates.select(
        pl.col(f"rank_{channel}").is_not_null().alias(channel) for channel in channels
    )
    counts = found.group_by(list(channels)).agg(pl.len().cast(pl.Int64).alias("pairs"))
    return counts.sort("pairs", *channels, descending=[True] * (1 + len(channels)))


def pool_overlaps(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Put the overlaps of disjoint sets of queries together: the mean over all of the queries."""

    def mean(name: str) -> pl.Expr:
        return ((pl.col(name) * pl.col("queries")).sum() / pl.col("queries").sum()).alias(name)

    together = pl.concat([pl.DataFrame(schema=OVERLAP_SCHEMA), *parts])
    pooled = together.group_by("depth", "a", "b", maintain_order=True).agg(
        mean("overlap"), mean("jaccard"), pl.col("queries").sum()
    )
    return pooled.with_columns(pl.col("overlap", "jaccard").fill_nan(None))


def pool_found_by(parts: Sequence[pl.DataFrame], channels: Sequence[str]) -> pl.DataFrame:
    """Add up the counts of `found_by` over disjoint sets of queries."""
    schema = dict.fromkeys(channels, pl.Boolean) | {"pairs": pl.Int64}
    counts = (
        pl.concat([pl.DataFrame(schema=schema), *parts])
        .group_by(list(channels))
        .agg(pl.col("pairs").sum())
    )
    return counts.sort("pairs", *channels, descending=[True] * (1 + len(channels)))


def _overlap(candidates: pl.DataFrame, a: str, b: str, depth: int) -> pl.DataFrame:
    in_a = (pl.col(f"rank_{a}") <= depth).fill_null(value=False)
    in_b = (pl.col(f"rank_{b}") <= depth).fill_null(value=False)
    sizes = candidates.group_by("query_id").agg(
        a=in_a.sum().cast(pl.Int64),
        b=in_b.sum().cast(pl.Int64),
        both=(in_a & in_b).sum().cast(pl.Int64),
    )
    return (
        sizes.filter(pl.min_horizontal("a", "b") > 0)
        .sort("query_id")
        .select(
            depth=pl.lit(depth, dtype=pl.Int64),
            a=pl.lit(a),
            b=pl.lit(b),
            overlap=(pl.col("both") / pl.min_horizontal("a", "b")).mean(),
            jaccard=(pl.col("both") / (pl.col("a") + pl.col("b") - pl.col("both"))).mean(),
            queries=pl.len().cast(pl.Int64),
        )
        .head(1)
    )


def _refuse_unknown(runs: pl.DataFrame, channels: Sequence[str]) -> None:
    unknown = sorted(set(runs["channel"].unique()) - set(channels))
    if unknown:
        raise InputError.of(
            "runs: column 'channel'",
            got=", ".join(map(repr, unknown)),
            expected=f"one of {', '.join(channels)}",
            fix="name the channel in mine.channels, or leave its rows out",
        )
