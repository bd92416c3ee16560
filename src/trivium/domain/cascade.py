"""Which judge settles a pair, and with what grade."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def settle(calibrated: Mapping[str, Floats]) -> pl.DataFrame:
    """Take each pair's grade from the judge that is surest of it, the earlier one at a tie.

    Args:
        calibrated: For each judge, calibrated probabilities, (pairs, 5).

    Returns:
        Columns grade, confidence (the calibrated probability of that grade) and judge, a row for
        each pair, in order.
    """
    names = list(calibrated)
    stacked = np.stack([calibrated[name] for name in names])  # (judges, pairs, 5)
    grades, sure = stacked.argmax(axis=2), stacked.max(axis=2)  # (judges, pairs)
    surest = sure.argmax(axis=0)
    pairs = np.arange(len(surest))
    return pl.DataFrame(
        {
            "grade": grades[surest, pairs].astype(np.int8),
            "confidence": sure[surest, pairs].astype(np.float32),
            "judge": pl.Series([names[i] for i in surest.tolist()], dtype=pl.String),
        }
    )
