"""How alike two lists of results are: overlap coefficient, Jaccard index and rank-biased overlap.

| measure | of lists A and B down to a depth |
|---|---|
| overlap | |A and B| / min(|A|, |B|), the overlap coefficient |
| jaccard | |A and B| / |A or B| |
| rbo | rank-biased overlap, extrapolated, for lists of any lengths: RBO_EXT |

When both lists fill the depth, `overlap` is the share of one that the other has too, which is how
pairwise overlap of top-k sets is usually stated; when one is shorter, as lexical channels' lists
are for rare words, it does not take the missing results for disagreement. `jaccard` does. `rbo`
looks at the order too, at early ranks most; it is equation 32 of Webber, Moffat and Zobel, "A
similarity measure for indefinite rankings", TOIS 2010.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.foundation.tables import SEGMENTS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Ranks = NDArray[np.int32]

MEASURES = ("overlap", "jaccard", "rbo")
ALL = "all"
"""What tables call all queries, of whatever segment."""
UNIT = 1_000_000_000
"""Values are summed as so many whole parts of 1, so that a sum does not depend on its order."""


def persistence(depth: int) -> float:
    """The p of rank-biased overlap at a depth: 0.9 at 10, 0.99 at 100, 0.998 at 500.

    A reader who goes on from each rank with probability p reads 1 / (1 - p) ranks on average
    (Webber et al. 2010), here as many as the depth. At depth 1 every p gives the same value.
    """
    return 1 - 1 / max(depth, 2)


@dataclass(frozen=True)
class Likeness:
    """How alike two lists of each query are; every array is (queries,).

    Attributes:
        both: Items in both lists.
        a: Items in the first list.
        b: Items in the second.
        overlap: NaN where a list is empty.
        jaccard: NaN where a list is empty.
        rbo: NaN where a list is empty.
    """

    both: Ints
    a: Ints
    b: Ints
    overlap: Floats
    jaccard: Floats
    rbo: Floats


class Rankings:
    """Several lists for each of the same queries.

    Args:
        query: The query of each row, from 0, (rows,).
        ranks: Each list's rank of each row's item, from 1, or 0 where the list does not have it,
            (rows,). No two items of a query have the same rank in a list.
        queries: Number of queries.
    """

    def __init__(self, query: Ints, ranks: Mapping[str, Ranks], queries: int) -> None:
        self._query, self._ranks, self._queries = query, ranks, queries
        self._lists = {name: _List(query, own, queries) for name, own in ranks.items()}

    @classmethod
    def of(cls, table: pl.DataFrame, columns: Mapping[str, str], query_ids: pl.Series) -> Rankings:
        """Take lists from the columns of a table.

        Args:
            table: Column query_id, and columns of ranks, null where a list does not have an item.
            columns: Name of each list to its column.
            query_ids: The queries, each once; all that the table has, and others if need be.
        """
        codes = table["query_id"].cast(pl.Enum(query_ids)).to_physical()
        ranks = {
            name: table[column].fill_null(0).cast(pl.Int32).to_numpy()
            for name, column in columns.items()
        }
        return cls(codes.to_numpy().astype(np.int64), ranks, len(query_ids))

    def likeness(self, a: str, b: str, depths: Sequence[int]) -> list[Likeness]:
        """Compare two lists down to each depth."""
        rows = np.flatnonzero((self._ranks[a] > 0) & (self._ranks[b] > 0))
        later = np.maximum(self._ranks[a][rows], self._ranks[b][rows])
        query, lists = self._query[rows], (self._lists[a], self._lists[b])
        found = []
        for depth in depths:
            shown = later <= depth
            found.append(self._at(*lists, query[shown], later[shown], depth))
        return found

    def unchanged(self, a: str, b: str, depth: int) -> Bools:
        """Whether both lists of a query have the same items at the same ranks, (queries,)."""
        first, second = self._ranks[a], self._ranks[b]
        seen = ((first > 0) & (first <= depth)) | ((second > 0) & (second <= depth))
        moved = self._query[seen & (first != second)]
        return np.asarray(np.bincount(moved, minlength=self._queries) == 0)

    def _at(self, a: _List, b: _List, query: Ints, later: Ranks, depth: int) -> Likeness:
        count_a, count_b = a.count(depth), b.count(depth)
        both = np.bincount(query, minlength=self._queries)
        empty = (count_a == 0) | (count_b == 0)
        lengths = np.minimum(a.last, depth), np.minimum(b.last, depth)
        values = (
            _quotient(both, np.minimum(count_a, count_b)),
            _quotient(both, count_a + count_b - both),
            _rbo(query, later, np.minimum(*lengths), np.maximum(*lengths), persistence(depth)),
        )
        overlap, jaccard, rbo = (np.where(empty, np.nan, value) for value in values)
        return Likeness(both, count_a, count_b, overlap, jaccard, rbo)


class _List:
    """The ranks of one list, by query."""

    def __init__(self, query: Ints, ranks: Ranks, queries: int) -> None:
        rows = np.flatnonzero(ranks)
        self._query, self._ranks, self._queries = query[rows], ranks[rows], queries
        self.last = np.zeros(queries, dtype=np.int64)
        """Deepest rank of each query, (queries,)."""
        np.maximum.at(self.last, self._query, self._ranks)

    def count(self, depth: int) -> Ints:
        """Items of each query down to a depth, (queries,)."""
        return np.bincount(self._query[self._ranks <= depth], minlength=self._queries)


def by_segment(segments: Sequence[str | None]) -> dict[str, Bools]:
    """Which queries are in each segment that some are in, (queries,); `ALL` first."""
    of = np.array([segment or "" for segment in segments], dtype=str)
    named = {segment: of == segment for segment in SEGMENTS}
    every = {ALL: np.ones(len(of), dtype=bool)}
    return every | {segment: rows for segment, rows in named.items() if rows.any()}


def whole(values: Floats) -> int:
    """The sum of values between -1 and 1 in parts of `UNIT`."""
    return int(np.rint(values * UNIT).astype(np.int64).sum())


def segment_order() -> pl.Expr:
    """What to sort a table with a column `segment` by."""
    order = {name: at for at, name in enumerate((ALL, *SEGMENTS))}
    return pl.col("segment").replace_strict(order, return_dtype=pl.Int8)


def _rbo(query: Ints, later: Ranks, s: Ints, l: Ints, p: float) -> Floats:  # noqa: E741
    """RBO_EXT of lists of lengths s <= l, (queries,); what it is where s is 0 means nothing.

    With X_d the items shared by the first d ranks, and T(n) = p^1/1 + ... + p^n/n, an item that
    both lists have by rank m counts in X_m, X_m+1, ..., X_l, so that the sum of p^d X_d/d down to l
    is the sum of T(l) - T(m - 1) over the shared items.

    Args:
        query: The query of each shared item, (items,).
        later: The rank by which both lists have it, m, (items,).
        s: Length of the shorter list, (queries,).
        l: Length of the longer list, (queries,).
        p: Persistence.
    """
    d = np.arange(1, int(l.max(initial=0)) + 1)
    powers = np.concatenate([[0.0], np.cumsum(p**d)])
    t = np.concatenate([[0.0], np.cumsum(p**d / d)])
    x_l = np.bincount(query, minlength=len(s))
    x_s = np.bincount(query[later <= s[query]], minlength=len(s))
    seen = x_l * t[l] - np.bincount(query, t[later - 1], minlength=len(s))
    share = _quotient(x_s, s)  # of the shorter list
    beyond = share * (powers[l] - powers[s]) - x_s * (t[l] - t[s])
    last = _quotient(x_l - x_s, l) + share
    return np.asarray((1 - p) / p * (seen + beyond) + last * p**l)


def _quotient(top: Ints, bottom: Ints) -> Floats:
    return np.asarray(top / np.maximum(bottom, 1))
