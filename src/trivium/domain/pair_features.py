"""What can be seen in the texts of a query and an item side by side, as numbers.

In: pairs of texts, and how common words are. Out: a row of `FEATURES` for each pair. Nothing
depends on ranks, on other pairs or on how many there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.domain.pair_texts import TRIGRAMS, Floats, Ints, Lists, TextTable, read_texts

FEATURES = (
    "query_words",
    "item_words",
    "query_idf",
    "share_exact",
    "share_stem",
    "share_idf",
    "share_prefix",
    "item_share_idf",
    "jaccard",
    "word_cosine",
    "trigram_cosine",
    "trigram_share",
    "bm25",
    "bm25_share",
    "adjacent_share",
    "first_place",
    "last_place",
    "from_end",
    "last_word",
    "last_word_from_head",
    "head_share",
    "head_word",
    "first_item_word",
    "missing_idf",
    "found_idf",
    "fuzzy_mean",
    "fuzzy_idf",
    "fuzzy_worst",
    "numbers",
    "numbers_found",
    "numbers_missing",
    "item_numbers",
    "quantities_same",
    "quantities_other",
    "quantities_absent",
)
"""Names of the features, in the order of their columns.

Shares are of the query's words; `_idf` weighs them by rarity. Places are words from the item's
start; its head ends before the first comma or preposition, and is where titles name the thing.
`fuzzy_*` compare the spelling of words that were not found. A quantity is a number with a unit:
`same` counts the query's that the item has, `other` those whose unit it has with other numbers.
"""

_CHUNK = 512
_K1, _B = 1.2, 0.75  # BM25's usual settings (Robertson and Zaragoza, 2009)


@dataclass(frozen=True)
class Vocabulary:
    """How common words are in some texts.

    Attributes:
        texts: Number of texts.
        mean_words: Words in a text, on average.
        stems: Texts that have each stem.
        trigrams: Texts that have each trigram, (TRIGRAMS,).
    """

    texts: int
    mean_words: float
    stems: Mapping[str, int]
    trigrams: Ints

    @classmethod
    def fit(cls, texts: pl.Series) -> Vocabulary:
        """Count the words of distinct texts."""
        table = read_texts(texts.unique().sort())
        counts = table.stem_counts()
        held = np.bincount(counts.indices, minlength=len(table.stem_names)).tolist()
        trigrams = table.trigram_counts()
        return cls(
            texts=counts.shape[0],
            mean_words=len(table.words.values) / max(counts.shape[0], 1),
            stems=dict(zip(table.stem_names, held, strict=True)),
            trigrams=np.bincount(trigrams.indices, minlength=TRIGRAMS),
        )

    def idf(self, stems: tuple[str, ...]) -> Floats:
        """BM25's inverse document frequency; a stem never seen counts as seen once, (stems,)."""
        seen = np.array([self.stems.get(stem, 1) for stem in stems], dtype=np.float64)
        return np.log1p((self.texts - np.minimum(seen, self.texts) + 0.5) / (seen + 0.5))

    @property
    def trigram_idf(self) -> Floats:
        """Smoothed inverse document frequency of each trigram, (TRIGRAMS,)."""
        return np.log((1 + self.texts) / (1 + self.trigrams)) + 1

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "texts": self.texts,
            "mean_words": self.mean_words,
            "stems": dict(self.stems),
            "trigrams": self.trigrams.tolist(),
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Vocabulary:
        """Read back what `as_dict` gave."""
        return cls(**{**raw, "trigrams": np.array(raw["trigrams"], dtype=np.int64)})


def pair_features(pairs: pl.DataFrame, vocabulary: Vocabulary) -> NDArray[np.float32]:
    """Compare the texts of pairs.

    Args:
        pairs: Columns query_text and item_text.
        vocabulary: How common words are.

    Returns:
        Finite numbers, (pairs, len(FEATURES)).
    """
    parts = [np.zeros((0, len(FEATURES)), np.float32)]
    for some in pairs.select("query_text", "item_text").iter_slices(_CHUNK):
        columns = _compare(some, vocabulary)
        parts.append(np.column_stack([columns[name] for name in FEATURES]).astype(np.float32))
    return np.concatenate(parts)


class _Grid(NamedTuple):
    """Every value of each pair's query beside every value of its item.

    Attributes:
        pair: The pair of each slot, which is a value of a query, (slots,).
        left: The slot's value.
        slot: The slot of each cell, (cells,).
        right: The cell's value of the item.
        place: Where that stands in the item.
    """

    pair: Ints
    left: NDArray[Any]
    slot: Ints
    right: NDArray[Any]
    place: Ints

    @property
    def slots(self) -> int:
        return len(self.pair)


class _Pairs(NamedTuple):
    """Pairs of texts that were read.

    Attributes:
        table: The distinct texts.
        query: Row of each pair's query, (pairs,).
        item: Row of each pair's item, (pairs,).
        idf: Of each stem in the table.
    """

    table: TextTable
    query: Ints
    item: Ints
    idf: Floats

    def grid(self, lists: Lists) -> _Grid:
        pair, left, _ = lists.gather(self.query)
        slot, right, place = lists.gather(self.item[pair])
        return _Grid(pair, left, slot, right, place)

    def sum(self, grid: _Grid, values: NDArray[Any]) -> Floats:
        """Sum over the slots of each pair."""
        sums = np.bincount(grid.pair, weights=values, minlength=len(self.query))
        return sums.astype(np.float64)


def _compare(pairs: pl.DataFrame, vocabulary: Vocabulary) -> dict[str, Floats]:
    texts = pl.concat([pairs["query_text"], pairs["item_text"].rename("query_text")])
    distinct = texts.unique().sort()
    rows = texts.rank("dense").cast(pl.Int64).to_numpy() - 1
    table = read_texts(distinct)
    read = _Pairs(table, rows[: len(pairs)], rows[len(pairs) :], vocabulary.idf(table.stem_names))
    grid = read.grid(table.words)
    same = table.stems[grid.left][grid.slot] == table.stems[grid.right]
    times = np.bincount(grid.slot[same], minlength=grid.slots)
    return (
        _lengths(read, grid)
        | _words_found(read, grid, times)
        | _bm25(read, grid, times, vocabulary.mean_words)
        | _cosines(read, vocabulary)
        | _places(read, grid, same)
        | _last_word(read, grid, same)
        | _spelling(read, grid, times)
        | _numbers(read)
        | _quantities(read)
    )


def _share(part: Floats, whole: Floats | Ints) -> Floats:
    return part / np.where(whole > 0, whole, 1.0)


def _lengths(read: _Pairs, grid: _Grid) -> dict[str, Floats]:
    words = read.table.words.lengths
    idf = read.sum(grid, read.idf[read.table.stems[grid.left]])
    return {
        "query_words": words[read.query].astype(np.float64),
        "item_words": words[read.item].astype(np.float64),
        "query_idf": _share(idf, words[read.query]),
    }


def _words_found(read: _Pairs, grid: _Grid, times: Ints) -> dict[str, Floats]:
    table, idf = read.table, read.idf[read.table.stems[grid.left]]
    found = times > 0
    exact = np.bincount(grid.slot[grid.left[grid.slot] == grid.right], minlength=grid.slots) > 0
    alike = table.prefixes[grid.left][grid.slot] == table.prefixes[grid.right]
    prefix = np.bincount(grid.slot[alike], minlength=grid.slots) > 0
    whole = read.sum(grid, np.ones(grid.slots))
    return {
        "share_exact": _share(read.sum(grid, exact), whole),
        "share_stem": _share(read.sum(grid, found), whole),
        "share_idf": _share(read.sum(grid, found * idf), read.sum(grid, idf)),
        "share_prefix": _share(read.sum(grid, found | prefix), whole),
        "missing_idf": _largest(read, grid, np.where(found, 0.0, idf)),
        "found_idf": _largest(read, grid, np.where(found, idf, 0.0)),
    }


def _largest(read: _Pairs, grid: _Grid, values: Floats) -> Floats:
    """The largest value among the slots of each pair, none of which is negative."""
    result = np.zeros(len(read.query))
    np.maximum.at(result, grid.pair, values)
    return result


def _bm25(read: _Pairs, grid: _Grid, times: Ints, mean_words: float) -> dict[str, Floats]:
    words = read.table.words.lengths[read.item]
    norm = _K1 * (1 - _B + _B * words / max(mean_words, 1.0))  # (pairs,)
    idf = read.idf[read.table.stems[grid.left]]
    score = read.sum(grid, idf * times * (_K1 + 1) / (times + norm[grid.pair]))
    best = read.sum(grid, idf) * (_K1 + 1)
    return {"bm25": score, "bm25_share": _share(score, best)}


def _unit(weighted: Any) -> Any:
    """Rows of a sparse matrix at unit length."""
    lengths = np.sqrt(weighted.multiply(weighted).sum(axis=1))
    weighted.data /= np.repeat(np.where(lengths > 0, lengths, 1.0), np.diff(weighted.indptr))
    return weighted


def _weighted(counts: Any, weights: Floats) -> Any:
    result = counts.copy()
    result.data = result.data * weights[result.indices]
    return result


def _cosines(read: _Pairs, vocabulary: Vocabulary) -> dict[str, Floats]:
    stems, trigrams = read.table.stem_counts(), read.table.trigram_counts()
    words = _unit(_weighted(stems, read.idf))
    spelling = _unit(_weighted(trigrams, vocabulary.trigram_idf))
    idf = _weighted(_binary(stems), read.idf)
    has, asked = _binary(stems), _binary(trigrams)
    common = _dot(has, has, read)
    sizes = np.diff(stems.indptr)
    trigram_sizes = np.diff(trigrams.indptr)[read.query]
    return {
        "word_cosine": _dot(words, words, read),
        "trigram_cosine": _dot(spelling, spelling, read),
        "trigram_share": _share(_dot(asked, asked, read), trigram_sizes),
        "item_share_idf": _share(_dot(has, idf, read), idf.sum(axis=1)[read.item]),
        "jaccard": _share(common, sizes[read.query] + sizes[read.item] - common),
    }


def _binary(counts: Any) -> Any:
    result = counts.copy()
    result.data = np.ones_like(result.data)
    return result


def _dot(left: Any, right: Any, read: _Pairs) -> Floats:
    return np.asarray(left[read.query].multiply(right[read.item]).sum(axis=1))


def _places(read: _Pairs, grid: _Grid, same: NDArray[np.bool_]) -> dict[str, Floats]:
    n, slot, place = len(read.query), grid.slot[same], grid.place[same]
    pair = grid.pair[slot]
    heads = read.table.head_words[read.item]
    first, last = np.full(n, np.inf), np.full(n, -1.0)
    np.minimum.at(first, pair, place)
    np.maximum.at(last, pair, place)
    in_head = np.bincount(slot[place < heads[pair]], minlength=grid.slots) > 0
    lengths = read.table.words.lengths
    return {
        "first_place": np.where(last >= 0, first, -1.0),
        "last_place": last,
        "from_end": np.where(last >= 0, lengths[read.item] - 1 - last, -1.0),
        "head_share": _share(read.sum(grid, in_head), lengths[read.query]),
        "head_word": np.bincount(pair[place == heads[pair] - 1], minlength=n) > 0,
        "first_item_word": np.bincount(pair[place == 0], minlength=n) > 0,
        "adjacent_share": _adjacent(read, grid, slot, place),
    }


def _last_word(read: _Pairs, grid: _Grid, same: NDArray[np.bool_]) -> dict[str, Floats]:
    """Whether the query's last word is in the item, and how far from the end of the head."""
    slot, place = grid.slot[same], grid.place[same]
    heads = read.table.head_words[read.item]
    in_head = place < heads[grid.pair[slot]]
    found, latest = np.zeros(grid.slots + 1), np.full(grid.slots + 1, -1)  # one more: no word
    found[slot] = 1.0
    np.maximum.at(latest, slot[in_head], place[in_head])
    ends = np.full(len(read.query), grid.slots)
    ends[grid.pair] = np.arange(grid.slots)
    return {
        "last_word": found[ends],
        "last_word_from_head": np.where(latest[ends] >= 0, heads - 1 - latest[ends], -1.0),
    }


def _adjacent(read: _Pairs, grid: _Grid, slot: Ints, place: Ints) -> Floats:
    """Share of a query's neighbouring words that are neighbours in the item, in that order."""
    width = int(place.max(initial=0)) + 2
    keys = slot * width + place
    follow = np.isin(keys + width + 1, keys) & (
        grid.pair[np.minimum(slot + 1, grid.slots - 1)] == grid.pair[slot]
    )
    slots = np.bincount(slot[follow], minlength=grid.slots) > 0
    neighbours = np.maximum(read.table.words.lengths[read.query] - 1, 0)
    return _share(read.sum(grid, slots), neighbours)


def _spelling(read: _Pairs, grid: _Grid, times: Ints) -> dict[str, Floats]:
    """Best likeness in spelling of each query word, 1 where it was found."""
    table = read.table
    open_slots = (times == 0) & table.spelt[grid.left]
    cells = np.flatnonzero(open_slots[grid.slot] & table.spelt[grid.right])
    trigrams = _binary(table.spelling)
    sizes = np.diff(trigrams.indptr)
    left, right = grid.left[grid.slot[cells]], grid.right[cells]
    common = np.asarray(trigrams[left].multiply(trigrams[right]).sum(axis=1))
    best = (times > 0).astype(np.float64)
    np.maximum.at(best, grid.slot[cells], 2 * common / (sizes[left] + sizes[right]))
    idf = read.idf[table.stems[grid.left]]
    whole = read.sum(grid, np.ones(grid.slots))
    return {
        "fuzzy_mean": _share(read.sum(grid, best), whole),
        "fuzzy_idf": _share(read.sum(grid, best * idf), read.sum(grid, idf)),
        "fuzzy_worst": np.where(whole > 0, 1.0 - _largest(read, grid, 1.0 - best), 0.0),
    }


def _numbers(read: _Pairs) -> dict[str, Floats]:
    numbers = read.table.numbers
    grid = read.grid(numbers)
    same = grid.left[grid.slot] == grid.right
    found = np.bincount(grid.slot[same], minlength=grid.slots) > 0
    counts = numbers.lengths.astype(np.float64)
    return {
        "numbers": counts[read.query],
        "numbers_found": read.sum(grid, found),
        "numbers_missing": read.sum(grid, ~found),
        "item_numbers": counts[read.item],
    }


def _quantities(read: _Pairs) -> dict[str, Floats]:
    table = read.table
    grid = read.grid(table.quantities)
    left = grid.left[grid.slot]
    unit = table.units[left] == table.units[grid.right]
    same = unit & (table.amounts[left] == table.amounts[grid.right])
    has_unit = np.bincount(grid.slot[unit], minlength=grid.slots) > 0
    found = np.bincount(grid.slot[same], minlength=grid.slots) > 0
    return {
        "quantities_same": read.sum(grid, found),
        "quantities_other": read.sum(grid, has_unit & ~found),
        "quantities_absent": read.sum(grid, ~has_unit),
    }
