"""A judge gives each pair of query and item a probability for every grade."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import polars as pl

from trivium.foundation.config import AnnotateConfig
from trivium.foundation.errors import DependencyError

GROUP = "trivium.judges"


class Judge(Protocol):
    """One classifier of pairs into the five grades."""

    name: str

    @classmethod
    def fit(
        cls,
        pairs: pl.DataFrame,
        grades: np.ndarray,
        config: AnnotateConfig,
        *,
        seed: int,
        folder: Path,
    ) -> Self:
        """Learn from graded pairs; a fit that was killed goes on from where it was.

        Args:
            pairs: Columns query_text and item_text.
            grades: Their grades, (pairs,).
            config: The judge's settings.
            seed: Seed of all randomness.
            folder: Where checkpoints are kept until the fit is done.
        """
        ...

    def probabilities(self, pairs: pl.DataFrame) -> np.ndarray:
        """Grade pairs; what a pair gets does not depend on the pairs it comes with.

        Args:
            pairs: Columns query_text and item_text.

        Returns:
            Probabilities, float32 of shape (pairs, 5), rows summing to 1, uncalibrated.
        """
        ...

    def tokens(self, pairs: pl.DataFrame) -> np.ndarray:
        """Tokens the judge reads for each pair, the measure of its cost; int32, (pairs,)."""
        ...

    def save(self, folder: Path) -> None:
        """Write everything that `load` needs."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read back a judge that `save` wrote."""
        ...


def load_judge(name: str) -> type[Judge]:
    """Find a judge by its name among the entry points of the group `trivium.judges`.

    Raises:
        DependencyError: If no installed package offers a judge of that name.
    """
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        raise DependencyError.of(
            f"judge '{name}'",
            got="no such judge",
            expected=f"one of {', '.join(sorted(found)) or 'none, as none is installed'}",
            fix=f"correct the name, or install a package that offers it in the group {GROUP}",
        )
    judge: type[Judge] = found[name].load()
    return judge
