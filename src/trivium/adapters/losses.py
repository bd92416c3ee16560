"""Losses of the curriculum, on the unit vectors of a batch of sentence-transformers features."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.util import all_gather_with_grad
from torch import Tensor, distributed, nn
from torch.nn import functional

from trivium.adapters.matryoshka import truncations
from trivium.adapters.micro_batches import Column, embed
from trivium.foundation.train_config import StageConfig

CIRCLE_SCALE = 80.0
"""Scale of the circle loss: what its paper uses for retrieval (arXiv 2002.10857, section 4.1)."""

CIRCLE_GAP = 0.5
"""Grades that differ by less are one grade to the circle loss; ours, as grades may be expected
values with decimals."""

KL_TEMPERATURE = 1.0
"""Divides target grades; ours. At t = 20 a grade is then worth 1 / 20 of cosine."""


class TowerLoss(nn.Module):
    """A loss on the vectors that a tower gives to the columns of a batch.

    Inputs of every loss: one dict of tensors for each text column (the query, then the items of
    its row), and labels of shape (batch, 1 + items + targets): positions of the query and of each
    item, then the loss's targets, if it has any. Positions must come as integers or float64.

    Attributes:
        sizes: Lengths at which the vectors shall be good too, when they are cut; the loss is then
            the mean over the whole vectors and each of these (see `matryoshka.truncations`).

    Args:
        model: The tower, or DistributedDataParallel around it.
        recompute: See `micro_batches.embed`.
    """

    def __init__(self, model: Any, *, recompute: bool = False) -> None:
        super().__init__()
        self.model, self.recompute = model, recompute
        self.sizes: Sequence[int] = ()

    def forward(self, features: Iterable[Column], labels: Tensor) -> Tensor:
        """Mean loss of a batch, over the lengths of the vectors too."""
        columns = embed(self.model, features, recompute=self.recompute)
        every = zip(*(truncations(vectors, self.sizes) for vectors in columns), strict=True)
        return torch.stack([self.of(vectors, labels) for vectors in every]).mean()

    def of(self, vectors: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Mean loss of a batch, of unit vectors of each column: (batch, dimension) each."""
        raise NotImplementedError


class ScaledBce(TowerLoss):
    """Binary cross-entropy on sigmoid(t * cos + b), t learnable (arXiv 2606.23911, stage 1).

    Inputs: query and item; the target is 0 or 1.

    Args:
        model: The tower.
        temperature: t at the start; its logarithm is what is learned.
        bias: Whether to learn b too, from -t / 2, that is with the boundary at a cosine of 1/2
            (the bias of SigLIP, arXiv 2303.15343); without it the boundary is 0.
        recompute: See `micro_batches.embed`.
    """

    def __init__(
        self, model: Any, temperature: float, *, bias: bool = False, recompute: bool = False
    ) -> None:
        super().__init__(model, recompute=recompute)
        self.log_t = _shared(math.log(temperature))
        self.bias = _shared(-temperature / 2) if bias else None

    def of(self, vectors: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Mean loss of a batch; labels (batch, 3)."""
        cosines = _cosines(vectors)[:, 0]  # (batch,)
        logits = self.log_t.exp() * cosines
        if self.bias is not None:
            logits = logits + self.bias
        return functional.binary_cross_entropy_with_logits(logits, labels[:, -1].to(logits.dtype))


class MaskedMnr(TowerLoss):
    """Multiple negatives ranking in which no known relevant item serves as a negative.

    Nor does a row's own positive where another row of the batch has it too. All items of all rows
    are columns, those of the other processes of a distributed training among them, so that the
    gradient is that of one process with the whole batch.

    Inputs: query, positive and any number of negatives; no target. Known relevant pairs are
    looked up by position. Source: arXiv 1705.00652; the mask is ours.

    Args:
        model: The tower.
        known: Sorted codes query * items + item of the relevant pairs.
        items: Number of items in the catalog.
        scale: Multiplies the cosines.
        recompute: See `micro_batches.embed`.
    """

    def __init__(
        self,
        model: Any,
        known: NDArray[np.int64],
        items: int,
        scale: float,
        *,
        recompute: bool = False,
    ) -> None:
        super().__init__(model, recompute=recompute)
        self.items, self.scale = items, scale
        self.known: Tensor
        self.register_buffer("known", torch.from_numpy(known), persistent=False)

    def of(self, vectors: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Mean loss of a batch; labels (batch, 1 + items of a row)."""
        query, *columns = vectors
        positions = _positions(labels, 1 + len(columns))
        documents = _of_all_processes(torch.stack(columns, dim=1))  # (rows, columns, dimension)
        places = _of_all_processes(positions[:, 1:].contiguous()).reshape(1, -1)
        with torch.autocast(query.device.type, enabled=False):
            scores = self.scale * query @ documents.flatten(0, 1).T  # (batch, rows * columns)
        row = torch.arange(len(query), device=query.device)
        own = (_process() * len(query) + row) * len(columns)
        relevant = self._is_known(positions[:, :1] * self.items + places)
        relevant |= places == positions[:, 1:2]
        relevant[row, own] = False
        return functional.cross_entropy(scores.masked_fill(relevant, -torch.inf), own)

    def _is_known(self, codes: Tensor) -> Tensor:
        if not len(self.known):
            return torch.zeros_like(codes, dtype=torch.bool)
        place = torch.searchsorted(self.known, codes.contiguous()).clamp_max(len(self.known) - 1)
        return self.known[place] == codes


class CosineTriplet(TowerLoss):
    """Hinge on cosines, max(0, cos(q, n) - cos(q, p) + margin): the mean over negatives and rows.

    Inputs: query, positive and any number of negatives; no target. Source: arXiv 1503.03832,
    with cosines as in arXiv 2606.23911, stage 3.

    Args:
        model: The tower.
        margin: By how much the positive's cosine should be higher.
        recompute: See `micro_batches.embed`.
    """

    def __init__(self, model: Any, margin: float, *, recompute: bool = False) -> None:
        super().__init__(model, recompute=recompute)
        self.margin = margin

    def of(self, vectors: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Mean loss of a batch; labels are not looked at."""
        cosines = _cosines(vectors)
        return functional.relu(cosines[:, 1:] - cosines[:, :1] + self.margin).mean()


class GradedCircle(TowerLoss):
    """Circle loss with a level of cosine for every grade, between any two grades of a row.

    The level of grade g is c(g) = 1/2 + margin * (g - 2) / 4. For each pair of a row's items of
    which the first has the higher grade, the first should lie above its level, the second below
    its own: log(1 + sum over pairs exp(scale * (below(second) - above(first)))), where
    above(s, c) = [2 - c - s]+ * (s - c), below(s, c) = [s + c]+ * (s - c), and the weights in
    brackets are constants to the gradient. Grades 4 and 0 alone give the circle loss of arXiv
    2002.10857 with its m at (1 - margin) / 2. Levels by grade are our extension: arXiv 2602.17654
    ("Mine and Refine") describes a multi-class circle loss of which we know no formula.

    Inputs: query, positive and any number of negatives; targets are the items' grades, 0-4. Items
    of other rows have no grade for the query and play no part.

    Args:
        model: The tower.
        margin: Between the levels of grades 4 and 0.
        recompute: See `micro_batches.embed`.
    """

    def __init__(self, model: Any, margin: float, *, recompute: bool = False) -> None:
        super().__init__(model, recompute=recompute)
        self.margin = margin

    def of(self, vectors: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Mean loss of a batch; labels (batch, 1 + 2 * items of a row)."""
        cosines = _cosines(vectors)
        grades = _targets(labels, cosines)  # (batch, items)
        levels = 0.5 + self.margin * (grades - 2) / 4
        to_rise = (2 - levels - cosines).clamp_min(0).detach()
        to_fall = (cosines + levels).clamp_min(0).detach()
        above, below = to_rise * (cosines - levels), to_fall * (cosines - levels)
        terms = CIRCLE_SCALE * (below.unsqueeze(1) - above.unsqueeze(2))  # (batch, first, second)
        higher = grades.unsqueeze(2) - grades.unsqueeze(1) >= CIRCLE_GAP
        terms = terms.masked_fill(~higher, -torch.inf).flatten(1)
        return functional.pad(terms, (1, 0)).logsumexp(dim=1).mean()


class ListwiseKl(TowerLoss):
    """KL divergence of a row's softmax(t * cos) from the softmax of its grades.

    Inputs: query, positive and any number of negatives; targets are the items' grades, 0-4, or
    a judge's expected ones. Items of other rows have no grade for the query and play no part.
    Source: ListNet's top-one distribution (Cao et al. 2007), as used to distil rankers.

    Args:
        model: The tower.
        scale: t.
        recompute: See `micro_batches.embed`.
    """

    def __init__(self, model: Any, scale: float, *, recompute: bool = False) -> None:
        super().__init__(model, recompute=recompute)
        self.scale = scale

    def of(self, vectors: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Mean loss of a batch; labels (batch, 1 + 2 * items of a row)."""
        cosines = _cosines(vectors)
        target = (_targets(labels, cosines) / KL_TEMPERATURE).log_softmax(dim=1)
        found = (self.scale * cosines).log_softmax(dim=1)
        return functional.kl_div(found, target, reduction="batchmean", log_target=True)


def make_loss(
    stage: StageConfig,
    model: Any,
    known: NDArray[np.int64],
    items: int,
    sizes: Sequence[int] = (),
) -> TowerLoss:
    """The loss that a stage names.

    Args:
        stage: Its loss and settings.
        model: The tower.
        known: Sorted codes query * items + item of pairs that must not serve as negatives.
        items: Number of items in the catalog.
        sizes: Lengths at which the vectors shall be good too, when they are cut.
    """
    loss = _loss_of(stage, model, known, items)
    loss.sizes = sizes
    return loss


def _loss_of(stage: StageConfig, model: Any, known: NDArray[np.int64], items: int) -> TowerLoss:
    again = stage.cached
    match stage.loss:
        case "bce":
            return ScaledBce(model, stage.temperature, bias=stage.bias, recompute=again)
        case "mnr":
            return MaskedMnr(model, known, items, stage.temperature, recompute=again)
        case "triplet":
            return CosineTriplet(model, stage.margin, recompute=again)
        case "circle":
            return GradedCircle(model, stage.margin, recompute=again)
        case "kl":
            return ListwiseKl(model, stage.temperature, recompute=again)


def _cosines(vectors: Sequence[Tensor]) -> Tensor:
    """Cosines of each row's query and its items: (batch, items)."""
    query, *items = vectors
    return torch.stack([(query * item).sum(dim=1) for item in items], dim=1)


def _positions(labels: Tensor, count: int) -> Tensor:
    """Positions of the query and the items of each row, int64: (batch, count)."""
    if labels.is_floating_point() and labels.dtype != torch.float64:
        raise TypeError(f"positions as int64 or float64, which are exact, not {labels.dtype}")
    return labels[:, :count].long()


def _targets(labels: Tensor, cosines: Tensor) -> Tensor:
    return labels[:, -cosines.shape[1] :].to(cosines.dtype)


def _shared(value: float) -> nn.Parameter:
    """A parameter beside the tower: processes average its gradient, as they do the tower's."""
    parameter = nn.Parameter(torch.tensor(value))
    cast(Any, parameter).register_hook(_mean_over_processes)
    return parameter


def _mean_over_processes(gradient: Tensor) -> Tensor:
    if not _is_distributed():
        return gradient
    mean = gradient / distributed.get_world_size()
    distributed.all_reduce(mean)
    return mean


def _of_all_processes(rows: Tensor) -> Tensor:
    """Every process's rows, in the order of the processes, with their gradients."""
    if not _is_distributed():
        return rows
    gathered: Tensor = all_gather_with_grad(rows)
    return gathered


def _process() -> int:
    return distributed.get_rank() if _is_distributed() else 0


def _is_distributed() -> bool:
    return bool(distributed.is_available() and distributed.is_initialized())
