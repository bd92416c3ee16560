"""Which queries of a log to work on: near-duplicates folded, then a sample by head, torso, tail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from trivium.domain.sampling import hash_strings
from trivium.foundation.errors import ConfigError, InputError, TriviumError
from trivium.foundation.tables import SEGMENTS
from trivium.foundation.text import question

_BLOCK = 1 << 18
"""Ids hashed at a time, which bounds the memory of their Python strings."""


@dataclass(frozen=True)
class Folded:
    """Queries that each ask something else.

    Attributes:
        queries: The rows that stand, as they came, `frequency` added up over those folded in;
            `question` is what they ask.
        folded: Columns query_id, folded_into, sorted by query_id.
    """

    queries: pl.DataFrame
    folded: pl.DataFrame


def fold_questions(queries: pl.DataFrame, column: str = "query") -> Folded:
    """Fold queries that ask the same question (`text.question`) into one.

    The most frequent spelling stands, of equals the first by query_id; one without a frequency
    comes after those that have one.

    Args:
        queries: Columns query_id, frequency (may be null) and `column`; further ones are kept.
        column: The texts.
    """
    asked = queries.with_columns(question(column).alias("question"))
    shared = asked["question"].is_duplicated()
    ranked = asked.filter(shared).sort(
        ["frequency", "query_id"], descending=[True, False], nulls_last=True
    )
    groups = ranked.group_by("question").agg(
        pl.col("query_id").first().alias("_into"),
        # A sum of nothing is 0, where no frequency is known.
        pl.when(pl.col("frequency").count() > 0).then(pl.col("frequency").sum()).alias("_total"),
    )
    ranked = ranked.join(groups, on="question", how="left", maintain_order="left")
    stands = pl.col("query_id") == pl.col("_into")
    standing = ranked.filter(stands).with_columns(pl.col("_total").alias("frequency"))
    kept = pl.concat([asked.filter(~shared), standing.select(asked.columns)])
    folded = ranked.filter(~stands).select("query_id", pl.col("_into").alias("folded_into"))
    return Folded(kept.sort("query_id"), folded.sort("query_id"))


def sample_queries(
    queries: pl.DataFrame, count: int, weights: Mapping[str, float], seed: int
) -> pl.DataFrame:
    """Draw queries, from each segment in proportion to its weight.

    Within a segment every query is as likely as any other, by a hash of its id and the seed: the
    draw does not depend on the order or number of the rows, and a larger sample contains every
    smaller one. Seats go to segments by the divisor method of Sainte-Laguë, the one common method
    of apportionment that is both even-handed and monotone in the number of seats (Balinski & Young,
    Fair Representation, 1982). A segment that is exhausted leaves its seats to the others.

    Args:
        queries: Columns query_id and segment; further ones are kept.
        count: Queries to draw; all of them if they are fewer.
        weights: Segment to weight; one that is not named has weight 0. If there are none at all,
            queries are drawn whatever their segment.
        seed: Of the draw.

    Returns:
        The rows drawn, sorted by query_id.

    Raises:
        ConfigError: If no weight is above 0.
        InputError: If weights are given, and no query of a segment that has one.
    """
    drawn = queries.with_columns(hashed(queries["query_id"], seed).alias("_hash"))
    if not weights:
        return drawn.sort("_hash", "query_id").head(count).drop("_hash").sort("query_id")
    drawn = drawn.filter(pl.col("segment").is_in(weighted(weights)))
    if drawn.is_empty():
        raise _no_segments(queries, weights)
    place = pl.int_range(pl.len()).over("segment")
    weight = pl.col("segment").replace_strict(dict(weights), default=0.0, return_dtype=pl.Float64)
    order = pl.col("segment").replace_strict({name: at for at, name in enumerate(SEGMENTS)})
    drawn = drawn.sort("_hash", "query_id").with_columns(((2 * place + 1) / weight).alias("_seat"))
    best = drawn.with_columns(order.alias("_order")).sort("_seat", "_order").head(count)
    return best.select(queries.columns).sort("query_id")


def weighted(weights: Mapping[str, float]) -> list[str]:
    """The segments whose weight is above 0, in order.

    Raises:
        ConfigError: If there are none.
    """
    chosen = [name for name in SEGMENTS if weights.get(name, 0) > 0]
    if not chosen:
        raise ConfigError.of(
            "weights of the segments",
            got=", ".join(f"{name} {weight:g}" for name, weight in weights.items()),
            expected="at least one above 0",
            fix="raise the weight of head, torso or tail",
        )
    return chosen


def hashed(ids: pl.Series, seed: int) -> pl.Series:
    """`sampling.hash_strings` of many ids, in bounded memory."""
    blocks = [
        hash_strings(ids.slice(at, _BLOCK).to_list(), seed) for at in range(0, len(ids), _BLOCK)
    ]
    return pl.Series(np.concatenate(blocks) if blocks else [], dtype=pl.UInt64)


def short_of(
    queries: pl.DataFrame, drawn: pl.DataFrame, count: int, weights: Mapping[str, float]
) -> list[str]:
    """Say which segments had fewer queries than their weight asks for; the others got the rest.

    Args:
        queries: The queries that were there to draw from, with their segment.
        drawn: Those that were drawn.
        count: How many were wanted.
        weights: Of the segments.
    """
    total = sum(weights.values())
    there, taken = (_sizes(table) for table in (queries, drawn))
    lines = []
    for name in SEGMENTS:
        wanted = round(count * weights.get(name, 0) / total) if total else 0
        if taken[name] == there[name] < wanted:
            lines.append(f"{name} has {there[name]:,} queries of the {wanted:,} of its weight")
    return lines


def segment_sizes(queries: pl.DataFrame) -> pl.DataFrame:
    """How many queries each segment has, and its share of the traffic.

    Args:
        queries: Columns segment and frequency.

    Returns:
        Columns segment, queries, asked (the sum of the frequencies), traffic (its share); all
        three segments in order.
    """
    sums = queries.group_by("segment").agg(
        pl.len().cast(pl.Int64).alias("queries"), pl.col("frequency").sum().alias("asked")
    )
    every = pl.DataFrame({"segment": list(SEGMENTS)})
    sizes = every.join(sums, on="segment", how="left", maintain_order="left").fill_null(0)
    return sizes.with_columns((pl.col("asked") / max(1, sizes["asked"].sum())).alias("traffic"))


def _sizes(queries: pl.DataFrame) -> dict[str, int]:
    found = dict(queries.group_by("segment").len().iter_rows())
    return {name: found.get(name, 0) for name in SEGMENTS}


def _no_segments(queries: pl.DataFrame, weights: Mapping[str, float]) -> TriviumError:
    found = queries["segment"].drop_nulls().unique().sort().to_list()
    return InputError.of(
        "weights of the segments",
        got=f"queries of {', '.join(found)} alone" if found else "queries without a segment",
        expected=f"queries of {' or '.join(weighted(weights))}",
        fix="give queries a column frequency, or segment; or leave the weights out",
    )
