"""Make training examples of five levels from labelled candidates and human grades.

In: candidates and labels of the training queries, human grades of the seed queries, the catalog's
ids. Out: examples, at most 50 positives and 50 negatives a query, every row with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import polars as pl

from trivium.domain import levels
from trivium.domain.labels import settled
from trivium.foundation import tables
from trivium.foundation.examples_config import ExamplesConfig
from trivium.foundation.mine_config import MineConfig


def build_examples(
    query_ids: Sequence[str],
    item_ids: Sequence[str],
    candidates: pl.DataFrame,
    labels: pl.DataFrame,
    judgments: pl.DataFrame,
    config: ExamplesConfig,
    mine: MineConfig,
    seed: int,
    without: Collection[str] = (),
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Build the examples of some queries.

    Args:
        query_ids: The queries, of training and of the seed.
        item_ids: The whole catalog, sorted.
        candidates: Candidates of the training queries among them.
        labels: Labels of those candidates.
        judgments: Human grades of the seed queries among them, one row a pair; a candidate among
            them is a seed example, whatever the judge says.
        config: The levels' depths, band, floors and caps.
        mine: Which channels are lexical, which dense.
        seed: Seed of the random negatives.
        without: Levels to leave out, worse than chance.

    Returns:
        Examples sorted by query, level and item; and the pairs left out, counted by reason.
    """
    pair = ["query_id", "item_id"]
    machine, left_out = levels.machine_levels(
        candidates.join(judgments, on=pair, how="anti"), settled(labels), config, mine, without
    )
    human, more = levels.seed_levels(judgments)
    known = pl.concat([candidates.select(pair), judgments.select(pair)])
    random = levels.random_negatives(
        sorted(query_ids), item_ids, known, config.random_negatives, seed
    )
    examples, capped = levels.capped(pl.concat([machine, human, random]), config)
    counts = Counter(left_out) + Counter(more) + Counter(capped)
    counts["graded by a human"] = candidates.join(judgments, on=pair, how="semi").height
    counts["not annotated"] = candidates.join(
        pl.concat([labels.select(pair), judgments.select(pair)]), on=pair, how="anti"
    ).height
    return tables.validate(examples, tables.EXAMPLES), {k: v for k, v in counts.items() if v}
