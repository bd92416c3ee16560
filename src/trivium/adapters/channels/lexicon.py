"""The lexicon of a catalog: its words, frequent title phrases and field values, and their items."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.adapters.channels.words import WordTable, number_tokens, number_words, parts
from trivium.domain.postings import Postings
from trivium.domain.quantities import canonical, plain, sizes

VALUE_WEIGHT = 3.0
PHRASE_WEIGHT = 2.5
SIZE_WEIGHT = 2.5
FIELD_WORD_WEIGHT = 2.0
TITLE_WORD_WEIGHT = 1.75
RAREST = 3.0
"""Rarity counts no further than this, so that items that match more of a query come first."""
PHRASES_AT_ONCE = 1 << 21
"""Counted together; they bound the memory of the phrases, and change nothing."""
MAX_VALUE_WORDS = 4
MIN_PHRASE_ITEMS = 3
MAX_SIZE_LETTERS = 60
"""Field values that are longer are prose, whose sizes say little."""
SIZE = "="
"""What the entries of sizes begin with."""
STOP_WORDS = frozenset(
    ["a", "an", "and", "at", "by", "for", "from", "in", "is", "of", "on", "or", "the", "to", "with"]
)

_VALUES = re.compile(r"\s*[|;,]\s*|\s+/\s+")
_NOT_FIELDS = frozenset({"item_id", "title", "text", "judge_text"})


@dataclass(frozen=True)
class Lexicon:
    """Entries of a catalog and the items that match them.

    Attributes:
        entries: Words joined by spaces to the entry's number.
        postings: For each entry its items, weighted by the best field that matched (whole field
            value 3, title phrase or size 2.5, word of a field value 2, title word 1.75) times
            min(3, log(1 + items / items that match)): ours, measured in docs/dictionary.md.
    """

    entries: dict[str, int]
    postings: Postings

    @property
    def held(self) -> NDArray[np.int64]:
        """Items that match each entry, (entries,)."""
        return np.diff(self.postings.offsets)

    @property
    def words(self) -> dict[str, int]:
        """Single words, and the number of items that match each."""
        counts = self.held.tolist()
        return {
            name: counts[entry]
            for name, entry in self.entries.items()
            if " " not in name and counts[entry]
        }


@dataclass(frozen=True)
class _Matches:
    """Pairs of entry and item (int32, of one length) that share a weight."""

    entries: NDArray[np.int32]
    items: NDArray[np.int64]
    weight: float


def build_lexicon(items: pl.DataFrame, *, units: bool = True) -> Lexicon:
    """Collect the entries of a catalog.

    Entries are title words; phrases of two and three words that at least three titles hold; and,
    from every further text field, the values of up to four words (a field may list several, set
    apart by `|`, `;`, `,` or ` / `, each perhaps as `name: value`) with the words in them. Longer
    values are prose and are left to BM25. Stop words are no entries and begin or end none. Sizes
    of titles and short values are entries too, in one spelling (`quantities.canonical`).

    Args:
        items: Columns item_id, title and any further fields, sorted by item_id.
        units: Whether sizes are read.
    """
    entries: dict[str, int] = {}
    titles = items["title"].fill_null("")
    words = number_tokens(titles, entries)
    matches = [_Matches(words.ids, words.rows, TITLE_WORD_WEIGHT)]
    matches += _title_phrases(number_words(titles.to_list(), parts, entries), entries)
    fields = [n for n, dtype in items.schema.items() if dtype == pl.String and n not in _NOT_FIELDS]
    for name in fields:
        matches += _field_matches(items[name], entries)
    for name in ["title", *fields] if units else []:
        matches.append(_size_matches(items[name], entries, prose=name == "title"))
    return Lexicon(entries, _weighted(matches, entries, items.height))


def shown_as(entry: str) -> str:
    """What an entry is called where people read it."""
    return entry.removeprefix(SIZE)


def _title_phrases(words: WordTable, entries: dict[str, int]) -> list[_Matches]:
    names = list(entries)
    size = np.int64(len(names))
    stop = np.array([name in STOP_WORDS for name in names], dtype=bool)
    bare = np.array([not any(c.isalpha() for c in name) for name in names], dtype=bool)
    ids, rows = words.ids.astype(np.int64), words.rows
    found = []
    keys = ids
    for length in (2, 3):
        keys = keys[:-1] * size + ids[length - 1 :] if len(keys) else keys
        first, last = ids[: len(keys)], ids[length - 1 :]
        usable = (rows[: len(keys)] == rows[length - 1 :]) & ~stop[first] & ~stop[last]
        usable &= ~(bare[first] & bare[last])
        items = rows[: len(keys)][usable]
        found += [
            _frequent(keys[usable][at], items[at], length, names, entries)
            for at in _slices(keys[usable])
        ]
    return found


def _slices(keys: NDArray[np.int64]) -> Iterator[NDArray[np.bool_]]:
    """Masks that keep equal keys together, each of about `PHRASES_AT_ONCE`."""
    slices = 1 + len(keys) // PHRASES_AT_ONCE
    return (keys % slices == number for number in range(slices))


def _frequent(
    keys: NDArray[np.int64],
    rows: NDArray[np.int64],
    length: int,
    names: list[str],
    entries: dict[str, int],
) -> _Matches:
    pairs = pl.DataFrame({"key": keys, "item": rows}).unique()
    held = pairs.group_by("key").len().filter(pl.col("len") >= MIN_PHRASE_ITEMS).sort("key")
    numbers = [entries.setdefault(_spell(key, length, names), len(entries)) for key in held["key"]]
    numbered = held.select("key", pl.Series("entry", numbers, dtype=pl.Int32))
    kept = pairs.join(numbered, on="key", how="inner")
    return _Matches(kept["entry"].to_numpy(), kept["item"].to_numpy(), PHRASE_WEIGHT)


def _spell(key: int, length: int, names: list[str]) -> str:
    words: list[str] = []
    for _ in range(length):
        key, word = divmod(key, len(names))
        words.insert(0, names[word])
    return " ".join(words)


def _field_matches(values: pl.Series, entries: dict[str, int]) -> list[_Matches]:
    """Match a field's values and their words, working on each distinct text once."""
    distinct = values.fill_null("").unique().sort()
    rows = values.fill_null("").replace_strict(distinct, pl.Series(range(len(distinct))))
    order = rows.to_numpy()
    whole = number_words(distinct.to_list(), _value_phrases, entries)
    single = number_words(distinct.to_list(), _value_words, entries)
    return [
        _Matches(*_spread(whole, order), VALUE_WEIGHT),
        _Matches(*_spread(single, order), FIELD_WORD_WEIGHT),
    ]


def _size_matches(texts: pl.Series, entries: dict[str, int], *, prose: bool) -> _Matches:
    read = plain(texts.fill_null("").str.replace_all("&#39;", "'", literal=True))
    found = pl.DataFrame({"size": sizes(read)}).with_row_index("item")
    if not prose:
        found = found.filter(texts.str.len_chars().fill_null(0) <= MAX_SIZE_LETTERS)
    flat = found.filter(pl.col("size").list.len() > 0).explode("size")
    distinct = flat["size"].unique().sort()
    numbers = [
        (size, entries.setdefault(SIZE + said, len(entries)))
        for size in distinct
        for said in canonical(size)
    ]
    named = pl.DataFrame(numbers, schema={"size": pl.String, "entry": pl.Int32}, orient="row")
    pairs = flat.join(named, on="size").sort("item", "entry")
    items = pairs["item"].cast(pl.Int64).to_numpy()
    return _Matches(pairs["entry"].to_numpy(), items, SIZE_WEIGHT)


def _value_phrases(text: str) -> list[str]:
    return [" ".join(words) for words in _short_values(text)]


def _value_words(text: str) -> list[str]:
    return [word for words in _short_values(text) if len(words) > 1 for word in words]


def _short_values(text: str) -> Iterator[list[str]]:
    for value in _VALUES.split(text):
        words = parts(value.rpartition(": ")[2])
        has_letter = any(word.isalpha() for word in words)
        if 0 < len(words) <= MAX_VALUE_WORDS and has_letter:
            yield words


def _spread(
    table: WordTable, texts: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Give each item the ids of the text that it has."""
    lengths = np.diff(table.offsets)[texts]
    items = np.repeat(np.arange(len(texts)), lengths)
    within = np.arange(len(items)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return table.ids[np.repeat(table.offsets[texts], lengths) + within], items


def _weighted(matches: list[_Matches], entries: dict[str, int], n_items: int) -> Postings:
    size = max(n_items, 1)
    weights = sorted({m.weight for m in matches}, reverse=True)
    # Entry, item and weight as one number, so that one sort in place brings the best weight first.
    keys = np.concatenate(
        [
            (m.entries.astype(np.int64) * size + m.items) * len(weights) + weights.index(m.weight)
            for m in matches
        ]
    )
    keys.sort()
    pairs = keys // len(weights)
    best = np.diff(pairs, prepend=-1) > 0
    stop = np.array([name in STOP_WORDS for name in entries], dtype=bool)
    best &= ~stop[pairs // size]
    ranks, (entry, item) = (keys[best] % len(weights)), np.divmod(pairs[best], size)
    held = np.bincount(entry, minlength=len(entries))
    rarity = np.minimum(np.log1p(n_items / np.maximum(held, 1)), RAREST).astype(np.float32)
    scores = np.array(weights, dtype=np.float32)[ranks] * rarity[entry]
    offsets = np.concatenate([[0], np.cumsum(held)]).astype(np.int64)
    return Postings(offsets, item.astype(np.int32), scores, n_items)
