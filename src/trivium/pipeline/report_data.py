"""What the report shows, gathered from the stages' tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from trivium.domain.level_precision import DECIDING
from trivium.foundation.config import Config
from trivium.foundation.workspace import StageFolder, Workspace
from trivium.pipeline.plans import STAGES
from trivium.pipeline.prospects import level_counts, will_it_pay
from trivium.stages.report.data import ReportData


def collect(workspace: Workspace, config: Config) -> ReportData:
    """Gather a finished run's tables for its report."""
    evaluate, annotate = workspace.stage("evaluate"), workspace.stage("annotate")
    mine, train = workspace.stage("mine"), workspace.stage("train")
    chosen = train.read("chosen").with_columns(pl.col("stage").cast(pl.String))
    return ReportData(
        metrics=evaluate.read("metrics"),
        gains=evaluate.read("gains"),
        baseline="start",
        title=config.report.title,
        config=config.model_dump(mode="json"),
        manifest=_manifest(workspace),
        simulated=_simulated(workspace),
        overlap=mine.read("overlap"),
        found_by=mine.read("found_by"),
        **_judging(annotate),
        levels=_levels(workspace),
        level_examples=_level_examples(workspace),
        payoff=will_it_pay(workspace, config).sentence,
        curves=train.read("curves"),
        best=_best(chosen),
    )


def _judging(annotate: StageFolder) -> dict[str, Any]:
    """What is known of the judges: agreement and confusion are the cascade's."""
    from trivium.stages.annotate.cascading import FittedCascade

    fitted = FittedCascade.load(annotate.path)
    assert fitted is not None
    tables = ("settled", "rerank", "against_raters", "strata", "spending")
    judges, bins = annotate.read("agreement"), annotate.read("reliability")
    cascade = pl.col("judge") == "cascade"
    return {
        "promise": fitted.promise,
        "judges": judges,
        "agreement": judges.filter(cascade).drop("judge"),
        "confusion": annotate.read("confusion").filter(cascade).drop("judge"),
        "reliability": bins.filter(pl.col("judge") == fitted.cascade.judges[0]).drop("judge"),
        **{name: annotate.read(name) for name in tables},
    }


def _manifest(workspace: Workspace) -> pl.DataFrame:
    rows = []
    for stage in STAGES:
        manifest = workspace.stage(stage).manifest()
        if manifest is None:
            continue
        counts = ", ".join(f"{count:,} {name}" for name, count in manifest["rows"].items())
        rows.append(
            {
                "stage": stage,
                "seconds": float(manifest["seconds"]),
                "rows": list(manifest["rows"].values())[-1],
                "summary": [counts, *manifest["summary"]],
            }
        )
    schema: dict[str, Any] = {
        "stage": pl.String,
        "seconds": pl.Float64,
        "rows": pl.Int64,
        "summary": pl.List(pl.String),
    }
    return pl.DataFrame(rows, schema=schema)


def _simulated(workspace: Workspace) -> bool:
    """Simulated items say so in their ids."""
    ids = workspace.stage("inputs").read("items")["item_id"]
    return bool(ids.str.starts_with("sim-").all())


def _levels(workspace: Workspace) -> pl.DataFrame:
    """Counts of every level, and its precision on the held-out queries; one left out counts 0."""
    measured = workspace.stage("examples").read("level_precision").filter(part=DECIDING)
    precision = measured.select(
        *("level", "precision", "ci_low", "ci_high", "chance", "verdict"),
        pl.col("pairs").alias("precision_pairs"),
    )
    levels = level_counts(workspace).join(precision, on="level", how="full", coalesce=True)
    return levels.with_columns(pl.col("rows", "queries", "precision_pairs").fill_null(0)).sort(
        "level"
    )


def _level_examples(workspace: Workspace) -> pl.DataFrame:
    """A row of each level, with its texts."""
    read, examples = workspace.stage("inputs").read, workspace.stage("examples").read("examples")
    first = examples.sort("query_id", "item_id").group_by("level", maintain_order=True).first()
    texts = first.join(read("queries").select("query_id", "query"), on="query_id").join(
        read("items").select("item_id", "title"), on="item_id"
    )
    return texts.select("query", "title", "level", "grade", "reason").sort("level")


def _best(chosen: pl.DataFrame) -> Mapping[str, Any] | None:
    moved = chosen.filter(pl.col("step") > 0)
    return moved.row(-1, named=True) if moved.height else None
