"""Training of judges that are transformers classifiers; a training that was killed goes on.

In: a classifier, tokenised pairs and their grades. Out: the classifier, trained in place.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.adapters.checkpoints import last_checkpoint, sealing_callback
from trivium.adapters.judges.classifier import quiet
from trivium.adapters.judges.ordinal_losses import loss_of
from trivium.adapters.judges.tokens import TokenTable, training_order
from trivium.adapters.models import model_fingerprint
from trivium.adapters.progress import training_progress
from trivium.foundation.judge_config import CrossEncoderConfig, JudgeSection, LoraLlmConfig

CHECKPOINT_EVERY = 100
TrainedConfig = CrossEncoderConfig | LoraLlmConfig


def train(
    model: Any,
    table: TokenTable,
    grades: NDArray[np.int64],
    config: TrainedConfig,
    *,
    seed: int,
    folder: Path,
    bf16: bool,
) -> None:
    """Train a classifier in place, from its last checkpoint if there is one.

    Args:
        model: A transformers classifier with five classes.
        table: The pairs to learn from.
        grades: Their grades, (pairs,).
        config: Loss, epochs, batch, learning rate and warm-up.
        seed: Seed of the order and the dropout.
        folder: Where checkpoints are kept, in a folder `training-<key>` of their own.
        bf16: Whether matrix products are made in bfloat16.
    """
    run = folder / f"training-{run_key(table, grades, config, seed)}"
    trainer = _trainer(model, table, grades, config, seed, run, bf16)
    resume = last_checkpoint(run)
    with quiet(), training_progress("judge training", trainer.args.max_steps) as progress:
        trainer.add_callback(progress)
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)


def run_key(table: TokenTable, grades: NDArray[np.int64], config: TrainedConfig, seed: int) -> str:
    """A hash of all that decides the weights, so that no other run's checkpoint is resumed."""
    digest = hashlib.sha256(model_fingerprint(config.model).encode())
    deciding = config.model_dump_json(exclude=set(JudgeSection.model_fields))
    digest.update(f"{deciding} {seed}".encode())
    for array in (table.fields["input_ids"], table.starts, grades.astype(np.int64)):
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def _trainer(
    model: Any,
    table: TokenTable,
    grades: NDArray[np.int64],
    config: TrainedConfig,
    seed: int,
    run: Path,
    bf16: bool,
) -> Any:
    import torch
    from transformers import PrinterCallback, Trainer

    order = training_order(table.lengths, config.batch, config.epochs, seed)
    loss = loss_of(config.loss, grades)

    def collate(rows: list[int]) -> dict[str, Any]:
        batch: dict[str, Any] = {
            name: torch.from_numpy(array) for name, array in table.batch(np.array(rows)).items()
        }
        return batch | {"labels": torch.from_numpy(grades[rows].astype(np.int64))}

    trainer = Trainer(
        model=model,
        args=_arguments(config, len(order) // config.batch, seed, run, bf16),
        train_dataset=order.tolist(),
        data_collator=collate,
        compute_loss_func=lambda output, labels, **_: loss(output.logits.float(), labels),
        callbacks=[sealing_callback()],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(config: TrainedConfig, steps: int, seed: int, run: Path, bf16: bool) -> Any:
    import torch
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(run),
        max_steps=steps,
        per_device_train_batch_size=config.batch,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup,
        weight_decay=0.01,
        bf16=bf16,
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
        train_sampling_strategy="sequential",
        save_strategy="steps",
        save_steps=CHECKPOINT_EVERY,
        save_total_limit=2,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
