"""A channel is one way of retrieving items; it is found by name through entry points."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, cast

import polars as pl

from trivium.foundation.config import DataConfig, MineConfig
from trivium.foundation.errors import ConfigError, DependencyError

GROUP = "trivium.channels"


class Channel(Protocol):
    """One retrieval system over one catalog."""

    name: str

    def search(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Retrieve the best items of each query.

        Args:
            queries: Columns query_id and text, one row a query.
            k: Most items to return for a query.

        Returns:
            A runs table (`tables.RUNS`): rank from 1, ties broken by (-score, item_id). A query
            that finds nothing has no rows. What a query finds must not depend on the other
            queries of the call.
        """
        ...


class ChannelFactory(Protocol):
    """What the entry point of a channel names: its class, or a function that builds it."""

    def __call__(
        self, *, items: pl.DataFrame, config: MineConfig, data: DataConfig, cache: Path | None
    ) -> Channel:
        """Build the channel over a catalog.

        Args:
            items: Columns item_id, title, text (what towers and BM25 read), and the user's
                further fields.
            config: The settings of mining.
            data: Where the user's files are (the synonyms).
            cache: A folder that outlives the process, for what is slow to compute.
        """
        ...


def load_channel(name: str) -> ChannelFactory:
    """Find a channel among the entry points of the group `trivium.channels`.

    Raises:
        ConfigError: If no installed package offers a channel of that name.
        DependencyError: If it is offered but cannot be imported.
    """
    known = {point.name: point for point in entry_points(group=GROUP)}
    if name not in known:
        raise ConfigError.of(
            "mine.channels",
            got=repr(name),
            expected=f"one of {', '.join(sorted(known))}",
            fix=f"correct the name, or install the package that offers it under '{GROUP}'",
        )
    try:
        return cast(ChannelFactory, known[name].load())
    except ImportError as error:
        raise DependencyError.of(
            f"channel '{name}'",
            got=str(error),
            expected=f"{known[name].value} to be importable",
            fix="install what the channel needs",
        ) from None
