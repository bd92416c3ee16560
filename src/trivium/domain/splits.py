"""Which part of the work a query belongs to, and which segment of the traffic."""

from __future__ import annotations

from itertools import accumulate

import polars as pl

from trivium.domain.sampling import hash_strings
from trivium.foundation.config import SplitConfig
from trivium.foundation.text import normalise

HELD_OUT = ("validation", "test", "calibration", "agreement")


def with_segments(queries: pl.DataFrame, head_share: float, torso_share: float) -> pl.DataFrame:
    """Fill the column `segment` from `frequency` where it is not given.

    Head are the most frequent queries that together make `head_share` of the traffic, torso those
    that bring it to `torso_share`, tail the rest (the published cut-offs are not stated; these
    are ours). Without frequencies the segment stays null.
    """
    columns = {"frequency": pl.Int64, "segment": pl.String}
    for name, dtype in columns.items():
        if name not in queries.columns:
            queries = queries.with_columns(pl.lit(None, dtype=dtype).alias(name))
    ranked = queries.sort(["frequency", "query_id"], descending=[True, False], nulls_last=True)
    before = (pl.col("frequency").cum_sum() - pl.col("frequency")) / pl.col("frequency").sum()
    derived = (
        pl.when(pl.col("frequency").is_null())
        .then(None)
        .when(before < head_share)
        .then(pl.lit("head"))
        .when(before < torso_share)
        .then(pl.lit("torso"))
        .otherwise(pl.lit("tail"))
    )
    return ranked.with_columns(pl.coalesce("segment", derived).alias("segment")).sort("query_id")


def with_parts(
    queries: pl.DataFrame, judged: pl.Series, split: SplitConfig, seed: int
) -> pl.DataFrame:
    """Give each query its part; judged queries with the same words share one.

    A part that the table already names is kept; a judged query without one takes that of a query
    with its words, or is dealt to seed, train, validation or test in the configured shares, within
    its segment; a query without judgments is for training. Last, the seed gives up queries for
    calibration and agreement.

    Args:
        queries: Columns query_id, query, segment, and part where some are fixed.
        judged: Ids of the queries that have human grades.
        split: The shares.
        seed: Seed of the deal.

    Returns:
        The queries with a column `part`; null where a training query has the words of a query
        held out, so that it must be set aside.
    """
    if "part" not in queries.columns:
        queries = queries.with_columns(pl.lit(None, dtype=pl.String).alias("part"))
    words = normalise("query").str.split(" ").list.sort().list.join(" ").alias("_words")
    dealt = queries.with_columns(words, pl.col("query_id").is_in(judged.to_list()).alias("_judged"))
    shares = [(p, getattr(split, p)) for p in ("seed", "train", "validation", "test")]
    open_ = pl.col("part").is_null() & pl.col("_judged")
    given = pl.col("part").min().over("_words")
    dealt = dealt.with_columns(pl.when(open_).then(given).otherwise("part").alias("part"))
    dealt = _deal(dealt, open_, shares, seed)
    dealt = dealt.with_columns(pl.col("part").fill_null("train"))
    rest = 1.0 - split.calibration - split.agreement
    inner = [
        ("seed", rest),
        ("calibration", split.calibration),
        ("agreement", split.agreement),
    ]
    if not dealt["part"].is_in(["calibration", "agreement"]).any():
        dealt = _deal(dealt, pl.col("part") == "seed", inner, seed + 1)
    return _without_leaks(dealt).drop("_words", "_judged").sort("query_id")


def _deal(
    queries: pl.DataFrame, chosen: pl.Expr, shares: list[tuple[str, float]], seed: int
) -> pl.DataFrame:
    """Deal the chosen queries, grouped by their words, into parts of exact sizes by segment."""
    groups = (
        queries.filter(chosen)
        .group_by("_words")
        .agg(pl.col("segment").drop_nulls().min())
        .sort("_words")
    )
    if groups.is_empty():
        return queries
    hashes = pl.Series("_hash", hash_strings(groups["_words"].to_list(), seed))
    total, position = pl.len().over("segment"), pl.col("_hash").rank("ordinal").over("segment")
    # The middle of each group's place among its segment, against the cumulated shares.
    at = (position - 0.5) / total
    bounds = accumulate(share for _name, share in shares)
    part = pl.lit(shares[-1][0])
    for (name, _share), bound in reversed(list(zip(shares, bounds, strict=True))[:-1]):
        part = pl.when(at < bound - 1e-9).then(pl.lit(name)).otherwise(part)
    groups = groups.with_columns(hashes).with_columns(part.alias("_dealt"))
    joined = queries.join(
        groups.select("_words", "_dealt"), on="_words", how="left", maintain_order="left"
    )
    new = pl.when(chosen).then(pl.col("_dealt")).otherwise(pl.col("part"))
    return joined.with_columns(new.alias("part")).drop("_dealt")


def _without_leaks(queries: pl.DataFrame) -> pl.DataFrame:
    """Blank the part of training queries whose words are those of a query held out."""
    held_out = queries.filter(pl.col("part").is_in(HELD_OUT))["_words"].unique()
    leaks = pl.col("part").is_in(["seed", "train"]) & pl.col("_words").is_in(held_out.to_list())
    return queries.with_columns(pl.when(leaks).then(None).otherwise(pl.col("part")).alias("part"))
