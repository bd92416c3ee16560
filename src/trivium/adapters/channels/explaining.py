"""What explanations are made of: their tables, and the shares of scores that postings gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.domain.postings import Postings

STEPS: Mapping[str, type[pl.DataType]] = {
    "part": pl.String,
    "became": pl.String,
    "weight": pl.Float32,
    "why": pl.String,
}
MATCHES: Mapping[str, type[pl.DataType]] = {
    "item_id": pl.String,
    "part": pl.String,
    "score": pl.Float32,
}
Terms: TypeAlias = Sequence[tuple[str, int, float]]
"""What was searched: what it is called, its number in the postings and its weight."""


def matches(
    postings: Postings, terms: Terms, item_ids: pl.Series, asked: Sequence[str]
) -> pl.DataFrame:
    """What each term gave of the score of some items.

    Args:
        postings: What was searched.
        terms: With what.
        item_ids: The catalog's, in the order of the postings.
        asked: The items; one that the catalog does not have has no rows.

    Returns:
        As `Explanation.matches`.
    """
    numbered = item_ids.alias("item_id").to_frame().with_row_index("position")
    wanted = pl.DataFrame({"item_id": asked}, schema={"item_id": pl.String}).with_row_index("at")
    known = wanted.join(numbered, on="item_id", maintain_order="left")
    positions = known["position"].to_numpy()
    shares = [
        known.select("at", "item_id").with_columns(
            part=pl.lit(name), score=_shares(postings, term, positions) * np.float32(weight)
        )
        for name, term, weight in terms
    ]
    if not shares:
        return pl.DataFrame(schema=MATCHES)
    ordered = pl.concat(shares).filter(pl.col("score") > 0)
    ordered = ordered.sort("at", "score", "part", descending=[False, True, False])
    return ordered.select(pl.col(name).cast(dtype) for name, dtype in MATCHES.items())


def _shares(postings: Postings, term: int, positions: NDArray[np.uint32]) -> NDArray[np.float32]:
    span = slice(postings.offsets[term], postings.offsets[term + 1])
    items, weights = postings.items[span], postings.weights[span]
    if not len(items):
        return np.zeros(len(positions), dtype=np.float32)
    inside = np.minimum(np.searchsorted(items, positions), len(items) - 1)
    return np.where(items[inside] == positions, weights[inside], np.float32(0))
