"""Human grades: what several raters agreed on."""

from __future__ import annotations

import polars as pl


def middle_grade(column: str = "grade") -> pl.Expr:
    """The median of a group's grades, halves rounded down."""
    return pl.col(column).median().floor().cast(pl.Int8)


def consensus(judgments: pl.DataFrame) -> pl.DataFrame:
    """One grade a pair: the median of its raters, halves rounded down.

    Args:
        judgments: Columns query_id, item_id, grade, and rater where there are several.

    Returns:
        Columns query_id, item_id, grade, sorted by the ids.
    """
    return judgments.group_by("query_id", "item_id").agg(middle_grade()).sort("query_id", "item_id")
