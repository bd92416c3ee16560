"""A judge that reads query and item together: any encoder with one class a grade.

In: pairs of texts, and grades to learn from. Out: probabilities of the five grades, (pairs, 5).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.adapters.hardware import bf16_is_fast
from trivium.adapters.judges import Answers, Judge
from trivium.adapters.judges.classifier import classify, load_classifier, quiet
from trivium.adapters.judges.tokens import tokenise
from trivium.adapters.judges.trainer import train
from trivium.foundation.errors import ConfigError
from trivium.foundation.judge_config import CrossEncoderConfig

_SETTINGS = "judge.json"


class CrossEncoderJudge:
    """A transformers sequence classifier with five classes.

    Attributes:
        model: The classifier.
        tokenizer: Its tokenizer.
        max_length: Tokens it reads of a pair.
    """

    def __init__(self, model: Any, tokenizer: Any, max_length: int) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.max_length = max_length

    @classmethod
    def fit(
        cls,
        pairs: pl.DataFrame,
        grades: NDArray[np.int64],
        config: CrossEncoderConfig,
        *,
        seed: int,
        folder: Path,
        earlier: Mapping[str, Judge],
    ) -> Self:
        """Train a body with a new head; a fit that was killed goes on from its last checkpoint.

        Args:
            pairs: Columns query_text and item_text.
            grades: Their grades, (pairs,).
            config: Body, loss, epochs, batch, learning rate, warm-up and length.
            seed: Seed of the head, the order and the dropout.
            folder: Where checkpoints are kept until the fit is done.
            earlier: The judges before it, one of which it may start from.

        Raises:
            ConfigError: If it is to start from a judge of another kind.
            DependencyError: If the body cannot be loaded.
        """
        judge = cls._after(config, earlier) if config.start else cls.untrained(config, seed)
        table = tokenise(judge.tokenizer, pairs, config.max_length)
        train(judge.model, table, grades, config, seed=seed, folder=folder, bf16=bf16_is_fast())
        return judge

    @classmethod
    def untrained(cls, config: CrossEncoderConfig, seed: int) -> Self:
        """The configured body with a head of random weights."""
        import torch

        torch.manual_seed(seed)
        model, tokenizer = load_classifier(config.model, dtype=torch.float32)
        return cls(model, tokenizer, config.max_length)

    @classmethod
    def _after(cls, config: CrossEncoderConfig, earlier: Mapping[str, Judge]) -> Self:
        """A copy of an earlier judge, which is wrapped by the store."""
        before: Any = getattr(earlier[config.start or ""], "judge", None)
        if not isinstance(before, cls):
            raise ConfigError.of(
                f"annotate.judges {config.name}: start",
                got=f"'{config.start}', a judge of another kind",
                expected="the name of an earlier cross_encoder",
                fix="name another, or leave `start` out",
            )
        return cls(copy.deepcopy(before.model), before.tokenizer, config.max_length)

    def answers(self, pairs: pl.DataFrame) -> Iterator[Answers]:
        """Grade pairs; what a pair gets does not depend on the pairs it comes with.

        Args:
            pairs: Columns query_text and item_text.

        Yields:
            Answers, a batch of pairs of like length at a time.
        """
        table = tokenise(self.tokenizer, pairs, self.max_length)
        yield from classify(self.model, table, bf16=bf16_is_fast())

    @property
    def parameters(self) -> int:
        """Weights that every token passes."""
        return sum(weights.numel() for weights in self.model.parameters())

    def tokens(self, pairs: pl.DataFrame) -> NDArray[np.int32]:
        """Tokens read for each pair, without padding, int32, (pairs,)."""
        return tokenise(self.tokenizer, pairs, self.max_length).lengths.astype(np.int32)

    def save(self, folder: Path) -> None:
        """Write weights, tokenizer and settings."""
        with quiet():
            self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        settings = json.dumps({"max_length": self.max_length})
        (folder / _SETTINGS).write_text(settings, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, config: CrossEncoderConfig, earlier: Mapping[str, Judge]) -> Self:
        """Read back a judge that `save` wrote; what it was trained with holds, not `config`."""
        import torch

        settings = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        model, tokenizer = load_classifier(str(folder), dtype=torch.float32)
        return cls(model, tokenizer, settings["max_length"])
