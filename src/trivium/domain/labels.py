"""What a label says about a pair, whichever judge settled it."""

from __future__ import annotations

import polars as pl

_PREFIX = "p_"


def settled(labels: pl.DataFrame) -> pl.DataFrame:
    """Reduce labels to the settling judge's word.

    Args:
        labels: A labels table with `p_<judge>` for one judge or more.

    Returns:
        Columns query_id, item_id, grade, p_relevant = P(grade >= 3), p_irrelevant = P(grade <= 1).
    """
    judges = [c.removeprefix(_PREFIX) for c in labels.columns if c.startswith(_PREFIX)]
    settling = pl.coalesce(
        [pl.when(pl.col("judge") == judge).then(pl.col(_PREFIX + judge)) for judge in judges]
    )
    return labels.select(
        "query_id",
        "item_id",
        "grade",
        (settling.arr.get(3) + settling.arr.get(4)).alias("p_relevant"),
        (settling.arr.get(0) + settling.arr.get(1)).alias("p_irrelevant"),
    )
