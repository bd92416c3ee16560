"""Pairs that channels found: one row a pair, with the rank and score of each channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.domain.ids import Ids
from trivium.foundation.errors import InputError
from trivium.foundation.tables import RUNS, candidates_schema, validate


@dataclass(frozen=True)
class FoundPairs:
    """What channels found, by number, sorted by query and item.

    Attributes:
        queries: The queries' ids.
        items: The catalog's ids.
        keys: int64 (pairs,), number of the query x items + number of the item, ascending.
        found: For each channel whether it found the pair, bool (pairs,).
        ranks: For each channel int32 (pairs,), 0 where it did not.
        scores: For each channel float32 (pairs,), 0 where it did not.
    """

    queries: Ids
    items: Ids
    keys: NDArray[np.int64]
    found: Mapping[str, NDArray[np.bool_]]
    ranks: Mapping[str, NDArray[np.int32]]
    scores: Mapping[str, NDArray[np.float32]]

    @classmethod
    def of(cls, runs: Mapping[str, pl.DataFrame], queries: Ids, items: Ids) -> FoundPairs:
        """Put the runs of channels (`tables.RUNS`) together.

        Args:
            runs: What each channel found.
            queries: The ids that were asked.
            items: The catalog's.

        Raises:
            InputError: If a run has a query that was not asked, an item that the catalog does not
                have, or a pair twice.
        """
        numbered = [_keys(name, run, queries, items) for name, run in runs.items()]
        together = np.concatenate([np.zeros(0, dtype=np.int64), *numbered])
        keys, rows = np.unique(together, return_inverse=True)
        found, ranks, scores = {}, {}, {}
        end = 0
        for name, run in runs.items():
            own = rows[end : end + run.height]
            end += run.height
            found[name] = np.zeros(len(keys), dtype=np.bool_)
            found[name][own] = True
            if np.count_nonzero(found[name]) < run.height:
                validate(run, RUNS, f"runs of channel '{name}'")  # says which pairs are repeated
            ranks[name] = _placed(run["rank"].to_numpy(), own, len(keys))
            scores[name] = _placed(run["score"].to_numpy(), own, len(keys))
        return cls(queries, items, keys, found, ranks, scores)

    @property
    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers of query and item, each (pairs,)."""
        query, item = np.divmod(self.keys, max(1, len(self.items)))
        return query, item

    def table(
        self,
        tfidf: NDArray[np.float32] | None = None,
        similar: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]] | None = None,
    ) -> pl.DataFrame:
        """Write the pairs as candidates (`tables.candidates_schema`), sorted by both ids.

        Args:
            tfidf: Of each pair; null when absent.
            similar: Query, item and tfidf of pairs that no channel found, to be added.
        """
        nothing = np.zeros(0, dtype=np.int64)
        query, item, cosines = similar or (nothing, nothing, nothing.astype(np.float32))
        keys = np.concatenate([self.keys, query * len(self.items) + item])
        order = np.argsort(keys, kind="stable")
        query, item = np.divmod(keys[order], max(1, len(self.items)))
        columns = {
            "query_id": self.queries.ids.gather(query),
            "item_id": self.items.ids.gather(item),
            "channels": _longer(sum(self.found.values(), np.zeros(len(self.keys), np.int8)), order),
            "tfidf": None if tfidf is None else np.concatenate([tfidf, cosines])[order],
        }
        for name, found in self.found.items():
            there = pl.Series(_longer(found, order))
            columns[f"rank_{name}"] = _where(there, _longer(self.ranks[name], order))
            columns[f"score_{name}"] = _where(there, _longer(self.scores[name], order))
        return pl.DataFrame(columns, schema=dict(candidates_schema(tuple(self.found)).columns))


def _keys(channel: str, run: pl.DataFrame, queries: Ids, items: Ids) -> NDArray[np.int64]:
    query = _numbers(channel, run, "query_id", queries, "the queries that were asked")
    item = _numbers(channel, run, "item_id", items, "ids of the catalog")
    return query * len(items) + item


def _numbers(
    channel: str, run: pl.DataFrame, column: str, ids: Ids, expected: str
) -> NDArray[np.int64]:
    numbers = ids.numbers(run[column])
    unknown = np.flatnonzero(numbers < 0)
    if len(unknown):
        raise InputError.of(
            f"runs of channel '{channel}': column '{column}'",
            got=f"{len(unknown):,} row(s) such as {run[column][int(unknown[0])]!r}",
            expected=expected,
            fix="leave these rows out in the channel's search",
        )
    return numbers


def _placed(values: NDArray[Any], rows: NDArray[np.int64], n: int) -> NDArray[Any]:
    placed = np.zeros(n, dtype=values.dtype)
    placed[rows] = values
    return placed


def _longer(values: NDArray[Any], order: NDArray[np.int64]) -> NDArray[Any]:
    """The values, and zeros for rows beyond them, in an order."""
    longer = np.zeros(len(order), dtype=values.dtype)
    longer[: len(values)] = values
    return longer[order]


def _where(there: pl.Series, values: NDArray[Any]) -> pl.Series:
    return pl.select(pl.when(there).then(pl.Series(values))).to_series()
