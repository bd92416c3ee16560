"""What a label says about a pair, whichever judge settled it."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from trivium.domain.cascade import VOTE
from trivium.foundation.tables import GRADES

_PREFIX = "p_"
_WEIGHTS: Mapping[str, Mapping[int, int]] = {
    "p_relevant": {3: 1, 4: 1},
    "p_irrelevant": {0: 1, 1: 1},
    "expected_grade": {grade: grade for grade in GRADES},
}


def settled(labels: pl.DataFrame) -> pl.DataFrame:
    """Reduce labels to the word of the judge that settled them, or of the judges that voted.

    Args:
        labels: A labels table with `p_<judge>` for one judge or more.

    Returns:
        Columns query_id, item_id, grade, p_relevant = P(grade >= 3), p_irrelevant = P(grade <= 1),
        expected_grade and confidence; of a vote, the mean over the judges that answered.
    """
    judges = [c.removeprefix(_PREFIX) for c in labels.columns if c.startswith(_PREFIX)]
    said = (_of_settling(judges, weights).alias(name) for name, weights in _WEIGHTS.items())
    return labels.select("query_id", "item_id", "grade", *said, "confidence")


def replayed(pairs: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    """The same of pairs that a cascade settled without labelling them.

    Args:
        pairs: Columns query_id and item_id.
        table: What the cascade made of them (`Settling.table`), row by row.

    Returns:
        The columns of `settled`, without the pairs that no judge answered.
    """
    whole = pl.concat([pairs.select("query_id", "item_id"), table], how="horizontal")
    stated = pl.col("probabilities")
    said = (_expected(stated, weights).alias(name) for name, weights in _WEIGHTS.items())
    answered = whole.filter(pl.col("grade").is_not_null())
    return answered.select("query_id", "item_id", "grade", *said, "confidence")


def _of_settling(judges: list[str], weights: Mapping[int, int]) -> pl.Expr:
    """The grades' weights, expected by the judge that settled a pair."""
    stated = {judge: _expected(pl.col(_PREFIX + judge), weights) for judge in judges}
    own = [pl.when(pl.col("judge") == judge).then(value) for judge, value in stated.items()]
    by_vote = pl.when(pl.col("judge") == VOTE).then(pl.mean_horizontal(stated.values()))
    return pl.coalesce(*own, by_vote)


def _expected(probabilities: pl.Expr, weights: Mapping[int, int]) -> pl.Expr:
    """The weights expected under five probabilities; null where there are none."""
    parts = [
        probabilities.arr.get(grade) * pl.lit(weight, pl.Float32)
        for grade, weight in weights.items()
    ]
    return pl.sum_horizontal(parts, ignore_nulls=False)
