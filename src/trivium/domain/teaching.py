"""The pairs that make the judges: human grades, and weak ones from outside what humans graded.

Humans graded what some search engine returned. A judge that has seen only that calls nearly every
mined candidate relevant. So pairs from outside join them with a stated weak grade: random items of
the catalog as grade 0, and items that one lexical channel alone found far down as grade 1. Weak
pairs are counted apart, and no threshold and no figure of agreement rests on them.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from trivium.domain.judgments import consensus
from trivium.domain.sampling import draw_positions, hash_strings
from trivium.foundation.errors import Fault, InputError
from trivium.foundation.tables import TAUGHT

FEWEST_QUERIES = 3
HUMAN, BACKGROUND, DEEP, FURTHER = "human", "background", "deep", "another catalog"
_WITH_WEAK = ("seed", "calibration")
_DEEP_GRADE = 1
_COLUMNS = ["query_id", "item_id", "grade", "part", "source"]


@dataclass(frozen=True)
class Teaching:
    """The graded pairs that make the judges.

    Attributes:
        pairs: Columns query_id and item_id (null for pairs of another catalog), grade, part (one
            of `TAUGHT`), source (human, background, deep, another catalog), query_text, item_text.
        counts: Columns part, source (also "human, item unknown": left out), pairs, queries.
    """

    pairs: pl.DataFrame
    counts: pl.DataFrame

    def of(self, part: str) -> pl.DataFrame:
        """The pairs of a part."""
        return self.pairs.filter(pl.col("part") == part)


def teaching(
    judgments: pl.DataFrame,
    items: pl.DataFrame,
    queries: pl.DataFrame,
    further: pl.DataFrame,
    pool: pl.DataFrame,
    *,
    background: float,
    deep: float,
    seed: int,
) -> Teaching:
    """Gather the pairs that make the judges.

    Args:
        judgments: A judgments table; several raters of a pair count as their median.
        items: Columns item_id and judge_text.
        queries: Columns query_id, judge_text and part.
        further: Graded pairs of other catalogs (`tables.TEACHING`); they join the seed.
        pool: Columns query_id and item_id, candidates that only one lexical channel found, far
            down; those of them that humans graded are left out here.
        background: Random pairs in seed and calibration, for each human grade there.
        deep: Pairs of the pool there, likewise, as far as it goes.
        seed: Seed of the draws.

    Raises:
        InputError: If a part has too few judged queries, or one grade alone.
    """
    human, left_out = human_grades(judgments, items, queries)
    check_enough(human, ("seed", "calibration", "agreement"))
    weak = background_pairs(human, items, background, seed)
    far = deep_pairs(human, pool, queries, deep, seed)
    own = with_texts(pl.concat([human, weak, far]), items, queries)
    others = further.select(
        pl.lit(None, pl.String).alias("query_id"),
        pl.lit(None, pl.String).alias("item_id"),
        "grade",
        pl.lit("seed").alias("part"),
        pl.lit(FURTHER).alias("source"),
        "query_text",
        "item_text",
    )
    return Teaching(pl.concat([own, others]), _counts(own, left_out, others))


def human_grades(
    judgments: pl.DataFrame, items: pl.DataFrame, queries: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Collect the grades that make a judge: one a pair, with its part.

    Several raters count as their median; between two grades it is rounded down, so that a pair in
    doubt is not called relevant.

    Returns:
        Columns query_id, item_id, grade, part, source; and the same for those left out, whose item
        is not in the catalog.
    """
    graded = (
        consensus(judgments)
        .join(queries.select("query_id", "part"), on="query_id", maintain_order="left")
        .filter(pl.col("part").is_in(TAUGHT))
    )
    known = graded["item_id"].is_in(items["item_id"].implode())
    return (
        graded.filter(known).with_columns(pl.lit(HUMAN).alias("source")),
        graded.filter(~known).with_columns(pl.lit("human, item unknown").alias("source")),
    )


def background_pairs(
    human: pl.DataFrame, items: pl.DataFrame, share: float, seed: int
) -> pl.DataFrame:
    """Draw random items for the queries of teaching and calibration, as weak grade 0.

    Args:
        human: The first table of `human_grades`.
        items: Column item_id.
        share: Pairs to draw in a part, for each human grade there.
        seed: Seed of the draw.

    Returns:
        The columns of `human`; pairs that humans graded are never among them.
    """
    catalog = items["item_id"].sort()
    drawn = [human.clear()]
    for part in _WITH_WEAK:
        rows = human.filter(pl.col("part") == part)
        wanted = round(share * len(rows))
        query_ids = rows["query_id"].unique().sort()
        if query_ids.is_empty():
            continue
        each = 4 * (wanted // len(query_ids) + 1)  # enough to spare repeats
        at = draw_positions(hash_strings(query_ids.to_list(), seed), each, len(catalog))
        pairs = pl.DataFrame(
            {
                # The first draw of every query, then the second: queries share evenly.
                "query_id": pl.concat([query_ids] * each),
                "item_id": catalog.gather(pl.Series(at.T.ravel())),
            }
        )
        fresh = pairs.unique(maintain_order=True).join(
            human, on=["query_id", "item_id"], how="anti", maintain_order="left"
        )
        weak = {"grade": pl.lit(0, pl.Int8), "part": pl.lit(part), "source": pl.lit(BACKGROUND)}
        drawn.append(fresh.head(wanted).with_columns(**weak))
    return pl.concat(drawn)


def deep_pairs(
    human: pl.DataFrame, pool: pl.DataFrame, queries: pl.DataFrame, share: float, seed: int
) -> pl.DataFrame:
    """Choose candidates from far down a lexical channel as weak grade 1.

    Args:
        human: The first table of `human_grades`.
        pool: Columns query_id and item_id.
        queries: Columns query_id and part.
        share: Pairs to choose in a part, for each human grade there.
        seed: Seed of the choice.

    Returns:
        The columns of `human`; pairs that humans graded are never among them.
    """
    keys = pl.concat_str("query_id", pl.lit("\t"), "item_id").alias("_key")
    placed = (
        pool.select("query_id", "item_id")
        .join(human, on=["query_id", "item_id"], how="anti", maintain_order="left")
        .join(queries.select("query_id", "part"), on="query_id", maintain_order="left")
        .with_columns(keys)
    )
    hashes = pl.Series("_hash", hash_strings(placed["_key"].to_list(), seed))
    ordered = placed.with_columns(hashes).sort("_hash", "_key")
    chosen = [human.clear()]
    for part in _WITH_WEAK:
        wanted = round(share * human.filter(pl.col("part") == part).height)
        rows = ordered.filter(pl.col("part") == part).head(wanted).sort("_key")
        weak = {"grade": pl.lit(_DEEP_GRADE, pl.Int8), "source": pl.lit(DEEP)}
        chosen.append(rows.with_columns(**weak).select(_COLUMNS))
    return pl.concat(chosen)


def with_texts(pairs: pl.DataFrame, items: pl.DataFrame, queries: pl.DataFrame) -> pl.DataFrame:
    """Add query_text and item_text, what the judge reads, to pairs."""
    return pairs.join(
        queries.select("query_id", query_text="judge_text"),
        on="query_id",
        how="left",
        maintain_order="left",
    ).join(items.select("item_id", item_text="judge_text"), on="item_id", maintain_order="left")


def check_enough(human: pl.DataFrame, parts: tuple[str, ...]) -> None:
    """Refuse grades that are too few to teach, calibrate and measure a judge.

    Args:
        human: The first table of `human_grades`.
        parts: The parts that are needed.

    Raises:
        InputError: If a part has too few judged queries, or one grade alone.
    """
    faults = []
    for part in parts:
        rows = human.filter(pl.col("part") == part)
        queries, grades = rows["query_id"].n_unique(), rows["grade"].unique().sort().to_list()
        if queries >= FEWEST_QUERIES and len(grades) > 1:
            continue
        faults.append(
            Fault(
                f"judgments: queries of the part '{part}'",
                got=f"{queries} judged queries, {len(rows)} grades, different ones: {grades}",
                expected=f"at least {FEWEST_QUERIES} judged queries and two different grades",
                fix="judge more queries (`trivium seed` picks pairs worth rating), or give the "
                "part a larger share under [split]",
            )
        )
    if faults:
        raise InputError(*faults)


def _counts(own: pl.DataFrame, left_out: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    columns = ["query_id", "part", "source"]
    # Queries of another catalog are known by their text.
    named = others.select(pl.col("query_text").alias("query_id"), "part", "source")
    return (
        pl.concat([own.select(columns), left_out.select(columns), named])
        .group_by("part", "source")
        .agg(
            pl.len().cast(pl.Int64).alias("pairs"),
            pl.col("query_id").n_unique().cast(pl.Int64).alias("queries"),
        )
        .sort("part", "source")
    )
