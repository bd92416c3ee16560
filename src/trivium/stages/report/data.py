"""What a report is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl


@dataclass(frozen=True)
class ReportData:
    """What a report can show; a part that is None is said not to have run.

    Shares (overlap, jaccard, precision, relative, confidence, accuracy) are from 0 to 1.

    Attributes:
        metrics: `tables.METRICS`; the segment of all queries is `OVERALL`. The first measure is
            the one that the report is about.
        gains: system, segment, measure, difference, ci_low, ci_high, relative, p_value, queries,
            against the baseline.
        baseline: Name of the baseline; when None, the one system of the metrics without gains.
        title: The page's title.
        config: Sections of the configuration.
        manifest: stage, seconds, rows, summary (a list of lines), one row a finished stage.
        simulated: Whether the data are simulated; a banner says so.
        overlap: segment, depth, a, b, overlap, jaccard, rbo, queries: pairs of channels.
        found_by: segment, channels (names joined by "+"), pairs.
        reliability: kind ("raw" or "calibrated"), predicted, bin, confidence, accuracy, count.
        agreement: measure, value, ci_low, ci_high, pairs, queries.
        confusion: human, judged, pairs.
        judges: judge, measure, value, ci_low, ci_high, pairs: agreement judge by judge.
        settled: judge, settled, pairs, share, agreement, cost.
        promise: What is promised of the accepted labels.
        rerank: system, ndcg, gain, ci_low, ci_high, p_value, queries.
        against_raters: against, measure, human, judge, difference, ci_low, ci_high.
        strata: by, group, share, measure, value, ci_low, ci_high, pairs.
        spending: what `domain.yields.estimate` gives of everything that was labelled.
        levels: level, rows, queries, and against human grades precision, ci_low, ci_high, chance (a
            random label's), verdict (all nullable) and precision_pairs.
        level_examples: query, title, level, grade, reason, one row a level.
        payoff: Whether training was expected to help, and why.
        curves: stage, step (counted in its stage), loss (nullable), ndcg (nullable).
        best: stage, step and ndcg of the chosen checkpoint.
    """

    metrics: pl.DataFrame
    gains: pl.DataFrame | None = None
    baseline: str | None = None
    title: str = "Trivium report"
    config: Mapping[str, Mapping[str, Any]] | None = None
    manifest: pl.DataFrame | None = None
    simulated: bool = False
    overlap: pl.DataFrame | None = None
    found_by: pl.DataFrame | None = None
    reliability: pl.DataFrame | None = None
    agreement: pl.DataFrame | None = None
    confusion: pl.DataFrame | None = None
    judges: pl.DataFrame | None = None
    settled: pl.DataFrame | None = None
    promise: str = ""
    rerank: pl.DataFrame | None = None
    against_raters: pl.DataFrame | None = None
    strata: pl.DataFrame | None = None
    spending: pl.DataFrame | None = None
    levels: pl.DataFrame | None = None
    level_examples: pl.DataFrame | None = None
    payoff: str = ""
    curves: pl.DataFrame | None = None
    best: Mapping[str, Any] | None = None
