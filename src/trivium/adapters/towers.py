"""Towers: models that turn texts into unit vectors, and what they retrieve."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.adapters.hardware import bf16_is_fast
from trivium.adapters.indexes.flat import search
from trivium.adapters.models import resolve_model
from trivium.adapters.tower_texts import TASKS, Reader, Side, reader_of, text_limit
from trivium.foundation.console import counter
from trivium.foundation.errors import ConfigError, DependencyError

Vectors = NDArray[np.float32]

BATCH = 32
_BLOCK = 1 << 16


class Tower:
    """A sentence-transformers model that encodes every text in the same way wherever it stands.

    Attributes:
        max_length: Tokens of a text that are read.
        bf16: Whether matrix products are made in bfloat16.
        dimension: Length of the vectors.

    Queries and items each get what the model keeps for them: a prompt, an encoder of their own.

    A batch always has `BATCH` rows, and its length is a multiple of `tower_texts.BUCKET` that
    each of its texts would be padded to alone. Matrix products thus always have the shape that
    the text itself asks for, and a vector depends on neither the other texts nor their number:
    shards and catalogs may be cut in any way.

    Args:
        model: A sentence-transformers model.
        max_length: Tokens of a text that are read; the model's own limit when absent.
        bf16: Whether matrix products are made in bfloat16, about twice as fast on processors that
            have it; by default, whether this one has.
        dimensions: How many of a vector's first numbers are kept, the length being made one
            again; the model's own `truncate_dim`, or all, when absent.

    Raises:
        ConfigError: If the model's vectors have fewer dimensions.
    """

    def __init__(
        self,
        model: Any,
        max_length: int | None = None,
        *,
        bf16: bool | None = None,
        dimensions: int | None = None,
    ) -> None:
        self._model = model
        self.bf16 = bf16_is_fast() if bf16 is None else bf16
        limit = text_limit(model)
        self.max_length = min(max_length, limit) if max_length else limit
        whole = int(model.get_embedding_dimension())
        self.dimension = dimensions or whole
        if self.dimension > whole:
            raise ConfigError.of(
                "dimensions",
                got=str(dimensions),
                expected=f"{whole} at most, the length of the model's vectors",
                fix="lower it, or take another model",
            )

    @classmethod
    def load(
        cls,
        model: str,
        max_length: int | None = None,
        *,
        bf16: bool | None = None,
        dimensions: int | None = None,
    ) -> Tower:
        """Load a model: a hub name, a folder, or `package:NAME/FOLDER`.

        The other arguments are those of the class.

        Raises:
            ConfigError: If the model's vectors have fewer dimensions than are asked for.
            DependencyError: If there is no such model.
        """
        return cls(load_model(model), max_length, bf16=bf16, dimensions=dimensions)

    def encode(self, texts: Sequence[str], side: Side = "items") -> Vectors:
        """Encode texts, each distinct one once.

        Args:
            texts: The texts, without prompts.
            side: Whether they are queries or items.

        Returns:
            Unit vectors, float32 of shape (texts, dimension).

        Raises:
            DependencyError: If the model is neither a transformer nor static embeddings.
        """
        self._model.eval()
        reader = reader_of(self._model, side, self.max_length)
        rows: dict[str, int] = {}
        order = np.array([rows.setdefault(text, len(rows)) for text in texts], dtype=np.int64)
        distinct = list(rows)
        vectors = np.empty((len(distinct), self.dimension), dtype=np.float32)
        with counter(f"encoding {side}", len(distinct)) as advance:
            for begin in range(0, len(distinct), _BLOCK):
                block = distinct[begin : begin + _BLOCK]
                for members, tokens in _batches(reader, block):
                    found = self._forward(reader.features(tokens), side)
                    vectors[begin + members] = found[: len(members)]
                    advance(len(members))
        return vectors[order]

    def _forward(self, features: Mapping[str, Any], side: Side) -> Vectors:
        import torch

        device = self._model.device
        moved = {n: v.to(device) if torch.is_tensor(v) else v for n, v in features.items()}
        with torch.inference_mode(), self._precision(device.type):
            output = self._model(moved, task=TASKS[side])["sentence_embedding"].float()
        unit = torch.nn.functional.normalize(output[:, : self.dimension], dim=1)
        return unit.cpu().numpy()

    def _precision(self, device: str) -> AbstractContextManager[Any]:
        import torch

        return torch.autocast(device, torch.bfloat16, enabled=self.bf16)


def load_model(model: str) -> Any:
    """Load a sentence-transformers model.

    Args:
        model: A hub name, a folder, or `package:NAME/FOLDER`.

    Raises:
        DependencyError: If there is no such model.
    """
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        return SentenceTransformer(resolve_model(model))
    except (OSError, ValueError) as error:
        raise DependencyError.of(
            f"model '{model}'",
            got=(str(error).splitlines() or [type(error).__name__])[0],
            expected="a sentence-transformers model",
            fix="correct the name, or download the model first",
        ) from None


def _batches(
    reader: Reader, texts: Sequence[str]
) -> Iterator[tuple[NDArray[np.int64], list[list[int]]]]:
    """Group texts of one padded length: their rows, and BATCH lists of token ids."""
    tokens = reader.tokens(texts)
    buckets: dict[int, list[int]] = defaultdict(list)
    for row, ids in enumerate(tokens):
        buckets[reader.width(ids)].append(row)
    for _, rows in sorted(buckets.items()):
        for begin in range(0, len(rows), BATCH):
            members = rows[begin : begin + BATCH]
            filled = members + members[:1] * (BATCH - len(members))
            yield np.array(members), [tokens[row] for row in filled]


class Encodes(Protocol):
    """Turns the texts of a side into unit vectors, as `Tower` does."""

    def encode(self, texts: Sequence[str], side: Side = "items") -> Vectors:
        """Unit vectors, float32 of shape (texts, dimension)."""


def retrieve(tower: Encodes, queries: pl.DataFrame, items: pl.DataFrame, k: int) -> pl.DataFrame:
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
