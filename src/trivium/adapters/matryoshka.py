"""Vectors whose first numbers are vectors too (Matryoshka representations, arXiv 2205.13147)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional


def truncations(vectors: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Cut unit vectors to each size and make them unit vectors again.

    A loss that is to hold at every size is the mean of its values at each of them: the paper
    weighs all sizes alike. Gradients flow through every cut.

    Args:
        vectors: Unit vectors, (batch, dimension).
        sizes: Lengths below the dimension; none gives the vectors alone.

    Returns:
        The vectors themselves, then (batch, size) for each size.
    """
    return [vectors, *(functional.normalize(vectors[:, :size], dim=1) for size in sizes)]
