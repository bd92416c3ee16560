"""Titles with the noise of real ones: word order, marketing, missing attributes, unit spellings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from trivium.simulation.codes import Codes
from trivium.simulation.models import model_numbers
from trivium.simulation.schemas import MARKETING
from trivium.simulation.vocabulary import FORMS, NO_CODE, PRODUCT_TYPES, Ints, Places, Vocabulary

# Share of titles that leave out an attribute which the item's fields state.
_OMITTED = {
    "brand": 0.12,
    "colour": 0.25,
    "material": 0.25,
    "size": 0.2,
    "pack": 0.15,
    "device": 0.05,
    "model": 0.35,
}
_MARKETING_SHARE = 0.45
_FEATURE_SHARE = 0.7
_SECOND_FEATURE_SHARE = 0.3
_STUFFED_SHARE = 0.04  # titles that carry a synonym as well
_UNHYPHENATED_SHARE = 0.2
_USUAL_NOUN_SHARE = 0.65

# A layout is a separator and the groups it stands between; words in a group are spaced.
_LAYOUTS: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] = (
    (
        ", ",
        (
            ("brand", "marketing", "colour", "material", "noun", "device"),
            ("size",),
            ("pack",),
            ("feature",),
            ("feature2", "stuffed"),
            ("model",),
        ),
    ),
    (
        " - ",
        (
            ("brand", "model", "size", "noun", "device"),
            ("material",),
            ("colour",),
            ("pack",),
            ("feature", "stuffed"),
        ),
    ),
    (
        ", ",
        (
            ("noun", "device"),
            ("size", "colour"),
            ("feature",),
            ("material", "stuffed", "feature2"),
            ("brand", "model"),
            ("pack",),
        ),
    ),
    (
        " | ",
        (
            ("marketing", "size", "material", "noun", "device"),
            ("brand", "model"),
            ("colour", "feature"),
            ("stuffed", "pack"),
        ),
    ),
    (
        " ",
        (
            ("pack", "brand", "marketing", "noun", "stuffed", "device", "feature", "colour"),
            ("material", "size", "model"),
        ),
    ),
)


def texts(values: Sequence[str], codes: Ints) -> pl.Series:
    """The value of each code, null for -1."""
    table = pl.Series([*values, None], dtype=pl.String)
    return table.gather(np.where(codes < 0, len(values), codes))


def render_titles(codes: Codes, vocabulary: Vocabulary, rng: np.random.Generator) -> pl.Series:
    """Write a title for each item.

    Args:
        codes: What the items offer.
        vocabulary: What the codes stand for.
        rng: Source of randomness.

    Returns:
        Titles, strings of shape (items,).
    """
    words = pl.DataFrame(_words(codes, vocabulary, rng))
    layout = rng.integers(len(_LAYOUTS), size=len(codes))
    title = _layout(0)
    for place in range(1, len(_LAYOUTS)):
        title = pl.when(pl.col("layout") == place).then(_layout(place)).otherwise(title)
    return words.with_columns(layout=pl.Series(layout)).select(title.alias("title")).to_series()


def _words(codes: Codes, vocabulary: Vocabulary, rng: np.random.Generator) -> dict[str, pl.Series]:
    count = len(codes)

    def shown(name: str, values: Ints) -> Ints:
        return np.where(rng.random(count) < _OMITTED[name], NO_CODE, values).astype(np.int32)

    def form(values: Ints) -> Ints:
        written = values * FORMS + rng.integers(FORMS, size=count)
        return np.where(values < 0, NO_CODE, written).astype(np.int32)

    feature, second = _features(codes.kind, vocabulary, rng)
    series = shown("model", codes.series)
    bare = rng.random(count) < _UNHYPHENATED_SHARE
    hyphenated = model_numbers(series, codes.variant)
    unhyphenated = model_numbers(series, codes.variant, hyphen="")
    return {
        "brand": texts(vocabulary.brands, shown("brand", codes.brand)),
        "colour": texts([c.title() for c in vocabulary.colours], shown("colour", codes.colour)),
        "material": texts(
            [m.title() for m in vocabulary.materials], shown("material", codes.material)
        ),
        "size": texts(vocabulary.size_forms, form(shown("size", codes.size))),
        "pack": texts(vocabulary.pack_forms, form(shown("pack", codes.pack))),
        "device": texts(vocabulary.device_forms, form(shown("device", codes.device))),
        "model": unhyphenated.zip_with(pl.Series(bare), hyphenated),
        "marketing": texts(MARKETING, _sometimes(len(MARKETING), count, _MARKETING_SHARE, rng)),
        "noun": texts(vocabulary.nouns, _nouns(codes.kind, vocabulary, rng)),
        "feature": texts(vocabulary.features, feature),
        "feature2": texts(vocabulary.features, second),
        "stuffed": _stuffed(codes.kind, rng),
    }


def _sometimes(values: int, count: int, share: float, rng: np.random.Generator) -> Ints:
    drawn = rng.integers(values, size=count)
    return np.where(rng.random(count) < share, drawn, NO_CODE).astype(np.int32)


def _ragged(lists: list[Ints], kinds: Ints, places: Places) -> Ints:
    """The value at a place (modulo its length) of the list of each row's type."""
    lengths = np.array([len(values) for values in lists])
    starts = np.cumsum(lengths) - lengths
    picked: Ints = np.concatenate(lists)[starts[kinds] + places % lengths[kinds]]
    return picked


def _nouns(kinds: Ints, vocabulary: Vocabulary, rng: np.random.Generator) -> Ints:
    usual = rng.random(len(kinds)) < _USUAL_NOUN_SHARE
    places = np.where(usual, 0, rng.integers(1, 60, size=len(kinds)))
    return _ragged([kind.noun for kind in vocabulary.types], kinds, places)


def _features(kinds: Ints, vocabulary: Vocabulary, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Up to two different features of each item's type."""
    lists = [kind.feature for kind in vocabulary.types]
    place = rng.integers(0, 60, size=len(kinds))
    first, second = _ragged(lists, kinds, place), _ragged(lists, kinds, place + 1)
    chance = rng.random(len(kinds))
    return (
        np.where(chance < _FEATURE_SHARE, first, NO_CODE),
        np.where(chance < _SECOND_FEATURE_SHARE, second, NO_CODE),
    )


def _stuffed(kinds: Ints, rng: np.random.Generator) -> pl.Series:
    words = [synonym.title() for kind in PRODUCT_TYPES for synonym in kind.synonyms]
    counts = np.array([len(kind.synonyms) for kind in PRODUCT_TYPES])
    numbers = np.arange(len(words), dtype=np.int32)
    lists = np.split(numbers, np.cumsum(counts)[:-1])
    picked = _ragged(lists, kinds, rng.integers(0, 60, size=len(kinds)))
    return texts(words, np.where(rng.random(len(kinds)) < _STUFFED_SHARE, picked, NO_CODE))


def _layout(place: int) -> pl.Expr:
    separator, groups = _LAYOUTS[place]
    joined = [pl.concat_str(group, separator=" ", ignore_nulls=True) for group in groups]
    filled = [pl.when(group != "").then(group) for group in joined]
    return pl.concat_str(filled, separator=separator, ignore_nulls=True)
