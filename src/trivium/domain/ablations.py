"""What a curriculum would be without one of its parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

import polars as pl

from trivium.foundation.tables import candidates_schema
from trivium.foundation.train_config import StageConfig

GROUPS = ("orders", "mixed", "levels", "channels", "hard")
"""Orders of the stages; all in one; without each level; one channel alone; hard labels."""


def orders(stages: Sequence[StageConfig]) -> Iterator[tuple[str, list[StageConfig]]]:
    """Every other order of the stages, named by it.

    Each stage starts from what the stage before it chose, whatever its own `start` says.
    """
    for order in permutations(stages):
        if list(order) != list(stages):
            name = "-".join(stage.name for stage in order)
            yield f"order {name}", [s.model_copy(update={"start": "best"}) for s in order]


def without_level(stages: Sequence[StageConfig], level: str) -> list[StageConfig]:
    """The stages without a level, on the same number of rows.

    A stage that is left without positives, or without negatives that its loss needs, is left out,
    and its steps go to the others.
    """
    kept = []
    for stage in stages:
        positives = [name for name in stage.positives if name != level]
        negatives = [name for name in stage.negatives if name != level]
        if positives and (negatives or stage.loss == "mnr"):
            kept.append(stage.model_copy(update={"positives": positives, "negatives": negatives}))
    return _with_rows(kept, sum(stage.steps * stage.batch for stage in stages))


def _with_rows(stages: list[StageConfig], rows: int) -> list[StageConfig]:
    own = sum(stage.steps * stage.batch for stage in stages)
    return [
        stage.model_copy(update={"steps": max(1, round(stage.steps * rows / own))})
        for stage in stages
    ]


def seen_by(candidates: pl.DataFrame, channels: Sequence[str]) -> pl.DataFrame:
    """Candidates as some of their channels alone would have found them.

    Pairs that only the other channels found are left out; what none found stays.
    """
    columns = candidates_schema(tuple(channels)).columns
    found = pl.sum_horizontal(
        pl.lit(0), *(pl.col(f"rank_{channel}").is_not_null() for channel in channels)
    )
    kept = candidates.with_columns(found.cast(pl.Int8).alias("_found"))
    kept = kept.filter((pl.col("_found") > 0) | (pl.col("channels") == 0))
    return kept.with_columns(pl.col("_found").alias("channels")).select(list(columns))
