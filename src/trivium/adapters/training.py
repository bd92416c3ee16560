"""One stage of tower training with the sentence-transformers trainer, resumable after a kill."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import torch
from datasets import Dataset
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator
from sentence_transformers.sentence_transformer.trainer import SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.training_args import (
    SentenceTransformerTrainingArguments,
)
from torch import nn
from torch.utils.data import BatchSampler, SequentialSampler
from transformers import PrinterCallback, TrainerCallback
from transformers.utils import logging

from trivium.adapters.checkpoints import last_checkpoint, sealing_callback
from trivium.adapters.losses import make_loss
from trivium.adapters.progress import training_progress
from trivium.domain.curriculum import Rows
from trivium.foundation.train_config import StageConfig, TrainConfig

Validate = Callable[[Any], float]

_METRIC = "eval_ndcg"
_LOSS_FILE = "loss.pt"


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


def train_stage(
    start: str,
    start_ndcg: float,
    stage: StageConfig,
    rows: Rows,
    known: NDArray[np.int64],
    query_texts: Sequence[str],
    item_texts: Sequence[str],
    validate: Validate,
    config: TrainConfig,
    folder: Path,
    seed: int,
) -> Trained:
    """Train a tower on the rows of a stage and choose its best checkpoint by validation.

    Args:
        start: Folder or name of the model to start from.
        start_ndcg: Its validation NDCG: a checkpoint must beat it to be chosen.
        stage: Loss, batch, learning rate and the rest.
        rows: What to train on, in this order.
        known: Pairs that must not serve as negatives; see `curriculum.known_relevant`.
        query_texts: Texts by query position.
        item_texts: Texts by item position.
        validate: Gives a model's validation NDCG.
        config: Settings shared by the stages.
        folder: Where checkpoints and the chosen model go; a rerun carries on from the last one.
        seed: Seed of dropout.
    """
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.manual_seed(seed)
    model = SentenceTransformer(start, device=_device())
    model.max_seq_length = min(config.max_length, model.max_seq_length or config.max_length)
    loss = make_loss(stage, model, known, len(item_texts))
    every = -(-stage.steps // config.validations)
    trainer = _Trainer(
        model=model,
        args=_arguments(stage, config, every, len(rows.queries) // stage.batch, folder, seed),
        train_dataset=_dataset(rows, query_texts, item_texts),
        loss=loss,
        evaluator=_Evaluator(validate),
        callbacks=[sealing_callback(), _LogsAtCheckpoints()],
    )
    trainer.remove_callback(PrinterCallback)
    checkpoint = last_checkpoint(folder / "checkpoints")
    with training_progress(f"training, stage {stage.name}", trainer.args.max_steps) as progress:
        trainer.add_callback(progress)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return _choose(trainer, start, start_ndcg, folder)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _arguments(
    stage: StageConfig, config: TrainConfig, every: int, steps: int, folder: Path, seed: int
) -> SentenceTransformerTrainingArguments:
    return SentenceTransformerTrainingArguments(
        output_dir=str(folder / "checkpoints"),
        max_steps=steps,
        per_device_train_batch_size=stage.batch,
        learning_rate=stage.learning_rate,
        warmup_steps=stage.warmup,
        bf16=config.bf16,
        use_cpu=_device() == "cpu",
        seed=seed,
        batch_sampler=cast(Any, _in_order),
        logging_steps=max(1, every // 5),
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        metric_for_best_model=_METRIC,
        greater_is_better=True,
        report_to=[],
        disable_tqdm=True,
    )


def _in_order(dataset: Any, batch_size: int, drop_last: bool, **_rest: Any) -> BatchSampler:
    """The rows come in the order in which the curriculum laid them out."""
    return BatchSampler(SequentialSampler(dataset), batch_size, drop_last)


def _dataset(rows: Rows, query_texts: Sequence[str], item_texts: Sequence[str]) -> Dataset:
    columns: dict[str, Any] = {"query": [query_texts[i] for i in rows.queries]}
    for number, name in enumerate(("positive", "negative")[: rows.items.shape[1]]):
        columns[name] = [item_texts[i] for i in rows.items[:, number]]
    if len(rows.labels):
        columns["label"] = rows.labels.tolist()
    else:
        columns["label"] = np.column_stack([rows.queries, rows.items]).tolist()
    return Dataset.from_dict(columns)


class _Evaluator(SentenceEvaluator):
    """Hands the model in training to the validation that was given."""

    def __init__(self, validate: Validate) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.validate = validate
        self.primary_metric = "ndcg"

    def __call__(self, model: Any, *_args: Any, **_rest: Any) -> dict[str, float]:
        return {"ndcg": self.validate(model)}


class _LogsAtCheckpoints(TrainerCallback):
    """A logged loss never spans a checkpoint, so that a resumed run logs what it would have."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_rest: Any) -> None:
        control.should_log |= control.should_save


class _Trainer(SentenceTransformerTrainer):
    """Saves the loss's own parameters with every checkpoint and restores them on resume.

    The model card gets no samples of the user's texts.
    """

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        pass

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        loss = cast(nn.Module, self.loss)
        own = {k: v for k, v in loss.state_dict().items() if not k.startswith("model.")}
        torch.save(own, Path(output_dir or str(self.args.output_dir)) / _LOSS_FILE)

    def _load_from_checkpoint(self, checkpoint_path: str, *_rest: Any) -> None:
        super()._load_from_checkpoint(checkpoint_path)
        own = torch.load(Path(checkpoint_path) / _LOSS_FILE, weights_only=True)
        cast(nn.Module, self.loss).load_state_dict(own, strict=False)


def _choose(trainer: Any, start: str, start_ndcg: float, folder: Path) -> Trained:
    state = trainer.state
    curve = _curve(state.log_history)
    if state.best_metric is None or state.best_metric <= start_ndcg:
        return Trained(start, 0, start_ndcg, curve)
    best = folder / "checkpoints" / f"checkpoint-{state.best_global_step}"
    chosen, beside = folder / "model", folder / ".model.tmp"
    shutil.rmtree(beside, ignore_errors=True)
    SentenceTransformer(str(best), device="cpu").save_pretrained(str(beside))
    if (best / _LOSS_FILE).exists():
        shutil.copy(best / _LOSS_FILE, beside)
    shutil.rmtree(chosen, ignore_errors=True)
    beside.rename(chosen)
    return Trained(str(chosen), int(state.best_global_step), float(state.best_metric), curve)


def _curve(history: list[dict[str, Any]]) -> pl.DataFrame:
    rows = [
        {"step": int(entry["step"]), "loss": entry.get("loss"), "ndcg": entry.get(_METRIC)}
        for entry in history
        if "loss" in entry or _METRIC in entry
    ]
    schema = {"step": pl.Int64, "loss": pl.Float64, "ndcg": pl.Float64}
    return pl.DataFrame(rows, schema=schema)
