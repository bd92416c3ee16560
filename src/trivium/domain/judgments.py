"""Human grades: what several raters agreed on."""

from __future__ import annotations

import polars as pl


def consensus(judgments: pl.DataFrame) -> pl.DataFrame:
    """One grade a pair: the median of its raters, halves rounded down.

    Args:
        judgments: Columns query_id, item_id, grade, and rater where there are several.

    Returns:
        Columns query_id, item_id, grade, sorted by the ids.
    """
    return (
        judgments.group_by("query_id", "item_id")
        .agg(pl.col("grade").median().floor().cast(pl.Int8))
        .sort("query_id", "item_id")
    )
