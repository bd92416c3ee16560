"""Which candidates are worth a label: those that some level of difficulty could use."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from trivium.domain.levels import STRATA, strata
from trivium.foundation.annotate_config import AnnotateConfig
from trivium.foundation.config import ExamplesConfig, MineConfig
from trivium.foundation.tables import channels_of


@dataclass(frozen=True)
class Selection:
    """The candidates to annotate, and what became of the others.

    Attributes:
        pairs: Columns query_id, item_id, stratum; sorted by query and item.
        counts: Columns stratum (null = none), reason (kept, over_cap, no_level), pairs.
    """

    pairs: pl.DataFrame
    counts: pl.DataFrame


def select(
    candidates: pl.DataFrame,
    config: AnnotateConfig,
    examples: ExamplesConfig,
    mine: MineConfig,
) -> Selection:
    """Choose the candidates that some level of difficulty could use, whatever their grade.

    A candidate belongs to the stratum that `levels.strata` names. Under the cap the strata take
    turns, each with its best rank (highest TF-IDF where none) first, then item_id.

    Args:
        candidates: A candidates table, or a shard of one.
        config: pairs_per_query.
        examples: The levels' depths and band.
        mine: Which channels are lexical, which dense.
    """
    channels = channels_of(candidates)
    placed = candidates.select(
        "query_id",
        "item_id",
        "tfidf",
        strata(channels, examples, mine).alias("stratum"),
        pl.min_horizontal([pl.col(f"rank_{name}") for name in channels]).alias("best"),
    )
    turn = pl.int_range(pl.len()).over("query_id", "stratum").alias("turn")
    usable = (
        placed.filter(pl.col("stratum").is_not_null())
        .sort(["best", "tfidf", "item_id"], descending=[False, True, False], nulls_last=True)
        .with_columns(turn)
        .sort("query_id", "turn", pl.col("stratum").cast(pl.Enum(STRATA)))
        .with_columns(pl.int_range(pl.len()).over("query_id").alias("place"))
    )
    kept = pl.col("place") < config.pairs_per_query
    reasons = pl.when(kept).then(pl.lit("kept")).otherwise(pl.lit("over_cap"))
    unused = placed.filter(pl.col("stratum").is_null()).select(
        "stratum", pl.lit("no_level").alias("reason")
    )
    counts = (
        pl.concat([usable.select("stratum", reasons.alias("reason")), unused])
        .group_by("stratum", "reason")
        .agg(pl.len().cast(pl.Int64).alias("pairs"))
        .sort("stratum", "reason")
    )
    pairs = usable.filter(kept).select("query_id", "item_id", "stratum")
    return Selection(pairs.sort("query_id", "item_id"), counts)
