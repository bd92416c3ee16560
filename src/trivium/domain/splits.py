"""Which part of the work a query belongs to, and which segment of the traffic."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import polars as pl

from trivium.domain.sampling import hash_strings
from trivium.foundation.config import SplitConfig
from trivium.foundation.text import word_set

_ORDER = ("calibration", "tuning", "agreement", "validation", "test")
_STRENGTH = {"train": 0, "seed": 0} | {part: at + 1 for at, part in enumerate(_ORDER)}
"""Of two queries with the same words the one of the stronger part stays."""


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
    counts = ranked["frequency"].fill_null(0).to_numpy()
    # Divided by numpy: polars multiplies by the reciprocal, which misses a share by a bit.
    before = pl.lit(pl.Series((np.cumsum(counts) - counts) / max(1, counts.sum())))
    derived = (
        pl.when(pl.col("frequency").is_null())
        .then(None)
        .when(pl.col("frequency").sum() == 0)
        .then(pl.lit("tail"))
        .when(before < head_share)
        .then(pl.lit("head"))
        .when(before < torso_share)
        .then(pl.lit("torso"))
        .otherwise(pl.lit("tail"))
    )
    return ranked.with_columns(pl.coalesce("segment", derived).alias("segment")).sort("query_id")


def with_parts(
    queries: pl.DataFrame,
    judged: pl.Series,
    split: SplitConfig,
    seed: int,
    evaluated: pl.Series | None = None,
) -> pl.DataFrame:
    """Give each query its part; queries with the same words share one.

    A part that the table already names is kept; a judged query without one takes that of a query
    with its words, or is dealt in the configured shares, within its segment: to seed, train,
    validation or test where its grades may both teach and evaluate, else to those two of them
    that it can serve. A query without grades is for training. Last, the seed gives up queries for
    calibration, tuning and agreement.

    Args:
        queries: Columns query_id, query, segment, and part where some are fixed.
        judged: Ids of the queries whose human grades may teach.
        split: The shares.
        seed: Seed of the deal.
        evaluated: Ids of the queries whose grades may evaluate; `judged` when absent.

    Returns:
        The queries with a column `part`; null where a query has the words of one that is held out
        for more (test before validation, agreement, tuning, calibration, training), so that it
        must be set aside.
    """
    if "part" not in queries.columns:
        queries = queries.with_columns(pl.lit(None, dtype=pl.String).alias("part"))
    words = word_set("query").alias("_words")
    evaluated = judged if evaluated is None else evaluated
    teaches = pl.col("query_id").is_in(judged.to_list())
    tests = pl.col("query_id").is_in(evaluated.to_list())
    strongest = pl.col("part").sort_by(_strength(), "part").last().over("_words")
    open_ = pl.col("part").is_null() & (teaches | tests)
    dealt = queries.with_columns(words)
    dealt = dealt.with_columns(pl.when(open_).then(strongest).otherwise("part").alias("part"))
    for chosen, parts in (
        (teaches & tests, ("seed", "train", "validation", "test")),
        (teaches & ~tests, ("seed", "train")),
        (tests & ~teaches, ("validation", "test")),
    ):
        dealt = _deal(dealt, pl.col("part").is_null() & chosen, _shares(split, parts), seed)
    dealt = dealt.with_columns(pl.col("part").fill_null("train"))
    inner = {"calibration": split.calibration, "tuning": split.tuning, "agreement": split.agreement}
    if not dealt["part"].is_in(list(inner)).any():
        shares = {"seed": 1.0 - sum(inner.values()), **inner}
        dealt = _deal(dealt, pl.col("part") == "seed", list(shares.items()), seed + 1)
    return _without_leaks(dealt).drop("_words").sort("query_id")


def _shares(split: SplitConfig, parts: tuple[str, ...]) -> list[tuple[str, float]]:
    """The shares of some parts, made to add up to 1; equal ones where all are 0."""
    shares = {part: float(getattr(split, part)) for part in parts}
    total = sum(shares.values())
    return [(p, share / total if total else 1 / len(parts)) for p, share in shares.items()]


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


def _strength() -> pl.Expr:
    return pl.col("part").replace_strict(_STRENGTH, return_dtype=pl.Int8)


def _without_leaks(queries: pl.DataFrame) -> pl.DataFrame:
    """Blank the part of queries whose words are those of a query that is held out for more."""
    leaks = _strength() < _strength().max().over("_words")
    return queries.with_columns(pl.when(leaks).then(None).otherwise(pl.col("part")).alias("part"))
