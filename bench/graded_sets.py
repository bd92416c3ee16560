"""Three shops with human grades, read from a folder of real data, and dealt into parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from trivium.domain.splits import with_parts
from trivium.foundation.config import SplitConfig
from trivium.foundation.tables import JUDGMENTS, empty
from trivium.foundation.text import render

NAMES = ("chorus", "crowdflower", "homedepot")
_FOLDERS = {"chorus": "chorus_icecat"}
_ITEM_TEXT = {
    "chorus": ["{title}", "brand: {brand}"],
    "crowdflower": ["{title}"],
    "homedepot": ["{title}", "brand: {brand}", "colour: {colour}", "material: {material}"],
}
# Shares of the queries that calibrate, tune and measure; the rest teaches. The small sets give
# more, since thresholds and intervals need queries.
_SHARES = {
    "chorus": (0.2, 0.2, 0.35),
    "crowdflower": (0.18, 0.16, 0.25),
    "homedepot": (0.03, 0.03, 0.05),
}
_RATED = {0: 0, 1: 1, 2: 3, 3: 4}
"""Chorus' raters grade 0 to 3; its own grades map them to 0, 1, 3 and 4."""


@dataclass(frozen=True)
class GradedSet:
    """One shop.

    Attributes:
        name: Its name.
        items: item_id, text (what towers read), judge_text.
        queries: query_id, query, text, judge_text, part.
        judgments: query_id, item_id, grade.
        ratings: The same rater by rater, where raters are known.
    """

    name: str
    items: pl.DataFrame
    queries: pl.DataFrame
    judgments: pl.DataFrame
    ratings: pl.DataFrame


def load(data: Path, name: str, seed: int) -> GradedSet:
    """Read a shop and deal its judged queries; ids begin with its name."""
    folder = data / _FOLDERS.get(name, name)
    items, queries, judgments = (
        pl.read_parquet(folder / f"{table}.parquet").with_columns(
            (f"{name}/" + pl.col("^(query|item)_id$").cast(pl.String)).name.keep()
        )
        for table in ("items", "queries", "judgments")
    )
    text = render(_ITEM_TEXT[name], items.schema, "item text")
    judged = judgments.select("query_id", "item_id", pl.col("grade").cast(pl.Int8))
    calibration, tuning, agreement = _SHARES[name]
    split = SplitConfig(
        seed=1.0,
        train=0.0,
        validation=0.0,
        test=0.0,
        calibration=calibration,
        tuning=tuning,
        agreement=agreement,
    )
    asked = queries.select("query_id", "query", segment=pl.lit(None, pl.String))
    dealt = with_parts(asked, judged["query_id"].unique(), split, seed)
    query = pl.col("query")
    return GradedSet(
        name,
        items.select("item_id", text=pl.col("title"), judge_text=text),
        dealt.filter(pl.col("part").is_not_null()).with_columns(text=query, judge_text=query),
        judged,
        _ratings(judgments),
    )


def without_leaks(sets: list[GradedSet]) -> list[GradedSet]:
    """Leave out queries that teach in one shop while the same words are held out in another."""
    everything = pl.concat([each.queries for each in sets]).drop("segment")
    segmented = everything.with_columns(segment=pl.lit(None, pl.String))
    kept = with_parts(segmented, segmented["query_id"].clear(), SplitConfig(), 0)
    kept = kept.filter(pl.col("part").is_not_null())
    return [
        GradedSet(
            each.name,
            each.items,
            each.queries.join(kept.select("query_id"), on="query_id", how="semi"),
            each.judgments,
            each.ratings,
        )
        for each in sets
    ]


def _ratings(judgments: pl.DataFrame) -> pl.DataFrame:
    raters = [name for name in judgments.columns if name.startswith("agent_")]
    if not raters:
        return empty(JUDGMENTS)
    long = judgments.unpivot(
        raters, index=["query_id", "item_id"], variable_name="rater", value_name="rated"
    ).drop_nulls("rated")
    grade = pl.col("rated").cast(pl.Int64).replace_strict(_RATED, return_dtype=pl.Int8)
    return long.select("query_id", "item_id", grade.alias("grade"), "rater")
