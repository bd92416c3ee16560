"""Examples as columns of numbers, in memory or mapped from files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.foundation.tables import LEVELS

DTYPES: Mapping[str, Any] = {
    "query": np.int32,
    "item": np.int32,
    "level": np.int8,
    "grade": np.int8,
    "p_relevant": np.float32,
    "p_irrelevant": np.float32,
    "expected_grade": np.float32,
    "confidence": np.float32,
    "human": np.bool_,
}
"""The columns and their types."""
_BLOCK = 1 << 20


@dataclass(frozen=True)
class ExampleArrays:
    """Examples as equally long columns; those of a query lie together, its items ascending.

    Attributes:
        query: Number of the query, ascending.
        item: Position of the item in the catalog, sorted by id.
        level: Position in `tables.LEVELS`.
        grade: -1 where nobody graded the pair.
        p_relevant: P(grade >= 3); NaN where nobody graded the pair.
        p_irrelevant: P(grade <= 1), likewise.
        expected_grade: Likewise.
        confidence: P(its grade is right), likewise.
        human: Whether a human graded the pair.
    """

    query: NDArray[np.int32]
    item: NDArray[np.int32]
    level: NDArray[np.int8]
    grade: NDArray[np.int8]
    p_relevant: NDArray[np.float32]
    p_irrelevant: NDArray[np.float32]
    expected_grade: NDArray[np.float32]
    confidence: NDArray[np.float32]
    human: NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.query)

    def blocks(self) -> Iterator[tuple[int, ExampleArrays]]:
        """Consecutive parts of bounded size, each with the position of its first example."""
        for begin in range(0, len(self), _BLOCK):
            part = slice(begin, begin + _BLOCK)
            columns = {f.name: np.asarray(getattr(self, f.name)[part]) for f in fields(self)}
            yield begin, ExampleArrays(**columns)


def as_arrays(examples: pl.DataFrame) -> ExampleArrays:
    """Turn examples with the columns query and item, the numbers, into arrays.

    Args:
        examples: `tables.EXAMPLES`, with int32 columns query and item beside the ids.
    """
    ordered = examples.sort("query", "item")
    numbers = ordered.select(
        "query",
        "item",
        pl.col("level").replace_strict(
            {level: place for place, level in enumerate(LEVELS)}, return_dtype=pl.Int8
        ),
        pl.col("grade").fill_null(-1),
        *(
            pl.col(name).fill_null(float("nan"))
            for name in ("p_relevant", "p_irrelevant", "expected_grade", "confidence")
        ),
        (pl.col("source") == "human").alias("human"),
    )
    columns = {name: numbers[name].to_numpy().astype(dtype) for name, dtype in DTYPES.items()}
    return ExampleArrays(**columns)


def levels_in(examples: ExampleArrays, levels: Sequence[str]) -> NDArray[np.bool_]:
    """Which examples are of some levels: (examples,)."""
    return np.isin(examples.level, [LEVELS.index(level) for level in levels])
