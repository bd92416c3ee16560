"""What the report shows, gathered from the stages' tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from trivium.foundation.config import Config
from trivium.foundation.tables import IRRELEVANT, RELEVANT
from trivium.foundation.workspace import StageFolder, Workspace
from trivium.pipeline.plans import STAGES
from trivium.stages.report.data import ReportData


def collect(workspace: Workspace, config: Config) -> ReportData:
    """Gather a finished run's tables for its report."""
    evaluate, annotate = workspace.stage("evaluate"), workspace.stage("annotate")
    mine, train = workspace.stage("mine"), workspace.stage("train")
    chosen = train.read("chosen").with_columns(pl.col("stage").cast(pl.String))
    levels, level_examples = _levels(workspace, complete=config.data.complete)
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
        levels=levels,
        level_examples=level_examples,
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


def _levels(workspace: Workspace, *, complete: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Counts of every level, its precision against human grades where there are any, and a row."""
    examples = workspace.stage("examples").read("examples")
    read = workspace.stage("inputs").read
    checked = _graded_by_humans(examples, read("judgments"), read("qrels"), complete=complete)
    right = (
        pl.when(pl.col("level").str.ends_with("positive"))
        .then(pl.col("_human") >= RELEVANT)
        .otherwise(pl.col("_human") <= IRRELEVANT)
    )
    precision = checked.group_by("level").agg(
        right.mean().alias("precision"), pl.len().cast(pl.Int64).alias("precision_pairs")
    )
    counts = examples.group_by("level").agg(
        pl.len().cast(pl.Int64).alias("rows"),
        pl.col("query_id").n_unique().cast(pl.Int64).alias("queries"),
    )
    levels = counts.join(precision, on="level", how="left").with_columns(
        pl.col("precision_pairs").fill_null(0)
    )
    first = examples.sort("query_id", "item_id").group_by("level", maintain_order=True).first()
    texts = first.join(read("queries").select("query_id", "query"), on="query_id").join(
        read("items").select("item_id", "title"), on="item_id"
    )
    shown = texts.select("query", "title", "level", "grade", "reason")
    return levels.sort("level"), shown.sort("level")


def _graded_by_humans(
    examples: pl.DataFrame, judgments: pl.DataFrame, qrels: pl.DataFrame, *, complete: bool
) -> pl.DataFrame:
    """The machine's examples that have a grade of their own, in column `_human`."""
    machine = examples.filter(pl.col("source") != "human")
    pair = ["query_id", "item_id"]
    human = pl.concat([qrels, judgments]).unique(pair, keep="first", maintain_order=True)
    joined = machine.join(human.rename({"grade": "_human"}), on=pair, how="left")
    if complete:
        known = pl.col("query_id").is_in(qrels["query_id"].unique().implode())
        absent = pl.when(known).then(pl.lit(0, dtype=pl.Int8))
        joined = joined.with_columns(pl.coalesce("_human", absent).alias("_human"))
    return joined.filter(pl.col("_human").is_not_null())


def _best(chosen: pl.DataFrame) -> Mapping[str, Any] | None:
    moved = chosen.filter(pl.col("step") > 0)
    return moved.row(-1, named=True) if moved.height else None
