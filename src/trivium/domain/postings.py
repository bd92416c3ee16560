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

BLOCK = 1 << 15
"""Items whose scores are held at once; a multiple of GROUP."""
GROUP = 32
FEW = 25
"""A search goes item by item where its terms are held less than one time for so many items."""
MOST_BITS = 2**31 - 1
"""A key is a score's bits taken from these, then the item: its order is (-score, item)."""


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


def _cut(keys: Any, count: int, k: int) -> Any:
    """Keep the k smallest of the first `count` keys, in any order, and return the largest kept."""
    keys[:k] = np.partition(keys[:count], k - 1)[:k]
    return keys[k - 1]


def _of_few(
    offsets: Any,
    items: Any,
    weights: Any,
    terms: Any,
    term_weights: Any,
    scores: Any,
    touched: Any,
    keys: Any,
    k: int,
) -> int:
    """Keys of the k best and some others, item by item: for terms that few items hold."""
    found = accumulate(offsets, items, weights, terms, term_weights, scores, touched)
    bits = scores.view(np.int32)
    count, last = 0, np.int64(2**63 - 1)
    for item in touched[:found]:
        key = (MOST_BITS - np.int64(bits[item])) << 32 | item
        scores[item] = 0.0
        if key < last:
            if count == len(keys):
                last = cut(keys, count, k)
                count = k
            keys[count] = key
            count += 1
    return count


def _scan(block: Any, begin: Any, keys: Any, count: Any, floor: Any, k: Any) -> Any:
    """Add the keys of a block's scores above the floor; the count, and the floor from here on.

    The floor is the k-th best score so far: an equal one comes later and so loses. A group is
    passed over when its best is no better.
    """
    bits = block.view(np.int32)
    for group in range(0, BLOCK, GROUP):
        most = bits[group]
        for i in range(group, group + GROUP):
            most = max(most, bits[i])
        if most <= floor:
            continue
        for i in range(group, group + GROUP):
            if bits[i] > floor:
                keys[count] = (MOST_BITS - np.int64(bits[i])) << 32 | (begin + i)
                count += 1
        if count > len(keys) - GROUP:
            floor = np.int32(MOST_BITS - (cut(keys, count, k) >> 32))
            count = k
    return count, floor


def _of_many(
    offsets: Any,
    items: Any,
    weights: Any,
    n_items: int,
    terms: Any,
    term_weights: Any,
    block: Any,
    keys: Any,
    k: int,
) -> int:
    """Keys of the k best and some others, a block of the catalog at a time.

    A block's scores stay in the processor's cache.
    """
    at = offsets[terms].copy()
    count, floor = 0, np.int32(0)
    for begin in range(0, n_items, BLOCK):
        end = min(begin + BLOCK, n_items)
        for t in range(len(terms)):
            stop = offsets[terms[t] + 1]
            last = at[t] + np.searchsorted(items[at[t] : stop], end)
            for p in range(at[t], last):
                block[items[p] - begin] += term_weights[t] * weights[p]
            at[t] = last
        count, floor = scan(block, begin, keys, count, floor, k)
        block[:] = 0.0
    return count


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
    bits = best_scores.view(np.int32)
    scores = np.zeros(n_items, dtype=np.float32)
    touched = np.empty(n_items // FEW + 1, dtype=np.int64)
    block = np.zeros(BLOCK, dtype=np.float32)
    keys = np.empty(4 * k + GROUP, dtype=np.int64)
    for q in range(n):
        own = terms[query_offsets[q] : query_offsets[q + 1]]
        given = term_weights[query_offsets[q] : query_offsets[q + 1]]
        if np.sum(offsets[own + 1] - offsets[own]) * FEW < n_items:
            count = of_few(offsets, items, weights, own, given, scores, touched, keys, k)
        else:
            count = of_many(offsets, items, weights, n_items, own, given, block, keys, k)
        if count > k:
            cut(keys, count, k)
            count = k
        best = np.sort(keys[:count])
        counts[q] = count
        for rank in range(count):
            positions[q, rank] = best[rank] & 0xFFFFFFFF
            bits[q, rank] = MOST_BITS - (best[rank] >> 32)
    return counts, positions, best_scores


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as machine code, kept between processes where there is a folder for it."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder that the cache could be written to
        return numba.njit(nogil=True)(function)


accumulate = compiled(_accumulate)
cut = compiled(_cut)
of_few = compiled(_of_few)
scan = compiled(_scan)
of_many = compiled(_of_many)
_search = compiled(_search_all)
