"""TF-IDF cosine of queries and items, and items that share words with a query by chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.domain.sampling import hash_strings

_CELLS = 1 << 22
_BINS = 8
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
        self._keys: dict[int, NDArray[np.uint64]] = {}
        self._vectorizer = TfidfVectorizer(analyzer=analyzer, dtype=np.float32)
        try:
            self._items = self._vectorizer.fit_transform(items["text"].to_list())
        except ValueError:  # not one word in the whole catalog
            self._items = None
        self._by_word = None if self._items is None else self._items.T.tocsr()

    def cosines(self, queries: pl.DataFrame, pairs: pl.DataFrame) -> pl.Series:
        """Cosine between query and item of given pairs.

        Args:
            queries: Columns query_id and text.
            pairs: Columns query_id and item_id, of these queries and of the catalog.

        Returns:
            Float32 in [0, 1], in the order of the pairs.
        """
        if self._items is None or not pairs.height:
            return pl.Series("tfidf", np.zeros(pairs.height, dtype=np.float32))
        rows = self._numbered(queries, pairs)
        vectors = self._vectorizer.transform(queries["text"].to_list())
        words = vectors[rows["query"].to_numpy()].multiply(self._items[rows["item"].to_numpy()])
        cosines = np.asarray(words.sum(axis=1), dtype=np.float32).ravel()
        return pl.Series("tfidf", np.clip(cosines, 0.0, 1.0))

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
        if self._items is None or n == 0 or not queries.height:
            return empty
        excluded = self._numbered(queries, retrieved)
        keys = hash_strings(queries["query_id"].to_list(), seed)
        item_keys = self._item_keys(seed)
        parts = [empty]
        for begin, cosines in self._chunks(queries):
            inside = excluded.filter(pl.col("query").is_between(begin, begin + len(cosines) - 1))
            cosines[inside["query"].to_numpy() - begin, inside["item"].to_numpy()] = -1.0
            query, item = np.nonzero((cosines >= low) & (cosines <= high) & (cosines > 0.0))
            bins = ((cosines[query, item] - low) / max(high - low, 1e-9) * _BINS).astype(np.int64)
            order = keys[begin + query] ^ item_keys[item]
            chosen = _in_turn(query, np.minimum(bins, _BINS - 1), order, n)
            query, item = query[chosen], item[chosen]
            parts.append(
                pl.DataFrame(
                    {
                        "query_id": queries["query_id"].gather(begin + query),
                        "item_id": self._item_ids.gather(item),
                        "tfidf": cosines[query, item],
                    },
                    schema=empty.schema,
                )
            )
        return pl.concat(parts).sort("query_id", "item_id")

    def _item_keys(self, seed: int) -> NDArray[np.uint64]:
        if seed not in self._keys:
            self._keys[seed] = hash_strings(self._item_ids.to_list(), seed)
        return self._keys[seed]

    def _chunks(self, queries: pl.DataFrame) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Cosines of some queries with every item: the first query's row, (queries, items)."""
        vectors: Any = self._vectorizer.transform(queries["text"].to_list())
        step = max(1, _CELLS // len(self._item_ids))
        for begin in range(0, queries.height, step):
            yield begin, (vectors[begin : begin + step] @ self._by_word).toarray()

    def _numbered(self, queries: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
        """Rows of the queries and of the catalog for pairs of ids, in the order of the pairs."""
        numbers = queries.select("query_id", query=pl.int_range(pl.len(), dtype=pl.Int64))
        return (
            pairs.select("query_id", "item_id")
            .join(numbers, on="query_id", how="left", maintain_order="left")
            .join(self._position, on="item_id", how="left", maintain_order="left")
            .select("query", "item")
        )


def _in_turn(
    query: NDArray[np.int64], bins: NDArray[np.int64], order: NDArray[np.uint64], n: int
) -> NDArray[np.int64]:
    """Rows of the first n items of each query, its bins giving their items in turn."""
    table = pl.DataFrame({"query": query, "bin": bins, "order": order})
    turn = pl.col("order").rank("ordinal").over("query", "bin")
    place = pl.struct("turn", "order").rank("ordinal").over("query")
    placed = table.with_columns(turn=turn).with_columns(place=place)
    return np.flatnonzero((placed["place"] <= n).to_numpy())
