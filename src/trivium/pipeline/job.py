"""What every step of the pipeline is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import polars as pl

from trivium.adapters.executors import Executor
from trivium.foundation.config import Config
from trivium.foundation.workspace import Workspace

if TYPE_CHECKING:
    from trivium.stages.inputs import Inputs

Outcome: TypeAlias = tuple[dict[str, int], list[str]]
"""Rows by table, and what to say."""


@dataclass(frozen=True)
class Job:
    """What every step is given.

    Attributes:
        workspace: The run's folder.
        config: The configuration.
        executor: Where shards are worked on.
        stages: All the stages of this run.
        inputs: The user's tables, for the stage that writes them.
    """

    workspace: Workspace
    config: Config
    executor: Executor
    stages: Sequence[str]
    inputs: Inputs | None = None

    def table(self, stage: str, name: str) -> pl.DataFrame:
        """A table of an earlier stage."""
        return self.workspace.stage(stage).read(name)

    def shards(self, queries: pl.DataFrame) -> int:
        """Number of shards that some queries are cut into."""
        return -(-queries.height // self.config.run.shard)
