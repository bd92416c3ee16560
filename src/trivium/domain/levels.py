"""The five levels of difficulty: which pair is an example of what, and why.

| level | rule, as published (arXiv 2606.23911); the first four are `examples.rules` |
|---|---|
| easy_positive | every channel retrieved it, and it is relevant |
| hard_positive | a lexical channel has it near the top, no dense channel found it; relevant |
| hard_negative | exactly one channel retrieved it, near the top, and it is irrelevant |
| token_similar_negative | TF-IDF cosine inside a band, no channel has it near; irrelevant |
| random_negative | drawn from the catalog, neither a candidate nor judged |

Relevant is what has P(grade >= 3) at or above a floor, irrelevant what has P(grade <= 1) there, the
more probable of both; or, as published, the hard grades 3 and 4, 0 and 1. What is neither makes no
example. Human grades of seed queries make two levels beside them: seed_positive, seed_negative.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import polars as pl

from trivium.domain.rules import rule_conditions
from trivium.domain.sampling import draw_positions, hash_strings
from trivium.foundation.examples_config import ExamplesConfig
from trivium.foundation.mine_config import MineConfig
from trivium.foundation.tables import (
    EXAMPLES,
    IRRELEVANT,
    POSITIVE_LEVELS,
    RELEVANT,
    channels_of,
)

DEEP_PER_QUERY = 5
STRATA = ("easy_positive", "hard_positive", "hard_negative", "token_similar")

_NEITHER = {
    "probability": "neither sure to be relevant nor irrelevant",
    "grade": "grade 2",
}
_NO_RULE = "no level's rule holds"
_COLUMNS = list(EXAMPLES.columns)
_UNJUDGED = ("p_relevant", "p_irrelevant", "expected_grade", "confidence")
_BY_QUERY = ["query_id", "level", "item_id"]


def strata(channels: Sequence[str], config: ExamplesConfig, mine: MineConfig) -> pl.Expr:
    """Name a candidate's stratum: the first of `STRATA` whose rule it fits, whatever its grade.

    A candidate may fit two rules, and a grade then decides: what one lexical channel alone has near
    the top is a hard positive if it is relevant and a hard negative if it is not.

    Args:
        channels: The channels of the candidates table.
        config: Rules, depths and band.
        mine: Which channels are lexical, which dense.

    Returns:
        A string over candidates; null where no rule holds, so that no grade makes an example.
    """
    return _first(rule_conditions(channels, config, mine))


def deep_sample(
    candidates: pl.DataFrame, config: ExamplesConfig, mine: MineConfig, seed: int
) -> pl.DataFrame:
    """Sample what one lexical channel alone found, too far down for any level.

    Args:
        candidates: A candidates table.
        config: hard_negative_depth, where far down begins.
        mine: Which channels are lexical.
        seed: Seed of the sample.

    Returns:
        At most `DEEP_PER_QUERY` candidates of each query.
    """
    lexical = [f"rank_{c}" for c in channels_of(candidates) if c in mine.lexical]
    far = pl.any_horizontal([pl.col(rank) > config.hard_negative_depth for rank in lexical])
    found = candidates.filter((pl.col("channels") == 1) & far) if lexical else candidates.clear()
    keys = found.select(pl.concat_str("query_id", pl.lit("\t"), "item_id")).to_series()
    drawn = found.with_columns(pl.Series("_hash", hash_strings(keys.to_list(), seed)))
    first = drawn.sort("query_id", "_hash", "item_id").group_by("query_id", maintain_order=True)
    return first.head(DEEP_PER_QUERY).drop("_hash").select(candidates.columns)


def machine_levels(
    candidates: pl.DataFrame,
    labels: pl.DataFrame,
    config: ExamplesConfig,
    mine: MineConfig,
    without: Collection[str] = (),
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Turn labelled candidates into examples of the first four levels.

    Args:
        candidates: Candidates with their ranks, null = not retrieved.
        labels: Labels of (some of) them, as `domain.labels.settled` has them.
        config: Rules, depths, band and floors.
        mine: Which channels are lexical, which dense.
        without: Levels that human grades have shown to be worse than chance, to leave out.

    Returns:
        Examples (before the caps), and the number of labelled candidates left out, each counted
        under one reason, the first of: neither relevant nor irrelevant, no rule, its level.
    """
    channels = channels_of(candidates)
    pairs = candidates.join(labels, on=["query_id", "item_id"], how="inner")
    levelled = pairs.with_columns(_level(channels, config, mine).alias("level"))
    levelled = levelled.with_columns(_why_not(config, without).alias("_why_not"))
    counted = levelled["_why_not"].drop_nulls().value_counts(sort=True)
    left_out = dict(counted.sort("_why_not").iter_rows())
    kept = levelled.filter(pl.col("_why_not").is_null())
    made = kept.with_columns(
        pl.lit("judge").alias("source"), _reason(channels, config).alias("reason")
    )
    return made.select(_COLUMNS).sort(_BY_QUERY), left_out


def seed_levels(judgments: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Turn human grades into seed positives and seed negatives; grade 2 is left out."""
    level = (
        pl.when(pl.col("grade") >= RELEVANT)
        .then(pl.lit("seed_positive"))
        .when(pl.col("grade") <= IRRELEVANT)
        .then(pl.lit("seed_negative"))
    )
    made = judgments.with_columns(
        level.alias("level"),
        (pl.col("grade") >= RELEVANT).cast(pl.Float32).alias("p_relevant"),
        (pl.col("grade") <= IRRELEVANT).cast(pl.Float32).alias("p_irrelevant"),
        pl.col("grade").cast(pl.Float32).alias("expected_grade"),
        pl.lit(1.0, pl.Float32).alias("confidence"),
        pl.lit("human").alias("source"),
        pl.format("human grade {}", pl.col("grade")).alias("reason"),
    )
    kept = made.filter(pl.col("level").is_not_null()).select(_COLUMNS).sort(_BY_QUERY)
    return kept, {"human grade 2": judgments.height - kept.height}


def random_negatives(
    query_ids: Sequence[str],
    item_ids: Sequence[str],
    excluded: pl.DataFrame,
    per_query: int,
    seed: int,
) -> pl.DataFrame:
    """Draw easy negatives for each query from the catalog.

    Args:
        query_ids: The queries.
        item_ids: The catalog, sorted.
        excluded: Pairs query_id, item_id that were retrieved or judged.
        per_query: Draws for a query; fewer rows remain where a draw repeats or is excluded.
        seed: Seed; with the query's id it decides the draw.
    """
    positions = draw_positions(hash_strings(query_ids, seed), per_query, len(item_ids))
    drawn = pl.DataFrame(
        {
            "query_id": pl.Series(query_ids, dtype=pl.String).repeat_by(per_query).explode()
            if per_query
            else pl.Series([], dtype=pl.String),
            "item_id": pl.Series(item_ids, dtype=pl.String).gather(positions.ravel()),
        }
    ).unique()
    kept = drawn.join(
        excluded.select("query_id", "item_id"), on=["query_id", "item_id"], how="anti"
    )
    return (
        kept.with_columns(
            pl.lit("random_negative").alias("level"),
            pl.lit(None, dtype=pl.Int8).alias("grade"),
            *(pl.lit(None, dtype=pl.Float32).alias(name) for name in _UNJUDGED),
            pl.lit("sampled").alias("source"),
            pl.lit("drawn from the catalog; not a candidate, not judged").alias("reason"),
        )
        .select(_COLUMNS)
        .sort(_BY_QUERY)
    )


def capped(examples: pl.DataFrame, config: ExamplesConfig) -> tuple[pl.DataFrame, dict[str, int]]:
    """Cap the positives and the negatives of a query, each level in turn, the surest first."""
    positive = pl.col("level").is_in(POSITIVE_LEVELS)
    ordered = examples.with_columns(
        positive.alias("_positive"), _sureness(positive).fill_null(0.0).alias("_sure")
    ).sort(["query_id", "level", "_sure", "item_id"], descending=[False, False, True, False])
    turn = pl.int_range(pl.len()).over("query_id", "level").alias("_turn")
    ordered = ordered.with_columns(turn).sort("query_id", "_positive", "_turn", "level")
    place = pl.int_range(pl.len()).over("query_id", "_positive")
    cap = pl.when("_positive").then(config.max_positives).otherwise(config.max_negatives)
    kept = ordered.filter(place < cap).select(_COLUMNS).sort(_BY_QUERY)
    return kept, {"over the cap of a query": examples.height - kept.height}


def levels_by_rule(
    channels: Sequence[str], config: ExamplesConfig, mine: MineConfig
) -> tuple[pl.Expr, pl.Expr]:
    """The level that a candidate is of if it is relevant, and if it is irrelevant.

    Args:
        channels: The channels of the candidates table.
        config: Rules, depths and band.
        mine: Which channels are lexical, which dense.

    Returns:
        Two strings over candidates; null where no rule holds.
    """
    rules = rule_conditions(channels, config, mine)
    positive = _first({level: rules[level] for level in ("easy_positive", "hard_positive")})
    negative = {
        "hard_negative": rules["hard_negative"],
        "token_similar_negative": rules["token_similar"],
    }
    return positive, _first(negative)


def taken(config: ExamplesConfig) -> tuple[pl.Expr, pl.Expr]:
    """Which labelled pairs are taken as relevant, and which as irrelevant; never both.

    Args:
        config: `by`, and the floors of the probabilities.

    Returns:
        Two Booleans over columns grade, p_relevant and p_irrelevant.
    """
    if config.by == "grade":
        return pl.col("grade") >= RELEVANT, pl.col("grade") <= IRRELEVANT
    relevant, irrelevant = pl.col("p_relevant"), pl.col("p_irrelevant")
    floors = [pl.lit(p, pl.Float32) for p in (config.min_p_relevant, config.min_p_irrelevant)]
    return (
        (relevant >= floors[0]) & (relevant > irrelevant),
        (irrelevant >= floors[1]) & (irrelevant > relevant),
    )


def _level(channels: Sequence[str], config: ExamplesConfig, mine: MineConfig) -> pl.Expr:
    positive, negative = levels_by_rule(channels, config, mine)
    relevant, irrelevant = taken(config)
    return pl.when(relevant).then(positive).when(irrelevant).then(negative)


def _first(rules: Mapping[str, pl.Expr]) -> pl.Expr:
    return pl.coalesce(pl.when(rule).then(pl.lit(name)) for name, rule in rules.items())


def _why_not(config: ExamplesConfig, without: Collection[str]) -> pl.Expr:
    relevant, irrelevant = taken(config)
    return (
        pl.when(~(relevant | irrelevant))
        .then(pl.lit(_NEITHER[config.by]))
        .when(pl.col("level").is_null())
        .then(pl.lit(_NO_RULE))
        .when(pl.col("level").is_in(list(without)))
        .then(pl.format("{} is worse than chance", pl.col("level")))
    )


def _sureness(positive: pl.Expr) -> pl.Expr:
    return pl.when(positive).then("p_relevant").otherwise("p_irrelevant")


def _reason(channels: Sequence[str], config: ExamplesConfig) -> pl.Expr:
    ranks = [
        pl.format(f"{channel} {{}}", pl.col(f"rank_{channel}").cast(pl.String).fill_null("-"))
        for channel in channels
    ]
    places = pl.concat_str(ranks, separator=", ")
    relevant = taken(config)[0]
    return pl.format(
        "grade {}, {} {}; ranks: {}; tf-idf {}",
        pl.col("grade"),
        pl.when(relevant).then(pl.lit("relevant")).otherwise(pl.lit("irrelevant")),
        _sureness(relevant).cast(pl.Float64).round(2),
        places,
        pl.col("tfidf").cast(pl.Float64).round(2).cast(pl.String).fill_null("-"),
    )
