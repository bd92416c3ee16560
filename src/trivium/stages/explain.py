"""Explain one query: what each channel did with it, what it found and why.

In: a query's text and the catalog. Out: steps (what became of each part of the query), found (the
items of each channel with their rank in the others), matches (what each part gave of their scores).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import polars as pl

from trivium.adapters.channels import Channel, Explains, build_channel
from trivium.adapters.channels.explaining import MATCHES, STEPS
from trivium.foundation.config import DataConfig
from trivium.foundation.console import progress
from trivium.foundation.errors import ConfigError
from trivium.foundation.mine_config import MineConfig
from trivium.foundation.tables import RUNS, validate

TOP = 10


@dataclass(frozen=True)
class ExplainedQuery:
    """What channels did with a query.

    Attributes:
        text: The query.
        channels: All that were asked, in order.
        unexplained: Those that cannot say what they do.
        counts: Items that each channel found, down to the depth of mining.
        steps: channel, part, became, weight, why; as `Explanation.steps`.
        found: channel, rank, item_id, title, score, and rank_<other> for every channel asked (null
            where it did not find the item); the first of each channel.
        matches: channel, item_id, part, score; as `Explanation.matches`.
    """

    text: str
    channels: tuple[str, ...]
    unexplained: tuple[str, ...]
    counts: dict[str, int]
    steps: pl.DataFrame
    found: pl.DataFrame
    matches: pl.DataFrame


def explain(
    text: str,
    items: pl.DataFrame,
    config: MineConfig,
    data: DataConfig,
    *,
    query_id: str = "",
    top: int = TOP,
    only: Sequence[str] = (),
    cache: Path | None = None,
) -> ExplainedQuery:
    """Ask every channel about a query.

    Args:
        text: The query, as channels read it.
        items: Columns item_id, title, text and any further fields.
        config: The channels and their depth.
        data: Where the synonyms are.
        query_id: Of the query, for channels that look results up by it.
        top: Items of each channel to explain.
        only: Channels to ask; all of them if none is named.
        cache: A folder for the vectors of the items.

    Raises:
        ConfigError: If a channel is named that the configuration does not have.
    """
    channels = _built(items, config, data, only, cache)
    query = pl.DataFrame({"query_id": [query_id], "text": [text]})
    runs = {
        name: validate(channel.search(query, config.depth), RUNS, f"runs of channel '{name}'")
        for name, channel in channels.items()
    }
    steps, matches, unexplained = [_empty(STEPS)], [_empty(MATCHES)], []
    for name, channel in channels.items():
        first = runs[name].sort("rank")["item_id"].head(top).to_list()
        if not hasattr(channel, "explain"):
            unexplained.append(name)
            continue
        explanation = cast(Explains, channel).explain(text, first)
        steps.append(explanation.steps.select(pl.lit(name).alias("channel"), *STEPS))
        matches.append(explanation.matches.select(pl.lit(name).alias("channel"), *MATCHES))
    return ExplainedQuery(
        text=text,
        channels=tuple(channels),
        unexplained=tuple(unexplained),
        counts={name: run.height for name, run in runs.items()},
        steps=pl.concat(steps),
        found=_found(runs, items, top),
        matches=pl.concat(matches),
    )


def _built(
    items: pl.DataFrame,
    config: MineConfig,
    data: DataConfig,
    only: Sequence[str],
    cache: Path | None,
) -> dict[str, Channel]:
    unknown = [name for name in only if name not in config.names]
    if unknown:
        raise ConfigError.of(
            "--channel",
            got=", ".join(map(repr, unknown)),
            expected=f"names of channels: {', '.join(config.names)}",
            fix="correct the name, or leave it out to ask all of them",
        )
    asked = [channel for channel in config.channels if not only or channel.name in only]
    return {
        settings.name: build_channel(settings, items, config, data, cache)
        for settings in progress(asked, "loading channels", len(asked))
    }


def _found(runs: dict[str, pl.DataFrame], items: pl.DataFrame, top: int) -> pl.DataFrame:
    ranks = {
        name: run.select("item_id", pl.col("rank").alias(f"rank_{name}"))
        for name, run in runs.items()
    }
    titles = items.select("item_id", "title")
    found = pl.concat([run.sort("rank").head(top) for run in runs.values()])
    found = found.join(titles, on="item_id", how="left", maintain_order="left")
    for own in ranks.values():
        found = found.join(own, on="item_id", how="left", maintain_order="left")
    return found.select(
        "channel", "rank", "item_id", "title", "score", *(f"rank_{name}" for name in runs)
    )


def _empty(schema: object) -> pl.DataFrame:
    return pl.DataFrame(schema={"channel": pl.String, **cast(dict[str, pl.DataType], schema)})
