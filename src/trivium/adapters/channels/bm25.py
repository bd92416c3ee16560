"""BM25 over the text of the items: indexed by bm25s, searched with exact ties."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from trivium.adapters.channels import Explanation
from trivium.adapters.channels.explaining import STEPS, matches
from trivium.adapters.channels.words import WordTable, known_words, number_tokens, tokens
from trivium.domain.postings import Postings, runs_table
from trivium.foundation.channel_config import Bm25Config
from trivium.foundation.config import DataConfig
from trivium.foundation.mine_config import MineConfig


class Bm25Channel:
    """Lucene's BM25.

    bm25s computes the scores of its index; the search is our own, because that of bm25s fills
    up with items of score zero and breaks ties at the cut-off by chance.
    """

    def __init__(
        self,
        *,
        items: pl.DataFrame,
        settings: Bm25Config,
        config: MineConfig,
        data: DataConfig,
        cache: Path | None,
    ) -> None:
        self.name = settings.name
        items = items.select("item_id", "text").sort("item_id")
        self._item_ids = items["item_id"]
        self._vocabulary: dict[str, int] = {}
        table = number_tokens(items["text"].fill_null(""), self._vocabulary)
        self._postings = _index(table, self._vocabulary, settings)

    def search(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Retrieve the best items of each query; see `Channel.search`."""
        asked = known_words(queries["text"].to_list(), tokens, self._vocabulary)
        weights = np.ones(len(asked.ids), dtype=np.float32)
        hits = self._postings.search(asked.offsets, asked.ids, weights, k)
        return runs_table(self.name, queries["query_id"], hits, self._item_ids)

    def explain(self, text: str, item_ids: Sequence[str]) -> Explanation:
        """Say which words of a query were searched, and what each gave; see `Explains`."""
        counts = Counter(tokens(text))
        steps = [
            (word, word, float(count), "word")
            if word in self._vocabulary
            else (word, None, None, "not in the catalog")
            for word, count in counts.items()
        ]
        terms = [
            (word, self._vocabulary[word], float(count))
            for word, count in counts.items()
            if word in self._vocabulary
        ]
        found = matches(self._postings, terms, self._item_ids, item_ids)
        return Explanation(pl.DataFrame(steps, schema=dict(STEPS), orient="row"), found)


def _index(table: WordTable, vocabulary: dict[str, int], settings: Bm25Config) -> Postings:
    n_items = len(table.offsets) - 1
    if not vocabulary:
        nothing = np.zeros(0, dtype=np.int32)
        return Postings(np.zeros(1, np.int64), nothing, nothing.astype(np.float32), n_items)
    import bm25s

    index = bm25s.BM25(
        k1=settings.k1, b=settings.b, method="lucene", dtype="float32", auto_compile=False
    )
    words = [row.tolist() for row in np.split(table.ids, table.offsets[1:-1])]
    index.index((words, dict(vocabulary)), create_empty_token=False, show_progress=False)
    arrays = index.scores
    return Postings(
        np.asarray(arrays["indptr"], dtype=np.int64),
        np.asarray(arrays["indices"], dtype=np.int32),
        np.asarray(arrays["data"], dtype=np.float32),
        n_items,
    )
