"""Mining: search every channel for every query and keep what they agree and disagree on.

In: items and queries with their text. Out: candidates, a row for each pair that a channel
retrieved or that shares words with the query though no channel retrieved it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from trivium.adapters.channels import build_channel
from trivium.adapters.channels.run_files import RunFilesChannel
from trivium.adapters.channels.words import tokens
from trivium.domain.found_pairs import FoundPairs
from trivium.domain.ids import Ids
from trivium.domain.tfidf import CatalogTfidf
from trivium.foundation.config import DataConfig
from trivium.foundation.console import say
from trivium.foundation.mine_config import MineConfig
from trivium.foundation.tables import RUNS, candidates_schema, empty, validate

TOKEN_SIMILAR = 200
BAND = (0.2, 0.6)
_RUN = replace(RUNS, key=())
"""Repeated pairs are seen when the runs are put together."""


class Miner:
    """Searches one catalog; built once in a process and used for many shards.

    Every query is treated alone: the same query gives the same rows, scores to the last bit,
    whatever shard it is in (`towers.Tower`, `nearest.VectorTable` and `postings.Postings` say how).

    Args:
        items: Columns item_id, title, text and any further fields.
        config: Channels, depth and tower.
        data: Where the synonyms are.
        cache: A folder for the vectors of the items.
        token_similar: Most pairs of a query that no channel retrieved. Ours: four times the
            published cap of 50 negatives, since most of them will not be judged irrelevant
            with confidence.
        band: Lowest and highest TF-IDF cosine of those pairs; published: 0.2 and 0.6.
        seed: Of their sample.
    """

    def __init__(
        self,
        items: pl.DataFrame,
        config: MineConfig,
        data: DataConfig,
        *,
        cache: Path | None = None,
        token_similar: int = TOKEN_SIMILAR,
        band: tuple[float, float] = BAND,
        seed: int = 0,
    ) -> None:
        self._names = config.names
        self._depth = config.depth
        self._channels = [
            build_channel(settings, items, config, data, cache) for settings in config.channels
        ]
        self._tfidf = CatalogTfidf(items, tokens)
        self._token_similar, self._band, self._seed = token_similar, band, seed

    def mine(self, queries: pl.DataFrame) -> pl.DataFrame:
        """Mine one shard.

        Args:
            queries: Columns query_id and text.

        Returns:
            Candidates (`tables.candidates_schema`) sorted by query_id and item_id. `tfidf` is
            there for every pair; token-similar pairs have no ranks and `channels` 0.
        """
        if not queries.height:
            return empty(candidates_schema(self._names))
        queries = queries.select("query_id", "text").sort("query_id")
        found = FoundPairs.of(self._search(queries), Ids(queries["query_id"]), self._tfidf.items)
        low, high = self._band
        beside = self._tfidf.beside(
            queries, found.pairs, n=self._token_similar, low=low, high=high, seed=self._seed
        )
        return found.table(beside.cosines, beside.similar)

    def check(self, queries: pl.DataFrame) -> list[str]:
        """Say what the run channels hold for all queries to mine; see `RunFilesChannel.check`."""
        runs = [channel for channel in self._channels if isinstance(channel, RunFilesChannel)]
        return [line for channel in runs for line in channel.check(queries)]

    def _search(self, queries: pl.DataFrame) -> dict[str, pl.DataFrame]:
        runs = {}
        for name, channel in zip(self._names, self._channels, strict=True):
            found = channel.search(queries, self._depth)
            runs[name] = validate(found, _RUN, f"runs of channel '{name}'")
        return runs


def mine(
    items: pl.DataFrame,
    queries: pl.DataFrame,
    config: MineConfig | None = None,
    data: DataConfig | None = None,
    *,
    cache: Path | None = None,
    token_similar: int = TOKEN_SIMILAR,
    band: tuple[float, float] = BAND,
    seed: int = 0,
    shard: int = 256,
) -> pl.DataFrame:
    """Mine a whole table of queries in this process, a shard at a time.

    Args:
        items: Columns item_id, title, text and any further fields.
        queries: Columns query_id and text.
        config: Channels, depth and tower; the defaults when absent.
        data: Where the synonyms are.
        cache: A folder for the vectors of the items.
        token_similar: See `Miner`.
        band: See `Miner`.
        seed: See `Miner`.
        shard: Queries worked on at a time; no influence on the result.

    Returns:
        Candidates, as `Miner.mine`.
    """
    config = config or MineConfig()
    miner = Miner(
        items,
        config,
        data or DataConfig(),
        cache=cache,
        token_similar=token_similar,
        band=band,
        seed=seed,
    )
    for line in miner.check(queries):
        say(line)
    parts_ = [miner.mine(piece) for piece in queries.iter_slices(shard)]
    if not parts_:
        return empty(candidates_schema(config.names))
    return pl.concat(parts_).sort("query_id", "item_id")
