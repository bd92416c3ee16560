"""Hard negatives as sentence-transformers mines them: what the off-the-shelf recipe trains on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import polars as pl

from trivium.adapters.tower_texts import Side
from trivium.adapters.towers import Encodes, Vectors
from trivium.foundation.console import say
from trivium.foundation.errors import InputError
from trivium.foundation.tables import EXAMPLES

SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "relative_margin": 0.05,
        "num_negatives": 5,
        "sampling_strategy": "top",
        "use_faiss": True,
    }
)
"""What its documentation recommends: TopK-PercPos at 95% of NV-Retriever (arXiv 2407.15831), at
most ten negatives; five are those of its example."""

_NONE = ("grade", "p_relevant", "p_irrelevant", "expected_grade", "confidence")
_REASON = "mined: near the query, at most 0.95 of its farthest positive"


def mine_negatives(
    positives: pl.DataFrame,
    queries: pl.DataFrame,
    items: pl.DataFrame,
    tower: Encodes,
) -> pl.DataFrame:
    """Mine negatives for positives with `sentence_transformers.util.mine_hard_negatives`.

    An item is a negative of a query if it is among the nearest whose similarity is at least 5%
    below that of the farthest of its positives; positives themselves never are. A query whose
    positives are all farther than what is around them has none.

    Args:
        positives: Columns query_id, item_id: human positives.
        queries: Columns query_id, text.
        items: Columns item_id, text: the catalog; of items with one text the first counts.
        tower: Encodes the texts; the search and the choice are sentence-transformers'.

    Returns:
        `tables.EXAMPLES` of level `mined_negative`, ungraded, sorted by query and item.

    Raises:
        InputError: If no positive has a query and an item.
    """
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    pairs = _with_texts(positives, queries, items)
    say(f"  mining negatives of {pairs['query_id'].n_unique():,} queries in {items.height:,} items")
    encoder: Any = _Encoder(tower)
    mined = mine_hard_negatives(
        Dataset.from_dict({"query": pairs["query"].to_list(), "item": pairs["item"].to_list()}),
        encoder,
        corpus=items.sort("item_id")["text"].to_list(),
        verbose=False,
        **SETTINGS,
    )
    found = pl.DataFrame(
        {"query": list(mined["query"]), "text": list(mined["negative"])},
        schema={"query": pl.String, "text": pl.String},
    ).unique()
    named = found.join(pairs.select("query_id", "query").unique(), on="query").join(
        _first_of_each_text(items), on="text"
    )
    return _as_examples(named.join(positives, on=["query_id", "item_id"], how="anti"))


class _Encoder:
    """A tower with the methods of a SentenceTransformer that the miner calls.

    Its own encoding draws progress bars wherever it runs, and is slower at equal vectors.
    """

    device = "cpu"

    def __init__(self, tower: Encodes) -> None:
        self._tower = tower
        self._dimension = 0

    def encode_query(self, texts: list[str], **_: Any) -> Vectors:
        return self._encode(texts, "queries")

    def encode_document(self, texts: list[str], **_: Any) -> Vectors:
        return self._encode(texts, "items")

    def get_embedding_dimension(self) -> int:
        return self._dimension

    def similarity_pairwise(self, queries: Vectors, items: Vectors) -> Any:
        import torch

        return torch.from_numpy((queries * items).sum(axis=1))  # cosines: the vectors are unit

    def _encode(self, texts: list[str], side: Side) -> Vectors:
        vectors = self._tower.encode(texts, side)
        self._dimension = vectors.shape[1]
        return vectors


def _with_texts(
    positives: pl.DataFrame, queries: pl.DataFrame, items: pl.DataFrame
) -> pl.DataFrame:
    pairs = (
        positives.select("query_id", "item_id")
        .join(queries.select("query_id", pl.col("text").alias("query")), on="query_id")
        .join(items.select("item_id", pl.col("text").alias("item")), on="item_id")
        .sort("query_id", "item_id")
    )
    if pairs.is_empty():
        raise InputError.of(
            "human positives",
            got="none of a known query and item",
            expected="pairs of grade 3 or 4, to mine negatives for",
            fix="give judgments, and a share of them to split.seed",
        )
    return pairs


def _first_of_each_text(items: pl.DataFrame) -> pl.DataFrame:
    first = items.sort("item_id").unique("text", keep="first", maintain_order=True)
    return first.select("item_id", "text")


def _as_examples(mined: pl.DataFrame) -> pl.DataFrame:
    return (
        mined.select(
            "query_id",
            "item_id",
            pl.lit("mined_negative").alias("level"),
            *(pl.lit(None, EXAMPLES.columns[name]).alias(name) for name in _NONE),
            pl.lit("mined").alias("source"),
            pl.lit(_REASON).alias("reason"),
        )
        .select(list(EXAMPLES.columns))
        .sort("query_id", "item_id")
    )
