"""What a process loads to work on shards, and the work itself, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from trivium.domain.ablations import seen_by
from trivium.domain.disagreement import depths_down_to, found_by, overlap_sums
from trivium.domain.level_precision import bad_levels
from trivium.domain.levels import deep_sample
from trivium.foundation.config import Config
from trivium.foundation.tables import candidates_schema, empty, labels_schema
from trivium.foundation.workspace import Workspace
from trivium.pipeline.shards import ShardWork, shard_of

if TYPE_CHECKING:
    from trivium.stages.mine import Miner

Done = tuple[pl.DataFrame, Mapping[str, Any]]


_latest: tuple[tuple[str, object], Miner] | None = None


def _miner(workspace: Workspace, config: Config) -> Miner:
    """The channels over the catalog; the latest ones are kept, for two tables are mined by them."""
    global _latest
    from trivium.stages.mine import Miner

    # What `mine` was planned from names the catalog's content, the model's and the synonyms'.
    key = (str(workspace.root), workspace.stage("mine").begun())
    if _latest is None or _latest[0] != key:
        miner = Miner(
            workspace.stage("inputs").read("items").drop("judge_text"),
            config.mine,
            config.data,
            cache=workspace.cache,
            token_similar=4 * config.examples.max_negatives,
            band=(config.examples.tfidf_low, config.examples.tfidf_high),
            seed=config.run.seed,
        )
        _latest = (key, miner)
    return _latest[1]


@dataclass(frozen=True)
class MineShards:
    """Mines shards of the queries to mine."""

    workspace: Workspace
    config: Config

    def __call__(self) -> ShardWork:
        """Build the channels over the catalog."""
        queries = self.workspace.stage("mine").read("queries")
        miner = _miner(self.workspace, self.config)
        channels, depths = self.config.mine.names, depths_down_to(self.config.mine.depth)

        def work(number: int) -> Done:
            asked = shard_of(queries, number, self.config.run.shard)
            candidates = miner.mine(asked)
            counts = {
                "nothing": _nothing(candidates, channels, asked.height),
                "overlap": overlap_sums(candidates, channels, depths, queries).to_dict(
                    as_series=False
                ),
                "found_by": found_by(candidates, channels, queries).to_dict(as_series=False),
            }
            return candidates, counts

        return work


def seed_alone(queries: pl.DataFrame, mined: pl.DataFrame) -> pl.DataFrame:
    """The seed queries that were not mined, sorted by query_id."""
    seed = queries.filter(pl.col("part") == "seed")
    return seed.join(mined, on="query_id", how="anti").sort("query_id")


def _nothing(candidates: pl.DataFrame, channels: Sequence[str], asked: int) -> dict[str, int]:
    """Queries for which each channel found nothing."""
    found = {name: pl.col(f"rank_{name}").is_not_null() for name in channels}
    answered = candidates.select(
        pl.col("query_id").filter(there).n_unique().alias(name) for name, there in found.items()
    )
    return {name: asked - count for name, count in answered.to_dicts()[0].items()}


@dataclass(frozen=True)
class PoolShards:
    """Mines shards of the judged queries; keeps what humans graded, and a sample from far down."""

    workspace: Workspace
    config: Config

    def __call__(self) -> ShardWork:
        """Build the channels, unless this process has just built them."""
        queries = self.workspace.stage("judges").read("queries")
        judged = self.workspace.stage("inputs").read("judgments").select("query_id", "item_id")
        config, miner = self.config, _miner(self.workspace, self.config)

        def work(number: int) -> Done:
            candidates = miner.mine(shard_of(queries, number, config.run.shard))
            graded = candidates.join(judged, on=["query_id", "item_id"], how="semi")
            far = deep_sample(candidates, config.examples, config.mine, config.run.seed)
            rows = pl.concat([graded, far]).unique(["query_id", "item_id"])
            return rows.sort("query_id", "item_id"), {}

        return work


@dataclass(frozen=True)
class ExampleShards:
    """Makes examples: first the shards of the mined queries, then those of the seed."""

    workspace: Workspace
    config: Config

    def __call__(self) -> ShardWork:
        """Load the catalog's ids, the human grades, and what they say of the levels."""
        from trivium.stages.examples import build_examples

        read = self.workspace.stage("inputs").read
        item_ids = read("items")["item_id"].sort().to_list()
        every = read("queries")
        seeds = every.filter(pl.col("part") == "seed").select("query_id")
        judgments = read("judgments").join(seeds, on="query_id", how="semi")
        mined = self.workspace.stage("mine").read("queries")
        seed = seed_alone(every, mined)
        config, size = self.config, self.config.run.shard
        rules = config.examples.for_catalog(len(item_ids))
        measured = self.workspace.stage("examples").read("level_precision")
        without = () if rules.keep_bad_levels else bad_levels(measured)
        first_of_seed = -(-mined.height // size)

        def work(number: int) -> Done:
            if number < first_of_seed:
                queries = shard_of(mined, number, size)
                candidates, labels = self._labelled(number)
            else:
                queries = shard_of(seed, number - first_of_seed, size)
                candidates, labels = self._nothing()
            made, left_out = build_examples(
                queries["query_id"].to_list(),
                item_ids,
                candidates,
                labels,
                judgments.join(queries, on="query_id", how="semi"),
                rules,
                config.mine,
                config.run.seed,
                without,
            )
            levels = dict(made.group_by("level").len().sort("level").iter_rows())
            return made, {"left_out": left_out, "levels": levels}

        return work

    def _labelled(self, number: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        candidates = self.workspace.stage("mine").shard_path("candidates", number)
        labels = self.workspace.stage("annotate").shard_path("labels", number)
        found = pl.read_parquet(candidates, memory_map=False)
        return (
            seen_by(found, self.config.mine.names),  # fewer than were searched, in an ablation
            pl.read_parquet(labels, memory_map=False),
        )

    def _nothing(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        channels = self.config.mine.names
        return empty(candidates_schema(channels)), empty(
            labels_schema(tuple(judge.name for judge in self.config.annotate.judges))
        )
