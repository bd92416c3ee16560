"""Exact search among the vectors of a catalog."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.domain.nearest import Vectors, VectorTable


class FlatIndex:
    """Exact inner-product search, ties broken by (-score, item_id); see `domain.nearest`.

    Args:
        item_vectors: float32 (items, dimension), unit vectors; not copied.
        item_ids: The items' ids, in the same order, which may be any.
    """

    def __init__(self, item_vectors: Vectors, item_ids: Sequence[str] | pl.Series) -> None:
        self._order = pl.Series(item_ids, dtype=pl.String).arg_sort().to_numpy().astype(np.int64)
        self._table = VectorTable.of(item_vectors, self._order)

    def search(self, query_vectors: Vectors, k: int) -> tuple[Vectors, NDArray[np.int64]]:
        """Find the k items of the largest inner product with each query.

        Returns:
            Scores, float32, and positions in the catalog as it was given, int64, both of shape
            (queries, min(k, items)).
        """
        shape = len(query_vectors), min(k, len(self._order))
        hits = self._table.nearest(query_vectors, k)
        return hits.scores.reshape(shape), self._order[hits.positions].reshape(shape)


def search(
    query_vectors: Vectors, item_vectors: Vectors, item_ids: Sequence[str] | pl.Series, k: int
) -> tuple[Vectors, NDArray[np.int64]]:
    """Search once; see `FlatIndex`, which a caller that searches again should keep."""
    return FlatIndex(item_vectors, item_ids).search(query_vectors, k)
