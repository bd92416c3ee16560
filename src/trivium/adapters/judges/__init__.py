"""A judge gives each pair of query and item a probability for every grade."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.foundation.errors import DependencyError
from trivium.foundation.tables import GRADES

GROUP = "trivium.judges"


@dataclass(frozen=True)
class Answers:
    """What a judge says of some pairs.

    Attributes:
        rows: Which of the pairs it was asked about, (n,).
        probabilities: Of the five grades, uncalibrated, float32 of shape (n, 5), rows summing to 1;
            a row of NaN where the judge gave no usable answer.
        read: Tokens read for each pair, int32, (n,).
        written: Tokens written for each pair, int32, (n,); 0 for a classifier.
        troubles: What went wrong on the way, counted: retries, malformed answers, timeouts.
    """

    rows: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    read: NDArray[np.int32]
    written: NDArray[np.int32]
    troubles: Mapping[str, int] = field(default_factory=dict)


class Judge(Protocol):
    """One classifier of pairs into the five grades."""

    @property
    def parameters(self) -> int:
        """Weights that every token passes, for costs; 0 where there are none or none are known."""
        ...

    @classmethod
    def fit(
        cls,
        pairs: pl.DataFrame,
        grades: NDArray[np.int64],
        config: Any,
        *,
        seed: int,
        folder: Path,
        earlier: Mapping[str, Judge],
    ) -> Self:
        """Learn from graded pairs; a fit that was killed goes on from where it was.

        Args:
            pairs: Columns query_text and item_text.
            grades: Their grades, (pairs,).
            config: The judge's entry under `[[annotate.judges]]`.
            seed: Seed of all randomness.
            folder: Where checkpoints are kept until the fit is done.
            earlier: The judges before it in the list, by name.
        """
        ...

    def answers(self, pairs: pl.DataFrame) -> Iterator[Answers]:
        """Grade pairs; what a pair gets does not depend on the pairs it comes with.

        Args:
            pairs: Columns query_text and item_text.

        Yields:
            Answers as they come, in any order, each pair once.
        """
        ...

    def tokens(self, pairs: pl.DataFrame) -> NDArray[np.int32]:
        """Tokens that would be read for each pair, the measure of its cost; int32, (pairs,)."""
        ...

    def save(self, folder: Path) -> None:
        """Write everything that `load` needs; what is written identifies the judge."""
        ...

    @classmethod
    def load(cls, folder: Path, config: Any, earlier: Mapping[str, Judge]) -> Self:
        """Read back a judge that `save` wrote.

        Args:
            folder: Where it was saved.
            config: Its entry under `[[annotate.judges]]`.
            earlier: The judges before it in the list, by name.
        """
        ...


def collect(judge: Judge, pairs: pl.DataFrame) -> Answers:
    """Ask about all pairs and put the answers in the order of the pairs."""
    n = len(pairs)
    probabilities = np.full((n, len(GRADES)), np.nan, np.float32)
    read, written = np.zeros(n, np.int32), np.zeros(n, np.int32)
    troubles: dict[str, int] = {}
    for some in judge.answers(pairs):
        probabilities[some.rows] = some.probabilities
        read[some.rows], written[some.rows] = some.read, some.written
        for what, count in some.troubles.items():
            troubles[what] = troubles.get(what, 0) + count
    return Answers(np.arange(n), probabilities, read, written, troubles)


def load_judge(kind: str) -> type[Judge]:
    """Find a kind of judge among the entry points of the group `trivium.judges`.

    Raises:
        DependencyError: If no installed package offers a judge of that kind.
    """
    found = {point.name: point for point in entry_points(group=GROUP)}
    if kind not in found:
        raise DependencyError.of(
            f"judge '{kind}'",
            got="no such judge",
            expected=f"one of {', '.join(sorted(found)) or 'none, as none is installed'}",
            fix=f"correct the name, or install a package that offers it in the group {GROUP}",
        )
    judge: type[Judge] = found[kind].load()
    return judge
