"""The dense channel: search among the vectors of the tower in production."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from trivium.adapters.channels import Explanation
from trivium.adapters.channels.explaining import MATCHES, STEPS
from trivium.adapters.indexes.kept import open_index
from trivium.adapters.text_vectors import TextVectors, text_vectors
from trivium.adapters.towers import Tower
from trivium.domain.nearest import VectorTable
from trivium.domain.postings import runs_table
from trivium.foundation.channel_config import DenseConfig
from trivium.foundation.config import DataConfig
from trivium.foundation.mine_config import MineConfig

_PART = "cosine"


class DenseChannel:
    """Cosine between tower vectors of query and item text, over the full catalog."""

    def __init__(
        self,
        *,
        items: pl.DataFrame,
        settings: DenseConfig,
        config: MineConfig,
        data: DataConfig,
        cache: Path | None,
    ) -> None:
        self.name = settings.name
        items = items.select("item_id", pl.col("text").fill_null("")).sort("item_id")
        self._item_ids = items["item_id"]
        self._model = settings.model or config.model
        self._tower = Tower.load(self._model)
        made = text_vectors(self._tower, self._model, items["text"].to_list(), cache)
        self._table = _table(made)
        self._index = open_index(self._table, made.key, settings, config.depth, cache)

    def search(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Retrieve the best items of each query; see `Channel.search`."""
        vectors = self._tower.encode(queries["text"].to_list(), "queries")
        hits = self._index.index.nearest(vectors, k)
        return runs_table(self.name, queries["query_id"], hits, self._item_ids)

    def explain(self, text: str, item_ids: Sequence[str]) -> Explanation:
        """Say what was searched, and how near some items are; see `Explains`."""
        why = f"the text as {self._model} reads it; {self._index.about}"
        steps = pl.DataFrame([(text, _PART, 1.0, why)], schema=dict(STEPS), orient="row")
        numbered = self._item_ids.alias("item_id").to_frame().with_row_index("position")
        asked = pl.DataFrame({"item_id": item_ids}, schema={"item_id": pl.String})
        known = asked.join(numbered, on="item_id", maintain_order="left")
        cosines = self._table.scores(
            self._tower.encode([text], "queries")[0], known["position"].to_numpy().astype(np.int64)
        )
        matches = known.select("item_id", part=pl.lit(_PART), score=pl.Series(cosines))
        return Explanation(steps, matches.select(list(MATCHES)))


def _table(made: TextVectors) -> VectorTable:
    """Join items to vectors; where most of what is kept is of other catalogs, without these."""
    used, rows = np.unique(made.rows, return_inverse=True)
    if 2 * len(used) < len(made.vectors):
        return VectorTable.of(np.asarray(made.vectors[used]), rows)
    return VectorTable.of(made.vectors, made.rows)
