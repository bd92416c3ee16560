"""The baselines as rivals of a run: their examples, made from what the run has."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import polars as pl

from trivium.domain.baselines import baseline_examples, baseline_stages
from trivium.domain.clicks import click_positives
from trivium.domain.curriculum import stages_of
from trivium.foundation.console import say
from trivium.foundation.errors import ConfigError
from trivium.foundation.workspace import fingerprint, write_table
from trivium.pipeline.rivals import Arena, Rival


def baseline(arena: Arena, name: str, clicks: Path | None = None) -> Rival:
    """A baseline on the budget of the run's own recipe.

    Args:
        arena: The run.
        name: One of `domain.baselines.BASELINES`.
        clicks: A table of clicks, which the baseline `click` learns from.

    Raises:
        ConfigError: If there is no such baseline, or it lacks its clicks.
        InputError: If the clicks are faulty, or a level has no examples.
    """
    stages = baseline_stages(name, stages_of(arena.job.config.train))
    if name == "click":
        if clicks is None:
            raise ConfigError.of(
                "--baseline click",
                got="no clicks",
                expected="your own table of clicks, or a simulated one",
                fix="--clicks clicks.parquet, which `trivium clicks` writes",
            )
        made_of = {"clicks": fingerprint(clicks)}
        return Rival(name, stages, partial(_clicked, arena, clicks), made_of)
    if name == "offshelf":
        return Rival(name, stages, partial(_offshelf, arena))
    levels = {level for stage in stages for level in (*stage.positives, *stage.negatives)}
    return Rival(name, stages, partial(_own, arena, name, levels))


def _own(arena: Arena, name: str, levels: set[str]) -> Iterable[pl.DataFrame]:
    """A baseline's share of the run's own examples, shard by shard."""
    for part in arena.examples():
        if part["level"].is_in(list(levels)).any():
            yield baseline_examples(name, part)


def _clicked(arena: Arena, path: Path) -> Iterable[pl.DataFrame]:
    from trivium.stages.clicks import read_clicks

    positives, left_out = click_positives(read_clicks([path]))
    for reason, count in left_out.items():
        say(f"  clicked pairs left out, {reason}: {count:,}")
    return [baseline_examples("click", positives.clear(), clicks=positives)]


def _offshelf(arena: Arena) -> Iterable[pl.DataFrame]:
    seeds = pl.concat(
        [part.filter(pl.col("level") == "seed_positive") for part in arena.examples()]
    )
    return [baseline_examples("offshelf", seeds, mined=_mined(arena, seeds))]


def _mined(arena: Arena, seeds: pl.DataFrame) -> pl.DataFrame:
    """Negatives that sentence-transformers mines with the starting tower, once for all seeds."""
    from trivium.adapters.hard_negatives import mine_negatives
    from trivium.adapters.text_vectors import KeptTower

    job = arena.job
    examples = job.workspace.stage("examples").manifest() or {}
    place = arena.place / f"mined-{examples['key']}.parquet"
    if not place.exists():
        tower = KeptTower.load(arena.start, job.config.train.max_length, job.workspace.cache)
        queries, items = job.table("inputs", "queries"), job.table("inputs", "items")
        write_table(place, mine_negatives(seeds, queries, items, tower))
    return pl.read_parquet(place, memory_map=False)
