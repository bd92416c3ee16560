"""Ablations of a run as rivals: its curriculum without one of its parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import polars as pl

from trivium.domain.ablations import GROUPS, orders, without_level
from trivium.domain.baselines import baseline_stages
from trivium.domain.curriculum import stages_of
from trivium.foundation.errors import ConfigError
from trivium.foundation.examples_config import ExamplesConfig
from trivium.foundation.mine_config import MineConfig
from trivium.foundation.train_config import StageConfig
from trivium.pipeline.rivals import Arena, Rival
from trivium.pipeline.work import ExampleShards


def ablations(arena: Arena, groups: Sequence[str]) -> Iterator[Rival]:
    """The ablations of some groups of `domain.ablations.GROUPS`; of all if none is named.

    Raises:
        ConfigError: If a group is unknown.
    """
    for group in groups:
        if group not in GROUPS:
            raise ConfigError.of(
                f"--only {group}",
                got=repr(group),
                expected=f"one of {', '.join(GROUPS)}",
                fix="name one of these",
            )
    makers = dict(zip(GROUPS, (_orders, _mixed, _levels, _channels, _hard), strict=True))
    for group in groups or GROUPS:
        yield from makers[group](arena, stages_of(arena.job.config.train))


def _orders(arena: Arena, stages: list[StageConfig]) -> Iterator[Rival]:
    for name, ordered in orders(stages):
        yield Rival(name, ordered, arena.examples)


def _mixed(arena: Arena, stages: list[StageConfig]) -> Iterator[Rival]:
    yield Rival("one mixed stage", baseline_stages("mixed", stages), arena.examples)


def _levels(arena: Arena, stages: list[StageConfig]) -> Iterator[Rival]:
    for level in dict.fromkeys(level for s in stages for level in (*s.positives, *s.negatives)):
        rest = without_level(stages, level)
        if rest:
            yield Rival(f"without {level}", rest, arena.examples)


def _channels(arena: Arena, stages: list[StageConfig]) -> Iterator[Rival]:
    config = arena.job.config
    for channel in config.mine.names if len(config.mine.names) > 1 else ():
        parts = partial(_remade, arena, _alone(config.mine, channel), config.examples)
        yield Rival(f"{channel} alone", stages, parts, {"channel": channel})


def _hard(arena: Arena, stages: list[StageConfig]) -> Iterator[Rival]:
    config = arena.job.config
    parts = partial(_remade, arena, config.mine, config.examples.model_copy(update={"by": "grade"}))
    yield Rival("hard labels", [_unsure(stage) for stage in stages], parts, {"by": "grade"})


def _unsure(stage: StageConfig) -> StageConfig:
    """A stage that asks for no probability."""
    floors = dict.fromkeys(("min_p_relevant", "min_p_irrelevant", "min_confidence"), 0.0)
    return stage.model_copy(update=floors)


def _alone(mine: MineConfig, channel: str) -> MineConfig:
    settings = [section for section in mine.channels if section.name == channel]
    roles = {
        role: [name for name in getattr(mine, role) if name == channel]
        for role in ("lexical", "dense")
    }
    return mine.model_copy(update={"channels": settings, **roles})


def _remade(arena: Arena, mine: MineConfig, examples: ExamplesConfig) -> Iterable[pl.DataFrame]:
    """The run's examples as fewer channels or other rules would have made them of its labels."""
    update = {"mine": mine, "examples": examples}
    workspace, config = arena.job.workspace, arena.job.config.model_copy(update=update)
    work = ExampleShards(workspace, config)()
    for number in range(len(workspace.stage("examples").shards("examples"))):
        yield work(number)[0]
