"""Model numbers such as DX-4821B: a product line's own letters and digits, then the variant."""

from __future__ import annotations

import string

import numpy as np
import polars as pl

from trivium.simulation.vocabulary import Ints

_LETTERS = tuple(letter for letter in string.ascii_uppercase if letter not in "IO")
_DIGITS = 10_000
_LINES = len(_LETTERS) ** 2 * _DIGITS
_STEP = 3_559_783  # coprime with _LINES: every line gets a number of its own
_OFFSET = 2_714_821
MAX_ITEMS = 10_000_000  # more items might need more lines than there are numbers


def model_numbers(series: Ints, variant: Ints, hyphen: str = "-") -> pl.Series:
    """Model numbers of product lines and variants, null where the series is -1.

    Args:
        series: Number of each product line, (rows,).
        variant: Place of its variant's letter in the alphabet, (rows,).
        hyphen: What stands between letters and digits.

    Returns:
        Strings, (rows,).
    """
    scattered = (series.astype(np.int64) * _STEP + _OFFSET) % _LINES
    letters, digits = np.divmod(scattered, _DIGITS)
    frame = pl.DataFrame(
        {
            "letters": pl.Series([a + b for a in _LETTERS for b in _LETTERS]).gather(letters),
            "digits": pl.Series(digits).cast(pl.String).str.zfill(4),
            "variant": pl.Series(list(string.ascii_uppercase)).gather(np.maximum(variant, 0)),
            "known": series >= 0,
        }
    )
    number = pl.concat_str([pl.col("letters"), pl.lit(hyphen), pl.col("digits"), pl.col("variant")])
    return frame.select(pl.when("known").then(number).alias("model_number")).to_series()
