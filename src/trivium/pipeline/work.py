"""What a process loads to work on shards, and the work itself, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from trivium.domain.disagreement import found_by, overlap
from trivium.foundation.config import Config
from trivium.foundation.tables import candidates_schema, empty, labels_schema
from trivium.foundation.workspace import Workspace
from trivium.pipeline.shards import ShardWork, shard_of

OVERLAP_DEPTHS = (10, 100, 500)
"""Depths at which overlap is reported, and the full depth besides."""

Done = tuple[pl.DataFrame, Mapping[str, Any]]


@dataclass(frozen=True)
class MineShards:
    """Mines shards of the queries to mine."""

    workspace: Workspace
    config: Config

    def __call__(self) -> ShardWork:
        """Build the channels over the catalog."""
        from trivium.stages.mine import Miner

        queries = self.workspace.stage("mine").read("queries")
        miner = Miner(
            self.workspace.stage("inputs").read("items").drop("judge_text"),
            self.config.mine,
            self.config.data,
            cache=self.workspace.cache,
            token_similar=4 * self.config.examples.max_negatives,
            band=(self.config.examples.tfidf_low, self.config.examples.tfidf_high),
            seed=self.config.run.seed,
        )

        channels, deepest = self.config.mine.channels, self.config.mine.depth
        depths = [depth for depth in OVERLAP_DEPTHS if depth < deepest] + [deepest]

        def work(number: int) -> Done:
            candidates = miner.mine(shard_of(queries, number, self.config.run.shard))
            counts = {
                "overlap": overlap(candidates, channels, depths).to_dicts(),
                "found_by": found_by(candidates, channels).to_dicts(),
            }
            return candidates, counts

        return work


@dataclass(frozen=True)
class AnnotateShards:
    """Labels shards of candidates."""

    workspace: Workspace
    config: Config

    def __call__(self) -> ShardWork:
        """Load the fitted judge."""
        from trivium.stages.annotate import FittedJudge, label, select, with_texts

        fitted = FittedJudge.load(self.workspace.stage("annotate").path)
        assert fitted is not None
        items = self.workspace.stage("inputs").read("items").select("item_id", "judge_text")
        queries = self.workspace.stage("inputs").read("queries").select("query_id", "judge_text")
        mined, config = self.workspace.stage("mine"), self.config

        def work(number: int) -> Done:
            candidates = pl.read_parquet(mined.shard_path("candidates", number), memory_map=False)
            chosen = select(candidates, config.annotate, config.examples, config.mine)
            labels = label(with_texts(chosen.pairs, items, queries), fitted)
            skipped = chosen.counts.filter(pl.col("reason") != "kept")
            left_out = dict(skipped.group_by("reason").agg(pl.col("pairs").sum()).iter_rows())
            return labels, {"left_out": left_out, "tokens": int(labels["tokens"].sum())}

        return work


@dataclass(frozen=True)
class ExampleShards:
    """Makes examples: first the shards of the mined queries, then those of the seed."""

    workspace: Workspace
    config: Config

    def __call__(self) -> ShardWork:
        """Load the catalog's ids and the human grades."""
        from trivium.stages.examples import build_examples

        read = self.workspace.stage("inputs").read
        item_ids = read("items")["item_id"].sort().to_list()
        seed = read("queries").filter(pl.col("part") == "seed").sort("query_id")
        judgments = read("judgments").join(seed, on="query_id", how="semi")
        mined = self.workspace.stage("mine").read("queries")
        config, size = self.config, self.config.run.shard
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
                config.examples,
                config.mine,
                config.run.seed,
            )
            levels = dict(made.group_by("level").len().sort("level").iter_rows())
            return made, {"left_out": left_out, "levels": levels}

        return work

    def _labelled(self, number: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        candidates = self.workspace.stage("mine").shard_path("candidates", number)
        labels = self.workspace.stage("annotate").shard_path("labels", number)
        return (
            pl.read_parquet(candidates, memory_map=False),
            pl.read_parquet(labels, memory_map=False),
        )

    def _nothing(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        channels = tuple(self.config.mine.channels)
        return empty(candidates_schema(channels)), empty(labels_schema(("cross_encoder",)))
