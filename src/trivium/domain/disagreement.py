"""What channels found for the same queries, side by side, and how much of it they share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import polars as pl

from trivium.domain.rank_overlap import (
    ALL,
    MEASURES,
    UNIT,
    Bools,
    Likeness,
    Rankings,
    by_segment,
    segment_order,
    whole,
)

DEPTHS = (10, 100, 500)
"""Depths at which lists are compared, as far as they go; and at their full depth."""

_KEY = {"segment": pl.String, "depth": pl.Int64, "a": pl.String, "b": pl.String}
OVERLAP = _KEY | dict.fromkeys(MEASURES, pl.Float64) | {"queries": pl.Int64}
OVERLAP_SUMS = _KEY | dict.fromkeys(MEASURES, pl.Int64) | {"queries": pl.Int64}
"""As `OVERLAP`, with sums over the queries in parts of `UNIT`, which may be added up."""
FOUND_BY = {"segment": pl.String, "channels": pl.String, "pairs": pl.Int64}

Segments = pl.DataFrame | None
"""Columns query_id and segment (nullable); None where segments are not known."""


def depths_down_to(deepest: int) -> list[int]:
    """Those of `DEPTHS` that lists of a depth reach, and the full depth."""
    return [depth for depth in DEPTHS if depth < deepest] + [deepest]


def overlap(
    candidates: pl.DataFrame,
    channels: Sequence[str],
    depths: Sequence[int] = DEPTHS,
    segments: Segments = None,
) -> pl.DataFrame:
    """Measure how much of their first results each two channels share.

    The measures are those of `rank_overlap`, averaged over the queries for which both channels
    found something; `queries` says how many those are.

    Args:
        candidates: A candidates table; pairs that no channel found do not count.
        channels: The channels to compare.
        depths: Ranks down to which results count.
        segments: The queries' segments.

    Returns:
        `OVERLAP`: for all queries, and for each segment that some are in; the measures are null
        where no query remains.
    """
    return pool_overlaps([overlap_sums(candidates, channels, depths, segments)])


def overlap_sums(
    candidates: pl.DataFrame,
    channels: Sequence[str],
    depths: Sequence[int],
    segments: Segments = None,
) -> pl.DataFrame:
    """As `overlap`, but sums over the queries, `OVERLAP_SUMS`: for `pool_overlaps`."""
    query_ids = candidates["query_id"].unique().sort()
    columns = {channel: f"rank_{channel}" for channel in channels}
    rankings = Rankings.of(candidates, columns, query_ids)
    groups = by_segment(segments_of(query_ids, segments))
    rows = [
        (name, depth, a, b, *_sums(likeness, rows))
        for a, b in combinations(channels, 2)
        for depth, likeness in zip(depths, rankings.likeness(a, b, depths), strict=True)
        for name, rows in groups.items()
    ]
    return pl.DataFrame(rows, schema=OVERLAP_SUMS, orient="row")


def pool_overlaps(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Add up the `overlap_sums` of disjoint sets of queries, and give the means, `OVERLAP`."""
    together = pl.concat([pl.DataFrame(schema=OVERLAP_SUMS), *parts])
    totals = together.group_by(list(_KEY), maintain_order=True).sum()
    some = pl.when(pl.col("queries") > 0)
    means = (some.then(pl.col(name) / (UNIT * pl.col("queries"))).alias(name) for name in MEASURES)
    return totals.with_columns(means).sort(segment_order(), "depth", maintain_order=True)


def found_by(
    candidates: pl.DataFrame, channels: Sequence[str], segments: Segments = None
) -> pl.DataFrame:
    """Count the pairs that each set of channels found and no other channel did.

    Args:
        candidates: A candidates table; pairs that no channel found do not count.
        channels: The channels.
        segments: The queries' segments.

    Returns:
        `FOUND_BY`, most pairs first within a segment: channels are names joined by "+", in the
        order given; sets without pairs are left out.
    """
    names = (
        pl.when(pl.col(f"rank_{channel}").is_not_null()).then(pl.lit(channel))
        for channel in channels
    )
    found = candidates.select(
        "query_id", channels=pl.concat_str(list(names), separator="+", ignore_nulls=True)
    ).filter(pl.col("channels") != "")
    counts = found.group_by("query_id", "channels").agg(pl.len().cast(pl.Int64).alias("pairs"))
    query_ids = counts["query_id"].unique()
    known = pl.DataFrame(
        {"query_id": query_ids, "segment": segments_of(query_ids, segments)},
        schema_overrides={"segment": pl.String},
    )
    named = counts.join(known, on="query_id").filter(pl.col("segment").is_not_null())
    every = counts.with_columns(segment=pl.lit(ALL))
    return pool_found_by([part.select(list(FOUND_BY)) for part in (every, named)])


def pool_found_by(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Add up the counts of `found_by` over disjoint sets of queries."""
    together = pl.concat([pl.DataFrame(schema=FOUND_BY), *parts])
    counts = together.group_by("segment", "channels").agg(pl.col("pairs").sum())
    return counts.sort(segment_order(), -pl.col("pairs"), "channels")


def segments_of(query_ids: pl.Series, segments: Segments) -> list[str | None]:
    """The segment of each query, None where it is not known."""
    if segments is None:
        return [None] * len(query_ids)
    asked = pl.DataFrame({"query_id": query_ids}, schema={"query_id": pl.String})
    known = segments.select("query_id", pl.col("segment").cast(pl.String))
    return asked.join(known, on="query_id", how="left", maintain_order="left")["segment"].to_list()


def _sums(likeness: Likeness, rows: Bools) -> tuple[int, ...]:
    measured = rows & ~np.isnan(likeness.overlap)
    values = (getattr(likeness, name)[measured] for name in MEASURES)
    return *(whole(value) for value in values), int(measured.sum())
