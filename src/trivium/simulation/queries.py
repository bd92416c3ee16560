"""Simulated queries: an intent taken from an item that exists, in words that a shopper would use.

Every query starts from an item of the catalog, so every query has an item of grade 4; it asks for
the item's type and some of its attributes, in the shopper's words and not the title's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.foundation.errors import ConfigError
from trivium.simulation.catalog import Catalog
from trivium.simulation.codes import Codes
from trivium.simulation.models import model_numbers
from trivium.simulation.spelling import can_be_misspelled, misspell
from trivium.simulation.vocabulary import FORMS, NO_CODE, PRODUCT_TYPES, Ints, Vocabulary

_USUAL_NOUN_SHARE = 0.7
_UNHYPHENATED_SHARE = 0.3
_LOWER_SHARE = 0.6
_FRUITLESS_ROUNDS = 20


@dataclass(frozen=True)
class Pattern:
    """What a kind of query asks for.

    Attributes:
        kind: The kind's name.
        share: Relative share of queries before duplicates are dropped.
        slots: Fields of `Codes` that are asked for beside the type.
        names: How the type is named: by a title's noun, a synonym, or not at all.
    """

    kind: str
    share: float
    slots: tuple[str, ...] = ()
    names: str = "noun"


PATTERNS = (
    Pattern("broad", 0.10),
    Pattern("attribute", 0.10, ("colour",)),
    Pattern("attribute", 0.08, ("material",)),
    Pattern("attribute", 0.06, ("colour", "material")),
    Pattern("brand", 0.08, ("brand",)),
    Pattern("brand", 0.06, ("brand", "colour")),
    Pattern("model", 0.04, ("series", "variant"), names="none"),
    Pattern("model", 0.03, ("series", "variant", "brand"), names="none"),
    Pattern("model", 0.03, ("series", "variant")),
    Pattern("compatibility", 0.10, ("device",)),
    Pattern("compatibility", 0.03, ("device", "colour")),
    Pattern("compatibility", 0.03, ("device", "material")),
    Pattern("size", 0.07, ("size",)),
    Pattern("size", 0.04, ("size", "colour")),
    Pattern("size", 0.03, ("pack",)),
    Pattern("synonym", 0.05, (), names="synonym"),
    Pattern("synonym", 0.04, ("colour",), names="synonym"),
    Pattern("synonym", 0.02, ("size",), names="synonym"),
    Pattern("synonym", 0.01, ("device",), names="synonym"),
)

# Orders of the words; "for" stands before the device in the first alone.
_ORDERS = (
    ("brand", "colour", "material", "size", "name", "device", "pack", "series"),
    ("name", "device", "size", "colour", "material", "brand", "pack", "series"),
    ("device", "brand", "series", "pack", "colour", "size", "material", "name"),
)


@dataclass(frozen=True)
class Queries:
    """Distinct queries and what each of them wants.

    Attributes:
        texts: What is typed, distinct after case folding.
        kinds: Kind of each, a pattern's or "misspelled".
        slots: How many things each asks for beside the type, (queries,).
        intents: What each wants, one row a query.
    """

    texts: list[str]
    kinds: list[str]
    slots: Ints
    intents: Codes


def make_queries(
    catalog: Catalog, count: int, misspelling_rate: float, rng: np.random.Generator
) -> Queries:
    """Draw distinct queries for a catalog.

    Args:
        catalog: Where intents come from.
        count: Number of queries.
        misspelling_rate: Share of them that carry one misspelling.
        rng: Source of randomness.

    Returns:
        The queries, in random order.

    Raises:
        ConfigError: If the catalog does not have that many distinct queries in it.
    """
    texts, patterns, intents = _draw_distinct(catalog, count, rng)
    kinds = [PATTERNS[place].kind for place in patterns]
    for place in _misspell_some(texts, misspelling_rate, rng):
        kinds[place] = "misspelled"
    slots = np.array([len(PATTERNS[place].slots) for place in patterns], dtype=np.int32)
    return Queries(texts, kinds, slots, intents)


def _draw_distinct(
    catalog: Catalog, count: int, rng: np.random.Generator
) -> tuple[list[str], list[int], Codes]:
    eligible = [_items_stating(catalog.codes, pattern.slots) for pattern in PATTERNS]
    shares = np.array([p.share * bool(len(e)) for p, e in zip(PATTERNS, eligible, strict=True)])
    seen: set[str] = set()
    texts: list[str] = []
    patterns: list[int] = []
    parts: list[Codes] = []
    fruitless = 0
    while len(texts) < count and fruitless < _FRUITLESS_ROUNDS:
        drawn = rng.multinomial(count - len(texts), shares / shares.sum())
        before = len(texts)
        for place in np.flatnonzero(drawn):
            rows = rng.choice(eligible[place], size=drawn[place])
            asked = _ask(catalog.codes.take(rows), PATTERNS[place].slots)
            written = _write(asked, PATTERNS[place], catalog.vocabulary, rng)
            fresh = _unseen(written, seen)
            texts += [written[i] for i in fresh]
            patterns += [int(place)] * len(fresh)
            parts.append(asked.take(np.array(fresh, dtype=np.int32)))
        fruitless = fruitless + 1 if len(texts) == before else 0
    if len(texts) < count:
        raise ConfigError.of(
            "queries",
            got=str(count),
            expected=f"at most about {len(texts)} for a catalog of {len(catalog.codes)} items",
            fix="ask for fewer queries or more items",
        )
    order = rng.permutation(count)
    return [texts[i] for i in order], [patterns[i] for i in order], Codes.concat(parts).take(order)


def _items_stating(codes: Codes, slots: tuple[str, ...]) -> Ints:
    stated = np.ones(len(codes), dtype=np.bool_)
    for slot in slots:
        stated &= getattr(codes, slot) >= 0
    return np.flatnonzero(stated).astype(np.int32)


def _ask(codes: Codes, slots: tuple[str, ...]) -> Codes:
    nothing = np.full(len(codes), NO_CODE, dtype=np.int32)
    asked = dict.fromkeys(Codes.__annotations__, nothing)
    return Codes(**(asked | {name: getattr(codes, name) for name in ("kind", *slots)}))


def _unseen(texts: list[str], seen: set[str]) -> list[int]:
    fresh = []
    for place, text in enumerate(texts):
        folded = text.casefold()
        if folded not in seen:
            seen.add(folded)
            fresh.append(place)
    return fresh


def _write(
    asked: Codes, pattern: Pattern, vocabulary: Vocabulary, rng: np.random.Generator
) -> list[str]:
    """The words for intents of one pattern."""
    order = rng.integers(len(_ORDERS), size=len(asked))
    form = rng.integers(FORMS, size=len(asked))
    words: dict[str, Sequence[str | None]] = {
        "brand": _lower(vocabulary.brands, asked.brand),
        "colour": _lower(vocabulary.colours, asked.colour),
        "material": _lower(vocabulary.materials, asked.material),
        "size": _lower(vocabulary.size_forms, _formed(asked.size, form)),
        "pack": _lower(vocabulary.pack_forms, _formed(asked.pack, form)),
        "series": _typed_numbers(asked, rng),
        "name": _names(asked.kind, pattern.names, rng),
    }
    shorter = rng.random(len(asked)) < 0.5
    full, short = (_lower(names, asked.device) for names in _device_names(vocabulary))
    devices = [b if s else a for a, b, s in zip(full, short, shorter, strict=True)]
    words["device"] = [
        f"for {device}" if device and o == 0 else device
        for device, o in zip(devices, order, strict=True)
    ]
    return [
        " ".join(word for slot in _ORDERS[o] if (word := words[slot][row]))
        for row, o in enumerate(order)
    ]


def _device_names(vocabulary: Vocabulary) -> tuple[list[str], list[str]]:
    return vocabulary.devices, vocabulary.device_short


def _formed(codes: Ints, form: NDArray[np.int64]) -> Ints:
    return np.where(codes < 0, NO_CODE, codes * FORMS + form).astype(np.int32)


def _lower(values: list[str], codes: Ints) -> list[str | None]:
    return [values[code].lower() if code >= 0 else None for code in codes]


def _typed_numbers(asked: Codes, rng: np.random.Generator) -> list[str | None]:
    """Model numbers as typed: often in lower case, sometimes without the hyphen."""
    table = pl.DataFrame(
        {
            "with": model_numbers(asked.series, asked.variant),
            "without": model_numbers(asked.series, asked.variant, hyphen=""),
            "bare": rng.random(len(asked)) < _UNHYPHENATED_SHARE,
            "lower": rng.random(len(asked)) < _LOWER_SHARE,
        }
    )
    typed = pl.when("bare").then("without").otherwise("with")
    typed = pl.when("lower").then(typed.str.to_lowercase()).otherwise(typed)
    return table.select(typed.alias("typed")).to_series().to_list()


def _names(kinds: Ints, names: str, rng: np.random.Generator) -> list[str | None]:
    if names == "none":
        return [None] * len(kinds)
    usual = rng.random(len(kinds)) < _USUAL_NOUN_SHARE
    place = rng.integers(0, 60, size=len(kinds))
    named: list[str | None] = []
    for kind, first, p in zip(kinds, usual, place, strict=True):
        product = PRODUCT_TYPES[kind]
        words = product.nouns if names == "noun" else product.synonyms
        named.append(words[0 if first and names == "noun" else p % len(words)].lower())
    return named


def _misspell_some(texts: list[str], rate: float, rng: np.random.Generator) -> list[int]:
    """Misspell round(rate * queries) of the texts in place; say which."""
    seen = {text.casefold() for text in texts}
    wanted = round(rate * len(texts))
    done: list[int] = []
    for place in rng.permutation(len(texts)):
        if len(done) == wanted:
            break
        if can_be_misspelled(texts[place]):
            typed = misspell(texts[place], rng)
            if typed.casefold() not in seen:
                seen.add(typed.casefold())
                texts[place] = typed
                done.append(int(place))
    return done
