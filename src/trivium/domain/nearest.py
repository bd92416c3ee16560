"""Exact search among unit vectors, ties broken by (-score, item_id).

A matrix product proposes; every proposal is scored again by a sum whose order, and so whose
rounding, depends on its two vectors alone, for those of matrix products change with the number of
queries. The two differ by no more than rounding can explain, so everything within twice that of
the k-th best is proposed, and nothing that belongs among the k best is missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from trivium.domain.postings import Hits, compiled

Vectors = NDArray[np.float32]

_QUERIES = 512
_ROWS = 4096
_LANES = 64
_SPARE = 512
_LOW = np.int32(0x7FFFFFFF)
_ITEM = np.int64(0xFFFFFFFF)


@dataclass(frozen=True)
class VectorTable:
    """Unit vectors, and the items that each of them stands for.

    Items are numbered in the order of their ids, so that a tie broken by number is broken by id.

    Attributes:
        vectors: float32 (rows, dimension); may be mapped from a file, and is never copied.
        offsets: int64 (rows + 1,), where the items of each vector begin; it may have none.
        items: int64 (items,), ascending within a row.
    """

    vectors: Vectors
    offsets: NDArray[np.int64]
    items: NDArray[np.int64]

    @classmethod
    def of(cls, vectors: Vectors, rows: NDArray[np.int64]) -> VectorTable:
        """Join items to their vectors.

        Args:
            vectors: float32 (rows, dimension).
            rows: int64 (items,), the row of each item's vector, items in the order of their ids.
        """
        plain = np.ascontiguousarray(vectors, dtype=np.float32).view(np.ndarray)
        plain.flags.writeable = False  # kernels are compiled for one kind of array
        counts = np.bincount(rows, minlength=len(vectors))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(plain, offsets, np.argsort(rows, kind="stable").astype(np.int64))

    @property
    def used(self) -> NDArray[np.int64]:
        """Rows that stand for an item, in the order of the first item of each."""
        rows = np.flatnonzero(np.diff(self.offsets))
        return rows[np.argsort(self.items[self.offsets[rows]], kind="stable")]

    def nearest(self, queries: Vectors, k: int) -> Hits:
        """Find the k items with the largest inner product with each query, exactly.

        Args:
            queries: float32 (queries, dimension), unit vectors.
            k: Most items for a query.
        """
        k = min(k, len(self.items))
        if not k:
            return _no_hits(len(queries))
        parts = [self._pick(part, *self._propose(part, k), k) for part in _blocks(queries)]
        return _joined(parts)

    def rescored(self, queries: Vectors, proposed: NDArray[np.int64], k: int) -> Hits:
        """Find the k best items of those whose rows were proposed.

        Args:
            queries: float32 (queries, dimension), unit vectors.
            proposed: int64 (queries, proposals), different rows for a query; -1 is none.
            k: Most items for a query.
        """
        there = proposed >= 0
        firsts = np.argsort(~there, axis=1, kind="stable")
        rows = np.ascontiguousarray(np.take_along_axis(proposed, firsts, axis=1))
        sizes = there.sum(axis=1)
        return _joined([self._pick(_plain(queries), rows, sizes, k)])

    def scores(self, query: Vectors, positions: NDArray[np.int64]) -> Vectors:
        """Inner products of a query and some items, as searches give them."""
        row_of = np.empty(len(self.items), dtype=np.int64)
        row_of[self.items] = np.repeat(np.arange(len(self.vectors)), np.diff(self.offsets))
        made: Vectors = dots(_plain(query), self.vectors, row_of[positions])
        return made

    def _propose(self, queries: Vectors, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows that may belong to the k best, (queries, capacity), and how many; -1 is too many."""
        n, (rows, dimension) = len(queries), self.vectors.shape
        limit = min(rows, 2 * k + _SPARE)
        capacity = min(rows, limit + _ROWS)
        # A dot product of unit vectors is off by at most dimension * 2^-24 (Higham 2002, 3.1).
        slack = np.float32(4 * dimension * 2.0**-24)
        kept = np.empty((n, capacity), dtype=np.int64)
        kept_scores = np.empty((n, capacity), dtype=np.float32)
        sizes, bounds = np.zeros(n, dtype=np.int64), np.full(n, np.finfo(np.float32).min)
        products = np.empty((n, _ROWS), dtype=np.float32)
        for begin in range(0, rows, _ROWS):
            block = self.vectors[begin : begin + _ROWS]
            np.matmul(queries, block.T, out=products[:, : len(block)])
            products[:, len(block) :] = -np.inf
            _take(products, begin, self.offsets, kept_scores, kept, sizes, bounds)
            if sizes.max() > limit or begin + _ROWS >= rows:
                _drop(kept_scores, kept, sizes, bounds, k, slack)
                sizes[sizes > limit] = -1
        return kept, sizes

    def _pick(
        self, queries: Vectors, rows: NDArray[np.int64], sizes: NDArray[np.int64], k: int
    ) -> Hits:
        counts = np.zeros(len(queries), dtype=np.int64)
        keys = np.zeros((len(queries), k), dtype=np.int64)
        _rank(queries, self.vectors, self.offsets, self.items, rows, sizes, counts, keys)
        found = keys[np.arange(k)[None, :] < counts[:, None]]  # (hits,)
        rising = ~(found >> 32).astype(np.int32)
        bits = np.where(rising >= 0, rising, rising ^ _LOW)
        return Hits(counts, found & _ITEM, bits.view(np.float32))


def _plain(queries: Vectors) -> Vectors:
    plain = np.ascontiguousarray(queries, dtype=np.float32).view()
    plain.flags.writeable = False
    return plain


def _blocks(queries: Vectors) -> Iterator[Vectors]:
    for begin in range(0, len(queries), _QUERIES):
        yield _plain(queries[begin : begin + _QUERIES])


def _no_hits(queries: int) -> Hits:
    nothing = np.zeros(0, dtype=np.int64)
    return Hits(np.zeros(queries, dtype=np.int64), nothing, nothing.astype(np.float32))


def _joined(parts: list[Hits]) -> Hits:
    if not parts:
        return _no_hits(0)
    return Hits(
        np.concatenate([part.counts for part in parts]),
        np.concatenate([part.positions for part in parts]),
        np.concatenate([part.scores for part in parts]),
    )


def _take_block(
    products: Any, first: int, offsets: Any, kept_scores: Any, kept: Any, sizes: Any, bounds: Any
) -> None:
    """Add the rows of a block that are above each query's bound to what is kept for it."""
    for q in range(len(products)):
        size, bound, scores = sizes[q], bounds[q], products[q]
        for begin in range(0, _ROWS if size >= 0 else 0, _LANES):
            lanes, above = scores[begin : begin + _LANES], 0
            for lane in range(_LANES):  # most are beneath: look at all of them at once
                above += lanes[lane] >= bound
            for lane in range(_LANES if above else 0):
                row = first + begin + lane
                if lanes[lane] >= bound and offsets[row] < offsets[row + 1]:
                    kept_scores[q, size], kept[q, size] = lanes[lane], row
                    size += 1
        sizes[q] = size


def _bound_below(scores: Any, size: int, k: int) -> Any:
    """A number that at least k of the scores reach, as near the k-th best as halving comes."""
    low, high = scores[0], scores[0]
    for i in range(size):
        low, high = min(low, scores[i]), max(high, scores[i])
    while True:
        middle = np.float32((low + high) * np.float32(0.5))
        if middle <= low or middle >= high:
            return low
        reached = 0
        for i in range(size):
            reached += scores[i] >= middle
        if reached >= k:
            low = middle
        else:
            high = middle


def _drop_all(kept_scores: Any, kept: Any, sizes: Any, bounds: Any, k: int, slack: Any) -> None:
    """Raise each query's bound to just below the k-th best, and drop what is beneath it."""
    for q in range(len(kept)):
        if sizes[q] <= k:
            continue
        scores, rows = kept_scores[q], kept[q]
        bounds[q] = bound = bound_below(scores, sizes[q], k) - slack
        left = 0
        for i in range(sizes[q]):
            if scores[i] >= bound:
                scores[left], rows[left] = scores[i], rows[i]
                left += 1
        sizes[q] = left


def _dots(query: Any, vectors: Any, rows: Any) -> Any:
    scores = np.empty(len(rows), dtype=np.float32)
    for r in range(len(rows)):
        row, total = rows[r], np.float32(0)
        for i in range(len(query)):
            total += query[i] * vectors[row, i]
        scores[r] = total
    return scores


def _rank_all(
    queries: Any,
    vectors: Any,
    offsets: Any,
    items: Any,
    rows: Any,
    sizes: Any,
    counts: Any,
    best: Any,
) -> None:
    """Score rows exactly, and order their items by (-score, item), both in one whole number."""
    k = best.shape[1]
    for q in range(len(queries)):
        own = rows[q, : sizes[q]] if sizes[q] >= 0 else np.arange(len(vectors))
        scores = dots(queries[q], vectors, own) + np.float32(0)  # -0.0 becomes 0.0
        bits = scores.view(np.int32)
        total = 0
        for row in own:
            total += min(offsets[row + 1] - offsets[row], k)
        keys = np.empty(total, dtype=np.int64)
        at = 0
        for r in range(len(own)):
            # The bits of floats rise as they do; those of negative ones fall.
            rising = np.int64(bits[r] if bits[r] >= 0 else bits[r] ^ _LOW)
            first = offsets[own[r]]
            for p in range(first, min(offsets[own[r] + 1], first + k)):
                keys[at] = (~rising << 32) | items[p]
                at += 1
        keys.sort()
        counts[q] = min(k, total)
        best[q, : counts[q]] = keys[: counts[q]]


def _fast(function: Any) -> Any:
    """Machine code that may reorder a sum, in the same way for every call."""
    options: dict[str, Any] = {"nogil": True, "fastmath": {"reassoc", "contract"}}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder that the cache could be written to
        return numba.njit(**options)(function)


dots = _fast(_dots)
bound_below = compiled(_bound_below)
_take = compiled(_take_block)
_drop = compiled(_drop_all)
_rank = compiled(_rank_all)
