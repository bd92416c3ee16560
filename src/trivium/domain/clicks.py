"""Clicks: a position-based model that simulates them, and the examples that clicks make.

Simulated clicks are drawn from hashes of ids and the seed, so that those of a query do not depend
on the other queries or on the order of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.domain.sampling import hash_strings
from trivium.domain.splits import with_segments
from trivium.foundation.tables import EXAMPLES, GRADES, PROBABILITIES, RELEVANT, SEGMENTS

SEARCHES_PER_QUERY = 10
"""Mean searches of a query where nobody counted them; ours."""

_GRADE, _CLICK, _TRAFFIC, _ORDER = range(1, 5)
_STREAM = 0x9E3779B1  # keeps the draws of different things and seeds apart
_PAIR = ["query_id", "item_id"]


@dataclass(frozen=True)
class ClickModel:
    """A position-based click model (Craswell et al., WSDM 2008) over one ranking a query.

    A click needs two things that are independent of each other. The place is looked at, with
    probability rank ** -eta, and the item attracts, with probability
    noise + (1 - noise) * (2 ** grade - 1) / 15. The examination with an eta of 1, and noise of 0.1,
    are those of Joachims, Swaminathan & Schnabel (WSDM 2017); the attraction that of Ai et al.
    (SIGIR 2018).

    Attributes:
        eta: How fast the attention falls with the rank; 0 = every place is looked at.
        noise: Probability that an item of grade 0 is clicked once it is looked at.
        shown: Results of a search.
        zipf: Exponent of the traffic where no frequency is known (1 is Zipf's own).
        searches: Searches in the whole log; 0 = as the frequencies say, or
            `SEARCHES_PER_QUERY` a query where none is known.
    """

    eta: float = 1.0
    noise: float = 0.1
    shown: int = 100
    zipf: float = 1.0
    searches: int = 0

    def probability(
        self, rank: NDArray[Any], grade: NDArray[Any]
    ) -> NDArray[np.float64]:  # (pairs,)
        """Probability that a search ends with a click on each of some items."""
        gain = (2.0 ** grade.astype(np.float64) - 1) / (2.0 ** GRADES[-1] - 1)
        looked_at: NDArray[np.float64] = rank.astype(np.float64) ** -self.eta
        return looked_at * (self.noise + (1 - self.noise) * gain)


@dataclass(frozen=True)
class ClickRule:
    """When clicks make a pair a positive.

    Attributes:
        min_clicks: Least clicks; one may be chance (ours).
        min_over_expected: Least clicks over expected clicks (COEC, Zhang & Jones, WWW 2007 workshop
            on query logs), where expected are the pair's impressions times the mean click rate of
            its rank in the whole log: 1 = clicked no less than what usually stands there (ours).
            Pairs without impressions or rank pass.
    """

    min_clicks: int = 2
    min_over_expected: float = 1.0


def simulate_traffic(
    queries: pl.DataFrame,
    model: ClickModel,
    seed: int,
    head_share: float = 0.5,
    torso_share: float = 0.9,
) -> pl.DataFrame:
    """Say how often each query is searched in a simulated log.

    In proportion to `frequency` where one is known, and then queries without one count as asked
    once; else by Zipf's law, in an order drawn by the seed. The searches are the frequencies
    themselves unless their total is stated; otherwise they are Poisson draws of the expectation, so
    that rare queries may not be searched at all.

    Args:
        queries: Columns query_id, and frequency and segment where they are known.
        model: Its `zipf` and `searches`.
        seed: Of the draws.
        head_share: Share of the searches that head queries make, where no segment is known.
        torso_share: Share that head and torso make together.

    Returns:
        Columns query_id, searches, segment, sorted by query_id.
    """
    queries = queries.sort("query_id")
    ids = queries["query_id"].to_list()
    weights, counted = _weights(queries, ids, model.zipf, seed)
    total = model.searches or round(weights.sum() if counted else SEARCHES_PER_QUERY * len(ids))
    if counted and not model.searches:
        searches = weights.astype(np.int64)
    else:
        from scipy.stats import poisson

        expected = total * weights / max(weights.sum(), np.finfo(np.float64).tiny)
        searches = poisson.ppf(_uniform(ids, _TRAFFIC, seed), expected).astype(np.int64)
    known = queries.select("query_id", *(c for c in ["segment"] if c in queries.columns))
    traffic = with_segments(
        known.with_columns(pl.Series("frequency", searches)), head_share, torso_share
    )
    return traffic.select("query_id", pl.col("frequency").alias("searches"), "segment")


def draw_grades(distributions: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Draw one grade for each pair from a judge's probabilities, the same whenever it is asked for.

    Args:
        distributions: Columns query_id, item_id, p (five probabilities).
        seed: Of the draw.

    Returns:
        Columns query_id, item_id, grade.
    """
    p = (
        distributions["p"]
        .cast(PROBABILITIES)
        .to_numpy()
        .reshape(-1, len(GRADES))
        .astype(np.float64)
    )
    below = np.cumsum(p, axis=1)  # (pairs, grades)
    drawn = _uniform(_pair_keys(distributions), _GRADE, seed) * below[:, -1]
    grade = (below[:, :-1] <= drawn[:, None]).sum(axis=1)
    return distributions.select(*_PAIR, pl.Series("grade", grade, dtype=pl.Int8))


def draw_clicks(
    shown: pl.DataFrame, traffic: pl.DataFrame, model: ClickModel, seed: int
) -> pl.DataFrame:
    """Draw the clicks of a log: of each pair a binomial number out of its impressions.

    Args:
        shown: Columns query_id, item_id, rank, grade: what every search of a query shows.
        traffic: Columns query_id, searches.
        model: The click model.
        seed: Of the draws.

    Returns:
        `tables.CLICKS`, sorted by query_id and rank: a row for each pair that was shown at all.
    """
    from scipy.stats import binom

    seen = shown.filter(pl.col("rank") <= model.shown).join(
        traffic.filter(pl.col("searches") > 0), on="query_id", how="inner"
    )
    seen = seen.sort("query_id", "rank", "item_id")
    rate = model.probability(seen["rank"].to_numpy(), seen["grade"].to_numpy())
    chance = _uniform(_pair_keys(seen), _CLICK, seed)
    clicks = binom.ppf(chance, seen["searches"].to_numpy(), rate)
    return seen.select(
        *_PAIR,
        pl.Series("clicks", clicks, dtype=pl.Float64).cast(pl.Int64),
        pl.col("searches").cast(pl.Int64).alias("impressions"),
        pl.col("rank").cast(pl.Int32),
    )


def click_positives(
    clicks: pl.DataFrame, rule: ClickRule | None = None
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Make positives of clicked pairs: level `click_positive`.

    Training on clicks believes them: the pair counts as grade 3, surely, and so the other clicked
    items of its query are never its negatives.

    Args:
        clicks: `tables.CLICKS`, one row a pair; impressions and rank may be absent or null.
        rule: When clicks suffice; the default if absent.

    Returns:
        `tables.EXAMPLES` sorted by query and item, and the clicked pairs left out, by reason.
    """
    rule = rule or ClickRule()
    clicked = _with_expected(clicks).filter(pl.col("clicks") > 0)
    few = pl.col("clicks") < rule.min_clicks
    rare = pl.col("clicks") < rule.min_over_expected * pl.col("_expected")
    why = (
        pl.when(few)
        .then(pl.lit(f"fewer than {rule.min_clicks} clicks"))
        .when(rare.fill_null(value=False))
        .then(pl.lit("clicked less than what stands at its rank"))
    )
    clicked = clicked.with_columns(why.alias("_why"))
    out = clicked.filter(pl.col("_why").is_not_null()).group_by("_why").len().sort("_why")
    kept = clicked.filter(pl.col("_why").is_null())
    return _as_positives(kept), dict(out.iter_rows())


def click_sizes(clicks: pl.DataFrame, traffic: pl.DataFrame, grades: pl.DataFrame) -> pl.DataFrame:
    """Count a simulated log by segment.

    Args:
        clicks: `tables.CLICKS`.
        traffic: Columns query_id, searches, segment.
        grades: Columns query_id, item_id, grade of every pair shown.

    Returns:
        Columns segment, queries, searches, clicked (queries with a click), clicks, relevant (share
        of the clicks that went to grade 3 or 4; null without clicks).
    """
    graded = clicks.join(grades, on=_PAIR, how="left", maintain_order="left")
    good = pl.when(pl.col("grade") >= RELEVANT).then("clicks").otherwise(0)
    of_query = graded.group_by("query_id").agg(pl.col("clicks").sum(), good.sum().alias("_good"))
    joined = traffic.join(of_query, on="query_id", how="left")
    counts = joined.group_by("segment").agg(
        pl.len().alias("queries"),
        pl.col("searches").sum(),
        (pl.col("clicks") > 0).sum().alias("clicked"),
        pl.col("clicks").sum(),
        pl.when(pl.col("clicks").sum() > 0)
        .then(pl.col("_good").sum() / pl.col("clicks").sum())
        .alias("relevant"),
    )
    order = pl.DataFrame({"segment": SEGMENTS})
    return order.join(counts, on="segment", how="inner", maintain_order="left")


def _weights(
    queries: pl.DataFrame, ids: list[str], zipf: float, seed: int
) -> tuple[NDArray[np.float64], bool]:
    """How often each query is asked against the others, and whether that was counted."""
    if "frequency" in queries.columns and queries["frequency"].count():
        return queries["frequency"].fill_null(1).to_numpy().astype(np.float64), True
    rank = np.empty(len(ids), dtype=np.float64)
    rank[np.argsort(_uniform(ids, _ORDER, seed), kind="stable")] = np.arange(1, len(ids) + 1)
    return rank**-zipf, False


def _with_expected(clicks: pl.DataFrame) -> pl.DataFrame:
    """Add the clicks that a pair's impressions would bring to the usual item of its rank."""
    if not {"impressions", "rank"} <= {*clicks.columns}:
        return clicks.with_columns(
            pl.lit(None, pl.Float64).alias("_expected"),
            *(
                pl.lit(None, pl.Int64).alias(c)
                for c in ("impressions", "rank")
                if c not in clicks.columns
            ),
        )
    counted = pl.col("impressions").is_not_null() & pl.col("rank").is_not_null()
    usual = (
        clicks.filter(counted)
        .group_by("rank")
        .agg((pl.col("clicks").sum() / pl.col("impressions").sum()).alias("_usual"))
    )
    joined = clicks.join(usual, on="rank", how="left", maintain_order="left")
    return joined.with_columns((pl.col("impressions") * pl.col("_usual")).alias("_expected"))


def _as_positives(clicked: pl.DataFrame) -> pl.DataFrame:
    def shown(column: str) -> pl.Expr:
        return pl.col(column).cast(pl.String).fill_null("?")

    believed = {"p_relevant": 1.0, "p_irrelevant": 0.0, "expected_grade": RELEVANT, "confidence": 1}
    return (
        clicked.select(
            *_PAIR,
            pl.lit("click_positive").alias("level"),
            pl.lit(RELEVANT, pl.Int8).alias("grade"),
            *(pl.lit(value, pl.Float32).alias(name) for name, value in believed.items()),
            pl.lit("clicks").alias("source"),
            pl.format(
                "{} clicks in {} impressions at rank {}",
                pl.col("clicks"),
                shown("impressions"),
                shown("rank"),
            ).alias("reason"),
        )
        .select(list(EXAMPLES.columns))
        .sort(_PAIR)
    )


def _pair_keys(pairs: pl.DataFrame) -> list[str]:
    return pairs.select(pl.concat_str(_PAIR, separator="\t")).to_series().to_list()


def _uniform(keys: list[str], stream: int, seed: int) -> NDArray[np.float64]:
    """A number inside (0, 1) for each key, the same on every machine."""
    drawn = hash_strings(keys, (seed * _STREAM + stream) % 2**63) >> np.uint64(11)
    return (drawn.astype(np.float64) + 0.5) / 2**53
