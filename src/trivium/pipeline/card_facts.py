"""What a run knows of the model that it trained, for the model's card."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import polars as pl

from trivium.adapters.model_card import CardFacts, JudgeFact
from trivium.adapters.towers import Tower
from trivium.domain.curriculum import stages_of
from trivium.foundation.config import Config
from trivium.foundation.workspace import Workspace

SIMULATED = "sim-"


def card_facts(workspace: Workspace, config: Config, model: Path) -> CardFacts:
    """Gather what is there: test figures only once they are of this model.

    Args:
        workspace: A run whose examples are made and whose towers are trained.
        config: What it was run with.
        model: The trained model's folder.
    """
    train, inputs = workspace.stage("train"), workspace.stage("inputs")
    tower = Tower.load(str(model), config.train.max_length)
    metrics, gains = _results(workspace)
    parts = inputs.read("queries")["part"]
    return CardFacts(
        start=config.train.model or config.mine.model,
        recipe="own stages" if config.train.stages else config.train.recipe,
        stages=stages_of(config.train),
        chosen=train.read("chosen"),
        curves=train.read("curves"),
        levels=_levels(workspace),
        dimensions=tower.dimension,
        max_length=tower.max_length,
        query_text=config.data.query_text,
        item_text=config.data.item_text,
        version=metadata.version("trivium"),
        seed=config.run.seed,
        cutoff=config.evaluate.cutoff,
        validation_queries=int((parts == "validation").sum()),
        judges=_judges(workspace, config),
        metrics=metrics,
        gains=gains,
        simulated=bool(inputs.read("items")["item_id"].str.starts_with(SIMULATED).all()),
    )


def _levels(workspace: Workspace) -> pl.DataFrame:
    """Examples and queries of each level, shard by shard: a query is in one shard alone."""
    parts = [
        pl.read_parquet(part, columns=["query_id", "level"], memory_map=False)
        .group_by("level")
        .agg(pl.len().alias("rows"), pl.col("query_id").n_unique().alias("queries"))
        for part in workspace.stage("examples").parts("examples")
    ]
    return pl.concat(parts).group_by("level").sum()


def _judges(workspace: Workspace, config: Config) -> Sequence[JudgeFact]:
    agreement = workspace.stage("annotate").read("agreement").filter(measure="accuracy")
    found: dict[str, dict[str, Any]] = {row["judge"]: row for row in agreement.to_dicts()}
    facts = []
    for judge in config.annotate.judges:
        row = found.get(judge.name)
        model = getattr(judge, "model", None)
        shown = Path(model).name if model and Path(model).expanduser().exists() else model
        facts.append(JudgeFact(judge.name, judge.kind, shown, row, row["pairs"] if row else 0))
    if len(facts) > 1 and (row := found.get("cascade")):
        facts.append(JudgeFact("all in turn", "cascade", None, row, row["pairs"]))
    return facts


def _results(workspace: Workspace) -> tuple[pl.DataFrame | None, pl.DataFrame | None]:
    """Metrics and gains, if they were measured on what the last training made."""
    evaluate = workspace.stage("evaluate")
    measured, trained = evaluate.manifest(), workspace.stage("train").manifest()
    if measured is None or trained is None:
        return None, None
    if measured["plan"]["upstream"].get("train") != trained["key"]:
        return None, None
    return evaluate.read("metrics"), evaluate.read("gains")
