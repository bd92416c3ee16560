"""How well a catalog answers a query at all: the words that its best item has."""

from __future__ import annotations

import numpy as np
import polars as pl

from trivium.adapters.channels.words import number_words, parts
from trivium.domain.postings import Postings


def _distinct(text: str) -> list[str]:
    return list(dict.fromkeys(parts(text)))


def coverage(queries: pl.DataFrame, items: pl.DataFrame) -> pl.Series:
    """Share of each query's distinct words that one single item has.

    Args:
        queries: Column text.
        items: Column text.

    Returns:
        Float64 in [0, 1], in the order of the queries; 0 for a query without words.

    Example:
        >>> items = pl.DataFrame({"text": ["red mug", "blue plate"]})
        >>> queries = pl.DataFrame({"text": ["red mugs", "red plate", "car"]})
        >>> coverage(queries, items).to_list()
        [1.0, 0.5, 0.0]
    """
    vocabulary: dict[str, int] = {}
    table = number_words(items["text"].to_list(), _distinct, vocabulary)
    order = np.argsort(table.ids, kind="stable")
    offsets = np.searchsorted(table.ids[order], np.arange(len(vocabulary) + 1))
    held = table.rows[order].astype(np.int32)
    postings = Postings(offsets, held, np.ones(len(held), dtype=np.float32), items.height)
    known = len(vocabulary)
    asked = number_words(queries["text"].to_list(), _distinct, vocabulary)
    words = np.diff(asked.offsets)
    kept = asked.ids < known
    known_offsets = np.concatenate([[0], np.cumsum(kept)])[asked.offsets]
    ids = asked.ids[kept]
    hits = postings.search(known_offsets, ids, np.ones(len(ids), dtype=np.float32), 1)
    best = np.zeros(queries.height)
    best[hits.counts > 0] = hits.scores
    return pl.Series("coverage", best / np.maximum(words, 1))
