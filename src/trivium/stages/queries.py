"""A table of queries out of a log: near-duplicates folded, segments cut, a sample drawn.

In: texts and how often each was asked. Out: query_id, query, frequency, segment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from trivium.domain.query_log import fold_questions, sample_queries, segment_sizes, short_of
from trivium.domain.splits import with_segments
from trivium.foundation.errors import InputError


@dataclass(frozen=True)
class LogSettings:
    """What is made of a log.

    Attributes:
        fold: Whether queries that ask the same become one.
        min_frequency: Least times that a query, with those folded into it, was asked.
        sample: Queries to draw; 0 keeps all.
        weights: Of the segments in the sample; none draws them as they come.
        head_share: Share of the traffic that head queries make.
        torso_share: Share that head and torso make.
        id_prefix: What the ids begin with.
        seed: Of the sample.
    """

    fold: bool = True
    min_frequency: int = 1
    sample: int = 0
    weights: Mapping[str, float] = field(default_factory=dict)
    head_share: float = 0.5
    torso_share: float = 0.9
    id_prefix: str = ""
    seed: int = 0


@dataclass(frozen=True)
class LogQueries:
    """The queries of a log.

    Attributes:
        queries: Columns query_id, query, frequency, segment; the most frequent first.
        sizes: Columns segment, queries, asked, traffic (of the log's queries that ask something
            else), taken (how many of them are in `queries`).
        summary: What was folded and left out, line by line.
    """

    queries: pl.DataFrame
    sizes: pl.DataFrame
    summary: list[str]


def queries_of_log(counted: pl.DataFrame, settings: LogSettings) -> LogQueries:
    """Make a table of queries.

    An id is a hash of the question, the same for every spelling, log and sample, so that labels
    of one month's queries are still those of the next month's.

    Args:
        counted: Columns query (distinct) and frequency.
        settings: What is made of them.

    Raises:
        InputError: If no query is left.
        ConfigError: If no weight is above 0.
    """
    queries = counted.select(pl.col("query").alias("query_id"), "query", "frequency")
    summary = []
    asked = "query"
    if settings.fold:
        made = fold_questions(queries)
        queries, asked = made.queries, "question"
        summary.append(f"{made.folded.height:,} spellings folded into others")
    ids = _ids(queries[asked], settings.id_prefix)
    queries = queries.with_columns(ids).select("query_id", "query", "frequency")
    queries = with_segments(queries, settings.head_share, settings.torso_share)
    sizes = segment_sizes(queries)
    kept = queries.filter(pl.col("frequency") >= settings.min_frequency)
    if kept.height < queries.height:
        rare = queries.height - kept.height
        summary.append(f"left out, asked fewer than {settings.min_frequency} times: {rare:,}")
    if kept.is_empty():
        raise _none_left(summary)
    if settings.sample:
        drawn = sample_queries(kept, settings.sample, settings.weights, settings.seed)
        summary += short_of(kept, drawn, settings.sample, settings.weights)
        kept = drawn
    taken = segment_sizes(kept).select("segment", pl.col("queries").alias("taken"))
    sizes = sizes.join(taken, on="segment", how="left", maintain_order="left")
    order = kept.sort(["frequency", "query_id"], descending=[True, False])
    return LogQueries(order, sizes, summary)


def _ids(questions: pl.Series, prefix: str) -> pl.Series:
    """96 bits of BLAKE2b: among 100 million questions two share an id once in 10^13 logs."""
    digests = (
        prefix + hashlib.blake2b(text.encode(), digest_size=12).hexdigest() for text in questions
    )
    return pl.Series("query_id", digests, dtype=pl.String)


def _none_left(summary: list[str]) -> Exception:
    return InputError.of(
        "queries of the log",
        got="; ".join(["none", *summary]),
        expected="at least one query",
        fix="lower --min-frequency, or widen the days",
    )
