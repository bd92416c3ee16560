"""What a user of the API brings, in polars or pandas, and what must hold of examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import polars as pl

from trivium.foundation.tables import EXAMPLES, GRADES, PROBABILITIES


@dataclass(frozen=True)
class Tables:
    """What a user brings."""

    items: Any
    queries: Any
    judgments: Any

    @property
    def all(self) -> tuple[Any, Any, Any]:
        return self.items, self.queries, self.judgments


def numbered(market: Tables, library: str) -> Tables:
    """The same tables with whole numbers for ids, the smallest with the fewest digits."""
    items = {name: i for i, name in enumerate(market.items["item_id"], start=7)}
    queries = {name: i for i, name in enumerate(market.queries["query_id"], start=3)}
    item_id = pl.col("item_id").replace_strict(items, return_dtype=pl.Int64)
    query_id = pl.col("query_id").replace_strict(queries, return_dtype=pl.Int64)
    frames = (
        market.items.with_columns(item_id),
        market.queries.with_columns(query_id),
        market.judgments.with_columns(item_id, query_id),
    )
    return Tables(*(f if library == "polars" else f.to_pandas() for f in frames))


def in_polars(frame: Any) -> pl.DataFrame:
    return frame if isinstance(frame, pl.DataFrame) else pl.from_pandas(frame)


def same_library(frame: Any, library: str) -> bool:
    return isinstance(frame, pl.DataFrame if library == "polars" else pd.DataFrame)


def labels_of(candidates: pl.DataFrame) -> pl.DataFrame:
    """A label for each candidate, every grade as often as the others, with full confidence."""
    grades = [GRADES[i % len(GRADES)] for i in range(candidates.height)]
    certain = [[float(grade == g) for g in GRADES] for grade in grades]
    return candidates.select("query_id", "item_id").with_columns(
        pl.Series("grade", grades, dtype=pl.Int8),
        pl.lit(1.0, pl.Float32).alias("confidence"),
        pl.lit("certain").alias("judge"),
        pl.lit(1, pl.Int32).alias("tokens"),
        pl.Series("p_certain", certain, dtype=PROBABILITIES),
    )


def check_examples(examples: pl.DataFrame, tables: Tables, levels: set[str]) -> None:
    assert {name: examples.schema[name] for name in ("query_id", "item_id")} == {
        "query_id": pl.String,
        "item_id": pl.String,
    }
    assert set(examples.columns) == set(EXAMPLES.columns)
    items = in_polars(tables.items)["item_id"].cast(pl.String).to_list()
    queries = in_polars(tables.queries)["query_id"].cast(pl.String).to_list()
    assert examples["item_id"].is_in(items).all()
    assert examples["query_id"].is_in(queries).all()
    assert levels <= set(examples["level"])


def in_numbers(queries: Any, library: str) -> Any:
    """Queries as they would be read back from a CSV file."""
    frame = in_polars(queries).with_columns(pl.col("query_id").cast(pl.Int64))
    return frame if library == "polars" else frame.to_pandas()
