"""Which queries and pairs are most worth a human's rating.

Ratings of what an engine showed hold few irrelevant pairs, and ratings of random pairs hold few
relevant ones. Here pairs are picked so that what is known of them before they are rated is spread
evenly: who found them, how near the top, how far the channels disagree, what grade is expected.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.domain.levels import random_negatives
from trivium.domain.sampling import hash_strings
from trivium.foundation.tables import GRADES, channels_of
from trivium.foundation.text import word_set

DIMENSIONS = ("stratum", "band", "disagreement", "expected")
RANDOM = "random"
SIMILAR = "no channel, similar words"

_KEY = ["query_id", "item_id"]
_BANDS = (10, 50, 100)
_PLACES = (5, 15, 50)
"""Of the fused ranking, down to which grade 4, 3 and 2 are expected where no judge was asked."""
_FUSION = 60
"""The constant of reciprocal rank fusion (Cormack et al., SIGIR 2009)."""
_DRAWS = 64
"""Draws for each random pair, as most may hit what is excluded in a small catalog."""


def worthy_queries(queries: pl.DataFrame, wanted: int, seed: int) -> pl.DataFrame:
    """Choose queries, equally many of each segment as far as there are.

    Of queries with the same words one is chosen, since a split gives them one part.

    Args:
        queries: Columns query_id, query, segment.
        wanted: How many to choose, at most.
        seed: Seed of the choice.

    Returns:
        Columns query_id, query, segment; every beginning of the table is spread as well.
    """
    words = word_set("query")
    hashes = pl.Series("_hash", hash_strings(queries["query_id"].to_list(), seed))
    distinct = (
        queries.with_columns(hashes, words.alias("_words"))
        .sort("_hash", "query_id")
        .unique("_words", keep="first", maintain_order=True)
    )
    turn = pl.int_range(pl.len()).over("segment").alias("_turn")
    ordered = distinct.with_columns(turn).sort("_turn", "_hash", "query_id")
    return ordered.head(wanted).select("query_id", "query", "segment")


def describe(candidates: pl.DataFrame, labels: pl.DataFrame | None = None) -> pl.DataFrame:
    """Say of candidates what is known before a human has rated them.

    Args:
        candidates: A candidates table.
        labels: Labels of some of them, if judges were asked.

    Returns:
        Columns query_id, item_id; `stratum`, the channels that found it; `band`, 0-3 by its best
        rank (10, 50, 100, deeper), 4 where no channel found it; `disagreement`, the largest
        difference between its ranks, banded alike, absent counting as one below the deepest;
        `expected`, the grade that the judges expect, else by its place when the channels' ranks
        are fused, 0 where no channel found it; `doubt`, 1 less the judges' confidence, null where
        none was asked; `why`, in words.
    """
    channels = channels_of(candidates)
    ranks = [pl.col(f"rank_{channel}") for channel in channels]
    filled = [rank.fill_null(rank.max() + 1) for rank in ranks]
    best = pl.min_horizontal(ranks)
    known = _with_opinion(candidates, labels).sort(_KEY)
    return known.select(
        *_KEY,
        _stratum(channels).alias("stratum"),
        _banded(best, _BANDS).fill_null(len(_BANDS) + 1).alias("band"),
        pl.when(best.is_not_null())
        .then(_banded(pl.max_horizontal(filled) - pl.min_horizontal(filled), _BANDS))
        .otherwise(len(_BANDS) + 1)
        .alias("disagreement"),
        pl.coalesce(pl.col("_opinion").round().cast(pl.Int32), _guess(ranks)).alias("expected"),
        (1.0 - pl.col("confidence")).alias("doubt"),
        _why(channels).alias("why"),
    )


def worthy_pairs(
    described: pl.DataFrame, query_ids: Sequence[str], n: int, seed: int
) -> pl.DataFrame:
    """Pick pairs so that every dimension is spread evenly, over all and within each query.

    Queries take turns, so that each has as many pairs as the others while it has any left. A turn
    takes the pair whose stratum, band, disagreement and expected grade were picked least so far;
    of equal ones that which the judges doubt most, then any.

    Args:
        described: From `describe`.
        query_ids: The queries, in the order of their turns.
        n: Pairs to pick, at most.
        seed: Decides between pairs that are alike.

    Returns:
        The rows that were picked.
    """
    turns = pl.DataFrame({"query_id": query_ids, "_query": range(len(query_ids))})
    hashes = pl.Series("_hash", hash_strings(_pair_names(described), seed))
    rows = (
        described.with_columns(hashes)
        .join(turns, on="query_id")
        .sort("_query", "doubt", "_hash", descending=[False, True, False], nulls_last=True)
    )
    codes = rows.select(pl.col(DIMENSIONS).rank("dense") - 1).to_numpy().astype(np.int64)
    picked = spread(codes, rows["_query"].to_numpy(), n)
    return rows[picked].drop("_query", "_hash")


def random_pairs(
    query_ids: Sequence[str], item_ids: Sequence[str], excluded: pl.DataFrame, n: int, seed: int
) -> pl.DataFrame:
    """Draw pairs of the queries and the whole catalog, equally many for each query.

    Args:
        query_ids: The queries; the first ones get one more where n cannot be shared out evenly.
        item_ids: The catalog, sorted.
        excluded: Pairs query_id, item_id that are candidates or judged.
        n: Pairs to draw; fewer where a query has almost every item excluded.
        seed: Seed of the draw.

    Returns:
        Columns query_id, item_id, stratum, why.
    """
    each, more = divmod(n, max(len(query_ids), 1))
    share = pl.DataFrame(
        {"query_id": query_ids, "_share": [each + (at < more) for at in range(len(query_ids))]},
        schema={"query_id": pl.String, "_share": pl.Int64},
    )
    drawn = random_negatives(query_ids, item_ids, excluded, _DRAWS * (each + 1), seed)
    hashes = pl.Series("_hash", hash_strings(_pair_names(drawn), seed))
    turned = drawn.with_columns(hashes).sort("_hash", *_KEY).join(share, on="query_id")
    kept = turned.filter(pl.int_range(pl.len()).over("query_id") < pl.col("_share"))
    why = pl.lit("drawn at random from the whole catalog").alias("why")
    return kept.select(*_KEY, pl.lit(RANDOM).alias("stratum"), why).sort(_KEY)


def spread(
    codes: NDArray[np.int64], groups: NDArray[np.int64], n: int
) -> NDArray[np.int64]:  # (at most n,)
    """Pick rows, group by group in turn, each the one whose values were picked least so far.

    A value that was picked `c` times counts as `c` times the number of values that its column
    has, so that columns weigh alike; what was picked in the group weighs as much as the mean of
    what was picked everywhere.

    Args:
        codes: Values of each row, numbered from 0 in every column, (rows, columns).
        groups: The group of each row, ascending, (rows,).
        n: Rows to pick, at most.

    Returns:
        Places of the rows, in the order in which they were picked; of rows that are equally good
        the first.
    """
    if not len(codes):
        return np.empty(0, np.int64)
    sizes = codes.max(axis=0) + 1  # (columns,)
    cells = codes + np.concatenate([[0], np.cumsum(sizes)[:-1]])  # (rows, columns)
    open_rows = np.split(np.arange(len(codes)), np.flatnonzero(np.diff(groups)) + 1)
    here = np.zeros((len(open_rows), sizes.sum()), np.int64)
    everywhere = np.zeros(sizes.sum(), np.int64)
    picked: list[int] = []
    while len(picked) < n and any(map(len, open_rows)):
        for group, rows in enumerate(open_rows):
            if not len(rows) or len(picked) == n:
                continue
            counts = len(open_rows) * here[group] + everywhere
            least = int(np.argmin(counts[cells[rows]] @ sizes))
            here[group, cells[rows[least]]] += 1
            everywhere[cells[rows[least]]] += 1
            picked.append(int(rows[least]))
            open_rows[group] = np.delete(rows, least)
    return np.array(picked, dtype=np.int64)


def in_hashed_order(pairs: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The pairs, each query's together, in an order that says nothing about them."""
    hashes = pl.Series("_hash", hash_strings(_pair_names(pairs), seed + 1))
    return pairs.with_columns(hashes).sort("query_id", "_hash", "item_id").drop("_hash")


def _pair_names(pairs: pl.DataFrame) -> list[str]:
    names: list[str] = (pairs["query_id"] + "\t" + pairs["item_id"]).to_list()
    return names


def _with_opinion(candidates: pl.DataFrame, labels: pl.DataFrame | None) -> pl.DataFrame:
    """Add the mean of what the judges expect, and their confidence; null where none was asked."""
    if labels is None:
        nothing = pl.lit(None, dtype=pl.Float64)
        return candidates.with_columns(nothing.alias("_opinion"), nothing.alias("confidence"))
    judges = [name for name in labels.columns if name.startswith("p_")]
    opinion = pl.mean_horizontal(_expectation(name) for name in judges)
    confidence = pl.col("confidence").cast(pl.Float64)
    asked = labels.select(*_KEY, opinion.alias("_opinion"), confidence)
    return candidates.join(asked, on=_KEY, how="left", maintain_order="left")


def _expectation(name: str) -> pl.Expr:
    terms = (grade * pl.col(name).arr.get(grade).cast(pl.Float64) for grade in GRADES)
    return pl.sum_horizontal(terms, ignore_nulls=False).fill_nan(None)


def _banded(value: pl.Expr, edges: Sequence[int]) -> pl.Expr:
    """The number of edges that lie below a value; null stays null."""
    return pl.sum_horizontal(((value > edge) for edge in edges), ignore_nulls=False).cast(pl.Int32)


def _guess(ranks: Sequence[pl.Expr]) -> pl.Expr:
    """The grade that a place in the fused ranking suggests."""
    fused = pl.sum_horizontal((1.0 / (_FUSION + rank)).fill_null(0.0) for rank in ranks)
    place = fused.rank("ordinal", descending=True).over("query_id")
    guess = GRADES[-1] - _banded(place, _PLACES)
    return pl.when(pl.col("channels") > 0).then(guess).otherwise(GRADES[0])


def _stratum(channels: Sequence[str]) -> pl.Expr:
    names = pl.concat_str(
        (
            pl.when(pl.col(f"rank_{channel}").is_not_null()).then(pl.lit(channel))
            for channel in channels
        ),
        separator=" + ",
        ignore_nulls=True,
    )
    return (
        pl.when(pl.col("channels") == 0)
        .then(pl.lit(SIMILAR))
        .when(pl.col("channels") == 1)
        .then(pl.format("{} alone", names))
        .otherwise(names)
    )


def _why(channels: Sequence[str]) -> pl.Expr:
    """Such as: only bm25 found it, rank 37."""
    ranks = {channel: pl.col(f"rank_{channel}") for channel in channels}
    found = pl.concat_str(
        (pl.format(f"{channel} rank {{}}", rank) for channel, rank in ranks.items()),
        separator=", ",
        ignore_nulls=True,
    )
    missed = pl.concat_str(
        (pl.when(rank.is_null()).then(pl.lit(channel)) for channel, rank in ranks.items()),
        separator=" and ",
        ignore_nulls=True,
    )
    how_many = pl.col("channels")
    reason = (
        pl.when(how_many == 0)
        .then(
            pl.format(
                "no channel found it, but words are alike, tf-idf {}", pl.col("tfidf").round(2)
            )
        )
        .when(how_many == len(channels))
        .then(pl.format("every channel found it: {}", found))
        .when(how_many == 1)
        .then(pl.format("only one channel found it: {}", found))
        .otherwise(pl.format("found by {}, not by {}", found, missed))
    )
    opinion = pl.format(
        "; judges expect grade {}, confidence {}",
        pl.col("_opinion").round(1),
        pl.col("confidence").round(2),
    )
    return pl.concat_str(reason, opinion.fill_null(""))
