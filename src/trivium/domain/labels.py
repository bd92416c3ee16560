"""What a label says about a pair, whichever judge settled it."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from trivium.domain.cascade import VOTE
from trivium.foundation.tables import GRADES

_PREFIX = "p_"


def settled(labels: pl.DataFrame) -> pl.DataFrame:
    """Reduce labels to the word of the judge that settled them, or of the judges that voted.

    Args:
        labels: A labels table with `p_<judge>` for one judge or more.

    Returns:
        Columns query_id, item_id, grade, p_relevant = P(grade >= 3), p_irrelevant = P(grade <= 1),
        expected_grade and confidence; of a vote, the mean over the judges that answered.
    """
    judges = [c.removeprefix(_PREFIX) for c in labels.columns if c.startswith(_PREFIX)]
    return labels.select(
        "query_id",
        "item_id",
        "grade",
        _of_settling(judges, {3: 1, 4: 1}).alias("p_relevant"),
        _of_settling(judges, {0: 1, 1: 1}).alias("p_irrelevant"),
        _of_settling(judges, {grade: grade for grade in GRADES}).alias("expected_grade"),
        "confidence",
    )


def _of_settling(judges: list[str], weights: Mapping[int, int]) -> pl.Expr:
    """The grades' weights, expected by the judge that settled a pair."""
    stated = {
        judge: pl.sum_horizontal(
            pl.col(_PREFIX + judge).arr.get(grade) * pl.lit(weight, pl.Float32)
            for grade, weight in weights.items()
        )
        for judge in judges
    }
    own = [pl.when(pl.col("judge") == judge).then(value) for judge, value in stated.items()]
    by_vote = pl.when(pl.col("judge") == VOTE).then(pl.mean_horizontal(stated.values()))
    return pl.coalesce(*own, by_vote)
