"""Hard negatives as sentence-transformers mines them: what the off-the-shelf recipe trains on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import polars as pl

from trivium.adapters.models import resolve_model
from trivium.foundation.console import say
from trivium.foundation.errors import DependencyError, InputError
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
    model: str,
    max_length: int | None = None,
) -> pl.DataFrame:
    """Mine negatives for positives with `sentence_transformers.util.mine_hard_negatives`.

    An item is a negative of a query if it is among the nearest whose similarity is at least 5%
    below that of the farthest of its positives; positives themselves never are. A query whose
    positives are all farther than what is around them has none.

    Args:
        positives: Columns query_id, item_id: human positives.
        queries: Columns query_id, text.
        items: Columns item_id, text: the catalog; of items with one text the first counts.
        model: Tower to mine with, as `resolve_model` takes it.
        max_length: Tokens that it reads; its own limit when absent.

    Returns:
        `tables.EXAMPLES` of level `mined_negative`, ungraded, sorted by query and item.

    Raises:
        InputError: If no positive has a query and an item.
        DependencyError: If there is no such model.
    """
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    pairs = _with_texts(positives, queries, items)
    say(f"  mining negatives of {pairs['query_id'].n_unique():,} queries in {items.height:,} items")
    mined = mine_hard_negatives(
        Dataset.from_dict({"query": pairs["query"].to_list(), "item": pairs["item"].to_list()}),
        _load(model, max_length),
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


def _load(model: str, max_length: int | None) -> Any:
    from sentence_transformers import SentenceTransformer

    try:
        loaded = SentenceTransformer(resolve_model(model))
    except (OSError, ValueError) as error:
        raise DependencyError.of(
            f"model '{model}'",
            got=(str(error).splitlines() or [type(error).__name__])[0],
            expected="a sentence-transformers model",
            fix="correct the name, or download the model first",
        ) from None
    if max_length:
        loaded.max_seq_length = min(max_length, loaded.max_seq_length or max_length)
    return loaded


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
