"""The trainer of a stage, in this process or, started by torchrun, in one of several."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator
from sentence_transformers.sentence_transformer.trainer import SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.training_args import (
    SentenceTransformerTrainingArguments,
)
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler
from transformers import PrinterCallback, TrainerCallback
from transformers.utils import logging

from trivium.adapters.checkpoints import last_checkpoint, sealing_callback
from trivium.adapters.example_store import ExampleStore, Texts
from trivium.adapters.frozen_layers import freeze_layers
from trivium.adapters.hardware import bf16_is_fast
from trivium.adapters.losses import make_loss
from trivium.adapters.progress import training_progress
from trivium.adapters.tower_texts import limit_texts, trainer_sides
from trivium.adapters.training import StageTask, Trained, curve_of, keep_result
from trivium.adapters.validation import Validation
from trivium.domain.turns import StageRows

_METRIC = "eval_ndcg"
_LOSS_FILE = "loss.pt"
_OWN_RATE = {r"^(log_t|bias)$": 1e-2}
"""What bce learns beside the tower: at the tower's rate it would hardly move in some 100 steps."""
_SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def run_stage(task: StageTask) -> None:
    """Train a stage and write its result into the task's folder."""
    logging.disable_progress_bar()
    torch.manual_seed(task.seed)
    store = ExampleStore(task.store)
    rows = store.rows(task.stage, task.seed, task.folder / f"rows-{_rank()}")
    assert rows is not None
    trainer = make_trainer(task, store, rows)
    checkpoint = last_checkpoint(task.folder / "checkpoints")
    with training_progress(f"training, stage {task.stage.name}", rows.steps) as progress:
        if _rank() == 0:
            trainer.add_callback(progress)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    shutil.rmtree(task.folder / f"rows-{_rank()}", ignore_errors=True)
    if _rank() == 0:
        keep_result(task, _choose(trainer, task))


def make_trainer(task: StageTask, store: ExampleStore, rows: StageRows) -> _Trainer:
    """The trainer of a stage, its model loaded, ready to train."""
    config, stage = task.config, task.stage
    model = SentenceTransformer(task.start, device=_device())
    limit_texts(model, config.max_length)
    freeze_layers(model, config.tower.freeze)
    sides = trainer_sides(model, ["query", *map(_column, range(1 + stage.columns))])
    validation = Validation.load(task.validation)
    callbacks: list[TrainerCallback] = [_LogsAtCheckpoints(), _StopsEarly(config.patience)]
    if _rank() == 0:
        callbacks.append(sealing_callback())
    trainer = _Trainer(
        model=model,
        args=_arguments(task, rows.steps, sides),
        loss=make_loss(
            stage, model, np.asarray(store.known), len(store.items), config.tower.matryoshka
        ),
        evaluator=_Evaluator(validation),
        callbacks=callbacks,
    )
    trainer.rows = _TrainingRows(rows, store.queries, store.items)
    trainer.remove_callback(PrinterCallback)
    return trainer


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _device() -> str:
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def _column(place: int) -> str:
    return f"negative_{place}" if place else "positive"


def _arguments(
    task: StageTask, steps: int, sides: dict[str, Any]
) -> SentenceTransformerTrainingArguments:
    stage, config = task.stage, task.config
    every = -(-steps // config.validations)
    if config.report_to:
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(task.folder.parent / "tensorboard"))
    return SentenceTransformerTrainingArguments(
        output_dir=str(task.folder / "checkpoints"),
        max_steps=steps,
        per_device_train_batch_size=max(1, stage.batch // config.processes),
        learning_rate=stage.learning_rate,
        learning_rate_mapping=_OWN_RATE if stage.loss == "bce" else None,
        lr_scheduler_type=_SCHEDULES[stage.schedule],
        warmup_steps=stage.warmup,
        bf16=bf16_is_fast() if config.bf16 is None else config.bf16,
        use_cpu=_device() == "cpu",
        seed=task.seed,
        **sides,
        logging_steps=max(1, every // 5),
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        metric_for_best_model=_METRIC,
        greater_is_better=True,
        report_to=config.report_to,
        disable_tqdm=True,
    )


class _TrainingRows(Dataset[dict[str, Any]]):
    """The rows of a stage with their texts, made batch by batch."""

    def __init__(self, rows: StageRows, queries: Texts, items: Texts) -> None:
        self._rows, self._queries, self._items = rows, queries, items

    def __len__(self) -> int:
        return self._rows.total

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: list[int]) -> list[dict[str, Any]]:
        rows = self._rows.draw(np.asarray(numbers, dtype=np.int64))
        columns = {"query": self._queries.at(rows.queries)}
        for place in range(rows.items.shape[1]):
            columns[_column(place)] = self._items.at(rows.items[:, place])
        labels = np.column_stack([rows.queries, rows.items, rows.targets]).astype(np.float64)
        every = zip(*columns.values(), torch.from_numpy(labels), strict=True)
        return [dict(zip((*columns, "label"), row, strict=True)) for row in every]


class _Evaluator(SentenceEvaluator):
    """Hands the model in training to the validation."""

    def __init__(self, validation: Validation) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.validation = validation
        self.primary_metric = "ndcg"

    def __call__(self, model: Any, *_args: Any, **_rest: Any) -> dict[str, float]:
        return {"ndcg": self.validation.ndcg(model)}


class _LogsAtCheckpoints(TrainerCallback):
    """A logged loss never spans a checkpoint, so that a resumed run logs what it would have."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_rest: Any) -> None:
        control.should_log |= control.should_save


class _StopsEarly(TrainerCallback):
    """Ends a stage when some validations in a row have found nothing better."""

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_evaluate(self, args: Any, state: Any, control: Any, **_rest: Any) -> None:
        values = [entry[_METRIC] for entry in state.log_history if _METRIC in entry]
        since = len(values) - 1 - values.index(max(values))
        control.should_training_stop |= 0 < self.patience <= since


class _Trainer(SentenceTransformerTrainer):
    """Draws its rows, and saves and restores the loss's own parameters with every checkpoint.

    The model card gets no samples of the user's texts.
    """

    rows: _TrainingRows

    def get_train_dataloader(self) -> DataLoader[Any]:
        self.accelerator.even_batches = False
        in_order = BatchSampler(SequentialSampler(self.rows), self.args.train_batch_size, False)
        loader = DataLoader(
            self.rows, batch_sampler=in_order, collate_fn=cast(Any, self.data_collator)
        )
        return cast("DataLoader[Any]", self.accelerator.prepare(loader))

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


def _choose(trainer: Any, task: StageTask) -> Trained:
    state = trainer.state
    curve = curve_of(state.log_history, _METRIC)
    if state.best_metric is None or state.best_metric <= task.start_ndcg:
        return Trained(task.start, 0, task.start_ndcg, curve)
    best = task.folder / "checkpoints" / f"checkpoint-{state.best_global_step}"
    chosen, beside = task.folder / "model", task.folder / ".model.tmp"
    shutil.rmtree(beside, ignore_errors=True)
    SentenceTransformer(str(best), device="cpu").save_pretrained(str(beside))
    if (best / _LOSS_FILE).exists():
        shutil.copy(best / _LOSS_FILE, beside)
    shutil.rmtree(chosen, ignore_errors=True)
    beside.rename(chosen)
    return Trained(str(chosen), int(state.best_global_step), float(state.best_metric), curve)


if __name__ == "__main__":
    run_stage(StageTask.load(Path(sys.argv[1])))
