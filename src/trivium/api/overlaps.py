"""What channels share, and what changed between two runs, on frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from trivium.api.arguments import Frame, as_given, as_polars, candidates_table
from trivium.domain.disagreement import depths_down_to
from trivium.domain.disagreement import overlap as measure
from trivium.domain.run_drift import drift_sums, pool_drift
from trivium.domain.run_match import match_channels
from trivium.foundation import tables
from trivium.foundation.errors import InputError


def overlap(
    candidates: Frame, queries: Frame | None = None, *, depths: Sequence[int] | None = None
) -> Frame:
    """Measure how much of their results each two channels share.

    Args:
        candidates: From `mine`.
        queries: query_id, query and segment, to have segments told apart.
        depths: Ranks down to which results count; 10, 100, 500 and the full depth when absent.

    Returns:
        segment ("all", and those of the queries), depth, a, b, overlap (coefficient), jaccard, rbo
        (rank-biased overlap), queries.

    Raises:
        InputError: If a table is faulty or a depth is not positive.
    """
    pairs = candidates_table(candidates)
    channels = tables.channels_of(pairs)
    made = measure(pairs, channels, _depths(depths, pairs), _segments(queries))
    return as_given(candidates, made)


def compare_runs(
    before: Frame,
    after: Frame,
    queries: Frame | None = None,
    *,
    channels: Mapping[str, str] | None = None,
    depths: Sequence[int] | None = None,
) -> dict[str, Frame]:
    """Compare what two runs found for the queries that both have, by query_id.

    Args:
        before: Candidates of the earlier run.
        after: Candidates of the later run.
        queries: query_id, query and segment, to have segments told apart.
        channels: A channel before to the one after that it is compared with; channels of the same
            name need none.
        depths: Ranks down to which results count; as in `overlap` when absent.

    Returns:
        `kept`: how alike each channel's lists before and after are, and the pairs kept, gone and
        new. `between`: how alike two channels' lists were and are, and the difference with its 95%
        interval.

    Raises:
        InputError: If a table is faulty, a depth is not positive, or the runs have no query or no
            channel in common.
    """
    old, new = candidates_table(before), candidates_table(after)
    pairs = match_channels(tables.channels_of(old), tables.channels_of(new), channels or {})
    both = old.select("query_id").unique().join(new.select("query_id").unique(), on="query_id")
    if both.is_empty():
        raise InputError.of(
            "queries of the two runs",
            got="none in common",
            expected="candidates of the same query_id in both",
            fix="compare runs of some of the same queries",
        )
    matched = both.select(before="query_id", after="query_id")
    down_to = _depths(depths, old, new)
    drift = pool_drift([drift_sums(old, new, pairs, down_to, matched, _segments(queries))])
    return {
        "kept": as_given(after, drift.kept),
        "between": as_given(after, drift.between),
    }


def _segments(queries: Frame | None) -> pl.DataFrame | None:
    if queries is None:
        return None
    asked = tables.validate(as_polars(queries), tables.QUERIES)
    return asked if "segment" in asked.columns else None


def _depths(given: Sequence[int] | None, *runs: pl.DataFrame) -> Sequence[int]:
    """The depths, those that the shallowest of the runs reaches if none are given."""
    if given is None:
        ranks = pl.max_horizontal(pl.col("^rank_.*$").max())
        return depths_down_to(min(run.select(ranks).item() or 1 for run in runs))
    wrong = [depth for depth in given if depth < 1]
    if wrong or not given:
        raise InputError.of(
            "depths",
            got=", ".join(map(str, wrong)) or "none",
            expected="ranks from 1",
            fix="leave them out for 10, 100, 500 and the full depth",
        )
    return sorted(set(given))
