"""An inverted index with exact top-k search, and the runs table that any search ends in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.foundation.tables import RUNS


@dataclass(frozen=True)
class Hits:
    """What a search found, queries one after the other, each best first.

    Attributes:
        counts: int64 (queries,), items found for each query.
        positions: int64 (hits,), rows of the catalog.
        scores: float32 (hits,).
    """

    counts: NDArray[np.int64]
    positions: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Postings:
    """For each term the items that hold it, with a positive weight each.

    Items are numbered in the order of their ids, so that a tie broken by number is broken by id.

    Attributes:
        offsets: int64 (terms + 1,), where each term's items begin.
        items: int32 (postings,), ascending within a term.
        weights: float32 (postings,), above 0.
        n_items: Items in the catalog.
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    weights: NDArray[np.float32]
    n_items: int

    def search(
        self,
        offsets: NDArray[np.int64],
        terms: NDArray[np.int32],
        weights: NDArray[np.float32],
        k: int,
    ) -> Hits:
        """Find each query's k items with the largest sum of query weight x item weight.

        Ties at the cut-off are broken exactly: among equal scores the first ids are kept. Items
        that share no term with the query are never returned.

        Args:
            offsets: int64 (queries + 1,), where each query's terms begin.
            terms: int32, the queries' terms.
            weights: float32, a positive weight for each of them.
            k: Most items for a query.
        """
        k = min(k, self.n_items)
        index = (self.offsets, self.items, self.weights, self.n_items)
        counts, positions, scores = _search(*index, offsets, terms, weights, k)
        kept = np.arange(k)[None, :] < counts[:, None]  # (queries, k)
        return Hits(counts, positions[kept], scores[kept])


def runs_table(
    channel: str, query_ids: pl.Series, hits: Hits, item_ids: NDArray[Any] | pl.Series
) -> pl.DataFrame:
    """Write hits as a runs table (`tables.RUNS`), queries in the order given."""
    starts = np.cumsum(hits.counts) - hits.counts
    ranks = np.arange(len(hits.positions)) - np.repeat(starts, hits.counts) + 1
    rows = np.repeat(np.arange(len(hits.counts)), hits.counts)
    return pl.DataFrame(
        {
            "query_id": query_ids.gather(rows),
            "item_id": pl.Series(item_ids).gather(hits.positions),
            "channel": pl.repeat(channel, len(rows), dtype=pl.String, eager=True),
            "rank": ranks,
            "score": hits.scores,
        },
        schema=dict(RUNS.columns),
    )


def _accumulate(
    offsets: Any, items: Any, weights: Any, terms: Any, term_weights: Any, scores: Any, touched: Any
) -> int:
    found = 0
    for t in range(len(terms)):
        weight = term_weights[t]
        for p in range(offsets[terms[t]], offsets[terms[t] + 1]):
            item = items[p]
            if scores[item] == 0.0:
                touched[found] = item
                found += 1
            scores[item] += weight * weights[p]
    return found


def _best(scores: Any, touched: Any, k: int) -> Any:
    """The k best of the touched items, ordered by (-score, item)."""
    if len(touched) > k:
        values = scores[touched]
        cut = np.partition(values, len(values) - k)[len(values) - k]
        above = touched[values > cut]
        level = np.sort(touched[values == cut])[: k - len(above)]
        touched = np.concatenate((above, level))
    chosen = np.sort(touched)
    return chosen[np.argsort(-scores[chosen], kind="mergesort")]


def _search_all(
    offsets: Any,
    items: Any,
    weights: Any,
    n_items: int,
    query_offsets: Any,
    terms: Any,
    term_weights: Any,
    k: int,
) -> Any:
    n = len(query_offsets) - 1
    counts = np.zeros(n, dtype=np.int64)
    positions = np.zeros((n, k), dtype=np.int64)
    best_scores = np.zeros((n, k), dtype=np.float32)
    scores = np.zeros(n_items, dtype=np.float32)
    touched = np.empty(n_items, dtype=np.int64)
    for q in range(n):
        begin, end = query_offsets[q], query_offsets[q + 1]
        found = accumulate(
            offsets, items, weights, terms[begin:end], term_weights[begin:end], scores, touched
        )
        chosen = best(scores, touched[:found], k)
        counts[q] = len(chosen)
        positions[q, : len(chosen)] = chosen
        best_scores[q, : len(chosen)] = scores[chosen]
        scores[touched[:found]] = 0.0
    return counts, positions, best_scores


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as machine code, kept between processes where there is a folder for it."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder that the cache could be written to
        return numba.njit(nogil=True)(function)


accumulate = compiled(_accumulate)
best = compiled(_best)
_search = compiled(_search_all)
