"""Losses of the curriculum on sentence-transformers features; triplet is the library's own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from trivium.foundation.train_config import StageConfig

Features = Iterable[dict[str, Tensor]]


class ScaledBce(nn.Module):
    """Binary cross-entropy on sigmoid(t * cos), t learnable (arXiv 2606.23911, stage 1).

    Inputs: (query, item) texts with a label 0.0 or 1.0.
    """

    def __init__(self, model: Any, temperature: float) -> None:
        super().__init__()
        self.model = model
        self.log_t = nn.Parameter(torch.tensor(float(np.log(temperature))))

    def forward(self, features: Features, labels: Tensor) -> Tensor:
        """Mean loss of a batch; labels (batch,)."""
        query, item = _embeddings(self.model, features)
        logits = self.log_t.exp() * (query * item).sum(dim=1)  # (batch,)
        return functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))


class MaskedMnr(nn.Module):
    """Multiple negatives ranking in which no known relevant item serves as a negative.

    Nor does a row's own positive where another row of the batch has it too.

    Inputs: (query, positive) or (query, positive, negative) texts; the label row holds the
    positions of the query and of each item, by which known relevant pairs are looked up.

    Args:
        model: The tower.
        known: Sorted codes query * items + item of the relevant pairs.
        items: Number of items in the catalog.
        scale: Multiplies the cosines.
    """

    def __init__(self, model: Any, known: NDArray[np.int64], items: int, scale: float) -> None:
        super().__init__()
        self.model, self.items, self.scale = model, items, scale
        self.known: Tensor
        self.register_buffer("known", torch.from_numpy(known), persistent=False)

    def forward(self, features: Features, labels: Tensor) -> Tensor:
        """Mean loss of a batch; labels (batch, 1 + items of a row)."""
        query, *columns = _embeddings(self.model, features)
        documents = torch.cat(columns)  # (batch * columns, dim)
        with torch.autocast(query.device.type, enabled=False):
            scores = self.scale * query @ documents.T  # (batch, batch * columns)
        codes = labels[:, :1] * self.items + labels[:, 1:].T.reshape(1, -1)
        own = torch.arange(len(query), device=scores.device)
        relevant = self._is_known(codes) | (codes == codes[own, own].unsqueeze(1))
        relevant[own, own] = False
        return functional.cross_entropy(scores.masked_fill(relevant, -torch.inf), own)

    def _is_known(self, codes: Tensor) -> Tensor:
        if not len(self.known):
            return torch.zeros_like(codes, dtype=torch.bool)
        place = torch.searchsorted(self.known, codes.contiguous()).clamp_max(len(self.known) - 1)
        return self.known[place] == codes


def make_loss(stage: StageConfig, model: Any, known: NDArray[np.int64], items: int) -> nn.Module:
    """The loss that a stage names."""
    if stage.loss == "bce":
        return ScaledBce(model, stage.temperature)
    if stage.loss == "mnr":
        return MaskedMnr(model, known, items, stage.temperature)
    from sentence_transformers.sentence_transformer.losses import (
        TripletDistanceMetric,
        TripletLoss,
    )

    loss: nn.Module = TripletLoss(
        model, distance_metric=TripletDistanceMetric.COSINE, triplet_margin=stage.margin
    )
    return loss


def _embeddings(model: Any, features: Features) -> list[Tensor]:
    """Unit vectors of each column, in fp32 at least: (batch, dim) each."""
    found = [model(column)["sentence_embedding"] for column in features]
    return [
        functional.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=1)
        for vectors in found
    ]
