"""Which candidates are worth a label: those that some level of difficulty could use.

Without a pilot the levels' strata take turns. With one, some queries are annotated evenly over all
strata (`domain.yields`), and the others where, by what was learned there, levels are short.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.domain.allotment import Strata, allot
from trivium.domain.levels import STRATA
from trivium.domain.sampling import hash_strings
from trivium.domain.yields import KEY, TALLY, estimate, in_order, placed, rates_of
from trivium.foundation.annotate_config import AnnotateConfig
from trivium.foundation.budgets import NO_CHANNEL, parse_budget
from trivium.foundation.examples_config import ExamplesConfig
from trivium.foundation.mine_config import MineConfig

_RULE = pl.col("stratum").cast(pl.Enum(STRATA))


@dataclass(frozen=True)
class Selection:
    """The candidates to annotate, and what became of the others.

    Attributes:
        pairs: Columns query_id, item_id, stratum, found_by, band; sorted by query and item.
        counts: Columns stratum (null = none), found_by, band, reason (kept, over_cap, over_budget,
            no_level), pairs.
        offered: All candidates, `domain.yields.placed`.
    """

    pairs: pl.DataFrame
    counts: pl.DataFrame
    offered: pl.DataFrame


def pilot_queries(query_ids: pl.Series, share: float, seed: int) -> pl.DataFrame:
    """Draw the queries that are annotated first: those with the lowest hashes.

    Args:
        query_ids: All queries, each once.
        share: Of them; at least one is drawn, unless it is 0.
        seed: Of the hash.

    Returns:
        Column query_id, sorted.
    """
    hashed = pl.DataFrame({"query_id": query_ids, "hash": _hashes(query_ids, seed)})
    drawn = hashed.sort("hash", "query_id").head(math.ceil(share * len(query_ids)))
    return drawn.select("query_id").sort("query_id")


def select(
    candidates: pl.DataFrame,
    config: AnnotateConfig,
    examples: ExamplesConfig,
    mine: MineConfig,
    *,
    yields: pl.DataFrame | None = None,
    seed: int = 0,
) -> Selection:
    """Choose the candidates that some level of difficulty could use, whatever their grade.

    At most `pairs_per_query` of a query are chosen, and no more of what a budget names than it
    says. With yields, `domain.allotment` deals them. Without, all are spread evenly over the strata
    if there is a pilot; else the rules of the levels take turns, whatever band or channels.

    Of a stratum the best ranks come first, or in a pilot any, by lot, so that the yield is that of
    the whole stratum; token-similar pairs, and what no channel found, are always drawn by lot, so
    that neither an end of the TF-IDF band nor the ranks just out of sight take it all.

    Args:
        candidates: A candidates table, or a shard of one.
        config: pairs_per_query, budgets, pilot, explore and the bands.
        examples: The levels' rules, depths and band, and the caps.
        mine: Which channels are lexical, which dense.
        yields: What `domain.yields.estimate` has learned.
        seed: Of the draws.
    """
    offered = placed(candidates, config, examples, mine)
    usable = offered.filter(pl.col("stratum").is_not_null())
    by_lot = config.pilot > 0 and yields is None
    usable = _ordered(usable, by_lot=by_lot, seed=seed)
    if config.pilot:
        chosen = _dealt(usable, config, examples, yields, seed)
    else:
        chosen = _in_turn(usable, config)
    total = pl.col("kept").sum().over("query_id")
    reason = (
        pl.when("kept")
        .then(pl.lit("kept"))
        .when(total >= config.pairs_per_query)
        .then(pl.lit("over_cap"))
        .otherwise(pl.lit("over_budget"))
    )
    unused = offered.filter(pl.col("stratum").is_null())
    parts = [
        chosen.select(*KEY, reason.alias("reason")),
        unused.select(*KEY, pl.lit("no_level").alias("reason")),
    ]
    counts = pl.concat(parts).group_by(*KEY, "reason").agg(pl.len().cast(pl.Int64).alias("pairs"))
    pairs = chosen.filter("kept").select("query_id", "item_id", *KEY)
    return Selection(pairs.sort("query_id", "item_id"), in_order(counts.sort("reason")), offered)


def _ordered(usable: pl.DataFrame, *, by_lot: bool, seed: int) -> pl.DataFrame:
    """Sort pairs so that within each query and stratum the first ones are to be taken first."""
    pairs = usable.select(pl.concat_str("query_id", pl.lit("\t"), "item_id")).to_series()
    lot = pl.Series("lot", _hashes(pairs, seed))
    if by_lot:
        return usable.with_columns(lot).sort("query_id", "lot", "item_id")
    drawn = pl.col("best").is_null() | (pl.col("stratum") == "token_similar")
    best = pl.when(~drawn).then("best")
    tie = pl.when(drawn).then(pl.col("lot").cast(pl.Float64)).otherwise(-pl.col("tfidf"))
    return usable.with_columns(lot).sort("query_id", best, tie, "item_id", nulls_last=True)


def _in_turn(usable: pl.DataFrame, config: AnnotateConfig) -> pl.DataFrame:
    """Mark what is kept, in column `kept`, where the rules of the levels take turns."""
    left = _turns(usable)
    for pattern, most in config.budgets.items():
        own = _matches(pattern)
        left = left.filter(~own | (own.cast(pl.Int64).cum_sum().over("query_id") <= most))
    left = _turns(left).select("query_id", "item_id", place=pl.int_range(pl.len()).over("query_id"))
    whole = usable.join(left, on=["query_id", "item_id"], how="left", maintain_order="left")
    return whole.with_columns(
        kept=(pl.col("place") < config.pairs_per_query).fill_null(value=False)
    )


def _turns(usable: pl.DataFrame) -> pl.DataFrame:
    turn = pl.int_range(pl.len()).over("query_id", "stratum")
    return usable.with_columns(turn=turn).sort("query_id", "turn", _RULE)


def _dealt(
    usable: pl.DataFrame,
    config: AnnotateConfig,
    examples: ExamplesConfig,
    yields: pl.DataFrame | None,
    seed: int,
) -> pl.DataFrame:
    """Mark what is kept, in column `kept`, where strata are dealt pairs."""
    query_ids, pairs = usable["query_id"].unique().sort(), config.pairs_per_query
    table = estimate(pl.DataFrame(schema=TALLY) if yields is None else yields, usable)
    strata = table.join(usable, on=KEY, how="semi", maintain_order="left")
    numbers = strata.select(*KEY, stratum_number=pl.int_range(pl.len()))
    queries = pl.DataFrame({"query_id": query_ids, "query": np.arange(len(query_ids))})
    numbered = usable.join(numbers, on=KEY, maintain_order="left").join(
        queries, on="query_id", maintain_order="left"
    )
    cell = pl.col("query") * len(strata) + pl.col("stratum_number")
    cells = numbered.select(cell).to_series().to_numpy()
    available = np.bincount(cells, minlength=len(queries) * len(strata)).astype(np.int64)
    taken = allot(
        available.reshape(len(queries), len(strata)),
        _own_order(query_ids, strata, seed),
        _strata(strata, config),
        pairs,
        pairs if yields is None else round(config.explore * pairs),
        caps(examples),
    )
    place = pl.int_range(pl.len()).over("query_id", *KEY)
    return numbered.with_columns(kept=place < pl.Series(taken.ravel()[cells]))


def caps(examples: ExamplesConfig) -> dict[str, int]:
    """Examples of a query that labels can give, by sign; random negatives take their part."""
    negatives = examples.max_negatives - examples.random_negatives
    return {"positive": examples.max_positives, "negative": max(negatives, 1)}


def _own_order(query_ids: pl.Series, known: pl.DataFrame, seed: int) -> NDArray[np.int64]:
    """Each query's own order of the strata, so that together they sample them all."""
    names = known.select(pl.concat_str(KEY, separator="\t")).to_series()
    mixed = _hashes(query_ids, seed)[:, None] ^ _hashes(names, seed)[None, :]
    return mixed.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable").astype(np.int64)


def _strata(known: pl.DataFrame, config: AnnotateConfig) -> Strata:
    patterns = [
        known.select(_matches(pattern)).to_series().to_numpy() for pattern in config.budgets
    ]
    return Strata(
        rule=known.select(_RULE.to_physical().cast(pl.Int64)).to_series().to_numpy(),
        rates=rates_of(known),
        patterns=np.array(patterns, np.bool_).reshape(len(patterns), len(known)),
        budgets=np.array(list(config.budgets.values()), np.int64),
    )


def _matches(pattern: str) -> pl.Expr:
    stratum, found_by = parse_budget(pattern)
    of_level = pl.lit(True) if stratum is None else pl.col("stratum") == stratum
    if found_by is None:
        return of_level
    names = pl.col("found_by").str.split("+").list.sort()
    wanted = "+".join(sorted(found_by)) or NO_CHANNEL
    return of_level & (names.list.join("+") == wanted)


def _hashes(names: pl.Series, seed: int) -> NDArray[np.uint64]:
    return hash_strings(names.to_list(), seed)
