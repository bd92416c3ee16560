"""Simulated clicks on what a channel of a finished run found for the queries that were mined."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from trivium.domain.clicks import ClickModel
from trivium.foundation.errors import InputError
from trivium.pipeline.overlaps import MinedRun
from trivium.stages.clicks import GradeSources, SimulatedClicks, simulate_clicks


def clicks_of_run(
    root: Path, channel: str, sources: GradeSources, model: ClickModel, seed: int
) -> SimulatedClicks:
    """Simulate clicks on a channel's results.

    Args:
        root: Folder of the run.
        channel: Whose ranking shoppers saw.
        sources: Where the true grades come from.
        model: The click model and the traffic.
        seed: Of every draw.

    Raises:
        WorkspaceError: If there is no run whose channels were searched.
        InputError: If it has no such channel, or grades are missing.
    """
    run = MinedRun.open(root)
    if channel not in run.channels:
        raise InputError.of(
            f"--channel {channel}",
            got=f"a run of the channels {', '.join(run.channels)}",
            expected="one of them",
            fix="name the one whose results shoppers saw",
        )
    parts = run.mined.path / "candidates" / "part-*.parquet"
    rank = pl.col(f"rank_{channel}").alias("rank")
    ranking = pl.scan_parquet(parts).select("query_id", "item_id", rank)
    shown = ranking.filter(pl.col("rank") <= model.shown).collect()
    queries = run.queries.select("query_id", "frequency", "segment")
    return simulate_clicks(queries, shown, sources, model, seed)
