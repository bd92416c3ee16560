"""Spellings of one thing that a catalog itself has: `black & decker`, `blackdecker`, `drywall`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import polars as pl

MIN_LETTERS = 6
MIN_CODE = 4
"""Shortest key with a digit, such as wd40."""


def key_of(phrase: str) -> str:
    """What all spellings of a phrase share: it without inner `and` and without spaces."""
    return phrase.replace(" and ", " ").replace(" ", "")


def is_telling(key: str) -> bool:
    """Whether a key is long enough to be told from other words."""
    if key.isalpha():
        return len(key) >= MIN_LETTERS
    return len(key) >= MIN_CODE and any(character.isalpha() for character in key)


def spellings(phrases: Iterable[str]) -> Mapping[str, Sequence[str]]:
    """Phrases by their key, where a key stands for more than itself.

    Short keys are left out, for too much looks like them; so are those of three words or more
    that are spelt in only one way.

    Args:
        phrases: Words folded and joined by spaces.

    Example:
        >>> spellings(["black decker", "black and decker", "dry wall", "drywall", "saw"])
        {'blackdecker': ['black and decker', 'black decker'], 'drywall': ['dry wall', 'drywall']}
    """
    bare = pl.col("phrase").str.replace_all(" and ", " ", literal=True)
    table = pl.DataFrame({"phrase": pl.Series(list(phrases), dtype=pl.String)})
    table = table.with_columns(
        key=bare.str.replace_all(" ", "", literal=True),
        words=bare.str.count_matches(" ", literal=True) + 1,
    )
    grouped = table.group_by("key").agg(pl.col("phrase").sort(), pl.col("words").max()).sort("key")
    several = grouped.filter(
        (pl.col("words") > 1) & ((pl.col("phrase").list.len() > 1) | (pl.col("words") == 2))
    )
    pairs = several.select("key", "phrase").iter_rows()
    return {key: phrases for key, phrases in pairs if is_telling(key)}
