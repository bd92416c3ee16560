"""Texts read for comparison: words, stems, spelling, numbers and quantities, all as flat arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.domain.quantities import NUMBER, QUANTITY, UNITS, plain, quantity, value

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

TRIGRAMS = 1 << 15
"""Trigrams of characters are told apart by a hash of this range."""
MOST_WORDS = 128
"""Words of a text that are read."""

_CODES = {unit: code for code, unit in enumerate(UNITS)}

_WORD = r"\d+/\d+|\d*\.\d+|\d+|\p{L}+"
# A title names the thing before its first comma, bracket, preposition or "field:".
_HEAD = r"^(.*?)(?:[,;(|]|[^\d\s]\s+(?:with|for|in|by|from)\s|\s-\s|\s\p{L}+:|$)"


@dataclass(frozen=True)
class Lists:
    """Lists of numbers, one after the other.

    Attributes:
        values: Of all lists.
        starts: Where each list begins in `values`, (lists + 1,).
    """

    values: NDArray[Any]
    starts: Ints

    @property
    def rows(self) -> Ints:
        """The list that each value belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def lengths(self) -> Ints:
        """How many values each list has."""
        return np.diff(self.starts)

    def __len__(self) -> int:
        """Number of lists."""
        return len(self.starts) - 1

    def gather(self, rows: Ints) -> tuple[Ints, NDArray[Any], Ints]:
        """Values of some lists, one list after the other.

        Returns:
            Which of the rows each value belongs to, the value, and its place in its list.
        """
        lengths = self.lengths[rows]
        owner = np.repeat(np.arange(len(rows)), lengths)
        place = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return owner, self.values[self.starts[rows][owner] + place], place


@dataclass(frozen=True)
class TextTable:
    """Texts, each read once.

    Words are numbered in alphabetical order, so that sums over a text's words are made in the same
    order whatever other texts there are.

    Attributes:
        words: Numbers of the words of each text, in order.
        head_words: How many of them come before the first comma or preposition, (texts,).
        stems: Number of the stem of each distinct word.
        stem_names: The distinct stems, in alphabetical order.
        prefixes: Number of the first four characters of each distinct word.
        spelt: Whether a distinct word is made of letters, three or more.
        spelling: How often each distinct word has each trigram, sparse (words, TRIGRAMS).
        numbers: The numbers of each text.
        quantities: Places in `units` and `amounts` of each text's numbers with a unit.
        units: Unit of each distinct quantity.
        amounts: Number of each distinct quantity.
    """

    words: Lists
    head_words: Ints
    stems: Ints
    stem_names: tuple[str, ...]
    prefixes: Ints
    spelt: NDArray[np.bool_]
    spelling: Any
    numbers: Lists
    quantities: Lists
    units: Ints
    amounts: Floats

    def stem_counts(self) -> Any:
        """How often each text has each stem, sparse (texts, stems)."""
        from scipy.sparse import csr_array

        cells = self.words.rows, self.stems[self.words.values]
        shape = len(self.words), len(self.stem_names)
        counts = csr_array((np.ones(len(self.words.values)), cells), shape=shape)
        counts.sum_duplicates()
        return counts

    def trigram_counts(self) -> Any:
        """How often each text has each trigram, sparse (texts, TRIGRAMS)."""
        from scipy.sparse import csr_array

        values = self.words.values
        flat = np.ones(len(values)), values, self.words.starts
        counts = csr_array(flat, shape=(len(self.words), len(self.stems))) @ self.spelling
        counts.sort_indices()
        return counts


def read_texts(texts: pl.Series) -> TextTable:
    """Read texts."""
    read = plain(texts.rename("text"))
    found, words = _extract(read, _WORD, MOST_WORDS)
    heads = read.str.extract(_HEAD).fill_null("").str.count_matches(_WORD)
    stemmed = words.to_frame("word").select(_stem("word"))["word"]
    stems, stem_names = _numbered(stemmed)
    quantities, quantity_names = _extract(read, QUANTITY)
    parsed = [quantity(name) for name in quantity_names]
    numbers, number_names = _extract(read, NUMBER)
    values = np.array([value(name) for name in number_names], dtype=np.float64)
    return TextTable(
        words=found,
        head_words=np.minimum(heads.to_numpy().astype(np.int64), found.lengths),
        stems=stems,
        stem_names=tuple(stem_names),
        prefixes=_numbered(words.str.head(4))[0],
        spelt=words.str.contains(r"^\p{L}{3,}$").to_numpy(),
        spelling=_trigrams(words),
        numbers=Lists(values[numbers.values], numbers.starts),
        quantities=quantities,
        units=np.array([_CODES[unit] for unit, _ in parsed], dtype=np.int64),
        amounts=np.array([amount for _, amount in parsed], dtype=np.float64),
    )


def _extract(texts: pl.Series, pattern: str, most: int = MOST_WORDS) -> tuple[Lists, pl.Series]:
    """What a pattern finds in each text, as numbers, and the distinct strings in order."""
    found = texts.str.extract_all(pattern).list.head(most)
    starts = np.concatenate([[0], np.cumsum(found.list.len().to_numpy(), dtype=np.int64)])
    flat = found.explode().drop_nulls()
    values, names = _numbered(flat)
    return Lists(values, starts), names


def _numbered(strings: pl.Series) -> tuple[Ints, pl.Series]:
    """The place of each string among the distinct ones, which are sorted."""
    numbers = strings.rank("dense").cast(pl.Int64).to_numpy() - 1
    return numbers, strings.unique().sort()


def _stem(column: str) -> pl.Expr:
    """Fold English plurals, by the rules of Harman's S-stemmer (1991), with -xes and -ches."""
    word = pl.col(column)
    plural = (word.str.len_chars() > 2) & word.str.contains(r"^\p{L}+[^us]s$")
    folded = (
        pl.when(word.str.contains("[^ae]ies$"))
        .then(word.str.replace("ies$", "y"))
        .when(word.str.contains("(?:ss|sh|ch|x|z)es$"))
        .then(word.str.head(-2))
        .otherwise(word.str.head(-1))
    )
    return pl.when(plural).then(folded).otherwise(word)


def _trigrams(words: pl.Series) -> Any:
    """Counts of the trigrams of `^word$`, sparse (words, TRIGRAMS)."""
    from scipy.sparse import csr_array

    if not len(words):
        return csr_array((0, TRIGRAMS))
    joined = "".join(f"^{word}$" for word in words.to_list())
    codes = np.frombuffer(joined.encode("utf-32-le"), dtype=np.uint32)
    lengths = words.str.len_chars().to_numpy().astype(np.int64)  # a word of n has n trigrams
    rows = np.repeat(np.arange(len(words)), lengths)
    at = np.arange(len(rows)) + 2 * rows
    a, b, c = codes[at], codes[at + 1], codes[at + 2]
    mixed = ((a * np.uint32(31) + b) * np.uint32(31) + c) * np.uint32(2654435761)
    buckets = (mixed >> np.uint32(17)).astype(np.int64)
    counts = csr_array((np.ones(len(rows)), (rows, buckets)), shape=(len(words), TRIGRAMS))
    counts.sum_duplicates()
    return counts
