"""Labelling shards of candidates: first a pilot, if there is one, then the rest by what it taught.

The pilot's labels, shard by shard, and then the yields learned from them are written before a
further pair is labelled, so that a run that is killed goes on as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from trivium.domain.agreement import GROUP_COLUMNS, group_sizes, with_groups
from trivium.domain.teaching import with_texts
from trivium.foundation.config import Config
from trivium.foundation.workspace import StageFolder, Workspace, write_table
from trivium.pipeline.job import Job
from trivium.pipeline.shards import ShardWork, run_shards

PILOT, YIELDS, SPENDING, LABELS = "pilot", "yields", "spending", "labels"

GROUPS: Mapping[str, Any] = {"by": pl.String, "group": pl.String, "pairs": pl.Int64}


@dataclass(frozen=True)
class AnnotateShards:
    """Labels shards of candidates.

    Attributes:
        workspace: The run's folder.
        config: The configuration.
        pilot: Whether the pilot's queries are labelled, rather than all the others.
    """

    workspace: Workspace
    config: Config
    pilot: bool = False

    def __call__(self) -> ShardWork:
        """Load the judges and their cascade."""
        from trivium.adapters.ledger import Prices
        from trivium.pipeline.judging import panel_of
        from trivium.stages.annotate.buying import buy
        from trivium.stages.annotate.cascading import FittedCascade
        from trivium.stages.annotate.labelling import label

        folder = self.workspace.stage("annotate")
        items = self.workspace.stage("inputs").read("items").select("item_id", "judge_text")
        config = self.config.for_catalog(len(items))
        fitted = FittedCascade.load(folder.path)
        assert fitted is not None
        panel = panel_of(self.workspace, config)
        prices = {judge.name: Prices.of(judge) for judge in config.annotate.judges}
        queries = self.workspace.stage("inputs").read("queries").select("query_id", "judge_text")
        drawn = drawn_queries(self.workspace, config)
        yields = None if self.pilot or drawn.is_empty() else folder.read(YIELDS)
        band = (config.examples.tfidf_low, config.examples.tfidf_high)

        def ask(pairs: pl.DataFrame) -> tuple[pl.DataFrame, int]:
            return label(with_texts(pairs, items, queries), panel, fitted, prices)

        def work(number: int) -> tuple[pl.DataFrame, Mapping[str, Any]]:
            mined = self.workspace.stage("mine").shard_path("candidates", number)
            candidates = pl.read_parquet(mined, memory_map=False).join(
                drawn, on="query_id", how="semi" if self.pilot else "anti", maintain_order="left"
            )
            bought = buy(candidates, ask, config, yields)
            kept = candidates.join(bought.pairs, on=["query_id", "item_id"], how="semi")
            counts = {
                "left_out": bought.left_out,
                "groups": group_sizes(with_groups(kept, band), GROUP_COLUMNS).to_dicts(),
                "strata": bought.counts.to_dict(as_series=False),
                "foreseen": bought.foreseen,
            }
            if yields is None:
                return bought.labels, counts
            first = pl.read_parquet(folder.shard_path(PILOT, number), memory_map=False)
            return pl.concat([first, bought.labels]).sort("query_id", "item_id"), counts

        return work


def label_shards(job: Job, folder: StageFolder) -> list[dict[str, Any]]:
    """Label everything, and write the tables `yields` (if there is a pilot) and `spending`.

    Returns:
        The counts of every shard, those of the pilot first.
    """
    from trivium.domain.yields import estimate

    shards = job.shards(job.table("mine", "queries"))
    work, counts = AnnotateShards(job.workspace, job.config), list[dict[str, Any]]()
    if job.config.annotate.pilot:
        pilot = replace(work, pilot=True)
        counts = run_shards(job.executor, pilot, folder, PILOT, shards)
        write_table(folder.table_path(YIELDS), estimate(strata_of(counts)))
    counts += run_shards(job.executor, work, folder, LABELS, shards)
    write_table(folder.table_path(SPENDING), estimate(strata_of(counts)))
    return counts


def strata_of(counts: list[dict[str, Any]]) -> pl.DataFrame:
    """Add up what the shards count of strata, `domain.yields.TALLY`."""
    from trivium.domain.yields import TALLY, add_up

    return add_up([pl.DataFrame(shard["strata"], schema=TALLY) for shard in counts])


def drawn_queries(workspace: Workspace, config: Config) -> pl.DataFrame:
    """The queries of the pilot: column query_id."""
    from trivium.stages.annotate.selection import pilot_queries

    mined = workspace.stage("mine").read("queries")["query_id"]
    return pilot_queries(mined, config.annotate.pilot, config.run.seed)
