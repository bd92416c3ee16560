"""A channel is one way of retrieving items; it is found by name through entry points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, cast

import polars as pl

from trivium.foundation.channel_section import ChannelSection
from trivium.foundation.config import DataConfig
from trivium.foundation.errors import ConfigError, DependencyError
from trivium.foundation.mine_config import MineConfig

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


@dataclass(frozen=True)
class Explanation:
    """What a channel did with a query, and why it found some items.

    Attributes:
        steps: Columns part (of the query, as it was read), became (what was searched), weight
            (Float32, null where the channel has none), why; in the order of the query.
        matches: Columns item_id, part (as `became`), score (Float32): what of an item's score each
            part gave; the items in the order asked, the largest share first.
    """

    steps: pl.DataFrame
    matches: pl.DataFrame


class Explains(Protocol):
    """A channel that can say why it found something; optional."""

    def explain(self, text: str, item_ids: Sequence[str]) -> Explanation:
        """Explain a query.

        Args:
            text: The query.
            item_ids: Items of the catalog, found or not.
        """
        ...


class ChannelFactory(Protocol):
    """What the entry point of a channel names: its class, or a function that builds it."""

    def __call__(
        self,
        *,
        items: pl.DataFrame,
        settings: Any,
        config: MineConfig,
        data: DataConfig,
        cache: Path | None,
    ) -> Channel:
        """Build the channel over a catalog.

        Args:
            items: Columns item_id, title, text (what towers and BM25 read), and the user's
                further fields.
            settings: The channel's own, of its kind (`channel_config`), its name among them.
            config: The settings of mining.
            data: Where the user's files are (the synonyms).
            cache: A folder that outlives the process, for what is slow to compute.
        """
        ...


def build_channel(
    settings: ChannelSection,
    items: pl.DataFrame,
    config: MineConfig,
    data: DataConfig,
    cache: Path | None = None,
) -> Channel:
    """Build a channel over a catalog; see `ChannelFactory`."""
    factory = load_channel(settings.kind)
    return factory(items=items, settings=settings, config=config, data=data, cache=cache)


def load_channel(kind: str) -> ChannelFactory:
    """Find a kind of channel among the entry points of the group `trivium.channels`.

    Raises:
        ConfigError: If no installed package offers such a channel.
        DependencyError: If it is offered but cannot be imported.
    """
    known = {point.name: point for point in entry_points(group=GROUP)}
    if kind not in known:
        raise ConfigError.of(
            "mine.channels",
            got=repr(kind),
            expected=f"one of {', '.join(sorted(known))}",
            fix=f"correct the name, or install the package that offers it under '{GROUP}'",
        )
    try:
        return cast(ChannelFactory, known[kind].load())
    except ImportError as error:
        raise DependencyError.of(
            f"channel '{kind}'",
            got=str(error),
            expected=f"{known[kind].value} to be importable",
            fix="install what the channel needs",
        ) from None
