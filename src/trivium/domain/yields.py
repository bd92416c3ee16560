"""What a labelled pair becomes, by how it was found: the yield of each stratum.

A stratum of annotation is a level's rule (`levels.strata`), the set of channels that found the
pair, and a band of its best rank, or of its TF-IDF cosine where no channel found it. Its yield is
the number of examples of each level that one label gives. Few labels of a stratum say little, so
its yield is drawn towards that of the same rule and channels, and that one's towards the rule's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.domain.levels import STRATA, strata
from trivium.foundation.annotate_config import AnnotateConfig
from trivium.foundation.budgets import NO_CHANNEL
from trivium.foundation.examples_config import ExamplesConfig
from trivium.foundation.mine_config import MineConfig
from trivium.foundation.tables import POSITIVE_LEVELS, channels_of

BOUGHT = ("easy_positive", "hard_positive", "hard_negative", "token_similar_negative")
"""Levels that a label can make an example of."""

SIGNS = tuple("positive" if level in POSITIVE_LEVELS else "negative" for level in BOUGHT)

STRENGTH = 10.0
"""Labels that the yield of the coarser stratum counts as; ours."""

KEY = ["stratum", "found_by", "band"]
TALLY = (
    dict.fromkeys(KEY, pl.String)
    | {"available": pl.Int64, "pairs": pl.Int64}
    | dict.fromkeys(BOUGHT, pl.Int64)
)
"""Pairs that a stratum offered, those of them that were labelled, and the examples they made."""

_JEFFREYS = 0.5
"""Weight of each outcome (a level, or none) before any label: Jeffreys' prior of a multinomial."""


def placed(
    candidates: pl.DataFrame, config: AnnotateConfig, examples: ExamplesConfig, mine: MineConfig
) -> pl.DataFrame:
    """Say of each candidate in which stratum it is.

    Args:
        candidates: A candidates table.
        config: Ends of the bands.
        examples: Rules, depths and band of the levels.
        mine: Which channels are lexical, which dense.

    Returns:
        query_id, item_id, `KEY` (a null stratum where no rule holds; the channels joined by "+" in
        the order of the table, or "none"), best (rank, null where no channel found it) and tfidf.
    """
    channels = channels_of(candidates)
    ranks = {name: pl.col(f"rank_{name}") for name in channels}
    found = [pl.when(rank.is_not_null()).then(pl.lit(name)) for name, rank in ranks.items()]
    ends = np.linspace(examples.tfidf_low, examples.tfidf_high, config.tfidf_bands + 1)
    best = pl.min_horizontal(ranks.values())
    return candidates.select(
        "query_id",
        "item_id",
        strata(channels, examples, mine).alias("stratum"),
        pl.concat_str(found, separator="+", ignore_nulls=True)
        .replace("", NO_CHANNEL)
        .alias("found_by"),
        pl.when(best.is_null())
        .then(_tfidf_band(ends.round(4).tolist()))
        .otherwise(_rank_band(best, sorted(set(config.rank_bands))))
        .alias("band"),
        best.alias("best"),
        "tfidf",
    )


def tally(offered: pl.DataFrame, labels: pl.DataFrame, made: pl.DataFrame) -> pl.DataFrame:
    """Count what the strata offered, what was labelled of them and which examples it made.

    Args:
        offered: `placed` candidates, of the queries of which pairs were labelled.
        labels: Columns query_id and item_id.
        made: Columns query_id, item_id and level (`levels.machine_levels`).

    Returns:
        `TALLY`, in the order of the strata; candidates without one are left out.
    """
    pair = ["query_id", "item_id"]
    labelled = labels.select(*pair, labelled=pl.lit(1))
    known = offered.filter(pl.col("stratum").is_not_null()).join(labelled, on=pair, how="left")
    known = known.join(made.select(*pair, "level"), on=pair, how="left")
    counts = known.group_by(KEY).agg(
        pl.len().alias("available"),
        pl.col("labelled").sum().alias("pairs"),
        *((pl.col("level") == level).sum().alias(level) for level in BOUGHT),
    )
    return in_order(counts.select(pl.col(name).cast(dtype) for name, dtype in TALLY.items()))


def add_up(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Add up the tallies of disjoint sets of queries."""
    together = pl.concat([pl.DataFrame(schema=TALLY), *parts])
    return in_order(together.group_by(KEY).sum())


def estimate(counts: pl.DataFrame, asked: pl.DataFrame | None = None) -> pl.DataFrame:
    """Estimate the yield of each stratum.

    With n labels of a stratum, c examples of a level among them and the yield p of the coarser
    stratum, the yield is (c + `STRENGTH` p) / (n + `STRENGTH`): the mean of a Dirichlet posterior.
    The coarsest is (c + 1/2) / (n + 5/2), for the four levels and no example.

    Args:
        counts: `TALLY`.
        asked: Columns `KEY`: further strata, of which no pair need have been labelled.

    Returns:
        `TALLY`, yield (examples a label, as counted; null without labels), shrunk (as estimated)
        and shrunk_<level> for each level; a row for each stratum of either table, in order.
    """
    every = counts.select(list(TALLY))
    if asked is not None:
        unseen = asked.select(KEY).unique().join(counts, on=KEY, how="anti")
        every = pl.concat([every, unseen], how="diagonal").fill_null(0)
    table = every.with_columns(_root(level).alias(_shrunk(level)) for level in BOUGHT)
    for key in (KEY[:2], KEY):
        table = table.with_columns(_drawn(level, key).alias(_shrunk(level)) for level in BOUGHT)
    return in_order(
        table.with_columns(
            pl.when(pl.col("pairs") > 0)
            .then(pl.sum_horizontal(BOUGHT) / pl.col("pairs"))
            .alias("yield"),
            pl.sum_horizontal(map(_shrunk, BOUGHT)).alias("shrunk"),
        ).select(*TALLY, "yield", "shrunk", *map(_shrunk, BOUGHT))
    )


def rates_of(yields: pl.DataFrame) -> NDArray[np.float64]:  # (strata, levels)
    """The estimated yields of a table of `estimate`, level by level."""
    return yields.select(map(_shrunk, BOUGHT)).to_numpy().astype(np.float64)


def expected(
    pairs: pl.DataFrame, yields: pl.DataFrame, caps: Mapping[str, int]
) -> dict[str, float]:
    """Predict what labels of some pairs would make.

    Args:
        pairs: Columns query_id and `KEY`.
        yields: What `estimate` gives, with all of their strata.
        caps: Most usable examples of a query, positive and negative.

    Returns:
        Examples of each level, and usable: those within the caps, query by query.
    """
    sums = (
        pairs.join(yields, on=KEY, how="left")
        .group_by("query_id")
        .agg(pl.col(_shrunk(level)).sum().alias(level) for level in BOUGHT)
        .sort("query_id")
    )
    usable = sum(
        float(sums.select(_of_sign(sign).clip(upper_bound=cap)).to_series().sum())
        for sign, cap in caps.items()
    )
    return {level: float(sums[level].sum()) for level in BOUGHT} | {"usable": usable}


def in_order(table: pl.DataFrame) -> pl.DataFrame:
    """Sort by stratum, as `levels.STRATA` has them, then by channels and band."""
    return table.sort(pl.col("stratum").cast(pl.Enum(STRATA)), "found_by", "band")


def _shrunk(level: str) -> str:
    return f"shrunk_{level}"


def _root(level: str) -> pl.Expr:
    made, labelled = (pl.col(name).sum().over("stratum") for name in (level, "pairs"))
    return (made + _JEFFREYS) / (labelled + _JEFFREYS * (len(BOUGHT) + 1))


def _drawn(level: str, key: Sequence[str]) -> pl.Expr:
    made, labelled = (pl.col(name).sum().over(key) for name in (level, "pairs"))
    return (made + STRENGTH * pl.col(_shrunk(level))) / (labelled + STRENGTH)


def _of_sign(sign: str) -> pl.Expr:
    return pl.sum_horizontal(level for level, own in zip(BOUGHT, SIGNS, strict=True) if own == sign)


def _rank_band(best: pl.Expr, ends: Sequence[int]) -> pl.Expr:
    starts = [1, *(end + 1 for end in ends[:-1])]
    bands = [
        pl.when(best <= end).then(pl.lit(f"{start}-{end}"))
        for start, end in zip(starts, ends, strict=True)
    ]
    return pl.coalesce(*bands, pl.lit(f"over {ends[-1]}"))


def _tfidf_band(ends: Sequence[float]) -> pl.Expr:
    tfidf = pl.col("tfidf")
    bands = [
        pl.when(tfidf <= end).then(pl.lit(f"{start:g}-{end:g}")) for start, end in pairwise(ends)
    ]
    below = pl.when(tfidf < ends[0]).then(pl.lit(f"below {ends[0]:g}"))
    over = pl.when(tfidf > ends[-1]).then(pl.lit(f"over {ends[-1]:g}"))
    return pl.coalesce(below, *bands, over, pl.lit("unknown"))
