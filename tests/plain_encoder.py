"""An encoder that numpy can follow, and batches for it: what the tests of losses share."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from trivium.foundation.train_config import StageConfig

WORDS, DIM, ITEMS = 30, 6, 50


class Encoder(nn.Module):
    """The mean of word vectors, in double precision."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        weights = torch.randn(WORDS, DIM, generator=generator, dtype=torch.float64)
        self.bag = nn.EmbeddingBag.from_pretrained(weights, freeze=False, mode="mean")

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"sentence_embedding": self.bag(features["input_ids"])}


def texts(batch: int, columns: int, seed: int) -> list[dict[str, torch.Tensor]]:
    rng = np.random.default_rng(seed)
    return [
        {"input_ids": torch.from_numpy(rng.integers(0, WORDS, (batch, 3)))} for _ in range(columns)
    ]


def plain_units(encoder: Encoder, column: dict[str, torch.Tensor]) -> np.ndarray:
    weights = encoder.bag.weight.detach().numpy()
    vectors = weights[column["input_ids"].numpy()].mean(axis=1)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def cosines_of(encoder: Encoder, features: list) -> np.ndarray:
    query, *items = (plain_units(encoder, column) for column in features)
    return np.stack([(query * item).sum(axis=1) for item in items], axis=1)


def with_targets(*targets: list[float] | np.ndarray) -> torch.Tensor:
    """Label rows: positions of a query and of as many items as there are targets, the targets."""
    rows = np.column_stack(targets).astype(np.float64)
    positions = np.zeros((len(rows), 1 + rows.shape[1]))
    return torch.from_numpy(np.hstack([positions, rows]))


def stage(**settings) -> StageConfig:
    given = {"name": "s", "positives": ["easy_positive"], "negatives": ["hard_negative"]}
    return StageConfig(**given | settings)


def gradients_are_right(loss: nn.Module, features: list, labels: torch.Tensor) -> bool:
    names = [name for name, _ in loss.named_parameters()]
    values = [value.detach().double().requires_grad_() for _, value in loss.named_parameters()]

    def value_of(*given: torch.Tensor) -> torch.Tensor:
        parameters = dict(zip(names, given, strict=True))
        return torch.func.functional_call(loss, parameters, (features, labels))

    return torch.autograd.gradcheck(value_of, values, fast_mode=False)
