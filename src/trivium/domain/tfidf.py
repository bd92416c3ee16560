"""TF-IDF cosine of queries and items, and items that share words with a query by chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.domain.band_search import sample_band
from trivium.domain.ids import Ids
from trivium.domain.postings import Postings
from trivium.domain.sampling import hash_strings

_Flat: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]


@dataclass(frozen=True)
class Beside:
    """Cosines of queries and items.

    Attributes:
        cosines: Of the retrieved pairs, float32 in [0, 1] in their order.
        similar: Row of the query, number of the item and cosine of the pairs sampled from the
            others.
    """

    cosines: NDArray[np.float32]
    similar: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]


class CatalogTfidf:
    """TF-IDF fitted on a catalog: scikit-learn's defaults (smooth idf, unit length) in float32.

    Args:
        items: Columns item_id and text.
        analyzer: Splits a text into words.

    Attributes:
        items: The catalog's ids, which number the items.
    """

    def __init__(self, items: pl.DataFrame, analyzer: Callable[[str], list[str]]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        items = items.select("item_id", pl.col("text").fill_null("")).sort("item_id")
        self.items = Ids(items["item_id"])
        self._keys: dict[int, NDArray[np.uint64]] = {}
        self._vectorizer = TfidfVectorizer(analyzer=analyzer, dtype=np.float32)
        self._by_word: Postings | None = None
        try:
            vectors = self._vectorizer.fit_transform(items["text"].to_list())
        except ValueError:  # not one word in the whole catalog
            return
        self._by_word = Postings(*_flat(vectors.T.tocsr()), len(self.items))

    def beside(
        self,
        queries: pl.DataFrame,
        retrieved: tuple[NDArray[np.int64], NDArray[np.int64]],
        *,
        n: int,
        low: float,
        high: float,
        seed: int,
    ) -> Beside:
        """Compare queries with what was retrieved for them, and with items that were not.

        Of the items whose cosine lies in a band, some are sampled: the band is cut into eight
        equal widths, which give items in turn until they are empty, so that the sample covers the
        band and not only its crowded low end. Which items, depends on the seed, the query's id and
        the items' ids alone.

        Args:
            queries: Columns query_id and text.
            retrieved: Rows of the queries, ascending, and numbers of the items, as in `items`.
            n: Most items for a query.
            low: Lowest cosine, inclusive.
            high: Highest cosine, inclusive.
            seed: Of the sample.
        """
        query, item = retrieved
        if self._by_word is None or not queries.height:
            nothing = np.zeros(0, dtype=np.int64)
            return Beside(
                np.zeros(len(query), np.float32), (nothing, nothing, nothing.astype(np.float32))
            )
        cosines, similar = sample_band(
            self._by_word,
            _flat(self._vectorizer.transform(queries["text"].fill_null("").to_list())),
            (np.searchsorted(query, np.arange(queries.height + 1)), item),
            (hash_strings(queries["query_id"].to_list(), seed), self._item_keys(seed)),
            (low, high),
            n,
        )
        return Beside(cosines, similar)

    def _item_keys(self, seed: int) -> NDArray[np.uint64]:
        if seed not in self._keys:
            self._keys[seed] = hash_strings(self.items.ids.to_list(), seed)
        return self._keys[seed]


def _flat(vectors: Any) -> _Flat:
    """Where each row of a sparse matrix begins, its columns and values."""
    return vectors.indptr.astype(np.int64), vectors.indices.astype(np.int32), vectors.data
