"""One stage of tower training with the sentence-transformers trainer, resumable after a kill."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl

from trivium.foundation.errors import DependencyError
from trivium.foundation.train_config import StageConfig, TrainConfig
from trivium.foundation.workspace import read_json, write_json, write_table

_TASK, _RESULT = "task.json", "result.json"


@dataclass(frozen=True)
class StageTask:
    """All that training a stage reads, so that other processes can be told of it.

    Attributes:
        start: Folder or name of the model to start from.
        start_ndcg: Its validation NDCG: a checkpoint must beat it to be chosen.
        stage: Loss, batch, learning rate and the rest.
        config: Settings shared by the stages.
        store: Folder of an `ExampleStore`.
        validation: Folder of a `Validation`.
        folder: Where checkpoints and the chosen model go; a rerun carries on from the last one.
        seed: Seed of the rows and of dropout.
    """

    start: str
    start_ndcg: float
    stage: StageConfig
    config: TrainConfig
    store: Path
    validation: Path
    folder: Path
    seed: int

    def save(self) -> Path:
        """Write it into its folder."""
        plain = {
            **{name: str(getattr(self, name)) for name in ("store", "validation", "folder")},
            **{name: getattr(self, name) for name in ("start", "start_ndcg", "seed")},
            "stage": self.stage.model_dump(mode="json"),
            "config": self.config.model_dump(mode="json"),
        }
        write_json(self.folder / _TASK, plain)
        return self.folder / _TASK

    @classmethod
    def load(cls, path: Path) -> StageTask:
        """Read what `save` wrote."""
        plain = read_json(path)
        assert plain is not None
        read: dict[str, Any] = {
            **plain,
            **{name: Path(plain[name]) for name in ("store", "validation", "folder")},
            "stage": StageConfig.model_validate(plain["stage"]),
            "config": TrainConfig.model_validate(plain["config"]),
        }
        return cls(**read)


@dataclass(frozen=True)
class Trained:
    """What a stage of training gave.

    Attributes:
        model: Folder of the chosen model: the best checkpoint, or the start if none beat it.
        best_step: Step of the chosen checkpoint; 0 is the start.
        best_ndcg: Its validation NDCG.
        curve: Columns step, loss, ndcg.
    """

    model: str
    best_step: int
    best_ndcg: float
    curve: pl.DataFrame


def train_stage(task: StageTask) -> Trained:
    """Train a tower on the rows of a stage and choose its best checkpoint by validation.

    With `train.processes` above 1 the work is done by that many processes, each of which takes its
    part of every batch; torchrun starts them.

    Raises:
        DependencyError: If one of several processes fails.
    """
    found = _trained(task)
    if found is None:
        _train(task)
        found = _trained(task)
    assert found is not None
    shutil.rmtree(task.folder / "checkpoints", ignore_errors=True)
    return found


def _train(task: StageTask) -> None:
    if task.config.processes == 1:
        from trivium.adapters.stage_trainer import run_stage

        run_stage(task)
        return
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(task.config.processes)]
    command += ["-m", "trivium.adapters.stage_trainer", str(task.save())]
    done = subprocess.run(command, env=_environment(), check=False)
    if done.returncode:
        raise DependencyError.of(
            f"training by {task.config.processes} processes",
            got=f"exit status {done.returncode} of torchrun",
            expected="0",
            fix="read its words above; train.processes = 1 trains in this process",
        )


def _environment() -> dict[str, str]:
    """Each process has its share of the processor, unless the user has said how much."""
    return {"OMP_NUM_THREADS": "1", **os.environ}


def keep_result(task: StageTask, trained: Trained) -> None:
    """Write what a stage gave, its figures last."""
    write_table(task.folder / "curve.parquet", trained.curve)
    plain = {"model": trained.model, "step": trained.best_step, "ndcg": trained.best_ndcg}
    write_json(task.folder / _RESULT, plain)


def _trained(task: StageTask) -> Trained | None:
    known = read_json(task.folder / _RESULT)
    if known is None:
        return None
    curve = pl.read_parquet(task.folder / "curve.parquet", memory_map=False)
    model = known["model"] if known["step"] == 0 else str(task.folder / "model")
    return Trained(cast(str, model), int(known["step"]), float(np.float64(known["ndcg"])), curve)


def curve_of(history: list[dict[str, Any]], metric: str) -> pl.DataFrame:
    """The curve in a trainer's log: columns step, loss, ndcg."""
    rows = [
        {"step": int(entry["step"]), "loss": entry.get("loss"), "ndcg": entry.get(metric)}
        for entry in history
        if "loss" in entry or metric in entry
    ]
    schema = {"step": pl.Int64, "loss": pl.Float64, "ndcg": pl.Float64}
    return pl.DataFrame(rows, schema=schema)
