"""Train the towers through the stages of the curriculum.

In: examples, the texts of queries and items, the qrels of the validation queries. Out: the model
(a sentence-transformers folder) and the curve of every stage. Each stage starts from the model
that the stage before it chose, and never ends worse on validation than it started.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from trivium.adapters.example_store import ExampleStore, build_store
from trivium.adapters.text_vectors import KeptTower
from trivium.adapters.towers import Encodes, retrieve
from trivium.adapters.validation import Validation
from trivium.domain.curriculum import stages_of
from trivium.foundation.config import EvaluateConfig
from trivium.foundation.console import say
from trivium.foundation.errors import InputError
from trivium.foundation.tables import RELEVANT
from trivium.foundation.tower_config import TowerConfig
from trivium.foundation.train_config import StageConfig, TrainConfig
from trivium.foundation.workspace import read_json, write_json

_FOUND = 20


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


def validation_set(
    queries: pl.DataFrame,
    items: pl.DataFrame,
    qrels: pl.DataFrame,
    train: TrainConfig,
    evaluate: EvaluateConfig,
    *,
    complete: bool,
    seed: int,
    start: str | None = None,
    cache: Path | None = None,
) -> Validation:
    """Choose what validation ranks.

    That is every judged item of its queries (of complete grades the relevant ones), the first 20
    that the starting tower finds among all items for each of them (what is likely to stand in the
    way), and random items besides.

    Args:
        queries: The queries with their parts and texts.
        items: The catalog with its texts.
        qrels: Their grades.
        train: How many items.
        evaluate: Cut-off and gain.
        complete: Whether the qrels name every relevant item.
        seed: Seed of the random items.
        start: The starting tower; without one its finds are left out.
        cache: Where its vectors of the items are kept; nowhere when absent.

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
    room = train.validation_items or items.height
    least = RELEVANT if complete else 0  # complete grades may be of every item
    named = qrels.filter(pl.col("grade") >= least).select("item_id").unique()
    pool = items.join(named, on="item_id", how="semi")
    if start and pool.height < room < items.height:
        tower = KeptTower.load(start, train.max_length, cache)
        found = _found(tower, queries, items)
        others = found.join(pool, on="item_id", how="anti").head(room - pool.height)
        pool = pl.concat([pool, items.join(others, on="item_id", how="semi")])
    others = items.join(pool, on="item_id", how="anti")
    kept = others.sample(min(max(room - pool.height, 0), others.height), seed=seed, shuffle=True)
    pool = pl.concat([pool, kept]).select("item_id", "text").sort("item_id")
    return Validation(queries.sort("query_id"), pool, qrels, evaluate, complete)


def _found(tower: Encodes, queries: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """What a tower finds, the first items of all queries first: column item_id."""
    run = retrieve(tower, queries, items.sort("item_id"), _FOUND)
    return run.sort("rank", "query_id").select("item_id").unique(maintain_order=True)


def train(
    examples: Iterable[pl.DataFrame],
    items: pl.DataFrame,
    queries: pl.DataFrame,
    validation: Callable[[], Validation],
    config: TrainConfig,
    start: str,
    folder: Path,
    seed: int,
) -> TrainedTower:
    """Train a tower on examples; a rerun after a kill carries on where it stopped.

    Args:
        examples: The examples of all levels in parts, all of a query in one part; they are read
            once, and never all at a time.
        items: Columns item_id, text: the catalog.
        queries: Columns query_id, text: every query of the examples.
        validation: Makes what chooses the checkpoints; called once.
        config: The recipe or the stages.
        start: Model to start from.
        folder: Where the stages' checkpoints and the final model go.
        seed: Seed of the rows' order and of dropout.

    Raises:
        InputError: If no stage at all finds examples to train on.
    """
    store = build_store(folder / "store", examples, queries, items)
    kept = _kept_validation(folder / "validation", validation)
    start = _built(start, config, items, folder / "start")
    ndcg = _once(folder / "start.json", lambda: _ndcg_of(start, kept, config))
    say(f"  start: validation NDCG {ndcg:.4f}")
    models = {"start": (start, ndcg), "best": (start, ndcg)}
    skipped: dict[str, str] = {}
    curves, chosen = [], []
    for number, stage in enumerate(stages_of(config), start=1):
        place = folder / f"{number:02d}-{stage.name}"
        result = _train_one(models[stage.start], stage, store, config, place, seed)
        if result is None:
            skipped[stage.name] = _why_skipped(stage)
            say(f"  {stage.name}: skipped, {skipped[stage.name]}")
            models[stage.name] = models[stage.start]
            continue
        model, step, ndcg, curve = result
        say(f"  {stage.name}: validation NDCG {ndcg:.4f} at step {step}")
        models[stage.name] = models["best"] = (model, ndcg)
        curves.append(curve)
        chosen.append({"stage": stage.name, "step": step, "ndcg": ndcg})
    if not chosen:
        raise InputError.of(
            "examples",
            got="; ".join(f"stage {name}: {why}" for name, why in skipped.items()),
            expected="examples for at least one stage",
            fix="lower train.stages.min_p_relevant, mine more queries, or give more judgments",
        )
    final = _copy_model(models["best"][0], folder / "model")
    return TrainedTower(final, pl.concat(curves), pl.DataFrame(chosen), skipped)


def _train_one(
    start: tuple[str, float],
    stage: StageConfig,
    store: ExampleStore,
    config: TrainConfig,
    place: Path,
    seed: int,
) -> tuple[str, int, float, pl.DataFrame] | None:
    from trivium.adapters.training import StageTask, train_stage

    rows = store.rows(stage, seed, place / "rows")
    if rows is None:
        return None
    say(f"  {stage.name}: {stage.loss}, {rows.steps} steps of {stage.batch}")
    model, ndcg = start
    validation = store.folder.parent / "validation"
    trained = train_stage(
        StageTask(model, ndcg, stage, config, store.folder, validation, place, seed)
    )
    shutil.rmtree(place / "rows", ignore_errors=True)
    curve = _with_start(trained.curve, stage.name, ndcg)
    return trained.model, trained.best_step, trained.best_ndcg, curve


def _why_skipped(stage: StageConfig) -> str:
    positives, negatives = (" or ".join(names) for names in (stage.positives, stage.negatives))
    if stage.loss == "mnr" and not negatives:
        return f"no positive among {positives}"
    return f"no positive among {positives}, or no negative among {negatives or 'no levels'}"


def _kept_validation(folder: Path, make: Callable[[], Validation]) -> Validation:
    if not Validation.is_saved(folder):
        make().save(folder)
    return Validation.load(folder)


def _ndcg_of(model: str, validation: Validation, config: TrainConfig) -> float:
    from sentence_transformers import SentenceTransformer

    return validation.ndcg(SentenceTransformer(model), config.max_length)


def _with_start(curve: pl.DataFrame, stage: str, before: float) -> pl.DataFrame:
    start = pl.DataFrame({"step": [0], "loss": [None], "ndcg": [before]}, schema=curve.schema)
    both = pl.concat([start, curve])
    return both.select(pl.lit(stage).alias("stage"), "step", "loss", "ndcg")


def _once(path: Path, compute: Callable[[], float]) -> float:
    """Compute a figure, or read it if an earlier, killed run already did."""
    known: dict[str, Any] | None = read_json(path)
    if known is None:
        known = {"ndcg": compute()}
        write_json(path, known)
    return float(np.float64(known["ndcg"]))


def _built(start: str, config: TrainConfig, items: pl.DataFrame, place: Path) -> str:
    """The starting model as `[train.tower]` has it made, kept for the stages."""
    if config.tower == TowerConfig():
        return start
    if not place.is_dir():
        from trivium.adapters.tower_models import build_tower

        texts = items.sort("item_id")["text"].to_list()
        beside = place.with_name(f".{place.name}.tmp")
        shutil.rmtree(beside, ignore_errors=True)
        build_tower(start, config.tower, texts).save_pretrained(str(beside))
        beside.rename(place)
    return str(place)


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
