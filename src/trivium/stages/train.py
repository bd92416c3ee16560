"""Train the towers through the stages of the curriculum.

In: examples, the texts of queries and items, the qrels of the validation queries. Out: the model
(a sentence-transformers folder) and the curve of every stage. Each stage starts from the model
that the stage before it chose, and never ends worse on validation than it started.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from trivium.domain.curriculum import known_relevant, stages_of, training_rows
from trivium.domain.measures import measure
from trivium.foundation.config import EvaluateConfig
from trivium.foundation.console import say
from trivium.foundation.errors import InputError
from trivium.foundation.tables import RELEVANT
from trivium.foundation.train_config import StageConfig, TrainConfig
from trivium.foundation.workspace import read_json, write_json, write_table


@dataclass(frozen=True)
class TrainedTower:
    """The result of the curriculum.

    Attributes:
        model: Folder of the final model.
        curves: Columns stage, step, loss, ndcg; step 0 is what the stage started from.
        chosen: Columns stage, step, ndcg: the checkpoint that each stage chose.
        skipped: Stages that found nothing to train on, with the reason.
    """

    model: Path
    curves: pl.DataFrame
    chosen: pl.DataFrame
    skipped: dict[str, str]


@dataclass(frozen=True)
class Validation:
    """Full ranking of a fixed set of items for the validation queries.

    Attributes:
        queries: Columns query_id, text.
        items: Columns item_id, text, sorted by item_id.
        qrels: Columns query_id, item_id, grade.
        config: Cut-off and gain.
        complete: Whether the qrels name every relevant item.
    """

    queries: pl.DataFrame
    items: pl.DataFrame
    qrels: pl.DataFrame
    config: EvaluateConfig
    complete: bool

    def ndcg(self, model: Any, max_length: int | None = None) -> float:
        """Mean graded NDCG of a sentence-transformers model, which may be cut to some tokens."""
        from trivium.adapters.towers import Tower, retrieve

        cutoff = self.config.cutoff
        run = retrieve(Tower(model, max_length), self.queries, self.items, cutoff)
        values = measure(
            run,
            self.qrels,
            cutoff=cutoff,
            depth=cutoff,
            gain=self.config.gain,
            complete=self.complete,
        )
        mean = values.filter(pl.col("measure") == f"nDCG@{cutoff}")["value"].mean()
        return round(float(mean or 0.0), 6)  # type: ignore[arg-type]


def validation_set(
    queries: pl.DataFrame,
    items: pl.DataFrame,
    qrels: pl.DataFrame,
    train: TrainConfig,
    evaluate: EvaluateConfig,
    *,
    complete: bool,
    seed: int,
) -> Validation:
    """Choose what validation ranks: every judged item of its queries, and random ones besides.

    Raises:
        InputError: If no validation query has a relevant item.
    """
    queries = queries.filter(pl.col("part") == "validation").select("query_id", "text")
    qrels = qrels.join(queries.select("query_id"), on="query_id", how="semi")
    if not (qrels["grade"] >= RELEVANT).any():
        raise InputError.of(
            "validation queries",
            got=f"{queries.height} queries without any item of grade 3 or 4",
            expected="judged queries, to choose checkpoints by",
            fix="raise split.validation, or give more judgments",
        )
    judged = items.filter(pl.col("item_id").is_in(qrels["item_id"].implode()))
    others = items.filter(~pl.col("item_id").is_in(qrels["item_id"].implode()))
    room = others.height if train.validation_items == 0 else train.validation_items - judged.height
    kept = others.sample(min(max(room, 0), others.height), seed=seed, shuffle=True)
    pool = pl.concat([judged, kept]).select("item_id", "text").sort("item_id")
    return Validation(queries.sort("query_id"), pool, qrels, evaluate, complete)


def train(
    examples: pl.DataFrame,
    items: pl.DataFrame,
    queries: pl.DataFrame,
    validation: Validation,
    config: TrainConfig,
    start: str,
    folder: Path,
    seed: int,
) -> TrainedTower:
    """Train a tower on examples; a rerun after a kill carries on where it stopped.

    Args:
        examples: The examples of all levels.
        items: Columns item_id, text: the catalog.
        queries: Columns query_id, text: every query of the examples.
        validation: Chooses the checkpoints.
        config: The recipe or the stages.
        start: Model to start from.
        folder: Where the stages' checkpoints and the final model go.
        seed: Seed of the rows' order and of dropout.

    Raises:
        InputError: If no stage at all finds examples to train on.
    """
    from sentence_transformers import SentenceTransformer

    items, queries = items.sort("item_id"), queries.sort("query_id")
    stages = stages_of(config)
    model, skipped = start, {}
    curves, chosen = [], []
    ndcg = _once(
        folder / "start.json",
        lambda: validation.ndcg(SentenceTransformer(start), config.max_length),
    )
    say(f"  start: validation NDCG {ndcg:.4f}")
    for number, stage in enumerate(stages, start=1):
        place = folder / f"{number:02d}-{stage.name}"
        result = _finished(place) or _train_one(
            model, ndcg, stage, examples, items, queries, validation, config, place, seed
        )
        if result is None:
            skipped[stage.name] = _why_skipped(stage)
            say(f"  {stage.name}: skipped, {skipped[stage.name]}")
            continue
        model = str(folder / result["model"]) if result["model"] else model
        before, ndcg = ndcg, result["ndcg"]
        say(f"  {stage.name}: validation NDCG {ndcg:.4f} at step {result['step']}")
        curves.append(_curve(place, stage.name, before))
        chosen.append({"stage": stage.name, "step": result["step"], "ndcg": ndcg})
    if not chosen:
        raise InputError.of(
            "examples",
            got="; ".join(f"stage {name}: {why}" for name, why in skipped.items()),
            expected="examples for at least one stage",
            fix="lower train.stages.min_p_relevant, mine more queries, or give more judgments",
        )
    final = _copy_model(model, folder / "model")
    return TrainedTower(final, pl.concat(curves), pl.DataFrame(chosen), skipped)


def _train_one(
    model: str,
    ndcg: float,
    stage: StageConfig,
    examples: pl.DataFrame,
    items: pl.DataFrame,
    queries: pl.DataFrame,
    validation: Validation,
    config: TrainConfig,
    place: Path,
    seed: int,
) -> dict[str, Any] | None:
    from trivium.adapters.training import train_stage

    query_ids, item_ids = queries["query_id"].to_list(), items["item_id"].to_list()
    rows = training_rows(examples, stage, query_ids, item_ids, seed)
    if rows is None:
        return None
    say(f"  {stage.name}: {stage.loss}, {stage.steps} steps of {stage.batch}")
    trained = train_stage(
        model,
        ndcg,
        stage,
        rows,
        known_relevant(examples, query_ids, item_ids),
        queries["text"].to_list(),
        items["text"].to_list(),
        validation.ndcg,
        config,
        place,
        seed,
    )
    write_table(place / "curve.parquet", trained.curve)
    moved = trained.best_step > 0
    result = {
        "model": f"{place.name}/model" if moved else None,
        "step": trained.best_step,
        "ndcg": trained.best_ndcg,
    }
    write_json(place / "result.json", result)
    shutil.rmtree(place / "checkpoints", ignore_errors=True)
    return result


def _why_skipped(stage: StageConfig) -> str:
    positives, negatives = (" or ".join(names) for names in (stage.positives, stage.negatives))
    if stage.loss == "mnr" and not negatives:
        return f"no positive among {positives}"
    return f"no positive among {positives}, or no negative among {negatives or 'no levels'}"


def _finished(place: Path) -> dict[str, Any] | None:
    return read_json(place / "result.json")


def _curve(place: Path, stage: str, before: float) -> pl.DataFrame:
    start = pl.DataFrame(
        {"step": [0], "loss": [None], "ndcg": [before]},
        schema={"step": pl.Int64, "loss": pl.Float64, "ndcg": pl.Float64},
    )
    curve = pl.concat([start, pl.read_parquet(place / "curve.parquet", memory_map=False)])
    return curve.select(pl.lit(stage).alias("stage"), "step", "loss", "ndcg")


def _once(path: Path, compute: Callable[[], float]) -> float:
    """Compute a figure, or read it if an earlier, killed run already did."""
    known = read_json(path)
    if known is None:
        known = {"ndcg": compute()}
        write_json(path, known)
    return float(np.float64(known["ndcg"]))


def _copy_model(model: str, place: Path) -> Path:
    from sentence_transformers import SentenceTransformer

    beside = place.with_name(f".{place.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    if Path(model).is_dir():
        shutil.copytree(model, beside)
    else:
        SentenceTransformer(model, device="cpu").save_pretrained(str(beside))
    shutil.rmtree(place, ignore_errors=True)
    beside.rename(place)
    return place
