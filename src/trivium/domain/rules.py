"""What the level rules name, read from candidates; the language is that of `foundation.rules`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from trivium.foundation.examples_config import ExamplesConfig
from trivium.foundation.mine_config import MineConfig
from trivium.foundation.rules import parse_rule, rule_names


def rule_conditions(
    channels: Sequence[str], config: ExamplesConfig, mine: MineConfig
) -> dict[str, pl.Expr]:
    """Make conditions over candidates of the configured rules.

    Args:
        channels: The channels of the candidates table.
        config: Rules, depths and band.
        mine: Which channels are lexical, which dense.

    Returns:
        A Boolean over candidates for each level, in the order of the rules; null or false where
        the rule does not hold.

    Raises:
        ConfigError: If a rule is faulty, or names a channel that the candidates do not have.
    """
    names, values = rule_names(channels), rule_values(channels, config, mine)
    return {
        level: _over(parse_rule(rule, names, f"examples.rules.{level}"), values)
        for level, rule in config.rules
    }


def rule_values(
    channels: Sequence[str], config: ExamplesConfig, mine: MineConfig
) -> dict[str, pl.Expr]:
    """What each name of a rule means: expressions over candidates.

    The names of a role are null where the run has no channel of it, so that no comparison with
    them holds; so is `retrieved_depth` until `ExamplesConfig.for_catalog` says it.
    """
    ranks = {channel: pl.col(f"rank_{channel}").cast(pl.Int64) for channel in channels}
    lexical = [rank for channel, rank in ranks.items() if channel in mine.lexical]
    dense = [rank for channel, rank in ranks.items() if channel in mine.dense]
    values = {f"rank_{channel}": rank for channel, rank in ranks.items()}
    values |= {f"score_{channel}": pl.col(f"score_{channel}") for channel in channels}
    values |= {
        "found": pl.col("channels").cast(pl.Int64),
        "lexical": _count(lexical),
        "dense": _count(dense),
        "best": _best(list(ranks.values())),
        "best_lexical": _best(lexical),
        "best_dense": _best(dense),
        "tfidf": pl.col("tfidf"),
    }
    constants = {"channels": len(channels)} | {
        name: getattr(config, name)
        for name in (
            *("hard_positive_depth", "hard_negative_depth", "retrieved_depth"),
            *("tfidf_low", "tfidf_high"),
        )
    }
    types = rule_names(channels)
    return values | {name: pl.lit(value, types[name]) for name, value in constants.items()}


def _count(ranks: Sequence[pl.Expr]) -> pl.Expr:
    if not ranks:
        return pl.lit(None, pl.Int64)
    return pl.sum_horizontal(rank.is_not_null().cast(pl.Int64) for rank in ranks)


def _best(ranks: Sequence[pl.Expr]) -> pl.Expr:
    return pl.min_horizontal(ranks) if ranks else pl.lit(None, pl.Int64)


def _over(rule: pl.Expr, values: Mapping[str, pl.Expr]) -> pl.Expr:
    """A rule over candidates: its names filled in, in a table of their own."""
    used = sorted({"found", *rule.meta.root_names()})  # a column, so that constants get its height

    def evaluated(filled: pl.Series) -> pl.Series:
        return filled.struct.unnest().with_columns(_rule=rule)["_rule"]

    filled = pl.struct(values[name].alias(name) for name in used)
    return filled.map_batches(evaluated, return_dtype=pl.Boolean, is_elementwise=True)
