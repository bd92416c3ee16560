"""How what channels found changed from one run to the next, query by query.

Two questions: how much of each channel's list is still there, and whether the channels agree more
with each other than before. The second one shows the loop in which a trained tower mines for its
successor: a dense channel that has learned from what lexical channels found comes to find the same,
and leaves less disagreement to mine.

Sums are over queries, in parts of `rank_overlap.UNIT`, so that shards may be added up in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import polars as pl

from trivium.domain.disagreement import Segments, segments_of
from trivium.domain.rank_overlap import (
    MEASURES,
    UNIT,
    Bools,
    Floats,
    Likeness,
    Rankings,
    by_segment,
    segment_order,
    whole,
)

KEPT = {
    "segment": pl.String,
    "depth": pl.Int64,
    "channel": pl.String,
    **dict.fromkeys((*MEASURES, "unchanged"), pl.Float64),
    **dict.fromkeys(("kept", "gone", "new", "queries"), pl.Int64),
}
BETWEEN = {
    "segment": pl.String,
    "depth": pl.Int64,
    "a": pl.String,
    "b": pl.String,
    "measure": pl.String,
    **dict.fromkeys(("before", "after", "difference", "ci_low", "ci_high"), pl.Float64),
    "queries": pl.Int64,
}
KEPT_SUMS = {name: pl.Int64 if dtype == pl.Float64 else dtype for name, dtype in KEPT.items()}
BETWEEN_SUMS = {
    **{name: BETWEEN[name] for name in ("segment", "depth", "a", "b", "measure")},
    **dict.fromkeys(("before", "after", "squared", "queries"), pl.Int64),
}

_Z = 1.959963984540054  # of a 95% interval
_FEW = 100  # shards whose sums are held apart


@dataclass(frozen=True)
class RunDrift:
    """What changed between two runs, over the queries that both mined.

    Attributes:
        kept: `KEPT`: how alike a channel's lists before and after are, the share of queries whose
            list down to the depth is unchanged (the same items at the same ranks), and the pairs
            kept, gone and new. `queries` are those for which the channel found something in either
            run; where only one run has a list, nothing is alike.
        between: `BETWEEN`: how alike two channels' lists were before and are after, and the
            difference with its 95% interval (normal, of paired differences). `queries` are those
            for which both channels found something in both runs.
    """

    kept: pl.DataFrame
    between: pl.DataFrame


def drift_sums(
    before: pl.DataFrame,
    after: pl.DataFrame,
    channels: Mapping[str, tuple[str, str]],
    depths: Sequence[int],
    queries: pl.DataFrame,
    segments: Segments = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Compare the candidates of the same queries in two runs.

    Args:
        before: Candidates of the earlier run.
        after: Candidates of the later run.
        channels: Name to the channel before and the channel after.
        depths: Ranks down to which results count.
        queries: The queries to compare, their id in each run: columns before and after.
        segments: The queries' segments, by their id in the later run.

    Returns:
        `KEPT_SUMS` and `BETWEEN_SUMS`, for `pool_drift`.
    """
    query_ids = queries["after"].sort()
    rows = _side_by_side(before, after, channels, queries)
    columns = {f"{name} {run}": f"{name} {run}" for name in channels for run in ("before", "after")}
    rankings = Rankings.of(rows, columns, query_ids)
    groups = by_segment(segments_of(query_ids, segments))
    kept = (row for name in channels for row in _kept(rankings, name, depths, groups))
    pairs = combinations(channels, 2)
    between = (row for a, b in pairs for row in _between(rankings, a, b, depths, groups))
    return (
        pl.DataFrame(list(kept), schema=KEPT_SUMS, orient="row"),
        pl.DataFrame(list(between), schema=BETWEEN_SUMS, orient="row"),
    )


def pool_drift(parts: Iterable[tuple[pl.DataFrame, pl.DataFrame]]) -> RunDrift:
    """Add up the sums of disjoint sets of queries, and give the means."""
    kept, between = [pl.DataFrame(schema=KEPT_SUMS)], [pl.DataFrame(schema=BETWEEN_SUMS)]
    for of_kept, of_between in parts:
        kept.append(of_kept)
        between.append(of_between)
        if len(kept) > _FEW:
            kept, between = [_added(kept)], [_added(between)]
    return RunDrift(_kept_means(_added(kept)), _between_means(_added(between)))


def _side_by_side(
    before: pl.DataFrame,
    after: pl.DataFrame,
    channels: Mapping[str, tuple[str, str]],
    queries: pl.DataFrame,
) -> pl.DataFrame:
    """A row for each pair of either run: query_id as after, item_id, `<name> before`, `after`."""
    pair = ["query_id", "item_id"]
    renamed = before.rename({"query_id": "before"}).join(queries, on="before")
    old = renamed.select(
        pl.col("after").alias("query_id"),
        "item_id",
        *(pl.col(f"rank_{own[0]}").alias(f"{name} before") for name, own in channels.items()),
    )
    known = after.join(queries.select(query_id="after"), on="query_id", how="semi")
    new = known.select(
        *pair, *(pl.col(f"rank_{own[1]}").alias(f"{name} after") for name, own in channels.items())
    )
    return old.join(new, on=pair, how="full", coalesce=True)


def _kept(
    rankings: Rankings,
    name: str,
    depths: Sequence[int],
    groups: Mapping[str, Bools],
) -> Iterator[tuple[str | int, ...]]:
    runs = f"{name} before", f"{name} after"
    for depth, found in zip(depths, rankings.likeness(*runs, depths), strict=True):
        unchanged = rankings.unchanged(*runs, depth)
        values = [np.nan_to_num(value) for value in _values(found)]  # a list that is gone shares 0
        some = (found.a > 0) | (found.b > 0)
        for segment, members in groups.items():
            rows = members & some
            both, a, b = (int(count[rows].sum()) for count in (found.both, found.a, found.b))
            yield (
                segment,
                depth,
                name,
                *(whole(value[rows]) for value in values),
                int(unchanged[rows].sum()) * UNIT,
                *(both, a - both, b - both),
                int(rows.sum()),
            )


def _between(
    rankings: Rankings,
    a: str,
    b: str,
    depths: Sequence[int],
    groups: Mapping[str, Bools],
) -> Iterator[tuple[str | int, ...]]:
    runs = [rankings.likeness(f"{a} {run}", f"{b} {run}", depths) for run in ("before", "after")]
    for depth, before, after in zip(depths, *runs, strict=True):
        pairs = zip(MEASURES, _values(before), _values(after), strict=True)
        for measure, earlier, later in pairs:
            known = ~np.isnan(earlier) & ~np.isnan(later)
            for segment, members in groups.items():
                old, new = earlier[known & members], later[known & members]
                sums = (whole(old), whole(new), whole((new - old) ** 2), len(old))
                yield (segment, depth, a, b, measure, *sums)


def _values(likeness: Likeness) -> list[Floats]:
    return [getattr(likeness, name) for name in MEASURES]


def _added(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    together = pl.concat(parts)
    key = [name for name in together.columns if name in ("segment", "depth", "channel", "a", "b")]
    key += [name for name in together.columns if name == "measure"]
    return together.group_by(key, maintain_order=True).sum()


def _kept_means(sums: pl.DataFrame) -> pl.DataFrame:
    means = (_mean(name).alias(name) for name in (*MEASURES, "unchanged"))
    return _in_order(sums.with_columns(means)).select(list(KEPT))


def _between_means(sums: pl.DataFrame) -> pl.DataFrame:
    n, difference = pl.col("queries"), pl.col("after") - pl.col("before")
    means = sums.with_columns(
        _mean(name).alias(name) for name in ("before", "after", "squared")
    ).with_columns(difference=difference)
    variance = (pl.col("squared") - pl.col("difference") ** 2).clip(0) / (n - 1)  # of the mean
    half = pl.when(n > 1).then(_Z * variance.sqrt())
    ends = means.with_columns(
        ci_low=pl.col("difference") - half, ci_high=pl.col("difference") + half
    )
    return _in_order(ends).select(list(BETWEEN))


def _mean(name: str) -> pl.Expr:
    return pl.when(pl.col("queries") > 0).then(pl.col(name) / (UNIT * pl.col("queries")))


def _in_order(table: pl.DataFrame) -> pl.DataFrame:
    return table.sort(segment_order(), "depth", maintain_order=True)
