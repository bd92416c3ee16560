"""A judge that reads query and item together: any encoder with one class a grade.

In: pairs of texts, and grades to learn from. Out: probabilities of the five grades, (pairs, 5).
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.adapters.checkpoints import last_checkpoint, sealing_callback
from trivium.adapters.judges.tokens import TokenTable, fixed_batches, tokenise, training_order
from trivium.adapters.models import model_fingerprint, resolve_model
from trivium.adapters.progress import training_progress
from trivium.foundation.config import AnnotateConfig
from trivium.foundation.console import counter
from trivium.foundation.errors import DependencyError
from trivium.foundation.tables import GRADES

CHECKPOINT_EVERY = 100
# Padded tokens in a batch of inference: the fastest size on a processor, enough for a card.
_TOKENS = {"cpu": 1024, "cuda": 32768}
_SETTINGS = "judge.json"


class CrossEncoderJudge:
    """A transformers sequence classifier with five classes.

    Attributes:
        name: `cross_encoder`.
        model: The classifier.
        tokenizer: Its tokenizer.
        max_length: Tokens it reads of a pair.
    """

    name = "cross_encoder"

    def __init__(self, model: Any, tokenizer: Any, max_length: int) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.max_length = max_length

    @classmethod
    def fit(
        cls,
        pairs: pl.DataFrame,
        grades: NDArray[np.int64],
        config: AnnotateConfig,
        *,
        seed: int,
        folder: Path,
    ) -> Self:
        """Train a body with a new head; a fit that was killed goes on from its last checkpoint.

        Args:
            pairs: Columns query_text and item_text.
            grades: Their grades, (pairs,).
            config: Body, epochs, batch, learning rate, warm-up and lengths.
            seed: Seed of the head, the order and the dropout.
            folder: Where checkpoints are kept, in a folder `training-<key>` of their own.

        Raises:
            DependencyError: If the body cannot be loaded.
        """
        judge = cls.untrained(config, seed)
        table = tokenise(judge.tokenizer, pairs, config.max_length)
        run = folder / f"training-{_run_key(table, grades, config, seed)}"
        trainer = _trainer(judge, table, grades, config, seed, run)
        resume = last_checkpoint(run)
        with _quiet(), training_progress("judge training", trainer.args.max_steps) as progress:
            trainer.add_callback(progress)
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        return judge

    @classmethod
    def untrained(cls, config: AnnotateConfig, seed: int) -> Self:
        """The configured body with a head of random weights."""
        import torch

        torch.manual_seed(seed)
        model, tokenizer = _load(resolve_model(config.model), config.model, num_labels=len(GRADES))
        return cls(model, tokenizer, config.max_length)

    def probabilities(self, pairs: pl.DataFrame) -> NDArray[np.float32]:
        """Grade pairs; what a pair gets does not depend on the pairs it comes with.

        Args:
            pairs: Columns query_text and item_text.

        Returns:
            Probabilities of shape (pairs, 5), rows summing to 1, uncalibrated.
        """
        import torch

        table = tokenise(self.tokenizer, pairs, self.max_length)
        result = np.empty((len(table), len(GRADES)), np.float32)
        device = self._place()
        with (
            counter("pairs graded", len(table)) as advance,
            torch.no_grad(),
            torch.autocast(device, dtype=torch.bfloat16),
        ):
            for rows, count in fixed_batches(table, _TOKENS[device]):
                batch = {k: torch.from_numpy(v).to(device) for k, v in table.batch(rows).items()}
                logits = self.model(**batch).logits.float()  # (rows, 5)
                result[rows[:count]] = torch.softmax(logits, dim=1)[:count].cpu().numpy()
                advance(count)
        return result

    def tokens(self, pairs: pl.DataFrame) -> NDArray[np.int32]:
        """Tokens read for each pair, without padding, (pairs,)."""
        return tokenise(self.tokenizer, pairs, self.max_length).lengths.astype(np.int32)

    def save(self, folder: Path) -> None:
        """Write weights, tokenizer and settings."""
        with _quiet():
            self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        settings = json.dumps({"max_length": self.max_length})
        (folder / _SETTINGS).write_text(settings, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read back a judge that `save` wrote."""
        settings = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        model, tokenizer = _load(folder, str(folder))
        return cls(model, tokenizer, settings["max_length"])

    def _place(self) -> str:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model.to(device).eval()
        return device


def ranked_probability_loss(logits: Any, grades: Any) -> Any:
    """Cross-entropy plus ranked probability score, means over pairs.

    The ranked probability score (Epstein, 1969), the mean squared difference of the cumulated
    distributions, makes a miss by two grades cost more than a miss by one.

    Args:
        logits: Float tensor, (pairs, 5).
        grades: Integer tensor, (pairs,).
    """
    import torch
    from torch.nn.functional import cross_entropy, one_hot

    logits = logits.float()
    below = torch.softmax(logits, dim=1).cumsum(dim=1)
    truth = one_hot(grades, len(GRADES)).cumsum(dim=1)
    return cross_entropy(logits, grades) + ((below - truth) ** 2).sum(dim=1).mean()


def _trainer(
    judge: CrossEncoderJudge,
    table: TokenTable,
    grades: NDArray[np.int64],
    config: AnnotateConfig,
    seed: int,
    run: Path,
) -> Any:
    import torch
    from transformers import PrinterCallback, Trainer, TrainingArguments

    order = training_order(table.lengths, config.batch, config.epochs, seed)

    def collate(rows: list[int]) -> dict[str, Any]:
        batch: dict[str, Any] = {
            name: torch.from_numpy(array) for name, array in table.batch(np.array(rows)).items()
        }
        return batch | {"labels": torch.from_numpy(grades[rows].astype(np.int64))}

    arguments = TrainingArguments(
        output_dir=str(run),
        max_steps=len(order) // config.batch,
        per_device_train_batch_size=config.batch,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup,
        weight_decay=0.01,
        bf16=True,
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
    trainer = Trainer(
        model=judge.model,
        args=arguments,
        train_dataset=order.tolist(),
        data_collator=collate,
        compute_loss_func=lambda output, labels, **_: ranked_probability_loss(
            output.logits, labels
        ),
        callbacks=[sealing_callback()],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _run_key(
    table: TokenTable, grades: NDArray[np.int64], config: AnnotateConfig, seed: int
) -> str:
    """A hash of all that decides the weights, so that no other run's checkpoint is resumed."""
    digest = hashlib.sha256(model_fingerprint(config.model).encode())
    digest.update(f"{config.model_dump_json()} {seed}".encode())
    for array in (table.fields["input_ids"], table.starts, grades.astype(np.int64)):
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' bars and its notes on new heads."""
    logging: Any = importlib.import_module("transformers.utils.logging")
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _load(source: str | Path, name: str, **settings: Any) -> tuple[Any, Any]:
    """A classifier and its tokenizer; a model that cannot be found is a user's error."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        with _quiet():
            model = AutoModelForSequenceClassification.from_pretrained(
                source, dtype=torch.float32, **settings
            )
            return model, AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, ImportError) as error:
        raise DependencyError.of(
            f"model '{name}'",
            got=str(error).splitlines()[0],
            expected="a hub name that can be reached, a folder, or package:NAME/FOLDER",
            fix="download the model, or name a folder or a packaged model in annotate.model",
        ) from None
