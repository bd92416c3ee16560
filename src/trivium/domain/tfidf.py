"""TF-IDF cosine of queries and items, and items that share words with a query by chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.domain.band_search import pair_products, sample_band
from trivium.domain.postings import Postings
from trivium.domain.sampling import hash_strings

_Flat: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]
_PAIR = {"query_id": pl.String, "item_id": pl.String}


class CatalogTfidf:
    """TF-IDF fitted on a catalog: scikit-learn's defaults (smooth idf, unit length) in float32.

    Args:
        items: Columns item_id and text.
        analyzer: Splits a text into words.
    """

    def __init__(self, items: pl.DataFrame, analyzer: Callable[[str], list[str]]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        items = items.select("item_id", pl.col("text").fill_null("")).sort("item_id")
        self._item_ids = items["item_id"]
        self._position = items.select("item_id", item=pl.int_range(pl.len(), dtype=pl.Int64))
        self._texts: _Flat | None
        self._keys: dict[int, NDArray[np.uint64]] = {}
        self._vectorizer = TfidfVectorizer(analyzer=analyzer, dtype=np.float32)
        try:
            vectors = self._vectorizer.fit_transform(items["text"].to_list())
        except ValueError:  # not one word in the whole catalog
            self._texts = None
            return
        self._texts = _flat(vectors)
        self._by_word = Postings(*_flat(vectors.T.tocsr()), len(self._item_ids))

    def cosines(self, queries: pl.DataFrame, pairs: pl.DataFrame) -> pl.Series:
        """Cosine between query and item of given pairs.

        Args:
            queries: Columns query_id and text.
            pairs: Columns query_id and item_id, of these queries and of the catalog.

        Returns:
            Float32 in [0, 1], in the order of the pairs.
        """
        if self._texts is None or not pairs.height:
            return pl.Series("tfidf", np.zeros(pairs.height, dtype=np.float32))
        rows = (
            self._numbered(queries, pairs).with_row_index("row").sort("query", maintain_order=True)
        )
        products = pair_products(
            self._texts,
            _flat(self._vectorizer.transform(queries["text"].to_list())),
            (rows["query"].to_numpy(), rows["item"].to_numpy()),
            len(self._vectorizer.vocabulary_),
        )
        cosines = np.empty(pairs.height, dtype=np.float32)
        cosines[rows["row"].to_numpy()] = np.clip(products, 0.0, 1.0)
        return pl.Series("tfidf", cosines)

    def token_similar(
        self,
        queries: pl.DataFrame,
        retrieved: pl.DataFrame,
        *,
        n: int,
        low: float,
        high: float,
        seed: int,
    ) -> pl.DataFrame:
        """Sample items that share words with a query though nothing retrieved them for it.

        The band is cut into eight equal widths, which give items in turn until they are empty, so
        that the sample covers the band and not only its crowded low end. Which items, depends on
        the seed, the query's id and the items' ids alone.

        Args:
            queries: Columns query_id and text.
            retrieved: Columns query_id and item_id of pairs to leave out.
            n: Most items for a query.
            low: Lowest cosine, inclusive.
            high: Highest cosine, inclusive.
            seed: Of the sample.

        Returns:
            Columns query_id, item_id, tfidf, sorted by query_id and item_id.
        """
        empty = pl.DataFrame(schema=_PAIR | {"tfidf": pl.Float32})
        if self._texts is None or n == 0 or not queries.height:
            return empty
        pairs = self._numbered(queries, retrieved).drop_nulls("query").sort("query")
        starts = np.searchsorted(pairs["query"].to_numpy(), np.arange(queries.height + 1))
        query, item, cosines = sample_band(
            self._by_word,
            _flat(self._vectorizer.transform(queries["text"].to_list())),
            (starts, pairs["item"].to_numpy()),
            (hash_strings(queries["query_id"].to_list(), seed), self._item_keys(seed)),
            (low, high),
            n,
        )
        found = {
            "query_id": queries["query_id"].gather(query),
            "item_id": self._item_ids.gather(item),
            "tfidf": cosines,
        }
        return pl.DataFrame(found, schema=empty.schema).sort("query_id", "item_id")

    def _item_keys(self, seed: int) -> NDArray[np.uint64]:
        if seed not in self._keys:
            self._keys[seed] = hash_strings(self._item_ids.to_list(), seed)
        return self._keys[seed]

    def _numbered(self, queries: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
        """Rows of the queries and of the catalog for pairs of ids, in the order of the pairs."""
        numbers = queries.select("query_id", query=pl.int_range(pl.len(), dtype=pl.Int64))
        return (
            pairs.select("query_id", "item_id")
            .join(numbers, on="query_id", how="left", maintain_order="left")
            .join(self._position, on="item_id", how="left", maintain_order="left")
            .select("query", "item")
        )


def _flat(vectors: Any) -> _Flat:
    """Where each row of a sparse matrix begins, its columns and values."""
    return vectors.indptr.astype(np.int64), vectors.indices.astype(np.int32), vectors.data
