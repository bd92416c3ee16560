"""Work cut into shards of queries: each is written once, with its counts, and never again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from trivium.adapters.executors import Executor
from trivium.foundation.console import progress
from trivium.foundation.workspace import StageFolder, read_json, write_json, write_table

ShardWork = Callable[[int], tuple[pl.DataFrame, Mapping[str, Any]]]


@dataclass(frozen=True)
class WriteShard:
    """Works on a shard and writes its table, then its counts: the file that means it is done.

    Attributes:
        setup: Loads what the work needs; called once in each process.
        folder: The stage's folder.
        table: The table's name.
    """

    setup: Callable[[], ShardWork]
    folder: StageFolder
    table: str

    def __call__(self) -> Callable[[int], int]:
        """Load, and return the function that works on one shard."""
        work = self.setup()

        def write(number: int) -> int:
            rows, counts = work(number)
            write_table(self.folder.shard_path(self.table, number), rows)
            write_json(
                counts_path(self.folder, self.table, number), {"rows": rows.height, **counts}
            )
            return number

        return write


def counts_path(folder: StageFolder, table: str, number: int) -> Path:
    """Where a shard's counts lie."""
    return folder.shard_path(table, number).with_suffix(".json")


def run_shards(
    executor: Executor, setup: Callable[[], ShardWork], folder: StageFolder, table: str, shards: int
) -> list[dict[str, Any]]:
    """Work on the shards that are not finished yet.

    Returns:
        The counts of every shard, finished now or earlier, in order.
    """
    missing = [n for n in range(shards) if not counts_path(folder, table, n).exists()]
    work = executor.run(WriteShard(setup, folder, table), missing)
    for _ in progress(work, f"{table}, shards", len(missing)):
        pass
    found = [read_json(counts_path(folder, table, number)) for number in range(shards)]
    return [counts for counts in found if counts is not None]


def total(counts: list[dict[str, Any]], name: str) -> Counter[str]:
    """Add up one of the counts over the shards."""
    summed: Counter[str] = Counter()
    for shard in counts:
        summed.update(shard.get(name, {}))
    return summed


def shard_of(table: pl.DataFrame, number: int, size: int) -> pl.DataFrame:
    """The rows of one shard of a table of queries."""
    return table.slice(number * size, size)
