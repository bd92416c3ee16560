"""Towers: models that turn texts into unit vectors, and exact search among such vectors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.adapters.models import resolve_model
from trivium.foundation.console import counter
from trivium.foundation.errors import DependencyError

Vectors = NDArray[np.float32]

BATCH = 32
BUCKET = 8
_BLOCK = 1 << 16
_MARGIN = 64
_TOLERANCE = 1e-5
_RESCORED = 1 << 22


class Tower:
    """A sentence-transformers model that encodes every text in the same way wherever it stands.

    Attributes:
        max_length: Tokens of a text that are read.
        bf16: Whether matrix products are made in bfloat16.

    A batch always has `BATCH` rows, and its length is a multiple of `BUCKET` that each of its
    texts would be padded to alone. Matrix products thus always have the shape that the text
    itself asks for, and a vector depends on neither the other texts nor their number: shards and
    catalogs may be cut in any way.
    """

    def __init__(self, model: Any, max_length: int | None = None, *, bf16: bool = True) -> None:
        self._model = model
        self.bf16 = bf16
        limit = model.max_seq_length or 512
        self.max_length = min(max_length, limit) if max_length else limit

    @classmethod
    def load(cls, model: str, max_length: int | None = None, *, bf16: bool = True) -> Tower:
        """Load a model.

        Args:
            model: A hub name, a folder, or `package:NAME/FOLDER`.
            max_length: Tokens of a text that are read; the model's own limit when absent.
            bf16: Whether matrix products are made in bfloat16, about twice as fast on CPUs.

        Raises:
            DependencyError: If there is no such model.
        """
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            loaded = SentenceTransformer(resolve_model(model))
        except (OSError, ValueError) as error:
            raise DependencyError.of(
                f"model '{model}'",
                got=(str(error).splitlines() or [type(error).__name__])[0],
                expected="a sentence-transformers model",
                fix="correct the name, or download the model first",
            ) from None
        return cls(loaded, max_length, bf16=bf16)

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self._model.get_embedding_dimension())

    def encode(self, texts: Sequence[str], what: str = "items") -> Vectors:
        """Encode texts, each distinct one once.

        Args:
            texts: The texts.
            what: What they are, for the progress display.

        Returns:
            Unit vectors, float32 of shape (texts, dimension).
        """
        self._model.eval()
        rows: dict[str, int] = {}
        order = np.array([rows.setdefault(text, len(rows)) for text in texts], dtype=np.int64)
        distinct = list(rows)
        vectors = np.empty((len(distinct), self.dimension), dtype=np.float32)
        with counter(f"encoding {what}", len(distinct)) as advance:
            for begin in range(0, len(distinct), _BLOCK):
                block = distinct[begin : begin + _BLOCK]
                for members, ids in self._batches(block):
                    vectors[begin + members] = self._forward(ids)[: len(members)]
                    advance(len(members))
        return vectors[order]

    def _batches(self, texts: list[str]) -> Iterator[tuple[NDArray[np.int64], list[list[int]]]]:
        """Group texts of one padded length: their rows, and BATCH lists of token ids."""
        tokenizer = self._model.tokenizer
        ids = tokenizer(texts, truncation=True, max_length=self.max_length)["input_ids"]
        buckets: dict[int, list[int]] = defaultdict(list)
        for row, tokens in enumerate(ids):
            buckets[self._padded(len(tokens))].append(row)
        for bucket in sorted(buckets):
            for begin in range(0, len(buckets[bucket]), BATCH):
                members = buckets[bucket][begin : begin + BATCH]
                filled = members + members[:1] * (BATCH - len(members))
                yield np.array(members), [ids[row] for row in filled]

    def _forward(self, ids: list[list[int]]) -> Vectors:
        import torch

        length = self._padded(len(ids[0]))
        features = self._model.tokenizer.pad(
            {"input_ids": ids}, padding="max_length", max_length=length, return_tensors="pt"
        )
        device = self._model.device
        moved = {name: tensor.to(device) for name, tensor in features.items()}
        with torch.inference_mode(), self._precision(device.type):
            output = self._model(moved)["sentence_embedding"].float()
        unit = torch.nn.functional.normalize(output, dim=1)
        return unit.cpu().numpy()

    def _padded(self, length: int) -> int:
        return min(-(-length // BUCKET) * BUCKET, self.max_length)

    def _precision(self, device: str) -> AbstractContextManager[Any]:
        import torch

        return torch.autocast(device, torch.bfloat16, enabled=self.bf16)


class FlatIndex:
    """Exact inner-product search, ties broken by (-score, item_id).

    faiss proposes; every proposal is scored again by a sum whose rounding depends on its two
    vectors alone, for faiss's own products differ in the last bit with the number of queries. If
    the last item proposed is not clearly below the k-th best, more are fetched, so that a tie at
    the cut-off is always broken by id.

    Args:
        item_vectors: float32 (items, dimension).
        item_ids: The items' ids, in the same order, which may be any.
    """

    def __init__(self, item_vectors: Vectors, item_ids: Sequence[str] | pl.Series) -> None:
        import faiss

        self._order = pl.Series(item_ids, dtype=pl.String).arg_sort().to_numpy().astype(np.int64)
        self._index = faiss.IndexFlatIP(item_vectors.shape[1])
        self._index.add(np.ascontiguousarray(item_vectors[self._order]))
        held = faiss.rev_swig_ptr(self._index.get_xb(), item_vectors.size)
        self._vectors: Vectors = held.reshape(item_vectors.shape)

    def search(self, query_vectors: Vectors, k: int) -> tuple[Vectors, NDArray[np.int64]]:
        """Find the k items of the largest inner product with each query.

        Returns:
            Scores, float32, and positions in the catalog as it was given, int64, both of shape
            (queries, min(k, items)).
        """
        n_items = len(self._vectors)
        k = min(k, n_items)
        scores = np.empty((len(query_vectors), k), dtype=np.float32)
        positions = np.empty((len(query_vectors), k), dtype=np.int64)
        open_rows = np.arange(len(query_vectors))
        fetched = min(k + _MARGIN, n_items)
        while len(open_rows) and k:
            found, clear = self._propose(query_vectors[open_rows], k, fetched)
            scores[open_rows], positions[open_rows] = found
            open_rows = open_rows[~clear]
            fetched = min(4 * fetched, n_items)
        return scores, self._order[positions]

    def _propose(
        self, queries: Vectors, k: int, fetched: int
    ) -> tuple[tuple[Vectors, NDArray[np.int64]], NDArray[np.bool_]]:
        rough, proposed = self._index.search(np.ascontiguousarray(queries), fetched)
        proposed.sort(axis=1)
        exact = self._score(queries, proposed)
        best = np.argsort(-exact, axis=1, kind="stable")[:, :k]  # (queries, k)
        scores = np.take_along_axis(exact, best, axis=1)
        everything = fetched == len(self._vectors)
        clear = everything | (rough[:, -1] < scores[:, -1] - _TOLERANCE)
        return (scores, np.take_along_axis(proposed, best, axis=1)), clear

    def _score(self, queries: Vectors, proposed: NDArray[np.int64]) -> Vectors:
        scores = np.empty(proposed.shape, dtype=np.float32)
        step = max(1, _RESCORED // (proposed.shape[1] * queries.shape[1]))
        for begin in range(0, len(queries), step):
            part = slice(begin, begin + step)
            gathered = self._vectors[proposed[part]]  # (queries, fetched, dimension)
            scores[part] = np.einsum("qd,qfd->qf", queries[part], gathered)
        return scores


def search(
    query_vectors: Vectors, item_vectors: Vectors, item_ids: Sequence[str] | pl.Series, k: int
) -> tuple[Vectors, NDArray[np.int64]]:
    """Search once; see `FlatIndex`, which a caller that searches again should keep."""
    return FlatIndex(item_vectors, item_ids).search(query_vectors, k)


def retrieve(tower: Tower, queries: pl.DataFrame, items: pl.DataFrame, k: int) -> pl.DataFrame:
    """Search items with a tower.

    Args:
        tower: The tower.
        queries: Columns query_id and text.
        items: Columns item_id and text.
        k: Items to find for a query.

    Returns:
        Columns query_id, item_id, rank, score, in the order of the queries and by rank.
    """
    item_vectors = tower.encode(items["text"].to_list())
    query_vectors = tower.encode(queries["text"].to_list(), "queries")
    scores, positions = search(query_vectors, item_vectors, items["item_id"], k)
    found = scores.shape[1]
    return pl.DataFrame(
        {
            "query_id": queries["query_id"].gather(np.repeat(np.arange(queries.height), found)),
            "item_id": items["item_id"].gather(positions.ravel()),
            "rank": np.tile(np.arange(1, found + 1, dtype=np.int32), queries.height),
            "score": scores.ravel(),
        }
    )
