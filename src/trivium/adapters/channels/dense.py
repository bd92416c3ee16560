"""The dense channel: exact search among the vectors of the tower in production."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from trivium.adapters.indexes.flat import FlatIndex
from trivium.adapters.locks import alone
from trivium.adapters.models import model_fingerprint
from trivium.adapters.towers import Tower, Vectors
from trivium.domain.postings import Hits, runs_table
from trivium.foundation.channel_config import DenseConfig
from trivium.foundation.config import DataConfig
from trivium.foundation.mine_config import MineConfig
from trivium.foundation.workspace import write_atomically


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
        model = settings.model or config.model
        self._tower = Tower.load(model)
        vectors = cached_vectors(self._tower, model, items["text"].to_list(), cache)
        self._index = FlatIndex(vectors, self._item_ids)

    def search(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Retrieve the best items of each query; see `Channel.search`."""
        vectors = self._tower.encode(queries["text"].to_list(), "queries")
        scores, positions = self._index.search(vectors, k)
        counts = np.full(len(vectors), scores.shape[1], dtype=np.int64)
        hits = Hits(counts, positions.ravel(), scores.ravel())
        return runs_table(self.name, queries["query_id"], hits, self._item_ids)


def cached_vectors(tower: Tower, model: str, texts: Sequence[str], cache: Path | None) -> Vectors:
    """Encode texts, or read the vectors that an earlier run left for this model and these texts.

    Args:
        tower: The loaded model.
        model: Its name, whose content the fingerprint covers.
        texts: The items' texts.
        cache: The folder of the `.npy` files; without one nothing is kept.

    Returns:
        float32 (texts, dimension).
    """
    if cache is None:
        return tower.encode(texts)
    path = cache / f"vectors-{_fingerprint(tower, model, texts)}.npy"
    # Several workers need the same vectors at once: the first encodes, the others wait for it.
    with alone(path.with_suffix(".lock")):
        if not path.is_file():
            vectors = tower.encode(texts)
            write_atomically(path, lambda place: _save(place, vectors))
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]


def _fingerprint(tower: Tower, model: str, texts: Sequence[str]) -> str:
    settings = f"{model_fingerprint(model)} {tower.max_length} {tower.bf16}"
    digest = hashlib.sha256(settings.encode())
    for text in texts:
        raw = text.encode()
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()[:32]


def _save(path: Path, vectors: Vectors) -> None:
    with path.open("wb") as file:  # a path would be given the ending .npy
        np.save(file, vectors)
