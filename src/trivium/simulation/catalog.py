"""Simulated items: product lines with variants, drawn type by type, and their table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from trivium.simulation.codes import ATTRIBUTES, Codes
from trivium.simulation.models import model_numbers
from trivium.simulation.titles import render_titles, texts
from trivium.simulation.vocabulary import (
    NO_CODE,
    PRODUCT_TYPES,
    Ints,
    Places,
    TypeCodes,
    Vocabulary,
)

ITEMS_A_LINE = 3
_RARE_BRAND_SHARE = 0.25
_SINGLE_SHARE = 0.4
# Share of items that state an attribute neither in the title nor in a field.
_UNSTATED = {"brand": 0.03, "device": 0.02, "model": 0.1}
_UNSTATED_OTHERWISE = 0.08
_CHUNK = 200_000


@dataclass(frozen=True)
class Catalog:
    """Items as codes and as a table, row by row the same.

    Attributes:
        codes: What each item offers.
        frame: The items table.
        vocabulary: What the codes stand for.
    """

    codes: Codes
    frame: pl.DataFrame
    vocabulary: Vocabulary


def make_catalog(items: int, rng: np.random.Generator) -> Catalog:
    """Draw a catalog.

    Types differ in size by up to about two to one. A product line (three items on average) shares
    brand and material; its variants differ in colour, size, pack count and device.

    Args:
        items: Number of items.
        rng: Source of randomness.

    Returns:
        The catalog, item ids in row order.
    """
    vocabulary = Vocabulary(rare_brands=int(np.clip(items // 40, 33, 5000)))
    weights = rng.uniform(0.7, 1.4, len(PRODUCT_TYPES))
    kinds = rng.choice(len(PRODUCT_TYPES), size=items, p=weights / weights.sum()).astype(np.int32)
    codes = _draw_codes(kinds, vocabulary, rng)
    chunks = []
    for start in range(0, items, _CHUNK):
        part = codes.take(np.arange(start, min(start + _CHUNK, items)))
        chunks.append(_table(part, start, items, vocabulary, rng))
    return Catalog(codes, pl.concat(chunks, rechunk=True), vocabulary)


def _draw_codes(kinds: Ints, vocabulary: Vocabulary, rng: np.random.Generator) -> Codes:
    codes = {name: np.full(len(kinds), NO_CODE, dtype=np.int32) for name in Codes.__annotations__}
    codes["kind"] = kinds
    lines = 0
    for kind, product in enumerate(PRODUCT_TYPES):
        rows = np.flatnonzero(kinds == kind)
        if not len(rows):
            continue
        count = -(-len(rows) // ITEMS_A_LINE)
        line = rng.integers(count, size=len(rows))
        for name, values in _draw_attributes(line, count, vocabulary.types[kind], rng).items():
            codes[name][rows] = values
        if product.coded:
            stated = rng.random(len(rows)) >= _UNSTATED["model"]
            codes["series"][rows] = np.where(stated, lines + line, NO_CODE)
            codes["variant"][rows] = np.where(stated, _place_within(line) % 26, NO_CODE)
            lines += count
    return Codes(**codes)


def _draw_attributes(
    line: Places, lines: int, kind: TypeCodes, rng: np.random.Generator
) -> dict[str, Ints]:
    """Values of one type's items, given each item's product line."""
    rare = rng.random(lines) < _RARE_BRAND_SHARE
    brand = np.where(rare, _draw(kind.rare_brand, lines, rng), _draw(kind.brand, lines, rng))
    drawn = {
        "brand": brand[line],
        "material": _draw(kind.material, lines, rng)[line],
        "colour": _draw(kind.colour, len(line), rng),
        "size": _draw(kind.size, len(line), rng),
        "pack": _draw(kind.pack, len(line), rng),
        "device": _draw(kind.device, len(line), rng),
    }
    drawn["pack"][rng.random(len(line)) < _SINGLE_SHARE] = NO_CODE
    for name in ATTRIBUTES:
        unstated = rng.random(len(line)) < _UNSTATED.get(name, _UNSTATED_OTHERWISE)
        drawn[name][unstated] = NO_CODE
    return drawn


def _draw(values: Ints, count: int, rng: np.random.Generator) -> Ints:
    """Draw with weights that fall along the list as 1 / sqrt(place)."""
    if not len(values):
        return np.full(count, NO_CODE, dtype=np.int32)
    weights = 1.0 / np.sqrt(np.arange(1, len(values) + 1))
    return rng.choice(values, size=count, p=weights / weights.sum())


def _place_within(line: Places) -> Ints:
    """The place of each row among the rows of its own line."""
    order = np.argsort(line, kind="stable")
    ordered = line[order]
    first = np.searchsorted(ordered, ordered)
    place = np.empty(len(line), dtype=np.int32)
    place[order] = np.arange(len(line)) - first
    return place


def _table(
    codes: Codes, start: int, items: int, vocabulary: Vocabulary, rng: np.random.Generator
) -> pl.DataFrame:
    width = max(6, len(str(items)))
    number = pl.Series(np.arange(start + 1, start + len(codes) + 1)).cast(pl.String)
    return pl.DataFrame(
        {
            "item_id": "sim-i" + number.str.zfill(width),
            "title": render_titles(codes, vocabulary, rng),
            **fields(codes, vocabulary),
        }
    )


def fields(codes: Codes, vocabulary: Vocabulary) -> dict[str, pl.Series]:
    """What codes mean, in words: a column for each field; null where a code says nothing."""
    return {
        "brand": texts(vocabulary.brands, codes.brand),
        "product_type": texts([kind.name for kind in PRODUCT_TYPES], codes.kind),
        "colour": texts(vocabulary.colours, codes.colour),
        "material": texts(vocabulary.materials, codes.material),
        "size": texts(vocabulary.sizes, codes.size),
        "pack": texts(vocabulary.packs, codes.pack),
        "model_number": model_numbers(codes.series, codes.variant),
        "compatible_with": texts(vocabulary.devices, codes.device),
    }
